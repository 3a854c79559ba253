"""Functions that translate by tables, compute, and name networks, numbers and addresses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from iotbill_pipelines.config.documents import ConfigError
from iotbill_pipelines.config.feeds import load_feed
from tests.conftest import ROOT
from tests.feeds.harness import CSV_FEED, feed, ingest_bytes

TIME = "2026-10-05T10:00:00Z"


def texts(steps: str, values: list[str], more: str = "") -> list[str | None]:
    """Run texts through the steps of an attribute: the result, or the reject's code."""
    spec = feed(CSV_FEED + f"attributes: {{x: {{from: x, steps: {steps}}}}}\n" + more)
    lines = [f'{TIME},262010000000001,1,"{value}"\n' for value in values]
    out = ingest_bytes(spec, ("time,sim,bytes,x\n" + "".join(lines)).encode())
    return [
        m["reason_code"] or (json.loads(m["attributes"])["x"] if m["attributes"] else None)
        for m in out.mapped
    ]


@pytest.mark.parametrize(
    ("steps", "values"),
    [
        ("[country]", {"DE": "DE", " de ": "DE", "XX": "unknown_country", "": None}),
        (
            "[{country: {of: iso3}}]",
            {"DEU": "DE", "usa": "US", "DE": "DE", "EUX": "unknown_country"},
        ),
        (
            "[{country: {of: numeric}}]",
            {"276": "DE", "840": "US", "8": "AL", "999": "unknown_country"},
        ),
        # several codes of a country are one country
        (
            "[{country: {of: mcc}}]",
            {
                "262": "DE",
                "310": "US",
                "311": "US",
                "234": "GB",
                "235": "GB",
                "999": "unknown_country",
            },
        ),
        # 1 is the code of two dozen countries: it names none of them
        (
            "[{country: {of: dialling}}]",
            {"49": "DE", "+49": "DE", "0049": "DE", "1": "unknown_country"},
        ),
        (
            "[network]",
            {
                "26201": "262-01",
                "262-01": "262-01",
                "262 01": "262-01",
                "310410": "310-410",
                "262-001": "262-001",
                "2620": "invalid_network",
                "1234567": "invalid_network",
            },
        ),
        ("[{network_part: {part: mnc}}]", {"26201": "01", "310410": "410"}),
        (
            "['e164@2']",
            {
                "+491701234567": "491701234567",
                "00491701234567": "491701234567",
                "+49 (0) 170 1234567": "491701234567",
                "88444": "88444",
                "9991234567": "unknown_calling_code",
                "x": "invalid_phone_number",
            },
        ),
        (
            "[{'e164@2': {country_code: 49}}]",
            {"0170 1234567": "491701234567", "491701234567": "491701234567"},
        ),
        ("[e164, number_class]", {"88444": "short", "+491701234567": "international"}),
        (
            "['imei@2']",
            {
                "490154203237518": "490154203237518",
                "49015420323751": "490154203237518",
                "4901542032375101": "490154203237518",
                "490154203237510": "490154203237518",
                "490154203237511": "imei_check_digit",
                "4901": "invalid_imei",
            },
        ),
        (
            "[ip]",
            {
                "10.0.0.1": "10.0.0.1",
                "010.000.0.001": "10.0.0.1",
                "256.1.1.1": "invalid_ip",
                "2001:db8::1": "2001:db8:0:0:0:0:0:1",
                "2001:0DB8:0:0:0:0:0:1": "2001:db8:0:0:0:0:0:1",
                "::": "0:0:0:0:0:0:0:0",
                "::1": "0:0:0:0:0:0:0:1",
                "1::": "1:0:0:0:0:0:0:0",
                "1:2": "invalid_ip",
                "1::2::3": "invalid_ip",
                "1:2:3:4:5:6:7:8:9": "invalid_ip",
            },
        ),
        # 10.50.1.18 as a manager's call record holds it
        (
            "[reversed_ip]",
            {
                "302068234": "10.50.1.18",
                "-1139627840": "192.168.18.188",
                "0": "0.0.0.0",
                "4294967296": "invalid_ip",
                "x": "invalid_ip",
            },
        ),
        (
            "[duration]",
            {
                "1:02:03": "3723",
                "02:03": "123",
                "90:00": "5400",
                "1:60:00": "invalid_duration",
                "5": "invalid_duration",
            },
        ),
        (
            "[{duration: {format: hhmmss}}]",
            {
                "010203": "3723",
                "203": "123",
                "7": "7",
                "1000000": "360000",
                "99": "invalid_duration",
                "1:2": "invalid_duration",
            },
        ),
        (
            "[{duration: {format: iso}}]",
            {"PT1H2M3S": "3723", "PT90M": "5400", "PT": "invalid_duration"},
        ),
        (
            "[{duration: {format: days}}]",
            {"0.5": "43200", "1.25": "108000", "0.000001": "not_whole"},
        ),
        ("[{duration: {format: days, round: half_up}}]", {"0.52425925925926": "45296"}),
        (
            "[{timestamp: {format: excel}}]",
            {
                "46300.5": "2026-10-05 12:00:00",
                "46300.524259259259": "2026-10-05 12:34:56",
                "x": "invalid_timestamp",
            },
        ),
        ("[{timestamp: {format: excel_1904}}]", {"44838.5": "2026-10-05 12:00:00"}),
        ("[{timestamp: {format: epoch_us}}]", {"1791201600000001": "2026-10-05 12:00:00.000001"}),
        (
            "[integer, {plus: {field: bytes}}]",
            {"2": "3", "922337203685477580.7e1": "number_out_of_range"},
        ),
        ("[integer, {minus: {target: quantity}}]", {"2": "1", "0": "-1"}),
        ("[integer, {times: {by: '4294967296'}}]", {"3": "12884901888"}),
        ("[integer, {times: {by: '0.1'}}]", {"30": "3", "31": "not_whole"}),
        ("[integer, {times: {by: '0.1', round: half_up}}]", {"35": "4", "-35": "-4", "34": "3"}),
        (
            "[integer, {round_to: {multiple: 1024}}]",
            {"1": "1024", "1024": "1024", "0": "0", "-1": "-1024"},
        ),
        (
            "[timestamp, {plus_seconds: {field: bytes, times: 900}}]",
            {"2026-10-05T10:00:00Z": "2026-10-05 10:15:00"},
        ),
    ],
)
def test_texts_become(steps, values):
    assert dict(zip(values, texts(steps, list(values)), strict=True)) == values


