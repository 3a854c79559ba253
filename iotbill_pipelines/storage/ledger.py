"""The ledger: booking, invoicing, journals and their exports, each one PostgreSQL transaction.

Every function works inside the caller's transaction and takes the ledger's lock first, so that two
closes at once wait for each other instead of booking the same difference twice. Nothing is kept
between calls: what is to do is derived from what is stored, so that a run that was killed is
repaired by running again, and a second run does nothing. Row ids are assigned in order of key under
the lock; the same history gives the same ids.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.orm import Session

from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.compute import Compute
from iotbill_pipelines.engine.money import of_minor
from iotbill_pipelines.engine.post.booking import booking
from iotbill_pipelines.engine.post.export import (
    ExportFile,
    ExportProblem,
    PostedJournal,
    export_files,
    export_problems,
    export_rows,
    form_rows,
)
from iotbill_pipelines.engine.post.journals import (
    Cell,
    JournalDraft,
    Line,
    build_journals,
    external_id,
    reversed_lines,
)
from iotbill_pipelines.engine.post.terms import (
    Entity,
    ExportTarget,
    JournalType,
    LedgerTerms,
    Source,
)
from iotbill_pipelines.engine.schemas import BOOKED_CHARGE, BOOKING
from iotbill_pipelines.storage import documents, models
from iotbill_pipelines.storage.bulk import copy_in, copy_in_parts, copy_out, literal

Severity = Literal["block", "warn", "info"]


class LedgerError(RuntimeError):
    """A booking that cannot be made; the message says what to do."""


@dataclass(frozen=True)
class LedgerFinding:
    """Something a person must know; the fields of an operation's finding."""

    code: str
    severity: Severity
    message: str
    figure: str = ""
    what_to_do: str = ""


def lock_ledger(session: Session) -> None:
    """Wait until no other transaction books, invoices or posts; held until this one ends."""
    session.execute(sa.text("select pg_advisory_xact_lock(hashtext('ledger'))"))
    # A month's million rows are sorted and grouped in memory, not on disk; for this transaction.
    session.execute(sa.text("set local work_mem = '256MB'"))


# -------------------------------------------------------------------------------- periods


def ensure_entities(session: Session, entities: Iterable[Entity]) -> None:
    """Register the configured legal entities; names may change, the currency may not."""
    for entity in entities:
        held = session.get(models.LegalEntity, entity.id)
        if held is None:
            session.execute(
                insert(models.LegalEntity)
                .values(entity_id=entity.id, name=entity.name, currency=entity.currency)
                .on_conflict_do_nothing()
            )
        elif held.currency != entity.currency:
            raise LedgerError(
                f"entity {entity.id} keeps its books in {held.currency}; the configuration says "
                f"{entity.currency}; give a new entity another id"
            )
        else:
            held.name = entity.name
    session.flush()


def ensure_periods(
    session: Session, period: Month, entity_ids: Iterable[str], changed_at: datetime
) -> None:
    """Open the period for entities that have none yet. Raises LedgerError for unknown entities."""
    wanted = sorted(set(entity_ids))
    known = set(
        session.scalars(
            sa.select(models.LegalEntity.entity_id).where(models.LegalEntity.entity_id.in_(wanted))
        )
    )
    missing = [entity_id for entity_id in wanted if entity_id not in known]
    if missing:
        raise LedgerError(
            f"accounts refer to the entity {', '.join(missing)}, which is not configured; "
            "add it to configs/ledger/ledger.yaml or correct the accounts"
        )
    for entity_id in wanted:
        session.execute(
            insert(models.Period)
            .values(entity_id=entity_id, period=str(period), state="open", changed_at=changed_at)
            .on_conflict_do_nothing()
        )


def period_states(session: Session, period: Month) -> dict[str, str]:
    """Return the state of the period for each entity that has it."""
    rows = session.execute(
        sa.select(models.Period.entity_id, models.Period.state)
        .where(models.Period.period == str(period))
        .order_by(models.Period.entity_id)
    )
    return {row.entity_id: row.state for row in rows}


FROZEN = ("in_review", "closed")
"""States of a period that takes no charges and no invoices (RULEBOOK §11)."""


def next_open_periods(session: Session, period: Month) -> dict[str, Month]:
    """Return the first period from ``period`` on that takes bookings, by entity.

    A period that an entity does not have yet is open. Raises nothing: there always is one.
    """
    rows = session.execute(
        sa.select(models.Period.entity_id, models.Period.period).where(
            models.Period.period >= str(period), models.Period.state.in_(FROZEN)
        )
    )
    frozen: dict[str, set[str]] = {}
    for row in rows:
        frozen.setdefault(row.entity_id, set()).add(row.period)
    found = {}
    for entity_id in session.scalars(sa.select(models.LegalEntity.entity_id)):
        month = period
        while str(month) in frozen.get(entity_id, ()):
            month += 1
        found[entity_id] = month
    return found


def set_period_state(
    session: Session,
    entity_id: str,
    period: Month,
    state: str,
    *,
    actor: str,
    at: datetime,
    reason: str | None = None,
    role: str | None = None,
) -> None:
    """Move a period to another state and record who did; the database refuses undeclared moves.

    Raises LedgerError if the period is unknown; sqlalchemy's DBAPIError for a move not allowed.
    """
    lock_ledger(session)
    held = session.get(models.Period, (entity_id, str(period)), with_for_update=True)
    if held is None:
        raise LedgerError(f"{entity_id} has no period {period}; nothing was booked in it yet")
    before = held.state
    if before == state:
        return
    held.state, held.changed_at = state, at
    session.flush()
    session.add(
        models.PeriodEvent(
            entity_id=entity_id,
            period=str(period),
            from_state=before,
            to_state=state,
            at=at,
            actor=actor,
            role=role,
            reason=reason,
        )
    )
    audit(
        session,
        at=at,
        actor=actor,
        action="period",
        subject=f"{entity_id} {period}",
        detail={"from": before, "to": state, "reason": reason},
        input_hashes=period_seals(session, entity_id, period) if state == "closed" else {},
    )


def period_seals(session: Session, entity_id: str, period: Month) -> dict[str, str]:
    """Return hashes of everything in an entity's period: ``seal`` of what is booked, invoiced and
    posted, ``derived_seal`` of taxes, deferrals, commissions and true-ups.

    Kept in the audit log when the period closes, so that a change that got past the database's
    guards is found (:func:`check_seals`).
    """
    select = sa.text(
        "select period_seal(:entity_id, :period) as seal,"
        " period_derived_seal(:entity_id, :period) as derived_seal"
    )
    found = session.execute(select, {"entity_id": entity_id, "period": str(period)})
    return dict(found.mappings().one())


