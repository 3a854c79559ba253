"""SQL of the formats: lines and cells as loaded, to raw records.

What a reader loads is relation ``raw_line`` (``part``, ``line_no``, ``raw_text`` and what the
format needs) and ``raw_file``, one row per part. The selects made here give
:data:`engine.feeds.spec.RAW_COLUMNS`, the source fields, and ``part``, ``layout`` and ``piece``
(0 for the first record of a line) for the checks of control totals.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from iotbill_pipelines.engine.feeds import sql
from iotbill_pipelines.engine.feeds.mapping import raw_condition
from iotbill_pipelines.engine.feeds.spec import (
    COLUMN,
    PIECE,
    VALUE,
    ColumnMatch,
    Condition,
    DelimitedFormat,
    FeedSpec,
    FixedFormat,
    Layout,
    LayoutMatch,
    Limits,
    RowLayout,
)

NUL_SHOWN = "\u2400"
REPLACED = "\ufffd"
DOCUMENT = "$document."
"""Begins the names of what a JSON document says beside its records."""


def _clean(column: str, nulls: Sequence[str]) -> str:
    """SQL of a source text: empty, or one of the feed's null texts, is null."""
    if not nulls:
        return f"nullif({column}, '')"
    listed = _listed(nulls)
    return f"case when {column} not in ('', {listed}) then {column} end"


def line_text() -> str:
    return "regexp_replace(raw_text, '\\r?\\n$', '')"


