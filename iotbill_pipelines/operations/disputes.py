"""Claims against vendors as records: their steps, deadlines, ageing, and the credits that answer.

A claim is opened by a reconciliation and lives on: sent, accepted or rejected by the vendor,
credited, or withdrawn. Every step is kept with its actor and reason. Credits of the vendor's later
documents are matched back to claims by :func:`match_credits`; such lines answer a claim of an
earlier period and are no part of the later period's comparison.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.orm import Session

from iotbill_pipelines.config.vendors import DisputeColumn, Vendor, read_vendors
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.compute import Compute
from iotbill_pipelines.engine.money import minor_digits, of_minor, round_half_up
from iotbill_pipelines.engine.schemas import VENDOR_INVOICE_LINE
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage import ledger
from iotbill_pipelines.storage.documents import Cell, ColumnFormat, Sheet, write_csv, write_workbook
from iotbill_pipelines.storage.models import Dispute, DisputeCredit, DisputeEvent
from iotbill_pipelines.storage.reconciliation_workbook import CAUSE_LABELS

UNDECIDED = ("open", "sent", "accepted")
"""States of a claim for which money may still come."""

_STEPS: Mapping[str, tuple[str, ...]] = {
    "open": ("sent", "accepted", "rejected", "credited", "withdrawn"),
    "sent": ("accepted", "rejected", "credited", "withdrawn"),
    "accepted": ("credited", "rejected", "withdrawn"),
    "rejected": ("sent", "accepted", "withdrawn"),
    "credited": ("accepted",),
    "withdrawn": (),
}
_BUCKETS = ((30, "0-30"), (60, "31-60"), (90, "61-90"), (180, "91-180"))
_OLDEST = "over 180"


class DisputeError(ValueError):
    """A step that a claim cannot take; the message says which it can."""


@dataclass(frozen=True)
class Claim:
    """A claim as it stands; ``age_days`` since it was opened, ``days_left`` until its deadline."""

    dispute_id: str
    vendor_id: str
    accounting_period: str
    usage_period: str
    invoice_no: str | None
    invoice_line_no: int | None
    sim: str | None
    charge_code: str
    cause: str
    currency: str
    billed: Decimal
    expected: Decimal
    difference: Decimal
    credited: Decimal
    status: str
    deadline: date | None
    days_left: int | None
    age_days: int
    credit_reference: str | None
    evidence: str

    @property
    def outstanding(self) -> Decimal:
        """What is still hoped for: nothing once the claim is rejected or withdrawn."""
        if self.status not in UNDECIDED:
            return Decimal(0)
        return max(self.difference - self.credited, Decimal(0))

    @property
    def age_bucket(self) -> str:
        """Age in the bands in which claims are reported."""
        return next((name for days, name in _BUCKETS if self.age_days <= days), _OLDEST)


@dataclass(frozen=True)
class Step:
    """A step in a claim's life."""

    at: datetime
    actor: str
    status: str
    credit_reference: str | None
    note: str


@dataclass(frozen=True)
class Credit:
    """A line of a vendor's document that answers a claim."""

    invoice_no: str
    line_no: int
    file_key: int
    accounting_period: str
    amount: Decimal
    matched_by: str


@dataclass(frozen=True)
class ClaimHistory:
    """A claim with everything that happened to it."""

    claim: Claim
    steps: tuple[Step, ...]
    credits: tuple[Credit, ...]


@dataclass(frozen=True)
class Ageing:
    """Claims of a vendor, currency, status and age band."""

    vendor_id: str
    currency: str
    status: str
    age_bucket: str
    claims: int
    difference: Decimal
    credited: Decimal
    outstanding: Decimal


def list_claims(
    ws: Workspace,
    *,
    vendor: str | None = None,
    period: Month | None = None,
    statuses: Sequence[str] = (),
    overdue: bool = False,
) -> list[Claim]:
    """Return claims, those with the nearest deadline first. ``overdue``: open past theirs.

    Raises DisputeError for a status that there is not.
    """
    for status in statuses:
        if status not in _STEPS:
            raise DisputeError(f"{status!r} is no state of a claim; use {', '.join(_STEPS)}")
    wanted = sa.select(Dispute).order_by(Dispute.deadline.asc().nulls_last(), Dispute.dispute_id)
    if vendor is not None:
        wanted = wanted.where(Dispute.vendor_id == vendor)
    if period is not None:
        wanted = wanted.where(Dispute.accounting_period == str(period))
    if statuses:
        wanted = wanted.where(Dispute.status.in_(list(statuses)))
    if overdue:
        wanted = wanted.where(Dispute.status == "open", Dispute.deadline < ws.today)
    with Session(ws.engine) as session:
        credited = _credited(session)
        return [_claim(row, credited, ws.today) for row in session.scalars(wanted)]


