"""Discounts of a contract: rounded once over the lines they cover, then parted (RULEBOOK §§0.2, 4).

Discounts come after surcharges and per-charge minima, before commitments and tax.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from iotbill_pipelines.engine.contract.terms import Discount
from iotbill_pipelines.engine.money import (
    apportion_signed,
    minor_digits,
    round_money,
    to_minor,
)


@dataclass(frozen=True)
class DiscountableLine:
    """A charge before discounts: rounded money of ``charge_id``, under a stable key."""

    key: str
    charge_id: str
    amount: Decimal


@dataclass(frozen=True)
class DiscountedLine:
    """A line after discounts; ``discounts`` are (discount id, amount taken off)."""

    key: str
    amount: Decimal
    discounts: tuple[tuple[str, Decimal], ...]

    @property
    def discount(self) -> Decimal:
        """The amount taken off in all."""
        return sum((amount for _, amount in self.discounts), Decimal(0))


def discount_lines(
    lines: Sequence[DiscountableLine], discounts: Sequence[Discount], currency: str
) -> tuple[DiscountedLine, ...]:
    """Apply the discounts one after the other, each to what the ones before it left.

    A discount without ``charges`` covers all lines. A percentage applies to the covered lines' sum,
    credits included; an amount is limited to what the covered positive lines add up to, so it never
    turns a charge into a credit. The order of the lines does not matter; the discounts' does.
    """
    scale = 10 ** minor_digits(currency)
    net = {line.key: line.amount for line in lines}
    if len(net) != len(lines):
        raise ValueError("two lines have the same key")
    taken: dict[str, list[tuple[str, Decimal]]] = {line.key: [] for line in lines}
    for discount in discounts:
        covered = [
            line.key
            for line in lines
            if (not discount.charges or line.charge_id in discount.charges)
            and (discount.percent is not None or net[line.key] > 0)
        ]
        base = sum((Fraction(net[key]) for key in covered), Fraction(0))
        if not base and discount.percent is None:
            continue
        if discount.percent is not None:
            share = Fraction(discount.percent) / 100
            total = round_money(base * share, currency)
        else:
            total = round_money(min(Fraction(discount.amount or 0), base), currency)
            share = Fraction(total) / base
        parts = apportion_signed(
            to_minor(total, currency),
            [Fraction(net[key]) * share * scale for key in covered],
            covered,
        )
        for key, part in zip(covered, parts, strict=True):
            amount = round_money(Fraction(part, scale), currency)
            net[key] -= amount
            taken[key].append((discount.id, amount))
    return tuple(DiscountedLine(line.key, net[line.key], tuple(taken[line.key])) for line in lines)