def _common(spec: FeedSpec, raw: str, fault: str) -> str:
    """Findings that every text format shares, before those of the format."""
    limit = spec.limits.max_line_bytes
    return (
        f"case when structure is not null then null "
        f"when strlen({raw}) > {limit} then 'line_too_long' "
        f"when suspect and contains({raw}, '{NUL_SHOWN}') then 'nul_byte' "
        f"when suspect and contains({raw}, '{REPLACED}') then 'encoding' "
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


def _outer(
    inner: str, fault_value: str, columns: Sequence[str], *, message: str = "", order: str = ""
) -> str:
    """Select the raw columns; ``order`` numbers records on where a line can hold several."""
    listed = "".join(f", {column}" for column in columns)
    number, piece = "line_no + f.line_offset", "0"
    if order:
        piece = "l.piece"
        number = f"row_number() over (partition by f.file_key order by {order})"
    return f"""
select f.file_key, f.file_name, f.member, f.received_at, {number} as line_no, structure,
  fault_code, cast(null as varchar) as fault_field, {fault_value} as fault_value,
  {message or _message("fault_code")} as fault_message, raw_text, l.part, layout,
  {piece} as piece{listed}
from ({inner}) as l join raw_file as f on f.part = l.part""".strip()


def stated_apart(spec: FeedSpec, when: Condition, select: str) -> str:
    """SQL: records for which ``when`` holds are no records, but lines that state totals."""
    columns = {name: f"s_{number}" for number, name in enumerate(spec.sources())}
    holds = f"structure is null and {sql.render(raw_condition(when, columns))}"
    apart = [f"case when {holds} then 'trailer' else structure end as structure"]
    apart += [
        f"case when not ({holds}) then {name} end as {name}"
        for name in ("fault_code", "fault_field", "fault_value", "fault_message")
    ]
    return f"select * replace ({', '.join(apart)}) from ({select})"


def unpivoted(spec: FeedSpec, select: str) -> str:
    """SQL: every field of ``unpivot`` that holds something as a record; the first, if none does.

    Records are then numbered on, as a line can make several.
    """
    place = {name: number for number, name in enumerate(spec.sources())}
    nothing = "struct_pack(n := 0, field := cast(null as varchar), told := cast(null as varchar))"
    cells = ", ".join(
        f"struct_pack(n := {number}, field := {sql.render(sql.text(name))}, "
        f"told := s_{place[name]})"
        for number, name in enumerate(spec.format.unpivot)
    )
    replaced = ["cell.n as piece"]
    replaced += [f"cell.field as s_{place[COLUMN]}"] if COLUMN in place else []
    replaced += [f"cell.told as s_{place[VALUE]}"] if VALUE in place else []
    return f"""
select * exclude (cell, told) replace ({", ".join(replaced)},
  row_number() over (partition by file_key order by line_no, cell.n) as line_no)
from (select *, unnest(case when structure is null and fault_code is null and len(told) > 0
                            then told else [{nothing}] end) as cell
      from (select *, list_filter([{cells}], lambda c: c.told is not null) as told
            from ({select})))""".strip()


def counted_records(spec: FeedSpec) -> str:
    """SQL: is this one of the records that stated totals are about?"""
    columns = {name: f"s_{number}" for number, name in enumerate(spec.sources())}
    without = spec.control.without if spec.control else ()
    left_out = [
        sql.render(raw_condition(rule.when, columns))
        for rule in spec.filter
        if rule.reason in without
    ]
    return " and ".join(["structure is null", *(f"not ({test})" for test in left_out)])


def _inherited(
    inner: str, spec: FeedSpec, layouts: Sequence[Layout | RowLayout], line: str = "line_no"
) -> str:
    """Let records know the fields of the header line of each kind before them."""
    controlled = set(spec.control.fields()) if spec.control else set()
    mapped = set(spec.mapped_sources())
    replaced = []
    for number, name in enumerate(spec.sources()):
        if name in controlled and name not in mapped:
            continue
        owners = [
            place for place, layout in enumerate(layouts)
            if layout.kind == "header" and layout.prefix and name.startswith(layout.prefix)
        ]  # fmt: skip
        if owners:
            own = f"layout in ({', '.join(map(str, owners))})"
            replaced.append(
                f"case when structure is null then (last_value(case when {own} "
                f"then struct_pack(v := s_{number}) end ignore nulls) over before).v "
                f"else s_{number} end as s_{number}"
            )
    if not replaced:
        return inner
    return f"""
select * replace ({", ".join(replaced)}) from ({inner})
window before as (partition by part order by {line}
                  rows between unbounded preceding and current row)""".strip()


def json_pointer(path: str) -> str:
    """Return the JSON pointer of ``sim.iccid`` or ``hotspots[0].id``; ``"a.b"`` is one key."""
    parts = re.findall(r'"([^"]*)"|([^.\[\]"]+)|\[([0-9]+)\]', path)
    keys = [quoted or plain or index for quoted, plain, index in parts]
    return "".join("/" + key.replace("~", "~0").replace("/", "~1") for key in keys)


# A number of more than 15 significant digits does not survive the JSON reader's doubles: such
# records have their numbers put in quotes, outside of strings, before they are read.
_LONG_NUMBER = r"[0-9]{5,}\.[0-9]|[0-9]\.[0-9]{12,}|[0-9]{16,}[eE]"
_TOKENS = r'("(?:[^"\\]|\\.)*")|(-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)'


def json_select(spec: FeedSpec, documents: bool) -> str:
    """Objects to fields; ``documents`` come with what stands around them, and a row after all."""
    names = [name for name in spec.sources() if not name.startswith(DOCUMENT)]
    place = {name: number for number, name in enumerate(names, 1)}
    # of an empty list the engine would not know what it holds
    pointers = [json_pointer(name) for name in names] or [""]
    listed = ", ".join(sql.render(sql.text(pointer)) for pointer in pointers)
    tokens = sql.render(sql.text(_TOKENS))
    quoted = (
        f"replace(replace(replace(regexp_replace(doc, {tokens}, "
        "'\\1' || chr(2) || '\\2' || chr(3), 'g'), "
        "chr(2) || chr(3), ''), chr(2), '\"'), chr(3), '\"')"
    )
    fields = []
    for number, name in enumerate(spec.sources()):
        read = f"texts[{place.get(name)}]"
        if name.startswith(DOCUMENT):
            pointer = sql.render(sql.text(json_pointer(name.removeprefix(DOCUMENT))))
            read = f"json_extract_string(context, {pointer})"
        fields.append(f"{_clean(read, spec.format.nulls)} as s_{number}")
    arrays = any(name.startswith("[") for name in names)
    kinds = "in ('OBJECT', 'ARRAY')" if arrays else "= 'OBJECT'"
    context = "context" if documents else "cast(null as varchar) as context"
    fault = "case when doc is null then 'invalid_json' end"
    return _outer(
        f"""
select *, {_common(spec, "raw_text", fault)} as fault_code, cast(null as integer) as layout,
  case when list_contains(kinds, 'DOUBLE') and regexp_matches(doc, '{_LONG_NUMBER}')
       then json_extract_string({quoted}, [{listed}])
       else json_extract_string(doc, [{listed}]) end as texts
from (select *, json_type(doc, [{listed}]) as kinds
  from (select * exclude (valid), case when valid and json_type(raw_text) {kinds}
               then raw_text end as doc
    from (select *, structure is null and json_valid(raw_text) as valid
      from (select part, line_no, suspect, {context}, {line_text()} as raw_text,
            case when raw_text is null then 'trailer'
                 when regexp_full_match(raw_text, '\\s*') then 'blank' end as structure
            from raw_line))))""".strip(),
        "cast(null as varchar)",
        fields,
    )


def fixed_select(spec: FeedSpec, form: FixedFormat) -> str:
    layouts = list(enumerate(form.layouts))
    whens = []
    for number, layout in layouts:
        test = "true"
        if layout.when:
            start, length = layout.when.start, layout.when.length
            test = _cell_test(layout.when, f"trim(substring(raw_text, {start}, {length}))")
        whens.append(f"when {test} then {number}")
    structures = " ".join(
        f"when {number} then '{layout.kind}'" for number, layout in layouts
        if layout.kind != "detail"
    )  # fmt: skip
    lengths = ""
    if form.record_length:
        lengths = f"when length(raw_text) <> {form.record_length} then 'line_length' "
    lengths += " ".join(
        f"when layout = {number} and length(raw_text) <> {layout.length} then 'line_length'"
        for number, layout in layouts if layout.length
    )  # fmt: skip
    columns = []
    for position, name in enumerate(spec.sources()):
        cases = ""
        for number, layout in layouts:
            for field, part in layout.fields.items():
                if layout.prefix + field == name:
                    cases += (
                        f" when {number} then "
                        f"trim(substring(raw_text, {part.start}, {part.length}), ' ' || chr(9))"
                    )
        read = f"(case layout{cases} end)" if cases else "cast(null as varchar)"
        columns.append(f"{_clean(read, form.nulls)} as s_{position}")
    fault = f"case when layout is null then 'unknown_layout' {lengths} end"
    kind = f"case layout {structures} end" if structures else "null"
    listed = "".join(f", {column}" for column in columns)
    inner = f"""
select *, {_common(spec, "raw_text", fault)} as fault_code{listed}
from (select *, case when blank then 'blank' else {kind} end as structure
  from (select *, raw_text = '' as blank, case {" ".join(whens)} end as layout
    from (select part, line_no, suspect,
          regexp_replace({line_text()}, '^[\\x1a\\s]+$', '') as raw_text
          from raw_line)))""".strip()
    return _outer(
        _inherited(inner, spec, form.layouts),
        "case fault_code when 'line_length' then cast(length(raw_text) as varchar) end",
        _fields(spec),
    )


def cells_select(form: DelimitedFormat, limits: Limits, headers: Sequence[str] = ()) -> str:
    """Lines to lists of cells; with ``multiline``, lines to records first."""
    delimiter = sql.render(sql.text(form.delimiter))
    comment = (
        f"when starts_with(ltrim(raw_text), {sql.render(sql.text(form.comment))}) then 'comment'"
        if form.comment
        else ""
    )
    header, skipped = "", f"line_no <= {form.skip_rows}"
    if form.header:
        first = str(form.skip_rows + 1)
        if form.header_has:
            first, skipped = "header_line", "line_no < coalesce(header_line, 0)"
        header = f"when line_no between {first} and {first} + {form.header_rows - 1} then 'header'"
        if form.type_rows:
            last = form.header_rows + form.type_rows
            header += f" when line_no between {first} and {first} + {last - 1} then 'types'"
        if headers:
            header += f" when raw_text in ({_listed(headers)}) then 'repeated_header'"
    lines = f"select part, line_no, suspect, {line_text()} as raw_text from raw_line"
    if form.quote and form.multiline:
        lines = _joined(lines, form.quote, limits)
    if form.header_has:
        lines = f"select * from ({lines}) left join raw_header using (part)"
    structured = f"""
select *, case when {skipped} then 'skipped' {header} {comment}
     when regexp_full_match(raw_text, '\\s*') then 'blank' end as structure from ({lines})"""
    if form.escape:
        return _escaped(structured, form)
    if form.collapse:
        run = sql.render(sql.text(f"(?:{re.escape(form.delimiter)})+"))
        bare = f"trim(raw_text, {delimiter})" if len(form.delimiter) == 1 else "raw_text"
        return f"""
select *, string_split_regex({bare}, {run}) as cells, cast(null as varchar) as quote_fault
from ({structured})"""
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
  from (select *, case when contains(raw_text, {quote})
               then length(raw_text) - length(replace(raw_text, {quote}, '')) else 0 end as quotes
        from ({structured})))"""


def _escaped(structured: str, form: DelimitedFormat) -> str:
    """SQL that cuts lines in which a character before another takes away what it means."""
    q, d, e = (re.escape(text or "") for text in (form.quote, form.delimiter, form.escape))
    size = len(form.delimiter)
    single = size == 1
    plain = f"(?:{e}.|[^{q}{e}{d if single else ''}])*{'' if single else '?'}"
    cells = rf"(?:\s*{q}(?:{e}.|{q}{q}|[^{q}{e}])*{q}\s*|{plain}){d}" if q else rf"{plain}{d}"
    pattern = sql.render(sql.text(f"(?s:{cells})"))
    cell = f"x[1:length(x) - {size}]"
    escape = sql.render(sql.text(rf"(?s){e}(.)"))
    bare = f"regexp_replace({cell}, {escape}, '\\1', 'g')"
    if form.quote:
        quote = sql.render(sql.text(form.quote))
        body = f"trim({cell})[2:length(trim({cell})) - 1]"
        meant = sql.render(sql.text(rf"(?s){e}(.)|{q}({q})"))
        bare = (
            f"case when starts_with(trim({cell}), {quote}) "
            f"then regexp_replace({body}, {meant}, '\\1\\2', 'g') else {bare} end"
        )
    delimiter = sql.render(sql.text(form.delimiter))
    return f"""
