"""The parts of landed files: a file itself, or the members of the archive that it is; unpacked.

What is wrong with an archive, a member or a compressed stream is a finding of the landed file.
"""

from __future__ import annotations

import io
import posixpath
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from gzip import BadGzipFile, GzipFile
from typing import IO, Any, BinaryIO, cast

from iotbill_pipelines.compute.companions import Statement
from iotbill_pipelines.compute.decoders.containers import ArchiveLimits, members_of
from iotbill_pipelines.compute.decoders.records import DecodeError, Problem
from iotbill_pipelines.engine.feeds.spec import FeedSpec, Limits, XlsxFormat

BLOCK_BYTES = 8 * 2**20
_GZIP = b"\x1f\x8b"
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_NESTED = 2
"""A zip archive may hold gzipped files, or archives of files; nothing deeper."""


@dataclass(frozen=True)
class SourceFile:
    """A landed file: its key, name as delivered, when it came (UTC), and how to open its bytes.

    ``statement`` is what its companion file states of it.
    """

    file_key: int
    name: str
    received_at: datetime
    size_bytes: int
    open: Callable[[], IO[bytes]]
    statement: Statement | None = None


@dataclass(frozen=True)
class FileFault:
    """Why a file as a whole cannot be used: stable code, and a message that says what to do."""

    file_key: int
    code: str
    message: str
    value: str | None = None


class UnreadableError(Exception):
    """A file that cannot be read, with the parts of its :class:`FileFault`."""

    def __init__(self, code: str, message: str, value: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.value = code, message, value


_CODES = {
    "empty": "empty_file",
    "corrupt": "damaged_archive",
    "bomb": "too_large",
    "unreadable": "unreadable_workbook",
    "no_such_sheet": "missing_sheet",
    "no_header": "missing_header",
}
"""Findings of decoders that the readers of lines call otherwise."""


def unreadable(problem: Problem, spec: FeedSpec | None = None) -> UnreadableError:
    """Turn a decoder's finding about a file into the reader's."""
    code = _CODES.get(problem.code, problem.code)
    if spec is not None and problem.code == "corrupt" and isinstance(spec.format, XlsxFormat):
        code = "unreadable_workbook"
    place = "" if problem.offset is None else f" (byte {problem.offset})"
    if problem.line_no is not None:
        place = f" (line {problem.line_no})"
    return UnreadableError(code, f"{problem.message}{place}; ask the sender for it again")


def empty() -> UnreadableError:
    return UnreadableError(
        "empty_file", "holds nothing; ask the sender, or set allow_empty for days without usage"
    )


@dataclass(frozen=True)
class Part:
    """A file to read: a landed file, or a member of one. ``number`` tells parts of a run apart."""

    number: int
    file: SourceFile
    member: str | None
    open: Callable[[], IO[bytes]]
    size_bytes: int

    def blocks(self, limits: Limits) -> Iterator[bytes]:
        """Yield the plain bytes, unpacked if gzipped. Raises UnreadableError beyond limits."""
        with self.open() as packed:
            try:
                yield from _unpacked(packed, self.size_bytes, limits)
            except DecodeError as error:
                raise unreadable(error.problem) from None

    def stream(self, limits: Limits) -> BinaryIO:
        """Open the plain bytes as a stream that cannot seek."""
        return cast(BinaryIO, io.BufferedReader(_BlockStream(self.blocks(limits))))

    def text_name(self) -> str:
        """Return the name by which people and file patterns know what is read."""
        return posixpath.basename(self.member) if self.member else self.file.name


@contextmanager
def open_parts(file: SourceFile, spec: FeedSpec, first_number: int) -> Iterator[list[Part]]:
    """Open a file: itself as its only part, or the members of its zip archive to be read.

    Raises UnreadableError for an archive that is unsafe, damaged, empty, or has a member that
    the feed neither reads nor ignores.
    """
    with file.open() as stream:
        magic = stream.read(4)
    whole = Part(first_number, file, None, file.open, file.size_bytes)
    if magic not in _ZIP:
        yield [whole]
        return
    limits = ArchiveLimits(
        spec.limits.max_members, spec.limits.max_bytes, spec.limits.max_ratio, _NESTED
    )
    opener = cast(Callable[[], BinaryIO], file.open)
    with members_of(opener, file.name, file.size_bytes, limits) as found:
        for problem in found.problems:
            raise unreadable(problem, spec)
        if [member.name for member in found] == [file.name]:
            yield [whole]  # a workbook is a zip archive too
            return
        chosen = [member for member in found if _chosen(member.name, spec)]
        if not chosen and not spec.allow_empty:
            raise empty()
        yield [
            Part(number, file, member.name, member.open, file.size_bytes)
            for number, member in enumerate(chosen, first_number)
        ]


def _chosen(name: str, spec: FeedSpec) -> bool:
    archive, base = spec.archive, posixpath.basename(name.replace("!", "/"))

    def fits(patterns: tuple[str, ...]) -> bool:
        return any(fnmatchcase(name, p) or fnmatchcase(base, p) for p in patterns)

    if fits(archive.ignore):
        return False
    if fits(archive.members) or spec.is_companion(base):
        return True
    raise UnreadableError(
        "unknown_member",
        f"holds {name!r}, which the feed neither reads nor ignores; add it to archive.members or "
        "archive.ignore",
        name,
    )


def _unpacked(packed: IO[bytes], size_bytes: int, limits: Limits) -> Iterator[bytes]:
    start = packed.read(2)
    rest = _Chain(start, packed)
    stream: GzipFile | _Chain = GzipFile(fileobj=rest) if start == _GZIP else rest
    size, allowed = 0, limits.max_bytes
    if start == _GZIP:
        allowed = min(allowed, max(size_bytes, 10_000) * limits.max_ratio)
    while True:
        try:
            block = stream.read(BLOCK_BYTES)
        except (EOFError, BadGzipFile, zlib.error) as error:
            raise UnreadableError(
                "damaged_archive",
                f"cannot be unpacked ({error}); it was cut off or damaged on the way, "
                "ask the sender for it again",
            ) from None
        if not block:
            return
        size += len(block)
        if size > allowed:
            raise UnreadableError(
                "too_large",
                f"unpacks to more than {allowed} bytes; if that is right, raise limits in the feed",
            )
        yield block


class _Chain(io.RawIOBase):
    """The bytes already read, then the rest of a stream."""

    def __init__(self, start: bytes, rest: IO[bytes]) -> None:
        self.start, self.rest = start, rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def read(self, size: int = -1) -> bytes:
        if self.start:
            data, self.start = self.start, b""
            return data + self.rest.read(-1 if size < 0 else max(0, size - len(data)))
        return self.rest.read(size)


class _BlockStream(io.RawIOBase):
    """Blocks of bytes as a stream."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        super().__init__()
        self._blocks = blocks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest:
            self._rest = memoryview(next(self._blocks, b""))
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size
