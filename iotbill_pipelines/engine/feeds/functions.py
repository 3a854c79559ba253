"""The named, versioned functions of a feed's mapping (RULEBOOK §5, normalise).

A function takes the value of the step before it and gives the next one; a null stays null. What
it cannot use it rejects with a stable code. A published version never changes its results: a
correction is a new version beside it, and feeds say which one they want.

To add a function: subclass :class:`Function`, name it in :data:`FUNCTIONS`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import ClassVar, Literal

from pydantic import ConfigDict, Field, ValidationError, model_validator
from sqlglot import exp

from iotbill_pipelines.engine.feeds import sql
from iotbill_pipelines.engine.feeds.plan import Kind, Plan, Value
from iotbill_pipelines.engine.feeds.spec import Pattern, Spec, Step, Text, Zone
from iotbill_pipelines.engine.money import RATE_SCALE
from iotbill_pipelines.engine.terms import UNIT_SIZES

ZONE_TABLE = "feed_local_day"
"""Relation of :func:`engine.feeds.zones.local_days`, which timestamps without offset join."""


@dataclass(frozen=True)
class Context:
    """What a step knows besides its input."""

    field: str
    """Target field, named in rejects."""
    source: Value
    """The source text, shown in rejects."""
    zone: str | None
    """The feed's zone for times without an offset."""
    decimal_comma: bool = False
    targets: Mapping[str, Value] = dataclass_field(default_factory=dict)
    """Target fields mapped so far."""
    tables: Mapping[str, bool] = dataclass_field(default_factory=dict)
    """The feed's own tables, and whether their rows have dates."""
    read: Callable[[str, Sequence[Step]], Value] | None = None
    """Makes the value of another source field by steps."""

    def other(self, name: str, steps: Sequence[Step]) -> Value:
        """Return another source field's value. Raises ValueError where none can be read."""
        if self.read is None:
            raise ValueError(f"{name!r} cannot be read here")
        return self.read(name, steps)


class Function(Spec):
    """Base of all functions; its fields are the parameters."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    name: ClassVar[str]
    version: ClassVar[int] = 1
    takes: ClassVar[Kind] = "text"
    gives: ClassVar[Kind] = "text"

    def reads(self) -> Iterator[str]:
        """Yield the source fields that are read besides the step's input."""
        yield from ()

    @abstractmethod
    def apply(self, plan: Plan, value: Value, context: Context) -> Value:
        """Add the function to the plan and return its result."""


def reject(
    plan: Plan,
    context: Context,
    broken: sql.Expr,
    inputs: Iterable[Value],
    code: str,
    message: str,
    beside: Value | None = None,
) -> None:
    """Add a rule about the field that a step belongs to.

    What is shown is the field's source, and the text ``beside`` it that the step read, if any.
    """
    shown = context.source
    if beside is not None:
        both = sql.call("concat_ws", sql.text(" "), shown.read, beside.read)
        shown = plan.add(both, [shown, beside])
    plan.reject(broken, inputs, code, context.field, shown, message)


def checked(
    plan: Plan, context: Context, value: Value, pattern: str, code: str, message: str
) -> Value:
    """Keep a text that fits the pattern; reject another one."""
    ok = plan.add(sql.fits(value.read, pattern), [value], "boolean")
    reject(plan, context, sql.negate(ok.read), [ok], code, message)
    return plan.add(sql.when((ok.read, value.read)), [ok, value])


# ---------------------------------------------------------------- texts


class Trim(Function):
    """Remove white space at both ends: blanks, tabs, no-break spaces."""

    name = "trim"

    def apply(self, plan: Plan, value: Value, context: Context) -> Value:  # noqa: ARG002
        blank = r"[\s\x{a0}\x{feff}]"
        padded = plan.add(
            sql.call("has", value.read, sql.text(f"^{blank}|{blank}$")), [value], "boolean"
        )
        bare = sql.call("nullif", sql.swap(value.read, f"^{blank}+|{blank}+$", ""), sql.text(""))
        return plan.add(sql.when((padded.read, bare), otherwise=value.read), [padded, value])


class Upper(Function):
    """Upper case."""

    name = "upper"

    def apply(self, plan: Plan, value: Value, context: Context) -> Value:  # noqa: ARG002
        return plan.add(sql.call("upper", value.read), [value])


class Lower(Function):
    """Lower case."""

    name = "lower"

    def apply(self, plan: Plan, value: Value, context: Context) -> Value:  # noqa: ARG002
        return plan.add(sql.call("lower", value.read), [value])


class Absent(Function):
    """Take the listed texts for no value."""

    name = "absent"
    texts: tuple[Text, ...] = Field(min_length=1)

    def apply(self, plan: Plan, value: Value, context: Context) -> Value:  # noqa: ARG002
        listed = sql.one_of(value.read, [sql.text(t) for t in self.texts])
        return plan.add(sql.when((sql.negate(listed), value.read)), [value])


