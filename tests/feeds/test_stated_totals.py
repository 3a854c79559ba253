"""Totals that stand many times, columns written as arrays, rows with several usages."""

from __future__ import annotations

import io
import json

import openpyxl
import pytest

from tests.feeds.harness import ingest_bytes

SHEETS = """
id: sheets
carrier: demo
target: usage_record
files: ["*.xlsx"]
zone: Europe/Madrid
format: {type: xlsx, sheet: "*", header_has: [SIM, MB]}
control: {when: {field: SIM, matches: "(?i)total"}, records: Day, totals: {MB: MB}, each: above}
fields:
  event_start: {from: Day, steps: [{timestamp: {format: excel}}]}
  uid_type: {value: iccid}
  uid_value: {from: SIM, steps: [iccid]}
  usage_class: {value: data}
  quantity: {from: MB, steps: [{units: {unit: MB}}]}
dedup: {key: [SIM, Day]}
"""


def workbook(totals: tuple[float | None, ...]) -> bytes:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for week, (amounts, total) in enumerate(zip(((1.5, 2), (3, 4, 5)), totals, strict=True)):
        sheet = book.create_sheet(f"Week {week}")
        sheet.append(["Usage"])
        sheet.append(["SIM", "Day", "MB"])
        for day, amount in enumerate(amounts):
            sheet.append(["8949020000161234567", 46300.5 + 7 * week + day, amount])
        if total is not None:
            sheet.append(["Total", len(amounts), total])
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def test_every_sheet_of_a_workbook_has_its_total():
    files = {
        "a.xlsx": workbook((3.5, 12)),
        "b.xlsx": workbook((3.5, 13)),
        "c.xlsx": workbook((3.5, None)),
        "d.xlsx": workbook((None, None)),
    }
    out = ingest_bytes(SHEETS, files)
    assert [r.error for r in out.results] == [
        None,
        "control_total: b.xlsx line 11 states sum of MB 13, its lines give 12; ask the sender for "
        "the file again",
        "missing_trailer: c.xlsx has 3 records below its last total; the file may be cut off, ask "
        "the sender for it again",
        "missing_trailer: d.xlsx has 5 records below its last total; the file may be cut off, ask "
        "the sender for it again",
    ]
    assert [m["line_no"] for m in out.accepted] == [3, 4, 8, 9, 10]


JOINED = """
id: joined
carrier: demo
target: usage_record
files: ["*"]
zone: America/Chicago
format:
  type: fixed
  layouts:
    - {kind: header, repeated: true, when: {start: 1, length: 1, equals: H},
       fields: {day: {start: 2, length: 8}, n: {start: 10, length: 3}}}
    - {kind: trailer, when: {start: 1, length: 1, equals: T}, fields: {n: {start: 2, length: 3}}}
    - {kind: detail, fields: {imsi: {start: 2, length: 15}, at: {start: 17, length: 6}}}
control: {records: trailer.n, each: above}
fields:
  event_start:
    from: header.day
    steps: [{join: {field: at}}, {timestamp: {format: "%Y%m%d%H%M%S"}}]
  uid_type: {value: imsi}
  uid_value: {from: imsi, steps: [imsi]}
  usage_class: {value: sms}
  quantity: {value: "1", steps: [integer]}
dedup: {key: [header.day, at, imsi]}
"""
ONE = "H20261005002\nD262010000000001100000\nD262010000000001100001\nT002\n"
TWO = "H20261006001\nD262010000000001100000\nT001\n"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (ONE + TWO, None),
        (ONE + TWO.replace("T001", "T002"), "control_records"),
        (ONE.replace("T002\n", "") + TWO, "control_records"),
        (ONE + TWO.replace("T001\n", ""), "missing_trailer"),
        ("H20261005000\n", "missing_trailer"),
        ("", "empty_file"),
    ],
)
def test_files_joined_with_their_trailers(text, code):
    out = ingest_bytes(JOINED, {"a": text.encode()})
    assert [r.error and r.error.split(":")[0] for r in out.results] == [code]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (ONE + TWO, None),
        (ONE + TWO.replace("06001", "06002"), "control_records"),
        (ONE + TWO.replace("H20261006001\n", ""), "control_records"),
        (ONE.replace("H20261005002\n", "") + TWO, "missing_header_line"),
    ],
)
def test_totals_stated_in_front_of_what_they_count(text, code):
    ahead = JOINED.replace("records: trailer.n, each: above", "records: header.n, each: below")
    ahead = ahead.replace("{kind: trailer,", "{kind: ignored,")
    out = ingest_bytes(ahead, {"a": text.encode()})
    assert [r.error and r.error.split(":")[0] for r in out.results] == [code]


