"""The deferred revenue roll-forward: opening + billed - released = closing (RULEBOOK §§9, 11)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from iotbill_pipelines.engine.calendars import Month, months_between
from iotbill_pipelines.engine.revenue.schedules import Schedule


@dataclass(frozen=True)
class DeferredItem:
    """A billed amount and the schedule that earns it; a credit is an item of its own.

    ``booked_in`` is the accounting month that booked it. Months of the schedule before it are
    released in it: a late item catches up.
    """

    key: str
    account: str
    booked_in: Month
    schedule: Schedule


@dataclass(frozen=True)
class RollForward:
    """A month's movement of one account and currency; ``closing`` is the next ``opening``."""

    account: str
    currency: str
    month: Month
    opening: Decimal
    additions: Decimal
    releases: Decimal
    closing: Decimal


def roll_forward(
    items: Sequence[DeferredItem], first: Month, last: Month
) -> tuple[RollForward, ...]:
    """Return the movement of each (account, currency) in the months ``first`` to ``last``.

    Items booked before ``first`` are in its opening balance. ``closing`` is also the sum of what
    each item still defers; the roll-forward therefore ties to the schedules by construction and to
    the general ledger by comparison. Raises ValueError when two items have the same key.
    """
    keys = [item.key for item in items]
    if len(set(keys)) != len(keys):
        raise ValueError("two deferred items have the same key")
    groups: dict[tuple[str, str], list[DeferredItem]] = {}
    for item in items:
        groups.setdefault((item.account, item.schedule.currency), []).append(item)
    rows: list[RollForward] = []
    for (account, currency), members in sorted(groups.items()):
        opening = _balance(members, first - 1)
        for month in months_between(first, last):
            additions = sum(
                (item.schedule.amount for item in members if item.booked_in == month), Decimal(0)
            )
            closing = _balance(members, month)
            rows.append(
                RollForward(
                    account,
                    currency,
                    month,
                    opening,
                    additions,
                    opening + additions - closing,
                    closing,
                )
            )
            opening = closing
    return tuple(rows)


def _balance(items: Sequence[DeferredItem], month: Month) -> Decimal:
    return sum(
        (
            item.schedule.amount - item.schedule.cumulative_through(month)
            for item in items
            if item.booked_in <= month
        ),
        Decimal(0),
    )
