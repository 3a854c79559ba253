"""A page per feed for people who do not read YAML: what comes in, what comes out, and why not.

:func:`feed_page` says what the feed's terms say, in the order in which a record meets them; an
example record is a real run over a sample file. The same page is written as Markdown and as HTML.
:func:`write_pages` writes all of a folder's feeds with an index; the same feeds give the same
bytes, so that a test can hold the pages to the feeds.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from iotbill_pipelines.config.feed_schema import plain
from iotbill_pipelines.config.feeds import feeds_of, load_feeds
from iotbill_pipelines.engine.feeds.functions import lookup
from iotbill_pipelines.engine.feeds.spec import (
    DEFAULT_MAX_QUANTITY,
    DelimitedFormat,
    FeedSpec,
    FieldSpec,
    FixedFormat,
    RowLayout,
    Step,
)
from iotbill_pipelines.engine.feeds.tracing import describe, label, origin, trace_feed
from iotbill_pipelines.operations.feed_tools.trying import Record, try_sample

SAMPLES = "samples"
"""Folder beside the feeds: small files, found by the feeds' own patterns."""
SAMPLES_CAME = datetime(2026, 11, 2)  # noqa: DTZ001 - naive UTC, as in the engine
"""When the samples are taken to have come; fixed, so that pages do not change with the clock."""


@dataclass(frozen=True)
class Heading:
    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    text: str


@dataclass(frozen=True)
class Listing:
    """Text as it stands in a file."""

    text: str


@dataclass(frozen=True)
class Sheet:
    """A table; cells are texts, line feeds in them are kept."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Link:
    text: str
    target: str


Block = Heading | Paragraph | Listing | Sheet | Link


def write_pages(feeds: Path, out: Path, only: Sequence[str] = ()) -> list[Path]:
    """Write a Markdown and an HTML page per feed of a folder, and an index; return the files.

    Raises ConfigError for feeds that do not load, ValueError for an id in ``only`` that is none.
    """
    specs = load_feeds(feeds)
    for name in only:
        if name not in specs:
            raise ValueError(f"no feed is called {name!r}; known: {', '.join(specs)}")
    samples = _samples(feeds / SAMPLES, specs)
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for spec in specs.values():
        if only and spec.id not in only:
            continue
        blocks = feed_page(spec, samples.get(spec.id))
        written += _write(out, spec.id, f"Feed {spec.id}", blocks)
    if not only:
        written += _write(out, "index", "Feeds", _index(specs.values()))
    return written


def _samples(folder: Path, specs: Mapping[str, FeedSpec]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        for spec in feeds_of(path.name, specs.values()):
            found.setdefault(spec.id, path)
    return found


def _write(out: Path, name: str, title: str, blocks: Sequence[Block]) -> list[Path]:
    pages = {".md": to_markdown(blocks), ".html": to_html(title, blocks)}
    for ending, text in pages.items():
        (out / f"{name}{ending}").write_text(text, encoding="utf-8")
    return [out / f"{name}{ending}" for ending in pages]


def _index(specs: Iterable[FeedSpec]) -> list[Block]:
    blocks: list[Block] = [
        Heading("Feeds", 1),
        Paragraph("What each feed reads, how every field comes about, and what is rejected. "
                  "Written by iotbill feed docs; do not edit."),
    ]  # fmt: skip
    for spec in specs:
        said = spec.description or f"Fills {spec.target}."
        blocks += [Link(spec.id, spec.id), Paragraph(f"{spec.carrier}: {said}")]
    return blocks


# ---------------------------------------------------------------- what a page says


def feed_page(spec: FeedSpec, sample: Path | None = None) -> list[Block]:
    """Say what a feed does; with ``sample``, also what it makes of that file's records."""
    blocks: list[Block] = [Heading(f"Feed {spec.id}", 1)]
    if spec.description:
        blocks.append(Paragraph(spec.description))
    blocks += _reads(spec)
    blocks += _filters(spec)
    blocks += _fields(spec)
    blocks += _tables(spec)
    blocks += _identity(spec)
    blocks += _controls(spec)
    blocks += _rejections(spec)
    if sample is not None:
        blocks += _examples(spec, sample)
    blocks.append(Paragraph(f"Written from the feed {spec.id} by iotbill feed docs; do not edit."))
    return blocks


