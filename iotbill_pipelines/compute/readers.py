"""Files to raw records: every line of every file, with its true number, as text.

:func:`read_files` makes relation ``raw_record`` (:data:`engine.feeds.spec.RAW_COLUMNS` and the
source fields ``s_0``, ``s_1``, ...) from any number of files of one feed, in one pass. Lines that
are no records (headers, trailers, blank lines, comments) are there too and say so in
``structure``. What cannot be read as a record at all carries the reader's own finding in
``fault_code``; a file that cannot be read is left out and returned as a :class:`FileFault`.

Any file may be gzipped, or a zip archive of files (:mod:`compute.parts`). Text is cut into lines
by its line feeds alone, in blocks of bytes handed to DuckDB as Arrow arrays: no CSV or JSON reader
decides where a record ends, so a broken record costs itself only. What is not text is read by
:mod:`compute.decoders`; ``line_no`` is then the number of the row or record.

Findings of a record: ``column_count``, ``unterminated_quote``, ``bad_quoting``, ``invalid_json``,
``encoding``, ``nul_byte``, ``line_too_long``, ``line_length``, ``unknown_layout``, and those of
the decoders.
Findings of a file: ``empty_file``, ``damaged_archive``, ``too_large``, ``unknown_member``,
``wrong_encoding``, ``wrong_format``, ``invalid_json``, ``invalid_yaml``, ``unreadable_workbook``,
``missing_sheet``, ``missing_header``, ``missing_column``, ``duplicate_column``,
``missing_header_line``, ``missing_trailer``, ``repeated_header``, ``repeated_trailer``,
``control_records``, ``control_total``, ``control_size``, ``control_digest``,
``missing_companion``, ``missing_member``, ``unreadable_companion``, ``no_records``,
``unequal_arrays``, and those of the decoders.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from iotbill_pipelines.compute import json_documents, raw_sql
from iotbill_pipelines.compute.companions import (
    DisagreementError,
    Statement,
    check_bytes,
    names_of,
    statements,
)
from iotbill_pipelines.compute.decoders import radius_detail, roaming, workbooks, xml_records
from iotbill_pipelines.compute.decoders.batches import BATCH_SCHEMA, record_batches
from iotbill_pipelines.compute.decoders.records import Decoded, RawRecord
from iotbill_pipelines.compute.duckdb_engine import DuckDbCompute
from iotbill_pipelines.compute.parts import (
    FileFault,
    Part,
    SourceFile,
    UnreadableError,
    empty,
    open_parts,
    unreadable,
)
from iotbill_pipelines.engine.feeds import sql
from iotbill_pipelines.engine.feeds.spec import (
    COLUMN,
    PIECE,
    SHEET,
    VALUE,
    Companion,
    Control,
    DecodedFormat,
    DelimitedFormat,
    FeedSpec,
    FixedFormat,
    JsonFormat,
    Layout,
    NdjsonFormat,
    RadiusFormat,
    RoamingFormat,
    RowLayout,
    XlsxFormat,
    XmlFormat,
    companion_feed,
)

_NUL_SHOWN = raw_sql.NUL_SHOWN.encode()
_REPLACED = raw_sql.REPLACED.encode()
_HEADER = "header."


def read_files(
    compute: DuckDbCompute, spec: FeedSpec, files: Sequence[SourceFile]
) -> list[FileFault]:
    """Define ``raw_record`` from ``files``; return the files that could not be read.

    ``raw_record`` keeps the lines of files whose control totals fail, for counting; the faults
    say which files they are.
    """
    return _Reader(compute, spec, files).read()


class _Reader:
    def __init__(self, compute: DuckDbCompute, spec: FeedSpec, files: Sequence[SourceFile]) -> None:
        self.compute = compute
        self.spec = spec
        self.files = files
        self.parts: list[Part] = []
        self.faults: dict[int, FileFault] = {}
        self.stated: list[tuple[Statement, list[Part]]] = []
        self.sheets = workbooks.SheetProcess()

    def read(self) -> list[FileFault]:
        form = self.spec.format
        schema = _LINES
        if isinstance(form, DecodedFormat):
            schema = _DECODED
        elif isinstance(form, JsonFormat):
            schema = _DOCUMENTS
        with self.sheets:
            self._load_lines(self._batches(), schema)
        self._load_files()
        if isinstance(form, DecodedFormat):
            select = raw_sql.decoded_select(self.spec)
        elif isinstance(form, NdjsonFormat | JsonFormat):
            select = raw_sql.json_select(self.spec, isinstance(form, JsonFormat))
        elif isinstance(form, FixedFormat):
            select = raw_sql.fixed_select(self.spec, form)
        else:
            select = self._table_select(form)
        if self.spec.control and self.spec.control.when:
            select = raw_sql.stated_apart(self.spec, self.spec.control.when, select)
        self.compute.define("raw_record", select)
        if self.spec.has_layouts or (self.spec.control and self.spec.control.within):
            self._check_controls()
        if self.spec.companion:
            self._check_companions(self.spec.companion)
        if form.unpivot:  # totals are stated of the fields as they stand
            self.compute.define("raw_record", raw_sql.unpivoted(self.spec, select))
        return list(self.faults.values())

    # ------------------------------------------------------------ loading

    def _batches(self) -> Iterator[pa.RecordBatch]:
        for file in self.files:
            try:
                with open_parts(file, self.spec, len(self.parts)) as found:
                    parts = self._without_companions(file, found)
                    self.parts += parts
                    if self.spec.companion:
                        self._check_bytes(self.spec.companion)
                    for part in parts:
                        yield from self._part_batches(part, len(parts) > 1)
            except UnreadableError as error:
                self._fault(file, error)

    def _without_companions(self, file: SourceFile, parts: Sequence[Part]) -> list[Part]:
        """Read the companions among an archive's members; return the others, numbered."""
        companion = self.spec.companion
        data = [part for part in parts if not self.spec.is_companion(part.text_name())]
        if companion is None or len(data) == len(parts):
            return data
        beside = [part for part in parts if part not in data]
        found = read_statements(
            self.spec,
            companion,
            [
                SourceFile(number, part.text_name(), file.received_at, part.size_bytes, part.open)
                for number, part in enumerate(beside)
            ],
        )
        data = [replace(part, number=len(self.parts) + n) for n, part in enumerate(data)]
        self.stated += _paired(companion, found, data)
        return data

    def _part_batches(self, part: Part, several: bool) -> Iterator[pa.RecordBatch]:
        form = self.spec.format
        try:
            if isinstance(form, DecodedFormat):
                yield from self._decoded_batches(part, form)
            elif isinstance(form, JsonFormat):
                yield from _json_batches(part, self.spec, form)
            elif isinstance(form, NdjsonFormat) and (form.explode or form.parallel):
                yield from _exploded_lines(part, self.spec, form)
            else:
                yield from _lines(part, self.spec)
        except UnreadableError as error:
            if several:
                said = f"member {part.member}: {error.message}"
                raise UnreadableError(error.code, said, error.value) from None
            raise

    def _decoded_batches(self, part: Part, form: DecodedFormat) -> Iterator[pa.RecordBatch]:
        """Hand over a decoder's records; a finding about the file comes when they are through."""
        sources = self.spec.sources()
        last = 0
        with part.stream(self.spec.limits) as stream:
            decoded = self._decode(part, form, stream)
            bare = tuple(
                name.removeprefix(_HEADER) if name.startswith(_HEADER) else name
                for name in sources
            )  # fmt: skip
            if isinstance(form, RoamingFormat):
                decoded.records = _with_header(decoded.records, decoded.header)
            for number, batch in enumerate(record_batches(decoded, part.number, sources)):
                loaded = batch
                if isinstance(form, XmlFormat):
                    # several records can begin on one line: they are counted
                    first = number * 10_000 + 1
                    counted = np.arange(first, first + batch.num_rows, dtype=np.int64)
                    loaded = loaded.set_column(1, "line_no", pa.array(counted))
                last = loaded["line_no"][-1].as_py()
                yield loaded.rename_columns(_DECODED.names)
        if decoded.quarantine is not None:
            if decoded.quarantine.code == "empty" and self.spec.allow_empty:
                return
            raise unreadable(decoded.quarantine, self.spec)
        if isinstance(form, XmlFormat) and not last and not self.spec.allow_empty:
            raise UnreadableError(
                "no_records",
                f"has no element at {form.record}; check format.record and namespaces, or set "
                "allow_empty for days without usage",
            )
        if self.spec.control and self.spec.control.of_document:
            # what the document says about itself, known when all of it is read
            stated = [decoded.header.get(name) for name in bare]
            yield _decoded_row(part.number, last + 1, stated)

    def _decode(self, part: Part, form: DecodedFormat, stream: object) -> Decoded:
        limits = self.spec.limits
        if isinstance(form, XlsxFormat):
            wanted = [n for n in self.spec.sources() if n not in (SHEET, COLUMN, VALUE)]
            sheet_options = workbooks.SheetOptions(
                sheet=form.sheet,
                header_row=form.header_row,
                header_has=form.header_has,
                header_rows=form.header_rows,
                type_rows=form.type_rows,
                tells_sheet=SHEET in self.spec.sources(),
                or_delimited=form.or_delimited,
                columns=tuple(name for name in wanted if name not in form.may_lack),
                optional_columns=tuple(name for name in wanted if name in form.may_lack),
                max_bytes=min(limits.max_bytes, 256 << 20),
                max_ratio=limits.max_ratio,
            )
            return workbooks.decode(stream, sheet_options, self.sheets)  # type: ignore[arg-type]
        if isinstance(form, XmlFormat):
            inherited = tuple(
                name.removeprefix(_HEADER) for name in self.spec.mapped_sources()
                if name.startswith(_HEADER)
            )  # fmt: skip
            xml_options = xml_records.XmlOptions(
                form.record,
                form.namespaces,
                form.encoding,
                inherited,
                max_depth=form.max_depth,
                max_bytes=limits.max_bytes,
                max_record_bytes=limits.max_line_bytes,
            )
            return xml_records.decode(stream, xml_options)  # type: ignore[arg-type]
        if isinstance(form, RoamingFormat):
            roaming_options = roaming.RoamingOptions(
                file_name=part.text_name(),
                schema="auto" if form.type == "tap" else form.type,
                checked_totals=frozenset(form.checked_totals),
                max_bytes=min(limits.max_bytes, 1 << 30),
                max_depth=form.max_depth,
            )
            return roaming.decode(stream, roaming_options)  # type: ignore[arg-type]
        assert isinstance(form, RadiusFormat)
        detail_options = radius_detail.DetailOptions(
            form.encoding, min(limits.max_line_bytes, 65_536)
        )
        return radius_detail.decode(stream, detail_options)  # type: ignore[arg-type]

    def _load_lines(self, batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> None:
        reader = pa.RecordBatchReader.from_batches(schema, batches)
        self.compute.load_batches("raw_line", reader)
        numbers = [str(p.number) for p in self.parts if p.file.file_key in self.faults]
        if numbers:
            usable = f"select * from raw_line where part not in ({', '.join(numbers)})"
            self.compute.define("raw_line", usable, keep=True)

    def _load_files(self) -> None:
        """Say whose the parts are, and after how many lines of its file each begins."""
        lines = dict(
            self.compute.connection.execute(
                "select part, max(line_no) from raw_line group by part"
            ).fetchall()
        )
        offsets, before = [], 0
        for number, part in enumerate(self.parts):
            if not number or self.parts[number - 1].file is not part.file:
                before = 0
            offsets.append(before)
            before += lines.get(part.number, 0)
        self.compute.load(
            "raw_file",
            pa.table(
                {
                    "part": pa.array([p.number for p in self.parts], pa.int64()),
                    "file_key": pa.array([p.file.file_key for p in self.parts], pa.int64()),
                    "file_name": pa.array([p.file.name for p in self.parts], pa.string()),
                    "member": pa.array([p.member for p in self.parts], pa.string()),
                    "line_offset": pa.array(offsets, pa.int64()),
                    "received_at": pa.array(
                        [p.file.received_at.replace(tzinfo=None) for p in self.parts],
                        pa.timestamp("us"),
                    ),
                }
            ),
        )

    def _fault(self, file: SourceFile, error: UnreadableError) -> None:
        self.faults[file.file_key] = FileFault(
            file.file_key, error.code, error.message, error.value
        )

    def _usable(self) -> list[Part]:
        return [part for part in self.parts if part.file.file_key not in self.faults]

    # ------------------------------------------------------------ delimited

    def _table_select(self, form: DelimitedFormat) -> str:
        """Cells by header; files are grouped by theirs, so that columns may come in any order."""
        places = self._find_headers(form) if form.header_has else {}
        headers = self._header_texts(form) if form.header and not form.multiline else []
        # cut where they are read: the lists of a month's cells are twice its text. Totals and
        # records of several lines look at them again.
        again = bool(self.spec.control or self.spec.companion or form.layouts or form.multiline)
        self.compute.define(
            "raw_cells", raw_sql.cells_select(form, self.spec.limits, headers), keep=again
        )
        groups: dict[tuple[str, ...], list[int]] = {}
        if not form.header:
            groups[form.columns] = [part.number for part in self._usable()]
        else:
            found: dict[int, list[list[str | None]]] = {}
            for number, cells in self.compute.connection.execute(
                "select part, cells from raw_cells where structure = 'header' "
                "order by part, line_no"
            ).fetchall():
                found.setdefault(number, []).append(cells)
            for part in self._usable():
                first = places.get(part.number, form.skip_rows + 1)
                rows = found.get(part.number, [])
                if len(rows) < form.header_rows:
                    if rows or form.header_has or not self.spec.allow_empty:
                        self._fault(part.file, _no_header(form, first))
                    continue
                names = _column_names(rows[: form.header_rows])
                try:
                    self._check_header(names, first, form)
                except UnreadableError as error:
                    self._fault(part.file, error)
                    continue
                groups.setdefault(names, []).append(part.number)
        only = len(groups) > 1 or bool(self.faults)
        usable = {part.number for part in self._usable()}
        selects = [
            raw_sql.row_select(
                self.spec, form, names, [n for n in numbers if n in usable] if only else None
            )
            for names, numbers in groups.items()
        ]
        return "\nunion all by name\n".join(selects) or raw_sql.row_select(
            self.spec, form, self.spec.sources(), []
        )

    def _find_headers(self, form: DelimitedFormat) -> dict[int, int]:
        """Find the line of each part that has every cell of ``header_has``: ``raw_header``."""
        texts = " and ".join(
            f"contains(raw_text, {sql.render(sql.text(text))})" for text in form.header_has
        )
        likely = self.compute.connection.execute(
            f"select part, line_no, {raw_sql.line_text()} from raw_line where {texts} "
            "qualify row_number() over (partition by part order by line_no) <= 100 "
            "order by part, line_no"
        ).fetchall()
        places: dict[int, int] = {}
        for number, line_no, text in likely:
            cells = {cell.strip().strip(form.quote or "") for cell in text.split(form.delimiter)}
            if set(form.header_has) <= cells:
                places.setdefault(number, line_no)
        self.compute.load(
            "raw_header",
            pa.table(
                {
                    "part": pa.array(list(places), pa.int64()),
                    "header_line": pa.array(list(places.values()), pa.int64()),
                }
            ),
        )
        return places

    def _header_texts(self, form: DelimitedFormat) -> list[str]:
        """Return the header lines as written, by which one that stands again is known."""
        lines, first = "raw_line", str(form.skip_rows + 1)
        if form.header_has:
            lines, first = "raw_line join raw_header using (part)", "header_line"
        rows = self.compute.connection.execute(
            f"select distinct {raw_sql.line_text()} from {lines} "
            f"where line_no between {first} and {first} + {form.header_rows - 1}"
        ).fetchall()
        return [text for (text,) in rows if text.strip()]

    def _check_header(self, names: tuple[str, ...], line: int, form: DelimitedFormat) -> None:
        wanted = set(self.spec.sources()) - {COLUMN, VALUE}
        for layout in form.layouts:
            own = {layout.prefix + name for name in layout.columns or names}
            if layout.repeat:
                own |= {"$piece", *layout.repeat.columns}
            wanted -= own
        for source in self.spec.sources():
            if source in wanted and source not in names and source not in form.may_lack:
                raise UnreadableError(
                    "missing_column",
                    f"line {line} has no column {source!r}; it has {', '.join(names)[:300]}. "
                    "Ask the sender, or change `from` in the feed",
                    source,
                )
            if names.count(source) > 1:
                raise UnreadableError(
                    "duplicate_column", f"line {line} names column {source!r} twice", source
                )

    # ------------------------------------------------------------ control totals

    def _check_controls(self) -> None:
        """Hold header and trailer lines and their totals against the lines (RULEBOOK MD-09)."""
        control = self.spec.control
        self._check_lines(control)
        if control and control.within:
            self._check_totals(control)

    def _check_lines(self, control: Control | None) -> None:
        """Hold headers, trailers and lines of totals to standing once, unless they repeat."""
        form = self.spec.format
        once: dict[tuple[str, str], list[int]] = {}
        repeats: set[str] = set()
        if control and control.each:
            repeats = {name.partition(".")[0] for name in control.fields()}
        if isinstance(form, DelimitedFormat | FixedFormat):
            layouts: Sequence[Layout | RowLayout] = form.layouts
            for number, layout in enumerate(layouts):
                if layout.kind not in ("header", "trailer") or layout.repeated:
                    continue
                if layout.prefix.rstrip(".") not in repeats:
                    once.setdefault((layout.kind, layout.prefix), []).append(number)
        counts = [
            f"count(*) filter (layout in ({', '.join(map(str, numbers))}))"
            for numbers in once.values()
        ]
        if control and control.when and not control.each:
            once[("trailer", "total.")] = []
            counts.append("count(*) filter (structure = 'trailer')")
        if not once:
            return
        rows = self.compute.connection.execute(
            f"select f.part, count(r.part), {', '.join(counts)} "
            "from raw_file as f left join raw_record as r on r.part = f.part group by f.part"
        ).fetchall()
        by_number = {part.number: part for part in self._usable()}
        for number, lines, *found in sorted(rows, key=lambda row: row[0]):
            if number in by_number and (lines or not self.spec.allow_empty):
                try:
                    self._one_of_each(list(once), found)
                except UnreadableError as error:
                    self._fault(by_number[number].file, error)

    def _check_totals(self, control: Control) -> None:
        """Hold what is stated against the records that it is about, statement by statement."""
        form = self.spec.format
        column = {name: f"s_{number}" for number, name in enumerate(self.spec.sources())}
        counted = raw_sql.counted_records(self.spec)
        told = [*([control.records] if control.records else []), *control.sums]
        apart = "structure = 'trailer'" if control.when else "structure in ('header', 'trailer')"
        stated_at = f"{apart} and coalesce({', '.join(column[name] for name in told)}) is not null"
        each = control.each
        if control.of_document and isinstance(form, JsonFormat):
            each, stated_at = "above", apart  # each document speaks of its own records
        group = "0"
        if each is not None:
            last = "1 preceding" if each == "above" else "current row"
            group = (
                f"count(*) filter (where {stated_at}) over (partition by part order by line_no "
                f"rows between unbounded preceding and {last})"
            )
        figures = []
        if control.records:
            figures.append(f"max(case when {apart} then {column[control.records]} end)")
        for stated, summed in control.sums.items():
            figures.append(f"max(case when {apart} then {column[stated]} end)")
            figures.append(_sum_of(column[summed], form.decimal_comma, counted))
        rows = self.compute.connection.execute(
            f"select f.part, count(r.part), min(line_no) filter ({stated_at}), "
            f"count(r.part) filter ({counted} and piece = 0), {', '.join(figures)} "
            f"from raw_file as f left join (select *, {group} as said from raw_record) as r "
            "on r.part = f.part group by f.part, said order by f.part, said"
        ).fetchall()
        for part in self._usable():
            groups = [row[1:] for row in rows if row[0] == part.number]
            if self.spec.allow_empty and not any(group[0] for group in groups):
                continue
            stating = [group for group in groups if group[1] is not None]
            try:
                if each is not None:
                    records = sum(group[2] for group in groups if group[1] is None)
                    if records or not stating:
                        missing = "missing_trailer" if each == "above" else "missing_header_line"
                        raise UnreadableError(
                            missing,
                            f"has {records} records {_BEYOND[each]}; the file may be cut off, ask "
                            "the sender for it again",
                        )
                for _, line_no, *counted_there in stating if each is not None else groups:
                    by = "the file" if control.each is None else f"line {line_no}"
                    self._hold(control, counted_there, by)
            except UnreadableError as error:
                self._fault(part.file, error)

    def _hold(self, control: Control, figures: Sequence[Any], by: str) -> None:
        """Compare what is stated with what was counted. Raises UnreadableError."""
        counted, *rest = figures
        found = iter(rest)
        if control.records:
            _compare("control_records", "records", next(found), Decimal(counted), by)
        for summed in control.sums.values():
            stated, total = next(found), next(found) or Decimal(0)
            if self.spec.format.decimal_comma:
                stated = _pointed(stated)
            _compare("control_total", f"sum of {summed}", stated, total, by)

    def _check_companions(self, companion: Companion) -> None:
        """Hold what companion files state against the files that they speak of (MD-09)."""
        column = {name: f"s_{number}" for number, name in enumerate(self.spec.sources())}
        counted = raw_sql.counted_records(self.spec)
        sums = [
            _sum_of(column[of], self.spec.format.decimal_comma, counted)
            for of in companion.totals.values()
        ]
        rows = self.compute.connection.execute(
            f"select f.part, count(r.part) filter ({counted} and piece = 0)"
            + "".join(f", {figure}" for figure in sums)
            + " from raw_file as f left join raw_record as r on r.part = f.part group by f.part"
        ).fetchall()
        figures = {number: found for number, *found in rows}
        usable = self._usable()
        for statement, parts in self.stated:
            if all(part in usable for part in parts):
                try:
                    self._agrees(companion, statement, parts, figures)
                except UnreadableError as error:
                    self._fault(parts[0].file, error)

    def _check_bytes(self, companion: Companion) -> None:
        """Hold the bytes of the file that was opened last against what is stated of them."""
        file = self.parts[-1].file if self.parts else None
        mine = [part for part in self.parts if part.file is file]
        if file is not None and file.statement is not None:
            self.stated.append((file.statement, mine))
        for statement, parts in self.stated:
            first = parts[0]
            if first.file is not file:
                continue
            opener = file.open if statement is file.statement else first.open
            try:
                check_bytes(companion, statement, opener)
            except DisagreementError as error:
                raise UnreadableError(error.code, error.message, error.value) from None

    def _agrees(
        self,
        companion: Companion,
        statement: Statement,
        parts: Sequence[Part],
        figures: Mapping[int, Sequence[Any]],
    ) -> None:
        mine = [figures[part.number] for part in parts]
        said = statement.stated
        if companion.records is not None:
            records = sum(found[0] for found in mine)
            stated = said.get(companion.records)
            _compare("control_records", "records", stated, Decimal(records), statement.by)
        for place, (field, of) in enumerate(companion.totals.items(), 1):
            total = sum((found[place] or Decimal(0) for found in mine), Decimal(0))
            stated = said.get(field)
            if companion.format.decimal_comma:
                stated = _pointed(stated)
            _compare("control_total", f"sum of {of}", stated, total, statement.by)

    def _one_of_each(self, kinds: list[tuple[str, str]], counts: list[int]) -> None:
        for (kind, prefix), count in zip(kinds, counts, strict=True):
            if count == 1:
                continue
            missing = {"header": "missing_header_line", "trailer": "missing_trailer"}[kind]
            raise UnreadableError(
                missing if count == 0 else f"repeated_{kind}",
                f"has {count} {prefix.rstrip('.')} lines instead of 1; the file may be cut off or "
                "joined from several, ask the sender for it again",
            )


def _paired(
    companion: Companion, found: Sequence[Statement], parts: Sequence[Part]
) -> Iterator[tuple[Statement, list[Part]]]:
    """Yield statements with the members that they are about. Raises UnreadableError."""
    about = {statement.about: statement for statement in found}
    for part in parts:
        names = names_of(part.text_name())
        stated = next((about.pop(name) for name in names if name in about), None)
        if stated is not None:
            yield stated, [part]
        elif companion.wait:
            raise UnreadableError(
                "missing_companion",
                f"holds {part.text_name()}, of which none of its companions speaks; "
                "ask the sender for the whole archive",
            )
    if about:
        raise UnreadableError(
            "missing_member",
            f"lacks {', '.join(about)}, of which a companion in it speaks; "
            "ask the sender for the whole archive",
        )


def read_statements(
    spec: FeedSpec, companion: Companion, files: Sequence[SourceFile]
) -> list[Statement]:
    """Return what companion files state. Raises UnreadableError naming the first that is unfit."""
    form = companion_feed(spec, companion)
    names = form.sources()
    found: list[Statement] = []
    with DuckDbCompute() as compute:
        faults = {fault.file_key: fault for fault in read_files(compute, form, files)}
        columns = ", ".join(f"s_{number}" for number in range(len(names)))
        rows = compute.connection.execute(
            f"select file_key, fault_code, line_no, {columns} from raw_record "
            "where structure is null order by file_key, line_no"
        ).fetchall()
    for file in files:
        fault = faults.get(file.file_key)
        if fault is not None:
            raise UnreadableError(fault.code, f"{file.name}: {fault.message}", fault.value)
        mine = [row for row in rows if row[0] == file.file_key]
        bad = next((row for row in mine if row[1] is not None), None)
        if bad is not None:
            said = f"line {bad[2]} of the companion {file.name} cannot be read ({bad[1]})"
            raise UnreadableError("unreadable_companion", said)
        try:
            told = [dict(zip(names, row[3:], strict=True)) for row in mine]
            found += statements(companion, file.name, told)
        except ValueError as error:
            said = f"the companion {file.name} {error}; ask the sender for it again"
            raise UnreadableError("unreadable_companion", said) from None
    return found


def _column_names(rows: Sequence[Sequence[str | None]]) -> tuple[str, ...]:
    trimmed = [
        [re.sub(r"^[\s\ufeff\xa0]+|[\s\xa0]+$", "", cell or "") for cell in row] for row in rows
    ]
    return tuple(workbooks.joined_names(trimmed))


def _no_header(form: DelimitedFormat, line: int) -> UnreadableError:
    said = f"line {line} should hold the column names"
    if form.header_has:
        said = f"no line has all of {', '.join(form.header_has)}, the column names"
    return UnreadableError("missing_header", said)


_PLAIN_NUMBER = r"[+-]?[0-9]{1,18}(\.[0-9]{0,9})?"
_STATED_NUMBER = r"[+-]?[0-9]{1,30}(\.[0-9]{1,9})?"


def _sum_of(column: str, decimal_comma: bool, counted: str) -> str:
    """SQL: the sum of a text column over ``counted`` records; what is no number does not count."""
    value = f"trim({column})"
    if decimal_comma:
        value = f"replace(replace({value}, '.', ''), ',', '.')"
    pattern = sql.render(sql.text(_PLAIN_NUMBER))
    return (
        f"sum(case when {counted} and regexp_full_match({value}, {pattern}) "
        f"then try_cast({value} as decimal(38,9)) end)"
    )


def _pointed(stated: str | None) -> str | None:
    return stated and stated.replace(".", "").replace(",", ".")


_BEYOND = {"above": "below its last total", "below": "above its first total"}


def _compare(
    code: str, what: str, stated: str | None, counted: Decimal, by: str = "the file"
) -> None:
    text = (stated or "").strip()
    if not re.fullmatch(_STATED_NUMBER, text, re.ASCII) or Decimal(text) != counted:
        plain = format(counted.normalize(), "f")
        raise UnreadableError(
            code,
            f"{by} states {what} {text or 'nothing'}, its lines give {plain}; "
            "ask the sender for the file again",
            text,
        )


# ---------------------------------------------------------------- bytes to lines

_LINES = pa.schema(
    [("part", pa.int64()), ("line_no", pa.int64()), ("suspect", pa.bool_()),
     ("raw_text", pa.string())]
)  # fmt: skip
_DOCUMENTS = pa.schema([*_LINES, ("context", pa.string())])
_DECODED = pa.schema([("part", pa.int64()), *list(BATCH_SCHEMA)[1:]])


def _utf8(part: Part, spec: FeedSpec) -> Iterator[bytes]:
    """Yield a part's bytes as UTF-8 without BOM; what is not text in the encoding is kept as is."""
    form = spec.format
    assert not isinstance(form, XlsxFormat | XmlFormat | RoamingFormat)
    blocks = part.blocks(spec.limits)
    first = next(blocks, b"")
    if not first and not spec.allow_empty:
        raise empty()
    encoding = form.encoding
    if encoding in ("utf-8", "utf-8-sig") and first[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise UnreadableError(
            "wrong_encoding", "is UTF-16, the feed says UTF-8; set format.encoding to utf-16"
        )
    if first.startswith(b"PK\x03\x04"):
        raise UnreadableError(
            "wrong_format", "is an archive or a workbook, not text; check the feed's files"
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


def _lines(part: Part, spec: FeedSpec) -> Iterator[pa.RecordBatch]:
    line_no, rest = 1, b""
    for block in _with_line_feeds(_utf8(part, spec), spec):
        cut = block.rfind(b"\n")
        if cut < 0:
            rest += block
            continue
        batch = _cut(part.number, line_no, rest + block[: cut + 1], spec)
        rest = block[cut + 1 :]
        line_no += batch.num_rows
        yield batch
    if rest:
        yield _cut(part.number, line_no, rest + b"\n", spec)


def _with_line_feeds(blocks: Iterator[bytes], spec: FeedSpec) -> Iterator[bytes]:
    """End records by line feeds that end otherwise, or only by their length."""
    form = spec.format
    length = form.record_length if isinstance(form, FixedFormat) else None
    end = form.line_end if isinstance(form, DelimitedFormat | FixedFormat) else None
    if length is not None:
        rest = ""
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        for block in blocks:
            rest += decoder.decode(block)
            whole = len(rest) // length * length
            # a line feed inside a record would tear it: it is shown as damage instead
            text = rest[:whole].replace("\n", raw_sql.REPLACED)
            rest = rest[whole:]
            yield "".join(f"{text[at : at + length]}\n" for at in range(0, whole, length)).encode()
        rest += decoder.decode(b"", final=True)
        if rest.strip("\r\n\x1a \0"):
            yield f"{rest}\n".encode()
        return
    if end is None or end == "\n":
        yield from blocks
        return
    for block in blocks:
        if end == "\r":
            yield block.replace(b"\n", b"").replace(b"\r", b"\n")
        else:
            yield block.translate(None, b"\r\n").replace(end.encode(), b"\n")


def _cut(part: int, first_line: int, data: bytes, spec: FeedSpec) -> pa.RecordBatch:
    """Make a batch of whole lines; every line of ``data`` ends in a line feed."""
    form = spec.format
    assert not isinstance(form, XlsxFormat | XmlFormat | RoamingFormat)
    replaced = form.encoding not in ("utf-8", "utf-8-sig") or (
        isinstance(form, FixedFormat) and form.record_length is not None
    )
    suspect = replaced and _REPLACED in data
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
            pa.array(np.full(count, part, dtype=np.int64)),
            numbers,
            pa.array(np.full(count, suspect, dtype=bool)),
            texts.cast(pa.string()),
        ],
        schema=_LINES,
    )


# ---------------------------------------------------------------- JSON


def _json_batches(part: Part, spec: FeedSpec, form: JsonFormat) -> Iterator[pa.RecordBatch]:
    around = [
        name.removeprefix(raw_sql.DOCUMENT) for name in spec.sources()
        if name.startswith(raw_sql.DOCUMENT)
    ]  # fmt: skip
    texts: list[str | None] = []
    contexts: list[str] = []
    counted = PIECE in spec.sources()
    shape = json_documents.Shape(form.explode, form.parallel, counted)
    read = json_documents.yaml_documents if form.type == "yaml" else json_documents.documents
    for document in read(_text(part, spec)):
        stated = json_documents.context(document, around)
        for record in json_documents.records(document, form.records, shape):
            texts.append(record)
            contexts.append(stated)
        if spec.control and spec.control.of_document:
            # a line of its own says what the document states, also when it has no records
            texts.append(None)
            contexts.append(stated)
    if not any(text is not None for text in texts) and not spec.allow_empty:
        raise empty()
    yield _numbered(part.number, texts, [False] * len(texts)).append_column(
        "context", pa.array(contexts, pa.string())
    )


def _exploded_lines(part: Part, spec: FeedSpec, form: NdjsonFormat) -> Iterator[pa.RecordBatch]:
    number = 1
    shape = json_documents.Shape(form.explode, form.parallel, PIECE in spec.sources())
    for batch in _lines(part, spec):
        texts: list[str | None] = []
        suspects: list[bool] = []
        lines = zip(batch["raw_text"].to_pylist(), batch["suspect"].to_pylist(), strict=True)
        for text, suspect in lines:
            made = [text]
            if text.strip():
                made = json_documents.line_pieces(text, shape)
            texts += made
            suspects += [suspect] * len(made)
        yield _numbered(part.number, texts, suspects, number)
        number += len(texts)


def _numbered(
    part: int, texts: Sequence[str | None], suspects: Sequence[bool], first: int = 1
) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(
        [
            pa.array([part] * len(texts), pa.int64()),
            pa.array(range(first, first + len(texts)), pa.int64()),
            pa.array(suspects, pa.bool_()),
            pa.array(texts, pa.string()),
        ],
        schema=_LINES,
    )


def _text(part: Part, spec: FeedSpec) -> str:
    data = b"".join(_utf8(part, spec))
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UnreadableError(
            "wrong_encoding", f"is not text in the feed's encoding at byte {error.start}"
        ) from None


# ---------------------------------------------------------------- decoders


def _with_header(
    records: Iterator[RawRecord], header: Mapping[str, str | None]
) -> Iterator[RawRecord]:
    """Let records know what stands outside of them, as ``header.<path>``."""
    named = {f"{_HEADER}{name}": value for name, value in header.items()}
    for record in records:
        yield RawRecord(record.line_no, {**named, **record.fields}, record.raw_text, record.problem)


def _decoded_row(part: int, line_no: int, cells: Sequence[str | None]) -> pa.RecordBatch:
    """A row that is no record: what a document states, after its last record."""
    return pa.RecordBatch.from_arrays(
        [
            pa.array([part], pa.int64()),
            pa.array([line_no], pa.int64()),
            pa.array([None], pa.string()),
            pa.array([None], pa.string()),
            pa.array([None], pa.string()),
            pa.array([list(cells)], pa.list_(pa.string())),
        ],
        schema=_DECODED,
    )


__all__ = ["FileFault", "SourceFile", "read_files"]
