"""Files at a source: listed, read and, if asked for, moved away; through fsspec, all alike.

What a server says is not trusted: a name is never a local path, a listing that names something
outside the source's folder is refused, and an SFTP server must prove that it has the configured
host key. A file that is read is checked not to have changed meanwhile.
"""

from __future__ import annotations

import os
import posixpath
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from fnmatch import translate
from operator import attrgetter
from typing import IO, Any, NamedTuple, Protocol, cast
from urllib.parse import unquote, urlsplit

from iotbill_pipelines.config.sources import Source
from iotbill_pipelines.storage.landing import UNFINISHED

Secret = Callable[[str], str | None]
"""Gives the value of a named environment variable; made where the program starts."""

BLOCK_BYTES = 4 * 2**20
MOST_NAME_CHARACTERS = 1000
MOST_REFUSED_TOLD = 50


class SourceError(RuntimeError):
    """A source that cannot be used now; the message says why and what to do."""


class FileChanged(SourceError):
    """A file that changed while it was read: it is taken when it is whole."""


class RemoteObject(NamedTuple):
    """A file at a source: its path below the source's folder, size, and what its content is
    known by there (an ETag, or size and time of change)."""

    path: str
    size_bytes: int
    version: str


@dataclass(frozen=True)
class Listing:
    """Files of a source that its patterns choose; ``refused`` are names nobody should have."""

    files: tuple[RemoteObject, ...]
    refused: tuple[str, ...]


