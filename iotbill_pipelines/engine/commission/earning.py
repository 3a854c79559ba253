"""What a partner earns of a period's lines (RULEBOOK §7; CM-01, CM-02, CM-05, CM-06, CM-07).

A commission is a matter of the whole set: the unit of computation is (partner, plan, period).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from iotbill_pipelines.engine.commission.terms import CommissionPlan, CommissionTier
from iotbill_pipelines.engine.money import (
    apportion_signed,
    minor_digits,
    round_half_up,
    round_money,
    to_minor,
)


@dataclass(frozen=True)
class CommissionLine:
    """An invoice or credit line: revenue and cost before tax, credits negative.

    ``collected`` is how much of ``revenue`` was paid. ``age_month`` is the month of the service's
    life (1 = first). A credit to an earlier period gives ``percent`` of the original earning: it
    takes back what that earned, in the month of the credit note (CM-06).
    """

    key: str
    revenue: Decimal
    cost: Decimal = Decimal(0)
    collected: Decimal | None = None
    age_month: int | None = None
    percent: Decimal | None = None


@dataclass(frozen=True)
class EarnedLine:
    """A line's part of the commission; ``basis`` and ``exact`` before rounding."""

    key: str
    basis: Fraction
    exact: Fraction
    amount: Decimal


@dataclass(frozen=True)
class Earned:
    """A period's commission, rounded once, and its lines' parts, under the plan's version."""

    plan_id: str
    plan_version: str
    currency: str
    basis: Fraction
    amount: Decimal
    lines: tuple[EarnedLine, ...]
    explanation: tuple[str, ...]


def earn(plan: CommissionPlan, lines: Sequence[CommissionLine], currency: str) -> Earned:
    """Return the commission of one partner's lines of one period.

    Tiers are reached by the sum of all lines without a ``percent`` of their own, credits included;
    of a negative sum the tiers apply to its absolute value, so that reversing every line reverses
    the commission. Lines share it by their basis (largest remainder, ties to the smallest key).

    Raises ValueError for a repeated key, or a line without age under an age plan.
    """
    if len({line.key for line in lines}) != len(lines):
        raise ValueError(f"commission plan {plan.id}: two lines have the same key")
    bases = {line.key: _basis(plan, line) for line in lines}
    tiered = sum((bases[line.key] for line in lines if line.percent is None), Fraction(0))
    rate = _set_rate(plan, tiered)
    exact: dict[str, Fraction] = {}
    told: list[str] = []
    for line in lines:
        percent = rate
        if line.percent is not None:
            percent = Fraction(line.percent)
        elif plan.age_tiers:
            percent = _age_percent(plan, line)
        exact[line.key] = bases[line.key] * percent / 100
        told.append(f"{line.key}: {_show(bases[line.key])} x {_show(percent)} %")
    amount = round_money(sum(exact.values(), Fraction(0)), currency)
    scale = 10 ** minor_digits(currency)
    keys = [line.key for line in lines]
    parts = (
        apportion_signed(to_minor(amount, currency), [exact[key] * scale for key in keys], keys)
        if keys
        else []
    )
    return Earned(
        plan_id=plan.id,
        plan_version=plan.version,
        currency=currency,
        basis=sum(bases.values(), Fraction(0)),
        amount=amount,
        lines=tuple(
            EarnedLine(key, bases[key], exact[key], round_money(Fraction(part, scale), currency))
            for key, part in zip(keys, parts, strict=True)
        ),
        explanation=tuple(told),
    )


def _basis(plan: CommissionPlan, line: CommissionLine) -> Fraction:
    """Return revenue or margin of a line, as far as it is paid where that decides.

    A partial payment pays margin in the same proportion as revenue.
    """
    value = Fraction(line.revenue)
    if plan.basis == "margin":
        value -= Fraction(line.cost)
    if plan.recognised == "collected":
        if not line.revenue:
            return Fraction(0)
        value *= Fraction(line.collected or 0) / Fraction(line.revenue)
    return value


def _set_rate(plan: CommissionPlan, basis: Fraction) -> Fraction:
    """Return the percentage that the whole basis earns; a blend of the tiers when marginal."""
    if plan.percent is not None:
        return Fraction(plan.percent)
    if not plan.tiers or not basis:
        return Fraction(0)
    size = abs(basis)
    if plan.tier_method == "cliff":
        return Fraction(_tier(plan.tiers, size).percent)
    total, lower = Fraction(0), Fraction(0)
    for tier in plan.tiers:
        upper = size if tier.up_to is None else min(size, Fraction(tier.up_to))
        total += max(Fraction(0), upper - lower) * Fraction(tier.percent)
        lower = max(lower, upper)
    return total / size


def _tier(tiers: Sequence[CommissionTier], size: Fraction) -> CommissionTier:
    return next(tier for tier in tiers if tier.up_to is None or size <= Fraction(tier.up_to))


def _age_percent(plan: CommissionPlan, line: CommissionLine) -> Fraction:
    age = line.age_month
    if age is None or age < 1:
        raise ValueError(
            f"commission plan {plan.id} pays by age, but line {line.key} has age month {age}; "
            "give the month of the service's life, the first being 1"
        )
    return Fraction(
        next(
            tier.percent
            for tier in plan.age_tiers
            if tier.up_to_month is None or age <= tier.up_to_month
        )
    )


def _show(value: Fraction) -> str:
    return f"{round_half_up(value, 4):f}"
