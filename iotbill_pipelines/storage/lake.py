"""The lake: Delta tables whose files the compute engine writes and one commit publishes.

A reader sees a partition as it was before a replacement or as it is after, never half of one: files
become visible only by the entry in the table's log. A run that is killed leaves files that no log
entry names; they are never read, and :meth:`Lake.remove_orphans` deletes them later.

A commit is made for exactly the version that it follows. The entry of a version is created, never
overwritten: by a link in a directory, by a conditional put in an object store. So of two writers,
on one machine or on two, one succeeds; the other looks at the table again and decides anew what its
commit replaces. delta-rs must not do that by itself: two writers that each find a partition empty
would both succeed, and the partition would hold everything twice. Writers of one machine wait for
each other besides, so that they seldom try in vain; between machines no lock is taken, for one that
is lost with its connection while a commit is on its way would not keep two writers apart.
"""

from __future__ import annotations

import fcntl
import json
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
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction

from iotbill_pipelines.engine.compute import Compute, WrittenFile, conform
from iotbill_pipelines.engine.schemas import Table
from iotbill_pipelines.storage.lake_places import STAGED, Directory, LakeError, ObjectStore, Place

COMMIT_ATTEMPTS = 20
KEPT_FOR = "interval 36500 days"
"""A close is pinned to versions of its tables: no version's log ends on its own."""

_TABLE_PROPERTIES = {
    "delta.logRetentionDuration": KEPT_FOR,
    "delta.deletedFileRetentionDuration": KEPT_FOR,
    "delta.enableExpiredLogCleanup": "false",
}


