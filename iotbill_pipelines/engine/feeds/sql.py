"""Small builders of SQL syntax trees; configuration enters SQL only as literals and columns.

Portable functions of the preludes (:mod:`engine.compute`) are called by name. Everything that a
builder combines is put in parentheses: sqlglot does not add them to trees that are substituted.
Trees share their parts; :func:`render` copies once, before sqlglot changes anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache

from sqlglot import exp

Expr = exp.Expression

DIALECT = "duckdb"
"""The syntax in which trees are written; what is used of it is common to both engines."""


def text(value: str) -> Expr:
    return exp.Literal.string(value)


def number(value: int) -> Expr:
    return exp.Literal.number(value) if value >= 0 else exp.Neg(this=exp.Literal.number(-value))


def null() -> Expr:
    return exp.Null()


def column(name: str, table: str | None = None) -> Expr:
    return exp.column(exp.to_identifier(name, quoted=True), table=table)


def call(name: str, *arguments: Expr) -> Expr:
    return exp.Anonymous(this=name, expressions=list(arguments))


@cache
def _type(kind: str) -> Expr:
    return exp.DataType.build(kind, dialect=DIALECT)


def cast(value: Expr, kind: str) -> Expr:
    return exp.Cast(this=value, to=_type(kind))


def try_cast(value: Expr, kind: str) -> Expr:
    return exp.TryCast(this=value, to=_type(kind))


def _binary(kind: type[exp.Binary], left: Expr, right: Expr) -> Expr:
    return exp.Paren(this=kind(this=left, expression=right))


def eq(left: Expr, right: Expr) -> Expr:
    return _binary(exp.EQ, left, right)


def ne(left: Expr, right: Expr) -> Expr:
    return _binary(exp.NEQ, left, right)


def lt(left: Expr, right: Expr) -> Expr:
    return _binary(exp.LT, left, right)


def le(left: Expr, right: Expr) -> Expr:
    return _binary(exp.LTE, left, right)


def gt(left: Expr, right: Expr) -> Expr:
    return _binary(exp.GT, left, right)


def ge(left: Expr, right: Expr) -> Expr:
    return _binary(exp.GTE, left, right)


def add(left: Expr, right: Expr) -> Expr:
    return _binary(exp.Add, left, right)


def sub(left: Expr, right: Expr) -> Expr:
    return _binary(exp.Sub, left, right)


def mul(left: Expr, right: Expr) -> Expr:
    return _binary(exp.Mul, left, right)


def mod(left: Expr, right: Expr) -> Expr:
    return _binary(exp.Mod, left, right)


def int_div(left: Expr, right: Expr) -> Expr:
    """Integer quotient of 64-bit integers."""
    return _binary(exp.IntDiv, left, right)


def join(*parts: Expr) -> Expr:
    """Concatenate; null when any part is."""
    tree = parts[0]
    for part in parts[1:]:
        tree = exp.DPipe(this=tree, expression=part, safe=True)
    return exp.Paren(this=tree)


def negate(condition: Expr) -> Expr:
    return exp.Not(this=exp.Paren(this=condition))


def every(conditions: Iterable[Expr]) -> Expr:
    return exp.Paren(this=exp.and_(*(exp.Paren(this=c) for c in conditions), copy=False))


def some(conditions: Iterable[Expr]) -> Expr:
    return exp.Paren(this=exp.or_(*(exp.Paren(this=c) for c in conditions), copy=False))


def is_null(value: Expr) -> Expr:
    return exp.Paren(this=exp.Is(this=value, expression=exp.Null()))


def is_set(value: Expr) -> Expr:
    return exp.Not(this=is_null(value))


def one_of(value: Expr, choices: Sequence[Expr]) -> Expr:
    return exp.Paren(this=exp.In(this=value, expressions=list(choices)))


def coalesce(*values: Expr) -> Expr:
    first, *rest = values
    return exp.Coalesce(this=first, expressions=rest) if rest else first


def when(*branches: tuple[Expr, Expr], otherwise: Expr | None = None) -> Expr:
    """CASE WHEN; the first condition that holds gives the value."""
    return exp.Case(
        ifs=[exp.If(this=c, true=value) for c, value in branches],
        default=otherwise if otherwise is not None else None,
    )


def fits(value: Expr, pattern: str) -> Expr:
    """Does the whole text match the pattern?"""
    return call("fits", value, text(pattern))


def find(value: Expr, pattern: str, group: int = 1) -> Expr:
    """Return a group of the first match; empty when there is none."""
    return call("find", value, text(pattern), number(group))


def swap(value: Expr, pattern: str, replacement: str) -> Expr:
    """Replace every match."""
    return call("swap", value, text(pattern), text(replacement))


def part(value: Expr, start: int, length: int) -> Expr:
    """Characters from ``start``, counted from 1."""
    return exp.Substring(this=value, start=number(start), length=number(length))


def render(tree: Expr) -> str:
    return tree.sql(dialect=DIALECT)


def null_text() -> Expr:
    return cast(null(), "varchar")


def digest(values: Sequence[Expr]) -> Expr:
    """Return the md5 of values; absent ones differ from empty ones, and borders count."""
    border, absent = call("chr", number(31)), call("chr", number(30))
    return call("md5", call("concat_ws", border, *(coalesce(cast(value, "varchar"), absent)
                                                   for value in values)))  # fmt: skip


def json_object(values: dict[str, Expr]) -> Expr:
    """Return a JSON object of the values that are set, as text; null when none is."""
    if not values:
        return null_text()
    pairs = [tree for name, value in values.items() for tree in (text(name), value)]
    built = cast(call("json_object", *pairs), "varchar")
    return when((some([is_set(value) for value in values.values()]), built))
