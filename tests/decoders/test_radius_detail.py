"""RADIUS detail files: records with their lines, and what is wrong with the others."""

from __future__ import annotations

import io

from hypothesis import given, settings
from hypothesis import strategies as st

from iotbill_pipelines.compute.decoders import RawRecord
from iotbill_pipelines.compute.decoders.radius_detail import DetailOptions, decode

STOP = b"""Tue Mar  4 10:00:00 2025
\tUser-Name = "8988303000000000001"
\tAcct-Status-Type = Stop
\tAcct-Session-Id = "0000A1"
\tAcct-Input-Octets = 4294967295
\tAcct-Input-Gigawords = 2
\tTunnel-Type:0 = VLAN
\tClass = 0x0102
\tCisco-AVPair = "a=1"
\tCisco-AVPair += "b=\\"2\\" \\303\\251"
\tTimestamp = 1741082400

"""


def read(data: bytes, options: DetailOptions | None = None) -> list[RawRecord]:
    decoded = decode(io.BytesIO(data), options or DetailOptions())
    records = list(decoded.records)
    assert not decoded.problems
    return records


def codes(records: list[RawRecord]) -> list[str | None]:
    return [record.problem.code if record.problem else None for record in records]


def test_attributes_are_fields_and_gigawords_stay_apart() -> None:
    first, second = read(STOP + b"\n" + STOP)
    assert (first.line_no, second.line_no) == (1, 14)
    assert first.fields == {
        "detail_time": "Tue Mar  4 10:00:00 2025",
        "User-Name": "8988303000000000001",
        "Acct-Status-Type": "Stop",
        "Acct-Session-Id": "0000A1",
        "Acct-Input-Octets": "4294967295",
        "Acct-Input-Gigawords": "2",
        "Tunnel-Type:0": "VLAN",
        "Class": "0x0102",
        "Cisco-AVPair": "a=1",
        "Cisco-AVPair[1]": 'b="2" é',
        "Timestamp": "1741082400",
    }
    assert first.raw_text.splitlines()[0] == "Tue Mar  4 10:00:00 2025"
    assert second.fields == first.fields


def test_line_ends_of_windows_and_a_byte_order_mark_change_nothing() -> None:
    plain = read(STOP)[0]
    other = read(b"\xef\xbb\xbf" + STOP.replace(b"\n", b"\r\n"))[0]
    assert (other.fields, other.line_no) == (plain.fields, plain.line_no)


def test_malformed_blocks_are_findings_with_their_lines() -> None:
    records = read(
        b"\tLost = 1\n\n"  # 1
        b'Tue Mar  4 10:00:01 2025\n\tUser-Name = "open\n\n'  # 3
        b"Tue Mar  4 10:00:02 2025\n\n"  # 6
        b"Tue Mar  4 10:00:03 2025\n\tno attribute\n\n"  # 8
        b"Tue Mar  4 10:00:04 2025\n\tA = 1\n"  # 11
        b"Tue Mar  4 10:00:05 2025\n\tB = \xff\n\n"  # 13
        + STOP  # 16
        + b"Tue Mar  4 10:00:06 2025\n\tA = 1\n"  # 28
    )
    assert codes(records) == [
        "no_time", "open_quote", "no_attributes", "not_an_attribute", "no_blank_line",
        "undecodable_text", None, "not_ended",
    ]  # fmt: skip
    assert [record.line_no for record in records] == [1, 3, 6, 8, 11, 13, 16, 28]
    assert records[1].problem is not None
    assert records[1].problem.message.startswith("line 4:")


def test_limits_cost_only_the_record_they_hit() -> None:
    long_line = b"Tue Mar  4 10:00:01 2025\n\tA = " + b"x" * 500 + b"\n\n"
    many = b"Tue Mar  4 10:00:01 2025\n" + b"\tA = 1\n" * 50 + b"\n"
    records = read(long_line + many + STOP, DetailOptions(max_line_bytes=100, max_lines=20))
    assert codes(records) == ["line_too_long", "too_many_lines", None]
    assert records[2].line_no == 3 + 1 + 52


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damage_costs_no_other_record(data: st.DataObject) -> None:
    whole = STOP * 3
    start = data.draw(st.integers(0, len(whole) - 1))
    piece = data.draw(st.binary(max_size=30))
    damaged = whole[:start] + piece + whole[start + data.draw(st.integers(0, 30)) :]
    records = read(damaged)
    # A blank line stands between records: damage can reach two of the three at most.
    intact = [record for record in records if record.fields == read(STOP)[0].fields]
    assert intact
    starts = damaged.count(b"Tue Mar  4 10:00:00 2025\n\t")
    assert len(records) >= starts - 1
