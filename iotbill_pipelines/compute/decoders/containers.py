"""Files inside zip and gzip containers, opened safely.

Whatever would let a container harm the machine or hide a record is a finding, never an exception
in the middle of a run: bombs (unpacked size, ratio, number of members, overlapping members), names
that point elsewhere, links, encrypted members, two members of one name, containers inside
containers deeper than declared. Nothing is ever written under a member's name.
"""

from __future__ import annotations

import functools
import gzip
import io
import stat
import struct
import tempfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import BinaryIO, cast

from iotbill_pipelines.compute.decoders.records import DecodeError, Problem, Scope

_ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
_GZIP_MAGIC = b"\x1f\x8b"
_CONTAINER_NAMES = (".zip", ".gz")
_OFFICE_MEMBERS = ("[Content_Types].xml", "mimetype")
_ENCRYPTED = 0x1
_LOCAL_HEADER = 30
_DESCRIPTOR = 24
"""Bytes that may follow a member's data: its sizes, when they were not known before."""
_RATIO_FROM = 1 << 20
"""Unpacked bytes from which the ratio counts: a small file of one letter packs very well."""
_SPOOL = 16 << 20
_COPY = 1 << 20
_METHODS = frozenset(
    {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}
)
_UNPACK_ERRORS = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    EOFError,
    OSError,
    ValueError,
    NotImplementedError,
    RuntimeError,
)


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """What a container may hold: members, unpacked bytes of all together, ratio, depth.

    ``max_depth`` 1 means that members are files; 2 allows containers as members, and so on.
    """

    max_members: int = 10_000
    max_bytes: int = 4 << 30
    max_ratio: int = 200
    max_depth: int = 1


@dataclass(frozen=True, slots=True)
class Member:
    """A file inside: ``name`` is its path, ``outer.zip!inner.csv`` inside a nested container.

    ``open`` returns a new stream, which raises :class:`DecodeError` (``bomb``, ``corrupt``) when
    reading shows what the directory did not.
    """

    name: str
    open: Callable[[], BinaryIO]


@dataclass(slots=True)
class Members:
    """The files of a container and what is wrong with it; close it when they are read."""

    members: list[Member] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    resources: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Members:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.resources.close()

    def __iter__(self) -> Iterator[Member]:
        return iter(self.members)


class _Budget:
    """Bytes that all members together may unpack to; reading one twice does not count twice."""

    def __init__(self, limits: ArchiveLimits) -> None:
        self.limits = limits
        self._read: dict[str, int] = {}
        self._total = 0

    def exceeded(self, name: str, unpacked: int) -> bool:
        """Note how far ``name`` was read; say whether that is too much for all together."""
        further = unpacked - self._read.get(name, 0)
        if further > 0:
            self._read[name] = unpacked
            self._total += further
        return self._total > self.limits.max_bytes


