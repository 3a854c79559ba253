"""What waits to be received: new files in the landing folder, landed files not ingested yet.

Decided from the archive's records (``feed_file``) and the files themselves every time. What is
remembered of files (:mod:`storage.landing_folder`, and :class:`Memory` in a process) and a caller's
position only save work: losing them changes nothing.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.orm import Session

from iotbill_pipelines.config.feeds import load_feeds
from iotbill_pipelines.engine.feeds.spec import FeedSpec
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage import landing_folder, statements
from iotbill_pipelines.storage.landing import readable_path, safe_name
from iotbill_pipelines.storage.landing_folder import Stamp
from iotbill_pipelines.storage.models import FeedFile

QUIET = timedelta(seconds=20)
"""A file that was written to later than this ago may still be growing."""

MOST_FILES = 200
"""Most new files that one look returns: the next look goes on where it stopped."""

MOST_READ_FILES = 5_000
MOST_READ_BYTES = 2 * 2**30
"""Most that one look reads of files that it does not know, to know them by their content."""


_NOT_TEXT = re.compile("[\ud800-\udfff]")


@dataclass
class Memory:
    """What a process keeps between its looks: stamps of known files, digests of the others."""

    stamps: dict[str, Stamp] = field(default_factory=dict)
    digests: dict[tuple[str, Stamp], str] = field(default_factory=dict)


@dataclass(frozen=True)
class Waiting:
    """New files to land and days with landed files to ingest.

    ``unsettled`` files may still be growing; ``unreadable`` ones could not be opened. ``known`` is
    how many files were known without reading them, ``read`` how many were read. ``position`` is
    where a next look should start, None to start over.
    """

    files: tuple[Path, ...]
    days: tuple[date, ...]
    unsettled: tuple[Path, ...]
    unreadable: tuple[Path, ...]
    known: int
    read: int
    position: str | None


def waiting(
    ws: Workspace,
    now: datetime,
    *,
    position: str | None = None,
    memory: Memory | None = None,
    most_files: int = MOST_FILES,
    most_read: int = MOST_READ_FILES,
) -> Waiting:
    """Return what waits to be received: at most so many files, reading at most so many.

    ``now`` is the time of the machine that the files' times of change come from. Known files cost
    a status call each, whatever their number and wherever the process began.
    """
    ws.landing.mkdir(exist_ok=True)
    memory = Memory() if memory is None else memory
    with ws.engine.connect() as connection:
        if landing_folder.count(connection) != len(memory.stamps):
            memory.stamps = landing_folder.known(connection)
    found = dict(landing_folder.stamps(str(ws.landing)))
    others = {path: stamp for path, stamp in found.items() if memory.stamps.get(path) != stamp}
    settled_before = int((now - QUIET).timestamp() * 10**9)
    unsettled = sorted(
        path for path, stamp in others.items() if landing_folder.changed_ns(stamp) > settled_before
    )
    settled = sorted(others.keys() - set(unsettled))
    first = bisect_right(settled, position) if position else 0
    turn = [(path, others[path]) for path in (*settled[first:], *settled[:first])]
    reached, read, unreadable = _read(ws, turn, memory, most_read)
    new, landed, reached = _told_apart(ws, turn[:reached], memory, most_files)
    gone = memory.stamps.keys() - found.keys()
    if landed or gone:
        with ws.engine.begin() as connection:
            landing_folder.forget(connection, gone)
            landing_folder.remember(connection, landed)
        for path in gone:
            del memory.stamps[path]
        memory.stamps |= {path: stamp for path, (stamp, _) in landed.items()}
    memory.digests = {file: memory.digests[file] for file in turn if file in memory.digests}
    return Waiting(
        _paths(ws, new),
        _days(ws),
        _paths(ws, unsettled),
        _paths(ws, unreadable),
        len(found) - len(others),
        read,
        turn[reached - 1][0] if 0 < reached < len(turn) else None,
    )


def _read(
    ws: Workspace, turn: Sequence[tuple[str, Stamp]], memory: Memory, most_read: int
) -> tuple[int, int, list[str]]:
    """Know files by their content, in turn, as many as one look may read.

    Return how many files of the turn are known then, how many were read, which cannot be.
    """
    files = size = 0
    unreadable: list[str] = []
    for place, file in enumerate(turn):
        if file in memory.digests:
            continue
        if files == most_read or size >= MOST_READ_BYTES:
            return place, files, unreadable
        path, stamp = file
        try:
            memory.digests[file] = _sha256(ws.landing / path)
        except OSError:
            unreadable.append(path)
            continue
        files += 1
        size += stamp[0]
    return len(turn), files, unreadable


def _told_apart(
    ws: Workspace, turn: Sequence[tuple[str, Stamp]], memory: Memory, most_files: int
) -> tuple[list[str], dict[str, tuple[Stamp, int]], int]:
    """Tell new files from those in the archive (with their keys), up to so many new ones.

    The third is how many files of the turn were told apart.
    """
    archived = _archived(ws, [memory.digests[file] for file in turn if file in memory.digests])
    is_new_companion = _companions(ws)
    new: list[str] = []
    landed: dict[str, tuple[Stamp, int]] = {}
    for place, file in enumerate(turn, 1):
        if file not in memory.digests:
            continue
        path, stamp = file
        name, file_key = archived.get(memory.digests[file], (None, 0))
        if name is None or (not path.endswith(name) and is_new_companion(path)):
            new.append(path)
            if len(new) == most_files:
                return new, landed, place
        elif not _NOT_TEXT.search(path):  # which the database could not hold
            landed[path] = stamp, file_key
    return new, landed, len(turn)


def _archived(ws: Workspace, digests: Sequence[str]) -> dict[str, tuple[str, int]]:
    """Digests of landed files among these, with name and key under which they landed."""
    select = sa.text(
        "select sha256, original_name, file_key from feed_file where sha256 = any(:digests)"
    )
    if not digests:
        return {}
    with ws.engine.connect() as connection:
        rows = connection.execute(select, {"digests": list(digests)})
        return {row.sha256: (row.original_name, row.file_key) for row in rows}


def _paths(ws: Workspace, names: Iterable[str]) -> tuple[Path, ...]:
    return tuple(ws.landing / name for name in names)


def settled_files(ws: Workspace, now: datetime, names: Iterable[str] = ()) -> list[Path]:
    """Return the files of the landing folder that are no longer growing; of ``names`` if given.

    Names are as :func:`readable_path` tells them.
    """
    wanted = set(names)
    ws.landing.mkdir(exist_ok=True)
    settled_before = int((now - QUIET).timestamp() * 10**9)
    return [
        ws.landing / path
        for path, stamp in sorted(landing_folder.stamps(str(ws.landing)))
        if (not wanted or readable_path(path) in wanted)
        and landing_folder.changed_ns(stamp) <= settled_before
    ]


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


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
