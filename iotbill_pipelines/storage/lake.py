"""The lake: Delta tables whose files the compute engine writes and one commit publishes.

A reader sees a partition as it was before a replacement or as it is after, never half of one: files
become visible only by the entry in the table's log. A run that is killed leaves files that no log
entry names; they are never read, and :meth:`Lake.remove_orphans` deletes them later.

Commits to a table are serialised by a lock on this machine. delta-rs alone is not enough: two
writers that each find a partition empty both succeed, and the partition holds everything twice.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, TableFeatures
from deltalake.exceptions import CommitFailedError, TableNotFoundError
from deltalake.transaction import AddAction

from iotbill_pipelines.engine.compute import Compute, WrittenFile, conform
from iotbill_pipelines.engine.schemas import Table

COMMIT_ATTEMPTS = 20
KEPT_FOR = "interval 36500 days"
"""A close is pinned to versions of its tables: no version's log ends on its own."""

_TABLE_PROPERTIES = {
    "delta.logRetentionDuration": KEPT_FOR,
    "delta.deletedFileRetentionDuration": KEPT_FOR,
    "delta.enableExpiredLogCleanup": "false",
}


class LakeError(RuntimeError):
    """A partition that cannot be written or read; the message says what to do."""


class Lake:
    """Delta tables under a directory, one per :class:`Table`, partitioned by its declaration.

    Partition columns stay in the Parquet files too. The empty text and null are the same partition,
    as in Delta.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self._newest: dict[str, DeltaTable] = {}
        self._files: dict[str, tuple[int, list[_File]]] = {}

    def replace(
        self,
        schema: Table,
        compute: Compute,
        select: str,
        partition: Mapping[str, str | None],
        *,
        order_by: Sequence[str] = (),
        note: str | None = None,
    ) -> int:
        """Make the partition hold exactly the rows of ``select``; return how many.

        ``partition`` names some or all of the table's partition columns: with some, every partition
        that has those values is replaced, in the same commit. ``select`` is SQL or a relation's
        name. ``note`` (a run id) is kept in the table's history.

        Raises LakeError if a row belongs to another partition; nothing is changed then.
        """
        self._check_columns(schema, partition)
        table_path = self._create(schema)
        staged = table_path / f"_staged-{uuid.uuid4().hex}"
        source = f"select * from {select}" if select.isidentifier() else select
        whole = set(partition) == set(schema.partition_by)
        try:
            written = compute.write(
                conform(source, schema),
                str(staged),
                partition_by=() if whole else schema.partition_by,
                order_by=order_by,
            )
            files = [self._adopt(schema, table_path, file, partition, whole) for file in written]
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        self._commit(schema, files, partition, note)
        return sum(file.rows for file in written)

    def replace_each(
        self,
        schema: Table,
        compute: Compute,
        select: str,
        column: str,
        values: Sequence[str],
        *,
        order_by: Sequence[str] = (),
        note: str | None = None,
    ) -> int:
        """Make every partition with one of ``values`` in ``column`` hold the rows of ``select``.

        One commit for all of them, so that many small files cost no more than one. A value without
        rows is emptied. Raises LakeError for rows of another value; nothing is changed then.
        """
        self._check_columns(schema, {column: None})
        table_path = self._create(schema)
        staged = table_path / f"_staged-{uuid.uuid4().hex}"
        source = f"select * from {select}" if select.isidentifier() else select
        try:
            written = compute.write(
                conform(source, schema),
                str(staged),
                partition_by=schema.partition_by,
                order_by=order_by,
            )
            for file in written:
                if file.partition[column] not in values:
                    raise LakeError(
                        _stray(schema, {column: ", ".join(values)}, dict(file.partition))
                    )
            files = [self._adopt(schema, table_path, file, {}, False) for file in written]
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        self._commit(schema, files, {column: list(values)}, note)
        return sum(file.rows for file in written)

    def files(
        self, schema: Table, *, version: int | None = None, **partition: str | None
    ) -> list[str]:
        """Return the files of the matching partitions, from the log, in a stable order."""
        self._check_columns(schema, partition)
        wanted = {name: value or None for name, value in partition.items()}
        return sorted(
            str(self._path(schema) / file.path)
            for file in self._entries(schema, version)
            if all(file.partition[name] == value for name, value in wanted.items())
        )

    def partitions(self, schema: Table, *, version: int | None = None) -> list[dict[str, str]]:
        """Return the partitions that hold files, sorted; null is the empty text."""
        found = {
            tuple(file.partition[name] or "" for name in schema.partition_by)
            for file in self._entries(schema, version)
        }
        return [dict(zip(schema.partition_by, values, strict=True)) for values in sorted(found)]

    def version(self, schema: Table) -> int | None:
        """Return the newest version of the table, None before its first use."""
        table = self._open(schema)
        return None if table is None else int(table.version())

    def scan(
        self,
        compute: Compute,
        schema: Table,
        *,
        name: str | None = None,
        version: int | None = None,
        **partition: str | None,
    ) -> None:
        """Make relation ``name`` (default: the schema's) read the matching partitions."""
        compute.scan(schema, self.files(schema, version=version, **partition), name)

    def rows(self, schema: Table, *, version: int | None = None, **partition: str | None) -> int:
        """Return how many rows the matching partitions hold, by the log."""
        self._check_columns(schema, partition)
        wanted = {name: value or None for name, value in partition.items()}
        return sum(
            file.rows
            for file in self._entries(schema, version)
            if all(file.partition[name] == value for name, value in wanted.items())
        )

    def remove_orphans(self, schema: Table, before: datetime) -> list[str]:
        """Delete files that no version of the table ever named and that are older than ``before``.

        Such files are what killed runs left; ``before`` protects those of a run under way. Return
        the deleted paths, relative to the table.
        """
        table_path = self._path(schema)
        if self._open(schema) is None:
            return []
        named = self._ever_named(table_path)
        deleted = []
        for path in sorted(table_path.rglob("*.parquet")):
            relative = str(path.relative_to(table_path))
            if relative.startswith("_delta_log") or relative in named:
                continue
            if path.stat().st_mtime < before.timestamp():
                path.unlink()
                deleted.append(relative)
        for staged in table_path.glob("_staged-*"):
            if staged.stat().st_mtime < before.timestamp():
                shutil.rmtree(staged, ignore_errors=True)
        return deleted

    def vacuum(
        self, schema: Table, replaced_before: datetime, now: datetime, keep_versions: Sequence[int]
    ) -> list[str]:
        """Delete files replaced before a moment, unless one of ``keep_versions`` reads them.

        Versions that are neither kept nor newer can no longer be read. Return the deleted paths.
        """
        table = self._open(schema)
        if table is None:
            return []
        hours = max(0, int((now - replaced_before) / timedelta(hours=1)))
        with self._lock(schema):
            deleted: list[str] = table.vacuum(
                retention_hours=hours,
                dry_run=False,
                enforce_retention_duration=False,
                keep_versions=list(keep_versions),
            )
        return sorted(deleted)

    # ------------------------------------------------------------------------------- inside

    def _path(self, schema: Table) -> Path:
        return self.root / schema.name

    def _open(self, schema: Table, version: int | None = None) -> DeltaTable | None:
        """Open a table; the newest version again only if the log has moved on, whoever wrote it."""
        log = self._path(schema) / "_delta_log"
        if version is None and (held := self._newest.get(schema.name)) is not None:
            this, following = (log / f"{held.version() + n:020}.json" for n in (0, 1))
            if this.exists() and not following.exists():
                return held
        if not log.is_dir():
            return None
        try:
            table = DeltaTable(str(log.parent), version=version)
        except TableNotFoundError:
            return None
        if version is None:
            self._newest[schema.name] = table
        return table

    def _create(self, schema: Table) -> Path:
        path = self._path(schema)
        if self._open(schema) is None:
            path.mkdir(parents=True, exist_ok=True)
            with self._lock(schema):
                if self._open(schema) is None:
                    DeltaTable.create(
                        str(path),
                        schema=_delta_schema(schema),
                        partition_by=list(schema.partition_by),
                        name=schema.name,
                        description=schema.doc,
                        configuration=_TABLE_PROPERTIES,
                    )
        return path

    def _adopt(
        self,
        schema: Table,
        table_path: Path,
        file: WrittenFile,
        partition: Mapping[str, str | None],
        whole: bool,
    ) -> AddAction:
        """Check a written file and move it, still invisible, to its place in the table."""
        wanted = {name: value or None for name, value in partition.items()}
        if whole:
            _check_partition(file.path, wanted, schema)
            values = dict(wanted)
        else:
            values = {name: file.partition[name] or None for name in schema.partition_by}
            strays = {name: values[name] for name in wanted if values[name] != wanted[name]}
            if strays:
                raise LakeError(_stray(schema, wanted, strays))
        folder = "/".join(f"{name}={_plain(value)}" for name, value in values.items())
        relative = "/".join(filter(None, (folder, f"part-{uuid.uuid4().hex}.parquet")))
        target = table_path / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        with Path(file.path).open("rb") as handle:
            os.fsync(handle.fileno())  # the log must never name a file that a power cut can empty
        Path(file.path).rename(target)
        return AddAction(
            path=relative,
            size=target.stat().st_size,
            partition_values=values,
            modification_time=int(target.stat().st_mtime * 1000),
            data_change=True,
            stats=json.dumps({"numRecords": file.rows}),
        )

    def _commit(
        self,
        schema: Table,
        files: list[AddAction],
        partition: Mapping[str, str | list[str] | None],
        note: str | None,
    ) -> None:
        filters = [
            (name, "in" if isinstance(value, list) else "=", value or "")
            for name, value in partition.items()
        ]
        properties = CommitProperties(custom_metadata={"note": note} if note else None)
        for attempt in range(1, COMMIT_ATTEMPTS + 1):
            with self._lock(schema):
                if not files and not self._holds(schema, partition):
                    return
                table = self._open(schema) or DeltaTable(str(self._path(schema)))
                try:
                    _allow_timestamps(table, schema)
                    table.create_write_transaction(
                        files,
                        "overwrite",
                        _delta_schema(schema),
                        list(schema.partition_by),
                        filters or None,
                        commit_properties=properties,
                    )
                    return
                except CommitFailedError as error:
                    if attempt == COMMIT_ATTEMPTS:
                        raise LakeError(
                            f"{schema.name}: {attempt} commits failed because other writers were "
                            f"faster ({error}); run the step again"
                        ) from error
            time.sleep(0.02 * attempt)

    def _holds(self, schema: Table, partition: Mapping[str, str | list[str] | None]) -> bool:
        wanted = {
            name: list[str | None](value) if isinstance(value, list) else [value or None]
            for name, value in partition.items()
        }
        return any(
            all(file.partition[name] in allowed for name, allowed in wanted.items())
            for file in self._entries(schema, None)
        )

    def _entries(self, schema: Table, version: int | None) -> list[_File]:
        """The files of a version; those of the newest one are kept: they are asked for often."""
        table = self._open(schema, version)
        if table is None:
            return []
        number = int(table.version())
        known, files = self._files.get(schema.name, (None, []))
        if known != number:
            files = list(_entries(table, schema))
            if version is None:
                self._files[schema.name] = (number, files)
        return files

    @staticmethod
    def _check_columns(schema: Table, partition: Mapping[str, str | None]) -> None:
        unknown = set(partition) - set(schema.partition_by)
        if unknown:
            raise LakeError(
                f"{schema.name} is partitioned by {', '.join(schema.partition_by) or 'nothing'}, "
                f"not by {', '.join(sorted(unknown))}"
            )

    @staticmethod
    def _ever_named(table_path: Path) -> set[str]:
        named: set[str] = set()
        for entry in (table_path / "_delta_log").glob("*.json"):
            for line in entry.read_text("utf-8").splitlines():
                action = json.loads(line)
                if "add" in action:
                    named.add(action["add"]["path"])
        return named

    @contextmanager
    def _lock(self, schema: Table) -> Iterator[None]:
        with (self._path(schema) / "_commit.lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


class _File(NamedTuple):
    """A file of a table, as its log has it."""

    path: str
    partition: dict[str, str | None]
    rows: int


def _entries(table: DeltaTable, schema: Table) -> Iterator[_File]:
    actions = pa.table(table.get_add_actions(flatten=True))
    columns = [actions[f"partition.{name}"].to_pylist() for name in schema.partition_by]
    paths, counts = (actions[name].to_pylist() for name in ("path", "num_records"))
    for path, rows, *values in zip(paths, counts, *columns, strict=True):
        texts = [None if value is None else str(value) for value in values]
        yield _File(path, dict(zip(schema.partition_by, texts, strict=True)), rows)


def _delta_schema(schema: Table) -> pa.Schema:
    # Every column nullable in the log: what may be null is checked where rows are made, and a
    # later version of the program must be able to read older files.
    return pa.schema([pa.field(c.name, c.arrow, nullable=True) for c in schema.columns])


def _allow_timestamps(table: DeltaTable, schema: Table) -> None:
    """Let a table made without timestamps have some: Delta wants to be told before."""
    if not any(column.type == "TIMESTAMP" for column in schema.columns):
        return
    if "timestampNtz" not in (table.protocol().reader_features or ()):
        feature = TableFeatures.TimestampWithoutTimezone
        table.alter.add_feature(feature, allow_protocol_versions_increase=True)


def _check_partition(path: str, wanted: Mapping[str, str | None], schema: Table) -> None:
    """Compare a file's own statistics with the partition that it is meant for."""
    metadata = pq.read_metadata(path)
    positions = {metadata.schema.column(i).name: i for i in range(metadata.num_columns)}
    for name, value in wanted.items():
        for group in range(metadata.num_row_groups):
            statistics = metadata.row_group(group).column(positions[name]).statistics
            rows = metadata.row_group(group).num_rows
            if statistics is not None and statistics.null_count == rows:
                found: set[str | None] = {None}
            elif statistics is not None and statistics.has_min_max:
                found = {str(statistics.min) or None, str(statistics.max) or None}
                found |= {None} if statistics.null_count else set()
            else:
                column = pq.read_table(path, columns=[name])[name]
                found = {None if v is None else str(v) or None for v in column.unique().to_pylist()}
            for stray in sorted(found - {value}, key=str):
                raise LakeError(_stray(schema, wanted, {name: stray}))


def _stray(schema: Table, wanted: Mapping[str, str | None], found: Mapping[str, str | None]) -> str:
    return (
        f"{schema.name}: a row of {dict(found)} was written for partition {dict(wanted)}; "
        "nothing was changed; select the rows of that partition only"
    )


def _plain(value: str | None) -> str:
    """A folder name for people; readers go by the log, so it need not be reversible."""
    return "null" if value is None else re.sub(r"[^A-Za-z0-9._-]", "_", value)[:80]
