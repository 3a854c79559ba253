"""What the carriers bill: the cost that their terms give, worked out apart from the engine.

The arithmetic here is plain Decimal over the generated events and shares no code with the engine,
so that a test may hold one against the other. Deviations are then planted, each on a SIM of its
own, and listed with the cents by which the invoice differs from the terms.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from random import Random
from zoneinfo import ZoneInfo

from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.operations.sample.fleet import CARRIERS, Carrier, Fleet, Service, numbers_of
from iotbill_pipelines.operations.sample.traffic import Event, Network

CENT = Decimal("0.01")
UTC_ZONE = ZoneInfo("UTC")


@dataclass(frozen=True)
class UsageTerm:
    """Price of a usage class: ``rates`` by zone, ``""`` for the rest, per ``per`` class units."""

    code: str
    per: int
    rates: Mapping[str, Decimal]
    first: int = 1
    then: int = 1
    rounded_per_month: bool = False

    def rated(self, quantity: int) -> int:
        """Round a quantity up to the increments; nothing stays nothing."""
        if quantity == 0:
            return 0
        return (
            self.first + max(0, math.ceil(Decimal(quantity - self.first) / self.then)) * self.then
        )


@dataclass(frozen=True)
class VendorTerms:
    """A carrier's price list: the SIM fee (``prorated`` by days, or whole) and its usage."""

    sim_code: str
    sim_price: Decimal
    prorated: bool
    usage: Mapping[str, UsageTerm]


TERMS: Mapping[str, VendorTerms] = {
    "emnify": VendorTerms(
        "EM-SIM",
        Decimal("0.30"),
        False,
        {
            "data": UsageTerm(
                "EM-DATA",
                10**6,
                {
                    "area1": Decimal("0.0085"),
                    "area2": Decimal("0.0240"),
                    "premium": Decimal("0.0520"),
                    "": Decimal("0.0900"),
                },
            ),
            "sms": UsageTerm("EM-SMS", 1, {"": Decimal("0.021")}),
        },
    ),
    "bics": VendorTerms(
        "BICS-SIM",
        Decimal("0.45"),
        True,
        {
            "data": UsageTerm(
                "BICS-DATA",
                10**6,
                {
                    "z1": Decimal("0.0065"),
                    "z2": Decimal("0.0310"),
                    "z3": Decimal("0.0260"),
                    "": Decimal("0.1200"),
                },
                first=1000,
                then=1000,
            ),
            "sms": UsageTerm("BICS-SMS", 1, {"": Decimal("0.018")}),
        },
    ),
    "telfix": VendorTerms(
        "TF-SIM",
        Decimal("0.80"),
        True,
        {
            "voice": UsageTerm("TF-VOICE", 60, {"": Decimal("0.028")}, first=30, then=6),
            "sms": UsageTerm("TF-SMS", 1, {"": Decimal("0.025")}),
        },
    ),
    "xl": VendorTerms(
        "",
        Decimal(0),
        True,
        {
            "data": UsageTerm(
                "XL-DATA",
                10**6,
                {"": Decimal("0.0120")},
                first=1000,
                then=1000,
                rounded_per_month=True,
            ),
            "sms": UsageTerm("XL-SMS", 1, {"": Decimal("0.019")}),
            "voice": UsageTerm("XL-VOICE", 60, {"": Decimal("0.035")}),
        },
    ),
}
"""The vendor offers of configs/catalog/vendors.yaml, said a second time in another way."""


def _zone(carrier: str, network: Network) -> str:
    """Return the carrier's price zone of a network."""
    if carrier == "emnify":
        return {"Area 1": "area1", "Area 2": "area2", "Area 1 premium": "premium"}.get(
            network.emnify_ratezone, ""
        )
    if carrier == "bics":
        return {"Zone 1": "z1", "Zone 2": "z2", "Zone 3": "z3"}.get(network.bics_ratezone, "")
    return ""


@dataclass(frozen=True)
class InvoiceLine:
    """A line as the terms give it. ``quantity`` in class units, or days for the SIM fee.

    ``amount`` is exact; only sums per (SIM, code) are rounded to cents. ``end`` is exclusive.
    ``mixed`` lines sum several zones and have no unit price to print.
    """

    vendor: str
    plan: str
    iccid: str
    msisdn: str
    code: str
    usage_class: str
    network: Network | None
    start: date
    end: date
    quantity: int
    unit_price: Decimal
    amount: Decimal
    service_id: str = ""
    mixed: bool = False