class Map(Function):
    """Translate by a table; an unknown text is rejected, or becomes ``default``."""

    name = "map"
    table: dict[Text, Text] = Field(min_length=1)
    default: Text | None = None

    def apply(self, plan: Plan, value: Value, context: Context) -> Value:
        branches = [
            (sql.eq(value.read, sql.text(key)), sql.text(result))
            for key, result in self.table.items()
        ]
        if self.default is not None:
            branches.append((sql.is_set(value.read), sql.text(self.default)))
        result = plan.add(sql.when(*branches), [value])
        unknown = sql.every([sql.is_set(value.read), sql.is_null(result.read)])
        reject(plan, context, unknown, [value, result], "no_mapping",
                "is not in the table of this field; add it to the feed's map")  # fmt: skip
        return result


class Extract(Function):
    """Take the first group of a pattern; a text in which it is not found is rejected."""

    name = "extract"
    pattern: Pattern

    @model_validator(mode="after")
    def _group(self) -> Extract:
        if "(" not in self.pattern:
            raise ValueError("the pattern needs a group in parentheses: what to take")
        return self

    def apply(self, plan: Plan, value: Value, context: Context) -> Value:
        found = plan.add(
            sql.call("nullif", sql.find(value.read, self.pattern), sql.text("")), [value]
        )
        missing = sql.every([sql.is_set(value.read), sql.is_null(found.read)])
        reject(plan, context, missing, [value, found], "pattern_mismatch",
                f"nothing in it matches {self.pattern}")  # fmt: skip
        return found


class Matches(Function):
    """Reject a text that does not match the whole pattern."""

    name = "matches"
    pattern: Pattern

    def apply(self, plan: Plan, value: Value, context: Context) -> Value:
        return checked(plan, context, value, self.pattern, "pattern_mismatch",
                        f"must match {self.pattern}")  # fmt: skip


class Pad(Function):
    """Fill up on the left to a length."""

    name = "pad"
    length: int = Field(ge=1, le=100)
    with_: str = Field("0", alias="with", min_length=1, max_length=1)

    def apply(self, plan: Plan, value: Value, context: Context) -> Value:  # noqa: ARG002
        padded = sql.call("lpad", value.read, sql.number(self.length), sql.text(self.with_))
        short = sql.lt(sql.call("length", value.read), sql.number(self.length))
        return plan.add(sql.when((short, padded), otherwise=value.read), [value])


class Cut(Function):
    """Take ``length`` characters from ``start`` (counted from 1)."""

    name = "cut"
    start: int = Field(ge=1)
    length: int = Field(ge=1)

    def apply(self, plan: Plan, value: Value, context: Context) -> Value:  # noqa: ARG002
        taken = sql.part(value.read, self.start, self.length)
        return plan.add(sql.call("nullif", taken, sql.text("")), [value])


# ---------------------------------------------------------------- numbers

NUMBER = r"[+-]?[0-9]{1,18}(\.[0-9]{0,24})?([eE][+-]?[0-9]{1,2})?|[+-]?\.[0-9]{1,24}"
_NUMBER_RULE = "must be a number: digits with a decimal point, no thousands separators or units"
Rounding = Literal["none", "half_up", "up", "down"]


def _plain(plan: Plan, value: Value, context: Context) -> Value:
    """Write a number with a decimal point where the feed uses a comma."""
    if not context.decimal_comma:
        return value
    # 1.234.567,89: dots are thousands here, and only between groups of three digits
    grouped = sql.fits(value.read, r"[+-]?[0-9]{1,3}(\.[0-9]{3})+(,[0-9]*)?")
    lone = sql.fits(value.read, r"[+-]?[0-9]*(,[0-9]*)?")
    dotless = sql.swap(value.read, r"\.", "")
    return plan.add(
        sql.when(
            (grouped, sql.swap(dotless, ",", ".")),
            (lone, sql.swap(value.read, ",", ".")),
            (sql.is_set(value.read), sql.text("?")),
        ),
        [value],
    )


@dataclass(frozen=True)
class _Parts:
    """A number taken apart: ``sign digits x 10^power``; ``digits`` has no leading zeros."""

    ok: Value
    negative: Value
    digits: Value
    power: Value


