"""Companion files as they landed, and what they state of data files, newest landing first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from iotbill_pipelines.compute.companions import Statement
from iotbill_pipelines.storage.models import FeedFile, FileStatement

WAITING = "waits for its companion file"
"""What a landed data file says, as its error, while nothing states what it holds."""


def landed(session: Session, feed_id: str, name: str, file_key: int, now: datetime) -> bool:
    """Remember a companion file by its name; return whether that is new.

    Another content under a known name takes its place: what the older one stated is forgotten.
    """
    key = (FileStatement.feed_id == feed_id, FileStatement.companion == name)
    held = session.scalar(sa.select(FileStatement.file_key).where(*key).limit(1))
    if held == file_key:
        return False
    session.execute(sa.delete(FileStatement).where(*key))
    session.execute(
        insert(FileStatement).values(
            feed_id=feed_id, companion=name, data_file="", file_key=file_key, landed_at=now
        )
    )
    return True


def replaced(session: Session, feed_id: str, name: str, file_key: int) -> bool:
    """Return whether another content took the place of a companion file under its name."""
    select = sa.select(FileStatement.file_key).where(
        FileStatement.feed_id == feed_id,
        FileStatement.companion == name,
        FileStatement.file_key != file_key,
    )
    return session.scalar(select.limit(1)) is not None


def file_keys(session: Session, name: str) -> list[int]:
    """Return the keys of the companion files that landed under a name."""
    select = sa.select(FileStatement.file_key).where(
        FileStatement.companion == name, FileStatement.data_file == ""
    )
    return list(session.scalars(select))


def stated_by(session: Session, feed_id: str, names: Sequence[str]) -> list[int]:
    """Return the keys of the companion files that speak of a data file, which has these names."""
    select = sa.select(FileStatement.file_key).where(
        FileStatement.feed_id == feed_id, FileStatement.data_file.in_(names)
    )
    return sorted(set(session.scalars(select)))


def read_again(session: Session, feed_id: str, file_key: int) -> None:
    """Let a companion file be read once more; until then its statements hold."""
    session.execute(
        sa.update(FileStatement)
        .where(
            FileStatement.feed_id == feed_id,
            FileStatement.file_key == file_key,
            FileStatement.data_file == "",
        )
        .values(read_at=None)
    )


def forget(session: Session, file_key: int) -> None:
    """Take back that a file is a companion, and what it stated."""
    session.execute(sa.delete(FileStatement).where(FileStatement.file_key == file_key))


def names(session: Session) -> set[str]:
    """Return the names of all companion files that landed."""
    select = sa.select(FileStatement.companion).where(FileStatement.data_file == "")
    return set(session.scalars(select))


def unread(session: Session, feed_id: str) -> list[tuple[str, FeedFile]]:
    """Return names and files of a feed's companions that were not read yet, in order of landing."""
    select = (
        sa.select(FileStatement.companion, FeedFile)
        .join(FeedFile, FeedFile.file_key == FileStatement.file_key)
        .where(
            FileStatement.feed_id == feed_id,
            FileStatement.data_file == "",
            FileStatement.read_at.is_(None),
        )
        .order_by(FileStatement.landed_at, FileStatement.companion)
    )
    return [(name, file) for name, file in session.execute(select)]


def read(
    session: Session,
    feed_id: str,
    companion: str,
    file: FeedFile,
    found: Sequence[Statement],
    now: datetime,
) -> None:
    """Keep what a companion states, in the place of what it stated when it was read before.

    The data files of which it says something new are looked at (again).
    """
    mine = (FileStatement.feed_id == feed_id, FileStatement.companion == companion)
    session.execute(
        sa.update(FileStatement).where(*mine, FileStatement.data_file == "").values(read_at=now)
    )
    stated = (*mine, FileStatement.data_file != "")
    before = {
        row.data_file: row.stated
        for row in session.execute(
            sa.select(FileStatement.data_file, FileStatement.stated).where(*stated)
        )
    }
    session.execute(sa.delete(FileStatement).where(*stated))
    for statement in found:
        session.execute(
            insert(FileStatement).values(
                feed_id=feed_id,
                companion=companion,
                data_file=statement.about,
                file_key=file.file_key,
                landed_at=file.landed_at,
                read_at=now,
                stated=dict(statement.stated),
            )
        )
        if before.get(statement.about) == dict(statement.stated):
            continue
        own = sa.select(FileStatement.file_key).where(FileStatement.feed_id == feed_id)
        session.execute(
            sa.update(FeedFile)
            .where(
                FeedFile.feed_id == feed_id,
                FeedFile.file_key.not_in(own),
                sa.or_(
                    FeedFile.original_name == statement.about,
                    FeedFile.original_name.startswith(statement.about + ".", autoescape=True),
                ),
            )
            .values(state="landed", error=None)
        )


def of_files(
    session: Session, feed_id: str, wanted: Iterable[Sequence[str]]
) -> list[Statement | None]:
    """Return per data file the statement about it; it is meant by any of its names, the first
    that is stated, and by the companion that landed last."""
    listed = [list(names) for names in wanted]
    every = sorted({name for names in listed for name in names})
    select = (
        sa.select(FileStatement.data_file, FileStatement.companion, FileStatement.stated)
        .where(FileStatement.feed_id == feed_id, FileStatement.data_file.in_(every))
        .where(FileStatement.data_file != "")
        .order_by(FileStatement.landed_at, FileStatement.companion)
    )
    known = {
        row.data_file: Statement(row.companion, row.data_file, row.stated or {})
        for row in session.execute(select)
    }
    return [next((known[name] for name in names if name in known), None) for names in listed]
