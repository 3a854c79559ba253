"""From an amount back to the lines of files behind it (RULEBOOK §11: every line traces).

journal line -> booked charges -> components -> rated records -> file, line and the raw text, of
every part where a record is an event of several.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.orm import Session

from iotbill_pipelines.compute.readers import SourceFile, read_files
from iotbill_pipelines.config.feeds import load_feeds
from iotbill_pipelines.engine.calendars import Month, months_between
from iotbill_pipelines.engine.compute import Compute
from iotbill_pipelines.engine.money import minor_digits
from iotbill_pipelines.engine.schemas import (
    CHARGE_COMPONENT,
    POOL_PART,
    RATED_USAGE,
    USAGE_AGGREGATE,
    USAGE_PART,
)
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage.landing import open_archived
from iotbill_pipelines.storage.models import (
    BookedCharge,
    DerivedEntry,
    FeedFile,
    Invoice,
    InvoiceLine,
    InvoiceTax,
    Journal,
    JournalCharge,
    JournalDerived,
    JournalLine,
    JournalTax,
)

_JOURNAL_LINE = re.compile(r"(?P<document>.+?)[:#](?P<line>\d+)")


class UnknownId(LookupError):
    """An id that names nothing in the ledger; the message says what ids look like."""


@dataclass(frozen=True)
class JournalLineView:
    """A journal line: where it stands and what it says."""

    external_id: str
    line_no: int
    account: str
    account_name: str
    debit: Decimal
    credit: Decimal
    currency: str
    memo: str


@dataclass(frozen=True)
class ChargeView:
    """A booked charge with its periods and amount."""

    id: int
    level: str
    account_id: str
    service_id: str
    charge_id: str
    kind: str
    usage_period: str
    billing_period: str
    accounting_period: str
    records: int
    quantity: int
    currency: str
    amount: Decimal
    reason: str
    price_ids: str
    snapshot_id: str | None
    run_id: str


@dataclass(frozen=True)
class ComponentView:
    """What a charge is made of; amounts in the currency's unit."""

    kind: str
    detail: str
    records: int
    quantity: int
    amount: Decimal


@dataclass(frozen=True)
class RecordView:
    """A rated record and the line of the file that it came from."""

    file_name: str
    file_key: int
    line_no: int
    event_start: str
    quantity: int
    rated_quantity: int
    price_id: str
    raw_text: str
    parts: tuple[PartView, ...] = ()


@dataclass(frozen=True)
class PartView:
    """A record that went into another's usage event: the part of a session (RULEBOOK §5).

    ``quantity`` is as delivered, an amount or a counter's reading; ``counted_quantity`` is what it
    adds to the event.
    """

    file_name: str
    file_key: int
    line_no: int
    part: str
    moment: str
    quantity: int
    counted_quantity: int
    raw_text: str


@dataclass(frozen=True)
class ChargeTrace:
    """A charge, its components, and the first of its records."""

    charge: ChargeView
    components: list[ComponentView]
    records: list[RecordView]
    records_total: int


@dataclass(frozen=True)
class Trace:
    """What an id leads to. A journal line may carry thousands of charges: the largest are told."""

    line: JournalLineView | None
    lines: list[JournalLineView]
    charges: list[ChargeTrace]
    charges_total: int


def trace(ws: Workspace, identifier: str, *, most_charges: int = 5, most_records: int = 5) -> Trace:
    """Follow an id: a booked charge's number, a journal or an invoice, or ``JOURNAL:LINE``.

    Raises UnknownId with the forms of ids if it names nothing.
    """
    with Session(ws.engine) as session:
        line, lines, ids = _resolve(session, identifier.strip())
        total = len(ids)
        select = (
            sa.select(BookedCharge)
            .where(BookedCharge.id.in_(ids))
            .order_by(sa.func.abs(BookedCharge.amount_minor).desc(), BookedCharge.id)
            .limit(most_charges)
        )
        booked = [_charge(row) for row in session.scalars(select)]
    traced = [_trace_charge(ws, charge, most_records) for charge in booked]
    return Trace(line, lines, traced, total)


