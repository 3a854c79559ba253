"""Archives, kinds of lines, totals, and published layouts of carriers: YAML only."""

from __future__ import annotations

import gzip
import io
import json
import zipfile

import openpyxl
import pytest

from tests.feeds.harness import CSV_FEED, HEADER, ingest_bytes, row


def packed(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def reasons(out):
    return [r.error.split(":")[0] for r in out.results if r.error]


# ---------------------------------------------------------------- archives


def test_members_of_an_archive_are_records_of_the_landed_file():
    data = packed(
        {
            "a/one.csv": HEADER + row(1) + b"bad\n",
            "two.csv.gz": gzip.compress(
                b"bytes,time,sim\n7,2026-10-05T10:00:00Z,262010000000002\n"
            ),
            "__MACOSX/._one.csv": b"\0",
        }
    )
    out = ingest_bytes(CSV_FEED + "attributes: {from: $member}\n", data)
    assert [(m["line_no"], m["reason_code"] or m["quantity"]) for m in out.mapped] == [
        (2, 100), (3, "column_count"), (5, 7),
    ]  # fmt: skip
    assert [json.loads(m["attributes"])["from"] for m in out.accepted] == ["a/one.csv", "two.csv"]
    assert "in member a/one.csv of the archive" in out.rejected[0]["message"]


INVOICE = """
id: demo
carrier: demo
target: vendor_invoice_line
files: ["*.zip"]
archive: {members: ["fees*.xlsx", "usage*.csv"]}
format: {type: xlsx, or_delimited: ";"}
control: {when: {field: Code, equals: TOTAL}, totals: {Amount: Amount}}
fields:
  vendor_id: {value: carrier}
  invoice_no: {from: $file, steps: [{extract: {pattern: "^([A-Z0-9-]+)"}}]}
  billing_period: {value: "2026-04"}
  charge_code: {from: Code}
  uid_type: {value: iccid}
  uid_value: {from: SIM, steps: [iccid]}
  service_start: {from: From, steps: [date]}
  quantity: {from: Quantity, steps: [integer]}
  currency: {value: EUR}
  amount: {from: Amount, steps: [decimal]}
"""
SIM = "8949000000000000001"


@pytest.mark.parametrize(("total", "error"), [("1.05", None), ("1.06", "control_total")])
def test_an_invoice_may_be_a_zip_of_a_workbook_and_text(total, error):
    """Fees in a workbook, usage in text with its columns in another order; each with its total."""
    book = openpyxl.Workbook()
    book.active.append(["SIM", "Code", "From", "Quantity", "Amount"])
    book.active.append([SIM, "FEE", "2026-03-19", 31, 2.4])
    book.active.append([None, "TOTAL", None, None, 2.4])
    buffer = io.BytesIO()
    book.save(buffer)
    text = f"Code;Amount;Quantity;SIM;From\nDATA;1.05;52500000;{SIM};2026-03-19\nTOTAL;{total};;;\n"
    data = packed({"fees_04.xlsx": buffer.getvalue(), "usage_04.csv": text.encode()})
    out = ingest_bytes(INVOICE, {"INV-7.zip": data})
    assert reasons(out) == ([error] if error else [])
    if error is None:
        assert [(m["charge_code"], m["quantity"], str(m["amount"])) for m in out.accepted] == [
            ("FEE", 31, "2.400000000000"),
            ("DATA", 52_500_000, "1.050000000000"),
        ]
        assert {m["invoice_no"] for m in out.accepted} == {"INV-7"}


def test_text_beside_a_workbook_that_cannot_be_read_says_why():
    out = ingest_bytes(INVOICE, {"INV-8.zip": packed({"usage_04.csv": b"Code;\xff\n"})})
    assert reasons(out) == ["unreadable_workbook"]
    lacking = packed({"usage_04.csv": b"Code;SIM\n"})
    assert reasons(ingest_bytes(INVOICE, {"INV-9.zip": lacking})) == ["missing_column"]


SUMMED = INVOICE.replace('format: {type: xlsx, or_delimited: ";"}', "format: {type: delimited}")
SUMMED = SUMMED.replace(
    "control: {when: {field: Code, equals: TOTAL}, totals: {Amount: Amount}}",
    """control:
  companion:
    files: ["summary*.xlsx"]
    format: {type: xlsx, sheet: Totals}
    file: File
    records: Lines
    totals: {Sum: Amount}""",
)


@pytest.mark.parametrize(("total", "error"), [(1.05, None), (1.06, "control_total")])
def test_a_workbook_in_the_zip_may_state_what_the_lines_come_to(total, error):
    book = openpyxl.Workbook()
    book.active.title = "Totals"
    book.active.append(["File", "Lines", "Sum"])
    book.active.append(["usage_04.csv", 1, total])
    buffer = io.BytesIO()
    book.save(buffer)
    text = f"Code,Amount,Quantity,SIM,From\nDATA,1.05,52500000,{SIM},2026-03-19\n"
    data = packed({"summary_04.xlsx": buffer.getvalue(), "usage_04.csv": text.encode()})
    out = ingest_bytes(SUMMED, {"INV-7.zip": data})
    assert reasons(out) == ([error] if error else [])


def test_an_archive_of_workbooks_and_one_of_documents():
    book = openpyxl.Workbook()
    book.active.append(["time", "sim", "bytes"])
    book.active.append(["2026-10-05T10:00:00Z", "262010000000001", 5])
    buffer = io.BytesIO()
    book.save(buffer)
    sheets = packed({"a.xlsx": buffer.getvalue(), "b.xlsx": buffer.getvalue()})
    out = ingest_bytes(CSV_FEED.replace("delimited", "xlsx"), sheets)
    assert [(m["line_no"], m["quantity"]) for m in out.mapped] == [(2, 5), (4, 5)]
    record = b'[{"time":"2026-10-05T10:00:00Z","sim":"262010000000001","bytes":5}]'
    both = packed({"a.json": record, "b.json": record})
    assert ingest_bytes(CSV_FEED.replace("delimited", "json"), both).counts == {"accepted": 2}


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"../a.csv": HEADER}, "unsafe_name"),
        ({"a.csv": HEADER + b"0" * 9_000_000}, "too_large"),
        ({"a.csv": HEADER + row(1), "b.txt": b"?"}, "unknown_member"),
        ({}, "empty_file"),
        ({"a.csv": HEADER + row(1), "b.csv": b"x,y\n"}, "missing_column"),
    ],
)
def test_archives_that_cannot_be_used(members, code):
    spec = CSV_FEED + 'archive: {members: ["*.csv"]}\n'
    out = ingest_bytes(spec, {"bad.zip": packed(members), "good.csv": HEADER + row(1)})
    assert [r.state for r in out.results] == ["quarantined", "ingested"]
    assert reasons(out) == [code]
    assert len(out.accepted) == 1


