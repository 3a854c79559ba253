"""The benchmark's month: the product, pandas and a loop over the rows agree on what it is worth."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.orm import Session
from typer.testing import CliRunner

from iotbill_pipelines.cli.benchmark import month_table
from iotbill_pipelines.cli.main import app
from iotbill_pipelines.compute.duckdb_engine import DuckDbCompute
from iotbill_pipelines.engine.schemas import DESIRED_CHARGE, RATED_USAGE, USAGE_AGGREGATE
from iotbill_pipelines.operations.benchmarks import comparison, market, month
from iotbill_pipelines.operations.close import run_stage, stage_named
from iotbill_pipelines.operations.ingest import ingest, land
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage import reference
from iotbill_pipelines.storage.lake import Lake
from tests.conftest import ROOT
from tests.shelf import Shelf, State

SIZE = market.Size(rows=60_000, sims=300, accounts=120, seed=7)
LITTLE_MEMORY = "120MB"
"""Less than what the largest statement holds; with a tenth less, the sort of the rated usage fails
however few threads do it."""


def _receive(folder: Path, url: str) -> None:
    files = market.write_usage(folder / "files", SIZE)
    configs = market.write_configs(ROOT / "configs", folder / "configs")
    ws = Workspace.open(folder / "home", configs, url, migrate=True)
    with Session(ws.engine) as session, session.begin():
        for name, rows in market.reference_tables(SIZE).items():
            reference.load(session, name, rows, ws.clock(), "benchmark")
    land(ws, files)
    received = ingest(ws).rows
    assert (received["records in"], received["rejected"]) == (SIZE.rows, SIZE.rows // 200)
    ws.close()


def _close(folder: Path, url: str, memory_limit: str | None = None) -> None:
    ws = Workspace.open(folder / "home", folder / "configs", url, memory_limit=memory_limit)
    found: dict[str, int] = {}
    for stage in ("rate_usage", "settle_charges", "book_charges"):
        result = run_stage(ws, market.PERIOD, stage_named(stage))
        assert not result.blocking
        found |= result.rows
    assert found["duplicate"] == SIZE.rows // 100
    assert found["suspended"] == SIZE.rows // 1000
    ws.close()


RECEIVED = State("generated_month_received", _receive)
CLOSED = State("generated_month_closed", _close, RECEIVED)


def test_the_product_equals_a_loop_over_the_rows(tmp_path: Path, shelf: Shelf) -> None:
    folder = tmp_path / "closed"
    url = shelf.copy(CLOSED, folder)
    files = sorted((folder / "files").iterdir())
    expected = comparison.row_by_row(files, SIZE)
    ws = Workspace.open(folder / "home", folder / "configs", url)
    assert month.booked_usage(ws) == expected
    ws.close()
    about = comparison.in_pandas(files, SIZE)
    for name, exact in expected.items():
        assert about[name] == f"about {round(float(exact.removesuffix(' EUR')))} EUR"


def test_with_so_little_memory_that_it_spills_it_comes_to_the_same(
    tmp_path: Path, shelf: Shelf
) -> None:
    plenty, little = tmp_path / "plenty", tmp_path / "little"
    urls = [shelf.copy(CLOSED, plenty), shelf.copy(RECEIVED, little)]
    spill = little / "home" / "spill"
    untouched = spill.stat().st_mtime_ns
    _close(little, urls[1], LITTLE_MEMORY)
    assert spill.stat().st_mtime_ns != untouched, "no file was made there: nothing was spilled"
    with DuckDbCompute() as compute:
        for table in (RATED_USAGE, USAGE_AGGREGATE, DESIRED_CHARGE):
            for folder in (plenty, little):
                Lake(folder / "home" / "lake").scan(compute, table, name=folder.name)
            (row,) = compute.fetch(_DIFFERING).to_pylist()
            assert row.pop("rows") > SIZE.sims, table.name
            assert row == {"lost": 0, "made": 0}, table.name
    booked = [_booked(url) for url in urls]
    assert booked[0] == booked[1] != []


_DIFFERING = """
select (select count(*) from plenty) as "rows",
  (select count(*) from (from plenty except all from little)) as lost,
  (select count(*) from (from little except all from plenty)) as made
"""


def _booked(url: str) -> list[tuple[object, ...]]:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    select = (
        "select id, level, account_id, service_id, charge_id, kind, usage_period, billing_period,"
        " records, quantity, currency, amount_minor, price_ids from booked_charge order by id"
    )
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(select))]


def test_the_same_seed_gives_the_same_files_and_another_seed_others(tmp_path: Path) -> None:
    def content(name: str, seed: int) -> bytes:
        size = market.Size(rows=2_000, sims=1_000, seed=seed)
        (file,) = market.write_usage(tmp_path / name, size)
        return file.read_bytes()

    assert content("a", 1) == content("b", 1) != content("c", 2)


def test_the_table_sets_every_part_against_the_floor() -> None:
    measures = [
        month.Measure(month.FLOOR, 2.0, 100),
        month.Measure(month.RECEIVE, 3.0, 100, parts={"land": 1.0, "ingest": 2.0}),
        month.Measure(month.CLOSE, 4.0, 100),
    ]
    made = month.MonthBenchmark(market.Size(rows=20_000), 10**9, measures)
    table = month_table(made)
    cells = [list(column.cells) for column in table.columns]
    assert cells[0][-1] == "[bold]raw files to journals"
    assert [column[-1] for column in cells[1:4]] == ["7.0", "3.50", "2,857"]
    path = made.as_json()["raw_files_to_journals"]
    assert (path["seconds"], path["floors"], path["rows_per_second"]) == (7.0, 3.5, 2857)


def test_its_commands_explain_themselves() -> None:
    for command in ("month", "lake", "reconcile"):
        told = CliRunner().invoke(app, ["bench", command, "--help"])
        assert told.exit_code == 0 and "--seed" in told.output and "--json" in told.output
