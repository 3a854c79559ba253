"""Zip and gzip containers: members are listed, everything harmful is a finding."""

from __future__ import annotations

import gzip
import io
import random
import stat
import struct
import zipfile
from pathlib import Path

import pytest

from iotbill_pipelines.compute.decoders import DecodeError
from iotbill_pipelines.compute.decoders.containers import ArchiveLimits, members, members_of

LIMITS = ArchiveLimits(max_members=20, max_bytes=8 << 20, max_ratio=100)


def zipped(*entries: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return buffer.getvalue()


def read(
    folder: Path, data: bytes, limits: ArchiveLimits = LIMITS, name: str = "x.zip"
) -> tuple[dict[str, bytes], list[str]]:
    path = folder / name
    path.write_bytes(data)
    contents: dict[str, bytes] = {}
    with members(path, limits) as found:
        codes = [problem.code for problem in found.problems]
        for member in found:
            try:
                with member.open() as stream:
                    contents[member.name] = stream.read()
            except DecodeError as error:
                codes.append(error.problem.code)
    return contents, codes


def test_members_are_read_and_folders_are_not(tmp_path: Path) -> None:
    data = zipped(("in/", b""), ("in/a.csv", b"1"), ("b.csv", b"2"))
    assert read(tmp_path, data) == ({"in/a.csv": b"1", "b.csv": b"2"}, [])


def test_a_source_that_cannot_seek_is_read_all_the_same() -> None:
    data = zipped(("a.csv", b"1"), ("b.csv", b"2"))

    class OneWay(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *_where: int) -> int:
            raise io.UnsupportedOperation("seek")

    with members_of(lambda: OneWay(data), "x.zip", len(data), LIMITS) as found:
        assert [(m.name, m.open().read()) for m in found] == [("a.csv", b"1"), ("b.csv", b"2")]
        assert [m.open().read() for m in found] == [b"1", b"2"]


def test_reading_a_member_again_does_not_use_up_the_limit(tmp_path: Path) -> None:
    big = random.Random(1).randbytes(3 << 20)
    (tmp_path / "x.zip").write_bytes(zipped(("a", big), ("b", big)))
    with members(tmp_path / "x.zip", LIMITS) as found:
        for _ in range(3):
            assert [member.open().read() == big for member in found] == [True, True]


def test_a_plain_file_is_its_own_member(tmp_path: Path) -> None:
    assert read(tmp_path, b"a,b\n", name="x.csv") == ({"x.csv": b"a,b\n"}, [])
    assert read(tmp_path, b"", name="x.csv") == ({"x.csv": b""}, [])


def test_gzip_of_several_parts_is_one_member(tmp_path: Path) -> None:
    data = gzip.compress(b"a") + gzip.compress(b"b")
    assert read(tmp_path, data, name="x.csv.gz") == ({"x.csv": b"ab"}, [])


def test_a_workbook_is_a_file_though_it_is_zipped(tmp_path: Path) -> None:
    workbook = zipped(("[Content_Types].xml", b"<Types/>"), ("xl/workbook.xml", b"<w/>"))
    assert read(tmp_path, workbook, name="x.xlsx") == ({"x.xlsx": workbook}, [])
    inside = zipped(("in.xlsx", workbook))
    assert read(tmp_path, inside) == ({"in.xlsx": workbook}, [])


def test_containers_inside_need_a_declared_depth(tmp_path: Path) -> None:
    inner = zipped(("a.csv", b"1"))
    data = zipped(("in.zip", inner), ("c.csv.gz", gzip.compress(b"3")))
    assert read(tmp_path, data) == ({}, ["nested", "nested"])
    deeper = ArchiveLimits(max_depth=2)
    contents, codes = read(tmp_path, data, deeper)
    assert (contents, codes) == ({"in.zip!a.csv": b"1", "c.csv": b"3"}, [])
    assert read(tmp_path, zipped(("o.zip", data)), deeper)[1] == ["nested", "nested"]


@pytest.mark.parametrize(
    "name",
    ["../a", "in/../../a", "/etc/a", "C:\\a", "in\\a", "a:b", "./a", "in//a", "a\nb", "a\u202eb"],
)
def test_names_that_point_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    contents, codes = read(tmp_path, zipped((name, b"1"), ("good.csv", b"2")))
    assert (contents, codes) == ({"good.csv": b"2"}, ["unsafe_name"])


def test_links_and_second_members_of_a_name_are_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    assert read(tmp_path, zipped((link, b"/etc/passwd")))[1] == ["not_a_file"]
    with pytest.warns(UserWarning, match="Duplicate"):
        twice = zipped(("a.csv", b"1"), ("a.csv", b"2"))
    assert read(tmp_path, twice)[1] == ["duplicate_name"]
    assert read(tmp_path, zipped(("a.csv", b"1"), ("A.CSV", b"2")))[1] == ["duplicate_name"]


def test_encrypted_members_are_refused(tmp_path: Path) -> None:
    data = bytearray(zipped(("a.csv", b"1")))
    for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + at] |= 1
    assert read(tmp_path, bytes(data)) == ({}, ["encrypted"])


