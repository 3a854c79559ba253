"""`iotbill feed`: exit codes, JSON, and that no workspace is made or needed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from iotbill_pipelines.cli.main import app
from tests.conftest import ROOT
from tests.feeds.harness import CSV_FEED, HEADER, row


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def run(home: Path, *arguments: object) -> Result:
    given = ["--home", str(home), "--configs", str(ROOT / "configs"), "feed"]
    return CliRunner().invoke(app, [*given, *map(str, arguments)])


def test_lint_tells_errors_from_warnings_by_its_exit_code(home: Path, tmp_path: Path) -> None:
    risky, broken = tmp_path / "risky.yaml", tmp_path / "broken.yaml"
    risky.write_text(CSV_FEED.replace("*.csv", "demo_*.csv"))
    broken.write_text(CSV_FEED.replace("zone: UTC", "zon: UTC"))
    assert run(home, "lint").exit_code == 0
    assert run(home, "lint", risky).exit_code == 0
    assert run(home, "lint", risky, "--strict").exit_code == 1
    told = run(home, "lint", broken)
    assert told.exit_code == 2 and "broken.yaml:7: error zon: unknown key" in told.stdout
    notes = json.loads(run(home, "lint", broken, "--json").stdout)["notes"]
    assert [(note["key"], note["line"]) for note in notes] == [("zon", 7)]


def test_test_shows_the_chain_and_stores_nothing(home: Path, tmp_path: Path) -> None:
    spec, sample = tmp_path / "demo.yaml", tmp_path / "demo.csv"
    spec.write_text(CSV_FEED)
    sample.write_bytes(HEADER + row() + row(2, "x"))
    told = run(home, "test", spec, sample, "--received", "2026-11-02")
    assert told.exit_code == 1
    assert "-> integer@1 -> 100" in told.stdout and "invalid_number" in told.stdout
    found = json.loads(
        run(home, "test", spec, sample, "--line", 2, "--received", "2026-11-02", "--json").stdout
    )
    assert found["counts"] == {"accepted": 1, "ignored": 0, "rejected": 1}
    [record] = found["records"]
    assert record["line_no"] == 2 and record["outcome"] == "accepted"
    assert not home.exists()


def test_new_writes_a_feed_that_test_and_lint_take(home: Path, tmp_path: Path) -> None:
    sample, out = tmp_path / "acme_20261005.csv", tmp_path / "feeds" / "acme.yaml"
    sample.write_bytes(HEADER + b"".join(row(n, n * 7) for n in range(1, 30)))
    made = run(home, "new", sample, "--out", out)
    assert made.exit_code == 0 and "29 of 29 records" in made.stdout
    assert run(home, "lint", out, "--strict").exit_code == 0
    assert run(home, "test", out, sample, "--received", "2026-11-02").exit_code == 0
    again = run(home, "new", sample, "--out", out)
    assert again.exit_code != 0 and "exists" in str(again.exception)


def test_docs_of_one_feed(home: Path, tmp_path: Path) -> None:
    assert run(home, "docs", "telfix_usage", "--out", tmp_path / "pages").exit_code == 0
    assert sorted(path.name for path in (tmp_path / "pages").iterdir()) == [
        "telfix_usage.html", "telfix_usage.md"
    ]  # fmt: skip
    unknown = run(home, "docs", "telfax", "--out", tmp_path / "pages")
    assert "no feed is called 'telfax'" in str(unknown.exception)
