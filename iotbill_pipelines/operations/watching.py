"""What waits to be received: new files in the landing folder, landed files not ingested yet.

Decided from the archive's records (``feed_file``) and the files themselves every time. What a
caller passes in (a position, hashes computed before) only saves work: losing it changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage.landing import find_files
from iotbill_pipelines.storage.models import FeedFile

QUIET = timedelta(seconds=20)
"""A file that was written to later than this ago may still be growing."""

MOST_FILES = 200
MOST_BYTES = 2 * 2**30
"""Most that one look hashes: the next look goes on where it stopped."""

Stamp = tuple[str, int, int, int, int]
"""Path, size, times of change, inode: while they stay, so does the content."""


@dataclass(frozen=True)
class Waiting:
    """New files to land and days with landed files to ingest.

    ``unsettled`` files may still be growing; ``unreadable`` ones could not be opened. ``position``
    is where a next look should start, None to start over.
    """

    files: tuple[Path, ...]
    days: tuple[date, ...]
    unsettled: tuple[Path, ...]
    unreadable: tuple[Path, ...]
    position: str | None


def waiting(
    ws: Workspace,
    now: datetime,
    *,
    position: str | None = None,
    hashes: MutableMapping[Stamp, str] | None = None,
    most_files: int = MOST_FILES,
    most_bytes: int = MOST_BYTES,
) -> Waiting:
    """Return what waits to be received, looking at no more than the given number of files.

    ``now`` is the time of the machine that the files' times of change come from.
    """
    ws.landing.mkdir(exist_ok=True)
    found = list(find_files([ws.landing]))
    names = [str(path) for path in found]
    first = next((i for i, name in enumerate(names) if position and name > position), 0)
    new: list[Path] = []
    unsettled: list[Path] = []
    unreadable: list[Path] = []
    hashed_files = hashed_bytes = 0
    known = _known(ws)
    hashes = {} if hashes is None else hashes
    stopped: str | None = None
    for path in [*found[first:], *found[:first]]:
        try:
            stamp, changed_at = _stamp(path)
            if now.timestamp() - changed_at < QUIET.total_seconds():
                unsettled.append(path)
                continue
            if stamp not in hashes:
                if hashed_files == most_files or hashed_bytes >= most_bytes:
                    break
                hashes[stamp] = _sha256(path)
                hashed_files += 1
                hashed_bytes += stamp[1]
        except OSError:
            unreadable.append(path)
            continue
        stopped = str(path)
        if hashes[stamp] not in known:
            new.append(path)
            if len(new) == most_files:
                break
    else:
        stopped = None
    return Waiting(tuple(new), _days(ws), tuple(unsettled), tuple(unreadable), stopped)


def settled_files(ws: Workspace, now: datetime, names: Iterable[str] = ()) -> list[Path]:
    """Return the files of the landing folder that are no longer growing; of ``names`` if given."""
    wanted = set(names)
    ws.landing.mkdir(exist_ok=True)
    return [
        path
        for path in find_files([ws.landing])
        if (not wanted or str(path.relative_to(ws.landing)) in wanted)
        and now.timestamp() - _stamp(path)[1] >= QUIET.total_seconds()
    ]


def _stamp(path: Path) -> tuple[Stamp, float]:
    status = path.stat()
    stamp = (str(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    # The inode's change time too: a copy that keeps the carrier's modification time has just begun.
    return stamp, max(status.st_mtime, status.st_ctime)


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _known(ws: Workspace) -> set[str]:
    with ws.engine.connect() as connection:
        return set(connection.execute(sa.select(FeedFile.sha256)).scalars())


def _days(ws: Workspace) -> tuple[date, ...]:
    select = (
        sa.select(FeedFile.received_day)
        .where(FeedFile.state == "landed")
        .distinct()
        .order_by(FeedFile.received_day)
    )
    with ws.engine.connect() as connection:
        return tuple(connection.execute(select).scalars())
