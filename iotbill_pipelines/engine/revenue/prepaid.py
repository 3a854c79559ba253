"""Prepaid vendor bundles become cost as they are used up (RULEBOOK §§9, 12; RV-06)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from fractions import Fraction
from typing import Literal

from pydantic import Field, model_validator

from iotbill_pipelines.engine.calendars import Month, months_between
from iotbill_pipelines.engine.revenue.schedules import Schedule, cumulative_schedule
from iotbill_pipelines.engine.terms import Money, Terms


class PrepaidBundle(Terms):
    """A quota bought in advance for a validity ``[start, end)``, for example 500 MB for 10 years.

    ``basis``: cost follows ``time`` (days), ``usage`` (of ``included_quantity`` class units), or
    ``faster`` of the two. Whatever is left when the validity ends or the quota is used up is cost
    of that month. A correction of the cost may be negative.
    """

    id: str
    cost: Money
    currency: str
    start: date
    end: date
    basis: Literal["time", "usage", "faster"] = "time"
    included_quantity: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _shape(self) -> PrepaidBundle:
        if self.end <= self.start:
            raise ValueError("end must be after start (the interval is half-open)")
        if self.basis != "time" and not self.included_quantity:
            raise ValueError(f"basis {self.basis} needs included_quantity")
        return self


def amortise(
    bundle: PrepaidBundle,
    through: Month,
    *,
    used_by_month: Mapping[Month, int] | None = None,
    ended_on: date | None = None,
) -> Schedule:
    """Return a prepaid bundle's cost by month, up to ``through``.

    ``used_by_month`` is usage in class units; late usage changes earlier months, and what is booked
    moves by the difference. A SIM that is cancelled (``ended_on``, first day without it) makes the
    rest cost of that month. Months after the bundle is used up are zero.
    """
    used = used_by_month or {}
    days = (bundle.end - bundle.start).days
    stop = bundle.end if ended_on is None else min(bundle.end, max(ended_on, bundle.start))
    last = Month.of(max(bundle.start, date.fromordinal(stop.toordinal() - 1)))
    drawn, earned = 0, []
    for month in months_between(Month.of(bundle.start), min(through, last)):
        drawn += used.get(month, 0)
        by_time = Fraction((min(month.end, bundle.end) - bundle.start).days, days)
        by_usage = min(Fraction(1), Fraction(max(0, drawn), bundle.included_quantity or 1))
        share = {"time": by_time, "usage": by_usage, "faster": max(by_time, by_usage)}[bundle.basis]
        earned.append((month, Fraction(1) if month == last else share))
    return cumulative_schedule(
        bundle.cost,
        bundle.currency,
        earned,
        f"{bundle.cost} {bundle.currency} by {bundle.basis}, {bundle.start}..{bundle.end}",
    )
