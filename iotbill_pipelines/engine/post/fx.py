"""Functional currency: dated rates, and what conversion leaves over (RULEBOOK §9, GL-02)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from fractions import Fraction

from iotbill_pipelines.engine.money import minor_digits, round_half_up
from iotbill_pipelines.engine.post.terms import FxRate, LedgerTerms
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
    """Return the newest rate of the table up to ``day`` that is recent enough.

    Of one pair it is the rate itself, or the inverse of the opposite one; without any, the cross of
    two rates that one source gives for one base on one day, as the ECB does for the euro.

    Raises TermsError if there is none, or none that is recent enough.
    """
    if currency == functional:
        return Conversion(currency, functional, Decimal(1), None, None)
    wanted = {currency, functional}
    recent = [
        rate
        for rate in terms.fx
        if (rate.base in wanted or rate.quote in wanted)
        and 0 <= (day - rate.date).days <= terms.fx_max_age_days
    ]
    direct = [rate for rate in recent if {rate.base, rate.quote} == wanted]
    newest = max(direct, key=lambda rate: (rate.date, rate.base == currency), default=None)
    if newest is None:
        crossed = _cross(recent, currency, functional)
        if crossed is not None:
            return crossed
        known = [
            rate.date for rate in terms.fx if {rate.base, rate.quote} == wanted and rate.date <= day
        ]
        latest = f"the newest is of {max(known)}" if known else "there is none"
        raise TermsError(
            ("fx",),
            f"no rate from {currency} to {functional} for {day} ({latest}, "
            f"{terms.fx_max_age_days} days old at most); add a line to a file in configs/ledger/fx",
        )
    if newest.base == currency:
        return Conversion(currency, functional, newest.rate, newest.date, newest.source)
    inverse = round_half_up(1 / Fraction(newest.rate), RATE_DECIMALS)
    return Conversion(currency, functional, inverse, newest.date, f"{newest.source} (inverse)")


def _cross(rates: Sequence[FxRate], currency: str, functional: str) -> Conversion | None:
    """Return the newest cross of two rates of one base, source and day."""
    sets: dict[tuple[date, str, str], dict[str, Decimal]] = {}
    for rate in rates:
        sets.setdefault((rate.date, rate.base, rate.source), {})[rate.quote] = rate.rate
    for (on, base, source), quotes in sorted(
        sets.items(), key=lambda entry: (-entry[0][0].toordinal(), *entry[0][1:])
    ):
        if currency in quotes and functional in quotes:
            crossed = Fraction(quotes[functional]) / Fraction(quotes[currency])
            return Conversion(
                currency,
                functional,
                round_half_up(crossed, RATE_DECIMALS),
                on,
                f"{source} (through {base})",
            )
    return None
