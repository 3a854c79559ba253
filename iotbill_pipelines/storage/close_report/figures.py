"""What a close report says, as plain values; the renderers decide only how it looks.

Money is an integer of the currency's minor unit. Records and quantities are counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from babel.numbers import format_currency, format_decimal

from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.money import minor_digits, of_minor

LOCALE = "en_IE"
"""English words, thousands with a comma, decimals with a point, on every machine."""


@dataclass(frozen=True)
class Fates:
    """What became of records, or of their quantity: ``arrived`` is the sum of the others.

    ``waiting`` was accepted but belongs to months that have not been rated yet.
    """

    arrived: int
    kept: int
    ignored: int
    duplicate: int
    rejected: int
    suspended: int
    waiting: int = 0

    @property
    def missing(self) -> int:
        """Arrived without a fate; zero in every sound close (RULEBOOK §5)."""
        return self.arrived - (
            self.kept
            + self.ignored
            + self.duplicate
            + self.rejected
            + self.suspended
            + self.waiting
        )

    def __add__(self, other: Fates) -> Fates:
        return Fates(
            self.arrived + other.arrived,
            self.kept + other.kept,
            self.ignored + other.ignored,
            self.duplicate + other.duplicate,
            self.rejected + other.rejected,
            self.suspended + other.suspended,
            self.waiting + other.waiting,
        )


NOTHING = Fates(0, 0, 0, 0, 0, 0)


@dataclass(frozen=True)
class FeedFigures:
    """A feed's files of the period. ``quantity`` is None for feeds that carry no usage."""

    feed: str
    files: int
    unread_files: int
    records: Fates
    quantity: Fates | None


@dataclass(frozen=True)
class RevenueFigures:
    """Booked retail charges of a type: all of the period, and what this run added."""

    charge_type: str
    currency: str
    charges: int
    amount_minor: int
    new_minor: int


@dataclass(frozen=True)
class InvoiceFigures:
    currency: str
    invoices: int
    total_minor: int


@dataclass(frozen=True)
class VendorFigures:
    """A vendor's cost; ``invoiced_minor`` is None while no invoice has come."""

    vendor: str
    currency: str
    expected_minor: int
    invoiced_minor: int | None
    claimed_minor: int
    unexplained_minor: int
    claims: int
    status: str

    @property
    def variance_minor(self) -> int | None:
        return None if self.invoiced_minor is None else self.invoiced_minor - self.expected_minor


@dataclass(frozen=True)
class JournalFigures:
    journal: str
    kind: str
    state: str
    currency: str
    lines: int
    debit_minor: int
    credit_minor: int


FLUX_EFFECTS = {
    "volume": "Volume",
    "price": "Price",
    "mix": "Mix",
    "late_usage": "Late usage",
    "corrections": "Corrections",
    "fx": "FX",
}
"""What lies between two months, in order, and its title."""


@dataclass(frozen=True)
class FluxFigures:
    """A product's amounts of the month before and of this month; the effects lie between them.

    Minor units of ``currency``, the functional one; a row without a product is the total.
    """

    level: str
    product: str
    currency: str
    last_minor: int
    this_minor: int
    effects: dict[str, int]


@dataclass(frozen=True)
class StatementFigures:
    """A table beside the charges: margins, taxes, what is deferred, commissions, commitments.

    A row has a text for each of ``labels``, then minor units for each of ``amounts``. ``charted``
    is the place of the amount that is drawn too, None if none is.
    """

    title: str
    labels: tuple[str, ...]
    amounts: tuple[str, ...]
    rows: tuple[tuple[tuple[str, ...], str, tuple[int, ...]], ...]
    """(labels, currency, minor units)"""
    charted: int | None = None


@dataclass(frozen=True)
class BookingFigures:
    """Rows of the ledger in the period: booked by this run, and by earlier ones."""

    new_rows: int
    earlier_rows: int

    @property
    def nothing_new(self) -> bool:
        return self.new_rows == 0


@dataclass(frozen=True)
class SuspenseFigures:
    reason: str
    records: int


@dataclass(frozen=True)
class GateFigures:
    """A close gate: ``outcome`` is passed, failed or waived; only ``block`` stops a close."""

    gate: str
    title: str
    outcome: str
    severity: str
    figure: str
    message: str
    what_to_do: str
    waived_by: str = ""
    owner: str = ""

    @property
    def verdict(self) -> str:
        if self.outcome == "waived":
            return "waived"
        if self.outcome == "passed":
            return "passed"
        return "BLOCKED" if self.severity == "block" else "look at"


@dataclass(frozen=True)
class FileFigures:
    """A document of the close, by its path under the close's folder."""

    name: str
    size_bytes: int


