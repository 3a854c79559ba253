"""Broken files: each costs what is broken and nothing else, and says so."""

from __future__ import annotations

import gzip

import pytest

from tests.feeds.harness import CSV_FEED, HEADER, NDJSON_FEED, ingest_bytes, row


def test_a_clean_file():
    out = ingest_bytes(CSV_FEED, HEADER + row(1, 5) + row(2, 7))
    assert [(r["line_no"], r["uid_value"], r["quantity"]) for r in out.mapped] == [
        (2, "262010000000001", 5),
        (3, "262010000000002", 7),
    ]
    assert out.results[0].quantity == {"accepted": 12, "ignored": 0, "rejected": 0}
    assert out.results[0].usage_months == ("2026-10",)


@pytest.mark.parametrize("ending", [b"\r\n", b"\n"])
@pytest.mark.parametrize("final", [True, False])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_line_ends_final_newline_and_bom_change_nothing(ending, final, bom):
    data = (HEADER + row(1) + row(2)).replace(b"\n", ending)
    data = bom + (data if final else data.removesuffix(ending))
    out = ingest_bytes(CSV_FEED, data)
    assert out.counts == {"accepted": 2}
    assert out.mapped[1]["raw_text"] == row(2).decode().strip()


def test_wrong_column_counts_cost_their_lines():
    data = HEADER + row(1) + b"a,b\n" + row(2) + b"a,b,c,d\n" + row(3)
    out = ingest_bytes(CSV_FEED, data)
    assert out.counts == {"accepted": 3, "column_count": 2}
    assert {r["line_no"]: r["value"] for r in out.rejected} == {3: "2", 5: "4"}
    assert out.rejected[0]["raw_text"] == "a,b"


def test_truncated_in_a_line():
    data = (HEADER + row(1) + row(2))[:-25]
    out = ingest_bytes(CSV_FEED, data)
    assert out.counts == {"accepted": 1, "column_count": 1}


def test_an_unterminated_quote_costs_its_own_line():
    data = HEADER + b'"2026-10-05T10:00:00Z,262010000000001,5\n' + row(2) + row(3)
    out = ingest_bytes(CSV_FEED, data)
    assert out.counts == {"unterminated_quote": 1, "accepted": 2}
    assert out.reason(2) == "unterminated_quote"


def test_quotes_and_delimiters_inside_cells():
    spec = CSV_FEED + "attributes: {note: {from: note}}\n"
    lines = [
        b'"2026-10-05T10:00:00Z","262010000000001","5","a ""b"", c"\n',
        b'2026-10-05T10:00:00Z, "262010000000002" ,5,\n',
        b'2026-10-05T10:00:00Z,262010000000003,5,in"ch\n',
        b'2026-10-05T10:00:00Z,262010000000004,5,"x" y\n',
    ]
    out = ingest_bytes(spec, b"time,sim,bytes,note\n" + b"".join(lines))
    assert [r["attributes"] for r in out.accepted] == ['{"note":"a \\"b\\", c"}', None]
    assert out.reason(4) == "unterminated_quote"
    assert out.reason(5) == "bad_quoting"


def test_line_ends_inside_quotes_where_the_feed_allows_them():
    spec = CSV_FEED.replace("type: delimited", "type: delimited, multiline: true")
    spec += "attributes: {note: {from: note}}\n"
    data = (
        b"time,sim,bytes,note\n"
        b'2026-10-05T10:00:00Z,262010000000001,5,"two\nlines"\n'
        b"2026-10-05T10:00:00Z,262010000000002,6,one\n"
        b'2026-10-05T10:00:00Z,262010000000003,7,"never closed\n'
        b"2026-10-05T10:00:00Z,262010000000004,8,fine\n"
    )
    out = ingest_bytes(spec, data)
    assert [(m["line_no"], m["reason_code"]) for m in out.mapped] == [
        (2, None),
        (4, None),
        (5, "unterminated_quote"),
        (6, None),
    ]
    assert out.mapped[0]["attributes"] == '{"note":"two\\nlines"}'


def test_blank_and_comment_lines_are_no_records():
    spec = CSV_FEED.replace("type: delimited", 'type: delimited, comment: "#", skip_rows: 1')
    out = ingest_bytes(spec, b"Report of October\n" + HEADER + b"\n# note\n" + row(1) + b"  \n")
    assert [(m["line_no"], m["reason_code"]) for m in out.mapped] == [(5, None)]


def test_header_only_is_a_day_without_usage():
    out = ingest_bytes(CSV_FEED, HEADER)
    assert (out.results[0].state, out.results[0].records_in) == ("ingested", 0)


def test_an_empty_file_is_quarantined_unless_allowed():
    out = ingest_bytes(CSV_FEED, b"")
    assert out.results[0].state == "quarantined"
    assert [(r["line_no"], r["reason_code"]) for r in out.rejected] == [(0, "empty_file")]
    allowed = ingest_bytes(CSV_FEED + "allow_empty: true\n", b"")
    assert allowed.results[0].state == "ingested"


def test_a_missing_column_quarantines_the_file_and_names_the_column():
    out = ingest_bytes(CSV_FEED, b"time,sim,octets\n" + row())
    assert out.results[0].error is not None
    assert out.results[0].error.startswith("missing_column: demo.csv line 1 has no column 'bytes'")


def test_a_column_named_twice_quarantines_the_file():
    out = ingest_bytes(CSV_FEED, b"time,sim,bytes,bytes\n")
    assert out.rejected[0]["reason_code"] == "duplicate_column"


