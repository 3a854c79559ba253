"""The archive of landed files: unchanged, compressed, addressed by what they hold.

A file is copied once per SHA-256; its name never becomes a path. It is written beside its place
and renamed when it is whole, so that a killed run leaves at most a part nobody reads.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO

import zstandard
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from iotbill_pipelines.storage.models import FeedFile

BLOCK_BYTES = 4 * 2**20
FILE_KEY_HEX_DIGITS = 15
"""60 bits of the SHA-256: a key that fits a signed 64-bit integer everywhere."""

UNFINISHED = (".part", ".partial", ".filepart", ".tmp", ".temp", ".crdownload", ".swp")
"""Endings under which programs write files that they rename when done."""


class LandingError(RuntimeError):
    """A file that cannot be landed now; the message says why and what to do."""


@dataclass(frozen=True)
class Archived:
    """A file in the archive: digest, key, size in bytes, and its path below the archive."""

    sha256: str
    file_key: int
    size_bytes: int
    archive_path: str


def safe_name(name: str) -> str:
    """Return the base name of a file as delivered, without directories or control characters.

    ``../../etc/x`` and ``C:\\in\\x`` are ``x``; bytes that are no text are ``_``; of a name of more
    than 200 characters the middle is left out. A name is for people and for the feeds' patterns;
    it is never used as a path.
    """
    base = re.split(r"[/\\]", name)[-1]
    base = re.sub(r"[\x00-\x1f\x7f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", "_", base).strip()
    if len(base) > 200:  # feeds know a file by its end, too
        base = f"{base[:149]}…{base[-50:]}"
    return base if base not in ("", ".", "..") else "unnamed"


def readable_path(path: str) -> str:
    """Return a path as text that can be printed and stored; bytes that are no text as ``\\xff``."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def find_files(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield the files to land: those named, and those in folders named, in order of their names.

    Hidden files, files that are still being written by name (``.part``), and links out of a folder
    are left alone. Raises LandingError for a path that does not exist.
    """
    for path in paths:
        if path.is_dir():
            yield from _files_inside(path)
        elif path.is_file():
            yield path
        else:
            raise LandingError(f"{path} is no file or folder; check the path")


def _files_inside(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        if entry.name.startswith(".") or entry.is_symlink():
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _files_inside(Path(entry.path))
        elif entry.is_file(follow_symlinks=False) and not entry.name.lower().endswith(UNFINISHED):
            yield Path(entry.path)


def archive(path: Path, root: Path) -> Archived:
    """Copy a file into the archive below ``root`` unless it is there already.

    Raises LandingError when the file cannot be read, changes while it is, or is not a regular
    file; OSError when the archive cannot be written.
    """
    try:
        source = path.open("rb")
    except OSError as error:
        raise _unreadable(path, error) from error
    with source:
        before = os.fstat(source.fileno())
        if not stat.S_ISREG(before.st_mode):
            raise LandingError(f"{path} is not a regular file; copy it into a folder first")

        def read(size: int) -> bytes:
            try:
                return source.read(size)
            except OSError as error:
                raise _unreadable(path, error) from error

        def unchanged(size: int) -> None:
            after = os.fstat(source.fileno())
            if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or (
                size != after.st_size
            ):
                raise LandingError(f"{path} changed while it was read; land it when it is complete")

        return archive_stream(read, root, unchanged)


def _unreadable(path: Path, error: OSError) -> LandingError:
    return LandingError(f"{path} cannot be read: {error.strerror}")


def archive_stream(
    read: Callable[[int], bytes], root: Path, check: Callable[[int], None] = lambda _size: None
) -> Archived:
    """Copy what a stream holds into the archive below ``root`` unless it is there already.

    ``read`` gives the next bytes, at most so many, none at the end. ``check`` is called with the
    size when everything is read and before anything is kept; what it raises leaves the archive as
    it was.
    """
    root.mkdir(parents=True, exist_ok=True)
    part = root / f".part-{uuid.uuid4().hex}"
    digest = hashlib.sha256()
    size = 0
    try:
        with part.open("xb") as target:
            with zstandard.ZstdCompressor(level=3).stream_writer(target, closefd=False) as out:
                while block := read(BLOCK_BYTES):
                    digest.update(block)
                    size += len(block)
                    out.write(block)
            target.flush()
            os.fsync(target.fileno())
        check(size)
        sha256 = digest.hexdigest()
        relative = f"{sha256[:2]}/{sha256[2:4]}/{sha256}.zst"
        place = root / relative
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            part.rename(place)
        return Archived(sha256, int(sha256[:FILE_KEY_HEX_DIGITS], 16), size, relative)
    finally:
        part.unlink(missing_ok=True)


def open_archived(root: Path, archive_path: str) -> IO[bytes]:
    """Open the original bytes of an archived file."""
    handle = (root / archive_path).open("rb")
    reader: IO[bytes] = zstandard.ZstdDecompressor().stream_reader(handle, closefd=True)
    return reader


def record(
    session: Session, archived: Archived, name: str, feed_id: str | None, landed_at: datetime
) -> tuple[FeedFile, bool]:
    """Write the ``feed_file`` row of an archived file; return it and whether anything is new.

    The same bytes under another name change nothing, except that a file nobody recognised takes
    the name and feed under which it is recognised now.
    """
    statement = (
        insert(FeedFile)
        .values(
            file_key=archived.file_key,
            sha256=archived.sha256,
            feed_id=feed_id,
            original_name=name,
            size_bytes=archived.size_bytes,
            landed_at=landed_at,
            received_day=landed_at.date(),
            state="landed" if feed_id else "unrecognised",
            archive_path=archived.archive_path,
            attempts=0,
        )
        .on_conflict_do_nothing()
        .returning(FeedFile.file_key)
    )
    new = session.execute(statement).first() is not None
    row = session.execute(
        select(FeedFile).where(FeedFile.file_key == archived.file_key)
    ).scalar_one()
    if row.sha256 != archived.sha256:
        raise LandingError(
            f"{name}: another file has the same key {archived.file_key} but other content; "
            "append an empty line to it and land it again"
        )
    if not new and row.state == "unrecognised" and feed_id:
        row.feed_id, row.original_name, row.state, new = feed_id, name, "landed", True
    return row, new
