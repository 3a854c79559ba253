"""A month of the sample company rated and settled through configs/engine.yaml, as a close does."""

from __future__ import annotations

import shutil
from pathlib import Path

import yaml

from iotbill_pipelines.compute.duckdb_engine import DuckDbCompute
from iotbill_pipelines.engine.schemas import (
    CHARGE_COMPONENT,
    DESIRED_CHARGE,
    DUPLICATE_RECORD,
    POOL_SETTLEMENT,
    RATED_USAGE,
    SUSPENDED_RECORD,
)
from iotbill_pipelines.operations.charges import settle_charges
from iotbill_pipelines.operations.usage import rate_usage
from iotbill_pipelines.operations.workspace import Workspace
from tests.conftest import ROOT
from tests.months import PERIOD, RECEIVED, SETTLED, opened
from tests.shelf import Shelf

from .conftest import MASTER, SETTINGS, Start

TABLES = (
    *(RATED_USAGE, DUPLICATE_RECORD, SUSPENDED_RECORD, POOL_SETTLEMENT),
    *(CHARGE_COMPONENT, DESIRED_CHARGE),
)


def test_a_month_settles_to_the_same(start: Start, shelf: Shelf, tmp_path: Path) -> None:
    configs = tmp_path / "configs"
    shutil.copytree(ROOT / "configs", configs)
    choice = {"engine": "spark", "master": MASTER, "settings": SETTINGS}
    (configs / "engine.yaml").write_text(yaml.safe_dump(choice), "utf-8")
    spread = opened(tmp_path / "a", shelf.copy(RECEIVED, tmp_path / "a"), configs)
    rated = rate_usage(spread, PERIOD)
    settled = settle_charges(spread, PERIOD)
    assert rated.changed
    assert settled.changed
    embedded = opened(tmp_path / "b", shelf.copy(SETTLED, tmp_path / "b"))
    for table in TABLES:
        ours, theirs = (_rows(ws, table.name) for ws in (embedded, spread))
        assert ours == theirs, table.name
    # the embedded engine finds nothing to do in what the cluster left, and the other way round
    for ws, other in ((spread, ROOT / "configs"), (embedded, configs)):
        again = opened(ws.home.parent, ws.database_url, other)
        assert not rate_usage(again, PERIOD).changed
        assert not settle_charges(again, PERIOD).changed
        again.close()
    spread.close()
    embedded.close()


def _rows(ws: Workspace, name: str) -> list[str]:
    schema = next(table for table in TABLES if table.name == name)
    with DuckDbCompute() as compute:
        ws.lake.scan(compute, schema)
        found = sorted(map(repr, compute.fetch(name).to_pylist()))
    assert found or name in {"suspended_record", "pool_settlement"}
    return found
