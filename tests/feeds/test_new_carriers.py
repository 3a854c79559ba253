"""Carriers that nobody has seen, made of known parts: each is one YAML text and no Python."""

# ruff: noqa: DTZ001 - instants of records are naive UTC, as in the engine

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import zipfile
from datetime import datetime

import openpyxl
import pytest

from tests.feeds.harness import Outcome, damaged, ingest_bytes


def packed(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def told(out: Outcome) -> list[tuple[object, ...]]:
    return [
        (m["line_no"], m["reason_code"] or (m["uid_value"], m["usage_class"], m["quantity"]))
        for m in out.mapped
    ]


def times(out: Outcome) -> list[str]:
    return [str(m["event_start"]) for m in out.accepted]


# A mainframe: no line ends, zoned decimals with implied places, local clock, dates of two digits.
MAINFRAME = """
id: mainframe
carrier: demo
target: usage_record
files: ["MF*"]
zone: Europe/Paris
format:
  type: fixed
  encoding: cp500
  record_length: 52
  layouts:
    - {kind: header, when: {start: 1, length: 2, equals: "00"},
       fields: {day: {start: 3, length: 6}}}
    - {kind: trailer, when: {start: 1, length: 2, equals: "99"},
       fields: {count: {start: 3, length: 8}, sum: {start: 11, length: 12}}}
    - kind: detail
      when: {start: 1, length: 2, matches: "[12]0"}
      fields:
        type: {start: 1, length: 2}
        imsi: {start: 3, length: 15}
        day: {start: 18, length: 6}
        clock: {start: 24, length: 6}
        amount: {start: 30, length: 9}
        cost: {start: 39, length: 8}
        ref: {start: 47, length: 6}
control: {records: trailer.count, totals: {trailer.sum: amount}}
fields:
  event_start: {from: day, steps: [{join: {field: clock}}, {timestamp: {format: "%y%m%d%H%M%S"}}]}
  uid_type: {value: imsi}
  uid_value: {from: imsi, steps: [imsi]}
  usage_class: {from: type, steps: [{map: {table: {"10": data, "20": data_credit}}}]}
  quantity: {from: amount, steps: [{implied: {decimals: 3}}, {units: {unit: KB}}]}
  vendor_cost: {from: cost, steps: [overpunch, {implied: {decimals: 4}}, decimal]}
  vendor_currency: {value: EUR}
dedup: {key: [ref]}
bounds: {allow_negative: true}
"""


def test_a_mainframe_writes_records_without_line_ends():
    records = [
        "00261005" + " " * 44,
        "10208010000000001" + "261005" + "100000" + "000012345" + "0000123D" + "R00001",
        "20208010000000001" + "261025" + "023000" + "000000500" + "0000123M" + "R00002",
        "99" + "00000002" + "000000012845" + " " * 30,
    ]
    assert {len(record) for record in records} == {52}
    out = ingest_bytes(MAINFRAME, {"MF1": "".join(records).encode("cp500")})
    assert told(out) == [
        (2, ("208010000000001", "data", 12_345)), (3, ("208010000000001", "data_credit", 500)),
    ]  # fmt: skip
    assert times(out) == ["2026-10-05 08:00:00", "2026-10-25 00:30:00"]
    assert [str(m["vendor_cost"]) for m in out.accepted] == ["0.123400000000", "-0.123400000000"]
    assert [m["flags"] for m in out.accepted] == [None, "ambiguous_time"]
    short = ingest_bytes(MAINFRAME, {"MF1": "".join(records)[:-33].encode("cp500")})
    assert [r.state for r in short.results] == ["quarantined"]


# Segments that end in ~ with the record type in the third element; numbers the French way.
SEGMENTS = """
id: segments
carrier: demo
target: usage_record
files: ["SEG*"]
zone: America/New_York
format:
  type: delimited
  delimiter: "+"
  quote: null
  header: false
  line_end: "~"
  decimal_comma: true
  layouts:
    - {kind: header, when: {column: 3, equals: GRP}, name: group, repeated: true,
       columns: [seq, version, type, msisdn]}
    - {kind: detail, when: {column: 3, in: [USE, ADJ]},
       columns: [seq, version, type, day, clock, amount, unit, note], optional: 1}
    - {kind: trailer, when: {column: 3, equals: END}, columns: [seq, version, type, lines, sum]}
    - {kind: ignored, when: {column: 3, matches: "X.*"}}
control: {records: trailer.lines, totals: {trailer.sum: amount}}
filter:
  - {reason: adjustment, when: {all: [{field: type, equals: ADJ}, {field: note, empty: false}]}}
fields:
  event_start:
    from: day
    steps: [{join: {field: clock, with: " "}}, {timestamp: {format: "%d/%m/%Y %I:%M:%S %p"}}]
  uid_type: {value: msisdn}
  uid_value: {from: group.msisdn, steps: [{e164: {country_code: "1"}}]}
  usage_class: {value: data}
  quantity: {from: amount, steps: [{units_by: {field: unit, names: {Ko: KB, Mo: MB, o: B}}}]}
dedup: {key: [group.msisdn, seq]}
"""


def test_segments_name_their_kind_in_the_third_element():
    text = (
        "1+2+GRP+0012125550100~\r\n2+2+USE+05/10/2026+11:59:00 PM+1.024,5+Ko~\r\n"
        "3+2+USE+01/11/2026+01:30:00 AM+2+Mo+x~4+2+XTRA+whatever~\n"
        "5+2+GRP+0012125550101~6+2+ADJ+05/10/2026+01:00:00 AM+1+o+why~"
        "7+2+USE+05/10/2026+01:00:00 AM+3+Go~8+2+END+4+1.030,5~"
    )
    out = ingest_bytes(SEGMENTS, {"SEG1": text.encode()})
    assert told(out) == [
        (2, ("12125550100", "data", 1_024_500)), (3, ("12125550100", "data", 2_000_000)),
        (6, "filter:adjustment"), (7, "unknown_unit"),
    ]  # fmt: skip
    assert times(out) == ["2026-10-06 03:59:00", "2026-11-01 05:30:00"]
    assert out.mapped[-1]["fault_value"] == "3 Go"
    cut = ingest_bytes(SEGMENTS, {"SEG1": text[:-20].encode()})
    assert [r.error.split(":")[0] for r in cut.results] == ["missing_trailer"]


# An archive in an archive; a backslash before what it takes for text; no doubled quotes.
NESTED = """
id: nested
carrier: demo
target: usage_record
files: ["bundle_*.zip"]
archive: {members: ["*.psv"], ignore: ["readme.txt"]}
format: {type: delimited, delimiter: "|", escape: "\\\\", comment: "--"}
zone: Asia/Kolkata
fields:
  event_start: {from: when, steps: [{replace: {pattern: ' +', new: ' '}}, timestamp]}
  uid_type: {value: iccid}
  uid_value: {from: sim, steps: [iccid]}
  usage_class: {from: service, steps: [lower]}
  quantity: {from: used, steps: [{replace: {pattern: '[ ,]'}}, integer]}
attributes: {note: note, member: $member}
dedup: {key: [sim, when]}
"""


def test_archives_in_archives_with_escaped_cells():
    head = "sim|when|service|used|note\n"
    rows = [
        '89490200001612345671|2026-10-05  10:00:00|DATA|1,234,567|"say \\"hi|\\""',
        "8949020000161234567|2026-10-05 10:00:01|DATA|1 000|a\\|b\\\\",
        "-- a comment",
        '8949020000161234567|2026-10-05 10:00:02|DATA|1|"open',
    ]
    inner = packed({"a.psv": (head + "\n".join(rows) + "\n").encode(), "readme.txt": b"hello"})
    data = packed({"day/one.zip": inner, "b.psv.gz": gzip.compress(head.encode())})
    out = ingest_bytes(NESTED, {"bundle_1.zip": data})
    notes = [json.loads(m["attributes"])["note"] for m in out.accepted]
    by_reason = sorted(m["reason_code"] or str(m["quantity"]) for m in out.mapped)
    assert by_reason == ["1000", "1234567", "bad_quoting"]
    assert notes == ['say "hi|"', "a|b\\"]
    assert times(out)[0] == "2026-10-05 04:30:00"


# JSON: SIMs as the keys of an object, days as the keys of another, arrays of arrays in them.
KEYED = """
id: keyed
carrier: demo
target: usage_record
files: ["keyed*.json"]
format: {type: json, records: "", explode: [report.sims.*, report.sims.days.*,
         report.sims.days.samples]}
zone: UTC
fields:
  event_start:
    from: report.sims.days.$key
    steps:
      - join: {field: "report.sims.days.samples[0]", with: "T"}
      - timestamp
  uid_type: {value: imsi}
  uid_value: {from: report.sims.$key, steps: [imsi]}
  usage_class: {value: data}
  quantity: {from: "report.sims.days.samples[1]", steps: [integer]}
attributes: {place: $piece, source: report.source}
dedup: {key: [report.sims.$key, report.sims.days.$key, $piece]}
control: {records: $document.report.total.lines, total: $document.report.total.bytes,
          of: "report.sims.days.samples[1]"}
"""


def test_keys_of_objects_are_values():
    document = {
        "report": {
            "source": "core",
            "total": {"lines": 4, "bytes": 66},
            "sims": {
                "262010000000001": {
                    "plan": "x",
                    "days": {
                        "2026-10-05": {"samples": [["10:00:00", 11], ["11:00:00", 22]]},
                        "2026-10-06": {"samples": [["00:00:00", 33]]},
                    },
                },
                "262010000000002": {"days": {"2026-10-05": {"samples": []}}},
            },
        }
    }
    out = ingest_bytes(KEYED, {"keyed1.json": json.dumps(document).encode()})
    assert told(out) == [
        (1, ("262010000000001", "data", 11)), (2, ("262010000000001", "data", 22)),
        (3, ("262010000000001", "data", 33)), (4, "missing_value"),
    ]  # fmt: skip
    assert times(out) == ["2026-10-05 10:00:00", "2026-10-05 11:00:00", "2026-10-06 00:00:00"]
    assert json.loads(out.accepted[1]["attributes"]) == {"place": "1", "source": "core"}
    document["report"]["total"]["bytes"] = 65
    wrong = ingest_bytes(KEYED, {"keyed1.json": json.dumps(document).encode()})
    assert [r.error.split(":")[0] for r in wrong.results] == ["control_total"]


# Columns named once, rows as arrays; the last line of NDJSON states the totals.
ROWS = """
id: rows
carrier: demo
target: usage_record
files: ["rows*"]
format: {type: json, records: "results.*.values"}
fields:
  event_start: {from: "[0]", steps: [{timestamp: {format: epoch_ms}}]}
  uid_type: {value: deveui}
  uid_value: {from: "[1]", steps: [eui64]}
  usage_class: {value: uplink}
  quantity: {value: "1", steps: [integer]}
dedup: {key: ["[0]", "[1]"]}
"""
TRAILED = """
id: trailed
carrier: demo
target: usage_record
files: ["trailed*"]
format: {type: ndjson}
zone: UTC
fields:
  event_start: {from: t, steps: [timestamp]}
  uid_type: {value: imsi}
  uid_value: {from: imsi, steps: [imsi]}
  usage_class: {value: data}
  quantity: {from: bytes, steps: [integer]}
dedup: {key: [id]}
control: {when: {field: kind, equals: trailer}, records: lines, totals: {sum: bytes}}
"""


def test_rows_as_arrays():
    document = {"results": [
        {"columns": ["time", "device"], "values": [[1791194400123, "0018b20000020001"]]},
        {"values": [[1791194401000, "0018b20000020002"], [1791194402000, "zz"]]},
    ]}  # fmt: skip
    out = ingest_bytes(ROWS, {"rows.json": json.dumps(document).encode()})
    assert [m["reason_code"] for m in out.mapped] == [None, None, "invalid_eui64"]
    assert times(out)[0] == "2026-10-05 10:00:00.123000"


@pytest.mark.parametrize(
    ("last", "state"),
    [
        ('{"kind": "trailer", "lines": 2, "sum": 7}', None),
        ('{"kind": "trailer", "lines": 3, "sum": 7}', "control_records"),
        ('{"kind": "trailer", "lines": 2, "sum": 8}', "control_total"),
        ('{"kind": "trailer", "lines": 2, "sum": 7}\n' * 2, "repeated_trailer"),
        ("", "missing_trailer"),
    ],
)
def test_totals_in_a_line_of_ndjson(last, state):
    lines = [
        {"id": n, "t": "2026-10-05T10:00:00Z", "imsi": "262010000000001", "bytes": size}
        for n, size in ((1, 3), (2, 4))
    ]
    text = "\n".join([*map(json.dumps, lines), last])
    out = ingest_bytes(TRAILED, {"trailed": text.encode()})
    assert [r.error and r.error.split(":")[0] for r in out.results] == [state]
    assert len(out.mapped) == 2


# XML with namespaces: the SIM stands around its sessions, times in attributes, units per value.
TREE = """
id: tree
carrier: demo
target: usage_record
files: ["tree*.xml"]
format:
  type: xml
  record: "u:usage/u:sim/u:sessions/u:session"
  namespaces: {u: "urn:usage", x: "urn:ext"}
fields:
  event_start:
    from: "@begin"
    steps: [{timestamp_by: {field: "header.u:usage.u:sim.u:place", format: "%Y-%m-%d %H.%M.%S",
             zones: {Berlin: Europe/Berlin, Chicago: America/Chicago}}}]
  uid_type: {value: imsi}
  uid_value: {from: "header.u:usage.u:sim@imsi", steps: [imsi]}
  usage_class: {from: "header.u:usage@service", steps: [lower]}
  quantity:
    from: u:volume
    steps: [{units_by: {field: "u:volume@x:unit", names: {KiB: KiB, MB: MB}}}]
dedup: {key: ["@id"]}
control: {records: "header.u:usage.u:count"}
"""


def test_sessions_belong_to_the_sim_around_them():
    def session(number: int, begin: str, volume: str, unit: str) -> str:
        return (f'<session id="{number}" begin="{begin}"><volume x:unit="{unit}">{volume}</volume>'
                "</session>")  # fmt: skip

    text = f"""<?xml version="1.0" encoding="ISO-8859-1"?>
<usage xmlns="urn:usage" xmlns:x="urn:ext" service="DATA">
<sim imsi="262010000000001"><place>Berlin</place><sessions>
{session(1, "2026-10-25 02.30.00", "2", "KiB")}{session(2, "2026-03-29 02.30.00", "1.5", "MB")}
</sessions></sim>
<sim imsi="310410000000002"><place>Chicago</place><sessions>
{session(3, "2026-10-05 10.00.00", "1", "KiB")}</sessions></sim>
<sim><place>Chicago</place><sessions>
{session(4, "2026-10-05 10.00.00", "1", "KiB")}</sessions></sim>
<sim imsi="310410000000003"><place>Oz</place><sessions>
{session(5, "2026-10-05 10.00.00", "1", "KiB")}</sessions></sim>
<count>5</count></usage>"""
    out = ingest_bytes(TREE, {"tree1.xml": text.encode("latin-1")})
    assert told(out) == [
        (1, ("262010000000001", "data", 2048)), (2, ("262010000000001", "data", 1_500_000)),
        (3, ("310410000000002", "data", 1024)), (4, "missing_value"), (5, "unknown_zone"),
    ]  # fmt: skip
    assert times(out) == ["2026-10-25 00:30:00", "2026-03-29 01:30:00", "2026-10-05 15:00:00"]
    assert out.mapped[-1]["fault_value"] == "2026-10-05 10.00.00 Oz"
    assert [m["flags"] for m in out.accepted] == ["ambiguous_time", "nonexistent_time", None]
    other = TREE.replace("u:sessions/u:session", "u:session")
    lost = ingest_bytes(other, {"tree1.xml": text.encode("latin-1")})
    assert [r.error.split(":")[0] for r in lost.results] == ["no_records"]


# A workbook: titles above, names over two rows, units below, a sheet per country, total rows.
BOOK = """
id: book
carrier: demo
target: usage_record
files: ["book*.xlsx"]
format: {type: xlsx, sheet: "Usage *", header_has: [SIM, Volume], header_rows: 2, type_rows: 1}
zone: Europe/Rome
filter: [{reason: subtotal, when: {field: SIM ICCID, starts_with: Subtotal}}]
fields:
  event_start: {from: Session Start, steps: [{timestamp: {format: "%Y-%m-%d %H:%M:%S"}}]}
  uid_type: {value: iccid}
  uid_value: {from: SIM ICCID, steps: [iccid]}
  usage_class: {value: data}
  quantity:
    from: Volume Up
    steps: [{units: {unit: KB}}, {plus: {field: Volume Down, steps: [{units: {unit: KB}}]}}]
  region: {from: $sheet, steps: [{extract: {pattern: "Usage (.*)"}}]}
dedup: {key: [SIM ICCID, Session Start]}
control:
  when: {field: SIM ICCID, equals: TOTAL}
  totals: {Volume Up: Volume Up, Volume Down: Volume Down}
  without: [subtotal]
"""


def test_a_workbook_for_people():
    book = openpyxl.Workbook()
    book.remove(book.active)
    for country, ups in (("Italy", [1.5, 2]), ("Spain", [3])):
        sheet = book.create_sheet(f"Usage {country}")
        sheet.append(["Monthly usage"])
        sheet.append([])
        sheet.append(["SIM", "Session", None, "Volume", None])
        sheet.append(["ICCID", "Start", "End", "Up", "Down"])
        sheet.append(["", "local", "local", "KB", "KB"])
        for number, up in enumerate(ups):
            start = datetime(2026, 10, 5, 10, number)
            sheet.append(["8949020000161234567", start, start, up, 1])
        sheet.append(["Subtotal", None, None, sum(ups), len(ups)])
        if country == "Spain":
            sheet.append(["TOTAL", None, None, 6.5, 3])
    book.create_sheet("Notes")
    buffer = io.BytesIO()
    book.save(buffer)
    out = ingest_bytes(BOOK, {"book1.xlsx": buffer.getvalue()})
    assert [(m["line_no"], m["reason_code"] or (m["region"], m["quantity"])) for m in out.mapped] \
        == [(6, ("Italy", 2500)), (7, ("Italy", 3000)), (8, "filter:subtotal"),
            (14, ("Spain", 4000)), (15, "filter:subtotal")]  # fmt: skip
    assert times(out)[0] == "2026-10-05 08:00:00"
    assert [r.state for r in out.results] == ["ingested"]
    whole = BOOK.replace("  without: [subtotal]\n", "")
    doubled = ingest_bytes(whole, {"book1.xlsx": buffer.getvalue()})
    assert [r.error.split(":")[0] for r in doubled.results] == ["control_total"]


# Columns set with blanks under a report's head; a month without year; amounts with their unit.
REPORT = """
id: report
carrier: demo
target: usage_record
files: ["report_*.txt"]
format: {type: delimited, delimiter: " ", quote: null, collapse: true, comment: "=",
         header_has: [SUBSCRIBER, VOLUME]}
zone: Pacific/Auckland
control: {when: {field: SUBSCRIBER, matches: "TOTAL:?"}, records: DAY}
fields:
  event_start:
    from: DAY
    steps:
      - join: {field: TIME, with: " "}
      - join: {field: $file, steps: [{extract: {pattern: "report_([0-9]{4})"}}], with: " ",
               before: true}
      - timestamp: {format: "%Y %d-%b %H:%M"}
  uid_type: {value: msisdn}
  uid_value: {from: SUBSCRIBER, steps: [{e164: {country_code: "64"}}]}
  usage_class:
    choose:
      - {when: {field: VOLUME, matches: "[0-9]+s"}, value: voice}
      - {when: {field: VOLUME, matches: "[0-9.]+[KM]B"}, value: data}
  quantity:
    from: VOLUME
    steps:
      - extract: {pattern: "^([0-9.]+)"}
      - units_by:
          field: VOLUME
          steps: [{extract: {pattern: "([A-Za-z]+)$"}}]
          names: {s: second, KB: KB, MB: MB}
dedup: {key: [SUBSCRIBER, DAY, TIME]}
"""


def test_a_report_set_with_blanks():
    text = """ACME NETWORKS          usage report
printed on 2026-10-07

 SUBSCRIBER    DAY     TIME    VOLUME
 ===========================
 021555010     05-Oct  23:59   1.5MB
 021555011     06-Oct  00:01   61s
 021555012     06-Oct  00:02   7furlongs
 SUBSCRIBER    DAY     TIME    VOLUME
 TOTAL:        3
"""
    out = ingest_bytes(REPORT, {"report_2026.txt": text.encode()})
    assert told(out) == [
        (6, ("6421555010", "data", 1_500_000)), (7, ("6421555011", "voice", 61)),
        (8, "no_mapping"),
    ]  # fmt: skip
    assert times(out) == ["2026-10-05 10:59:00", "2026-10-05 11:01:00"]
    none = ingest_bytes(REPORT, {"report_2026.txt": b"nothing\nto see\n"})
    assert [r.error.split(":")[0] for r in none.results] == ["missing_header"]


# Old Macintosh line ends, two rows of names, UTF-16, a counter in a high and a low word.
COUNTERS = """
id: counters
carrier: demo
target: usage_record
files: ["ctr*"]
format: {type: delimited, delimiter: "\\t", encoding: utf-16, line_end: "\\r", header_rows: 2}
fields:
  event_start: {from: Reading at, steps: [{timestamp: {format: epoch_s}}]}
  uid_type: {value: imsi}
  uid_value: {from: Device, steps: [imsi]}
  usage_class: {value: data}
  quantity:
    from: Octets low
    steps:
      - integer
      - plus: {field: Octets high, steps: [integer, {times: {by: "4294967296"}}], absent: 0}
dedup: {key: [Device, Reading at]}
correlate: {key: [Device], combine: increments, counting: cumulative, first_reading: baseline}
filter: [{reason: old, when: {field: Reading at, below: 1790000000}}]
"""


def test_names_over_two_rows_and_counters_of_two_words():
    text = (
        "Device\tReading\tOctets\t\r\tat\tlow\thigh\r"
        "262010000000001\t1791194400\t7\t1\r262010000000001\t1791194460\t9\t\r"
        "262010000000001\t1700000000\t9\t\r"
    )
    out = ingest_bytes(COUNTERS, {"ctr1": text.encode("utf-16")})
    assert told(out) == [
        (3, ("262010000000001", "data", 2**32 + 7)), (4, ("262010000000001", "data", 9)),
        (5, "filter:old"),
    ]  # fmt: skip


# Data and what states its totals in one archive; and companions by name, by list, by digest.
STATED = """
id: stated
carrier: demo
target: usage_record
files: ["use_*.csv*", "use_*.zip"]
archive: {members: ["*.csv"]}
format: {type: delimited}
zone: UTC
control:
  companion:
    files: ["*.ctl"]
    format: {type: delimited, delimiter: " ", quote: null, collapse: true, header: false,
             columns: [md5, file, lines, octets]}
    file: file
    records: lines
    totals: {octets: bytes}
    md5: md5
fields:
  event_start: {from: t, steps: [timestamp]}
  uid_type: {value: imsi}
  uid_value: {from: sim, steps: [imsi]}
  usage_class: {value: data}
  quantity: {from: bytes, steps: [integer]}
dedup: {key: [t, sim]}
"""
ONE = b"t,sim,bytes\n2026-10-05T10:00:00Z,262010000000001,3\n2026-10-05T10:00:00Z,x,4\n"
TWO = b"t,sim,bytes\n2026-10-06T10:00:00Z,262010000000001,5\n"


def stated_line(name: str, data: bytes, lines: int, octets: int) -> str:
    return f"{hashlib.md5(data).hexdigest()}  *out/{name} {lines} {octets}\n"


@pytest.mark.parametrize(
    ("told", "code"),
    [
        (stated_line("use_1.csv", ONE, 2, 7) + stated_line("use_2.csv", TWO, 1, 5), None),
        (stated_line("use_1.csv", ONE, 3, 7) + stated_line("use_2.csv", TWO, 1, 5),
         "control_records"),
        (stated_line("use_1.csv", ONE, 2, 7) + stated_line("use_2.csv", TWO, 1, 6),
         "control_total"),
        (stated_line("use_1.csv", TWO, 2, 7) + stated_line("use_2.csv", TWO, 1, 5),
         "control_digest"),
        (stated_line("use_1.csv", ONE, 2, 7), "missing_companion"),
        (stated_line("use_1.csv", ONE, 2, 7) + stated_line("use_2.csv", TWO, 1, 5)
         + stated_line("use_3.csv", TWO, 1, 5), "missing_member"),
        ("nonsense\n", "unreadable_companion"),
    ],
)  # fmt: skip
def test_an_archive_brings_its_companion(told, code):
    data = packed({"use_1.csv": ONE, "use_2.csv": TWO, "sums.ctl": told.encode()})
    out = ingest_bytes(STATED, {"use_1.zip": data, "use_9.zip": packed({"use_9.csv": TWO})})
    assert [r.error and r.error.split(":")[0] for r in out.results] == [code, None]


SESSION = '<session id="{n}" begin="2026-10-05 10.00.00"><volume x:unit="KiB">1</volume></session>'
WHOLE = {
    "mainframe": (
        MAINFRAME,
        ("00261005" + " " * 44
         + "10208010000000001261005100000000012345" + "0000123DR00001"
         + "99" + "00000001" + "000000012345" + " " * 30).encode("cp500"),
    ),
    "segments": (
        SEGMENTS,
        b"1+2+GRP+0012125550100~2+2+USE+05/10/2026+11:59:00 PM+1,5+Ko~8+2+END+1+1,5~",
    ),
    "nested": (
        NESTED,
        packed({"in.zip": packed({"a.psv": b'sim|when|service|used|note\n8949020000161234567|'
                                           b'2026-10-05 10:00:00|DATA|1|"a\\"b"\n'})}),
    ),
    "rows": (ROWS, b'{"results":[{"values":[[1791194400123,"0018b20000020001"]]}]}'),
    "trailed": (
        TRAILED,
        b'{"id":1,"t":"2026-10-05T10:00:00Z","imsi":"262010000000001","bytes":3}\n'
        b'{"kind":"trailer","lines":1,"sum":3}\n',
    ),
    "tree": (
        TREE,
        ('<usage xmlns="urn:usage" xmlns:x="urn:ext" service="DATA"><sim imsi="262010000000001">'
         f'<place>Berlin</place><sessions>{SESSION.format(n=1)}{SESSION.format(n=2)}</sessions>'
         "</sim><count>2</count></usage>").encode(),
    ),
    "counters": (
        COUNTERS,
        "Device\tReading\tOctets\t\r\tat\tlow\thigh\r262010000000001\t1791194400\t7\t1\r".encode(
            "utf-16"),
    ),
    "stated": (
        STATED,
        packed({"use_1.csv": ONE, "a.ctl": stated_line("use_1.csv", ONE, 2, 7).encode()}),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", list(WHOLE))
def test_damage_is_told(kind):
    spec, content = WHOLE[kind]
    draw = random.Random(kind)
    files = {f"damaged_{number}": damaged(content, draw) for number in range(25)}
    files |= {f"cut_{n}": content[: len(content) * n // 12] for n in range(1, 12)}
    out = ingest_bytes(spec, files | {"whole": content})
    *others, whole = out.results
    assert whole.state == "ingested" and whole.records["accepted"]
    for result in others:
        assert result.state == "ingested" or result.error
        assert result.state == "ingested" or not result.records["accepted"]
    cuts = [r for r in others if r.file_key > 25]
    if kind not in ("rows", "counters"):  # which say nothing of how much they hold
        assert {r.state for r in cuts if r.records_in < whole.records_in} <= {"quarantined"}
