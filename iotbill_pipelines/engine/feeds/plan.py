"""A mapping as layers of projections.

Each value of a record (a source field, a step's result) is a column that is computed once: a
layer selects everything of the layer before it and adds the columns whose inputs are there. So a
chain of steps neither repeats its expressions nor depends on how an engine shares them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlglot import exp

from iotbill_pipelines.engine.feeds import sql
from iotbill_pipelines.engine.feeds.sql import Expr

Kind = Literal["text", "integer", "decimal", "timestamp", "date", "boolean"]


@dataclass(frozen=True)
class Value:
    """A column of the plan: its name, kind, and the layer from which it can be read."""

    name: str
    kind: Kind
    depth: int

    @property
    def read(self) -> Expr:
        return sql.column(self.name)


@dataclass(frozen=True)
class Fault:
    """A rule: where ``broken`` holds the record is rejected with a code, field and value."""

    broken: Value
    code: str
    field: str
    value: Value | None
    message: str


@dataclass
class _Layer:
    columns: list[tuple[str, Expr]] = field(default_factory=list)
    joins: list[Expr] = field(default_factory=list)


class Plan:
    """Collects values, rules and flags; :meth:`select` writes the SQL over relation ``source``."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.layers: list[_Layer] = []
        self.faults: list[Fault] = []
        self.flags: list[Value] = []
        self.zones: set[str] = set()
        self.tables: set[str] = set()
        self._count = 0

    def given(self, name: str, kind: Kind = "text") -> Value:
        """Return a column that the source relation has."""
        return Value(name, kind, 0)

    def add(self, expression: Expr, inputs: Iterable[Value], kind: Kind = "text") -> Value:
        """Compute an expression over ``inputs`` as a new column."""
        depth = 1 + max((value.depth for value in inputs), default=0)
        self._reach(depth)
        name = self._name()
        self.layers[depth - 1].columns.append((name, expression))
        return Value(name, kind, depth)

    def lookup(
        self,
        relation: str,
        on: dict[str, Expr],
        where: Iterable[str],
        inputs: Iterable[Value],
        columns: dict[str, Kind],
    ) -> dict[str, Value]:
        """Left join ``relation`` (its columns ``on`` equal expressions) and return its columns.

        ``where`` names of two columns ``low high`` that must hold the first input half-open, or
        nothing.
        """
        inputs = list(inputs)
        depth = 1 + max(value.depth for value in inputs)
        self._reach(depth)
        alias = self._name()
        conditions = [sql.eq(sql.column(name, alias), value) for name, value in on.items()]
        bounds = list(where)
        if bounds:
            low, high = bounds
            conditions += [
                sql.ge(inputs[0].read, sql.column(low, alias)),
                sql.lt(inputs[0].read, sql.column(high, alias)),
            ]
        self.layers[depth - 1].joins.append(
            exp.Join(
                this=exp.alias_(exp.to_table(relation), alias, table=True),
                side="LEFT",
                on=sql.every(conditions),
            )
        )
        result = {}
        for name, kind in columns.items():
            made = self._name()
            self.layers[depth - 1].columns.append((made, sql.column(name, alias)))
            result[name] = Value(made, kind, depth)
        return result

    def reject(
        self,
        broken: Expr,
        inputs: Iterable[Value],
        code: str,
        field_name: str,
        value: Value | None,
        message: str,
    ) -> None:
        """Add a rule; rules are tried in the order in which they are added."""
        made = self.add(broken, inputs, "boolean")
        self.faults.append(Fault(made, code, field_name, value, message))

    @property
    def depth(self) -> int:
        return len(self.layers)

    def select(self) -> Expr:
        """Return the last layer as a SELECT of every column made so far."""
        query: Expr = exp.to_table(self.source)
        for number, layer in enumerate(self.layers, 1):
            before = f"l{number - 1}"
            table = (
                exp.alias_(query, before, table=True, copy=False)
                if number == 1
                else exp.Subquery(this=query, alias=exp.TableAlias(this=exp.to_identifier(before)))
            )
            columns: list[Any] = [exp.Column(this=exp.Star(), table=exp.to_identifier(before))]
            columns += [
                exp.alias_(tree, name, quoted=True, copy=False) for name, tree in layer.columns
            ]
            select = exp.Select(expressions=columns, joins=list(layer.joins))
            select.set("from_", exp.From(this=table))
            query = select
        return query

    def _reach(self, depth: int) -> None:
        while len(self.layers) < depth:
            self.layers.append(_Layer())

    def _name(self) -> str:
        self._count += 1
        return f"v{self._count}"
