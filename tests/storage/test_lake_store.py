"""The lake in an object store, over real connections: one table for writers of several machines."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace as changed
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError
from typer.testing import CliRunner

from iotbill_pipelines.cli.main import app
from iotbill_pipelines.compute.duckdb_engine import DuckDbCompute
from iotbill_pipelines.config.lake import LakeChoice
from iotbill_pipelines.engine.compute import WrittenFile
from iotbill_pipelines.operations import lake_care
from iotbill_pipelines.operations.booking import book_charges
from iotbill_pipelines.operations.charges import settle_charges
from iotbill_pipelines.operations.usage import rate_usage
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.shell.environment import Location
from iotbill_pipelines.shell.resources import WorkspaceResource
from iotbill_pipelines.storage.lake import Lake
from iotbill_pipelines.storage.lake_places import LakeError, ObjectStore, place_of
from tests import months
from tests.conftest import ROOT
from tests.shelf import Shelf
from tests.sources.servers import S3Server
from tests.storage.stores import BUCKET, choice_at, lake_at, place, secret
from tests.storage.test_lake import FUTURE, TABLE, content, replace

Machine = Callable[..., Lake]


@pytest.fixture
def word(s3: S3Server, tmp_path: Path) -> Callable[[str], str]:
    """This test's lake as a machine of a name sees it."""
    return lambda machine: place(s3.endpoint, tmp_path.name, tmp_path / machine)


@pytest.fixture
def machine(word: Callable[[str], str]) -> Machine:
    """This test's lake, opened on a machine of a name."""
    return lambda name="one", **changed: lake_at(word(name), **changed)


def test_what_one_machine_writes_others_read(machine: Machine, tmp_path: Path) -> None:
    lake = machine()
    assert (lake.files(TABLE), lake.partitions(TABLE), lake.version(TABLE)) == ([], [], None)
    assert replace(lake, "2026-10", 1, 10, 11) == 2
    assert replace(lake, "../x y", 1, 20) == 1
    before = lake.version(TABLE)
    other = machine("two")
    assert content(other) == [("../x y", 1, 20), ("2026-10", 1, 10), ("2026-10", 1, 11)]
    assert replace(other, "2026-10", 1, 12) == 1
    assert content(lake) == content(other) == [("../x y", 1, 20), ("2026-10", 1, 12)]
    assert content(machine("three"), version=before)[1:] == [
        ("2026-10", 1, 10),
        ("2026-10", 1, 11),
    ]
    assert lake.names(TABLE) == other.names(TABLE) and lake.rows(TABLE) == 2
    assert {Path(file).relative_to(tmp_path).parts[0] for file in lake.files(TABLE)} == {"one"}


def test_a_file_comes_once(machine: Machine) -> None:
    replace(machine(), "2026-10", 1, 10)
    lake = machine("two")
    (file,) = lake.files(TABLE)
    came = Path(file).stat().st_ino
    assert machine("two").files(TABLE) == [file] and Path(file).stat().st_ino == came
    Path(file).write_bytes(b"")  # as a power cut leaves it
    assert content(machine("two")) == [("2026-10", 1, 10)]


