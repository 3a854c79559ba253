"""The terms a contract runs through: renewals, suspensions, ends.

RULEBOOK §4; CT-12, CT-17, ST-23.

Nothing is written when a contract renews: its terms follow from what was signed, so they can be
computed again for any day.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from typing import Literal

from iotbill_pipelines.engine.calendars import add_months
from iotbill_pipelines.engine.contract.terms import (
    Contract,
    ContractTerms,
    Suspension,
    TerminationStatus,
)


@dataclass(frozen=True)
class ContractTerm:
    """One term of a contract: ``[start, end)``, of which ``[start, covered_until)`` was served.

    ``price_factor`` is the product of the uplifts so far; ``ramp_anchor`` the first day of contract
    month 1; ``extended_days`` how far suspensions moved the end.
    """

    number: int
    kind: Literal["initial", "auto_renew", "new_contract"]
    start: date
    end: date
    covered_until: date
    terms: ContractTerms
    price_factor: Fraction
    ramp_anchor: date
    extended_days: int
    renews: bool

    def holds(self, day: date) -> bool:
        return self.start <= day < self.covered_until


def extended_end(start: date, end: date, suspensions: Iterable[Suspension]) -> date:
    """Return when a term ``[start, end)`` ends if the clock stands still while suspended (ST-23).

    Every day of a suspension that begins before the (moving) end moves it by one; overlapping
    suspensions count once, and cutting one in two changes nothing.
    """
    counted_to = start
    for suspension in sorted(suspensions, key=lambda s: (s.start, s.end)):
        first = max(suspension.start, counted_to)
        if first >= end:
            break
        if suspension.end > first:
            end = date.fromordinal(end.toordinal() + (suspension.end - first).days)
            counted_to = suspension.end
    return end


def terms_of(contract: Contract, until: date) -> Iterator[ContractTerm]:
    """Yield the contract's terms, in order, that start before ``until`` and before its termination.

    CT-12: prices of an automatically renewed term carry its uplift from the first day. CT-17: a
    new contract runs under the successor's terms. Months are counted from one anchor, so a term
    that starts on the 31st does not drift.
    """
    terms, number, start = contract.signed_terms, 1, contract.start
    kind: Literal["initial", "auto_renew", "new_contract"] = "initial"
    natural_end, factor, ramp_anchor = contract.end, Fraction(1), contract.start
    anchor, months = contract.start, 0
    if contract.end != add_months(contract.start, terms.term_months):
        anchor, months = contract.end, -terms.term_months
    stop = contract.terminated_on
    while start < until and (stop is None or start < stop):
        end = natural_end
        if terms.suspension_extends_term:
            end = extended_end(start, natural_end, contract.suspensions)
        renewal = terms.renewal
        yield ContractTerm(
            number=number,
            kind=kind,
            start=start,
            end=end,
            covered_until=end if stop is None else min(end, stop),
            terms=terms,
            price_factor=factor,
            ramp_anchor=ramp_anchor,
            extended_days=(end - natural_end).days,
            renews=renewal.kind != "expire" and (stop is None or end < stop),
        )
        months += terms.term_months
        if end != natural_end:
            anchor, months = end, 0
        if renewal.kind == "expire":
            return
        if renewal.successor is not None:
            terms, factor, kind = renewal.successor, Fraction(1), "new_contract"
        else:
            factor *= 1 + Fraction(renewal.uplift_percent) / 100
            kind = "auto_renew"
        if renewal.ramp == "restart" or kind == "new_contract":
            ramp_anchor = end
        number, start = number + 1, end
        natural_end = add_months(anchor, months + terms.term_months)


def term_at(contract: Contract, day: date) -> ContractTerm | None:
    """Return the term in force on ``day``, or None before, after or between terms."""
    for term in terms_of(contract, date.fromordinal(day.toordinal() + 1)):
        if term.holds(day):
            return term
    return None


def termination_status(contract: Contract) -> TerminationStatus | None:
    """Return the status a contract was ended with; its core state is what its services take."""
    return next(
        (
            status
            for status in contract.signed_terms.termination_statuses
            if status.status == contract.termination_status
        ),
        None,
    )