class RemoteFolder:
    """The folder of an opened source."""

    def __init__(self, source: Source, filesystem: Any, root: str, names: _Names) -> None:
        self._source, self._fs, self._root, self._names = source, filesystem, root, names
        left = [*source.leave, *([source.marker.format(name="*")] if source.marker else [])]
        self._wanted, self._left = _matching(source.files), _matching(left)

    def list(self) -> Listing:
        """Return what there is, of files that are whole by their names or markers.

        Raises SourceError if the folder cannot be listed, or lists more than its limit.
        """
        present: set[str] = set()
        chosen: list[RemoteObject] = []
        refused: list[str] = []
        with _told(self._source):
            for entry in self._entries(self._root, 0):
                path = self._below(entry["name"])
                if fault := _fault(path):
                    refused.append(f"{path!r}: {fault}")
                elif entry["type"] == "file":
                    present.add(path)
                    if self._chosen(path.rpartition("/")[2]):
                        version = self._names.version(entry)
                        chosen.append(RemoteObject(path, int(entry["size"] or 0), version))
        if self._source.marker is not None:
            chosen = [file for file in chosen if self._marker(file.path) in present]
        return Listing(
            tuple(sorted(chosen, key=attrgetter("path"))),
            tuple(sorted(refused)[:MOST_REFUSED_TOLD]),
        )

    @contextmanager
    def opened(self, file: RemoteObject) -> Iterator[IO[bytes]]:
        """Read a file as it was listed; call :meth:`check_unchanged` before keeping what was read.

        Raises FileChanged if it is another version already, SourceError if it is larger than the
        limit or cannot be read.
        """
        if file.size_bytes > self._source.limits.file_bytes:
            raise SourceError(
                f"{file.path} has {file.size_bytes} bytes; {self._source.id} takes at most "
                f"{self._source.limits.file_bytes} (limits.file_bytes)"
            )
        self.check_unchanged(file)
        with _told(self._source):
            handle = self._fs.open(
                self._full(file.path), "rb", block_size=BLOCK_BYTES, **self._names.reading
            )
        with handle:
            yield cast(IO[bytes], _Bounded(handle, file, self._source))

    def check_unchanged(self, file: RemoteObject) -> None:
        """Raise FileChanged unless the file is the version that was listed."""
        with _told(self._source):
            now = self._fs.info(self._full(file.path), **self._names.listing)
        if now["type"] != "file" or self._names.version(now) != file.version:
            raise FileChanged(
                f"{file.path} changed while it was fetched; it comes when it is whole"
            )

    def clear(self, file: RemoteObject) -> None:
        """Delete or move a landed file, and its marker, as the source says; nothing by default.

        A file that has another version by now is left where it is.
        """
        if self._source.after_landing == "keep":
            return
        try:
            self.check_unchanged(file)
        except FileChanged:
            return
        marker = self._marker(file.path) if self._source.marker else None
        with _told(self._source):
            if self._source.after_landing == "delete":
                self._fs.rm_file(self._full(file.path))
            else:
                target = self._free_name(posixpath.join(str(self._source.move_to), file.path))
                self._fs.makedirs(posixpath.dirname(target), exist_ok=True)
                self._names.rename(self._fs, self._full(file.path), target)
            if marker is not None:
                self._fs.rm_file(self._full(marker))

    # ------------------------------------------------------------------------------- inside

    def _entries(self, folder: str, depth: int) -> Iterator[dict[str, Any]]:
        pending, count = [(folder, depth)], 0
        while pending:
            here, level = pending.pop()
            for entry in self._names.entries(self._fs, here):
                name = str(entry["name"]).rstrip("/")
                if name == here.rstrip("/"):
                    continue  # S3 lists a folder's own placeholder
                count += 1
                if count > self._source.limits.listed:
                    raise SourceError(
                        f"{self._source.id} lists more than {self._source.limits.listed} files; "
                        "clear its folder, or split it over several sources"
                    )
                if entry["type"] == "file" and not entry.get("islink"):
                    yield {**entry, "name": name}
                elif entry["type"] == "directory" and not entry.get("islink"):
                    inner = self._below(name)
                    if _fault(inner):
                        yield {**entry, "name": name}
                    elif level < self._source.folders_deep and inner != self._source.move_to:
                        pending.append((name, level + 1))

    def _below(self, name: str) -> str:
        root = self._root.rstrip("/")
        return name[len(root) + 1 :] if name.startswith(f"{root}/") else f"/{name}"

    def _full(self, path: str) -> str:
        return f"{self._root.rstrip('/')}/{path}"

    def _chosen(self, name: str) -> bool:
        hidden = name.startswith(".") or name.lower().endswith(UNFINISHED)
        return not hidden and bool(self._wanted.match(name)) and not self._left.match(name)

    def _marker(self, path: str) -> str:
        folder, name = posixpath.split(path)
        return posixpath.join(folder, str(self._source.marker).format(name=name))

    def _free_name(self, path: str) -> str:
        for number in range(1, 10_000):
            candidate = self._full(path if number == 1 else f"{path}.{number}")
            if not self._fs.exists(candidate):
                return candidate
        raise SourceError(f"{path} is there 10,000 times; clear {self._source.move_to}")


def _matching(patterns: Sequence[str]) -> re.Pattern[str]:
    """One expression for all patterns; without any it matches nothing."""
    return re.compile("|".join(translate(pattern) for pattern in patterns) or r"(?!)")


class _Names(Protocol):
    """What differs between kinds of sources: versions, listings without caches, renaming."""

    listing: dict[str, Any]
    reading: dict[str, Any]

    def entries(self, filesystem: Any, folder: str) -> Iterable[dict[str, Any]]: ...

    def version(self, entry: dict[str, Any]) -> str: ...

    def rename(self, filesystem: Any, old: str, new: str) -> None: ...


_TYPES = {stat.S_IFREG: "file", stat.S_IFDIR: "directory"}


class _FolderNames:
    listing: dict[str, Any] = {}  # noqa: RUF012 - constants of the kind
    reading: dict[str, Any] = {}  # noqa: RUF012

    def entries(self, filesystem: Any, folder: str) -> Iterable[dict[str, Any]]:
        # fsspec's own listing takes six times as long: 3 s for 100,000 files.
        del filesystem
        with os.scandir(folder) as found:
            for entry in found:
                status = entry.stat(follow_symlinks=False)
                yield {
                    "name": entry.path,
                    "type": _TYPES.get(stat.S_IFMT(status.st_mode), "other"),
                    "size": status.st_size,
                    "mtime": status.st_mtime,
                    "ino": status.st_ino,
                }

    def version(self, entry: dict[str, Any]) -> str:
        changed = entry["mtime"]
        if isinstance(changed, datetime):
            changed = int(changed.timestamp())
        return f"{entry['size']}-{changed!r}-{entry.get('ino', '')}".rstrip("-")

    def rename(self, filesystem: Any, old: str, new: str) -> None:
        filesystem.mv(old, new)


