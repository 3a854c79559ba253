"""Journals and the ERP: its rules, its files, its answers, and estimates (RULEBOOK §9)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Literal

import sqlalchemy as sa
from sqlalchemy.orm import Session

from iotbill_pipelines.config.ledger import read_ledger
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.money import to_minor
from iotbill_pipelines.operations.stages import Finding, finding
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage import acknowledgements, ledger, models
from iotbill_pipelines.storage.acknowledgements import Answered
from iotbill_pipelines.storage.ledger import ExportedFile, LedgerError


def lint(ws: Workspace, period: Month, target: str | None = None) -> list[Finding]:
    """Check a period's journals against the rules of a target, or of every configured one."""
    terms = read_ledger(ws.configs / "ledger")
    with Session(ws.engine) as session:
        found = ledger.lint_journals(session, period, terms, [target] if target else None)
    return [finding(f) for f in found]


def export(
    ws: Workspace, period: Month, target: str, folder: Path
) -> tuple[list[ExportedFile], list[Finding]]:
    """Write a period's journals for one target into a folder; marks them exported."""
    terms = read_ledger(ws.configs / "ledger")
    folder.mkdir(parents=True, exist_ok=True)
    with Session(ws.engine) as session, session.begin():
        files, found = ledger.export_journals(
            session, period, terms, folder, exported_at=ws.clock(), targets=[target]
        )
    return files, [finding(f) for f in found]


def acknowledge(ws: Workspace, file: Path, target: str) -> Answered:
    """Read an answer file of the ERP back: all of it, or nothing."""
    chosen = read_ledger(ws.configs / "ledger").target(target)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    answers = acknowledgements.read_answers(file, chosen.acknowledgement)
    with Session(ws.engine) as session, session.begin():
        return acknowledgements.answer_journals(
            session,
            answers,
            chosen,
            actor=ws.actor,
            at=ws.clock(),
            file_name=file.name,
            sha256=digest,
        )


def retry(ws: Workspace, external_id: str, reason: str) -> None:
    """Let a rejected journal be built and exported again by the next close."""
    with Session(ws.engine) as session, session.begin():
        acknowledgements.retry(session, external_id, actor=ws.actor, at=ws.clock(), reason=reason)


@dataclass(frozen=True)
class Estimate:
    """What usage that is missing is estimated at: ``days`` times an average ``per_day`` (CL-06)."""

    entity_id: str
    level: Literal["retail", "vendor"]
    account_id: str
    product_id: str
    gl_class: str
    currency: str
    days: int
    per_day: Decimal
    reason: str
    kind: str = "usage"
    tax_code: str = "standard"

    @property
    def amount_minor(self) -> int:
        """Minor units of the accrual. Raises ValueError for an average as :func:`to_minor` does."""
        return self.days * to_minor(self.per_day, self.currency)


def estimate(ws: Workspace, period: Month, given: Estimate) -> Decimal:
    """Record an estimate; the period's next close posts it, and back on the next one's first day.

    Returns the amount. Raises LedgerError for no days, an average that is no amount of whole minor
    units, or no reason.
    """
    if given.days == 0 or not given.reason.strip():
        raise LedgerError("an estimate takes days that are missing, and a reason")
    try:
        per_day = to_minor(given.per_day, given.currency)
    except ValueError as error:
        raise LedgerError(f"{error}; give the average a day in whole minor units") from None
    terms = read_ledger(ws.configs / "ledger")
    terms.entity(given.entity_id)
    with Session(ws.engine) as session, session.begin():
        ledger.lock_ledger(session)
        ledger.ensure_entities(session, terms.entities)
        ledger.ensure_periods(session, period, [given.entity_id], ws.clock())
        newest = session.scalar(sa.select(sa.func.max(models.AccrualEstimate.estimate_id)))
        row = models.AccrualEstimate(
            estimate_id=(newest or 0) + 1,
            entity_id=given.entity_id,
            accounting_period=str(period),
            level=given.level,
            account_id=given.account_id,
            product_id=given.product_id,
            kind=given.kind,
            gl_class=given.gl_class,
            tax_code=given.tax_code,
            currency=given.currency,
            missing_days=given.days,
            per_day_minor=per_day,
            amount_minor=given.amount_minor,
            reason=given.reason,
            actor=ws.actor,
            recorded_at=ws.clock(),
        )
        session.add(row)
        session.flush()
        ledger.audit(
            session,
            at=ws.clock(),
            actor=ws.actor,
            action="estimate",
            subject=f"{given.entity_id} {period}",
            detail={
                "level": given.level,
                "account": given.account_id,
                "days": given.days,
                "per_day": f"{given.per_day:f} {given.currency}",
                "reason": given.reason,
            },
        )
        session.refresh(row)
        return row.amount
