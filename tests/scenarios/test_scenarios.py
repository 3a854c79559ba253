"""Every scenario beside this file, through the same engine that closes a month."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest

from iotbill_pipelines.config.scenarios import Scenario, read_scenario
from iotbill_pipelines.operations.scenarios import (
    ScenarioReport,
    compare,
    run_scenario,
    run_tables,
)
from tests.together import Company, Results, groups, merge

from .explained import Retold, retell

SCENARIOS = sorted(Path(__file__).parent.glob("*.yaml"))

RETOLD = (
    *("allowance", "contract", "currency", "cycle", "first", "levels", "peer", "pool", "rating"),
    *("recurring", "time", "transition", "tried", "units"),
)
"""Scenarios about charges, not about mediation; their charges are computed a second time."""


@dataclass(frozen=True)
class Outcome:
    """A scenario, what came out of it among others, and what came of telling its charges."""

    scenario: Scenario
    company: Company
    results: Results
    retold: Retold


@pytest.fixture(scope="module")
def outcomes() -> dict[Path, Outcome]:
    """Every scenario, run in one go with those that it can share a run with."""
    scenarios = [read_scenario(path) for path in SCENARIOS]
    companies = [Company(each.tables(), tuple(each.months)) for each in scenarios]
    found = {}
    for members in groups(companies):
        merged = merge([companies[number] for number in members])
        results = run_tables(merged.tables, merged.months)
        some_retold = any(_is_retold(SCENARIOS[number]) for number in members)
        retold = retell(merged, results) if some_retold else [Retold() for _ in members]
        for number, mine, told in zip(members, merged.apart(results), retold, strict=True):
            found[SCENARIOS[number]] = Outcome(scenarios[number], companies[number], mine, told)
    return found


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_scenario(path: Path, outcomes: dict[Path, Outcome]) -> None:
    outcome = outcomes[path]
    lines = compare(outcome.scenario, outcome.results)
    assert lines, "a scenario that expects nothing shows nothing"
    report = ScenarioReport(path, outcome.scenario.scenario, outcome.scenario.source, lines, 0.0)
    assert report.passed, report.render()
    if _is_retold(path):
        assert not outcome.retold.wrong, "\n".join(outcome.retold.wrong)
        assert not outcome.retold.untold


def _is_retold(path: Path) -> bool:
    return path.stem.partition("_")[0] in RETOLD


@pytest.mark.parametrize("path", SCENARIOS[::12], ids=lambda path: path.stem)
def test_other_companies_change_nothing(path: Path, outcomes: dict[Path, Outcome]) -> None:
    """A company alone and among a hundred others comes to the same, row for row."""
    company, among = outcomes[path].company, outcomes[path].results
    for name, alone in run_tables(company.tables, company.months).items():
        ordered = sorted(alone.column_names)
        assert _rows(alone.select(ordered)) == _rows(among[name].select(ordered)), name


def _rows(table: pa.Table) -> list[str]:
    return sorted(map(repr, table.to_pylist()))


def test_a_difference_is_shown_line_by_line(tmp_path: Path) -> None:
    text = (Path(__file__).parent / "pool_proportional_excess.yaml").read_text()
    changed = text.replace("charge: over, amount: 1.53", "charge: over, amount: 1.55")
    assert changed != text
    path = tmp_path / "wrong.yaml"
    path.write_text(changed)
    report = run_scenario(path)
    assert not report.passed
    assert [line.what for line in report.lines if not line.passed] == ["S2 over 2026-03"]
    verdict, head, line = report.render().splitlines()
    assert verdict.endswith("1 of 10 lines differ")
    assert head.split() == ["line", "expected", "got", "difference"]
    assert line.split()[-3:] == ["1.55", "1.53", "-0.02"]


def test_a_charge_nobody_expected_is_a_difference(tmp_path: Path) -> None:
    text = (Path(__file__).parent / "rating_graduated.yaml").read_text()
    head, _, _ = text.partition("expected:")
    path = tmp_path / "silent.yaml"
    path.write_text(head + "expected:\n  charges: []\n  suspended: {no_owner: 2}\n")
    report = run_scenario(path)
    assert [(line.what, line.expected, line.got) for line in report.lines if not line.passed] == [
        ("S1 messages 2026-03", "no charge", "155.00"),
        ("records suspended: no_owner", "2", "0"),
    ]