def check_seals(session: Session) -> list[LedgerFinding]:
    """Return what differs between closed periods and their seals, and guards that are off."""
    rows = session.execute(sa.text(_SEALS)).mappings()
    findings = [
        LedgerFinding(
            "seal",
            "block",
            f"{row['entity_id']} {row['period']} is closed and no longer holds what it held then",
            row["period"],
            "compare with its close package (`iotbill close verify`) or a backup",
        )
        for row in rows
        if any(
            row["seals"].get(name, seal) != seal  # older closings have no seal of derived entries
            for name, seal in period_seals(
                session, row["entity_id"], Month.parse(row["period"])
            ).items()
        )
    ]
    for guard in session.execute(sa.text(_GUARDS_OFF)).mappings():
        findings.append(
            LedgerFinding(
                "guard",
                "block",
                f"{guard['table']}: trigger {guard['trigger']} is {guard['how']}",
                guard["table"],
                "find out who did it and run `iotbill init` with a repaired schema, or restore",
            )
        )
    return findings


_SEALS = """
select distinct on (p.entity_id, p.period) p.entity_id, p.period,
  a.input_hashes as seals
from period p
join audit_log a on a.action = 'period' and a.subject = p.entity_id || ' ' || p.period
  and a.input_hashes ? 'seal'
where p.state = 'closed'
order by p.entity_id, p.period, a.seq desc
"""

_GUARDS_OFF = """
select c.relname as table, t.tgname as trigger, 'switched off' as how
from pg_trigger t join pg_class c on c.oid = t.tgrelid
where not t.tgisinternal and t.tgenabled in ('D', 'R')
  and c.relnamespace = current_schema()::regnamespace
union all
select w.name, w.guard, 'gone'
from (select name, guard from unnest(array['booked_charge', 'invoice', 'invoice_line',
        'invoice_tax', 'tax_note', 'derived_entry', 'period_event', 'period_signature',
        'gate_result', 'audit_log']) as name,
      unnest(array['append_only', 'never_emptied']) as guard
  union all values ('booked_charge', 'charges_refer'), ('invoice_line', 'lines_are_their_charges'),
    ('journal_charge', 'links_refer'), ('journal', 'takes_its_links'),
    ('journal_line', 'takes_its_links'), ('run', 'never_deleted')) as w
where not exists (select from pg_trigger t join pg_class c on c.oid = t.tgrelid
  where c.relname = w.name and t.tgname = w.guard
    and c.relnamespace = current_schema()::regnamespace)
order by 1, 2
"""


# -------------------------------------------------------------------------------- booking


_BOOKED_BY = ("entity_id", "accounting_period", "level", "reason", "currency")


@dataclass(frozen=True)
class BookingResult:
    """What was booked, nothing on a second run.

    ``sums`` has a row per entity, accounting period, level, reason and currency: ``count`` rows of
    ``amount_minor`` together.
    """

    sums: pa.Table

    @property
    def count(self) -> int:
        return sum(self.sums["count"].to_pylist())

    def amounts(self) -> dict[tuple[str, str, str], int]:
        """Minor units by (level, reason, currency)."""
        found: dict[tuple[str, str, str], int] = {}
        for row in self.sums.to_pylist():
            key = (row["level"], row["reason"], row["currency"])
            found[key] = found.get(key, 0) + row["amount_minor"]
        return dict(sorted(found.items()))

    def counts(self, *names: str) -> dict[tuple[str, ...], int]:
        """Rows booked by columns of ``sums``, in their order."""
        found: dict[tuple[str, ...], int] = {}
        for row in self.sums.to_pylist():
            key = tuple(row[name] for name in names)
            found[key] = found.get(key, 0) + row["count"]
        return dict(sorted(found.items()))


def booked_charges(
    session: Session,
    usage_periods: Sequence[str | Month],
    accounts: Collection[str] | None = None,
) -> pa.Table:
    """Return what is booked for usage periods, summed per unit (relation ``booked_charge``).

    Of ``accounts`` only, if given.
    """
    connection = session.connection()
    listed = literal(connection, [str(period) for period in usage_periods])
    of = (
        ""
        if accounts is None
        else (
            f" and level = any ('{{retail,wholesale,vendor}}'::text[])"
            f" and account_id = any ({literal(connection, sorted(accounts))}::text[])"
        )
    )
    keys = ", ".join(BOOKED_CHARGE.key)
    return copy_out(
        connection,
        f"select {keys}, sum(records)::bigint as records, sum(quantity)::bigint as quantity, "
        f"sum(amount_minor)::bigint as amount_minor, max(entry_no) as entries, "
        # the newest row's prices; an ordered aggregate would sort every group
        f"substr(max(to_char(entry_no, 'FM0000000000') || price_ids), 11) as price_ids "
        f"from booked_charge where usage_period = any ({listed}::text[]){of} group by {keys}",
        BOOKED_CHARGE,
    )


def booked_sums(session: Session, usage_periods: Sequence[str | Month]) -> pa.Table:
    """Return ``usage_period, level, entity_id, account_id, currency, minor``: what is booked."""
    rows = session.execute(
        sa.text(
            "select usage_period, level, entity_id, account_id, currency,"
            " sum(amount_minor)::bigint as minor from booked_charge"
            " where usage_period = any (:periods)"
            " group by usage_period, level, entity_id, account_id, currency"
        ),
        {"periods": [str(period) for period in usage_periods]},
    )
    keys = ("usage_period", "level", "entity_id", "account_id", "currency")
    schema = pa.schema([*((name, pa.string()) for name in keys), ("minor", pa.int64())])
    return pa.Table.from_pylist([dict(row) for row in rows.mappings()], schema=schema)


def book(
    session: Session,
    compute: Compute,
    accounting_period: Month,
    usage_periods: Sequence[str | Month],
    *,
    run_id: str,
    cause: str,
    booked_at: datetime,
    snapshot_id: str | None = None,
    units: Callable[[], pa.Table] | None = None,
    accounts: Collection[str] | None = None,
) -> BookingResult:
    """Book what is desired minus what is booked, for whole usage periods (RULEBOOK §11).

    ``compute`` holds ``desired_charge``, everything desired of ``usage_periods``, and ``product``;
    what is booked of those periods and not desired any more is reversed. ``cause`` says why, in
    words. An entity whose period takes no bookings any more books in its next open one, with the
    original usage period on the line (CL-01). ``units``, called once both relations are there,
    returns the units to book (usage_period, level, account_id, service_id, charge_id); all others
    are left as they are. With ``accounts``, ``desired_charge`` is all that is desired of those, and
    what is booked of others is not looked at.

    Raises LedgerError if a desired charge lies outside ``usage_periods`` or belongs to an entity
    that is not configured.
    """
    lock_ledger(session)
    scope = sorted({str(period) for period in usage_periods})
    outside = sorted(
        set(compute.fetch("select distinct usage_period from desired_charge")[0].to_pylist())
        - set(scope)
    )
    if outside:
        raise LedgerError(
            f"desired charges of {', '.join(outside)} were given, but only {', '.join(scope)} are "
            "to be booked; what is booked of other periods was not looked at"
        )
    compute.load("booked_charge", booked_charges(session, scope, accounts))
    if units is not None:
        _keep_units(compute, units())
    open_periods = next_open_periods(session, accounting_period)
    booking(compute, accounting_period, open_periods)
    grouped = ", ".join(_BOOKED_BY)
    result = BookingResult(
        compute.fetch(
            f"select {grouped}, cast(count(*) as bigint) as count,"
            f" cast(sum(amount_minor) as bigint) as amount_minor from booking group by {grouped}"
        )
    )
    for entity_id in result.sums["entity_id"].unique().to_pylist():
        month = open_periods.get(entity_id, accounting_period)
        ensure_periods(session, month, [entity_id], booked_at)
    first_id = (session.scalar(sa.select(sa.func.max(models.BookedCharge.id))) or 0) + 1
    same = {
        "run_id": run_id,
        "cause": cause,
        "snapshot_id": snapshot_id,
        "booked_at": booked_at.astimezone(UTC).isoformat(),
    }
    copy_in_parts(
        session.connection(),
        "booked_charge",
        (
            _booked_rows(part, first_id + start, same)
            for start, part in _in_order(compute, result.count)
        ),
    )
    return result


