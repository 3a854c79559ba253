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
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import duckdb_extensions
import pyarrow as pa
import sqlalchemy as sa

from iotbill_pipelines.compute.duckdb_engine import scan_select
from iotbill_pipelines.config.feeds import load_feeds
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.money import of_minor
from iotbill_pipelines.engine.schemas import RATED_USAGE, Table
from iotbill_pipelines.operations import catalogs, fingerprints
from iotbill_pipelines.operations.close import DBT_PROJECT, mart_amounts, stage_named
from iotbill_pipelines.operations.locks import advisory_lock
from iotbill_pipelines.operations.margins import publish_product_costs
from iotbill_pipelines.operations.runs import code_version
from iotbill_pipelines.operations.stages import Finding, StageResult
from iotbill_pipelines.operations.usage import around
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage.models import BookedCharge, DerivedEntry, VendorReconciliation

_STAGE = "publish_marts"
DAILY_USAGE_PERIODS = 2
"""Newest settled usage periods that marts by day show: what they read of the lake is bounded."""
PREVIEW_ROWS = 20

_SCHEMA = "marts"
_MONTHS = ("accounting_period", "usage_period", "usage_month")
"""Columns that say what month a mart's row is of; the first that a mart has counts."""
_ALL_MONTHS, _THE_MONTH = "of all months", "of the month"


def publish_marts(ws: Workspace, period: Month) -> StageResult:
    """Build the marts in PostgreSQL's schema ``marts`` and run their data tests.

    They are of all periods; what is by day is of the newest :data:`DAILY_USAGE_PERIODS`. The
    result's amounts and previews are of ``period``.

    What has to be apportioned is published before, as a table that models read. Every failed data
    test is a blocking finding that names the test and its rows. dbt runs as a process of its own:
    it keeps global state, and its start-up is paid once for all models. Where neither ledger,
    rated usage, models nor engine changed since the tests last passed, nothing is done.
    """
    # Closes of two months build the same tables, by files of one name.
    with advisory_lock(ws.engine, "marts", wait=True):
        inputs = _inputs(ws)
        if fingerprints.recorded(ws, _STAGE).get(period) == fingerprints.fingerprint(inputs):
            return show_marts(ws, period, changed=False)
        fingerprints.forget(ws, _STAGE, period)
        publish_product_costs(ws)
        result = _build(ws, period, inputs["variables"])
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
        tables = [mart for mart in _marts() if sa.inspect(connection).has_table(mart, _SCHEMA)]
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


def _build(ws: Workspace, period: Month, variables: Mapping[str, Any]) -> StageResult:
    target = ws.home / "dbt"
    target.mkdir(parents=True, exist_ok=True)
    command = [
        *(sys.executable, "-m", "dbt.cli.main", "--quiet", "--no-use-colors"),
        *("--log-path", str(target), "build", "--target-path", str(target)),
        *("--project-dir", str(DBT_PROJECT), "--profiles-dir", str(DBT_PROJECT)),
        *("--vars", json.dumps(variables)),
    ]
    lake = target / "lake.duckdb"
    for left in target.glob(f"{lake.name}*"):  # a killed run leaves DuckDB's log beside the file
        left.unlink()
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
    return _result(ws, period, json.loads(results_file.read_text())["results"])


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


def _result(ws: Workspace, period: Month, results: list[dict[str, object]]) -> StageResult:
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
    result = show_marts(ws, period, changed=True)
    return replace(result, rows={**result.rows, "data tests passed": passed}, findings=findings)


def show_marts(ws: Workspace, period: Month, *, changed: bool) -> StageResult:
    """Return the rows of the marts that exist, and of ``period`` their amounts and a few rows.

    Amounts are sums of the columns that :func:`operations.close.mart_amounts` names, in the
    currency's own unit; each mart's own are in ``tables``.
    """
    with ws.engine.connect() as connection:
        inspector = sa.inspect(connection)
        tables = {
            mart: replace(
                _table(
                    connection,
                    mart,
                    [column["name"] for column in inspector.get_columns(mart, _SCHEMA)],
                    period,
                ),
                changed=changed,
            )
            for mart in _marts()
            if inspector.has_table(mart, schema=_SCHEMA)
        }
    return StageResult(
        rows={mart: table.rows[_ALL_MONTHS] for mart, table in tables.items()},
        amounts=[
            (f"{mart} {label}", currency, amount)
            for mart, table in tables.items()
            for label, currency, amount in table.amounts
        ],
        preview=pa.table(
            {
                "mart": list(tables),
                "rows": [table.rows[_ALL_MONTHS] for table in tables.values()],
                f"rows of {period}": [table.rows[_THE_MONTH] for table in tables.values()],
            }
        ),
        changed=changed,
        tables=tables,
    )


def _table(
    connection: sa.Connection, mart: str, columns: Sequence[str], period: Month
) -> StageResult:
    table = sa.table(mart, *map(sa.column, columns), schema=_SCHEMA)
    of_the_month = next(table.c[name] for name in _MONTHS if name in columns) == str(period)
    rows, of_month = connection.execute(
        sa.select(sa.func.count(), sa.func.count().filter(of_the_month)).select_from(table)
    ).one()
    few = connection.execute(
        sa.select(table).where(of_the_month).order_by(*table.c).limit(PREVIEW_ROWS)
    ).all()
    return StageResult(
        rows={_ALL_MONTHS: rows, _THE_MONTH: of_month},
        amounts=_amounts(connection, table, of_the_month),
        preview=pa.table({name: [row[i] for row in few] for i, name in enumerate(columns)}),
    )


def _amounts(
    connection: sa.Connection, table: sa.TableClause, chosen: sa.ColumnElement[bool]
) -> list[tuple[str, str, Decimal]]:
    """Sums per currency, and per seller level where a mart has several."""
    # a table whose model failed may be of an earlier version
    names = [name for name in mart_amounts()[table.name] if name in table.c]
    if not names:
        return []
    keys = [table.c[name] for name in ("level", "currency") if name in table.c]
    sums = connection.execute(
        sa.select(*keys, *(sa.func.sum(table.c[name]) for name in names))
        .where(chosen)
        .group_by(*keys)
        .order_by(*keys)
    ).all()
    amounts = []
    for row in sums:
        *level, currency = row[: len(keys)]
        for name, total in zip(names, row[len(keys) :], strict=True):
            in_minor = name.endswith("_minor")
            label = " ".join((*level, name.removesuffix("_minor").replace("_", " ")))
            amounts.append((label, currency, of_minor(int(total), currency) if in_minor else total))
    return amounts
