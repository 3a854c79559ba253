"""Stages of a close on a real workspace: what re-runs skip, what gates see, what kills leave."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path

import pyarrow as pa
import pytest
import sqlalchemy as sa

from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.schemas import (
    COMMITMENT_STATUS,
    DESIRED_CHARGE,
    POOL_LOT,
    POOL_PART,
    RATED_USAGE,
)
from iotbill_pipelines.operations import charges, fingerprints, runs, usage
from iotbill_pipelines.operations.booking import book_charges, booking_scope
from iotbill_pipelines.operations.close import (
    CLOSE_STAGES,
    CloseUnderWay,
    exclusive,
    run_stage,
    stage_named,
)
from iotbill_pipelines.operations.knowledge import knowledge
from iotbill_pipelines.operations.stages import Finding, StageResult
from iotbill_pipelines.operations.trace import UnknownId, trace
from iotbill_pipelines.operations.workspace import Workspace, WorkspaceError
from tests import months
from tests.conftest import ROOT
from tests.shelf import Shelf

OCTOBER = Month(2026, 10)


@pytest.fixture(scope="module")
def received(tmp_path_factory: pytest.TempPathFactory, shelf: Shelf) -> Iterator[Workspace]:
    """The sample month, received and rated and settled once."""
    folder = tmp_path_factory.mktemp("stages") / "month"
    workspace = months.opened(folder, shelf.copy(months.SETTLED, folder))
    yield workspace
    workspace.close()


@pytest.fixture
def ws(received: Workspace) -> Workspace:
    """The same workspace under a run of this test's own."""
    return received.for_run(f"run-{datetime.now().timestamp()}")  # noqa: DTZ005


def _execute(ws: Workspace, statement: str) -> None:
    with ws.engine.begin() as connection:
        connection.execute(sa.text(statement))


def test_stages_whose_inputs_are_the_same_do_nothing(ws: Workspace) -> None:
    versions = [ws.lake.version(table) for table in (RATED_USAGE, DESIRED_CHARGE)]
    again = usage.rate_usage(ws, OCTOBER)
    assert not again.changed and again.rows["months rated"] == 0
    assert not charges.settle_charges(ws, OCTOBER).changed
    assert [ws.lake.version(table) for table in (RATED_USAGE, DESIRED_CHARGE)] == versions


def test_what_the_month_before_left_unused_is_an_input(ws: Workspace) -> None:
    """A lot that appears, as late usage makes one, settles the month again; so does its end."""
    assert not charges.settle_charges(ws, OCTOBER).changed
    lot = {
        **{"usage_period": "2026-09", "level": "retail", "pool_id": "p/C", "bucket_id": "p"},
        **{"window_start": date(2026, 9, 1), "window_end": date(2026, 10, 1)},
        **{"pool_account_id": "C", "granted_on": date(2026, 9, 1), "quantity": 5, "drawn": 2},
        **{"carried_on": 3, "windows_left": 1},
    }
    for rows in ([lot], []):
        with ws.compute() as compute:
            compute.load("unused", pa.Table.from_pylist(rows, schema=POOL_LOT.arrow_schema))
            ws.lake.replace(POOL_LOT, compute, "unused", {"usage_period": "2026-09"})
        assert charges.carried_over(ws, OCTOBER)["pool_lot"].to_pylist() == rows
        assert charges.settle_charges(ws, OCTOBER).changed
        assert not charges.settle_charges(ws, OCTOBER).changed


def test_an_interrupted_month_is_rated_again(ws: Workspace) -> None:
    fingerprints.forget(ws, usage.STAGE, OCTOBER)
    again = usage.rate_usage(ws, OCTOBER)
    assert again.rows["months rated"] == 1
    assert not usage.rate_usage(ws, OCTOBER).changed


def test_an_earlier_period_that_was_interrupted_is_still_answered_for(ws: Workspace) -> None:
    """A kill while an earlier month is settled again must not make the close forget it."""
    fingerprints.forget(ws, charges.STAGE, OCTOBER)
    assert charges.settled_periods(ws, OCTOBER + 1) == [OCTOBER, OCTOBER + 1]
    charges.settle_charges(ws, OCTOBER)


