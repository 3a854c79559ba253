"""Functions of the mapping that translate by tables, compute, and name networks and addresses.

They follow the rules of :mod:`engine.feeds.functions`. Those that look something up join
:data:`engine.feeds.tables.LOOKUP_TABLE`; each result of a table can be given to its function
again (RULEBOOK §5).
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import ClassVar, Literal

from pydantic import Field, model_validator
from sqlglot import exp

from iotbill_pipelines.engine.feeds import sql
from iotbill_pipelines.engine.feeds.functions import (
    E164,
    FUNCTIONS,
    Context,
    Function,
    Rounding,
    checked,
    lookup,
    luhn_sum,
    reject,
    scaled,
)
from iotbill_pipelines.engine.feeds.plan import Plan, Value
from iotbill_pipelines.engine.feeds.spec import Step, Text
from iotbill_pipelines.engine.feeds.tables import BUILTIN, LOOKUP_TABLE, calling_codes, values_of
from iotbill_pipelines.engine.terms import UNIT_SIZES

_BIGGEST = 2**63 - 1


def _found(plan: Plan, context: Context, key: Value, table: str, at: Value | None) -> Value:
    """Return the value of ``key`` in a table, at an instant if one is given."""
    if table in BUILTIN and table not in context.tables:
        plan.tables.add(table)
    elif table not in context.tables:
        known = ", ".join([*context.tables, *BUILTIN])
        raise ValueError(f"there is no table {table!r}; add it under tables (known: {known})")
    dated = context.tables.get(table, False)
    if dated and at is None:
        raise ValueError(f"table {table} has dates; say at which target its value is wanted: at")
    inputs = [at, key] if dated and at is not None else [key]
    found = plan.lookup(
        LOOKUP_TABLE,
        on={"table_name": sql.text(table), "key": key.read},
        where=("valid_from", "valid_to") if dated else (),
        inputs=inputs,
        columns={"value": "text"},
    )
    return found["value"]


def _instant(context: Context, at: str | None) -> Value | None:
    if at is None:
        return None
    value = context.targets.get(at)
    if value is None or value.kind != "timestamp":
        raise ValueError(f"at names {at!r}, which is no timestamp mapped before this field")
    return value


class Lookup(Function):
    """Translate by a table of the feed; an unknown text is rejected, or becomes ``default``.

    ``fold`` ignores case and blanks around the text; the table's keys are then in small letters.
    A table with dates is read at target ``at``, such as event_start.
    """

    name = "lookup"
    table: str
    at: str | None = None
    fold: bool = False
    default: Text | None = None
    idempotent: ClassVar[bool] = False
    """Are the table's values accepted as they are?"""

    def apply(self, plan: Plan, value: Value, context: Context) -> Value:
        key = _folded(plan, value) if self.fold else value
        result = _found(plan, context, key, self.table, _instant(context, self.at))
        if self.idempotent:
            same = plan.lookup(
                LOOKUP_TABLE,
                on={"table_name": sql.text(values_of(self.table)), "key": key.read},
                where=(), inputs=[key], columns={"value": "text"},
            )["value"]  # fmt: skip
            result = plan.add(sql.coalesce(result.read, same.read), [result, same])
        if self.default is not None:
            return plan.add(
                sql.when(
                    (sql.is_set(value.read), sql.coalesce(result.read, sql.text(self.default)))
                ),
                [value, result],
            )
        unknown = sql.every([sql.is_set(value.read), sql.is_null(result.read)])
        reject(plan, context, unknown, [value, result], "unknown_" + self.what(),
               f"is not in table {self.table} at that time; add it there")  # fmt: skip
        return result

    def what(self) -> str:
        """What an unknown text is called in the reject's code."""
        return "value"


def _folded(plan: Plan, value: Value) -> Value:
    return plan.add(sql.call("lower", sql.call("trim", value.read)), [value])


