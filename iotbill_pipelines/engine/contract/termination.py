"""Early termination: what ending on a given day costs (RULEBOOK §4, CT-09).

What-if asks the same function for several days; nothing here books anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from fractions import Fraction
from math import ceil

from iotbill_pipelines.engine.calendars import months_elapsed
from iotbill_pipelines.engine.contract.lifecycle import ContractTerm, term_at, terms_of
from iotbill_pipelines.engine.contract.terms import Contract, RampStep
from iotbill_pipelines.engine.money import round_half_up, round_money


@dataclass(frozen=True)
class TerminationFee:
    """The fee for ending on ``ends_on``, the first day without contract.

    ``contract_month`` is ceil(elapsed months) of the term, at least 1; ``remaining_months`` and
    ``remaining_value`` are exact. ``product_id`` is None when the terms ask no fee.
    """

    contract_id: str
    ends_on: date
    term_end: date
    contract_month: int
    remaining_months: Fraction
    remaining_value: Fraction
    amount: Decimal
    currency: str
    product_id: str | None
    explanation: tuple[str, ...]


def remaining_value(steps: Iterable[RampStep], term: ContractTerm, ends_on: date) -> Fraction:
    """Return what the term's months after ``ends_on`` are worth, by ramp step, exactly."""
    elapsed = months_elapsed(term.start, max(ends_on, term.start))
    whole = months_elapsed(term.start, term.end)
    total = Fraction(0)
    for step in steps:
        last = whole if step.to_month is None else min(whole, Fraction(step.to_month))
        first = max(elapsed, Fraction(step.from_month - 1))
        total += Fraction(step.value) * max(Fraction(0), last - first)
    return total


def termination_fee(
    contract: Contract, ends_on: date, *, status: str | None = None
) -> TerminationFee:
    """Return the early termination fee of the term that ``ends_on`` falls into.

    Elapsed and remaining months are counted from the term's first day and add up to the term. The
    day exactly 12 months after the start is still contract month 12; the day after is month 13. A
    ``status`` that charges no fee gives 0, as does a day on which no term is left.

    Raises ValueError for a status that the terms do not know.
    """
    ended = contract.model_copy(update={"terminated_on": None, "termination_status": None})
    term = term_at(ended, ends_on)
    if term is None and ends_on < contract.start:
        term = next(terms_of(ended, date.fromordinal(contract.start.toordinal() + 1)))
    terms = contract.signed_terms if term is None else term.terms
    currency = terms.currency
    statuses = {known.status: known for known in contract.signed_terms.termination_statuses}
    if status is not None and status not in statuses:
        raise ValueError(
            f"contract {contract.id}: unknown termination status {status!r}; "
            f"known: {', '.join(sorted(statuses)) or 'none'}"
        )
    # The first day of a term ends the term before, in full: nothing is cut short.
    at_boundary = term is not None and term.number > 1 and term.start == ends_on
    rule = terms.early_termination
    waived = status is not None and not statuses[status].charges_fee
    if term is None or rule is None or at_boundary or waived:
        reason = "no fee in the terms" if rule is None else "the term has ended"
        if waived:
            reason = f"status {status} charges no fee"
        return TerminationFee(
            contract.id,
            ends_on,
            ends_on if term is None or at_boundary else term.end,
            0,
            Fraction(0),
            Fraction(0),
            round_money(Decimal(0), currency),
            currency,
            None,
            (reason,),
        )
    elapsed = months_elapsed(term.start, max(ends_on, term.start))
    remaining = months_elapsed(term.start, term.end) - elapsed
    month = max(1, ceil(elapsed))
    value = remaining_value(rule.monthly_value, term, ends_on)
    told = [
        f"contract month {month}, {_show(remaining)} months remain",
    ]
    tier = next(
        (
            tier
            for tier in rule.tiers
            if tier.from_month <= month and (tier.to_month is None or month <= tier.to_month)
        ),
        None,
    )
    if rule.kind == "flat":
        flat = rule.flat if tier is None else tier.flat
        exact = Fraction(flat or 0)
        told.append(f"flat {flat or 0} {currency}")
    else:
        percent: Decimal | None = Decimal(100)
        if rule.kind == "pct_of_remaining":
            percent = rule.percent if tier is None else tier.percent
        exact = value * Fraction(percent or 0) / 100
        told.append(f"{_show(value)} {currency} remain x {percent or 0} %")
    amount = round_money(exact, currency)
    told.append(f"= {amount} {currency}")
    return TerminationFee(
        contract.id,
        ends_on,
        term.end,
        month,
        remaining,
        value,
        amount,
        currency,
        rule.product_id,
        tuple(told),
    )


def whatif(
    contract: Contract, candidate_days: Iterable[date], *, status: str | None = None
) -> tuple[TerminationFee, ...]:
    """Return :func:`termination_fee` for several days, in the order asked (CT-09)."""
    return tuple(termination_fee(contract, day, status=status) for day in candidate_days)


def _show(value: Fraction) -> str:
    return f"{round_half_up(value, 4):f}"
