"""Benchmarks of the same month done twice: what differs is found, told, and ends with an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from iotbill_pipelines.cli.main import app
from iotbill_pipelines.config.lake import LakeChoice
from iotbill_pipelines.operations.benchmarks import engines, lake, month
from iotbill_pipelines.operations.benchmarks.market import Size
from tests.conftest import ROOT

SIZE = Size(rows=1_000, sims=1_000, accounts=200)
SMALL = ("--rows", "1000", "--sims", "1000", "--accounts", "200")


def _write(folder: Path, *tables: dict[str, list[Any]]) -> Path:
    folder.mkdir()
    for number, columns in enumerate(tables):
        pq.write_table(pa.table(columns), folder / f"{number}.parquet")
    return folder


@pytest.mark.parametrize(
    ("others", "rows", "differing"),
    [
        ([{"a": [2], "b": ["y"]}, {"a": [1, 1], "b": ["x", "x"]}], 3, 0),
        ([{"a": [1, 2], "b": ["x", "y"]}], 3, 1),
        ([{"a": [1, 1, 3], "b": ["x", "x", "y"]}], 3, 2),
        ([{"a": pa.array([1, 1, 2], pa.int32()), "b": ["x", "x", "y"]}], 3, 2),
        ([{"a": [1, 1, 2]}], 3, 1),
        ([], 3, 3),
    ],
)
def test_engines_are_compared_row_by_row_and_type_by_type(
    tmp_path: Path, others: list[dict[str, list[Any]]], rows: int, differing: int
) -> None:
    one = _write(tmp_path / "one", {"a": [1, 1, 2], "b": ["x", "x", "y"]})
    found = engines.compare("table", one, _write(tmp_path / "other", *others))
    assert (found.rows, found.differing) == (rows, differing)


def test_nothing_on_both_sides_is_the_same(tmp_path: Path) -> None:
    found = engines.compare("table", _write(tmp_path / "one"), _write(tmp_path / "other"))
    assert (found.rows, found.differing) == (0, 0)


@pytest.mark.parametrize(("differing", "code"), [(0, 0), (4, 1)])
def test_engines_that_differ_are_told(
    monkeypatch: pytest.MonkeyPatch, differing: int, code: int
) -> None:
    took = [engines.Measured("duckdb", 1.0, 1.0, 10**9), engines.Measured("spark", 8.0, 2.0, 10**9)]
    made = engines.EnginesBenchmark(SIZE, took, [engines.Compared("rated_usage", 990, differing)])
    monkeypatch.setattr(engines, "measure", lambda *_, **__: made)
    told = CliRunner().invoke(app, ["bench", "engines", *SMALL])
    assert told.exit_code == code
    assert ("rated_usage: 990 rows, 4 differ" in told.output) is bool(differing)


@pytest.mark.parametrize(("booked", "code"), [("17.50 EUR", 0), ("17.51 EUR", 1)])
def test_both_places_do_the_same_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, booked: str, code: int
) -> None:
    monkeypatch.setenv("LAKE_KEY", "key")
    monkeypatch.setenv("LAKE_SECRET", "secret")
    asked: list[tuple[str, str]] = []

    def in_own_process(work: Any, home: Path, *arguments: Any) -> month.Measure:
        if work is month.prepare:
            return month.Measure("prepare", 1.0)
        place = arguments[-1](home).where
        asked.append((work.__name__, place))
        in_folder = place == str(home / "lake")
        facts = {"retail usage": "17.50 EUR" if in_folder else booked}
        return month.Measure(work.__name__, 2.0 if in_folder else 3.0, facts=facts)

    monkeypatch.setattr(lake, "in_own_process", in_own_process)
    text = "url: s3://b/x\ncredentials: {access_key: LAKE_KEY, secret_key: LAKE_SECRET}\n"
    (tmp_path / "lake.yaml").write_text(text, "utf-8")
    told = CliRunner().invoke(
        app,
        [
            *("--configs", str(ROOT / "configs"), "bench", "lake", *SMALL),
            *("--lake", str(tmp_path / "lake.yaml"), "--dir", str(tmp_path / "work")),
        ],
    )
    assert told.exit_code == code, told.output
    assert "1.50 times as long" in told.output
    assert ("DIFFERS" in told.output) is bool(code)
    assert [work for work, _ in asked] == ["receive", "close", "close"] * 2
    (place,) = {place for _, place in asked[3:]}
    assert place.startswith("s3://b/x/bench-")


def test_a_state_folder_of_a_benchmark_has_its_own_lake(tmp_path: Path) -> None:
    assert lake.open_lake(LakeChoice(), {}, tmp_path).where == str(tmp_path / "lake")
