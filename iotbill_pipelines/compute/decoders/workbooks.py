"""Rows of Excel workbooks (Excel 97 and later) with their true row numbers and exact texts.

A cell of numbers holds a binary fraction; what its author wrote has at most 15 significant
digits, and that is what is given: 5994165.0 is ``5994165``, 0.30000000000000004 is ``0.3``. Longer
identifiers were damaged by Excel when they were typed; they are findings, never silently used.
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, BinaryIO

from iotbill_pipelines.compute.decoders.records import (
    Decoded,
    DecodeError,
    Problem,
    RawRecord,
    Scope,
)

_EXACT_BELOW = 10**15
_ZIP_MAGIC = b"PK\x03\x04"


@dataclass(frozen=True, slots=True)
class SheetOptions:
    """Where the table is: the sheet's name (the first when empty) and its header.

    The header is the row ``header_row`` (from 1), or the first row that has all the texts of
    ``header_has``. Rows are records from the next one on; rows without any value are no records.
    """

    sheet: str | None = None
    header_row: int = 1
    header_has: tuple[str, ...] = ()
    max_bytes: int = 256 << 20
    max_cells: int = 20_000_000


def decode(stream: BinaryIO, options: SheetOptions) -> Decoded:
    """Decode a sheet; ``line_no`` is the row as Excel numbers it.

    Fields have the header's texts (trimmed) as names, columns without one their letter. Empty
    cells are ``""``. Findings that quarantine the file: ``too_large``, ``unreadable``,
    ``no_such_sheet``, ``no_header``, ``duplicate_column``; on a record: ``imprecise_number``.
    Further sheets are a notice.
    """
    decoded = Decoded(iter(()))
    try:
        rows = _rows(stream, options, decoded)
        decoded.records = _records(rows, options, decoded)
    except DecodeError as error:
        decoded.problems.append(error.problem)
    return decoded


def _refuse(code: str, message: str, line_no: int | None = None) -> DecodeError:
    return DecodeError(Problem(code, message, Scope.FILE, line_no=line_no))


def _rows(stream: BinaryIO, options: SheetOptions, decoded: Decoded) -> list[list[Any]]:
    calamine = importlib.import_module("python_calamine")
    data = stream.read(options.max_bytes + 1)
    if len(data) > options.max_bytes:
        raise _refuse("too_large", f"the file is larger than {options.max_bytes} bytes")
    if data.startswith(_ZIP_MAGIC):
        _check_unpacked_size(data, options)
    try:
        workbook = calamine.CalamineWorkbook.from_filelike(io.BytesIO(data))
        names: list[str] = workbook.sheet_names
        if not names:
            raise _refuse("no_such_sheet", "the workbook has no sheets")
        name = options.sheet if options.sheet is not None else names[0]
        if name not in names:
            raise _refuse("no_such_sheet", f"there is no sheet {name!r}, only {', '.join(names)}")
        if len(names) > 1:
            others = ", ".join(other for other in names if other != name)
            decoded.problems.append(
                Problem("other_sheets", f"not read: the sheets {others}", Scope.NOTICE)
            )
        sheet = workbook.get_sheet_by_name(name)
        if sheet.total_height * sheet.total_width > options.max_cells:
            raise _refuse("too_large", f"the sheet has more than {options.max_cells} cells")
        rows: list[list[Any]] = sheet.to_python(skip_empty_area=False)
    except DecodeError:
        raise
    except (calamine.CalamineError, OSError, ValueError) as error:
        raise _refuse("unreadable", f"not a readable workbook: {error}") from error
    except BaseException as error:
        # The reader is compiled code; on some damaged files it panics, which Python sees as an
        # exception of its own kind that is not derived from Exception.
        if type(error).__name__ != "PanicException":
            raise
        raise _refuse("unreadable", f"the workbook is damaged: {error}") from error
    return rows


def _check_unpacked_size(data: bytes, options: SheetOptions) -> None:
    """Modern workbooks are zip files: refuse bombs before anything is unpacked."""
    zipfile = importlib.import_module("zipfile")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, ValueError, OSError) as error:
        raise _refuse("unreadable", f"not a readable workbook: {error}") from error
    if unpacked > options.max_bytes:
        raise _refuse("too_large", f"the workbook unpacks to {unpacked} bytes")


def _records(rows: list[list[Any]], options: SheetOptions, decoded: Decoded) -> Iterator[RawRecord]:
    index = _header_index(rows, options)
    names = [cell_text(cell).strip() for cell in rows[index]]
    for name in names:
        if name and names.count(name) > 1:
            raise _refuse("duplicate_column", f"two columns are named {name!r}", index + 1)
    names = [name or column_letters(position) for position, name in enumerate(names)]
    decoded.header["sheet_header_row"] = str(index + 1)
    return _body(rows, index + 1, names)


def _header_index(rows: list[list[Any]], options: SheetOptions) -> int:
    if not options.header_has:
        if options.header_row > len(rows):
            raise _refuse("no_header", f"the sheet ends before row {options.header_row}")
        return options.header_row - 1
    wanted = set(options.header_has)
    for index, row in enumerate(rows):
        if wanted <= {cell_text(cell).strip() for cell in row}:
            return index
    raise _refuse("no_header", f"no row has all of {', '.join(options.header_has)}")


def _body(rows: list[list[Any]], first: int, names: list[str]) -> Iterator[RawRecord]:
    for index in range(first, len(rows)):
        texts = [cell_text(cell) for cell in rows[index]]
        if not any(text.strip() for text in texts):
            continue
        line_no = index + 1
        problem = None
        for name, cell in zip(names, rows[index], strict=True):
            if _is_imprecise(cell):
                message = (
                    f"row {line_no}: {name} is a number of more than 15 digits, of which Excel "
                    "keeps 15; have it delivered as text"
                )
                problem = Problem("imprecise_number", message, Scope.RECORD, line_no=line_no)
                break
        fields: dict[str, str | None] = dict(zip(names, texts, strict=True))
        yield RawRecord(line_no, fields, "\t".join(texts), problem)


def _is_imprecise(cell: object) -> bool:
    return (
        isinstance(cell, int | float) and not isinstance(cell, bool) and abs(cell) >= _EXACT_BELOW
    )


def cell_text(cell: object) -> str:
    """Return the exact text of a cell, independent of how the sheet shows it.

    Dates are ISO 8601, durations ``h:mm:ss``, truth values ``TRUE`` and ``FALSE``.
    """
    for kind, text in _TEXTS:
        if isinstance(cell, kind):
            return text(cell)
    return "" if cell is None else str(cell)


def _number(cell: float) -> str:
    text = f"{Decimal(f'{cell:.15g}'):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _duration(cell: timedelta) -> str:
    seconds = cell.days * 86_400 + cell.seconds
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


_TEXTS: tuple[tuple[type, Callable[[Any], str]], ...] = (
    (str, str),
    (bool, lambda cell: "TRUE" if cell else "FALSE"),
    (int, str),
    (float, _number),
    (datetime, lambda cell: str(cell.isoformat(" "))),
    (date, date.isoformat),
    (time, time.isoformat),
    (timedelta, _duration),
)
"""Ways to write a cell; the first type that fits decides (True is an int, a datetime a date)."""


def column_letters(position: int) -> str:
    """Return the letters of the column at ``position`` (from 0), as Excel shows them."""
    letters = ""
    position += 1
    while position:
        position, rest = divmod(position - 1, 26)
        letters = chr(65 + rest) + letters
    return letters
