"""Verifying the audit log (RULEBOOK §11)."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session

from iotbill_pipelines.operations.stages import Finding, finding
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage import ledger
from iotbill_pipelines.storage.models import AuditLog


@dataclass(frozen=True)
class AuditState:
    """The log's length, its newest hash, and what does not fit."""

    entries: int
    head: str
    findings: list[Finding]


def verify(ws: Workspace, head: str | None = None) -> AuditState:
    """Recompute the chain, hold closed periods to their seals, look whether guards are on.

    ``head`` is a hash that was the newest once: it must still be there.
    """
    with Session(ws.engine) as session:
        entries = session.scalar(sa.select(sa.func.count()).select_from(AuditLog)) or 0
        newest = session.scalar(sa.select(AuditLog.hash).order_by(AuditLog.seq.desc()).limit(1))
        found = [finding(f) for f in ledger.verify_audit(session)]
        found += [finding(f) for f in ledger.check_seals(session)]
        if head is not None and not session.scalar(
            sa.select(sa.func.count()).select_from(AuditLog).where(AuditLog.hash == head)
        ):
            found.append(
                Finding(
                    "audit",
                    "block",
                    f"no entry has the hash {head}: entries were removed at the end, or changed",
                    head,
                    "restore the audit log from a backup and find out who changed it",
                )
            )
    return AuditState(entries, newest or "0" * 64, found)
