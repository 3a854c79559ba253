"""Files of one feed to mapped records: the part of ingestion that stores nothing.

Files that landed pass :func:`ingest_files`, and so do samples, price lists and the files of
scenarios. Per file: records in = accepted + ignored + rejected, in records and in quantity.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import pyarrow as pa

from iotbill_pipelines.compute.companions import Statement, names_of
from iotbill_pipelines.compute.duckdb_engine import DuckDbCompute
from iotbill_pipelines.compute.parts import UnreadableError
from iotbill_pipelines.compute.readers import FileFault, SourceFile, read_files, read_statements
from iotbill_pipelines.engine.compute import literal
from iotbill_pipelines.engine.feeds.functions import ZONE_TABLE
from iotbill_pipelines.engine.feeds.mapping import compile_feed
from iotbill_pipelines.engine.feeds.spec import FeedSpec
from iotbill_pipelines.engine.feeds.tables import LOOKUP_TABLE, lookup_rows
from iotbill_pipelines.engine.feeds.zones import local_days
from iotbill_pipelines.engine.schemas import REFERENCE

OUTCOMES = ("accepted", "ignored", "rejected")
"""What becomes of a record of a file."""


@dataclass(frozen=True)
class FileResult:
    """Counts of one ingested file; quantities are sums over all usage classes."""

    file_key: int
    state: str
    error: str | None
    records: dict[str, int]
    quantity: dict[str, int]
    usage_months: tuple[str, ...]

    @property
    def records_in(self) -> int:
        return sum(self.records.values())

    @property
    def quantity_in(self) -> int:
        return sum(self.quantity.values())


def local_file(spec: FeedSpec, file_key: int, path: Path, received_at: datetime) -> SourceFile:
    """Return a file that lies here and did not land, with what its companion beside it states.

    ``received_at`` (UTC) is when it is taken to have come. Raises ValueError for a companion that
    cannot be read, OSError for a file that is absent.
    """
    return SourceFile(
        file_key, path.name, received_at, path.stat().st_size, lambda: path.open("rb"),
        _stated_beside(spec, path, received_at),
    )  # fmt: skip


def ingest_files(
    compute: DuckDbCompute, spec: FeedSpec, files: Sequence[SourceFile]
) -> list[FileResult]:
    """Read, validate and map files of one feed: the part of ingestion that stores nothing.

    Defines ``mapped_record`` (one row per record with its outcome and the target's columns) and
    ``rejected_record`` (:data:`engine.schemas.REJECTED_RECORD`).
    """
    faults = {fault.file_key: fault for fault in read_files(compute, spec, files)}
    compiled = compile_feed(spec)
    compute.load(ZONE_TABLE, _zone_table(spec, compiled.zones, files))
    compute.load(LOOKUP_TABLE, lookup_rows(spec, compiled.tables))
    compute.load("file_fault", _fault_table(faults.values()))
    compute.define("outcome_record", compiled.select, keep=True)
    conflicts = _key_conflicts(spec)
    told_apart = conflicts != "false"  # by a window over the whole file: not for every look
    compute.define(
        "mapped_record",
        f"""
select o.* replace (
    case when f.code is not null or {conflicts} then 'rejected' else o.outcome end as outcome,
    case when f.code is not null then f.code when {conflicts} then 'key_conflict'
         else o.reason_code end as reason_code,
    case when f.code is not null then null when {conflicts} then '{spec.table.key[0]}'
         else o.fault_field end as fault_field,
    case when f.code is not null then f.value else o.fault_value end as fault_value,
    case when f.code is not null then f.message
         when {conflicts} then 'the file has another row of the same key; keep one of them'
         else o.fault_message end as fault_message)
from outcome_record as o left join file_fault as f on f.file_key = o.file_key""",
        keep=told_apart,
    )
    feed = literal(spec.id)
    compute.define(
        "rejected_record",
        f"""
select file_key, line_no, {feed} as feed_id, outcome, reason_code, fault_field as field,
  left(fault_value, 1000) as value,
  coalesce(fault_message, 'see reason_code')
    || coalesce(' (in member ' || member || ' of the archive)', '') as message,
  measured_quantity as quantity,
  left(raw_text, 20000) as raw_text
from mapped_record where outcome <> 'accepted'
union all by name
select file_key, 0 as line_no, {feed} as feed_id, 'rejected' as outcome, code as reason_code,
  value, message
from file_fault where file_key not in (select file_key from mapped_record)""",
    )
    return _results(compute, spec, files, faults)


def _key_conflicts(spec: FeedSpec) -> str:
    """SQL: does the file name this reference key twice, with different rows?"""
    if spec.target not in REFERENCE:
        return "false"
    key = ", ".join(f"o.{name}" for name in spec.table.key)
    whole = "md5(cast(({}) as varchar))".format(
        ", ".join(f"o.{name}" for name in spec.table.column_names)
    )
    window = f"over (partition by o.file_key, o.outcome, {key})"
    return f"(o.outcome = 'accepted' and min({whole}) {window} <> max({whole}) {window})"


def _zone_table(spec: FeedSpec, zones: frozenset[str], files: Sequence[SourceFile]) -> pa.Table:
    # whole years, so that batches of different days share the computed table
    first = min(f.received_at for f in files) - timedelta(days=spec.bounds.max_age_days + 2)
    last = max(f.received_at for f in files) + timedelta(hours=spec.bounds.max_ahead_hours + 48)
    return local_days(zones, date(first.year, 1, 1), date(last.year, 12, 31))


def _fault_table(faults: Iterable[FileFault]) -> pa.Table:
    rows = list(faults)
    return pa.table(
        {
            "file_key": pa.array([fault.file_key for fault in rows], pa.int64()),
            "code": pa.array([fault.code for fault in rows], pa.string()),
            "message": pa.array([fault.message for fault in rows], pa.string()),
            "value": pa.array([fault.value for fault in rows], pa.string()),
        }
    )


def _results(
    compute: DuckDbCompute,
    spec: FeedSpec,
    files: Sequence[SourceFile],
    faults: dict[int, FileFault],
) -> list[FileResult]:
    records = {file.file_key: dict.fromkeys(OUTCOMES, 0) for file in files}
    quantity = {file.file_key: dict.fromkeys(OUTCOMES, 0) for file in files}
    months: dict[int, set[str]] = {file.file_key: set() for file in files}
    month = "usage_month" if spec.target == "usage_record" else "null"
    counted = compute.fetch(
        f"select file_key, outcome, case when outcome = 'accepted' then {month} end as usage_month,"
        " count(*) as records, cast(coalesce(sum(measured_quantity), 0) as varchar) as quantity "
        "from mapped_record group by all"
    )
    for row in counted.to_pylist():
        key, outcome = row["file_key"], row["outcome"]
        records[key][outcome] += row["records"]
        quantity[key][outcome] += int(row["quantity"])
        if row["usage_month"]:
            months[key].add(row["usage_month"])
    return [
        FileResult(
            file.file_key,
            "quarantined" if file.file_key in faults else "ingested",
            _told(file.name, faults[file.file_key]) if file.file_key in faults else None,
            records[file.file_key],
            quantity[file.file_key],
            tuple(sorted(months[file.file_key])),
        )
        for file in files
    ]


def _told(name: str, fault: FileFault) -> str:
    """Code, file and what is wrong; unpackers name the file themselves."""
    return f"{fault.code}: {name} {fault.message.removeprefix(name).lstrip(': ')}"


def _stated_beside(spec: FeedSpec, path: Path, received_at: datetime) -> Statement | None:
    """What the companion files in the file's folder state of it. Raises ValueError."""
    if spec.companion is None:
        return None
    files = [
        SourceFile(
            number, other.name, received_at, other.stat().st_size,
            lambda other=other: other.open("rb"),  # type: ignore[misc]
        )
        for number, other in enumerate(sorted(path.parent.iterdir()))
        if other != path and other.is_file() and spec.is_companion(other.name)
    ]  # fmt: skip
    try:
        found = read_statements(spec, spec.companion, files) if files else []
    except UnreadableError as error:
        raise ValueError(str(error)) from None
    about = {statement.about: statement for statement in found}
    return next((about[name] for name in names_of(path.name) if name in about), None)