class _SftpNames(_FolderNames):
    def entries(self, filesystem: Any, folder: str) -> Iterable[dict[str, Any]]:
        found: Iterable[dict[str, Any]] = filesystem.ls(folder, detail=True)
        return found

    def rename(self, filesystem: Any, old: str, new: str) -> None:
        # sshfs itself falls back to a shell's cp, and deletes the file even if that fails.
        from fsspec.asyn import sync  # noqa: PLC0415 - with its kind only

        async def renamed() -> None:
            async with filesystem._pool.get() as channel:
                await channel.rename(old, new)

        sync(filesystem.loop, renamed)


class _S3Names:
    listing: dict[str, Any] = {"refresh": True}  # noqa: RUF012
    reading: dict[str, Any] = {"cache_type": "readahead"}  # noqa: RUF012

    def entries(self, filesystem: Any, folder: str) -> Iterable[dict[str, Any]]:
        found: Iterable[dict[str, Any]] = filesystem.ls(folder, detail=True, refresh=True)
        return found

    def version(self, entry: dict[str, Any]) -> str:
        return f"{entry['size']}-{str(entry.get('ETag', '')).strip(chr(34))}"

    def rename(self, filesystem: Any, old: str, new: str) -> None:
        filesystem.cp_file(old, new)
        filesystem.rm_file(old)


class _Bounded:
    """A reader that never gives more than the listed size, and tells a server's fault as ours."""

    def __init__(self, handle: Any, file: RemoteObject, source: Source) -> None:
        self._handle, self._file, self._source, self._given = handle, file, source, 0

    def read(self, size: int) -> bytes:
        with _told(self._source):
            block: bytes = self._handle.read(size)
        self._given += len(block)
        if self._given > self._file.size_bytes or (
            not block and self._given < self._file.size_bytes
        ):
            raise FileChanged(
                f"{self._file.path} was listed with {self._file.size_bytes} bytes and has "
                f"{'more' if block else self._given} now; it comes when it is whole"
            )
        return block


_NAMES_NO_FILE = {"", ".", ".."}
_NOT_TEXT, _CONTROL = re.compile("[\ud800-\udfff]"), re.compile(r"[\x00-\x1f\x7f]")


def _fault(path: str) -> str | None:
    """Why a path below a source's folder cannot be a delivered file's."""
    if len(path) > MOST_NAME_CHARACTERS:
        return f"is longer than {MOST_NAME_CHARACTERS} characters"
    if not _NAMES_NO_FILE.isdisjoint(path.split("/")):
        return "leads outside the folder"
    if path.isprintable():
        return None
    if _NOT_TEXT.search(path):
        return "is not UTF-8 text"
    return "holds control characters" if _CONTROL.search(path) else None


# ------------------------------------------------------------------------------- opening


@contextmanager
def opened(source: Source, secret: Secret) -> Iterator[RemoteFolder]:
    """Open a source; ``secret`` gives the values of the environment variables that it names.

    Raises SourceError if a variable is not set, or the source cannot be reached or entered.
    """
    opening = {"folder": _folder, "sftp": _sftp, "s3": _s3}[source.kind]
    with opening(source, secret) as folder:
        yield folder


@contextmanager
def _folder(source: Source, _secret: Secret) -> Iterator[RemoteFolder]:
    from fsspec.implementations.local import LocalFileSystem  # noqa: PLC0415

    root = unquote(urlsplit(source.url).path).rstrip("/") or "/"
    yield RemoteFolder(source, LocalFileSystem(skip_instance_cache=True), root, _FolderNames())


