"""Suspense on a real workspace: told, estimated, retried, waived; gates waived by name."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.schemas import NEARBY_RECORD, RATED_USAGE, REFERENCE, SUSPENDED_RECORD
from iotbill_pipelines.operations import suspense, usage
from iotbill_pipelines.operations.close import run_stage, stage_named
from iotbill_pipelines.operations.ingest import ingest, land
from iotbill_pipelines.operations.sample import write_sample
from iotbill_pipelines.operations.status import status
from iotbill_pipelines.operations.suspense import SuspenseError, Wanted
from iotbill_pipelines.operations.waivers import WaiverError, waive_gate
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage import reference

ROOT = Path(__file__).resolve().parents[2]
OCTOBER = Month(2026, 10)


@pytest.fixture(scope="module")
def received(
    tmp_path_factory: pytest.TempPathFactory, module_postgres_url: str
) -> Iterator[Workspace]:
    """The sample month received and rated, under a policy that tolerates no suspense."""
    home = tmp_path_factory.mktemp("suspense") / "home"
    configs = home.parent / "configs"
    shutil.copytree(ROOT / "configs", configs)
    policy = configs / "close.yaml"
    policy.write_text(
        policy.read_text("utf-8").replace("max_share_of_records: 0.05", "max_share_of_records: 0"),
        "utf-8",
    )
    workspace = Workspace.open(home, configs, module_postgres_url, migrate=True)
    write_sample(home / "files", OCTOBER, 40, 1)
    land(workspace, [home / "files"])
    ingest(workspace)
    usage.rate_usage(workspace, OCTOBER)
    yield workspace
    workspace.close()


@pytest.fixture
def ws(received: Workspace) -> Workspace:
    return received.for_run(f"run-{uuid.uuid4()}")


def test_everything_suspended_is_listed_aged_and_estimated(ws: Workspace) -> None:
    found = suspense.list_suspense(ws, Wanted(), 1000)
    assert found.records_total == len(found.records) == sum(g.records for g in found.groups)
    assert found.records_total == sum(total.records for total in found.totals) > 0
    assert {group.reason for group in found.groups} >= {"no_owner", "conflict", "after_cancel"}
    for group in found.groups:
        assert group.estimate is not None and group.currency == "EUR"
        assert group.basis.startswith("price " if group.account else "no offer is known")
        if group.estimate == 0:
            assert "less than half" in group.basis or "is 0" in group.basis
    only = suspense.list_suspense(ws, Wanted(reason="conflict", month=OCTOBER))
    assert {group.reason for group in only.groups} == {"conflict"}
    account = next(group.account for group in found.groups if group.account)
    mine = suspense.list_suspense(ws, Wanted(account=account))
    assert {group.account for group in mine.groups} == {account}
    assert not suspense.list_suspense(ws, Wanted(feed="nobody")).groups


def test_a_conflict_shows_both_lines_as_delivered(ws: Workspace) -> None:
    listed = suspense.list_suspense(ws, Wanted(reason="conflict"), 10).records
    view = suspense.show(ws, listed[0].address)
    assert view.raw_text and view.other_raw_text
    assert view.raw_text != view.other_raw_text
    assert view.service and view.account and view.estimate is not None
    assert "carrier" in view.what_to_do


@pytest.mark.parametrize("address", ["1:1", "abc", "1", "861405927354028461:", "12:²"])
def test_an_address_of_nothing_is_told(ws: Workspace, address: str) -> None:
    with pytest.raises(SuspenseError):
        suspense.show(ws, address)


def test_a_month_without_suspense_lists_none(ws: Workspace) -> None:
    found = suspense.list_suspense(ws, Wanted(month=Month(2020, 1)), 10)
    assert (found.groups, found.records_total) == ([], 0)


def test_whose_records_are_is_asked_only_of_a_month_that_was_rated(ws: Workspace) -> None:
    """A first rating that is killed leaves suspended records, and nothing to say who owns them."""
    account = next(g.account for g in suspense.list_suspense(ws, Wanted()).groups if g.account)
    listed = suspense.list_suspense(ws, Wanted(month=OCTOBER), 1).records
    with ws.engine.begin() as connection:
        connection.execute(sa.text("delete from stage_input where stage = 'rate_usage'"))
    mine = Wanted(account=account, month=OCTOBER)
    said = "`iotbill suspense retry --month 2026-10`"
    with pytest.raises(SuspenseError, match=said):
        suspense.waive(ws, mine, [], by="Ann", reason="x")
    with pytest.raises(SuspenseError, match=said):
        suspense.list_suspense(ws, mine)
    with pytest.raises(SuspenseError, match="`iotbill suspense retry`"):
        suspense.show(ws, listed[0].address)
    suspense.retry(ws)
    assert {group.account for group in suspense.list_suspense(ws, mine).groups} == {account}


def test_an_owner_that_is_added_frees_what_waited_for_it(ws: Workspace) -> None:
    suspense.retry(ws)
    assert suspense.retry_due(ws) is None
    waiting = suspense.list_suspense(ws, Wanted(reason="no_owner"), 1000).records
    kind, _, value = waiting[0].uid.partition(":")
    mine = sum(record.uid == waiting[0].uid for record in waiting)
    with ws.engine.connect() as connection:
        service = connection.execute(
            sa.text("select service_id from reference_service_identifier where uid_type = :kind"
                    " and known_to is null order by service_id limit 1"), {"kind": kind}
        ).scalar_one()  # fmt: skip
    row = {
        "uid_type": kind, "uid_value": value, "service_id": service,
        "valid_from": datetime(2026, 1, 1), "valid_to": None,  # noqa: DTZ001
    }  # fmt: skip
    with Session(ws.engine) as session, session.begin():
        schema = REFERENCE["service_identifier"].arrow_schema
        reference.load(
            session, "service_identifier", pa.Table.from_pylist([row], schema=schema),
            datetime.now(UTC), "test",
        )  # fmt: skip
    assert suspense.retry_due(ws)
    result = suspense.retry(ws.for_run(f"retry-{uuid.uuid4()}"))
    assert str(OCTOBER) in result.months
    assert sum(result.fixed.values()) + sum(result.still.values()) > 0
    left = suspense.list_suspense(ws, Wanted(reason="no_owner"), 1000).records
    assert len(left) == len(waiting) - mine
    assert suspense.retry_due(ws) is None
    again = suspense.retry(ws.for_run(f"retry-{uuid.uuid4()}"))
    assert again.months == [] and again.fixed == {}


def test_waived_records_are_signed_kept_and_not_counted(ws: Workspace) -> None:
    with pytest.raises(SuspenseError, match="name and a reason"):
        suspense.waive(ws, Wanted(reason="conflict"), [], by=" ", reason="x")
    with pytest.raises(SuspenseError, match="say which"):
        suspense.waive(ws, Wanted(), [], by="Ann", reason="x")
    with pytest.raises(SuspenseError, match="0 of 1"):
        suspense.waive(ws, Wanted(), ["1:1"], by="Ann", reason="x")
    with pytest.raises(SuspenseError, match="0 of 1 records are waived"):
        suspense.unwaive(ws, Wanted(), ["1:1", "01:1"], by="Ann", reason="x")
    conflicts = suspense.list_suspense(ws, Wanted(reason="conflict"), 100).records
    before = suspense.waived_records(ws, OCTOBER)
    signed = {"by": "Ann Lee", "reason": "carrier confirmed, ticket 812"}
    assert suspense.waive(ws, Wanted(), [conflicts[0].address] * 2, **signed) == 1
    assert suspense.waive(ws, Wanted(reason="conflict"), [], **signed) == len(conflicts) - 1
    assert suspense.waive(ws, Wanted(reason="conflict"), [], **signed) == 0
    assert suspense.waived_records(ws, OCTOBER) == before + len(conflicts)
    shown = suspense.list_suspense(ws, Wanted(reason="conflict"), 100)
    assert {record.waived_by for record in shown.records} == {"Ann Lee"}
    assert sum(group.waived for group in shown.groups) == len(conflicts)
    assert "ticket 812" in suspense.show(ws, conflicts[0].address).waivers[0]
    back = {"by": "Bo Ek", "reason": "wrong ticket"}
    with pytest.raises(SuspenseError, match="0 of these"):
        suspense.unwaive(ws, Wanted(reason="no_owner"), [], **back)
    assert suspense.unwaive(ws, Wanted(), [conflicts[0].address] * 2, **back) == 1
    assert suspense.waived_records(ws, OCTOBER) == before + len(conflicts) - 1
    assert "taken back" in suspense.show(ws, conflicts[0].address).waivers[0]
    assert suspense.waive(ws, Wanted(reason="conflict"), [], **signed) == 1
    assert suspense.waived_records(ws, OCTOBER) == before + len(conflicts)
    for statement in ("delete from suspense_waiver", "update suspense_waiver set waived_by = 'x'"):
        with pytest.raises(sa.exc.DBAPIError), ws.engine.begin() as connection:
            connection.execute(sa.text(statement))


def test_a_waived_gate_lets_the_close_go_on_until_it_finds_something_else(ws: Workspace) -> None:
    stage = stage_named("rate_usage")
    blocked = run_stage(ws, OCTOBER, stage)
    assert [finding.code for finding in blocked.blocking] == ["suspense"]
    with pytest.raises(WaiverError, match="no gate"):
        waive_gate(ws, "nonsense", OCTOBER, by="Ann", reason="x")
    with pytest.raises(WaiverError, match="nothing to waive"):
        waive_gate(ws, "conservation", OCTOBER, by="Ann", reason="x")
    with pytest.raises(WaiverError, match="has not been checked"):
        waive_gate(ws, "suspense", Month(2020, 1), by="Ann", reason="x")
    assert waive_gate(ws, "suspense", OCTOBER, by="Ann Lee", reason="pilot SIMs")
    passed = run_stage(ws.for_run(f"run-{uuid.uuid4()}"), OCTOBER, stage)
    assert not passed.blocking
    gate = next(g for g in status(ws, OCTOBER).months[0].gates if g.gate == "suspense")
    assert (gate.outcome, gate.waived_by, gate.waive_reason) == ("waived", "Ann Lee", "pilot SIMs")
    with ws.engine.connect() as connection:
        audited = connection.execute(
            sa.text("select detail from audit_log where action = 'waive_gate'")
        ).scalar_one()
    assert audited["by"] == "Ann Lee"
    # one record fewer is another finding: it needs a signature of its own
    listed = suspense.list_suspense(ws, Wanted(reason="after_cancel"), 1).records
    suspense.waive(ws, Wanted(), [listed[0].address], by="Ann Lee", reason="credit note 7")
    assert run_stage(ws.for_run(f"run-{uuid.uuid4()}"), OCTOBER, stage).blocking


# ---------------------------------------------------------------- months and files


def _emnify(ws: Workspace, name: str, records: list[tuple[int, str, int]]) -> None:
    """Land and ingest a file of emnify with records (id, time, MB) of a SIM that is sold."""
    with ws.compute() as compute:
        ws.lake.scan(compute, RATED_USAGE, usage_month=str(OCTOBER))
        service = compute.fetch(
            "select max(service_id) as service_id from rated_usage where feed_id = 'emnify_usage'"
            " and level = 'retail' and local_date = (select max(local_date) from rated_usage"
            " where feed_id = 'emnify_usage' and usage_period = '2026-10')"
        )["service_id"][0].as_py()
    with ws.engine.connect() as connection:
        sim = connection.execute(
            sa.text(
                "select uid_value from reference_service_identifier where uid_type = 'iccid'"
                " and known_to is null and service_id = :service order by 1 limit 1"
            ),
            {"service": service},
        ).scalar_one()
    lines = [
        json.dumps(
            {
                "id": number,
                "traffic_type": {"id": 5},
                "sim": {"iccid": sim},
                "volume": {"total": quantity, "rx": quantity, "tx": 0},
                "operator": {"mnc": "01", "country": {"mcc": "262"}},
                "start_timestamp": at,
                "end_timestamp": at,
            }
        )
        for number, at, quantity in records
    ]
    file = ws.home / name
    file.write_text("\n".join(lines) + "\n", "utf-8")
    land(ws, [file])
    result = ingest(ws)
    assert result.rows["accepted"] == len(records), result.findings


def _held(ws: Workspace, month: Month) -> dict[str, int]:
    with ws.compute() as compute:
        ws.lake.scan(compute, RATED_USAGE, usage_month=str(month))
        rows = compute.fetch(
            "select cast(event_start as varchar) as at, sum(quantity)::bigint as quantity"
            " from rated_usage where level = 'retail' and event_start >= '2026-10-31 23:50:00'"
            " group by 1"
        ).to_pylist()
    return {row["at"]: row["quantity"] for row in rows}


def test_a_key_sent_again_in_the_next_month_is_billed_once(ws: Workspace) -> None:
    _emnify(ws, "emnify_again_1.ndjson", [(9_900_001, "2026-10-31T23:59:59.5Z", 3)])
    usage.rate_usage(ws, OCTOBER)
    before = _held(ws, OCTOBER)
    _emnify(
        ws,
        "emnify_again_2.ndjson",
        [(9_900_001, "2026-11-01T00:00:00.5Z", 2), (9_900_002, "2026-11-01T00:01:00Z", 7)],
    )
    rerated = usage.rate_usage(ws.for_run(f"run-{uuid.uuid4()}"), OCTOBER)
    assert not [f for f in rerated.findings if f.code == "conservation"]
    after = _held(ws, OCTOBER) | _held(ws, OCTOBER + 1)
    # the versions disagree: the smaller one is billed, in its own month, and once
    assert "2026-10-31 23:59:59.5" in before and "2026-10-31 23:59:59.5" not in after
    assert after["2026-11-01 00:00:00.5"] == 2_000_000
    assert after["2026-11-01 00:01:00"] == 7_000_000
    assert ws.lake.files(NEARBY_RECORD, rated_month=str(OCTOBER))


def test_a_month_is_left_alone_when_its_neighbour_only_grows(ws: Workspace) -> None:
    usage.rate_usage(ws, OCTOBER)
    version = ws.lake.files(RATED_USAGE, usage_month=str(OCTOBER))
    _emnify(ws, "emnify_other_key.ndjson", [(9_900_003, "2026-11-01T00:02:00Z", 1)])
    usage.rate_usage(ws.for_run(f"run-{uuid.uuid4()}"), OCTOBER)
    assert ws.lake.files(RATED_USAGE, usage_month=str(OCTOBER)) == version
    assert _held(ws, OCTOBER + 1)["2026-11-01 00:02:00"] == 1_000_000


def test_usage_that_comes_after_its_close_is_billed_and_told(ws: Workspace) -> None:
    with ws.engine.begin() as connection:
        connection.execute(
            sa.text("insert into run (run_id, kind, period, started_at, finished_at, status, actor,"
                    " code_version) values ('closed', 'close', '2026-10', now(), now(),"
                    " 'succeeded', 'test', 'x')")
        )  # fmt: skip
    _emnify(ws, "emnify_late.ndjson", [(9_900_004, "2026-10-09T10:00:00Z", 4)])
    result = usage.rate_usage(ws.for_run(f"run-{uuid.uuid4()}"), OCTOBER)
    told = [finding for finding in result.findings if finding.code == "late_usage"]
    assert len(told) == 1
    assert told[0].message.startswith("1 records of emnify_usage came after 2026-10 was closed")
    with ws.compute() as compute:
        ws.lake.scan(compute, RATED_USAGE, usage_month=str(OCTOBER))
        flagged = compute.fetch("select distinct flags from rated_usage where flags is not null")
    assert "late" in flagged["flags"].to_pylist()


def test_the_command_line_tells_suspense(
    ws: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from iotbill_pipelines.cli import suspense as command
    from iotbill_pipelines.cli.main import Settings
    from iotbill_pipelines.shell.environment import Location

    settings = Settings(Location(Path(ws.home), ws.configs, ws.database_url), "test")
    command.tell(settings, (None, None, None, None), 3, as_json=False)
    assert "Totals" in capsys.readouterr().out
    command.tell(settings, (None, None, None, None), 3, as_json=True)
    told = json.loads(capsys.readouterr().out)
    command.show(settings, told["records"][0]["address"], as_json=False)
    assert "what to do" in capsys.readouterr().out


def test_the_sensor_asks_once_for_each_change_of_what_is_known(ws: Workspace) -> None:
    import dagster as dg

    from iotbill_pipelines.shell.resources import WorkspaceResource
    from iotbill_pipelines.shell.retrying import changed_knowledge, retry_suspense

    resource = WorkspaceResource(
        home=str(ws.home), configs=str(ws.configs), database_url=ws.database_url
    )
    products = ws.configs / "catalog" / "products.yaml"
    original = products.read_text("utf-8")
    with dg.DagsterInstance.ephemeral() as instance:

        def tick() -> object:
            context = dg.build_sensor_context(instance=instance, resources={"workspace": resource})
            return changed_knowledge(context)

        suspense.retry(ws)
        assert isinstance(tick(), dg.SkipReason)
        products.write_text(original.replace("name: Data", "name: Mobile data", 1), "utf-8")
        asked = tick()
        assert isinstance(asked, dg.RunRequest) and asked.run_key
        again = tick()
        assert isinstance(again, dg.RunRequest) and again.run_key == asked.run_key
        done = retry_suspense.execute_in_process(
            resources={"workspace": resource}, instance=instance
        )
        assert done.success
        assert isinstance(tick(), dg.SkipReason)
        products.write_text(original, "utf-8")
        back = tick()
        assert isinstance(back, dg.RunRequest) and back.run_key != asked.run_key
    suspense.retry(ws.for_run(f"retry-{uuid.uuid4()}"))


def test_any_number_of_suspended_months_is_retried(ws: Workspace) -> None:
    """More of them than the pool has connections."""
    months = [str(OCTOBER - number) for number in range(2, 20)]
    with ws.compute() as compute:
        ws.lake.scan(compute, SUSPENDED_RECORD, usage_month=str(OCTOBER))
        compute.define(
            "spread",
            "select s.* replace (m.usage_month as usage_month)"
            " from (select * from suspended_record limit 1) as s,"
            f" (select unnest({months}) as usage_month) as m",
        )
        ws.lake.replace_each(SUSPENDED_RECORD, compute, "spread", "usage_month", months)
    assert len(suspense.suspended_months(ws)) > len(months)
    assert sum(suspense.retry(ws).still.values()) > 0
