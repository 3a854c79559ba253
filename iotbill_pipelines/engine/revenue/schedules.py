"""Straight lines over days or months, with cumulative rounding (RULEBOOK §9; RV-04, RV-05)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from fractions import Fraction

from iotbill_pipelines.engine.calendars import Month, months_between
from iotbill_pipelines.engine.money import round_money


@dataclass(frozen=True)
class Recognition:
    """A month's part of an amount: what it recognises, the sum so far, and what stays deferred.

    ``share`` is the exact share of the amount that is earned by the end of the month.
    """

    month: Month
    share: Fraction
    amount: Decimal
    cumulative: Decimal
    deferred: Decimal


@dataclass(frozen=True)
class Schedule:
    """An amount over the months in which it is earned; the months add up to ``amount``."""

    amount: Decimal
    currency: str
    months: tuple[Recognition, ...]
    explanation: str

    def cumulative_through(self, month: Month) -> Decimal:
        """Return what is recognised by the end of ``month``."""
        reached = [part.cumulative for part in self.months if part.month <= month]
        return reached[-1] if reached else Decimal(0)


def cumulative_schedule(
    amount: Decimal,
    currency: str,
    earned: Iterable[tuple[Month, Fraction]],
    explanation: str,
) -> Schedule:
    """Return the schedule of the shares earned by the end of each month.

    A month is round(amount x share) less what the months before it took, so rounding never adds up
    and the month that reaches a share of 1 takes the rest (RV-04). Raises ValueError when
    ``amount`` is not whole minor units.
    """
    if round_money(amount, currency) != amount:
        raise ValueError(f"{amount} {currency} is not a whole number of minor units")
    parts: list[Recognition] = []
    before = Decimal(0)
    for month, share in earned:
        cumulative = round_money(Fraction(amount) * share, currency)
        parts.append(
            Recognition(month, share, cumulative - before, cumulative, amount - cumulative)
        )
        before = cumulative
    return Schedule(amount, currency, tuple(parts), explanation)


def daily_straight_line(
    amount: Decimal,
    currency: str,
    start: date,
    end: date,
    *,
    ended_early_on: date | None = None,
) -> Schedule:
    """Recognise ``amount`` evenly over the days of ``[start, end)`` (RV-04).

    When the service ended early, the month of its last day recognises everything still deferred:
    what is paid back to the customer is a credit with a schedule of its own.

    Raises ValueError unless ``start < end``.
    """
    if end <= start:
        raise ValueError(f"service {start}..{end} has no day to recognise revenue on")
    days = (end - start).days
    stop = end if ended_early_on is None else min(end, max(ended_early_on, start))
    last = Month.of(max(start, date.fromordinal(stop.toordinal() - 1)))
    earned = [
        (
            month,
            Fraction((min(month.end, end) - start).days, days) if month < last else Fraction(1),
        )
        for month in months_between(Month.of(start), last)
    ]
    early = "" if stop == end else f", the rest when it ended on {stop}"
    return cumulative_schedule(
        amount, currency, earned, f"{amount} {currency} over {days} days {start}..{end}{early}"
    )


def monthly_straight_line(
    amount: Decimal, currency: str, first_month: Month, months: int
) -> Schedule:
    """Recognise ``amount`` evenly over whole months: by month n, n / months of it (RV-05).

    Raises ValueError unless there is at least one month.
    """
    if months < 1:
        raise ValueError(f"{months} months leave no month to recognise revenue in")
    earned = [(first_month + number, Fraction(number + 1, months)) for number in range(months)]
    return cumulative_schedule(
        amount, currency, earned, f"{amount} {currency} over {months} months from {first_month}"
    )


def defer_activation_fee(
    fee: Decimal, currency: str, first_month: Month, term_months: int, *, distinct_service: bool
) -> Schedule:
    """Recognise an activation fee: at once for a distinct service, else over the term (RV-05).

    A non-refundable upfront fee that buys no distinct service is part of the price of what follows
    (ASC 606-10-55-50).
    """
    return monthly_straight_line(fee, currency, first_month, 1 if distinct_service else term_months)