PART_ROWS = 100_000
"""So many rows are in memory at a time on their way to the database."""


def _in_order(compute: Compute, count: int) -> Iterator[tuple[int, pa.Table]]:
    """The rows of ``booking`` in order of key, in parts, each with the number of rows before it."""
    if not count:
        return
    compute.define(
        "numbered_booking",
        f"select row_number() over (order by {', '.join(BOOKING.key)}) as place, * from booking",
        keep=True,
    )
    for start in range(0, count, PART_ROWS):
        yield (
            start,
            compute.fetch(
                f"select {BOOKING.column_list} from numbered_booking where place > {start}"
                f" and place <= {start + PART_ROWS} order by place"
            ).cast(BOOKING.arrow_schema),
        )


def _booked_rows(part: pa.Table, first_id: int, same: Mapping[str, str | None]) -> pa.Table:
    ids = pa.array(range(first_id, first_id + part.num_rows), pa.int64())
    rows = part.append_column("id", ids)
    for name, value in same.items():
        rows = rows.append_column(name, pa.array([value] * part.num_rows, pa.string()))
    return rows


def _keep_units(compute: Compute, units: pa.Table) -> None:
    compute.load("booking_unit", units)
    for name in ("booked_charge", "desired_charge"):
        kept = compute.fetch(
            f"select c.* from {name} as c join booking_unit as u"
            " on u.usage_period = c.usage_period and u.level = c.level"
            " and u.account_id = c.account_id and u.service_id = c.service_id"
            " and u.charge_id = c.charge_id"
        )
        compute.load(name, kept)


# -------------------------------------------------------------------------------- invoices


@dataclass(frozen=True)
class InvoiceResult:
    """Invoices issued by a run, none on a second one. ``totals`` are minor units by currency."""

    invoices: int
    lines: int
    totals: dict[str, int]


def issue_invoices(
    session: Session,
    accounting_period: Month,
    *,
    run_id: str,
    issue_date: date,
    issued_at: datetime,
) -> InvoiceResult:
    """Issue an invoice per entity, account, billing period and currency.

    Lines are the retail charges booked up to the period, billed up to the period and not invoiced
    yet. Charges that came after an invoice was issued get a supplement (``sequence`` 2 and up); an
    invoice of nothing but zero lines is not issued, its lines wait for the next one. Numbers run
    without gaps per entity and accounting period. An entity whose period is in review or closed
    issues none in it.
    """
    lock_ledger(session)
    values = {
        "period": str(accounting_period),
        "run_id": run_id,
        "issue_date": issue_date,
        "issued_at": issued_at,
    }
    session.execute(sa.text("drop table if exists pg_temp.to_invoice"))
    session.execute(sa.text(_TO_INVOICE), values)
    session.execute(sa.text("analyze to_invoice"))
    entities = session.scalars(sa.text("select distinct entity_id from to_invoice where is_due"))
    ensure_periods(session, accounting_period, entities, issued_at)
    numbered = session.execute(sa.text(_ISSUE), values)
    issued = numbered.fetchall()
    lines = 0
    if issued:
        written = session.execute(sa.text(_ISSUE_LINES), values)
        lines = int(getattr(written, "rowcount", 0))
    session.execute(sa.text("drop table to_invoice"))
    totals: dict[str, int] = {}
    for row in issued:
        totals[row.currency] = totals.get(row.currency, 0) + row.total_minor
    return InvoiceResult(len(issued), lines, dict(sorted(totals.items())))


_TO_INVOICE = """
create temporary table to_invoice on commit drop as
select b.id, b.entity_id, b.account_id, b.billing_period, b.currency, b.amount_minor,
  dense_rank() over (order by b.entity_id, b.account_id, b.billing_period, b.currency) as invoice,
  row_number() over (partition by b.entity_id, b.account_id, b.billing_period, b.currency
                     order by b.usage_period, b.service_id, b.charge_id, b.id) as line_no,
  bool_or(b.amount_minor <> 0) over (
    partition by b.entity_id, b.account_id, b.billing_period, b.currency) as is_due
from booked_charge b
where b.level = 'retail' and b.billing_period <= :period and b.accounting_period <= :period
  and not exists (select from invoice_line l where l.booked_charge_id = b.id)
  and not exists (select from period p where p.entity_id = b.entity_id and p.period = :period
                  and p.state in ('in_review', 'closed'))
"""

_ISSUE = """
with due as (
  select min(invoice) as invoice, entity_id, account_id, billing_period, currency,
         count(*) as lines, sum(amount_minor)::bigint as total_minor
  from to_invoice where is_due
  group by entity_id, account_id, billing_period, currency
), ordered as (
  select due.*, row_number() over (order by invoice) as position,
    row_number() over (partition by entity_id order by invoice) as place
  from due
)
insert into invoice (invoice_id, invoice_no, run_id, entity_id, account_id, account_name,
  billing_period, accounting_period, sequence, issue_date, currency, lines, total_minor, issued_at)
select coalesce((select max(invoice_id) from invoice), 0) + o.position,
  o.entity_id || '-' || :period || '-' || to_char(
    (select count(*) from invoice i where i.entity_id = o.entity_id
       and i.accounting_period = :period) + o.place, 'FM000000'),
  :run_id, o.entity_id, o.account_id, coalesce(a.name, o.account_id), o.billing_period, :period,
  (select count(*) from invoice i where i.entity_id = o.entity_id
     and i.account_id = o.account_id and i.billing_period = o.billing_period
     and i.currency = o.currency) + 1,
  :issue_date, o.currency, o.lines, o.total_minor, :issued_at
from ordered o
left join reference_account a on a.account_id = o.account_id and a.known_to is null
returning currency, total_minor
"""