class Carrier(Lookup):
    """A carrier's name as the internal carrier id, by a table of aliases (effective-dated).

    An id that the table gives is accepted as it is.
    """

    name = "carrier"
    idempotent = True
    fold: bool = True

    def what(self) -> str:
        return "carrier"


class Tadig(Lookup):
    """A TADIG code as ``MCC-MNC``, by a table of the feed."""

    name = "tadig"

    def apply(self, plan: Plan, value: Value, context: Context) -> Value:
        code = plan.add(sql.call("upper", sql.call("trim", value.read)), [value])
        done = plan.add(sql.fits(code.read, "[0-9]{3}-[0-9]{2,3}"), [code], "boolean")
        open_ = plan.add(sql.when((sql.negate(done.read), code.read)), [done, code])
        found = super().apply(plan, open_, context)
        network = _network(plan, found, context)
        return plan.add(
            sql.when((done.read, code.read), otherwise=network.read), [done, code, network]
        )

    def what(self) -> str:
        return "tadig"


class Country(Function):
    """A country as ISO alpha-2.

    ``of`` says what the text is: ``iso2``, ``iso3``, ``numeric``, ``mcc``, ``dialling`` (``49``,
    ``+49``, ``0049``), or ``alias`` for only the names of table ``aliases``, which goes before the
    others. An alpha-2 code is always accepted.
    """

    name = "country"
    of: Literal["iso2", "iso3", "numeric", "mcc", "dialling", "alias"] = "iso2"
    aliases: str | None = None

    @model_validator(mode="after")
    def _named(self) -> Country:
        if self.of == "alias" and self.aliases is None:
            raise ValueError("of: alias needs aliases, the name of a table")
        return self

    def apply(self, plan: Plan, value: Value, context: Context) -> Value:
        text = plan.add(sql.call("upper", sql.call("trim", value.read)), [value])
        wanted = [_found(plan, context, text, "country.iso2", None)]
        if self.aliases is not None:
            wanted.insert(0, _found(plan, context, _folded(plan, value), self.aliases, None))
        if self.of not in ("alias", "iso2"):
            key = text
            if self.of == "dialling":
                key = plan.add(sql.swap(text.read, r"^(\+|00)", ""), [text])
            elif self.of == "numeric":
                key = plan.add(sql.call("lpad", text.read, sql.number(3), sql.text("0")), [text])
            wanted.append(_found(plan, context, key, f"country.{self.of}", None))
        result = plan.add(sql.coalesce(*(found.read for found in wanted)), wanted)
        unknown = sql.every([sql.is_set(value.read), sql.is_null(result.read)])
        reject(plan, context, unknown, [value, result], "unknown_country",
               f"is no country by {self.of}; add it to the table of aliases")  # fmt: skip
        return result


def _network(plan: Plan, value: Value, context: Context) -> Value:
    bare = plan.add(sql.swap(value.read, r"[\s/.]", ""), [value])
    result = plan.add(
        sql.when(
            (sql.fits(bare.read, "[2-79][0-9]{2}-[0-9]{2,3}"), bare.read),
            (
                sql.fits(bare.read, "[2-79][0-9]{4,5}"),
                sql.join(sql.part(bare.read, 1, 3), sql.text("-"), sql.part(bare.read, 4, 3)),
            ),
        ),
        [bare],
    )
    broken = sql.every([sql.is_set(value.read), sql.is_null(result.read)])
    reject(plan, context, broken, [value, result], "invalid_network",
           "must be MCC and MNC, 5 or 6 digits; 2- and 3-digit MNCs differ")  # fmt: skip
    return result


class Network(Function):
    """A network as ``MCC-MNC``: 26201, 262-01 and 262 01 are 262-01; 310410 is 310-410."""

    name = "network"

    def apply(self, plan: Plan, value: Value, context: Context) -> Value:
        return _network(plan, value, context)