@dataclass(frozen=True)
class CloseFigures:
    """Everything a close report shows; equal figures give an equal report."""

    period: Month
    entities: Sequence[str]
    prepared_at: datetime
    run_id: str
    folder: str
    feeds: Sequence[FeedFigures]
    revenue: Sequence[RevenueFigures]
    invoices: Sequence[InvoiceFigures]
    vendors: Sequence[VendorFigures]
    journals: Sequence[JournalFigures]
    booking: BookingFigures
    suspense: Sequence[SuspenseFigures]
    gates: Sequence[GateFigures]
    files: Sequence[FileFigures]
    statements: Sequence[StatementFigures] = ()
    flux: Sequence[FluxFigures] = ()
    flux_missing: str = ""
    """Why there is no flux, where a rate to convert by is not there."""

    @property
    def flux_totals(self) -> list[FluxFigures]:
        """What lies between the months altogether, by level."""
        return [row for row in self.flux if not row.product]

    @property
    def records(self) -> Fates:
        total = NOTHING
        for feed in self.feeds:
            total += feed.records
        return total

    @property
    def quantity_notes(self) -> list[str]:
        """What a reader of the quantities must know; negative ones are credits of the carrier."""
        notes = ["In the smallest unit of each usage class: bytes, seconds and messages together."]
        credited = [
            f"{feed.feed} {fate}"
            for feed in self.feeds
            if feed.quantity is not None
            for fate, units in vars(feed.quantity).items()
            if units < 0
        ]
        if credited:
            notes.append(
                "A minus is a credit: records by which the carrier takes usage back outweigh those "
                f"that add to it ({', '.join(credited)}). Where they are rejected or ignored, "
                "nothing is credited."
            )
        return notes

    @property
    def blocked(self) -> list[GateFigures]:
        return [gate for gate in self.gates if gate.verdict == "BLOCKED"]

    @property
    def warnings(self) -> list[GateFigures]:
        return [gate for gate in self.gates if gate.verdict == "look at"]

    @property
    def adds_up(self) -> bool:
        """No record, quantity or cent is missing anywhere in the report."""
        return (
            all(feed.records.missing == 0 for feed in self.feeds)
            and all(feed.quantity is None or feed.quantity.missing == 0 for feed in self.feeds)
            and all(journal.debit_minor == journal.credit_minor for journal in self.journals)
            and all(
                row.this_minor == row.last_minor + sum(row.effects.values()) for row in self.flux
            )
        )

    @property
    def headline(self) -> str:
        """The close in one sentence."""
        month = f"{self.period.start:%B %Y}"
        if self.blocked:
            gates = ", ".join(gate.gate for gate in self.blocked)
            return f"{month} is blocked by {gates}"
        if not self.adds_up:
            return f"{month} does not add up; see below"
        if self.booking.nothing_new:
            return f"{month}: nothing new to post, everything was booked before"
        return f"{month}: {count(self.booking.new_rows)} new rows booked, everything adds up"


def totals_by_currency(pairs: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """Add minor units up per currency, in order of currency."""
    found: dict[str, int] = {}
    for currency, minor in pairs:
        found[currency] = found.get(currency, 0) + minor
    return sorted(found.items())


def amount(minor: int, currency: str) -> Decimal:
    """Minor units as an amount of the currency's own unit."""
    return of_minor(minor, currency)


def money(minor: int, currency: str) -> str:
    """``1,234.56 EUR``, with the decimals that the currency has."""
    digits = minor_digits(currency)
    pattern = "#,##0" + ("." + "0" * digits if digits else "") + " ¤¤"
    text = format_currency(
        amount(minor, currency), currency, pattern, locale=LOCALE, currency_digits=False
    )
    return text.replace("\u00a0", " ")


def count(number: int) -> str:
    """``1,234``."""
    return str(format_decimal(number, locale=LOCALE))


def size(size_bytes: int) -> str:
    """``12 KB``: decimal, for people."""
    for unit, factor in (("MB", 10**6), ("KB", 10**3)):
        if size_bytes >= factor:
            return f"{count(round(size_bytes / factor))} {unit}"
    return f"{size_bytes} B"


REVENUE_LABELS = {
    "recurring": "Subscriptions",
    "usage": "Usage",
    "overage": "Overage of pools",
    "transition": "One-time fees",
    "discount": "Discounts of contracts",
    "shortfall": "Commitments not met",
    "commit_overage": "Beyond commitments",
    "termination_fee": "Early termination",
}

LEVEL_LABELS = {"retail": "Revenue", "wholesale": "Wholesale", "vendor": "Vendor cost"}

VENDOR_LABELS = {
    "matched": "agrees",
    "tolerated": "within tolerance",
    "disputed": "claimed",
    "underbilled": "billed less",
    "accrued": "no invoice yet, accrued",
}


def label(names: dict[str, str], code: str) -> str:
    """The words for a code; the code itself where there are none."""
    return names.get(code, code.replace("_", " "))