select * exclude (found),
  case when list_sum(list_transform(found, lambda x: length(x))) = length(raw_text) + {size}
       then list_transform(found, lambda x: {bare})
       else string_split(raw_text, {delimiter}) end as cells,
  case when list_sum(list_transform(found, lambda x: length(x))) = length(raw_text) + {size}
       then null else 'bad_quoting' end as quote_fault
from (select *, regexp_extract_all(raw_text || {delimiter}, {pattern}) as found
      from ({structured}))"""


def _joined(lines: str, quote: str, limits: Limits) -> str:
    """SQL that joins lines while a quote is open; one that never ends costs its own line only."""
    q = sql.render(sql.text(quote))
    return f"""
select part, min(line_no) as line_no, bool_or(suspect) as suspect,
  string_agg(raw_text, chr(10) order by line_no) as raw_text
from (
  select *, case when sum(odd) over record % 2 = 1
                   or sum(strlen(raw_text)) over record > {limits.max_line_bytes}
                 then line_no else first_line end as own
  from (
    select *, max(case when coalesce(before, 0) % 2 = 0 then line_no end)
                over (partition by part order by line_no) as first_line
    from (
      select *, sum(odd) over (partition by part order by line_no
                               rows between unbounded preceding and 1 preceding) as before
      from (select *, (length(raw_text) - length(replace(raw_text, {q}, ''))) % 2 as odd
            from ({lines}))))
  window record as (partition by part, first_line))
