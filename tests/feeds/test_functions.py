"""The named functions of a mapping: what they make of texts, and what they refuse."""

# ruff: noqa: DTZ001 - instants of records are naive UTC, as in the engine

from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Decimal
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stdnum import luhn

from iotbill_pipelines.engine.feeds.zones import local_days
from tests.depth import examples
from tests.feeds.harness import CSV_FEED, Outcome, ingest_bytes

NDJSON = """
id: demo
carrier: demo
target: usage_record
files: ["*"]
format: {type: delimited, delimiter: "|", quote: null, header: false, columns: [x, y]}
ZONE
fields:
  event_start: {value: "2026-10-05T10:00:00Z", steps: [timestamp]}
  uid_type: {value: test}
  uid_value: {value: "1"}
  usage_class: {value: other}
  quantity: {value: "0", steps: [integer]}
  FIELD
dedup: {key: [x]}
"""


def run(column: str, steps: str, texts: list[str], zone: str = "") -> Outcome:
    """Map column x of one line per text into ``column``."""
    field = f"{column}: {{from: x, steps: [{steps}]}}"
    text = NDJSON.replace("ZONE", f"zone: {zone}" if zone else "")
    if column in ("quantity", "event_start"):
        lines = [line for line in text.splitlines() if not line.strip().startswith(f"{column}:")]
        text = "\n".join(lines)
    spec = text.replace("FIELD", field)
    return ingest_bytes(spec, "".join(f"{t}|\n" for t in texts).encode(), datetime(2027, 1, 1))


def values(column: str, steps: str, texts: list[str], zone: str = "") -> list[object]:
    """Return per text the value, or the reason for which it was rejected."""
    out = run(column, steps, texts, zone)
    return [m["reason_code"] or m[column] for m in out.mapped]


def test_units_are_exact_or_rejected():
    assert values(
        "quantity",
        "{units: {unit: MB}}",
        [
            "0.219933",
            "0.2199331",
            "1",
            "-0.5",
            "1e-6",
            "1.5E2",
            "+2",
            ".5",
            "0.000",
            "007.10",
            "0x1F",
            "1_000",
            "12 MB",
            "1,5",
            "infinity",
            "NaN",
            "--1",
            "1e",
            "1.2.3",
            "٣",
        ],
    ) == [
        219933,
        "not_whole",
        1_000_000,
        "negative_quantity",
        1,
        150_000_000,
        2_000_000,
        500_000,
        0,
        7_100_000,
        *["invalid_number"] * 10,
    ]


def test_units_decimal_and_binary_are_different():
    assert values("quantity", "{units: {unit: KB}}", ["1.5"]) == [1500]
    assert values("quantity", "{units: {unit: KiB}}", ["1.5", "0.1"]) == [1536, "not_whole"]
    assert values("quantity", "{units: {unit: GiB}}", ["1.000000001"]) == ["not_whole"]
    assert values("quantity", "{units: {unit: hour}}", ["0.25"]) == [900]


def test_declared_rounding():
    texts = ["0.0000004", "0.0000005", "0.0000014"]
    for mode, expected in {"half_up": [0, 1, 1], "up": [1, 1, 2], "down": [0, 0, 1]}.items():
        assert values("quantity", f"{{units: {{unit: MB, round: {mode}}}}}", texts) == expected


def test_numbers_beyond_any_quantity():
    texts = ["9223372036854775807", "9223372036854775808", "1e30", "1" * 18, "1" * 30]
    assert values("sequence_no", "integer", texts) == [
        "invalid_number",
        "invalid_number",
        "number_out_of_range",
        int("1" * 18),
        "invalid_number",
    ]
    assert values("sequence_no", "{units: {unit: GB}}", ["9223372036.854775807", "1" * 12]) == [
        2**63 - 1,
        "number_out_of_range",
    ]