def show_claim(ws: Workspace, dispute_id: str) -> ClaimHistory:
    """Return a claim, its steps and its credits. Raises DisputeError for an unknown one."""
    with Session(ws.engine) as session:
        row = _known(session, dispute_id)
        events = session.scalars(
            sa.select(DisputeEvent)
            .where(DisputeEvent.dispute_id == dispute_id)
            .order_by(DisputeEvent.event_id)
        )
        found = session.scalars(
            sa.select(DisputeCredit)
            .where(DisputeCredit.dispute_id == dispute_id)
            .order_by(DisputeCredit.accounting_period, DisputeCredit.line_no)
        )
        return ClaimHistory(
            _claim(row, _credited(session), ws.today),
            (
                Step(row.opened_at, "iotbill", "open", None, "found by the reconciliation"),
                *(Step(e.at, e.actor, e.status, e.credit_reference, e.note) for e in events),
            ),
            tuple(
                Credit(
                    c.invoice_no,
                    c.line_no,
                    c.file_key,
                    c.accounting_period,
                    of_minor(c.amount_minor, c.currency),
                    c.matched_by,
                )
                for c in found
            ),
        )


def ageing(claims: Sequence[Claim]) -> list[Ageing]:
    """Add claims up by vendor, currency, status and age band."""
    order = [name for _, name in _BUCKETS] + [_OLDEST]
    sums: dict[tuple[str, str, str, int], list[Claim]] = defaultdict(list)
    for claim in claims:
        place = order.index(claim.age_bucket)
        sums[(claim.vendor_id, claim.currency, claim.status, place)].append(claim)
    return [
        Ageing(
            *(vendor, currency, status, order[place], len(found)),
            sum((c.difference for c in found), Decimal(0)),
            sum((c.credited for c in found), Decimal(0)),
            sum((c.outstanding for c in found), Decimal(0)),
        )
        for (vendor, currency, status, place), found in sorted(sums.items())
    ]


def step(
    ws: Workspace,
    dispute_ids: Sequence[str],
    status: str,
    *,
    credit_reference: str | None = None,
    note: str = "",
) -> list[str]:
    """Move claims to ``status``; return those that were not there already.

    All or none. Raises DisputeError for unknown claims, a step that there is not, a credit without
    the vendor's reference, or a rejection without a reason.
    """
    if status == "credited" and not credit_reference:
        raise DisputeError("a credit needs the number of the vendor's credit note: --reference")
    if status in ("rejected", "withdrawn") and not note.strip():
        raise DisputeError(f"say why the claim is {status}: --note")
    moved = []
    with Session(ws.engine) as session, session.begin():
        for dispute_id in dict.fromkeys(dispute_ids):
            row = _known(session, dispute_id)
            if row.status == status:
                continue
            if status not in _STEPS[row.status]:
                allowed = ", ".join(_STEPS[row.status]) or "nothing"
                raise DisputeError(
                    f"{dispute_id} is {row.status}; from there it can become {allowed}"
                )
            record(session, row, ws.clock(), ws.actor, status, credit_reference, note)
            moved.append(dispute_id)
        if moved:
            ledger.audit(
                session,
                at=ws.clock(),
                actor=ws.actor,
                action=f"dispute {status}",
                subject=", ".join(moved)[:500],
                detail={"note": note, "credit_reference": credit_reference, "claims": len(moved)},
            )
    return moved


def record(
    session: Session,
    row: Dispute,
    at: datetime,
    actor: str,
    status: str,
    credit_reference: str | None = None,
    note: str = "",
) -> None:
    """Write a step down: the claim's state and its history."""
    row.status, row.updated_at = status, at
    if credit_reference is not None:
        row.credit_reference = credit_reference
    session.add(
        DisputeEvent(
            dispute_id=row.dispute_id,
            at=at,
            actor=actor,
            status=status,
            credit_reference=credit_reference,
            note=note,
        )
    )


def export_claims(
    ws: Workspace, vendor_id: str, path: Path, *, period: Month | None = None
) -> list[str]:
    """Write a vendor's open claims in the vendor's layout, CSV or XLSX by the file's name.

    A workbook has a sheet for each currency that is claimed, with its totals. Returns the claims
    written. Raises DisputeError for a vendor that configs/vendors lacks.
    """
    vendor = read_vendors(ws.configs / "vendors").get(vendor_id)
    if vendor is None:
        raise DisputeError(f"configs/vendors has no vendor {vendor_id!r}; its layout is needed")
    claims = list_claims(ws, vendor=vendor_id, period=period, statuses=("open", "sent"))
    columns = vendor.dispute.columns

    def rows(of: Sequence[Claim]) -> list[list[Cell]]:
        return [[_cell(claim, column.field, vendor) for column in columns] for claim in of]

    if path.suffix.casefold() == ".csv":
        write_csv(path, [column.title for column in columns], rows(claims))
    else:
        currencies = sorted({claim.currency for claim in claims}) or [vendor.currency]
        sheets = [
            Sheet(
                "Claims" if len(currencies) == 1 else f"Claims in {currency}",
                [_format(column, currency) for column in columns],
                rows([claim for claim in claims if claim.currency == currency]),
                totals=True,
            )
            for currency in currencies
        ]
        write_workbook(path, sheets, ws.clock())
    return [claim.dispute_id for claim in claims]


