"""Whether a stage's inputs changed: the fingerprint of what a month was last computed from.

The fingerprint is blanked before a stage writes and set after, so that one killed in between does
its work again, and one whose inputs are the same does nothing.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import sqlalchemy as sa

from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage.models import StageInput


def fingerprint(detail: dict[str, Any]) -> str:
    """Return the hash of what a stage computes from."""
    return hashlib.sha256(json.dumps(detail, sort_keys=True).encode()).hexdigest()


def recorded(ws: Workspace, stage: str) -> dict[Month, str]:
    """Return the fingerprint of every month that a stage has worked on; blank if interrupted."""
    select = sa.select(StageInput.month, StageInput.fingerprint).where(StageInput.stage == stage)
    with ws.engine.connect() as connection:
        return {Month.parse(month): value for month, value in connection.execute(select)}


def details(ws: Workspace, stage: str) -> dict[Month, dict[str, Any]]:
    """Return what a stage last computed each month from, without those that were interrupted."""
    select = sa.select(StageInput.month, StageInput.detail).where(
        StageInput.stage == stage, StageInput.fingerprint != ""
    )
    with ws.engine.connect() as connection:
        return {Month.parse(row.month): row.detail for row in connection.execute(select)}


def forget(ws: Workspace, stage: str, month: Month) -> None:
    """Say that a month's outputs are being replaced."""
    with ws.engine.begin() as connection:
        connection.execute(
            sa.update(StageInput)
            .where(StageInput.stage == stage, StageInput.month == str(month))
            .values(fingerprint="")
        )


def remember(
    connection: sa.Connection,
    ws: Workspace,
    stage: str,
    month: Month,
    detail: dict[str, Any],
    snapshot_id: str | None = None,
) -> None:
    """Say, within the caller's transaction, what a month's outputs were computed from.

    ``snapshot_id`` names the whole snapshot that was read; the fingerprint holds only what of it
    matters to the month.
    """
    connection.execute(
        sa.delete(StageInput).where(StageInput.stage == stage, StageInput.month == str(month))
    )
    connection.execute(
        sa.insert(StageInput).values(
            stage=stage,
            month=str(month),
            fingerprint=fingerprint(detail),
            detail=detail if snapshot_id is None else {**detail, "snapshot": snapshot_id},
            run_id=ws.run_id,
            recorded_at=ws.clock(),
        )
    )