def test_bombs_are_refused_by_what_they_declare_and_by_what_comes_out(tmp_path: Path) -> None:
    assert read(tmp_path, zipped(("a", b"0" * (4 << 20))))[1] == ["bomb"]
    big = random.Random(1).randbytes(3 << 19).hex().encode()
    assert read(tmp_path, zipped(("a", big), ("b", big), ("c", big)))[1] == ["bomb"]
    assert read(tmp_path, bytes(9 << 20))[1] == ["too_large"]
    liar = bytearray(zipped(("a", b"0" * (4 << 20))))
    # The directory says 1000 bytes; the member itself unpacks to four million.
    struct.pack_into("<L", liar, liar.index(b"PK\x01\x02") + 24, 1000)
    struct.pack_into("<L", liar, liar.index(b"PK\x03\x04") + 22, 1000)
    contents, codes = read(tmp_path, bytes(liar))
    assert (contents, codes) == ({}, ["corrupt"])
    packed = gzip.compress(b"0" * (4 << 20))
    assert read(tmp_path, packed, name="x.gz") == ({}, ["bomb"])
    assert read(tmp_path, zipped(*((f"m{i}", b"") for i in range(30))))[1] == ["too_many_members"]


def test_overlapping_members_are_refused(tmp_path: Path) -> None:
    data = bytearray(zipped(("a", b"11111111"), ("b", b"22222222")))
    second = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 4)
    struct.pack_into("<L", data, second + 42, 0)  # b stands where a stands
    assert "overlap" in read(tmp_path, bytes(data))[1]


def test_data_that_the_directory_lost_are_found(tmp_path: Path) -> None:
    first, second = zipped(("a.csv", b"1" * 50)), zipped(("b.csv", b"2" * 50))
    contents, codes = read(tmp_path, first + second)
    assert codes == ["hidden_data"]
    assert contents == {"b.csv": b"2" * 50}


def test_damage_is_a_finding_and_never_other_contents(tmp_path: Path) -> None:
    original = zipped(("a.csv", b"one,two\n" * 40), ("b.csv", b"three\n" * 40))
    whole = {"a.csv": b"one,two\n" * 40, "b.csv": b"three\n" * 40}
    chance = random.Random(20_260_103)
    for _ in range(400):
        damaged = bytearray(original)
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        contents, codes = read(tmp_path, bytes(damaged))
        for data in contents.values():
            assert data in whole.values() or codes
        assert codes or len(contents) == 2
    for length in range(4, len(original), 7):
        assert read(tmp_path, original[:length])[1], length


def test_a_damaged_gzip_file_is_a_finding(tmp_path: Path) -> None:
    original = gzip.compress(b"one,two\n" * 400, mtime=0)
    for length in range(3, len(original), 5):
        assert read(tmp_path, original[:length], name="x.gz")[1] == ["corrupt"], length
    assert read(tmp_path, original + b"more", name="x.gz")[1] == ["corrupt"]
