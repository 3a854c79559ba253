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
    """Keep what a companion states, and let the data files that it means be looked at (again)."""
    session.execute(
        sa.update(FileStatement)
        .where(
            FileStatement.feed_id == feed_id,
            FileStatement.companion == companion,
            FileStatement.data_file == "",
        )
        .values(read_at=now)
    )
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
