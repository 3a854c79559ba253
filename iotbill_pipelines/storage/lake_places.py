"""Where a lake's files are: a directory of this machine, or an object store behind fsspec.

The compute engine reads and writes local files in both cases. In a directory those are the lake's
own. Of an object store a cache is kept: what is written goes through it to the store before a
commit names it, what is read comes into it once. That is sound because a file of the lake never
changes and its name is never used again, and it needs nothing of the compute engine.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar
from urllib.parse import unquote, urlsplit

from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from iotbill_pipelines.config.lake import LakeChoice

STAGED, PARTIAL = "_staged-", "_partial-"
BATCH_FILES = 128
"""Files that are on their way at the same time."""

_Item = TypeVar("_Item")
_STATED = re.compile(r"<Code>(.*?)</Code>.*?<Message>(.*?)</Message>")
_COLOURS = re.compile(r"\x1b\[\d*m↳?")
_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "abfs": "adlfs"}
_FOREIGN = ("aiobotocore", "aiohttp", "asyncio", "azure", "botocore", "fsspec", "gcsfs", "google")


class LakeError(RuntimeError):
    """A partition that cannot be written or read; the message says what to do."""


class Place(Protocol):
    """What :class:`~iotbill_pipelines.storage.lake.Lake` asks of where its files are.

    Names of files are relative to the lake: ``table/column=value/part-….parquet``.
    """

    root: Path
    """Below it the compute engine finds and leaves files, by their names."""

    storage_options: dict[str, str] | None
    """How delta-rs reaches the tables."""

    @property
    def where(self) -> str:
        """The place, for people."""

    def url(self, table: str) -> str:
        """Where delta-rs finds a table."""

    def open(self, table: str, version: int | None) -> DeltaTable | None:
        """Open a version of a table, by default the newest; None if there is no such table."""

    def check_writers(self, table: str) -> None:
        """Raise LakeError if two writers of a table could undo each other here."""

    def is_newest(self, table: str, held: DeltaTable) -> bool:
        """Is ``held``, brought up to date if that is cheap, the newest version of its table?"""

    def staged(self, table: str) -> Path:
        """A new directory, not made yet, for files to publish; :meth:`release` lets go of it."""

    def publish(self, moves: Sequence[tuple[Path, str]]) -> None:
        """Put written files to their names, durably; nobody reads them before a commit."""

    def fetch(self, files: Mapping[str, int | None]) -> list[str]:
        """Return local paths of whole files, by their names and sizes in bytes where known."""

    def holds(self, names: Iterable[str]) -> bool:
        """Are all these files still in the lake?"""

    def unnamed(self, table: str, named: set[str], before: datetime) -> list[str]:
        """The table's data files, by their paths in it, that are older than ``before`` and not in
        ``named``."""

    def delete(self, names: Sequence[str]) -> None:
        """Delete files."""

    def log(self, table: str, after: int = -1) -> Iterator[str]:
        """The texts of the entries of a table's log above a version."""

    def told(self) -> Any:
        """A context that tells what a client library raises as a LakeError."""

    def release(self) -> None:
        """The work of this object is done for now; caches may be trimmed."""


