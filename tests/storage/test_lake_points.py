"""Replacements of partitions killed at every point, and on a disk that is full at every point.

What a reader sees is the content before or the one after, whole; the next run heals. The writer is
a process forked for each point from one that has the libraries loaded.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from iotbill_pipelines.storage.lake import Lake
from tests.conftest import ROOT
from tests.sources.servers import S3Server
from tests.storage.stores import BUCKET, lake_at, place
from tests.storage.test_lake import FUTURE, TABLE, content, replace, replace_several

Rows = list[tuple[str | None, int, int]]

# Dies before its nth call into the file system, or before or after it makes the table or commits;
# or, where a size is given, by the signal that the kernel sends a process that writes a file beyond
# it: then in the middle of a write, also of libraries that are not Python. With "full" that write
# fails instead, with "request" it dies before its nth connection to an object store, or its commit.
_WRITER = """
import os, resource, signal, sys
import s3fs
from tests.storage import test_lake as t
from tests.storage.stores import lake_at
from iotbill_pipelines.storage import lake as module, lake_places as places

sys.dont_write_bytecode = True  # Python keeps compiled modules that were cut off
EVENTS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree", "fcntl.flock")
REQUESTS = ("socket.connect",)

def write(root, how, number, value, what):
    left = [number]

    def point():
        left[0] -= 1
        if how in ("call", "request") and left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def hear(event, arguments):
        if how == "request":
            if event in REQUESTS:
                point()
        elif event in EVENTS and (event == "fcntl.flock" or root in str(arguments[0])):
            point()

    def around(whole):
        def called(*arguments, **named):
            point()
            whole(*arguments, **named)
            point()
        return called

    table = module.DeltaTable
    table.create_write_transaction = around(table.create_write_transaction)
    table.create = around(table.create)
    sys.addaudithook(hear)
    if how in ("size", "full"):
        if how == "size":
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (number, number))
    if how == "request":
        places.BATCH_FILES = 1  # one upload after the other
        t.replace_two(lake_at(root), value)
    elif what == "several":
        t.replace_several(module.Lake(root), value)
    else:
        t.replace(module.Lake(root), "2026-10", 1, value, value + 1)

for line in sys.stdin:
    verb, *told = line.split()
    if verb == "wait":
        print(os.waitstatus_to_exitcode(os.waitpid(int(told[0]), 0)[1]), flush=True)
        continue
    child = os.fork()
    if not child:
        code = 1
        try:
            if verb == "write":
                root, how, number, value, what = told
                os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
                write(root, how, int(number), int(value), what)
            else:
                root, month, *values = told
                for value in values:
                    t.replace(lake_at(root), month, 1, int(value))
            code = 0
        finally:
            os._exit(code)
    print(child, flush=True)
"""


class _Writer:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def write(self, place: str, how: str, number: int, value: int, what: str = "one") -> int:
        """Replace one partition or several by ``value`` and the one after it; return the exit
        code."""
        return self.wait(self._ask(f"write {place} {how} {number} {value} {what}"))

    def start(self, place: str, month: str, *values: int) -> int:
        """Replace a partition by each of the values in turn; return the process."""
        return self._ask(f"replace {place} {month} {' '.join(map(str, values))}")

    def wait(self, process: int) -> int:
        """Return the exit code of a process."""
        return self._ask(f"wait {process}")

    def _ask(self, line: str) -> int:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


@pytest.fixture(scope="module")
def writer() -> Iterator[_Writer]:
    """The process that writers are forked from."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", _WRITER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment,
    ) as process:
        yield _Writer(process)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def test_a_replacement_is_whole_or_not_there_wherever_it_ends(
    tmp_path: Path, writer: _Writer
) -> None:
    lake = Lake(tmp_path / "lake")
    replace(lake, "2026-11", 1, 5)
    other, before, value = ("2026-11", 1, 5), [], 10
    deaths = {"call": 0, "size": 0, "full": 0}
    for how, numbers in (
        ("call", range(200)),
        ("size", (0, 1, 100, 400, 700, 900, 1_200, 1_600, 2_500, 100_000)),
        ("full", (0, 100, 700, 1_200, 1_600, 100_000)),
    ):
        for number in numbers:
            value += 10
            code = writer.write(str(lake.root), how, number, value)
            after = [("2026-10", 1, value), ("2026-10", 1, value + 1)]
            found = content(lake)
            assert found[-1] == other
            assert found[:-1] in (before, after), f"{how} {number}: {found}"
            assert code != 0 or found[:-1] == after
            before = found[:-1]
            if code == 0:
                break
            deaths[how] += 1
            assert code == {"call": -signal.SIGKILL, "size": -signal.SIGXFSZ}.get(how, 1)
        else:
            raise AssertionError(f"{how}: the last point was not reached")
    # every step of a replacement was tried: files, folders, renames, the lock, the commit
    assert deaths["call"] >= 8 and deaths["size"] >= 3 and deaths["full"] >= 2, deaths
    assert replace(lake, "2026-10", 1, 7) == 1
    lake.remove_orphans(TABLE, FUTURE)
    assert content(lake) == [("2026-10", 1, 7), other]
    on_disk = {str(path) for path in (lake.root / "sample").rglob("*.parquet")}
    versions = [*range(lake.version(TABLE) or 0), None]
    assert on_disk == {file for v in versions for file in lake.files(TABLE, version=v)}
    assert not list((lake.root / "sample").glob("_staged-*"))


