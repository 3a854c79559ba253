"""Settling a roaming agreement: deal values, commitments, and what is left to credit or to pay.

All sums are exact; money is rounded once per party and direction and apportioned to its services by
largest remainder (RULEBOOK §0.2).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Literal

from iotbill_pipelines.engine.money import apportion_signed, minor_digits, round_half_up
from iotbill_pipelines.engine.roaming.agreement import (
    Agreement,
    AgreementError,
    AgreementPart,
    Commitment,
    Direction,
    ServiceGroup,
    ServicePrice,
    UsageLine,
    service_name,
    unit_factor,
)

Unmet = Literal["shortfall", "no_deal"]
"""If a commitment is not reached: discounts hold and the missing rest is owed, or there is no deal
and what was charged stands."""

_PLACES = 12
"""Decimals of exact values that are told: those of rates (:data:`engine.money.RATE_SCALE`)."""


@dataclass(frozen=True)
class ServiceSettlement:
    """A service of a group: its usage, what it was charged, what the agreement makes it worth.

    ``deal_value`` is exact, ``amount`` its share of the rounded total; ``shortfall`` the share of
    the missing commitment (negative where it was passed, zero for services outside it).
    ``direction`` is None for a service without usage. ``charged`` and ``taxes`` are in
    ``charged_currency``, everything else in ``currency``.
    """

    party: str
    direction: Direction | None
    service: str
    homes: tuple[str, ...]
    visitors: tuple[str, ...]
    quantity: Decimal
    unit: str
    currency: str
    deal_value: Decimal
    amount: Decimal
    charged: Decimal
    taxes: Decimal
    charged_currency: str
    in_commitment: bool
    shortfall: Decimal

    @property
    def to_credit(self) -> Decimal | None:
        """Charged minus the agreed amount; None while they are in different currencies."""
        return self.charged - self.amount if self.charged_currency == self.currency else None


@dataclass(frozen=True)
class CommitmentResult:
    """A party's commitment: ``reached`` of ``value``; ``owed`` is the missing rest, rounded."""

    party: str
    of: Literal["contract", "deal"]
    currency: str
    value: Decimal
    reached: Decimal
    owed: Decimal
    deal: bool


@dataclass(frozen=True)
class Settlement:
    """What an agreement makes of one operator's usage lines.

    ``unpriced`` are lines that no group of the agreement prices; ``outside_term`` counts lines of
    months outside the agreement's term, which are settled all the same.
    """

    services: tuple[ServiceSettlement, ...]
    commitments: tuple[CommitmentResult, ...]
    unpriced: tuple[UsageLine, ...]
    outside_term: int
    lines: tuple[UsageLine, ...]

    def total(self, direction: Direction) -> dict[str, Decimal]:
        """Rounded deal value by currency."""
        totals: dict[str, Decimal] = defaultdict(Decimal)
        for service in self.services:
            if service.direction == direction:
                totals[service.currency] += service.amount
        return dict(totals)


@dataclass(frozen=True)
class _Priced:
    price: ServicePrice
    group: ServiceGroup
    lines: list[UsageLine]
    quantity: Fraction
    unit: str
    value: Fraction


def settle(
    agreement: Agreement,
    lines: Sequence[UsageLine],
    *,
    unmet: Unmet = "shortfall",
    rates: Mapping[tuple[str, str], Decimal] | None = None,
) -> Settlement:
    """Apply an agreement to one operator's usage lines.

    Quantities are added up per group and service before tiers apply; the other direction's quantity
    decides what is balanced. ``rates`` gives units of the second currency for one of the first, for
    charges in another currency than the party's. A commitment's shortfall is shared by equal parts
    over the priced services that count towards it.

    Raises AgreementError for lines that two groups price, units that do not fit the prices, or
    charges in several currencies, or a commitment in another one, without a rate.
    """
    by_key: dict[tuple[str, str, str], list[UsageLine]] = defaultdict(list)
    for line in lines:
        by_key[(service_name(line.service), line.home, line.visitor)].append(line)
    _no_overlap(agreement)
    services: list[ServiceSettlement] = []
    commitments: list[CommitmentResult] = []
    used: set[tuple[str, str, str]] = set()
    for part in agreement.parts:
        priced = []
        for group in part.groups:
            for price in group.services:
                priced.append(_price(price, group, by_key, agreement))
                used |= set(_keys(price, group.homes, group.visitors))
        settled, commitment = _settle_part(agreement, part, priced, unmet, rates or {})
        services += settled
        commitments += commitment
    unpriced = [line for key, found in by_key.items() if key not in used for line in found]
    return Settlement(
        tuple(services),
        tuple(commitments),
        tuple(unpriced),
        sum(_outside(line.month, agreement) for line in lines),
        tuple(lines),
    )