class Directory:
    """A lake in a directory: written files are renamed to their places and read there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.storage_options: dict[str, str] | None = None

    @property
    def where(self) -> str:
        return str(self.root)

    def url(self, table: str) -> str:
        return str(self.root / table)

    def open(self, table: str, version: int | None) -> DeltaTable | None:
        return _opened(self, table, version) if self._log(table).is_dir() else None

    def check_writers(self, table: str) -> None:
        pass

    def is_newest(self, table: str, held: DeltaTable) -> bool:
        this, following = (self._log(table) / f"{held.version() + n:020}.json" for n in (0, 1))
        return this.exists() and not following.exists()

    def staged(self, table: str) -> Path:
        return _staged(self.root, table)

    def publish(self, moves: Sequence[tuple[Path, str]]) -> None:
        for path, name in moves:
            with path.open("rb") as handle:
                os.fsync(handle.fileno())  # the log must not name a file that a power cut can empty
            target = self.root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)

    def fetch(self, files: Mapping[str, int | None]) -> list[str]:
        return [str(self.root / name) for name in files]

    def holds(self, names: Iterable[str]) -> bool:
        return all((self.root / name).is_file() for name in names)

    def unnamed(self, table: str, named: set[str], before: datetime) -> list[str]:
        folder = self.root / table
        return [
            relative
            for path in sorted(folder.rglob("*.parquet"))
            if not (relative := str(path.relative_to(folder))).startswith("_delta_log")
            and relative not in named
            and path.stat().st_mtime < before.timestamp()
        ]

    def delete(self, names: Sequence[str]) -> None:
        for name in names:
            (self.root / name).unlink()

    def log(self, table: str, after: int = -1) -> Iterator[str]:
        for entry in self._log(table).glob("*.json"):
            if int(entry.stem) > after:
                yield entry.read_text("utf-8")

    @contextmanager
    def told(self) -> Iterator[None]:
        yield

    def release(self) -> None:
        pass

    def _log(self, table: str) -> Path:
        return self.root / table / "_delta_log"


class ObjectStore:
    """A lake in a bucket, with a cache of its files in ``cache``.

    ``fsspec_options`` are those of the file system that the URL's scheme names, ``storage_options``
    those of delta-rs. A file comes into the cache under another name and gets its own when it is
    whole. ``cache_bytes`` bounds what stays there when nobody works with it any more; a run never
    loses a file that it was told of. Errors of the store are LakeErrors.
    """

    def __init__(
        self,
        url: str,
        cache: Path,
        cache_bytes: int,
        *,
        fsspec_options: Mapping[str, Any] | None = None,
        storage_options: Mapping[str, str] | None = None,
    ) -> None:
        self.root = cache
        self.storage_options: dict[str, str] | None = dict(storage_options or {})
        self._url = url.rstrip("/")
        self._options = dict(fsspec_options or {})
        self._cache_bytes = cache_bytes
        self._opened: tuple[int, Any, str] | None = None
        self._in_use: tuple[int, IO[bytes]] | None = None
        self._answered = False

    @property
    def where(self) -> str:
        return self._url

    def url(self, table: str) -> str:
        return f"{self._url}/{table}"

    def open(self, table: str, version: int | None) -> DeltaTable | None:
        # To fsspec a bucket that is not there is like an empty one; delta-rs tells them apart.
        if self._answered and not self._has_entry(table, 0):
            return None
        with self.told():
            found = _opened(self, table, version)
        self._answered = True
        return found

    def check_writers(self, table: str) -> None:
        if urlsplit(self._url).scheme != "s3":
            return  # one provider's store each, which knows conditional puts; S3 is many services
        with self.told():
            probe = self._there(f"{table}/_probe-{uuid.uuid4().hex}")
            try:
                self._files.pipe_file(probe, b"first", mode="create")
                self._files.pipe_file(probe, b"second", mode="create")
            except FileExistsError:
                return
            finally:
                self._files.rm_file(probe)
        raise LakeError(
            f"{self._url} writes over an object that was to be made only if there was none: two "
            "commits at once would undo each other; use a store that knows conditional puts "
            "(If-None-Match)"
        )

    def is_newest(self, table: str, held: DeltaTable) -> bool:
        if self._has_entry(table, held.version() + 1):
            with self.told():
                held.update_incremental()
        return True

    def staged(self, table: str) -> Path:
        self._use()
        return _staged(self.root, table)

    def publish(self, moves: Sequence[tuple[Path, str]]) -> None:
        self.upload(moves)
        for path, name in moves:
            target = self.root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)

    def upload(self, files: Sequence[tuple[Path, str]]) -> None:
        """Put copies of local files to their names."""
        with self.told():
            for batch in _batches(files):
                local = [str(path) for path, _ in batch]
                self._files.put(local, [self._there(name) for _, name in batch])

    def fetch(self, files: Mapping[str, int | None]) -> list[str]:
        self._use()
        sizes = {
            name: size for name, size in files.items() if not _is_whole(self.root / name, size)
        }
        if sizes:
            with self.told():
                self._download(sizes)
        return [str(self.root / name) for name in files]

    def holds(self, names: Iterable[str]) -> bool:
        with self.told():
            try:
                self._files.sizes([self._there(name) for name in names])
            except FileNotFoundError:
                return False
        return True

    def unnamed(self, table: str, named: set[str], before: datetime) -> list[str]:
        folder = self._there(table)
        with self.told():
            found = [path.removeprefix(f"{folder}/") for path in self._files.find(folder)]
            return [
                path
                for path in sorted(found)
                if path.endswith(".parquet")
                and not path.startswith("_delta_log")
                and path not in named
                and self._modified(f"{table}/{path}") < before
            ]

    def delete(self, names: Sequence[str]) -> None:
        if names:
            with self.told():
                self._files.rm([self._there(name) for name in names])
        for name in names:
            (self.root / name).unlink(missing_ok=True)

    def log(self, table: str, after: int = -1) -> Iterator[str]:
        folder = self._there(f"{table}/_delta_log")
        with self.told():
            entries = [
                path
                for path in (self._files.ls(folder, detail=False) if self._has(folder) else [])
                if path.endswith(".json") and int(Path(path).stem) > after
            ]
            for batch in _batches(entries):
                for content in self._files.cat_ranges(batch, 0, None, on_error="raise"):
                    yield content.decode("utf-8")

    @contextmanager
    def told(self) -> Iterator[None]:
        try:
            yield
        except (LakeError, CommitFailedError):
            raise
        except Exception as error:
            # delta-rs's, botocore's and other clients' errors share no base with anything built in.
            ours = type(error).__module__.partition(".")[0] not in _FOREIGN
            if ours and not isinstance(error, OSError | DeltaError):
                raise
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise  # the disk of the cache
            raise LakeError(
                f"the lake at {self._url} cannot be used ({_said(error)}); nothing half written is "
                "visible; check configs/lake.yaml, the credentials that it names and the store, "
                "and run the same command again"
            ) from error

    def release(self) -> None:
        """Make the cache small again if no process uses it."""
        if self._in_use is None or self._in_use[0] != os.getpid():
            return
        with self._in_use[1] as held:
            self._in_use = None
            with suppress(BlockingIOError):
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _trim(self.root, self._cache_bytes)

    def _download(self, sizes: Mapping[str, int | None]) -> None:
        files = self._files
        names = list(sizes)
        unknown = [name for name in names if sizes[name] is None]
        try:
            found = files.sizes([self._there(name) for name in unknown]) if unknown else []
            expected = {**sizes, **dict(zip(unknown, found, strict=True))}
            for batch in _batches(names):
                coming = [self.root / f"{PARTIAL}{uuid.uuid4().hex}" for _ in batch]
                try:
                    files.get([self._there(name) for name in batch], [str(p) for p in coming])
                    for name, path in zip(batch, coming, strict=True):
                        if path.stat().st_size != expected[name]:
                            raise LakeError(
                                f"{self._url}/{name} came as {path.stat().st_size} bytes instead of"
                                f" {expected[name]}; run the same command again, and if it stays so"
                                " restore the file in the store"
                            )
                        target = self.root / name
                        target.parent.mkdir(parents=True, exist_ok=True)
                        path.replace(target)
                finally:
                    for path in coming:
                        path.unlink(missing_ok=True)
        except FileNotFoundError as error:
            raise LakeError(
                f"a file of the lake is not in its store any more ({error}); restore it below "
                f"{self._url}: files there are deleted by `iotbill lake clean` only"
            ) from error

    def _has_entry(self, table: str, version: int) -> bool:
        """Is there an entry of the log, the first of which stays? One request, not a listing."""
        with self.told():
            try:
                path = self._there(f"{table}/_delta_log/{version:020}.json")
                self._files.cat_file(path, start=0, end=1)
            except FileNotFoundError:
                return False
        return True

    def _has(self, folder: str) -> bool:
        found: bool = self._files.exists(folder)
        return found

    def _modified(self, name: str) -> datetime:
        moment: datetime = self._files.modified(self._there(name))
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

    @property
    def _files(self) -> Any:
        """The file system; fsspec keeps it for other objects of this process and its options, and
        makes it anew in a forked child: connections cannot be shared."""
        if self._opened is None or self._opened[0] != os.getpid():
            import fsspec  # noqa: PLC0415 - only lakes of object stores need it

            scheme = urlsplit(self._url).scheme
            try:
                with self.told():
                    system, base = fsspec.core.url_to_fs(
                        self._url, use_listings_cache=False, **self._options
                    )
            except ImportError as error:
                package = _PACKAGES.get(scheme, scheme)
                raise LakeError(
                    f"a lake at {scheme}:// needs the package {package}, which cannot be imported "
                    f"({error}); pip install {package}"
                ) from error
            self._opened = (os.getpid(), system, base.rstrip("/"))
        return self._opened[1]

    def _there(self, name: str) -> str:
        _ = self._files
        assert self._opened is not None
        return f"{self._opened[2]}/{name}"

    def _use(self) -> None:
        """Keep others from trimming the cache; a forked child for itself."""
        if self._in_use is None or self._in_use[0] != os.getpid():
            self.root.mkdir(parents=True, exist_ok=True)
            held = (self.root / "_in-use.lock").open("ab")
            fcntl.flock(held, fcntl.LOCK_SH)
            self._in_use = (os.getpid(), held)


def place_of(choice: LakeChoice, home: Path, secret: Callable[[str], str | None]) -> Place:
    """Return where a configured lake is; ``secret`` gives the values of environment variables.

    Raises LakeError if a named variable is not set.
    """
    if choice.url is None:
        return Directory(home / "lake")
    if choice.kind == "folder":
        return Directory(Path(unquote(urlsplit(choice.url).path)))
    fsspec_options: dict[str, Any] = {}
    storage_options: dict[str, str] = {}
    if choice.kind == "s3":
        named = choice.credentials
        key, hidden, token = (
            _value(name, variable, secret)
            for name, variable in (
                ("access_key", named.access_key),
                ("secret_key", named.secret_key),
                ("session_token", named.session_token),
            )
        )
        region = {"region_name": choice.region} if choice.region else {}
        fsspec_options = {
            "key": key, "secret": hidden, "token": token,
            "endpoint_url": choice.endpoint, "client_kwargs": region,
        }  # fmt: skip
        told = {
            "aws_access_key_id": key,
            "aws_secret_access_key": hidden,
            "aws_session_token": token,
            "aws_endpoint_url": choice.endpoint,
            "aws_region": choice.region,
            "aws_allow_http": "true" if (choice.endpoint or "").startswith("http:") else None,
            "aws_conditional_put": "etag",
        }
        storage_options = {name: value for name, value in told.items() if value is not None}
    return ObjectStore(
        choice.url,
        Path(choice.cache) if choice.cache else home / "lake-cache",
        choice.cache_bytes,
        fsspec_options=fsspec_options,
        storage_options=storage_options,
    )


def _staged(root: Path, table: str) -> Path:
    return root / table / f"{STAGED}{uuid.uuid4().hex}"


def _opened(place: Place, table: str, version: int | None) -> DeltaTable | None:
    try:
        return DeltaTable(place.url(table), version=version, storage_options=place.storage_options)
    except TableNotFoundError:
        return None


def _value(key: str, variable: str | None, secret: Callable[[str], str | None]) -> str | None:
    if variable is None:
        return None
    value = secret(variable)
    if not value:
        raise LakeError(
            f"the environment variable {variable} is not set; configs/lake.yaml takes its "
            f"credentials.{key} from it"
        )
    return value


def _said(error: Exception) -> str:
    """What a client library says, in a line: the store's own words where it passes them on."""
    text = " ".join(_COLOURS.sub("", str(error)).split())
    if stated := _STATED.search(text):
        return f"{stated[1]}: {stated[2]}"
    return f"{type(error).__name__}: {text[-300:]}"


def _is_whole(path: Path, size_bytes: int | None) -> bool:
    try:
        if size_bytes is not None and path.stat().st_size != size_bytes:
            return False
        os.utime(path)  # it was used: what was not goes first
    except FileNotFoundError:
        return False
    return True


def _trim(cache: Path, most_bytes: int) -> None:
    """Delete what killed runs left, and the files that were not used for the longest time."""
    files: list[tuple[float, int, Path]] = []
    for folder, folders, names in os.walk(cache):
        for name in [name for name in folders if name.startswith(STAGED)]:
            shutil.rmtree(Path(folder, name), ignore_errors=True)
            folders.remove(name)
        for name in names:
            path = Path(folder, name)
            if name.startswith(PARTIAL):
                path.unlink()
            elif name.endswith(".parquet"):
                known = path.stat()
                files.append((known.st_mtime, known.st_size, path))
    excess = sum(size for _, size, _ in files) - most_bytes
    for _, size, path in sorted(files):
        if excess <= 0:
            return
        path.unlink()
        excess -= size


def _batches(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    for start in range(0, len(items), BATCH_FILES):
        yield items[start : start + BATCH_FILES]