def test_a_cut_archive_is_quarantined():
    out = ingest_bytes(CSV_FEED, packed({"a.csv": HEADER + row(1)})[:-30])
    assert reasons(out) == ["damaged_archive"]


# ---------------------------------------------------------------- kinds of lines

LAYOUTS = CSV_FEED.replace(
    "format: {type: delimited}",
    """
format:
  type: delimited
  delimiter: "|"
  header: false
  decimal_comma: true
  layouts:
    - {kind: header, when: {column: 1, equals: "10"}, columns: [kind, day]}
    - {kind: header, name: batch, repeated: true, when: {column: 1, equals: "20"},
       columns: [kind, sim]}
    - {kind: detail, when: {column: 1, in: ["30", "31"]}, columns: [kind, clock, bytes, note],
       optional: 1}
    - {kind: trailer, when: {column: 1, equals: "90"}, columns: [kind, records, sum]}
control: {records: trailer.records, totals: {trailer.sum: bytes}}
""",
).replace("from: sim", "from: batch.sim").replace(
    "{from: time, steps: [trim, timestamp]}",
    '{from: clock, steps: [{timestamp: {format: "%Y%m%d %H:%M"}}]}',
)  # fmt: skip
LAYOUTS = LAYOUTS.replace("[trim, integer]", "[{units: {unit: KB}}]")
LINES = [
    "10|20261005", "20|262010000000001", "30|20261005 10:00|1,5|x", "31|20261005 10:01|2",
    "20|262010000000002", "30|20261005 10:02|3", "90|3|6,5",
]  # fmt: skip


