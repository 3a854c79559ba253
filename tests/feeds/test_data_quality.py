"""Feed-day profiles and the schemas that guard small tables."""

# ruff: noqa: DTZ001 - instants of records are naive UTC, as in the engine

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from iotbill_pipelines.compute.duckdb_engine import DuckDbCompute
from iotbill_pipelines.engine.schemas import REFERENCE, TABLES, USAGE_RECORD
from iotbill_pipelines.engine.validate.profile import LANDED_FILE, profile
from iotbill_pipelines.operations.data_quality import (
    FeedDay,
    check_table,
    compared,
    expectations,
    feed_days,
)
from iotbill_pipelines.operations.expectations import run_expectations
from tests.feeds.harness import CSV_FEED, feed


def usage(**values: object) -> dict[str, object]:
    return {
        "file_key": 1, "line_no": 1, "feed_id": "demo", "dedup_key": "k", "content_hash": "h",
        "usage_month": "2026-10", "event_start": datetime(2026, 10, 5), "event_text": "t",
        "uid_type": "imsi", "uid_value": "1", "usage_class": "data", "quantity": 5,
    } | values  # fmt: skip


def table(schema, *rows):
    return pa.Table.from_pylist(
        [{name: row.get(name) for name in schema.column_names} for row in rows],
        schema=schema.arrow_schema,
    )


def make_profile():
    files = [
        {"file_key": 1, "feed_id": "demo", "received_day": date(2026, 10, 6), "records_in": 10,
         "ignored": 2, "rejected": 5},
        {"file_key": 2, "feed_id": "demo", "received_day": date(2026, 10, 6), "records_in": 1,
         "ignored": 0, "rejected": 0},
        {"file_key": 3, "feed_id": "demo", "received_day": date(2026, 10, 7), "records_in": 4,
         "ignored": 1, "rejected": 3},
    ]  # fmt: skip
    rows = [
        usage(line_no=1, mcc="262"), usage(line_no=2, uid_value="2", quantity=7),
        usage(line_no=3, flags="ambiguous_time", event_start=datetime(2026, 10, 1, 23)),
        usage(file_key=2, usage_class="sms", quantity=1),
    ]  # fmt: skip
    with DuckDbCompute() as compute:
        compute.load("landed_file", pa.Table.from_pylist(files, schema=LANDED_FILE))
        compute.load("usage_record", table(USAGE_RECORD, *rows))
        return profile(compute)


def test_profile_counts_by_feed_and_day_of_usage():
    days, classes = make_profile()
    early, main, empty = days.to_pylist()
    assert [row["day"] for row in (early, main, empty)] == [
        date(2026, 10, 1), date(2026, 10, 5), date(2026, 10, 7),
    ]  # fmt: skip
    assert (early["files"], early["accepted"], early["rejected"], early["flagged"]) == (1, 1, 0, 1)
    assert (main["files"], main["accepted"], main["identifiers"], main["nulls_mcc"]) == (2, 3, 2, 2)
    # both files lie mainly on the 5th; ignored records do not count
    assert (main["records_in"], main["ignored"], main["rejected"]) == (11, 2, 5)
    assert main["reject_per_million"] == 555_555
    # nothing of the third file was accepted: it counts on the day it came
    assert (empty["accepted"], empty["files"], empty["reject_per_million"]) == (0, 0, 1_000_000)
    assert [tuple(row.values())[1:] for row in classes.to_pylist()] == [
        (date(2026, 10, 1), "data", 1, Decimal(5), 5),
        (date(2026, 10, 5), "data", 2, Decimal(12), 7),
        (date(2026, 10, 5), "sms", 1, Decimal(1), 1),
    ]


def test_a_weekday_is_compared_with_the_median_of_its_weeks_before():
    spec = feed(CSV_FEED + "expect: {volume: {weeks: 3, min_weeks: 2}}\n")
    day = FeedDay("demo", date(2026, 10, 29), records=60)
    weeks = {("demo", date(2026, 10, 22)): 100, ("demo", date(2026, 10, 1)): 9_000}
    assert compared(day, weeks, spec).volume_percent is None  # a week, and one too old
    weeks["demo", date(2026, 10, 8)] = 40
    assert compared(day, weeks, spec).volume_percent == 150
    weeks["demo", date(2026, 10, 15)] = 100_000
    assert (found := compared(day, weeks, spec)).volume_percent == 60
    assert found.usual_records == 100
    weeks |= {("demo", date(2026, 10, number)): 0 for number in (15, 8)}
    assert compared(day, weeks, spec).volume_percent is None  # usually nothing
    silent = feed(CSV_FEED + "expect: {volume: null}\n")
    assert compared(day, weeks, silent).volume_percent is None


