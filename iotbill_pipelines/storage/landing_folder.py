"""The landing folder: which of its files are known by what they hold, and need no second look.

A file is known by its stamp: while size, times of change and inode stay, so does the content.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping

import pyarrow as pa
import sqlalchemy as sa

from iotbill_pipelines.storage.bulk import copy_in, driver_cursor
from iotbill_pipelines.storage.landing import UNFINISHED
from iotbill_pipelines.storage.models import LandingFile

MOST_INODE = 2**63 - 1

_KIND = stat.S_IFMT(0xFFFF)


Stamp = tuple[int, int, int, int]
"""Size in bytes, times of the last change of content and of anything in nanoseconds, inode.

A plain tuple: there are very many of them, and the collector of garbage forgets plain ones.
"""


def changed_ns(stamp: Stamp) -> int:
    """The last change; a copy that keeps the carrier's modification time has just begun."""
    return max(stamp[1], stamp[2])


def stamps(folder: str) -> Iterator[tuple[str, Stamp]]:
    """Yield path in the folder and stamp of its files, in no order.

    They are those of :func:`landing.find_files`. One status call a file is nearly all that 100,000
    of them cost.
    """
    pending = [(folder, "")]
    while pending:
        inside, below = pending.pop()
        with os.scandir(inside) as found:
            for entry in found:
                name = entry.name
                if name.startswith("."):
                    continue
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue  # cleared away meanwhile, or renamed by its writer
                kind = status.st_mode & _KIND
                if kind == stat.S_IFREG and not name.lower().endswith(UNFINISHED):
                    times = status.st_mtime_ns, status.st_ctime_ns
                    yield below + name, (status.st_size, *times, status.st_ino & MOST_INODE)
                elif kind == stat.S_IFDIR:
                    pending.append((entry.path, f"{below}{name}/"))


def known(connection: sa.Connection) -> dict[str, Stamp]:
    """Return the stamps of all known files, by path."""
    with driver_cursor(connection) as found:
        found.execute("select path, size_bytes, modified_ns, changed_ns, inode from landing_file")
        return {path: tuple(stamp) for path, *stamp in found}


def count(connection: sa.Connection) -> int:
    """Return how many files are known."""
    return connection.execute(sa.select(sa.func.count()).select_from(LandingFile)).scalar_one()


def remember(connection: sa.Connection, files: Mapping[str, tuple[Stamp, int]]) -> None:
    """Keep stamp and ``file_key`` of files whose content is in the archive, by path."""
    if not files:
        return
    forget(connection, files)
    size, modified, changed, inode = zip(*(stamp for stamp, _ in files.values()), strict=True)
    rows = pa.table(
        {
            "path": pa.array(list(files), pa.string()),
            "size_bytes": pa.array(size, pa.int64()),
            "modified_ns": pa.array(modified, pa.int64()),
            "changed_ns": pa.array(changed, pa.int64()),
            "inode": pa.array(inode, pa.int64()),
            "file_key": pa.array([key for _, key in files.values()], pa.int64()),
        }
    )
    copy_in(connection, LandingFile.__tablename__, rows)


def forget(connection: sa.Connection, paths: Iterable[str]) -> None:
    """Forget files that are no longer there."""
    connection.execute(
        sa.text("delete from landing_file where path = any(:paths)"), {"paths": list(paths)}
    )