def test_records_know_the_header_line_before_them():
    out = ingest_bytes(LAYOUTS, "\n".join(LINES).encode())
    assert [(m["line_no"], m["uid_value"][-1], m["quantity"]) for m in out.accepted] == [
        (3, "1", 1500), (4, "1", 2000), (6, "2", 3000),
    ]  # fmt: skip
    assert out.results[0].state == "ingested"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (("90|3|6,5", "90|4|6,5"), "control_records"),
        (("90|3|6,5", "90|3|6,6"), "control_total"),
        (("90|3|6,5", ""), "missing_trailer"),
        (("10|20261005", ""), "missing_header_line"),
        (("20|262010000000002", "90|3|6,5"), "repeated_trailer"),
    ],
)
def test_lines_that_do_not_add_up_quarantine_the_file(change, code):
    lines = "\n".join(LINES).replace(*change)
    assert reasons(ingest_bytes(LAYOUTS, lines.encode())) == [code]


def test_a_line_of_no_kind_and_one_of_the_wrong_width():
    lines = [*LINES[:3], "77|x", "30|20261005 10:00|1|2|3", *LINES[3:-1], "90|5|7,5"]
    out = ingest_bytes(LAYOUTS, "\n".join(lines).encode())
    assert out.results[0].state == "ingested"
    assert [(m["line_no"], m["reason_code"]) for m in out.mapped if m["reason_code"]] == [
        (4, "unknown_layout"), (5, "column_count"),
    ]  # fmt: skip


def test_type_rows_repeated_headers_and_rows_of_totals():
    spec = CSV_FEED.replace("type: delimited", "type: delimited, type_rows: 1") + (
        "filter: [{reason: total_row, when: {field: sim, equals: Total}}]\n"
    )
    data = HEADER + b"TIMESTAMP,TEXT,BIGINT\n" + row(1) + HEADER + row(2) + b",Total,200\n"
    out = ingest_bytes(spec, data)
    assert [(m["line_no"], m["reason_code"]) for m in out.mapped] == [
        (3, None), (5, None), (6, "filter:total_row"),
    ]  # fmt: skip


def test_a_row_of_totals_below_a_header_is_held_against_the_rows():
    spec = CSV_FEED.replace(
        "format: {type: delimited}",
        "format: {type: delimited, layouts: [{kind: trailer, when: {column: sim, equals: Total}},"
        " {kind: detail}]}\ncontrol: {total: trailer.bytes, of: bytes}",
    )
    good = HEADER + row(1) + row(2) + b",Total,200\n"
    assert ingest_bytes(spec, good).counts == {"accepted": 2}
    assert reasons(ingest_bytes(spec, good.replace(b"200", b"201"))) == ["control_total"]


def test_optional_columns_and_further_ones():
    spec = CSV_FEED.replace("type: delimited", "type: delimited, optional: 1, may_lack: [note]")
    spec += "attributes: {note: note}\n"
    lines = b"2026-10-05T10:00:00Z,262010000000001,5\n"
    data = {"a.csv": b"time,sim,bytes,note\n" + lines + row(2), "b.csv": HEADER + lines}
    assert ingest_bytes(spec, data).counts == {"accepted": 3}
    more = CSV_FEED.replace("type: delimited", "type: delimited, more: true")
    assert ingest_bytes(more, HEADER + lines.replace(b"5\n", b"5,x,y\n")).counts == {"accepted": 1}


# ---------------------------------------------------------------- documents


