"""What a count of units costs at a price, tier by tier, in exact fractions and in words.

A model is told as what a count costs from zero; a part of a count costs what its end costs more
than its start. A credit is the mirror of a charge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, ROUND_HALF_UP, ROUND_UP
from fractions import Fraction

from iotbill_pipelines.engine.money import minor_digits
from iotbill_pipelines.operations.explaining.words import (
    RATE_UNIT,
    Result,
    Row,
    Step,
    Unexplained,
    exactly,
    in_money,
    in_units,
    tier_bounds,
)

_CUMULATIVE = ("flat", "graduated", "package", "threshold_excess")
_WHOLE = ("volume", "stairstep", "threshold_all")
_MODES: Mapping[str, tuple[str, str]] = {
    "half_up": (ROUND_HALF_UP, "half up"),
    "half_even": (ROUND_HALF_EVEN, "half to even"),
    "up": (ROUND_UP, "up"),
    "down": (ROUND_DOWN, "down"),
}


@dataclass(frozen=True)
class Slice:
    """The units after ``start`` up to ``end`` of a count that ends at ``total``."""

    start: int
    end: int
    total: int
    connections: int = 0


def stepped(units: int, initial: int, subsequent: int) -> int:
    """Units in increments: nothing stays nothing, a credit mirrors a charge (RT-12..14)."""
    if units == 0:
        return 0
    more = max(0, abs(units) - initial)
    rounded = initial + -(-more // subsequent) * subsequent
    return rounded if units > 0 else -rounded


def rounded(value: Fraction, digits: int, mode: str) -> Fraction:
    """Round to decimals; every mode treats a credit as the mirror of a charge."""
    scaled = abs(value) * 10**digits
    whole, rest = divmod(scaled.numerator, scaled.denominator)
    twice = 2 * rest - scaled.denominator
    up = {
        ROUND_HALF_UP: twice >= 0,
        ROUND_HALF_EVEN: twice > 0 or (twice == 0 and whole % 2 == 1),
        ROUND_UP: rest > 0,
        ROUND_DOWN: False,
    }[_MODES[mode][0]]
    return Fraction((whole + up) * (1 if value >= 0 else -1), 10**digits)


def cost(
    price: Row, tiers: Sequence[Row], charge: Row, per: str, part: Slice
) -> tuple[Fraction, list[Step]]:
    """Price a part of a count, with its connect fees, bounds and rounding."""
    model = price["model"]
    if model in _CUMULATIVE:
        amount, told = _cumulative(price, tiers, charge, per, part)
    elif model in _WHOLE:
        amount, told = _whole(price, tiers, charge, per, part)
    else:
        raise Unexplained(f"price {price['price_id']} has the model {model!r}, unknown here")
    if price["at_zero"] and part.total == part.start == part.end == 0:
        amount = Fraction(tiers[0]["flat_e12"], RATE_UNIT)
        told.append(Step("  nothing used: the first tier's flat price is due", exactly(amount)))
    if price["connect_e12"] and part.connections:
        fee = Fraction(price["connect_e12"], RATE_UNIT)
        amount += fee * part.connections
        told.append(
            Step(f"  {part.connections:,} connect fees of {exactly(fee)}",
                 exactly(fee * part.connections))
        )  # fmt: skip
    return _bounded(price, part, amount, told)


def _bounded(
    price: Row, part: Slice, amount: Fraction, told: list[Step]
) -> tuple[Fraction, list[Step]]:
    sign = -1 if amount < 0 else 1
    if part.start != part.end:
        for name, choose, words in (
            ("least_e12", max, "raised to the least of the price"),
            ("most_e12", min, "lowered to the most of the price"),
        ):
            if price[name] is not None:
                bound = Fraction(price[name], RATE_UNIT)
                held = choose(abs(amount), bound) * sign
                if held != amount:
                    amount = held
                    told.append(Step(f"  {words}", exactly(amount)))
    if price["rounding_mode"] is not None:
        mode, digits = price["rounding_mode"], price["rounding_digits"]
        amount = rounded(amount, digits, mode)
        told.append(
            Step(f"  rounded {_MODES[mode][1]} to {digits} decimals, by the price", exactly(amount))
        )
    return amount, told


def _cumulative(
    price: Row, tiers: Sequence[Row], charge: Row, per: str, part: Slice
) -> tuple[Fraction, list[Step]]:
    size, told, amount = charge["unit_size"], [], Fraction(0)
    start, end = (_position(price, size, at) for at in (part.start, part.end))
    if price["model"] == "package" and start != end:
        begun = "full" if price["package_rounding"] == "down" else "begun"
        told.append(Step(f"  {(end - start) // size:,} packages of {per} {begun}"))
    for tier in tiers:
        units = _inside(tier, end) - _inside(tier, start)
        where = f"{tier_bounds(tier, charge, per)}: " if len(tiers) > 1 else ""
        rate = Fraction(tier["rate_e12"], RATE_UNIT)
        if tier["block_quantity"]:
            blocks = _blocks(_inside(tier, end), tier) - _blocks(_inside(tier, start), tier)
            owed = blocks * rate
            words = f"{blocks:,} started blocks x {exactly(rate)}"
        else:
            owed = Fraction(units, size) * rate
            words = f"{in_units(units, charge)} x {exactly(rate)} per {per}"
        if units:
            told.append(Step(f"  {where}{words}", exactly(owed)))
            amount += owed
        flat = Fraction(tier["flat_e12"], RATE_UNIT)
        entered = _entered(price, tier, end) - _entered(price, tier, start)
        if flat and entered:
            told.append(Step("  flat price of the tier, entered", exactly(flat * entered)))
            amount += flat * entered
    return amount, told


def _position(price: Row, size: int, at: int) -> int:
    if price["model"] != "package":
        return at
    down = price["package_rounding"] == "down"
    packages = abs(at) // size if down else -(-abs(at) // size)
    return packages * size if at >= 0 else -packages * size


def _inside(tier: Row, position: int) -> int:
    """Units of a count that are in a tier, negative for a credit."""
    upper = tier["upper_quantity"]
    reached = abs(position) if upper is None else min(abs(position), upper)
    units: int = max(0, reached - tier["lower_quantity"])
    return units if position >= 0 else -units


def _blocks(units: int, tier: Row) -> int:
    blocks: int = -(-abs(units) // tier["block_quantity"])
    return blocks if units >= 0 else -blocks


def _entered(price: Row, tier: Row, position: int) -> int:
    lower, reached = tier["lower_quantity"], abs(position)
    inside = reached > lower or (price["edge"] == "exclusive" and 0 < lower == reached)
    return 0 if not inside else 1 if position > 0 else -1


def _whole(
    price: Row, tiers: Sequence[Row], charge: Row, per: str, part: Slice
) -> tuple[Fraction, list[Step]]:
    if part.start == part.end or part.total == 0:
        return Fraction(0), []
    size, reached = charge["unit_size"], abs(part.total)
    tier = next(
        t
        for t in tiers
        if t["upper_quantity"] is None
        or (reached < t["upper_quantity"])
        or (price["edge"] == "inclusive" and reached == t["upper_quantity"])
    )
    rate, flat = Fraction(tier["rate_e12"], RATE_UNIT), Fraction(tier["flat_e12"], RATE_UNIT)
    told = [
        Step(f"  the count ends at {in_units(part.total, charge)} {per}: "
             f"{tier_bounds(tier, charge, per)}")
    ]  # fmt: skip
    amount = Fraction(0)
    if price["model"] != "stairstep":
        if tier["block_quantity"]:
            blocks = _blocks(part.end, tier) - _blocks(part.start, tier)
            amount, words = blocks * rate, f"{blocks:,} started blocks x {exactly(rate)}"
        else:
            amount = Fraction(part.end - part.start, size) * rate
            words = f"{in_units(part.end - part.start, charge)} x {exactly(rate)} per {per}"
        told.append(Step(f"  {words}", exactly(amount)))
    if flat and part.end == part.total:
        flat = flat if part.total > 0 else -flat
        amount += flat
        told.append(Step("  flat price of the tier", exactly(flat)))
    return amount, told


def finished(exact: Fraction, charge: Row, currency: str, steps: list[Step]) -> Result:
    """Take off a free amount, round once, hold between least and greatest amount (RT-25)."""
    digits, mode = minor_digits(currency), charge["rounding_mode"]
    if charge["allowance_minor"] and exact > 0:
        free = Fraction(charge["allowance_minor"], 10**digits)
        steps.append(Step(f"{exactly(exact)} less the free amount", exactly(-min(free, exact))))
        exact = max(Fraction(0), exact - free)
    minor = int(rounded(exact, digits, mode) * 10**digits)
    words = f"rounded once, {_MODES[mode][1]}, to {digits} decimals of {currency}"
    steps.append(Step(f"sum {exactly(exact)}, {words}", in_money(minor, currency)))
    least, most = charge["minimum_minor"], charge["maximum_minor"]
    if least is not None and minor < least and (exact > 0 or charge["minimum_at_zero"]):
        minor = least
        steps.append(Step("raised to the least amount of the charge", in_money(minor, currency)))
    if most is not None and minor > most:
        minor = most
        steps.append(
            Step("lowered to the greatest amount of the charge", in_money(minor, currency))
        )
    return Result(steps, minor, currency)
