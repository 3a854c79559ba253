"""Fixed width with totals, workbooks, JSON documents."""

# ruff: noqa: DTZ001 - instants of records are naive UTC, as in the engine

from __future__ import annotations

import io
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import openpyxl
import pytest

from iotbill_pipelines.config.feeds import load_feed
from tests.feeds.harness import CSV_FEED, ingest_bytes

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "feeds"


def telfix(kind="20", number="491701234567", seconds="000060", start="20261005120000", ident=1):
    return f"{kind}{ident:012d}{number:<15}{'004930123456':<18}{start}{seconds}O26201 "


def telfix_file(lines, records=None, seconds=None, trailer=True, header=True):
    total = sum(int(line[61:67]) for line in lines if line[61:67].isdigit())
    parts = ["HDR20261005000001"] if header else []
    parts += lines
    if trailer:
        count = len(lines) if records is None else records
        parts.append(f"TRL{count:09d}{total if seconds is None else seconds:012d}")
    return "".join(part + "\r\n" for part in parts).encode()


@pytest.fixture(scope="module")
def telfix_feed():
    return load_feed(CONFIGS / "telfix_usage.yaml")


def test_fixed_width_records(telfix_feed):
    lines = [
        telfix(),
        telfix("30", seconds="000001", ident=2),
        telfix("90", ident=3),
        telfix(seconds="0000x0", ident=4),
        telfix()[:40],
        telfix("40", ident=6),
        telfix(number="88444", ident=7),
    ]
    out = ingest_bytes(telfix_feed, telfix_file(lines))
    assert [(m["line_no"], m["reason_code"]) for m in out.mapped] == [
        (2, None),
        (3, None),
        (4, "filter:record_type"),
        (5, "invalid_number"),
        (6, "line_length"),
        (7, "no_mapping"),
        (8, "invalid_phone_number"),
    ]
    first = out.mapped[0]
    assert (first["event_start"], first["uid_value"], first["peer_number"]) == (
        datetime(2026, 10, 5, 10),
        "491701234567",
        "4930123456",
    )
    assert (first["usage_class"], first["quantity"], first["mcc"], first["mnc"]) == (
        "voice",
        60,
        "262",
        "01",
    )
    assert out.mapped[1]["quantity"] == 1


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"records": 3}, "control_records"),
        ({"seconds": 61}, "control_total"),
        ({"trailer": False}, "missing_trailer"),
        ({"header": False}, "missing_header_line"),
    ],
)
def test_totals_that_do_not_agree_quarantine_the_file_alone(telfix_feed, change, code):
    lines = [telfix(ident=1), telfix(ident=2)]
    bad = telfix_file(lines, **change)
    out = ingest_bytes(telfix_feed, {"a.dat": bad, "b.dat": telfix_file(lines)})
    assert [r.state for r in out.results] == ["quarantined", "ingested"]
    assert [(r["line_no"], r["reason_code"]) for r in out.rejected] == [
        (line, code) for line in ((1, 2) if code == "missing_header_line" else (2, 3))
    ]
    # the records are there, refused one by one: nothing is lost from the count
    assert out.results[0].records == {"accepted": 0, "ignored": 0, "rejected": 2}
    assert code in (out.results[0].error or "")


def test_a_day_without_calls(telfix_feed):
    out = ingest_bytes(telfix_feed, telfix_file([]))
    assert (out.results[0].state, out.results[0].records_in) == ("ingested", 0)


def workbook(rows, sheet="Usage", header="Record ID,ICCID,Service,Start,Quantity,MCC,MNC,Zone"):
    book = openpyxl.Workbook()
    page = book.active
    page.title = sheet
    page.append(header.split(","))
    for row in rows:
        page.append(row)
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def xl(ident, quantity, service="Data", start="2026-10-05 12:00:00", iccid="89310410106543789305"):
    return [ident, iccid, service, start, quantity, "310", "410", "US"]


@pytest.fixture(scope="module")
def xl_feed():
    return load_feed(CONFIGS / "xl_usage.yaml")


def test_workbook_cells(xl_feed):
    rows = [
        xl("a", Decimal("0.219933")),
        xl("b", 3, "SMS"),
        xl("c", "12.5"),
        xl("d", 1.5, start=datetime(2026, 10, 5, 12)),
        [],
        xl("e", "0.3"),
        xl("f", 1, iccid=89310410106543789305),
        xl("g", "=1+1"),
        xl("h", 1, "Status"),
        xl("i", True),
        [*xl("j", 1), None, "stray"],
        xl("k", 0.00001),
    ]
    out = ingest_bytes(xl_feed, workbook(rows))
    assert [(m["line_no"], m["reason_code"] or m["quantity"]) for m in out.mapped] == [
        (2, 219933),
        (3, 3),
        (4, 12_500_000),
        (5, 1_500_000),
        (7, 300_000),
        (8, "imprecise_number"),
        (9, "missing_value"),
        (10, "filter:status_row"),
        (11, "invalid_number"),
        (12, "column_count"),
        (13, 10),
    ]
    # New York is four hours behind UTC in October
    assert {m["event_start"] for m in out.accepted} == {datetime(2026, 10, 5, 16)}


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"not a workbook", "unreadable_workbook"),
        (b"PK\x03\x04 cut off", "unreadable_workbook"),
        (b"", "empty_file"),
        (workbook([], sheet="Other"), "missing_sheet"),
        (workbook([], header="a,b"), "missing_column"),
        (workbook([xl("a", 1)])[:-200], "unreadable_workbook"),
    ],
)
def test_workbooks_that_cannot_be_used(xl_feed, data, code):
    good = workbook([xl("a", 1)])
    out = ingest_bytes(xl_feed, {"bad.xlsx": data, "good.xlsx": good})
    assert [r.state for r in out.results] == ["quarantined", "ingested"]
    assert out.rejected[0]["reason_code"] == code


