"""Troubles of the machine - a full disk, no memory - told from faults of what is read.

A file is not at fault when the disk that its records go to is full: the work ends, nothing half
written is visible, and the same command does it again once there is room.
"""

from __future__ import annotations

import errno

import duckdb

_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}
_LIMITS = {errno.ENOMEM, errno.EMFILE, errno.ENFILE}

_AGAIN = "nothing half written is visible; {do} and run the same command again"


def trouble(error: BaseException) -> str | None:
    """Return what to tell of an error that the machine is the cause of, None for any other."""
    said = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
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
