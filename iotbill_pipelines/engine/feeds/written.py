"""Functions for values that carriers write in parts, or in the manner of older machines.

They follow the rules of :mod:`engine.feeds.functions`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field, model_validator

from iotbill_pipelines.engine.feeds import sql
from iotbill_pipelines.engine.feeds.functions import (
    FUNCTIONS,
    ZONE_TABLE,
    Context,
    Function,
    _Time,
    checked,
    lookup,
    reject,
)
from iotbill_pipelines.engine.feeds.plan import Plan, Value
from iotbill_pipelines.engine.feeds.spec import Pattern, Step, Text, Zone


class Replace(Function):
    """Put ``new`` in the place of everything that matches ``pattern``.

    ``\\1`` in ``new`` is the first group: ``{pattern: "^(.*)-$", new: '-\\1'}`` moves a sign.
    """

    name = "replace"
    pattern: Pattern
    new: Text = ""

    def apply(self, plan: Plan, value: Value, context: Context) -> Value:  # noqa: ARG002
        swapped = sql.swap(value.read, self.pattern, self.new)
        return plan.add(sql.call("nullif", swapped, sql.text("")), [value])


class Join(Function):
    """Put another field behind the text: the time behind the date, the number behind its prefix.

    ``with`` stands between them, ``steps`` are taken with the other field first. Where it is empty,
    ``absent`` stands for it; without ``absent`` the result is empty. ``before: true`` puts it in
    front.
    """

    name = "join"
    field: str
    with_: Text = Field("", alias="with")
    steps: tuple[Step, ...] = ()
    absent: Text | None = None
    before: bool = False

    def reads(self) -> Iterator[str]:
        yield self.field
        for step in self.steps:
            yield from lookup(step).reads()

    def apply(self, plan: Plan, value: Value, context: Context) -> Value:
        other = context.other(self.field, self.steps)
        if other.kind != "text":
            raise ValueError(f"joins texts, and {self.field} is made a {other.kind}")
        behind = other.read
        if self.absent is not None:
            behind = sql.coalesce(behind, sql.text(self.absent))
        parts = (behind, value.read) if self.before else (value.read, behind)
        whole = sql.join(parts[0], sql.text(self.with_), parts[1])
        return plan.add(sql.when((sql.is_set(value.read), whole)), [value, other])


class Implied(Function):
    """Write the decimal point that a number leaves out: ``{implied: {decimals: 2}}`` makes 12.34
    of ``1234``; a sign stays."""

    name = "implied"
    decimals: int = Field(ge=1, le=12)

    def apply(self, plan: Plan, value: Value, context: Context) -> Value:
        digits = checked(plan, context, value, "[+-]?[0-9]{1,18}", "invalid_number",
                         "must be digits alone: its decimal point is implied")  # fmt: skip
        sign = sql.find(digits.read, "^([+-]?)")
        bare = plan.add(
            sql.call(
                "lpad",
                sql.find(digits.read, "([0-9]+)$"),
                sql.cast(
                    sql.call(
                        "greatest",
                        sql.number(self.decimals + 1),
                        sql.sub(sql.call("length", digits.read), sql.call("length", sign)),
                    ),
                    "integer",
                ),
                sql.text("0"),
            ),
            [digits],
        )
        pattern = rf"^([0-9]+)([0-9]{{{self.decimals}}})$"
        return plan.add(
            sql.join(sign, sql.find(bare.read, pattern), sql.text("."),
                     sql.find(bare.read, pattern, 2)),
            [digits, bare],
        )  # fmt: skip


class Overpunch(Function):
    """A number whose last digit carries the sign (zoned decimal): ``12{`` is 120, ``12J`` -121."""

    name = "overpunch"
    _SIGNS: ClassVar[dict[str, tuple[str, str]]] = {
        **{mark: ("", str(digit)) for digit, mark in enumerate("{ABCDEFGHI")},
        **{mark: ("-", str(digit)) for digit, mark in enumerate("}JKLMNOPQR")},
    }

    def apply(self, plan: Plan, value: Value, context: Context) -> Value:
        number = checked(plan, context, value, "[0-9]{0,17}[0-9{A-I}J-R]", "invalid_number",
                         "must be digits, the last of them perhaps with a sign")  # fmt: skip
        last = plan.add(sql.call("right", number.read, sql.number(1)), [number])
        body = sql.call(
            "left", number.read, sql.sub(sql.call("length", number.read), sql.number(1))
        )
        marks = [
            (sql.eq(last.read, sql.text(mark)), sql.join(sql.text(sign), body, sql.text(digit)))
            for mark, (sign, digit) in self._SIGNS.items()
        ]
        return plan.add(sql.when(*marks, otherwise=number.read), [number, last])


class TimestampBy(_Time):
    """An instant, as UTC, on the clock that another field names.

    ``zones`` translates the field's texts to IANA zones (``CET: Europe/Berlin``, ``"+02"``:
    ``Etc/GMT-2``); others are rejected as ``unknown_zone``. Ambiguous and skipped times are read
    and flagged as by timestamp.
    """

    name = "timestamp_by"
    gives = "timestamp"
    field: str
    zones: dict[Text, Zone] = Field(min_length=1)

    @model_validator(mode="after")
    def _without_offset(self) -> TimestampBy:
        if self.format.startswith("epoch"):
            raise ValueError(f"{self.format} is an instant in every zone; use timestamp")
        return self

    def reads(self) -> Iterator[str]:
        yield self.field

    def apply(self, plan: Plan, value: Value, context: Context) -> Value:
        local, offset = self._local(plan, value, context)
        if offset is not None:
            reject(plan, context, sql.is_set(offset.read), [offset], "unexpected_offset",
                   f"has an offset, though {self.field} names its zone")  # fmt: skip
        named = context.other(self.field, ())
        text = plan.add(sql.call("trim", named.read), [named])
        zone = plan.add(
            sql.when(*((sql.eq(text.read, sql.text(name)), sql.text(zone))
                       for name, zone in self.zones.items())),
            [text],
        )  # fmt: skip
        wrong = sql.every([sql.is_set(value.read), sql.is_null(zone.read)])
        reject(plan, context, wrong, [value, zone], "unknown_zone",
               f"its zone in {self.field} is none of {', '.join(self.zones)}", text)  # fmt: skip
        plan.zones.update(self.zones.values())
        found = plan.lookup(
            ZONE_TABLE,
            on={"zone": zone.read, "local_date": sql.cast(local.read, "date")},
            where=("local_from", "local_to"),
            inputs=[local, zone],
            columns={"offset_seconds": "integer", "flag": "text"},
        )
        plan.flags.append(found["flag"])
        seconds = found["offset_seconds"]
        outside = sql.every(
            [sql.is_set(local.read), sql.is_set(zone.read), sql.is_null(seconds.read)]
        )
        reject(plan, context, outside, [local, zone, seconds], "timestamp_out_of_range",
               "is outside the years that usage can come from")  # fmt: skip
        return plan.add(
            sql.call("minus_seconds", local.read, seconds.read), [local, seconds], "timestamp"
        )


FUNCTIONS.update(
    {
        (function.name, function.version): function
        for function in (Replace, Join, Implied, Overpunch, TimestampBy)
    }
)