@settings(deadline=None, max_examples=examples(7), suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.decimals(
            min_value=-(10**12),
            max_value=10**12,
            places=None,
            allow_nan=False,
            allow_infinity=False,
        ),
        min_size=1,
        max_size=60,
    ),
    st.sampled_from([("MB", 10**6), ("KiB", 1024), ("second", 1), ("hour", 3600), ("GB", 10**9)]),
    st.sampled_from(["none", "half_up", "up", "down"]),
)
def test_units_agree_with_decimal_arithmetic(numbers, unit, mode):
    name, factor = unit
    rounding = {"half_up": ROUND_HALF_UP, "up": ROUND_CEILING, "down": ROUND_FLOOR}.get(mode)
    out = run("sequence_no", f"{{units: {{unit: {name}, round: {mode}}}}}", list(map(str, numbers)))
    for number, mapped in zip(numbers, out.mapped, strict=True):
        if mapped["reason_code"] in ("invalid_number", "number_out_of_range"):
            digits = number.as_tuple()
            assert len(digits.digits) > 18 or abs(digits.exponent) > 18 or abs(number) > 10**9
            continue
        exact = number * factor
        if exact == exact.to_integral_value():
            assert (mapped["reason_code"], mapped["sequence_no"]) == (None, int(exact))
        elif rounding is None:
            assert (mapped["reason_code"], mapped["sequence_no"]) == ("not_whole", None)
        else:
            size = abs(exact).to_integral_value(rounding)
            assert abs(mapped["sequence_no"]) == size


def test_decimals_are_money_exactly():
    texts = [
        "0.00188512",
        "1e-5",
        "123456789012345678.123456789012",
        "0.1234567890123",
        "1e3",
        "1000",
        "-1.50",
        "abc",
    ]
    assert values("vendor_cost", "decimal", texts) == [
        Decimal("0.00188512"),
        Decimal("0.00001"),
        Decimal("123456789012345678.123456789012"),
        "number_out_of_range",
        Decimal(1000),
        Decimal(1000),
        Decimal("-1.5"),
        "invalid_number",
    ]


def test_decimal_comma():
    spec = CSV_FEED.replace(
        "type: delimited", "type: delimited, delimiter: ';', decimal_comma: true"
    )
    spec = spec.replace("[trim, integer]", "[trim, {units: {unit: MB}}]")
    sizes = ["0,219933", "1.234,5", "1.234.567", "12.34", "1,234.5", "7", "1.2345,0"]
    lines = [f"2026-10-05T10:00:00Z;262010000000001;{size}" for size in sizes]
    out = ingest_bytes(spec, "\n".join(["time;sim;bytes", *lines]).encode())
    assert [m["reason_code"] or m["quantity"] for m in out.mapped] == [
        219933,
        1_234_500_000,
        1_234_567_000_000,
        "invalid_number",
        "invalid_number",
        7_000_000,
        "invalid_number",
    ]


def test_iso_timestamps():
    texts = [
        "2026-10-05T10:00:00Z",
        "2026-10-05 10:00:00",
        "2026-10-05T10:00:00.5+02:00",
        "2026-10-05T10:00-0530",
        "2026-10-05T10:00:00+14",
        "2026-10-05T10:00:00 UTC",
        "2026-10-05T24:00:00Z",
        "2026-02-30T10:00:00Z",
        "2026-10-05",
        "infinity",
        "2026-10-05T10:00:60Z",
        "05.10.2026 10:00",
        "2026-10-05T10:00:00+25:00",
    ]
    assert values("event_start", "timestamp", texts, "UTC") == [
        datetime(2026, 10, 5, 10),
        datetime(2026, 10, 5, 10),
        datetime(2026, 10, 5, 8, 0, 0, 500000),
        datetime(2026, 10, 5, 15, 30),
        datetime(2026, 10, 4, 20),
        datetime(2026, 10, 5, 10),
        *["invalid_timestamp"] * 7,
    ]


def test_a_time_without_offset_needs_a_zone():
    assert values("event_start", "timestamp", ["2026-10-05T10:00:00", "2026-10-05T10:00:00Z"]) == [
        "no_zone",
        datetime(2026, 10, 5, 10),
    ]


