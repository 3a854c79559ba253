"""The only writer of CSV and XLSX files for people and ERPs.

Text that a spreadsheet would take for a formula is disarmed; numbers are written as numbers, exact
as given; the same content gives the same bytes, so that a re-export can be compared; a file appears
under its name whole or not at all, and never outside the folder it is meant for.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
import unicodedata
import uuid
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, Literal

from openpyxl import Workbook
from openpyxl.cell import WriteOnlyCell
from openpyxl.styles import Alignment, Font, PatternFill
from openpyxl.utils import get_column_letter
from openpyxl.worksheet.properties import PageSetupProperties

from iotbill_pipelines.config.workbook_cells import safe_text
from iotbill_pipelines.engine.money import minor_digits

Cell = str | int | Decimal | date | datetime | bool | None
"""What a document may hold. Binary fractions are refused: money and quantities are exact."""

_CELL_LIMIT = 32767
_ROW_LIMIT = 1_048_000
_EPOCH = (1980, 1, 1, 0, 0, 0)


class DocumentError(ValueError):
    """A document that cannot be written as asked; the message says what to change."""


@dataclass(frozen=True)
class ColumnFormat:
    """A column of a sheet.

    ``kind``: text, integer, money (with ``currency``: its decimals), rate (up to 12 decimals),
    percent, date, datetime (UTC). ``total`` adds the column up where the sheet has a total row.
    """

    title: str
    kind: Literal["text", "integer", "money", "rate", "percent", "date", "datetime"] = "text"
    currency: str | None = None
    width: int | None = None
    total: bool = False

    @property
    def number_format(self) -> str:
        if self.kind != "money":
            return _NUMBER_FORMATS.get(self.kind, "General")
        digits = minor_digits(self.currency) if self.currency else 2
        number = "#,##0" + ("." + "0" * digits if digits else "")
        unit = f'" {self.currency}"' if self.currency else ""
        return f"{number}{unit};[Red]-{number}{unit}"


_NUMBER_FORMATS = {
    "integer": "#,##0;[Red]-#,##0",
    "rate": "0.00##########",
    "percent": "0.0%",
    "date": "yyyy-mm-dd",
    "datetime": "yyyy-mm-dd hh:mm:ss",
}


@dataclass(frozen=True)
class Sheet:
    """A sheet: a titled table with frozen header and filter, notes above it, totals below.

    One that is for programs to read is set without looks, which may change: its bytes may not.
    """

    title: str
    columns: Sequence[ColumnFormat]
    rows: Iterable[Sequence[Cell]]
    totals: bool = False
    notes: Sequence[str] = field(default_factory=tuple)
    for_people: bool = True


def document_name(name: str) -> str:
    """Return a file name from any text: no separators, no leading dot, at most 150 bytes.

    Text that is a file name already is kept. Any other gets a digest of itself, so that two texts
    which differ only in what a file name may not hold are two names still.
    """
    text = unicodedata.normalize("NFKC", name)
    text = re.sub(r"[^\w.() +-]", "_", text, flags=re.ASCII).strip(" .")
    text = re.sub(r"\.{2,}", ".", text)
    if text.split(".")[0].upper() in {"CON", "PRN", "AUX", "NUL", "COM1", "LPT1"}:
        text = f"_{text}"
    if text and text == name and len(text) <= 150:
        return text
    stem, dot, suffix = text.rpartition(".")
    digest = hashlib.sha256(name.encode(errors="replace")).hexdigest()[:8]
    ending = f"{dot}{suffix[:20]}" if stem else ""
    return f"{(stem or suffix)[:120] or 'unnamed'}-{digest}{ending}"


def write_bytes(path: Path, content: bytes) -> str:
    """Write a file atomically; return its SHA-256."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name[:100]}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return hashlib.sha256(content).hexdigest()


def write_csv(
    path: Path,
    header: Sequence[str] | None,
    rows: Iterable[Sequence[Cell]],
    *,
    delimiter: str = ",",
    newline: str = "\r\n",
    byte_order_mark: bool = False,
) -> str:
    """Write a CSV file in UTF-8, without a header row if that is None; return its SHA-256.

    Numbers are plain digits with a point, dates ISO 8601, null an empty field. Raises DocumentError
    for a row of another length, or a value that is no :data:`Cell`.
    """
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, delimiter=delimiter, lineterminator=newline)
    width = None if header is None else len(header)
    if header is not None:
        writer.writerow([safe_text(title) for title in header])
    for number, row in enumerate(rows, 1):
        width = len(row) if width is None else width
        _check_row(path.name, number, row, width)
        writer.writerow([_csv_value(value, f"{path.name}, row {number}") for value in row])
    mark = "\ufeff" if byte_order_mark else ""
    return write_bytes(path, (mark + buffer.getvalue()).encode("utf-8"))