COLUMNS = """
id: columns
carrier: demo
target: usage_record
files: ["*"]
format: {type: json, records: data, explode: [sims], parallel: [sims.t, sims.v.bytes]}
control: {records: $document.meta.points}
fields:
  event_start: {from: sims.t, steps: [{timestamp: {format: epoch_s}}]}
  uid_type: {value: imsi}
  uid_value: {from: sims.imsi, steps: [imsi]}
  usage_class: {value: data}
  quantity: {from: sims.v.bytes, steps: [integer]}
attributes: {place: $piece}
dedup: {key: [sims.imsi, $piece]}
"""
SIMS = [
    {"imsi": "262010000000001", "t": [1791194400, 1791194460], "v": {"bytes": [1, 2]}},
    {"imsi": "262010000000002", "t": [1791194400], "v": {"bytes": [3]}},
    {"imsi": "262010000000003", "t": [], "v": {"bytes": []}},
]


def columns(points: int, sims: list[dict[str, object]] = SIMS) -> str:
    return json.dumps({"meta": {"points": points}, "data": {"sims": sims}})


def test_columns_written_as_arrays():
    uneven = [{**SIMS[0], "t": [1]}]
    texts = (columns(4), columns(4) + columns(4), columns(4) + columns(5), columns(1, uneven))
    out = ingest_bytes(COLUMNS, {str(n): text.encode() for n, text in enumerate(texts)})
    assert [r.error and r.error.split(":")[0] for r in out.results] == [
        None, None, "control_records", "unequal_arrays",
    ]  # fmt: skip
    first = [m for m in out.mapped if m["file_key"] == 1]
    assert [m["reason_code"] or (m["uid_value"][-1], m["quantity"], json.loads(m["attributes"]))
            for m in first] == [
        ("1", 1, {"place": "0"}), ("1", 2, {"place": "1"}), ("2", 3, {"place": "0"}),
        "missing_value",
    ]  # fmt: skip
    lines = COLUMNS.replace("type: json, records: data,", "type: ndjson,").replace(
        "control: {records: $document.meta.points}\n", ""
    )
    text = "\n".join(json.dumps({"sims": [sim]}) for sim in SIMS[:2])
    out = ingest_bytes(lines, {"a": f"{text}\nwhat\n".encode()})
    assert [m["reason_code"] or m["quantity"] for m in out.mapped] == [1, 2, 3, "invalid_json"]


RADIUS = """
id: radius
carrier: demo
target: usage_record
files: ["detail*"]
format: {type: radius_detail}
control: {when: {field: Acct-Status-Type, equals: Accounting-Off},
          records: Sessions, totals: {Octets: Acct-Input-Octets}}
fields:
  event_start: {from: Event-Timestamp, steps: [{timestamp: {format: epoch_s}}]}
  uid_type: {value: imsi}
  uid_value: {from: 3GPP-IMSI, steps: [imsi]}
  usage_class: {value: data}
  quantity:
    from: Acct-Input-Octets
    steps: [integer, {plus: {field: Acct-Input-Gigawords, absent: 0,
                             steps: [integer, {times: {by: "4294967296"}}]}}]
  part: {from: Acct-Status-Type, steps: [{map: {table: {Start: start, Stop: stop}}}]}
dedup: {key: [Acct-Session-Id, Acct-Status-Type]}
correlate: {key: [Acct-Session-Id], counting: cumulative}
"""


