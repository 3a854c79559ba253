"""Feed YAML to :class:`FeedSpec`; every error names file, line and key, and what to do."""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from iotbill_pipelines.config.documents import (
    ConfigError,
    Document,
    KeyPath,
    Problem,
    parse,
    read_yaml,
)
from iotbill_pipelines.engine.feeds.mapping import compile_feed
from iotbill_pipelines.engine.feeds.spec import Correlate, FeedSpec, LookupTable
from iotbill_pipelines.engine.terms import TermsError


def policy_row(
    feed_id: str, family: str, *, restating: bool, correlate: Correlate | None
) -> dict[str, object]:
    """Return the row of :data:`engine.schemas.FEED_POLICY` of policies without a feed's file."""
    needed = correlate.needed if correlate else ()
    return {
        "feed_id": feed_id,
        "family": family,
        "restating": restating,
        "combine": correlate.combine if correlate else None,
        "counting": correlate.counting if correlate else None,
        "needs_start": "start" in needed,
        "needs_stop": "stop" in needed,
        "needs_sequence": "sequence" in needed,
        "first_sequence": correlate.first_sequence if correlate else None,
        "timeout_seconds": 3600 * (correlate.timeout_hours if correlate else 24),
        "on_timeout": correlate.on_timeout if correlate else "release",
        "wrap_at": correlate.wrap_at if correlate else None,
        "first_reading": correlate.first_reading if correlate else "zero",
    }


def policy_of(spec: FeedSpec) -> dict[str, object]:
    """Return a feed's row of :data:`engine.schemas.FEED_POLICY`."""
    restating = bool(spec.dedup and spec.dedup.restating)
    return policy_row(spec.id, spec.family, restating=restating, correlate=spec.correlate)


def feed_path(folder: Path, named: str) -> Path:
    """Return the file that a person means: a path, or the id of a feed of the folder."""
    path, configured = Path(named), folder / f"{named}.yaml"
    return path if path.is_file() or not configured.is_file() else configured


def load_feed(path: Path) -> FeedSpec:
    """Read one feed and check that it compiles. Raises ConfigError with every problem found."""
    return parse_feed(read_yaml(path))


def parse_feed(document: Document) -> FeedSpec:
    """Make the feed of a document and check that it compiles. Raises ConfigError."""
    spec, document = _read_feed(document)
    _check_compiles(spec, document)
    return spec


def _read_feed(document: Document) -> tuple[FeedSpec, Document]:
    """Make the feed of a document, and the document with shared fields in their places.

    A field ``{use: NAME}`` is the one of ``fields/NAME.yaml`` beside the feeds' folder; ``with``
    gives the feed's own names for the source fields that it reads.
    """
    document = _with_shared_fields(document)
    return _with_tables(parse(FeedSpec, document), document), document


def _check_compiles(spec: FeedSpec, document: Document) -> None:
    try:
        compile_feed(spec)
    except TermsError as error:
        raise document.error(document.locate(error.path), error.rule) from None


def _with_shared_fields(document: Document) -> Document:
    """Put what shared fields say in the place of their names."""
    if not isinstance(document.data, dict):
        return document
    data = dict(document.data)
    for section in ("fields", "attributes"):
        fields = data.get(section)
        if isinstance(fields, dict):
            data[section] = {
                name: _shared_field(document, (section, name), field)
                if isinstance(field, dict) and "use" in field else field
                for name, field in fields.items()
            }  # fmt: skip
    return Document(document.path, data, document.lines)


def _shared_field(document: Document, at: KeyPath, field: dict[str, Any]) -> Any:
    name, names = field["use"], field.get("with", {})
    if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise document.error((*at, "use"), "name a file of fields/, without its ending")
    if set(field) - {"use", "with"} or not isinstance(names, dict):
        raise document.error(at, "use stands alone, or with `with`: shared name -> own name")
    path = Path(document.path).parent.parent / "fields" / f"{name}.yaml"
    if not path.is_file():
        raise document.error((*at, "use"), f"there is no {path}; put the shared field there")
    shared = read_yaml(path).data
    unknown = set(names) - set(_source_names(shared))
    if unknown:
        raise document.error((*at, "with"), f"{name} reads no {', '.join(sorted(unknown))}")
    return _renamed(shared, names)


def _source_names(field: Any) -> Iterator[str]:
    """Yield the source fields that a field's YAML names."""
    if isinstance(field, dict):
        for key, value in field.items():
            if key in ("from", "field") and not isinstance(value, dict):
                yield from value if isinstance(value, list) else [value]
            else:
                yield from _source_names(value)
    elif isinstance(field, list):
        for item in field:
            yield from _source_names(item)


