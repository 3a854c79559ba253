"""Taxes of invoices: assessed in the transaction that issues them, and read back (RULEBOOK §8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from itertools import groupby
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.orm import Session

from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.money import of_minor, to_minor
from iotbill_pipelines.engine.tax import (
    Customer,
    Seller,
    TableTaxEngine,
    TaxableLine,
    TaxCustomer,
    TaxDocument,
    TaxEngine,
    TaxItem,
    TaxPart,
    TaxPolicy,
    TaxTerms,
    assess_difference,
)
from iotbill_pipelines.storage import models
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
    places = {service.service: service for service in terms.services}
    charged = _charged(session, terms.policy)
    problems: dict[tuple[str, str], _Untaxed] = {}
    rows: list[dict[str, Any]] = []
    for _, of_invoice in groupby(lines, key=lambda line: line["invoice_id"]):
        members = list(of_invoice)
        head = members[0]
        tax_point: date = head["issue_date"]
        facts = terms.customer(head["account_id"], head["customer_group"], tax_point)
        seller = terms.seller(head["entity_id"])
        if facts is None or seller is None:
            who = f"entity {head['entity_id']}" if seller is None else _who(head)
            _note(problems, (who, "facts"), f"nothing is known of {who} for taxes", head)
            continue
        units = _units(members)
        document = TaxDocument(
            id=head["invoice_no"],
            tax_point=tax_point,
            currency=head["currency"],
            seller=Seller(seller.entity, seller.country, seller.jurisdictions),
            customer=_customer(facts, head["account_id"], tax_point),
            lines=tuple(_taxable(unit, facts, places) for unit in units),
        )
        rows += _assessed(engine, document, charged, units, problems)
    if problems:
        raise UntaxableError([problem.finding() for _, problem in sorted(problems.items())])
    _write(session, rows)
    totals: dict[str, int] = {}
    for row in rows:
        totals[row["currency"]] = totals.get(row["currency"], 0) + row["amount_minor"]
    return TaxResult(len(rows), dict(sorted(totals.items())))


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

# Only a correction's unit can have been invoiced before; the first booking of a unit has entry 1.
_CHARGED = f"""
with changed as (
  select distinct {_OF_CHARGE}
  from invoice i join invoice_line l using (invoice_id)
  join booked_charge b on b.id = l.booked_charge_id
  where i.xmin = pg_current_xact_id()::xid and b.entry_no > 1
)
select {_OF_CHARGE}, t.invoice_id, t.line_no, t.part_no, t.jurisdiction, t.tax, t.rate, t.compound,
  t.apply_order, t.treatment, t.note, t.pricing, t.taxable_minor, t.base_minor, t.amount_minor
from changed c join booked_charge b using ({_UNIT})
join invoice_line l on l.booked_charge_id = b.id
join invoice_tax t on t.invoice_id = l.invoice_id and t.line_no = l.line_no
where b.level = 'retail'
order by {_OF_CHARGE}, t.invoice_id, t.line_no, t.part_no, t.item_no
"""

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


def _taxable(line: _Row, facts: TaxCustomer, places: _Row) -> TaxableLine:
    own = places.get(line["service_id"])
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
    found = session.execute(sa.text(_CHARGED)).mappings()
    charged: dict[_Unit, list[TaxPart]] = {}
    for key, part in groupby(
        found, key=lambda row: (_unit_of(row), row["invoice_id"], row["line_no"], row["part_no"])
    ):
        items = list(part)
        charged.setdefault(key[0], []).append(
            TaxPart(
                amount=of_minor(items[0]["taxable_minor"], items[0]["currency"]),
                items=tuple(_item(row) for row in items),
                policy=policy.model_copy(update={"pricing": items[0]["pricing"]}),
            )
        )
    return charged


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
        {
            "invoice_id": by_line[key]["invoice_id"],
            "line_no": by_line[key]["line_no"],
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
            "currency": document.currency,
            "taxable_minor": to_minor(part.amount, document.currency),
            "base_minor": to_minor(item.base, document.currency),
            "amount_minor": to_minor(item.amount, document.currency),
        }
        for key, parts in taxed.parts.items()
        for part_no, part in enumerate(parts, 1)
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
    """Return the tax control totals of a period's invoices (RULEBOOK §11), as declared."""
    rows = session.execute(
        sa.text(
            "select i.entity_id, t.jurisdiction, t.tax, t.rate, t.treatment, t.currency, "
            "sum(t.base_minor)::bigint as base_minor, sum(t.amount_minor)::bigint as amount_minor "
            "from invoice i join invoice_tax t using (invoice_id) "
            "where i.accounting_period = :period "
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
    """A tax of an invoice line, with its arithmetic: ``rate`` of ``base`` = ``amount``."""

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
    """Return an invoice's taxes in the order of its lines; none if it has none."""
    rows = session.execute(
        sa.text(
            "select t.line_no, b.service_id, b.charge_id, b.usage_period, t.jurisdiction, t.tax, "
            "t.rate, t.compound, t.treatment, t.note, t.base_minor, t.amount_minor, t.currency "
            "from invoice i join invoice_tax t using (invoice_id) "
            "join invoice_line l using (invoice_id, line_no) "
            "join booked_charge b on b.id = l.booked_charge_id "
            "where i.invoice_no = :number order by t.line_no, t.part_no, t.item_no"
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
    "line_no service_id charge_id usage_period jurisdiction tax compound treatment note currency"
).split()
