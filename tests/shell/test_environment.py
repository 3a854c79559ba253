"""What the environment says reaches the engine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

import duckdb
import pytest

from iotbill_pipelines.compute.duckdb_engine import DuckDbCompute
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.shell.environment import MEMORY_VARIABLE, memory_limit
from iotbill_pipelines.storage.lake import Lake


@pytest.mark.parametrize(("told", "held"), [(None, "715.2 MiB"), ("512MB", "488.2 MiB")])
def test_the_engine_uses_so_much_memory_and_then_spills_into_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str | None, held: str
) -> None:
    monkeypatch.delenv(MEMORY_VARIABLE, raising=False)
    if told:
        monkeypatch.setenv(MEMORY_VARIABLE, told)
    nothing = cast(Any, None)
    ws = Workspace(tmp_path, tmp_path, nothing, Lake(tmp_path), memory_limit=memory_limit())
    with ws.compute() as compute:
        settings = "current_setting('memory_limit') as m, current_setting('temp_directory') as t"
        (row,) = compute.fetch(f"select {settings}").to_pylist()
        assert row == {"m": held, "t": str(tmp_path / "spill")}


def test_what_does_not_fit_is_spilled_and_counts_the_same(tmp_path: Path) -> None:
    nothing = cast(Any, None)
    ws = Workspace(tmp_path, tmp_path, nothing, Lake(tmp_path), memory_limit="50MB")
    with ws.compute() as compute:
        compute.connection.execute("set threads = 2")
        compute.define(
            "many", "select md5(cast(r as varchar)) as x, r from range(1000000) t(r)", keep=True
        )
        compute.define("ordered", "select *, row_number() over (order by x) as n from many")
        (row,) = compute.fetch(
            "select count(distinct x) as d, sum(n) as n, count(*) filter (n % 2 = r % 2) as e"
            " from ordered"
        ).to_pylist()
        spilled = compute.fetch("select sum(size) as bytes from duckdb_temporary_files()")
    assert (row["d"], row["n"]) == (1_000_000, 500_000_500_000)
    assert spilled["bytes"][0].as_py() > 0


def test_what_fits_one_thread_only_comes_to_the_same(tmp_path: Path) -> None:
    """Every thread holds groups of its own: four need more than twice what one does."""
    groups = "select md5(cast(r % 100000 as varchar)) as x, count(*) as n from many group by x"
    with DuckDbCompute(memory_limit="25MB", threads=4) as compute:
        compute.connection.execute("set temp_directory = ''")  # nowhere to spill
        compute.define("many", "select r from range(400000) t(r)", keep=True)
        total = f"select count(*) as groups, sum(n) as n from ({groups})"
        with pytest.raises(duckdb.OutOfMemoryException):
            compute.connection.execute(total).fetchall()
        assert compute.fetch(total).to_pylist() == [{"groups": 100_000, "n": 400_000}]
        files = compute.write(total, str(tmp_path))
        compute.define("one", "select count(*) as n from many", keep=True)
        (row,) = compute.fetch(
            "select n, current_setting('threads') as threads from one"
        ).to_pylist()
    assert [(file.rows, Path(file.path).is_file()) for file in files] == [(1, True)]
    assert row == {"n": 400_000, "threads": 4}


def test_what_fits_no_number_of_threads_says_so_and_leaves_them_as_they_were() -> None:
    with DuckDbCompute(memory_limit="20MB", threads=2) as compute:
        compute.connection.execute("set temp_directory = ''")  # nowhere to spill
        for _ in range(2):
            with pytest.raises(duckdb.OutOfMemoryException):
                compute.define(
                    "many",
                    "select md5(cast(r as varchar)) as x from range(5000000) t(r)",
                    keep=True,
                )
        (row,) = compute.fetch("select current_setting('threads') as n").to_pylist()
        assert row == {"n": 2}
        compute.define("few", "select 1 as x", keep=True)
        assert compute.fetch("few").num_rows == 1


def test_memory_that_was_used_is_given_back_before_the_next_statement() -> None:
    def resident_bytes() -> int:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    if not Path("/proc/self/statm").exists():
        pytest.skip("this system does not tell how much memory a process holds")
    with DuckDbCompute(memory_limit="1GB") as compute:
        compute.fetch("select 1")
        before = resident_bytes()
        compute.define(
            "many", "select r, md5(cast(r as varchar)) from range(8000000) t(r)", keep=True
        )
        compute.define("many", "select 1 as r", keep=True)
        compute.fetch("select 1")
        assert resident_bytes() - before < 200 * 2**20
