"""DuckDB behind the Compute protocol: the embedded engine."""

from __future__ import annotations

import os
import re
import uuid
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from duckdb import DuckDBPyConnection

from iotbill_pipelines.engine.compute import WrittenFile, literal
from iotbill_pipelines.engine.schemas import Table

# Arrow's own allocator keeps a hundred megabytes and more for itself, beside what DuckDB may use.
pa.set_memory_pool(pa.system_memory_pool())

PRELUDE = """
create or replace macro wide(x) as cast(x as hugeint);
create or replace macro floor_div(a, b) as
  case when a < 0 then -((-cast(a as hugeint) + cast(b as hugeint) - 1) // cast(b as hugeint))
       else cast(a as hugeint) // cast(b as hugeint) end;
create or replace macro ceil_div(a, b) as
  (cast(a as hugeint) + cast(b as hugeint) - 1) // cast(b as hugeint);
create or replace macro half_up_div(n, d) as
  case when n < 0 then -((2 * -cast(n as hugeint) + cast(d as hugeint)) // (2 * cast(d as hugeint)))
       else (2 * cast(n as hugeint) + cast(d as hugeint)) // (2 * cast(d as hugeint)) end;
create or replace macro rounded_div(n, d, mode) as
  case when n < 0 then -1 else 1 end * (
    (2 * abs(cast(n as hugeint))
       + case mode when 'half_up' then cast(d as hugeint) when 'half_even' then cast(d as hugeint)
              when 'up' then 2 * cast(d as hugeint) - 2 else 0 end) // (2 * cast(d as hugeint))
    -- a tie that was rounded up to an odd number goes down to the even one
    - case when mode = 'half_even'
             and (2 * abs(cast(n as hugeint)) + d) % (4 * cast(d as hugeint)) = 2 * d
           then 1 else 0 end);
create or replace macro as_e12(x) as
  cast(replace(cast(cast(x as decimal(38,12)) as varchar), '.', '') as hugeint);
create or replace macro json_text(x, key) as json_extract_string(x, '$."' || key || '"');
create or replace macro fits(x, pattern) as regexp_full_match(x, pattern);
create or replace macro has(x, pattern) as regexp_matches(x, pattern);
create or replace macro find(x, pattern, part) as regexp_extract(x, pattern, part);
create or replace macro swap(x, pattern, new) as regexp_replace(x, pattern, new, 'g');
create or replace macro parse_time(x, form) as try_strptime(x, form);
create or replace macro epoch_time(micros) as make_timestamp(micros);
create or replace macro minus_seconds(t, s) as t - to_seconds(s);
create or replace macro seconds_up(a, b) as
  cast((epoch_us(b) - epoch_us(a) + 999999) // 1000000 as bigint);
create or replace macro ten_to(n) as
  cast(rpad('1', cast(n as integer) + 1, '0') as hugeint);
create or replace macro quarter_hour(t) as
  make_timestamp(epoch_us(t) // 900000000 * 900000000);
create or replace macro days_later(d, n) as cast(d + cast(n as integer) as date);
create or replace macro days_between(a, b) as cast(b - a as bigint);
create or replace macro short_hash(x) as cast(hash(x) >> 1 as bigint);
create or replace macro joined(texts, n, separator) as
  array_to_string(list_transform(list_sort(texts), lambda x: substr(x, n + 1)), separator);
"""

_TYPES: dict[pa.DataType, str] = {
    pa.string(): "varchar",
    pa.bool_(): "boolean",
    pa.int32(): "integer",
    pa.int64(): "bigint",
    pa.date32(): "date",
    pa.timestamp("us"): "timestamp",
}
"""Arrow types that a table is declared with; others go the way of tables with rows."""

SMALL_ROWS = 20_000
"""Below this many rows, planning takes longer than what it saves."""

_FILES_KEPT, _SMALL_FILE_BYTES, _SMALL_FILE_ROWS = 1_000, 64 * 1024, 1_000
"""Files of the lake that a process keeps in memory: opening one takes longer than its rows do."""


