"""Periods, billing days and proration (RULEBOOK §§0.3, 0.4, 1): dates in, dates and days out."""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from fractions import Fraction
from itertools import pairwise
from zoneinfo import ZoneInfo

_MONTH = re.compile(r"(\d{4})-(0[1-9]|1[0-2])")


@dataclass(frozen=True, order=True)
class Month:
    """A calendar month; the usage, billing or accounting period of RULEBOOK §0.4."""

    year: int
    month: int

    @classmethod
    def parse(cls, text: str) -> Month:
        """Read ``YYYY-MM``. Raises ValueError naming the text."""
        match = _MONTH.fullmatch(text)
        if not match:
            raise ValueError(f"{text!r} is not a month; write it as YYYY-MM, for example 2026-10")
        return cls(int(match[1]), int(match[2]))

    @classmethod
    def of(cls, day: date) -> Month:
        return cls(day.year, day.month)

    def __str__(self) -> str:
        return f"{self.year:04d}-{self.month:02d}"

    @property
    def start(self) -> date:
        return date(self.year, self.month, 1)

    @property
    def end(self) -> date:
        """First day after the month (intervals are half-open)."""
        return (self + 1).start

    @property
    def last_day(self) -> date:
        return self.end - timedelta(days=1)

    @property
    def days(self) -> int:
        return monthrange(self.year, self.month)[1]

    def __add__(self, months: int) -> Month:
        index = self.year * 12 + self.month - 1 + months
        return Month(index // 12, index % 12 + 1)

    def __sub__(self, months: int) -> Month:
        return self + -months


def months_between(first: Month, last: Month) -> Iterator[Month]:
    """Yield the months from ``first`` to ``last``, both included."""
    while first <= last:
        yield first
        first += 1


def add_months(day: date, months: int) -> date:
    """Return the same day ``months`` later, clamped to the end of a shorter month.

    Counting from one anchor never drifts: 31 January + 1 is 28 February, + 2 is 31 March.
    """
    return clamp_day(Month.of(day) + months, day.day)


def months_elapsed(anchor: date, day: date) -> Fraction:
    """Return the months from ``anchor`` to ``day``: whole months and days / days of that month.

    Months run from the anchor's day to the same day of the next month, so what has elapsed and what
    remains of a term add up to the term (RULEBOOK §4, CT-09). ``day`` before ``anchor`` is negative
    months; the result grows with every day.
    """
    months = (day.year - anchor.year) * 12 + day.month - anchor.month
    if add_months(anchor, months) > day:
        months -= 1
    start = add_months(anchor, months)
    return months + Fraction((day - start).days, (add_months(anchor, months + 1) - start).days)


def clamp_day(month: Month, day: int) -> date:
    """Return bill day ``day`` of ``month``, clamped to its last day without drifting (ST-19)."""
    return date(month.year, month.month, min(day, month.days))


WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
CYCLE_MONTHS = {"month": 1, "quarter": 3, "half_year": 6, "year": 12}
"""Cycles that are counted in months; the other one is the week."""


@dataclass(frozen=True)
class Cycle:
    """How time is cut into the windows of a charge or pool (RULEBOOK §§0.4, 1, 3).

    ``unit`` is ``week`` or one of :data:`CYCLE_MONTHS`. A week begins on ``weekday`` (0 = Monday);
    anything else on ``day`` (null: the payer's bill day), clamped to shorter months without
    drifting, of ``month`` and of every so many months before and after it.
    """

    unit: str = "month"
    day: int | None = None
    month: int = 1
    weekday: int = 0

    @property
    def months(self) -> int:
        """Months of a window, 0 for a week."""
        return CYCLE_MONTHS.get(self.unit, 0)

    def __str__(self) -> str:
        """``month``, ``month@19``, ``quarter@2-15``, ``year@4``, ``week@sat``."""
        if not self.months:
            return f"{self.unit}@{WEEKDAYS[self.weekday]}"
        parts = [str(self.month)] if self.months > 1 else []
        parts += [] if self.day is None else [str(self.day)]
        return "@".join([self.unit, *(["-".join(parts)] if parts else [])])

    @classmethod
    def parse(cls, text: str) -> Cycle:
        """Read what :meth:`__str__` writes."""
        unit, _, rest = text.partition("@")
        if unit == "week":
            return cls(unit, weekday=WEEKDAYS.index(rest))
        numbers = [int(part) for part in rest.split("-") if part]
        if CYCLE_MONTHS[unit] > 1:
            month, *numbers = numbers
            return cls(unit, numbers[0] if numbers else None, month)
        return cls(unit, numbers[0] if numbers else None)

    def windows(self, first: date, end: date, bill_day: int = 1) -> Iterator[tuple[date, date]]:
        """Yield the windows ``[start, end)`` that share a day with ``[first, end)``, in order."""
        day = bill_day if self.day is None else self.day
        if not self.months:
            start = first - timedelta(days=(first.weekday() - self.weekday) % 7)
            while start < end:
                yield start, start + timedelta(days=7)
                start += timedelta(days=7)
            return
        month = Month.of(first) - (Month.of(first).month - self.month) % self.months
        if clamp_day(month, day) > first:
            month -= self.months
        while (start := clamp_day(month, day)) < end:
            month += self.months
            yield start, clamp_day(month, day)

    def window(self, day: date, bill_day: int = 1) -> tuple[date, date]:
        """Return the window ``[start, end)`` that holds a day (ST-19)."""
        return next(self.windows(day, day + timedelta(days=1), bill_day))

    def by_month(self, start: date, end: date, bill_day: int = 1) -> Iterator[tuple[date, date]]:
        """Yield the months of one of :meth:`windows`; none for a week."""
        if self.months:
            day = bill_day if self.day is None else self.day
            yield from Cycle("month", day).windows(start, end)


def carrier_months(
    bill_day: int | None, first: date, end: date
) -> Iterator[tuple[Month, date, date]]:
    """Yield a carrier's months that share a day with ``[first, end)``: name, first day, end.

    A month that begins on another day than the 1st is called after the one that holds its last day
    (RULEBOOK §0.4: 19 March to 18 April is 2026-04).
    """
    for start, until in Cycle("month", bill_day or 1).windows(first, end):
        yield Month.of(until - timedelta(days=1)), start, until


MONTH_PARTS = 377_580
"""Parts of a month of which a day of 28, 29, 30 or 31 is a whole number."""


class ProrationBasis(StrEnum):
    """How days become a fraction of a recurring price (RULEBOOK §1, ST-05..ST-09)."""

    ACTUAL = "actual"
    ACTUAL_30 = "actual_30"
    STRICT_30_360 = "strict_30_360"
    BY_MONTH_FIRST = "by_month_first"
    NONE = "none"
    FULL_ON_ACTIVATION = "full_on_activation"


def prorate(
    start: date, end: date, period_start: date, period_end: date, basis: ProrationBasis
) -> tuple[int, int]:
    """Return (numerator, denominator) days of ``[start, end)`` within a billing period.

    The segment is clipped to the period; an empty one gives 0 days. ``actual_30`` never exceeds a
    whole price. ``none`` and ``full_on_activation`` charge the whole period for any day in it.
    ``by_month_first`` gives each of the period's months an equal part of the price; its denominator
    counts the parts of a month that 28, 29, 30 and 31 days have in common.
    """
    start, end = max(start, period_start), min(end, period_end)
    days, whole = (end - start).days, (period_end - period_start).days
    months = (period_end.year - period_start.year) * 12 + period_end.month - period_start.month
    months = max(1, months)
    if days <= 0:
        return 0, whole
    match basis:
        case ProrationBasis.ACTUAL:
            return days, whole
        case ProrationBasis.ACTUAL_30:
            return min(days, 30 * months), 30 * months
        case ProrationBasis.STRICT_30_360:
            return min(_strict_30(start, end), 30 * months), 30 * months
        case ProrationBasis.BY_MONTH_FIRST:
            bounds = [add_months(period_start, number) for number in range(months + 1)]
            parts = sum(
                max(0, (min(end, until) - max(start, since)).days)
                * (MONTH_PARTS // (until - since).days)
                for since, until in pairwise(bounds)
            )
            return parts, MONTH_PARTS * months
        case ProrationBasis.NONE | ProrationBasis.FULL_ON_ACTIVATION:
            return whole, whole


def _strict_30(start: date, end: date) -> int:
    last = end - timedelta(days=1)
    last_of_month = Month.of(last).last_day
    day_to = 30 if last == last_of_month else min(last.day, 30)
    months = (last.year - start.year) * 12 + last.month - start.month
    return max(0, months * 30 + day_to - min(start.day, 30) + 1)


def quarter_offsets(zone: str, first: datetime, last: datetime) -> list[int]:
    """Return by how many minutes a zone's clocks are ahead of UTC in each quarter hour of a span.

    For joining instead of converting: every zone offset in use since 1972 is a multiple of 15
    minutes, so a quarter hour never straddles a local midnight. ``first`` and ``last`` are UTC,
    naive, and begin an hour. Raises zoneinfo.ZoneInfoNotFoundError for a zone that IANA does not
    know.
    """
    tz = ZoneInfo(zone)

    def ahead(moment: datetime) -> int:
        local = tz.fromutc(moment.replace(tzinfo=tz)).replace(tzinfo=None)
        return (local - moment) // timedelta(minutes=1)

    offsets: list[int] = []
    hour, begins = first, ahead(first)
    while hour < last:
        ends = ahead(hour + timedelta(hours=1))
        if begins == ends:
            offsets += [begins] * 4
        else:  # the clocks change within this hour
            offsets += [ahead(hour + timedelta(minutes=15 * number)) for number in range(4)]
        hour, begins = hour + timedelta(hours=1), ends
    return offsets