def _keys(
    price: ServicePrice, homes: Sequence[str], visitors: Sequence[str]
) -> list[tuple[str, str, str]]:
    return [(service_name(price.service), home, visitor) for home in homes for visitor in visitors]


def _no_overlap(agreement: Agreement) -> None:
    seen: dict[tuple[str, str, str], str] = {}
    for part in agreement.parts:
        for group in part.groups:
            for price in group.services:
                for key in set(_keys(price, group.homes, group.visitors)):
                    if key in seen:
                        raise AgreementError(
                            f"{key[0]} of {key[1]} on {key[2]} is priced twice: in the discounts of"
                            f" {seen[key]} and of {part.party}; keep one of them"
                        )
                    seen[key] = part.party


def _price(
    price: ServicePrice,
    group: ServiceGroup,
    by_key: Mapping[tuple[str, str, str], list[UsageLine]],
    agreement: Agreement,
) -> _Priced:
    there = _found(by_key, _keys(price, group.homes, group.visitors))
    back = _found(by_key, _keys(price, group.visitors, group.homes))
    unit = price.unit or next((line.unit for line in (*there, *back)), "")
    try:
        quantity, returned = _sum(there, unit), _sum(back, unit)
    except AgreementError as error:
        raise AgreementError(f"{agreement.name}: {price.service}: {error}") from None
    value = price.value(quantity, returned)
    return _Priced(price, group, there, quantity, there[0].unit if there else unit, value)


def _found(
    by_key: Mapping[tuple[str, str, str], list[UsageLine]], keys: Sequence[tuple[str, str, str]]
) -> list[UsageLine]:
    return [line for key in dict.fromkeys(keys) for line in by_key.get(key, ())]


def _sum(lines: Sequence[UsageLine], unit: str) -> Fraction:
    return sum(
        (Fraction(line.quantity) * unit_factor(line.unit, unit) for line in lines), Fraction(0)
    )


def _settle_part(
    agreement: Agreement,
    part: AgreementPart,
    priced: Sequence[_Priced],
    unmet: Unmet,
    rates: Mapping[tuple[str, str], Decimal],
) -> tuple[list[ServiceSettlement], list[CommitmentResult]]:
    billed_in = {line.currency for item in priced for line in item.lines} - {None}
    currency = part.currency or (sorted(map(str, billed_in)) or [""])[0]
    charges = [
        _charged(item.lines, currency, rates, taxes=agreement.taxes_included) for item in priced
    ]
    values = [item.value for item in priced]
    shortfalls = [Fraction(0)] * len(priced)
    results: list[CommitmentResult] = []
    if part.commitment is not None:
        committed = part.commitment
        if committed.of == "deal":
            counting = [n for n, item in enumerate(priced) if item.price.in_commitment]
            reached = sum((values[n] for n in counting), Fraction(0))
        else:
            counting = list(range(len(priced)))
            reached = sum(
                (
                    _charged(item.lines, currency, rates, taxes=committed.including_taxes)[0]
                    for item in priced
                ),
                Fraction(0),
            )
        value = _committed(committed, currency, rates)
        missing = value - reached
        deal = missing <= 0 or unmet == "shortfall"
        if unmet == "shortfall":
            sharing = [n for n in counting if priced[n].price.priced]
            for n in sharing:
                shortfalls[n] = missing / len(sharing)
        elif not deal or committed.of == "contract":
            values = [charge[0] for charge in charges]
        results.append(
            CommitmentResult(
                part.party,
                committed.of,
                currency,
                _told(value),
                _told(reached),
                _rounded(max(missing, Fraction(0)), currency)
                if unmet == "shortfall"
                else Decimal(0),
                deal,
            )
        )
    amounts = _amounts(priced, values, currency)
    return [
        ServiceSettlement(
            part.party,
            item.lines[0].direction if item.lines else None,
            service_name(item.price.service),
            item.group.homes,
            item.group.visitors,
            _told(_sum(item.lines, item.unit)),
            item.unit,
            currency,
            _told(value),
            amount,
            _told(charge[0]),
            sum((line.taxes for line in item.lines), Decimal(0)),
            charge[1],
            item.price.in_commitment,
            _told(shortfall),
        )
        for item, value, amount, charge, shortfall in zip(
            priced, values, amounts, charges, shortfalls, strict=True
        )
    ], results


