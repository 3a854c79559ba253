"""Locks between processes, held by a database connection: they end when the process does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

_TRY = sa.text("select pg_try_advisory_lock(hashtextextended(:name, 0))")
_WAIT = sa.text("select pg_advisory_lock(hashtextextended(:name, 0))")
_UNLOCK = sa.text("select pg_advisory_unlock_all()")


@contextmanager
def advisory_lock(engine: sa.Engine, *names: str, wait: bool) -> Iterator[bool]:
    """Hold the locks ``names``; yield whether all are held, which only ``wait=False`` can fail.

    One connection holds them all, however many: a pool has few. It takes them in the order of their
    names, so that two who want some of the same cannot each wait for the other.
    """
    keys = [{"name": f"iotbill:{name}"} for name in sorted(set(names))]
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        try:
            if wait:
                for key in keys:
                    connection.execute(_WAIT, key)
                held = True
            else:
                held = all(connection.execute(_TRY, key).scalar_one() for key in keys)
            yield held
        finally:
            connection.execute(_UNLOCK)
