"""Rows of Excel workbooks (Excel 97 and later) with their true row numbers and exact texts.

The compiled reader runs in a process of its own (:mod:`sheet_process`): what a damaged workbook
makes it do ends that process, not the run.
"""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import chain
from typing import Any, BinaryIO

from iotbill_pipelines.compute.decoders.records import (
    Decoded,
    DecodeError,
    Problem,
    RawRecord,
    Scope,
)

_ZIP_MAGIC = b"PK\x03\x04"
_OLE_MAGIC = b"\xd0\xcf\x11\xe0"
_Row = tuple[list[str], list[int]]
"""The texts of a row and the positions of its numbers that are not exact."""


@dataclass(frozen=True, slots=True)
class SheetOptions:
    """Where the table is: the sheet's name (the first when empty) and its header.

    A name with ``*`` or ``?``, which Excel allows in none, stands for every sheet that it matches.
    The header is the row ``header_row`` (from 1), or the first row that has all the texts of
    ``header_has``, and those below it up to ``header_rows``; ``type_rows`` follow. Rows are records
    from the next one on; rows without any value are no records.

    ``columns`` are those that are read and must be there, ``optional_columns`` those that may be;
    without any, all are read. Only what is read can be at fault. With ``or_delimited`` what is no
    workbook is text (UTF-8) with this delimiter, read as a sheet without a name.
    """

    sheet: str | None = None
    header_row: int = 1
    header_has: tuple[str, ...] = ()
    header_rows: int = 1
    type_rows: int = 0
    columns: tuple[str, ...] = ()
    optional_columns: tuple[str, ...] = ()
    tells_sheet: bool = False
    or_delimited: str | None = None
    max_bytes: int = 256 << 20
    max_ratio: int = 200
    max_cells: int = 20_000_000
    max_memory_bytes: int = 4 << 30
    max_seconds: int = 600


def decode(stream: BinaryIO, options: SheetOptions, process: SheetProcess | None = None) -> Decoded:
    """Decode a sheet; ``line_no`` is the row as Excel numbers it, of several sheets numbered on.

    A ``process`` given reads several workbooks one after another. With ``tells_sheet``, field
    ``$sheet`` is the sheet's name.

    Fields have the header's texts (trimmed) as names, columns without one their letter. Empty
    cells are ``""``. Findings that quarantine the file: ``empty``, ``too_large``, ``unreadable``,
    ``no_such_sheet``, ``no_header``, ``missing_column``, ``duplicate_column``; on a record:
    ``imprecise_number``, ``column_count`` (a value beyond the header). Further sheets are a notice.
    """
    decoded = Decoded(iter(()))
    try:
        if process is not None:
            sheets = _sheets(stream, options, decoded, process)
        else:
            with SheetProcess() as own:
                sheets = _sheets(stream, options, decoded, own)
        parts, before = [], 0
        for name, rows in sheets:
            parts.append(_records(rows, options, decoded, name, before))
            before += len(rows)
        decoded.records = chain.from_iterable(parts)
    except DecodeError as error:
        decoded.problems.append(error.problem)
    return decoded


def _refuse(code: str, message: str, line_no: int | None = None) -> DecodeError:
    return DecodeError(Problem(code, message, Scope.FILE, line_no=line_no))


def _sheets(
    stream: BinaryIO, options: SheetOptions, decoded: Decoded, process: SheetProcess
) -> list[tuple[str, list[_Row]]]:
    """Return the names and rows of the sheets that are read."""
    data = stream.read(options.max_bytes + 1)
    if not data:
        raise _refuse("empty", "the file is empty")
    if len(data) > options.max_bytes:
        raise _refuse("too_large", f"the file is larger than {options.max_bytes} bytes")
    if options.or_delimited is not None and not data.startswith((_ZIP_MAGIC, _OLE_MAGIC)):
        return [("", _text_rows(data, options.or_delimited))]
    if data.startswith(_ZIP_MAGIC):
        _check_unpacked_size(data, options)
    pattern = options.sheet or ""
    if not any(mark in pattern for mark in "*?"):
        names, found, rows = _sheet(data, options, process)
        sheets = [(found, rows)]
    else:
        names, found, rows = _sheet(data, replace(options, sheet=None), process)
        wanted = [name for name in names if fnmatchcase(name, pattern)]
        if not wanted:
            raise _no_sheet(options, names)
        read = {found: rows}
        for name in wanted:
            if name not in read:
                read[name] = _sheet(data, replace(options, sheet=name), process)[2]
        sheets = [(name, read[name]) for name in wanted]
    others = ", ".join(name for name in names if name not in dict(sheets))
    if others:
        message = f"not read: the sheets {others}"
        decoded.problems.append(Problem("other_sheets", message, Scope.NOTICE))
    return sheets


def _text_rows(data: bytes, delimiter: str) -> list[_Row]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"neither a workbook nor text in UTF-8: {error.reason} at byte {error.start}"
        raise _refuse("unreadable", message) from None
    try:
        found = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        return [(cells, []) for cells in found]
    except csv.Error as error:
        raise _refuse("unreadable", f"not readable as delimited text: {error}") from None


def _sheet(
    data: bytes, options: SheetOptions, process: SheetProcess
) -> tuple[list[str], str, list[_Row]]:
    """Read one sheet; return the names of all, its own, and its rows."""
    lines = process.read(data, options)
    first = lines[0]
    names: list[str] = first.get("sheets", [])
    error = first.get("error")
    if error == "no_such_sheet":
        raise _no_sheet(options, names)
    if error is not None:
        raise _refuse(error, f"not a readable workbook: {first['message']}")
    return names, first["sheet"], [(texts, places) for texts, places in lines[1:]]


