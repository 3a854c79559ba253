"""Ranges that every record keeps, whatever its feed (RULEBOOK §5): SQL rules, first one decides.

Required columns come from the target's schema (:mod:`engine.feeds.mapping`); here are the bounds:

``negative_quantity``   quantity below zero, unless the feed allows credits
``absurd_quantity``     more than the class's limit
``future_event``        after the file came, by more than the feed's clock skew
``too_old``             before the file came, by more than the feed's age
``end_before_start``    a date interval that ends before it starts
``unknown_part``        a part of a session that is neither start, interim, stop nor whole

A ``event_end`` before ``event_start`` does not decide any amount: the record is kept and flagged
``end_before_start``.
"""

from __future__ import annotations

from collections.abc import Mapping

from iotbill_pipelines.engine.feeds import sql
from iotbill_pipelines.engine.feeds.plan import Plan, Value
from iotbill_pipelines.engine.feeds.spec import DEFAULT_MAX_QUANTITY, PARTS, FeedSpec

_INTERVALS = (("valid_from", "valid_to"), ("service_start", "service_end"))


def add_ranges(
    plan: Plan,
    spec: FeedSpec,
    targets: Mapping[str, Value],
    sources: Mapping[str, Value],
    received_at: Value,
) -> None:
    """Add the range rules of ``spec`` to a plan."""
    if spec.target == "usage_record":
        _quantity(plan, spec, targets, sources)
        _event_time(plan, spec, targets, received_at)
        if "part" in targets:
            part = targets["part"]
            plan.reject(
                sql.negate(sql.one_of(part.read, [sql.text(name) for name in PARTS])), [part],
                "unknown_part", "part", part, f"must be one of {', '.join(PARTS)}",
            )  # fmt: skip
    for first, last in _INTERVALS:
        if first in targets and last in targets:
            start, end = targets[first], targets[last]
            plan.reject(
                sql.le(end.read, start.read), [start, end], "end_before_start", last,
                _shown(plan, end), f"must be after {first}; the interval is half-open",
            )  # fmt: skip


def _quantity(
    plan: Plan, spec: FeedSpec, targets: Mapping[str, Value], sources: Mapping[str, Value]
) -> None:
    quantity, usage_class = targets["quantity"], targets["usage_class"]
    names = [name for branch in spec.fields["quantity"].branches() for name in branch.from_]
    shown = (
        plan.add(sql.coalesce(*(sources[n].read for n in names)), [sources[n] for n in names])
        if names
        else _shown(plan, quantity)
    )
    if not spec.bounds.allow_negative:
        plan.reject(
            sql.lt(quantity.read, sql.number(0)), [quantity], "negative_quantity", "quantity",
            shown, "must not be negative",
        )  # fmt: skip
    classes = sorted({*DEFAULT_MAX_QUANTITY, *spec.bounds.max_quantity})
    limit = sql.when(
        *(
            (sql.eq(usage_class.read, sql.text(name)), sql.number(spec.bounds.limit(name)))
            for name in classes
        ),
        otherwise=sql.number(spec.bounds.limit("")),
    )
    plan.reject(
        sql.gt(sql.call("abs", quantity.read), limit), [quantity, usage_class],
        "absurd_quantity", "quantity", shown,
        "is more than one record can hold; check the unit, or set bounds.max_quantity",
    )  # fmt: skip


def _event_time(
    plan: Plan, spec: FeedSpec, targets: Mapping[str, Value], received_at: Value
) -> None:
    start = targets["event_start"]
    shown = _shown(plan, start)
    ahead = sql.call(
        "minus_seconds", received_at.read, sql.number(-3600 * spec.bounds.max_ahead_hours)
    )
    plan.reject(
        sql.gt(start.read, ahead), [start, received_at], "future_event", "event_start", shown,
        f"is more than {spec.bounds.max_ahead_hours} hours after the file came",
    )  # fmt: skip
    oldest = sql.call(
        "minus_seconds", received_at.read, sql.number(86_400 * spec.bounds.max_age_days)
    )
    plan.reject(
        sql.lt(start.read, oldest), [start, received_at], "too_old", "event_start", shown,
        f"is more than {spec.bounds.max_age_days} days before the file came",
    )  # fmt: skip
    if "event_end" in targets:
        end = targets["event_end"]
        plan.flags.append(
            plan.add(
                sql.when((sql.lt(end.read, start.read), sql.text("end_before_start"))),
                [start, end],
            )
        )


def _shown(plan: Plan, value: Value) -> Value:
    return plan.add(sql.cast(value.read, "varchar"), [value])
