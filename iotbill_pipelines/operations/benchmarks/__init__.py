"""Benchmarks: seeded inputs of any size, measured in a process of their own."""

from __future__ import annotations

import multiprocessing
import resource
import sys
from collections.abc import Callable
from typing import TypeVar

import sqlalchemy as sa

from iotbill_pipelines.operations.workspace import WorkspaceError
from iotbill_pipelines.storage import database

_Result = TypeVar("_Result")


def in_own_process(work: Callable[..., _Result], *arguments: object) -> _Result:
    """Run ``work`` in a fresh process, whose memory nothing else has used; return its result.

    The process ends without its exit handlers: what it opens it must close.
    """
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


def check_empty(database_url: str) -> None:
    """Raise WorkspaceError for a database that holds files, reference data or bookings.

    Benchmarks write what nobody ordered: never into a company's own database.
    """
    engine = database.connect(database_url)
    try:
        there = set(sa.inspect(engine).get_table_names())
        for table in ("feed_file", "reference_account", "booked_charge"):
            if table not in there:
                continue
            with engine.connect() as connection:
                used = connection.scalar(sa.text(f"select exists (select from {table})"))
            if used:
                raise WorkspaceError(
                    "the database is in use, and a benchmark would write into it; name an empty "
                    "one, or none for an embedded server of the benchmark's own"
                )
    finally:
        engine.dispose()


def peak_memory_bytes() -> int:
    """Return the most memory that this process ever held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