def write_workbook(path: Path, sheets: Sequence[Sheet], created: datetime) -> str:
    """Write an XLSX workbook; return its SHA-256.

    ``created`` is the only time in the file: the same sheets and time give the same bytes. Raises
    DocumentError for no sheets, two titles alike, or a row of another length than the columns.
    """
    if not sheets:
        raise DocumentError(f"{path.name}: a workbook needs a sheet")
    # Everything is checked before the first page is begun: a half-written page cannot be dropped.
    titles = [_title(sheet) for sheet in sheets]
    for title in titles:
        if [other.casefold() for other in titles].count(title.casefold()) > 1:
            raise DocumentError(f"{path.name}: two sheets are called {title!r}")
    tables = [_checked_rows(path.name, title, s) for title, s in zip(titles, sheets, strict=True)]
    workbook = Workbook(write_only=True)
    for title, sheet, rows in zip(titles, sheets, tables, strict=True):
        _write_sheet(workbook, title, sheet, rows)
    return save_workbook(path, workbook, created)


def save_workbook(
    path: Path,
    workbook: Workbook,
    created: datetime,
    formula_values: Mapping[str, Mapping[str, Decimal]] | None = None,
) -> str:
    """Save a workbook made with openpyxl, with the same bytes each time; return its SHA-256.

    ``formula_values`` are the results of formula cells by sheet title and cell, stored beside the
    formulas so that a preview which does not calculate shows them.
    """
    moment = (created.astimezone(UTC) if created.tzinfo else created).replace(
        tzinfo=None, microsecond=0
    )
    workbook.properties.creator = "iotbill"
    workbook.properties.created = moment
    values = {
        f"xl/worksheets/sheet{number}.xml": (formula_values or {}).get(title, {})
        for number, title in enumerate(workbook.sheetnames, 1)
    }
    buffer = io.BytesIO()
    workbook.save(buffer)
    return write_bytes(path, _repacked(buffer.getvalue(), moment, values))


_HEADER_FONT = Font(name="Calibri", bold=True, color="FFFFFF")
_HEADER_FILL = PatternFill("solid", start_color="1F3A5F")
_TOTAL_FONT = Font(name="Calibri", bold=True)
_NUMBER = Alignment(horizontal="right", vertical="top", indent=1)
_TEXT = Alignment(vertical="top")
_LONG_TEXT = Alignment(vertical="top", wrap_text=True)
_WIDEST = 60
"""Width of the widest column; longer text is wrapped."""
_FITTING = 68
"""Characters of a text that usually fit it: digits, which widths count, are wide."""
_NOTE_FONT = Font(name="Calibri", italic=True, color="555555")


def _title(sheet: Sheet) -> str:
    return re.sub(r"[\[\]:*?/\\]", "_", sheet.title)[:31].strip("'") or "Sheet"


def _checked_rows(name: str, title: str, sheet: Sheet) -> list[tuple[Cell, ...]]:
    rows = [tuple(row) for row in sheet.rows]
    if len(rows) > _ROW_LIMIT:
        raise DocumentError(f"{name}: {len(rows)} rows do not fit a sheet; write CSV instead")
    for number, row in enumerate(rows, 1):
        _check_row(f"{name}, sheet {title}", number, row, len(sheet.columns))
        for value in row:
            if not isinstance(value, str | int | Decimal | date | None):
                raise _not_a_cell(value, f"{name}, sheet {title}, row {number}")
    return rows


def _write_sheet(
    workbook: Workbook, title: str, sheet: Sheet, rows: Sequence[Sequence[Cell]]
) -> None:
    page = workbook.create_sheet(title)
    header_row = len(sheet.notes) + (2 if sheet.notes else 1)
    page.freeze_panes = f"A{header_row + 1}"
    page.page_setup.orientation = "landscape"
    page.page_setup.paperSize = 9  # A4
    page.page_setup.fitToHeight = 0  # as wide as a page, as long as it takes
    page.sheet_properties.pageSetUpPr = PageSetupProperties(fitToPage=True)
    for position, column in enumerate(sheet.columns):
        letter = get_column_letter(position + 1)
        width = _width(column, position, rows)
        if sheet.for_people and column.kind != "text":
            width = min(_WIDEST, width + 2)
        page.column_dimensions[letter].width = column.width or width
    if sheet.columns:
        last = get_column_letter(len(sheet.columns))
        page.auto_filter.ref = f"A{header_row}:{last}{max(header_row, header_row + len(rows))}"
    for note in sheet.notes:
        page.append([_text_cell(page, note, font=_NOTE_FONT)])
    if sheet.notes:
        page.append([])
    header = []
    for column in sheet.columns:
        cell = _text_cell(page, column.title, font=_HEADER_FONT)
        cell.fill = _HEADER_FILL
        cell.alignment = Alignment(
            horizontal="left" if column.kind == "text" else "right",
            vertical="top",
            wrap_text=True,
            indent=1 if sheet.for_people and column.kind != "text" else 0,
        )
        header.append(cell)
    page.append(header)
    for number, row in enumerate(rows, header_row + 1):
        cells = [
            _cell(page, value, column) for value, column in zip(row, sheet.columns, strict=True)
        ]
        if sheet.for_people:
            _laid_out(page, number, cells)
        page.append(cells)
    if sheet.totals:
        page.append(_totals(page, sheet, rows))