def block(**values: object) -> str:
    lines = "".join(f"\t{name.replace('_', '-')} = {value}\n" for name, value in values.items())
    return f"Mon Oct  5 10:00:00 2026\n{lines}\n"


def accounting(kind: str, at: int, octets: int, gigawords: int) -> str:
    return block(
        Acct_Status_Type=kind, Acct_Session_Id='"s1"', Event_Timestamp=at,
        Acct_Input_Octets=octets, Acct_Input_Gigawords=gigawords,
    ).replace("\n\n", '\n\t3GPP-IMSI = "262010000000001"\n\n')  # fmt: skip


def test_radius_files_are_held_to_totals_in_them_and_beside_them():
    data = accounting("Start", 1791194400, 0, 0) + accounting("Stop", 1791194600, 5, 1)
    off = block(Acct_Status_Type="Accounting-Off", Sessions=2, Octets=5)
    texts = (data + off, data + off.replace("Octets = 5", "Octets = 6"), data)
    out = ingest_bytes(RADIUS, {f"detail-{n}": text.encode() for n, text in enumerate(texts)})
    assert [r.error and r.error.split(":")[0] for r in out.results] == [
        None, "control_total", "missing_trailer",
    ]  # fmt: skip
    assert [m["quantity"] for m in out.accepted] == [0, 2**32 + 5]


WIDE = """
id: wide
carrier: demo
target: usage_record
files: ["*"]
zone: UTC
format: {type: delimited, unpivot: [Data MB, SMS, Voice min]}
control: {when: {field: ICCID, equals: Total}, records: Day, totals: {Data MB: Data MB, SMS: SMS}}
fields:
  event_start: {from: Day, steps: [{timestamp: {format: "%Y%m%d"}}]}
  uid_type: {value: iccid}
  uid_value: {from: ICCID, steps: [iccid]}
  usage_class: {from: $column, steps: [{map: {table: {Data MB: data, SMS: sms, Voice min: voice}}}]}
  quantity:
    from: $value
    steps: [{units_by: {field: $column, names: {Data MB: MB, SMS: count, Voice min: minute}}}]
dedup: {key: [ICCID, Day, $column]}
"""
ROWS = [
    ["ICCID", "Day", "SMS", "Data MB", "Voice min"],
    ["8949020000161234567", "20261005", 2, 1.5, 0.5],
    ["8949020000161234568", "20261005", 3, None, None],
    ["8949020000161234569", "20261005", None, None, None],
    ["Total", 3, 5, 1.5, None],
]


@pytest.mark.parametrize("kind", ["delimited", "xlsx"])
def test_rows_with_several_usages(kind):
    text = "\n".join(",".join("" if c is None else str(c) for c in row) for row in ROWS)
    book, buffer = openpyxl.Workbook(), io.BytesIO()
    for row in ROWS:
        book.active.append(row)
    book.save(buffer)
    content = text.encode() if kind == "delimited" else buffer.getvalue()
    out = ingest_bytes(WIDE.replace("type: delimited", f"type: {kind}"), {"a": content})
    assert [r.error for r in out.results] == [None]
    assert [m["reason_code"] or (m["uid_value"][-1], m["usage_class"], m["quantity"])
            for m in out.mapped] == [
        ("7", "data", 1_500_000), ("7", "sms", 2), ("7", "voice", 30), ("8", "sms", 3),
        "missing_value",
    ]  # fmt: skip
    if kind == "delimited":
        wrong = {"a": text.replace("Total,3", "Total,4").encode(), "b": b"ICCID,Day\n"}
        found = ingest_bytes(WIDE, wrong).results
        assert [(r.error or "").split(":")[0] for r in found] == [
            "control_records", "missing_column",
        ]  # fmt: skip
