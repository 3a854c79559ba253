"""kill -9 at many points, then the same command: the ledger is that of an undisturbed run."""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import MONTH, RUN, WITHOUT_MARTS, Company

pytestmark = pytest.mark.xdist_group("e2e")

# The program with one function that kills its process when it is called for the nth time: before
# it works, or after. Real SIGKILL to the real command line; nothing is cleaned up.
_KILLING = f"""
{WITHOUT_MARTS}
import importlib, os, signal, sys
target, moment, nth = sys.argv.pop(1).split("|")
module, _, path = target.partition(":")
owner = importlib.import_module(module)
*parents, name = path.split(".")
for parent in parents:
    owner = getattr(owner, parent)
whole, calls = getattr(owner, name), 0

def killing(*arguments, **named):
    global calls
    calls += 1
    if calls == int(nth) and moment == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    result = whole(*arguments, **named)
    if calls == int(nth) and moment == "after":
        os.kill(os.getpid(), signal.SIGKILL)
    return result

setattr(owner, name, killing)
{RUN}
"""

_STORAGE, _OPERATIONS = "iotbill_pipelines.storage", "iotbill_pipelines.operations"

CLOSING = [
    # rating: one table of the first month is published and another one, the third is not
    f"{_STORAGE}.lake:Lake._commit|after|2",
    # rating: everything of a month is published, but not said to be
    f"{_OPERATIONS}.fingerprints:remember|before|2",
    # settling: half of the period's tables are published
    f"{_OPERATIONS}.charges:_publish|after|4",
    # booking: rows are written, the transaction is open
    f"{_STORAGE}.ledger:book|after|1",
    # booked; invoices are written, the transaction is open
    f"{_STORAGE}.ledger:issue_invoices|after|1",
    # journals are built, the transaction is open
    f"{_STORAGE}.ledger:post_journals|after|1",
    # the second export file is on disk, nothing says so
    f"{_STORAGE}.ledger:_write_journal|after|2",
]

RECEIVING = [
    ("land", f"{_STORAGE}.landing:record|after|40"),
    # some tables of the first feed's files are published
    ("ingest", f"{_STORAGE}.lake:Lake._commit|after|3"),
    # all of a feed's files are published, half of them are said to be
    ("ingest", f"{_OPERATIONS}.ingest:_store_state|before|20"),
]


def test_a_killed_close_is_finished_by_the_same_command(
    copy_of: Callable[[str], Company],
) -> None:
    undisturbed = copy_of("undisturbed")
    done = undisturbed.run("close", MONTH)
    assert done.returncode == 0, done.stderr

    killed = copy_of("killed")
    for point in CLOSING:
        done = killed.run("close", MONTH, program=_KILLING.replace("sys.argv.pop(1)", repr(point)))
        assert done.returncode == -signal.SIGKILL, f"{point} was not reached: {done.stdout}"
    done = killed.run("close", MONTH)
    assert done.returncode == 0, done.stderr
    assert killed.ledger() == undisturbed.ledger()
    assert _exported(killed) == _exported(undisturbed)


def test_killed_while_receiving(
    received: Company, tmp_path: Path, new_database: Callable[[], str]
) -> None:
    files = str(received.home.parent / "files")
    commands = {"land": ("land", files), "ingest": ("ingest",)}
    fresh = Company(tmp_path / "fresh", new_database())
    assert fresh.run("init").returncode == 0
    for command, point in RECEIVING:
        program = _KILLING.replace("sys.argv.pop(1)", repr(point))
        done = fresh.run(*commands[command], program=program)
        assert done.returncode == -signal.SIGKILL, f"{point} was not reached: {done.stdout}"
        if command == "land":
            assert fresh.run("land", files).returncode == 0
    assert fresh.run("ingest").returncode == 0
    assert fresh.ledger()["files"] == received.ledger()["files"]
    with_rows = "select count(*) from feed_file where state = 'landed'"
    assert fresh.rows(with_rows) == [(0,)]


def _exported(company: Company) -> dict[str, str]:
    folder = company.home / "out" / MONTH / "journals"
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if path.suffix in (".csv", ".xlsx")
    }
