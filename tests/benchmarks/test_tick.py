"""The benchmark of the sensors' looks: it runs, and never in a database that is in use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session
from typer.testing import CliRunner

from iotbill_pipelines.cli.main import app
from iotbill_pipelines.operations.benchmarks import check_empty, market, tick
from iotbill_pipelines.operations.workspace import WorkspaceError
from iotbill_pipelines.storage import database, reference
from tests.conftest import ROOT


def test_a_small_measurement(tmp_path: Path, postgres_url: str) -> None:
    figures = tmp_path / "tick.json"
    told = CliRunner().invoke(
        app,
        [
            *("--configs", str(ROOT / "configs"), "--database-url", postgres_url),
            *("bench", "tick", "--files", "30"),
            *("--dir", str(tmp_path), "--json", str(figures)),
        ],
    )
    assert told.exit_code == 0, told.output
    assert "A look at 30 known files" in told.output
    found = json.loads(figures.read_text("utf-8"))
    assert found["files"] == 30
    for look in ("landing_first", "landing", "landing_new", "source"):
        assert 0 < found[look]["seconds"] < 30
    # what it wrote stands in the way of the next one
    with pytest.raises(WorkspaceError, match="in use"):
        tick.measure(ROOT / "configs", tmp_path, 1, postgres_url)


def test_an_empty_database_may_be_used_and_a_companys_not(postgres_url: str) -> None:
    check_empty(postgres_url)
    engine = database.connect(postgres_url)
    size = market.Size(rows=0, sims=1_000, accounts=200)
    with Session(engine) as session, session.begin():
        accounts = market.reference_tables(size)["account"]
        reference.load(session, "account", accounts, session.scalar(sa.select(sa.func.now())), "x")
    engine.dispose()
    with pytest.raises(WorkspaceError, match="name an empty one"):
        check_empty(postgres_url)


def test_a_benchmark_leaves_the_companys_lake_sources_and_people_alone(tmp_path: Path) -> None:
    ours = tmp_path / "ours"
    for name in ("catalog", "sources", "feeds/sources"):
        (ours / name).mkdir(parents=True)
    for name in ("lake.yaml", "alerts.yaml", "close.yaml", "sources/sftp.yaml"):
        (ours / name).write_text("")
    copied = market.write_configs(ours, tmp_path / "copied")
    found = {str(path.relative_to(copied)) for path in copied.rglob("*")}
    assert found == {"catalog", "catalog/benchmark.yaml", "close.yaml", "feeds", "feeds/sources"}
