"""Files to raw records: every line of every file, with its true number, as text.

:func:`read_files` makes relation ``raw_record`` (:data:`engine.feeds.spec.RAW_COLUMNS` and the
source fields ``s_0``, ``s_1``, ...) from any number of files of one feed, in one pass. Lines that
are no records (headers, trailers, blank lines, comments) are there too and say so in
``structure``. What cannot be read as a record at all carries the reader's own finding in
``fault_code``; a file that cannot be read is left out and returned as a :class:`FileFault`.

Files are cut into lines by their line feeds alone, in blocks of bytes handed to DuckDB as Arrow
arrays. No CSV or JSON reader decides where a record ends, so a broken record costs itself only.

Findings of a record: ``column_count``, ``unterminated_quote``, ``bad_quoting``, ``invalid_json``,
``encoding``, ``nul_byte``, ``line_too_long``, ``line_length``, ``unknown_layout``.
Findings of a file: ``empty_file``, ``damaged_archive``, ``too_large``, ``wrong_encoding``,
``invalid_json``, ``unreadable_workbook``, ``missing_sheet``, ``missing_header``,
``missing_column``, ``duplicate_column``, ``missing_header_line``, ``missing_trailer``,
``repeated_trailer``, ``control_records``, ``control_total``.
"""

from __future__ import annotations

import codecs
import io
import json
import math
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from gzip import BadGzipFile, GzipFile
from typing import IO, Any

import numpy as np
import pyarrow as pa

from iotbill_pipelines.compute.duckdb_engine import DuckDbCompute
from iotbill_pipelines.engine.feeds import sql
from iotbill_pipelines.engine.feeds.spec import (
    DelimitedFormat,
    FeedSpec,
    FixedFormat,
    JsonFormat,
    Limits,
    NdjsonFormat,
    XlsxFormat,
)

BLOCK_BYTES = 8 * 2**20
_NUL_SHOWN = "\u2400".encode()
_REPLACED = "\ufffd"


@dataclass(frozen=True)
class SourceFile:
    """A landed file: its key, name as delivered, when it came (UTC), and how to open its bytes."""

    file_key: int
    name: str
    received_at: datetime
    size_bytes: int
    open: Callable[[], IO[bytes]]


@dataclass(frozen=True)
class FileFault:
    """Why a file as a whole cannot be used: stable code, and a message that says what to do."""

    file_key: int
    code: str
    message: str
    value: str | None = None


