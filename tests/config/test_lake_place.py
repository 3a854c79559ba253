"""``configs/lake.yaml``: the state folder unless it says more; what cannot be meant is told."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from iotbill_pipelines.config.documents import ConfigError
from iotbill_pipelines.config.lake import read_lake
from iotbill_pipelines.operations.workspace import configured_lake
from tests.conftest import ROOT


def test_without_the_file_the_lake_is_in_the_state_folder(tmp_path: Path) -> None:
    assert read_lake(tmp_path).url is None
    lake = configured_lake(tmp_path / "home", tmp_path, {}.get)
    assert lake.where == str(lake.root) == str(tmp_path / "home" / "lake")


def test_another_folder(tmp_path: Path) -> None:
    (tmp_path / "lake.yaml").write_text(f"url: file://{tmp_path}/a%20lake\n", "utf-8")
    assert configured_lake(tmp_path, tmp_path, {}.get).root == tmp_path / "a lake"


def test_a_bucket(tmp_path: Path) -> None:
    shutil.copy(ROOT / "configs" / "examples" / "lake.yaml", tmp_path)
    choice = read_lake(tmp_path)
    assert (choice.kind, choice.cache_bytes) == ("s3", 50_000_000_000)
    lake = configured_lake(tmp_path, tmp_path, lambda variable: f"value of {variable}")
    assert (lake.where, str(lake.root)) == ("s3://acme-billing/lake", "/var/cache/iotbill")


@pytest.mark.parametrize("url", ["gs://bucket/lake", "abfs://box@acme.dfs.core.windows.net/lake"])
def test_other_stores_are_reached_by_their_own_variables(tmp_path: Path, url: str) -> None:
    (tmp_path / "lake.yaml").write_text(f"url: {url}\n", "utf-8")
    assert configured_lake(tmp_path, tmp_path, {}.get).where == url


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("region: eu\n", "url: say where the lake is, or leave region out"),
        ("url: ftp://host/lake\n", "'ftp' is unknown; use file://, s3://, gs://"),
        ("url: /srv/lake\n", "'/srv/lake' is unknown; use file://"),
        ("url: file://srv/lake\n", "with three slashes"),
        ("url: file:///srv/lake\ncache: /tmp\n", "cache: is of object stores"),
        ("url: s3:///lake\n", "name the bucket: s3://bucket/prefix"),
        ("url: s3://key@bucket/lake\n", "credentials have their own key"),
        ("url: s3://key:secret@bucket/lake\n", "credentials have their own key"),
        ("url: gs://bucket/lake\nregion: eu\n", "region: is of S3; other stores"),
        ("url: s3://b/x\nendpoint: minio:9000\n", "endpoint"),
        ("url: s3://b/x\ncredentials: {access_key: LAKE_KEY}\n", "go together"),
        ("url: s3://b/x\ncredentials: {access_key: AKIA1/x, secret_key: B}\n", "is no name of an"),
        ("url: s3://b/x\ncache_bytes: -1\n", "cache_bytes"),
    ],
)
def test_what_cannot_be_meant(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "lake.yaml").write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=r"lake\.yaml:") as error:
        read_lake(tmp_path)
    assert told in str(error.value)