group by part, own"""


def row_select(
    spec: FeedSpec, form: DelimitedFormat, names: Sequence[str], parts: Sequence[int] | None
) -> str:
    """Cells to fields for ``parts`` (null: all of them), whose header has ``names``."""
    chosen = ""
    if parts is not None:
        chosen = f"where part in ({', '.join(map(str, parts)) or 'null'})"
    if form.layouts:
        return _layout_select(spec, form, names, chosen)
    position = {name: number for number, name in enumerate(names, 1)}
    columns = [
        f"{_cell(position.get(name), form)} as s_{number}"
        for number, name in enumerate(spec.sources())
    ]
    wrong = _wrong_width(len(names), form.optional, form.more)
    fault = (
        f"case when quote_fault is not null then quote_fault when {wrong} then 'column_count' end"
    )
    inner = f"""
select *, {_common(spec, "raw_text", fault)} as fault_code, cast(null as integer) as layout
from raw_cells {chosen}""".strip()
    return _outer(inner, _CELL_COUNT, columns)


_CELL_COUNT = "case fault_code when 'column_count' then cast(len(cells) as varchar) end"


def _cell(position: int | str | None, form: DelimitedFormat) -> str:
    return "cast(null as varchar)" if position is None else _clean(f"cells[{position}]", form.nulls)


def _wrong_width(width: int, optional: int, more: bool) -> str:
    if more:
        return f"len(cells) < {width - optional}"
    if optional:
        return f"len(cells) not between {width - optional} and {width}"
    return f"len(cells) <> {width}"


def _layout_select(spec: FeedSpec, form: DelimitedFormat, names: Sequence[str], chosen: str) -> str:
    """Lines of several kinds: the layout first, then its columns, then what headers hand down."""
    whens, structures, widths, pieces = [], [], [], []
    cases: dict[str, str] = {}
    for number, layout in enumerate(form.layouts):
        own = layout.columns or tuple(names)
        whens.append(f"when {_layout_test(layout, own)} then {number}")
        if layout.kind != "detail":
            structures.append(f"when {number} then '{layout.kind}'")
        elif layout.repeat:
            start, size = layout.repeat.start, len(layout.repeat.columns)
            further = f"len(cells) - {start - 1}"
            wrong = f"len(cells) < {start - 1} or ({further}) % {size} <> 0"
            pieces.append(f"when {number} then greatest(1, ({further}) // {size})")
            cases[PIECE] = cases.get(PIECE, "") + f" when {number} then cast(piece as varchar)"
            for place, name in enumerate(layout.repeat.columns):
                cell = f"{start + place} + piece * {size}"
                cases[name] = cases.get(name, "") + f" when {number} then {_cell(cell, form)}"
        if layout.kind == "detail":
            if not layout.repeat:
                wrong = _wrong_width(len(own), layout.optional, layout.more)
            widths.append(f"when layout = {number} and ({wrong}) then 'column_count'")
        for place, name in enumerate(own, 1):
            named = layout.prefix + name
            cases[named] = cases.get(named, "") + f" when {number} then {_cell(place, form)}"
    columns = [
        f"{f'case layout{cases[name]} end' if name in cases else 'cast(null as varchar)'} "
        f"as s_{number}"
        for number, name in enumerate(spec.sources())
    ]
    fault = (
        "case when quote_fault is not null then quote_fault "
        f"when layout is null then 'unknown_layout' {' '.join(widths)} end"
    )
    kind = f"case layout {' '.join(structures)} end" if structures else "cast(null as varchar)"
    piece = "0"
    if pieces:
        piece = f"unnest(range(case layout {' '.join(pieces)} else 1 end))"
    inner = f"""