_ISSUE_LINES = """
insert into invoice_line (invoice_id, line_no, booked_charge_id, currency, amount_minor)
select i.invoice_id, t.line_no, t.id, t.currency, t.amount_minor
from to_invoice t
join invoice i on i.entity_id = t.entity_id and i.account_id = t.account_id
  and i.billing_period = t.billing_period and i.currency = t.currency
  and i.sequence = (select max(s.sequence) from invoice s where s.entity_id = t.entity_id
    and s.account_id = t.account_id and s.billing_period = t.billing_period
    and s.currency = t.currency)
where t.is_due
order by i.invoice_id, t.line_no
"""


# -------------------------------------------------------------------------------- journals


@dataclass(frozen=True)
class JournalResult:
    """Journals of the period after a build; ``built`` are the external ids new or rebuilt."""

    built: list[str]
    unchanged: list[str]
    findings: list[LedgerFinding]


def post_journals(
    session: Session,
    accounting_period: Month,
    terms: LedgerTerms,
    *,
    run_id: str,
    built_at: datetime,
) -> JournalResult:
    """Build the journals of the period for every configured type (RULEBOOK §9).

    What was exported stays; charges since then go into a new revision. What was only built is
    replaced if its content changed, under the same external id, and left alone otherwise. Findings:
    ``gl_suspense`` (block) per role and attributes that no GL rule takes.
    """
    lock_ledger(session)
    built: list[str] = []
    unchanged: list[str] = []
    findings: list[LedgerFinding] = []
    for journal_type in terms.journals:
        _collect_cells(session, journal_type, accounting_period)
        cells = [
            Cell(**row)
            for row in session.execute(
                sa.text(
                    "select cell_no, entity_id, currency, account_id, level, product_id, kind, "
                    "gl_class, tax_code, jurisdiction, tax, deferral, unit, charges, amount_minor"
                    " from journal_cell"
                    " order by cell_no"
                )
            ).mappings()
        ]
        drafts, unmapped = build_journals(cells, journal_type, accounting_period, terms)
        findings += [
            LedgerFinding(
                "gl_suspense",
                "block",
                f"no GL rule for {found.role} of {_attributes(found.cell)}: the amount stands in "
                f"suspense account {terms.suspense_account}",
                _figure(found.cell.amount_minor, found.cell.currency),
                "add a rule to gl_map in configs/ledger/ledger.yaml and build the journals again",
            )
            for found in unmapped
        ]
        entities = {draft.entity_id for draft in drafts}
        ensure_periods(session, accounting_period, entities, built_at)
        ids = _store(session, drafts, journal_type, accounting_period, cells, run_id, built_at)
        built += ids.built
        unchanged += ids.unchanged
        session.execute(sa.text("drop table journal_cell, journal_pending"))
    findings += _suspense_of_exported(session, accounting_period)
    return JournalResult(sorted(built), sorted(unchanged), findings)


_CHARGED = """
  and b.level = :level and b.amount_minor <> 0
  and not exists (select from journal_charge c join journal j using (journal_id)
    where c.booked_charge_id = b.id and c.journal_type = :type and j.state <> 'built')"""

_TAXES = """
select t.tax_id as id, {{columns}}, {{unit}} as unit, t.amount_minor, 1 as sign
from posted_tax t join invoice i using (invoice_id) join invoice_line l using (invoice_id, line_no)
join booked_charge b on b.id = l.booked_charge_id
where t.accounting_period = :period and t.pricing = '{pricing}' and t.amount_minor <> 0
  and not exists (select from journal_tax x join journal j using (journal_id)
    where x.tax_id = t.tax_id and x.journal_type = :type and j.state <> 'built')"""

_DERIVED = """
select b.entry_id as id, {{columns}}, {{unit}} as unit, b.amount_minor, 1 as sign
from derived_entry b
where b.accounting_period = :period and b.level = :level and b.purpose = '{purpose}'
  and not exists (select from journal_derived x join journal j using (journal_id)
    where x.entry_id = b.entry_id and x.journal_type = :type and j.state <> 'built')"""

_PENDING: Mapping[Source, str] = {
    # What is on invoices of the period, in whatever period it was booked.
    "invoiced": """
select b.id, {columns}, {unit} as unit, b.amount_minor, 1 as sign
from invoice i join invoice_line l using (invoice_id)
join booked_charge b on b.id = l.booked_charge_id
where i.accounting_period = :period"""
    + _CHARGED,
    "booked": """
select b.id, {columns}, {unit} as unit, b.amount_minor, 1 as sign
from booked_charge b
where b.accounting_period = :period"""
    + _CHARGED,
    # Usage up to the period that no invoice up to it carries, minus what accruals of the period
    # say already: what was invoiced since is taken out again.
    "unbilled": """
select b.id, {columns}, {unit} as unit, b.amount_minor * (w.wanted - coalesce(p.posted, 0))
  as amount_minor, w.wanted - coalesce(p.posted, 0) as sign
from booked_charge b
left join (
  select c.booked_charge_id, sum(c.sign)::int as posted
  from journal_charge c join journal j using (journal_id)
  where c.journal_type = :type and c.accrued_in = :period and j.state <> 'built'
  group by c.booked_charge_id) p on p.booked_charge_id = b.id
cross join lateral (
  select (b.usage_period <= :period and not exists (
    select from invoice_line l join invoice i using (invoice_id)
    where l.booked_charge_id = b.id and i.accounting_period <= :period))::int as wanted) w
where b.accounting_period <= :period and b.level = :level and b.amount_minor <> 0
  and w.wanted <> coalesce(p.posted, 0)""",
    "estimated": """
select b.estimate_id as id, {columns}, {unit} as unit, b.amount_minor, 1 as sign
from accrual_estimate b
where b.accounting_period = :period and b.level = :level
  and not exists (select from journal_estimate e join journal j using (journal_id)
    where e.estimate_id = b.estimate_id and j.journal_type = :type and j.state <> 'built')""",
    "tax": _TAXES.format(pricing="exclusive"),
    "tax_within": _TAXES.format(pricing="inclusive"),
    "deferral": _DERIVED.format(purpose="deferral"),
    "release": _DERIVED.format(purpose="release"),
    "allocation": _DERIVED.format(purpose="allocation"),
    "commission": _DERIVED.format(purpose="commission"),
    "true_up": _DERIVED.format(purpose="true_up"),
    "cut_off": _DERIVED.format(purpose="cut_off"),
}

_UNITS: Mapping[str, str] = {"journal": "''", "account": "b.account_id", "invoice": "i.invoice_no"}

_CELL_COLUMNS = "entity_id, currency, account_id, level, product_id, kind, gl_class, tax_code"
_CELL_KEY = f"{_CELL_COLUMNS}, jurisdiction, tax, deferral, unit"

