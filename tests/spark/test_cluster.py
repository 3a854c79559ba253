"""Executors are processes of their own; one of them killed in the middle changes nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from iotbill_pipelines.compute import spark_engine
from iotbill_pipelines.compute.duckdb_engine import DuckDbCompute
from iotbill_pipelines.compute.spark_engine import SparkCompute
from iotbill_pipelines.engine.compute import EngineError
from iotbill_pipelines.engine.schemas import REJECTED_RECORD, USAGE_RECORD
from iotbill_pipelines.operations.scenarios import run_tables
from iotbill_pipelines.storage.lake import Lake
from tests.conftest import ROOT
from tests.scenarios.test_scenarios import SCENARIOS
from tests.together import merge

from .conftest import MASTER, Start
from .records import KEYS, rejected
from .test_scenarios import assert_same, read

KILLED_AFTER_STAGES = 25


def executors() -> list[psutil.Process]:
    return [each for each in psutil.Process().children(recursive=True) if _executes(each)]


def _executes(process: psutil.Process) -> bool:
    try:
        return "CoarseGrainedExecutorBackend" in " ".join(process.cmdline())
    except psutil.Error:  # it ended meanwhile
        return False


def test_executors_are_processes(start: Start) -> None:
    with start(None) as compute:
        compute.fetch("select 1 as one")
        assert len(executors()) == 2


def test_an_executor_killed_in_the_middle(start: Start) -> None:
    _, companies, _ = read()
    number = [path.stem for path in SCENARIOS].index("pool_proportional_excess")
    merged = merge([companies[number]])
    embedded = run_tables(merged.tables, merged.months)
    killed: list[int] = []
    ended = threading.Event()

    def kill() -> None:
        tracker = compute.session.sparkContext.statusTracker()
        while not ended.wait(0.2):
            if any(stage > begun + KILLED_AFTER_STAGES for stage in tracker.getActiveStageIds()):
                victim = executors()[0]
                victim.send_signal(signal.SIGKILL)
                killed.append(victim.pid)
                return

    def watched(expected_rows: int) -> SparkCompute:
        return compute

    with start(100) as compute:
        begun = compute.session.sparkContext._jsc.sc().dagScheduler().nextStageId()
        watcher = threading.Thread(target=kill)
        watcher.start()
        try:
            spread = run_tables(merged.tables, merged.months, watched)
        finally:
            ended.set()
            watcher.join()
    assert killed
    assert killed[0] not in [p.pid for p in executors()]
    assert_same(embedded, spread)


def test_partitions_of_the_lake(start: Start, tmp_path: Path) -> None:
    """What Spark writes, the lake publishes and DuckDB reads; and the other way round."""
    table = rejected(40)
    lake = Lake(tmp_path / "lake")
    with start(None) as spread, DuckDbCompute() as embedded:
        for writer, reader in ((spread, embedded), (embedded, spread)):
            writer.load("made", table)
            lake.replace_each(
                REJECTED_RECORD, writer, "made", "file_key", KEYS, order_by=("line_no",)
            )
            assert lake.rows(REJECTED_RECORD, file_key=KEYS[0]) == 40
            lake.scan(reader, REJECTED_RECORD)
            read_back = reader.fetch("select * from rejected_record order by file_key, line_no")
            assert read_back.to_pylist() == table.to_pylist()
            assert read_back.schema.types == table.schema.types


# Writes two partitions, and then begins to write so much into one that it would take days. Rows of
# one partition need not be sorted first: its file is begun at once.
_DRIVER = """
import sys
from iotbill_pipelines.compute.spark_engine import SparkCompute
from iotbill_pipelines.engine.schemas import REJECTED_RECORD
from iotbill_pipelines.storage.lake import Lake
from tests.spark.conftest import SETTINGS
from tests.spark.records import KEYS, rejected

_, root, scratch = sys.argv
with SparkCompute("local[1]", scratch, settings=SETTINGS) as compute:
    compute.load("made", rejected(40))
    compute.load("many", rejected(5_000))
    lake = Lake(root)
    lake.replace_each(REJECTED_RECORD, compute, "made", "file_key", KEYS)
    endless = "select many.* from many cross join many as b cross join many as c"
    one = f"{endless} where many.file_key = {KEYS[0]}"
    lake.replace(REJECTED_RECORD, compute, one, {"file_key": KEYS[0]})
"""


def being_written(lake: Lake) -> bool:
    """Is there a file that a task began and that is not published?"""
    staged = lake.root / REJECTED_RECORD.name
    return any(staged.glob("_staged-*/_temporary/**/*.parquet"))


def test_a_driver_killed_while_it_writes_a_partition(start: Start, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    with subprocess.Popen(
        [sys.executable, "-c", _DRIVER, str(lake.root), str(tmp_path / "scratch")],
        cwd=ROOT,
        start_new_session=True,
    ) as driver:
        try:
            deadline = time.monotonic() + 120
            while not being_written(lake) or lake.rows(REJECTED_RECORD) == 0:
                assert driver.poll() is None and time.monotonic() < deadline
                time.sleep(0.05)
        finally:
            os.killpg(driver.pid, signal.SIGKILL)  # it and its Java
    with start(None) as spread, DuckDbCompute() as embedded:

        def read_back() -> pa.Table:
            lake.scan(embedded, REJECTED_RECORD)
            return embedded.fetch("select * from rejected_record order by file_key, line_no")

        assert read_back().to_pylist() == rejected(40).to_pylist()
        spread.load("made", rejected(50))
        lake.replace_each(REJECTED_RECORD, spread, "made", "file_key", KEYS)
        assert read_back().to_pylist() == rejected(50).to_pylist()
    lake.remove_orphans(REJECTED_RECORD, datetime.now(UTC) + timedelta(days=1))
    assert not being_written(lake)


def test_columns_that_older_files_lack(start: Start, tmp_path: Path) -> None:
    held = ["file_key", "line_no", "event_start", "quantity", "vendor_cost"]
    old = USAGE_RECORD.arrow_schema.empty_table().select(held)
    pq.write_table(old, tmp_path / "old.parquet")
    with start(None) as compute:
        compute.scan(USAGE_RECORD, [str(tmp_path / "old.parquet")])
        empty = compute.fetch("usage_record")
    assert empty.schema.types == USAGE_RECORD.arrow_schema.types


def test_another_master_in_the_same_process(start: Start, tmp_path: Path) -> None:
    with (
        start(None),
        pytest.raises(EngineError, match=r"already uses Spark at local-cluster.*, not local\[1\]"),
    ):
        SparkCompute("local[1]", str(tmp_path))
    assert spark_engine.application(MASTER, {}) is not None
