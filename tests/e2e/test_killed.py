"""kill -9 at many points, a full disk, a server that goes away, two closes at once.

After each, the same command again: the ledger is that of an undisturbed run.
"""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Callable
from pathlib import Path

from tests.e2e.conftest import CLOSED, MONTH, QUICK, RECEIVED, RUN, Company
from tests.shelf import State

# The program with one function that kills its process when it is called for the nth time: before
# it works, or after. Real SIGKILL to the real command line; nothing is cleaned up.
_KILLING = f"""
{QUICK}
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

# The server ends every connection in mid-booking, as when it is restarted.
_SERVER_GONE = f"""
{QUICK}
import sqlalchemy as sa, sys
from iotbill_pipelines.storage import ledger
whole = ledger.book

def booked_then_gone(session, *arguments, **named):
    result = whole(session, *arguments, **named)
    engine = sa.create_engine(session.get_bind().url, poolclass=sa.NullPool)
    with engine.connect() as other:
        other.execute(sa.text(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        ))
    return result

ledger.book = booked_then_gone
{RUN}
"""

# Files may grow to so many bytes and no further: every write beyond fails, as on a full disk.
_DISK_FULL = f"""
{QUICK}
import resource, sys
sys.dont_write_bytecode = True  # Python keeps compiled modules that were cut off
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
{RUN}
"""

# Two closes at once, and files that land and are read meanwhile: three processes.
_TOGETHER = f"""
{QUICK}
import os, sys
from iotbill_pipelines.cli.main import main
*options, _, _, folder = sys.argv
ways = [[["close", "{MONTH}"]], [["close", "{MONTH}"]], [["land", folder], ["ingest"]]]
children = []
for commands in ways:
    child = os.fork()
    if child:
        children.append(child)
        continue
    code = 0
    for command in commands:
        sys.argv = [*options, *command]
        try:
            main()
        except SystemExit as left:
            code = max(code, left.code or 0)
    sys.stdout.flush()
    os._exit(code)
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
print("codes", *codes)
"""

RECEIVING = [
    ("land", f"{_STORAGE}.landing:record|after|40"),
    # some tables of the first feed's files are published
    ("ingest", f"{_STORAGE}.lake:Lake._commit|after|3"),
    # all of a feed's files are published, half of them are said to be
    ("ingest", f"{_OPERATIONS}.ingest:_store_state|before|20"),
]


def test_a_killed_close_is_finished_by_the_same_command(
    copy_of: Callable[[str, State], Company],
) -> None:
    killed = copy_of("killed", RECEIVED)
    full = killed.run("close", MONTH, program=_DISK_FULL)
    assert full.returncode == 2, full.stdout
    assert "the disk cannot be written" in full.stdout.replace("\n", " "), full.stdout
    for point in [*CLOSING[:3], None, *CLOSING[3:]]:
        if point is None:
            gone = killed.run("close", MONTH, program=_SERVER_GONE)
            assert gone.returncode == 2, gone.stdout + gone.stderr
            assert "the database does not answer" in gone.stdout + gone.stderr
            assert killed.rows("select count(*) from booked_charge") == [(0,)]
            continue
        done = killed.run("close", MONTH, program=_KILLING.replace("sys.argv.pop(1)", repr(point)))
        assert done.returncode == -signal.SIGKILL, f"{point} was not reached: {done.stdout}"
    _closed_twice_at_once_while_files_come(killed)
    done = killed.run("close", MONTH)
    assert done.returncode == 0, done.stderr
    # Asked for last: another worker may be making it meanwhile, and would be waited for.
    undisturbed = copy_of("undisturbed", CLOSED)
    posted, expected = killed.ledger(), undisturbed.ledger()
    assert len(posted.pop("files")) == len(expected.pop("files")) + 1  # landed meanwhile
    assert posted == expected
    assert _exported(killed) == _exported(undisturbed)


def _closed_twice_at_once_while_files_come(company: Company) -> None:
    folder = company.home.parent / "meanwhile"
    folder.mkdir()
    (folder / "somebody_elses.bin").write_bytes(b"\x00\x01")
    together = company.run("close", MONTH, str(folder), program=_TOGETHER)
    assert together.returncode == 0, together.stderr
    # The second waits for nobody: it says who is closing, or finds everything done.
    codes = together.stdout.rpartition("codes ")[2].split()
    assert codes in (["0", "2", "0"], ["2", "0", "0"], ["0", "0", "0"]), together.stderr
    assert "2" not in codes or "another process is closing" in together.stderr


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
            full = fresh.run("ingest", program=_DISK_FULL.replace("20_000", "3_000"))
            assert full.returncode == 2, full.stdout + full.stderr
            assert "the disk cannot be written" in full.stderr
            assert fresh.rows("select count(*) from feed_file where state = 'quarantined'") == [
                (0,)
            ]
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
