"""Conditions on usage records: a small declarative language, compiled to SQL, never evaluated here.

    apn = "iot.secure" and not (rat in ("2G", "3G")) or firmware starts "7." and flags has "trial"

Compared are a field and a literal: ``=``, ``!=``, ``in (...)``, for numbers ``<``, ``<=``, ``>``,
``>=``, for texts ``starts`` (one text, or any of several in brackets), for lists of words ``has``;
``is known`` and ``is missing`` ask whether the record told the field at all. They combine with
``and``, ``or``, ``not`` and brackets.
A missing field equals nothing and differs from everything: every condition is true or false.

Fields are columns of the record and the attributes that the catalog declares with their kind.
:func:`parse` checks names and kinds when a catalog is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from sqlglot import exp

Kind = Literal["text", "number", "list"]

RECORD_FIELDS: Mapping[str, tuple[Kind, str]] = {
    "feed": ("text", "feed_id"),
    "uid_type": ("text", "uid_type"),
    "quantity": ("number", "quantity"),
    "quantity_up": ("number", "quantity_up"),
    "quantity_down": ("number", "quantity_down"),
    "mcc": ("text", "mcc"),
    "mnc": ("text", "mnc"),
    "region": ("text", "region"),
    "apn": ("text", "apn"),
    "rat": ("text", "rat"),
    "peer_number": ("text", "peer_number"),
    "session": ("text", "session_id"),
    "flags": ("list", "flags"),
}
"""Field of the language -> kind and column of ``usage_record``."""

_TOKEN = re.compile(
    r"""\s*(?:(?P<text>"[^"]*"|'[^']*')|(?P<number>-?[0-9]+(?:\.[0-9]+)?)"""
    r"""|(?P<word>[A-Za-z_][A-Za-z0-9_.]*)|(?P<mark><=|>=|!=|=|<|>|\(|\)|,))"""
)
_RESERVED = frozenset("and or not in is known missing has starts".split())
_NUMBER = r" *-?[0-9]{1,18}([.][0-9]{1,12})? *"


class ConditionError(ValueError):
    """A condition that cannot be understood; the message says where and what to write instead."""


@dataclass(frozen=True)
class _Comparison:
    field: str
    operator: str
    values: tuple[str | Decimal, ...]


@dataclass(frozen=True)
class _Not:
    inner: Condition


@dataclass(frozen=True)
class _Joined:
    word: Literal["and", "or"]
    parts: tuple[Condition, ...]


Condition = _Comparison | _Not | _Joined


def parse(text: str, attributes: Mapping[str, Kind]) -> Condition:
    """Read a condition. Raises ConditionError for its grammar, its names or its kinds."""
    return _Parser(text, attributes).whole()


def trait_sql(conditions: Sequence[str], attributes: Mapping[str, Kind]) -> str:
    """Return SQL for one text of a record: character n is 1 where condition n holds, else 0."""
    if not conditions:
        return "''"
    bits = [
        exp.Case(
            ifs=[
                exp.If(
                    this=_expression(parse(text, attributes), attributes),
                    true=exp.Literal.string("1"),
                )
            ],
            default=exp.Literal.string("0"),
        )
        for text in conditions
    ]
    tree: exp.Expression = bits[0]
    for bit in bits[1:]:
        tree = exp.DPipe(this=tree, expression=bit, safe=True)
    return tree.sql(dialect="duckdb")