class DuckDbCompute:
    """One in-memory DuckDB database; use as a context manager.

    ``memory_limit`` is DuckDB's (``1GB``), for all databases of a process that name the same;
    beyond it work spills into ``spill_dir``. ``expected_rows`` is about how many rows the inputs
    hold, if that is known: statements over few run as they are written and at once, for planning
    and threads cost more than the work, and a view is planned anew wherever it is read. Files are
    read at once too: a month of a small company is a hundred of them. What would be made of the
    same rows or relations again is left as it is: of a month's statements many read nothing but the
    catalog and the inventory, which no other month changes.
    """

    # Half of what 750 MB hold: an aggregation that spills may need more than that at its end.
    groups_at_once = 8_000_000

    def __init__(
        self,
        *,
        memory_limit: str | None = None,
        threads: int | None = None,
        spill_dir: Path | None = None,
        expected_rows: int | None = None,
    ) -> None:
        self._small = expected_rows is not None and expected_rows < SMALL_ROWS
        settings: dict[str, str | int] = {"autoinstall_known_extensions": "false"}
        if memory_limit:
            settings["memory_limit"] = memory_limit
            if not self._small:
                settings["allocator_background_threads"] = "true"
        if threads or self._small:
            settings["threads"] = threads or 1
        if spill_dir:
            settings["temp_directory"] = str(spill_dir)
        self._memory_limit = memory_limit
        self.connection = _instance(os.getpid(), tuple(settings.items())).cursor()
        self._database = f"own_{uuid.uuid4().hex}"
        self.connection.execute(
            f"attach ':memory:' as {self._database};"
            f"set search_path = '{self._database}.main,memory.main';"
            "set TimeZone = 'UTC'; set enable_progress_bar = false"
        )
        self._made: dict[str, _Made] = {}
        self._numbers = count()
        if self._small:
            self.connection.execute("pragma disable_optimizer")

    def __enter__(self) -> DuckDbCompute:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.execute(f"use memory; detach {self._database}")
        self.connection.close()

    def load(self, name: str, table: pa.Table) -> None:
        made = self._made.get(name)
        if made is not None and isinstance(made.of, pa.Table) and _same(made.of, table):
            return
        types = [_declared(field.type) for field in table.schema]
        if not table.num_rows and all(types):  # most tables of a small company are empty
            columns = zip(table.column_names, types, strict=True)
            listed = ", ".join(f'"{column}" {type_}' for column, type_ in columns)
            self._create("table", name, f"({listed})")
        else:
            self._create("table", name, "as select * from arrow_rows", table)
        self._remember(name, table)

    def load_batches(
        self,
        name: str,
        arrow_rows: pa.RecordBatchReader,  # noqa: ARG002 - DuckDB reads it
    ) -> None:
        """Make a table of rows that come one batch after the other and are never held together."""
        self._drop(name)
        self.connection.execute(f'create table "{name}" as select * from arrow_rows')
        self._remember(name)

    def scan(self, schema: Table, files: Sequence[str], name: str | None = None) -> None:
        name = name or schema.name
        small = _small_files(schema, files)
        if small is not None:
            self.load(name, small)
            return
        self._drop(name)
        kind = "table" if self._small else "view"
        self.connection.execute(f'create {kind} "{name}" as {scan_select(schema, files)}')
        self._remember(name)

    def define(self, name: str, select: str, *, keep: bool = False) -> None:
        reads = {word: self._made[word].number for word in _words(select) & self._made.keys()}
        made = self._made.get(name)
        if made is not None and made.of == (select, reads):
            return
        self._create("table" if keep or self._small else "view", name, f"as {select}")
        self._remember(name, (select, reads))

    def _remember(self, name: str, of: object = None) -> None:
        if self._small:  # where much is read, a view shows what is under it now
            self._made[name] = _Made(next(self._numbers), of)

    def fetch(self, select: str) -> pa.Table:
        statement = f'from "{select}"' if select.isidentifier() else select
        return self._run(statement).to_arrow_table()

    def _run(
        self,
        statement: str,
        arrow_rows: pa.Table | None = None,  # noqa: ARG002 - DuckDB reads it
    ) -> DuckDBPyConnection:
        """Run a statement that may be run again: by one thread, where the memory is too little for
        what all of them hold at a time.

        DuckDB finds ``arrow_rows`` by its name among the variables of the function that calls it.
        """
        self._give_back()
        try:
            return self.connection.execute(statement)
        except duckdb.OutOfMemoryException:
            # set by another connection: this one holds the result of what it ran last
            with self.connection.cursor() as other:
                ((threads,),) = other.execute("select current_setting('threads')").fetchall()
                if threads == 1:
                    raise
                other.execute("set threads = 1")
                try:
                    return self.connection.execute(statement)
                finally:
                    other.execute(f"set threads = {threads}")

    def _give_back(self) -> None:
        """Let the machine have what earlier statements freed.

        DuckDB's allocator and the system's keep what they freed, beside what the limit lets DuckDB
        use. DuckDB's lets go when it is told its limit again: a fifth of a millisecond.
        """
        if self._memory_limit is not None and not self._small:
            pa.default_memory_pool().release_unused()
            self.connection.execute(f"set memory_limit = '{self._memory_limit}'")

    def write(
        self,
        select: str,
        directory: str,
        *,
        partition_by: Sequence[str] = (),
        order_by: Sequence[str] = (),
    ) -> list[WrittenFile]:
        Path(directory).mkdir(parents=True, exist_ok=True)
        source = f'from "{select}"' if select.isidentifier() else select
        if order_by:
            source = f"select * from ({source}) as unordered_ order by {', '.join(order_by)}"
        options = "format parquet, compression zstd, return_stats"
        if partition_by:
            listed = ", ".join(partition_by)
            options += (
                f", partition_by ({listed}), write_partition_columns true"
                f", overwrite_or_ignore true, filename_pattern 'part-{{uuid}}'"
            )
            target = directory
        else:
            target = str(Path(directory) / f"part-{uuid.uuid4().hex}.parquet")
        copied = self._run(f"copy ({source}) to {literal(target)} ({options})").fetchall()
        names = [column[0] for column in self.connection.description]
        written = [dict(zip(names, row, strict=True)) for row in copied]
        return [
            WrittenFile(
                path=row["filename"],
                partition=dict(row.get("partition_keys") or {}),
                rows=row["count"],
                size_bytes=row["file_size_bytes"],
            )
            for row in written
            if row["count"] > 0
        ]

    def _create(self, kind: str, name: str, what: str, arrow_rows: pa.Table | None = None) -> None:
        """Make a relation, in the place of any of its name; what it is made of may read that, and
        ``arrow_rows``."""
        try:
            self._run(f'create or replace {kind} "{name}" {what}', arrow_rows)
        except duckdb.CatalogException as error:
            if "Existing object" not in str(error):
                raise
            fresh = f"{name}_{uuid.uuid4().hex[:8]}"
            self._run(f'create {kind} "{fresh}" {what}', arrow_rows)
            self._drop(name)
            self.connection.execute(f'alter {kind} "{fresh}" rename to "{name}"')

    def _drop(self, name: str) -> None:
        self._made.pop(name, None)
        try:
            self.connection.execute(f'drop view if exists "{name}"')
        except duckdb.CatalogException:  # it is a table
            self.connection.execute(f'drop table "{name}"')


