"""Flux: why a month's booked amount differs from the month before, with nothing left over.

The difference of a product is taken apart into volume (more or less of it, at last month's average
price), mix (others bought it, or under other charges), price (what each pays per unit), late usage
and corrections (of earlier months, booked in either), and FX (this month's amount at this month's
rate instead of last month's). The parts are computed exactly and rounded together, so that they add
up to the difference in minor units of the functional currency (RULEBOOK §§0.2, 11).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from iotbill_pipelines.engine.money import apportion_signed, round_half_up

Nature = Literal["regular", "late_usage", "correction"]

EFFECTS = ("volume", "price", "mix", "late_usage", "corrections", "fx")
"""What a difference is taken apart into, in the order of a report."""


@dataclass(frozen=True)
class FluxKey:
    """A line of the report."""

    entity_id: str
    level: str
    product_id: str
    currency: str


@dataclass(frozen=True)
class FluxItem:
    """What an account was booked for a charge in the month before (0) and this month (1).

    ``regular`` is of the month itself; late usage and corrections are of earlier usage periods.
    Quantities are class units, or a count of fees; amounts are minor units.
    """

    key: FluxKey
    account_id: str
    charge_id: str
    nature: Nature
    quantity_0: int
    amount_0_minor: int
    quantity_1: int
    amount_1_minor: int


@dataclass(frozen=True)
class FluxRate:
    """What one minor unit of a currency is worth in minor units of the functional one."""

    functional: str
    rate_0: Fraction
    rate_1: Fraction


@dataclass(frozen=True)
class FluxLine:
    """A product's two months and what lies between them, in minor units of ``functional``."""

    key: FluxKey
    functional: str
    last_minor: int
    this_minor: int
    effects: Mapping[str, int]

    @property
    def difference_minor(self) -> int:
        """This month less the month before; the sum of the effects."""
        return self.this_minor - self.last_minor


def flux_lines(
    items: Iterable[FluxItem], rates: Mapping[tuple[str, str], FluxRate]
) -> list[FluxLine]:
    """Return a line for each key, in order. ``rates`` are by entity and currency."""
    grouped: dict[FluxKey, list[FluxItem]] = defaultdict(list)
    for item in items:
        grouped[item.key].append(item)
    return [
        _line(key, grouped[key], rates[key.entity_id, key.currency])
        for key in sorted(grouped, key=lambda k: (k.entity_id, k.level, k.product_id, k.currency))
    ]


def _line(key: FluxKey, items: list[FluxItem], rate: FluxRate) -> FluxLine:
    regular = [item for item in items if item.nature == "regular"]
    volume, price, mix = _regular(regular)

    def change(nature: Nature) -> Fraction:
        chosen = [item for item in items if item.nature == nature]
        return Fraction(sum(item.amount_1_minor - item.amount_0_minor for item in chosen))

    before = sum(item.amount_0_minor for item in items)
    after = sum(item.amount_1_minor for item in items)
    exact = {
        "volume": volume * rate.rate_0,
        "price": price * rate.rate_0,
        "mix": mix * rate.rate_0,
        "late_usage": change("late_usage") * rate.rate_0,
        "corrections": change("correction") * rate.rate_0,
        "fx": after * (rate.rate_1 - rate.rate_0),
    }
    last = int(round_half_up(before * rate.rate_0, 0))
    this = int(round_half_up(after * rate.rate_1, 0))
    # An effect that is nothing stays nothing: it takes no cent of the others' rounding.
    shares = {name: share for name, share in exact.items() if share}
    if not shares and this != last:
        shares = {"price": Fraction(this - last)}
    parts = apportion_signed(this - last, list(shares.values()), list(shares))
    rounded = dict(zip(shares, parts, strict=True))
    return FluxLine(
        key, rate.functional, last, this, {name: rounded.get(name, 0) for name in EFFECTS}
    )


def _regular(items: list[FluxItem]) -> tuple[Fraction, Fraction, Fraction]:
    """Volume, price and mix of what belongs to the months themselves, exact."""
    change = Fraction(sum(item.amount_1_minor - item.amount_0_minor for item in items))
    at_old_prices = Fraction(0)
    for item in items:
        moved = item.quantity_1 - item.quantity_0
        if item.quantity_0:
            at_old_prices += moved * Fraction(item.amount_0_minor, item.quantity_0)
        elif item.quantity_1:  # it was not there before: it brings its own price
            at_old_prices += item.amount_1_minor
    quantity_0 = sum(item.quantity_0 for item in items)
    quantity_1 = sum(item.quantity_1 for item in items)
    if quantity_0:
        average = Fraction(sum(item.amount_0_minor for item in items), quantity_0)
        volume = (quantity_1 - quantity_0) * average
    else:
        volume = at_old_prices
    return volume, change - at_old_prices, at_old_prices - volume