def _renamed(field: Any, names: Mapping[str, str]) -> Any:
    if isinstance(field, list):
        return [_renamed(item, names) for item in field]
    if not isinstance(field, dict):
        return field
    made: dict[str, Any] = {}
    for key, value in field.items():
        if key in ("from", "field") and isinstance(value, list):
            made[key] = [names.get(item, item) for item in value]
        elif key in ("from", "field") and isinstance(value, str):
            made[key] = names.get(value, value)
        else:
            made[key] = _renamed(value, names)
    return made


def _with_tables(spec: FeedSpec, document: Document) -> FeedSpec:
    """Read the CSV files that a feed's tables name, from ``tables`` beside the feeds' folder."""
    filled = {}
    for name, table in spec.tables.items():
        filled[name] = table
        if table.file is None:
            continue
        path = Path(document.path).parent.parent / "tables" / table.file
        try:
            rows = _table_rows(path, table)
            filled[name] = LookupTable.model_validate(
                table.model_dump() | {"file": table.file, "rows": (*table.rows, *rows)}
            )
        except (OSError, ValueError, csv.Error) as error:
            said = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
            raise document.error(("tables", name, "file"), f"{path}: {said}") from None
    return spec.model_copy(update={"tables": filled})


def _table_rows(path: Path, table: LookupTable) -> list[dict[str, str | None]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        wanted = [table.key, *table.value, *filter(None, (table.valid_from, table.valid_to))]
        for column in wanted:
            if column not in (reader.fieldnames or ()):
                raise ValueError(f"has no column {column!r}")
        rows: list[dict[str, str | None]] = []
        for line in reader:
            cells = {column: (line[column] or "").strip() for column in wanted}
            if not cells[table.key] or not all(cells[name] for name in table.value):
                continue
            rows.append(
                {
                    "key": cells[table.key],
                    "value": "-".join(cells[name] for name in table.value),
                    "valid_from": cells.get(table.valid_from or "") or None,
                    "valid_to": cells.get(table.valid_to or "") or None,
                }
            )
        return rows


def load_feeds(folder: Path, compiled: Collection[str] = ()) -> dict[str, FeedSpec]:
    """Read every ``*.yaml`` of a folder, by feed id.

    Only the feeds ``compiled`` are checked to compile, which takes longer than reading all of
    them; :func:`load_feed` checks one. Raises ConfigError with the problems of all files; two
    feeds of one id, and two feeds with a file pattern in common, are problems too.
    """
    paths = sorted(folder.glob("*.yaml")) if folder.is_dir() else []
    if not paths:
        raise ConfigError(str(folder), (), 1, "holds no feed; put one YAML file per feed there")
    feeds: dict[str, FeedSpec] = {}
    documents: dict[str, Document] = {}
    problems: list[Problem] = []
    for path in paths:
        try:
            spec, document = _read_feed(read_yaml(path))
            if spec.id in compiled:
                _check_compiles(spec, document)
            _apart(spec, document, feeds, documents)
        except ConfigError as error:
            problems += error.problems
            continue
        feeds[spec.id], documents[spec.id] = spec, document
    if problems:
        first, *rest = problems
        raise ConfigError(first.file, first.key, first.line, first.rule, rest)
    return feeds


def _apart(
    spec: FeedSpec, document: Document, feeds: dict[str, FeedSpec], documents: dict[str, Document]
) -> None:
    if spec.id in feeds:
        raise document.error(
            ("id",), f"{spec.id!r} is also the id of {documents[spec.id].path.name}; choose another"
        )
    for other in feeds.values():
        told, others = spec.dedup, other.dedup
        if told and others and spec.family == other.family and told.restating != others.restating:
            raise document.error(
                ("dedup",),
                f"feed {other.id} of the same scope is {'' if others.restating else 'not '}"
                "restating; let both be, or neither",
            )
        for number, pattern in enumerate(spec.files):
            if pattern in other.files:
                raise document.error(
                    ("files", number),
                    f"{pattern!r} is also a pattern of feed {other.id}; a file has one feed",
                )


def feeds_of(name: str, feeds: Iterable[FeedSpec]) -> list[FeedSpec]:
    """Return the feeds whose patterns, or whose companions' patterns, match a file's base name.

    More than one is a fault.
    """
    return [
        spec for spec in feeds
        if spec.is_companion(name) or any(fnmatchcase(name, pattern) for pattern in spec.files)
    ]  # fmt: skip