class _Made(NamedTuple):
    """What a relation was made of: a table's rows, or a statement and the numbers of the relations
    that it names; null where that cannot be compared.

    Whatever is made has a number of its own, so what reads a relation that was made anew does not
    count as made of the same.
    """

    number: int
    of: object


def _same(held: pa.Table, table: pa.Table) -> bool:
    return held is table or (held.schema.equals(table.schema) and held.equals(table))


@lru_cache(maxsize=500)
def _words(select: str) -> frozenset[str]:
    """Every word of a statement, names of relations among them."""
    return frozenset(re.findall(r"\w+", select))


def _declared(type_: pa.DataType) -> str | None:
    if pa.types.is_decimal128(type_):
        return f"decimal({type_.precision}, {type_.scale})"
    return _TYPES.get(type_)


@lru_cache(maxsize=4)
def _instance(_process: int, settings: tuple[tuple[str, str | int], ...]) -> DuckDBPyConnection:
    """The instance that databases are attached to: starting one and giving it its functions costs
    more than many a statement. A forked child must not use its parent's.
    """
    connection = duckdb.connect(":memory:", config=dict(settings))
    connection.execute(PRELUDE)
    return connection


def _small_files(schema: Table, files: Sequence[str]) -> pa.Table | None:
    """Read files of few rows, none of them twice in a process; null where one has many, or cannot
    be read."""
    if len(files) > _FILES_KEPT:
        return None
    wanted = pa.schema([field.with_nullable(True) for field in schema.arrow_schema])
    read = []
    for path in files:
        table = _small_file(path)
        if table is None:
            return None
        read.append(table)
    if not read:
        return wanted.empty_table()
    found = pa.concat_tables(read, promote_options="default").combine_chunks()
    for field in wanted:
        if field.name not in found.column_names:
            found = found.append_column(field, pa.nulls(found.num_rows, field.type))
    return found.select(wanted.names).cast(wanted)


@lru_cache(maxsize=_FILES_KEPT)
def _small_file(path: str) -> pa.Table | None:
    """A file of the lake, if it is small. They never change: their names are unique."""
    try:
        if Path(path).stat().st_size > _SMALL_FILE_BYTES:
            return None
        file = pq.ParquetFile(path)
        return file.read(use_threads=False) if file.metadata.num_rows <= _SMALL_FILE_ROWS else None
    except (OSError, pa.ArrowException):
        return None


def scan_select(schema: Table, files: Sequence[str]) -> str:
    """Return DuckDB's SQL for a table's rows in Parquet files; no files = no rows.

    A column that a file lacks, as it was written before the table had it, is null there.
    """
    if not files:
        columns = ", ".join(f"cast(null as {c.type}) as {c.name}" for c in schema.columns)
        return f"select {columns} where false"
    by_columns: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for path in files:
        by_columns[_lacking(schema, path)].append(path)
    selects = [_read(schema, paths, lacking) for lacking, paths in sorted(by_columns.items())]
    return " union all ".join(selects)


def _read(schema: Table, paths: Sequence[str], lacking: Sequence[str]) -> str:
    """SQL that reads files as the table is declared now; columns they lack are null."""
    listed = ", ".join(map(literal, paths))
    columns = ", ".join(
        f"cast(null as {c.type}) as {c.name}" if c.name in lacking else c.name
        for c in schema.columns
    )
    return f"select {columns} from read_parquet([{listed}], hive_partitioning = false)"


def _lacking(schema: Table, path: str) -> tuple[str, ...]:
    """The table's columns that a file does not have; a file that cannot be read is left to say so
    when it is."""
    try:
        held = _columns_of(path)
    except (OSError, pa.ArrowException):
        return ()
    return tuple(name for name in schema.column_names if name not in held)


@lru_cache(maxsize=200_000)
def _columns_of(path: str) -> frozenset[str]:
    """The columns of a Parquet file. Files of the lake never change: their names are unique."""
    return frozenset(pq.read_schema(path).names)
