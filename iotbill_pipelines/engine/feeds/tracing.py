"""A feed compiled so that every value on the way to a target field can be shown.

:func:`trace_feed` gives the same outcomes as :func:`engine.feeds.mapping.compile_feed`, since it is
the same compiler, and beside them one text column for each value that a branch starts from, that
a function returns, and that a field ends with. It is for people who write feeds: a query over a
few records, not over a day's traffic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from sqlglot import exp

from iotbill_pipelines.engine.feeds import sql
from iotbill_pipelines.engine.feeds.functions import Context, Function
from iotbill_pipelines.engine.feeds.mapping import _Compiler
from iotbill_pipelines.engine.feeds.plan import Value
from iotbill_pipelines.engine.feeds.spec import Branch, Condition, FeedSpec, FieldSpec, Step
from iotbill_pipelines.engine.schemas import Column

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class StepTrace:
    """A function as it is written, with its version and parameters, and its result's column."""

    label: str
    column: str
    implicit: bool
    """The target's type asked for it; the feed does not name it."""


@dataclass(frozen=True)
class BranchTrace:
    """A way to a value: what it reads, when it is taken, and what each step makes of it."""

    origin: str
    condition: str
    taken: str | None
    """Column that holds ``true`` where this is the branch; None where there is only one."""
    start: str
    steps: tuple[StepTrace, ...]


@dataclass(frozen=True)
class FieldTrace:
    """How a target field, or an attribute, is filled; ``steps`` follow those of the branch."""

    name: str
    attribute: bool
    branches: tuple[BranchTrace, ...]
    steps: tuple[StepTrace, ...]
    result: str


@dataclass(frozen=True)
class Rule:
    """A rule that can reject a record, and the column that is ``true`` where it is broken."""

    code: str
    field: str
    message: str
    column: str


@dataclass(frozen=True)
class TracedFeed:
    """The traced SQL of a feed: ``select`` gives the outcome columns and the traced ones.

    ``rules`` stand in the order in which they are tried. ``zones`` are those of
    :class:`engine.feeds.mapping.CompiledFeed`.
    """

    spec: FeedSpec
    select: str
    zones: frozenset[str]
    sources: dict[str, str]
    fields: tuple[FieldTrace, ...]
    rules: tuple[Rule, ...]


def trace_feed(spec: FeedSpec, source: str = "raw_record") -> TracedFeed:
    """Compile a feed over relation ``source`` with its steps shown. Raises TermsError."""
    key = (spec.model_dump_json(by_alias=True), source)
    if key not in _TRACED:
        if len(_TRACED) >= 64:
            _TRACED.clear()
        _TRACED[key] = _Tracer(spec, source).traced()
    return _TRACED[key]


_TRACED: dict[tuple[str, str], TracedFeed] = {}
"""Feeds by content: a page, a sample and a test ask for the same one."""


def describe(condition: Condition | None) -> str:
    """Write a condition as a sentence would: ``type is 20``, ``not (kind is empty)``."""
    if condition is None:
        return "always"
    if condition.all is not None:
        return " and ".join(f"({describe(part)})" for part in condition.all)
    if condition.any is not None:
        return " or ".join(f"({describe(part)})" for part in condition.any)
    if condition.negate is not None:
        return f"not ({describe(condition.negate)})"
    name = condition.field if condition.field is not None else f"target {condition.target}"
    return f"{name} {_test(condition)}"


def _test(condition: Condition) -> str:  # noqa: PLR0911 - one answer per test
    if condition.equals is not None:
        return f"is {condition.equals}"
    if condition.one_of is not None:
        return f"is one of {', '.join(condition.one_of)}"
    if condition.starts_with is not None:
        return f"starts with {condition.starts_with}"
    if condition.matches is not None:
        return f"matches {condition.matches}"
    if condition.at_least is not None:
        return f"is at least {condition.at_least}"
    if condition.below is not None:
        return f"is below {condition.below}"
    return "is empty" if condition.empty else "is not empty"


def origin(branch: Branch) -> str:
    """Write where a branch's text comes from."""
    if branch.value is not None:
        return f"the constant {branch.value}"
    return " or else ".join(branch.from_)


def label(function: Function) -> str:
    """Write a function as ``units@1 (unit MB, round up)``, parameters at their default left out."""
    given = function.model_dump(by_alias=True, exclude_defaults=True)
    shown = ", ".join(f"{name} {_short(value)}" for name, value in given.items())
    return f"{function.name}@{function.version}" + (f" ({shown})" if shown else "")


