"""A feed's terms compiled to one SELECT: raw records in, one outcome per record out.

:func:`compile_feed` needs a relation with :data:`engine.feeds.spec.RAW_COLUMNS` and the source
fields. The relation it defines has one row per record: ``outcome`` (accepted, ignored, rejected),
the first broken rule with field and value, and the target's columns.

Rules are tried in this order: what the reader found (column count, encoding, JSON), the filter,
the fields in the order of the feed with their steps, required fields, ranges
(:mod:`engine.feeds.ranges`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from sqlglot import exp

from iotbill_pipelines.engine.feeds import sql
from iotbill_pipelines.engine.feeds.functions import IMPLICIT, Context, Function, lookup
from iotbill_pipelines.engine.feeds.plan import Fault, Kind, Plan, Value
from iotbill_pipelines.engine.feeds.ranges import add_ranges
from iotbill_pipelines.engine.feeds.spec import (
    FILE_NAME,
    MEMBER,
    PROVIDED,
    Branch,
    Condition,
    FeedSpec,
    FieldSpec,
    Step,
)
from iotbill_pipelines.engine.schemas import RATE, Column
from iotbill_pipelines.engine.terms import TermsError

_KINDS: Mapping[str, Kind] = {
    "VARCHAR": "text", "BIGINT": "integer", "INTEGER": "integer", "TIMESTAMP": "timestamp",
    "DATE": "date", RATE: "decimal",
}  # fmt: skip


@dataclass(frozen=True)
class CompiledFeed:
    """The SQL of a feed and what it needs loaded: local days of ``zones``, built-in ``tables``.

    :data:`engine.feeds.functions.ZONE_TABLE` and :data:`engine.feeds.tables.LOOKUP_TABLE` must be
    there before it runs.
    """

    spec: FeedSpec
    select: str
    zones: frozenset[str]
    tables: frozenset[str] = frozenset()


def compile_feed(spec: FeedSpec, source: str = "raw_record") -> CompiledFeed:
    """Compile a feed over relation ``source``. Raises TermsError naming the key at fault."""
    key = (spec.model_dump_json(by_alias=True), source)
    if key not in _COMPILED:
        if len(_COMPILED) >= 256:
            _COMPILED.clear()
        _COMPILED[key] = _Compiler(spec, source).compile()
    return _COMPILED[key]


_COMPILED: dict[tuple[str, str], CompiledFeed] = {}
"""Feeds by content: a batch of files must not pay for building the same tree again."""


class _Compiler:
    def __init__(self, spec: FeedSpec, source: str) -> None:
        self.spec = spec
        self.plan = Plan(source)
        self.sources = {
            name: self.plan.given(f"s_{number}") for number, name in enumerate(spec.sources())
        }
        self.sources[FILE_NAME] = self.plan.given("file_name")
        self.sources[MEMBER] = self.plan.given("member")
        self.received_at = self.plan.given("received_at", "timestamp")
        self.targets: dict[str, Value] = {}
        self.shown: dict[str, Value] = {}  # the source texts that rejects of a field show
        self.decimal_comma = spec.format.decimal_comma

    def compile(self) -> CompiledFeed:
        spec = self.spec
        columns = {column.name: column for column in spec.table.columns}
        ignored = self._filter()
        for name, field in spec.fields.items():
            self.targets[name] = self._field(("fields", name), field, columns[name])
        for name, field in spec.fields.items():
            if field.required or not columns[name].nullable:
                self._required(name, field)
        attributes = {
            name: self._field(("attributes", name), field, None)
            for name, field in spec.attributes.items()
        }
        add_ranges(self.plan, self.spec, self.targets, self.sources, self.received_at)
        return CompiledFeed(
            spec,
            sql.render(self._final(ignored, attributes)),
            frozenset(self.plan.zones),
            frozenset(self.plan.tables),
        )

    # ------------------------------------------------------------ fields

    def _field(self, path: tuple[str | int, ...], field: FieldSpec, column: Column | None) -> Value:
        label = str(path[-1])
        kind: Kind = _KINDS[column.type] if column else "text"
        conditions: list[tuple[sql.Expr, list[Value]]] = []
        results: list[Value] = []
        origin = self._origin(field)
        starts: list[Value] = []
        for number, branch in enumerate(field.branches()):
            at = (*path, "choose", number) if field.choose else path
            tested, inputs = self._condition((*at, "when"), branch.when)
            conditions.append((tested, inputs))
            start = self._start(at, branch)
            if len(field.branches()) > 1 or branch.when is not None:
                start = self._chosen(start, conditions)
            starts.append(start)
            context = self._context(at, label, start if field.choose else origin, start)
            results.append(self._steps(at, start, branch.steps, context))
        if field.choose:  # the text of the branch that was taken, not of one that was not
            origin = self.plan.add(sql.coalesce(*(start.read for start in starts)), starts)
        self.shown[label] = origin
        result = self._merge(path, field, conditions, results, origin, label)
        context = self._context(path, label, origin, result)
        result = self._steps(path, result, field.steps, context)
        if column is None:
            if result.kind == "text":
                return result
            return self.plan.add(sql.cast(result.read, "varchar"), [result])
        if result.kind == "text" and kind != "text":
            implicit = IMPLICIT.get(column.type)
            if implicit is None:
                raise TermsError(
                    path, f"a text cannot fill {column.type}; end it with step decimal"
                )
            result = self._apply(path, implicit, result, context)
        if result.kind != kind:
            raise TermsError(
                path, f"the steps give a {result.kind}, the column {column.name} needs a {kind}"
            )
        return result

    def _context(
        self, path: tuple[str | int, ...], label: str, origin: Value, start: Value
    ) -> Context:
        def read(name: str, steps: Sequence[Step]) -> Value:
            # another field counts only for records for which this way to a value is taken
            found = self._source(path, name)
            used = self.plan.add(sql.when((sql.is_set(start.read), found.read)), [start, found])
            return self._steps(path, used, steps, self._context(path, label, found, used))

        tables = {name: table.dated for name, table in self.spec.tables.items()}
        return Context(
            label, origin, self.spec.zone, self.decimal_comma, self.targets, tables, read
        )

    def _origin(self, field: FieldSpec) -> Value:
        """Return the text that rejects of this field show: its first non-empty source."""
        names = [name for branch in field.branches() for name in branch.from_]
        if not names:
            return self.plan.add(sql.null_text(), [])
        values = [self.sources[name] for name in dict.fromkeys(names)]
        return self.plan.add(sql.coalesce(*(value.read for value in values)), values)

    def _start(self, path: tuple[str | int, ...], branch: Branch) -> Value:
        if branch.value is not None:
            return self.plan.add(sql.text(branch.value), [])
        values = [self._source(path, name) for name in branch.from_]
        if len(values) == 1:
            return values[0]
        return self.plan.add(sql.coalesce(*(value.read for value in values)), values)

    def _source(self, path: tuple[str | int, ...], name: str) -> Value:
        if name not in self.sources:
            raise TermsError((*path, "from"), f"{name!r} is not a source field")
        return self.sources[name]

    def _chosen(self, start: Value, conditions: Sequence[tuple[sql.Expr, list[Value]]]) -> Value:
        """Keep a branch's text only where it is the first whose condition holds."""
        *earlier, (mine, _) = conditions
        inputs = [value for _, values in conditions for value in values]
        tests = [sql.negate(condition) for condition, _ in earlier]
        return self.plan.add(
            sql.when((sql.every([*tests, mine]), start.read)), [start, *inputs], start.kind
        )

    def _merge(
        self,
        path: tuple[str | int, ...],
        field: FieldSpec,
        conditions: Sequence[tuple[sql.Expr, list[Value]]],
        results: Sequence[Value],
        origin: Value,
        label: str,
    ) -> Value:
        if len(results) == 1 and not field.choose:
            return results[0]
        kinds = {value.kind for value in results}
        if len(kinds) > 1:
            raise TermsError(
                (*path, "choose"), f"the branches give different kinds: {', '.join(sorted(kinds))}"
            )
        # an else branch that only yields nothing must not decide the kind of the others
        merged = self.plan.add(
            sql.coalesce(*(value.read for value in results)), results, results[0].kind
        )
        if field.choose[-1].when is not None:
            inputs = [value for _, values in conditions for value in values]
            none = sql.negate(sql.some([condition for condition, _ in conditions]))
            shown = next(iter(inputs), origin)
            self.plan.reject(
                none, inputs, "no_mapping", label, shown,
                "no branch of choose fits this record; add one, or filter such records",
            )  # fmt: skip
        return merged

    def _steps(
        self, path: tuple[str | int, ...], value: Value, steps: Sequence[object], context: Context
    ) -> Value:
        for number, step in enumerate(steps):
            value = self._apply((*path, "steps", number), lookup(step), value, context)  # type: ignore[arg-type]
        return value

    def _apply(
        self, path: tuple[str | int, ...], function: Function, value: Value, context: Context
    ) -> Value:
        if value.kind != function.takes:
            raise TermsError(
                path, f"{function.name} takes a {function.takes}, but gets a {value.kind}"
            )
        try:
            result = function.apply(self.plan, value, context)
        except ValueError as error:
            raise TermsError(path, str(error)) from None
        return Value(result.name, function.gives, result.depth)

    def _required(self, name: str, field: FieldSpec) -> None:
        value, origin = self.targets[name], self.shown[name]
        first = next((n for b in field.branches() for n in b.from_), name)
        self.plan.reject(
            sql.is_null(value.read), [value, origin], "missing_value", name, origin,
            f"is required and empty; its source is {first}",
        )  # fmt: skip

    # ------------------------------------------------------------ conditions

    def _condition(
        self, path: tuple[str | int, ...], condition: Condition | None
    ) -> tuple[sql.Expr, list[Value]]:
        if condition is None:
            return exp.true(), []
        if condition.all is not None or condition.any is not None:
            parts = condition.all if condition.all is not None else condition.any or ()
            made = [self._condition(path, part) for part in parts]
            combine = sql.every if condition.all is not None else sql.some
            return combine([tree for tree, _ in made]), [v for _, values in made for v in values]
        if condition.negate is not None:
            tree, inputs = self._condition(path, condition.negate)
            return sql.negate(tree), inputs
        if condition.target is not None:
            if condition.target not in self.targets:
                raise TermsError(
                    path, f"target {condition.target} must be a field defined before this one"
                )
            value = self.targets[condition.target]
        else:
            assert condition.field is not None
            value = self._source(path, condition.field)
        return sql.coalesce(_test(condition, value), exp.false()), [value]

    def _filter(self) -> list[tuple[Value, str]]:
        ignored = []
        for number, rule in enumerate(self.spec.filter):
            tree, inputs = self._condition(("filter", number, "when"), rule.when)
            ignored.append((self.plan.add(tree, inputs, "boolean"), f"filter:{rule.reason}"))
        return ignored

    # ------------------------------------------------------------ result

    def _final(
        self, ignored: Sequence[tuple[Value, str]], attributes: Mapping[str, Value]
    ) -> sql.Expr:
        plan = self.plan
        faults = plan.faults
        read_fault = sql.column("fault_code")
        rule = sql.when(
            (sql.is_set(read_fault), sql.number(-1)),
            *((value.read, sql.number(-2 - i)) for i, (value, _) in enumerate(ignored)),
            *((fault.broken.read, sql.number(i)) for i, fault in enumerate(faults)),
        )
        depth_inputs = [
            *(value for value, _ in ignored), *(fault.broken for fault in faults),
            *self.targets.values(), *attributes.values(), *plan.flags,
        ]  # fmt: skip
        rule_no = plan.add(rule, depth_inputs, "integer")
        chosen = rule_no.read
        outputs: list[tuple[str, sql.Expr]] = [
            ("file_key", sql.column("file_key")),
            ("line_no", sql.column("line_no")),
            (
                "outcome",
                sql.when(
                    (sql.is_null(chosen), sql.text("accepted")),
                    (sql.le(chosen, sql.number(-2)), sql.text("ignored")),
                    otherwise=sql.text("rejected"),
                ),
            ),
            ("reason_code", _by_rule(chosen, faults, read_fault, lambda f: sql.text(f.code),
                                     {-2 - i: code for i, (_, code) in enumerate(ignored)})),
            ("fault_field", _by_rule(chosen, faults, sql.column("fault_field"),
                                     lambda f: sql.text(f.field))),
            ("fault_value", _by_rule(chosen, faults, sql.column("fault_value"),
                                     lambda f: f.value.read if f.value else sql.null_text())),
            ("fault_message", _by_rule(chosen, faults, sql.column("fault_message"),
                                       lambda f: sql.text(f.message),
                                       {-2 - i: "left out by the feed's filter"
                                        for i in range(len(ignored))})),
            ("measured_quantity", self.targets["quantity"].read if "quantity" in self.targets
             else sql.cast(sql.null(), "bigint")),
            ("raw_text", sql.column("raw_text")),
            ("member", sql.column("member")),
        ]  # fmt: skip
        outputs += self._target_columns(attributes)
        return (
            exp.Select(
                expressions=[
                    exp.alias_(tree, name, quoted=True, copy=False) for name, tree in outputs
                ]
            )
            .from_(
                exp.Subquery(
                    this=plan.select(), alias=exp.TableAlias(this=exp.to_identifier("mapped_"))
                ),
                copy=False,
            )
            .where(sql.is_null(sql.column("structure")), copy=False)
        )

    def _target_columns(self, attributes: Mapping[str, Value]) -> list[tuple[str, sql.Expr]]:
        made = {name: value.read for name, value in self.targets.items()}
        if self.spec.target in PROVIDED:
            made["feed_id"] = sql.text(self.spec.id)
        if self.spec.target == "usage_record":
            made |= self._usage_columns(attributes)
        return [
            (column.name, sql.cast(made.get(column.name, sql.null()), column.type))
            for column in self.spec.table.columns
            if column.name not in ("file_key", "line_no")
        ]

    def _usage_columns(self, attributes: Mapping[str, Value]) -> dict[str, sql.Expr]:
        dedup = self.spec.dedup
        assert dedup is not None
        parts = [
            self.targets[key[1:]].read if key.startswith("=") else self.sources[key].read
            for key in dedup.key
        ]
        content = [
            self.targets[name].read
            for name in (dedup.content or [n for n in self.spec.fields if n != "event_text"])
        ]
        if not dedup.content:
            content += [value.read for value in attributes.values()]
        start = self.targets["event_start"].read
        given = self.spec.fields["event_start"]
        columns: dict[str, sql.Expr] = {
            "dedup_key": sql.digest([sql.text(self.spec.family), *parts]),
            "content_hash": sql.digest(content),
            "usage_month": sql.part(sql.cast(start, "varchar"), 1, 7),
            "attributes": sql.json_object(
                {name: value.read for name, value in attributes.items()}
            ),
            "flags": sql.call(
                "nullif",
                sql.call("concat_ws", sql.text(" "), *(flag.read for flag in self.plan.flags),
                         sql.null_text()),
                sql.text(""),
            ),
        }  # fmt: skip
        if self.spec.correlate is not None:
            named = [
                sql.cast(self.targets[key[1:]].read, "varchar")
                if key.startswith("=") else self.sources[key].read
                for key in self.spec.correlate.key
            ]  # fmt: skip
            # without its whole name a session cannot be told apart: the record then stands alone
            columns["session_key"] = sql.when(
                (sql.every([sql.is_set(value) for value in named]),
                 sql.digest([sql.text(self.spec.family), *named])),
            )  # fmt: skip
        if "event_text" not in self.targets:
            names = [name for branch in given.branches() for name in branch.from_]
            columns["event_text"] = sql.coalesce(
                *(self.sources[name].read for name in names), sql.cast(start, "varchar")
            )
        return columns


