"""Feed-day profiles and the schemas that guard small tables."""

# ruff: noqa: DTZ001 - instants of records are naive UTC, as in the engine

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from iotbill_pipelines.compute.duckdb_engine import DuckDbCompute
from iotbill_pipelines.engine.schemas import REFERENCE, TABLES, USAGE_RECORD
from iotbill_pipelines.engine.validate.profile import LANDED_FILE, profile
from iotbill_pipelines.operations.data_quality import (
    check_table,
    expectations,
    run_expectations,
)
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
        {"file_key": 3, "feed_id": "demo", "received_day": date(2026, 10, 7), "records_in": 0,
         "ignored": 0, "rejected": 0},
    ]  # fmt: skip
    rows = [
        usage(line_no=1, mcc="262"), usage(line_no=2, uid_value="2", quantity=7),
        usage(line_no=3, flags="ambiguous_time", event_start=datetime(2026, 10, 1)),
        usage(file_key=2, usage_class="sms", quantity=1),
    ]  # fmt: skip
    with DuckDbCompute() as compute:
        compute.load("landed_file", pa.Table.from_pylist(files, schema=LANDED_FILE))
        compute.load("usage_record", table(USAGE_RECORD, *rows))
        return profile(compute, ["data", "it's"])


def test_profile_counts_by_feed_and_day():
    full, empty = make_profile().to_pylist()
    assert (full["feed_id"], full["day"], full["files"]) == ("demo", date(2026, 10, 6), 2)
    assert (full["records_in"], full["accepted"], full["ignored"], full["rejected"]) == (
        11,
        4,
        2,
        5,
    )
    assert full["reject_per_million"] == 555_555  # 5 of 9: ignored records do not count
    assert (full["identifiers"], full["flagged"], full["nulls_mcc"]) == (2, 1, 3)
    assert (full["quantity_data"], full["quantity_it's"]) == (Decimal(17), Decimal(0))
    assert (full["first_event"], full["last_event"]) == (
        datetime(2026, 10, 1), datetime(2026, 10, 5),
    )  # fmt: skip
    assert (empty["records_in"], empty["accepted"], empty["reject_per_million"]) == (0, 0, 0)


def test_expectations_come_from_the_feed(tmp_path):
    """Great Expectations itself: slow to import, so one test holds everything."""
    spec = feed(
        CSV_FEED
        + "expect: {min_records: 1, max_reject_percent: 10, max_null_percent: {mcc: 80, mnc: 1},"
        " max_quantity: {data: 10}}\n"
    )
    assert [e.column for e in expectations(spec)] == [
        "reject_per_million", "records_in", "null_per_million_mcc", "null_per_million_mnc",
        "quantity_data",
    ]  # fmt: skip
    found = run_expectations(make_profile(), {"demo": spec}, tmp_path / "docs")
    assert [(f.code, f.severity, f.figure) for f in found] == [
        ("feed_day_expectation", "warn", "1 days")
    ] * 4
    assert [f.message for f in found] == [
        "demo: expected at most 10 % of the records are rejected; "
        "reject_per_million was 2026-10-06: 555555",
        "demo: expected between 1 and any number of records a day; records_in was 2026-10-07: 0",
        "demo: expected at most 1 % of the records lack mnc; "
        "null_per_million_mnc was 2026-10-06: 1000000",
        "demo: expected at most 10 units of data a day; quantity_data was 2026-10-06: 17",
    ]
    assert (tmp_path / "docs" / "index.html").is_file()
    assert list((tmp_path / "docs" / "validations" / "demo").rglob("*.html"))


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
