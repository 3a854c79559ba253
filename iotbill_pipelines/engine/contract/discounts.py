"""Discounts of a contract: rounded once over the lines they cover, then parted (RULEBOOK §§0.2, 4).

Discounts come after surcharges and per-charge minima, before commitments and tax. What they take
off is booked by :mod:`.reductions`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import TypeVar

from iotbill_pipelines.engine.contract.terms import Discount
from iotbill_pipelines.engine.money import (
    apportion_signed,
    minor_digits,
    round_money,
    to_minor,
)

Key = TypeVar("Key", str, tuple[str, str])


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
    net = {line.key: line.amount for line in lines}
    if len(net) != len(lines):
        raise ValueError("two lines have the same key")
    taken: dict[str, list[tuple[str, Decimal]]] = {line.key: [] for line in lines}
    for discount in discounts:
        covered = {
            line.key: net[line.key]
            for line in lines
            if not discount.charges or line.charge_id in discount.charges
        }
        for key, amount in take_off(covered, discount, currency).items():
            net[key] -= amount
            taken[key].append((discount.id, amount))
    return tuple(DiscountedLine(line.key, net[line.key], tuple(taken[line.key])) for line in lines)


def take_off(
    amounts: Mapping[Key, Decimal],
    discount: Discount,
    currency: str,
    *,
    share: Fraction = Fraction(1),
    taken: Decimal = Decimal(0),
) -> dict[Key, Decimal]:
    """Return what one discount takes off each of some amounts, all of which it covers.

    ``share`` is the part of the period that it holds for; ``taken`` what an amount has been used
    for already. Nothing is taken off an amount that adds up to nothing.
    """
    net: dict[Key, Decimal] = {
        key: a for key, a in amounts.items() if discount.percent is not None or a > 0
    }
    base = sum((Fraction(amount) for amount in net.values()), Fraction(0))
    if discount.percent is not None:
        portion = Fraction(discount.percent) / 100 * share
        total = round_money(base * portion, currency)
    elif base:
        granted = round_money(Fraction(discount.amount or 0) * share, currency)
        total = round_money(min(Fraction(max(granted - taken, Decimal(0))), base), currency)
        portion = Fraction(total) / base
    else:
        return {}
    scale = 10 ** minor_digits(currency)
    keys = list(net)
    parts = apportion_signed(
        to_minor(total, currency), [Fraction(net[key]) * portion * scale for key in keys], keys
    )
    return {
        key: round_money(Fraction(part, scale), currency)
        for key, part in zip(keys, parts, strict=True)
    }