@contextmanager
def _sftp(source: Source, secret: Secret) -> Iterator[RemoteFolder]:
    import asyncssh  # noqa: PLC0415
    from fsspec.asyn import sync  # noqa: PLC0415
    from sshfs import SSHFileSystem  # noqa: PLC0415

    parts = urlsplit(source.url)
    named = source.credentials
    key = _value(source, "private_key", named.private_key, secret)
    password = _value(source, "password", named.password, secret)
    passphrase = _value(source, "passphrase", named.passphrase, secret)
    try:
        trusted = [asyncssh.import_public_key(text) for text in source.host_keys]
        keys = [asyncssh.import_private_key(key, passphrase)] if key else []
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        raise SourceError(
            f"a key of {source.id} cannot be read ({error}); host_keys are lines such as "
            "'ssh-ed25519 AAAA...', private_key is the text of an OpenSSH or PEM key"
        ) from None
    with _told(source):
        filesystem = SSHFileSystem(
            parts.hostname,
            port=parts.port or 22,
            username=source.user,
            password=password,
            client_keys=keys or None,
            # Only what the configuration says counts: no agent, no ssh_config, no known_hosts.
            known_hosts=(trusted, [], []),
            agent_path=None,
            config=None,
            connect_timeout=source.timeout_seconds,
            login_timeout=source.timeout_seconds,
            keepalive_interval=15,
            keepalive_count_max=3,
            skip_instance_cache=True,
        )
    try:
        yield RemoteFolder(source, filesystem, unquote(parts.path).rstrip("/"), _SftpNames())
    finally:
        # At once, not when Python collects it: servers count their sessions.
        sync(filesystem.loop, filesystem._stack.aclose)


@contextmanager
def _s3(source: Source, secret: Secret) -> Iterator[RemoteFolder]:
    from s3fs import S3FileSystem  # noqa: PLC0415

    parts = urlsplit(source.url)
    named = source.credentials
    with _told(source):
        filesystem = S3FileSystem(
            anon=source.anonymous,
            key=_value(source, "access_key", named.access_key, secret),
            secret=_value(source, "secret_key", named.secret_key, secret),
            token=_value(source, "session_token", named.session_token, secret),
            endpoint_url=source.endpoint,
            client_kwargs={"region_name": source.region} if source.region else {},
            config_kwargs={
                "connect_timeout": source.timeout_seconds,
                "read_timeout": source.timeout_seconds,
            },
            use_listings_cache=False,
            skip_instance_cache=True,
        )
    root = f"{parts.netloc}/{unquote(parts.path).strip('/')}".rstrip("/")
    yield RemoteFolder(source, filesystem, root, _S3Names())


def _value(source: Source, key: str, variable: str | None, secret: Secret) -> str | None:
    if variable is None:
        return None
    value = secret(variable)
    if not value:
        raise SourceError(
            f"the environment variable {variable} is not set; source {source.id} takes its "
            f"credentials.{key} from it"
        )
    return value


@contextmanager
def _told(source: Source) -> Iterator[None]:
    """Tell what a client library raises as a SourceError; defects of ours go through."""
    try:
        yield
    except SourceError:
        raise
    except FileNotFoundError as error:
        raise SourceError(
            f"{source.id}: {error.filename or 'the folder'} is not there; check {source.url}"
        ) from None
    except PermissionError as error:
        raise SourceError(
            f"{source.id} refuses access ({_said(error)}); check user, credentials and rights"
        ) from None
    except OSError as error:
        raise SourceError(f"{source.id} cannot be reached ({_said(error)})") from None
    except Exception as error:
        # asyncssh's and botocore's errors share no base with anything built in.
        if type(error).__module__.partition(".")[0] not in ("asyncssh", "botocore", "fsspec"):
            raise
        raise SourceError(f"{source.id}: {_said(error)}; check {source.url}") from None


def _said(error: BaseException) -> str:
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
