"""The tax engine behind its interface: sourcing, rates, exemptions, credit notes (RULEBOOK §8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Protocol

from iotbill_pipelines.engine.money import round_money
from iotbill_pipelines.engine.tax.assess import LineTaxes, assess_lines, sum_items
from iotbill_pipelines.engine.tax.documents import (
    Assessment,
    TaxableLine,
    TaxDocument,
    TaxedLine,
    TaxItem,
    UntaxedLine,
)
from iotbill_pipelines.engine.tax.terms import (
    ExemptionCertificate,
    Jurisdiction,
    ReverseCharge,
    TaxPolicy,
    TaxRate,
    TaxTable,
)


class TaxEngine(Protocol):
    """What invoicing asks of a tax engine; :class:`TableTaxEngine` answers from tables."""

    def assess(self, document: TaxDocument) -> Assessment:
        """Return the taxes of an invoice."""
        ...


class TableTaxEngine:
    """Taxes from a :class:`TaxTable` under a :class:`TaxPolicy`; pure, so repeatable."""

    def __init__(self, table: TaxTable, policy: TaxPolicy | None = None) -> None:
        self.table = table
        self.policy = policy or TaxPolicy()
        self._rates: dict[tuple[str, str], list[TaxRate]] = {}
        for rate in table.rates:
            self._rates.setdefault((rate.jurisdiction, rate.tax_code), []).append(rate)
        self._known = {place.id for place in table.jurisdictions}
        self._places = {rule.tax_code: rule.place for rule in table.sourcing}

    def assess(self, document: TaxDocument) -> Assessment:
        """Tax every line at the tax point, at the place its tax code is sourced to.

        A line without place, or whose place has no rate for its tax code, is not taxed at zero: it
        is ``unresolved``. A validated VAT id in another country of a reverse charge zone makes the
        customer account for the tax (TX-05); a certificate valid at the tax point exempts.

        Raises ValueError when two lines have the same key.
        """
        keys = [line.key for line in document.lines]
        if len(set(keys)) != len(keys):
            raise ValueError(f"document {document.id}: two lines have the same key")
        resolved: list[LineTaxes] = []
        unresolved: list[UntaxedLine] = []
        for line in document.lines:
            taxes = self._taxes(document, line)
            if isinstance(taxes, UntaxedLine):
                unresolved.append(taxes)
            else:
                resolved.append((line.key, line.tax_code, line.amount, taxes))
        return Assessment(
            document_id=document.id,
            tax_point=document.tax_point,
            currency=document.currency,
            policy=self.policy,
            lines=assess_lines(resolved, self.policy, document.currency),
            unresolved=tuple(unresolved),
        )

    def jurisdictions_of(self, document: TaxDocument, line: TaxableLine) -> tuple[str, ...]:
        """Return the most specific jurisdictions that tax a line (TX-09)."""
        match self._places.get(line.tax_code, self.table.default_sourcing):
            case "primary_use":
                return line.primary_use
            case "ship_to":
                return line.ship_to
            case "establishment":
                return document.customer.jurisdictions
            case _:
                return document.seller.jurisdictions

    def _taxes(self, document: TaxDocument, line: TaxableLine) -> tuple[TaxItem, ...] | UntaxedLine:
        reverse = self._reverse_charge(document)
        if reverse is not None:
            item = _open_item(document.customer.country, "reverse_charge")
            return (replace(item, treatment="reverse_charge", note=reverse.invoice_note),)
        places = self.jurisdictions_of(document, line)
        rule = self._places.get(line.tax_code, self.table.default_sourcing)
        if not places:
            return UntaxedLine(
                line.key,
                "no_place",
                f"line {line.key}: tax code {line.tax_code!r} is taxed at {rule}, which is not "
                "given; add the place to the account or the line",
            )
        unknown = sorted(set(places) - self._known)
        if unknown:
            return UntaxedLine(
                line.key,
                "unknown_jurisdiction",
                f"line {line.key}: jurisdiction {unknown[0]!r} ({rule}) is not in the tax table; "
                "add it or correct the address",
            )
        stack = self.table.stack(places)
        rates = [
            (place, rate)
            for place in stack
            for rate in self._rates.get((place.id, line.tax_code), [])
            if rate.valid_on(document.tax_point)
        ]
        if not rates:
            return UntaxedLine(
                line.key,
                "no_rate",
                f"line {line.key}: no rate of tax code {line.tax_code!r} in "
                f"{', '.join(place.id for place in stack)} on {document.tax_point}; "
                "add a rate, zero if nothing is due",
            )
        items = [self._item(document, line, place, rate) for place, rate in rates]
        return tuple(sorted(items, key=lambda item: item.rank))

    def _item(
        self, document: TaxDocument, line: TaxableLine, place: Jurisdiction, rate: TaxRate
    ) -> TaxItem:
        item = replace(
            _open_item(place.id, rate.tax),
            rate=rate.rate,
            compound=rate.compound,
            order=rate.order,
        )
        certificate = self._certificate(document, line, place, rate)
        if certificate is None:
            return item
        return replace(item, treatment="exempt", note=f"exempt: {certificate.number}")

    def _certificate(
        self, document: TaxDocument, line: TaxableLine, place: Jurisdiction, rate: TaxRate
    ) -> ExemptionCertificate | None:
        above = {j.id for j in self.table.stack((place.id,))}
        matching = [
            certificate
            for certificate in self.table.certificates
            if certificate.customer_id == document.customer.id
            and _valid(certificate.valid_from, certificate.valid_to, document.tax_point)
            and (not certificate.taxes or rate.tax in certificate.taxes)
            and (not certificate.tax_codes or line.tax_code in certificate.tax_codes)
            and (
                not certificate.jurisdictions
                or place.id in certificate.jurisdictions
                or (certificate.and_below and bool(above & set(certificate.jurisdictions)))
            )
        ]
        return min(matching, key=lambda certificate: certificate.number, default=None)

    def _reverse_charge(self, document: TaxDocument) -> ReverseCharge | None:
        seller, customer = document.seller, document.customer
        if not (customer.vat_id and customer.vat_id_valid) or seller.country == customer.country:
            return None
        return next(
            (
                rule
                for rule in self.table.reverse_charges
                if {seller.country, customer.country} <= rule.countries
                and _valid(rule.valid_from, rule.valid_to, document.tax_point)
            ),
            None,
        )


def credit_note(
    original: Assessment,
    *,
    document_id: str,
    tax_point: date,
    amounts: Mapping[str, Decimal] | None = None,
    earlier: Sequence[Assessment] = (),
) -> Assessment:
    """Return a credit note to an invoice: a full one copies its taxes, a partial one recomputes.

    ``amounts`` are what to credit of each line by key, in the invoice's own pricing (net or gross)
    and with the line's sign; None credits all that ``earlier`` credit notes left. Rates,
    exemptions and reverse charge are the invoice's, whatever is valid now (TX-07).

    Taxes are recomputed on everything credited so far, less what was credited before, and the
    credit that empties a line takes the rest: credits of a line cancel it to the minor unit.

    Raises ValueError for an unknown line, or more than is left of one.
    """
    inclusive = original.policy.pricing == "inclusive"
    lines = {line.key: line for line in original.lines}
    before: dict[str, list[TaxedLine]] = {key: [] for key in lines}
    for note in earlier:
        if note.credits != original.document_id:
            raise ValueError(
                f"{note.document_id} credits {note.credits}, not {original.document_id}"
            )
        for line in note.lines:
            before[line.key].append(line)
    unknown = sorted(set(amounts or {}) - set(lines))
    if unknown:
        raise ValueError(f"{original.document_id} has no line {unknown[0]!r} to credit")
    credited: list[TaxedLine] = []
    for key, line in lines.items():
        whole = line.gross if inclusive else line.net
        taken = -sum((past.gross if inclusive else past.net for past in before[key]), Decimal(0))
        left = whole - taken
        asked = left if amounts is None else amounts.get(key, Decimal(0))
        if (left - asked) * whole < 0 or asked * whole < 0 or (asked and not whole):
            raise ValueError(
                f"{original.document_id} line {key}: cannot credit {asked}, {left} is left"
            )
        if not asked and (amounts is not None or before[key]):
            continue
        credited.append(_credit_line(original, line, before[key], taken + asked, whole))
    return Assessment(
        document_id=document_id,
        tax_point=tax_point,
        currency=original.currency,
        policy=original.policy,
        lines=tuple(credited),
        credits=original.document_id,
    )


def _credit_line(
    original: Assessment,
    line: TaxedLine,
    before: Sequence[TaxedLine],
    up_to: Decimal,
    whole: Decimal,
) -> TaxedLine:
    """Return the credit that brings everything credited of a line to ``up_to``."""
    target = line
    if up_to != whole:
        policy = original.policy.model_copy(update={"rounding": "per_line"})
        (target,) = assess_lines(
            [(line.key, line.tax_code, up_to, line.items)], policy, original.currency
        )
    earlier_tax = sum_items(before)
    bases = {item.rank: Decimal(0) for item in line.items}
    for past in before:
        for item in past.items:
            bases[item.rank] += item.base
    return TaxedLine(
        line.key,
        line.tax_code,
        -target.net - sum((past.net for past in before), Decimal(0)),
        tuple(
            replace(
                item,
                base=-item.base - bases[item.rank],
                amount=round_money(
                    -item.amount - earlier_tax.get(item.rank, Decimal(0)), original.currency
                ),
            )
            for item in target.items
        ),
    )


def _open_item(jurisdiction: str, tax: str) -> TaxItem:
    """Return a tax item whose rate, base and amount are still to be filled in."""
    zero = Decimal(0)
    return TaxItem(jurisdiction, tax, zero, False, 0, zero, zero)


def _valid(start: date, end: date | None, day: date) -> bool:
    return start <= day and (end is None or day < end)
