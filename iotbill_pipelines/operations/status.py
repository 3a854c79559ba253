"""Where a workspace stands: files, usage, and how the closes went."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage.models import FeedFile, GateResult, Period, Run


@dataclass(frozen=True)
class FileState:
    """Files of a feed in a state."""

    feed_id: str | None
    state: str
    files: int
    records_in: int
    newest: datetime


@dataclass(frozen=True)
class GateState:
    """The newest outcome of a gate of a month."""

    gate: str
    outcome: str
    severity: str
    figure: str | None
    message: str
    what_to_do: str | None
    recorded_at: datetime
    waived_by: str | None
    waive_reason: str | None


@dataclass(frozen=True)
class MonthState:
    """A month: period states by entity, what is booked in it, journals, gates, its last run."""

    period: str
    states: dict[str, str]
    booked: list[tuple[str, str, Decimal]]
    invoices: int
    journals: list[tuple[str, str]]
    gates: list[GateState]
    run_status: str | None
    run_at: datetime | None


@dataclass(frozen=True)
class Status:
    """Files by feed and state, and the months that something is known of, newest first."""

    files: list[FileState]
    months: list[MonthState]


def status(ws: Workspace, period: Month | None = None) -> Status:
    """Return the state of files and of months; of one month if given."""
    with ws.engine.connect() as connection:
        months = [str(period)] if period else _months(connection)
        return Status(_files(connection), [_month(connection, month) for month in months])


def _months(connection: sa.Connection) -> list[str]:
    known = sa.union(sa.select(Period.period), sa.select(GateResult.period))
    return sorted(connection.execute(known).scalars(), reverse=True)


def _files(connection: sa.Connection) -> list[FileState]:
    select = (
        sa.select(
            FeedFile.feed_id,
            FeedFile.state,
            sa.func.count(),
            sa.func.coalesce(sa.func.sum(FeedFile.records_in), 0),
            sa.func.max(FeedFile.landed_at),
        )
        .group_by(FeedFile.feed_id, FeedFile.state)
        .order_by(FeedFile.feed_id, FeedFile.state)
    )
    return [
        FileState(feed, state, files, int(records or 0), newest)
        for feed, state, files, records, newest in connection.execute(select)
    ]


_BOOKED = """
select level, currency, sum(amount) as amount from booked_charge
where accounting_period = :period group by level, currency order by level, currency
"""

_GATES = """
select distinct on (gate) gate, outcome, severity, figure, message, what_to_do, recorded_at,
  waived_by, waive_reason
from gate_result where period = :period order by gate, gate_result_id desc
"""


def _month(connection: sa.Connection, month: str) -> MonthState:
    values = {"period": month}

    def rows(statement: str) -> list[Any]:
        return list(connection.execute(sa.text(statement), values))

    states = connection.execute(
        sa.select(Period.entity_id, Period.state)
        .where(Period.period == month)
        .order_by(Period.entity_id)
    ).all()
    run = connection.execute(
        sa.select(Run.status, Run.started_at)
        .where(Run.period == month, Run.kind == "close")
        .order_by(Run.started_at.desc())
        .limit(1)
    ).first()
    return MonthState(
        period=month,
        states={row.entity_id: row.state for row in states},
        booked=[(level, currency, amount) for level, currency, amount in rows(_BOOKED)],
        invoices=rows("select count(*) from invoice where accounting_period = :period")[0][0],
        journals=[
            (name, state)
            for name, state in rows(
                "select external_id, state from journal where accounting_period = :period"
                " order by external_id"
            )
        ],
        gates=[GateState(**row._mapping) for row in rows(_GATES)],
        run_status=run[0] if run else None,
        run_at=run[1] if run else None,
    )