_LINKS: Mapping[Source, tuple[str, str]] = {
    "estimated": ("journal_estimate", "estimate_id"),
    "tax": ("journal_tax", "tax_id"),
    "tax_within": ("journal_tax", "tax_id"),
    "deferral": ("journal_derived", "entry_id"),
    "release": ("journal_derived", "entry_id"),
    "allocation": ("journal_derived", "entry_id"),
    "commission": ("journal_derived", "entry_id"),
    "true_up": ("journal_derived", "entry_id"),
    "cut_off": ("journal_derived", "entry_id"),
}
"""Where a journal says what it carries, and that one's id; charges have their own table."""


def _collect_cells(session: Session, journal_type: JournalType, period: Month) -> None:
    """Sum the charges that no exported journal of the type carries, by what GL rules ask.

    What an entity closed is left alone: its journals stay as they are.
    """
    values = {"period": str(period), "level": journal_type.level, "type": journal_type.type}
    session.execute(sa.text("drop table if exists pg_temp.journal_pending, pg_temp.journal_cell"))
    own = [f"b.{name}" for name in _CELL_COLUMNS.split(", ")]
    of_tax = "t." if journal_type.source in ("tax", "tax_within") else "'' as "
    deferral = "b.version" if journal_type.source in ("deferral", "release") else "''"
    pending = _PENDING[journal_type.source].format(
        columns=", ".join(
            [*own, f"{of_tax}jurisdiction", f"{of_tax}tax", f"{deferral} as deferral"]
        ),
        unit=_UNITS[journal_type.unit],
    )
    session.execute(
        sa.text(
            f"create temporary table journal_pending on commit drop as {pending} "
            "and not exists (select from period closed where closed.entity_id = b.entity_id "
            "and closed.period = :period and closed.state = 'closed')"
        ),
        values,
    )
    session.execute(
        sa.text(
            f"create temporary table journal_cell on commit drop as "
            f"select row_number() over (order by {_CELL_KEY}) as cell_no, {_CELL_KEY}, "
            f"count(*) as charges, sum(amount_minor)::bigint as amount_minor "
            f"from journal_pending group by {_CELL_KEY}"
        )
    )
    session.execute(sa.text("analyze journal_pending"))
    session.execute(sa.text("analyze journal_cell"))


@dataclass(frozen=True)
class _Stored:
    built: list[str]
    unchanged: list[str]


def _store(
    session: Session,
    drafts: Sequence[JournalDraft],
    journal_type: JournalType,
    period: Month,
    cells: Sequence[Cell],
    run_id: str,
    built_at: datetime,
) -> _Stored:
    held = {
        (journal.entity_id, journal.currency): journal
        for journal in session.scalars(
            sa.select(models.Journal)
            .where(
                models.Journal.accounting_period == str(period),
                models.Journal.journal_type == journal_type.type,
                models.Journal.state == "built",
                models.Journal.entity_id.not_in(_closed_entities(period)),
            )
            .order_by(models.Journal.journal_id)
        )
    }
    charges = {cell.cell_no: cell.charges for cell in cells}
    unchanged: list[str] = []
    to_build: list[tuple[JournalDraft, int | None]] = []
    for draft in drafts:
        journal = held.pop((draft.entity_id, draft.currency), None)
        if journal is None:
            to_build.append((draft, None))
            continue
        link, _ = _LINKS.get(journal_type.source, ("journal_charge", ""))
        carried = session.scalar(
            sa.text(f"select count(*) from {link} where journal_id = :id"),
            {"id": journal.journal_id},
        )
        if journal.content_hash == draft.content_hash and carried == sum(
            charges[cell_no] for cell_no in draft.cells
        ):
            unchanged.append(journal.external_id)
            continue
        to_build.append((draft, journal.revision))
        held[draft.entity_id, draft.currency] = journal
    for journal in held.values():  # replaced below, or cancelled out since
        session.delete(journal)
    session.flush()
    built = []
    for draft, revision in to_build:
        number = revision or _next_revision(session, draft)
        journal_id, name = _insert_journal(
            session, draft, period, number, run_id, built_at, is_accrual=journal_type.reverses
        )
        _link_charges(session, journal_id, draft, journal_type)
        built.append(name)
    return _Stored(built, unchanged)


def _closed_entities(period: Month) -> sa.Select[str]:
    return sa.select(models.Period.entity_id).where(
        models.Period.period == str(period), models.Period.state == "closed"
    )


def _insert_journal(
    session: Session,
    draft: JournalDraft,
    period: Month,
    revision: int,
    run_id: str,
    built_at: datetime,
    *,
    is_accrual: bool,
    reverses_id: int | None = None,
) -> tuple[int, str]:
    """Insert a journal with its lines; return its id and external id."""
    journal_id = (session.scalar(sa.select(sa.func.max(models.Journal.journal_id))) or 0) + 1
    name = external_id(draft.entity_id, period, draft.journal_type, revision)
    session.add(
        models.Journal(
            journal_id=journal_id,
            external_id=name,
            run_id=run_id,
            entity_id=draft.entity_id,
            accounting_period=str(period),
            journal_type=draft.journal_type,
            revision=revision,
            currency=draft.currency,
            journal_date=draft.journal_date,
            memo=draft.memo,
            content_hash=draft.content_hash,
            built_at=built_at,
            is_accrual=is_accrual,
            reverses_id=reverses_id,
        )
    )
    session.flush()
    session.execute(
        sa.insert(models.JournalLine),
        [
            {"journal_id": journal_id, "currency": draft.currency, **vars(line)}
            for line in draft.lines
        ],
    )
    return journal_id, name


def _next_revision(session: Session, draft: JournalDraft) -> int:
    newest = session.scalar(
        sa.select(sa.func.max(models.Journal.revision)).where(
            models.Journal.entity_id == draft.entity_id,
            models.Journal.accounting_period == str(draft.period),
            models.Journal.journal_type == draft.journal_type,
        )
    )
    return (newest or 0) + 1


def _link_charges(
    session: Session, journal_id: int, draft: JournalDraft, journal_type: JournalType
) -> None:
    connection = session.connection()
    numbers = sorted(draft.cells)
    session.execute(sa.text("drop table if exists pg_temp.cell_line"))
    session.execute(
        sa.text(
            "create temporary table cell_line "
            "(cell_no bigint, debit_line_no bigint, credit_line_no bigint) on commit drop"
        )
    )
    copy_in(
        connection,
        "cell_line",
        pa.table(
            {
                "cell_no": pa.array(numbers, pa.int64()),
                "debit_line_no": pa.array([draft.cells[n][0] for n in numbers], pa.int64()),
                "credit_line_no": pa.array([draft.cells[n][1] for n in numbers], pa.int64()),
            }
        ),
    )
    same = " and ".join(f"c.{name} = p.{name}" for name in _CELL_KEY.split(", "))
    behind = (
        f"from cell_line l join journal_cell c using (cell_no) join journal_pending p on {same}"
    )
    if journal_type.source == "estimated":
        session.execute(
            sa.text(
                f"insert into journal_estimate (estimate_id, journal_id) "
                f"select p.id, :journal_id {behind} order by p.id"
            ),
            {"journal_id": journal_id},
        )
        return
    if journal_type.source in _LINKS:
        table, own_id = _LINKS[journal_type.source]
        session.execute(
            sa.text(
                f"insert into {table} ({own_id}, journal_type, journal_id, debit_line_no, "
                f"credit_line_no) select p.id, :type, :journal_id, l.debit_line_no, "
                f"l.credit_line_no {behind} order by p.id"
            ),
            {"type": draft.journal_type, "journal_id": journal_id},
        )
        return
    session.execute(
        sa.text(
            f"insert into journal_charge (booked_charge_id, journal_type, journal_id, "
            f"debit_line_no, credit_line_no, accrued_in, sign) "
            f"select p.id, :type, :journal_id, l.debit_line_no, l.credit_line_no, :accrued_in, "
            f"p.sign {behind} order by p.id"
        ),
        {
            "type": draft.journal_type,
            "journal_id": journal_id,
            "accrued_in": str(draft.period) if journal_type.reverses else "",
        },
    )


