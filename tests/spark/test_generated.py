"""A generated month on the cluster and on the embedded engine comes to the same, row for row."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from iotbill_pipelines.operations.benchmarks import engines
from iotbill_pipelines.operations.benchmarks.market import Size
from tests.conftest import ROOT

from .conftest import SETTINGS

ROWS = int(os.environ.get("IOTBILL_SPARK_ROWS", "2000000"))
"""Raw usage rows of the month; none is no such test."""

MASTER = "local-cluster[2,1,1536]"


def test_a_generated_month_comes_to_the_same() -> None:
    if not ROWS:
        pytest.skip("no generated month was asked for: IOTBILL_SPARK_ROWS")
    size = Size(rows=ROWS, sims=max(1_000, ROWS // 100), accounts=max(200, ROWS // 1_000))
    folder = Path(tempfile.mkdtemp(prefix="iotbill-generated-"))
    folder.chmod(0o755)  # the embedded server is another user's where the tests are root's
    try:
        made = engines.measure(
            ROOT / "configs", folder, size, MASTER, memory_limit="750MB", settings=SETTINGS
        )
    finally:
        shutil.rmtree(folder)
    assert [table for table in made.tables if table.differing] == []
    held = {table.table: table.rows for table in made.tables}
    assert held["rated_usage"] > 0.9 * ROWS
    assert held["desired_charge"] > size.sims
