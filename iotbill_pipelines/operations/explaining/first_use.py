"""Bill on first use retold: when a waiting service became active, and what of its use is billed.

RULEBOOK §2. Records are walked one by one in order of time; nothing is shared with the SQL that
charges were computed by.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any

from iotbill_pipelines.operations.explaining.words import Row

Line = tuple[int, int, int, str]
"""File, line, part and level of a rated record."""

_EVER = date(9999, 12, 31)


@dataclass(frozen=True)
class Billed:
    """How much of a record is billed, and whether it draws from a pool."""

    quantity: int
    pooled: bool


@dataclass(frozen=True)
class Activation:
    """The day on which a service became active, and how it came about."""

    day: date
    state: str
    words: str


@dataclass(frozen=True)
class _Policy:
    terms: Row
    thresholds: Mapping[str, int]


def first_uses(
    policies: Sequence[Row],
    thresholds: Sequence[Row],
    states: Mapping[str, Sequence[Row]],
    offers: Mapping[tuple[str, str], Sequence[Row]],
    usage: Sequence[Row],
    closed: Mapping[tuple[str, str, date], date],
) -> tuple[dict[str, Activation], dict[Line, Billed]]:
    """Return the activation of each service that waited, and what is billed of what it used then.

    ``policies`` and ``thresholds`` are rows of ``first_use`` and ``first_use_threshold``;
    ``states`` and ``offers`` the services' own, in order; ``usage`` all rated records of waiting
    services; ``closed`` the days that stay because their period is closed (by service, level, day
    added).
    """
    known = {row["offer_id"]: _Policy(row, {}) for row in policies}
    for row in thresholds:
        policy = known[row["offer_id"]]
        known[row["offer_id"]] = _Policy(
            policy.terms, {**policy.thresholds, row["usage_class"]: row["threshold_quantity"]}
        )
    by_service: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in usage:
        by_service[row["service_id"], row["level"]].append(row)
    found: dict[str, Activation] = {}
    billed: dict[Line, Billed] = {}
    for (service, level), held in sorted(offers.items()):
        for added, until, policy in _waits(states.get(service, ()), held, known):
            events = sorted(
                (
                    row
                    for row in by_service.get((service, level), ())
                    if added <= row["local_date"] < until
                ),
                key=_order,
            )
            active = _walk(
                events, policy, added, until, closed.get((service, level, added)), billed
            )
            if active is not None and (service not in found or active.day < found[service].day):
                found[service] = active
    return found, billed


def _order(row: Row) -> tuple[Any, ...]:
    names = ("event_start", "usage_class", "quantity", "file_key", "line_no", "part_no")
    return tuple(row[name] for name in names)


def _waits(
    states: Sequence[Row], offers: Sequence[Row], known: Mapping[str, _Policy]
) -> list[tuple[date, date, _Policy]]:
    """Spans ``[added, until)`` in a state that an offer of the service has its services wait in."""
    spans = []
    for number, row in enumerate(states):
        added = row["changed_at"].date()
        until = states[number + 1]["changed_at"].date() if number + 1 < len(states) else _EVER
        for offer in offers:
            policy = known.get(offer["offer_id"])
            if (
                policy is not None
                and policy.terms["waiting_state"] == row["state"]
                and offer["valid_from"] < until
                and (offer["valid_to"] is None or offer["valid_to"] > added)
                and added < until
            ):
                spans.append((added, until, policy))
                break
    return spans


def _walk(
    events: Sequence[Row],
    policy: _Policy,
    added: date,
    until: date,
    stays: date | None,
    billed: dict[Line, Billed],
) -> Activation | None:
    terms, reached = policy.terms, defaultdict[str, int](int)
    beyond: list[int | None] = []
    crossing: int | None = None
    for number, row in enumerate(events):
        name = row["usage_class"]
        reached[name] += row["quantity"]
        threshold = policy.thresholds.get(name)
        beyond.append(None if threshold is None else reached[name] - threshold)
        over = beyond[-1] is not None and beyond[-1] >= 0
        if crossing is None and over and row["quantity"] > 0:
            crossing = number
    acting = crossing
    if crossing is not None and terms["policy"] == "next_event":
        acting = crossing + 1 if crossing + 1 < len(events) else None
    by_use = None if acting is None else events[acting]["local_date"]
    ends = None
    if terms["window_days"] is not None:
        ends = added + timedelta(days=terms["window_days"])
    by_window = ends is not None and (by_use is None or ends <= by_use)
    day = ends if by_window else by_use
    if day is not None and day >= until:
        day = None
    day = stays or day
    for number, row in enumerate(events):
        amount, pooled = 0, False
        if day is not None and by_window:
            amount = row["quantity"] if row["local_date"] >= day else 0
            pooled = row["local_date"] >= day
        elif day is not None and crossing is not None:
            if number > crossing:
                amount = row["quantity"]
            elif number == crossing and terms["policy"] == "split":
                amount = beyond[number] or 0
            first = crossing + (terms["policy"] == "next_event")
            pooled = number >= first and row["local_date"] >= day
        line = (row["file_key"], row["line_no"], row["part_no"], row["level"])
        billed[line] = Billed(amount, row["pooled"] and pooled)
    if day is None:
        return None
    how = f"{terms['window_days']} days after it was added" if by_window else "by what it used"
    return Activation(
        day,
        terms["active_state"],
        f"waited from {added} in state {terms['waiting_state']}; active on {day}, {how}",
    )


def with_activation(states: Sequence[Row], activation: Activation) -> list[Row]:
    """Return a service's states with the one that its first use brought about, in order of time."""
    moment = datetime.combine(activation.day, time())
    change: Row = {"changed_at": moment, "state": activation.state}
    before = [row for row in states if row["changed_at"] <= moment]
    return [*before, change, *states[len(before) :]]