def _suspense_of_exported(session: Session, period: Month) -> list[LedgerFinding]:
    rows = session.execute(
        sa.select(
            models.Journal.external_id,
            models.Journal.currency,
            models.JournalLine.account,
            sa.func.sum(models.JournalLine.debit_minor - models.JournalLine.credit_minor).label(
                "amount_minor"
            ),
        )
        .join(models.JournalLine, models.JournalLine.journal_id == models.Journal.journal_id)
        .where(
            models.Journal.accounting_period == str(period),
            models.Journal.state != "built",
            models.JournalLine.is_suspense,
        )
        .group_by(models.Journal.external_id, models.Journal.currency, models.JournalLine.account)
        .order_by(models.Journal.external_id)
    )
    return [
        LedgerFinding(
            "gl_suspense",
            "block",
            f"journal {row.external_id} was exported with a balance in suspense account "
            f"{row.account}",
            _figure(int(row.amount_minor), row.currency),
            "clear the account in the general ledger and waive this, naming the entry",
        )
        for row in rows
    ]


# --------------------------------------------------------------------------------- exports


@dataclass(frozen=True)
class ExportedFile:
    """A journal file on disk. ``is_new`` is false if the same bytes were exported before."""

    external_id: str
    target: str
    path: Path
    sha256: str
    is_new: bool


def posted_journals(session: Session, accounting_period: Month) -> list[PostedJournal]:
    """Return the period's journals with their lines, in the order of their external ids."""
    return _posted(session, models.Journal.accounting_period == str(accounting_period))


def _posted(session: Session, which: sa.ColumnElement[bool]) -> list[PostedJournal]:
    journals = session.scalars(
        sa.select(models.Journal).where(which).order_by(models.Journal.external_id)
    ).all()
    lines: dict[int, list[Line]] = {journal.journal_id: [] for journal in journals}
    for row in session.scalars(
        sa.select(models.JournalLine)
        .where(models.JournalLine.journal_id.in_(list(lines)))
        .order_by(models.JournalLine.journal_id, models.JournalLine.line_no)
    ):
        lines[row.journal_id].append(
            Line(**{name: getattr(row, name) for name in Line.__dataclass_fields__})
        )
    ids = {journal.reverses_id for journal in journals if journal.reverses_id is not None}
    reversed_ids = {
        row.journal_id: row.external_id
        for row in session.execute(
            sa.select(models.Journal.journal_id, models.Journal.external_id).where(
                models.Journal.journal_id.in_(ids)
            )
        )
    }
    return [
        PostedJournal(
            external_id=journal.external_id,
            entity_id=journal.entity_id,
            currency=journal.currency,
            period=Month.parse(journal.accounting_period),
            journal_type=journal.journal_type,
            journal_date=journal.journal_date,
            memo=journal.memo,
            lines=tuple(lines[journal.journal_id]),
            revision=journal.revision,
            state=journal.state,
            is_accrual=journal.is_accrual,
            reverses=reversed_ids.get(journal.reverses_id or 0),
        )
        for journal in journals
    ]


def lint_journals(
    session: Session,
    accounting_period: Month,
    terms: LedgerTerms,
    targets: Sequence[str] | None = None,
) -> list[LedgerFinding]:
    """Return every rule of a target that a journal of the period breaks, without writing files.

    ``targets`` are all that are configured if left out, also those that a close does not write.
    Raises TermsError for a target that is not configured.
    """
    chosen = terms.targets if targets is None else [terms.target(name) for name in targets]
    return [
        _export_finding(problem)
        for journal in posted_journals(session, accounting_period)
        for target in chosen
        for problem in export_problems(journal, target, terms)
    ]


def export_journals(
    session: Session,
    accounting_period: Month,
    terms: LedgerTerms,
    directory: Path,
    *,
    exported_at: datetime,
    targets: Sequence[str] | None = None,
) -> tuple[list[ExportedFile], list[LedgerFinding]]:
    """Write every journal of the period for the configured targets; mark them exported.

    The same journal gives the same bytes whenever it is written; one with more lines than a target
    takes is split at its balanced units (GL-06). An exported accrual gets its reversal, dated the
    first day of the next open period, which is written beside it (GL-03).

    A journal that a target's rules refuse is not written for any target, and one that the ERP
    rejected waits for :func:`storage.acknowledgements.retry` (finding ``exports``, block). A file
    that differs from what was exported under its id, because the target's columns were changed
    since, is a warning.
    """
    lock_ledger(session)
    files: list[ExportedFile] = []
    findings: list[LedgerFinding] = []
    names = targets if targets is not None else terms.exports
    chosen = terms.targets if names is None else [terms.target(name) for name in names]
    waiting = posted_journals(session, accounting_period)
    while waiting:
        journal = waiting.pop(0)
        if journal.state == "rejected":
            findings.append(_rejected(session, journal))
            continue
        problems = [p for target in chosen for p in export_problems(journal, target, terms)]
        if problems:
            findings += [_export_finding(problem) for problem in problems]
            continue
        for target in chosen:
            written, export = _write_journal(journal, target, terms, directory)
            before = _exported_hash(session, journal.external_id, target.id)
            if before is None:
                _record_export(session, journal, target, export, exported_at)
            elif before != export.sha256:
                findings.append(
                    LedgerFinding(
                        "exports",
                        "warn",
                        f"{export.path.name} differs from what was exported for {target.id} "
                        "before; the journal is the same, the target's columns are not",
                        journal.external_id,
                        "tell whoever imports it, or restore the target's configuration",
                    )
                )
            files += [replace(file, is_new=before is None) for file in written]
        if chosen:
            session.execute(
                sa.update(models.Journal)
                .where(
                    models.Journal.external_id == journal.external_id,
                    models.Journal.state == "built",
                )
                .values(state="exported", exported_at=exported_at)
            )
            if journal.is_accrual and journal.reverses is None:
                waiting += _reversal(session, journal, exported_at)
    return files, findings


