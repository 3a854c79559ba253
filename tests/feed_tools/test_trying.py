"""`iotbill feed test`: what a feed makes of a sample, step by step; nothing is stored."""

# ruff: noqa: DTZ001 - instants of records are naive UTC, as in the engine

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from iotbill_pipelines.config.feeds import load_feeds
from iotbill_pipelines.operations.feed_tools.trying import Trial, try_sample
from tests.conftest import ROOT
from tests.feeds.harness import CSV_FEED, RECEIVED, feed, row

CHAIN = CSV_FEED.replace(
    "  quantity: {from: bytes, steps: [trim, integer]}",
    """  quantity:
    choose:
      - {when: {field: unit, equals: MB}, from: bytes, steps: [trim, {units: {unit: MB}}]}
      - {when: {field: unit, in: [B, ""]}, from: bytes, steps: [integer]}
  region: {from: [zone, area], steps: [upper]}
filter:
  - {reason: test_sim, when: {field: sim, starts_with: "00101"}}
attributes:
  note: {from: note, steps: [trim]}""",
)
HEADER = b"time,sim,bytes,unit,zone,area,note\n"


def attempt(tmp_path: Path, data: bytes, lines: list[int] | None = None, most: int = 10) -> Trial:
    sample = tmp_path / "demo_1.csv"
    sample.write_bytes(data)
    return try_sample(feed(CHAIN), sample, RECEIVED, lines or [], most)


def line(amount: bytes, unit: bytes, sim: bytes = b"262010000000001") -> bytes:
    return b"2026-10-05 10:00:00+02:00," + sim + b"," + amount + b"," + unit + b",,north, hi \n"


def test_every_value_between_the_steps_is_shown(tmp_path: Path) -> None:
    trial = attempt(tmp_path, HEADER + line(b" 1.5 ", b"MB"))
    [record] = trial.records
    fields = {field.name: field for field in record.fields}
    quantity = fields["quantity"]
    assert (quantity.origin, quantity.condition) == ("bytes", "unit is MB")
    assert (quantity.start, quantity.value) == (" 1.5 ", "1500000")
    assert [(s.function, s.value) for s in quantity.steps] == [
        ("trim@1", "1.5"), ("units@1 (unit MB)", "1500000")
    ]  # fmt: skip
    start = fields["event_start"]
    assert [(s.function, s.value, s.implicit) for s in start.steps] == [
        ("trim@1", "2026-10-05 10:00:00+02:00", False),
        ("timestamp@1", "2026-10-05 08:00:00", False),
    ]
    region = fields["region"]
    assert (region.origin, region.start, region.value) == ("zone or else area", "north", "NORTH")
    assert (fields["note"].attribute, fields["note"].value) == (True, "hi")
    assert record.outcome == "accepted" and record.sources["sim"] == "262010000000001"
    assert (trial.accepted, trial.distinct_keys, trial.structure) == (1, 1, {"header": 1})
    assert [(q.usage_class, q.quantity) for q in trial.quantities] == [("data", 1_500_000)]


def test_a_rejected_record_names_every_rule_it_breaks(tmp_path: Path) -> None:
    trial = attempt(tmp_path, HEADER + line(b"1.5", b"GB", sim=b"12"))
    [record] = trial.records
    assert (record.outcome, record.reason, record.fault_value) == ("rejected", "invalid_imsi", "12")
    also = {(broken.code, broken.field) for broken in record.also_broken}
    assert {("no_mapping", "quantity"), ("missing_value", "quantity")} <= also
    quantity = {f.name: f for f in record.fields}["quantity"]
    assert (quantity.origin, quantity.value) == (None, None)
    assert [(r.outcome, r.reason, r.records) for r in trial.reasons] == [
        ("rejected", "invalid_imsi", 1)
    ]


def test_one_record_of_every_reason_is_shown_first(tmp_path: Path) -> None:
    good = b"".join(line(str(n).encode(), b"B") for n in range(20))
    trial = attempt(
        tmp_path, HEADER + good + line(b"1", b"B", b"001010000000001") + line(b"x", b"B"), most=3
    )
    shown = [(r.line_no, r.outcome, r.reason) for r in trial.records]
    assert shown == [
        (2, "accepted", None),
        (22, "ignored", "filter:test_sim"),
        (23, "rejected", "invalid_number"),
    ]
    assert trial.counts == {"accepted": 20, "ignored": 1, "rejected": 1}


def test_a_line_can_be_asked_for(tmp_path: Path) -> None:
    data = HEADER + line(b"1", b"B") + line(b"2", b"B")
    assert [r.line_no for r in attempt(tmp_path, data, [3]).records] == [3]
    with pytest.raises(ValueError, match="line 1 is no record"):
        attempt(tmp_path, data, [1])
    with pytest.raises(ValueError, match="no line 9"):
        attempt(tmp_path, data, [9])


def test_a_file_that_would_be_quarantined_says_so(tmp_path: Path) -> None:
    trial = attempt(tmp_path, b"time,sim\n" + row())
    assert trial.state == "quarantined" and "missing_column" in (trial.error or "")
    assert trial.records == ()


def test_a_conflict_of_two_rows_is_shown_as_ingestion_sees_it(tmp_path: Path) -> None:
    services = load_feeds(ROOT / "configs" / "feeds")["services"]
    sample = tmp_path / "services.csv"
    sample.write_bytes(b"service_id,account_id,label\nS1,A1,one\nS1,A2,one\nS2,A1,two\n")
    trial = try_sample(services, sample, RECEIVED)
    assert [(r.line_no, r.outcome, r.reason) for r in trial.records] == [
        (2, "rejected", "key_conflict"), (3, "rejected", "key_conflict"), (4, "accepted", None)
    ]  # fmt: skip
    assert trial.quantities == () and trial.distinct_keys is None


def test_the_trace_of_every_shipped_feed_compiles_to_the_same_outcome(shared: Path) -> None:
    """Real files: what the trace shows as the target's value is what ingestion accepts."""
    feeds = load_feeds(ROOT / "configs" / "feeds")
    sample = shared / "feeds/lorawan/campusiot_helium_IMST_7C727B.ndjson.gz"
    trial = try_sample(feeds["helium_uplinks"], sample, datetime(2026, 11, 1))
    assert trial.counts == {"accepted": 13_352, "ignored": 0, "rejected": 0}
    assert trial.distinct_keys == 13_352 and len(trial.records) == 10
    first = {f.name: f for f in trial.records[0].fields}
    assert first["event_start"].start == "1646635309379"
    assert first["event_start"].value == "2022-03-07 06:41:49.379"


def test_what_a_step_reads_of_another_field_is_no_step_of_this_one(tmp_path: Path) -> None:
    step = "{units_by: {field: unit, steps: [trim, upper], names: {MB: MB}}}"
    spec = feed(
        CSV_FEED.replace("from: bytes, steps: [trim, integer]", f"from: n, steps: [{step}]")
    )
    sample = tmp_path / "demo.csv"
    sample.write_text("time,sim,n,unit\n2026-10-05T10:00:00Z,262010000000001,1.5, mb\n")
    [record] = try_sample(spec, sample, RECEIVED).records
    [quantity] = [field for field in record.fields if field.name == "quantity"]
    assert [(step.function, step.value, step.implicit) for step in quantity.steps] == [
        ("units_by@1 (field unit, steps [trim, upper], names {MB -> MB})", "1500000", False)
    ]
