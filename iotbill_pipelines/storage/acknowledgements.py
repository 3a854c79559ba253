"""What the ERP answers to journals: answer files read back, rejected journals given free again.

States of a journal: built, exported, acknowledged or rejected (RULEBOOK §9). An acknowledged one
never changes: what comes later is a revision of its own. A rejected one is not in the ERP's books;
once its cause is corrected, :func:`retry` lets it be built and exported again under the same id.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.orm import Session

from iotbill_pipelines.engine.post.terms import Acknowledgement, ExportTarget
from iotbill_pipelines.storage import ledger, models
from iotbill_pipelines.storage.ledger import LedgerError


@dataclass(frozen=True)
class Answer:
    """A row of an answer file: a document, and whether the ERP took it."""

    line: int
    document: str
    is_accepted: bool
    message: str


@dataclass(frozen=True)
class Answered:
    """Journals by what an answer file made of them, as external ids in order."""

    acknowledged: list[str]
    rejected: list[str]
    unchanged: list[str]


def read_answers(path: Path, layout: Acknowledgement) -> list[Answer]:
    """Read an answer file: CSV with comma or semicolon, a header row, a row per document.

    Raises LedgerError naming file, line, column and value for what cannot be read.
    """
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise LedgerError(f"{path}: not UTF-8 text; export the answers as CSV in UTF-8") from None
    first = text.partition("\n")[0]
    rows = csv.reader(
        text.splitlines(keepends=True),
        delimiter=";" if first.count(";") > first.count(",") else ",",
    )
    header = [name.strip().casefold() for name in next(rows, [])]
    document = _column(path, header, layout.document, "the document")
    status = _column(path, header, layout.status, "the status")
    message = next(
        (header.index(n.casefold()) for n in layout.message if n.casefold() in header), None
    )
    accepted = {word.casefold() for word in layout.accepted}
    rejected = {word.casefold() for word in layout.rejected}
    answers = []
    for row in rows:
        if not any(value.strip() for value in row):
            continue
        where = f"{path}:{rows.line_num}"
        if len(row) != len(header):
            raise LedgerError(f"{where}: {len(row)} values for {len(header)} columns")
        word = row[status].strip().casefold()
        if word not in accepted | rejected:
            raise LedgerError(
                f"{where}: status {row[status]!r} is neither accepted "
                f"({', '.join(layout.accepted)}) nor rejected ({', '.join(layout.rejected)}); add "
                "it to the target's acknowledgement"
            )
        if not row[document].strip():
            raise LedgerError(f"{where}: no document is named")
        said = row[message].strip() if message is not None else ""
        answers.append(Answer(rows.line_num, row[document].strip(), word in accepted, said))
    if not answers:
        raise LedgerError(f"{path}: no answers in it")
    return answers


def _column(path: Path, header: Sequence[str], names: Iterable[str], what: str) -> int:
    for name in names:
        if name.casefold() in header:
            return header.index(name.casefold())
    raise LedgerError(
        f"{path}:1: no column says {what}; there are {', '.join(header) or 'none'}, one of "
        f"{', '.join(names)} is expected (acknowledgement in the target's file)"
    )


def answer_journals(
    session: Session,
    answers: Sequence[Answer],
    target: ExportTarget,
    *,
    actor: str,
    at: datetime,
    file_name: str,
    sha256: str,
) -> Answered:
    """Mark exported journals as acknowledged or rejected; the same file again changes nothing.

    A journal in several documents is acknowledged when the file accepts all of them, rejected when
    it rejects any. All of the file is taken, or nothing. Raises LedgerError for a document that was
    not exported for the target, for a part that is missing, and for a verdict that contradicts an
    earlier one.
    """
    ledger.lock_ledger(session)
    owners: dict[str, str] = {}
    parts: dict[str, set[str]] = {}
    exports = session.execute(
        sa.select(models.Journal.external_id, models.JournalExport.documents)
        .join(models.JournalExport, models.JournalExport.journal_id == models.Journal.journal_id)
        .where(models.JournalExport.target == target.id)
    )
    for external_id, documents in exports:
        parts[external_id] = set(documents) or {external_id}
        owners |= dict.fromkeys([external_id, *documents], external_id)
    said: dict[str, list[Answer]] = {}
    for answer in answers:
        if answer.document not in owners:
            raise LedgerError(
                f"{file_name}:{answer.line}: {answer.document!r} was not exported for {target.id}; "
                "name the target that the file answers for, or check where the file comes from"
            )
        said.setdefault(owners[answer.document], []).append(answer)
    done: dict[str, list[str]] = {"acknowledged": [], "rejected": [], "unchanged": []}
    for external_id, given in sorted(said.items()):
        verdict = "acknowledged" if all(answer.is_accepted for answer in given) else "rejected"
        missing = parts[external_id] - {answer.document for answer in given} - {external_id}
        whole = any(answer.document == external_id for answer in given)
        if verdict == "acknowledged" and missing and not whole:
            raise LedgerError(
                f"{file_name}: nothing about {', '.join(sorted(missing))} of {external_id}; a "
                "journal is acknowledged when all its documents are"
            )
        journal = session.scalars(
            sa.select(models.Journal).where(models.Journal.external_id == external_id)
        ).one()
        if journal.state == verdict:
            done["unchanged"].append(external_id)
            continue
        if journal.state != "exported":
            raise LedgerError(
                f"{file_name}:{given[0].line}: journal {external_id} is {journal.state} and cannot "
                f"be {verdict}; an earlier answer said otherwise, or it waits for its next export"
            )
        message = "; ".join(dict.fromkeys(a.message for a in given if a.message))
        journal.state, journal.answered_at, journal.answer = verdict, at, message or None
        session.flush()
        done[verdict].append(external_id)
        ledger.audit(
            session,
            at=at,
            actor=actor,
            action=f"journal {verdict}",
            subject=external_id,
            detail={"target": target.id, "message": message},
            input_hashes={file_name: sha256},
        )
    return Answered(**done)


def retry(session: Session, external_id: str, *, actor: str, at: datetime, reason: str) -> None:
    """Let a rejected journal be built and exported again; its reversal, if any, is dropped.

    Raises LedgerError if it was not rejected, or if the ERP took its reversal.
    """
    ledger.lock_ledger(session)
    journal = session.scalars(
        sa.select(models.Journal).where(models.Journal.external_id == external_id)
    ).one_or_none()
    if journal is None:
        raise LedgerError(f"no journal {external_id!r}; `iotbill status` lists them")
    if journal.state != "rejected":
        raise LedgerError(
            f"journal {external_id} is {journal.state}; only a rejected one is retried"
        )
    reversal = session.scalars(
        sa.select(models.Journal).where(models.Journal.reverses_id == journal.journal_id)
    ).one_or_none()
    if reversal is not None:
        if reversal.state == "acknowledged":
            raise LedgerError(
                f"the ERP rejected {external_id} but took {reversal.external_id}, which posts it "
                "back; reverse that one in the ERP first and have it answered as rejected"
            )
        if reversal.state == "exported":
            _set(session, reversal, "rejected")
        if reversal.state == "rejected":
            _free(session, reversal)
        session.delete(reversal)
        session.flush()
    _free(session, journal)
    ledger.audit(
        session,
        at=at,
        actor=actor,
        action="journal retry",
        subject=external_id,
        detail={"reason": reason},
    )


def _free(session: Session, journal: models.Journal) -> None:
    session.execute(
        sa.delete(models.JournalExport).where(models.JournalExport.journal_id == journal.journal_id)
    )
    journal.exported_at = journal.answered_at = journal.answer = None
    _set(session, journal, "built")


def _set(session: Session, journal: models.Journal, state: str) -> None:
    journal.state = state
    session.flush()