@dataclass(frozen=True)
class Deviation:
    """What an invoice says wrongly, and by how many cents it is above (or below) the terms."""

    kind: str
    vendor: str
    iccid: str
    code: str
    amount: Decimal
    detail: str


def cents(amount: Decimal) -> Decimal:
    return amount.quantize(CENT, rounding=ROUND_HALF_UP)


def expected_lines(fleet: Fleet, kept: Iterable[Event]) -> list[InvoiceLine]:
    """Return what each carrier's terms give for the month: SIM fees, then usage by zone."""
    lines = [line for service in fleet.services for line in _sim_fee(fleet.month, service)]
    used: dict[tuple[str, str, str], list[Event]] = defaultdict(list)
    services = {service.service_id: service for service in fleet.services}
    for event in kept:
        if vendor_month(event) == fleet.month:
            carrier = event.service.carrier.name
            rates = TERMS[carrier].usage[event.usage_class].rates
            zone = _zone(carrier, event.network)
            zone = zone if zone in rates else ""
            used[event.service.service_id, event.usage_class, zone].append(event)
    for (service_id, usage_class, zone), events in sorted(used.items()):
        lines.append(_usage_line(fleet.month, services[service_id], usage_class, zone, events))
    return lines


def vendor_month(event: Event) -> Month:
    """Return the month of an event on the carrier's calendar."""
    zone = ZoneInfo(event.service.carrier.account.billing_zone)
    return Month.of(event.start.replace(tzinfo=UTC_ZONE).astimezone(zone).date())


def _sim_fee(month: Month, service: Service) -> Iterable[InvoiceLine]:
    terms = TERMS[service.carrier.name]
    segments = [
        (start, end)
        for start, end, state in service.state_segments(month.start, month.end)
        if state == "active"
    ]
    if not terms.sim_code or not segments:
        return
    if not terms.prorated:
        segments = [(month.start, month.end)]
    for start, end in segments:
        days = (end - start).days
        yield InvoiceLine(
            service.carrier.name,
            service.carrier.vendor_offer,
            service.iccid,
            service.msisdn,
            terms.sim_code,
            "",
            None,
            start,
            end,
            days,
            terms.sim_price,
            terms.sim_price * days / month.days,
            service.service_id,
        )


def _usage_line(
    month: Month, service: Service, usage_class: str, zone: str, events: list[Event]
) -> InvoiceLine:
    term = TERMS[service.carrier.name].usage[usage_class]
    quantity = sum(event.quantity for event in events)
    rated = (
        term.rated(quantity)
        if term.rounded_per_month
        else sum(term.rated(event.quantity) for event in events)
    )
    rate = term.rates[zone]
    return InvoiceLine(
        service.carrier.name,
        service.carrier.vendor_offer,
        service.iccid,
        service.msisdn,
        term.code,
        usage_class,
        events[0].network,
        max(month.start, *(start for start, _, _ in service.offers[:1])),
        month.end,
        rated,
        rate,
        rate * rated / term.per,
        service.service_id,
    )


def totals(lines: Iterable[InvoiceLine]) -> dict[tuple[str, str, str], Decimal]:
    """Return cents by (vendor, service or SIM, code); each rounded once (RULEBOOK §0.2)."""
    sums: dict[tuple[str, str, str], Decimal] = defaultdict(Decimal)
    for line in lines:
        sums[line.vendor, line.service_id or line.iccid, line.code] += line.amount
    return {key: cents(amount) for key, amount in sums.items()}