def _no_sheet(options: SheetOptions, names: list[str]) -> DecodeError:
    message = f"there is no sheet {options.sheet!r}, only {', '.join(names) or 'none at all'}"
    return _refuse("no_such_sheet", message)


class SheetProcess:
    """A process that reads workbooks, one after another (:mod:`sheet_process`).

    It is started for the first workbook, and again after one that ended it: what a damaged
    workbook does costs that workbook alone. Use as a context manager.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._max_memory_bytes = 0

    def __enter__(self) -> SheetProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def read(self, data: bytes, options: SheetOptions) -> list[Any]:
        """Return what the process says about a workbook, line by line. Raises DecodeError."""
        process = self._started(options)
        assert process.stdin is not None
        assert process.stdout is not None
        request = {"bytes": len(data), "sheet": options.sheet, "max_cells": options.max_cells}
        timer = threading.Timer(options.max_seconds, process.kill)
        timer.start()
        lines: list[Any] = []
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n" + data)
            process.stdin.flush()
            for line in process.stdout:
                if line == _END:
                    return lines
                lines.append(json.loads(line))
        except (OSError, ValueError):
            pass  # it ended while it was written to, or in the middle of a line
        finally:
            timer.cancel()
        said = self._end()
        raise _refuse(
            "unreadable", f"the workbook is damaged: {said or 'reading it took too long'}"
        )

    def _started(self, options: SheetOptions) -> subprocess.Popen[bytes]:
        if self._process is not None and self._max_memory_bytes == options.max_memory_bytes:
            return self._process
        self._end()
        command = [
            sys.executable, "-m", "iotbill_pipelines.compute.decoders.sheet_process",
            str(options.max_memory_bytes),
        ]  # fmt: skip
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors
        )
        self._max_memory_bytes = options.max_memory_bytes
        return self._process

    def _end(self) -> str:
        """End the process; return the first line of what it complained about."""
        if self._process is None:
            return ""
        process, self._process = self._process, None
        process.kill()
        process.communicate()
        with self._errors as errors:
            errors.seek(0)
            said = errors.read(10_000).decode("utf-8", "replace").strip().splitlines()
        return said[0] if said else ""


_END = b"true\n"
"""Ends an answer, so that a process that died is not taken for a short sheet."""


def _check_unpacked_size(data: bytes, options: SheetOptions) -> None:
    """Modern workbooks are zip files: refuse bombs before anything is unpacked."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, ValueError, OSError) as error:
        raise _refuse("unreadable", f"not a readable workbook: {error}") from error
    if unpacked > min(options.max_bytes, max(len(data), 10_000) * options.max_ratio):
        raise _refuse("too_large", f"the workbook unpacks to {unpacked} bytes")


def _records(
    rows: list[_Row], options: SheetOptions, decoded: Decoded, sheet: str, before: int
) -> Iterator[RawRecord]:
    index = _header_index(rows, options)
    last = index + options.header_rows
    if last > len(rows):
        raise _refuse("no_header", f"the sheet ends before row {last}")
    names = joined_names([texts for texts, _ in rows[index:last]])
    wanted = {*options.columns, *options.optional_columns}
    while wanted and names and not names[-1]:
        names.pop()  # a sheet is as wide as its widest row
    for name in options.columns:
        if name not in names:
            known = ", ".join(filter(None, names))[:300]
            message = f"there is no column {name!r}, only {known or 'none at all'}"
            raise _refuse("missing_column", message, index + 1)
    for position, name in enumerate(names):
        if name and name in names[:position]:
            if not wanted or name in wanted:
                raise _refuse("duplicate_column", f"two columns are named {name!r}", index + 1)
            names[position] = ""
    names = [name or column_letters(position) for position, name in enumerate(names)]
    decoded.header["sheet_header_row"] = str(index + 1)
    told = {"$sheet": sheet} if options.tells_sheet else {}
    return _body(rows, last + options.type_rows, names, wanted or set(names), told, before)


def joined_names(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the names of columns that stand over several rows, trimmed and joined by blanks.

    An empty cell of an upper row continues the one to its left.
    """
    *upper, names = [[text.strip() for text in row] for row in rows]
    for row in reversed(upper):
        reach, group = [], ""
        for text in [*row, *[""] * (len(names) - len(row))]:
            group = text or group
            reach.append(group)
        names += [""] * (len(reach) - len(names))
        names = [" ".join(filter(None, pair)) for pair in zip(reach, names, strict=True)]
    return names


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


def _body(
    rows: list[_Row],
    first: int,
    names: list[str],
    wanted: set[str],
    told: dict[str, str],
    before: int,
) -> Iterator[RawRecord]:
    for index in range(first, len(rows)):
        texts, imprecise = rows[index]
        if not any(text.strip() for text in texts):
            continue
        line_no = index + 1
        problem = None
        inexact = [names[at] for at in imprecise if at < len(names) and names[at] in wanted]
        if any(text.strip() for text in texts[len(names) :]):
            message = f"row {line_no} has a value beyond the last column that has a name"
            problem = Problem("column_count", message, Scope.RECORD, line_no=line_no)
        elif inexact:
            message = (
                f"row {line_no}: {inexact[0]} is a number of more than 15 digits, of "
                "which Excel keeps 15; have it delivered as text"
            )
            problem = Problem("imprecise_number", message, Scope.RECORD, line_no=line_no)
        fields: dict[str, str | None] = {**dict(zip(names, texts, strict=False)), **told}
        yield RawRecord(before + line_no, fields, "\t".join(texts).replace("\0", "\u2400"), problem)


def column_letters(position: int) -> str:
    """Return the letters of the column at ``position`` (from 0), as Excel shows them."""
    letters = ""
    position += 1
    while position:
        position, rest = divmod(position - 1, 26)
        letters = chr(65 + rest) + letters
    return letters
