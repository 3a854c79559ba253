"""Every scenario beside this file, through the same engine that closes a month."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from iotbill_pipelines.config.scenarios import Scenario, ScenarioTables, read_scenario
from iotbill_pipelines.engine.mediate import PLAIN
from iotbill_pipelines.operations.reach import SETTLED_ONLY
from iotbill_pipelines.operations.scenarios import (
    compare,
    ingested,
    run_scenario,
    run_tables,
)
from iotbill_pipelines.operations.scope import closure, narrowed
from iotbill_pipelines.storage.reference import PaidFor
from tests.together import Company, Merged, Results, groups, merge

from .explained import Retold, retell

SCENARIOS = sorted(Path(__file__).parent.glob("*.yaml"))

RETOLD = (
    *("allowance", "contract", "currency", "cycle", "files", "first", "levels", "peer", "pool"),
    *("rating", "recurring", "time", "transition", "tried", "units"),
)
"""Scenarios about charges, not about mediation; their charges are computed a second time."""


@dataclass(frozen=True)
class Outcome:
    """A scenario, what came out of it among others, and what came of telling its charges."""

    scenario: Scenario
    company: Company
    results: Results
    retold: Retold


SEVERAL = 10
"""Scenarios that share a run, at least, to be run again for a part of their accounts."""

Runs = list[tuple[list[int], Merged, Results]]


@pytest.fixture(scope="module")
def scenarios() -> list[Scenario]:
    return [read_scenario(path) for path in SCENARIOS]


@pytest.fixture(scope="module")
def companies(scenarios: list[Scenario]) -> list[Company]:
    return [Company(each.tables(ingested(each)), tuple(each.months)) for each in scenarios]


@pytest.fixture(scope="module")
def runs(companies: list[Company]) -> Runs:
    """Every scenario, run in one go with those that it can share a run with."""
    found = []
    for members in groups(companies):
        merged = merge([companies[number] for number in members])
        found.append((members, merged, run_tables(merged.tables, merged.months)))
    return found


@pytest.fixture(scope="module")
def outcomes(
    scenarios: list[Scenario], companies: list[Company], runs: Runs
) -> dict[Path, Outcome]:
    """What came out of each scenario."""
    found = {}
    for members, merged, results in runs:
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
    assert not [line for line in lines if not line.passed]
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


def test_a_charge_nobody_expected_is_a_difference(tmp_path: Path) -> None:
    text = (Path(__file__).parent / "rating_graduated.yaml").read_text()
    head, _, _ = text.partition("expected:")
    path = tmp_path / "silent.yaml"
    path.write_text(head + "expected:\n  charges: []\n  suspended: {no_owner: 2}\n")
    assert [(line.what, line.expected, line.got) for line in run_scenario(path).differing] == [
        ("charge messages of S1, 2026-03", "no charge", "155.00 EUR"),
        ("records suspended: no_owner", "2", "0"),
    ]


def test_a_rejected_record_nobody_expected_is_a_difference(tmp_path: Path) -> None:
    here = Path(__file__).parent
    text = (here / "files_delimited.yaml").read_text()
    head, _, _ = text.partition("expected:")
    head = head.replace("../../configs", str(here.parents[1] / "configs"))
    path = tmp_path / "silent.yaml"
    path.write_text(head.replace("delivered/", f"{here}/delivered/") + "expected: {kept: 4}\n")
    [wrong] = run_scenario(path).differing
    assert wrong.what.endswith(
        "/bics_usage_20260306.csv: records rejected: invalid_timestamp (first line 5, event_start "
        "2026-13-06 08:15:00: must be a date and time such as 2026-10-01T12:00:00Z)"
    )
    assert (wrong.expected, wrong.got, wrong.difference) == ("0", "1", "+1")


def test_a_file_that_cannot_be_used_is_a_difference(tmp_path: Path) -> None:
    here = Path(__file__).parent
    text = (here / "files_ndjson.yaml").read_text()
    (tmp_path / "emnify_202603.ndjson").write_bytes(b"")
    path = tmp_path / "empty.yaml"
    head, _, _ = text.replace("../../configs", str(here.parents[1] / "configs")).partition(
        "expected:"
    )
    path.write_text(head.replace("delivered/", "") + "expected: {kept: 1}\n")
    [wrong] = run_scenario(path).differing
    assert "emnify_202603.ndjson: records rejected: empty_file (first the file" in wrong.what


def test_accounts_and_those_they_share_with_come_to_the_same_alone(runs: Runs) -> None:
    """Every other account with its scope (operations.scope) and nothing else: the charges of the
    scope's accounts and what they are made of are those of the whole, row for row."""
    left_out = 0
    for members, merged, whole in runs:
        tables = merged.tables
        if tables.policies.combines or len(members) < SEVERAL:
            continue
        accounts = sorted(tables.reference["account"]["account_id"].to_pylist())
        found = closure(tables.reference, tables.catalog, accounts[::2], _paid_for(tables))
        assert found is not None
        left_out += len(accounts) - len(found.accounts)
        known = narrowed(tables.reference | tables.catalog, found.accounts, found.services)
        scope = replace(
            tables,
            reference={name: known[name] for name in tables.reference},
            usage=_records_of(known["service_identifier"], tables.usage, whole),
            policies=replace(tables.policies, feed_policy=tables.policies.feed_policy.slice(0, 0))
            if tables.policies is not PLAIN
            else PLAIN,
        )
        alone = run_tables(scope, merged.months)
        for name in ("desired_charge", "charge_component", "pool_lot", "allowance_lot"):
            of = "pool_account_id" if name == "pool_lot" else "account_id"
            mine = pa.array(sorted(found.accounts), pa.string())
            assert _rows(alone[name].filter(pc.is_in(alone[name][of], mine))) == _rows(
                whole[name].filter(pc.is_in(whole[name][of], mine))
            ), name
    assert left_out > 50