class NetworkPart(Function):
    """The country code (``mcc``) or network code (``mnc``) of ``MCC-MNC``."""

    name = "network_part"
    part: Literal["mcc", "mnc"]

    def apply(self, plan: Plan, value: Value, context: Context) -> Value:
        network = _network(plan, value, context)
        taken = sql.part(network.read, 1, 3) if self.part == "mcc" else sql.part(network.read, 5, 3)
        return plan.add(taken, [network])


class HomeNetwork(Function):
    """The network that issued an IMSI, as ``MCC-MNC``: the known one that it begins with, which
    says whether its MNC has 2 or 3 digits."""

    name = "home_network"

    def apply(self, plan: Plan, value: Value, context: Context) -> Value:
        digits = checked(plan, context, value, "[0-9]{6,15}", "invalid_imsi", "must be an IMSI")
        found = []
        for length in (6, 5):
            key = plan.add(sql.part(digits.read, 1, length), [digits])
            found.append(_found(plan, context, key, "network.imsi", None))
        network = plan.add(sql.coalesce(*(f.read for f in found)), found)
        unknown = sql.every([sql.is_set(digits.read), sql.is_null(network.read)])
        reject(plan, context, unknown, [digits, network], "unknown_network",
               "begins with no network that is known")  # fmt: skip
        return network


class E164Assigned(E164):
    """Version 2 also refuses numbers whose country calling code is assigned to no one."""

    version = 2

    def apply(self, plan: Plan, value: Value, context: Context) -> Value:
        result = super().apply(plan, value, context)
        known = sql.fits(result.read, rf"(?:{calling_codes()})[0-9]*|[0-9]{{3,6}}")
        wrong = plan.add(sql.negate(known), [result], "boolean")
        reject(plan, context, wrong.read, [wrong], "unknown_calling_code",
               "begins with no country calling code that is assigned")  # fmt: skip
        return result


class NumberClass(Function):
    """What a number made by e164 is: ``short`` for a short code, else ``international``."""

    name = "number_class"

    def apply(self, plan: Plan, value: Value, context: Context) -> Value:  # noqa: ARG002
        short = sql.le(sql.call("length", value.read), sql.number(6))
        kinds = sql.when((short, sql.text("short")), otherwise=sql.text("international"))
        return plan.add(sql.when((sql.is_set(value.read), kinds)), [value])


class Imei15(Function):
    """Version 2 gives 15 digits always: 14 get their check digit, of an IMEISV's 16 the first 14.

    A 15th digit is verified; 0 stands there when the check digit was not sent (TS 23.003).
    """

    name = "imei"
    version = 2

    def apply(self, plan: Plan, value: Value, context: Context) -> Value:
        bare = plan.add(sql.swap(value.read, r"[\s-]", ""), [value])
        digits = checked(plan, context, bare, "[0-9]{14,16}", "invalid_imei",
                         "must be 14 to 16 digits")  # fmt: skip
        body = plan.add(sql.part(digits.read, 1, 14), [digits])
        zeroed = plan.add(sql.join(body.read, sql.text("0")), [body])
        summed = luhn_sum(plan, zeroed, 15)
        check = sql.mod(sql.sub(sql.number(10), summed.read), sql.number(10))
        full = plan.add(sql.join(body.read, sql.cast(check, "varchar")), [body, summed])
        sent = sql.part(digits.read, 15, 1)
        wrong = sql.every(
            [
                sql.eq(sql.call("length", digits.read), sql.number(15)),
                sql.negate(sql.one_of(sent, [sql.text("0"), sql.part(full.read, 15, 1)])),
            ]
        )
        reject(plan, context, wrong, [digits, full], "imei_check_digit",
               "the last digit is not the Luhn check digit of the others")  # fmt: skip
        return full