def _laid_out(page: Any, number: int, cells: Sequence[Any]) -> None:
    """Give the cells of row ``number`` room, and the row the height that its text needs."""
    texts = [cell for cell in cells if isinstance(cell.value, str)]
    for cell in cells:
        cell.alignment = _NUMBER
    for cell in texts:
        cell.alignment = _LONG_TEXT if len(cell.value) > _WIDEST else _TEXT
    longest = max((len(cell.value) for cell in texts), default=0)
    if longest > _FITTING:
        # spreadsheets do not measure wrapped text that a program wrote
        page.row_dimensions[number].height = 15 * -(-longest // _FITTING)


def _totals(page: Any, sheet: Sheet, rows: Sequence[Sequence[Cell]]) -> list[Any]:
    # A number, not a formula: the same in every reader, and in a CSV saved from the workbook.
    cells = []
    for position, column in enumerate(sheet.columns):
        if column.total:
            numbers = [row[position] for row in rows]
            total = sum((n for n in numbers if isinstance(n, int | Decimal)), Decimal(0))
            cell = _cell(page, total, column)
            cell.font = _TOTAL_FONT
            if sheet.for_people:
                cell.alignment = _NUMBER
        else:
            cell = _text_cell(page, "Total" if position == 0 else "", font=_TOTAL_FONT)
        cells.append(cell)
    return cells


def _cell(page: Any, value: Cell, column: ColumnFormat) -> Any:
    match value:
        case None | "":
            return WriteOnlyCell(page)
        case bool():
            return _text_cell(page, "yes" if value else "no")
        case str():
            return _text_cell(page, value)
        case datetime():
            moment = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
            cell = WriteOnlyCell(page, moment)
        case int() | Decimal() | date():
            cell = WriteOnlyCell(page, value)
    cell.number_format = column.number_format
    return cell


def _text_cell(page: Any, text: str, font: Font | None = None) -> Any:
    safe = safe_text(text)
    if len(safe) > _CELL_LIMIT:
        safe = safe[: _CELL_LIMIT - 1] + "…"
    cell = WriteOnlyCell(page, safe)
    cell.data_type = "s"  # openpyxl guesses formulas and errors from text; nothing here is one
    if font is not None:
        cell.font = font
    return cell


def _csv_value(value: Cell, where: str) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case str():
            return safe_text(value)
        case int():
            return str(value)
        case Decimal():
            return f"{value:f}"
        case datetime() | date():
            return value.isoformat()
        case _:
            raise _not_a_cell(value, where)


def _not_a_cell(value: object, where: str) -> DocumentError:
    return DocumentError(
        f"{where}: a {type(value).__name__} ({value!r}) cannot be written; "
        "give text, an integer, a Decimal or a date"
    )


def _check_row(where: str, number: int, row: Sequence[Cell], width: int) -> None:
    if len(row) != width:
        raise DocumentError(f"{where}, row {number}: {len(row)} values for {width} columns")


def _width(column: ColumnFormat, position: int, rows: Sequence[Sequence[Cell]]) -> int:
    sample = [len(str(row[position])) for row in rows[:200] if row[position] is not None]
    extra = 5 if column.kind == "money" else 2
    return min(_WIDEST, max([len(column.title) + 3, 9, *(size + extra for size in sample)]))


def _repacked(
    content: bytes, moment: datetime, formula_values: Mapping[str, Mapping[str, Decimal]]
) -> bytes:
    """Write the archive again with fixed times: openpyxl puts the clock in two places."""
    stamp = moment.strftime("%Y-%m-%dT%H:%M:%SZ").encode()
    result = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as source,
        zipfile.ZipFile(result, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for entry in sorted(source.infolist(), key=_archive_order):
            data = source.read(entry)
            if entry.filename == "docProps/core.xml":
                data = re.sub(rb"(<dcterms:modified[^>]*>)[^<]*", rb"\g<1>" + stamp, data)
            if values := formula_values.get(entry.filename):
                data = _FORMULA.sub(partial(_with_value, values), data)
            info = zipfile.ZipInfo(entry.filename, _EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o600 << 16
            target.writestr(info, data, compresslevel=6)
    return result.getvalue()


_FORMULA = re.compile(rb'(<c r="([A-Z]+[0-9]+)"[^>]*><f>[^<]*</f>)<v ?/?>(?:</v>)?')


def _with_value(values: Mapping[str, Decimal], found: re.Match[bytes]) -> bytes:
    value = values.get(found[2].decode())
    return found[0] if value is None else found[1] + f"<v>{value:f}</v>".encode()


def _archive_order(entry: zipfile.ZipInfo) -> tuple[bool, str]:
    return entry.filename != "[Content_Types].xml", entry.filename
