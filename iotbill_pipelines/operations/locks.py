"""Locks between processes, held by a database connection: they end when the process does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa


@contextmanager
def advisory_lock(engine: sa.Engine, name: str, *, wait: bool) -> Iterator[bool]:
    """Hold the lock ``name``; yield whether it is held, which only ``wait=False`` can fail."""
    key = {"name": f"iotbill:{name}"}
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if wait:
            connection.execute(sa.text("select pg_advisory_lock(hashtextextended(:name, 0))"), key)
            held = True
        else:
            held = bool(
                connection.execute(
                    sa.text("select pg_try_advisory_lock(hashtextextended(:name, 0))"), key
                ).scalar_one()
            )
        try:
            yield held
        finally:
            if held:
                connection.execute(
                    sa.text("select pg_advisory_unlock(hashtextextended(:name, 0))"), key
                )