class Ip(Function):
    """An IP address: IPv4 without leading zeros, IPv6 as its eight groups in small letters."""

    name = "ip"

    def apply(self, plan: Plan, value: Value, context: Context) -> Value:
        bare = plan.add(sql.call("lower", sql.call("trim", value.read)), [value])
        octet = r"0*(?:25[0-5]|2[0-4][0-9]|1?[0-9]{1,2})"
        group = "[0-9a-f]{1,4}"
        four = plan.add(sql.fits(bare.read, rf"{octet}(?:\.{octet}){{3}}"), [bare], "boolean")
        looks = plan.add(
            sql.fits(bare.read, rf"(?:{group}(?::{group})*)?(?:::)?(?:{group}(?::{group})*)?"),
            [bare], "boolean",
        )  # fmt: skip
        colons = sql.sub(
            sql.call("length", bare.read),
            sql.call("length", sql.call("replace", bare.read, sql.text(":"), sql.text(""))),
        )
        gap = sql.gt(sql.call("strpos", bare.read, sql.text("::")), sql.number(0))
        six = plan.add(
            sql.every(
                [
                    looks.read,
                    sql.some(
                        [
                            sql.every([gap, sql.le(colons, sql.number(8))]),
                            sql.every([sql.negate(gap), sql.eq(colons, sql.number(7))]),
                        ]
                    ),
                ]
            ),
            [bare, looks], "boolean",
        )  # fmt: skip
        plain = sql.swap(bare.read, r"\b0+([0-9])", r"\1")
        groups = _eight_groups(plan, bare)
        result = plan.add(
            sql.when((four.read, plain), (six.read, groups.read)), [bare, four, six, groups]
        )
        broken = sql.every([sql.is_set(value.read), sql.is_null(result.read)])
        reject(plan, context, broken, [value, result], "invalid_ip", "must be an IP address")
        return result


def _eight_groups(plan: Plan, value: Value) -> Value:
    """Write an IPv6 address with all of its groups, without leading zeros."""
    left = plan.add(sql.find(value.read, "^(.*)::"), [value])
    right = plan.add(sql.find(value.read, "::(.*)$"), [value])
    gap = sql.gt(sql.call("strpos", value.read, sql.text("::")), sql.number(0))

    def count(text: sql.Expr) -> sql.Expr:
        colons = sql.sub(
            sql.call("length", text),
            sql.call("length", sql.call("replace", text, sql.text(":"), sql.text(""))),
        )
        return sql.when(
            (sql.eq(text, sql.text("")), sql.number(0)),
            otherwise=sql.add(colons, sql.number(1)),
        )

    missing = plan.add(
        sql.sub(sql.number(8), sql.add(count(left.read), count(right.read))),
        [left, right], "integer",
    )  # fmt: skip
    zeros = sql.call("repeat", sql.text("0:"), sql.call("greatest", missing.read, sql.number(0)))
    start = sql.when(
        (sql.eq(left.read, sql.text("")), sql.text("")),
        otherwise=sql.join(left.read, sql.text(":")),
    )
    whole = plan.add(
        sql.when((gap, sql.join(start, zeros, right.read)), otherwise=value.read),
        [value, left, right, missing],
    )
    parts: list[sql.Expr] = []
    for number in range(1, 9):
        group = sql.call("split_part", whole.read, sql.text(":"), sql.number(number))
        bare = sql.call("nullif", sql.call("ltrim", group, sql.text("0")), sql.text(""))
        parts += [sql.text(":"), sql.coalesce(bare, sql.text("0"))]
    return plan.add(sql.join(*parts[1:]), [whole])


