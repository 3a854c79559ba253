"""What is remembered of files at sources: which versions were seen, landed, or failed.

Deciding on a listing is one statement, however many files are known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from iotbill_pipelines.config.sources import Source
from iotbill_pipelines.storage.bulk import copy_in
from iotbill_pipelines.storage.models import RemoteFile, RemoteSource
from iotbill_pipelines.storage.sources import RemoteObject

LONGEST_PAUSE = timedelta(days=1)


@dataclass(frozen=True)
class Decision:
    """What to do about a listing.

    ``ready`` are to be landed now, oldest first, within the source's limits; ``more`` is how many
    besides. ``unsettled`` may still be growing, ``postponed`` failed and are tried later.
    ``to_clear`` were landed and wait to be deleted or moved away.
    """

    ready: tuple[RemoteObject, ...]
    more: int
    unsettled: int
    postponed: int
    to_clear: tuple[RemoteObject, ...]


_UNKNOWN = """
select l.path, l.version, l.size_bytes, r.state, r.first_seen_at, r.retry_at
from listed as l
left join remote_file as r
  on r.source_id = :source and r.path = l.path and r.version = l.version
where r.state is distinct from 'landed' or (:clears and r.cleared_at is null)
order by r.first_seen_at nulls last, l.path, l.version
"""

_FORGET = """
delete from remote_file as r
where r.source_id = :source and r.state <> 'landed'
  and not exists (select from listed as l where l.path = r.path and l.version = r.version)
"""

_REMEMBER = """
insert into remote_file (source_id, path, version, size_bytes, first_seen_at)
select :source, path, version, size_bytes, :now from listed
on conflict do nothing
"""


def decide(
    connection: sa.Connection, source: Source, files: Sequence[RemoteObject], now: datetime
) -> Decision:
    """Compare a listing with what is known, remember what is new, and say what to do.

    A version is ready when it was seen unchanged for as long as the source's settle time.
    """
    _load(connection, files)
    values = {"source": source.id, "now": now, "clears": source.after_landing != "keep"}
    connection.execute(sa.text(_FORGET), values)
    open_rows = connection.execute(sa.text(_UNKNOWN), values).all()
    if any(row.state is None for row in open_rows):
        connection.execute(sa.text(_REMEMBER), values)
    settled_before = now - timedelta(seconds=source.settles_after_seconds)
    ready, to_clear = [], []
    unsettled = postponed = 0
    for row in open_rows:
        file = RemoteObject(row.path, row.size_bytes, row.version)
        if row.state == "landed":
            to_clear.append(file)
        elif row.retry_at is not None and row.retry_at > now:
            postponed += 1
        elif (row.first_seen_at or now) > settled_before:
            unsettled += 1
        else:
            ready.append(file)
    taken = _within(source, ready)
    return Decision(
        tuple(taken),
        len(ready) - len(taken),
        unsettled,
        postponed,
        tuple(to_clear[: source.limits.files]),
    )


def _within(source: Source, ready: Sequence[RemoteObject]) -> list[RemoteObject]:
    taken: list[RemoteObject] = []
    total = 0
    for file in ready[: source.limits.files]:
        total += file.size_bytes
        if taken and total > source.limits.bytes:
            break
        taken.append(file)
    return taken


def _load(connection: sa.Connection, files: Sequence[RemoteObject]) -> None:
    connection.execute(
        sa.text(
            "create temporary table listed (path text not null, version text not null, "
            "size_bytes bigint not null) on commit drop"
        )
    )
    copy_in(
        connection,
        "listed",
        pa.table(
            {
                "path": pa.array([file.path for file in files], pa.string()),
                "version": pa.array([file.version for file in files], pa.string()),
                "size_bytes": pa.array([file.size_bytes for file in files], pa.int64()),
            }
        ),
    )
    connection.execute(sa.text("analyze listed"))


def landed(
    connection: sa.Connection, source_id: str, file: RemoteObject, file_key: int, now: datetime
) -> None:
    """Say that a version is in the archive, within the transaction that registers its file."""
    connection.execute(
        _of(source_id, file).values(
            state="landed", file_key=file_key, landed_at=now, problem=None, retry_at=None,
            attempts=RemoteFile.attempts + 1,
        )
    )  # fmt: skip


def failed(
    connection: sa.Connection, source_id: str, file: RemoteObject, problem: str, now: datetime
) -> None:
    """Say why a version could not be landed; the pause before the next try doubles, to a day."""
    attempts = connection.execute(
        _of(source_id, file)
        .values(state="failed", problem=problem, attempts=RemoteFile.attempts + 1)
        .returning(RemoteFile.attempts)
    ).scalar()
    pause = min(timedelta(minutes=2 ** min(attempts or 1, 11)), LONGEST_PAUSE)
    connection.execute(_of(source_id, file).values(retry_at=now + pause))


def seen_again(connection: sa.Connection, source_id: str, file: RemoteObject) -> None:
    """Forget a version that is no longer there: the next look sees the file anew."""
    connection.execute(
        sa.delete(RemoteFile).where(*_key(source_id, file), RemoteFile.state != "landed")
    )


def cleared(connection: sa.Connection, source_id: str, file: RemoteObject, now: datetime) -> None:
    """Say that a landed version was deleted or moved away at its source."""
    connection.execute(_of(source_id, file).values(cleared_at=now))


def _key(source_id: str, file: RemoteObject) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        RemoteFile.source_id == source_id,
        RemoteFile.path == file.path,
        RemoteFile.version == file.version,
    )


def _of(source_id: str, file: RemoteObject) -> sa.Update:
    return sa.update(RemoteFile).where(*_key(source_id, file))


def polled(
    connection: sa.Connection,
    source_id: str,
    now: datetime,
    *,
    error: str | None = None,
    listed: int = 0,
    refused: Sequence[str] = (),
) -> None:
    """Keep how a look at a source went; one that failed keeps what the last good one saw."""
    values: dict[str, object] = {"polled_at": now, "error": error}
    if error is None:
        values |= {"succeeded_at": now, "listed": listed, "refused": list(refused)}
    connection.execute(
        insert(RemoteSource)
        .values(source_id=source_id, **values)
        .on_conflict_do_update(index_elements=[RemoteSource.source_id], set_=values)
    )
