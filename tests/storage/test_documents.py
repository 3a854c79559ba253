"""Files for people: nothing live in them, exact numbers, the same bytes again, whole or absent."""

from __future__ import annotations

import csv
import time
import zipfile
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iotbill_pipelines.config.workbook_cells import safe_text
from iotbill_pipelines.storage.documents import (
    ColumnFormat,
    DocumentError,
    Sheet,
    document_name,
    write_bytes,
    write_csv,
    write_workbook,
)

CREATED = datetime(2026, 11, 3, tzinfo=UTC)
ATTACKS = [
    "=cmd|' /C calc'!A0",
    "+1+cmd|'x'!A0",
    "-2+3+cmd|'x'!A0",
    "@SUM(1)",
    "\t=1+1",
    "\r=1+1",
    "\n=1+1",
    "  =1+1",
    "\u200b=1+1",
    "＝1+1",
    '=HYPERLINK("http://x","y")',
    "=1+1",
]


@pytest.mark.parametrize("text", ATTACKS)
def test_formula_text_is_not_live_in_csv_nor_xlsx(tmp_path: Path, text: str) -> None:
    write_csv(tmp_path / "a.csv", [text], [[text]])
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as handle:
        assert {cell for row in csv.reader(handle) for cell in row} == {"'" + text}
    sheet = Sheet("s", [ColumnFormat(text)], [[text]], notes=[text])
    write_workbook(tmp_path / "a.xlsx", [sheet], CREATED)
    assert b"<f>" not in zipfile.ZipFile(tmp_path / "a.xlsx").read("xl/worksheets/sheet1.xml")
    for row in openpyxl.load_workbook(tmp_path / "a.xlsx").active.iter_rows():
        for cell in row:
            assert cell.data_type != "f"
            assert cell.value is None or str(cell.value).startswith("'")


@pytest.mark.parametrize("text", ["+4917612345678", "-12.50", "8944 5000", "a=b", "", "1-2", "N/A"])
def test_harmless_text_stays_as_it_is(text: str) -> None:
    assert safe_text(text) == text


def test_numbers_stay_numbers_and_exact(tmp_path: Path) -> None:
    rows = [[Decimal("-1234567890123.45"), -7, date(2026, 10, 31), "x", None, Decimal("1E+3")]]
    write_csv(tmp_path / "a.csv", list("abcdef"), rows)
    assert (tmp_path / "a.csv").read_bytes() == (
        b"a,b,c,d,e,f\r\n-1234567890123.45,-7,2026-10-31,x,,1000\r\n"
    )
    columns = [
        ColumnFormat("a", "money", "EUR", total=True),
        ColumnFormat("b", "integer"),
        ColumnFormat("c", "date"),
        ColumnFormat("d"),
        ColumnFormat("e"),
        ColumnFormat("f", "money", "JPY"),
    ]
    write_workbook(tmp_path / "a.xlsx", [Sheet("S", columns, rows * 2, totals=True)], CREATED)
    xml = zipfile.ZipFile(tmp_path / "a.xlsx").read("xl/worksheets/sheet1.xml")
    assert b"<v>-1234567890123.45</v>" in xml
    assert b"<v>-2469135780246.9</v>" in xml
    page = openpyxl.load_workbook(tmp_path / "a.xlsx")["S"]
    assert page["A2"].number_format.startswith('#,##0.00" EUR"')
    assert page["F2"].number_format.startswith('#,##0" JPY"')
    assert (page.freeze_panes, page.auto_filter.ref) == ("A2", "A1:F3")
    with pytest.raises(DocumentError, match=r"row 1: a float \(1.5\) cannot be written"):
        write_csv(tmp_path / "b.csv", ["a"], [[1.5]])  # type: ignore[list-item]
    with pytest.raises(DocumentError, match="row 1: 2 values for 1 columns"):
        write_csv(tmp_path / "b.csv", ["a"], [[1, 2]])
    assert not (tmp_path / "b.csv").exists()


def test_the_same_content_has_the_same_bytes(tmp_path: Path) -> None:
    sheets = [Sheet("One", [ColumnFormat("a")], [["x"]]), Sheet("Two", [ColumnFormat("b")], [])]
    first = write_workbook(tmp_path / "1.xlsx", sheets, CREATED)
    time.sleep(2.1)  # a ZIP archive notes times in steps of two seconds
    assert write_workbook(tmp_path / "2.xlsx", sheets, CREATED) == first
    assert (tmp_path / "1.xlsx").read_bytes() == (tmp_path / "2.xlsx").read_bytes()
    with pytest.raises(DocumentError, match="two sheets are called 'One'"):
        write_workbook(tmp_path / "3.xlsx", [sheets[0], Sheet("one", [], [])], CREATED)


def test_numbers_have_room_and_long_text_is_wrapped_where_people_read(tmp_path: Path) -> None:
    columns = [ColumnFormat("Amount", "money", "EUR", total=True), ColumnFormat("Why")]
    rows = [[Decimal("1.50"), "because " * 20], [None, "short"]]
    for for_people in (True, False):
        sheet = Sheet("S", columns, rows, totals=True, for_people=for_people)
        write_workbook(tmp_path / "a.xlsx", [sheet], CREATED)
        page = openpyxl.load_workbook(tmp_path / "a.xlsx")["S"]
        assert page["A2"].alignment.indent == page["A4"].alignment.indent == for_people
        assert bool(page["B2"].alignment.wrap_text) == for_people
        assert not page["B3"].alignment.wrap_text
        assert page.row_dimensions[2].height == (45 if for_people else None)


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.txt"
    write_bytes(path, b"old")

    def failing() -> object:
        yield ["fine"]
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_csv(path, ["a"], failing())  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in path.parent.iterdir()] == ["a.txt"]


@given(st.text(max_size=400))
def test_any_text_gives_a_file_name_inside_its_folder(text: str) -> None:
    name = document_name(text)
    assert name
    assert len(name.encode()) <= 150
    assert (Path("/folder") / name).parent == Path("/folder")
    assert name not in (".", "..")
    assert not name.startswith((".", "-")) or name[0] == "-"


@pytest.mark.parametrize(
    ("one", "other"),
    [("Müller", "Möller"), ("A/B", "A_B"), ("A:", "A?"), ("a..b", "a.b"), ("", ".")],
)
def test_two_groups_never_share_a_file(one: str, other: str) -> None:
    names = {document_name(f"customer_{group}_2026-10.xlsx") for group in (one, other)}
    assert len(names) == 2 and all(name.endswith(".xlsx") for name in names)
    assert document_name(one) != document_name(other)


@pytest.mark.parametrize("name", ["customer_fleet_2026-10.xlsx", "Acme B.V. (NL)", "NL01-2026-10"])
def test_text_that_is_a_file_name_is_kept(name: str) -> None:
    assert document_name(name) == name
