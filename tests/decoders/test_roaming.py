"""Roaming files: what real ones hold, and that nothing in a damaged one goes unnoticed."""

from __future__ import annotations

import io
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iotbill_pipelines.compute.decoders import Decoded, RawRecord, Scope, nrtrde_0201
from iotbill_pipelines.compute.decoders.batches import record_batches
from iotbill_pipelines.compute.decoders.roaming import RoamingOptions, decode

COUNT_ONLY = RoamingOptions(checked_totals=frozenset({"call_events"}))


def tlv(tag: int, *contents: bytes, indefinite: bool = False, application: bool = True) -> bytes:
    """An element with an APPLICATION tag; constructed when its contents are elements."""
    return _tlv(tag, b"".join(contents), 0x20, indefinite)


def leaf(tag: int, value: bytes | int | str) -> bytes:
    if isinstance(value, int):
        value = value.to_bytes((value.bit_length() + 8) // 8, "big", signed=True)
    return _tlv(tag, value.encode() if isinstance(value, str) else value, 0, False)


def _tlv(tag: int, body: bytes, form: int, indefinite: bool) -> bytes:
    if tag < 31:
        head = bytes([0x40 | form | tag])
    else:
        octets = [tag & 0x7F]
        while tag := tag >> 7:
            octets.append(tag & 0x7F | 0x80)
        head = bytes([0x5F | form, *reversed(octets)])
    if indefinite:
        return head + b"\x80" + body + b"\0\0"
    size = len(body)
    length = (
        bytes([size])
        if size < 128
        else bytes([0x80 | (size.bit_length() + 7) // 8])
        + size.to_bytes((size.bit_length() + 7) // 8, "big")
    )
    return head + length + body


IMSI = tlv(427, tlv(199, leaf(129, bytes.fromhex("262011234567890f"))))


def charge(units: int, kind: str = "00") -> bytes:
    return tlv(63, leaf(71, kind), leaf(62, units))


def gprs(*charges: bytes, rate_code: int | None = 1, start: str = "20250301010203") -> bytes:
    code = leaf(105, rate_code) if rate_code is not None else b""
    information = tlv(69, leaf(66, "X"), code, tlv(64, *charges))
    return tlv(
        14,
        tlv(
            114,
            tlv(115, IMSI),
            tlv(116, leaf(261, "iot.example")),
            tlv(44, leaf(16, start), leaf(232, 1)),
            leaf(223, 61),
        ),
        tlv(117, tlv(118, tlv(185, leaf(184, 7)))),
        tlv(121, leaf(250, 1000), leaf(251, 2**33), tlv(70, information)),
    )


def transfer_batch(
    *events: bytes,
    declared: int | None = None,
    total: int | None = None,
    currency: bytes = b"",
    indefinite: bool = False,
    trailer: bytes = b"",
) -> bytes:
    control = tlv(4, leaf(196, "AAAAA"), leaf(182, "BBBBB"), leaf(109, "00042"),
                  leaf(201, 3), leaf(189, 12))  # fmt: skip
    accounting = tlv(
        5,
        leaf(135, "EUR"),
        currency,
        tlv(80, tlv(106, leaf(105, 1), leaf(159, 5), leaf(104, 116203))),
        leaf(244, 3),
    )
    network = tlv(
        6,
        tlv(234, tlv(233, leaf(232, 1), leaf(231, "+0330"))),
        tlv(188, tlv(183, leaf(184, 7), leaf(186, 3), leaf(400, "10.0.0.1"))),
    )
    audit = tlv(
        15,
        leaf(415, 150 * len(events) if total is None else total),
        leaf(226, 0),
        leaf(225, 0),
        leaf(43, len(events) if declared is None else declared),
    )
    parts = (control, accounting, network, tlv(3, *events, indefinite=indefinite), audit)
    return tlv(1, *parts, indefinite=indefinite) + trailer


def read(data: bytes, options: RoamingOptions | None = None) -> tuple[Decoded, list[RawRecord]]:
    decoded = decode(io.BytesIO(data), options or RoamingOptions())
    return decoded, list(decoded.records)


def codes(decoded: Decoded, scope: Scope = Scope.FILE) -> list[str]:
    return [problem.code for problem in decoded.problems if problem.scope is scope]


GOOD = transfer_batch(gprs(charge(150), charge(40, "01")), gprs(charge(150), charge(30, "01")))


def test_an_event_is_resolved_by_the_tables_of_its_file() -> None:
    decoded, records = read(GOOD)
    assert not decoded.problems
    assert decoded.totals == {"call_events": "2", "charge": "300", "tax": "0", "discount": "0"}
    fields = records[0].fields
    expected = {
        "event_type": "gprsCall",
        "event_start_local": "20250301010203",
        "event_start_offset": "+0330",
        "event_start_utc": "2025-02-28T21:32:03Z",
        "imsi": "262011234567890",
        "duration_seconds": "61",
        "bytes_incoming": "1000",
        "bytes_outgoing": str(2**33),
        "charge_units": "150",
        "amount": "0.150",
        "currency": "XDR",
        "amount_local": "0.17430450",  # 0.150 x 1.16203
        "currency_local": "EUR",
        "gprsLocationInformation.gprsNetworkLocation.recEntity[0].recEntityId": "10.0.0.1",
        "gprsBasicCallInformation.gprsDestination.accessPointNameNI": "iot.example",
    }
    assert {name: fields.get(name) for name in expected} == expected


def test_the_declared_currency_of_a_file_replaces_sdr() -> None:
    _, records = read(transfer_batch(gprs(charge(150)), currency=leaf(210, "USD")))
    assert records[0].fields["currency"] == "USD"


def test_without_an_exchange_rate_code_nothing_is_converted() -> None:
    _, records = read(transfer_batch(gprs(charge(150), rate_code=None)))
    assert records[0].fields["amount"] == "0.150"
    assert "amount_local" not in records[0].fields


def test_refunds_count_against_the_event_and_into_their_own_total() -> None:
    information = tlv(69, leaf(66, "C"), tlv(64, charge(150)))
    content = tlv(17, tlv(285, tlv(352, leaf(344, 1), tlv(70, information))))
    decoded, (record,) = read(transfer_batch(content, total=0))
    assert record.problem is None
    assert record.fields["charge_units"] == "-150"
    assert record.fields["amount"] == "-0.150"
    assert decoded.counted["charge_refund"] == "150"
    assert codes(decoded) == []


def test_a_message_has_one_charge_and_names_its_network_elements() -> None:
    message = tlv(
        433,
        leaf(439, 1),
        tlv(436, leaf(129, bytes.fromhex("262011234567890f")), leaf(128, bytes.fromhex("35" * 8))),
        tlv(185, leaf(184, 7)),
        tlv(447, leaf(16, "20250301010203"), leaf(232, 1)),
        leaf(105, 1),
        leaf(62, 30),
    )
    decoded, (record,) = read(transfer_batch(message, total=30))
    assert decoded.quarantine is None
    assert record.problem is None
    assert record.fields["recEntityCodeList[0].recEntityId"] == "10.0.0.1"
    assert record.fields["amount_local"] == "0.03486090"
    assert record.fields["imei"] == "3535353535353535"
    assert record.fields["event_start_utc"] == "2025-02-28T21:32:03Z"


def test_the_camel_fee_is_part_of_the_charge() -> None:
    call = tlv(9, tlv(57, leaf(105, 1), leaf(422, 25)))
    decoded, (record,) = read(transfer_batch(call, total=25))
    assert decoded.quarantine is None
    assert (record.fields["charge_units"], record.fields["amount"]) == ("25", "0.025")


def test_definite_and_indefinite_lengths_read_alike() -> None:
    other = transfer_batch(
        gprs(charge(150), charge(40, "01")), gprs(charge(150), charge(30, "01")), indefinite=True
    )
    assert other != GOOD
    assert [r.fields for r in read(other)[1]] == [r.fields for r in read(GOOD)[1]]


@pytest.mark.parametrize(
    ("data", "options", "code"),
    [
        (b"", RoamingOptions(), "empty"),
        (GOOD, RoamingOptions(max_bytes=100), "too_large"),
        (GOOD[:-1], RoamingOptions(), "length_overflow"),
        (GOOD + b"\0\0", RoamingOptions(), "trailing_bytes"),
        (GOOD + GOOD, RoamingOptions(), "trailing_bytes"),
        (b"hello, world", RoamingOptions(), "length_overflow"),
        (b"\x04\x02hi", RoamingOptions(), "unknown_schema"),
        (GOOD, RoamingOptions(file_name="NRAAAAABBBBB00042"), "schema_mismatch"),
        (GOOD, RoamingOptions(schema="rap"), "schema_mismatch"),
        (transfer_batch(gprs(charge(150)), declared=2), RoamingOptions(), "control_total_mismatch"),
        (transfer_batch(gprs(charge(150)), total=151), RoamingOptions(), "control_total_mismatch"),
        (GOOD.replace(leaf(189, 12), leaf(189, 13)), RoamingOptions(), "unsupported_release"),
        (b"\x61\x80" * 500, RoamingOptions(), "too_deep"),
    ],
)
def test_a_file_that_cannot_be_trusted_is_quarantined(
    data: bytes, options: RoamingOptions, code: str
) -> None:
    decoded, _ = read(data, options)
    assert decoded.quarantine is not None
    assert code in codes(decoded)


def test_what_a_general_decoder_drops_rejects_the_event() -> None:
    location, used = tlv(117, tlv(118, tlv(185, leaf(184, 7)))), tlv(121, leaf(250, 5))
    wrong_order = tlv(14, used, location)
    unknown_last = tlv(14, location, used, leaf(3000, "x"))
    unknown_kind = tlv(3000, used)
    decoded, records = read(
        transfer_batch(gprs(charge(150)), wrong_order, unknown_last, unknown_kind, total=150)
    )
    assert [r.problem and r.problem.code for r in records] == [
        None,
        "unaccounted_elements",
        "unaccounted_elements",
        "unknown_element",
    ]
    assert records[1].raw_text == wrong_order.hex()
    assert decoded.quarantine is None


def test_a_code_that_no_table_explains_rejects_the_event() -> None:
    _, records = read(transfer_batch(gprs(charge(150), rate_code=9)))
    assert records[0].problem is not None
    assert records[0].problem.code == "unresolved_code"


def test_an_impossible_time_rejects_the_event() -> None:
    _, records = read(transfer_batch(gprs(charge(150), start="20250230010203")))
    assert records[0].problem is not None
    assert records[0].problem.code == "bad_timestamp"


def nrtrde(*events: bytes, declared: int | None = None) -> bytes:
    return tlv(
        1,
        leaf(41, 2), leaf(37, 1), leaf(38, "AAAAA"), leaf(36, "BBBBB"), leaf(39, "0000007"),
        leaf(31, "20250301120000"), leaf(45, "+0100"),
        tlv(2, *events),
        leaf(20, len(events) if declared is None else declared),
    )  # fmt: skip


NRTRDE_EVENTS = (
    tlv(3, leaf(34, bytes.fromhex("262011234567890f")), leaf(21, "20250301110000"),
        leaf(45, "+0100"), leaf(19, 43), leaf(24, 0), tlv(46, leaf(43, "11")),
        leaf(27, "495211000000"), leaf(35, "MSC1"), leaf(25, 42)),
    tlv(4, leaf(34, bytes.fromhex("262011234567890f")), leaf(21, "20250301110001"),
        leaf(45, "+0100"), leaf(19, 0), leaf(24, 0), tlv(46, leaf(43, "21"))),
    tlv(5, leaf(34, bytes.fromhex("262011234567890f")), leaf(21, "20250301110002"),
        leaf(45, "-0930"), leaf(19, 3600), leaf(24, 0), leaf(16, "iot.example"),
        leaf(28, 42_424_242), leaf(29, 84_848_484), leaf(25, 2)),
)  # fmt: skip


def test_nrtrde_shares_its_outer_tag_with_tap_and_is_told_apart() -> None:
    for options in (RoamingOptions(), RoamingOptions(file_name="/in/NRAAAAABBBBB0000007")):
        decoded, records = read(nrtrde(*NRTRDE_EVENTS), options)
        assert not decoded.problems
        assert decoded.header["file_type"] == "nrtrde"
        assert [r.fields["event_type"] for r in records] == ["moc", "mtc", "gprs"]
        assert records[0].fields["serviceCode.teleServiceCode"] == "11"
        assert records[0].fields["charge_units"] == "42"
        assert records[2].fields["event_start_utc"] == "2025-03-01T20:30:02Z"
        assert records[2].fields["bytes_outgoing"] == "84848484"


def test_nrtrde_events_are_counted() -> None:
    decoded, records = read(nrtrde(*NRTRDE_EVENTS, declared=10))
    assert codes(decoded) == ["control_total_mismatch"]
    assert len(records) == 3


def test_returns_carry_the_event_that_was_refused() -> None:
    stamp = (leaf(16, "20250301120000"), leaf(231, "+0000"))
    control = tlv(537, leaf(196, "AAAAA"), leaf(182, "BBBBB"), leaf(181, "00001"),
                  tlv(526, *stamp), tlv(525, *stamp),
                  leaf(201, 3), leaf(189, 12), leaf(544, 1), leaf(543, 5))  # fmt: skip
    severe = tlv(540, leaf(109, "00042"), gprs(charge(150)), tlv(520, tlv(521, leaf(519, 20))))
    missing = tlv(538, leaf(532, "00001"), leaf(518, "00003"))
    audit = tlv(541, leaf(533, 150), leaf(528, 2))
    for name in ("", "RCAAAAABBBBB00001"):
        decoded, records = read(
            tlv(534, control, tlv(536, missing, severe), audit), RoamingOptions(file_name=name)
        )
        assert not decoded.problems
        assert [record.problem for record in records] == [None, None]
        assert [r.fields["event_type"] for r in records] == ["missingReturn", "severeReturn"]
        assert records[0].fields["startMissingSeqNumber"] == "00001"
        assert records[1].fields["imsi"] == "262011234567890"
        assert records[1].fields["errorDetail[0].errorCode"] == "20"


def test_files_can_be_read_side_by_side() -> None:
    two = [decode(io.BytesIO(data), RoamingOptions()) for data in (GOOD, nrtrde(*NRTRDE_EVENTS))]
    pairs = list(zip(two[0].records, two[1].records, strict=False))
    assert [(a.fields["event_type"], b.fields["event_type"]) for a, b in pairs] == [
        ("gprsCall", "moc"),
        ("gprsCall", "mtc"),
    ]


def test_the_generated_grammar_is_that_of_its_source(tmp_path: Path) -> None:
    folder = Path(nrtrde_0201.__file__).parent
    made = tmp_path / "made.py"
    script = Path(sys.executable).with_name("pycrate_asn1compile.py")
    source = str(folder / "nrtrde_0201.asn")
    command = [sys.executable, str(script), "-i", source, "-o", str(made.with_suffix(""))]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    body = made.read_text().partition("from pycrate_asn1rt")[2]
    assert (folder / "nrtrde_0201.py").read_text().partition("from pycrate_asn1rt")[2] == body


def test_records_become_batches_with_their_findings() -> None:
    data = transfer_batch(gprs(charge(150)), gprs(charge(150), rate_code=9))
    decoded = decode(io.BytesIO(data), RoamingOptions())
    (batch,) = record_batches(decoded, 17, ["imsi", "amount", "no such field"])
    rows = batch.to_pylist()
    assert rows[0]["cells"] == ["262011234567890", "0.150", None]
    assert (rows[0]["fault_code"], rows[1]["fault_code"]) == (None, "unresolved_code")
    assert [row["file_key"] for row in rows] == [17, 17]


# ---------------------------------------------------------------- real files


@pytest.fixture(scope="module")
def tap3(shared: Path) -> Path:
    return shared / "feeds" / "tap3"


FINDINGS = {
    "asn1c_sample-DataInterChange-1.ber": (5, ["control_total_missing"]),
    "deep_invalid.ber": (0, ["trailing_bytes", "length_overflow"]),
    "length_overflow.ber": (0, ["length_overflow"]),
    "rap_ack.ber": (0, []),
    "rap_mini.ber": (0, ["missing_element", "missing_element", "control_total_missing"]),
    "tap_3_12_trailing_eoc_invalid.ber": (4, ["trailing_bytes", "control_total_mismatch"]),
    "tap_3_12_valid.ber": (4, ["control_total_mismatch"]),
    "tap_3_12_valid_most_indef.ber": (4, ["control_total_mismatch"]),
    "tap_3_12_valid_some_cdr_indefinite.ber": (4, ["control_total_mismatch"]),
    "tap_notification.ber": (0, []),
}


def test_every_real_file_gives_its_records_or_its_reasons(tap3: Path) -> None:
    assert {path.name for path in tap3.glob("*.ber")} == FINDINGS.keys()
    for name, (count, expected) in FINDINGS.items():
        decoded, records = read((tap3 / name).read_bytes())
        assert (len(records), codes(decoded)) == (count, expected), name
        assert all(record.problem is None for record in records), name


def _oracle(node: ElementTree.Element) -> list[tuple[str, str]]:
    """Leaves of the reference decode, in order, by the names of their types."""
    return [(element.tag, element.text or "") for element in node.iter() if not len(element)]


def _decoded_leaves(fields: dict[str, str | None], own: int) -> list[tuple[str, str]]:
    """The first ``own`` delivered leaves of a record: names capitalised as types are."""
    delivered = [
        (path, value)
        for path, value in fields.items()
        if "@" not in path and path not in ("event_type", "file_type")
    ][:own]
    leaves = []
    for path, value in delivered:
        name = path.rpartition(".")[2].partition("[")[0]
        name = "recEntityCode" if name == "recEntity" else name
        leaves.append((name[0].upper() + name[1:], value or ""))
    return leaves


def test_every_field_is_that_of_the_reference_decode(tap3: Path) -> None:
    root = ElementTree.parse(tap3 / "tap_3_12_valid.pretty.xml").getroot()
    decoded, records = read((tap3 / "tap_3_12_valid.ber").read_bytes())
    events = root.find("CallEventDetailList")
    assert events is not None
    assert len(events) == len(records)
    for event, record in zip(events, records, strict=True):
        expected = _oracle(event)
        assert _decoded_leaves(dict(record.fields), len(expected)) == expected
    root.remove(events)
    expected = _oracle(root)
    assert _decoded_leaves(decoded.header, len(expected)) == expected


@pytest.mark.parametrize("name", ["rap_mini", "tap_notification"])
def test_headers_are_those_of_the_reference_decode(tap3: Path, name: str) -> None:
    root = ElementTree.parse(tap3 / f"{name}.xml").getroot()
    decoded, _ = read((tap3 / f"{name}.ber").read_bytes())
    expected = sorted(value for _, value in _oracle(root))
    del decoded.header["file_type"]
    assert sorted(value or "" for value in decoded.header.values()) == expected


def test_real_files_with_other_lengths_give_the_same_records(tap3: Path) -> None:
    reference = [r.fields for r in read((tap3 / "tap_3_12_valid.ber").read_bytes())[1]]
    for name in ("tap_3_12_valid_most_indef.ber", "tap_3_12_valid_some_cdr_indefinite.ber"):
        assert [r.fields for r in read((tap3 / name).read_bytes())[1]] == reference, name


def test_amounts_of_the_real_file(tap3: Path) -> None:
    decoded, records = read((tap3 / "tap_3_12_valid.ber").read_bytes(), COUNT_ONLY)
    assert decoded.quarantine is None
    assert [r.fields.get("amount") for r in records] == ["2.300", "2.300", "66.600", None]
    assert decoded.counted["charge"] == "71200"
    starts = sorted(r.fields["event_start_utc"] or "" for r in records)
    assert (starts[0], starts[-1]) == ("2014-03-01T12:03:42Z", "2014-03-02T13:08:00Z")


# ---------------------------------------------------------------- damage


def _nothing_is_lost(data: bytes, options: RoamingOptions) -> None:
    decoded, records = read(data, options)
    if decoded.quarantine is None and "call_events" in decoded.totals:
        assert len(records) == int(decoded.totals["call_events"])
        for record in records:
            assert record.problem is not None or record.fields.get("event_type")


def _options() -> list[RoamingOptions]:
    return [COUNT_ONLY, replace(COUNT_ONLY, schema="nrtrde"), RoamingOptions(schema="tap")]


@pytest.mark.parametrize("data", [GOOD, nrtrde(*NRTRDE_EVENTS)], ids=["tap", "nrtrde"])
def test_a_file_cut_off_anywhere_is_quarantined(data: bytes) -> None:
    for length in range(0, len(data), 3):
        decoded, _ = read(data[:length])
        assert decoded.quarantine is not None, length


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damage_never_crashes_and_never_loses_an_event(data: st.DataObject) -> None:
    original = data.draw(st.sampled_from([GOOD, nrtrde(*NRTRDE_EVENTS)]))
    start = data.draw(st.integers(0, len(original) - 1))
    size = data.draw(st.integers(0, 40))
    change = data.draw(st.sampled_from(["flip", "drop", "repeat", "replace"]))
    piece = original[start : start + size]
    if change == "flip":
        piece, size = bytes([original[start] ^ (1 << data.draw(st.integers(0, 7)))]), 1
    elif change == "drop":
        piece = b""
    elif change == "repeat":
        piece = piece * 2
    else:
        piece = data.draw(st.binary(max_size=40))
    _nothing_is_lost(original[:start] + piece + original[start + size :], COUNT_ONLY)


def test_damaged_real_files_never_crash(tap3: Path) -> None:
    chance = random.Random(20_260_101)
    for path in sorted(tap3.glob("*.ber")):
        original = path.read_bytes()
        for _ in range(60):
            damaged = bytearray(original)
            for _ in range(chance.randint(1, 3)):
                damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
            if chance.random() < 0.3:
                start = chance.randrange(len(damaged))
                damaged[start:start] = damaged[start : start + chance.randrange(20)]
            for options in _options():
                _nothing_is_lost(bytes(damaged), options)