def _reads(spec: FeedSpec) -> list[Block]:
    given = spec.format.model_dump(by_alias=True, exclude_defaults=True, mode="json")
    shown = {
        name: value for name, value in given.items() if name not in ("type", "layouts", "columns")
    }
    extra = "".join(f", {name.replace('_', ' ')} {_value(value)}" for name, value in shown.items())
    rows = [
        ("Carrier", spec.carrier),
        ("Files", ", ".join(spec.files)),
        ("Format", spec.format.type + extra),
        ("Fills", f"{spec.target}: {spec.table.doc}"),
        ("Clock", f"times without offset are in {spec.zone}" if spec.zone
         else "a time without offset cannot be used"),
        ("Limits", f"{spec.limits.max_bytes:,} bytes unpacked, {spec.limits.max_line_bytes:,} per "
         "record"),
    ]  # fmt: skip
    if spec.complete:
        rows.append(("Whole", "what a file leaves out has ended"))
    if spec.allow_empty:
        rows.append(("Empty files", "are days without usage"))
    blocks: list[Block] = [Heading("What it reads"), Sheet(("", ""), tuple(rows))]
    form = spec.format
    if isinstance(form, FixedFormat):
        for layout in form.layouts:
            when = layout.when
            test = ""
            if when is not None:
                test = f", told by characters {when.start} to {when.start + when.length - 1}"
            blocks += [
                Paragraph(f"Lines of kind {layout.kind}{test}:"),
                Sheet(("field", "from", "to"), tuple(
                    (name, str(part.start), str(part.start + part.length - 1))
                    for name, part in layout.fields.items()
                )),
            ]  # fmt: skip
    elif isinstance(form, DelimitedFormat) and form.columns:
        blocks.append(Paragraph(f"Columns, in order: {', '.join(form.columns)}."))
    if isinstance(form, DelimitedFormat) and form.layouts:
        blocks += [
            Paragraph("Kinds of lines; the first that fits reads a line:"),
            Sheet(("kind", "told by", "columns"), tuple(map(_row_layout, form.layouts))),
        ]
    return blocks


def _row_layout(layout: RowLayout) -> tuple[str, str, str]:
    kind = layout.kind + (f" {layout.name}" if layout.name else "")
    told, when = "every other line", layout.when
    if when is not None:
        wanted = when.matches or ", ".join(when.one_of or (when.equals or "",))
        told = f"column {when.column} {'matches' if when.matches else 'is'} {wanted}"
    columns = ", ".join(layout.columns) or "those of the header"
    if layout.repeat:
        columns += f", then again and again: {', '.join(layout.repeat.columns)}"
    return kind + (" (repeated)" if layout.repeated else ""), told, columns


MOST_ROWS = 60
"""Rows of a table that a page shows."""


def _tables(spec: FeedSpec) -> list[Block]:
    blocks: list[Block] = []
    for name, table in spec.tables.items():
        origin_ = f" of configs/tables/{table.file}" if table.file else ""
        more = f"; the first {MOST_ROWS} are" if len(table.rows) > MOST_ROWS else ""
        blocks += [
            Paragraph(f"Table {name}{origin_}, {len(table.rows)} rows{more}:"),
            Sheet(("key", "value", "from", "to"), tuple(
                (row.key, row.value, str(row.valid_from or ""), str(row.valid_to or ""))
                for row in table.rows[:MOST_ROWS]
            )),
        ]  # fmt: skip
    return [Heading("Tables it translates by"), *blocks] if blocks else []