_MONEY = ("billed", "expected", "difference")


def _format(column: DisputeColumn, currency: str) -> ColumnFormat:
    return ColumnFormat(
        column.title,
        "money" if column.field in _MONEY else "date" if column.field == "deadline"
        else "integer" if column.field == "line" else "text",
        currency=currency if column.field in _MONEY else None,
        total=column.field == "difference",
    )  # fmt: skip


def _cell(claim: Claim, field: str, vendor: Vendor) -> Cell:
    values: dict[str, Cell] = {
        "reference": claim.dispute_id,
        "vendor": vendor.name,
        "invoice": claim.invoice_no,
        "line": claim.invoice_line_no,
        "period": claim.usage_period,
        "cause": CAUSE_LABELS[claim.cause],
        "sim": claim.sim or "(account)",
    }
    if field in values:
        return values[field]
    value: Cell = getattr(claim, field)
    return value


def _known(session: Session, dispute_id: str) -> Dispute:
    row = session.get(Dispute, dispute_id)
    if row is None:
        raise DisputeError(f"there is no claim {dispute_id!r}; `iotbill dispute list` names them")
    return row


def _credited(session: Session) -> dict[str, int]:
    select = sa.select(DisputeCredit.dispute_id, sa.func.sum(DisputeCredit.amount_minor))
    return {
        dispute_id: int(minor)
        for dispute_id, minor in session.execute(select.group_by(DisputeCredit.dispute_id))
    }


def _claim(row: Dispute, credited: Mapping[str, int], today: date) -> Claim:
    known = credited.get(row.dispute_id)
    if known is None:  # credited by hand: in full
        known = row.difference_minor if row.status == "credited" else 0
    return Claim(
        dispute_id=row.dispute_id,
        vendor_id=row.vendor_id,
        accounting_period=row.accounting_period,
        usage_period=row.usage_period,
        invoice_no=row.invoice_no,
        invoice_line_no=row.invoice_line_no,
        sim=row.uid_value,
        charge_code=row.charge_code,
        cause=row.cause,
        currency=row.currency,
        billed=of_minor(row.billed_minor, row.currency),
        expected=of_minor(row.expected_minor, row.currency),
        difference=of_minor(row.difference_minor, row.currency),
        credited=of_minor(known, row.currency),
        status=row.status,
        deadline=row.deadline,
        days_left=(row.deadline - today).days if row.deadline else None,
        age_days=(today - row.opened_at.date()).days,
        credit_reference=row.credit_reference,
        evidence=row.evidence,
    )


# ----------------------------------------------------------------------------------- credits

_AUTOMATIC = "iotbill"


def match_credits(
    session: Session, compute: Compute, period: Month, now: datetime, frozen: set[str]
) -> dict[tuple[int, int], Decimal]:
    """Match credits in ``vendor_invoice_line`` of ``period`` to claims of earlier periods.

    A line with a negative amount answers the claim it names (``our_reference``), else the oldest
    claims about the same SIM, charge code, currency and, where it names one, invoice; never more
    than they ask. Replaces what was matched for the period before; claims that are covered become
    credited, those that are no longer become accepted again. ``frozen`` entities stay as they are.

    Redefines ``vendor_invoice_line`` without what answers claims; returns, by file and line, the
    amount of each line that did.
    """
    lines = compute.fetch(
        "select file_key, line_no, vendor_id, invoice_no, uid_value, charge_code, currency, amount,"
        " refers_to, our_reference from vendor_invoice_line"
        f" where billing_period = '{period}' and amount < 0 order by file_key, line_no"
    ).to_pylist()
    before = set(
        session.scalars(
            sa.select(DisputeCredit.dispute_id)
            .join(Dispute, Dispute.dispute_id == DisputeCredit.dispute_id)
            .where(DisputeCredit.accounting_period == str(period), Dispute.entity_id.not_in(frozen))
        )
    )
    session.execute(
        sa.delete(DisputeCredit).where(
            DisputeCredit.accounting_period == str(period), DisputeCredit.dispute_id.in_(before)
        )
    )
    waiting = _waiting(session, period, frozen) if lines else []
    settled: dict[tuple[int, int], Decimal] = {}
    touched: set[str] = set(before)
    for line in lines:
        matched = _matches(line, waiting)
        asked = left = -_minor(line["amount"], line["currency"])
        for open_claim, matched_by in matched:
            taken = min(left, open_claim.left)
            if taken <= 0:
                continue
            open_claim.left -= taken
            left -= taken
            touched.add(open_claim.row.dispute_id)
            session.add(
                DisputeCredit(
                    file_key=line["file_key"],
                    line_no=line["line_no"],
                    dispute_id=open_claim.row.dispute_id,
                    accounting_period=str(period),
                    invoice_no=line["invoice_no"],
                    currency=line["currency"],
                    amount_minor=taken,
                    matched_by=matched_by,
                )
            )
        if left < asked:
            taken_all = -line["amount"] if not left else of_minor(asked - left, line["currency"])
            settled[(line["file_key"], line["line_no"])] = taken_all
    session.flush()
    _restate(session, touched, now)
    leave_out(compute, settled)
    return settled