def _rejected(session: Session, journal: PostedJournal) -> LedgerFinding:
    said = session.scalar(
        sa.select(models.Journal.answer).where(models.Journal.external_id == journal.external_id)
    )
    return LedgerFinding(
        "exports",
        "block",
        f"the ERP rejected journal {journal.external_id}: {said or 'it did not say why'}",
        journal.external_id,
        f"correct the cause, run `iotbill journal retry {journal.external_id}` and close again",
    )


def _reversal(session: Session, accrual: PostedJournal, built_at: datetime) -> list[PostedJournal]:
    """Return what posts an exported accrual back; made in its next open period if there is none."""
    parent = session.scalars(
        sa.select(models.Journal).where(models.Journal.external_id == accrual.external_id)
    ).one()
    is_it = models.Journal.reverses_id == parent.journal_id
    if session.scalar(sa.select(sa.func.count()).select_from(models.Journal).where(is_it)):
        return _posted(session, is_it)
    period = next_open_periods(session, accrual.period + 1)[accrual.entity_id]
    ensure_periods(session, period, [accrual.entity_id], built_at)
    draft = JournalDraft(
        entity_id=accrual.entity_id,
        currency=accrual.currency,
        period=period,
        journal_type=f"{accrual.journal_type}_REV",
        journal_date=period.start,
        memo=f"Reversal of {accrual.external_id}",
        lines=reversed_lines(accrual.lines),
        cells={},
    )
    number = _next_revision(session, draft)
    journal_id, _ = _insert_journal(
        session,
        draft,
        period,
        number,
        parent.run_id,
        built_at,
        is_accrual=True,
        reverses_id=parent.journal_id,
    )
    values = {"parent": parent.journal_id, "id": journal_id, "type": draft.journal_type}
    session.execute(
        sa.text(
            "insert into journal_charge (booked_charge_id, journal_type, journal_id, "
            "debit_line_no, credit_line_no, accrued_in, sign) "
            "select booked_charge_id, :type, :id, credit_line_no, debit_line_no, accrued_in, -sign "
            "from journal_charge where journal_id = :parent"
        ),
        values,
    )
    session.execute(
        sa.text(
            "insert into journal_estimate (estimate_id, journal_id) "
            "select estimate_id, :id from journal_estimate where journal_id = :parent"
        ),
        values,
    )
    return _posted(session, is_it)


@dataclass(frozen=True)
class _Export:
    """What is kept of a journal's files for a target."""

    path: Path
    sha256: str
    documents: list[str]


def _write_journal(
    journal: PostedJournal, target: ExportTarget, terms: LedgerTerms, directory: Path
) -> tuple[list[ExportedFile], _Export]:
    files = export_files(journal, target, terms)
    written = []
    for file in files:
        path = directory / documents.document_name(file.name)
        digest = _write_file(path, file, journal, target, terms)
        written.append(ExportedFile(journal.external_id, target.id, path, digest, True))
    digest = written[0].sha256
    if len(written) > 1:
        digest = hashlib.sha256("".join(file.sha256 for file in written).encode()).hexdigest()
    ids = [document.id for file in files for document in file.documents]
    return written, _Export(written[0].path, digest, ids)


def _write_file(
    path: Path, file: ExportFile, journal: PostedJournal, target: ExportTarget, terms: LedgerTerms
) -> str:
    if target.header_columns:
        return documents.write_csv(
            path,
            None,
            form_rows(file, target, terms),
            delimiter=target.delimiter,
            byte_order_mark=target.byte_order_mark,
        )
    rows = export_rows(file, target, terms)
    headers = [column.header for column in target.columns]
    if target.format == "csv":
        names = [column.technical for column in target.columns]
        return documents.write_csv(
            path,
            None,
            [
                *([names] if target.technical_row else []),
                *([headers] if target.header else []),
                *rows,
            ],
            delimiter=target.delimiter,
            byte_order_mark=target.byte_order_mark,
        )
    functional = terms.entity(journal.entity_id).currency
    columns = [
        documents.ColumnFormat(
            column.header,
            _KINDS.get(column.field or "", "text") if column.format is None else "text",
            currency=functional if "functional" in (column.field or "") else journal.currency,
            total=column.field in _TOTALLED,
        )
        for column in target.columns
    ]
    # The journal's own date, not the clock: the workbook's bytes must not change.
    created = datetime.combine(journal.journal_date, time(), UTC)
    sheet = documents.Sheet(file.documents[0].id, columns, rows, totals=True, for_people=False)
    return documents.write_workbook(path, [sheet], created)


_TOTALLED = frozenset(
    ("line.debit", "line.credit", "line.functional_debit", "line.functional_credit")
)

_KINDS: Mapping[str, Literal["integer", "money", "rate", "date"]] = {
    "date": "date",
    "posting_period": "date",
    "fx_date": "date",
    "row.number": "integer",
    "line.number": "integer",
    "line.debit": "money",
    "line.credit": "money",
    "line.amount": "money",
    "line.functional_debit": "money",
    "line.functional_credit": "money",
    "exchange_rate": "rate",
}


def _exported_hash(session: Session, journal_name: str, target: str) -> str | None:
    return session.scalar(
        sa.select(models.JournalExport.sha256)
        .join(models.Journal, models.Journal.journal_id == models.JournalExport.journal_id)
        .where(models.Journal.external_id == journal_name, models.JournalExport.target == target)
    )


def _record_export(
    session: Session,
    journal: PostedJournal,
    target: ExportTarget,
    export: _Export,
    exported_at: datetime,
) -> None:
    session.execute(
        sa.insert(models.JournalExport).from_select(
            ["journal_id", "target", "file_name", "sha256", "documents", "exported_at"],
            sa.select(
                models.Journal.journal_id,
                sa.literal(target.id),
                sa.literal(export.path.name),
                sa.literal(export.sha256),
                sa.literal(export.documents, ARRAY(sa.Text())),
                sa.literal(exported_at, sa.DateTime(timezone=True)),
            ).where(models.Journal.external_id == journal.external_id),
        )
    )


def _export_finding(problem: ExportProblem) -> LedgerFinding:
    return LedgerFinding(
        "exports",
        "block",
        f"journal {problem.external_id} cannot be exported for {problem.target}: {problem.message}",
        problem.external_id,
        problem.what_to_do,
    )


# --------------------------------------------------------------------------------- tie-out


@dataclass(frozen=True)
class TieOut:
    """Charges, invoices and journals of an entity, period and currency, in minor units.

    ``charges`` is booked retail revenue; ``carried_in`` was booked earlier and invoiced now,
    ``carried_out`` is booked now and invoiced later. Costs are the vendor level's. ``taxes`` are
    those of the invoices, on top of prices or within them. ``unposted`` is what no journal carries
    of derived entries and does not cancel out, without signs.
    """

    entity_id: str
    currency: str
    charges: int
    carried_in: int
    carried_out: int
    invoices: int
    revenue_journals: int
    costs: int
    cost_journals: int
    taxes: int
    tax_journals: int
    unposted: int


