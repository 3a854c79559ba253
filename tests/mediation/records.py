"""Usage records and feed policies for mediation tests: small, explicit, without files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import pyarrow as pa

from iotbill_pipelines.compute.duckdb_engine import DuckDbCompute
from iotbill_pipelines.engine import flow, mediate
from iotbill_pipelines.engine.schemas import (
    FEED_POLICY,
    FEED_WATERMARK,
    FILE_VERSION,
    USAGE_RECORD,
)

Row = dict[str, Any]


def record(at: str, quantity: int, *, key: str, file: int = 1, line: int = 0, **more: Any) -> Row:
    """A record of feed ``f``; everything but file and line is its content."""
    start = datetime.fromisoformat(at)
    row: Row = dict.fromkeys(USAGE_RECORD.column_names)
    row |= {
        "feed_id": "f",
        "event_start": start,
        "event_text": at,
        "uid_type": "iccid",
        "uid_value": "sim1",
        "usage_class": "data",
        "quantity": quantity,
        "usage_month": at[:7],
        **more,
    }
    content = [str(value) for name, value in row.items() if name not in ("feed_id", "event_text")]
    row |= {
        "file_key": file,
        "line_no": line,
        "dedup_key": key,
        "content_hash": hashlib.md5("|".join(content).encode()).hexdigest(),
    }
    return row


def policy(feed: str = "f", **more: Any) -> Row:
    return {
        "feed_id": feed,
        "family": feed,
        "restating": False,
        "combine": None,
        "counting": None,
        "needs_start": False,
        "needs_stop": False,
        "needs_sequence": False,
        "first_sequence": None,
        "timeout_seconds": 86_400,
        "on_timeout": "release",
        "wrap_at": None,
        "first_reading": "zero",
        **more,
    }


def sessions(counting: str, **more: Any) -> Row:
    """The policy of a feed whose parts make sessions."""
    needs = {"needs_stop": True}
    if counting == "sum":
        needs["needs_sequence"] = True
    if counting == "elapsed":
        needs["needs_start"] = True
    return policy(combine="session", counting=counting, **(needs | more))


def numbered(rows: Iterable[Row]) -> list[Row]:
    """Give records without a line the next one of their file."""
    last: dict[int, int] = {}
    result = []
    for row in rows:
        last[row["file_key"]] = last.get(row["file_key"], 0) + 1
        result.append({**row, "line_no": row["line_no"] or last[row["file_key"]]})
    return result


class Mediated:
    """Every month of some records, mediated apart as in production, and put together."""

    def __init__(
        self,
        rows: Iterable[Row],
        policies: Iterable[Row] = (),
        *,
        versions: dict[int, int] | None = None,
        newest: str | None = None,
        groups_at_once: int = DuckDbCompute.groups_at_once,
    ) -> None:
        self.rows = numbered(rows)
        table = pa.Table.from_pylist(self.rows, schema=USAGE_RECORD.arrow_schema)
        told = list(policies)
        moment = (
            datetime.fromisoformat(newest)
            if newest
            else max(row["event_start"] for row in self.rows)
        )
        marks = [
            {"family": family, "newest_event": moment}
            for family in sorted({row["family"] for row in told})
        ]
        given = mediate.Policies(
            feed_policy=pa.Table.from_pylist(told, schema=FEED_POLICY.arrow_schema),
            file_version=pa.Table.from_pylist(
                [{"file_key": k, "version_no": v} for k, v in (versions or {}).items()],
                schema=FILE_VERSION.arrow_schema,
            ),
            feed_watermark=pa.Table.from_pylist(marks, schema=FEED_WATERMARK.arrow_schema),
        )
        self.usage: list[Row] = []
        self.duplicates: list[Row] = []
        self.conflicts: list[Row] = []
        self.incomplete: list[Row] = []
        self.merged: list[Row] = []
        self.parts: list[Row] = []
        with DuckDbCompute(expected_rows=0) as compute:
            compute.groups_at_once = groups_at_once
            compute.load("every_usage", table)
            for month in sorted({row["usage_month"] for row in self.rows}):
                for name, test in (("usage_record", "="), ("other_usage", "<>")):
                    compute.define(
                        name, f"select * from every_usage where usage_month {test} '{month}'"
                    )
                flow.find_nearby(compute, given)
                mediate.mediate(compute, given, records=len(self.rows))
                for group, select in (
                    (self.usage, "unique_usage"),
                    (self.duplicates, "duplicate_record"),
                    (
                        self.conflicts,
                        "select * from repeated_record where is_here and verdict = 'conflict'",
                    ),
                    (self.incomplete, "incomplete_record"),
                    (self.merged, "merged_record"),
                    (self.parts, "usage_part"),
                ):
                    group.extend(compute.fetch(select).to_pylist())

    @property
    def quantities(self) -> list[int]:
        """Billed quantities, in order of time."""
        return [
            row["quantity"]
            for row in sorted(self.usage, key=lambda r: (r["event_start"], r["quantity"]))
        ]

    @property
    def flags(self) -> list[str | None]:
        return [row["flags"] for row in sorted(self.usage, key=lambda r: r["event_start"])]

    def check_conservation(self) -> None:
        """Every record has exactly one fate."""
        fates = [
            (row["file_key"], row["line_no"])
            for group in (
                self.usage,
                self.duplicates,
                self.conflicts,
                self.incomplete,
                self.merged,
            )
            for row in group
        ]
        assert sorted(fates) == sorted((row["file_key"], row["line_no"]) for row in self.rows)

    def comparable(self) -> tuple[object, ...]:
        """What must not depend on files and order: usage, and how many went where."""
        usage = sorted(
            (
                row["event_start"], str(row["event_end"]), row["dedup_key"], row["quantity"],
                row["flags"] or "", row["uid_value"],
            )
            for row in self.usage
        )  # fmt: skip
        counts = tuple(
            len(group) for group in (self.duplicates, self.conflicts, self.incomplete, self.merged)
        )
        return usage, counts