class ReversedIp(Function):
    """An IPv4 address that was sent as an integer with its octets in reverse order (Cisco CUCM)."""

    name = "reversed_ip"

    def apply(self, plan: Plan, value: Value, context: Context) -> Value:
        digits = checked(plan, context, value, "-?[0-9]{1,10}", "invalid_ip",
                         "must be a 32-bit integer")  # fmt: skip
        number = plan.add(
            sql.mod(
                sql.add(sql.cast(digits.read, "bigint"), sql.number(2**32)), sql.number(2**32)
            ),
            [digits], "integer",
        )  # fmt: skip
        beyond = sql.negate(
            sql.every(
                [
                    sql.lt(sql.cast(digits.read, "bigint"), sql.number(2**32)),
                    sql.ge(sql.cast(digits.read, "bigint"), sql.number(-(2**31))),
                ]
            )
        )
        reject(plan, context, beyond, [digits], "invalid_ip", "must be a 32-bit integer")
        octets = [
            sql.cast(
                sql.mod(
                    sql.int_div(number.read, sql.number(256**place)), sql.number(256)
                ), "varchar",
            )
            for place in range(4)
        ]  # fmt: skip
        dot = sql.text(".")
        return plan.add(
            sql.join(octets[0], dot, octets[1], dot, octets[2], dot, octets[3]), [number]
        )


class UnitsBy(Function):
    """A quantity whose unit another field names, as whole class units.

    ``names`` translates the field's texts to units; others are rejected as ``unknown_unit``.
    ``steps`` are taken with the field first: of ``12.5 MB`` an extract takes the unit.
    """

    name = "units_by"
    gives = "integer"
    field: str
    steps: tuple[Step, ...] = ()
    names: dict[Text, str] = Field(min_length=1)
    round: Rounding = "none"

    @model_validator(mode="after")
    def _units(self) -> UnitsBy:
        for unit in self.names.values():
            if unit not in UNIT_SIZES:
                raise ValueError(f"unknown unit {unit!r}; known: {', '.join(UNIT_SIZES)}")
        return self

    def reads(self) -> Iterator[str]:
        yield self.field
        for step in self.steps:
            yield from lookup(step).reads()

    def apply(self, plan: Plan, value: Value, context: Context) -> Value:
        named = context.other(self.field, self.steps)
        if named.kind != "text":
            raise ValueError(f"a unit is a text, and {self.field} is made a {named.kind}")
        unit = plan.add(sql.call("trim", named.read), [named])
        known = sql.coalesce(
            sql.one_of(unit.read, [sql.text(name) for name in self.names]), exp.false()
        )
        wrong = sql.every([sql.is_set(value.read), sql.negate(known)])
        reject(plan, context, wrong, [value, unit], "unknown_unit",
               f"its unit in {self.field} is none of {', '.join(self.names)}", unit)  # fmt: skip
        results = []
        for size in dict.fromkeys(UNIT_SIZES[unit] for unit in self.names.values()):
            texts = [sql.text(n) for n, named in self.names.items() if UNIT_SIZES[named] == size]
            mine = plan.add(sql.when((sql.one_of(unit.read, texts), value.read)), [value, unit])
            results.append(scaled(plan, mine, context, size, self.round))
        return plan.add(sql.coalesce(*(made.read for made in results)), results, "integer")