def _value(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, str) and not value.strip():
        return repr(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _filters(spec: FeedSpec) -> list[Block]:
    blocks: list[Block] = [Heading("What is left out on purpose")]
    if not spec.filter:
        return [*blocks, Paragraph("Nothing.")]
    rows = tuple((f"filter:{rule.reason}", describe(rule.when)) for rule in spec.filter)
    return [*blocks, Sheet(("reason", "records where"), rows)]


def _fields(spec: FeedSpec) -> list[Block]:
    meanings = {column.name: column.doc for column in spec.table.columns}
    implicit = {
        trace.name: [step.label for step in trace.steps if step.implicit]
        for trace in trace_feed(spec).fields
        if not trace.attribute
    }
    rows = [
        row
        for name, field in spec.fields.items()
        for row in _ways(name, field, meanings[name], implicit.get(name, []))
    ]
    blocks: list[Block] = [
        Heading("How each field is filled"),
        Sheet(("field", "from", "when", "steps", "meaning"), tuple(rows)),
    ]
    if spec.attributes:
        kept = [
            row[:4] for name, field in spec.attributes.items() for row in _ways(name, field, "", [])
        ]
        blocks += [
            Paragraph("Kept with the record, as attributes:"),
            Sheet(("attribute", "from", "when", "steps"), tuple(kept)),
        ]
    used = {
        step.name: step
        for field in (*spec.fields.values(), *spec.attributes.values())
        for branch in field.branches()
        for step in (*branch.steps, *field.steps)
    }
    if used:
        blocks += [
            Paragraph("The functions used:"),
            Sheet(("function", "what it does"), tuple(
                (f"{name}@{step.version}", _first(lookup(step).__doc__)) for name, step
                in sorted(used.items())
            )),
        ]  # fmt: skip
    usage = spec.fields.get("usage_class")
    if usage is not None:
        classes = sorted(_classes(usage))
        blocks += [Heading("Usage classes"), Paragraph(", ".join(classes) or "As the records say.")]
    return blocks


def _first(doc: str | None) -> str:
    return " ".join(plain(doc or "").split("\n\n")[0].split())


def _ways(
    name: str, field: FieldSpec, meaning: str, implicit: Sequence[str]
) -> list[tuple[str, str, str, str, str]]:
    rows = []
    for number, branch in enumerate(field.branches()):
        steps = [*map(_step, (*branch.steps, *field.steps)), *implicit]
        when = describe(branch.when) if field.choose else "always"
        rows.append(
            (
                name if number == 0 else "",
                origin(branch),
                when if branch.when or not field.choose or number == 0 else "otherwise",
                " → ".join(steps) or "as it stands",
                meaning if number == 0 else "",
            )
        )
    return rows


def _step(step: Step) -> str:
    return label(lookup(step))


def _classes(field: FieldSpec) -> set[str]:
    classes = {branch.value for branch in field.branches() if branch.value is not None}
    for branch in field.branches():
        for step in (*branch.steps, *field.steps):
            if step.name == "map":
                classes |= {str(value) for value in step.params.get("table", {}).values()}
    return classes


def _identity(spec: FeedSpec) -> list[Block]:
    if spec.dedup is None:
        key = ", ".join(spec.table.key)
        return [Heading("What makes a row the same row"), Paragraph(f"Its {key}.")]
    blocks: list[Block] = [Heading("What makes a record the same record")]
    key = ", ".join(k.removeprefix("=") for k in spec.dedup.key)
    content = ", ".join(spec.dedup.content) or "everything that is mapped"
    text = f"The key is {key}. Records of one key with equal content ({content}) are duplicates"
    text += (
        "; of different ones the newest file's holds." if spec.dedup.restating
        else "; with different content they conflict, and wait until someone decides."
    )  # fmt: skip
    if spec.dedup.scope:
        text += f" Feeds of the family {spec.dedup.scope} share their keys."
    text += f" Copies are looked for {spec.dedup.months} month(s) back and ahead."
    blocks.append(Paragraph(text))
    if spec.correlate is not None:
        known = spec.correlate
        blocks.append(
            Paragraph(
                f"Parts are joined by {', '.join(k.removeprefix('=') for k in known.key)} as "
                f"{known.combine}, counted as {known.counting}; complete with "
                f"{', '.join(known.needed) or 'any part'}; after {known.timeout_hours} hours of "
                f"silence {'released and flagged' if known.on_timeout == 'release' else 'held'}."
            )
        )
    return blocks


def _controls(spec: FeedSpec) -> list[Block]:
    blocks: list[Block] = [Heading("Control totals")]
    if spec.control is None:
        return [*blocks, Paragraph("None: the file does not say how much it should hold.")]
    said = []
    if spec.control.records:
        said.append(f"{spec.control.records} is the number of records")
    if spec.control.total:
        said.append(f"{spec.control.total} is the sum of {spec.control.of}")
    said += [f"{stated} is the sum of {of}" for stated, of in spec.control.totals.items()]
    if spec.control.when:
        said.append(f"records where {describe(spec.control.when)} state it and are no usage")
    if spec.control.each:
        said.append(f"each statement is about the records {spec.control.each} it")
    if spec.control.without:
        said.append(f"left out of them: {', '.join(spec.control.without)}")
    if beside := spec.control.companion:
        said.append(
            f"files {', '.join(beside.files)} state {', '.join(beside.fields())}"
            + ("; a file waits for its own" if beside.wait else "")
        )
    return [*blocks, Paragraph("; ".join(said) + ". A file that disagrees is quarantined whole.")]


def _rejections(spec: FeedSpec) -> list[Block]:
    rows: dict[tuple[str, str, str], None] = {}
    for rule in trace_feed(spec).rules:
        rows[(rule.code, rule.field, rule.message)] = None
    blocks: list[Block] = [
        Heading("Why a record is rejected"),
        Paragraph("A line that cannot be read as a record is rejected with the reader's reason "
                  "(such as column_count, invalid_json, encoding, line_length). Then the first of "
                  "these rules that is broken counts:"),
        Sheet(("reason", "field", "rule"), tuple(rows)),
    ]  # fmt: skip
    if spec.target == "usage_record":
        classes = sorted({*DEFAULT_MAX_QUANTITY, *spec.bounds.max_quantity})
        blocks.append(
            Paragraph(
                "Most that one record may hold, in the unit of its class: "
                + ", ".join(f"{name} {spec.bounds.limit(name):,}" for name in classes)
                + "."
            )
        )
    return blocks


def _examples(spec: FeedSpec, sample: Path) -> list[Block]:
    trial = try_sample(spec, sample, SAMPLES_CAME, most=2)
    blocks: list[Block] = [Heading("Example")]
    for record in trial.records:
        said = record.outcome + (f" as {record.reason}" if record.reason else "")
        blocks += [
            Paragraph(f"{sample.name}, line {record.line_no}, {said}:"),
            Listing(record.raw_text.rstrip()),
        ]
        if record.outcome == "accepted":
            blocks.append(_shown(record))
    return blocks


def _shown(record: Record) -> Sheet:
    rows = []
    for field in record.fields:
        if field.value is None:
            continue
        chain = [field.start or "", *(f"{s.function}: {s.value}" for s in field.steps)]
        rows.append((field.name, field.value, field.origin or "", " → ".join(chain)))
    return Sheet(("field", "value", "from", "what was read, and each step"), tuple(rows))


# ---------------------------------------------------------------- how it is written


def to_markdown(blocks: Sequence[Block]) -> str:
    """Write blocks as Markdown (CommonMark with tables)."""
    parts = []
    for block in blocks:
        match block:
            case Heading():
                parts.append(f"{'#' * block.level} {_inline(block.text)}")
            case Paragraph():
                parts.append(_inline(block.text))
            case Link():
                parts.append(f"**[{_inline(block.text)}]({block.target}.md)**")
            case Listing():
                fence = "```" if "```" not in block.text else "~~~~"
                parts.append(f"{fence}text\n{block.text}\n{fence}")
            case Sheet():
                lines = [block.columns, tuple("---" for _ in block.columns), *block.rows]
                parts.append("\n".join(_row(row) for row in lines))
    return "\n\n".join(parts) + "\n"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_inline(cell).replace("|", "\\|") for cell in cells) + " |"


