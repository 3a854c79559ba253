"""Taking back an upfront commission when the customer leaves early (RULEBOOK §7; CM-03)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from math import floor
from typing import Literal

from pydantic import Field, model_validator

from iotbill_pipelines.engine.calendars import months_elapsed
from iotbill_pipelines.engine.money import round_money
from iotbill_pipelines.engine.terms import Terms


class ClawbackTerms(Terms):
    """``straight_line`` over a window of full months, or ``full`` when it ends within some days."""

    method: Literal["straight_line", "full"]
    window_months: int | None = Field(default=None, ge=1)
    within_days: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _shape(self) -> ClawbackTerms:
        if (self.method == "straight_line") != (self.window_months is not None):
            raise ValueError("give window_months for straight_line, and only then")
        if (self.method == "full") != (self.within_days is not None):
            raise ValueError("give within_days for full, and only then")
        return self


@dataclass(frozen=True)
class Clawback:
    """What to take back: ``amount`` is zero or of the opposite sign of the upfront commission."""

    amount: Decimal
    currency: str
    served_full_months: int
    served_days: int
    explanation: str


def served_days(active_from: date, cancelled_on: date, suspended_days: int = 0) -> int:
    """Return the days served up to (not including) the cancellation, without suspended ones."""
    return max(0, (cancelled_on - active_from).days - suspended_days)


def served_full_months(active_from: date, cancelled_on: date, suspended_days: int = 0) -> int:
    """Return the full months served; suspended days do not count towards them."""
    served_until = max(active_from, cancelled_on - timedelta(days=suspended_days))
    return floor(months_elapsed(active_from, served_until))


def claw_back(
    terms: ClawbackTerms,
    upfront: Decimal,
    currency: str,
    active_from: date,
    cancelled_on: date,
    *,
    suspended_days: int = 0,
) -> Clawback:
    """Return the clawback of an upfront commission for a service cancelled on ``cancelled_on``.

    Straight line: the months of the window that were not served in full, over the window (CM-03).
    Full: everything when at most ``within_days`` were served. Nothing once the window is over.
    """
    months = served_full_months(active_from, cancelled_on, suspended_days)
    days = served_days(active_from, cancelled_on, suspended_days)
    if terms.window_months is not None:
        share = Fraction(max(0, terms.window_months - months), terms.window_months)
        told = f"{upfront} x {max(0, terms.window_months - months)}/{terms.window_months} months"
    else:
        within = days <= (terms.within_days or 0)
        share = Fraction(1 if within else 0)
        told = f"{days} days served, all is due back within {terms.within_days} days"
    return Clawback(round_money(-Fraction(upfront) * share, currency), currency, months, days, told)