def _resolve(
    session: Session, identifier: str
) -> tuple[JournalLineView | None, list[JournalLineView], Sequence[int]]:
    if identifier.isdigit():
        found = session.get(BookedCharge, int(identifier))
        if found is not None:
            return None, [], [found.id]
    match = _JOURNAL_LINE.fullmatch(identifier)
    document, number = (match["document"], int(match["line"])) if match else (identifier, None)
    journal = session.scalar(sa.select(Journal).where(Journal.external_id == document))
    if journal is not None:
        return _resolve_journal(session, journal, number)
    invoice = session.scalar(sa.select(Invoice).where(Invoice.invoice_no == document))
    if invoice is not None:
        charges = sa.select(InvoiceLine.booked_charge_id).where(
            InvoiceLine.invoice_id == invoice.invoice_id
        )
        if number is not None:
            charges = charges.where(InvoiceLine.line_no == number)
        ids = session.scalars(charges).all()
        if ids:
            return None, [], ids
    raise UnknownId(
        f"{identifier!r} is no charge, journal or invoice here; give a charge's number (192), a "
        "journal line (NL01-2026-10-REVENUE-001:3), or an invoice line (NL01-2026-10-000001:2)"
    )


def _resolve_journal(
    session: Session, journal: Journal, number: int | None
) -> tuple[JournalLineView | None, list[JournalLineView], Sequence[int]]:
    rows = session.scalars(
        sa.select(JournalLine)
        .where(JournalLine.journal_id == journal.journal_id)
        .order_by(JournalLine.line_no)
    ).all()
    lines = [
        JournalLineView(
            journal.external_id,
            row.line_no,
            row.account,
            row.account_name,
            row.debit,
            row.credit,
            row.currency,
            row.memo,
        )
        for row in rows
    ]
    if number is None:
        return None, lines, []
    chosen = next((line for line in lines if line.line_no == number), None)
    if chosen is None:
        raise UnknownId(f"journal {journal.external_id} has lines 1 to {len(lines)}, not {number}")
    ids = session.scalars(
        sa.union(
            sa.select(JournalCharge.booked_charge_id).where(
                JournalCharge.journal_id == journal.journal_id, _on_line(JournalCharge, number)
            ),
            sa.select(InvoiceLine.booked_charge_id)
            .join(
                InvoiceTax,
                sa.and_(
                    InvoiceTax.invoice_id == InvoiceLine.invoice_id,
                    InvoiceTax.line_no == InvoiceLine.line_no,
                ),
            )
            .join(JournalTax, JournalTax.tax_id == InvoiceTax.tax_id)
            .where(JournalTax.journal_id == journal.journal_id, _on_line(JournalTax, number)),
            sa.select(DerivedEntry.booked_charge_id)
            .join(JournalDerived, JournalDerived.entry_id == DerivedEntry.entry_id)
            .where(
                JournalDerived.journal_id == journal.journal_id,
                DerivedEntry.booked_charge_id.is_not(None),
                _on_line(JournalDerived, number),
            ),
        )
    ).all()
    return chosen, [chosen], ids


def _on_line(
    link: type[JournalCharge] | type[JournalDerived] | type[JournalTax], number: int
) -> sa.ColumnElement[bool]:
    return sa.or_(link.debit_line_no == number, link.credit_line_no == number)


def _charge(row: BookedCharge) -> ChargeView:
    return ChargeView(
        **{name: getattr(row, name) for name in ChargeView.__dataclass_fields__},
    )


def _trace_charge(ws: Workspace, charge: ChargeView, most_records: int) -> ChargeTrace:
    from iotbill_pipelines.operations.alone import settled_alone  # noqa: PLC0415 - a cycle

    period = Month.parse(charge.usage_period)
    unit = {
        name: getattr(charge, name) for name in ("level", "account_id", "service_id", "charge_id")
    }
    keys = pa.Table.from_pylist([unit])
    # corrected by itself: the stored settlement is the one before
    alone = settled_alone(ws, period, [charge.account_id]).get(charge.account_id)
    with ws.compute() as compute:
        compute.load("traced_unit", keys)
        for table in (CHARGE_COMPONENT, POOL_PART, USAGE_AGGREGATE):
            if alone is None:
                ws.lake.scan(compute, table, usage_period=str(period))
            else:
                compute.load(table.name, alone.tables[table.name])
        components = compute.fetch(
            "select c.* from charge_component c join traced_unit using"
            " (level, account_id, service_id, charge_id) order by component_id"
        ).to_pylist()
        compute.define("traced_window", _WINDOWS, keep=True)
        begun = compute.fetch("select min(window_start) as day from traced_window")
        first = begun["day"][0].as_py()
        months = list(map(str, months_between(Month.of(first or period.start) - 1, period + 1)))
        for table in (RATED_USAGE, USAGE_PART):
            files = [f for month in months for f in ws.lake.files(table, usage_month=month)]
            compute.scan(table, files)
        if alone is not None:
            compute.load(RATED_USAGE.name, alone.tables[RATED_USAGE.name])
        compute.define("traced_record", _RECORDS, keep=True)
        total = compute.fetch("select count(*) as records from traced_record")["records"][0].as_py()
        records = compute.fetch(
            "select file_key, line_no, cast(event_start as varchar) as event_start, quantity,"
            " rated_quantity, price_id from traced_record"
            f" order by event_start, file_key, line_no limit {most_records}"
        ).to_pylist()
        parts = parts_of(compute, records)
    digits = minor_digits(charge.currency)
    return ChargeTrace(
        charge,
        [
            ComponentView(
                row["kind"],
                row["detail"],
                row["records"],
                row["quantity"],
                Decimal(row["amount_minor"]).scaleb(-digits),
            )
            for row in components
        ],
        _with_text(ws, records, parts),
        total,
    )