class Duration(Function):
    """A length of time as whole seconds.

    ``format``: ``clock`` for ``1:02:03``, ``02:03`` (minutes and seconds); ``hhmmss`` for digits,
    the last two of which are seconds; ``iso`` for ``PT1H2M3S``; ``days`` for a spreadsheet's
    fraction of a day, which ``round`` says how to round.
    """

    name = "duration"
    gives = "integer"
    format: Literal["clock", "hhmmss", "iso", "days"] = "clock"
    round: Rounding = "none"

    def apply(self, plan: Plan, value: Value, context: Context) -> Value:
        if self.format == "days":
            return scaled(plan, value, context, 86_400, self.round)
        hours, minutes, seconds_ = "[0-9]{1,6}", "[0-9]{1,6}", "[0-9]{1,9}"
        whole, taken = {
            "clock": (
                "[0-9]{1,6}:[0-5][0-9]:[0-5][0-9]|[0-9]{1,6}:[0-5][0-9]",
                f"(?:({hours}):)?({minutes}):([0-5][0-9])",
            ),
            "hhmmss": ("[0-9]+[0-5][0-9][0-5][0-9]", "([0-9]+)([0-5][0-9])([0-5][0-9])"),
            "iso": (
                f"PT(?:{hours}H(?:{minutes}M)?(?:{seconds_}S)?|{minutes}M(?:{seconds_}S)?"
                f"|{seconds_}S)",
                f"PT(?:({hours})H)?(?:({minutes})M)?(?:({seconds_})S)?",
            ),
        }[self.format]
        if self.format == "hhmmss":
            even = plan.add(
                sql.when((sql.fits(value.read, "[0-9]{1,12}"), sql.call(
                    "lpad", value.read,
                    sql.cast(sql.call("greatest", sql.number(6),
                                      sql.call("length", value.read)), "integer"),
                    sql.text("0")))),
                [value],
            )  # fmt: skip
        else:
            even = value
        ok = plan.add(
            sql.coalesce(sql.fits(even.read, whole), sql.is_null(value.read)), [even, value],
            "boolean",
        )  # fmt: skip
        reject(plan, context, sql.negate(ok.read), [ok], "invalid_duration",
               f"must be a duration written as {self.format}")  # fmt: skip
        parts = [
            sql.coalesce(
                sql.try_cast(sql.find(even.read, f"^{taken}$", group), "bigint"), sql.number(0)
            )
            for group in (1, 2, 3)
        ]
        seconds = sql.add(
            sql.mul(parts[0], sql.number(3600)),
            sql.add(sql.mul(parts[1], sql.number(60)), parts[2]),
        )
        fitting = sql.every([ok.read, sql.is_set(value.read)])
        return plan.add(sql.when((fitting, seconds)), [ok, even, value], "integer")


# ---------------------------------------------------------------- mathematics


def _kept(plan: Plan, context: Context, wide: Value) -> Value:
    """Return a wide result as a 64-bit integer, or reject it."""
    limit = sql.call("wide", sql.number(_BIGGEST))
    fitting = plan.add(sql.le(sql.call("abs", wide.read), limit), [wide], "boolean")
    reject(plan, context, sql.negate(fitting.read), [fitting], "number_out_of_range",
           "is more than any quantity can be")  # fmt: skip
    return plan.add(
        sql.when((fitting.read, sql.cast(wide.read, "bigint"))), [fitting, wide], "integer"
    )


class _Pair(Function):
    """Another field's integer, made by ``steps`` (``integer`` unless said), or an earlier target.

    Where it is absent, ``absent`` stands for it; without ``absent`` the result is absent too.
    """

    field: str | None = None
    target: str | None = None
    steps: tuple[Step, ...] = (Step(name="integer"),)
    absent: int | None = None

    @model_validator(mode="after")
    def _one(self) -> _Pair:
        if (self.field is None) == (self.target is None):
            raise ValueError("name either a field or a target")
        return self

    def reads(self) -> Iterator[str]:
        if self.field is not None:
            yield self.field
            for step in self.steps:
                yield from lookup(step).reads()

    def _second(self, plan: Plan, context: Context) -> Value:
        if self.field is not None:
            other = context.other(self.field, self.steps)
        else:
            found = context.targets.get(self.target or "")
            if found is None:
                raise ValueError(f"{self.target!r} is no target mapped before this field")
            other = found
        if other.kind != "integer":
            raise ValueError(f"needs an integer, and {self.field or self.target} is {other.kind}")
        if self.absent is None:
            return other
        return plan.add(sql.coalesce(other.read, sql.number(self.absent)), [other], "integer")


class Plus(_Pair):
    """The sum with another integer: volumes up and down."""

    name = "plus"
    takes = "integer"
    gives = "integer"

    def apply(self, plan: Plan, value: Value, context: Context) -> Value:
        other = self._second(plan, context)
        wide = sql.add(sql.call("wide", value.read), sql.call("wide", other.read))
        return _kept(plan, context, plan.add(wide, [value, other], "integer"))


