"""From the bytes of the sample's files to charges and reconciled invoices, held against the plan.

What was planted must be found: every record in its outcome, every charge as the independent
biller has it, every cent of the invoices under the cause by which it was planted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pytest

from iotbill_pipelines.compute.duckdb_engine import DuckDbCompute
from iotbill_pipelines.compute.readers import FileFault, SourceFile, read_files
from iotbill_pipelines.config.catalog import read_catalog
from iotbill_pipelines.config.feeds import load_feeds
from iotbill_pipelines.config.vendors import read_vendors
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.feeds.mapping import compile_feed
from iotbill_pipelines.engine.feeds.zones import local_days
from iotbill_pipelines.engine.flow import rate_month, settle_period
from iotbill_pipelines.engine.reconcile import reconcile
from iotbill_pipelines.engine.schemas import RATED_USAGE, REFERENCE, USAGE_RECORD
from iotbill_pipelines.engine.terms import compile_catalog
from iotbill_pipelines.operations.sample import SampleSummary, imagine, write_sample

from .oracle import Amounts, Oracle

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
OCTOBER = Month(2026, 10)
SIZE, SEED = 200, 5
USAGE_FEEDS = ("emnify_usage", "bics_usage", "telfix_usage", "xl_usage")
RECEIVED = datetime.fromisoformat("2026-11-02")


@dataclass(frozen=True)
class Closed:
    """A month that went from files to reconciled invoices."""

    compute: DuckDbCompute
    summary: SampleSummary
    oracle: Amounts
    ingested: dict[str, list[dict[str, object]]]
    faults: list[FileFault]


def read_feed(
    compute: DuckDbCompute, folder: Path, names: list[str], spec_id: str
) -> tuple[pa.Table, list[FileFault]]:
    """Read all files of a feed; the feed's compiled relation with outcomes, and file faults."""
    spec = load_feeds(CONFIGS / "feeds")[spec_id]
    sources = [
        SourceFile(
            int(sha256(name.encode()).hexdigest()[:15], 16),
            name,
            RECEIVED,
            (folder / name).stat().st_size,
            lambda path=folder / name: path.open("rb"),
        )
        for name in names
    ]
    faults = read_files(compute, spec, sources)
    compiled = compile_feed(spec)
    days = local_days(compiled.zones, date(2024, 1, 1), date(2027, 1, 1))
    compute.load("feed_local_day", days)
    return compute.fetch(compiled.select), faults


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Closed]:
    folder = tmp_path_factory.mktemp("landing")
    summary = write_sample(folder, OCTOBER, SIZE, SEED)
    fleet, deliveries, _ = imagine(OCTOBER, SIZE, SEED)
    catalog = read_catalog(CONFIGS / "catalog").catalog
    feeds = load_feeds(CONFIGS / "feeds")
    kept = [
        row.event
        for days in deliveries.values()
        for rows in days.values()
        for row in rows
        if row.outcome == "kept"
    ]
    ingested, faults = {}, []
    with DuckDbCompute() as compute:
        targets: dict[str, list[pa.Table]] = {}
        for feed in dict.fromkeys(file.feed_id for file in summary.files):
            names = [file.name for file in summary.files if file.feed_id == feed]
            table, found = read_feed(compute, folder, names, feed)
            faults += found
            compute.load("normalised", table)
            ingested[feed] = compute.fetch(
                "select outcome, reason_code, count(*) as records from normalised group by all"
            ).to_pylist()
            target = feeds[feed].table
            targets.setdefault(target.name, []).append(
                compute.fetch(
                    f"select {target.column_list} from normalised where outcome = 'accepted'"
                )
            )
        for name in REFERENCE:
            compute.load(name, pa.concat_tables(targets[name]))
        for name, table in compile_catalog(catalog).items():
            compute.load(name, table)
        compute.load("all_usage", pa.concat_tables(targets["usage_record"]))
        rated, aside = [], []
        months = compute.fetch("select distinct usage_month from all_usage order by 1")
        for month in months["usage_month"].to_pylist():
            compute.define(
                "usage_record",
                f"select {USAGE_RECORD.column_list} from all_usage where usage_month = '{month}'",
                keep=True,
            )
            rate_month(compute)
            rated.append(compute.fetch("rated_usage"))
            aside.append(compute.fetch("select feed_id, reason_code from suspended_record"))
            aside.append(
                compute.fetch("select feed_id, 'duplicate' as reason_code from duplicate_record")
            )
        compute.load("all_rated", pa.concat_tables(rated))
        compute.load("set_aside", pa.concat_tables(aside))
        compute.define("rated_usage", f"select {RATED_USAGE.column_list} from all_rated")
        settle_period(compute, OCTOBER)
        compute.load("vendor_invoice_line", pa.concat_tables(targets["vendor_invoice_line"]))
        reconcile(compute, OCTOBER, [v.terms() for v in read_vendors(CONFIGS / "vendors").values()])
        yield Closed(compute, summary, Oracle(catalog, fleet).bill(kept), ingested, faults)


def test_no_file_is_quarantined(closed: Closed) -> None:
    assert closed.faults == []


@pytest.mark.parametrize("feed", USAGE_FEEDS)
def test_every_record_meets_the_fate_that_was_planned(closed: Closed, feed: str) -> None:
    planned = closed.summary.outcomes(feed)
    found: Counter[str] = Counter()
    for row in closed.ingested[feed]:
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
    for feed, rows in closed.ingested.items():
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