class _Parser:
    def __init__(self, text: str, attributes: Mapping[str, Kind]) -> None:
        self.text, self.attributes = text, attributes
        self.tokens: list[tuple[str, str]] = []
        at = 0
        while text[at:].strip():
            match = _TOKEN.match(text, at)
            if match is None or match.lastgroup is None:
                raise ConditionError(f"cannot read {text[at:].strip()!r} in condition {text!r}")
            self.tokens.append((match.lastgroup, match[match.lastgroup]))
            at = match.end()
        self.at = 0

    def whole(self) -> Condition:
        if not self.tokens:
            raise ConditionError("the condition is empty; leave it out or write one")
        result = self.some()
        if self.at < len(self.tokens):
            raise self.error(f"{self.peek()[1]!r} comes after the end; join by and, or")
        return result

    def some(self) -> Condition:
        return self.joined("or", self.every)

    def every(self) -> Condition:
        return self.joined("and", self.single)

    def joined(self, word: Literal["and", "or"], inner: object) -> Condition:
        assert callable(inner)
        parts: list[Condition] = [inner()]
        while self.took(word):
            parts.append(inner())
        return parts[0] if len(parts) == 1 else _Joined(word, tuple(parts))

    def single(self) -> Condition:
        if self.took("not"):
            return _Not(self.single())
        if self.took("("):
            result = self.some()
            self.expect(")")
            return result
        return self.comparison()

    def comparison(self) -> Condition:
        group, name = self.peek()
        if group != "word" or name in _RESERVED:
            raise self.error(f"expected a field, found {name!r}")
        self.at += 1
        kind = self.kind(name)
        if self.took("is"):
            if self.took("known"):
                return _Comparison(name, "known", ())
            self.expect("missing")
            return _Not(_Comparison(name, "known", ()))
        negated = self.took("not")
        group, operator = self.peek()
        allowed = {
            "text": ("=", "!=", "in", "starts"),
            "number": ("=", "!=", "in", "<", "<=", ">", ">="),
            "list": ("has",),
        }[kind]
        if operator not in allowed or (negated and operator != "in"):
            raise self.error(
                f"field {name} is a {kind} and can be compared by {', '.join(allowed)} "
                f"or is known, not by {operator!r}"
            )
        self.at += 1
        if operator == "in" or (operator == "starts" and self.peek()[1] == "("):
            self.expect("(")
            values = [self.literal(name, kind)]
            while self.took(","):
                values.append(self.literal(name, kind))
            self.expect(")")
        else:
            values = [self.literal(name, kind)]
        found = _Comparison(name, "=" if operator == "!=" else operator, tuple(values))
        return _Not(found) if negated or operator == "!=" else found

    def kind(self, name: str) -> Kind:
        if name in RECORD_FIELDS:
            return RECORD_FIELDS[name][0]
        if name in self.attributes:
            return self.attributes[name]
        known = ", ".join([*RECORD_FIELDS, *sorted(self.attributes)])
        raise self.error(f"unknown field {name!r}; known: {known}; declare it under attributes:")

    def literal(self, name: str, kind: Kind) -> str | Decimal:
        group, token = self.peek()
        self.at += 1
        if group == "number" and kind == "number":
            return Decimal(token)
        if group == "text" and kind != "number":
            return token[1:-1]
        wanted = "a number" if kind == "number" else 'a text in quotes, such as "iot.secure"'
        raise self.error(f"field {name} is a {kind}; compare it with {wanted}, not {token}")

    def peek(self) -> tuple[str, str]:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("end", "the end")

    def took(self, word: str) -> bool:
        group, token = self.peek()
        if group in ("word", "mark") and token == word:
            self.at += 1
            return True
        return False

    def expect(self, word: str) -> None:
        if not self.took(word):
            raise self.error(f"expected {word!r}, found {self.peek()[1]!r}")

    def error(self, message: str) -> ConditionError:
        return ConditionError(f"{message} (in condition {self.text!r})")


def _expression(condition: Condition, attributes: Mapping[str, Kind]) -> exp.Expression:
    match condition:
        case _Not(inner):
            return exp.Not(this=exp.Paren(this=_expression(inner, attributes)))
        case _Joined(word, parts):
            tree: exp.Expression = _expression(parts[0], attributes)
            joint: type[exp.Expression] = exp.And if word == "and" else exp.Or
            for part in parts[1:]:
                tree = joint(this=tree, expression=_expression(part, attributes))
            return exp.Paren(this=tree)
        case _Comparison():
            return _compared(condition, attributes)


def _compared(comparison: _Comparison, attributes: Mapping[str, Kind]) -> exp.Expression:
    _, value = _value(comparison.field, attributes)
    if comparison.operator == "known":
        return exp.Paren(this=exp.Not(this=exp.Is(this=value, expression=exp.Null())))
    literals = [
        exp.Literal.number(str(v)) if isinstance(v, Decimal) else exp.Literal.string(v)
        for v in comparison.values
    ]
    tree: exp.Expression
    match comparison.operator:
        case "in":
            tree = exp.In(this=value, expressions=literals)
        case "has":
            word = re.escape(str(comparison.values[0]))
            tree = _has(value, f"(^|[^A-Za-z0-9_.-]){word}($|[^A-Za-z0-9_.-])")
        case "starts":
            tree = _has(value, f"^({'|'.join(re.escape(str(v)) for v in comparison.values)})")
        case operator:
            compare: dict[str, type[exp.Expression]] = {
                "=": exp.EQ,
                "<": exp.LT,
                "<=": exp.LTE,
                ">": exp.GT,
                ">=": exp.GTE,
            }
            tree = compare[operator](this=value, expression=literals[0])
    return exp.Coalesce(this=exp.Paren(this=tree), expressions=[exp.false()])


def _value(field: str, attributes: Mapping[str, Kind]) -> tuple[Kind, exp.Expression]:
    if field in RECORD_FIELDS:
        kind, name = RECORD_FIELDS[field]
        return kind, exp.column(exp.to_identifier(name, quoted=True))
    kind = attributes[field]
    told = exp.Anonymous(
        this="json_text",
        expressions=[
            exp.column(exp.to_identifier("attributes", quoted=True)),
            exp.Literal.string(field),
        ],
    )
    if kind != "number":
        return kind, told
    number = exp.Case(
        ifs=[
            exp.If(
                this=exp.Anonymous(
                    this="fits", expressions=[told.copy(), exp.Literal.string(_NUMBER)]
                ),
                true=exp.Cast(this=told, to=exp.DataType.build("decimal(30,12)", dialect="duckdb")),
            )
        ]
    )
    return kind, number


def _has(value: exp.Expression, pattern: str) -> exp.Expression:
    return exp.Anonymous(this="has", expressions=[value, exp.Literal.string(pattern)])