class Lake:
    """Delta tables at a place, one per :class:`Table`, partitioned by its declaration.

    The place is a directory or an object store (:mod:`lake_places`); ``root`` is the directory
    below which its files are found on this machine. Partition columns stay in the Parquet files
    too. The empty text and null are the same partition, as in Delta.
    """

    def __init__(self, place: str | Path | Place) -> None:
        self._place: Place = Directory(Path(place)) if isinstance(place, str | Path) else place
        self.root = self._place.root
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
        self._create(schema)
        staged = self._place.staged(schema.name)
        source = f"select * from {select}" if select.isidentifier() else select
        whole = set(partition) == set(schema.partition_by)
        try:
            written = compute.write(
                conform(source, schema),
                str(staged),
                partition_by=() if whole else schema.partition_by,
                order_by=order_by,
            )
            files = self._adopt(schema, written, partition, whole)
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
        self._create(schema)
        staged = self._place.staged(schema.name)
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
            files = self._adopt(schema, written, {}, False)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        self._commit(schema, files, {column: list(values)}, note)
        return sum(file.rows for file in written)

    def names(
        self, schema: Table, *, version: int | None = None, **partition: str | None
    ) -> list[str]:
        """Return the names in the lake of the matching partitions' files, in a stable order.

        Nothing is read but the log. A name is never used again for another content.
        """
        return list(self._matching(schema, version, partition))

    def files(
        self, schema: Table, *, version: int | None = None, **partition: str | None
    ) -> list[str]:
        """Return local paths of the files that :meth:`names` tells, in the same order."""
        return self._place.fetch(self._matching(schema, version, partition))

    def paths(self, names: Sequence[str]) -> list[str]:
        """Return local paths of files by their names, also of files since replaced.

        Raises LakeError if one was deleted from an object store; in a directory, reading it fails.
        """
        known = {
            f"{table}/{file.path}": file.size_bytes
            for table in {name.partition("/")[0] for name in names} & self._files.keys()
            for file in self._files[table][1]
        }
        return self._place.fetch({name: known.get(name) for name in names})

    def holds(self, names: Sequence[str]) -> bool:
        """Are all files of these names still in the lake, replaced or not?"""
        return self._place.holds(names)

    def partitions(self, schema: Table, *, version: int | None = None) -> list[dict[str, str]]:
        """Return the partitions that hold files, sorted; null is the empty text."""
        found = {
            tuple(file.partition[name] or "" for name in schema.partition_by)
            for file in self._entries(schema, version)
        }
        return [dict(zip(schema.partition_by, values, strict=True)) for values in sorted(found)]

    def standing(self, schema: Table) -> Standing | None:
        """Return what the newest version of the table holds, None before its first use."""
        table = self._open(schema)
        if table is None:
            return None
        files = list(_entries(table, schema))
        partitions = {tuple(file.partition.values()) for file in files}
        rows = sum(file.rows for file in files)
        return Standing(int(table.version()), len(partitions), len(files), rows)

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
        return sum(file.rows for file in self._chosen(schema, version, partition))

    def remove_orphans(self, schema: Table, before: datetime) -> list[str]:
        """Delete files that no version of the table ever named and that are older than ``before``.

        Such files are what killed runs left; ``before`` protects those of a run under way. Return
        the deleted paths, relative to the table.
        """
        if self._open(schema) is None:
            return []
        named = {path for text in self._place.log(schema.name) for path in _added(text)}
        deleted = self._place.unnamed(schema.name, named, before)
        self._place.delete([f"{schema.name}/{path}" for path in deleted])
        for staged in self._folder(schema).glob(f"{STAGED}*"):
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
        with self._lock(schema), self._place.told():
            deleted: list[str] = table.vacuum(
                retention_hours=hours,
                dry_run=False,
                enforce_retention_duration=False,
                keep_versions=list(keep_versions),
            )
        return sorted(deleted)

    @property
    def where(self) -> str:
        """The place, for people: a directory or a URL."""
        return self._place.where

    def take_over(self, schema: Table, directory: Path) -> int:
        """Copy a table of a lake in a directory, with all its versions; return how many files.

        The first entry of the log comes last, so that an interrupted copy is no table yet; copying
        again completes it. Nobody may write either lake meanwhile. Raises LakeError if this lake is
        no object store, or holds the table with other versions.
        """
        place, source = self._place, directory / schema.name
        if not isinstance(place, ObjectStore):
            raise LakeError(f"{self.where} is a directory: copy {directory} there by yourself")
        entries = sorted((source / "_delta_log").glob("*.json"))
        theirs = {entry.read_text("utf-8") for entry in entries}
        if not set(place.log(schema.name)) <= theirs:
            raise LakeError(
                f"{self.where}/{schema.name} has versions that {source} does not have; it is "
                "another company's lake, or the company went on there: name an empty place"
            )
        files = [path for path in sorted(source.rglob("*.parquet")) if STAGED not in str(path)]
        files += [*sorted((source / "_delta_log").glob("_last_checkpoint")), *reversed(entries)]
        moves = [(path, str(path.relative_to(directory))) for path in files]
        place.upload(moves[:-1])
        place.upload(moves[-1:])
        return len(files)

    def release(self) -> None:
        """Say that the work is done for now: what was fetched may be forgotten."""
        self._place.release()

    # ------------------------------------------------------------------------------- inside

    def _folder(self, schema: Table) -> Path:
        return self.root / schema.name

    def _open(self, schema: Table, version: int | None = None) -> DeltaTable | None:
        """Open a table; the newest version again only if the log has moved on, whoever wrote it."""
        if (
            version is None
            and (held := self._newest.get(schema.name)) is not None
            and self._place.is_newest(schema.name, held)
        ):
            return held
        table = self._place.open(schema.name, version)
        if version is None and table is not None:
            self._newest[schema.name] = table
        return table

    def _create(self, schema: Table) -> None:
        if self._open(schema) is not None:
            return
        self._folder(schema).mkdir(parents=True, exist_ok=True)
        with self._lock(schema):
            if self._open(schema) is not None:
                return
            self._place.check_writers(schema.name)
            try:
                with self._place.told():
                    DeltaTable.create(
                        self._place.url(schema.name),
                        schema=_delta_schema(schema),
                        partition_by=list(schema.partition_by),
                        name=schema.name,
                        description=schema.doc,
                        configuration=_TABLE_PROPERTIES,
                        storage_options=self._place.storage_options,
                    )
            except (CommitFailedError, DeltaError, LakeError):
                if self._open(schema) is None:  # else another machine was faster
                    raise

    def _adopt(
        self,
        schema: Table,
        written: Sequence[WrittenFile],
        partition: Mapping[str, str | None],
        whole: bool,
    ) -> list[AddAction]:
        """Check written files and put them, still invisible, to their places in the table."""
        wanted = {name: value or None for name, value in partition.items()}
        actions, moves = [], []
        for file in written:
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
            known = Path(file.path).stat()
            moves.append((Path(file.path), f"{schema.name}/{relative}"))
            actions.append(
                AddAction(
                    path=relative,
                    size=known.st_size,
                    partition_values=values,
                    modification_time=int(known.st_mtime * 1000),
                    data_change=True,
                    stats=json.dumps({"numRecords": file.rows}),
                )
            )
        self._place.publish(moves)
        return actions

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
        properties = CommitProperties(
            custom_metadata={"note": note} if note else None, max_commit_retries=0
        )
        tried: int | None = None
        for attempt in range(1, COMMIT_ATTEMPTS + 1):
            with self._lock(schema), self._place.told():
                if not files and not self._holds(schema, partition):
                    return
                table = self._open(schema)
                assert table is not None, f"{schema.name} was made before its files were written"
                if tried is not None and self._is_in(schema, files, tried):
                    return
                tried = int(table.version())
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

    def _is_in(self, schema: Table, files: list[AddAction], after: int) -> bool:
        """Did a commit that seemed to fail arrive? An answer can be lost, and the same request,
        sent again by a client library, is refused because of the first."""
        ours = {action.path for action in files}
        return any(
            not ours.isdisjoint(_added(text)) for text in self._place.log(schema.name, after)
        )

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

    def _chosen(
        self, schema: Table, version: int | None, partition: Mapping[str, str | None]
    ) -> list[_File]:
        self._check_columns(schema, partition)
        wanted = {name: value or None for name, value in partition.items()}
        return [
            file
            for file in self._entries(schema, version)
            if all(file.partition[name] == value for name, value in wanted.items())
        ]

    def _matching(
        self, schema: Table, version: int | None, partition: Mapping[str, str | None]
    ) -> dict[str, int | None]:
        """Names and sizes in bytes, sorted."""
        found = self._chosen(schema, version, partition)
        return dict(sorted((f"{schema.name}/{file.path}", file.size_bytes) for file in found))

    @staticmethod
    def _check_columns(schema: Table, partition: Mapping[str, str | None]) -> None:
        unknown = set(partition) - set(schema.partition_by)
        if unknown:
            raise LakeError(
                f"{schema.name} is partitioned by {', '.join(schema.partition_by) or 'nothing'}, "
                f"not by {', '.join(sorted(unknown))}"
            )

    @contextmanager
    def _lock(self, schema: Table) -> Iterator[None]:
        with (self._folder(schema) / "_commit.lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


class Standing(NamedTuple):
    """What a version of a table holds: how many partitions, files and rows."""

    version: int
    partitions: int
    files: int
    rows: int


class _File(NamedTuple):
    """A file of a table, as its log has it."""

    path: str
    partition: dict[str, str | None]
    rows: int
    size_bytes: int


def _entries(table: DeltaTable, schema: Table) -> Iterator[_File]:
    actions = pa.table(table.get_add_actions(flatten=True))
    columns = [actions[f"partition.{name}"].to_pylist() for name in schema.partition_by]
    names = ("path", "num_records", "size_bytes")
    told = (actions[name].to_pylist() for name in names)
    for path, rows, size_bytes, *values in zip(*told, *columns, strict=True):
        texts = [None if value is None else str(value) for value in values]
        partition = dict(zip(schema.partition_by, texts, strict=True))
        yield _File(path, partition, rows, size_bytes)


def _added(entry: str) -> Iterator[str]:
    """The paths that an entry of a log adds."""
    for line in entry.splitlines():
        action = json.loads(line)
        if "add" in action:
            yield action["add"]["path"]


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
