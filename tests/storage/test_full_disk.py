"""A disk that is really full: a small one is mounted, where that is allowed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from deltalake.exceptions import DeltaError

from iotbill_pipelines.compute.duckdb_engine import DuckDbCompute
from iotbill_pipelines.storage.lake import Lake
from iotbill_pipelines.storage.machine import trouble
from tests.storage.test_lake import FUTURE, TABLE, content, replace, replace_several

PAGE = os.sysconf("SC_PAGE_SIZE")
ROWS = 600_000


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 megabytes; skips where none may be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if mounted.returncode:
        pytest.skip(f"no disk may be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path, left: int) -> Path:
    """Leave so many pages free; return the file that takes the others."""
    filler = disk / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, (os.statvfs(disk).f_bavail - left) * PAGE)
    return filler


@pytest.mark.parametrize("new", [True, False])
def test_a_lake_on_it_is_as_it_was_and_works_again_when_there_is_room(
    disk: Path, new: bool
) -> None:
    """Room for nothing, for the files only, for the first entry of the log only, and so on."""
    failed: list[str] = []
    for left in range(20):
        lake = Lake(disk / f"lake-{left}")
        before: list[tuple[str | None, int, int]] = []
        if not new:
            replace(lake, "2026-10", 1, 5)
            before = [("2026-10", 1, 5)]
        filler = fill(disk, left)
        after = [("2026-10", 1, 7), ("2026-11", 1, 8)]
        try:
            replace_several(lake, 7)
        except (OSError, duckdb.Error, DeltaError) as error:
            failed.append(str(error))
            told = trouble(error)
            assert told and "the disk cannot be written" in told, error
            assert content(lake) == before
            filler.unlink()
            replace_several(lake, 7)
            assert content(lake) == after
            lake.remove_orphans(TABLE, FUTURE)
            assert len(list(lake.root.rglob("*.parquet"))) == len(before) + 2
        else:
            assert content(lake) == after
            filler.unlink()
            break
    else:
        raise AssertionError(f"there never was enough room: {failed}")
    assert len(failed) >= 3, failed


def test_what_is_spilled_there_fails_the_same_way(disk: Path) -> None:
    """The disk fills up after the engine has looked how large it is."""
    lake, spill = Lake(disk / "lake"), disk / "spill"
    spill.mkdir()

    def write(added: int) -> int:
        select = (
            f"select '2026-10' as month, 1 as file_key, r + {added} as value, null as moment,"
            f" hash(r) as rate from range({ROWS}) t(r)"
        )
        partition = {"month": "2026-10", "file_key": "1"}
        with DuckDbCompute(memory_limit="40MB", threads=2, spill_dir=spill) as compute:
            return lake.replace(TABLE, compute, select, partition, order_by=("rate",))

    def least() -> int:
        with DuckDbCompute() as compute:
            lake.scan(compute, TABLE)
            (row,) = compute.fetch("select count(*) as n, min(value) as v from sample").to_pylist()
        assert row["n"] == ROWS
        return int(row["v"])

    untouched = spill.stat().st_mtime_ns
    write(1)
    assert spill.stat().st_mtime_ns != untouched, "no file was made there: nothing was spilled"
    filler = fill(disk, 20)
    with pytest.raises(duckdb.IOException) as raised:
        write(2)
    told = trouble(raised.value)
    assert told and "the disk cannot be written" in told and str(spill) in told
    assert least() == 1
    filler.unlink()
    write(2)
    assert least() == 2
