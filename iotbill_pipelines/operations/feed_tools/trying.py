"""Try a feed on a sample file: each raw line beside every field that comes out of it, and why.

The file goes through the reader, the mapping and the rules of ingestion
(:func:`compute.feed_files.ingest_files`), and nothing of it is stored. For the records that are
shown, the same mapping runs once more with every value on the way visible
(:mod:`engine.feeds.tracing`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from iotbill_pipelines.compute.duckdb_engine import DuckDbCompute
from iotbill_pipelines.compute.feed_files import ingest_files, local_file
from iotbill_pipelines.engine.feeds.spec import FeedSpec
from iotbill_pipelines.engine.feeds.tracing import (
    BranchTrace,
    FieldTrace,
    StepTrace,
    TracedFeed,
    trace_feed,
)

SHOWN = 10
"""Records that are shown unless lines are named."""


@dataclass(frozen=True)
class Step:
    """A function and what it made of the value before it; ``implicit``: by the column's type."""

    function: str
    value: str | None
    implicit: bool


@dataclass(frozen=True)
class Field:
    """How a target field of one record came about.

    ``origin`` is a source field or a constant, ``condition`` the branch that was taken (None where
    the feed gives one way only), ``start`` the text before the first of ``steps``, ``value`` what
    the target column gets. A field without a branch that fits has no origin.
    """

    name: str
    attribute: bool
    origin: str | None
    condition: str | None
    start: str | None
    steps: tuple[Step, ...]
    value: str | None


@dataclass(frozen=True)
class Broken:
    """A rule that a record breaks."""

    code: str
    field: str
    message: str


@dataclass(frozen=True)
class Record:
    """One record of the sample: as delivered, as mapped, and what became of it.

    ``reason``, ``fault_field``, ``fault_value`` and ``message`` are those of the first broken rule;
    ``also_broken`` lists the others, which say what is left to correct.
    """

    line_no: int
    raw_text: str
    outcome: str
    reason: str | None
    fault_field: str | None
    fault_value: str | None
    message: str | None
    flags: str | None
    sources: dict[str, str | None]
    fields: tuple[Field, ...]
    also_broken: tuple[Broken, ...]


@dataclass(frozen=True)
class Reason:
    """How many records share an outcome, its reason and field, and the first line of them."""

    outcome: str
    reason: str
    field: str | None
    records: int
    first_line: int
    message: str


@dataclass(frozen=True)
class Quantity:
    """Sum of the accepted records of a usage class, in its unit."""

    usage_class: str
    records: int
    quantity: int
    first_event: datetime | None
    last_event: datetime | None


@dataclass(frozen=True)
class Trial:
    """What a feed makes of a sample file."""

    feed_id: str
    target: str
    file_name: str
    received_at: datetime
    state: str
    error: str | None
    counts: dict[str, int]
    structure: dict[str, int]
    """Lines that are no records, by kind: header, trailer, blank, comment, skipped."""
    reasons: tuple[Reason, ...]
    quantities: tuple[Quantity, ...]
    distinct_keys: int | None
    """Distinct dedup keys (usage) among the accepted records."""
    records: tuple[Record, ...]

    @property
    def records_in(self) -> int:
        return sum(self.counts.values())

    @property
    def accepted(self) -> int:
        return self.counts.get("accepted", 0)


def try_sample(
    spec: FeedSpec,
    sample: Path,
    received_at: datetime,
    lines: Sequence[int] = (),
    most: int = SHOWN,
) -> Trial:
    """Run a sample file through a feed.

    ``received_at`` (UTC) is when the file is taken to have come: the rules on old and future events
    count from it. A companion file of the feed that lies beside the sample is held against it.
    ``lines`` are the lines to show; without them the first ``most`` records, of
    which every outcome and reason has at least one. Raises ValueError for a line that is no record.
    """
    file = local_file(spec, 1, sample, received_at)
    with DuckDbCompute() as compute:
        [result] = ingest_files(compute, spec, [file])
        kinds = compute.connection.execute(
            "select structure, count(*) from raw_record where structure is not null group by all"
        ).fetchall()
        reasons = _reasons(compute)
        shown = _chosen(compute, lines, most)
        return Trial(
            spec.id,
            spec.target,
            sample.name,
            received_at,
            result.state,
            result.error,
            result.records,
            dict(sorted(kinds)),
            reasons,
            _quantities(compute, spec),
            _distinct_keys(compute, spec),
            _records(compute, spec, shown),
        )