def tie_out(session: Session, accounting_period: Month) -> list[TieOut]:
    """Add up the ledger of a period, per entity and currency, each figure from its own table."""
    rows = session.execute(sa.text(_TIE_OUT), {"period": str(accounting_period)}).mappings()
    return [TieOut(**row) for row in rows]


_TIE_OUT = """
with figures as (
  select entity_id, currency, 'charges' as figure, amount_minor from booked_charge
  where level = 'retail' and accounting_period = :period
  union all
  select b.entity_id, b.currency, 'carried_in', b.amount_minor
  from invoice i join invoice_line l using (invoice_id)
  join booked_charge b on b.id = l.booked_charge_id
  where i.accounting_period = :period and b.accounting_period < :period
  union all
  select b.entity_id, b.currency, 'carried_out', b.amount_minor from booked_charge b
  where b.level = 'retail' and b.accounting_period = :period
    and (b.billing_period > :period or exists (
      select from invoice_line l join invoice i using (invoice_id)
      where l.booked_charge_id = b.id and i.accounting_period > :period))
  union all
  select entity_id, currency, 'invoices', total_minor from invoice
  where accounting_period = :period
  union all
  select j.entity_id, j.currency, 'revenue_journals', l.debit_minor - l.credit_minor
  from journal j join journal_line l using (journal_id)
  where j.accounting_period = :period and l.role = 'receivable' and not j.is_accrual
    and not exists (select from journal_tax x where x.journal_id = j.journal_id)
  union all
  select entity_id, currency, 'taxes', amount_minor
  from posted_tax where accounting_period = :period
  union all
  select j.entity_id, j.currency, 'tax_journals', l.credit_minor - l.debit_minor
  from journal j join journal_line l using (journal_id)
  where j.accounting_period = :period and l.role = 'tax'
  union all
  select entity_id, currency, 'costs', amount_minor from booked_charge
  where level = 'vendor' and accounting_period = :period
  union all
  select j.entity_id, j.currency, 'cost_journals', l.debit_minor - l.credit_minor
  from journal j join journal_line l using (journal_id)
  where j.accounting_period = :period and l.role = 'cost' and not j.is_accrual
    and not exists (select from journal_derived x where x.journal_id = j.journal_id)
  union all
  select d.entity_id, d.currency, 'unposted', abs(sum(d.amount_minor)) from derived_entry d
  where d.accounting_period = :period
    and not exists (select from journal_derived x where x.entry_id = d.entry_id)
  group by d.entity_id, d.currency, d.purpose, d.level
)
select entity_id, currency,
  coalesce(sum(amount_minor) filter (where figure = 'charges'), 0)::bigint as charges,
  coalesce(sum(amount_minor) filter (where figure = 'carried_in'), 0)::bigint as carried_in,
  coalesce(sum(amount_minor) filter (where figure = 'carried_out'), 0)::bigint as carried_out,
  coalesce(sum(amount_minor) filter (where figure = 'invoices'), 0)::bigint as invoices,
  coalesce(sum(amount_minor) filter (where figure = 'revenue_journals'), 0)::bigint
    as revenue_journals,
  coalesce(sum(amount_minor) filter (where figure = 'costs'), 0)::bigint as costs,
  coalesce(sum(amount_minor) filter (where figure = 'cost_journals'), 0)::bigint as cost_journals,
  coalesce(sum(amount_minor) filter (where figure = 'taxes'), 0)::bigint as taxes,
  coalesce(sum(amount_minor) filter (where figure = 'tax_journals'), 0)::bigint as tax_journals,
  coalesce(sum(amount_minor) filter (where figure = 'unposted'), 0)::bigint as unposted
from figures group by entity_id, currency order by entity_id, currency
"""


def tie_out_findings(figures: Iterable[TieOut]) -> list[LedgerFinding]:
    """Return what does not add up: invoices against charges, journals against both (law 7)."""
    findings = []
    for row in figures:
        due = row.charges + row.carried_in - row.carried_out
        for code, what, found, expected, action in (
            ("invoices", "invoices", row.invoices, due, "issue the invoices again"),
            (
                "tie_out",
                "revenue journals",
                row.revenue_journals,
                row.invoices,
                "build the journals again",
            ),
            ("tie_out", "cost journals", row.cost_journals, row.costs, "build the journals again"),
            (
                "tax_totals",
                "taxes in journals",
                row.tax_journals,
                row.taxes,
                "configs/ledger/ledger.yaml needs a journal type with source tax (or tax_within, "
                "where prices include it) and role tax; build the journals again",
            ),
            (
                "derived_entries",
                "derived entries that no journal carries",
                row.unposted,
                0,
                "configs/ledger/ledger.yaml needs a journal type for each of the sources deferral, "
                "release, allocation, commission, true_up and cut_off that is used, of their level",
            ),
        ):
            if found != expected:
                findings.append(
                    LedgerFinding(
                        code,
                        "block",
                        f"{row.entity_id}: {what} are {_figure(found, row.currency)}, "
                        f"what is behind them {_figure(expected, row.currency)}",
                        _figure(found - expected, row.currency),
                        action,
                    )
                )
    return findings


# ----------------------------------------------------------------------------------- audit


def audit(
    session: Session,
    *,
    at: datetime,
    actor: str,
    action: str,
    subject: str,
    detail: dict[str, Any] | None = None,
    input_hashes: dict[str, Any] | None = None,
) -> None:
    """Append to the audit log; the database chains the entry to the one before."""
    session.execute(
        sa.insert(models.AuditLog).values(
            at=at,
            actor=actor,
            action=action,
            subject=subject,
            detail=detail or {},
            input_hashes=input_hashes or {},
        )
    )


def verify_audit(session: Session) -> list[LedgerFinding]:
    """Recompute the audit log's chain; return a finding for every entry that does not fit."""
    rows = session.execute(
        sa.text(
            "select seq, previous_hash, hash, audit_payload(audit_log) as payload "
            "from audit_log order by seq"
        )
    )
    findings = []
    previous, expected_seq = "0" * 64, 1
    for row in rows:
        computed = hashlib.sha256(row.payload.encode()).hexdigest()
        if row.seq != expected_seq or row.previous_hash != previous or row.hash != computed:
            findings.append(
                LedgerFinding(
                    "audit",
                    "block",
                    f"audit entry {row.seq} was changed, or one before it removed",
                    f"entry {row.seq}",
                    "restore the audit log from a backup and find out who changed it",
                )
            )
        previous, expected_seq = row.hash, row.seq + 1
    return findings


def _attributes(cell: Cell) -> str:
    return ", ".join(f"{name}={value}" for name, value in cell.attributes.items())


def _figure(minor: int, currency: str) -> str:
    return f"{currency} {of_minor(minor, currency)}"
