"""Troubles of the machine - a full disk, no memory, no database - told from faults of what is read.

A file is not at fault when the disk that its records go to is full: the work ends, nothing half
written is visible, and the same command does it again once there is room.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb
import psycopg2  # type: ignore[import-untyped]
import sqlalchemy as sa

_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}
_LIMITS = {errno.ENOMEM, errno.EMFILE, errno.ENFILE}

_DATABASE_DISK = "53100"
_DATABASE_LIMITS = "53"
"""SQLSTATE of a full disk, and of the class that it is of: what the server has too little of."""
_DATABASE_GONE = ("08", "57P01", "57P02", "57P03")
"""No connection, or a server that shuts down or starts."""

_AGAIN = "nothing half written is visible; {do} and run the same command again"


class MachineError(Exception):
    """What :func:`trouble` tells of an error that the machine is the cause of."""


@contextmanager
def as_machine_error() -> Iterator[None]:
    """Raise MachineError in the place of an error that the machine is the cause of."""
    try:
        yield
    except Exception as error:
        if said := trouble(error):
            raise MachineError(said) from error
        raise


def trouble(error: BaseException) -> str | None:
    """Return what to tell of an error that the machine is the cause of, None for any other."""
    if isinstance(error, sa.exc.OperationalError | psycopg2.OperationalError):
        return _database_trouble(error)
    said = _first_line(error)
    if isinstance(error, MemoryError | duckdb.OutOfMemoryException):
        do = "set IOTBILL_MEMORY_LIMIT higher, or make room for what is spilled,"
        return f"memory is used up ({said}); {_AGAIN.format(do=do)}"
    number = error.errno if isinstance(error, OSError) else None
    # Errors from below Python carry the system's number in their text only.
    text = str(error) if isinstance(error, OSError | duckdb.IOException) else ""
    if number in _LIMITS:
        return f"the machine is at a limit ({said}); {_AGAIN.format(do='raise it')}"
    if (
        number in _DISK
        or isinstance(error, duckdb.IOException)
        or any(f"(os error {code})" in text for code in _DISK)
    ):
        return f"the disk cannot be written ({said}); {_AGAIN.format(do='make room')}"
    return None


def _database_trouble(error: sa.exc.OperationalError | psycopg2.OperationalError) -> str:
    """What to tell of an error that the database's server, or the way to it, is the cause of."""
    cause = (error.orig or error) if isinstance(error, sa.exc.OperationalError) else error
    said, code = _first_line(cause), getattr(cause, "pgcode", None) or ""
    if code == _DATABASE_DISK:
        return f"the database's disk is full ({said}); {_AGAIN.format(do='make room')}"
    if code.startswith(_DATABASE_LIMITS):
        return f"the database's server is at a limit ({said}); {_AGAIN.format(do='raise it')}"
    if code and not code.startswith(_DATABASE_GONE):
        return f"the database stopped it ({said}); run the same command again"
    return f"the database does not answer ({said}); check IOTBILL_DATABASE_URL and the server"


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:300] if text else type(error).__name__