def test_every_stage_of_a_run_knows_the_same(ws: Workspace) -> None:
    first = knowledge(ws, OCTOBER)
    _execute(
        ws,
        "insert into reference_service (service_id, account_id, source, known_from)"
        " values ('S-LATE', 'C0001', 'test', '2026-01-01')",
    )
    assert knowledge(ws, OCTOBER).id == first.id
    later = knowledge(ws.for_run(f"{ws.run_id}-later"), OCTOBER)
    assert later.id != first.id
    _execute(ws, "update reference_service set known_to = '2026-01-02' where service_id = 'S-LATE'")


def test_conservation_holds_and_a_lost_record_is_seen(ws: Workspace) -> None:
    months = usage.months_with_usage(ws, usage.around(OCTOBER))
    assert usage.check_conservation(ws, months) == []
    lost = (
        "update feed_file_outcome set records = records {sign} 1 where (file_key, usage_month,"
        " outcome, reason_code) = (select file_key, usage_month, outcome, reason_code"
        " from feed_file_outcome where outcome = 'kept' and usage_month = '2026-10'"
        " order by file_key limit 1)"
    )
    _execute(ws, lost.format(sign="-"))
    (finding,) = usage.check_conservation(ws, months)
    assert finding.severity == "block" and finding.figure == "1 records"
    _execute(ws, lost.format(sign="+"))


def test_conservation_sees_quantities_and_records_missing_from_the_lake(ws: Workspace) -> None:
    months = usage.months_with_usage(ws, usage.around(OCTOBER))
    change = (
        "update feed_file set {column} = {column} {sign} 1 where file_key = (select file_key"
        " from feed_file where feed_id = 'emnify_usage' order by file_key limit 1)"
    )
    for columns in (("quantity_in", "quantity_kept"), ("quantity_in",)):
        for column in columns:
            _execute(ws, change.format(column=column, sign="+"))
        (finding,) = usage.check_conservation(ws, months)
        assert finding.severity == "block"
        for column in columns:
            _execute(ws, change.format(column=column, sign="-"))


def test_pool_parts_that_do_not_add_up_block(ws: Workspace) -> None:
    period = str(OCTOBER)
    with ws.compute() as compute:
        ws.lake.scan(compute, POOL_PART, usage_period=period)
        compute.define("as_settled", "select * from pool_part", keep=True)
        changed = (
            "select * replace (case when row_number() over (order by amount_minor desc, service_id)"
            " = 1 then amount_minor + 1 else amount_minor end as amount_minor) from as_settled"
        )
        ws.lake.replace(POOL_PART, compute, changed, {"usage_period": period})
        result = charges.settle_charges(ws, OCTOBER)
        ws.lake.replace(POOL_PART, compute, "as_settled", {"usage_period": period})
    assert [finding.code for finding in result.blocking] == ["pools"]
    assert not charges.settle_charges(ws, OCTOBER).blocking


def test_a_commitment_that_is_not_charged_what_is_missing_blocks(ws: Workspace) -> None:
    short = {field.name: None for field in COMMITMENT_STATUS.arrow_schema} | {
        **{"usage_period": "2026-10", "contract_id": "K", "commitment_id": "k", "charge_id": "k"},
        **{"level": "retail", "account_id": "C0001", "service_id": "", "product_id": "p"},
        **{"kind": "invoice_amount", "unit": "EUR", "currency": "EUR", "closes": True},
        **{"window_start": date(2026, 10, 1), "window_end": date(2026, 11, 1), "detail": ""},
        **{"penalty_minor": 500, "projected_minor": 500, "excluded_lines": 0},
        **dict.fromkeys(RATES, 0),
    }
    for rows, blocking in (([short], ["commitments"]), ([], [])):
        table = pa.Table.from_pylist(rows, schema=COMMITMENT_STATUS.arrow_schema)
        with ws.compute() as compute:
            compute.load("changed", table)
            ws.lake.replace(COMMITMENT_STATUS, compute, "changed", {"usage_period": "2026-10"})
        result = charges.settle_charges(ws, OCTOBER)
        assert [finding.code for finding in result.blocking] == blocking
        assert result.rows.get("commitment windows ended", 0) == len(rows)