def _inline(text: str) -> str:
    """Keep what Markdown would read as markup: names hold underscores and asterisks."""
    for mark in "\\`*_[]<>":
        text = text.replace(mark, f"\\{mark}")
    return text.replace("\n", " ")


_STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;
color:#1c1c1c}table{border-collapse:collapse;margin:1rem 0;display:block;overflow-x:auto}
td,th{border:1px solid #ccc;padding:.3rem .6rem;text-align:left;vertical-align:top}
th{background:#f2f2f2}pre{background:#f6f6f6;padding:.8rem;overflow-x:auto}
@media(prefers-color-scheme:dark){body{background:#181818;color:#e6e6e6}th,pre{background:#262626}
td,th{border-color:#444}a{color:#8ab4f8}}"""


def to_html(title: str, blocks: Sequence[Block]) -> str:
    """Write blocks as one HTML page that needs nothing else."""
    parts = []
    for block in blocks:
        match block:
            case Heading():
                parts.append(f"<h{block.level}>{html.escape(block.text)}</h{block.level}>")
            case Paragraph():
                parts.append(f"<p>{html.escape(block.text)}</p>")
            case Link():
                target = html.escape(block.target)
                parts.append(f'<p><a href="{target}.html">{html.escape(block.text)}</a></p>')
            case Listing():
                parts.append(f"<pre>{html.escape(block.text)}</pre>")
            case Sheet():
                parts.append(_table(block))
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>\n{_STYLE}\n</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _table(sheet: Sheet) -> str:
    head = "".join(f"<th>{html.escape(column)}</th>" for column in sheet.columns)
    lines = [f"<tr>{head}</tr>"] if any(sheet.columns) else []
    for row in sheet.rows:
        cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in row)
        lines.append(f"<tr>{cells}</tr>")
    return "<table>\n" + "\n".join(lines) + "\n</table>"
