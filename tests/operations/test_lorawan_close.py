"""Months of the Helium recordings are closed by the stages that close any month."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import sqlalchemy as sa

from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.operations.close import CLOSE_STAGES, run_stage
from iotbill_pipelines.operations.ingest import ingest, land
from iotbill_pipelines.operations.sample.lorawan import write_lorawan_inventory
from iotbill_pipelines.operations.workspace import Workspace
from tests.conftest import ROOT
from tests.sample.test_lorawan import graduated, uplinks_by_month

SINCE = date(2021, 1, 1)


def test_months_of_the_recordings_close(shared: Path, tmp_path: Path, postgres_url: str) -> None:
    folder = shared / "feeds" / "lorawan"
    register = folder / "campusiot_helium_endpoints.csv"
    recordings = sorted(folder.glob("campusiot_helium_*.ndjson.gz"))
    expected = uplinks_by_month(register, recordings)
    busiest = max(expected, key=lambda key: expected[key])[1]
    all_months = sorted({month for _, month in expected})
    # Closing each takes seconds; test_lorawan.py bills them all.
    chosen = {all_months[0], busiest, all_months[-1]}
    months = [Month.parse(month) for month in sorted(chosen)]
    ws = Workspace.open(
        tmp_path / "home", ROOT / "configs" / "examples" / "helium", postgres_url, migrate=True
    )
    try:
        inventory = write_lorawan_inventory(register, tmp_path / "inventory", SINCE)
        land(ws, [*inventory, register, *recordings])
        assert not ingest(ws).blocking
        for month in months:
            _close(ws, month)
        booked = _rows(
            ws,
            "select service_id, usage_period, sum(quantity), sum(amount_minor) from booked_charge "
            "where charge_id = 'lora_messages' group by 1, 2",
        )
        wanted = {
            (device, month): (count, graduated(count))
            for (device, month), count in expected.items()
            if month in chosen
        }
        assert {(row[0], row[1]): (int(row[2]), int(row[3])) for row in booked} == wanted
        rows = _rows(ws, "select count(*) from booked_charge")
        _close(ws, months[-1])
        assert _rows(ws, "select count(*) from booked_charge") == rows
    finally:
        ws.close()


def _close(ws: Workspace, month: Month) -> None:
    # Marts and feed-day checks are tried elsewhere: dbt and Great Expectations start slowly.
    acting = ws.for_run(f"{ws.run_id}-{month}")
    for stage in CLOSE_STAGES:
        if stage.name not in ("publish_marts", "check_feeds"):
            result = run_stage(acting, month, stage)
            assert not result.blocking, (month, stage.name, result.blocking)


def _rows(ws: Workspace, query: str) -> list[tuple[object, ...]]:
    with ws.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(query))]