@dataclass
class _Waiting:
    row: Dispute
    left: int


def _waiting(session: Session, period: Month, frozen: set[str]) -> list[_Waiting]:
    """Claims of earlier periods, oldest first, with what other documents have not credited."""
    rows = session.scalars(
        sa.select(Dispute)
        .where(
            Dispute.accounting_period < str(period),
            Dispute.status.in_((*UNDECIDED, "credited", "rejected")),
            Dispute.entity_id.not_in(frozen),
        )
        .order_by(Dispute.accounting_period, Dispute.dispute_id)
    )
    credited = _credited(session)
    by_hand = set(
        session.scalars(
            sa.select(DisputeEvent.dispute_id).where(
                DisputeEvent.status == "credited", DisputeEvent.actor != _AUTOMATIC
            )
        )
    )
    return [
        _Waiting(row, row.difference_minor - credited.get(row.dispute_id, 0))
        for row in rows
        if row.dispute_id not in by_hand
    ]


def _matches(line: Mapping[str, Any], waiting: Sequence[_Waiting]) -> list[tuple[_Waiting, str]]:
    named = [
        (claim, "reference")
        for claim in waiting
        if claim.row.dispute_id == (line["our_reference"] or "").strip()
        and claim.row.currency == line["currency"]
    ]
    if named:
        return named
    return [
        (claim, "line")
        for claim in waiting
        if claim.row.vendor_id == line["vendor_id"]
        and claim.row.currency == line["currency"]
        and claim.row.charge_code == line["charge_code"]
        and _same_sim(claim.row.uid_value, line["uid_value"])
        and (line["refers_to"] is None or line["refers_to"] == claim.row.invoice_no)
    ]


def _same_sim(ours: str | None, theirs: str | None) -> bool:
    # a 20th digit of an ICCID is its check digit, which carriers print or leave out
    return (ours or "")[:19] == (theirs or "")[:19]


def _minor(amount: Decimal, currency: str) -> int:
    digits = minor_digits(currency)
    return int(round_half_up(amount, digits).scaleb(digits))


def _restate(session: Session, dispute_ids: set[str], now: datetime) -> None:
    """Let the state of claims follow their credits."""
    credited = _credited(session)
    for dispute_id in sorted(dispute_ids):
        row = session.get_one(Dispute, dispute_id)
        covered = credited.get(dispute_id, 0) >= row.difference_minor
        if covered and row.status != "credited":
            numbers = session.scalars(
                sa.select(DisputeCredit.invoice_no)
                .where(DisputeCredit.dispute_id == dispute_id)
                .distinct()
                .order_by(DisputeCredit.invoice_no)
            )
            reference = ", ".join(numbers)
            record(session, row, now, _AUTOMATIC, "credited", reference, "credit received")
        elif not covered and row.status == "credited":
            record(session, row, now, _AUTOMATIC, "accepted", None, "credit no longer there")


def leave_out(compute: Compute, settled: Mapping[tuple[int, int], Decimal]) -> None:
    """Redefine ``vendor_invoice_line`` without the amounts that answer claims."""
    if not settled:
        return
    compute.load(
        "settled_credit",
        pa.table(
            {
                "file_key": pa.array([key for key, _ in settled], pa.int64()),
                "line_no": pa.array([number for _, number in settled], pa.int64()),
                "taken": pa.array(list(settled.values()), pa.decimal128(30, 12)),
            }
        ),
    )
    columns = ", ".join(
        "l.amount + coalesce(s.taken, 0) as amount" if name == "amount" else f"l.{name}"
        for name in VENDOR_INVOICE_LINE.column_names
    )
    compute.define(
        "compared_invoice_line",
        f"select {columns} from vendor_invoice_line as l left join settled_credit as s"
        " on s.file_key = l.file_key and s.line_no = l.line_no"
        " where s.file_key is null or l.amount + s.taken <> 0",
        keep=True,
    )
    compute.define(VENDOR_INVOICE_LINE.name, "select * from compared_invoice_line")