def test_expectations_come_from_the_feed(tmp_path):
    """Great Expectations itself: slow to import, so one test holds everything."""
    spec = feed(
        CSV_FEED
        + "expect: {min_records: 2, max_reject_percent: 10, max_null_percent: {mcc: 80, mnc: 1},"
        " max_quantity: {data: 11}, max_record_quantity: {data: 6}, min_identifiers: 1,"
        " volume: {min_percent: 90}}\n"
    )
    wanted = expectations(spec)
    assert [e.column for e in wanted] == [
        "missing_files", "reject_per_million", "volume_percent", "records", "identifiers",
        "null_per_million_mcc", "null_per_million_mnc", "quantity_data", "greatest_data",
    ]  # fmt: skip
    days = feed_days(*make_profile())
    huge = 10**17 + 1  # a binary fraction has no such number
    days += [
        FeedDay("demo", date(2026, 10, 8), records=5, identifiers=1, nulls={"mcc": 5},
                quantities={"data": (5, huge, 6)}, volume_percent=89),
        FeedDay("demo", date(2026, 10, 9), records=5, identifiers=1, nulls={},
                quantities={}, missing=2, volume_percent=200),
    ]  # fmt: skip
    at = datetime(2026, 11, 3, 8, tzinfo=UTC)
    found = run_expectations(days, {"demo": wanted}, tmp_path / "docs", at)
    assert [(f.day.day, f.column, f.value) for f in found] == [
        (1, "null_per_million_mcc", 1_000_000),
        (1, "null_per_million_mnc", 1_000_000),
        (1, "records", 1),
        (5, "greatest_data", 7),
        (5, "null_per_million_mnc", 1_000_000),
        (5, "quantity_data", 12),
        (5, "reject_per_million", 555_555),
        (7, "identifiers", 0),
        (7, "records", 0),
        (7, "reject_per_million", 1_000_000),
        (8, "null_per_million_mcc", 1_000_000),
        (8, "quantity_data", huge),
        (8, "volume_percent", 89),
        (9, "missing_files", 2),
    ]
    assert {f.words for f in found if f.column == "greatest_data"} == {
        "at most 6 units of data a record"
    }
    assert (tmp_path / "docs" / "index.html").is_file()
    assert list((tmp_path / "docs" / "validations" / "demo").rglob("*.html"))
    run_expectations(days[:1], {"demo": wanted}, tmp_path / "docs", at)
    assert len(list((tmp_path / "docs" / "validations" / "demo").rglob("*.html"))) == 1
    run_expectations(days[:1], {"demo": wanted}, tmp_path / "again", at)
    pages = [path for path in (tmp_path / "docs").rglob("*") if path.is_file()]
    for page in pages:
        again = tmp_path / "again" / page.relative_to(tmp_path / "docs")
        assert again.read_bytes() == page.read_bytes(), page.name
        if page.suffix == ".html":
            assert "?d=" not in page.read_text()  # a picture that counts its readers


def test_tables_that_keep_their_schema_pass():
    assert check_table(USAGE_RECORD, table(USAGE_RECORD, usage(), usage(line_no=2))) == []
    for schema in TABLES.values():
        assert check_table(schema, schema.arrow_schema.empty_table()) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"quantity": -1}, "usage_record.quantity: must not be negative, for example -1"),
        ({"usage_month": "2026-13"}, "usage_record.usage_month: must be a month"),
        ({"mcc": "26"}, "usage_record.mcc: must be a MCC"),
        ({"uid_value": "a b"}, "usage_record.uid_value: must be a identifier without blanks"),
        ({"dedup_key": None}, "usage_record.dedup_key: not_nullable"),
    ],
)
def test_a_broken_rule_is_a_finding(change, said):
    rows = table(USAGE_RECORD, usage())
    schema = pa.schema([field.with_nullable(True) for field in USAGE_RECORD.arrow_schema])
    rows = pa.Table.from_pylist([{**rows.to_pylist()[0], **change}], schema=schema)
    [finding] = check_table(USAGE_RECORD, rows)
    assert finding.severity == "block"
    assert said in finding.message


def test_keys_are_unique_and_values_known():
    schema = REFERENCE["service"]
    row = {"service_id": "S", "account_id": "A"}
    assert "service" in check_table(schema, table(schema, row, row))[0].message
    account = REFERENCE["account"]
    row = {"account_id": "A", "name": "n", "kind": "friend", "entity_id": "E",
           "billing_zone": "UTC", "currency": "eur"}  # fmt: skip
    assert {f.message.split(":")[0] for f in check_table(account, table(account, row))} == {
        "account.kind", "account.currency",
    }  # fmt: skip