@pytest.mark.parametrize(
    "steps",
    ["[country]", "[{country: {of: mcc}}]", "[network]", "['e164@2']", "['imei@2']", "[ip]"],
)
def test_a_result_is_its_own_result(steps):
    values = ["DE", "262", "310410", "+491701234567", "49015420323751", "2001:db8::1"]
    once = [v for v in texts(steps, values) if v and not v.startswith(("unknown", "invalid"))]
    assert once and texts(steps, once) == once


CARRIERS = """
tables:
  carriers:
    fold: true
    rows:
      - {key: Telefonica, value: o2, valid_to: 2026-10-05}
      - {key: Telefonica, value: telefonica_de, valid_from: 2026-10-05}
      - {key: E-Plus, value: telefonica_de}
"""


def test_a_carriers_name_means_what_it_meant_then():
    spec = feed(
        CSV_FEED
        + "attributes: {c: {from: c, steps: [{carrier: {table: carriers, at: event_start}}]}}"
        + CARRIERS
    )
    lines = [
        "2026-10-04T23:59:59Z,262010000000001,1,TELEFONICA ",
        "2026-10-05T00:00:00Z,262010000000001,1,telefonica",
        "2026-10-05T00:00:00Z,262010000000001,1,e-plus",
        "2026-10-05T00:00:00Z,262010000000001,1,telefonica_de",
        "2026-10-05T00:00:00Z,262010000000001,1,Orange",
    ]
    out = ingest_bytes(spec, "\n".join(["time,sim,bytes,c", *lines]).encode())
    assert [m["reason_code"] or json.loads(m["attributes"])["c"] for m in out.mapped] == [
        "o2", "telefonica_de", "telefonica_de", "telefonica_de", "unknown_carrier",
    ]  # fmt: skip