def _parts(plan: Plan, value: Value, context: Context) -> _Parts:
    """Take a plain number's text apart and reject what is none (``invalid_number``)."""
    plain = value
    ok = plan.add(sql.fits(plain.read, NUMBER), [plain], "boolean")
    reject(plan, context, sql.negate(ok.read), [ok], "invalid_number", _NUMBER_RULE)
    simple = plan.add(sql.fits(plain.read, r"-?[0-9]+(\.[0-9]+)?"), [plain], "boolean")
    # What is not simply digits and a point (signs, exponents) is rare and goes the slower way.
    mantissa = plan.add(
        sql.when(
            (simple.read, sql.call("ltrim", plain.read, sql.text("-"))),
            (ok.read, sql.swap(plain.read, r"^[+-]|[eE].*$", "")),
        ),
        [simple, ok, plain],
    )
    exponent = plan.add(
        sql.when(
            (simple.read, sql.number(0)),
            (
                ok.read,
                sql.coalesce(
                    sql.try_cast(
                        sql.call(
                            "nullif", sql.find(plain.read, r"[eE]\+?(-?[0-9]+)$"), sql.text("")
                        ),
                        "integer",
                    ),
                    sql.number(0),
                ),
            ),
        ),
        [simple, ok, plain],
        "integer",
    )
    point = plan.add(sql.call("strpos", mantissa.read, sql.text(".")), [mantissa], "integer")
    # zeros behind the point say nothing: 1.50 and 1.5 are the same number of the same digits
    bare = plan.add(
        sql.when(
            (
                sql.gt(point.read, sql.number(0)),
                sql.call("rtrim", mantissa.read, sql.text("0")),
            ),
            otherwise=mantissa.read,
        ),
        [mantissa, point],
    )
    digits = plan.add(
        sql.call(
            "ltrim", sql.call("replace", bare.read, sql.text("."), sql.text("")), sql.text("0")
        ),
        [bare],
    )
    power = plan.add(
        sql.sub(
            exponent.read,
            sql.when(
                (
                    sql.gt(point.read, sql.number(0)),
                    sql.sub(sql.call("length", bare.read), point.read),
                ),
                otherwise=sql.number(0),
            ),
        ),
        [exponent, bare, point],
        "integer",
    )
    negative = plan.add(sql.call("starts_with", plain.read, sql.text("-")), [plain], "boolean")
    return _Parts(ok, negative, digits, power)


def scaled(plan: Plan, value: Value, context: Context, factor: int, rounding: Rounding) -> Value:
    """Return the whole number ``value x factor``, exactly, in wide integers.

    Rejects what is no number (``invalid_number``), what leaves a fraction without declared
    rounding (``not_whole``), and what no 64-bit integer holds (``number_out_of_range``).
    """
    plain = _plain(plan, value, context)
    quick = _quick(plan, plain, factor) if rounding == "none" else None
    rest_of = plain
    if quick is not None:
        rest_of = plan.add(sql.when((sql.negate(quick[0].read), plain.read)), [quick[0], plain])
    number = _parts(plan, rest_of, context)
    length = sql.call("length", number.digits.read)
    fitting = plan.add(
        sql.every(
            [
                number.ok.read,
                sql.le(length, sql.number(24)),
                sql.le(sql.add(length, number.power.read), sql.number(19)),
                sql.ge(number.power.read, sql.number(-36)),
            ]
        ),
        [number.ok, number.digits, number.power],
        "boolean",
    )
    whole = sql.call("wide", sql.coalesce(
        sql.call("nullif", number.digits.read, sql.text("")), sql.text("0")))  # fmt: skip
    up = sql.call("ten_to", sql.call("greatest", number.power.read, sql.number(0)))
    down = sql.call(
        "ten_to", sql.call("greatest", sql.sub(sql.number(0), number.power.read), sql.number(0))
    )
    wide_factor = sql.call("wide", sql.number(factor))
    dividend = plan.add(
        sql.when((fitting.read, sql.mul(sql.mul(whole, wide_factor), up))),
        [fitting, number.digits, number.power],
        "integer",
    )
    divisor = plan.add(sql.when((fitting.read, down)), [fitting, number.power], "integer")
    divide = {"none": "floor_div", "down": "floor_div", "up": "ceil_div", "half_up": "half_up_div"}
    size = plan.add(
        sql.call(divide[rounding], dividend.read, divisor.read), [dividend, divisor], "integer"
    )
    rest = plan.add(sql.mod(dividend.read, divisor.read), [dividend, divisor], "integer")
    if quick is not None:
        rest = plan.add(sql.coalesce(quick[2].read, rest.read), [quick[2], rest], "integer")
    in_range = sql.le(size.read, sql.call("wide", sql.number(2**63 - 1)))
    result = plan.add(
        sql.when(
            (
                sql.every([in_range, number.negative.read]),
                sql.cast(sql.sub(sql.number(0), size.read), "bigint"),
            ),
            (in_range, sql.cast(size.read, "bigint")),
        ),
        [size, number.negative],
        "integer",
    )
    if rounding == "none":
        fraction_left = sql.ne(rest.read, sql.number(0))
        reject(plan, context, fraction_left, [rest], "not_whole",
                f"times {factor} it is not a whole number; check the unit, "
                "or declare round in the feed")  # fmt: skip
    beyond = sql.every([number.ok.read, sql.some([sql.negate(fitting.read), sql.negate(in_range)])])
    reject(plan, context, beyond, [number.ok, fitting, size], "number_out_of_range",
            "has more digits than any quantity; check the column")  # fmt: skip
    if quick is None:
        return result
    both = sql.coalesce(quick[1].read, result.read)
    whole_only = sql.when((sql.eq(rest.read, sql.number(0)), both))
    return plan.add(whole_only, [rest, quick[1], result], "integer")