def test_arrays_inside_records_and_what_a_document_states():
    spec = CSV_FEED.replace(
        "format: {type: delimited}",
        "format: {type: json, records: sims, explode: [usage]}\n"
        "control: {records: $document.meta.count, total: $document.meta.bytes, of: usage.bytes}",
    )
    spec = spec.replace("from: time", "from: usage.time").replace(
        "from: bytes", "from: usage.bytes"
    )
    sims = [
        {"sim": f"26201000000000{n}", "usage": [{"time": "2026-10-05T10:00:00Z", "bytes": size}
                                               for size in sizes]}
        for n, sizes in ((1, [1, 2]), (2, [3]), (3, []))
    ]  # fmt: skip
    document = {"meta": {"count": 4, "bytes": 6}, "sims": sims}
    out = ingest_bytes(spec, json.dumps(document).encode())
    assert [m["reason_code"] or m["quantity"] for m in out.mapped] == [1, 2, 3, "missing_value"]
    document["meta"]["bytes"] = 7
    assert reasons(ingest_bytes(spec, json.dumps(document).encode())) == ["control_total"]
    document = {"meta": {"count": 1, "bytes": 0}, "sims": []}
    empty = ingest_bytes(spec + "allow_empty: true\n", json.dumps(document).encode())
    assert reasons(empty) == ["control_records"]


def test_a_document_of_xml_states_its_totals_behind_its_records():
    spec = CSV_FEED.replace(
        "format: {type: delimited}",
        "format: {type: xml, record: usage/cdr}\n"
        "control: {records: header.usage.count, total: header.usage.sum, of: bytes}",
    )
    cdr = "<cdr><time>2026-10-05T10:00:00Z</time><sim>262010000000001</sim><bytes>5</bytes></cdr>"
    text = f"<usage>{cdr}{cdr}<count>2</count><sum>10</sum></usage>"
    out = ingest_bytes(spec, text.encode())
    assert [(m["line_no"], m["quantity"]) for m in out.mapped] == [(1, 5), (2, 5)]
    assert reasons(ingest_bytes(spec, text.replace("<sum>10", "<sum>11").encode())) == [
        "control_total"
    ]
    assert reasons(ingest_bytes(spec, text.replace("</usage>", "").encode())) == ["malformed"]
    entity = '<!DOCTYPE usage [<!ENTITY a "b">]>' + text
    assert reasons(ingest_bytes(spec, entity.encode())) == ["forbidden_entity"]


def test_radius_records_with_gigawords():
    spec = """
id: radius
carrier: demo
target: usage_record
files: ["detail-*"]
format: {type: radius_detail}
fields:
  event_start: {from: Event-Timestamp, steps: [{timestamp: {format: epoch_s}}]}
  uid_type: {value: imsi}
  uid_value: {from: User-Name, steps: [imsi]}
  usage_class: {value: data}
  quantity:
    from: Acct-Input-Octets
    steps:
      - integer
      - plus:
          field: Acct-Input-Gigawords
          steps: [integer, {times: {by: "4294967296"}}]
          absent: 0
dedup: {key: [Acct-Session-Id, "=event_start"]}
"""
    text = (
        'Mon Oct  5 10:00:00 2026\n\tUser-Name = "262010000000001"\n\tAcct-Session-Id = "a"\n'
        "\tEvent-Timestamp = 1791194400\n\tAcct-Input-Octets = 7\n\tAcct-Input-Gigawords = 1\n\n"
        'Mon Oct  5 10:00:01 2026\n\tUser-Name = "262010000000001"\n\tAcct-Session-Id = "b"\n'
        "\tEvent-Timestamp = 1791194401\n\tAcct-Input-Octets = 8\n\n"
        "Mon Oct  5 10:00:02 2026\n\tnonsense\n\n"
    )
    out = ingest_bytes(spec, text.encode())
    assert [(m["line_no"], m["reason_code"] or m["quantity"]) for m in out.mapped] == [
        (1, 2**32 + 7), (8, 8), (14, "not_an_attribute"),
    ]  # fmt: skip
