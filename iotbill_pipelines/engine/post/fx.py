"""Functional currency: dated rates, and what conversion leaves over (RULEBOOK §9, GL-02)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from fractions import Fraction

from iotbill_pipelines.engine.money import minor_digits, round_half_up
from iotbill_pipelines.engine.post.terms import LedgerTerms
from iotbill_pipelines.engine.terms import TermsError

RATE_DECIMALS = 12


@dataclass(frozen=True)
class Conversion:
    """From a transaction currency to the functional one: a rate, its date, and who says so.

    ``date`` and ``source`` are None where both currencies are the same.
    """

    currency: str
    functional: str
    rate: Decimal
    date: date | None
    source: str | None

    def minor(self, amount_minor: int) -> int:
        """Convert minor units, rounded half up, away from zero; a reversal cancels exactly."""
        exact = (
            Fraction(amount_minor)
            * Fraction(self.rate)
            * Fraction(10) ** (minor_digits(self.functional) - minor_digits(self.currency))
        )
        return int(round_half_up(exact, 0))


def conversion(terms: LedgerTerms, currency: str, functional: str, day: date) -> Conversion:
    """Return the newest rate of the table up to ``day``; the inverse of one where only that is.

    Raises TermsError if there is none, or none that is recent enough.
    """
    if currency == functional:
        return Conversion(currency, functional, Decimal(1), None, None)
    known = [
        rate
        for rate in terms.fx
        if {rate.base, rate.quote} == {currency, functional} and rate.date <= day
    ]
    newest = max(known, key=lambda rate: (rate.date, rate.base == currency), default=None)
    if newest is None or (day - newest.date).days > terms.fx_max_age_days:
        latest = f"the newest is of {newest.date}" if newest else "there is none"
        raise TermsError(
            ("fx",),
            f"no rate from {currency} to {functional} for {day} ({latest}, "
            f"{terms.fx_max_age_days} days old at most); add a line to a file in configs/ledger/fx",
        )
    if newest.base == currency:
        return Conversion(currency, functional, newest.rate, newest.date, newest.source)
    inverse = round_half_up(1 / Fraction(newest.rate), RATE_DECIMALS)
    return Conversion(currency, functional, inverse, newest.date, f"{newest.source} (inverse)")