def _reasons(compute: DuckDbCompute) -> tuple[Reason, ...]:
    rows = compute.connection.execute(
        """select outcome, coalesce(reason_code, ''), fault_field, count(*), min(line_no),
             coalesce(arg_min(fault_message, line_no), '')
           from mapped_record where outcome <> 'accepted'
           group by 1, 2, 3 order by 1, 4 desc, 2, 3"""
    ).fetchall()
    return tuple(Reason(*row) for row in rows)


def _quantities(compute: DuckDbCompute, spec: FeedSpec) -> tuple[Quantity, ...]:
    if spec.target != "usage_record":
        return ()
    rows = compute.connection.execute(
        """select usage_class, count(*), cast(sum(quantity) as varchar),
             min(event_start), max(event_start)
           from mapped_record where outcome = 'accepted' group by 1 order by 1"""
    ).fetchall()
    return tuple(Quantity(r[0], r[1], int(r[2]), r[3], r[4]) for r in rows)


def _distinct_keys(compute: DuckDbCompute, spec: FeedSpec) -> int | None:
    if spec.target != "usage_record":
        return None
    found = compute.connection.execute(
        "select count(distinct dedup_key) from mapped_record where outcome = 'accepted'"
    ).fetchone()
    return int(found[0]) if found else None


def _chosen(compute: DuckDbCompute, lines: Sequence[int], most: int) -> list[int]:
    if not lines:
        # one of every kind first: what needs attention must not hide behind ten good lines
        rows = compute.connection.execute(
            """select line_no from (
                 select line_no, row_number() over (
                   partition by outcome, reason_code order by line_no) as turn
                 from mapped_record)
               order by turn, line_no limit ?""",
            [most],
        ).fetchall()
        return sorted(row[0] for row in rows)
    known = compute.connection.execute(
        "select line_no, structure, raw_text from raw_record where list_contains(?, line_no)",
        [list(lines)],
    ).fetchall()
    by_line = {row[0]: row[1] for row in known}
    for line in lines:
        if line not in by_line:
            raise ValueError(f"the sample has no line {line}; choose another for --line")
        if by_line[line] is not None:
            raise ValueError(f"line {line} is no record ({by_line[line]}); choose another")
    return sorted(set(lines))


def _records(compute: DuckDbCompute, spec: FeedSpec, lines: Sequence[int]) -> tuple[Record, ...]:
    if not lines:
        return ()
    listed = ", ".join(map(str, lines))
    compute.define("raw_shown", f"select * from raw_record where line_no in ({listed})")
    traced = trace_feed(spec, "raw_shown")
    compute.define("shown_record", traced.select, keep=True)
    rows = compute.fetch(
        """select m.outcome as whole_outcome, m.reason_code as whole_reason,
             m.fault_field as whole_field, m.fault_value as whole_value,
             m.fault_message as whole_message, s.*
           from shown_record as s
           join mapped_record as m on m.file_key = s.file_key and m.line_no = s.line_no
           order by s.line_no"""
    ).to_pylist()
    return tuple(_record(traced, row) for row in rows)


def _record(traced: TracedFeed, row: Mapping[str, Any]) -> Record:
    reason, field = row["whole_reason"], row["whole_field"]
    broken = [rule for rule in traced.rules if row[rule.column] == "true"]
    also = {
        (rule.code, rule.field): Broken(rule.code, rule.field, rule.message)
        for rule in broken
        if (rule.code, rule.field) != (reason, field)
    }
    return Record(
        row["line_no"],
        row["raw_text"] or "",
        row["whole_outcome"],
        reason,
        field,
        row["whole_value"],
        row["whole_message"],
        row.get("flags"),
        {name: row[column] for name, column in traced.sources.items()},
        tuple(_field(trace, row) for trace in traced.fields),
        tuple(also.values()) if row["whole_outcome"] == "rejected" else (),
    )


def _field(trace: FieldTrace, row: Mapping[str, Any]) -> Field:
    branch = _taken(trace, row)
    steps = (*(branch.steps if branch else ()), *trace.steps)
    return Field(
        trace.name,
        trace.attribute,
        branch.origin if branch else None,
        branch.condition if branch and branch.taken else None,
        row[branch.start] if branch else None,
        tuple(_step(step, row) for step in steps),
        row[trace.result],
    )


def _taken(trace: FieldTrace, row: Mapping[str, Any]) -> BranchTrace | None:
    for branch in trace.branches:
        if branch.taken is None or row[branch.taken] == "true":
            return branch
    return None


def _step(step: StepTrace, row: Mapping[str, Any]) -> Step:
    return Step(step.label, row[step.column], step.implicit)