def test_a_table_with_dates_needs_a_time():
    with pytest.raises(ConfigError, match="at which target"):
        feed(
            CSV_FEED
            + "attributes: {c: {from: c, steps: [{carrier: {table: carriers}}]}}"
            + CARRIERS
        )


def test_two_values_at_one_time_are_refused():
    with pytest.raises(ConfigError, match="two values at one time"):
        feed(CSV_FEED + CARRIERS.replace(", valid_to: 2026-10-05", ""))


def test_tables_come_from_csv_files(tmp_path: Path):
    (tmp_path / "feeds").mkdir()
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables/tadig.csv").write_text(
        "TADIG,mcc,mnc\nDEUD1,262,01\nUSACG,310,410\n,1,2\n", encoding="utf-8-sig"
    )
    path = tmp_path / "feeds/demo.yaml"
    text = CSV_FEED + (
        "attributes: {n: {from: n, steps: [{tadig: {table: tadig}}]}}\n"
        "tables: {tadig: {file: tadig.csv, key: TADIG, value: [mcc, mnc]}}\n"
    )
    path.write_text(text)
    lines = [f"{TIME},262010000000001,1,{code}" for code in ("DEUD1", "usacg", "262-01", "XXXXX")]
    out = ingest_bytes(load_feed(path), "\n".join(["time,sim,bytes,n", *lines]).encode())
    assert [m["reason_code"] or json.loads(m["attributes"])["n"] for m in out.mapped] == [
        "262-01", "310-410", "262-01", "unknown_tadig",
    ]  # fmt: skip
    path.write_text(text.replace("key: TADIG", "key: Code"))
    with pytest.raises(ConfigError, match="has no column 'Code'"):
        load_feed(path)


def test_the_unit_of_each_record():
    spec = feed(
        CSV_FEED.replace(
            "steps: [trim, integer]",
            "steps: [{units_by: {field: unit, names: {B: B, KB: KB, MB: MB, MiB: MiB}}}]",
        )
    )
    lines = ["5,B", "1.5,KB", "0.219933,MB", "1,MiB", "1,GB", "1,", "0.5,B", ",B"]
    rows = [f"{TIME},262010000000001,{line}" for line in lines]
    out = ingest_bytes(spec, "\n".join(["time,sim,bytes,unit", *rows]).encode())
    assert [m["reason_code"] or m["quantity"] for m in out.mapped] == [
        5, 1500, 219_933, 1_048_576, "unknown_unit", "unknown_unit", "not_whole", "missing_value",
    ]  # fmt: skip


def test_a_reject_shows_the_value_of_the_branch_that_was_taken():
    spec = CSV_FEED.replace(
        "{from: bytes, steps: [trim, integer]}",
        """
    choose:
      - {when: {field: kind, equals: data}, from: bytes, steps: [trim, integer]}
      - {from: count, steps: [trim, integer]}""",
    )
    when = b"2026-10-05T10:00:00Z,262010000000001"
    lines = [b"7x,1,data", b"7,2x,sms", b",3,data", b"7,,sms"]
    data = b"time,sim,bytes,count,kind\n" + b"".join(when + b"," + line + b"\n" for line in lines)
    out = ingest_bytes(spec, data)
    assert [(r["reason_code"], r["value"]) for r in out.rejected] == [
        ("invalid_number", "7x"),
        ("invalid_number", "2x"),
        ("missing_value", None),
        ("missing_value", None),
    ]


@pytest.mark.parametrize(
    ("feed", "name", "text"),
    [
        ("emnify_usage", "emnify_1.ndjson", '{"id": 1, "volume": {"total": 5}}\n'),
        ("bics_usage", "bics_usage_1.csv", None),
    ],
)
def test_a_record_that_does_not_say_its_kind_is_rejected_not_ignored(feed, name, text):
    spec = load_feed(ROOT / "configs" / "feeds" / f"{feed}.yaml")
    if text is None:
        columns = list(spec.sources())
        cells = ["7" if column == "volumeTotal" else "" for column in columns]
        text = f"{','.join(columns)}\n{','.join(cells)}\n"
    [mapped] = ingest_bytes(spec, {name: text.encode()}).mapped
    assert mapped["outcome"] == "rejected"
