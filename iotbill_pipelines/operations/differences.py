"""Booking desired minus booked: what a close and a correction share (RULEBOOK §§11, 14).

Of each settled usage period it is remembered which settlement was booked whole: a period that was
settled again and booked in part only, or not at all because its run died, is told from one that the
ledger holds (:func:`unbooked`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.orm import Session

from iotbill_pipelines.config.ledger import read_ledger
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.compute import Compute
from iotbill_pipelines.engine.schemas import DESIRED_CHARGE
from iotbill_pipelines.operations import charges, fingerprints
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage import ledger
from iotbill_pipelines.storage.models import BookedCharge
from iotbill_pipelines.storage.reference import Snapshot, load_snapshot

STAGE = "book_charges"
PREVIEW_ROWS = 10


def book_differences(
    ws: Workspace,
    session: Session,
    compute: Compute,
    accounting_period: Month,
    scope: Sequence[Month],
    snapshot: Snapshot,
    *,
    cause: str,
    action: str,
    subject: Month,
    units: Callable[[], pa.Table] | None = None,
) -> ledger.BookingResult:
    """Book what the lake's settled ``scope`` desires and the ledger does not hold, and audit it.

    ``units`` restricts what is booked, see :func:`storage.ledger.book`. Leaves ``desired_charge``
    of the whole scope in ``compute``, and with ``units`` ``booked_charge`` as it is after booking.
    """
    load_snapshot(compute, snapshot)
    files = [f for p in scope for f in ws.lake.files(DESIRED_CHARGE, usage_period=str(p))]
    compute.scan(DESIRED_CHARGE, files)
    result = _book(
        ws, session, compute, accounting_period, scope, snapshot,
        cause=cause, action=action, subject=subject, units=units,
    )  # fmt: skip
    compute.scan(DESIRED_CHARGE, files)
    left: set[str] = set()
    if units is not None:
        compute.load("booked_charge", ledger.booked_charges(session, [str(p) for p in scope]))
        left = _with_differences(compute)
    settled = fingerprints.recorded(ws, charges.STAGE)
    for period in scope:
        if settled.get(period) and str(period) not in left:
            detail = {"settled": settled[period]}
            fingerprints.remember(session.connection(), ws, STAGE, period, detail)
    return result


def _book(
    ws: Workspace,
    session: Session,
    compute: Compute,
    accounting_period: Month,
    scope: Sequence[Month],
    snapshot: Snapshot,
    *,
    cause: str,
    action: str,
    subject: Month,
    units: Callable[[], pa.Table] | None = None,
    accounts: Collection[str] | None = None,
) -> ledger.BookingResult:
    ledger.ensure_entities(session, read_ledger(ws.configs / "ledger").entities)
    result = ledger.book(
        session,
        compute,
        accounting_period,
        [str(p) for p in scope],
        run_id=ws.run_id,
        cause=cause,
        booked_at=ws.clock(),
        snapshot_id=snapshot.id,
        units=units,
        accounts=accounts,
    )
    if result.count:
        ledger.audit(
            session,
            at=ws.clock(),
            actor=ws.actor,
            action=action,
            subject=str(subject),
            detail={
                "rows": result.count,
                "accounting_period": str(accounting_period),
                "usage_periods": [str(p) for p in scope],
            },
            input_hashes={"snapshot": snapshot.id},
        )
    return result


MOST_ALONE = 10_000
"""So many accounts that were corrected by themselves are remembered by name."""


@dataclass(frozen=True)
class Standing:
    """How the ledger stands to the newest settlement of a usage period.

    ``alone`` has the accounts that were corrected by themselves since, with the id of the snapshot
    that was read: all others are booked as they were settled. None where it is not known who is.
    ``catalog`` is the digest of one whose differences are all booked.
    """

    alone: Mapping[str, str] | None
    catalog: str | None = None


def standing(ws: Workspace) -> dict[Month, Standing]:
    """Return how the ledger stands to each usage period that was settled and booked."""
    settled = fingerprints.recorded(ws, charges.STAGE)
    found = {}
    for period, detail in fingerprints.details(ws, STAGE).items():
        if detail.get("settled") != settled.get(period):
            found[period] = Standing(None)
        elif "alone" in detail:
            found[period] = Standing(detail["alone"], detail["catalog"])
        else:
            found[period] = Standing({})
    return found


def book_alone(
    ws: Workspace,
    session: Session,
    compute: Compute,
    accounting_period: Month,
    scope: Sequence[Month],
    snapshot: Snapshot,
    *,
    period: Month,
    accounts: Collection[str],
    cause: str,
    units: Callable[[], pa.Table] | None,
    held: Standing | None,
    catalog: str | None,
) -> ledger.BookingResult:
    """Book what ``accounts`` alone come to in ``scope`` by ``desired_charge`` of ``compute``.

    ``held`` is how the ledger stood before. With ``catalog`` all differences that it makes are
    booked then. The stored settlement of ``period`` stays the one that others are booked by.
    """
    result = _book(
        ws, session, compute, accounting_period, scope, snapshot,
        cause=cause, action="correct", subject=period, units=units, accounts=accounts,
    )  # fmt: skip
    if held is not None and held.alone is not None:
        alone = {**held.alone, **dict.fromkeys(sorted(accounts), snapshot.id)}
        if len(alone) <= MOST_ALONE:
            detail = {
                "settled": fingerprints.recorded(ws, charges.STAGE)[period],
                "alone": alone,
                "catalog": catalog,
            }
            fingerprints.remember(session.connection(), ws, STAGE, period, detail)
        else:
            fingerprints.remember(session.connection(), ws, STAGE, period, {"settled": ""})
    return result


def unbooked(ws: Workspace) -> set[Month]:
    """Return the usage periods whose newest settlement is not booked, or not all of it."""
    booked = fingerprints.recorded(ws, STAGE)
    return {
        period
        for period, settled in fingerprints.recorded(ws, charges.STAGE).items()
        if period in booked and booked[period] != fingerprints.fingerprint({"settled": settled})
    }


def _with_differences(compute: Compute) -> set[str]:
    found = compute.fetch(
        f"select distinct usage_period from ({_SIGNED}) as signed"
        f" group by {', '.join(_UNIT)} having sum(minor) <> 0 or sum(quantity) <> 0"
    )
    return set(found["usage_period"].to_pylist())


_UNIT = (
    "usage_period",
    "level",
    "entity_id",
    "account_id",
    "service_id",
    "charge_id",
    "product_id",
    "currency",
)

_SIGNED = " union all ".join(
    f"select {', '.join(_UNIT)}, {sign} * cast(amount_minor as decimal(38, 0)) as minor,"
    f" {sign} * cast(quantity as decimal(38, 0)) as quantity from {name}"
    for sign, name in ((1, "desired_charge"), (-1, "booked_charge"))
)


def preview_of_booked(ws: Workspace, chosen: sa.ColumnElement[bool]) -> pa.Table:
    """Return a few of the ``chosen`` booked charges, the greatest amounts first.

    ``amount`` is text in the currency's own unit, signed as it changes the ledger.
    """
    columns = (
        BookedCharge.id,
        BookedCharge.level,
        BookedCharge.account_id,
        BookedCharge.service_id,
        BookedCharge.charge_id,
        BookedCharge.usage_period,
        BookedCharge.currency,
        BookedCharge.amount,
        BookedCharge.reason,
    )
    select = (
        sa.select(*columns)
        .where(chosen)
        .order_by(sa.func.abs(BookedCharge.amount_minor).desc(), BookedCharge.id)
        .limit(PREVIEW_ROWS)
    )
    with ws.engine.connect() as connection:
        rows = [
            {**row, "amount": str(row["amount"])} for row in connection.execute(select).mappings()
        ]
    return pa.Table.from_pylist(rows)