def test_rating_reads_nothing_of_what_only_settling_reads(runs: Runs) -> None:
    """What operations.reach leaves out of a UTC month's inputs can be gone altogether."""
    members, merged, whole = max(runs, key=lambda run: len(run[0]))
    assert len(members) > 50
    catalog = {
        name: table.slice(0, 0) if name in SETTLED_ONLY else table
        for name, table in merged.tables.catalog.items()
    }
    rated = run_tables(replace(merged.tables, catalog=catalog), [])
    for name in ("rated_usage", "suspended_record", "duplicate_record", "usage_outcome"):
        assert _rows(rated[name]) == _rows(whole[name]), name


def _paid_for(tables: ScenarioTables) -> Callable[[Collection[str]], PaidFor]:
    """What :func:`storage.reference.paid_for` says, of tables in memory."""
    rows = tables.reference["service_offer"].to_pylist()

    def asked(accounts: Collection[str]) -> PaidFor:
        mine = {
            (row["service_id"], row["level"]) for row in rows if row["payer_account_id"] in accounts
        }
        payers = {
            row["payer_account_id"] for row in rows if (row["service_id"], row["level"]) in mine
        }
        return PaidFor({service for service, _ in mine}, payers)

    return asked


def _records_of(identifiers: pa.Table, usage: pa.Table, whole: Results) -> pa.Table:
    """Records of SIMs, without those that mediating the whole set aside."""
    aside = {
        (row["file_key"], row["line_no"])
        for name in ("duplicate_record", "suspended_record")
        for row in whole[name].to_pylist()
        if name == "duplicate_record" or row["reason_code"] == "conflict"
    }
    own = {(row["uid_type"], row["uid_value"]) for row in identifiers.to_pylist()}
    kept = [
        (row["uid_type"], row["uid_value"]) in own
        and (row["file_key"], row["line_no"]) not in aside
        for row in usage.select(["uid_type", "uid_value", "file_key", "line_no"]).to_pylist()
    ]
    return usage.filter(pa.array(kept, pa.bool_()))