def test_local_times_ambiguous_and_nonexistent():
    steps = '{timestamp: {format: "%Y%m%d%H%M%S"}}'
    texts = [
        "20261001120000",
        "20261025015959",
        "20261025020000",
        "20261025025959",
        "20261025030000",
        "20260329015959",
        "20260329020000",
        "20260329023000",
        "20260329030000",
        "20261301000000",
    ]
    out = run("event_start", steps, texts, "Europe/Berlin")
    assert [
        (m["reason_code"] or f"{m['event_start']:%m-%d %H:%M:%S}", m["flags"]) for m in out.mapped
    ] == [
        ("10-01 10:00:00", None),
        ("10-24 23:59:59", None),
        ("10-25 00:00:00", "ambiguous_time"),
        ("10-25 00:59:59", "ambiguous_time"),
        ("10-25 02:00:00", None),
        ("03-29 00:59:59", None),
        ("03-29 01:00:00", "nonexistent_time"),
        ("03-29 01:30:00", "nonexistent_time"),
        ("03-29 01:00:00", None),
        ("invalid_timestamp", None),
    ]
    assert out.mapped[2]["event_text"] == "20261025020000"


@pytest.mark.parametrize(
    "zone",
    [
        "Europe/Berlin",
        "America/New_York",
        "Australia/Lord_Howe",
        "Africa/Casablanca",
        "Asia/Kathmandu",
        "Pacific/Apia",
    ],
)
def test_local_days_agree_with_zoneinfo(zone):
    rows = local_days([zone], date(2011, 12, 20), date(2013, 1, 10)).to_pylist()
    for one, after in pairwise(rows):
        assert one["local_to"] == after["local_from"]  # no gap, no overlap
    for one in rows[::3] + [r for r in rows if r["flag"]]:
        middle = one["local_from"] + (one["local_to"] - one["local_from"]) / 2
        first = middle.replace(tzinfo=ZoneInfo(zone), fold=0)
        second = middle.replace(tzinfo=ZoneInfo(zone), fold=1)
        assert timedelta(seconds=one["offset_seconds"]) == first.utcoffset()
        assert (one["flag"] is not None) == (first.utcoffset() != second.utcoffset())


def test_epochs():
    assert values(
        "event_start",
        "{timestamp: {format: epoch_ms}}",
        ["1646048778967", "1646048778967.5", "-5", "16460487789670000"],
    ) == [
        datetime(2022, 2, 28, 11, 46, 18, 967000),
        datetime(2022, 2, 28, 11, 46, 18, 967500),
        "invalid_timestamp",
        "invalid_timestamp",
    ]
    assert values(
        "event_start", "{timestamp: {format: epoch_s}}", ["1646048778", "1646048778.25"]
    ) == [
        datetime(2022, 2, 28, 11, 46, 18),
        datetime(2022, 2, 28, 11, 46, 18, 250000),
    ]


def test_bounds_of_time_and_quantity():
    spec = CSV_FEED + "bounds: {max_quantity: {data: 1000}, max_age_days: 30}\n"
    rows = [
        ("2026-10-05T10:00:00Z", 1000),
        ("2026-10-05T10:00:00Z", 1001),
        ("2026-10-05T10:00:00Z", -1),
        ("2026-11-03T06:00:00Z", 1),
        ("2026-11-03T06:00:01Z", 1),
        ("2026-10-03T05:59:59Z", 1),
        ("1970-01-01T00:00:00Z", 1),
    ]
    data = "time,sim,bytes\n" + "".join(f"{t},262010000000001,{q}\n" for t, q in rows)
    out = ingest_bytes(spec, data.encode())
    assert [m["reason_code"] for m in out.mapped] == [
        None,
        "absurd_quantity",
        "negative_quantity",
        None,
        "future_event",
        "too_old",
        "too_old",
    ]
    assert out.rejected[0]["value"] == "1001"
    # what could be read counts, whatever became of it
    assert out.results[0].quantity == {"accepted": 1001, "ignored": 0, "rejected": 1001 - 1 + 3}


