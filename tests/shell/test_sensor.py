"""The sensor on new files: what waits is derived from what is recorded, every time."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from iotbill_pipelines.operations import watching
from iotbill_pipelines.operations.ingest import ingest, land
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.shell import receiving
from iotbill_pipelines.shell.resources import WorkspaceResource
from tests.conftest import ROOT

RECORD = (
    "account_id,name,kind,parent_account_id,entity_id,billing_zone,currency,customer_group\n"
    "C1,One,customer,,NL01,Europe/Berlin,EUR,\n"
)


@pytest.fixture
def ws(tmp_path: Path, postgres_url: str) -> Iterator[Workspace]:
    workspace = Workspace.open(tmp_path / "home", ROOT / "configs", postgres_url, migrate=True)
    yield workspace
    workspace.close()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture(autouse=True)
def nothing_remembered() -> None:
    receiving._REMEMBERED.clear()


def _put(ws: Workspace, name: str, text: str = RECORD) -> Path:
    path = ws.landing / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def _later(seconds: float = 60) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def _tick(
    ws: Workspace,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    cursor: str | None = None,
) -> dg.SensorResult | dg.SkipReason:
    """A tick a minute from now: the files of a test are young."""

    class Later(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]  # noqa: ARG003
            return _later()

    monkeypatch.setattr(receiving, "datetime", Later)
    resource = WorkspaceResource(
        home=str(ws.home), configs=str(ws.configs), database_url=ws.database_url
    )
    context = dg.build_sensor_context(
        instance=instance, cursor=cursor, resources={"workspace": resource}
    )
    result = receiving.new_files(context)
    assert isinstance(result, (dg.SensorResult, dg.SkipReason))
    return result


def _names(result: dg.SensorResult | dg.SkipReason) -> list[str]:
    assert isinstance(result, dg.SensorResult), result
    (request,) = result.run_requests or []
    return sorted(request.run_config["ops"]["feed_file"]["config"]["files"])


def test_a_new_file_is_asked_for_and_a_landed_one_is_not(
    ws: Workspace, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _put(ws, "accounts.csv")
    assert _names(_tick(ws, instance, monkeypatch)) == ["accounts.csv"]
    land(ws, [path])
    ingest(ws)
    assert isinstance(_tick(ws, instance, monkeypatch), dg.SkipReason)


@pytest.mark.parametrize("cursor", [None, "", "zzz", "{not a position"])
def test_a_lost_or_spoilt_cursor_changes_nothing(
    ws: Workspace,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    cursor: str | None,
) -> None:
    old = _put(ws, "accounts_1.csv")
    land(ws, [old])
    ingest(ws)
    _put(ws, "accounts_2.csv", RECORD.replace("One", "Two"))
    assert _names(_tick(ws, instance, monkeypatch, cursor)) == ["accounts_2.csv"]


def test_a_name_that_is_no_text_is_asked_for_and_found(
    ws: Workspace, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    _put(ws, os.fsdecode(b"accounts_\xff.csv"))
    _put(ws, "accounts_2.csv", RECORD.replace("One", "Two"))
    names = _names(_tick(ws, instance, monkeypatch))
    assert names == ["accounts_2.csv", "accounts_\\xff.csv"]
    assert len(watching.settled_files(ws, _later(), names)) == 2


def test_the_same_bytes_under_another_name_are_not_asked_for(
    ws: Workspace, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    land(ws, [_put(ws, "accounts_1.csv")])
    ingest(ws)
    _put(ws, "accounts_again.csv")
    assert isinstance(_tick(ws, instance, monkeypatch), dg.SkipReason)


def test_another_file_under_the_same_name_is_asked_for(
    ws: Workspace, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _put(ws, "accounts.csv")
    land(ws, [path])
    ingest(ws)
    before = path.stat()
    path.write_text(RECORD.replace("One", "Two"))  # as long as before, and made to look as old
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert _names(_tick(ws, instance, monkeypatch)) == ["accounts.csv"]


def test_files_being_written_are_left_alone(ws: Workspace) -> None:
    path = _put(ws, "accounts.csv")
    _put(ws, "accounts.csv.part")
    _put(ws, ".hidden.csv")
    young = watching.waiting(ws, datetime.now(UTC))
    assert not young.files and young.unsettled == (path,)
    assert watching.waiting(ws, _later()).files == (path,)
    os.utime(path, (0, 0))  # copied with the carrier's times: still only just here
    assert not watching.waiting(ws, datetime.now(UTC)).files


def test_work_is_bounded_and_every_file_has_its_turn(ws: Workspace) -> None:
    for number in range(7):
        _put(ws, f"accounts_{number}.csv", RECORD.replace("One", f"Name {number}"))
    asked: list[str] = []
    position = None
    for _ in range(4):
        found = watching.waiting(ws, _later(), position=position, most_files=2)
        assert len(found.files) <= 2
        asked += [path.name for path in found.files]
        position = found.position
    assert set(asked) == {f"accounts_{number}.csv" for number in range(7)}


def test_known_files_are_not_read_again_by_any_process(ws: Workspace) -> None:
    for number in range(6):
        _put(ws, f"day/accounts_{number}.csv", RECORD.replace("One", f"Name {number}"))
    land(ws, [ws.landing])
    first = watching.waiting(ws, _later(), most_read=4)
    assert (first.known, first.read, first.files) == (0, 4, ())
    assert first.position == "day/accounts_3.csv"
    memory = watching.Memory()  # as of a process that has just begun
    second = watching.waiting(ws, _later(), position=first.position, memory=memory)
    assert (second.known, second.read, second.position) == (4, 2, None)
    (ws.landing / "day/accounts_0.csv").unlink()
    _put(ws, "day/accounts_1.csv", RECORD.replace("One", "Changed"))
    _put(ws, "other.csv", RECORD)
    third = watching.waiting(ws, _later(), memory=memory)
    assert (third.known, third.read) == (4, 2)
    assert [path.name for path in third.files] == ["accounts_1.csv", "other.csv"]
    again = watching.waiting(ws, _later(), memory=memory)
    assert (again.known, again.read, again.files) == (4, 0, third.files)
    assert len(memory.stamps) == 5  # what was known under the changed file's name is another stamp


def test_no_second_run_while_one_is_under_way(
    ws: Workspace, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    _put(ws, "accounts.csv")
    with dg.DagsterInstance.ephemeral() as busy:
        busy.add_run(
            dg.DagsterRun(
                job_name=receiving.RECEIVE_JOB,
                status=dg.DagsterRunStatus.STARTED,
                tags={receiving.RECEIVE_TAG: "files"},
            )
        )
        result = _tick(ws, busy, monkeypatch)
    assert isinstance(result, dg.SkipReason)
    assert "is receiving files" in str(result.skip_message)


def test_a_batch_that_failed_waits_longer_each_time(
    ws: Workspace, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    _put(ws, "accounts.csv")
    first = _tick(ws, instance, monkeypatch)
    assert isinstance(first, dg.SensorResult)
    (request,) = first.run_requests or []
    for _ in range(3):
        instance.add_run(
            dg.DagsterRun(
                job_name=receiving.RECEIVE_JOB,
                status=dg.DagsterRunStatus.FAILURE,
                tags=dict(request.tags),
            )
        )
    result = _tick(ws, instance, monkeypatch)
    assert isinstance(result, dg.SkipReason)
    assert "next try after" in str(result.skip_message)


def test_landed_files_that_nobody_ingested_are_asked_for_by_day(
    ws: Workspace, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    land(ws, [_put(ws, "accounts.csv")])
    result = _tick(ws, instance, monkeypatch)
    assert isinstance(result, dg.SensorResult)
    (request,) = result.run_requests or []
    assert request.partition_key == str(ws.today)


def test_an_unreadable_file_stops_no_other(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    _put(ws, "accounts.csv")
    broken = _put(ws, "aaa.csv")
    whole = watching._sha256
    monkeypatch.setattr(
        watching,
        "_sha256",
        lambda path: (_ for _ in ()).throw(OSError("disk")) if path == broken else whole(path),
    )
    found = watching.waiting(ws, _later())
    assert [path.name for path in found.files] == ["accounts.csv"]
    assert found.unreadable == (broken,)


def test_the_job_receives_what_the_sensor_asked_for(
    ws: Workspace, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _put(ws, "accounts.csv")
    monkeypatch.setattr(watching, "QUIET", timedelta(0))
    resource = WorkspaceResource(
        home=str(ws.home), configs=str(ws.configs), database_url=ws.database_url
    )
    time.sleep(0.05)
    result = dg.materialize(
        [receiving.feed_file, receiving.usage_record],
        instance=instance,
        partition_key=str(ws.today),
        resources={"workspace": resource},
        run_config=dg.RunConfig(
            ops={"feed_file": receiving.LandingConfig(files=[path.name])},
            loggers={"console": {"config": {"log_level": "CRITICAL"}}},
        ),
    )
    assert result.success
    found = watching.waiting(ws, _later())
    assert not found.files and not found.days