select *, {_common(spec, "raw_text", fault)} as fault_code, {", ".join(columns)}
from (select *, {piece} as piece
  from (select * replace (coalesce(structure, {kind}) as structure)
    from (select *, case when structure is null then case {" ".join(whens)} end end as layout
          from raw_cells {chosen})))""".strip()
    return _outer(
        _inherited(inner, spec, form.layouts, "line_no, piece"),
        _CELL_COUNT,
        _fields(spec),
        order="l.part, l.line_no, l.piece" if pieces else "",
    )


def _layout_test(layout: RowLayout, names: Sequence[str]) -> str:
    when = layout.when
    if when is None:
        return "true"
    if isinstance(when.column, str):
        if when.column not in names:
            return "false"
        cell = f"cells[{names.index(when.column) + 1}]"
    else:
        cell = f"cells[{when.column}]"
    return _cell_test(when, f"trim(coalesce({cell}, ''))")


def _cell_test(when: ColumnMatch | LayoutMatch, text: str) -> str:
    if when.matches is not None:
        return f"regexp_full_match({text}, {sql.render(sql.text(when.matches))})"
    return f"{text} in ({_listed(when.one_of or (when.equals or '',))})"


def decoded_select(spec: FeedSpec) -> str:
    """Records of decoders, which come with their findings and messages."""
    fields = [
        f"{_clean(f'cells[{number + 1}]', spec.format.nulls)} as s_{number}"
        for number in range(len(spec.sources()))
    ]
    inner = """
select *, case when raw_text is null then 'trailer' end as structure,
  cast(null as integer) as layout from raw_line""".strip()
    return _outer(inner, "cast(null as varchar)", fields, message="l.fault_message")


def _fields(spec: FeedSpec) -> list[str]:
    return [f"s_{number}" for number in range(len(spec.sources()))]


def _listed(texts: Sequence[str]) -> str:
    return ", ".join(sql.render(sql.text(text)) for text in texts)
