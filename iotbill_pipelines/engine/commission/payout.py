"""Paying what was earned, from a minimum on; balances carry (RULEBOOK §7; CM-04)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from iotbill_pipelines.engine.calendars import Month, months_between
from iotbill_pipelines.engine.commission.terms import PayoutTerms


@dataclass(frozen=True)
class Payout:
    """A month: opening balance + earned = paid + carried."""

    month: Month
    opening: Decimal
    earned: Decimal
    paid: Decimal
    carried: Decimal


def settle_payouts(
    terms: PayoutTerms,
    earned: Mapping[Month, Decimal],
    first: Month,
    last: Month,
    *,
    opening: Decimal = Decimal(0),
) -> tuple[Payout, ...]:
    """Return month by month what is paid and what is carried, also a negative balance.

    A balance that reaches the minimum is paid in full, monthly or in the last month of a calendar
    quarter; nothing is ever collected from the partner. Months without earnings carry.
    """
    rows: list[Payout] = []
    balance = opening
    for month in months_between(first, last):
        amount = earned.get(month, Decimal(0))
        due = balance + amount
        payable = terms.frequency == "monthly" or month.month % 3 == 0
        paid = due if payable and due >= terms.minimum else Decimal(0)
        rows.append(Payout(month, balance, amount, paid, due - paid))
        balance = due - paid
    return tuple(rows)
