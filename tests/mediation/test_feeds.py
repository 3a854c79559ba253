"""Sessions and counters of feeds that are YAML alone: bytes in, billed events out."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from iotbill_pipelines.compute.duckdb_engine import DuckDbCompute
from iotbill_pipelines.config.documents import ConfigError
from iotbill_pipelines.config.feeds import load_feeds, policy_of
from iotbill_pipelines.engine.schemas import USAGE_PART
from iotbill_pipelines.operations.trace import parts_of
from tests.feeds.harness import feed, ingest_bytes

from .records import Mediated, Row

CALLS = """
id: sip
carrier: demo
target: usage_record
files: ["*.csv"]
format:
  type: delimited
  header: false
  columns: [row, method, call, tag, key, code, status, at, from, to]
zone: UTC
filter:
  - {reason: method, when: {not: {field: method, in: [INVITE, BYE]}}}
fields:
  event_start: {from: at, steps: [timestamp]}
  uid_type: {value: msisdn}
  uid_value: from
  usage_class: {value: voice}
  quantity: {value: "0"}
  part:
    choose:
      - {when: {field: method, equals: INVITE}, value: start}
      - {when: {field: method, equals: BYE}, value: stop}
dedup: {key: [call, method]}
correlate: {key: [call], counting: elapsed}
"""

INVITES = b"""1,INVITE,c-1,a,k,200,OK,2026-10-31 23:59:09,1001,1002
2,ACK,c-1,a,k,200,OK,2026-10-31 23:59:09,1001,1002
3,INVITE,c-2,b,k,200,OK,2026-10-31 12:00:10,1003,1004
"""
BYES = b"""5,BYE,c-1,a,k,200,OK,2026-11-01 00:00:37,1001,1002
7,BYE,c-2,b,k,200,OK,2026-10-31 12:00:50,1003,1004
8,CANCEL,c-3,,k,200,OK,2026-10-31 12:00:42,1005,1006
"""


def mediated(text: str, files: dict[str, bytes]) -> Mediated:
    spec = feed(text)
    rows: list[Row] = ingest_bytes(spec, files).accepted
    return Mediated(rows, [policy_of(spec)])


def test_calls_are_paired_over_files_and_months() -> None:
    got = mediated(CALLS, {"a.csv": INVITES, "b.csv": BYES})
    got.check_conservation()
    assert got.quantities == [40, 88]
    assert [row["usage_month"] for row in got.usage] == ["2026-10", "2026-10"]
    assert {row["part"] for row in got.parts} == {"start", "stop"}


READINGS = """
id: accounting
carrier: demo
target: usage_record
files: ["*.csv"]
format: {type: delimited}
zone: UTC
fields:
  event_start: {from: RecordDateUtc, steps: [timestamp]}
  uid_type: {value: imsi}
  uid_value: {from: Imsi, steps: [imsi]}
  usage_class: {value: data}
  quantity: {from: TotalDataVolume, steps: [integer]}
  session_id: SessionId
  part: {from: RecordType, steps: [lower]}
dedup: {key: [SessionRowID]}
correlate: {key: [SessionId, "=uid_value"], counting: cumulative}
"""

SESSION = b"""SessionRowID,Imsi,SessionId,RecordDateUtc,RecordType,TotalDataVolume
1,262010000000001,s9,2026-10-05 10:00:00,Start,0
2,262010000000001,s9,2026-10-05 10:30:00,Interim,5000
3,262010000000001,s9,2026-10-05 11:00:00,Interim,9000
4,262010000000001,s9,2026-10-05 11:10:00,Stop,9500
5,262010000000002,s9,2026-10-05 11:00:00,Interim,700
6,262010000000002,,2026-10-05 12:00:00,Stop,33
"""


def test_cumulative_sessions_bill_their_last_reading() -> None:
    """Another SIM's session of the same id is another session; one without an id stands alone."""
    got = mediated(READINGS, {"a.csv": SESSION})
    got.check_conservation()
    assert got.quantities == [9500, 33]
    assert [row["uid_value"] for row in got.incomplete] == ["262010000000002"]


def test_cumulative_readings_bill_their_increments() -> None:
    text = READINGS.replace("counting: cumulative}", "counting: cumulative, combine: increments}")
    assert mediated(text, {"a.csv": SESSION}).quantities == [0, 5000, 700, 4000, 500, 33]


def test_a_part_of_another_name_is_rejected() -> None:
    data = SESSION.replace(b"Interim,9000", b"Alive,9000")
    outcome = ingest_bytes(feed(READINGS), data)
    assert outcome.counts == {"accepted": 5, "unknown_part": 1}


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("counting: elapsed", "counting: elapsed, wrap_at: 4294967296", "counting: cumulative"),
        ("counting: elapsed", "counting: sum, combine: increments", "needs counting: cumulative"),
        ("  part:\n    choose:\n      - {when: {field: method, equals: INVITE}, value: start}\n"
         "      - {when: {field: method, equals: BYE}, value: stop}\n", "", "map the field part"),
        ("key: [call], counting", "key: [\"=region\"], counting", "not a mapped field"),
        ("dedup: {key: [call, method]}", "dedup: {key: [call], version: \"x\"}", "restating"),
    ],
)  # fmt: skip
def test_a_correlation_that_cannot_work_is_told(before: str, after: str, said: str) -> None:
    assert before in CALLS
    with pytest.raises(ConfigError, match=said):
        feed(CALLS.replace(before, after))


def test_feeds_of_a_family_agree_on_what_a_repeated_key_means(tmp_path: Path) -> None:
    shared = CALLS.replace("dedup: {key", "dedup: {scope: sip_calls, key")
    (tmp_path / "a.yaml").write_text(shared, "utf-8")
    other = shared.replace("id: sip", "id: sip_archive").replace("*.csv", "*.txt")
    (tmp_path / "b.yaml").write_text(other, "utf-8")
    assert {spec.family for spec in load_feeds(tmp_path).values()} == {"sip_calls"}
    (tmp_path / "b.yaml").write_text(other.replace("scope:", "restating: true, scope:"), "utf-8")
    with pytest.raises(ConfigError, match="let both be, or neither"):
        load_feeds(tmp_path)


def test_a_trace_finds_the_parts_of_an_event() -> None:
    got = mediated(CALLS, {"a.csv": INVITES, "b.csv": BYES})
    events = [
        {"file_key": row["file_key"], "line_no": row["line_no"]}
        for row in sorted(got.usage, key=lambda r: r["event_start"])
    ]
    with DuckDbCompute() as compute:
        compute.load("usage_part", pa.Table.from_pylist(got.parts, USAGE_PART.arrow_schema))
        parts = parts_of(compute, events[-1:])
        assert parts_of(compute, []) == []
    assert [(p["part"], p["file_key"], p["line_no"], p["counted_quantity"]) for p in parts] == [
        ("start", 1, 1, 0), ("stop", 2, 1, 0),
    ]  # fmt: skip