def _quick(plan: Plan, value: Value, factor: int) -> tuple[Value, Value, Value]:
    """Scale ordinary numbers in 64 bits: (is it one?, the whole number, what is left over).

    Nearly every record is of this kind, and it costs a sixth of taking a number apart.
    """
    whole_digits = 12 if factor == 1 else 9
    quick = plan.add(
        sql.fits(value.read, rf"-?[0-9]{{1,{whole_digits}}}(\.[0-9]{{1,6}})?"), [value], "boolean"
    )
    # six decimals are written out: without their point they are the number of millionths
    short = sql.cast(sql.cast(value.read, "decimal(18,6)"), "varchar")
    pointless = sql.call("replace", short, sql.text("."), sql.text(""))
    millionths = plan.add(
        sql.when((quick.read, sql.cast(pointless, "bigint"))),
        [quick, value],
        "integer",
    )
    if factor % 10**6 == 0:
        size = plan.add(
            sql.mul(millionths.read, sql.number(factor // 10**6)), [millionths], "integer"
        )
        rest = plan.add(sql.when((quick.read, sql.number(0))), [quick], "integer")
        return quick, size, rest
    product = sql.mul(sql.call("wide", millionths.read), sql.number(factor))
    if factor == 1:
        product = millionths.read
    dividend = plan.add(product, [millionths], "integer")
    million = sql.number(10**6)
    size = plan.add(sql.cast(sql.int_div(dividend.read, million), "bigint"), [dividend], "integer")
    return quick, size, plan.add(sql.mod(dividend.read, million), [dividend], "integer")


class Integer(Function):
    """A whole number."""

    name = "integer"
    gives = "integer"

    def apply(self, plan: Plan, value: Value, context: Context) -> Value:
        return scaled(plan, value, context, 1, "none")


class Units(Function):
    """A quantity in a unit, as whole class units: ``0.219933`` MB is 219933 bytes.

    ``MB`` is 10^6 and ``MiB`` 2^20 (RULEBOOK §0.5). Without ``round`` a fraction of a class unit
    rejects the record: it shows a wrong unit.
    """

    name = "units"
    gives = "integer"
    unit: str
    round: Rounding = "none"

    @model_validator(mode="after")
    def _unit(self) -> Units:
        if self.unit not in UNIT_SIZES:
            raise ValueError(f"unknown unit {self.unit!r}; known: {', '.join(UNIT_SIZES)}")
        return self

    def apply(self, plan: Plan, value: Value, context: Context) -> Value:
        return scaled(plan, value, context, UNIT_SIZES[self.unit], self.round)


class DecimalNumber(Function):
    """An exact decimal of up to 12 decimals and 18 digits before them: money, rates."""

    name = "decimal"
    gives = "decimal"

    def apply(self, plan: Plan, value: Value, context: Context) -> Value:
        plain = _plain(plan, value, context)
        quick = plan.add(sql.fits(plain.read, r"-?[0-9]{1,12}(\.[0-9]{1,6})?"), [plain], "boolean")
        rest_of = plan.add(sql.when((sql.negate(quick.read), plain.read)), [quick, plain])
        number = _parts(plan, rest_of, context)
        length = sql.call("length", number.digits.read)
        exact = plan.add(
            sql.every(
                [
                    number.ok.read,
                    sql.ge(number.power.read, sql.number(-RATE_SCALE)),
                    sql.le(sql.add(length, number.power.read), sql.number(18)),
                ]
            ),
            [number.ok, number.digits, number.power],
            "boolean",
        )
        beyond = sql.every([number.ok.read, sql.negate(exact.read)])
        reject(plan, context, beyond, [number.ok, exact], "number_out_of_range",
                f"needs more than {RATE_SCALE} decimals or 18 digits")  # fmt: skip
        # within these bounds the cast loses nothing
        kind = f"decimal(30,{RATE_SCALE})"
        short = sql.cast(sql.cast(plain.read, "decimal(18,6)"), kind)
        long = sql.try_cast(plain.read, kind)
        return plan.add(
            sql.when((quick.read, short), (exact.read, long)), [quick, exact, plain], "decimal"
        )


# ---------------------------------------------------------------- times

_DAY = r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
_CLOCK = r"(?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,9})?)?"
_OFFSET = r"Z|z|UTC|[+-](?:0[0-9]|1[0-4]):?[0-5][0-9]|[+-](?:0[0-9]|1[0-4])"
_ISO = rf"({_DAY})[T ]({_CLOCK}) ?({_OFFSET})?"


_EPOCHS = {
    "epoch_s": (11, "000000", "seconds"),
    "epoch_ms": (14, "000", "milliseconds"),
    "epoch_us": (17, "", "microseconds"),
}
"""Formats of instants since 1970: digits allowed, digits to microseconds, name."""
_SERIALS = {"excel": 25_569, "excel_1904": 24_107}
"""Formats of spreadsheets: days from their first day to 1970."""


class _Time(Function):
    format: str = Field(
        "iso",
        min_length=1,
        description="iso, epoch_s, epoch_ms, epoch_us, excel, excel_1904 or %d.%m.%Y ...",
    )

    @model_validator(mode="after")
    def _format(self) -> _Time:
        if self.format not in ("iso", *_EPOCHS, *_SERIALS):
            if "%" not in self.format:
                raise ValueError(
                    f"{self.format!r} is no format; use iso, epoch_s, epoch_ms, epoch_us, excel, "
                    "excel_1904 or one with "
                    "% codes such as %d.%m.%Y %H:%M:%S"
                )
            if "%z" in self.format.lower():
                raise ValueError("offsets are read by format iso only; give zone instead")
        return self

    def _local(self, plan: Plan, value: Value, context: Context) -> tuple[Value, Value | None]:
        """Return the time as written, and the seconds of its own offset (null: it has none)."""
        offset: Value | None = None
        if self.format == "iso":
            ok = plan.add(sql.fits(value.read, _ISO), [value], "boolean")
            zulu = sql.eq(sql.call("right", value.read, sql.number(1)), sql.text("Z"))
            without = sql.call("left", value.read, sql.sub(sql.call("length", value.read),
                                                           sql.number(1)))  # fmt: skip
            # The last branch is right for all of them and twenty times slower than the others.
            clock = plan.add(
                sql.when(
                    (sql.every([ok.read, zulu]), sql.call("trim", without)),
                    (sql.fits(value.read, rf"{_DAY}[T ]{_CLOCK}"), value.read),
                    (ok.read, sql.find(value.read, rf"^({_DAY}[T ]{_CLOCK})")),
                ),
                [ok, value],
            )
            local = plan.add(sql.try_cast(clock.read, "timestamp"), [clock], "timestamp")
            tail = exp.Substring(
                this=value.read, start=sql.add(sql.call("length", clock.read), sql.number(1))
            )
            said = plan.add(sql.call("trim", tail), [clock, value])
            zulu = sql.one_of(said.read, [sql.text("Z"), sql.text("z"), sql.text("UTC")])
            digits = plan.add(
                sql.when((zulu, sql.text("")), otherwise=sql.swap(said.read, "[^0-9]", "")),
                [said],
            )
            hours = sql.coalesce(
                sql.try_cast(sql.part(digits.read, 1, 2), "integer"), sql.number(0)
            )
            minutes = sql.coalesce(
                sql.try_cast(sql.part(digits.read, 3, 2), "integer"), sql.number(0)
            )
            seconds = sql.add(sql.mul(hours, sql.number(3600)), sql.mul(minutes, sql.number(60)))
            offset = plan.add(
                sql.when(
                    (sql.eq(sql.part(said.read, 1, 1), sql.text("-")),
                     sql.sub(sql.number(0), seconds)),
                    (sql.ne(said.read, sql.text("")), seconds),
                ),
                [said, digits],
                "integer",
            )  # fmt: skip
            rule = "must be a date and time such as 2026-10-01T12:00:00Z"
        elif self.format in _SERIALS:
            ok = plan.add(sql.fits(value.read, r"[0-9]{1,6}(\.[0-9]+)?"), [value], "boolean")
            # a day's fraction in a spreadsheet is right to the millisecond, no further
            days = sql.cast(sql.find(value.read, r"^([0-9]+(?:\.[0-9]{1,15})?)"), "decimal(21,15)")
            since = sql.cast(sql.mul(days, sql.number(86_400_000)), "bigint")
            millis = sql.sub(since, sql.number(_SERIALS[self.format] * 86_400_000))
            local = plan.add(
                sql.when((ok.read, sql.call("epoch_time", sql.mul(millis, sql.number(1000))))),
                [ok, value], "timestamp",
            )  # fmt: skip
            rule = "must be a spreadsheet's number of days"
        elif self.format in _EPOCHS:
            digits_allowed, factor, unit = _EPOCHS[self.format]
            pattern = rf"[0-9]{{1,{digits_allowed}}}(\.[0-9]+)?"
            ok = plan.add(sql.fits(value.read, pattern), [value], "boolean")
            whole = plan.add(sql.find(value.read, r"^([0-9]+)"), [value])
            fine = plan.add(
                sql.part(
                    sql.join(sql.find(value.read, r"\.([0-9]+)"), sql.text(factor)), 1, len(factor)
                ),
                [value],
            )
            micros = sql.try_cast(sql.join(whole.read, fine.read), "bigint")
            local = plan.add(
                sql.when((ok.read, sql.call("epoch_time", micros))), [ok, whole, fine], "timestamp"
            )
            offset = plan.add(sql.when((ok.read, sql.number(0))), [ok], "integer")
            rule = f"must be a number of {unit} since 1970"
        else:
            local = plan.add(
                sql.call("parse_time", value.read, sql.text(self.format)), [value], "timestamp"
            )
            rule = f"must be a date and time written as {self.format}"
        broken = sql.every([sql.is_set(value.read), sql.is_null(local.read)])
        reject(plan, context, broken, [value, local], "invalid_timestamp", rule)
        return local, offset


class Timestamp(_Time):
    """An instant, as UTC (RULEBOOK §0.3).

    A time without offset is in ``zone``, or the feed's zone: an ambiguous one means its first
    occurrence, one that the clocks skipped is shifted forward; the record is flagged
    ``ambiguous_time`` or ``nonexistent_time``.
    """

    name = "timestamp"
    gives = "timestamp"
    zone: Zone | None = None

    def apply(self, plan: Plan, value: Value, context: Context) -> Value:
        local, offset = self._local(plan, value, context)
        zone = self.zone or context.zone
        if offset is not None and self.format != "iso":
            return local
        if zone is None:
            if offset is None:
                raise ValueError(f"{self.format!r} has no offset; give a zone here or for the feed")
            unknown = sql.every([sql.is_set(local.read), sql.is_null(offset.read)])
            reject(plan, context, unknown, [local, offset], "no_zone",
                    "has no offset and the feed declares no zone")  # fmt: skip
            seconds = offset
            return self._utc(plan, local, seconds)
        if zone == "UTC":
            zero = sql.coalesce(*([offset.read] if offset else []), sql.number(0))
            return self._utc(plan, local, plan.add(zero, [offset or local], "integer"))
        plan.zones.add(zone)
        found = plan.lookup(
            ZONE_TABLE,
            on={"zone": sql.text(zone), "local_date": sql.cast(local.read, "date")},
            where=("local_from", "local_to"),
            inputs=[local],
            columns={"offset_seconds": "integer", "flag": "text"},
        )
        inputs = [found["offset_seconds"], *([offset] if offset else [])]
        given = [offset.read] if offset else []
        seconds = plan.add(sql.coalesce(*given, found["offset_seconds"].read), inputs, "integer")
        flag = found["flag"]
        if offset is not None:
            flag = plan.add(sql.when((sql.is_null(offset.read), flag.read)), [offset, flag])
        plan.flags.append(flag)
        outside = sql.every([sql.is_set(local.read), sql.is_null(seconds.read)])
        reject(plan, context, outside, [local, seconds], "timestamp_out_of_range",
                "is outside the years that usage can come from")  # fmt: skip
        return self._utc(plan, local, seconds)

    @staticmethod
    def _utc(plan: Plan, local: Value, seconds: Value) -> Value:
        return plan.add(
            sql.call("minus_seconds", local.read, seconds.read), [local, seconds], "timestamp"
        )


class LocalTime(_Time):
    """A date and time on the local clock, kept as written; an offset in it is an error."""

    name = "local_time"
    gives = "timestamp"

    def apply(self, plan: Plan, value: Value, context: Context) -> Value:
        local, offset = self._local(plan, value, context)
        if offset is not None:
            reject(plan, context, sql.is_set(offset.read), [offset], "unexpected_offset",
                    "a local time is expected here, without offset")  # fmt: skip
        return local


class Date(Function):
    """A calendar date. ``iso`` also accepts a midnight behind the date, as spreadsheets write.

    ``add_days: 1`` makes the exclusive end of an interval of its printed last day.
    """

    name = "date"
    gives = "date"
    format: str = "iso"
    add_days: int = Field(0, ge=-31, le=31)

    def apply(self, plan: Plan, value: Value, context: Context) -> Value:
        if self.format == "iso":
            ok = sql.fits(value.read, rf"{_DAY}(?:[T ]00:00(?::00(?:\.0+)?)?)?")
            parsed = sql.try_cast(sql.part(value.read, 1, 10), "date")
            result = plan.add(sql.when((ok, parsed)), [value], "date")
        else:
            parsed = sql.call("parse_time", value.read, sql.text(self.format))
            result = plan.add(sql.cast(parsed, "date"), [value], "date")
        broken = sql.every([sql.is_set(value.read), sql.is_null(result.read)])
        shown = "YYYY-MM-DD" if self.format == "iso" else self.format
        reject(plan, context, broken, [value, result], "invalid_date",
                f"must be a date written as {shown}")  # fmt: skip
        if not self.add_days:
            return result
        return plan.add(sql.add(result.read, sql.number(self.add_days)), [result], "date")


# ---------------------------------------------------------------- identifiers


def luhn_sum(plan: Plan, digits: Value, length: int) -> Value:
    """Return the last digit of the Luhn sum of a text of exactly ``length`` digits.

    It is 0 where the text ends in its check digit, null where it is null. Summed modulo 10 from
    quotients instead of digit by digit: the digit at place k of n is
    ``n // 10^k - 10 (n // 10^(k+1))``, and the digits of its double add up to
    ``2 (n // 10^k) - 2 (n // 10^(k+1)) - 9 (n // (5 * 10^k))``.
    """
    terms: list[sql.Expr] = []
    pieces = []
    for start in range(1, length + 1, 10):  # in pieces that integers hold
        size = min(10, length - start + 1)
        piece = plan.add(
            sql.cast(sql.part(digits.read, start, size), "bigint"), [digits], "integer"
        )
        pieces.append(piece)
        weights: dict[int, int] = {}
        for place in range(size):
            doubled = (length - (start + size - 1 - place)) % 2 == 1
            own = {10**place: 1}
            if doubled:
                own = {10**place: 2, 10 ** (place + 1): -2, 5 * 10**place: 1}
            for divisor, weight in own.items():
                weights[divisor] = weights.get(divisor, 0) + weight
        for divisor, weight in weights.items():
            if divisor < 10**size and weight % 10:
                quotient = (
                    sql.int_div(piece.read, sql.number(divisor)) if divisor > 1 else piece.read
                )
                terms.append(sql.mul(quotient, sql.number(weight % 10)))
    total = terms[0]
    for term in terms[1:]:
        total = sql.add(total, term)
    return plan.add(sql.mod(total, sql.number(10)), pieces, "integer")


class Iccid(Function):
    """ICCID: its first 19 digits, without blanks, hyphens and the trailing F (RULEBOOK §5).

    ``luhn``: ``twentieth`` verifies a 20th digit (the rule), ``last`` verifies a 19th one too,
    ``none`` only drops it.
    """

    name = "iccid"
    luhn: Literal["twentieth", "last", "none"] = "twentieth"

    def apply(self, plan: Plan, value: Value, context: Context) -> Value:
        bare = plan.add(
            sql.when(
                (
                    sql.call("has", value.read, sql.text("[^0-9]")),
                    sql.swap(sql.swap(value.read, r"[\s-]", ""), "[Ff]$", ""),
                ),
                otherwise=value.read,
            ),
            [value],
        )
        digits = checked(plan, context, bare, "89[0-9]{17,18}", "invalid_iccid",
                          "must be 19 or 20 digits that begin with 89")  # fmt: skip
        for length in {"twentieth": (20,), "last": (19, 20), "none": ()}[self.luhn]:
            sized = plan.add(
                sql.when((sql.eq(sql.call("length", digits.read), sql.number(length)),
                          digits.read)),
                [digits],
            )  # fmt: skip
            summed = luhn_sum(plan, sized, length)
            wrong = sql.coalesce(sql.ne(summed.read, sql.number(0)), exp.false())
            reject(plan, context, wrong, [summed], "iccid_check_digit",
                    "the last digit is not the Luhn check digit of the others")  # fmt: skip
        return plan.add(sql.part(digits.read, 1, 19), [digits])


class Imsi(Function):
    """IMSI: 15 digits."""

    name = "imsi"

    def apply(self, plan: Plan, value: Value, context: Context) -> Value:
        bare = plan.add(sql.swap(value.read, r"\s", ""), [value])
        return checked(plan, context, bare, "[0-9]{15}", "invalid_imsi", "must be 15 digits")


class E164(Function):
    """A phone number as E.164 digits without plus (RULEBOOK §5, phone number).

    Punctuation, ``00``, ``+`` and ``(0)`` are removed; a national number (leading ``0``) needs
    ``country_code``. Numbers of 3 to 6 digits are short codes and kept as they are.
    """

    name = "e164"
    country_code: Text | None = Field(None, pattern=r"^[1-9][0-9]{0,2}$")
    short_codes: Literal["keep", "reject"] = "keep"

    def apply(self, plan: Plan, value: Value, context: Context) -> Value:
        bare = plan.add(
            sql.swap(sql.swap(value.read, r"\(0\)", ""), r"[\s().\-/\x{a0}]", ""), [value]
        )
        branches = [
            (sql.fits(bare.read, r"\+[1-9][0-9]{6,14}"), sql.swap(bare.read, r"^\+", "")),
            (sql.fits(bare.read, r"00[1-9][0-9]{6,14}"), sql.swap(bare.read, "^00", "")),
        ]
        if self.country_code:
            national = sql.join(sql.text(self.country_code), sql.swap(bare.read, "^0", ""))
            branches.append((sql.fits(bare.read, r"0[1-9][0-9]{4,12}"), national))
        branches.append((sql.fits(bare.read, r"[1-9][0-9]{6,14}"), bare.read))
        if self.short_codes == "keep":
            branches.append((sql.fits(bare.read, r"[0-9]{3,6}"), bare.read))
        result = plan.add(sql.when(*branches), [bare])
        broken = sql.every([sql.is_set(value.read), sql.is_null(result.read)])
        reject(plan, context, broken, [value, result], "invalid_phone_number",
                "must be a number with country code (7 to 15 digits), or a short code")  # fmt: skip
        return result


class Imei(Function):
    """IMEI: 14 digits and a check digit that is verified, or the 16 digits of an IMEISV."""

    name = "imei"

    def apply(self, plan: Plan, value: Value, context: Context) -> Value:
        bare = plan.add(sql.swap(value.read, r"[\s-]", ""), [value])
        digits = checked(plan, context, bare, "[0-9]{14,16}", "invalid_imei",
                          "must be 14 to 16 digits")  # fmt: skip
        sized = plan.add(
            sql.when((sql.eq(sql.call("length", digits.read), sql.number(15)), digits.read)),
            [digits],
        )
        summed = luhn_sum(plan, sized, 15)
        wrong = sql.coalesce(sql.ne(summed.read, sql.number(0)), exp.false())
        reject(plan, context, wrong, [summed], "imei_check_digit",
                "the last digit is not the Luhn check digit of the others")  # fmt: skip
        return digits


class Eid(Function):
    """EID: 32 digits."""

    name = "eid"

    def apply(self, plan: Plan, value: Value, context: Context) -> Value:
        bare = plan.add(sql.swap(value.read, r"\s", ""), [value])
        return checked(plan, context, bare, "89[0-9]{30}", "invalid_eid",
                        "must be 32 digits that begin with 89")  # fmt: skip


class Eui64(Function):
    """A LoRaWAN device EUI: 16 hexadecimal digits, in capitals, without separators."""

    name = "eui64"

    def apply(self, plan: Plan, value: Value, context: Context) -> Value:
        bare = plan.add(sql.call("upper", sql.swap(value.read, r"[\s:-]", "")), [value])
        return checked(plan, context, bare, "[0-9A-F]{16}", "invalid_eui64",
                        "must be 16 hexadecimal digits")  # fmt: skip


class Mcc(Function):
    """Mobile country code: 3 digits."""

    name = "mcc"

    def apply(self, plan: Plan, value: Value, context: Context) -> Value:
        return checked(plan, context, value, "[2-79][0-9]{2}", "invalid_mcc",
                        "must be 3 digits such as 262")  # fmt: skip


class Mnc(Function):
    """Mobile network code: 2 or 3 digits, which are different networks (``01`` is not ``001``)."""

    name = "mnc"

    def apply(self, plan: Plan, value: Value, context: Context) -> Value:
        return checked(plan, context, value, "[0-9]{2,3}", "invalid_mnc",
                        "must be 2 or 3 digits; keep leading zeros")  # fmt: skip


FUNCTIONS: dict[tuple[str, int], type[Function]] = {
    (function.name, function.version): function
    for function in (
        Trim, Upper, Lower, Absent, Map, Extract, Matches, Pad, Cut,
        Integer, Units, DecimalNumber, Timestamp, LocalTime, Date,
        Iccid, Imsi, E164, Imei, Eid, Eui64, Mcc, Mnc,
    )
}  # fmt: skip
"""Every function by name and version."""

IMPLICIT: dict[str, Function] = {
    "BIGINT": Integer(),
    "INTEGER": Integer(),
    "TIMESTAMP": Timestamp(),
    "DATE": Date(),
}
"""What turns a text into a column's type when the steps of a field end in a text."""


def lookup(step: Step) -> Function:
    """Return the function that a step names. Raises ValueError saying what is known."""
    function = FUNCTIONS.get((step.name, step.version))
    if function is None:
        versions = sorted(v for name, v in FUNCTIONS if name == step.name)
        if versions:
            raise ValueError(f"{step.name} has no version {step.version}; it has {versions}")
        names = ", ".join(sorted({name for name, _ in FUNCTIONS}))
        raise ValueError(f"no function is called {step.name!r}; known: {names}")
    try:
        return function.model_validate(step.params)
    except ValidationError as error:
        said = "; ".join(
            f"{'.'.join(map(str, e['loc'])) + ': ' if e['loc'] else ''}{e['msg']}"
            for e in error.errors()
        )
        raise ValueError(f"{step.name}: {said}") from None


import iotbill_pipelines.engine.feeds.normalise  # noqa: E402 - adds its functions
import iotbill_pipelines.engine.feeds.written  # noqa: E402, F401 - adds its functions