class _Planter:
    """Spoils a vendor's correct lines, one SIM for each deviation."""

    def __init__(self, fleet: Fleet, carrier: Carrier, lines: list[InvoiceLine], rng: Random):
        self.fleet = fleet
        self.carrier = carrier
        self.terms = TERMS[carrier.name]
        self.lines = [line for line in lines if line.vendor == carrier.name]
        self.rng = rng
        self.spoilt = {s.iccid for s in fleet.services if "owner_change_to" in s.story}
        self.spoilt |= {deviation.iccid for deviation in _rounded_apart(self.lines)}
        self.deviations: list[Deviation] = []

    def spoil(self) -> tuple[list[InvoiceLine], list[Deviation]]:
        many = max(1, len(self.fleet.services) // 250)
        self._missing_sim()
        for _ in range(many):
            self._changed_price()
            self._changed_quantity()
            self._duplicate()
        for _ in range(2 * many):
            self._rounded_up()
        self._wrong_period()
        self._inactive()
        self._unknown()
        if self.terms.prorated:
            self._whole_month_for_a_part()
        return self.lines, self.deviations

    def _pick(self, code: str, *, least: Decimal = Decimal(0)) -> InvoiceLine | None:
        """Draw a line of a SIM that nothing was planted on, of those with one line of the code."""
        count: dict[str, int] = defaultdict(int)
        for line in self.lines:
            if line.code == code:
                count[line.iccid] += 1
        choices = [
            line
            for line in self.lines
            if line.code == code
            and line.iccid not in self.spoilt
            and count[line.iccid] == 1
            and not line.mixed
            and line.amount >= least
        ]
        if not choices:
            return None
        line = self.rng.choice(choices)
        self.spoilt.add(line.iccid)
        return line

    def _say(self, kind: str, line: InvoiceLine, amount: Decimal, detail: str) -> None:
        self.deviations.append(Deviation(kind, line.vendor, line.iccid, line.code, amount, detail))

    def _replace(self, line: InvoiceLine, new: InvoiceLine) -> Decimal:
        """Put ``new`` in the place of ``line``; return the difference in cents."""
        self.lines[self.lines.index(line)] = new
        return cents(new.amount) - cents(line.amount)

    def _missing_sim(self) -> None:
        line = self._pick(self.terms.sim_code)
        if line is None:
            return
        gone = [other for other in self.lines if other.iccid == line.iccid]
        self.lines = [other for other in self.lines if other.iccid != line.iccid]
        for (_, _, code), amount in totals(gone).items():
            self._say(
                "missing_sim", replace(line, code=code), -amount, "active, used, and not billed"
            )

    def _data_code(self) -> str:
        return self.terms.usage["data"].code

    def _changed_price(self) -> None:
        line = self._pick(self._data_code(), least=Decimal("0.05"))
        if line is None:
            return
        price = (line.unit_price * Decimal("1.4")).quantize(Decimal("0.0001"))
        new = replace(line, unit_price=price, amount=self._printed(price, line.quantity))
        self._say(
            "wrong_price",
            line,
            self._replace(line, new),
            f"billed at {price} per MB instead of {line.unit_price}",
        )

    def _changed_quantity(self) -> None:
        line = self._pick(self._data_code(), least=Decimal("0.05"))
        if line is None:
            return
        quantity = line.quantity // 1000 * 1350
        new = replace(line, quantity=quantity, amount=self._printed(line.unit_price, quantity))
        self._say(
            "quantity_variance",
            line,
            self._replace(line, new),
            f"{quantity} bytes billed, {line.quantity} used",
        )

    def _printed(self, price: Decimal, quantity: int) -> Decimal:
        """Return the amount of a data line as the vendor prints it: emnify cents, BICS exact."""
        amount = price * quantity / Decimal(10**6)
        return cents(amount) if self.carrier.name == "emnify" else amount

    def _duplicate(self) -> None:
        line = self._pick(self._data_code(), least=CENT)
        if line is not None:
            self.lines.insert(self.lines.index(line) + 1, line)
            self._say("duplicate_line", line, cents(line.amount), "the same line twice")

    def _rounded_up(self) -> None:
        """The vendor rounds a line up where the terms round half-up: one cent."""
        line = self._pick(self._data_code(), least=CENT)
        if line is not None:
            new = replace(line, amount=cents(line.amount) + CENT)
            self._say("rounding", line, self._replace(line, new), "a cent more than the terms")

    def _wrong_period(self) -> None:
        line = self._pick(self.terms.sim_code)
        if line is None:
            return
        before = self.fleet.month - 1
        new = replace(
            line,
            start=before.start,
            end=before.end,
            quantity=before.days,
            amount=line.unit_price,
            service_id="",
        )
        self.lines.append(new)
        self._say("wrong_period", new, cents(new.amount), f"the fee of {before} again")

    def _inactive(self) -> None:
        """A SIM that ended before the month is billed as if it lived."""
        ended = [
            service
            for service in self.fleet.services
            if service.carrier is self.carrier and "ended_before" in service.story
        ]
        for service in ended[:2]:
            line = self._foreign(service.iccid, service.msisdn)
            self._say("billed_inactive", line, cents(line.amount), "cancelled before the month")

    def _unknown(self) -> None:
        iccid, _, msisdn, _ = numbers_of(self.carrier, 880_000 + self.rng.randrange(1000))
        line = self._foreign(iccid, msisdn)
        self._say("unknown_sim", line, cents(line.amount), "not in our inventory")

    def _foreign(self, iccid: str, msisdn: str) -> InvoiceLine:
        month = self.fleet.month
        line = InvoiceLine(
            self.carrier.name,
            self.carrier.vendor_offer,
            iccid,
            msisdn,
            self.terms.sim_code,
            "",
            None,
            month.start,
            month.end,
            month.days,
            self.terms.sim_price,
            self.terms.sim_price,
        )
        self.lines.append(line)
        return line

    def _whole_month_for_a_part(self) -> None:
        month = self.fleet.month
        partial = [
            line
            for line in self.lines
            if line.code == self.terms.sim_code
            and line.iccid not in self.spoilt
            and line.start > month.start
            and line.end == month.end
        ]
        if partial:
            line = self.rng.choice(partial)
            self.spoilt.add(line.iccid)
            new = replace(line, start=month.start, quantity=month.days, amount=line.unit_price)
            self._say(
                "proration",
                line,
                self._replace(line, new),
                f"the whole month billed, active from {line.start}",
            )


INVOICED = ("emnify", "bics")
"""Carriers whose invoice has come; the cost of the others is accrued."""


def invoices(
    fleet: Fleet, expected: list[InvoiceLine], rng: Random
) -> tuple[dict[str, list[InvoiceLine]], list[Deviation]]:
    """Return the lines of each vendor's invoice, and every deviation planted in them.

    emnify prints a line per SIM and code, in cents; BICS one per SIM, code and zone, exact.
    """
    billed: dict[str, list[InvoiceLine]] = {}
    deviations: list[Deviation] = []
    for carrier in CARRIERS:
        if carrier.name in INVOICED:
            lines = [line for line in expected if line.vendor == carrier.name]
            lines = _zones_together(lines) if carrier.name == "emnify" else lines
            deviations += _rounded_apart(lines)
            billed[carrier.name], planted = _Planter(fleet, carrier, lines, rng).spoil()
            deviations += planted
    return billed, deviations


def _zones_together(lines: list[InvoiceLine]) -> list[InvoiceLine]:
    """Sum a SIM's zones into one line, in cents; without a unit price where it had several."""
    together: dict[tuple[str, str], list[InvoiceLine]] = defaultdict(list)
    for line in lines:
        together[line.service_id, line.code].append(line)
    return [
        replace(
            parts[0],
            network=parts[0].network if len(parts) == 1 else None,
            quantity=sum(part.quantity for part in parts),
            mixed=len(parts) > 1,
            amount=cents(sum((part.amount for part in parts), Decimal(0))),
        )
        for parts in together.values()
    ]


def _rounded_apart(lines: list[InvoiceLine]) -> Iterable[Deviation]:
    """Yield the cents that come of a SIM's zones being rounded line by line (RULEBOOK §0.2)."""
    parts: dict[tuple[str, str, str], list[InvoiceLine]] = defaultdict(list)
    for line in lines:
        parts[line.service_id, line.iccid, line.code].append(line)
    for (_, iccid, code), group in parts.items():
        apart = sum((cents(line.amount) for line in group), Decimal(0))
        once = cents(sum((line.amount for line in group), Decimal(0)))
        if apart != once:
            yield Deviation(
                "lines_rounded_apart",
                group[0].vendor,
                iccid,
                code,
                apart - once,
                f"{len(group)} zones, each rounded",
            )