RATES = (
    *("committed", "measured", "missing", "projected", "projected_missing", "step_value"),
    "excluded_amount",
)


def test_the_next_month_is_in_scope_until_it_is_settled_itself(ws: Workspace) -> None:
    assert booking_scope(ws, OCTOBER) == [OCTOBER, OCTOBER + 1]
    charges.settle_charges(ws, OCTOBER + 1)
    assert booking_scope(ws, OCTOBER) == [OCTOBER]
    assert booking_scope(ws, OCTOBER + 1) == [OCTOBER, OCTOBER + 1, OCTOBER + 2]
    _execute(ws, "delete from stage_input where stage = 'settle_charges' and month = '2026-11'")


def test_booking_twice_books_once(ws: Workspace) -> None:
    first = book_charges(ws, OCTOBER)
    assert first.changed and not first.blocking
    again = book_charges(ws.for_run(f"{ws.run_id}-again"), OCTOBER)
    assert not again.changed and again.rows["rows booked"] == 0
    assert runs.posted_by(ws, f"{ws.run_id}-again").nothing


def test_gates_are_recorded_with_what_to_do(ws: Workspace) -> None:
    stage = stage_named("rate_usage")
    runs.start(ws, "close", OCTOBER)
    found = [
        Finding("conservation", "block", "a record is missing", "1 record", "look for it"),
        Finding("odd", "warn", "something else"),
    ]
    runs.record_gates(ws, OCTOBER, stage, StageResult(findings=found))
    with ws.engine.connect() as connection:
        rows = connection.execute(
            sa.text(
                "select gate, outcome, severity, what_to_do from gate_result where run_id = :r"
            ),
            {"r": ws.run_id},
        ).all()
    assert {row.gate: row.outcome for row in rows} == {
        "conservation": "failed",
        "suspense": "passed",
        "feeds": "passed",
        "rate_usage_findings": "failed",
    }
    assert [finding for _, finding in runs.findings_of_run(ws, ws.run_id)] == found


def test_a_stage_that_raises_marks_its_run(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("out of disk")

    monkeypatch.setattr(usage, "rate_usage", broken)
    with pytest.raises(RuntimeError, match="out of disk"):
        run_stage(ws, OCTOBER, stage_named("rate_usage"))
    with ws.engine.connect() as connection:
        row = connection.execute(
            sa.text("select status, detail from run where run_id = :r"), {"r": ws.run_id}
        ).one()
    assert row.status == "failed" and row.detail["stage"] == "rate_usage"


def test_one_close_of_a_month_at_a_time(ws: Workspace) -> None:
    with exclusive(ws, OCTOBER):
        with pytest.raises(CloseUnderWay, match="2026-10"), exclusive(ws, OCTOBER):
            pass
        with exclusive(ws, OCTOBER + 1):
            pass
    with exclusive(ws, OCTOBER):
        pass


def test_stages_name_operations_that_exist() -> None:
    for stage in CLOSE_STAGES:
        assert callable(stage.operation), stage.name
    with pytest.raises(KeyError, match="rate_usage"):
        stage_named("nonsense")


def test_unknown_ids_say_what_ids_look_like(ws: Workspace) -> None:
    for identifier in ("", "999999999", "NL01-2026-10-NOTHING-001:2", "a:b:c"):
        with pytest.raises(UnknownId, match="journal line"):
            trace(ws, identifier)


def test_a_folder_that_was_never_initialised_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="iotbill init"):
        Workspace.open(tmp_path, ROOT / "configs", "postgresql://nobody@/none")
    with pytest.raises(WorkspaceError, match="--configs"):
        Workspace.open(tmp_path, tmp_path / "none", "postgresql://nobody@/none")
