"""Executions and their evidence: who ran what, with which code, and how its gates came out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from iotbill_pipelines.config.close import read_close_policy
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.operations.close import Stage
from iotbill_pipelines.operations.locks import advisory_lock
from iotbill_pipelines.operations.stages import Finding, StageResult
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage.models import BookedCharge, GateResult, Invoice, Journal, Run

_SEVERITY_ORDER = {"block": 0, "warn": 1, "info": 2}


@cache
def code_version() -> str:
    """Return a hash of the code that decides amounts: the engine and the compute behind it."""
    digest = hashlib.sha256()
    for package in ("engine", "compute"):
        root = files("iotbill_pipelines").joinpath(package)
        for name, content in sorted(_sources(root, package)):
            digest.update(f"\n{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


def _sources(folder: Traversable, path: str) -> Iterator[tuple[str, bytes]]:
    for entry in folder.iterdir():
        name = f"{path}/{entry.name}"
        if entry.is_dir():
            yield from _sources(entry, name)
        elif entry.name.endswith((".py", ".sql")):
            yield name, entry.read_bytes()


def start(ws: Workspace, kind: str, period: Month | None) -> None:
    """Register the workspace's run if it is not registered yet; a failed one starts again."""
    row = insert(Run).values(
        run_id=ws.run_id,
        kind=kind,
        period=None if period is None else str(period),
        started_at=ws.clock(),
        status="started",
        actor=ws.actor,
        code_version=code_version(),
    )
    again = row.on_conflict_do_update(
        index_elements=[Run.run_id],
        set_={"status": "started", "finished_at": None},
        where=Run.status == "failed",
    )
    with ws.engine.begin() as connection:
        connection.execute(again)


def note(connection: sa.Connection, run_id: str, detail: dict[str, Any]) -> None:
    """Add to what a run says about itself."""
    held: dict[str, Any] | None = connection.execute(
        sa.select(Run.detail).where(Run.run_id == run_id)
    ).scalar_one()
    connection.execute(
        sa.update(Run).where(Run.run_id == run_id).values(detail={**(held or {}), **detail})
    )


def finish(ws: Workspace, status: str, detail: dict[str, Any] | None) -> None:
    """Close the run's record as ``succeeded`` or ``failed``."""
    with ws.engine.begin() as connection:
        if detail:
            note(connection, ws.run_id, detail)
        connection.execute(
            sa.update(Run)
            .where(Run.run_id == ws.run_id)
            .values(status=status, finished_at=ws.clock())
        )


@contextmanager
def step(ws: Workspace, kind: str, period: Month | None, **told: str) -> Iterator[None]:
    """Do a part of the workspace's run, which is registered if it is not yet.

    An error closes the run's record as ``failed``, with ``told`` and what the error says, and is
    raised again; otherwise the run goes on.
    """
    start(ws, kind, period)
    try:
        yield
    except Exception as error:
        finish(ws, "failed", told | {"error": str(error) or type(error).__name__})
        raise


@contextmanager
def whole(ws: Workspace, kind: str, period: Month | None, **told: str) -> Iterator[dict[str, Any]]:
    """Do all of the workspace's run: as :func:`step`, and ``succeeded`` at its end.

    Yields a dictionary for what the run then says about itself.
    """
    detail: dict[str, Any] = {}
    with step(ws, kind, period, **told):
        yield detail
    finish(ws, "succeeded", detail)


@contextmanager
def stage_lock(ws: Workspace, *periods: Month) -> Iterator[None]:
    """Let one stage of the months run at a time, whoever started it; others wait."""
    with advisory_lock(ws.engine, *(f"stage:{period}" for period in periods), wait=True):
        yield


def record_gates(ws: Workspace, period: Month, stage: Stage, result: StageResult) -> None:
    """Keep how each gate of a stage came out; the newest row of a gate counts."""
    now, policy = ws.clock(), read_close_policy(ws.configs)
    rows = []
    for gate in stage.all_gates:
        findings = sorted(
            (f for f in result.findings if stage.gate_of(f) == gate.code),
            key=lambda finding: _SEVERITY_ORDER[finding.severity],
        )
        worst = findings[0] if findings else None
        failing = [f for f in findings if f.severity != "info"]
        waived = failing[0] if failing and all(f.waived_by for f in failing) else None
        rows.append(
            {
                "period": str(period),
                "gate": gate.code,
                "outcome": "waived" if waived else "failed" if failing else "passed",
                "severity": worst.severity if worst else "info",
                "figure": (worst.figure if failing and worst else gate.figure(result.rows)) or None,
                "message": "\n".join(f.message for f in findings) or gate.title,
                "what_to_do": "\n".join(dict.fromkeys(f.what_to_do for f in findings)) or None,
                "evidence": {
                    "stage": stage.name,
                    "owner": policy.owner_of(gate.code),
                    "counts": result.rows,
                    "amounts": [f"{name}: {code} {sum_}" for name, code, sum_ in result.amounts],
                    "findings": [_plain(f) for f in findings],
                },
                "run_id": ws.run_id,
                "recorded_at": now,
                "waived_by": waived.waived_by if waived else None,
                "waive_reason": waived.waive_reason if waived else None,
            }
        )
    with ws.engine.begin() as connection:
        connection.execute(sa.insert(GateResult), rows)


def _plain(finding: Finding) -> dict[str, str]:
    return {
        "code": finding.code,
        "severity": finding.severity,
        "message": finding.message,
        "figure": finding.figure,
        "what_to_do": finding.what_to_do,
        "waived_by": finding.waived_by,
        "waive_reason": finding.waive_reason,
    }


def findings_of_run(ws: Workspace, run_id: str) -> list[tuple[str, Finding]]:
    """Return the findings that a run recorded, as (stage name, finding), in order."""
    select = (
        sa.select(GateResult.evidence)
        .where(GateResult.run_id == run_id)
        .order_by(GateResult.gate_result_id)
    )
    with ws.engine.connect() as connection:
        evidence: Sequence[dict[str, Any] | None] = connection.execute(select).scalars().all()
    return [
        (entry["stage"], Finding(**finding))
        for entry in evidence
        if entry
        for finding in entry["findings"]
    ]


@dataclass(frozen=True)
class Posted:
    """What a run added to the ledger; all zero when everything was there already."""

    charges: int
    invoices: int
    journals: int

    @property
    def nothing(self) -> bool:
        """Whether the run posted nothing at all."""
        return not (self.charges or self.invoices or self.journals)


def posted_by(ws: Workspace, run_id: str) -> Posted:
    """Return how much a run booked, invoiced and journalled."""
    with ws.engine.connect() as connection:

        def count(table: type[BookedCharge] | type[Invoice] | type[Journal]) -> int:
            select = sa.select(sa.func.count()).select_from(table).where(table.run_id == run_id)
            return int(connection.execute(select).scalar_one())

        return Posted(count(BookedCharge), count(Invoice), count(Journal))