@pytest.mark.parametrize("new", [True, False])
def test_so_are_several_partitions_of_one_commit(
    tmp_path: Path, writer: _Writer, new: bool
) -> None:
    """As ingest writes; every point of a table's first write finds a folder without the table."""
    other: Rows = [] if new else [("2027-01", 1, 5)]
    before: Rows = []
    root, value = tmp_path / "lake", 10
    deaths = {"call": 0, "size": 0, "full": 0}
    for how, numbers in (
        ("call", range(200)),
        ("size", (0, 100, 700, 1_200, 1_600, 2_500, 100_000)),
        ("full", (0, 700, 1_200, 1_600, 2_500, 100_000)),
    ):
        for number in numbers:
            if new:
                root, before = tmp_path / f"{how}-{number}", []
            lake = Lake(root)
            if not new and lake.version(TABLE) is None:
                replace(lake, "2026-12", 1, 1)
                replace(lake, "2027-01", 1, 5)
                before = [("2026-12", 1, 1)]
            value += 10
            code = writer.write(str(root), how, number, value, "several")
            after: Rows = [("2026-10", 1, value), ("2026-11", 1, value + 1)]
            found = content(lake)
            assert found in (before + other, after + other), f"{how} {number}: {found}"
            assert code != 0 or found == after + other
            before = [row for row in found if row not in other]
            if new:
                assert replace_several(lake, 7) == 2
                assert content(lake) == [("2026-10", 1, 7), ("2026-11", 1, 8)]
            if code == 0:
                break
            deaths[how] += 1
            assert code == {"call": -signal.SIGKILL, "size": -signal.SIGXFSZ}.get(how, 1)
        else:
            raise AssertionError(f"{how}: the last point was not reached")
    # making the table has points of its own: its folders, its lock, the first entry of its log
    least = {"call": 20 if new else 10, "size": 3, "full": 2}
    assert all(deaths[how] >= times for how, times in least.items()), deaths
    replace_several(lake, 8)
    assert content(lake) == [("2026-10", 1, 8), ("2026-11", 1, 9), *other]


def test_so_it_is_in_an_object_store(tmp_path: Path, writer: _Writer, s3: S3Server) -> None:
    """Two files, uploaded and then published by one commit; another machine looks on."""
    lake = lake_at(place(s3.endpoint, tmp_path.name, tmp_path / "reader"))
    replace(lake, "2026-11", 1, 5)
    before: Rows = []
    left = set()
    for number in range(30):
        value = 10 * number
        word = place(s3.endpoint, tmp_path.name, tmp_path / "writer")
        uploaded = _objects(s3, tmp_path.name)
        code = writer.write(word, "request", number, value)
        after = [("2026-10", 2, value), ("2026-12", 2, value + 1)]
        found = [row for row in content(lake) if row != ("2026-11", 1, 5)]
        assert found in (before, after), f"{number}: {found}"
        left.add((len(_objects(s3, tmp_path.name) - uploaded), found == after))
        before = found
        if code == 0:
            break
        assert code == -signal.SIGKILL
    else:
        raise AssertionError("the last point was not reached")
    # before the uploads, between them, after them, and after the commit
    assert left >= {(0, False), (1, False), (2, False), (2, True)}, left
    assert found == after
    deleted = lake.remove_orphans(TABLE, FUTURE)
    assert deleted and not lake.remove_orphans(TABLE, FUTURE)
    versions = [*range(lake.version(TABLE) or 0), None]
    named = {name for version in versions for name in lake.names(TABLE, version=version)}
    assert _objects(s3, tmp_path.name) == named


@pytest.mark.parametrize("new", [True, False])
def test_processes_of_two_machines_write_side_by_side(
    tmp_path: Path, writer: _Writer, s3: S3Server, new: bool
) -> None:
    words = [place(s3.endpoint, tmp_path.name, tmp_path / name) for name in ("one", "two")]
    lake = lake_at(words[0])
    if not new:
        replace(lake, "2026-11", 1, 5)
    processes = [
        writer.start(word, "2026-10", *values)
        for word, values in zip(words, ((1, 2), (3, 4)), strict=True)
    ]
    assert [writer.wait(process) for process in processes] == [0, 0]
    assert content(lake)[:1] in ([("2026-10", 1, 2)], [("2026-10", 1, 4)])
    assert lake.rows(TABLE) == (1 if new else 2)


def _objects(s3: S3Server, prefix: str) -> set[str]:
    listed = s3.client.list_objects_v2(Bucket=BUCKET, Prefix=f"{prefix}/").get("Contents", ())
    names = {found["Key"].removeprefix(f"{prefix}/") for found in listed}
    return {name for name in names if name.endswith(".parquet")}


def test_killed_at_any_moment(lake: Lake, writer: _Writer) -> None:
    """A writer that replaces again and again is killed at times that nobody chose."""
    replace(lake, "2026-10", 1, 0)
    process = writer.start(str(lake.root), "2026-10", *range(1, 1000))
    deadline = time.monotonic() + 60
    while (lake.version(TABLE) or 0) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process, signal.SIGKILL)
    assert writer.wait(process) == -signal.SIGKILL
    ((month, _, value),) = content(lake)
    assert (month, value > 0) == ("2026-10", True)
    replace(lake, "2026-10", 1, 7)
    assert content(lake) == [("2026-10", 1, 7)]


def test_two_processes_replace_their_partitions_side_by_side(lake: Lake, writer: _Writer) -> None:
    several = range(1, 9)
    writers = [writer.start(str(lake.root), month, *several) for month in ("2026-10", "2026-11")]
    assert [writer.wait(process) for process in writers] == [0, 0]
    assert content(lake) == [("2026-10", 1, 8), ("2026-11", 1, 8)]


def test_two_processes_replace_the_same_new_partition_and_one_content_stays(
    lake: Lake, writer: _Writer
) -> None:
    writers = [writer.start(str(lake.root), "2026-10", value) for value in (3, 4)]
    assert [writer.wait(process) for process in writers] == [0, 0]
    assert content(lake) in ([("2026-10", 1, 3)], [("2026-10", 1, 4)])
