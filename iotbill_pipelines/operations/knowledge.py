"""What a run knows: the reference data and catalog it computes from, the same in every stage."""

from __future__ import annotations

from sqlalchemy.orm import Session

from iotbill_pipelines.config.contracts import read_contract_book
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.terms import compile_catalog
from iotbill_pipelines.operations import catalogs, contracts, runs
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage.models import Run
from iotbill_pipelines.storage.reference import (
    Snapshot,
    open_snapshot,
    store_catalog,
    take_snapshot,
)


def knowledge(ws: Workspace, period: Month | None = None) -> Snapshot:
    """Return the snapshot of the workspace's run; its first stage takes it, later ones reuse it.

    So that a file which lands while a close runs cannot make two stages see different owners or
    prices. A stage of a close gives its ``period``: called by itself, it registers the run. Raises
    ConfigError for a catalog or contracts that do not hold together, LookupError for a version that
    was never kept.
    """
    if period is not None:
        runs.start(ws, "close", period)
    with Session(ws.engine) as session, session.begin():
        run = session.get_one(Run, ws.run_id)
        known = (run.detail or {}).get("snapshot_id")
        if known:
            return open_snapshot(session, ws.home, known)
        source = catalogs.in_force(ws)
        book = read_contract_book(ws.configs / "contracts", source.catalog)
        contracts.take_over(session, book, source.catalog, ws.clock())
        digest = source.digest
        if ws.catalog_digest is None:
            digest = store_catalog(session, source.json, ws.clock())
        snapshot = take_snapshot(
            session, ws.home, ws.clock(), compile_catalog(source.catalog), digest
        )
        run.detail = {**(run.detail or {}), "snapshot_id": snapshot.id}
        return snapshot
