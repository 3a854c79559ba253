"""What a tax engine reads and returns: documents, tax items, findings (RULEBOOK §8)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Literal

from iotbill_pipelines.engine.tax.terms import TaxPolicy


@dataclass(frozen=True)
class Seller:
    """Who invoices: the legal entity, its country (ISO alpha-2) and jurisdictions."""

    id: str
    country: str
    jurisdictions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Customer:
    """Who is invoiced. ``vat_id_valid`` is the outcome of a validation made outside the engine."""

    id: str
    country: str
    jurisdictions: tuple[str, ...] = ()
    vat_id: str | None = None
    vat_id_valid: bool = False


@dataclass(frozen=True)
class TaxableLine:
    """A line's rounded amount, net or gross as the policy says, and its places.

    ``primary_use`` and ``ship_to`` name the most specific jurisdictions there; several where areas
    overlap (a county and a transit district).
    """

    key: str
    tax_code: str
    amount: Decimal
    primary_use: tuple[str, ...] = ()
    ship_to: tuple[str, ...] = ()


@dataclass(frozen=True)
class TaxDocument:
    """An invoice to tax. The tax point is the invoice date (RULEBOOK §8)."""

    id: str
    tax_point: date
    currency: str
    seller: Seller
    customer: Customer
    lines: tuple[TaxableLine, ...]


@dataclass(frozen=True)
class TaxItem:
    """One tax of one line. ``note`` is the certificate or the invoice text behind a zero."""

    jurisdiction: str
    tax: str
    rate: Decimal
    compound: bool
    order: int
    base: Decimal
    amount: Decimal
    treatment: Literal["taxed", "exempt", "reverse_charge"] = "taxed"
    note: str = ""

    @property
    def rank(self) -> tuple[int, str, str]:
        """The order in which taxes of a line apply."""
        return self.order, self.jurisdiction, self.tax


@dataclass(frozen=True)
class TaxedLine:
    """A line with its taxes; ``net`` + ``tax`` = ``gross``, always."""

    key: str
    tax_code: str
    net: Decimal
    items: tuple[TaxItem, ...]

    @property
    def tax(self) -> Decimal:
        return sum((item.amount for item in self.items), Decimal(0))

    @property
    def gross(self) -> Decimal:
        return self.net + self.tax


@dataclass(frozen=True)
class UntaxedLine:
    """A line that could not be taxed, and so must not be invoiced yet."""

    key: str
    reason: Literal["no_place", "unknown_jurisdiction", "no_rate", "no_facts"]
    message: str


@dataclass(frozen=True)
class Assessment:
    """The taxes of a document, or of a credit note to one (``credits``).

    ``lines`` have the document's order. While ``unresolved`` is not empty the document is
    incomplete.
    """

    document_id: str
    tax_point: date
    currency: str
    policy: TaxPolicy
    lines: tuple[TaxedLine, ...]
    unresolved: tuple[UntaxedLine, ...] = ()
    credits: str | None = None

    @property
    def net(self) -> Decimal:
        return sum((line.net for line in self.lines), Decimal(0))

    @property
    def tax(self) -> Decimal:
        return sum((line.tax for line in self.lines), Decimal(0))

    @property
    def gross(self) -> Decimal:
        return self.net + self.tax

    @property
    def notes(self) -> tuple[str, ...]:
        """Texts that the invoice has to print, each once."""
        return tuple(sorted({i.note for line in self.lines for i in line.items if i.note}))

    @property
    def explanation(self) -> tuple[str, ...]:
        """The arithmetic, one text per tax item."""
        return tuple(_explain(line, item) for line in self.lines for item in line.items)


def _explain(line: TaxedLine, item: TaxItem) -> str:
    where = f"{line.key}: {item.jurisdiction} {item.tax}"
    if item.treatment != "taxed":
        return f"{where}: {item.treatment.replace('_', ' ')} on {item.base} ({item.note})"
    compound = " (with the taxes before it)" if item.compound else ""
    return f"{where}: {item.rate} of {item.base}{compound} = {item.amount}"


@dataclass(frozen=True)
class TaxTotal:
    """A control total: base and tax by jurisdiction, tax, rate, treatment and currency."""

    jurisdiction: str
    tax: str
    rate: Decimal
    treatment: str
    currency: str
    base: Decimal
    amount: Decimal


def control_totals(assessments: Iterable[Assessment]) -> tuple[TaxTotal, ...]:
    """Return the tax control totals of a period's documents (RULEBOOK §11), in a stable order."""
    sums: dict[tuple[str, str, Decimal, str, str], tuple[Decimal, Decimal]] = {}
    for assessment in assessments:
        for line in assessment.lines:
            for item in line.items:
                key = (
                    item.jurisdiction,
                    item.tax,
                    item.rate,
                    item.treatment,
                    assessment.currency,
                )
                base, amount = sums.get(key, (Decimal(0), Decimal(0)))
                sums[key] = (base + item.base, amount + item.amount)
    return tuple(TaxTotal(*key, *sums[key]) for key in sorted(sums))