def test_half_a_file_is_never_read(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    replace(machine(), "2026-10", 1, 10)
    lake = machine("two")
    files = lake._place._files  # type: ignore[attr-defined]

    def half(there: list[str], here: list[str]) -> None:
        for path in here:
            Path(path).write_bytes(b"PAR1")

    with monkeypatch.context() as patched:
        patched.setattr(files, "get", half)
        with pytest.raises(LakeError, match=r"came as 4 bytes instead of \d+; run the same"):
            content(lake)

        def lost(there: list[str], here: list[str]) -> None:
            half(there, here)
            raise KeyboardInterrupt

        patched.setattr(files, "get", lost)
        with pytest.raises(KeyboardInterrupt):
            content(lake)
    assert not list(lake.root.rglob("*.parquet"))
    assert content(lake) == [("2026-10", 1, 10)]


def test_of_two_machines_one_follows_the_other(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both find the partition empty; the one that commits later replaces what the first wrote."""
    one, two = machine("one"), machine("two")
    replace(one, "2026-11", 1, 5)
    commit, calls = DeltaTable.create_write_transaction, []

    def raced(self: DeltaTable, *arguments: Any, **named: Any) -> None:
        calls.append(self.version())
        if len(calls) == 1:
            replace(two, "2026-10", 1, 7)
        commit(self, *arguments, **named)

    monkeypatch.setattr(DeltaTable, "create_write_transaction", raced)
    replace(one, "2026-10", 1, 8)
    assert calls == [1, 1, 2]  # found too late, then made anew for the version that was missed
    assert content(two) == content(one) == [("2026-10", 1, 8), ("2026-11", 1, 5)]
    assert content(two, version=2) == [("2026-10", 1, 7), ("2026-11", 1, 5)]


def test_a_store_without_conditional_puts_is_refused(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = machine()
    files = lake._place._files  # type: ignore[attr-defined]
    put = files.pipe_file
    monkeypatch.setattr(files, "pipe_file", lambda path, data, **_: put(path, data))
    with pytest.raises(LakeError, match="two commits at once would undo each other"):
        replace(lake, "2026-10", 1, 1)
    assert lake.version(TABLE) is None and not files.find(files._strip_protocol(lake.where))


def test_two_machines_make_the_same_table(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = machine("one"), machine("two")
    create = DeltaTable.create

    def raced(*arguments: Any, **named: Any) -> DeltaTable:
        monkeypatch.undo()
        replace(two, "2026-10", 1, 7)
        return create(*arguments, **named)

    monkeypatch.setattr(DeltaTable, "create", raced)
    replace(one, "2026-11", 1, 8)
    assert content(two) == [("2026-10", 1, 7), ("2026-11", 1, 8)]


def test_a_commit_whose_answer_was_lost_is_not_made_twice(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = machine()
    replace(lake, "2026-10", 1, 7)
    commit = DeltaTable.create_write_transaction

    def lost(self: DeltaTable, *arguments: Any, **named: Any) -> None:
        commit(self, *arguments, **named)
        raise CommitFailedError("the request that was sent again found the entry there")

    monkeypatch.setattr(DeltaTable, "create_write_transaction", lost)
    assert replace(lake, "2026-10", 1, 8, 9) == 2
    monkeypatch.undo()
    assert content(machine("two")) == [("2026-10", 1, 8), ("2026-10", 1, 9)]
    assert lake.version(TABLE) == 2


def test_the_cache_is_trimmed_when_nobody_uses_it(machine: Machine, tmp_path: Path) -> None:
    lake, beside = machine(), machine()
    replace(lake, "2026-10", 1, 10)
    replace(lake, "2026-11", 1, 11)
    old, new = lake.files(TABLE)
    os.utime(old, (1, 1))
    left = [lake.root / "_partial-1", lake.root / "sample" / "_staged-1" / "part-0.parquet"]
    for path in left:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    small = machine(cache_bytes=Path(new).stat().st_size)
    small.files(TABLE, month="2026-11")
    beside.files(TABLE, month="2026-11")
    small.release()  # the others still work
    assert Path(old).exists() and all(path.exists() for path in left)
    lake.release()
    beside.release()  # its bound is larger
    assert Path(old).exists() and not any(path.exists() for path in left)
    small.files(TABLE, month="2026-11")
    small.release()
    assert not Path(old).exists() and Path(new).exists()
    assert content(lake) == [("2026-10", 1, 10), ("2026-11", 1, 11)]


def test_what_is_being_written_is_not_tidied_away(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = DuckDbCompute.write

    def beside(*arguments: Any, **named: Any) -> list[WrittenFile]:
        written = write(*arguments, **named)
        other = machine(cache_bytes=0)
        other.files(TABLE)
        other.release()
        return written

    monkeypatch.setattr(DuckDbCompute, "write", beside)
    assert replace(machine(), "2026-10", 1, 10) == 1
    assert machine().holds([])


def test_files_that_are_no_longer_named_are_still_held(machine: Machine) -> None:
    lake = machine()
    replace(lake, "2026-10", 1, 10)
    names = lake.names(TABLE)
    replace(lake, "2026-10", 1, 11)
    other = machine("two")
    assert other.holds(names) and Path(other.paths(names)[0]).is_file()
    assert lake.vacuum(TABLE, FUTURE, FUTURE, [1]) == []
    assert len(lake.vacuum(TABLE, FUTURE, FUTURE, [])) == 1
    assert not other.holds(names)
    with pytest.raises(LakeError, match="is not in its store any more"):
        machine("three").paths(names)


def test_a_lake_of_a_folder_moves_with_its_versions(
    machine: Machine, tmp_path: Path, s3: S3Server
) -> None:
    local, lake = Lake(tmp_path / "local"), machine()
    replace(local, "2026-10", 1, 10)
    replace(local, "2026-10", 1, 11)
    assert lake.take_over(TABLE, local.root) == 5
    s3.client.delete_object(
        Bucket=BUCKET, Key=f"{tmp_path.name}/sample/_delta_log/{0:020}.json"
    )  # as an interrupted copy leaves it
    assert machine().take_over(TABLE, local.root) == 5
    assert [content(machine(), version) for version in (1, 2)] == [
        [("2026-10", 1, 10)],
        [("2026-10", 1, 11)],
    ]
    replace(machine(), "2026-10", 1, 12)
    with pytest.raises(LakeError, match=r"has versions that .* does not have"):
        lake.take_over(TABLE, local.root)
    with pytest.raises(LakeError, match="is a directory"):
        local.take_over(TABLE, local.root)


def test_what_is_wrong_is_told(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = machine(url="s3://not-there/x")
    for use in (lambda: nowhere.files(TABLE), lambda: replace(nowhere, "2026-10", 1, 1)):
        with pytest.raises(LakeError, match=r"s3://not-there/x cannot be used \(NoSuchBucket"):
            use()
    with pytest.raises(LakeError, match=r"LAKE_KEY is not set; configs/lake\.yaml takes its"):
        place_of(
            LakeChoice.model_validate(
                {
                    "url": "s3://b/x",
                    "credentials": {"access_key": "LAKE_KEY", "secret_key": "LAKE_SECRET"},
                }
            ),
            tmp_path,
            {}.get,
        )
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(LakeError, match=r"needs the package gcsfs, .*; pip install gcsfs"):
        ObjectStore("gs://bucket", tmp_path, 0).holds(["x"])


_BOOKED = (
    "select id, level, entity_id, account_id, service_id, charge_id, product_id, kind, gl_class,"
    " tax_code, usage_period, billing_period, accounting_period, records, quantity, currency,"
    " amount_minor, reason, price_ids from booked_charge order by id"
)


def booked(ws: Workspace) -> list[tuple[object, ...]]:
    with ws.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(_BOOKED))]


def test_a_close_books_the_same(
    shelf: Shelf, tmp_path: Path, word: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Received in a folder, moved, then rated and settled on one machine and booked on another."""
    here, there = (
        months.opened(tmp_path / name, shelf.copy(state, tmp_path / name))
        for name, state in (("here", months.BOOKED), ("there", months.RECEIVED))
    )
    configs = shutil.copytree(ROOT / "configs", tmp_path / "configs")
    (configs / "lake.yaml").write_text(choice_at(word("one")).model_dump_json(exclude_none=True))
    for variable in ("LAKE_KEY", "LAKE_SECRET"):
        monkeypatch.setenv(variable, str(secret(variable)))

    def iotbill(*arguments: str) -> str:
        options = ("--home", str(there.home), "--configs", str(configs))
        told = (*options, "--database-url", there.database_url, "lake", *arguments)
        done = CliRunner().invoke(app, told, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    empty = changed(there, lake=lake_at(word("nobody")))
    assert rate_usage(empty, months.PERIOD).blocking  # where are the records of what was received?
    assert "usage_record" in iotbill("upload")
    (there.home / "lake" / "usage_record").rename(tmp_path / "moved")
    location = Location(there.home, configs, there.database_url)
    with WorkspaceResource.at(location).open() as opened:
        assert opened.lake.where.startswith(f"s3://{BUCKET}/")
        one = changed(opened, clock=there.clock)
        for stage in (rate_usage, settle_charges):
            assert not stage(one, months.PERIOD).blocking
    two = changed(there, lake=lake_at(word("two")))
    assert not book_charges(two, months.PERIOD).blocking
    assert booked(two) == booked(here) != []
    assert not settle_charges(two, months.PERIOD).changed
    held = json.loads(iotbill("show", "--json"))["tables"]
    assert {told["table"]: told["rows"] for told in held} == {
        each.table: each.rows for each in lake_care.describe(here)
    }
    assert "nothing to delete" in iotbill("clean")
    for ws in (here, there):
        ws.close()
