"""Marts: dbt over ledger and lake, once per close.

It computes no money that the engine did not book. Of the lake it reads views of the tables' newest
files, in a DuckDB file made before each run.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import duckdb_extensions
import sqlalchemy as sa

from iotbill_pipelines.compute.duckdb_engine import scan_select
from iotbill_pipelines.config.feeds import load_feeds
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.schemas import RATED_USAGE, Table
from iotbill_pipelines.operations import catalogs, fingerprints
from iotbill_pipelines.operations.close import DBT_PROJECT, stage_named
from iotbill_pipelines.operations.margins import publish_product_costs
from iotbill_pipelines.operations.runs import code_version
from iotbill_pipelines.operations.stages import Finding, StageResult
from iotbill_pipelines.operations.usage import around
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage.models import BookedCharge, DerivedEntry, VendorReconciliation

_STAGE = "publish_marts"
DAILY_USAGE_PERIODS = 2
"""Newest settled usage periods that marts by day show: what they read of the lake is bounded."""


def publish_marts(ws: Workspace, period: Month) -> StageResult:
    """Build the marts in PostgreSQL's schema ``marts`` and run their data tests.

    They are of all periods; what is by day is of the newest :data:`DAILY_USAGE_PERIODS`.

    What has to be apportioned is published before, as a table that models read. Every failed data
    test is a blocking finding that names the test and its rows. dbt runs as a process of its own:
    it keeps global state, and its start-up is paid once for all models. Where neither ledger,
    rated usage, models nor engine changed since the tests last passed, nothing is done.
    """
    inputs = _inputs(ws)
    if fingerprints.recorded(ws, _STAGE).get(period) == fingerprints.fingerprint(inputs):
        return StageResult(rows=_rows(ws), changed=False)
    fingerprints.forget(ws, _STAGE, period)
    publish_product_costs(ws)
    result = _build(ws)
    if not result.blocking:
        inputs["tables"] = list(_marts())
        with ws.engine.begin() as connection:
            fingerprints.remember(connection, ws, _STAGE, period, inputs)
    return result


def _inputs(ws: Workspace) -> dict[str, Any]:
    with ws.engine.connect() as connection:
        ledger = connection.execute(
            sa.select(sa.func.count(), sa.func.max(BookedCharge.booked_at))
        ).one()
        derived = connection.execute(
            sa.select(sa.func.count(), sa.func.max(DerivedEntry.booked_at))
        ).one()
        reconciled = connection.execute(
            sa.select(sa.func.count(), sa.func.max(VendorReconciliation.reconciled_at))
        ).one()
        tables = [mart for mart in _marts() if sa.inspect(connection).has_table(mart, "marts")]
    models = {
        path.relative_to(DBT_PROJECT).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(DBT_PROJECT.rglob("*"))
        if path.suffix in (".sql", ".yml")
    }
    settled = fingerprints.recorded(ws, "settle_charges")
    return {
        "settled": {str(month): settled[month] for month in sorted(settled)},
        "booked_charge": [str(value) for value in ledger],
        "derived_entry": [str(value) for value in derived],
        "vendor_reconciliation": [str(value) for value in reconciled],
        "models": models,
        "code": code_version(),
        "variables": _variables(ws),
        "rated_usage": [
            name
            for month in _usage_months(ws)
            for name in ws.lake.names(RATED_USAGE, usage_month=str(month))
        ],
        "tables": tables,
    }


def _marts() -> tuple[str, ...]:
    return stage_named(_STAGE).tables


def _build(ws: Workspace) -> StageResult:
    target = ws.home / "dbt"
    target.mkdir(parents=True, exist_ok=True)
    command = [
        *(sys.executable, "-m", "dbt.cli.main", "--quiet", "--no-use-colors"),
        *("--log-path", str(target), "build", "--target-path", str(target)),
        *("--project-dir", str(DBT_PROJECT), "--profiles-dir", str(DBT_PROJECT)),
        *("--vars", json.dumps(_variables(ws))),
    ]
    lake = target / "lake.duckdb"
    lake.unlink(missing_ok=True)
    files = [
        file
        for month in _usage_months(ws)
        for file in ws.lake.files(RATED_USAGE, usage_month=str(month))
    ]
    make_views(lake, {RATED_USAGE: files})
    results_file = target / "run_results.json"
    results_file.unlink(missing_ok=True)
    finished = subprocess.run(
        command, env=_environment(ws, lake), capture_output=True, text=True, check=False
    )
    if not results_file.exists():
        raise RuntimeError(f"dbt did not run:\n{finished.stdout}{finished.stderr}")
    return _result(ws, json.loads(results_file.read_text())["results"])


def make_views(path: Path, tables: Mapping[Table, Sequence[str]]) -> None:
    """Make a DuckDB file in which each table of the lake is a view of its files; none = no rows."""
    with duckdb.connect(str(path)) as connection:
        for table, files in tables.items():
            connection.execute(f'create view "{table.name}" as {scan_select(table, files)}')


def _variables(ws: Workspace) -> dict[str, Any]:
    """What marts are told: who sends each feed, each usage class's unit, the periods by day."""
    feeds = load_feeds(ws.configs / "feeds")
    return {
        "carriers": {name: feed.carrier for name, feed in feeds.items()},
        "units": catalogs.in_force(ws).catalog.usage_classes,
        "daily_usage_periods": [str(month) for month in _daily_periods(ws)],
    }


def _daily_periods(ws: Workspace) -> list[Month]:
    return sorted(fingerprints.recorded(ws, "settle_charges"))[-DAILY_USAGE_PERIODS:]


def _usage_months(ws: Workspace) -> list[Month]:
    """The UTC months that usage of the periods by day lies in."""
    return sorted({month for period in _daily_periods(ws) for month in around(period)})


def _environment(ws: Workspace, lake: Path) -> dict[str, str]:
    extensions = ws.home / "duckdb_extensions"
    extensions.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(config={"extension_directory": str(extensions)}) as connection:
        duckdb_extensions.import_extension("postgres_scanner", con=connection)
    libpq_uri = ws.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    return {
        **os.environ,
        "IOTBILL_DUCKDB_EXTENSIONS": str(extensions),
        "IOTBILL_DBT_POSTGRES": libpq_uri,
        "IOTBILL_DBT_LAKE": str(lake),
        "DO_NOT_TRACK": "1",
    }


def _result(ws: Workspace, results: list[dict[str, object]]) -> StageResult:
    findings = [
        Finding(
            code="mart_tests",
            severity="block",
            message=f"{result['unique_id']}: {result['message']}",
            figure=str(result.get("failures") or ""),
            what_to_do=f"See the rows with: dbt show, or the log in {ws.home / 'dbt'}",
        )
        for result in results
        if result["status"] not in ("pass", "success", "skipped")
    ]
    passed = sum(1 for result in results if result["status"] == "pass")
    return StageResult(rows={**_rows(ws), "data tests passed": passed}, findings=findings)


def _rows(ws: Workspace) -> dict[str, int]:
    """Rows per mart that exists."""
    with ws.engine.connect() as connection:
        return {
            mart: connection.execute(
                sa.select(sa.func.count()).select_from(sa.table(mart, schema="marts"))
            ).scalar_one()
            for mart in _marts()
            if sa.inspect(connection).has_table(mart, schema="marts")
        }
