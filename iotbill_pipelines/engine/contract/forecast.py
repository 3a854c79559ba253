"""The commit cockpit: where a window will end if nothing changes (RULEBOOK §§4, 9; CT-15)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Literal

from iotbill_pipelines.engine.contract.commitments import (
    CommitmentWindow,
    Shortfall,
    committed_amount,
    shortfall_of,
)
from iotbill_pipelines.engine.contract.prices import step_starts
from iotbill_pipelines.engine.contract.terms import FLOW_KINDS, Commitment, Contract, RampStep
from iotbill_pipelines.engine.money import round_money


@dataclass(frozen=True)
class CommitForecast:
    """A window's expected shortfall as of a day, and what to accrue for it now.

    ``step`` is the ramp step in force and ``next_step`` the day and step that follow it within the
    term. Amounts are in the contract's currency, rounded.
    """

    committed: Decimal
    eligible_to_date: Decimal
    forecast_rest: Decimal
    expected_shortfall: Decimal
    accrue_now: Decimal
    step: RampStep | None
    next_step: tuple[date, RampStep] | None
    explanation: tuple[str, ...]


def run_rate_rest(eligible_to_date: Decimal, start: date, as_of: date, end: date) -> Fraction:
    """Return what ``[as_of, end)`` adds if each day is like the average day of ``[start, as_of)``.

    0 while no day has passed.
    """
    passed = (as_of - start).days
    if passed <= 0:
        return Fraction(0)
    return Fraction(eligible_to_date) * max(0, (end - as_of).days) / passed


def forecast(
    commitment: Commitment,
    window: CommitmentWindow,
    *,
    as_of: date,
    eligible_to_date: Decimal,
    forecast_rest: Decimal | None = None,
    recognise: Literal["at_period_end", "highly_probable"] = "at_period_end",
) -> CommitForecast:
    """Return the expected shortfall of a money commitment at the window's end (CT-15).

    ``forecast_rest`` defaults to the run rate. By default nothing is accrued before the window
    ends: a shortfall is billed and recognised then. ``highly_probable`` accrues the share of the
    expected shortfall that the days passed bear to the window's covered days.
    """
    currency = window.term.terms.currency
    committed, told = committed_amount(commitment, window)
    rest = (
        Fraction(forecast_rest)
        if forecast_rest is not None
        else run_rate_rest(eligible_to_date, window.covered_from, as_of, window.covered_until)
    )
    exact = max(Fraction(0), committed - Fraction(eligible_to_date) - rest)
    passed = (min(as_of, window.covered_until) - window.covered_from).days
    whole = (window.covered_until - window.covered_from).days
    share = Fraction(max(0, passed), whole)
    if recognise == "at_period_end" and share < 1:
        share = Fraction(0)
    shortfall = round_money(exact, currency)
    accrued = round_money(exact * share, currency)
    steps = list(step_starts(commitment.amounts, window.term.ramp_anchor))
    begun = [step for starts, step in steps if starts <= as_of]
    coming = [
        (starts, step) for starts, step in steps if as_of < starts < window.term.covered_until
    ]
    rest_rounded = round_money(rest, currency)
    return CommitForecast(
        committed=round_money(committed, currency),
        eligible_to_date=eligible_to_date,
        forecast_rest=rest_rounded,
        expected_shortfall=shortfall,
        accrue_now=accrued,
        step=begun[-1] if begun else None,
        next_step=coming[0] if coming else None,
        explanation=(
            *told,
            f"{round_money(committed, currency)} - {eligible_to_date} to date - {rest_rounded} "
            f"{'run rate' if forecast_rest is None else 'forecast'} = {shortfall} {currency} short",
            f"accrue {accrued}: recognised {recognise.replace('_', ' ')}",
        ),
    )


def project(
    contract: Contract,
    commitment: Commitment,
    window: CommitmentWindow,
    so_far: Shortfall,
    as_of: date,
) -> Shortfall:
    """Return the window's shortfall at its end if every day left is like the average day so far.

    ``so_far`` is the window evaluated with what is known on ``as_of``, the first day not known. How
    many services there are is known for the days ahead too, so such commitments are as evaluated.
    """
    if commitment.kind not in FLOW_KINDS:
        return so_far
    covered = (window.covered_until - window.covered_from).days
    passed = (min(as_of, window.covered_until) - window.covered_from).days
    measured = so_far.measured * covered / passed if passed > 0 else so_far.measured
    return shortfall_of(contract, commitment, window, so_far.committed, measured)
