"""A replacement of a partition killed at every point, and on a disk that is full at every point.

What a reader sees is the content before or the one after, whole; the next run heals. The writer is
a process forked for each point from one that has the libraries loaded.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from iotbill_pipelines.storage.lake import Lake
from tests.conftest import ROOT
from tests.storage.test_lake import FUTURE, TABLE, content, replace

# Dies before its nth call into the file system, its commit, or after that; or, where a size is
# given, by the signal that the kernel sends a process that writes a file beyond it: then in the
# middle of a write, also of libraries that are not Python. With "full" that write fails instead.
_WRITER = """
import os, resource, signal, sys
from tests.storage import test_lake as t
from iotbill_pipelines.storage import lake as module

sys.dont_write_bytecode = True  # Python keeps compiled modules that were cut off
EVENTS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree", "fcntl.flock")

def write(root, how, number, value):
    left = [number]

    def point():
        left[0] -= 1
        if how == "call" and left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def hear(event, arguments):
        if event in EVENTS and (event == "fcntl.flock" or root in str(arguments[0])):
            point()

    whole = module.DeltaTable.create_write_transaction
    def commit(*arguments, **named):
        point()
        whole(*arguments, **named)
        point()

    module.DeltaTable.create_write_transaction = commit
    sys.addaudithook(hear)
    if how in ("size", "full"):
        if how == "size":
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (number, number))
    t.replace(module.Lake(root), "2026-10", 1, value, value + 1)

for line in sys.stdin:
    root, how, number, value = line.split()
    child = os.fork()
    if not child:
        code = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            write(root, how, int(number), int(value))
            code = 0
        finally:
            os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class _Writer:
    def __init__(self, lake: Lake, process: subprocess.Popen[str]) -> None:
        self.lake = lake
        self.process = process

    def write(self, how: str, number: int, value: int) -> int:
        """Replace the partition by ``value`` and the one after it; return the exit code."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{self.lake.root} {how} {number} {value}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


@contextmanager
def writing(lake: Lake) -> Iterator[_Writer]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", _WRITER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment,
    ) as process:
        yield _Writer(lake, process)


def test_a_replacement_is_whole_or_not_there_wherever_it_ends(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    replace(lake, "2026-11", 1, 5)
    other, before, value = ("2026-11", 1, 5), [], 10
    deaths = {"call": 0, "size": 0, "full": 0}
    with writing(lake) as writer:
        for how, numbers in (
            ("call", range(200)),
            ("size", (0, 1, 100, 400, 700, 900, 1_200, 1_600, 2_500, 100_000)),
            ("full", (0, 100, 700, 1_200, 1_600, 100_000)),
        ):
            for number in numbers:
                value += 10
                code = writer.write(how, number, value)
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