class _UnreadableError(Exception):
    def __init__(self, code: str, message: str, value: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.value = code, message, value


def read_files(
    compute: DuckDbCompute, spec: FeedSpec, files: Sequence[SourceFile]
) -> list[FileFault]:
    """Define ``raw_record`` from ``files``; return the files that could not be read.

    ``raw_record`` keeps the lines of files whose control totals fail, for counting; the faults
    say which files they are.
    """
    reader = _Reader(compute, spec, files)
    return reader.read()


class _Reader:
    def __init__(self, compute: DuckDbCompute, spec: FeedSpec, files: Sequence[SourceFile]) -> None:
        self.compute = compute
        self.spec = spec
        self.files = files
        self.faults: dict[int, FileFault] = {}

    def read(self) -> list[FileFault]:
        form = self.spec.format
        self._load_files()
        if isinstance(form, XlsxFormat):
            self._load_lines(self._sheet_batches(form), _CELLS)
        elif isinstance(form, JsonFormat):
            self._load_lines(self._json_batches(form), _LINES)
        else:
            self._load_lines(self._line_batches(), _LINES)
        if isinstance(form, NdjsonFormat | JsonFormat):
            select = _json_select(self.spec)
        elif isinstance(form, FixedFormat):
            select = _fixed_select(self.spec, form)
        else:
            select = self._table_select(form)
        self._define(select)
        if isinstance(form, FixedFormat):
            self._check_controls()
        return list(self.faults.values())

    # ------------------------------------------------------------ loading

    def _load_files(self) -> None:
        self.compute.load(
            "raw_file",
            pa.table(
                {
                    "file_key": pa.array([f.file_key for f in self.files], pa.int64()),
                    "file_name": pa.array([f.name for f in self.files], pa.string()),
                    "received_at": pa.array(
                        [f.received_at.replace(tzinfo=None) for f in self.files],
                        pa.timestamp("us"),
                    ),
                }
            ),
        )

    def _load_lines(self, batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> None:
        connection = self.compute.connection
        reader = pa.RecordBatchReader.from_batches(schema, batches)
        connection.execute("drop table if exists raw_line")
        connection.register("raw_line_arrow", reader)
        try:
            connection.execute("create table raw_line as select * from raw_line_arrow")
        finally:
            connection.unregister("raw_line_arrow")
        if self.faults:
            keys = ", ".join(str(key) for key in self.faults)
            connection.execute(f"delete from raw_line where file_key in ({keys})")

    def _define(self, select: str) -> None:
        self.compute.define("raw_record", select)

    def _fault(self, file: SourceFile, error: _UnreadableError) -> None:
        self.faults[file.file_key] = FileFault(
            file.file_key, error.code, error.message, error.value
        )

    def _line_batches(self) -> Iterator[pa.RecordBatch]:
        for file in self.files:
            try:
                yield from _lines(file, self.spec)
            except _UnreadableError as error:
                self._fault(file, error)

    def _json_batches(self, form: JsonFormat) -> Iterator[pa.RecordBatch]:
        for file in self.files:
            try:
                records = _json_records(_text(file, self.spec), form)
            except _UnreadableError as error:
                self._fault(file, error)
                continue
            if not records and not self.spec.allow_empty:
                self._fault(file, _empty())
                continue
            yield _batch(file, records)

    def _sheet_batches(self, form: XlsxFormat) -> Iterator[pa.RecordBatch]:
        for file in self.files:
            try:
                rows = _sheet(file, form, self.spec.limits)
                if not rows and not self.spec.allow_empty:
                    raise _empty()
            except _UnreadableError as error:
                self._fault(file, error)
                continue
            yield pa.RecordBatch.from_arrays(
                [
                    pa.array([file.file_key] * len(rows), pa.int64()),
                    pa.array(range(1, len(rows) + 1), pa.int64()),
                    pa.array([False] * len(rows), pa.bool_()),
                    pa.array(
                        [json.dumps(row, ensure_ascii=False) if any(row) else "" for row in rows],
                        pa.string(),
                    ),
                    pa.array(rows, pa.list_(pa.string())),
                ],
                schema=_CELLS,
            )

    # ------------------------------------------------------------ tables: delimited, sheets

    def _table_select(self, form: DelimitedFormat | XlsxFormat) -> str:
        """Cells by header; files are grouped by theirs, so that columns may come in any order."""
        connection = self.compute.connection
        if isinstance(form, DelimitedFormat):
            self.compute.define("raw_cells", _cells_select(form, self.spec.limits), keep=True)
            first = form.skip_rows + 1
            header = form.header
        else:
            first, header = form.header_row, True
            self.compute.define(
                "raw_cells",
                f"""select file_key, line_no, suspect, raw_text, cells,
                case when line_no < {first} then 'skipped' when line_no = {first} then 'header'
                     when raw_text = '' then 'blank' end as structure,
                cast(null as varchar) as quote_fault from raw_line""",
            )
        groups: dict[tuple[str, ...], list[int]] = {}
        if not header:
            assert isinstance(form, DelimitedFormat)
            groups[form.columns] = [f.file_key for f in self.files if f.file_key not in self.faults]
        else:
            found = dict(
                connection.execute(
                    "select file_key, cells from raw_cells where structure = 'header' "
                    f"and line_no = {first}"
                ).fetchall()
            )
            for file in self.files:
                if file.file_key in self.faults:
                    continue
                if not found.get(file.file_key):
                    if not self.spec.allow_empty:
                        said = f"line {first} should hold the column names"
                        self._fault(file, _UnreadableError("missing_header", said))
                    continue
                names = tuple(
                    re.sub(r"^[\s\ufeff\xa0]+|[\s\xa0]+$", "", cell or "")
                    for cell in found[file.file_key]
                )
                while isinstance(form, XlsxFormat) and names and not names[-1]:
                    names = names[:-1]  # a sheet is as wide as its widest row
                try:
                    self._check_header(names, first)
                except _UnreadableError as error:
                    self._fault(file, error)
                    continue
                groups.setdefault(names, []).append(file.file_key)
        selects = [
            _row_select(self.spec, form, names, keys if len(groups) > 1 or self.faults else None)
            for names, keys in groups.items()
        ]
        return "\nunion all by name\n".join(selects) or _row_select(
            self.spec, form, self.spec.sources(), []
        )

    def _check_header(self, names: tuple[str, ...], line: int) -> None:
        for source in self.spec.sources():
            if source not in names:
                raise _UnreadableError(
                    "missing_column",
                    f"line {line} has no column {source!r}; it has {', '.join(names)[:300]}. "
                    "Ask the sender, or change `from` in the feed",
                    source,
                )
            if names.count(source) > 1:
                raise _UnreadableError(
                    "duplicate_column", f"line {line} names column {source!r} twice", source
                )

    # ------------------------------------------------------------ control totals

    def _check_controls(self) -> None:
        """Hold header and trailer lines and their totals against the lines (RULEBOOK MD-09)."""
        form, control = self.spec.format, self.spec.control
        assert isinstance(form, FixedFormat)
        kinds = {layout.kind for layout in form.layouts}
        wanted = [kind for kind in ("header", "trailer") if kind in kinds]
        column = {name: f"s_{number}" for number, name in enumerate(self.spec.sources())}
        stated = column[control.records] if control and control.records else "null"
        total = column[control.total] if control and control.total else "null"
        summed = column[control.of] if control and control.of else "null"
        rows = self.compute.connection.execute(
            f"""
            select file_key,
                count(*) filter (structure = 'header') as header,
                count(*) filter (structure = 'trailer') as trailer,
                count(*) filter (structure is null) as records,
                max(case when structure in ('header', 'trailer') then {stated} end) as stated,
                max(case when structure in ('header', 'trailer') then {total} end) as total,
                sum(case when structure is null and fits({summed}, {_PLAIN_NUMBER})
                         then try_cast({summed} as decimal(38,9)) end) as summed
            from raw_record group by file_key"""
        ).fetchall()
        by_key = {file.file_key: file for file in self.files}
        for key, header, trailer, records, said, said_total, summed_total in rows:
            try:
                for kind, count in (("header", header), ("trailer", trailer)):
                    if kind not in wanted or count == 1:
                        continue
                    code = {"header": "missing_header_line", "trailer": "missing_trailer"}[kind]
                    raise _UnreadableError(
                        code if count == 0 else f"repeated_{kind}",
                        f"has {count} {kind} lines instead of 1; the file may be cut off or "
                        "joined from several, ask the sender for it again",
                    )
                if control and control.records:
                    _compare("control_records", "records", said, Decimal(records))
                if control and control.total:
                    _compare("control_total", f"sum of {control.of}", said_total,
                             summed_total or Decimal(0))  # fmt: skip
            except _UnreadableError as error:
                self._fault(by_key[key], error)


_PLAIN_NUMBER = r"'[+-]?[0-9]{1,18}(\.[0-9]{0,9})?'"


def _compare(code: str, what: str, stated: str | None, counted: Decimal) -> None:
    text = (stated or "").strip()
    if not re.fullmatch(r"[0-9]{1,18}(\.[0-9]{1,9})?", text) or Decimal(text) != counted:
        plain = format(counted.normalize(), "f")
        raise _UnreadableError(
            code,
            f"the file states {what} {text or 'nothing'}, its lines give {plain}; "
            "ask the sender for the file again",
            text,
        )


# ---------------------------------------------------------------- bytes to lines

_LINES = pa.schema(
    [("file_key", pa.int64()), ("line_no", pa.int64()), ("suspect", pa.bool_()),
     ("raw_text", pa.string())]
)  # fmt: skip
_CELLS = pa.schema([*_LINES, ("cells", pa.list_(pa.string()))])


def _empty() -> _UnreadableError:
    return _UnreadableError(
        "empty_file", "holds nothing; ask the sender, or set allow_empty for days without usage"
    )


def _blocks(file: SourceFile, limits: Limits) -> Iterator[bytes]:
    """Yield the plain bytes of a file, unpacked if gzipped, within the limits."""
    with file.open() as packed:
        start = packed.read(2)
        rest = _Chain(start, packed)
        stream: GzipFile | _Chain = GzipFile(fileobj=rest) if start == b"\x1f\x8b" else rest
        size, allowed = 0, limits.max_bytes
        if start == b"\x1f\x8b":
            allowed = min(allowed, max(file.size_bytes, 10_000) * limits.max_ratio)
        while True:
            try:
                block = stream.read(BLOCK_BYTES)
            except (EOFError, BadGzipFile, zlib.error) as error:
                raise _UnreadableError(
                    "damaged_archive",
                    f"cannot be unpacked ({error}); it was cut off or damaged on the way, "
                    "ask the sender for it again",
                ) from None
            if not block:
                return
            size += len(block)
            if size > allowed:
                raise _UnreadableError(
                    "too_large",
                    f"unpacks to more than {allowed} bytes; if that is right, raise limits in "
                    "the feed",
                )
            yield block


class _Chain(io.RawIOBase):
    """The bytes already read, then the rest of a stream."""

    def __init__(self, start: bytes, rest: IO[bytes]) -> None:
        self.start, self.rest = start, rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def read(self, size: int = -1) -> bytes:
        if self.start:
            data, self.start = self.start, b""
            return data + self.rest.read(-1 if size < 0 else max(0, size - len(data)))
        return self.rest.read(size)


def _utf8(file: SourceFile, spec: FeedSpec) -> Iterator[bytes]:
    """Yield a file's bytes as UTF-8 without BOM; what is not text in the encoding is kept as is."""
    blocks = _blocks(file, spec.limits)
    first = next(blocks, b"")
    if not first and not spec.allow_empty:
        raise _empty()
    encoding = spec.format.encoding
    if encoding in ("utf-8", "utf-8-sig") and first[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise _UnreadableError(
            "wrong_encoding", "is UTF-16, the feed says UTF-8; set format.encoding to utf-16"
        )
    if first.startswith(b"PK\x03\x04"):
        raise _UnreadableError(
            "wrong_format", "is a ZIP archive or a workbook, not text; check the feed's files"
        )
    if encoding in ("utf-8", "utf-8-sig"):
        yield first.removeprefix(codecs.BOM_UTF8)
        yield from blocks
        return
    decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
    yield decoder.decode(first).removeprefix("\ufeff").encode("utf-8", "replace")
    for block in blocks:
        yield decoder.decode(block).encode("utf-8", "replace")
    yield decoder.decode(b"", final=True).encode("utf-8", "replace")


def _lines(file: SourceFile, spec: FeedSpec) -> Iterator[pa.RecordBatch]:
    line_no, rest = 1, b""
    for block in _utf8(file, spec):
        cut = block.rfind(b"\n")
        if cut < 0:
            rest += block
            continue
        batch = _cut(file.file_key, line_no, rest + block[: cut + 1], spec)
        rest = block[cut + 1 :]
        line_no += batch.num_rows
        yield batch
    if rest:
        yield _cut(file.file_key, line_no, rest + b"\n", spec)


def _cut(file_key: int, first_line: int, data: bytes, spec: FeedSpec) -> pa.RecordBatch:
    """Make a batch of whole lines; every line of ``data`` ends in a line feed."""
    suspect = spec.format.encoding not in ("utf-8", "utf-8-sig") and _REPLACED.encode() in data
    if b"\0" in data:
        data, suspect = data.replace(b"\0", _NUL_SHOWN), True
    try:
        data.decode()
    except UnicodeDecodeError:
        data, suspect = data.decode(errors="replace").encode(), True
    ends = np.flatnonzero(np.frombuffer(data, dtype=np.uint8) == 10)
    offsets = np.zeros(len(ends) + 1, dtype=np.int64)
    offsets[1:] = ends + 1
    count = len(ends)
    texts = pa.LargeStringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(data))
    numbers = pa.array(np.arange(first_line, first_line + count, dtype=np.int64))
    return pa.RecordBatch.from_arrays(
        [
            pa.array(np.full(count, file_key, dtype=np.int64)),
            numbers,
            pa.array(np.full(count, suspect, dtype=bool)),
            texts.cast(pa.string()),
        ],
        schema=_LINES,
    )


def _batch(file: SourceFile, texts: Sequence[str]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(
        [
            pa.array([file.file_key] * len(texts), pa.int64()),
            pa.array(range(1, len(texts) + 1), pa.int64()),
            pa.array([False] * len(texts), pa.bool_()),
            pa.array(texts, pa.string()),
        ],
        schema=_LINES,
    )


def _text(file: SourceFile, spec: FeedSpec) -> str:
    data = b"".join(_utf8(file, spec))
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise _UnreadableError(
            "wrong_encoding", f"is not {spec.format.encoding} at byte {error.start}"
        ) from None


# ---------------------------------------------------------------- JSON documents

_COMMENTS = re.compile(r'("(?:[^"\\]|\\.)*")|//[^\n]*|/\*.*?\*/', re.DOTALL)


class _Literal:
    """A JSON number as it was written."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


def _json_records(text: str, form: JsonFormat) -> list[str]:
    """Return the elements of the records array, each as JSON text with its numbers unchanged."""
    bare = _COMMENTS.sub(lambda match: match[1] or " ", text)
    decoder = json.JSONDecoder(parse_float=_Literal, parse_int=_Literal)
    records: list[str] = []
    position = 0
    while True:
        while position < len(bare) and bare[position].isspace():
            position += 1
        if position == len(bare):
            return records
        try:
            document, position = decoder.raw_decode(bare, position)
        except (ValueError, RecursionError) as error:
            line = bare.count("\n", 0, getattr(error, "pos", position)) + 1
            raise _UnreadableError(
                "invalid_json", f"is not JSON at line {line}: {error}; it may be cut off"
            ) from None
        here = document
        for key in filter(None, form.records.split(".")):
            if not isinstance(here, dict) or key not in here:
                raise _UnreadableError(
                    "invalid_json", f"has no key {form.records!r} where its records should be"
                )
            here = here[key]
        records += [_dump(item) for item in (here if isinstance(here, list) else [here])]


def _dump(value: object) -> str:
    if isinstance(value, _Literal):
        return value.text
    if isinstance(value, dict):
        inside = ",".join(f"{json.dumps(k, ensure_ascii=False)}:{_dump(v)}"
                          for k, v in value.items())  # fmt: skip
        return f"{{{inside}}}"
    if isinstance(value, list):
        return f"[{','.join(map(_dump, value))}]"
    return json.dumps(value, ensure_ascii=False)


# ---------------------------------------------------------------- worksheets


def _sheet(file: SourceFile, form: XlsxFormat, limits: Limits) -> list[list[str | None]]:
    from python_calamine import CalamineError, CalamineWorkbook  # noqa: PLC0415 - rarely needed

    data = b"".join(_blocks(file, limits))
    if not data:
        raise _empty()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > min(limits.max_bytes, max(len(data), 10_000) * limits.max_ratio):
            raise _UnreadableError(
                "too_large", f"unpacks to {unpacked} bytes; if that is right, raise limits"
            )
        workbook = CalamineWorkbook.from_filelike(io.BytesIO(data))
        names = workbook.sheet_names
        sheet = form.sheet or names[0]
        if sheet not in names:
            raise _UnreadableError(
                "missing_sheet", f"has no sheet {sheet!r}; it has {', '.join(names)}", sheet
            )
        rows = workbook.get_sheet_by_name(sheet).to_python(skip_empty_area=False)
    except (zipfile.BadZipFile, CalamineError, OSError, ValueError, IndexError) as error:
        raise _UnreadableError(
            "unreadable_workbook", f"is no readable workbook ({error}); ask the sender for it again"
        ) from None
    return [[_cell(cell) for cell in row] for row in rows]


def _cell(value: object) -> str | None:
    """Write a cell as text; numbers get the shortest text that names them, without exponent."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if abs(value) >= 2**53:  # digits are lost already: no number may look as if it had them
            return format(value, ".16e")
        text = format(Decimal(repr(value)), "f") if math.isfinite(value) else ""
        return text[:-2] if text.endswith(".0") else text
    if isinstance(value, datetime | date | time):
        return value.isoformat(" ") if isinstance(value, datetime) else value.isoformat()
    if isinstance(value, timedelta):
        return str(int(value.total_seconds()))
    text = str(value) if value is not None else ""
    return text.replace("\0", "\u2400") or None


# ---------------------------------------------------------------- SQL of the formats


def _clean(column: str, nulls: Sequence[str]) -> str:
    """SQL of a source text: empty, or one of the feed's null texts, is null."""
    if not nulls:
        return f"nullif({column}, '')"
    listed = ", ".join(sql.render(sql.text(text)) for text in nulls)
    return f"case when {column} not in ('', {listed}) then {column} end"


def _line_text() -> str:
    return "regexp_replace(raw_text, '\\r?\\n$', '')"


def _common(spec: FeedSpec, raw: str, fault: str) -> str:
    """Findings that every text format shares, before those of the format."""
    limit = spec.limits.max_line_bytes
    return (
        f"case when structure is not null then null "
        f"when strlen({raw}) > {limit} then 'line_too_long' "
        f"when suspect and contains({raw}, '\u2400') then 'nul_byte' "
        f"when suspect and contains({raw}, '{_REPLACED}') then 'encoding' "
        f"else {fault} end"
    )


_MESSAGES = {
    "line_too_long": "is longer than limits.max_line_bytes",
    "nul_byte": "holds NUL bytes; the file was damaged or is not text",
    "encoding": "holds bytes that are not text in the feed's encoding; check format.encoding",
    "invalid_json": "must be one whole JSON object per line",
    "column_count": "has another number of columns than the header",
    "unterminated_quote": "opens a quote that does not end",
    "bad_quoting": "has a quote inside a cell that is not quoted, or text after a closing quote",
    "line_length": "is shorter or longer than its layout",
    "unknown_layout": "matches no layout of the feed",
}


def _message(code: str) -> str:
    whens = " ".join(f"when '{code}' then '{text.replace(chr(39), chr(39) * 2)}'"
                     for code, text in _MESSAGES.items())  # fmt: skip
    return f"case {code} {whens} end"


def _outer(inner: str, fault_value: str, columns: Sequence[str]) -> str:
    listed = "".join(f", {column}" for column in columns)
    return f"""
select l.file_key, f.file_name, f.received_at, line_no, structure, fault_code,
  cast(null as varchar) as fault_field, {fault_value} as fault_value,
  {_message("fault_code")} as fault_message, raw_text{listed}
from ({inner}) as l join raw_file as f on f.file_key = l.file_key""".strip()


def json_pointer(path: str) -> str:
    """Return the JSON pointer of ``sim.iccid`` or ``hotspots[0].id``; ``"a.b"`` is one key."""
    parts = re.findall(r'"([^"]*)"|([^.\[\]"]+)|\[([0-9]+)\]', path)
    keys = [quoted or plain or index for quoted, plain, index in parts]
    return "".join("/" + key.replace("~", "~0").replace("/", "~1") for key in keys)


# A number of more than 15 significant digits does not survive the JSON reader's doubles: such
# records have their numbers put in quotes, outside of strings, before they are read.
_LONG_NUMBER = r"[0-9]{5,}\.[0-9]|[0-9]\.[0-9]{12,}|[0-9]{16,}[eE]"
_TOKENS = r'("(?:[^"\\]|\\.)*")|(-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)'


def _json_select(spec: FeedSpec) -> str:
    pointers = [json_pointer(name) for name in spec.sources()]
    listed = ", ".join(sql.render(sql.text(pointer)) for pointer in pointers)
    tokens = sql.render(sql.text(_TOKENS))
    quoted = (
        f"replace(replace(replace(regexp_replace(doc, {tokens}, "
        "'\\1' || chr(2) || '\\2' || chr(3), 'g'), "
        "chr(2) || chr(3), ''), chr(2), '\"'), chr(3), '\"')"
    )
    fields = [
        f"{_clean(f'texts[{number}]', spec.format.nulls)} as s_{number - 1}"
        for number in range(1, len(pointers) + 1)
    ]
    fault = "case when doc is null then 'invalid_json' end"
    return _outer(
        f"""
select *, {_common(spec, "raw_text", fault)} as fault_code,
  case when list_contains(kinds, 'DOUBLE') and regexp_matches(doc, '{_LONG_NUMBER}')
       then json_extract_string({quoted}, [{listed}])
       else json_extract_string(doc, [{listed}]) end as texts
from (select *, json_type(doc, [{listed}]) as kinds
  from (select * exclude (valid), case when valid and json_type(raw_text) = 'OBJECT'
               then raw_text end as doc
    from (select *, structure is null and json_valid(raw_text) as valid
      from (select file_key, line_no, suspect, {_line_text()} as raw_text,
            case when regexp_full_match(raw_text, '\\s*') then 'blank' end as structure
            from raw_line))))""".strip(),
        "cast(null as varchar)",
        fields,
    )


def _fixed_select(spec: FeedSpec, form: FixedFormat) -> str:
    layouts = list(enumerate(form.layouts))
    whens = []
    for number, layout in layouts:
        test = "true"
        if layout.when:
            start, length = layout.when.start, layout.when.length
            equals = sql.render(sql.text(layout.when.equals))
            test = f"trim(substring(raw_text, {start}, {length})) = {equals}"
        whens.append(f"when {test} then {number}")
    structures = " ".join(
        f"when {number} then '{layout.kind}'" for number, layout in layouts
        if layout.kind != "detail"
    )  # fmt: skip
    lengths = " ".join(
        f"when layout = {number} and length(raw_text) <> {layout.length} then 'line_length'"
        for number, layout in layouts if layout.length
    )  # fmt: skip
    columns = []
    for position, name in enumerate(spec.sources()):
        cases = ""
        for number, layout in layouts:
            prefix = "" if layout.kind == "detail" else f"{layout.kind}."
            for field, part in layout.fields.items():
                if prefix + field == name:
                    cases += (
                        f" when {number} then "
                        f"trim(substring(raw_text, {part.start}, {part.length}), ' ' || chr(9))"
                    )
        columns.append(f"{_clean(f'(case layout{cases} end)', form.nulls)} as s_{position}")
    fault = f"case when layout is null then 'unknown_layout' {lengths} end"
    kind = f"case layout {structures} end" if structures else "null"
    inner = f"""
select *, {_common(spec, "raw_text", fault)} as fault_code
from (select *, case when blank then 'blank' else {kind} end as structure
  from (select *, raw_text = '' as blank, case {" ".join(whens)} end as layout
    from (select file_key, line_no, suspect,
          regexp_replace({_line_text()}, '^[\\x1a\\s]+$', '') as raw_text
          from raw_line)))""".strip()
    return _outer(
        inner,
        "case fault_code when 'line_length' then cast(length(raw_text) as varchar) end",
        columns,
    )


def _cells_select(form: DelimitedFormat, limits: Limits) -> str:
    """Lines to lists of cells; with ``multiline``, lines to records first."""
    delimiter = sql.render(sql.text(form.delimiter))
    comment = (
        f"when starts_with(raw_text, {sql.render(sql.text(form.comment))}) then 'comment'"
        if form.comment
        else ""
    )
    header = f"when line_no = {form.skip_rows + 1} then 'header'" if form.header else ""
    lines = f"select file_key, line_no, suspect, {_line_text()} as raw_text from raw_line"
    if form.quote and form.multiline:
        lines = _joined(lines, form.quote, limits)
    structured = f"""
select *, case when line_no <= {form.skip_rows} then 'skipped' {header} {comment}
     when regexp_full_match(raw_text, '\\s*') then 'blank' end as structure from ({lines})"""
    if not form.quote:
        return f"""
select *, string_split(raw_text, {delimiter}) as cells, cast(null as varchar) as quote_fault
from ({structured})"""
    quote = sql.render(sql.text(form.quote))
    q, d = re.escape(form.quote), re.escape(form.delimiter)
    plain = f"[^{q}{d}]*" if len(form.delimiter) == 1 else f"(?:[^{q}])*?"
    pattern = sql.render(sql.text(rf"(?s:(?:\s*{q}(?:[^{q}]|{q}{q})*{q}\s*|{plain}){d})"))
    size = len(form.delimiter)
    cell = f"x[1:length(x) - {size}]"
    inner = f"trim({cell})"
    unquoted = (
        f"case when starts_with({inner}, {quote}) then replace({inner}[2:length({inner}) - 1], "
        f"{quote} || {quote}, {quote}) else {cell} end"
    )
    return f"""
select * exclude (found, quotes),
  case when found is null then string_split(raw_text, {delimiter})
       else list_transform(found, lambda x: {unquoted}) end as cells,
  case when found is null or list_sum(list_transform(found, lambda x: length(x)))
            = length(raw_text) + {size} then null
       when quotes % 2 = 1 then 'unterminated_quote' else 'bad_quoting' end as quote_fault
from (select *, case when quotes > 0
             then regexp_extract_all(raw_text || {delimiter}, {pattern}) end as found
  from (select *, length(raw_text) - length(replace(raw_text, {quote}, '')) as quotes
        from ({structured})))"""


def _joined(lines: str, quote: str, limits: Limits) -> str:
    """SQL that joins lines while a quote is open; one that never ends costs its own line only."""
    q = sql.render(sql.text(quote))
    return f"""
select file_key, min(line_no) as line_no, bool_or(suspect) as suspect,
  string_agg(raw_text, chr(10) order by line_no) as raw_text
from (
  select *, case when sum(odd) over record % 2 = 1
                   or sum(strlen(raw_text)) over record > {limits.max_line_bytes}
                 then line_no else first_line end as own
  from (
    select *, max(case when coalesce(before, 0) % 2 = 0 then line_no end)
                over (partition by file_key order by line_no) as first_line
    from (
      select *, sum(odd) over (partition by file_key order by line_no
                               rows between unbounded preceding and 1 preceding) as before
      from (select *, (length(raw_text) - length(replace(raw_text, {q}, ''))) % 2 as odd
            from ({lines}))))
  window record as (partition by file_key, first_line))
group by file_key, own"""


def _row_select(
    spec: FeedSpec,
    form: DelimitedFormat | XlsxFormat,
    names: Sequence[str],
    keys: Sequence[int] | None,
) -> str:
    position = {name: number for number, name in enumerate(names, 1)}
    width = len(names)
    columns = [
        f"{_clean(f'cells[{position[name]}]', form.nulls)} as s_{number}"
        for number, name in enumerate(spec.sources())
    ]
    if isinstance(form, XlsxFormat):
        # a sheet is as wide as its widest row: only cells beyond the header are too many
        beyond = f"list_count(list_filter(cells[{width + 1}:], lambda x: coalesce(x, '') <> ''))"
        wrong = f"{beyond} > 0"
    else:
        wrong = f"len(cells) <> {width}"
    chosen = ""
    if keys is not None:
        chosen = f"where file_key in ({', '.join(map(str, keys)) or 'null'})"
    fault = (
        f"case when quote_fault is not null then quote_fault when {wrong} then 'column_count' end"
    )
    inner = f"""
select *, {_common(spec, "raw_text", fault)} as fault_code
from raw_cells {chosen}""".strip()
    return _outer(
        inner,
        "case fault_code when 'column_count' then cast(len(cells) as varchar) end",
        columns,
    )


__all__ = ["FileFault", "SourceFile", "json_pointer", "read_files"]
