"""Public files of real systems, through the same path; figures are those of the files."""

# ruff: noqa: DTZ001 - instants of records are naive UTC, as in the engine

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from iotbill_pipelines.compute.duckdb_engine import DuckDbCompute
from iotbill_pipelines.compute.feed_files import ingest_files
from iotbill_pipelines.compute.readers import SourceFile
from iotbill_pipelines.config.feeds import feeds_of, load_feeds
from tests.feeds.harness import ingest_bytes

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "feeds"


@pytest.fixture(scope="module")
def feeds():
    return load_feeds(CONFIGS)


def one_feed(feeds, name):
    [spec] = feeds_of(name, feeds.values())
    return spec


def usage(feeds, path):
    """Return (counts by outcome, figures of the accepted records)."""
    with DuckDbCompute() as compute:
        file = SourceFile(
            1, path.name, datetime(2026, 11, 1), path.stat().st_size, lambda: path.open("rb")
        )
        [result] = ingest_files(compute, one_feed(feeds, path.name), [file])
        figures = compute.fetch(
            """select count(distinct dedup_key) as keys,
                 count(distinct dedup_key || content_hash) as contents,
                 count(distinct uid_value) as uids, cast(sum(quantity) as bigint) as quantity,
                 min(event_start) as first, max(event_start) as last
               from mapped_record where outcome = 'accepted'"""
        ).to_pylist()[0]
        counts = compute.connection.execute(
            "select coalesce(reason_code, 'accepted'), count(*) from mapped_record group by all"
        ).fetchall()
    return result, dict(counts), figures


def test_emnify_examples(feeds, shared):
    path = shared / "feeds/iot/emnify_usage_examples.ndjson"
    out = ingest_bytes(one_feed(feeds, path.name), {path.name: path.read_bytes()})
    data, sms = out.mapped
    assert (data["outcome"], data["usage_class"], data["quantity"]) == ("accepted", "data", 219933)
    assert (data["quantity_up"], data["quantity_down"]) == (47_085, 172_848)
    assert (data["uid_value"], data["mcc"], data["mnc"]) == ("8988303000008013931", "262", "07")
    assert data["event_start"] == datetime(2022, 4, 26, 11, 53, 43)
    # the published SMS has the same SIM with another check digit: one of the two cannot be right
    assert (sms["reason_code"], sms["fault_value"]) == ("iccid_check_digit", "89883030000080139312")
    assert out.results[0].quantity == {"accepted": 219933, "ignored": 0, "rejected": 1}


def test_emnify_examples_as_published_with_comments(feeds, shared):
    path = shared / "feeds/iot/emnify_usage_examples.jsonc"
    spec = one_feed(feeds, "emnify_x.ndjson")
    document = spec.model_dump(by_alias=True) | {"format": {"type": "json"}}
    out = ingest_bytes(type(spec).model_validate(document), {path.name: path.read_bytes()})
    lines = ingest_bytes(spec, {"x": (path.parent / "emnify_usage_examples.ndjson").read_bytes()})
    assert [(m["dedup_key"], m["content_hash"], m["reason_code"]) for m in out.mapped] == [
        (m["dedup_key"], m["content_hash"], m["reason_code"]) for m in lines.mapped
    ]


def test_helium_field_testers(feeds, shared):
    path = shared / "feeds/lorawan/campusiot_helium_FTD_0018B20000020.ndjson.gz"
    result, counts, figures = usage(feeds, path)
    assert counts == {"accepted": 16_954} and result.state == "ingested"
    # 10,542 uplinks by address and counter; two of them stand for two uplinks each, of runs a day
    # to a week apart that came back to the same address and counter with another payload
    assert (figures["keys"], figures["contents"], figures["uids"]) == (10_544, 10_544, 3)
    assert figures["first"] == datetime(2021, 9, 2, 13, 35, 6, 147000)
    assert figures["last"] == datetime(2023, 5, 10, 18, 0, 42, 931000)
    assert result.usage_months == (
        "2021-09",
        "2021-10",
        "2021-11",
        "2022-02",
        "2022-03",
        "2022-04",
        "2022-05",
        "2022-06",
        "2022-11",
        "2022-12",
        "2023-02",
        "2023-05",
    )


def test_helium_tracker_counter_resets_are_no_duplicates(feeds, shared):
    path = shared / "feeds/lorawan/campusiot_helium_IMST_7C727B.ndjson.gz"
    _, counts, figures = usage(feeds, path)
    assert counts == {"accepted": 13_352}
    assert (figures["keys"], figures["uids"]) == (13_352, 1)
    assert figures["first"] == datetime(2022, 3, 7, 6, 41, 49, 379000)
    assert figures["last"] == datetime(2023, 2, 12, 12, 19, 30, 28000)


def test_helium_register(feeds, shared):
    path = shared / "feeds/lorawan/campusiot_helium_endpoints.csv"
    out = ingest_bytes(one_feed(feeds, path.name), {path.name: path.read_bytes()})
    assert out.counts == {"accepted": 6}
    assert {m["uid_value"]: m["service_id"] for m in out.mapped}["33323431007C727B"] == "IMST_C727B"


def test_broken_and_foreign_files_never_crash(feeds, shared):
    """Whatever lands under a feed's name ends as counted records or a quarantined file."""
    files = sorted(
        p for p in (shared / "feeds").rglob("*") if p.is_file() and p.stat().st_size < 200_000
    )
    assert len(files) > 60
    data = {path.name: path.read_bytes() for path in files}
    for feed_id in ("bics_usage", "emnify_usage", "telfix_usage", "xl_usage", "helium_endpoints"):
        out = ingest_bytes(feeds[feed_id], data)
        assert len(out.results) == len(data)
