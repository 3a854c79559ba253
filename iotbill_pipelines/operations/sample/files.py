"""Writing files whose bytes depend on nothing but their content."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import xlsxwriter

_CREATED = datetime.fromisoformat("2000-01-01")
"""Workbooks carry the time of their making; a fixed one keeps the bytes the same."""


def write_text(path: Path, lines: Iterable[str], newline: str = "\n") -> None:
    """Write UTF-8 lines; a name ending in ``.gz`` is compressed, without name or time inside."""
    data = "".join(line + newline for line in lines).encode()
    if path.suffix == ".gz":
        packed = io.BytesIO()
        with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=packed, mtime=0) as out:
            out.write(data)
        data = packed.getvalue()
    path.write_bytes(data)


def csv_line(values: Sequence[object]) -> str:
    """Return one CSV line with quotes where they are needed."""
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(["" if v is None else v for v in values])
    return out.getvalue()


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    write_text(path, [csv_line(header), *(csv_line(row) for row in rows)])


def write_xlsx(
    path: Path, sheet: str, header: Sequence[str], rows: Iterable[Sequence[object]]
) -> None:
    """Write one worksheet. Texts stay texts (never formulas); Decimals and ints become numbers."""
    with xlsxwriter.Workbook(path, {"in_memory": True, "strings_to_formulas": False}) as workbook:
        workbook.set_properties({"created": _CREATED})
        worksheet = workbook.add_worksheet(sheet)
        bold = workbook.add_format({"bold": True})
        for column, name in enumerate(header):
            worksheet.write_string(0, column, name, bold)
        worksheet.freeze_panes(1, 0)
        for number, row in enumerate(rows, 1):
            for column, value in enumerate(row):
                if isinstance(value, int | Decimal):
                    # A cell holds a double; up to 15 digits come back as they were written.
                    worksheet.write_number(number, column, value)
                elif value not in (None, ""):
                    worksheet.write_string(number, column, str(value))
