"""How long the sensors' looks take where very many files are known already.

Small files lie in the landing folder, all of them in the archive's records; so nothing waits, and a
look should cost next to nothing. The same folder is then looked at as a configured source.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import sqlalchemy as sa

from iotbill_pipelines.config.sources import Source
from iotbill_pipelines.operations.benchmarks import (
    check_empty,
    in_own_process,
    peak_memory_bytes,
)
from iotbill_pipelines.operations.fetching import look
from iotbill_pipelines.operations.watching import Memory, waiting
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage import database, landing_folder
from iotbill_pipelines.storage.bulk import copy_in
from iotbill_pipelines.storage.landing import FILE_KEY_HEX_DIGITS

FILES_A_FOLDER = 1_000
TRIES = 5

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Took:
    """Seconds by the clock, and of this process's own work: the rest is the database's, or
    waiting for a busy machine. The best of a few tries.
    """

    seconds: float
    cpu_seconds: float


@dataclass(frozen=True)
class Ticks:
    """What looks at so many known files take.

    ``landing_first`` is the first look of a process, ``landing`` every other, ``landing_new`` one
    that finds a new file; ``source`` is a look at the same files at a configured source.
    """

    files: int
    landing_first: Took
    landing: Took
    landing_new: Took
    source: Took
    peak_memory_bytes: int


def measure(
    configs: Path, folder: Path, files: int = 100_000, database_url: str | None = None
) -> Ticks:
    """Write ``files`` known files below ``folder`` and look at them, in a process of its own.

    ``database_url`` names an empty database instead of the embedded server; WorkspaceError is
    raised for one that is in use.
    """
    home = folder / "home"
    if database_url is None:
        database.stop(home)
    else:
        check_empty(database_url)
    shutil.rmtree(home, ignore_errors=True)
    return in_own_process(_run, configs, home, files, database_url)


def _run(configs: Path, home: Path, files: int, database_url: str | None) -> Ticks:
    ws = Workspace.open(home, configs, database_url, migrate=True)
    try:
        write_known_files(ws, files)
        # files that were written just now are left alone
        now = datetime.now(UTC) + timedelta(minutes=5)
        memory = Memory()
        first, found = _best(lambda: waiting(ws, now), 1)
        _told(found.known == files and not found.read, "known files were read again")
        waiting(ws, now, memory=memory)
        again, found = _best(lambda: waiting(ws, now, memory=memory))
        _told(found.known == files and not found.files, "known files were taken for new ones")
        (ws.landing / "new.csv").write_text("new")
        new, found = _best(lambda: waiting(ws, now, memory=memory))
        _told([path.name for path in found.files] == ["new.csv"], "the new file was not found")
        (ws.landing / "new.csv").unlink()
        source = Source.model_validate(
            {"id": "bench", "url": ws.landing.as_uri(), "folders_deep": 2,
             "limits": {"listed": files + 2 * files // FILES_A_FOLDER + 10}}
        )  # fmt: skip
        look(ws, source, _no_secret)
        with ws.engine.begin() as connection:
            connection.execute(
                sa.text(
                    "update remote_file set state = 'landed', landed_at = now(),"
                    " file_key = (select min(file_key) from feed_file)"
                )
            )
        remote, seen = _best(lambda: look(ws, source, _no_secret))
        _told(seen.listed == files and not seen.decision.unsettled, "the source's files changed")
        return Ticks(files, first, again, new, remote, peak_memory_bytes())
    finally:
        ws.close()
        database.release(home)


def write_known_files(ws: Workspace, files: int) -> None:
    """Put files into the landing folder, and into the records as if each had been ingested."""
    now = ws.clock()
    keys: dict[str, int] = {}
    digests = []
    for number in range(files):
        if number % FILES_A_FOLDER == 0:
            (ws.landing / f"{number // FILES_A_FOLDER:04}").mkdir(parents=True, exist_ok=True)
        content = f"known file {number}\n".encode()
        name = f"{number // FILES_A_FOLDER:04}/carrier_usage_{number:07}.csv"
        (ws.landing / name).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        keys[name] = int(digest[:FILE_KEY_HEX_DIGITS], 16)
        digests.append(digest)
    zeros = pa.array([0] * files, pa.int64())
    rows = pa.table(
        {
            "file_key": pa.array(list(keys.values()), pa.int64()),
            "sha256": digests,
            "original_name": [name.rpartition("/")[2] for name in keys],
            "size_bytes": zeros,
            "landed_at": pa.array([now] * files, pa.timestamp("us", "UTC")),
            "received_day": pa.array([now.date()] * files, pa.date32()),
            "state": ["ingested"] * files,
            "archive_path": digests,
            **dict.fromkeys(("records_in", "kept", "ignored", "rejected"), zeros),
        }
    )
    with ws.engine.begin() as connection:
        copy_in(connection, "feed_file", rows)
        stamps = dict(landing_folder.stamps(str(ws.landing)))
        known = {name: (stamps[name], key) for name, key in keys.items()}
        landing_folder.remember(connection, known)
    with ws.engine.connect() as connection:
        connection.execute(sa.text("analyze feed_file"))


def _best(work: Callable[[], _Result], tries: int = TRIES) -> tuple[Took, _Result]:
    seconds, cpu_seconds = [], []
    for _ in range(tries):
        started, began = time.perf_counter(), time.process_time()
        result = work()
        seconds.append(time.perf_counter() - started)
        cpu_seconds.append(time.process_time() - began)
    return Took(min(seconds), min(cpu_seconds)), result


def _no_secret(_name: str) -> str | None:
    return None


def _told(holds: bool, otherwise: str) -> None:
    if not holds:
        raise RuntimeError(f"{otherwise}; what was measured is not what should be")