_COMPARED = "decimal(38,12)"


def _number(read: sql.Expr) -> sql.Expr:
    return sql.try_cast(sql.call("trim", read), _COMPARED)


def _literal(number: Decimal) -> sql.Expr:
    return sql.cast(sql.text(format(number, "f")), _COMPARED)


def raw_condition(condition: Condition, columns: Mapping[str, str]) -> sql.Expr:
    """Return a condition over source fields as SQL over their columns; never null."""
    if condition.all is not None or condition.any is not None:
        parts = condition.all if condition.all is not None else condition.any or ()
        combine = sql.every if condition.all is not None else sql.some
        return combine([raw_condition(part, columns) for part in parts])
    if condition.negate is not None:
        return sql.negate(raw_condition(condition.negate, columns))
    value = Value(columns[condition.field or ""], "text", 0)
    return sql.coalesce(_test(condition, value), exp.false())


def _test(condition: Condition, value: Value) -> sql.Expr:  # noqa: PLR0911 - one per test
    read = value.read if value.kind == "text" else sql.cast(value.read, "varchar")
    if condition.equals is not None:
        return sql.eq(read, sql.text(condition.equals))
    if condition.one_of is not None:
        return sql.one_of(read, [sql.text(text) for text in condition.one_of])
    if condition.starts_with is not None:
        return sql.call("starts_with", read, sql.text(condition.starts_with))
    if condition.matches is not None:
        return sql.fits(read, condition.matches)
    if condition.at_least is not None:
        return sql.ge(_number(read), _literal(condition.at_least))
    if condition.below is not None:
        return sql.lt(_number(read), _literal(condition.below))
    return sql.is_null(read) if condition.empty else sql.is_set(read)


def _by_rule(
    chosen: sql.Expr,
    faults: Sequence[Fault],
    reader: sql.Expr,
    of: object,
    ignored: Mapping[int, str] | None = None,
) -> sql.Expr:
    """Pick by rule number; the reader's own finding is rule -1."""
    assert callable(of)
    # nearly every record breaks none: the other branches are then not looked at
    branches = [(sql.is_null(chosen), sql.null_text()), (sql.eq(chosen, sql.number(-1)), reader)]
    branches += [
        (sql.eq(chosen, sql.number(number)), sql.text(text))
        for number, text in (ignored or {}).items()
    ]
    branches += [
        (sql.eq(chosen, sql.number(number)), of(fault)) for number, fault in enumerate(faults)
    ]
    return sql.when(*branches)
