"""Landing and ingestion: files of carriers into usage records, invoice lines, reference data.

:func:`land` archives files and says which feed reads them. :func:`ingest` reads every file that is
landed and not ingested yet, many of one feed in one pass, and replaces what the lake held of
them; so a run that was killed is repeated by the next one without a trace. A file that cannot be
used is quarantined with its reason and never stops another. One whose feed has companion files
waits until its own has come.

Per file: records in = accepted + ignored + rejected, in records and in quantity.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
from sqlalchemy import ColumnElement, and_, or_, select, update
from sqlalchemy.orm import Session

from iotbill_pipelines.compute.companions import Statement, names_of
from iotbill_pipelines.compute.duckdb_engine import DuckDbCompute
from iotbill_pipelines.compute.feed_files import OUTCOMES, FileResult, ingest_files
from iotbill_pipelines.compute.parts import UnreadableError, open_parts
from iotbill_pipelines.compute.readers import SourceFile, read_statements
from iotbill_pipelines.config.feeds import feeds_of, load_feeds
from iotbill_pipelines.engine.feeds.spec import Companion, FeedSpec
from iotbill_pipelines.engine.schemas import (
    REFERENCE,
    REJECTED_RECORD,
    USAGE_RECORD,
    VENDOR_INVOICE_LINE,
)
from iotbill_pipelines.operations import contracts
from iotbill_pipelines.operations.data_quality import check_table
from iotbill_pipelines.operations.ingest_again import Again, Chosen, command, let_wait, unclaimed
from iotbill_pipelines.operations.locks import advisory_lock
from iotbill_pipelines.operations.stages import Finding, StageResult
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage import landing, machine, reference, statements
from iotbill_pipelines.storage.models import FeedFile

BATCH_BYTES = 128 * 2**20
BATCH_FILES = 500


@dataclass(frozen=True)
class Landed:
    """What became of a file: its key, feed and state; ``new`` is false if it was known already.

    ``problem`` says why a file was not landed, not recognised or is not read; ``file_key`` is None
    then if it could not be read at all.
    """

    path: Path
    file_key: int | None
    feed_id: str | None
    state: str
    new: bool
    problem: str | None = None


def land(ws: Workspace, paths: Iterable[Path]) -> list[Landed]:
    """Archive files (and those in folders) and register each under the feed of its name.

    Idempotent by content. A file that cannot be read now is reported and does not stop the others.
    Raises ConfigError for feeds that do not hold together, LandingError for a path that is absent.
    """
    feeds = load_feeds(ws.configs / "feeds")
    landed = []
    for path in landing.find_files(paths):
        try:
            archived = landing.archive(path, ws.archive)
            with Session(ws.engine) as session, session.begin():
                landed.append(register(session, feeds, archived, path, ws.clock()))
        except landing.LandingError as error:
            feed_id, _ = _feed_of(landing.safe_name(path.name), feeds)
            landed.append(Landed(path, None, feed_id, "failed", False, str(error)))
    return landed


def register(
    session: Session,
    feeds: Mapping[str, FeedSpec],
    archived: landing.Archived,
    path: Path,
    now: datetime,
) -> Landed:
    """Write down an archived file under the feed of its name; ``path`` is where it came from.

    Raises LandingError for a key that another content has.
    """
    name = landing.safe_name(path.name)
    feed_id, problem = _feed_of(name, feeds)
    row, new = landing.record(session, archived, name, feed_id, now)
    if feed_id is not None and feeds[feed_id].is_companion(name):
        new |= statements.landed(session, feed_id, name, row.file_key, now)
    told = problem if row.state == "unrecognised" else None
    if row.state == "quarantined" and not new:
        told = (
            f"{name} has landed before and is quarantined; when its feed is corrected, "
            f"`{command(row.file_key)}` reads it again"
        )
    return Landed(path, row.file_key, row.feed_id, row.state, new, told)


def _feed_of(name: str, feeds: Mapping[str, FeedSpec]) -> tuple[str | None, str | None]:
    """The feed that reads a file of this name, or why there is none."""
    matching = feeds_of(name, feeds.values())
    return (matching[0].id, None) if len(matching) == 1 else (None, unclaimed(name, matching))


def ingest(
    ws: Workspace, received_day: date | None = None, again: Again | None = None
) -> StageResult:
    """Ingest every file in state ``landed`` (of one day, if given); return counts and findings.

    Files that no feed recognised before are tried again with the feeds of now; with ``again`` so
    are those that are quarantined, or only the files that it names. A full disk or used up memory
    is no file's fault: the error is raised, and the files wait for the next run. Raises ValueError
    for a file to read again that cannot be told.
    """
    feeds = load_feeds(ws.configs / "feeds")
    with advisory_lock(ws.engine, "ingest", wait=True):
        _recognise(ws, feeds)
        chosen = let_wait(ws, feeds, again, received_day) if again else Chosen([], [])
        within: list[ColumnElement[bool]] = []
        if again and again.named:
            within.append(FeedFile.file_key.in_(chosen.keys))
        elif received_day is not None:
            within.append(FeedFile.received_day == received_day)
        read = [
            found for spec in feeds.values() if spec.companion
            for found in _read_companions(ws, spec, spec.companion)
        ]  # fmt: skip
        rows, alone = _with_statements(ws, _waiting(ws, within, feeds), feeds)
        # a feed that does not compile is told with its line, before anything of it is stored
        load_feeds(ws.configs / "feeds", {row.feed_id or "" for row in rows})
        results = [result for _, result in read]
        for spec, batch in _batches(rows, feeds):
            results += _ingest_batch(ws, spec, batch)
    told = _told_files(ws, results, alone, within)
    return _summary([*(row for row, _ in read), *rows], results, [*told, *chosen.findings])


# ---------------------------------------------------------------- what is stored


def _recognise(ws: Workspace, feeds: dict[str, FeedSpec]) -> None:
    with Session(ws.engine) as session, session.begin():
        unknown = select(FeedFile).where(FeedFile.state == "unrecognised")
        for row in session.execute(unknown).scalars():
            matching = feeds_of(row.original_name, feeds.values())
            if len(matching) == 1:
                [spec] = matching
                row.feed_id, row.state = spec.id, "landed"
                if spec.is_companion(row.original_name):
                    statements.landed(
                        session, spec.id, row.original_name, row.file_key, row.landed_at
                    )


def _waiting(
    ws: Workspace, within: Sequence[ColumnElement[bool]], feeds: Mapping[str, FeedSpec]
) -> list[FeedFile]:
    """Files to ingest: those asked for, and of feeds whose files may have waited for another
    since."""
    wanted = select(FeedFile).where(FeedFile.state == "landed")
    if within:
        paired = [spec.id for spec in feeds.values() if spec.companion]
        wanted = wanted.where(or_(and_(*within), FeedFile.feed_id.in_(paired)))
    with Session(ws.engine, expire_on_commit=False) as session:
        return list(
            session.execute(
                wanted.order_by(FeedFile.landed_at, FeedFile.original_name, FeedFile.file_key)
            ).scalars()
        )


def _read_companions(
    ws: Workspace, spec: FeedSpec, companion: Companion
) -> list[tuple[FeedFile, FileResult]]:
    """Read the companion files that landed; what they state lets data files be looked at."""
    done: list[tuple[FeedFile, FileResult]] = []
    with Session(ws.engine, expire_on_commit=False) as session, session.begin():
        for name, file in statements.unread(session, spec.id):
            source = _source_file(ws, file, name)
            error = None
            found: list[Statement] = []
            try:
                found = read_statements(spec, companion, [source])
            except UnreadableError as fault:
                error = f"{fault.code}: {fault.message}"
            statements.read(session, spec.id, name, file, found, ws.clock())
            nothing = dict.fromkeys(OUTCOMES, 0)
            state = "quarantined" if error else "ingested"
            result = FileResult(file.file_key, state, error, nothing, dict(nothing), ())
            _store_state(session, result, ws.clock())
            done.append((file, result))
    return done


def _with_statements(
    ws: Workspace, rows: Sequence[FeedFile], feeds: Mapping[str, FeedSpec]
) -> tuple[list[FeedFile], list[FeedFile]]:
    """Part files that can be ingested from those that wait for their companion."""
    ready: list[FeedFile] = []
    alone: list[FeedFile] = []
    with Session(ws.engine) as session, session.begin():
        for feed_id in dict.fromkeys(row.feed_id for row in rows):
            mine = [row for row in rows if row.feed_id == feed_id]
            spec = feeds.get(feed_id or "")
            companion = spec.companion if spec else None
            if spec is None or companion is None or not companion.wait:
                ready += mine
                continue
            found = statements.of_files(
                session, spec.id, [names_of(row.original_name) for row in mine]
            )
            for row, statement in zip(mine, found, strict=True):
                archived = statement is None and _brings_its_own(ws, row, spec)
                (ready if statement is not None or archived else alone).append(row)
        session.execute(
            update(FeedFile)
            .where(FeedFile.file_key.in_([row.file_key for row in alone]))
            .values(error=statements.WAITING)
        )
    return ready, alone


def _brings_its_own(ws: Workspace, row: FeedFile, spec: FeedSpec) -> bool:
    """Is the file an archive with companions among its members?"""
    try:
        with open_parts(_source_file(ws, row), spec, 0) as parts:
            return any(spec.is_companion(part.text_name()) for part in parts if part.member)
    except (UnreadableError, OSError):
        return True  # reading it says what is wrong with it


def _source_file(
    ws: Workspace, row: FeedFile, name: str | None = None, statement: Statement | None = None
) -> SourceFile:
    path = row.archive_path
    return SourceFile(
        row.file_key,
        name or row.original_name,
        row.landed_at.replace(tzinfo=None),
        row.size_bytes,
        lambda: landing.open_archived(ws.archive, path),
        statement,
    )


def _batches(
    rows: Sequence[FeedFile], feeds: dict[str, FeedSpec]
) -> Iterator[tuple[FeedSpec, list[FeedFile]]]:
    """Yield files of one feed together, in the order of landing, within the bounds of a batch."""
    for feed_id in dict.fromkeys(row.feed_id for row in rows):
        spec = feeds.get(feed_id or "")
        if spec is None:
            continue
        batch: list[FeedFile] = []
        for row in rows:
            if row.feed_id != feed_id:
                continue
            full = sum(r.size_bytes for r in batch) + row.size_bytes > BATCH_BYTES
            if batch and (full or len(batch) == BATCH_FILES):
                yield spec, batch
                batch = []
            batch.append(row)
        yield spec, batch


def _ingest_batch(ws: Workspace, spec: FeedSpec, batch: Sequence[FeedFile]) -> list[FileResult]:
    try:
        return _store_batch(ws, spec, batch)
    except (duckdb.Error, pa.ArrowException, reference.ReferenceDataError, OSError) as error:
        if machine.trouble(error):
            raise  # the files stay landed: the next run reads them
        if len(batch) > 1:  # find the file at fault; the others must not wait for it
            return [result for row in batch for result in _ingest_batch(ws, spec, [row])]
        nothing = dict.fromkeys(OUTCOMES, 0)
        said = str(error).splitlines()[0][:500] if str(error) else type(error).__name__
        failed = FileResult(
            batch[0].file_key, "quarantined",
            f"unreadable: {batch[0].original_name} could not be ingested ({said})",
            nothing, dict(nothing), (),
        )  # fmt: skip
        _take_out(ws, spec, batch[0])
        with Session(ws.engine) as session, session.begin():
            _store_state(session, failed, ws.clock())
        return [failed]


def _take_out(ws: Workspace, spec: FeedSpec, row: FeedFile) -> None:
    """Leave nothing in the lake of a file that could be ingested once and cannot be now."""
    key = str(row.file_key)
    for schema in (spec.table, REJECTED_RECORD):
        if schema.name not in REFERENCE and ws.lake.names(schema, file_key=key):
            with ws.compute() as compute:
                compute.load("nothing", schema.arrow_schema.empty_table())
                ws.lake.replace_each(schema, compute, "nothing", "file_key", [key], note=ws.run_id)


def reread(ws: Workspace, rows: Sequence[FeedFile]) -> None:
    """Read archived files of usage and of vendors' invoices again into the workspace's lake; the
    database learns nothing.

    To compute a close again from the bytes that came. Raises ConfigError for feeds that do not
    hold together.
    """
    feeds = load_feeds(ws.configs / "feeds", {row.feed_id or "" for row in rows})
    for spec, batch in _batches(rows, feeds):
        if spec.target not in (USAGE_RECORD.name, VENDOR_INVOICE_LINE.name):
            continue
        files = _source_files(ws, spec, batch)
        with ws.compute(_likely_rows(batch)) as compute:
            ingest_files(compute, spec, files)
            ws.lake.replace_each(
                spec.table, compute, "select * from mapped_record where outcome = 'accepted'",
                "file_key", [str(file.file_key) for file in files],
                order_by=("line_no",), note=ws.run_id,
            )  # fmt: skip


def _source_files(ws: Workspace, spec: FeedSpec, batch: Sequence[FeedFile]) -> list[SourceFile]:
    stated: list[Statement | None] = [None] * len(batch)
    if spec.companion:
        with Session(ws.engine) as session:
            stated = statements.of_files(
                session, spec.id, [names_of(row.original_name) for row in batch]
            )
    return [
        _source_file(ws, row, statement=statement)
        for row, statement in zip(batch, stated, strict=True)
    ]


def _likely_rows(batch: Sequence[FeedFile]) -> int:
    """A guess that only decides how statements are planned: few bytes a row, as files come packed
    too."""
    return sum(row.size_bytes for row in batch) // 32


def _store_batch(ws: Workspace, spec: FeedSpec, batch: Sequence[FeedFile]) -> list[FileResult]:
    files = _source_files(ws, spec, batch)
    keys = [str(file.file_key) for file in files]
    with ws.compute(_likely_rows(batch)) as compute:
        results = ingest_files(compute, spec, files)
        ws.lake.replace_each(
            REJECTED_RECORD, compute, "rejected_record", "file_key", keys, note=ws.run_id
        )
        accepted = "select * from mapped_record where outcome = 'accepted'"
        if spec.target not in REFERENCE:
            ws.lake.replace_each(
                spec.table, compute, accepted, "file_key", keys,
                order_by=("line_no",), note=ws.run_id,
            )  # fmt: skip
        with Session(ws.engine) as session, session.begin():
            if spec.target in REFERENCE:
                _load_reference(session, compute, spec, files, results, ws.clock())
            if spec.target == "contract":
                contracts.sign_landed(ws, session)
            for result in results:
                _store_state(session, result, ws.clock())
    return results


def _load_reference(
    session: Session,
    compute: DuckDbCompute,
    spec: FeedSpec,
    files: Sequence[SourceFile],
    results: Sequence[FileResult],
    known_at: datetime,
) -> None:
    for file, result in zip(files, results, strict=True):
        if result.state != "ingested":
            continue
        rows = compute.fetch(
            f"select distinct {spec.table.column_list} from mapped_record "
            f"where outcome = 'accepted' and file_key = {file.file_key} "
            f"order by {', '.join(spec.table.key)}"
        )
        broken = check_table(spec.table, rows)
        if broken:
            raise reference.ReferenceDataError(broken[0].message)
        # a rejected row must not look like one that was left out on purpose
        complete = spec.complete and not result.records["rejected"]
        reference.load(
            session, spec.target, rows, known_at, spec.id,
            complete=complete, file_key=file.file_key,
        )  # fmt: skip


def _store_state(session: Session, result: FileResult, now: datetime) -> None:
    session.execute(
        update(FeedFile)
        .where(FeedFile.file_key == result.file_key)
        .values(
            state=result.state,
            error=result.error,
            records_in=result.records_in,
            kept=result.records["accepted"],
            ignored=result.records["ignored"],
            rejected=result.records["rejected"],
            quantity_in=result.quantity_in,
            quantity_kept=result.quantity["accepted"],
            quantity_ignored=result.quantity["ignored"],
            quantity_rejected=result.quantity["rejected"],
            usage_months=list(result.usage_months),
            attempts=FeedFile.attempts + 1,
            ingested_at=now,
        )
    )


# ---------------------------------------------------------------- what is told


def _told_files(
    ws: Workspace,
    results: Sequence[FileResult],
    alone: Sequence[FeedFile],
    within: Sequence[ColumnElement[bool]],
) -> list[Finding]:
    """What is told of files that were not read, or not as a whole."""
    findings = [
        Finding(
            "file_quarantined", "warn", result.error or "", f"{result.records_in} records",
            f"correct the feed and run `{command(result.file_key)}`, or land a corrected file",
        )
        for result in results if result.state == "quarantined"
    ]  # fmt: skip
    findings += [
        Finding(
            "companion_missing", "warn",
            f"{row.original_name} waits for its companion file, which states what it holds",
            "1 file", "ask the sender for it, land it, then ingest again",
        )
        for row in alone
    ]  # fmt: skip
    with Session(ws.engine) as session:
        wanted = select(FeedFile.original_name).where(FeedFile.state == "unrecognised", *within)
        for name in session.execute(wanted.order_by(FeedFile.original_name)).scalars():
            findings.append(
                Finding(
                    "file_unrecognised",
                    "warn",
                    unclaimed(name, ()),
                    "1 file",
                    "`iotbill ingest` reads it once one feed claims it",
                )
            )
    return findings


def _summary(
    rows: Sequence[FeedFile], results: Sequence[FileResult], findings: list[Finding]
) -> StageResult:
    names = {row.file_key: row.original_name for row in rows}
    feed_of = {row.file_key: row.feed_id or "" for row in rows}
    totals = {outcome: sum(r.records[outcome] for r in results) for outcome in OUTCOMES}
    by_feed: dict[str, list[FileResult]] = {}
    for result in results:
        by_feed.setdefault(feed_of[result.file_key], []).append(result)
    preview = pa.table(
        {
            "feed": list(by_feed),
            "files": [len(found) for found in by_feed.values()],
            "quarantined": [sum(r.state == "quarantined" for r in f) for f in by_feed.values()],
            "records_in": [sum(r.records_in for r in f) for f in by_feed.values()],
            **{o: [sum(r.records[o] for r in f) for f in by_feed.values()] for o in OUTCOMES},
        }
    )
    return StageResult(
        rows={
            "files": len(names),
            "quarantined files": sum(r.state == "quarantined" for r in results),
            "records in": sum(totals.values()),
            **totals,
        },
        preview=preview,
        findings=findings,
        changed=bool(results),
    )
