"""Taxes of invoices: assessed in the transaction that issues them, corrected by notes, read back.

RULEBOOK §8. An issued invoice is never changed: where its taxes turn out wrong, a note to it
carries the difference (:func:`issue_tax_notes`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import cache
from itertools import groupby
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.orm import Session

from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.money import of_minor, to_minor
from iotbill_pipelines.engine.tax import (
    Customer,
    IssuedDocument,
    Pricing,
    Seller,
    TableTaxEngine,
    TaxableLine,
    TaxCorrection,
    TaxCustomer,
    TaxDocument,
    TaxedService,
    TaxEngine,
    TaxItem,
    TaxPart,
    TaxPolicy,
    TaxTerms,
    assess_difference,
    reassess,
)
from iotbill_pipelines.storage import ledger, models
from iotbill_pipelines.storage.bulk import copy_in
from iotbill_pipelines.storage.ledger import LedgerFinding


class UntaxableError(RuntimeError):
    """Invoices that cannot be taxed, so that none is issued; ``findings`` say why."""

    def __init__(self, findings: Sequence[LedgerFinding]) -> None:
        super().__init__("\n".join(finding.message for finding in findings))
        self.findings = list(findings)


@dataclass(frozen=True)
class TaxResult:
    """What a run charged: rows written, and minor units of tax by currency."""

    items: int
    totals: dict[str, int]


def tax_invoices(session: Session, terms: TaxTerms) -> TaxResult:
    """Write the taxes of the invoices that were issued in this transaction.

    Lines of units that were invoiced before carry the difference to what was charged then.

    Raises UntaxableError if a line has no place, no rate or no customer facts: the caller's
    transaction must not be committed then, so that no invoice goes out untaxed.
    """
    if terms.mode == "none":
        return TaxResult(0, {})
    engine = TableTaxEngine(terms.table, terms.policy)
    lines = session.execute(sa.text(_LINES)).mappings()
    facts = _Facts(terms)
    charged = _charged(session, terms.policy)
    problems: dict[tuple[str, str], _Untaxed] = {}
    rows: list[dict[str, Any]] = []
    for _, of_invoice in groupby(lines, key=lambda line: line["invoice_id"]):
        members = list(of_invoice)
        head = members[0]
        units = _units(members)
        document = facts.document(head, units)
        if document is None:
            who = _unknown(terms, head)
            _note(problems, (who, "facts"), f"nothing is known of {who} for taxes", head)
            continue
        rows += _assessed(engine, document, charged, units, problems)
    if problems:
        raise UntaxableError([problem.finding() for _, problem in sorted(problems.items())])
    _write(session, rows)
    totals: dict[str, int] = {}
    for row in rows:
        totals[row["currency"]] = totals.get(row["currency"], 0) + row["amount_minor"]
    return TaxResult(len(rows), dict(sorted(totals.items())))


@dataclass(frozen=True)
class TaxEffect:
    """What differences of an account's charges come to with their taxes, in minor units.

    ``gross`` is what the customer owes more, or less. ``untaxed`` says why a part of it has no tax
    yet; empty if all is taxed.
    """

    entity_id: str
    account_id: str
    currency: str
    net_minor: int
    tax_minor: int
    untaxed: str

    @property
    def gross_minor(self) -> int:
        """Net and tax together."""
        return self.net_minor + self.tax_minor


def tax_differences(
    session: Session, terms: TaxTerms, on: date, differences: Sequence[dict[str, Any]]
) -> list[TaxEffect]:
    """Return what differences of charges would be taxed on an invoice dated ``on``, by account.

    ``differences`` are units (the columns of a tax's unit) with ``amount_minor``, the amount that
    the invoice adds, or takes back at the taxes at which it was charged. Nothing is written.
    """
    if terms.mode == "none" or not differences:
        return []
    engine = TableTaxEngine(terms.table, terms.policy)
    facts = _Facts(terms)
    charged = _charged_before(session, terms.policy, differences)
    accounts = sorted({row["account_id"] for row in differences})
    named = session.execute(sa.text(_GROUPS), {"accounts": accounts})
    groups = {row.account_id: row.customer_group for row in named}
    effects = []
    ordered = sorted(differences, key=lambda row: tuple(map(str, _unit_of(row))))
    documents: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for number, row in enumerate(ordered, 1):
        known = {"issue_date": on, "invoice_id": 0, "invoice_no": "", "line_no": number}
        line = {**row, **known, "customer_group": groups.get(row["account_id"])}
        key = (row["entity_id"], row["account_id"], row["currency"])
        documents.setdefault(key, []).append(line)
    for (entity, account, currency), lines in documents.items():
        problems: dict[tuple[str, str], _Untaxed] = {}
        document = facts.document(lines[0], lines)
        if document is None:
            rows = []
            who = _unknown(terms, lines[0])
            _note(problems, (who, "facts"), f"nothing is known of {who} for taxes", lines[0])
        else:
            rows = _assessed(engine, document, charged, lines, problems)
        tax = sum(row["amount_minor"] for row in rows)
        amount = sum(line["amount_minor"] for line in lines)
        net = amount - tax if terms.policy.pricing == "inclusive" else amount
        untaxed = "; ".join(problem.message for _, problem in sorted(problems.items()))
        effects.append(TaxEffect(entity, account, currency, net, tax, untaxed))
    return effects


_GROUPS = """
select account_id, customer_group from reference_account
where known_to is null and account_id = any(:accounts)
"""

_UNIT = (
    "entity_id, account_id, service_id, charge_id, usage_period, product_id, kind, gl_class, "
    "tax_code, currency"
)

_OF_CHARGE = ", ".join(f"b.{name}" for name in _UNIT.split(", "))

_LINES = f"""
select i.invoice_id, i.invoice_no, i.issue_date, l.line_no, l.amount_minor, a.customer_group,
  {_OF_CHARGE}
from invoice i join invoice_line l using (invoice_id)
join booked_charge b on b.id = l.booked_charge_id
left join reference_account a on a.account_id = i.account_id and a.known_to is null
where i.xmin = pg_current_xact_id()::xid
order by i.invoice_id, l.line_no
"""

# What the units of ``changed`` were taxed on invoices before.
_TAXED_BEFORE = f"""
select {_OF_CHARGE}, t.invoice_id, t.line_no, t.part_no, t.jurisdiction, t.tax, t.rate, t.compound,
  t.apply_order, t.treatment, t.note, t.pricing, t.taxable_minor, t.base_minor, t.amount_minor
from changed c join booked_charge b using ({_UNIT})
join invoice_line l on l.booked_charge_id = b.id
join invoice_tax t on t.invoice_id = l.invoice_id and t.line_no = l.line_no
where b.level = 'retail'
order by {_OF_CHARGE}, t.invoice_id, t.line_no, t.part_no, t.item_no
"""

# Only a correction's unit can have been invoiced before; the first booking of a unit has entry 1.
_CHARGED = f"""
with changed as (
  select distinct {_OF_CHARGE}
  from invoice i join invoice_line l using (invoice_id)
  join booked_charge b on b.id = l.booked_charge_id
  where i.xmin = pg_current_xact_id()::xid and b.entry_no > 1
)
{_TAXED_BEFORE}"""

_CHARGED_BEFORE = f"""
with changed as (
  select distinct * from jsonb_to_recordset(cast(:units as jsonb))
    as c({", ".join(f"{name} text" for name in _UNIT.split(", "))})
)
{_TAXED_BEFORE}"""

_Unit = tuple[Any, ...]
_Row = sa.RowMapping | dict[str, Any]


@dataclass
class _Untaxed:
    message: str
    what_to_do: str
    lines: int
    amount_minor: int
    currency: str

    def finding(self) -> LedgerFinding:
        amount = of_minor(self.amount_minor, self.currency)
        return LedgerFinding(
            "tax",
            "block",
            f"{self.message} ({self.lines} lines): no invoice is issued",
            f"{self.currency} {amount}",
            self.what_to_do,
        )


def _note(
    problems: dict[tuple[str, str], _Untaxed],
    key: tuple[str, str],
    message: str,
    line: _Row,
    what_to_do: str = "add it to configs/tax",
) -> None:
    held = problems.setdefault(key, _Untaxed(message, what_to_do, 0, 0, line["currency"]))
    held.lines += 1
    held.amount_minor += line["amount_minor"]


def _who(line: _Row) -> str:
    return f"account {line['account_id']}"


def _unit_of(row: _Row) -> _Unit:
    return tuple(row[name] for name in _UNIT.split(", "))


def _units(lines: Sequence[_Row]) -> list[dict[str, Any]]:
    """One line per unit: a reversal and the new billing of it are taxed by their difference."""
    units: dict[_Unit, dict[str, Any]] = {}
    for line in lines:
        unit = _unit_of(line)
        held = units.get(unit)
        amount = line["amount_minor"] + (held["amount_minor"] if held else 0)
        units[unit] = {**line, "amount_minor": amount}
    return [unit for unit in units.values() if unit["amount_minor"]]


class _Facts:
    """Builds tax documents: what the tables say of the parties of an invoice, at its date."""

    def __init__(self, terms: TaxTerms) -> None:
        self.terms = terms
        self._places: dict[str, list[TaxedService]] = {}
        for service in terms.services:
            self._places.setdefault(service.service, []).append(service)

    def document(self, head: _Row, units: Sequence[_Row]) -> TaxDocument | None:
        """Return an invoice as the engine reads it; None if nothing is known of a party."""
        on: date = head["issue_date"]
        customer = self.terms.customer(head["account_id"], head["customer_group"], on)
        seller = self.terms.seller(head["entity_id"])
        if customer is None or seller is None:
            return None
        return TaxDocument(
            id=head["invoice_no"],
            tax_point=on,
            currency=head["currency"],
            seller=Seller(seller.entity, seller.country, seller.jurisdictions),
            customer=_customer(customer, head["account_id"], on),
            lines=tuple(_taxable(unit, customer, self._place(unit, on)) for unit in units),
        )

    def _place(self, unit: _Row, on: date) -> TaxedService | None:
        of_service = self._places.get(unit["service_id"], ())
        return next((place for place in of_service if place.valid_on(on)), None)


def _unknown(terms: TaxTerms, head: _Row) -> str:
    if terms.seller(head["entity_id"]) is None:
        return f"entity {head['entity_id']}"
    return _who(head)


def _taxable(line: _Row, facts: TaxCustomer, own: TaxedService | None) -> TaxableLine:
    return TaxableLine(
        key=str(line["line_no"]),
        tax_code=line["tax_code"],
        amount=of_minor(line["amount_minor"], line["currency"]),
        primary_use=(own.primary_use if own else ()) or facts.primary_use or facts.jurisdictions,
        ship_to=(own.ship_to if own else ()) or facts.ship_to or facts.jurisdictions,
    )


def _customer(facts: TaxCustomer, account_id: str, on: date) -> Customer:
    validated = facts.vat_id_validated_on
    return Customer(
        id=account_id,
        country=facts.country,
        jurisdictions=facts.jurisdictions,
        vat_id=facts.vat_id,
        vat_id_valid=validated is not None and validated <= on,
    )


def _charged(session: Session, policy: TaxPolicy) -> dict[_Unit, list[TaxPart]]:
    """What earlier invoices taxed of the units of the new ones' corrections, oldest first."""
    return _parts_by_unit(session.execute(sa.text(_CHARGED)).mappings(), policy)


def _charged_before(
    session: Session, policy: TaxPolicy, units: Sequence[dict[str, Any]]
) -> dict[_Unit, list[TaxPart]]:
    """What invoices taxed of units, oldest first."""
    named = [dict(zip(_UNIT.split(", "), _unit_of(unit), strict=True)) for unit in units]
    values = {"units": json.dumps(named)}
    return _parts_by_unit(session.execute(sa.text(_CHARGED_BEFORE), values).mappings(), policy)


def _parts_by_unit(found: Any, policy: TaxPolicy) -> dict[_Unit, list[TaxPart]]:
    charged: dict[_Unit, list[TaxPart]] = {}
    for key, part in groupby(
        found, key=lambda row: (_unit_of(row), row["invoice_id"], row["line_no"], row["part_no"])
    ):
        charged.setdefault(key[0], []).append(_part(list(part), policy))
    return charged


def _part(items: Sequence[_Row], policy: TaxPolicy) -> TaxPart:
    return TaxPart(
        amount=of_minor(items[0]["taxable_minor"], items[0]["currency"]),
        items=tuple(_item(row) for row in items),
        policy=policy.model_copy(update={"pricing": items[0]["pricing"]}),
    )


def _item(row: _Row) -> TaxItem:
    return TaxItem(
        jurisdiction=row["jurisdiction"],
        tax=row["tax"],
        rate=row["rate"],
        compound=row["compound"],
        order=row["apply_order"],
        base=of_minor(row["base_minor"], row["currency"]),
        amount=of_minor(row["amount_minor"], row["currency"]),
        treatment=row["treatment"],
        note=row["note"],
    )


def _assessed(
    engine: TaxEngine,
    document: TaxDocument,
    charged: dict[_Unit, list[TaxPart]],
    units: Sequence[_Row],
    problems: dict[tuple[str, str], _Untaxed],
) -> list[dict[str, Any]]:
    by_line = {str(unit["line_no"]): unit for unit in units}
    before = {key: charged.get(_unit_of(unit), []) for key, unit in by_line.items()}
    taxed = assess_difference(engine, document, before)
    for key, parts in taxed.parts.items():
        charged.setdefault(_unit_of(by_line[key]), []).extend(parts)
    for line in taxed.unresolved:
        held = by_line[line.key]
        said, _, action = line.message.partition("; ")
        _note(
            problems,
            (_who(held), f"{line.reason} {held['tax_code']}"),
            f"{_who(held)}, {said.partition(': ')[2]}",
            held,
            action,
        )
    return [
        row
        for key, parts in taxed.parts.items()
        for row in _rows(by_line[key]["invoice_id"], int(key), parts, document.currency)
    ]


def _rows(
    invoice_id: int,
    line_no: int,
    parts: Sequence[TaxPart],
    currency: str,
    *,
    after: int = 0,
    tax_note_id: int | None = None,
) -> list[dict[str, Any]]:
    """The rows of a line's parts; ``after`` is the number of its newest part so far."""
    return [
        {
            "invoice_id": invoice_id,
            "line_no": line_no,
            "part_no": part_no,
            "item_no": item_no,
            "jurisdiction": item.jurisdiction,
            "tax": item.tax,
            "rate": item.rate,
            "compound": item.compound,
            "apply_order": item.order,
            "treatment": item.treatment,
            "note": item.note,
            "pricing": part.policy.pricing,
            "currency": currency,
            "tax_note_id": tax_note_id,
            "taxable_minor": to_minor(part.amount, currency),
            "base_minor": to_minor(item.base, currency),
            "amount_minor": to_minor(item.amount, currency),
        }
        for part_no, part in enumerate(parts, after + 1)
        for item_no, item in enumerate(part.items, 1)
    ]


def _write(session: Session, rows: Sequence[dict[str, Any]]) -> None:
    if not rows:
        return
    newest = session.scalar(sa.select(sa.func.max(models.InvoiceTax.tax_id))) or 0
    numbered = [{"tax_id": newest + place, **row} for place, row in enumerate(rows, 1)]
    types = {
        "compound": pa.bool_(),
        "rate": pa.decimal128(30, 12),
        **dict.fromkeys(
            ("jurisdiction", "tax", "treatment", "note", "pricing", "currency"), pa.string()
        ),
    }
    schema = pa.schema([(name, types.get(name, pa.int64())) for name in numbered[0]])
    copy_in(session.connection(), "invoice_tax", pa.Table.from_pylist(numbered, schema=schema))


# ----------------------------------------------------------------------------------- notes


@dataclass(frozen=True)
class NoteItem:
    """What a note changes of one tax of an invoice: ``base`` and ``amount`` are differences."""

    note_no: str
    invoice_no: str
    account_id: str
    tax_point: date
    jurisdiction: str
    tax: str
    rate: Decimal
    treatment: str
    note: str
    base: Decimal
    amount: Decimal
    currency: str


@dataclass(frozen=True)
class TaxNotes:
    """Notes that are due: what they change, and what cannot be corrected.

    ``is_complete``: with them every issued invoice carries what the tables say, or is too old.
    ``notes`` and ``rows`` are rows of ``tax_note`` and ``invoice_tax``.
    """

    items: list[NoteItem]
    findings: list[LedgerFinding]
    is_complete: bool
    notes: list[dict[str, Any]]
    rows: list[dict[str, Any]]

    @property
    def totals(self) -> dict[str, int]:
        """Minor units of tax by currency."""
        sums: dict[str, int] = {}
        for note in self.notes:
            sums[note["currency"]] = sums.get(note["currency"], 0) + note["tax_minor"]
        return dict(sorted(sums.items()))


def due_tax_notes(
    session: Session, terms: TaxTerms, accounting_period: Month, since: Month | None
) -> TaxNotes:
    """Return a note to every invoice that today's tables tax otherwise, each at its own tax point.

    Only invoices that were taxed are looked at. Those of accounting periods before ``since``, and
    of entities whose period takes no documents, stay as they are. Finding ``tax_notes`` (warn):
    invoices that stay wrong, or that the tables no longer say how to tax.
    """
    if terms.mode == "none":
        return TaxNotes([], [], True, [], [])
    heads: dict[str, _Row] = {}
    due: list[TaxCorrection] = []
    findings: list[LedgerFinding] = []
    is_complete = True
    for each in reassess(_engines(terms), _issued(session, terms, accounting_period, since, heads)):
        head = heads[each.id]
        if each.parts and not each.fixed:
            due.append(each)
        elif each.parts and since is not None and head["accounting_period"] < str(since):
            findings.append(_stays(head, each, "too long ago for a close to correct"))
        elif each.parts:
            is_complete = False
            findings.append(_stays(head, each, "waits for the entity's next open period"))
        findings += [_lost(head, line.message) for line in each.unresolved]
    rows, notes = _note_rows(session, due, heads, accounting_period)
    return TaxNotes(_note_items(rows, notes, heads), findings, is_complete, notes, rows)


def issue_tax_notes(
    session: Session,
    due: TaxNotes,
    accounting_period: Month,
    *,
    run_id: str,
    issue_date: date,
    issued_at: datetime,
) -> None:
    """Issue notes in the transaction in which they were found due, under the ledger's lock."""
    if not due.notes:
        return
    entities = {note["entity_id"] for note in due.notes}
    ledger.ensure_periods(session, accounting_period, entities, issued_at)
    told = {"run_id": run_id, "issue_date": issue_date, "issued_at": issued_at}
    session.execute(sa.insert(models.TaxNote), [{**note, **told} for note in due.notes])
    _write(session, due.rows)


def _engines(terms: TaxTerms) -> Callable[[Pricing], TaxEngine]:
    @cache
    def engine(pricing: Pricing) -> TaxEngine:
        return TableTaxEngine(terms.table, terms.policy.model_copy(update={"pricing": pricing}))

    return engine


_ISSUED = f"""
select i.invoice_id, i.invoice_no, i.issue_date, i.accounting_period, l.line_no, l.amount_minor,
  a.customer_group, {_OF_CHARGE},
  exists (select from period p where p.entity_id = i.entity_id and p.period = :period
    and p.state in ('in_review', 'closed')) as is_frozen
from invoice i join invoice_line l using (invoice_id)
join booked_charge b on b.id = l.booked_charge_id
left join reference_account a on a.account_id = i.account_id and a.known_to is null
where i.accounting_period <= :period
  and exists (select from invoice_tax t where t.invoice_id = i.invoice_id)
order by i.invoice_id, l.line_no
"""

_PARTS = """
select t.invoice_id, t.line_no, t.part_no, t.jurisdiction, t.tax, t.rate, t.compound,
  t.apply_order, t.treatment, t.note, t.pricing, t.currency, t.taxable_minor, t.base_minor,
  t.amount_minor
from invoice_tax t
order by t.invoice_id, t.line_no, t.part_no, t.item_no
"""


def _issued(
    session: Session,
    terms: TaxTerms,
    accounting_period: Month,
    since: Month | None,
    heads: dict[str, _Row],
) -> Iterator[IssuedDocument]:
    """The taxed invoices in the order of issue; ``heads`` takes a row of each by its number."""
    facts = _Facts(terms)
    values = {"period": str(accounting_period)}
    charged = _by_line(session.execute(sa.text(_PARTS)).mappings(), terms.policy)
    lines = session.execute(sa.text(_ISSUED), values).mappings()
    for invoice_id, of_invoice in groupby(lines, key=lambda line: line["invoice_id"]):
        members = list(of_invoice)
        head = members[0]
        units = _units(members)
        heads[head["invoice_no"]] = head
        too_old = since is not None and head["accounting_period"] < str(since)
        yield IssuedDocument(
            id=head["invoice_no"],
            document=facts.document(head, units),
            units={str(unit["line_no"]): _unit_of(unit) for unit in units},
            charged={
                str(unit["line_no"]): charged.get((invoice_id, unit["line_no"]), ())
                for unit in units
            },
            fixed=too_old or head["is_frozen"],
        )


def _by_line(found: Any, policy: TaxPolicy) -> dict[tuple[int, int], list[TaxPart]]:
    """The parts of each line of each invoice, in order."""
    lines: dict[tuple[int, int], list[TaxPart]] = {}
    for key, part in groupby(
        found, key=lambda row: (row["invoice_id"], row["line_no"], row["part_no"])
    ):
        lines.setdefault(key[:2], []).append(_part(list(part), policy))
    return lines


def _note_rows(
    session: Session,
    due: Sequence[TaxCorrection],
    heads: dict[str, _Row],
    accounting_period: Month,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows of ``invoice_tax`` and of ``tax_note`` that carry the corrections."""
    newest = session.scalar(sa.select(sa.func.max(models.TaxNote.tax_note_id))) or 0
    held = {
        entity: int(count)
        for entity, count in session.execute(
            sa.select(models.TaxNote.entity_id, sa.func.count())
            .where(models.TaxNote.accounting_period == str(accounting_period))
            .group_by(models.TaxNote.entity_id)
        )
    }
    ids = [heads[each.id]["invoice_id"] for each in due]
    parts = {
        (row.invoice_id, row.line_no): int(row.newest)
        for row in session.execute(
            sa.select(
                models.InvoiceTax.invoice_id,
                models.InvoiceTax.line_no,
                sa.func.max(models.InvoiceTax.part_no).label("newest"),
            )
            .where(models.InvoiceTax.invoice_id.in_(ids))
            .group_by(models.InvoiceTax.invoice_id, models.InvoiceTax.line_no)
        )
    }
    rows: list[dict[str, Any]] = []
    notes: list[dict[str, Any]] = []
    for tax_note_id, each in enumerate(due, newest + 1):
        head = heads[each.id]
        entity = head["entity_id"]
        held[entity] = held.get(entity, 0) + 1
        own = [
            row
            for key, changes in each.parts.items()
            for row in _rows(
                head["invoice_id"],
                int(key),
                changes,
                head["currency"],
                after=parts.get((head["invoice_id"], int(key)), 0),
                tax_note_id=tax_note_id,
            )
        ]
        rows += own
        notes.append(
            {
                "tax_note_id": tax_note_id,
                "note_no": f"{entity}-{accounting_period}-T{held[entity]:06}",
                "invoice_id": head["invoice_id"],
                "entity_id": entity,
                "accounting_period": str(accounting_period),
                "currency": head["currency"],
                "items": len(own),
                "tax_minor": sum(row["amount_minor"] for row in own),
            }
        )
    return rows, notes


def _note_items(
    rows: Sequence[dict[str, Any]], notes: Sequence[dict[str, Any]], heads: dict[str, _Row]
) -> list[NoteItem]:
    """The rows of notes summed by tax, in the order of the notes."""
    numbers = {note["tax_note_id"]: note["note_no"] for note in notes}
    by_invoice = {head["invoice_id"]: head for head in heads.values()}
    sums: dict[tuple[Any, ...], list[int]] = {}
    for row in rows:
        key = tuple(row[name] for name in _NOTE_KEY)
        held = sums.setdefault(key, [0, 0])
        held[0] += row["base_minor"]
        held[1] += row["amount_minor"]
    found = []
    for key, (base, amount) in sums.items():
        row = dict(zip(_NOTE_KEY, key, strict=True))
        head = by_invoice[row["invoice_id"]]
        if base or amount:
            found.append(
                NoteItem(
                    note_no=numbers[row["tax_note_id"]],
                    invoice_no=head["invoice_no"],
                    account_id=head["account_id"],
                    tax_point=head["issue_date"],
                    jurisdiction=row["jurisdiction"],
                    tax=row["tax"],
                    rate=_short(row["rate"]),
                    treatment=row["treatment"],
                    note=row["note"],
                    base=of_minor(base, row["currency"]),
                    amount=of_minor(amount, row["currency"]),
                    currency=row["currency"],
                )
            )
    return found


_NOTE_KEY = "tax_note_id invoice_id jurisdiction tax rate treatment note currency".split()


def _stays(head: _Row, each: TaxCorrection, why: str) -> LedgerFinding:
    return LedgerFinding(
        "tax_notes",
        "warn",
        f"{head['invoice_no']} of {_who(head)} is taxed otherwise by today's tables, and {why}",
        f"{head['currency']} {each.tax}",
        "raise corrections.look_back_months of configs/close.yaml, or close the next period",
    )


def _lost(head: _Row, message: str) -> LedgerFinding:
    return LedgerFinding(
        "tax_notes",
        "warn",
        f"{head['invoice_no']} of {_who(head)}, dated {head['issue_date']}: {message}; what was "
        "charged stays",
        head["invoice_no"],
        "keep rows of configs/tax that were right on an invoice's date; end them with valid_to",
    )


# --------------------------------------------------------------------------------- reading


@dataclass(frozen=True)
class TaxTotalRow:
    """A control total of a period: base and tax of one rate, in the currency's own unit."""

    entity_id: str
    jurisdiction: str
    tax: str
    rate: Decimal
    treatment: str
    currency: str
    base: Decimal
    amount: Decimal


def tax_totals(session: Session, accounting_period: Month) -> list[TaxTotalRow]:
    """Return the tax control totals of a period's invoices and notes (RULEBOOK §11)."""
    rows = session.execute(
        sa.text(
            "select entity_id, jurisdiction, tax, rate, treatment, currency, "
            "sum(base_minor)::bigint as base_minor, sum(amount_minor)::bigint as amount_minor "
            "from posted_tax where accounting_period = :period "
            "group by 1, 2, 3, 4, 5, 6 order by 1, 2, 3, 4, 5, 6"
        ),
        {"period": str(accounting_period)},
    )
    return [
        TaxTotalRow(
            entity_id=row.entity_id,
            jurisdiction=row.jurisdiction,
            tax=row.tax,
            rate=_short(row.rate),
            treatment=row.treatment,
            currency=row.currency,
            base=of_minor(row.base_minor, row.currency),
            amount=of_minor(row.amount_minor, row.currency),
        )
        for row in rows
    ]


def _short(rate: Decimal) -> Decimal:
    """A rate without the zeros behind it."""
    return Decimal(f"{rate:f}".rstrip("0").rstrip(".") if "." in f"{rate:f}" else rate)


@dataclass(frozen=True)
class InvoiceTaxLine:
    """A tax of an invoice line, with its arithmetic: ``rate`` of ``base`` = ``amount``.

    ``document_no`` is the invoice's number, or that of the note that corrected it.
    """

    document_no: str
    line_no: int
    service_id: str
    charge_id: str
    usage_period: str
    jurisdiction: str
    tax: str
    rate: Decimal
    compound: bool
    treatment: str
    note: str
    base: Decimal
    amount: Decimal
    currency: str


def invoice_taxes(session: Session, invoice_no: str) -> list[InvoiceTaxLine]:
    """Return an invoice's taxes in the order of its lines, then those of notes to it.

    ``invoice_no`` may be a note's number, which gives that note's alone; none if there are none.
    """
    rows = session.execute(
        sa.text(
            "select t.document_no, t.line_no, b.service_id, b.charge_id, b.usage_period, "
            "t.jurisdiction, t.tax, t.rate, t.compound, t.treatment, t.note, t.base_minor, "
            "t.amount_minor, t.currency "
            "from invoice i join posted_tax t using (invoice_id) "
            "join invoice_line l using (invoice_id, line_no) "
            "join booked_charge b on b.id = l.booked_charge_id "
            "where i.invoice_no = :number or t.document_no = :number "
            "order by coalesce(t.tax_note_id, 0), t.line_no, t.part_no, t.item_no"
        ),
        {"number": invoice_no},
    ).mappings()
    return [
        InvoiceTaxLine(
            rate=_short(row["rate"]),
            base=of_minor(row["base_minor"], row["currency"]),
            amount=of_minor(row["amount_minor"], row["currency"]),
            **{name: row[name] for name in _TAX_LINE},
        )
        for row in rows
    ]


_TAX_LINE = (
    "document_no line_no service_id charge_id usage_period jurisdiction tax compound treatment "
    "note currency"
).split()