def test_columns_may_come_in_any_order_file_by_file():
    other = b"x,bytes , time,sim\n1,9,2026-10-05T10:00:00Z,262010000000009\n"
    out = ingest_bytes(CSV_FEED, {"a.csv": HEADER + row(1, 5), "b.csv": other, "c.csv": b"q\n"})
    assert [(m["file_key"], m["quantity"]) for m in out.mapped] == [(1, 5), (2, 9)]
    assert [r.state for r in out.results] == ["ingested", "ingested", "quarantined"]


def test_bytes_of_another_encoding_cost_their_lines():
    data = HEADER + row(1) + "2026-10-05T10:00:00Z,2620100000000é2,5\n".encode("latin-1") + row(3)
    out = ingest_bytes(CSV_FEED, data)
    assert out.counts == {"accepted": 2, "encoding": 1}
    assert out.reason(3) == "encoding"


def test_a_declared_encoding_is_read():
    spec = CSV_FEED.replace("type: delimited", "type: delimited, encoding: utf-16")
    out = ingest_bytes(spec, (HEADER + row(1)).decode().encode("utf-16"))
    assert out.counts == {"accepted": 1}


def test_utf16_where_utf8_is_declared_quarantines():
    out = ingest_bytes(CSV_FEED, (HEADER + row(1)).decode().encode("utf-16"))
    assert out.rejected[0]["reason_code"] == "wrong_encoding"


def test_nul_bytes_cost_their_lines():
    out = ingest_bytes(CSV_FEED, HEADER + row(1) + row(2).replace(b"26201", b"26\x0001") + row(3))
    assert out.counts == {"accepted": 2, "nul_byte": 1}
    assert "\0" not in out.rejected[0]["raw_text"]


def test_a_line_too_long():
    spec = CSV_FEED + "limits: {max_line_bytes: 100}\n"
    out = ingest_bytes(spec, HEADER + row(1) + b"x" * 101 + b"\n" + row(2))
    assert out.counts == {"accepted": 2, "line_too_long": 1}


def test_gzip_is_unpacked_whatever_its_name():
    out = ingest_bytes(CSV_FEED, gzip.compress(HEADER + row(1)))
    assert out.counts == {"accepted": 1}


@pytest.mark.parametrize("cut", [1, 8, 20])
def test_a_truncated_gzip_quarantines_the_file_but_not_its_neighbour(cut):
    packed = gzip.compress(HEADER + b"".join(row(n, n) for n in range(500)))
    out = ingest_bytes(CSV_FEED, {"cut.csv.gz": packed[:-cut], "whole.csv.gz": packed})
    assert [(r.state, r.records_in) for r in out.results] == [("quarantined", 0), ("ingested", 500)]
    assert out.rejected[0]["reason_code"] == "damaged_archive"


def test_a_flipped_byte_in_a_gzip_is_seen():
    packed = bytearray(gzip.compress(HEADER + b"".join(row(n, n) for n in range(500))))
    packed[len(packed) // 2] ^= 0x20
    out = ingest_bytes(CSV_FEED, bytes(packed))
    assert out.results[0].state == "quarantined"


def test_a_gzip_bomb_is_stopped_at_the_limit():
    bomb = gzip.compress(HEADER + b"0" * 30_000_000)
    out = ingest_bytes(CSV_FEED + "limits: {max_ratio: 10}\n", bomb)
    assert out.rejected[0]["reason_code"] == "too_large"


def test_invalid_json_lines_cost_themselves():
    lines = [
        b'{"time":"2026-10-05T10:00:00Z","sim":"262010000000001","bytes":5}',
        b'{"time":',
        b"[1,2]",
        b"",
        b"nonsense",
        b'{"time":"2026-10-05T10:00:00Z","sim":"2620100000',
        b'{"bytes":6,"sim":"262010000000002","time":"2026-10-05T10:00:00Z"}',
    ]
    out = ingest_bytes(NDJSON_FEED, b"\n".join(lines))
    assert [(m["line_no"], m["reason_code"]) for m in out.mapped] == [
        (1, None),
        (2, "invalid_json"),
        (3, "invalid_json"),
        (5, "invalid_json"),
        (6, "invalid_json"),
        (7, None),
    ]


def test_json_numbers_keep_every_digit():
    feed = NDJSON_FEED.replace("[trim, integer]", "[{units: {unit: MB}}]")
    feed += "attributes: {id: {from: id}, deep: {from: 'a.\"b.c\"[1].d'}}\n"

    def line(size: str) -> bytes:
        return (
            f'{{"time":"2026-10-05T10:00:00Z","sim":"262010000000001","bytes":{size},'
            '"id":12345678901234567890123,"a":{"b.c":[0,{"d":"x 1.5, \\" 2"}]}}\n'
        ).encode()

    sizes = [
        "0.219933",
        "0.000012",
        "1.2e-05",
        "1E3",
        "123456.000001",
        "0.1234560000000000001",
        "0.50000000000000000000000000000001",
        "12.3456789",
    ]
    out = ingest_bytes(feed, b"".join(line(size) for size in sizes))
    assert [m["quantity"] for m in out.mapped] == [
        219933,
        12,
        12,
        1_000_000_000,
        123456000001,
        None,
        None,
        None,
    ]
    # a fraction that doubles would have rounded away is seen
    assert [m["reason_code"] for m in out.mapped][5:] == [
        "not_whole",
        "invalid_number",
        "not_whole",
    ]
    assert out.mapped[0]["attributes"] == ('{"id":"12345678901234567890123","deep":"x 1.5, \\" 2"}')
