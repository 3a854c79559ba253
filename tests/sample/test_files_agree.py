"""From the bytes of the sample's files to charges and reconciled invoices, held against the plan.

What was planted must be found: every record in its outcome, every charge as the independent
biller has it, every cent of the invoices under the cause by which it was planted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pytest

from iotbill_pipelines.compute.duckdb_engine import DuckDbCompute
from iotbill_pipelines.config.catalog import read_catalog
from iotbill_pipelines.config.vendors import read_vendors
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.flow import settle_period
from iotbill_pipelines.engine.reconcile import reconcile
from iotbill_pipelines.operations.sample import SampleSummary, imagine, write_sample

from .oracle import Amounts, Oracle
from .pipeline import Ingested, rate_files

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
OCTOBER = Month(2026, 10)
SIZE, SEED = 160, 5
USAGE_FEEDS = ("emnify_usage", "bics_usage", "telfix_usage", "xl_usage")
RECEIVED = datetime.fromisoformat("2026-11-02")


@dataclass(frozen=True)
class Closed:
    """A month that went from files to reconciled invoices."""

    compute: DuckDbCompute
    summary: SampleSummary
    oracle: Amounts
    ingested: Ingested


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Closed]:
    folder = tmp_path_factory.mktemp("landing")
    summary = write_sample(folder, OCTOBER, SIZE, SEED)
    fleet, deliveries, _ = imagine(OCTOBER, SIZE, SEED)
    catalog = read_catalog(CONFIGS / "catalog").catalog
    kept = [
        row.event
        for days in deliveries.values()
        for rows in days.values()
        for row in rows
        if row.outcome == "kept"
    ]
    files: dict[str, list[Path]] = {}
    for file in summary.files:
        files.setdefault(file.feed_id, []).append(folder / file.name)
    with DuckDbCompute() as compute:
        ingested = rate_files(compute, CONFIGS, files, RECEIVED)
        settle_period(compute, OCTOBER)
        terms = [vendor.terms() for vendor in read_vendors(CONFIGS / "vendors").values()]
        reconcile(compute, OCTOBER, terms)
        yield Closed(compute, summary, Oracle(catalog, fleet).bill(kept), ingested)


def test_no_file_is_quarantined(closed: Closed) -> None:
    assert closed.ingested.faults == []


@pytest.mark.parametrize("feed", USAGE_FEEDS)
def test_every_record_meets_the_fate_that_was_planned(closed: Closed, feed: str) -> None:
    planned = closed.summary.outcomes(feed)
    found: Counter[str] = Counter()
    for row in closed.ingested.outcomes[feed]:
        found[str(row["outcome"])] += int(str(row["records"]))
    for row in closed.compute.fetch(
        f"select reason_code, count(*) as n from set_aside where feed_id = '{feed}' group by all"
    ).to_pylist():
        fate = "duplicate" if row["reason_code"] == "duplicate" else "suspended"
        found[fate] += row["n"]
        found["accepted"] -= row["n"]
    found["kept"] = found.pop("accepted")
    assert found == planned


def test_everything_else_in_the_files_is_accepted(closed: Closed) -> None:
    for feed, rows in closed.ingested.outcomes.items():
        if feed not in USAGE_FEEDS:
            assert [row["outcome"] for row in rows] == ["accepted"], feed


def test_every_charge_is_the_independent_billers(closed: Closed) -> None:
    found = closed.compute.fetch(
        "select level, service_id, charge_id, amount_minor from desired_charge "
        f"where usage_period = '{OCTOBER}'"
    ).to_pylist()
    engine = {(r["level"], r["service_id"], r["charge_id"]): r["amount_minor"] for r in found}
    assert {k: v for k, v in engine.items() if v} == {k: v for k, v in closed.oracle.items() if v}


def planted_by_vendor(summary: SampleSummary) -> dict[tuple[str, str, str], Decimal]:
    planted: dict[tuple[str, str, str], Decimal] = {}
    for item in summary.planted:
        if item.kind.startswith("vendor_"):
            key = item.file.split("_")[0], item.identifier[:19], item.detail.split(":")[0]
            planted[key] = planted.get(key, Decimal(0)) + item.amount
    return {key: amount for key, amount in planted.items() if amount}


def test_the_variance_of_every_invoice_line_is_what_was_planted(closed: Closed) -> None:
    rows = closed.compute.fetch(
        "select vendor_id, uid_value, charge_code, sum(variance_minor) as cents "
        "from reconciliation_line where vendor_id in ('emnify', 'bics') "
        "and uid_value is not null group by all"
    ).to_pylist()
    variance = {
        (r["vendor_id"], str(r["uid_value"])[:19], r["charge_code"]): Decimal(int(r["cents"])) / 100
        for r in rows
        if r["cents"]
    }
    assert variance == planted_by_vendor(closed.summary)


CAUSE_OF = {
    "vendor_duplicate_line": "duplicate",
    "vendor_wrong_period": "wrong_period",
    "vendor_unknown_sim": "unknown_sim",
    "vendor_billed_inactive": "billed_inactive",
    "vendor_missing_sim": "unbilled_sim",
    "vendor_proration": "proration",
    "vendor_quantity_variance": "usage",
    "vendor_wrong_price": "rate",
    "vendor_rounding": "rounding",
    "vendor_lines_rounded_apart": "rounding",
}


def test_every_deviation_is_found_under_its_cause(closed: Closed) -> None:
    rows = closed.compute.fetch(
        "select vendor_id, uid_value, charge_code, cause, amount_minor from reconciliation_cause "
        "where vendor_id in ('emnify', 'bics')"
    ).to_pylist()
    found = Counter(
        (r["vendor_id"], str(r["uid_value"])[:19], r["charge_code"], r["cause"]) for r in rows
    )
    for item in closed.summary.planted:
        if item.kind.startswith("vendor_") and item.amount:
            vendor, code = item.file.split("_")[0], item.detail.split(":")[0]
            key = vendor, item.identifier[:19], code, CAUSE_OF[item.kind]
            assert found[key] == 1, (item, [k for k in found if k[1] == item.identifier[:19]])
