"""Fetching: files of configured sources into the archive, each version of a file once.

What was fetched is remembered in PostgreSQL together with the landed file, in one transaction: a
run that is killed fetches at most one file again, which the archive then knows by its content.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.orm import Session

from iotbill_pipelines.config.feeds import load_feeds
from iotbill_pipelines.config.sources import Source, load_sources
from iotbill_pipelines.operations.ingest import Landed, register
from iotbill_pipelines.operations.locks import advisory_lock
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage import landing, remote_files, sources
from iotbill_pipelines.storage.remote_files import Decision
from iotbill_pipelines.storage.sources import (
    FileChanged,
    RemoteFolder,
    RemoteObject,
    Secret,
    SourceError,
)


@dataclass(frozen=True)
class Look:
    """What a look at a source found; with an ``error`` nothing else is known."""

    source_id: str
    listed: int
    decision: Decision
    refused: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class Fetched:
    """What was fetched of a source, besides what the look at it found.

    ``problems`` are files that could not be fetched, or not be cleared away, now.
    """

    look: Look
    landed: tuple[Landed, ...] = ()
    problems: tuple[str, ...] = ()


NOTHING = Decision((), 0, 0, 0, ())


def chosen_sources(ws: Workspace, source_id: str | None = None) -> list[Source]:
    """Return the configured sources, or the one named.

    Raises ConfigError for bad configuration, SourceError for a name that there is not.
    """
    known = load_sources(ws.configs)
    if source_id is None:
        return list(known.values())
    if source_id not in known:
        listed = ", ".join(known) or "none; add one under configs/sources"
        raise SourceError(f"there is no source {source_id!r}; there are: {listed}")
    return [known[source_id]]


def look(ws: Workspace, source: Source, secret: Secret) -> Look:
    """List a source and say what is ready to be fetched; remembers what it saw."""
    try:
        with sources.opened(source, secret) as folder:
            return _look(ws, source, folder)
    except SourceError as error:
        return _failed(ws, source, error)


def _look(ws: Workspace, source: Source, folder: RemoteFolder) -> Look:
    listing = folder.list()
    now = ws.clock()
    with ws.engine.begin() as connection:
        decision = remote_files.decide(connection, source, listing.files, now)
        remote_files.polled(
            connection, source.id, now, listed=len(listing.files), refused=listing.refused
        )
    return Look(source.id, len(listing.files), decision, listing.refused)


def _failed(ws: Workspace, source: Source, error: SourceError) -> Look:
    with ws.engine.begin() as connection:
        remote_files.polled(connection, source.id, ws.clock(), error=str(error))
    return Look(source.id, 0, NOTHING, error=str(error))


def fetch(ws: Workspace, source: Source, secret: Secret) -> Fetched:
    """Land what is ready at a source, within its limits; one process a source at a time.

    A file that fails is tried again later and stops no other. Raises ConfigError for feeds that
    do not hold together, SourceError while another process fetches from the source.
    """
    feeds = load_feeds(ws.configs / "feeds")
    with advisory_lock(ws.engine, f"source:{source.id}", wait=False) as held:
        if not held:
            raise SourceError(f"another process is fetching from {source.id}; let it finish")
        landed: list[Landed] = []
        problems: list[str] = []

        def land_one(folder: RemoteFolder, file: RemoteObject) -> None:
            with folder.opened(file) as stream:
                archived = landing.archive_stream(
                    stream.read, ws.archive, lambda _size: folder.check_unchanged(file)
                )
            now = ws.clock()
            with Session(ws.engine) as session, session.begin():
                known = register(session, feeds, archived, Path(file.path), now)
                remote_files.landed(session.connection(), source.id, file, archived.file_key, now)
            landed.append(known)

        try:
            with sources.opened(source, secret) as folder:
                seen = _look(ws, source, folder)
                for file in seen.decision.ready:
                    try:
                        land_one(folder, file)
                    except FileChanged as error:
                        problems.append(str(error))
                        with ws.engine.begin() as connection:
                            remote_files.seen_again(connection, source.id, file)
                    except (SourceError, landing.LandingError) as error:
                        problems.append(str(error))
                        with ws.engine.begin() as connection:
                            remote_files.failed(connection, source.id, file, str(error), ws.clock())
                problems += _clear(ws, source, folder, seen.decision)
        except SourceError as error:
            return Fetched(_failed(ws, source, error), tuple(landed), tuple(problems))
        return Fetched(seen, tuple(landed), tuple(problems))


def _clear(ws: Workspace, source: Source, folder: RemoteFolder, decision: Decision) -> list[str]:
    """Delete or move away what is landed, if the source says so; what fails waits its turn."""
    if source.after_landing == "keep":
        return []
    problems = []
    # What was landed just now is among the next look's, so that a killed run forgets nothing.
    for file in decision.to_clear:
        try:
            folder.clear(file)
        except SourceError as error:
            problems.append(str(error))
            continue
        with ws.engine.begin() as connection:
            remote_files.cleared(connection, source.id, file, ws.clock())
    return problems


def fetch_settled(
    ws: Workspace,
    chosen: Sequence[Source],
    secret: Secret,
    pause: Callable[[float], None] | None = None,
) -> list[Fetched]:
    """Fetch from each source; with ``pause``, wait for files seen now and fetch once more.

    ``pause`` waits for a number of seconds: the longest settle time of sources with such files.
    """
    found = [fetch(ws, source, secret) for source in chosen]
    unsettled = [
        source
        for source, one in zip(chosen, found, strict=True)
        if one.look.decision.unsettled and not one.look.error
    ]
    if pause is None or not unsettled:
        return found
    pause(max(source.settles_after_seconds for source in unsettled))
    return found + [fetch(ws, source, secret) for source in unsettled]
