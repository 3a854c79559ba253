"""``configs/sources``: what is written there is understood, or refused in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from iotbill_pipelines.config.documents import ConfigError, parse_yaml
from iotbill_pipelines.config.sources import load_sources, parse_source

ROOT = Path(__file__).resolve().parents[2]

SFTP = """
id: carrier
url: sftp://files.example.com:2222/out%20box
user: iotbill
host_keys: [ssh-ed25519 AAAA]
credentials: {password: CARRIER_PASSWORD}
"""


def test_the_examples_hold() -> None:
    sources = load_sources(ROOT / "configs" / "examples")
    assert {id_: source.kind for id_, source in sources.items()} == {
        "carrier_sftp": "sftp",
        "partner_bucket": "s3",
        "shared_folder": "folder",
    }
    assert {id_: source.settles_after_seconds for id_, source in sources.items()} == {
        "carrier_sftp": 120,
        "partner_bucket": 0,
        "shared_folder": 0,
    }


def test_a_company_without_sources_has_none(tmp_path: Path) -> None:
    assert load_sources(tmp_path) == {}


@pytest.mark.parametrize(
    ("change", "line", "said"),
    [
        (("url: sftp", "url: ftp"), 3, "'ftp' is unknown; use file://, sftp:// or s3://"),
        (("//files", "//bob:pw@files"), 3, "must not hold a user or password"),
        (("/out%20box", "/../etc"), 3, "must end with a plain path"),
        (("sftp://files.example.com:2222/out%20box", "file://srv/in"), 3, "with three slashes"),
        (("user: iotbill\n", ""), 1, "name the user of the SFTP server"),
        (("[ssh-ed25519 AAAA]", "[]"), 5, "anybody can pass for it"),
        (("CARRIER_PASSWORD", "hunter2"), 6, "is no name of an environment variable"),
        (("password: CARRIER", "access_key: CARRIER"), 6, "has no meaning for sftp"),
        (("{password: CARRIER_PASSWORD}", "{}"), 6, "password or private_key"),
        (("id: carrier", "id: carrier\nmarker: done"), 3, "'{name}.done'"),
        (("id: carrier", "id: carrier\nafter_landing: move"), 1, "after_landing: move"),
        (
            ("id: carrier", "id: carrier\nafter_landing: move\nmove_to: ../x"),
            4,
            "name a folder below the source's",
        ),
        (("id: carrier", "id: carrier\nmarker: '{name}.ok'\nsettle_seconds: 5"), 4, "remove it"),
        (("id: carrier", "id: carrier\nsetle_seconds: 5"), 3, "did you mean 'settle_seconds'?"),
        (("id: carrier", "id: carrier\nregion: eu"), 3, "has no meaning for sftp"),
    ],
)
def test_a_source_that_cannot_work_is_refused_where_it_is_wrong(
    change: tuple[str, str], line: int, said: str
) -> None:
    text = SFTP.replace(*change)
    assert text != SFTP
    with pytest.raises(ConfigError) as error:
        parse_source(parse_yaml(text, Path("carrier.yaml")))
    assert said in str(error.value)
    assert error.value.line == line, str(error.value)


def test_every_wrong_file_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "sources").mkdir()
    for name, text in (("a", SFTP), ("b", SFTP), ("c", "id: c\nurl: s3://bucket")):
        (tmp_path / "sources" / f"{name}.yaml").write_text(text)
    with pytest.raises(ConfigError) as error:
        load_sources(tmp_path)
    assert [Path(problem.file).name for problem in error.value.problems] == ["b.yaml", "c.yaml"]
    assert "is also the id of a.yaml" in str(error.value)
    assert "anonymous: true" in str(error.value)
