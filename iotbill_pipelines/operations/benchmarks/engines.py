"""The same month rated and settled on DuckDB and on Spark: how long, and is every row equal?

Files are received once, by the embedded engine. Each engine works in a process of its own, from the
same usage records and the same snapshot of reference data, and writes what it made as Parquet.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import duckdb
import psutil  # type: ignore[import-untyped]
from sqlalchemy.orm import Session

from iotbill_pipelines.compute import spark_engine
from iotbill_pipelines.compute.duckdb_engine import DuckDbCompute
from iotbill_pipelines.compute.spark_engine import SparkCompute
from iotbill_pipelines.engine import flow
from iotbill_pipelines.engine.compute import literal
from iotbill_pipelines.engine.schemas import RATED_USAGE, USAGE_RECORD
from iotbill_pipelines.operations.benchmarks import in_own_process, market
from iotbill_pipelines.operations.benchmarks.market import PERIOD, Size
from iotbill_pipelines.operations.ingest import ingest, land
from iotbill_pipelines.operations.knowledge import knowledge
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage import database, reference
from iotbill_pipelines.storage.reference import Snapshot, load_snapshot

RATED = ("duplicate_record", "suspended_record", "rated_usage", "usage_outcome")
SETTLED = (
    *("usage_aggregate", "pool_settlement", "pool_part", "charge_component", "desired_charge"),
    *("charge_finding", "commitment_status"),
)
_BY_ACCOUNT = ("account_id", "service_id", "event_start", "file_key", "line_no", "level")


@dataclass(frozen=True)
class Measured:
    """What one engine took; ``peak_memory_bytes`` is of all its processes on this machine."""

    engine: str
    rate_seconds: float
    settle_seconds: float
    peak_memory_bytes: int

    @property
    def seconds(self) -> float:
        return self.rate_seconds + self.settle_seconds


@dataclass(frozen=True)
class Compared:
    """One table of both engines: its rows, and how many rows or columns only one of them has."""

    table: str
    rows: int
    differing: int


@dataclass(frozen=True)
class EnginesBenchmark:
    """Both engines' measures, and every table compared row by row and type by type."""

    size: Size
    measures: list[Measured]
    tables: list[Compared]

    @property
    def identical(self) -> bool:
        return not any(table.differing for table in self.tables)


@dataclass(frozen=True)
class _Received:
    snapshot: Snapshot
    usage: list[str]


def measure(
    configs: Path,
    folder: Path,
    size: Size,
    master: str,
    *,
    memory_limit: str | None,
    settings: Mapping[str, str],
) -> EnginesBenchmark:
    """Generate a month into ``folder``, rate and settle it on both engines, and compare."""
    received = in_own_process(_receive, configs, folder, size, memory_limit)
    work = (
        partial(_embedded, memory_limit, folder / "spill"),
        partial(_on_spark, master, folder / "spill", dict(settings)),
    )
    measures = [
        in_own_process(_measured, name, start, received, folder / name)
        for name, start in zip(("duckdb", "spark"), work, strict=True)
    ]
    tables = [
        compare(name, folder / "duckdb" / name, folder / "spark" / name)
        for name in (*RATED, *SETTLED)
    ]
    return EnginesBenchmark(size, measures, tables)


def _receive(configs: Path, folder: Path, size: Size, memory_limit: str | None) -> _Received:
    files = market.write_usage(folder / "files", size)
    ours, home = market.write_configs(configs, folder / "configs"), folder / "home"
    database.stop(home)
    shutil.rmtree(home, ignore_errors=True)
    ws = Workspace.open(home, ours, migrate=True, memory_limit=memory_limit)
    try:
        with Session(ws.engine) as session, session.begin():
            for name, rows in market.reference_tables(size).items():
                reference.load(session, name, rows, ws.clock(), "benchmark")
        land(ws, files)
        ingest(ws)
        snapshot = knowledge(ws, PERIOD)
        return _Received(snapshot, ws.lake.files(USAGE_RECORD, usage_month=str(PERIOD)))
    finally:
        ws.close()
        database.release(home)  # a worker ends without its exit handlers


@contextmanager
def _embedded(memory_limit: str | None, spill: Path) -> Iterator[DuckDbCompute]:
    with DuckDbCompute(memory_limit=memory_limit, spill_dir=spill) as compute:
        yield compute


@contextmanager
def _on_spark(master: str, spill: Path, settings: Mapping[str, str]) -> Iterator[SparkCompute]:
    try:
        with SparkCompute(master, str(spill), settings=settings) as compute:
            yield compute
    finally:
        spark_engine.stop()


def _measured(
    name: str,
    start: Callable[[], AbstractContextManager[DuckDbCompute | SparkCompute]],
    received: _Received,
    folder: Path,
) -> Measured:
    shutil.rmtree(folder, ignore_errors=True)
    with _peak() as peak, start() as compute:
        began = time.perf_counter()
        load_snapshot(compute, received.snapshot)
        compute.scan(USAGE_RECORD, received.usage)
        flow.rate_month(compute)
        written = {
            table: compute.write(
                table, str(folder / table), order_by=_BY_ACCOUNT if table == "rated_usage" else ()
            )
            for table in RATED
        }
        rated = time.perf_counter()
        compute.scan(RATED_USAGE, [file.path for file in written["rated_usage"]])
        flow.settle_period(compute, PERIOD)
        for table in SETTLED:
            compute.write(table, str(folder / table))
        settled = time.perf_counter()
    return Measured(name, rated - began, settled - rated, peak[0])


@contextmanager
def _peak() -> Iterator[list[int]]:
    """Watch the memory of this process and those below it."""
    peak, ended = [0], threading.Event()

    def watch() -> None:
        me = psutil.Process()
        while not ended.wait(0.5):
            held = 0
            for process in (me, *me.children(recursive=True)):
                try:
                    held += process.memory_info().rss
                except psutil.Error:  # it ended meanwhile
                    continue
            peak[0] = max(peak[0], held)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        ended.set()
        watcher.join()


def compare(name: str, one: Path, other: Path) -> Compared:
    """Compare the Parquet files of two folders as one table each: rows in any order, but as often
    on both sides, and columns by name and type."""
    with duckdb.connect(":memory:") as connection:
        connection.execute("set memory_limit = '1GB'")
        for side, folder in (("one", one), ("other", other)):
            if any(folder.glob("*.parquet")):
                source = f"select * from read_parquet({literal(f'{folder}/*.parquet')})"
            else:
                source = "select null as nothing where false"
            connection.execute(f"create view {side} as {source}")
        (rows,) = connection.execute("select count(*) from one").fetchone() or (0,)
        (others,) = connection.execute("select count(*) from other").fetchone() or (0,)
        if not rows and not others:
            return Compared(name, 0, 0)
        described = [
            connection.execute(f"select column_name, column_type from (describe {side})").fetchall()
            for side in ("one", "other")
        ]
        differing = len(set(described[0]) ^ set(described[1]))
        if not differing:
            for left, right in (("one", "other"), ("other", "one")):
                only = f"select count(*) from (from {left} except all from {right})"
                differing += (connection.execute(only).fetchone() or (0,))[0]
    return Compared(name, rows, differing)
