"""Rows of Excel workbooks (Excel 97 and later) with their true row numbers and exact texts.

The compiled reader runs in a process of its own (:mod:`sheet_process`): what a damaged workbook
makes it do ends that process, not the run.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from iotbill_pipelines.compute.decoders.records import (
    Decoded,
    DecodeError,
    Problem,
    RawRecord,
    Scope,
)

_ZIP_MAGIC = b"PK\x03\x04"
_Row = tuple[list[str], list[int]]
"""The texts of a row and the positions of its numbers that are not exact."""


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
    max_memory_bytes: int = 4 << 30
    max_seconds: int = 600


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


def _rows(stream: BinaryIO, options: SheetOptions, decoded: Decoded) -> list[_Row]:
    data = stream.read(options.max_bytes + 1)
    if len(data) > options.max_bytes:
        raise _refuse("too_large", f"the file is larger than {options.max_bytes} bytes")
    if data.startswith(_ZIP_MAGIC):
        _check_unpacked_size(data, options)
    lines = _read_apart(data, options)
    first = lines[0]
    names = first.get("sheets", [])
    error = first.get("error")
    if error == "no_such_sheet":
        message = f"there is no sheet {options.sheet!r}, only {', '.join(names) or 'none at all'}"
        raise _refuse(error, message)
    if error is not None:
        raise _refuse(error, f"not a readable workbook: {first['message']}")
    others = ", ".join(name for name in names if name != first["sheet"])
    if others:
        message = f"not read: the sheets {others}"
        decoded.problems.append(Problem("other_sheets", message, Scope.NOTICE))
    return [(texts, places) for texts, places in lines[1:-1]]


def _read_apart(data: bytes, options: SheetOptions) -> list[Any]:
    """Let another process read the workbook (:mod:`sheet_process`); return its lines."""
    command = [
        sys.executable, "-m", "iotbill_pipelines.compute.decoders.sheet_process",
        str(options.max_memory_bytes), str(options.max_cells),
        *([options.sheet] if options.sheet is not None else []),
    ]  # fmt: skip
    try:
        done = subprocess.run(
            command, input=data, capture_output=True, timeout=options.max_seconds, check=False
        )
    except subprocess.TimeoutExpired:
        raise _refuse(
            "unreadable", f"reading the workbook takes more than {options.max_seconds} s"
        ) from None
    lines = done.stdout.splitlines()
    if done.returncode or not lines or lines[-1] != b"true":
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise _refuse("unreadable", f"the workbook is damaged: {said[0] if said else 'no rows'}")
    return [json.loads(line) for line in lines]


def _check_unpacked_size(data: bytes, options: SheetOptions) -> None:
    """Modern workbooks are zip files: refuse bombs before anything is unpacked."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, ValueError, OSError) as error:
        raise _refuse("unreadable", f"not a readable workbook: {error}") from error
    if unpacked > options.max_bytes:
        raise _refuse("too_large", f"the workbook unpacks to {unpacked} bytes")


def _records(rows: list[_Row], options: SheetOptions, decoded: Decoded) -> Iterator[RawRecord]:
    index = _header_index(rows, options)
    names = [text.strip() for text in rows[index][0]]
    for name in names:
        if name and names.count(name) > 1:
            raise _refuse("duplicate_column", f"two columns are named {name!r}", index + 1)
    names = [name or column_letters(position) for position, name in enumerate(names)]
    decoded.header["sheet_header_row"] = str(index + 1)
    return _body(rows, index + 1, names)


def _header_index(rows: list[_Row], options: SheetOptions) -> int:
    if not options.header_has:
        if options.header_row > len(rows):
            raise _refuse("no_header", f"the sheet ends before row {options.header_row}")
        return options.header_row - 1
    wanted = set(options.header_has)
    for index, (texts, _) in enumerate(rows):
        if wanted <= {text.strip() for text in texts}:
            return index
    raise _refuse("no_header", f"no row has all of {', '.join(options.header_has)}")


def _body(rows: list[_Row], first: int, names: list[str]) -> Iterator[RawRecord]:
    for index in range(first, len(rows)):
        texts, imprecise = rows[index]
        if not any(text.strip() for text in texts):
            continue
        line_no = index + 1
        problem = None
        if imprecise:
            message = (
                f"row {line_no}: {names[imprecise[0]]} is a number of more than 15 digits, of "
                "which Excel keeps 15; have it delivered as text"
            )
            problem = Problem("imprecise_number", message, Scope.RECORD, line_no=line_no)
        fields: dict[str, str | None] = dict(zip(names, texts, strict=True))
        yield RawRecord(line_no, fields, "\t".join(texts), problem)


def column_letters(position: int) -> str:
    """Return the letters of the column at ``position`` (from 0), as Excel shows them."""
    letters = ""
    position += 1
    while position:
        position, rest = divmod(position - 1, 26)
        letters = chr(65 + rest) + letters
    return letters