class Minus(_Pair):
    """The difference from another integer: gross less free."""

    name = "minus"
    takes = "integer"
    gives = "integer"

    def apply(self, plan: Plan, value: Value, context: Context) -> Value:
        other = self._second(plan, context)
        wide = sql.sub(sql.call("wide", value.read), sql.call("wide", other.read))
        return _kept(plan, context, plan.add(wide, [value, other], "integer"))


class Times(Function):
    """The product with a constant, exactly; a fraction that is left is rounded as declared.

    ``by`` 4294967296 makes bytes of Gigawords. Without ``round`` a fraction rejects the record.
    """

    name = "times"
    takes = "integer"
    gives = "integer"
    by: Decimal = Field(max_digits=24, decimal_places=9)
    round: Rounding = "none"

    def apply(self, plan: Plan, value: Value, context: Context) -> Value:
        scale = max(0, -int(self.by.as_tuple().exponent))
        numerator = int(self.by.scaleb(scale))
        product = plan.add(
            sql.mul(sql.call("wide", value.read), sql.call("wide", sql.number(numerator))),
            [value], "integer",
        )  # fmt: skip
        return _kept(plan, context, _divided(plan, context, product, 10**scale, self.round))


class RoundTo(Function):
    """The next multiple: ``{round_to: {multiple: 1024}}`` rounds each record up (MD-01)."""

    name = "round_to"
    takes = "integer"
    gives = "integer"
    multiple: int = Field(ge=2, le=10**12)
    round: Literal["up", "down", "half_up"] = "up"

    def apply(self, plan: Plan, value: Value, context: Context) -> Value:
        wide = plan.add(sql.call("wide", value.read), [value], "integer")
        count = _divided(plan, context, wide, self.multiple, self.round)
        product = sql.mul(count.read, sql.number(self.multiple))
        return _kept(plan, context, plan.add(product, [count], "integer"))


def _divided(plan: Plan, context: Context, value: Value, divisor: int, rounding: Rounding) -> Value:
    """Divide a wide integer by a constant; rounding is away from or towards zero."""
    by = sql.call("wide", sql.number(divisor))
    if rounding == "none":
        rest = sql.ne(sql.mod(value.read, by), sql.call("wide", sql.number(0)))
        reject(plan, context, rest, [value], "not_whole",
               "leaves a fraction; declare round in the feed")  # fmt: skip
    names = {"none": "floor_div", "down": "floor_div", "up": "ceil_div", "half_up": "half_up_div"}
    size = sql.call(names[rounding], sql.call("abs", value.read), by)
    negative = sql.lt(value.read, sql.call("wide", sql.number(0)))
    return plan.add(
        sql.when((negative, sql.sub(sql.call("wide", sql.number(0)), size)), otherwise=size),
        [value], "integer",
    )  # fmt: skip


class PlusSeconds(_Pair):
    """A later instant: the start of an interval plus its number times its length."""

    name = "plus_seconds"
    takes = "timestamp"
    gives = "timestamp"
    times: int = Field(1, ge=-86_400, le=86_400)

    def apply(self, plan: Plan, value: Value, context: Context) -> Value:
        other = self._second(plan, context)
        beyond = sql.gt(sql.call("abs", other.read), sql.number(10**9))
        reject(plan, context, beyond, [other], "number_out_of_range",
               "is more seconds than any usage lasts")  # fmt: skip
        seconds = sql.mul(other.read, sql.number(-self.times))
        kept = sql.when((sql.negate(beyond), sql.call("minus_seconds", value.read, seconds)))
        return plan.add(kept, [value, other], "timestamp")


FUNCTIONS.update(
    {
        (function.name, function.version): function
        for function in (
            Lookup, Carrier, Tadig, Country, Network, NetworkPart, HomeNetwork, E164Assigned,
            NumberClass, Imei15, Ip, ReversedIp, UnitsBy, Duration, Plus, Minus, Times, RoundTo,
            PlusSeconds,
        )
    }
)  # fmt: skip