_WINDOWS = """
select distinct a.level, a.account_id, a.service_id, a.charge_id, a.window_start, a.window_end,
  a.charge_id <> u.charge_id as only_pooled
from usage_aggregate a join traced_unit u on a.level = u.level and a.service_id = u.service_id
where (a.charge_id = u.charge_id and a.account_id = u.account_id
  or a.pooled and exists (select 1 from pool_part p where p.level = u.level
    and p.service_id = u.service_id and p.charge_id = u.charge_id))
"""
"""What the unit was used in: its charge, or for the overage of a pool, which has no records of its
own, the usage that its service drew from the pool."""

_RECORDS = """
select r.* from rated_usage r join traced_window w
  on r.level = w.level and r.account_id = w.account_id and r.charge_id = w.charge_id
  and w.service_id in (r.service_id, '')
  and r.local_date >= w.window_start and r.local_date < w.window_end
where r.pooled or not w.only_pooled
"""


def parts_of(compute: Compute, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the parts of the events among ``records`` from relation ``usage_part``, in order.

    Records need ``file_key`` and ``line_no``; an event that is one record whole has no parts.
    """
    if not records:
        return []
    listed = ", ".join(f"({row['file_key']}, {row['line_no']})" for row in records)
    rows: list[dict[str, Any]] = compute.fetch(
        "select event_file_key, event_line_no, file_key, line_no, part,"
        " cast(moment as varchar) as moment, quantity, counted_quantity from usage_part"
        f" where (event_file_key, event_line_no) in ({listed})"
        " order by moment, file_key, line_no"
    ).to_pylist()
    return rows


def _with_text(
    ws: Workspace, records: list[dict[str, Any]], parts: list[dict[str, Any]]
) -> list[RecordView]:
    keys = sorted({row["file_key"] for row in (*records, *parts)})
    with Session(ws.engine) as session:
        names = {key: session.get_one(FeedFile, key).original_name for key in keys}
    texts = raw_lines(ws, [(row["file_key"], row["line_no"]) for row in (*records, *parts)])

    def told(row: dict[str, Any]) -> dict[str, Any]:
        key = row["file_key"]
        return row | {"file_name": names[key], "raw_text": texts.get((key, row["line_no"]), "")}

    of_event: dict[tuple[int, int], list[PartView]] = {}
    for part in map(told, parts):
        event = (part.pop("event_file_key"), part.pop("event_line_no"))
        of_event.setdefault(event, []).append(PartView(**part))
    return [
        RecordView(**told(row), parts=tuple(of_event.get((row["file_key"], row["line_no"]), ())))
        for row in records
    ]


def raw_lines(ws: Workspace, addresses: Sequence[tuple[int, int]]) -> dict[tuple[int, int], str]:
    """Return lines of archived files as their feeds' readers show them, by file key and line."""
    with Session(ws.engine) as session:
        files = {key: session.get_one(FeedFile, key) for key in sorted({k for k, _ in addresses})}
        session.expunge_all()
    texts: dict[tuple[int, int], str] = {}
    for key, file in files.items():
        lines = [line for other, line in addresses if other == key]
        texts.update({(key, line): text for line, text in _raw_text(ws, file, lines).items()})
    return texts


def _raw_text(ws: Workspace, file: FeedFile, lines: list[int]) -> dict[int, str]:
    """Read lines of an archived file again, as the feed's reader numbers and shows them."""
    spec = load_feeds(ws.configs / "feeds").get(file.feed_id or "")
    if spec is None:
        return {}
    source = SourceFile(
        file.file_key,
        file.original_name,
        file.landed_at.replace(tzinfo=None),
        file.size_bytes,
        lambda: open_archived(ws.archive, file.archive_path),
    )
    with ws.compute() as compute:
        read_files(compute, spec, [source])
        listed = ", ".join(map(str, lines))
        rows = compute.fetch(
            f"select line_no, raw_text from raw_record where line_no in ({listed})"
        ).to_pylist()
    return {row["line_no"]: row["raw_text"] for row in rows}
