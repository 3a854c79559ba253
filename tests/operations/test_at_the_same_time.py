"""Two processes that rate or settle the same month, each under another month's lock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.compute import Compute
from iotbill_pipelines.engine.schemas import (
    DESIRED_CHARGE,
    DUPLICATE_RECORD,
    RATED_USAGE,
    SUSPENDED_RECORD,
    USAGE_RECORD,
    Table,
)
from iotbill_pipelines.operations import charges, fingerprints, usage
from iotbill_pipelines.operations.knowledge import knowledge
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage.lake import Lake
from tests import months
from tests.shelf import Shelf

OCTOBER, NOVEMBER = months.PERIOD, months.PERIOD + 1


@pytest.fixture
def ws(tmp_path: Path, shelf: Shelf) -> Iterator[Workspace]:
    """The sample month, rated and settled once."""
    workspace = months.opened(tmp_path / "month", shelf.copy(months.SETTLED, tmp_path / "month"))
    yield workspace
    workspace.close()


class Interrupted(Lake):
    """A lake in which something happens right before or after a table is replaced, once."""

    def __init__(self, of: Path, moment: tuple[str, Table], then: Callable[[], None]) -> None:
        super().__init__(of)
        self.moment, self.then = moment, then

    def replace(
        self,
        schema: Table,
        compute: Compute,
        select: str,
        partition: Mapping[str, str | None],
        *,
        order_by: Sequence[str] = (),
        note: str | None = None,
    ) -> int:
        self._at("before", schema)
        rows = super().replace(schema, compute, select, partition, order_by=order_by, note=note)
        self._at("after", schema)
        return rows

    def _at(self, when: str, schema: Table) -> None:
        if self.moment == (when, schema):
            self.moment = ("never", schema)
            self.then()


def _beside(
    ws: Workspace,
    moment: tuple[str, Table],
    one: Callable[[Workspace], object],
    other: Callable[[Workspace], object],
) -> None:
    """Run ``one``; at the moment, let ``other`` run until it is done or waits for a lock."""
    with ThreadPoolExecutor(1) as threads:
        begun: list[Future[object]] = []

        def meanwhile() -> None:
            begun.append(threads.submit(other, ws))
            while not begun[0].done() and not _somebody_waits(ws):
                time.sleep(0.01)

        one(replace(ws, lake=Interrupted(ws.home / "lake", moment, meanwhile)))
        begun[0].result(timeout=120)


def _somebody_waits(ws: Workspace) -> bool:
    with ws.engine.connect() as connection:
        return bool(
            connection.execute(
                sa.text(
                    "select exists (select from pg_locks where locktype = 'advisory'"
                    " and not granted and database ="
                    " (select oid from pg_database where datname = current_database()))"
                )
            ).scalar_one()
        )


def test_no_record_is_lost_between_two_that_rate_a_month(ws: Workspace) -> None:
    """One knows a SIM, the other does not yet: each puts its records into another table."""
    older = knowledge(ws.for_run("older"), OCTOBER)
    with ws.compute() as compute:
        ws.lake.scan(compute, SUSPENDED_RECORD, usage_month=str(OCTOBER))
        found = compute.fetch(
            "select uid_type, uid_value from suspended_record where reason_code = 'no_owner'"
            " order by file_key, line_no limit 1"
        ).to_pylist()[0]
    with ws.engine.begin() as connection:
        connection.execute(
            sa.text(
                "insert into reference_service_identifier (uid_type, uid_value, service_id,"
                " valid_from, source, known_from) select :uid_type, :uid_value, min(service_id),"
                " '2026-01-01', 'test', '2026-01-01' from reference_service_identifier"
                " where uid_type = :uid_type and known_to is null"
            ),
            found,
        )
    newer = knowledge(ws.for_run("newer"), OCTOBER)
    assert older.id != newer.id
    _beside(
        ws,
        ("after", RATED_USAGE),
        lambda one: usage.rate_months(one, [OCTOBER], newer),
        lambda other: usage.rate_months(other, [OCTOBER], older),
    )
    with ws.compute() as compute:
        for table in (USAGE_RECORD, RATED_USAGE, DUPLICATE_RECORD, SUSPENDED_RECORD):
            ws.lake.scan(compute, table, usage_month=str(OCTOBER))
        nowhere = compute.fetch(
            "select file_key, line_no from usage_record except (select file_key, line_no from"
            " rated_usage union all select file_key, line_no from duplicate_record union all"
            " select file_key, line_no from suspended_record)"
        )
        held = compute.fetch("select count(*)::bigint as records from suspended_record")
    assert nowhere.num_rows == 0
    with ws.engine.connect() as connection:
        told = connection.execute(
            sa.text(
                "select sum(records)::bigint from feed_file_outcome"
                " where usage_month = :month and outcome = 'suspended'"
            ),
            {"month": str(OCTOBER)},
        ).scalar_one()
    assert held["records"][0].as_py() == told
    # what was rated last by the older snapshot is not taken for rated by the newer
    assert usage.rate_months(ws, [OCTOBER], newer) == [OCTOBER]


def test_the_second_that_rates_a_month_finds_it_done(ws: Workspace) -> None:
    known = knowledge(ws.for_run("both"), OCTOBER)
    fingerprints.forget(ws, usage.STAGE, OCTOBER)
    done: list[list[Month]] = []
    _beside(
        ws,
        ("after", RATED_USAGE),
        lambda one: done.append(usage.rate_months(one, [OCTOBER], known)),
        lambda other: done.append(usage.rate_months(other, [OCTOBER], known)),
    )
    assert sorted(done) == [[], [OCTOBER]]


def test_charges_in_advance_do_not_replace_those_of_a_month_settled_meanwhile(
    ws: Workspace,
) -> None:
    """A month that is settled again writes what it carries of the next, which another settles."""
    known = knowledge(ws.for_run("both"), OCTOBER)
    fingerprints.forget(ws, charges.STAGE, OCTOBER)
    _beside(
        ws,
        ("before", DESIRED_CHARGE),
        lambda one: charges.settle_again(one, OCTOBER, known),
        lambda other: charges.settle_again(other, NOVEMBER, known),
    )
    meanwhile = _desired(ws)
    fingerprints.forget(ws, charges.STAGE, NOVEMBER)
    assert charges.settle_again(ws, NOVEMBER, known)
    assert meanwhile == _desired(ws)


def _desired(ws: Workspace) -> list[dict[str, object]]:
    with ws.compute() as compute:
        ws.lake.scan(compute, DESIRED_CHARGE, usage_period=str(NOVEMBER))
        rows: list[dict[str, object]] = compute.fetch(
            f"select * from desired_charge order by {', '.join(charges.EARLIER_ORDER)}"
        ).to_pylist()
    return rows
