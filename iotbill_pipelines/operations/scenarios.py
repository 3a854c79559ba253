"""Run scenario files through the engine: no Dagster, no PostgreSQL, no files but the scenario.

Records pass :func:`engine.flow.rate_month` one UTC month after the other and every period passes
:func:`engine.flow.settle_period`, as in a close.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from iotbill_pipelines.compute.duckdb_engine import DuckDbCompute
from iotbill_pipelines.config.scenarios import (
    NOTHING_DELIVERED,
    Delivered,
    ExpectedCharge,
    ExpectedFile,
    ExpectedPool,
    Scenario,
    ScenarioTables,
    read_scenario,
)
from iotbill_pipelines.engine import flow
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.compute import Compute
from iotbill_pipelines.engine.mediate import PLAIN
from iotbill_pipelines.engine.money import minor_digits, of_minor, round_half_up
from iotbill_pipelines.engine.schemas import REJECTED_RECORD, TABLES, USAGE_RECORD

_RATED = ("rated_usage", "duplicate_record", "suspended_record", "usage_outcome")
_SETTLED = (
    "usage_aggregate",
    "pool_settlement",
    "pool_part",
    "pool_lot",
    "allowance_lot",
    "charge_component",
    "desired_charge",
    "charge_finding",
    "commitment_status",
)
Engine = Callable[[int], AbstractContextManager[Compute]]
"""Starts an engine for about so many rows of usage."""

_NO_CHARGES = TABLES["desired_charge"].arrow_schema.empty_table()


@dataclass(frozen=True)
class ScenarioLine:
    """One comparison in plain words: what was expected, what came out, by how much it differs.

    Amounts of money have their currency where something was charged.
    """

    what: str
    expected: str
    got: str
    difference: str = ""

    @property
    def passed(self) -> bool:
        return self.expected == self.got


@dataclass(frozen=True)
class ScenarioReport:
    """The comparisons of one scenario, in the order of its file, and how long it took.

    ``source`` and ``about`` say where the expected amounts come from.
    """

    path: Path
    title: str
    source: str
    about: str | None
    lines: Sequence[ScenarioLine]
    seconds: float

    @property
    def differing(self) -> list[ScenarioLine]:
        return [line for line in self.lines if not line.passed]


def run_scenario(path: Path, engine: Engine | None = None) -> ScenarioReport:
    """Run one scenario file, on DuckDB unless told otherwise, and compare.

    Raises ConfigError if the file cannot be understood.
    """
    started = time.perf_counter()
    scenario = read_scenario(path)
    results = run_tables(scenario.tables(ingested(scenario)), scenario.months, engine)
    lines = compare(scenario, results)
    seconds = time.perf_counter() - started
    return ScenarioReport(path, scenario.scenario, scenario.source, scenario.about, lines, seconds)


def ingested(scenario: Scenario) -> Delivered:
    """Read the files of a scenario's ``usage_files`` as ingestion does; nothing is stored.

    Raises ConfigError for a feed or a file that cannot be used, with the scenario's line.
    """
    deliveries = scenario.deliveries()
    if not deliveries:
        return NOTHING_DELIVERED
    from iotbill_pipelines.compute.feed_files import (  # noqa: PLC0415 - few scenarios have files
        ingest_files,
        local_file,
    )

    usage, rejected = [], []
    with DuckDbCompute() as compute:
        for each in deliveries:
            try:
                files = [
                    local_file(each.spec, key, path, each.received_at)
                    for key, path in each.files.items()
                ]
            except ValueError as error:
                raise scenario.error((*each.key, "files"), str(error)) from None
            ingest_files(compute, each.spec, files)
            accepted = (
                f"select {USAGE_RECORD.column_list} from mapped_record where outcome = 'accepted'"
            )
            usage.append(compute.fetch(accepted).cast(USAGE_RECORD.arrow_schema))
            aside = f"select {REJECTED_RECORD.column_list} from rejected_record"
            rejected.append(compute.fetch(aside).cast(REJECTED_RECORD.arrow_schema))
    return Delivered(deliveries, pa.concat_tables(usage), pa.concat_tables(rejected))


def compare(scenario: Scenario, results: dict[str, pa.Table]) -> list[ScenarioLine]:
    """Hold what the scenario expects to what :func:`run_tables` gave."""
    return list(_compare(scenario, results))


def run_tables(
    tables: ScenarioTables, months: Iterable[Month], engine: Engine | None = None
) -> dict[str, pa.Table]:
    """Rate all usage and settle the months; return every result by the name of its relation.

    ``desired_charge`` and its like hold the rows of all months; a charge in advance that two
    months say the same about is there once. ``rejected_record`` is that of the tables.
    """
    results: dict[str, list[pa.Table]] = {name: [] for name in (*_RATED, *_SETTLED)}
    with (engine or _embedded)(tables.usage.num_rows) as compute:
        for name, table in (tables.catalog | tables.reference).items():
            compute.load(name, table)
        utc_months = sorted(set(tables.usage["usage_month"].to_pylist()))
        for utc_month in utc_months:
            compute.load(
                "usage_record",
                tables.usage.filter(pc.equal(tables.usage["usage_month"], utc_month)),
            )
            if tables.policies is not PLAIN:
                others = pc.not_equal(tables.usage["usage_month"], utc_month)
                compute.load("other_usage", tables.usage.filter(others))
                flow.find_nearby(compute, tables.policies)
            flow.rate_month(compute, tables.policies, nearby=tables.policies is not PLAIN)
            for name in _RATED:
                results[name].append(compute.fetch(name))
        rated = results["rated_usage"]
        empty = TABLES["rated_usage"].arrow_schema.empty_table()
        compute.load("rated_usage", pa.concat_tables(rated) if rated else empty)
        settled: Month | None = None
        for month in months:
            follows = settled is not None and settled + 1 == month
            left = (
                {table.name: results[table.name][-1] for table in flow.CARRIED} if follows else {}
            )
            before = pa.concat_tables(results["desired_charge"] or [_NO_CHARGES])
            compute.load("earlier_charge", _distinct(before, TABLES["desired_charge"].key))
            flow.settle_period(compute, month, left, earlier=True)
            settled = month
            for name in _SETTLED:
                results[name].append(compute.fetch(name))
    return {
        name: _distinct(pa.concat_tables(parts), TABLES[name].key)
        if parts
        else TABLES[name].arrow_schema.empty_table()
        for name, parts in results.items()
    } | {"rejected_record": tables.rejected}


def _embedded(expected_rows: int) -> DuckDbCompute:
    return DuckDbCompute(expected_rows=expected_rows)


def _distinct(table: pa.Table, key: Sequence[str]) -> pa.Table:
    """Keep the last row of every key: a later month knows the same charge again."""
    rows = {
        tuple(row[name] for name in key): number
        for number, row in enumerate(table.select(list(key)).to_pylist())
    }
    return table.take(pa.array(sorted(rows.values()), pa.int64()))


def _compare(scenario: Scenario, results: dict[str, pa.Table]) -> Iterable[ScenarioLine]:
    expected = scenario.expected
    first = str(scenario.months[0])
    if expected.charges is not None:
        yield from _charges(expected.charges, first, results)
    if expected.totals is not None:
        yield from _totals(expected.totals, results)
    for pool in expected.pools or []:
        yield from _pool(pool, first, results)
    if expected.kept is not None:
        kept = len(
            {
                (row["file_key"], row["line_no"])
                for row in results["rated_usage"].select(["file_key", "line_no"]).to_pylist()
            }
        )
        yield _count("records kept", expected.kept, kept)
    if expected.duplicates is not None:
        got = results["duplicate_record"].num_rows
        yield _count("duplicate records", expected.duplicates, got)
    if expected.merged is not None:
        merged = [
            row["records"]
            for row in results["usage_outcome"].to_pylist()
            if row["reason_code"] == "merged"
        ]
        yield _count("records merged into others", expected.merged, sum(merged))
    if expected.suspended is not None:
        found: dict[str, int] = {}
        for reason in results["suspended_record"]["reason_code"].to_pylist():
            found[reason] = found.get(reason, 0) + 1
        for reason in sorted(expected.suspended.keys() | found.keys()):
            yield _count(
                f"records suspended: {reason}",
                expected.suspended.get(reason, 0),
                found.get(reason, 0),
            )
    yield from _set_aside(scenario, results["rejected_record"])
    if expected.findings is not None:
        codes = sorted(results["charge_finding"]["code"].to_pylist())
        yield ScenarioLine("findings", ", ".join(sorted(expected.findings)), ", ".join(codes))


def _set_aside(scenario: Scenario, rejected: pa.Table) -> Iterable[ScenarioLine]:
    """Records of files that validation set aside, by reason: those that nobody expected too."""
    rows = sorted(rejected.to_pylist(), key=lambda row: row["line_no"])
    for key, name in scenario.file_names().items():
        wanted = scenario.expected.files.get(name, ExpectedFile())
        for outcome, counts in (("rejected", wanted.rejected), ("ignored", wanted.ignored)):
            if counts is None:
                continue
            found: dict[str, list[dict[str, Any]]] = {}
            for row in rows:
                if (row["file_key"], row["outcome"]) == (key, outcome):
                    found.setdefault(row["reason_code"], []).append(row)
            for reason in sorted(counts.keys() | found.keys()):
                want, got = counts.get(reason, 0), found.get(reason, [])
                first = f" ({_place(got[0])})" if got and want != len(got) else ""
                yield _count(f"{name}: records {outcome}: {reason}{first}", want, len(got))


def _place(row: dict[str, Any]) -> str:
    """Where a record stands and what is wrong with it."""
    where = f"line {row['line_no']}" if row["line_no"] else "the file"
    field = "" if row["field"] is None else f", {row['field']} {row['value'] or 'empty'}"
    return f"first {where}{field}: {row['message']}"


def _charges(
    charges: Sequence[ExpectedCharge], first: str, results: dict[str, pa.Table]
) -> Iterable[ScenarioLine]:
    desired = _by_charge(results["desired_charge"])
    components = _by_charge(results["charge_component"])
    seen: set[tuple[str, ...]] = set()
    for line in charges:
        key = (line.period or first, line.level, line.service, line.charge)
        found = {
            account: rows[0]
            for (*rest, account), rows in desired.items()
            if tuple(rest) == key and line.account in (None, account)
        }
        seen.update((*key, account) for account in found)
        what = _what(*key)
        if not found:
            yield ScenarioLine(what, f"{line.amount:,}", "no charge", f"{-line.amount:+,}")
            continue
        rows = list(found.values())
        currency = rows[0]["currency"]
        yield _money(what, line.amount, sum(row["amount_minor"] for row in rows), currency)
        if line.quantity is not None:
            got = sum(row["quantity"] for row in rows)
            yield _count(f"{what}: quantity", line.quantity, got)
        if line.records is not None:
            yield _count(f"{what}: records", line.records, sum(row["records"] for row in rows))
        if line.billing_period is not None:
            carried = rows[0]["billing_period"]
            yield ScenarioLine(f"{what}: billing period", line.billing_period, carried)
        if line.components is not None:
            parts = [part for account in found for part in components.get((*key, account), [])]
            parts.sort(key=lambda part: str(part["component_id"]))
            yield ScenarioLine(
                f"{what}: components",
                _texts(line.components, currency),
                _texts([of_minor(part["amount_minor"], currency) for part in parts], currency),
            )
    for place in sorted(desired.keys() - seen):
        row = desired[place][0]
        if row["amount_minor"]:
            amount = of_minor(row["amount_minor"], row["currency"])
            text = _texts([amount], row["currency"])
            yield ScenarioLine(_what(*place[:4]), "no charge", text, f"{'+' * (amount > 0)}{text}")


def _by_charge(table: pa.Table) -> dict[tuple[str, ...], list[dict[str, Any]]]:
    rows: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in table.to_pylist():
        key = ("usage_period", "level", "service_id", "charge_id", "account_id")
        rows.setdefault(tuple(row[name] for name in key), []).append(row)
    return rows


def _what(period: str, level: str, service: str, charge: str) -> str:
    of = f" of {service}" if service else ""
    return f"charge {charge}{of}, {period}" + ("" if level == "retail" else f", {level}")


def _totals(totals: dict[str, Decimal], results: dict[str, pa.Table]) -> Iterable[ScenarioLine]:
    for level, amount in totals.items():
        rows = [r for r in results["desired_charge"].to_pylist() if r["level"] == level]
        currencies = sorted({row["currency"] for row in rows})
        what = f"all {level} charges"
        if len(currencies) == 1:
            yield _money(what, amount, sum(row["amount_minor"] for row in rows), currencies[0])
        elif rows or amount:
            got = f"charges in {', '.join(currencies)}" if rows else "no charge"
            yield ScenarioLine(what, f"{amount:,}", got)


def _pool(pool: ExpectedPool, first: str, results: dict[str, pa.Table]) -> Iterable[ScenarioLine]:
    period = pool.period or first
    found = [
        row
        for row in results["pool_settlement"].to_pylist()
        if (row["pool_id"], row["level"], row["usage_period"]) == (pool.pool, pool.level, period)
    ]
    what = f"pool {pool.pool}, {period}"
    if not found:
        known = ", ".join(sorted(set(results["pool_settlement"]["pool_id"].to_pylist())))
        yield ScenarioLine(what, "a settlement", f"none (there are: {known})")
        return
    row = found[0]
    for name, wanted, column in (
        ("services", pool.services, "services"),
        ("available", pool.available, "available"),
        ("used", pool.used, "used"),
        ("overage", pool.overage, "overage_quantity"),
    ):
        if wanted is not None:
            yield _count(f"{what}: {name}", wanted, row[column])
    if pool.amount is not None:
        yield _money(f"{what}: amount", pool.amount, row["amount_minor"], row["currency"])
    parts = [
        part
        for part in results["pool_part"].to_pylist()
        if (part["pool_id"], part["level"], part["usage_period"]) == (pool.pool, pool.level, period)
    ]
    for wanted_parts, column in ((pool.parts, "service_id"), (pool.accounts, "account_id")):
        if wanted_parts is None:
            continue
        got: dict[str, int] = {}
        for part in parts:
            got[part[column]] = got.get(part[column], 0) + part["amount_minor"]
        for name in sorted(wanted_parts.keys() | got.keys()):
            yield _money(
                f"{what}: part of {name or 'owner'}",
                wanted_parts.get(name, Decimal(0)), got.get(name, 0), row["currency"],
            )  # fmt: skip


def _money(what: str, expected: Decimal, got_minor: int, currency: str) -> ScenarioLine:
    got = of_minor(got_minor, currency)
    difference = "" if expected == got else f"{got - expected:+,} {currency}"
    return ScenarioLine(what, _texts([expected], currency), _texts([got], currency), difference)


def _count(what: str, expected: int, got: int) -> ScenarioLine:
    difference = "" if expected == got else f"{got - expected:+,}"
    return ScenarioLine(what, f"{expected:,}", f"{got:,}", difference)


def _texts(amounts: Iterable[Decimal], currency: str) -> str:
    """Write amounts with the currency and its decimals, or with more where one has more."""
    shown = []
    for amount in amounts:
        rounded = round_half_up(amount, minor_digits(currency))
        shown.append(f"{rounded if rounded == amount else amount:,}")
    return " ".join([*shown, currency])