def _short(value: object) -> str:
    if isinstance(value, dict) and "name" in value and set(value) <= {"name", "version", "params"}:
        return str(value["name"]) + (f" {_short(value['params'])}" if value.get("params") else "")
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} -> {_short(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_short, value)) + "]"
    return str(value)


@dataclass
class _Noted:
    """What the compiler was seen to do for one field."""

    starts: dict[Path, Value] = field(default_factory=dict)
    taken: dict[Path, Value] = field(default_factory=dict)
    steps: dict[Path, list[tuple[Function, Value, bool]]] = field(default_factory=dict)


class _Tracer(_Compiler):
    """The compiler of feeds, which writes down the columns that it makes."""

    def __init__(self, spec: FeedSpec, source: str) -> None:
        super().__init__(spec, source)
        self.traces: list[FieldTrace] = []
        self.shown: dict[str, Value] = {}
        self._at: Path = ()
        self._now = _Noted()

    def traced(self) -> TracedFeed:
        compiled = self.compile()
        rules = tuple(
            Rule(fault.code, fault.field, fault.message, self._shows(fault.broken))
            for fault in self.plan.faults
        )
        sources = {name: self._shows(self.sources[name]) for name in self.spec.sources()}
        return TracedFeed(
            self.spec, compiled.select, compiled.zones, sources, tuple(self.traces), rules
        )

    def _shows(self, value: Value) -> str:
        name = f"shown_{value.name}"
        self.shown[name] = value
        return name

    # ------------------------------------------------------------ what the compiler does

    def _field(self, path: Path, field: FieldSpec, column: Column | None) -> Value:
        self._now = noted = _Noted()
        result = super()._field(path, field, column)
        branches = []
        for number, branch in enumerate(field.branches()):
            at = (*path, "choose", number) if field.choose else path
            taken = noted.taken.get(at)
            branches.append(
                BranchTrace(
                    origin(branch),
                    describe(branch.when),
                    self._shows(taken) if taken else None,
                    self._shows(noted.starts[at]),
                    self._steps_of(noted, at, len(branch.steps)) if field.choose else (),
                )
            )
        self.traces.append(
            FieldTrace(
                str(path[-1]),
                path[0] == "attributes",
                tuple(branches),
                self._steps_of(noted, path, len(field.steps)),
                self._shows(result),
            )
        )
        return result

    def _steps_of(self, noted: _Noted, path: Path, written: int) -> tuple[StepTrace, ...]:
        steps = noted.steps.get(path, [])
        return tuple(
            StepTrace(label(function), self._shows(value), number >= written)
            for number, (function, value, _) in enumerate(steps)
        )

    def _start(self, path: Path, branch: Branch) -> Value:
        value = super()._start(path, branch)
        self._at = path
        self._now.starts[path] = value
        return value

    def _chosen(self, start: Value, conditions: Sequence[tuple[sql.Expr, list[Value]]]) -> Value:
        value = super()._chosen(start, conditions)
        *earlier, (mine, _) = conditions
        inputs = [item for _, values in conditions for item in values]
        tests = [sql.negate(condition) for condition, _ in earlier]
        self._now.taken[self._at] = self.plan.add(sql.every([*tests, mine]), inputs, "boolean")
        self._now.starts[self._at] = value
        return value

    def _context(self, path: Path, label: str, origin: Value, start: Value) -> Context:
        context = super()._context(path, label, origin, start)
        told = context.read
        assert told is not None

        def read(name: str, steps: Sequence[Step]) -> Value:
            # what a step does to another field is its own business
            noted, self._now = self._now, _Noted()
            try:
                return told(name, steps)
            finally:
                self._now = noted

        return replace(context, read=read)

    def _apply(self, path: Path, function: Function, value: Value, context: Context) -> Value:
        result = super()._apply(path, function, value, context)
        implicit = path[-2:-1] != ("steps",)
        self._now.steps.setdefault(path if implicit else path[:-2], []).append(
            (function, result, implicit)
        )
        return result

    def _final(
        self, ignored: Sequence[tuple[Value, str]], attributes: Mapping[str, Value]
    ) -> sql.Expr:
        select = super()._final(ignored, attributes)
        assert isinstance(select, exp.Select)
        for fault in self.plan.faults:
            self._shows(fault.broken)
        for name in self.spec.sources():
            self._shows(self.sources[name])
        for name, value in self.shown.items():
            select = select.select(
                exp.alias_(sql.cast(value.read, "varchar"), name, quoted=True), copy=False
            )
        return select
