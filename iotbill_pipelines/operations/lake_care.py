"""Looking after the lake: what it holds, what killed runs left, and its move to an object store."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from iotbill_pipelines.engine.schemas import TABLES
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage.lake_places import LakeError


@dataclass(frozen=True)
class LakeTable:
    """A table of the lake: its newest version and what that holds."""

    table: str
    version: int
    partitions: int
    files: int
    rows: int


def describe(ws: Workspace) -> list[LakeTable]:
    """Return the lake's tables, in the order of their declaration."""
    found = ((schema.name, ws.lake.standing(schema)) for schema in TABLES.values())
    return [LakeTable(name, *standing) for name, standing in found if standing is not None]


def clean(ws: Workspace, before: datetime) -> dict[str, list[str]]:
    """Delete what killed runs left in the lake before a moment; return the files, by table."""
    deleted = {name: ws.lake.remove_orphans(schema, before) for name, schema in TABLES.items()}
    return {name: files for name, files in deleted.items() if files}


def upload(ws: Workspace) -> dict[str, int]:
    """Copy the state folder's lake to the configured object store; return files by table.

    Raises LakeError if there is nothing to copy, or the store holds something else.
    """
    source = ws.home / "lake"
    found = {
        name: ws.lake.take_over(schema, source)
        for name, schema in TABLES.items()
        if (source / name / "_delta_log").is_dir()
    }
    if not found:
        raise LakeError(f"{source} holds no tables; there is nothing to copy")
    return found
