"""Booking: desired minus booked, into the accounting period that is being closed (RULEBOOK §11)."""

from __future__ import annotations

from sqlalchemy.orm import Session

from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.money import of_minor
from iotbill_pipelines.operations import charges, fingerprints
from iotbill_pipelines.operations.checklist import review_drafts
from iotbill_pipelines.operations.contracts import contracts_of
from iotbill_pipelines.operations.corrections import beyond_look_back
from iotbill_pipelines.operations.differences import book_differences, preview_of_booked
from iotbill_pipelines.operations.knowledge import knowledge
from iotbill_pipelines.operations.periods import require_close_team
from iotbill_pipelines.operations.renewals import book_extensions
from iotbill_pipelines.operations.stages import Finding, StageResult
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage import ledger
from iotbill_pipelines.storage.models import BookedCharge


def book_charges(ws: Workspace, period: Month) -> StageResult:
    """Book what the settled periods desire and the ledger does not hold, as rows of ``period``.

    A second run books nothing. An entity that closed ``period`` already books what came late in its
    next open period (finding ``booked_later``, info). Finding ``booked`` (block): the ledger's sums
    differ from what is desired. Finding ``draft_review`` (by configs/close.yaml): accounts that
    stand out against the month before, while no invoice is issued yet.

    Raises LedgerError for an entity that is not configured, PeriodError if the period is
    soft-closed and the actor is not of the close team.
    """
    require_close_team(ws, period)
    snapshot = knowledge(ws, period)
    scope = booking_scope(ws, period)
    with ws.compute() as compute, Session(ws.engine) as session, session.begin():
        result = book_differences(
            ws,
            session,
            compute,
            period,
            scope,
            snapshot,
            cause=f"close of {period}",
            action="book",
            subject=period,
        )
        book_extensions(ws, session, contracts_of(snapshot), period)
        compared, outliers = review_drafts(ws, session, period)
        compute.load("booked_sum", ledger.booked_sums(session, scope))
        wrong = compute.fetch(_NOT_AS_DESIRED).to_pylist()
    return StageResult(
        rows={
            "rows booked": result.count,
            "usage periods": len(scope),
            **{f"rows {reason}": count for (reason,), count in result.counts("reason").items()},
            **compared,
        },
        amounts=[
            (f"{level} {reason}", currency, of_minor(minor, currency))
            for (level, reason, currency), minor in result.amounts().items()
        ],
        preview=preview_of_booked(ws, BookedCharge.accounting_period == str(period)),
        findings=_later(result, period)
        + _beyond(ws, period)
        + outliers
        + [
            Finding(
                "booked",
                "block",
                f"{row['usage_period']}, {row['level']}: {row['desired_minor']} minor units of "
                f"{row['currency']} are desired, {row['booked_minor']} are booked",
                f"{row['currency']} "
                f"{of_minor(row['desired_minor'] - row['booked_minor'], row['currency'])}",
                "close again; if it stays, report it: a booking is always the whole difference",
            )
            for row in wrong
        ],
        changed=bool(result.count),
    )


def _later(result: ledger.BookingResult, period: Month) -> list[Finding]:
    return [
        Finding(
            "booked_later",
            "info",
            f"{entity_id} closed {period} already: {count} differences of it and "
            f"of earlier usage are booked in {booked_in}",
            f"{count} rows",
            f"close {booked_in} to invoice and post them",
        )
        for (entity_id, booked_in), count in result.counts("entity_id", "accounting_period").items()
        if booked_in != str(period)
    ]


def _beyond(ws: Workspace, period: Month) -> list[Finding]:
    return [
        Finding(
            "beyond_look_back",
            "warn",
            f"{', '.join(one.causes)} changed of {one.usage_period}, which is too long ago for a "
            f"close of {period} to correct (corrections.look_back_months of configs/close.yaml)",
            one.usage_period,
            f"see `iotbill rerate --since {one.usage_period}`; raise the limit to book it",
        )
        for one in beyond_look_back(ws, period)
    ]


def booking_scope(ws: Workspace, period: Month) -> list[Month]:
    """The usage periods whose desired charges a close of ``period`` compares with the ledger.

    The settled ones, and the next one for what the period's invoice carries in advance, unless
    that was settled itself: then only its own close knows all of it.
    """
    settled = charges.settled_periods(ws, period)
    coming = period + 1
    return settled if coming in fingerprints.recorded(ws, charges.STAGE) else [*settled, coming]


_NOT_AS_DESIRED = """
select coalesce(d.usage_period, b.usage_period) as usage_period,
  coalesce(d.level, b.level) as level, coalesce(d.currency, b.currency) as currency,
  coalesce(d.minor, 0) as desired_minor, coalesce(b.minor, 0) as booked_minor
from (select usage_period, level, entity_id, account_id, currency,
        cast(sum(amount_minor) as bigint) as minor
      from desired_charge group by all) as d
full join booked_sum as b
  on b.usage_period = d.usage_period and b.level = d.level and b.entity_id = d.entity_id
  and b.account_id = d.account_id and b.currency = d.currency
where coalesce(d.minor, 0) <> coalesce(b.minor, 0)
order by 1, 2, 3
"""
