"""Workbooks: true row numbers, exact texts, and numbers that Excel has already damaged."""

from __future__ import annotations

import io
import random
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest
import xlsxwriter

from iotbill_pipelines.compute.decoders import Decoded, RawRecord
from iotbill_pipelines.compute.decoders.workbooks import SheetOptions, column_letters, decode
from iotbill_pipelines.config.workbook_cells import cell_text


def read(data: bytes, options: SheetOptions | None = None) -> tuple[Decoded, list[RawRecord]]:
    decoded = decode(io.BytesIO(data), options or SheetOptions())
    return decoded, list(decoded.records)


def workbook(**sheets: dict[tuple[int, int], Any]) -> bytes:
    buffer = io.BytesIO()
    with xlsxwriter.Workbook(buffer, {"in_memory": True}) as book:
        for name, cells in sheets.items():
            sheet = book.add_worksheet(name)
            for (row, column), value in cells.items():
                sheet.write(row, column, value)
    return buffer.getvalue()


def test_rows_keep_their_numbers_and_blank_ones_are_no_records() -> None:
    data = workbook(
        Rates={(3, 1): "Prefix", (3, 2): " Price ", (5, 1): 49151, (5, 2): 0.1 + 0.2, (5, 3): "x"}
    )
    decoded, (record,) = read(data, SheetOptions(header_has=("Prefix", "Price")))
    assert not decoded.problems
    assert record.line_no == 6
    assert record.fields == {"A": "", "Prefix": "49151", "Price": "0.3", "D": "x"}


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (5994165.0, "5994165"),
        (0.30000000000000004, "0.3"),
        (1e-9, "0.000000001"),
        (-0.0000125, "-0.0000125"),
        (123456789012345.0, "123456789012345"),
        (100.0, "100"),
        (True, "TRUE"),
        (7, "7"),
        (" as is ", " as is "),
        (None, ""),
        (date(2025, 3, 1), "2025-03-01"),
        (datetime(2025, 3, 1, 12, 30), "2025-03-01 12:30:00"),  # noqa: DTZ001 - sheets have no zone
        (time(1, 2, 3), "01:02:03"),
        (timedelta(days=1, hours=2, seconds=5), "26:00:05"),
    ],
)
def test_a_cell_has_one_exact_text(cell: object, text: str) -> None:
    assert cell_text(cell) == text


def test_identifiers_typed_as_numbers_reject_their_row() -> None:
    data = workbook(S={(0, 0): "iccid", (1, 0): 8988303000000000001, (2, 0): "8988303000000000001"})
    _, records = read(data)
    assert [r.problem.code if r.problem else None for r in records] == ["imprecise_number", None]
    assert records[1].fields["iccid"] == "8988303000000000001"


def test_sheets_are_chosen_by_name_and_others_are_mentioned() -> None:
    data = workbook(One={(0, 0): "a", (1, 0): 1}, Two={(0, 0): "b", (1, 0): 2})
    decoded, (record,) = read(data, SheetOptions(sheet="Two"))
    assert record.fields == {"b": "2"}
    assert [problem.code for problem in decoded.problems] == ["other_sheets"]
    assert decoded.quarantine is None


@pytest.mark.parametrize(
    ("data", "options", "code"),
    [
        (b"", SheetOptions(), "empty"),
        (b"PK\x03\x04 not a zip", SheetOptions(), "unreadable"),
        (workbook(S={(0, 0): "a"}), SheetOptions(sheet="T"), "no_such_sheet"),
        (workbook(S={(0, 0): "a"}), SheetOptions(header_row=5), "no_header"),
        (workbook(S={(0, 0): "a"}), SheetOptions(header_has=("b",)), "no_header"),
        (workbook(S={(0, 0): "a", (0, 1): "a "}), SheetOptions(), "duplicate_column"),
        (workbook(S={(0, 0): "a"}), SheetOptions(max_bytes=100), "too_large"),
        (workbook(S={(5000, 5000): "a"}), SheetOptions(max_cells=1000), "too_large"),
        (workbook(S={(0, 0): "a" * 30_000}), SheetOptions(max_bytes=20_000), "too_large"),
    ],
)
def test_a_workbook_that_cannot_be_used_is_quarantined(
    data: bytes, options: SheetOptions, code: str
) -> None:
    decoded, records = read(data, options)
    assert decoded.quarantine is not None
    assert (decoded.quarantine.code, records) == (code, [])


def test_a_workbook_that_asks_for_too_much_memory_ends_no_run() -> None:
    corner = workbook(S={(0, 0): "a", (1_048_575, 16_383): 1})
    decoded, records = read(corner, SheetOptions(max_memory_bytes=1 << 30))
    assert decoded.quarantine is not None
    assert (decoded.quarantine.code, records) == ("unreadable", [])


def test_columns_are_lettered_as_in_excel() -> None:
    assert [column_letters(n) for n in (0, 25, 26, 701, 702)] == ["A", "Z", "AA", "ZZ", "AAA"]


@pytest.fixture(scope="module")
def rate_card(shared: Path) -> bytes:
    return (shared / "feeds" / "rates" / "jbilling_RateCard.xls").read_bytes()


def test_the_rate_card_of_excel_97(rate_card: bytes) -> None:
    decoded, records = read(rate_card, SheetOptions(header_has=("Digits", "Price")))
    assert not decoded.problems
    assert decoded.header == {"sheet_header_row": "10"}
    assert (len(records), records[0].line_no, records[-1].line_no) == (1764, 11, 1774)
    assert records[0].fields == {
        "A": "", "Call Type (item Id)": "2800", "Digits": "5994165", "Price": "0.28", "Group": "1",
    }  # fmt: skip
    assert all((record.fields["Digits"] or "x").isdigit() for record in records)
    assert max(len(record.fields["Price"] or "") for record in records) <= 6


def test_a_damaged_rate_card_never_crashes(rate_card: bytes) -> None:
    chance = random.Random(20_260_104)
    for _ in range(25):
        damaged = bytearray(rate_card)
        for _ in range(20):
            damaged[chance.randrange(2_000)] = chance.randrange(256)
        read(bytes(damaged), SheetOptions(header_has=("Digits", "Price")))
    for length in (1, 100, 512, 5_000, 100_000, 140_000):
        decoded, _ = read(rate_card[:length], SheetOptions(header_has=("Digits", "Price")))
        assert decoded.quarantine is not None, length