def test_the_first_broken_rule_is_the_reason():
    data = b"time,sim,bytes\nnever,x,-5\n2026-10-05T10:00:00Z,x,-5\n,262010000000001,5\n"
    out = ingest_bytes(CSV_FEED, data)
    assert [(r["reason_code"], r["field"], r["value"]) for r in out.rejected] == [
        ("invalid_timestamp", "event_start", "never"),
        ("invalid_imsi", "uid_value", "x"),
        ("missing_value", "event_start", None),
    ]


def with_luhn(digits: str) -> str:
    return digits + luhn.calc_check_digit(digits)


@settings(deadline=None, max_examples=examples(4), suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.from_regex(r"89[0-9]{17}", fullmatch=True), min_size=5, max_size=40),
    st.integers(1, 9),
)
def test_iccid_luhn_agrees_with_stdnum(bodies, shift):
    good = [with_luhn(body) for body in bodies]
    bad = [g[:-1] + str((int(g[-1]) + shift) % 10) for g in good]
    marked = [body + "F" for body in bodies]
    told = values("session_id", "iccid", [*good, *bad, *marked])
    assert told == [*bodies, *["iccid_check_digit"] * len(bad), *bodies]
    nineteen = [with_luhn(body[:18]) for body in bodies]
    assert values("session_id", "{iccid: {luhn: last}}", nineteen) == nineteen
    assert values("session_id", "{iccid: {luhn: none}}", bad) == bodies


def test_iccid_forms():
    texts = [
        "8952 1400 6170 0047 076F",
        "8952-14006170-0047-076f",
        "8.98830300000801e+19",
        "895214006170004707",
        "1234567890123456789",
        "89521400617000470761234",
        "",
    ]
    assert values("session_id", "iccid", texts) == [
        "8952140061700047076",
        "8952140061700047076",
        *["invalid_iccid"] * 4,
        None,
    ]


def test_phone_numbers():
    texts = [
        "+49 (0) 170 / 123-4567",
        "0049 170 1234567",
        "0170 1234567",
        "491701234567",
        "110",
        "88444",
        "+49",
        "12",
        "abc",
        "00",
        "+491701234567890123",
    ]
    assert values("peer_number", "{e164: {country_code: '49'}}", texts) == [
        *["491701234567"] * 4,
        "110",
        "88444",
        *["invalid_phone_number"] * 5,
    ]
    assert values("peer_number", "e164", ["0170 1234567"]) == ["invalid_phone_number"]


def test_other_identifiers():
    assert values(
        "session_id", "imsi", ["262010000000001", "26201000000001", "2620 1000 0000 001"]
    ) == [
        "262010000000001",
        "invalid_imsi",
        "262010000000001",
    ]
    imei = with_luhn("86773005111111")
    assert values("session_id", "imei", [imei, imei[:14], "8677300511111142", imei[:-1] + "x"]) == [
        imei,
        imei[:14],
        "8677300511111142",
        "invalid_imei",
    ]
    wrong = imei[:-1] + str((int(imei[-1]) + 1) % 10)
    assert values("session_id", "imei", [wrong]) == ["imei_check_digit"]
    assert values("session_id", "eui64", ["00:18:b2:00:00:02:0c:bc", "0018B20000020CB"]) == [
        "0018B20000020CBC",
        "invalid_eui64",
    ]
    assert values("mnc", "mnc", ["01", "001", "1"]) == ["01", "001", "invalid_mnc"]
    assert values("mcc", "mcc", ["262", "26", "162"]) == ["262", "invalid_mcc", "invalid_mcc"]