class _Guarded(io.RawIOBase):
    """A stream that stops at the limits and turns the unpackers' errors into findings."""

    def __init__(self, stream: BinaryIO, name: str, packed: int, budget: _Budget) -> None:
        super().__init__()
        self._stream = stream
        self._name = name
        self._packed = max(packed, 1)
        self._budget = budget
        self._unpacked = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        target = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        try:
            data = self._stream.read(len(target))
        except _UNPACK_ERRORS as error:
            raise DecodeError(
                Problem("corrupt", f"{self._name} cannot be unpacked: {error}", Scope.FILE)
            ) from error
        self._unpacked += len(data)
        limits = self._budget.limits
        if self._budget.exceeded(self._name, self._unpacked):
            raise _bomb(self._name, f"more than {limits.max_bytes} bytes come out")
        if self._unpacked > max(_RATIO_FROM, self._packed * limits.max_ratio):
            raise _bomb(self._name, f"it unpacks to more than {limits.max_ratio} times its size")
        target[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


def _bomb(name: str, why: str) -> DecodeError:
    return DecodeError(Problem("bomb", f"{name}: {why}", Scope.FILE))


def members(path: Path, limits: ArchiveLimits) -> Members:
    """List the files in the container at ``path``, as :func:`members_of` does."""
    return members_of(lambda: path.open("rb"), path.name, path.stat().st_size, limits)


def members_of(
    source: Callable[[], BinaryIO], name: str, packed_bytes: int, limits: ArchiveLimits
) -> Members:
    """List the files in a container that ``source`` opens; a file that is none is its own member.

    What a file is, its first bytes say. Spreadsheets, which are zip files too, count as files.
    A source that cannot seek is copied to a nameless temporary file first.
    All findings quarantine the file: ``too_large``, ``corrupt``, ``not_a_container``, ``bomb``,
    ``too_many_members``, ``unsafe_name``, ``duplicate_name``, ``not_a_file``, ``encrypted``,
    ``unknown_method``, ``overlap``, ``hidden_data``, ``nested``. Members with a finding are not
    listed.
    """
    found = Members()
    if packed_bytes > limits.max_bytes:
        message = f"{name} is larger than {limits.max_bytes} bytes"
        found.problems.append(Problem("too_large", message, Scope.FILE))
        return found
    with source() as stream:
        seekable = stream.seekable()
    if not seekable:
        spooled, _ = _spool(found, source)
        source = functools.partial(_view, spooled)
    _collect(found, _Budget(limits), name, packed_bytes, source, 0)
    return found


def _collect(
    found: Members,
    budget: _Budget,
    name: str,
    packed: int,
    source: Callable[[], BinaryIO],
    depth: int,
) -> None:
    """Add the member ``name``, or what it contains."""
    with source() as stream:
        magic = stream.read(4)
    if magic.startswith(_GZIP_MAGIC):
        _collect_gzip(found, budget, name, packed, source, depth)
    elif magic in _ZIP_MAGIC:
        _collect_zip(found, budget, name, source, depth)
    else:
        _add_file(found, name, source)


def _add_file(found: Members, name: str, source: Callable[[], BinaryIO]) -> None:
    """Add a file that is no container; one that is named like one has lost its beginning."""
    if name.lower().endswith(_CONTAINER_NAMES):
        message = f"{name} is named as a container, its first bytes are not one's"
        found.problems.append(Problem("not_a_container", message, Scope.FILE, offset=0))
    else:
        found.members.append(Member(name, source))


def _too_nested(found: Members, budget: _Budget, name: str, depth: int) -> bool:
    if depth < budget.limits.max_depth:
        return False
    message = f"{name} is a container at depth {depth + 1}; {budget.limits.max_depth} is allowed"
    found.problems.append(Problem("nested", message, Scope.FILE))
    return True


def _collect_gzip(
    found: Members,
    budget: _Budget,
    name: str,
    packed: int,
    source: Callable[[], BinaryIO],
    depth: int,
) -> None:
    if _too_nested(found, budget, name, depth):
        return

    def unpack() -> BinaryIO:
        raw = source()
        guarded = _Guarded(cast(BinaryIO, _ClosingGzip(raw)), name, packed, budget)
        return cast(BinaryIO, io.BufferedReader(guarded))

    inner = name[:-3] if name.lower().endswith(".gz") else name
    _collect_inner(found, budget, inner, unpack, depth)


class _ClosingGzip(gzip.GzipFile):
    """A gzip reader that also closes the stream it reads from."""

    def __init__(self, raw: BinaryIO) -> None:
        super().__init__(fileobj=raw, mode="rb")
        self._raw_stream = raw

    def close(self) -> None:
        super().close()
        self._raw_stream.close()


def _collect_inner(
    found: Members,
    budget: _Budget,
    name: str,
    unpack: Callable[[], BinaryIO],
    depth: int,
) -> None:
    """Add an unpacked file, or look into it when it is a container itself."""
    try:
        with unpack() as stream:
            magic = stream.read(4)
    except DecodeError as error:
        found.problems.append(error.problem)
        return
    if not (magic.startswith(_GZIP_MAGIC) or magic in _ZIP_MAGIC):
        _add_file(found, name, unpack)
        return
    try:
        spooled, size = _spool(found, unpack)
    except DecodeError as error:
        found.problems.append(error.problem)
        return
    if magic in _ZIP_MAGIC and _is_office(spooled):
        found.members.append(Member(name, unpack))
        return
    _collect(found, budget, name, size, lambda: _view(spooled), depth + 1)


def _spool(found: Members, unpack: Callable[[], BinaryIO]) -> tuple[BinaryIO, int]:
    """Unpack a nested container to a nameless temporary file: zip needs to seek."""
    temporary = tempfile.SpooledTemporaryFile(max_size=_SPOOL)  # noqa: SIM115 - closed with found
    found.resources.push(temporary)
    spooled = cast(BinaryIO, temporary)
    size = 0
    with unpack() as stream:
        while chunk := stream.read(_COPY):
            spooled.write(chunk)
            size += len(chunk)
    return spooled, size


class _View(io.RawIOBase):
    """An independent position in a shared temporary file."""

    def __init__(self, shared: BinaryIO) -> None:
        super().__init__()
        self._shared = shared
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_CUR:
            offset += self._position
        elif whence == io.SEEK_END:
            offset += self._shared.seek(0, io.SEEK_END)
        self._position = max(offset, 0)
        return self._position

    def readinto(self, buffer: object) -> int:
        target = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        self._shared.seek(self._position)
        data = self._shared.read(len(target))
        self._position += len(data)
        target[: len(data)] = data
        return len(data)


def _view(shared: BinaryIO) -> BinaryIO:
    return cast(BinaryIO, io.BufferedReader(_View(shared)))


def _is_office(stream: BinaryIO) -> bool:
    stream.seek(0)
    try:
        with zipfile.ZipFile(stream) as archive:
            return any(name in _OFFICE_MEMBERS for name in archive.namelist()[:50])
    except _UNPACK_ERRORS:
        return False


def _collect_zip(
    found: Members, budget: _Budget, name: str, source: Callable[[], BinaryIO], depth: int
) -> None:
    try:
        stream = found.resources.enter_context(source())
        if _is_office(stream):
            found.members.append(Member(name, source))
            return
        if _too_nested(found, budget, name, depth):
            return
        stream.seek(0)
        archive = found.resources.enter_context(zipfile.ZipFile(stream))
        entries = archive.infolist()
    except _UNPACK_ERRORS as error:
        found.problems.append(
            Problem("corrupt", f"{name} is not a readable zip file: {error}", Scope.FILE)
        )
        return
    if len(entries) > budget.limits.max_members:
        found.problems.append(
            Problem(
                "too_many_members",
                f"{name} has {len(entries)} members; {budget.limits.max_members} are allowed",
                Scope.FILE,
            )
        )
        return
    declared = sum(entry.file_size for entry in entries)
    if declared > budget.limits.max_bytes:
        found.problems.append(_bomb(name, f"declares {declared} unpacked bytes").problem)
        return
    try:
        refused, hidden = _layout(archive, stream, entries)
    except (struct.error, *_UNPACK_ERRORS) as error:
        found.problems.append(
            Problem("corrupt", f"{name} is not a readable zip file: {error}", Scope.FILE)
        )
        return
    for offset in hidden:
        message = f"{name} has data at byte {offset} that belong to no member it lists"
        found.problems.append(Problem("hidden_data", message, Scope.FILE, offset=offset))
    seen: set[str] = set()
    for entry in entries:
        fault = ("overlap", "shares bytes with another member") if entry in refused else None
        fault = fault or _fault(entry, seen, budget.limits)
        if fault is not None:
            message = f"{name}: member {entry.filename!r} {fault[1]}"
            found.problems.append(
                Problem(fault[0], message, Scope.FILE, offset=entry.header_offset)
            )
        elif not entry.is_dir():
            member_name = f"{name}!{entry.filename}" if depth else entry.filename
            _collect_inner(
                found,
                budget,
                member_name,
                _opener(archive, entry, member_name, budget),
                depth,
            )


def _opener(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str, budget: _Budget
) -> Callable[[], BinaryIO]:
    def unpack() -> BinaryIO:
        try:
            stream = cast(BinaryIO, archive.open(entry))
        except _UNPACK_ERRORS as error:
            raise DecodeError(
                Problem("corrupt", f"{name} cannot be unpacked: {error}", Scope.FILE)
            ) from error
        guarded = _Guarded(stream, name, entry.compress_size, budget)
        return cast(BinaryIO, io.BufferedReader(guarded))

    return unpack


def _layout(
    archive: zipfile.ZipFile, stream: BinaryIO, entries: list[zipfile.ZipInfo]
) -> tuple[set[zipfile.ZipInfo], list[int]]:
    """Compare where members stand with the file: (members that overlap, offsets of hidden data).

    Overlapping members are one stream that is counted many times. Data between members are what a
    second directory lost, as when two zip files are joined: records would vanish without a word.
    """
    overlapping: set[zipfile.ZipInfo] = set()
    hidden: list[int] = []
    end = 0
    before: zipfile.ZipInfo | None = None
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        if entry.header_offset < end and before is not None:
            overlapping.update((before, entry))
        elif entry.header_offset > end + (_DESCRIPTOR if before is not None else 0):
            hidden.append(end)
        stream.seek(entry.header_offset)
        name_length, extra_length = struct.unpack("<26xHH", stream.read(_LOCAL_HEADER))
        own_end = entry.header_offset + _LOCAL_HEADER + name_length + extra_length
        end = max(end, own_end + entry.compress_size)
        before = entry
    if archive.start_dir > end + _DESCRIPTOR:
        hidden.append(end)
    return overlapping, hidden


def _fault(entry: zipfile.ZipInfo, seen: set[str], limits: ArchiveLimits) -> tuple[str, str] | None:
    """What is wrong with a member as its directory entry shows it: (code, text)."""
    # The unpacked name as stored: the library itself turns backslashes and cuts at NUL.
    name = entry.orig_filename
    unified = unicodedata.normalize("NFC", entry.filename).casefold().rstrip("/")
    mode = entry.external_attr >> 16
    checks: tuple[tuple[bool, str, str], ...] = (
        (not _is_plain(name), "unsafe_name", "has a name that points outside or elsewhere"),
        (unified in seen, "duplicate_name", "has the name of another member"),
        (
            bool(mode) and stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR),
            "not_a_file",
            "is a link or a device",
        ),
        (bool(entry.flag_bits & _ENCRYPTED), "encrypted", "is encrypted"),
        (entry.compress_type not in _METHODS, "unknown_method", "is packed in an unknown way"),
        (
            entry.file_size > max(_RATIO_FROM, entry.compress_size * limits.max_ratio),
            "bomb",
            f"unpacks to more than {limits.max_ratio} times its size",
        ),
    )
    seen.add(unified)
    return next(((code, text) for failed, code, text in checks if failed), None)


def _is_plain(name: str) -> bool:
    """Whether a member's name is a relative path of ordinary parts."""
    if not name or name.startswith("/") or "\\" in name or ":" in name:
        return False
    if any(unicodedata.category(letter) in ("Cc", "Cf") for letter in name):
        return False
    return all(part not in ("", ".", "..") for part in PurePosixPath(name).parts) and (
        "//" not in name and "/./" not in f"/{name}/" and "/../" not in f"/{name}/"
    )
