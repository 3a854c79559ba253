"""Which files are read again, by the feeds as they are now, after a feed or its limits changed.

A file that is read again gives what its feed makes of it now, in the place of all that it gave
before. So nothing is counted twice, however often it is done; what months rest on it is computed
again by their next close.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import sqlalchemy as sa
from sqlalchemy.orm import Session, aliased

from iotbill_pipelines.compute.companions import names_of
from iotbill_pipelines.config.feeds import feeds_of, load_feeds
from iotbill_pipelines.engine.feeds.spec import FeedSpec
from iotbill_pipelines.engine.schemas import REFERENCE, USAGE_RECORD
from iotbill_pipelines.operations.stages import Finding
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage import ledger, statements
from iotbill_pipelines.storage.models import FeedFile

_KEY_LIMIT = 2**63


@dataclass(frozen=True)
class Again:
    """Files to read again: those ``named``, by name or key, in whatever state they are; without
    names, those that are quarantined and that no later file has replaced."""

    named: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chosen:
    """Keys of the files that wait to be read again, and what is told of those left alone."""

    keys: list[int]
    findings: list[Finding]


def command(file_key: int) -> str:
    """Return the command that reads a file again."""
    return f"iotbill ingest --again --file {file_key}"


def unclaimed(name: str, matching: Sequence[FeedSpec]) -> str:
    """Say why no feed reads a file of this name, given those whose patterns match it."""
    if not matching:
        return f"{name} matches no feed's files; add a pattern to a feed under configs/feeds"
    ids = ", ".join(spec.id for spec in matching)
    return f"{name} matches several feeds ({ids}); make their patterns tell it apart"


def let_wait(
    ws: Workspace, feeds: Mapping[str, FeedSpec], again: Again, received_day: date | None
) -> Chosen:
    """Let files wait to be ingested once more, with the companions that speak of them.

    The audit log keeps who asked for it. Raises ValueError for a name that no file has, or several;
    ConfigError for a feed that does not compile. Nothing has changed then.
    """
    with Session(ws.engine) as session, session.begin():
        rows, findings = (
            (_named(session, again.named, received_day), [])
            if again.named
            else _quarantined(session, feeds, received_day)
        )
        read: dict[int, tuple[FeedFile, FeedSpec]] = {}
        for row in rows:
            matching = feeds_of(row.original_name, feeds.values())
            if (reason := _left_alone(session, row, matching)) is not None:
                findings.append(reason)
                continue
            [spec] = matching
            read[row.file_key] = row, spec
            for companion in _companions(session, row, spec):
                read.setdefault(companion.file_key, (companion, spec))
        load_feeds(ws.configs / "feeds", {spec.id for _, spec in read.values()})
        if read:
            _record(ws, session, [row for row, _ in read.values()])
        for row, spec in read.values():
            _wait(session, row, spec)
        return Chosen(sorted(read), findings)


def _named(session: Session, names: Sequence[str], day: date | None) -> list[FeedFile]:
    found: dict[int, FeedFile] = {}
    for name in names:
        same = [FeedFile.original_name == name]
        same.append(FeedFile.file_key.in_(statements.file_keys(session, name)))
        if name.isdecimal() and int(name) < _KEY_LIMIT:
            same.append(FeedFile.file_key == int(name))
        select = sa.select(FeedFile).where(sa.or_(*same)).order_by(FeedFile.landed_at)
        if day is not None:
            select = select.where(FeedFile.received_day == day)
        rows = session.scalars(select).all()
        if not rows:
            raise ValueError(
                f"--file {name}: no file of this name or key has landed"
                f"{f' on {day}' if day else ''}; `iotbill alerts list` names those that are "
                "quarantined"
            )
        if len(rows) > 1:
            listed = "; ".join(f"{r.file_key} of {r.received_day}, {r.state}" for r in rows)
            raise ValueError(f"--file {name}: several files are called so ({listed}); give the key")
        found[rows[0].file_key] = rows[0]
    return list(found.values())


def _quarantined(
    session: Session, feeds: Mapping[str, FeedSpec], day: date | None
) -> tuple[list[FeedFile], list[Finding]]:
    """Quarantined files, but for those that a later file stands for: read after it they would count
    what it says once more, or take reference data back to what was known before it."""
    later = aliased(FeedFile)
    restating = [spec.id for spec in feeds.values() if spec.target in REFERENCE]
    newest = (
        sa.select(sa.func.max(later.original_name))
        .where(
            later.feed_id == FeedFile.feed_id,
            later.state == "ingested",
            later.landed_at > FeedFile.landed_at,
            sa.or_(later.original_name == FeedFile.original_name, FeedFile.feed_id.in_(restating)),
        )
        .scalar_subquery()
    )
    select: sa.Select[FeedFile, str] = sa.select(FeedFile, newest).where(
        FeedFile.state == "quarantined"
    )
    if day is not None:
        select = select.where(FeedFile.received_day == day)
    rows: list[FeedFile] = []
    findings = []
    order = (FeedFile.landed_at, FeedFile.original_name, FeedFile.file_key)
    for row, replaced in session.execute(select.order_by(*order)):
        if replaced is None:
            rows.append(row)
        else:
            findings.append(
                Finding(
                    "file_left_alone", "info",
                    f"{row.original_name} stays quarantined: {replaced} landed later and was read",
                    "1 file", f"if it is needed all the same: `{command(row.file_key)}`",
                )
            )  # fmt: skip
    return rows, findings


def _left_alone(session: Session, row: FeedFile, matching: Sequence[FeedSpec]) -> Finding | None:
    """Why a file cannot be read again, if it cannot."""
    name = row.original_name
    if len(matching) != 1:
        return Finding(
            "file_left_alone", "warn", f"{unclaimed(name, matching)}; it stays {row.state}",
            "1 file", f"then `{command(row.file_key)}`",
        )  # fmt: skip
    [spec] = matching
    # what it gave stands in the table of then, where reading it into another leaves it
    other = bool(row.kept) and bool(row.usage_months) != (spec.target == USAGE_RECORD.name)
    if row.state == "ingested" and (row.feed_id != spec.id or other):
        return Finding(
            "file_left_alone", "warn",
            f"{name} was read by feed {row.feed_id}{' for another target' if other else ''} and is "
            f"claimed by {spec.id} with target {spec.target} now; what it gave stays as it is",
            "1 file", f"let {row.feed_id} claim it with the target of then to read it again",
        )  # fmt: skip
    if spec.is_companion(name) and statements.replaced(session, spec.id, name, row.file_key):
        return Finding(
            "file_left_alone", "info",
            f"{name} stays {row.state}: another companion of this name took its place",
            "1 file", "nothing: the later one counts",
        )  # fmt: skip
    return None


def _companions(session: Session, row: FeedFile, spec: FeedSpec) -> Iterator[FeedFile]:
    """Files that state what a data file holds: a corrected feed may read these otherwise, too."""
    if spec.companion is not None and not spec.is_companion(row.original_name):
        keys = statements.stated_by(session, spec.id, names_of(row.original_name))
        yield from session.scalars(sa.select(FeedFile).where(FeedFile.file_key.in_(keys)))


def _wait(session: Session, row: FeedFile, spec: FeedSpec) -> None:
    companion = spec.is_companion(row.original_name)
    if row.feed_id != spec.id or not companion:
        statements.forget(session, row.file_key)
    if companion:
        statements.landed(session, spec.id, row.original_name, row.file_key, row.landed_at)
        statements.read_again(session, spec.id, row.file_key)
    row.feed_id, row.state, row.error = spec.id, "landed", None


def _record(ws: Workspace, session: Session, rows: Sequence[FeedFile]) -> None:
    ledger.audit(
        session,
        at=ws.clock(),
        actor=ws.actor,
        action="ingest_again",
        subject=f"{len(rows)} files",
        detail={
            "files": [
                {"file_key": str(row.file_key), "name": row.original_name, "was": row.state}
                for row in rows[:100]
            ]
        },
    )