def _committed(
    commitment: Commitment, currency: str, rates: Mapping[tuple[str, str], Decimal]
) -> Fraction:
    """A commitment's value in the party's currency."""
    own = commitment.currency or currency
    if own != currency and (own, currency) not in rates:
        raise AgreementError(
            f"the commitment is in {own}, the prices are in {currency}; give a rate from {own} to "
            f"{currency}"
        )
    return Fraction(commitment.value) * (1 if own == currency else Fraction(rates[own, currency]))


def _charged(
    lines: Sequence[UsageLine],
    currency: str,
    rates: Mapping[tuple[str, str], Decimal],
    *,
    taxes: bool,
) -> tuple[Fraction, str]:
    """What the lines were charged, in the party's currency if all of them can be converted."""
    sums: dict[str, Fraction] = defaultdict(Fraction)
    for line in lines:
        amount = line.charges + line.taxes if taxes else line.charges
        sums[line.currency or currency] += Fraction(amount)
    if not set(sums) - {currency}:
        return sums.get(currency, Fraction(0)), currency
    missing = [name for name in sums if name != currency and (name, currency) not in rates]
    if not missing:
        total = sum(
            (
                amount * (1 if name == currency else Fraction(rates[(name, currency)]))
                for name, amount in sums.items()
            ),
            Fraction(0),
        )
        return total, currency
    if len(sums) == 1:
        return next(iter(sums.values())), missing[0]
    raise AgreementError(
        f"charges are in {', '.join(sorted(sums))}; give a rate from {missing[0]} to {currency}"
    )


def _amounts(priced: Sequence[_Priced], values: Sequence[Fraction], currency: str) -> list[Decimal]:
    """Values rounded once per direction and apportioned, in minor units of the currency."""
    digits = minor_digits(currency)
    amounts = [Decimal(0)] * len(priced)
    directions: dict[str, list[int]] = defaultdict(list)
    for n, item in enumerate(priced):
        directions[item.lines[0].direction if item.lines else ""].append(n)
    for numbers in directions.values():
        exact = [values[n] * 10**digits for n in numbers]
        total = int(round_half_up(sum(exact, Fraction(0)), 0))
        for n, minor in zip(numbers, apportion_signed(total, exact, numbers), strict=True):
            amounts[n] = Decimal(minor).scaleb(-digits)
    return amounts


def _told(value: Fraction) -> Decimal:
    told = round_half_up(value, _PLACES)
    return told.quantize(Decimal(1)) if told == told.to_integral_value() else told.normalize()


def _rounded(value: Fraction, currency: str) -> Decimal:
    return round_half_up(value, minor_digits(currency))


def _outside(month: str, agreement: Agreement) -> bool:
    if agreement.start is None or agreement.end is None:
        return False
    if len(month) != len("YYYYMM") or not month.isdigit():
        return True
    return not f"{agreement.start:%Y%m}" <= month <= f"{agreement.end:%Y%m}"
