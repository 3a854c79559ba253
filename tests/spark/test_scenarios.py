"""Every scenario on the cluster: what it expects, and every result as on the embedded engine."""

from __future__ import annotations

import os
from functools import cache

import pyarrow as pa
import pytest

from iotbill_pipelines.config.scenarios import Scenario, read_scenario
from iotbill_pipelines.operations.scenarios import compare, ingested, run_tables
from tests.scenarios.test_scenarios import SCENARIOS
from tests.together import Company, groups, merge

from .conftest import Start

MOST_GROUPS = 60
"""More than there are: groups are known only when the scenarios have been read."""

GROUPS_RUN = int(os.environ.get("IOTBILL_SPARK_GROUPS", MOST_GROUPS))
"""How many groups are run, those of most scenarios first."""


@cache
def read() -> tuple[list[Scenario], list[Company], list[list[int]]]:
    scenarios = [read_scenario(path) for path in SCENARIOS]
    companies = [Company(each.tables(ingested(each)), tuple(each.months)) for each in scenarios]
    return scenarios, companies, sorted(groups(companies), key=len, reverse=True)


def test_every_scenario_is_run() -> None:
    _, _, found = read()
    assert len(found) <= MOST_GROUPS
    assert sorted(number for members in found for number in members) == list(range(len(SCENARIOS)))


@pytest.mark.parametrize("group", range(MOST_GROUPS))
def test_scenarios_come_to_the_same(group: int, start: Start) -> None:
    scenarios, companies, found = read()
    if group >= len(found):
        pytest.skip("the scenarios need fewer runs")
    if group >= GROUPS_RUN:
        pytest.skip(f"only the {GROUPS_RUN} largest groups were asked for: IOTBILL_SPARK_GROUPS")
    merged = merge([companies[number] for number in found[group]])
    embedded = run_tables(merged.tables, merged.months)
    spread = run_tables(merged.tables, merged.months, start)
    assert_same(embedded, spread)
    for number, results in zip(found[group], merged.apart(spread), strict=True):
        differing = [line for line in compare(scenarios[number], results) if not line.passed]
        assert not differing, SCENARIOS[number].stem


def assert_same(embedded: dict[str, pa.Table], spread: dict[str, pa.Table]) -> None:
    """Fail unless tables have the same columns of the same types, and the same rows."""
    assert list(embedded) == list(spread)
    for name, table in embedded.items():
        assert spread[name].schema.equals(table.schema), name
        ours, theirs = (sorted(map(repr, each.to_pylist())) for each in (table, spread[name]))
        assert ours == theirs, name
