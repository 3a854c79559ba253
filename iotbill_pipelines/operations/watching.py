"""What waits to be received: new files in the landing folder, landed files not ingested yet.

Decided from the archive's records (``feed_file``) and the files themselves every time. What a
caller passes in (a position, hashes computed before) only saves work: losing it changes nothing.
"""

from __future__ import annotations

import hashlib
import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, MutableMapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.orm import Session

from iotbill_pipelines.config.feeds import load_feeds
from iotbill_pipelines.engine.feeds.spec import FeedSpec
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage import statements
from iotbill_pipelines.storage.landing import files_inside, find_files, safe_name
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
    found = sorted(files_inside(str(ws.landing)))
    first = bisect_right(found, position) if position else 0
    new: list[str] = []
    unsettled: list[str] = []
    unreadable: list[str] = []
    hashed_files = hashed_bytes = 0
    known = _known(ws)
    is_new_companion = _companions(ws)
    hashes = {} if hashes is None else hashes
    stopped: str | None = None
    settled_before = now.timestamp() - QUIET.total_seconds()
    for path in [*found[first:], *found[:first]]:
        try:
            stamp, changed_at = _stamp(path)
            if changed_at > settled_before:
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
        stopped = path
        name = known.get(hashes[stamp])
        if name is None or (not path.endswith(name) and is_new_companion(path)):
            new.append(path)
            if len(new) == most_files:
                break
    else:
        stopped = None
    return Waiting(_paths(new), _days(ws), _paths(unsettled), _paths(unreadable), stopped)


def _paths(texts: Iterable[str]) -> tuple[Path, ...]:
    return tuple(map(Path, texts))


def settled_files(ws: Workspace, now: datetime, names: Iterable[str] = ()) -> list[Path]:
    """Return the files of the landing folder that are no longer growing; of ``names`` if given."""
    wanted = set(names)
    ws.landing.mkdir(exist_ok=True)
    return [
        path
        for path in find_files([ws.landing])
        if (not wanted or str(path.relative_to(ws.landing)) in wanted)
        and now.timestamp() - _stamp(str(path))[1] >= QUIET.total_seconds()
    ]


def _stamp(path: str) -> tuple[Stamp, float]:
    status = os.stat(path)  # noqa: PTH116 - a Path for each of 100,000 takes its time
    stamp = (path, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    # The inode's change time too: a copy that keeps the carrier's modification time has just begun.
    return stamp, max(status.st_mtime, status.st_ctime)


def _sha256(path: str) -> str:
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _known(ws: Workspace) -> dict[str, str]:
    """Digests of landed files, with the names under which they landed."""
    with ws.engine.connect() as connection:
        rows = connection.execute(sa.select(FeedFile.sha256, FeedFile.original_name))
        return {row.sha256: row.original_name for row in rows}


def _companions(ws: Workspace) -> Callable[[str], bool]:
    """Tell companion files that are not known by name: theirs may be the bytes of another."""
    known: list[tuple[list[FeedSpec], set[str]]] = []  # read for the first that is asked about

    def is_new(path: str) -> bool:
        if not known:
            feeds = load_feeds(ws.configs / "feeds")
            telling = [spec for spec in feeds.values() if spec.companion]
            with Session(ws.engine) as session:
                known.append((telling, statements.names(session) if telling else set()))
        [(telling, landed)] = known
        name = safe_name(Path(path).name)
        return name not in landed and any(spec.is_companion(name) for spec in telling)

    return is_new


def _days(ws: Workspace) -> tuple[date, ...]:
    select = (
        sa.select(FeedFile.received_day)
        .where(FeedFile.state == "landed", FeedFile.error.is_(None))
        .distinct()
        .order_by(FeedFile.received_day)
    )
    with ws.engine.connect() as connection:
        return tuple(connection.execute(select).scalars())
