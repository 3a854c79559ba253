"""Waivers of close gates: a named person lets a close go on past what a gate found (RULEBOOK §11).

A waiver is for what the gate says when it is signed. It holds as long as the gate finds nothing
else: another figure, another file or a new finding blocks again, and needs another signature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa
from sqlalchemy.orm import Session

from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.operations.close import CLOSE_STAGES, Stage
from iotbill_pipelines.operations.stages import Finding, StageResult
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage import ledger
from iotbill_pipelines.storage.models import GateResult


class WaiverError(ValueError):
    """A gate that cannot be waived as it stands; the message says why and what to do."""


@dataclass(frozen=True)
class Waiver:
    """A signed waiver: the findings it is for, by code, message and figure."""

    gate: str
    waived_by: str
    reason: str
    findings: frozenset[tuple[str, str, str]]


def waive_gate(ws: Workspace, gate: str, period: Month, *, by: str, reason: str) -> list[Finding]:
    """Waive what a gate of a month found last; return those findings.

    Recorded as the gate's newest result and in the audit log. Raises WaiverError for an unknown
    gate, an empty name or reason, and a gate that does not fail now.
    """
    known = [each.code for stage in CLOSE_STAGES for each in stage.all_gates]
    if gate not in known:
        raise WaiverError(f"no gate {gate!r}; there are {', '.join(known)}")
    if not by.strip() or not reason.strip():
        raise WaiverError("a waiver needs a name and a reason: --by NAME --reason TEXT")
    with Session(ws.engine) as session, session.begin():
        last = session.scalars(
            sa.select(GateResult)
            .where(GateResult.period == str(period), GateResult.gate == gate)
            .order_by(GateResult.gate_result_id.desc())
            .limit(1)
        ).first()
        if last is None:
            raise WaiverError(
                f"gate {gate} has not been checked for {period}; run `iotbill close {period}` first"
            )
        if last.outcome != "failed":
            raise WaiverError(
                f"gate {gate} of {period} is {last.outcome}, there is nothing to waive"
                + (f" (by {last.waived_by}: {last.waive_reason})" if last.waived_by else "")
            )
        session.add(
            GateResult(
                period=last.period,
                gate=gate,
                outcome="waived",
                severity=last.severity,
                figure=last.figure,
                message=last.message,
                what_to_do=last.what_to_do,
                evidence=last.evidence,
                run_id=last.run_id,
                recorded_at=ws.clock(),
                waived_by=by.strip(),
                waive_reason=reason.strip(),
            )
        )
        ledger.audit(
            session,
            at=ws.clock(),
            actor=ws.actor,
            action="waive_gate",
            subject=f"{gate} {period}",
            detail={
                "by": by.strip(),
                "reason": reason.strip(),
                "severity": last.severity,
                "figure": last.figure,
                "message": last.message,
            },
        )
        return [Finding(**found) for found in (last.evidence or {}).get("findings", [])]


def waivers_of(ws: Workspace, period: Month, stage: Stage) -> list[Waiver]:
    """Return the waivers signed for a stage's gates in a month, newest first."""
    gates = [gate.code for gate in stage.all_gates]
    with Session(ws.engine) as session:
        rows = session.scalars(
            sa.select(GateResult)
            .where(
                GateResult.period == str(period),
                GateResult.gate.in_(gates),
                GateResult.outcome == "waived",
            )
            .order_by(GateResult.gate_result_id.desc())
        ).all()
        return [
            Waiver(
                row.gate,
                row.waived_by or "",
                row.waive_reason or "",
                frozenset(
                    (found["code"], found["message"], found["figure"])
                    for found in (row.evidence or {}).get("findings", [])
                ),
            )
            for row in rows
        ]


def apply_waivers(result: StageResult, stage: Stage, waivers: Sequence[Waiver]) -> StageResult:
    """Return the result with waived findings marked: a blocking one then only warns."""
    if not waivers:
        return result
    return replace(result, findings=[_marked(f, stage, waivers) for f in result.findings])


def _marked(finding: Finding, stage: Stage, waivers: Sequence[Waiver]) -> Finding:
    if finding.severity == "info":
        return finding
    said = (finding.code, finding.message, finding.figure)
    for waiver in waivers:
        if waiver.gate == stage.gate_of(finding) and said in waiver.findings:
            return replace(
                finding,
                severity="warn",
                waived_by=waiver.waived_by,
                waive_reason=waiver.reason,
            )
    return finding