def test_texts():
    assert values("session_id", "trim", ["\t a b \u00a0", "   ", "x"]) == ["a b", None, "x"]
    assert values("session_id", "{absent: {texts: ['-', '0']}}", ["-", "0", "00"]) == [
        None,
        None,
        "00",
    ]
    assert values("session_id", "{map: {table: {'1': a, O'Hara: b}}}", ["1", "O'Hara", "2"]) == [
        "a",
        "b",
        "no_mapping",
    ]
    assert values("session_id", "{map: {table: {'1': a}, default: z}}", ["1", "2", ""]) == [
        "a",
        "z",
        None,
    ]
    assert values("session_id", "{extract: {pattern: 'id=([0-9]+)'}}", ["x id=7;", "none"]) == [
        "7",
        "pattern_mismatch",
    ]
    assert values("session_id", "{cut: {start: 4, length: 3}}, upper", ["26201a", "262"]) == [
        "01A",
        None,
    ]
    assert values("session_id", "{pad: {length: 3}}", ["7", "1234"]) == ["007", "1234"]


def test_choose_maps_by_another_field():
    spec = CSV_FEED.replace(
        "quantity: {from: bytes, steps: [trim, integer]}",
        """quantity:
    choose:
      - {when: {field: kind, equals: MB}, from: bytes, steps: [{units: {unit: MB}}]}
      - when: {all: [{field: kind, in: [n, m]}, {not: {field: bytes, empty: true}}]}
        from: bytes
        steps: [integer]
      - when: {any: [{field: kind, starts_with: "fix"}, {field: kind, matches: "[0-9]+"}]}
        value: "3"
        steps: [integer]""",
    )
    kinds = ["MB", "n", "m", "fixed", "12", "other", ""]
    data = "time,sim,bytes,kind\n" + "".join(
        f"2026-10-05T10:00:00Z,262010000000001,2,{kind}\n" for kind in kinds
    )
    out = ingest_bytes(spec, data.encode())
    assert [m["reason_code"] or m["quantity"] for m in out.mapped] == [
        2_000_000,
        2,
        2,
        3,
        3,
        "no_mapping",
        "no_mapping",
    ]
    assert out.rejected[0]["value"] == "other"


def test_filters_come_before_the_fields_and_keep_their_order():
    spec = (
        CSV_FEED
        + """
filter:
  - {reason: totals, when: {field: sim, equals: Total}}
  - {reason: empty_rows, when: {field: bytes, empty: true}}
"""
    )
    data = b"time,sim,bytes\n,Total,\n,Total,5\n,x,\nbad,x,1\n"
    out = ingest_bytes(spec, data)
    assert [m["reason_code"] for m in out.mapped] == [
        "filter:totals",
        "filter:totals",
        "filter:empty_rows",
        "invalid_timestamp",
    ]
    assert out.results[0].records == {"accepted": 0, "ignored": 3, "rejected": 1}


def test_texts_of_configuration_stay_texts():
    evil = "x' or 1=1; drop table raw_line; --"
    spec = CSV_FEED + f'filter: [{{reason: evil, when: {{field: sim, equals: "{evil}"}}}}]\n'
    out = ingest_bytes(spec, f"time,sim,bytes\n,{evil},1\n".encode())
    assert out.counts == {"filter:evil": 1}


def test_numbers_of_older_machines():
    points = values("session_id", "{implied: {decimals: 2}}", ["1234", "-5", "007", "1.5"])
    assert points == ["12.34", "-0.05", "0.07", "invalid_number"]
    assert values("session_id", "overpunch", ["12{", "12J", "120", "}", "1{2", ""]) == [
        "120", "-121", "120", "-0", "invalid_number", None,
    ]  # fmt: skip
    assert values("vendor_cost", "overpunch, {implied: {decimals: 3}}, decimal", ["0012L"]) == [
        Decimal("-0.123")
    ]


def test_texts_in_parts():
    assert values("session_id", "{replace: {pattern: '^(.*)-$', new: '-\\1'}}", ["12-", "-"]) == [
        "-12", "-",
    ]  # fmt: skip
    assert values("session_id", "{replace: {pattern: '[^0-9]'}}", ["(1) 2", "x"]) == ["12", None]
    assert values("session_id", "{join: {field: y, with: /, absent: none}}", ["a"]) == ["a/none"]
    assert values("session_id", "{join: {field: y}}", ["a"]) == [None]
    assert values("session_id", "{join: {field: y, absent: b, before: true}}", ["a"]) == ["ba"]
