"""Where a workspace stands: files, usage, and how the closes went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from iotbill_pipelines.config.close import ClosePolicy, read_close_policy
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.operations.close import CHECKLIST
from iotbill_pipelines.operations.gate_results import WORST_GATES
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
    """The newest outcome of a gate of a month; the worst of them where it is checked by entity."""

    gate: str
    outcome: str
    severity: str
    figure: str | None
    message: str
    what_to_do: str | None
    recorded_at: datetime
    waived_by: str | None
    waive_reason: str | None
    owner: str


@dataclass(frozen=True)
class ItemState:
    """A gate of the checklist (RULEBOOK §11): its item, who answers for it, and how it stands.

    ``outcome`` is open where nothing was checked or signed yet.
    """

    item: str
    gate: str
    owner: str
    outcome: str
    figure: str
    what_to_do: str


@dataclass(frozen=True)
class MonthState:
    """A month: period states by entity, what is booked in it, journals, gates, the checklist, its
    last run."""

    period: str
    states: dict[str, str]
    booked: list[tuple[str, str, Decimal]]
    invoices: int
    journals: list[tuple[str, str]]
    gates: list[GateState]
    checklist: list[ItemState]
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
        policy = read_close_policy(ws.configs)
        found = [_month(connection, month, policy) for month in months]
        return Status(_files(connection), found)


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

_GATES = f"""
select gate, outcome, severity, figure, message, what_to_do, recorded_at, waived_by, waive_reason
from ({WORST_GATES}) as g where period = :period order by gate
"""


# What comes after the close: figures of what was answered, read and signed.
_AFTER = """
select (select count(*) from journal where accounting_period = :period) as journals,
  (select count(*) from journal where accounting_period = :period and state = 'acknowledged')
    as acknowledged,
  (select count(distinct entity_id) from gl_entry where period = :period and kind = 'balance')
    as read_of,
  (select count(*) from period where period = :period) as entities,
  (select count(*) from period where period = :period and state = 'closed') as closed,
  (select count(*) from period_signature as s join period as p using (entity_id, period)
   where s.period = :period and s.action = 'close'
     -- the closing itself is counted after it was signed; who signed before a review saw another
     and s.closings = case when p.state = 'closed' then p.closings - 1 else p.closings end
     and not exists (select from period_event as e
       where e.entity_id = s.entity_id and e.period = s.period and e.to_state = 'in_review'
         and e.at > s.signed_at)) as signatures
"""


def _checklist(
    gates: Sequence[GateState], after: sa.Row[Any], month: str, policy: ClosePolicy
) -> list[ItemState]:
    """Every gate of the checklist in order, those that no stage checks by what is recorded now."""
    known = {gate.gate: gate for gate in gates}
    answered = after.journals > 0 and after.acknowledged == after.journals
    read = after.read_of > 0
    signed = after.entities > 0 and after.closed == after.entities
    later = {
        "acknowledgement": (
            "passed" if answered else "open",
            f"{after.acknowledged} of {after.journals} journals acknowledged",
            "import them and read the answer back: `iotbill journal ack FILE`",
        ),
        "gl_balances": (
            "passed" if read else "open",
            f"balances of {after.read_of} entities read",
            f"export the balances and run `iotbill gl read {month} FILE`",
        ),
        "sign_off": (
            "passed" if signed else "open",
            f"{after.closed} of {after.entities} entities closed, {after.signatures} signatures",
            f"`iotbill period sign-off {month}`",
        ),
    }
    found = []
    for item, codes in CHECKLIST.items():
        for code in codes:
            gate = known.get(code)
            outcome, figure, action = later.get(code, ("open", "", f"run `iotbill close {month}`"))
            if gate is not None:
                outcome, figure = gate.outcome, gate.figure or figure
                action = gate.what_to_do or ""
            done = outcome == "passed"
            owner = policy.owner_of(code)
            found.append(ItemState(item, code, owner, outcome, figure, "" if done else action))
    return found


def _month(connection: sa.Connection, month: str, policy: ClosePolicy) -> MonthState:
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
    gates = [GateState(**row._mapping, owner=policy.owner_of(row.gate)) for row in rows(_GATES)]
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
        gates=gates,
        checklist=_checklist(gates, rows(_AFTER)[0], month, policy),
        run_status=run[0] if run else None,
        run_at=run[1] if run else None,
    )