def json_feed(records=""):
    return CSV_FEED.replace("type: delimited", f"type: json, records: '{records}'")


RECORD = '{"time":"2026-10-05T10:00:00Z","sim":"262010000000001","bytes":%s}'


def test_json_with_comments_and_a_path():
    text = f"""// export of October
    {{"meta": {{"url": "http://x // not a comment"}}, "data": {{"items": [ /* first */
      {RECORD % 5}, // five
      {RECORD % '"7"'}, 12, {RECORD % "1.0"}
    ]}}}}"""
    out = ingest_bytes(json_feed("data.items"), text.encode())
    assert [(m["line_no"], m["reason_code"] or m["quantity"]) for m in out.mapped] == [
        (1, 5),
        (2, 7),
        (3, "invalid_json"),
        (4, 1),
    ]


def test_json_documents_one_after_another():
    out = ingest_bytes(json_feed(), f"[{RECORD % 1}]\n[{RECORD % 2},{RECORD % 3}]".encode())
    assert [m["quantity"] for m in out.mapped] == [1, 2, 3]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (f"[{RECORD % 1},", "invalid_json"),
        ("", "empty_file"),
        ("[]", "empty_file"),
        ('{"a": 1}', "invalid_json"),
        ("[" * 100_000, "invalid_json"),
        (b"[\xff]", "wrong_encoding"),
    ],
)
def test_json_that_cannot_be_used(text, code):
    data = text if isinstance(text, bytes) else text.encode()
    spec = json_feed("data" if text == '{"a": 1}' else "")
    assert ingest_bytes(spec, data).rejected[0]["reason_code"] == code


INVOICE = (
    "Invoice Number,Period,ICCID,Rate Plan,Charge Code,Service From,Service To,Quantity,Unit,"
    "Unit Price,Amount,Currency"
)


def test_vendor_invoice_workbook():
    feed = load_feed(CONFIGS / "emnify_invoice.yaml")
    sim = "89310410106543789305"
    rows = [
        [
            "EM-1",
            "2026-10",
            sim,
            "std",
            "EM-DATA",
            "2026-10-01",
            "2026-10-31",
            Decimal("1.234567"),
            "MB",
            Decimal("0.0085"),
            Decimal("0.0104938195"),
            "EUR",
        ],
        [
            "EM-1",
            "2026-10",
            None,
            "std",
            "EM-FEE",
            "2026-10-01",
            "2026-10-31",
            None,
            None,
            None,
            12,
            "EUR",
        ],
        [
            "EM-1",
            "2026-10",
            sim,
            "std",
            "EM-SIM",
            "2026-10-31",
            "2026-10-01",
            3,
            "days",
            None,
            1,
            "EUR",
        ],
        [
            "EM-1",
            "Oct",
            sim,
            "std",
            "EM-SIM",
            "2026-10-01",
            "2026-10-31",
            3,
            "days",
            None,
            1,
            "EUR",
        ],
        [
            "EM-1",
            "2026-10",
            sim,
            "std",
            "EM-SIM",
            "2026-10-01",
            "2026-10-31",
            3,
            "days",
            None,
            "one",
            "EUR",
        ],
    ]
    out = ingest_bytes(feed, workbook(rows, "Invoice", INVOICE))
    assert [m["reason_code"] for m in out.mapped] == [
        None,
        None,
        "end_before_start",
        "pattern_mismatch",
        "invalid_number",
    ]
    line = out.mapped[0]
    assert (line["quantity"], line["amount"], str(line["service_end"])) == (
        1_234_567,
        Decimal("0.0104938195"),
        "2026-11-01",
    )
    assert (line["uid_type"], line["uid_value"]) == ("iccid", sim[:19])


def test_bics_billing_takes_number_and_month_from_the_name():
    feed = load_feed(CONFIGS / "bics_billing.yaml")
    header = (
        "DATE,AccountId,CustomerName,iccid,msisdn,ServiceName,TariffName,RatezoneName,"
        "DynamicBenefitName,ChargedCount,ChargedVolume,ChargedAmount,CostCurrency,CategoryName,"
        "FeeCategory,FeeType\n"
    )
    line = "2026-10-01,1,Us,89310410106543789305,,DATA,P,Zone 1,,1,2000,0.000013,EUR,a,b,Usage\n"
    data = (header + line).encode()
    out = ingest_bytes(feed, {"bics_billing_2026-10.csv": data, "bics_billing_oct.csv": data})
    assert out.mapped[0]["invoice_no"] == "bics_billing_2026-10"
    assert out.mapped[0]["billing_period"] == "2026-10"
    assert out.mapped[1]["reason_code"] == "pattern_mismatch"


def test_reference_keys_that_conflict_are_rejected_together():
    feed = load_feed(CONFIGS / "services.yaml")
    out = ingest_bytes(feed, b"service_id,account_id,label\nS1,A1,x\nS2,A1,\nS2,A1,\nS1,A2,x\n")
    assert [m["reason_code"] for m in out.mapped] == ["key_conflict", None, None, "key_conflict"]
