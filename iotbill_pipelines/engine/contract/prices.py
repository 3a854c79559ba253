"""Which price applies on which days: line item > account > catalog, seasons inside the winner.

RULEBOOK §4; CT-11, CT-12, CT-16.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Literal

from iotbill_pipelines.engine.calendars import add_months
from iotbill_pipelines.engine.contract.lifecycle import ContractTerm, terms_of
from iotbill_pipelines.engine.contract.terms import Contract, ContractPrice, RampStep
from iotbill_pipelines.engine.money import (
    RATE_SCALE,
    apportion_signed,
    minor_digits,
    round_half_up,
    round_money,
    to_minor,
)


@dataclass(frozen=True)
class DatedRate:
    """A catalog rate valid in ``[valid_from, valid_to)``."""

    rate: Decimal
    valid_from: date = date.min
    valid_to: date | None = None


@dataclass(frozen=True)
class PriceSegment:
    """The price of ``[start, end)`` and why it applies.

    ``source`` is ``unpriced``, and ``rate`` None, where nothing prices the charge: such days go to
    suspense, never out at zero (RT-33). ``term_number`` and ``season`` tell which rate of the
    contract it is.
    """

    start: date
    end: date
    source: Literal["line_item", "account", "catalog", "unpriced"]
    rate: Decimal | None
    contract_id: str | None = None
    term_number: int | None = None
    season: str | None = None

    @property
    def days(self) -> int:
        return (self.end - self.start).days


@dataclass(frozen=True)
class PricedSegment:
    """A segment's part of a period's amount."""

    segment: PriceSegment
    exact: Fraction
    amount: Decimal


@dataclass(frozen=True)
class PeriodPrice:
    """A recurring charge's amount for a period, rounded once, and its segments' parts.

    When ``unpriced`` is not empty the charge is incomplete and belongs into suspense.
    """

    amount: Decimal
    currency: str
    segments: tuple[PricedSegment, ...]
    unpriced: tuple[PriceSegment, ...]
    explanation: tuple[str, ...]


def step_starts(steps: Sequence[RampStep], anchor: date) -> Iterator[tuple[date, RampStep]]:
    """Yield the first day of each ramp step, counted from the first day of contract month 1."""
    for step in steps:
        yield add_months(anchor, step.from_month - 1), step


def ramp_value(steps: Sequence[RampStep], anchor: date, day: date) -> Decimal:
    """Return the ramp's value on ``day`` (CT-01); 0 before the first and after a closed last step.

    A contract month starts on the anchor's day of the month.
    """
    value = Decimal(0)
    for starts, step in step_starts(steps, anchor):
        if starts <= day:
            value = step.value
    last = steps[-1]
    if last.to_month is not None and day >= add_months(anchor, last.to_month):
        return Decimal(0)
    return value


def price_segments(
    charge_id: str,
    start: date,
    end: date,
    *,
    contracts: Sequence[Contract] = (),
    catalog: Sequence[DatedRate] = (),
    zone: str | None = None,
    state: str | None = None,
    distances: Mapping[str, int] | None = None,
) -> tuple[PriceSegment, ...]:
    """Return who prices ``charge_id`` on each day of ``[start, end)``, in order, without gaps.

    A line item's contract wins over the account's, that over the catalog, each only on days its
    term is in force and only for charges it prices; of several on one level the one that was signed
    last. ``zone`` and ``state`` are what the catalog's price is for; ``distances`` says for
    contracts of accounts above how far above, the nearest wins. Seasons, ramps and renewals of
    the winner cut the span further; equal neighbours are one segment, so cutting the span changes
    no price.
    """
    if end <= start:
        return ()
    away = distances or {}
    ranked = [
        (contract, list(terms_of(contract, end)))
        for contract in sorted(contracts, key=lambda c: (away.get(c.id, 0), precedence(c)))
    ]
    cuts = {start, end}
    for rate in catalog:
        cuts |= {rate.valid_from, rate.valid_to or end}
    for _, terms in ranked:
        for term in terms:
            cuts |= {term.start, term.covered_until}
            price = term.terms.price_of(charge_id, zone, state)
            if price is not None:
                cuts.update(_cuts_inside(term, price, start, end))
    days = sorted(cut for cut in cuts if start <= cut <= end)
    segments: list[PriceSegment] = []
    for first, last in pairwise(days):
        found = _price_on((charge_id, zone, state), first, last, ranked, catalog)
        if segments and replace(segments[-1], start=first, end=last) == found:
            segments[-1] = replace(segments[-1], end=last)
        else:
            segments.append(found)
    return tuple(segments)


def _cuts_inside(
    term: ContractTerm, price: ContractPrice, start: date, end: date
) -> Iterator[date]:
    for seasonal in price.seasonal:
        season = next(s for s in term.terms.seasons if s.id == seasonal.season)
        for year in range(start.year, end.year + 1):
            yield from season.boundaries(year)
    for starts, _ in step_starts(price.ramp, term.ramp_anchor):
        yield starts


def precedence(contract: Contract) -> tuple[bool, int, str]:
    """Sort key of contracts: line items first, then the latest start, then the id."""
    return contract.level == "account", -contract.start.toordinal(), contract.id


def _price_on(
    asked: tuple[str, str | None, str | None],
    day: date,
    until: date,
    contracts: Sequence[tuple[Contract, Sequence[ContractTerm]]],
    catalog: Sequence[DatedRate],
) -> PriceSegment:
    for contract, terms in contracts:
        term = next((term for term in terms if term.holds(day)), None)
        price = None if term is None else term.terms.price_of(*asked)
        if term is None or price is None:
            continue
        rate, season = _rate_on(term, price, day)
        return PriceSegment(day, until, contract.level, rate, contract.id, term.number, season)
    for dated in catalog:
        if dated.valid_from <= day and (dated.valid_to is None or day < dated.valid_to):
            return PriceSegment(day, until, "catalog", dated.rate)
    return PriceSegment(day, until, "unpriced", None)


def _rate_on(term: ContractTerm, price: ContractPrice, day: date) -> tuple[Decimal, str | None]:
    base = price.rate
    if base is None:
        base = ramp_value(price.ramp, term.ramp_anchor, day)
    season_id = None
    for seasonal in price.seasonal:
        season = next(s for s in term.terms.seasons if s.id == seasonal.season)
        if season.holds(day):
            base, season_id = seasonal.rate, season.id
            break
    if term.price_factor != 1:
        base = plain(round_half_up(Fraction(base) * term.price_factor, RATE_SCALE))
    return base, season_id


def plain(value: Decimal) -> Decimal:
    """Return the same number without trailing zeros and without an exponent."""
    return Decimal(f"{value.normalize():f}")


def price_period(
    segments: Sequence[PriceSegment],
    period_start: date,
    period_end: date,
    *,
    currency: str,
    quantity: int | Decimal = 1,
) -> PeriodPrice:
    """Price a recurring charge over a period: rate x quantity x days / days of the period, summed.

    CT-11: the period's amount is rounded once and its segments take largest-remainder parts, ties
    to the earlier one (RULEBOOK §0.2). A negative quantity reverses the amounts exactly.
    """
    whole = (period_end - period_start).days
    priced = [segment for segment in segments if segment.rate is not None]
    exact = [
        Fraction(segment.rate or 0) * Fraction(quantity) * segment.days / whole
        for segment in priced
    ]
    amount = round_money(sum(exact, Fraction(0)), currency)
    scale = 10 ** minor_digits(currency)
    parts = apportion_signed(
        to_minor(amount, currency),
        [share * scale for share in exact],
        [segment.start for segment in priced],
    )
    return PeriodPrice(
        amount=amount,
        currency=currency,
        segments=tuple(
            PricedSegment(segment, share, round_money(Fraction(part, scale), currency))
            for segment, share, part in zip(priced, exact, parts, strict=True)
        ),
        unpriced=tuple(segment for segment in segments if segment.rate is None),
        explanation=tuple(
            f"{segment.start}..{segment.end}: {segment.rate} x {quantity} x "
            f"{segment.days}/{whole} days, price of {_origin(segment)}"
            for segment in priced
        ),
    )


def _origin(segment: PriceSegment) -> str:
    if segment.contract_id is None:
        return "the catalog"
    season = f", season {segment.season}" if segment.season else ""
    return (
        f"{segment.source.replace('_', ' ')} contract {segment.contract_id}, "
        f"term {segment.term_number}{season}"
    )
