"""XML records: paths, lines and raw text; attacks are refused; memory stays bounded."""

from __future__ import annotations

import io
import random
import tracemalloc
from pathlib import Path

import pytest

from iotbill_pipelines.compute.decoders import Decoded, RawRecord, Scope
from iotbill_pipelines.compute.decoders.xml_records import XmlOptions, decode


def read(data: bytes, options: XmlOptions | None = None) -> tuple[Decoded, list[RawRecord]]:
    decoded = decode(io.BytesIO(data), options or XmlOptions("a/r"))
    return decoded, list(decoded.records)


def codes(decoded: Decoded) -> list[str]:
    return [problem.code for problem in decoded.problems]


def test_fields_are_paths_and_repeats_are_numbered() -> None:
    decoded, (record,) = read(
        b'<a v="1">\n <h><d>2025</d></h>\n'
        b' <r id="7">\n  <p><q>1</q><q>2</q></p><e/>mixed\n </r>\n</a>',
        XmlOptions("a/r", inherit=("a@v", "a.h.d", "a.missing")),
    )
    assert not decoded.problems
    assert record.line_no == 3
    assert record.raw_text == '<r id="7">\n  <p><q>1</q><q>2</q></p><e/>mixed\n </r>'
    assert record.fields == {
        "@id": "7",
        "p.q": "1",
        "p.q[1]": "2",
        "e": "",
        "#text": "\n  mixed\n ",
        "header.a@v": "1",
        "header.a.h.d": "2025",
        "header.a.missing": None,
    }


def test_namespaces_are_named_by_the_options() -> None:
    data = b'<x:a xmlns:x="urn:1" xmlns="urn:2"><x:r x:k="v"><b>1</b></x:r></x:a>'
    named = XmlOptions("n:a/n:r", namespaces={"n": "urn:1", "": "urn:2"})
    assert read(data, named)[1][0].fields == {"@n:k": "v", "b": "1"}
    decoded, records = read(data, XmlOptions("a/r"))
    assert (records, codes(decoded)) == ([], ["no_records"])
    assert decoded.quarantine is None


def test_nil_is_no_value_and_empty_is_an_empty_one() -> None:
    data = (
        b'<a xmlns:i="http://www.w3.org/2001/XMLSchema-instance">'
        b'<r><p i:nil="true"/><q></q><s i:nil="false">1</s></r><r/></a>'
    )
    _, records = read(data)
    assert [record.fields for record in records] == [{"p": None, "q": "", "s": "1"}, {"#text": ""}]
    assert records[1].raw_text == "<r/>"


def test_two_elements_that_give_one_field_reject_the_record() -> None:
    _, (record,) = read(b"<a><r><p><q>1</q></p><p.q>2</p.q></r></a>")
    assert record.problem is not None
    assert record.problem.code == "ambiguous_field"


@pytest.mark.parametrize("encoding", ["iso-8859-1", "utf-8", "utf-16", "windows-1252"])
def test_encodings_are_those_the_file_declares(encoding: str) -> None:
    text = f'<?xml version="1.0" encoding="{encoding}"?>\n<a><r k="ü">\n é<b/></r></a>'
    _, (record,) = read(text.encode(encoding))
    assert record.fields == {"@k": "ü", "b": "", "#text": "\n é"}
    assert record.raw_text == '<r k="ü">\n é<b/></r>'
    assert record.line_no == 2


def test_an_encoding_can_be_overridden() -> None:
    data = '<?xml version="1.0" encoding="utf-8"?><a><r>é</r></a>'.encode("latin-1")
    assert codes(read(data)[0]) == ["malformed"]
    _, (record,) = read(data, XmlOptions("a/r", encoding="iso-8859-1"))
    assert (record.fields["#text"], record.raw_text) == ("é", "<r>é</r>")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty"),
        (b"plain text", "malformed"),
        (b"<a><r>1</r>", "malformed"),
        (b"<a><r>&unknown;</r></a>", "malformed"),
        (b'<!DOCTYPE a [<!ENTITY x "y">]><a><r>&x;</r></a>', "forbidden_entity"),
        (
            b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]><a><r>&x;</r></a>',
            "forbidden_entity",
        ),
        (b'<!DOCTYPE a [<!ENTITY % x SYSTEM "http://127.0.0.1/">%x;]><a/>', "forbidden_entity"),
        (b"<a>" * 1000, "too_deep"),
        (b"<a><r>" + b"<x>1</x>" * 200_000 + b"</r></a>", "record_too_large"),
        (b"<a><r k='" + b"x" * 3_000_000 + b"'/></a>", "record_too_large"),
        (b'<?xml version="1.0" encoding="no-such"?><a/>', "malformed"),
    ],
)
def test_attacks_and_damage_quarantine_the_file(data: bytes, code: str) -> None:
    decoded, _ = read(data)
    assert codes(decoded) == [code]
    assert decoded.problems[0].scope is Scope.FILE


def test_records_before_the_damage_are_handed_over() -> None:
    decoded, records = read(b"<a><r>1</r><r>2</r><r>3</a>")
    assert [record.fields["#text"] for record in records] == ["1", "2"]
    assert decoded.quarantine is not None


def test_a_long_file_takes_little_memory() -> None:
    class Endless(io.RawIOBase):
        pieces = 3_000

        def readable(self) -> bool:
            return True

        def read(self, size: int = -1) -> bytes:
            del size
            self.pieces -= 1
            if self.pieces < 0:
                return b"</a>" if self.pieces == -1 else b""
            start = b"<a>" if self.pieces == 2_999 else b""
            return start + b"<r><p>1</p><q>two words</q></r>\n" * 20

    tracemalloc.start()
    decoded = decode(Endless(), XmlOptions("a/r"))  # type: ignore[arg-type]
    count = sum(1 for _ in decoded.records)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (count, decoded.problems) == (60_000, [])
    assert peak < 3_000_000


def test_the_broadworks_file(shared: Path) -> None:
    data = (shared / "feeds" / "cdr" / "cgrates_broadworks_v19.xml").read_bytes()
    options = XmlOptions("broadWorksCDR/cdrData", inherit=("broadWorksCDR@version",))
    decoded, records = read(data, options)
    assert not decoded.problems
    assert [record.line_no for record in records] == [4, 15, 68, 121]
    assert [record.fields["headerModule.type"] for record in records] == [
        "Start", "Normal", "Normal", "End",
    ]  # fmt: skip
    call = records[1].fields
    assert call["basicModule.calledNumber"] == "+4915117174963"
    assert call["basicModule.answerTime"] == "20160419210006.813"
    assert call["header.broadWorksCDR@version"] == "19.0"
    place = "centrexModule.locationList.locationInformation.locationType"
    assert call[place] == "Primary Device"
    for record in records:
        first = data.decode("latin-1").splitlines()[record.line_no - 1]
        assert first.strip() == "<cdrData>"
        assert record.raw_text.endswith("</cdrData>")


def test_damage_of_the_broadworks_file_never_crashes(shared: Path) -> None:
    data = (shared / "feeds" / "cdr" / "cgrates_broadworks_v19.xml").read_bytes()
    options = XmlOptions("broadWorksCDR/cdrData")
    chance = random.Random(20_260_102)
    for length in range(0, len(data), 97):
        assert read(data[:length], options)[0].quarantine is not None
    for _ in range(150):
        damaged = bytearray(data)
        damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        decoded, records = read(bytes(damaged), options)
        assert decoded.problems or len(records) == 4 or b"cdrData" not in damaged
