"""The typed terms of a feed: where its records stand, what they mean, what is wrong with them.

A :class:`FeedSpec` is data. :mod:`compute.readers` reads files by its ``format``,
:mod:`engine.feeds.mapping` compiles the rest to SQL. Field names on the left are columns of the
target table; ``from`` names a source field: a column header, a field of a fixed-width layout, or
a path into a JSON record (``sim.iccid``, ``hotspots[0].id``).
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from iotbill_pipelines.engine.schemas import (
    CARRIER_SIM,
    RATE_CARD_LINE,
    REFERENCE,
    USAGE_RECORD,
    VENDOR_INVOICE_LINE,
    Table,
)
from iotbill_pipelines.engine.terms import TermsError

TARGETS: Mapping[str, Table] = {
    table.name: table
    for table in (
        *(USAGE_RECORD, VENDOR_INVOICE_LINE, CARRIER_SIM, RATE_CARD_LINE),
        *REFERENCE.values(),
    )
}
"""Tables that a feed can fill."""

PROVIDED: Mapping[str, frozenset[str]] = {
    "usage_record": frozenset(
        "file_key line_no feed_id dedup_key content_hash usage_month session_key attributes "
        "flags".split()
    ),
    "vendor_invoice_line": frozenset("file_key line_no feed_id".split()),
    "carrier_sim": frozenset("file_key line_no feed_id".split()),
    "rate_card_line": frozenset("file_key line_no feed_id".split()),
}
"""Columns that ingestion fills itself; a feed must not map them."""


class Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


def _texts(value: object) -> object:
    """Let YAML numbers stand for the texts that source fields are compared with."""
    if isinstance(value, bool) or value is None:
        return value
    return str(value) if isinstance(value, int | Decimal) else value


Text = Annotated[str, BeforeValidator(_texts)]


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        raise ValueError(
            f"{name!r} is not an IANA time zone; write one such as Europe/Berlin or UTC"
        ) from None
    return name


Zone = Annotated[str, AfterValidator(_zone)]


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"{text!r} is not a regular expression: {error}") from None
    return text


Pattern = Annotated[str, AfterValidator(_pattern)]


def _encoding(name: str) -> str:
    try:
        return codecs.lookup(name).name
    except LookupError:
        raise ValueError(f"{name!r} is not a text encoding; write one such as utf-8") from None


Encoding = Annotated[str, AfterValidator(_encoding)]

# ---------------------------------------------------------------- formats


class Limits(Spec):
    """What a file may take; beyond it the whole file is quarantined."""

    max_bytes: int = Field(4 * 2**30, ge=1, description="unpacked size in bytes")
    max_ratio: int = Field(200, ge=1, description="unpacked size over packed size")
    max_line_bytes: int = Field(1_000_000, ge=100, description="length of one record")
    max_members: int = Field(10_000, ge=1, description="files in a zip archive")


class Archive(Spec):
    """Which members of a zip archive are read; one that is in neither list quarantines the file.

    Patterns stand for the member's base name. The records of all members are records of the
    landed file, numbered on from member to member; source field ``$member`` names theirs.
    """

    members: tuple[str, ...] = Field(("*",), min_length=1)
    ignore: tuple[str, ...] = ("__MACOSX/*", ".DS_Store")


class _Format(Spec):
    nulls: tuple[Text, ...] = Field((), description="texts that mean nothing, besides empty")
    decimal_comma: bool = Field(False, description="numbers are written 1.234,5")
    unpivot: tuple[Text, ...] = Field(
        (),
        description="fields of a record that are usage of their own: each that holds something "
        "makes a record, with its name as $column and its text as $value",
    )


class _TextFormat(_Format):
    encoding: Encoding = "utf-8"


class NdjsonFormat(_TextFormat):
    """One JSON object per line.

    ``explode`` names arrays (``sims``, then ``sims.usage``) of which every element makes a record:
    it takes the place of its array, beside everything around it. An empty array makes one record
    without it. Records are then numbered on, as a line can hold several; ``$piece`` is the place
    in the last array, from 0. ``days.*`` stands for every key of an object: its value takes the
    place of the object, with the key as ``days.$key``; a value that is no object is
    ``days.$value``. A record that is itself an array has its elements as ``[0]``, ``[1]``, ...

    ``parallel`` names arrays of one length (``times``, ``bytes``) whose elements at one place make
    a record: columns written as arrays. ``$piece`` is then that place.
    """

    type: Literal["ndjson"]
    explode: tuple[str, ...] = ()
    parallel: tuple[str, ...] = ()


class JsonFormat(_TextFormat):
    """JSON documents with records in an array at ``records`` (``data.items``; empty = the top).

    ``records`` may be several paths; ``*`` stands for every key or element. ``explode`` and
    ``parallel`` are those of :class:`NdjsonFormat`. What a document says beside its records is
    named ``$document.<path from the top>``. ``//`` and ``/* */`` comments are accepted. Type
    ``yaml`` reads YAML documents the same way, every value as the text that is written.
    """

    type: Literal["json", "yaml"]
    records: tuple[str, ...] = ("",)
    explode: tuple[str, ...] = ()
    parallel: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _one_path(cls, value: object) -> object:
        if isinstance(value, dict) and isinstance(value.get("records"), str):
            return {**value, "records": (value["records"],)}
        return value


Kind = Literal["header", "detail", "trailer", "ignored"]


class ColumnMatch(Spec):
    """The cell by which a line shows its layout: a position from 1, or a name of the header."""

    column: int | str
    equals: Text | None = None
    one_of: tuple[Text, ...] | None = Field(None, alias="in")
    matches: Pattern | None = None

    @model_validator(mode="after")
    def _one_test(self) -> ColumnMatch:
        if sum(t is not None for t in (self.equals, self.one_of, self.matches)) != 1:
            raise ValueError("give one of equals, in, matches")
        if isinstance(self.column, int) and self.column < 1:
            raise ValueError("column counts from 1")
        return self


class Repeat(Spec):
    """Cells that repeat to the end of the line: every ``columns`` of them make a record.

    Field ``$piece`` counts the records of a line from 0.
    """

    start: int = Field(ge=2, description="position of the first such cell, counted from 1")
    columns: tuple[str, ...] = Field(min_length=1)


class RowLayout(Spec):
    """A kind of line of a delimited file; without ``columns`` those of the file's header.

    Fields of header and trailer lines are named ``header.x`` and ``trailer.x``, or by ``name``
    instead. Records know the fields of the header line before them. A header or trailer stands
    once, unless it is ``repeated`` (before each group of records).
    """

    kind: Kind
    when: ColumnMatch | None = None
    columns: tuple[str, ...] = ()
    optional: int = Field(0, ge=0, description="columns at the end that a line may leave out")
    more: bool = Field(False, description="further cells are allowed and not read")
    repeat: Repeat | None = None
    name: str | None = Field(None, pattern=r"^[a-z][a-z0-9_]*$")
    repeated: bool = False

    @model_validator(mode="after")
    def _fits(self) -> RowLayout:
        if self.repeat and (self.kind != "detail" or self.repeat.start != len(self.columns) + 1):
            raise ValueError("repeat is for detail lines and starts behind their columns")
        return self

    @property
    def prefix(self) -> str:
        return "" if self.kind == "detail" else f"{self.name or self.kind}."


class _LineFormat(_TextFormat):
    line_end: str | None = Field(
        None, pattern=r"^[\x01-\x7f]$",
        description="character that ends a record instead of a line feed, such as ~ or a carriage "
        "return; line feeds are then nothing",
    )  # fmt: skip


class DelimitedFormat(_LineFormat):
    """Lines of cells. Without ``header`` the columns are named here, in order, or by ``layouts``.

    A quoted cell may hold line ends only with ``multiline``; otherwise an open quote costs its
    own line alone. The header line standing again, as in joined files, is no record.

    The header is the line behind ``skip_rows``, or the first one that has all the cells of
    ``header_has``. Names over several ``header_rows`` are put together with blanks; an empty cell
    of an upper row continues the one to its left: ``Usage,,`` over ``Up,Down,Total`` gives
    ``Usage Up``, ``Usage Down`` and ``Usage Total``.
    """

    type: Literal["delimited"]
    delimiter: str = Field(",", min_length=1, max_length=4)
    quote: str | None = Field('"', min_length=1, max_length=1)
    escape: str | None = Field(
        None, min_length=1, max_length=1,
        description="character before a quote, a delimiter or itself that is meant as such; a "
        "doubled quote is always one",
    )  # fmt: skip
    collapse: bool = Field(
        False, description="several delimiters in a row are one: columns set with blanks"
    )
    header: bool = True
    header_rows: int = Field(1, ge=1, le=5)
    header_has: tuple[Text, ...] = ()
    columns: tuple[str, ...] = ()
    skip_rows: int = Field(0, ge=0)
    type_rows: int = Field(0, ge=0, description="lines below the header that tell types or units")
    comment: str | None = Field(None, min_length=1)
    multiline: bool = False
    optional: int = Field(0, ge=0, description="columns at the end that a line may leave out")
    more: bool = Field(False, description="further cells are allowed and not read")
    may_lack: tuple[str, ...] = Field((), description="columns that a file's header may not have")
    layouts: tuple[RowLayout, ...] = Field(
        (), description="kinds of lines; the first one whose `when` holds reads the line"
    )

    @model_validator(mode="after")
    def _named(self) -> DelimitedFormat:
        own = bool(self.layouts) and all(
            layout.columns or layout.kind == "ignored" for layout in self.layouts
        )
        if (self.header and self.columns) or not (self.header or self.columns or own):
            raise ValueError("give columns exactly when header is false")
        for names in (self.columns, *(layout.columns for layout in self.layouts)):
            if len(set(names)) != len(names):
                raise ValueError("a name in columns stands twice")
        for layout in self.layouts:
            if not self.header and layout.when and isinstance(layout.when.column, str):
                names = layout.columns or self.columns
                if layout.when.column not in names:
                    raise ValueError(f"{layout.when.column!r} is not among the columns")
        if self.type_rows and not self.header:
            raise ValueError("type_rows follow a header; use skip_rows")
        if (self.header_has or self.header_rows > 1) and (not self.header or self.multiline):
            raise ValueError("header_has and header_rows need a header, without multiline")
        if self.header_has and self.skip_rows:
            raise ValueError("header_has finds the header; leave skip_rows out")
        if self.collapse and self.quote is not None:
            raise ValueError("collapse needs quote: null")
        if self.escape is not None and self.escape in (self.quote, self.delimiter):
            raise ValueError("escape must be neither the quote nor the delimiter")
        return self


class Slice(Spec):
    """Characters of a line, counted from 1."""

    start: int = Field(ge=1)
    length: int = Field(ge=1)


class LayoutMatch(Slice):
    """The text by which a line shows its layout."""

    equals: Text | None = None
    one_of: tuple[Text, ...] | None = Field(None, alias="in")
    matches: Pattern | None = None

    @model_validator(mode="after")
    def _one_test(self) -> LayoutMatch:
        if sum(t is not None for t in (self.equals, self.one_of, self.matches)) != 1:
            raise ValueError("give one of equals, in, matches")
        return self


class Layout(Spec):
    """A kind of line. Header and trailer fields are named ``header.x`` and ``trailer.x``.

    ``name`` and ``repeated`` are those of :class:`RowLayout`.
    """

    kind: Kind
    when: LayoutMatch | None = None
    fields: dict[str, Slice] = {}
    length: int | None = Field(None, ge=1, description="exact line length, in characters")
    name: str | None = Field(None, pattern=r"^[a-z][a-z0-9_]*$")
    repeated: bool = False

    @property
    def prefix(self) -> str:
        return "" if self.kind == "detail" else f"{self.name or self.kind}."


class FixedFormat(_LineFormat):
    """Fixed-width lines; the first layout whose ``when`` matches reads the line.

    Records without any line end between them are cut every ``record_length`` characters.
    """

    type: Literal["fixed"]
    record_length: int | None = Field(None, ge=1, description="length of records without line ends")
    layouts: tuple[Layout, ...] = Field(min_length=1)


class XlsxFormat(_Format):
    """A worksheet of Excel 97 or later; ``sheet`` is a name, or empty for the first one.

    A pattern such as ``Usage*`` reads every sheet that it matches, one after another, rows numbered
    on; ``$sheet`` is the name of a record's sheet. The header is row ``header_row``, or the first
    row with all the texts of ``header_has``; ``header_rows`` are those of :class:`DelimitedFormat`.

    ``or_delimited`` reads files, or members of an archive, that are no workbooks as delimited text
    (UTF-8) with the same columns: an invoice may come as a zip of both.
    """

    type: Literal["xlsx", "xls"]
    or_delimited: str | None = Field(
        None, min_length=1, max_length=1, description="delimiter of files that are no workbooks"
    )
    sheet: str | None = None
    header_row: int = Field(1, ge=1)
    header_has: tuple[Text, ...] = ()
    header_rows: int = Field(1, ge=1, le=5)
    type_rows: int = Field(0, ge=0, description="rows below the header that tell types or units")
    may_lack: tuple[str, ...] = Field((), description="columns that a file's header may not have")


class XmlFormat(_Format):
    """XML: ``record`` is the path of the record's element from the root, ``a/b/record``.

    Fields are paths inside the record (``basic.user``, attributes ``basic@id``), and
    ``header.<path from the root>`` for what stands before the record: inside the elements around
    it, that of those elements (``header.usage.sim@imsi`` for the sim that the record is in).
    """

    type: Literal["xml"]
    record: str = Field(min_length=1)
    namespaces: dict[str, str] = {}
    encoding: Encoding | None = Field(None, description="instead of the one the file declares")
    max_depth: int = Field(64, ge=1, le=1000)


RoamingTotal = Literal["call_events", "charge", "charge_refund", "tax", "discount"]


class RoamingFormat(_Format):
    """GSMA TAP 3, NRTRDE 2.1 or RAP 1.5 (ASN.1 BER).

    ``tap`` means any of them, told apart by name and contents; the others only themselves.
    Fields are paths in the grammar's names, plus ``event_type``, ``event_start_utc``, ``imsi``,
    ``bytes_incoming`` and so on; ``header.<path>`` for what stands outside the events.
    ``checked_totals`` are held against the file's audit block.
    """

    type: Literal["tap", "nrtrde", "rap"]
    checked_totals: tuple[RoamingTotal, ...] = (
        "call_events", "charge", "charge_refund", "tax", "discount",
    )  # fmt: skip
    max_depth: int = Field(32, ge=4, le=1000)


class RadiusFormat(_TextFormat):
    """RADIUS accounting in FreeRADIUS detail files: fields are attribute names, ``detail_time``."""

    type: Literal["radius_detail"]


DecodedFormat = XlsxFormat | XmlFormat | RoamingFormat | RadiusFormat
"""Formats that are no lines of text."""

Format = Annotated[
    NdjsonFormat
    | JsonFormat
    | DelimitedFormat
    | FixedFormat
    | XlsxFormat
    | XmlFormat
    | RoamingFormat
    | RadiusFormat,
    Field(discriminator="type"),
]

# ---------------------------------------------------------------- conditions


class Condition(Spec):
    """A test of one source field (``field``) or of an earlier mapped field (``target``).

    Exactly one of the tests, or a combination by ``all``, ``any`` or ``not``. Texts are compared
    exactly; an absent value is equal to nothing and is ``empty``. ``at_least`` and ``below``
    compare numbers as they are written; what is no number is neither.
    """

    field: str | None = None
    target: str | None = None
    equals: Text | None = None
    one_of: tuple[Text, ...] | None = Field(None, alias="in")
    starts_with: Text | None = None
    matches: Pattern | None = None
    at_least: Decimal | None = None
    below: Decimal | None = None
    empty: bool | None = None
    all: tuple[Condition, ...] | None = None
    any: tuple[Condition, ...] | None = None
    negate: Condition | None = Field(None, alias="not")

    @model_validator(mode="after")
    def _one_test(self) -> Condition:
        tests = (
            self.equals, self.one_of, self.starts_with, self.matches, self.at_least, self.below,
            self.empty,
        )  # fmt: skip
        combined = (self.all, self.any, self.negate)
        count = sum(test is not None for test in tests)
        groups = sum(part is not None for part in combined)
        named = (self.field is not None) + (self.target is not None)
        if groups:
            if groups > 1 or count or named:
                raise ValueError("all, any and not stand alone; put tests inside them")
        elif count != 1 or named != 1:
            raise ValueError(
                "name one field (or target) and one test: equals, in, starts_with, matches, "
                "at_least, below, empty"
            )
        return self

    def sources(self) -> Iterator[str]:
        """Yield the source fields that the condition reads."""
        if self.field is not None:
            yield self.field
        for part in (*(self.all or ()), *(self.any or ())):
            yield from part.sources()
        if self.negate is not None:
            yield from self.negate.sources()


class FilterRule(Spec):
    """Records for which ``when`` holds are ignored as ``filter:<reason>``."""

    reason: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    when: Condition


# ---------------------------------------------------------------- fields


class Step(Spec):
    """A named, versioned function with its parameters (:mod:`engine.feeds.functions`).

    Written ``trim``, ``iccid@1`` or ``{units: {unit: MB}}``; without a version the first one is
    meant, so that a later version never changes an existing feed.
    """

    name: str
    version: int = 1
    params: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: object) -> object:
        params: object = {}
        if isinstance(value, dict) and len(value) == 1 and "name" not in value:
            value, params = next(iter(value.items()))
        if not isinstance(value, str):
            return value
        name, _, version = value.partition("@")
        if version and not version.isdigit():
            raise ValueError(f"{value!r}: write the version as a number, such as {name}@1")
        if not isinstance(params, dict):
            raise ValueError(f"{name}: expected parameters as keys and values")
        return {"name": name, "version": int(version or 1), "params": params}

    @model_validator(mode="after")
    def _known(self) -> Step:
        from iotbill_pipelines.engine.feeds.functions import lookup  # noqa: PLC0415 - a cycle

        lookup(self)
        return self


class Branch(Spec):
    """A way to a value: from the first source field that holds something, or a constant."""

    when: Condition | None = None
    from_: tuple[str, ...] = Field((), alias="from")
    value: Text | None = None
    steps: tuple[Step, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _list_of_sources(cls, value: object) -> object:
        if isinstance(value, dict) and isinstance(value.get("from"), str):
            return {**value, "from": (value["from"],)}
        return value

    @model_validator(mode="after")
    def _one_origin(self) -> Branch:
        if bool(self.from_) == (self.value is not None):
            raise ValueError("give either from (a source field) or value (a constant)")
        return self


class FieldSpec(Spec):
    """How a target column is filled: ``from``, ``value``, or ``choose`` (first match wins).

    ``steps`` of the field apply after those of the chosen branch. No branch matching rejects the
    record as ``no_mapping``, unless the last branch has no ``when``.
    """

    from_: tuple[str, ...] = Field((), alias="from")
    value: Text | None = None
    choose: tuple[Branch, ...] = ()
    steps: tuple[Step, ...] = ()
    required: bool = False

    @model_validator(mode="before")
    @classmethod
    def _shorthand(cls, value: object) -> object:
        if isinstance(value, str):
            return {"from": (value,)}
        if isinstance(value, dict) and isinstance(value.get("from"), str):
            return {**value, "from": (value["from"],)}
        return value

    @model_validator(mode="after")
    def _one_origin(self) -> FieldSpec:
        if bool(self.from_) + (self.value is not None) + bool(self.choose) != 1:
            raise ValueError("give one of from (a source field), value (a constant), or choose")
        for branch in self.choose[:-1]:
            if branch.when is None:
                raise ValueError("only the last branch of choose may leave out when")
        return self

    def branches(self) -> tuple[Branch, ...]:
        """Return the ways to the value, also where there is only one."""
        return self.choose or (Branch.model_validate({"from": self.from_, "value": self.value}),)

    def sources(self) -> Iterator[str]:
        """Yield the source fields that the field is made of, those that steps read included."""
        from iotbill_pipelines.engine.feeds.functions import lookup  # noqa: PLC0415 - a cycle

        for branch in self.branches():
            yield from branch.from_
            if branch.when is not None:
                yield from branch.when.sources()
            for step in branch.steps:
                yield from lookup(step).reads()
        for step in self.steps:
            yield from lookup(step).reads()


class LookupRow(Spec):
    """A translation, valid from a date up to another one (UTC, half-open)."""

    key: Text
    value: Text
    valid_from: date | None = None
    valid_to: date | None = None


class LookupTable(Spec):
    """A table for functions such as carrier and tadig: rows here, or a CSV file.

    ``file`` is a file of configs/tables with a header; ``key`` and ``value`` name its columns
    (several values are joined by ``-``: MCC and MNC), ``valid_from`` and ``valid_to`` those of
    dates. Keys of functions that ignore case are written in small letters by ``fold``.
    """

    file: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    key: str = "key"
    value: tuple[str, ...] = Field(("value",), min_length=1)
    valid_from: str | None = None
    valid_to: str | None = None
    fold: bool = False
    rows: tuple[LookupRow, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _one_value(cls, value: object) -> object:
        if isinstance(value, dict) and isinstance(value.get("value"), str):
            return {**value, "value": (value["value"],)}
        return value

    @model_validator(mode="after")
    def _apart(self) -> LookupTable:
        if not self.rows and self.file is None:
            raise ValueError("give rows, or a file of configs/tables")
        if self.fold:
            folded = tuple(
                row.model_copy(update={"key": row.key.strip().lower()}) for row in self.rows
            )
            object.__setattr__(self, "rows", folded)
        ends: dict[str, date | None] = {}
        for row in sorted(self.rows, key=lambda row: (row.key, row.valid_from or date.min)):
            if row.valid_to is not None and row.valid_from and row.valid_to <= row.valid_from:
                raise ValueError(f"{row.key!r} ends before it begins")
            if row.key in ends:
                before = ends[row.key]
                if before is None or row.valid_from is None or row.valid_from < before:
                    raise ValueError(f"{row.key!r} has two values at one time; give them dates")
            ends[row.key] = row.valid_to
        return self

    @property
    def dated(self) -> bool:
        """Does the time decide?"""
        return any(row.valid_from or row.valid_to for row in self.rows)


class Dedup(Spec):
    """What makes a record the same record (RULEBOOK §5).

    ``key`` are source fields, or target columns written ``=uid_value``: the vendor's record id, or
    the identity of the event. Records of one key are duplicates when their ``content`` (target
    columns; default: everything mapped) is equal too, else they conflict.

    ``scope`` names a family: feeds of one family share their keys, so that a record that two of
    them deliver is billed once. On a ``restating`` feed the newest file version of a key holds.
    """

    key: tuple[str, ...] = Field(min_length=1)
    content: tuple[str, ...] = ()
    scope: str | None = Field(None, pattern=r"^[a-z][a-z0-9_]*$")
    restating: bool = False
    version: Pattern | None = Field(
        None,
        description="expression over the file's name whose group 1 tells versions apart, greatest "
        "text newest; without it the file that landed last is the newest",
    )
    months: int = Field(
        1, ge=1, le=12, description="UTC months before and after in which copies are looked for"
    )

    @model_validator(mode="after")
    def _versions(self) -> Dedup:
        if self.version is not None:
            if not self.restating:
                raise ValueError("version belongs to restating: true")
            if re.compile(self.version).groups != 1:
                raise ValueError("version needs exactly one group in parentheses: the version")
        return self

    def version_of(self, file_name: str) -> str:
        """Return what tells a file's version from others (MD-04); empty where nothing does."""
        match = re.search(self.version, file_name) if self.version else None
        return (match[1] or "") if match else ""


class Correlate(Spec):
    """Records that are parts of something larger (RULEBOOK §5).

    ``key`` names the session (or the device) as :class:`Dedup` names the record. ``combine``:
    ``session`` makes one usage event of the parts, mapped to target ``part`` (start, interim, stop,
    whole); ``increments`` keeps every reading of a counter and bills what it grew by.

    ``counting`` says what a part's quantity is: an amount (``sum``), the reading of a counter
    (``cumulative``), or nothing, the time from start to stop being billed (``elapsed``).

    A session is complete when it has what it ``needs``; until then its parts are suspended as
    ``incomplete_session``. One that stays silent for ``timeout_hours`` is released, flagged
    ``timeout_release``, or held. A longer silence also separates sessions of one key.
    """

    key: tuple[str, ...] = Field(min_length=1)
    combine: Literal["session", "increments"] = "session"
    counting: Literal["sum", "cumulative", "elapsed"] = "sum"
    needs: tuple[Literal["start", "stop", "sequence"], ...] | None = None
    first_sequence: int | None = Field(None, ge=0)
    timeout_hours: int = Field(24, ge=1, le=672)
    on_timeout: Literal["release", "hold"] = "release"
    wrap_at: int | None = Field(
        None, ge=2, description="a counter starts over here: 4294967296 for 32 bits"
    )
    first_reading: Literal["zero", "baseline"] = "zero"

    @model_validator(mode="after")
    def _fits(self) -> Correlate:
        if self.combine == "increments" and self.counting != "cumulative":
            raise ValueError("combine: increments needs counting: cumulative")
        if self.wrap_at is not None and self.counting != "cumulative":
            raise ValueError("wrap_at is for counting: cumulative")
        if self.first_reading == "baseline" and self.combine != "increments":
            raise ValueError("first_reading: baseline is for combine: increments")
        if self.first_sequence is not None and "sequence" not in self.needed:
            raise ValueError("first_sequence is for sessions that need their sequence")
        return self

    @property
    def needed(self) -> tuple[str, ...]:
        """What a complete session has: by default what its quantity cannot be told without."""
        if self.needs is not None:
            return self.needs
        defaults = {"sum": ("stop", "sequence"), "cumulative": ("stop",)}
        return defaults.get(self.counting, ("start", "stop"))


PARTS = ("start", "interim", "stop", "whole")
"""Values of target ``part``."""


class Late(Spec):
    """Usage of a period that was closed before its file landed: billed late, or held.

    Without ``hold_after_days`` all of it is billed, flagged ``late``. With it, what came more days
    after the close than that is suspended as ``late`` until someone decides.
    """

    hold_after_days: int | None = Field(None, ge=0)


class Companion(Spec):
    """Files beside the data files that state what these hold; they land like any other file.

    ``files`` are patterns of their names, or of members of the same archive. ``format`` says how
    they are read: one record per data file that they speak of. ``file`` names the field with the
    data file's name; without it their own names tell: ``a.ctl`` and ``a.csv.ctl`` speak of
    ``a.csv``, or group 1 of the expression ``named`` over their name is the data file's name, with
    or without its ending. ``records``, ``size_bytes``, ``md5`` and ``sha256`` name fields;
    ``totals`` are fields that hold sums: of which source field of the data file. Digests and size
    are those of the data file as delivered.

    A data file waits until its companion has come, unless ``wait`` is false; what they do not agree
    on quarantines it.
    """

    files: tuple[str, ...] = Field(min_length=1)
    format: Format
    file: str | None = None
    named: Pattern | None = None
    wait: bool = True
    records: str | None = None
    totals: dict[str, str] = {}
    size_bytes: str | None = None
    md5: str | None = None
    sha256: str | None = None

    @model_validator(mode="after")
    def _states(self) -> Companion:
        if not any((self.records, self.totals, self.size_bytes, self.md5, self.sha256)):
            raise ValueError("name what it states: records, totals, size_bytes, md5 or sha256")
        if self.named is not None and (self.file or re.compile(self.named).groups != 1):
            raise ValueError("named has one group in parentheses, and stands in the place of file")
        return self

    def fields(self) -> tuple[str, ...]:
        """The fields of the companion's records that are read."""
        named = (self.file, self.records, *self.totals, self.size_bytes, self.md5, self.sha256)
        return tuple(dict.fromkeys(name for name in named if name is not None))


class Control(Spec):
    """Totals that a header, trailer, document or companion file states; a mismatch quarantines the
    file (MD-09).

    Sums are of source fields as they are written, in the units of the file. ``when`` tells records
    that are no usage but state totals, in any format: a row ``Total``, an object of type trailer.
    ``each`` says that totals are stated many times, of the records ``above`` each statement (since
    the one before it) or ``below`` it: sheets with a total each, files joined with their trailers.
    ``companion`` describes files of their own that state totals.
    """

    records: str | None = Field(None, description="field that holds the number of detail records")
    total: str | None = Field(None, description="field that holds a sum")
    of: str | None = Field(None, description="source field that is summed")
    totals: dict[str, str] = Field({}, description="further fields that hold sums: of which field")
    when: Condition | None = Field(None, description="which records are no usage but state totals")
    each: Literal["above", "below"] | None = Field(
        None, description="totals stand many times, each of the records above or below it"
    )
    without: tuple[str, ...] = Field(
        (), description="reasons of filter rules whose records the totals leave out"
    )
    companion: Companion | None = None

    @model_validator(mode="after")
    def _pair(self) -> Control:
        if (self.total is None) != (self.of is None):
            raise ValueError("total (the stated sum) and of (the field summed) belong together")
        if not self.within and (self.companion is None or self.when is not None):
            raise ValueError("name records, or total with of")
        if self.each is not None and not self.within:
            raise ValueError("each is of totals in the file; companions state those of files")
        return self

    @property
    def within(self) -> bool:
        """Does the file itself state something?"""
        return self.records is not None or bool(self.sums)

    @property
    def of_document(self) -> bool:
        """Does the file state it outside of its records?"""
        return self.within and self.when is None

    def fields(self) -> Iterator[str]:
        """Yield the source fields that are read, stated ones and summed ones."""
        if self.records:
            yield self.records
        for stated, summed in self.sums.items():
            yield from (stated, summed)
        if self.when:
            yield from self.when.sources()
        if self.companion:
            yield from self.companion.totals.values()

    @property
    def sums(self) -> dict[str, str]:
        """Stated field -> summed field."""
        own = {self.total: self.of} if self.total and self.of else {}
        return own | self.totals


class Bounds(Spec):
    """Ranges that a record must keep (RULEBOOK §5); beyond them it is rejected."""

    max_age_days: int = Field(3660, ge=1, description="oldest event before the file came")
    max_ahead_hours: int = Field(24, ge=0, description="clock skew allowed into the future")
    max_quantity: dict[str, int] = {}
    allow_negative: bool = False

    def limit(self, usage_class: str) -> int:
        """Return the absurd limit of a class, in its unit."""
        return self.max_quantity.get(usage_class, DEFAULT_MAX_QUANTITY.get(usage_class, 10**15))


DEFAULT_MAX_QUANTITY: Mapping[str, int] = {
    "data": 10**13,
    "sms": 10**6,
    "voice": 7 * 86_400,
    "uplink": 10**6,
}
"""10 TB, a million messages, a week of talk: more in one record is an error of the feed."""


class Volume(Spec):
    """Records of a day, in percent of the median of the same weekday in the weeks before it."""

    weeks: int = Field(4, ge=1, le=26)
    min_weeks: int = Field(2, ge=1, description="fewer known weeks judge nothing")
    min_percent: int = Field(50, ge=0)
    max_percent: int = Field(200, ge=1)


class Expect(Spec):
    """Expectations of a feed-day, checked on its profile at close; null = not expected.

    A day is a UTC day of usage. Quantities are in the unit of their class.
    """

    volume: Volume | None = Volume()
    min_records: int | None = Field(None, ge=0)
    max_records: int | None = Field(None, ge=0)
    max_reject_percent: Decimal = Field(Decimal(5), ge=0, le=100)
    max_null_percent: dict[str, Decimal] = {}
    max_quantity: dict[str, int] = Field({}, description="sum of a day, by usage class")
    max_record_quantity: dict[str, int] = Field({}, description="of one record, by usage class")
    min_identifiers: int | None = Field(None, ge=0)


class FeedSpec(Spec):
    """A feed: one YAML file. See the module's docstring."""

    id: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    carrier: str
    description: str = ""
    target: str
    files: tuple[str, ...] = Field(min_length=1)
    format: Format
    zone: Zone | None = None
    limits: Limits = Limits()
    archive: Archive = Archive()
    allow_empty: bool = False
    complete: bool = Field(
        False, description="reference files: what a file leaves out has ended; else it stays"
    )
    filter: tuple[FilterRule, ...] = ()
    fields: dict[str, FieldSpec] = Field(min_length=1)
    attributes: dict[str, FieldSpec] = {}
    dedup: Dedup | None = None
    correlate: Correlate | None = None
    late: Late = Late()
    control: Control | None = None
    tables: dict[str, LookupTable] = {}
    bounds: Bounds = Bounds()
    expect: Expect = Expect()

    @model_validator(mode="after")
    def _whole(self) -> FeedSpec:
        if self.target not in TARGETS:
            raise TermsError(
                ("target",), f"{self.target!r} is unknown; use one of {', '.join(TARGETS)}"
            )
        table, provided = TARGETS[self.target], PROVIDED.get(self.target, frozenset())
        columns = {column.name: column for column in table.columns}
        for name in self.fields:
            if name in provided:
                raise TermsError(("fields", name), "is filled by ingestion; remove it")
            if name not in columns:
                free = ", ".join(c for c in columns if c not in provided)
                raise TermsError(
                    ("fields", name), f"is not a column of {self.target}; known: {free}"
                )
        automatic = provided | ({"event_text"} if self.target == "usage_record" else set())
        for name, column in columns.items():
            if name not in automatic and not column.nullable and name not in self.fields:
                raise TermsError(("fields",), f"{name} of {self.target} must be mapped; add it")
        if (self.dedup is not None) != (self.target == "usage_record"):
            raise TermsError(("dedup",), "is for usage_record, and required there")
        if self.correlate is not None:
            self._correlated(self.correlate)
        if self.attributes and self.target != "usage_record":
            raise TermsError(("attributes",), "is for usage_record only; remove it")
        self._names()
        return self

    def _correlated(self, correlate: Correlate) -> None:
        if self.target != "usage_record":
            raise TermsError(("correlate",), "is for usage_record only; remove it")
        for key in correlate.key:
            if key.startswith("=") and key[1:] not in self.fields:
                raise TermsError(
                    ("correlate", "key"), f"names {key[1:]}, which is not a mapped field"
                )
        if correlate.combine == "session" and "part" not in self.fields:
            raise TermsError(
                ("correlate",),
                "needs to know the parts; map the field part to start, interim, stop or whole",
            )
        if "sequence" in (correlate.needs or ()) and "sequence_no" not in self.fields:
            raise TermsError(("correlate", "needs"), "sequence needs the field sequence_no")

    @property
    def companion(self) -> Companion | None:
        """The files beside the feed's own that state what these hold."""
        return self.control.companion if self.control else None

    def is_companion(self, name: str) -> bool:
        """Is a file of this name one that states what others hold?"""
        patterns = self.companion.files if self.companion else ()
        return any(fnmatchcase(name, pattern) for pattern in patterns)

    @property
    def family(self) -> str:
        """Feeds of one family share record keys and sessions; by default each is its own."""
        return (self.dedup.scope if self.dedup else None) or self.id

    def _names(self) -> None:
        for name in (*(self.dedup.content if self.dedup else ()), *self.dedup_targets()):
            if name not in self.fields:
                raise TermsError(("dedup",), f"names {name}, which is not a mapped field")
        known = set(self.layout_fields())
        known |= {COLUMN, VALUE} if known and self.format.unpivot else set()
        for source in self.sources() if known else ():
            if source not in known:
                where = "in no layout" if self.has_layouts else "not among format.columns"
                raise TermsError(
                    ("fields",), f"{source!r} is {where}; known: {', '.join(sorted(known))}"
                )
        for reason in self.control.without if self.control else ():
            if reason not in {rule.reason for rule in self.filter}:
                raise TermsError(("control", "without"), f"no filter rule has reason {reason!r}")
        stating = isinstance(self.format, JsonFormat | XmlFormat | RoamingFormat)
        if (
            self.control
            and self.control.within
            and not (self.has_layouts or stating or self.control.when)
        ):
            raise TermsError(
                ("control",),
                "needs header or trailer layouts, a document's own fields, or when: which records "
                "state totals",
            )

    def dedup_targets(self) -> tuple[str, ...]:
        return tuple(k[1:] for k in (self.dedup.key if self.dedup else ()) if k.startswith("="))

    @property
    def has_layouts(self) -> bool:
        """Can lines of a file be of several kinds?"""
        return isinstance(self.format, DelimitedFormat | FixedFormat) and bool(self.format.layouts)

    def layout_fields(self) -> Iterator[str]:
        """Yield the source fields that the format defines; none when each file names its own."""
        form = self.format
        if isinstance(form, FixedFormat):
            for layout in form.layouts:
                yield from (layout.prefix + name for name in layout.fields)
        elif isinstance(form, DelimitedFormat) and not form.header:
            yield from form.columns
            for row in form.layouts:
                yield from (row.prefix + name for name in row.columns)
                if row.repeat:
                    yield from (PIECE, *row.repeat.columns)

    def sources(self) -> tuple[str, ...]:
        """Return every source field that the feed reads, once, in a stable order."""
        names = dict.fromkeys(self.mapped_sources())
        if self.control:
            names.update(dict.fromkeys(self.control.fields()))
        names.update(dict.fromkeys(self.format.unpivot))
        for given in (FILE_NAME, MEMBER):
            names.pop(given, None)
        return tuple(names)

    def mapped_sources(self) -> tuple[str, ...]:
        """Return the source fields that records are made of, control totals left out."""
        names: dict[str, None] = {}
        for rule in self.filter:
            names.update(dict.fromkeys(rule.when.sources()))
        for field in (*self.fields.values(), *self.attributes.values()):
            names.update(dict.fromkeys(field.sources()))
        if self.dedup:
            names.update(dict.fromkeys(k for k in self.dedup.key if not k.startswith("=")))
        if self.correlate:
            names.update(dict.fromkeys(k for k in self.correlate.key if not k.startswith("=")))
        for given in (FILE_NAME, MEMBER):
            names.pop(given, None)
        return tuple(names)

    @property
    def table(self) -> Table:
        return TARGETS[self.target]


def companion_feed(spec: FeedSpec, companion: Companion) -> FeedSpec:
    """Return what a reader needs to know of a feed's companion files: no more than a format."""
    return FeedSpec.model_construct(
        id=spec.id,
        carrier=spec.carrier,
        target=spec.target,
        files=companion.files,
        format=companion.format,
        limits=spec.limits,
        archive=spec.archive,
        allow_empty=False,
        fields={name: FieldSpec.model_validate({"from": name}) for name in companion.fields()},
    )


FILE_NAME = "$file"
"""Source field that every feed has: the base name of the file as it was delivered."""

MEMBER = "$member"
"""Source field that every feed has: the name of the archive's member; null without archive."""

PIECE = "$piece"
"""Source field of lines and arrays that hold several records: which of them it is, from 0."""

SHEET = "$sheet"
"""Source field of workbooks: the name of the record's sheet."""

COLUMN, VALUE = "$column", "$value"
"""Source fields of formats that unpivot: the name of the field that made the record, its text."""

RAW_COLUMNS = (
    "file_key",
    "file_name",
    "member",
    "line_no",
    "received_at",
    "structure",
    "fault_code",
    "fault_field",
    "fault_value",
    "fault_message",
    "raw_text",
)
"""Columns of a raw relation besides its source fields ``s_0``, ``s_1``, ... in the order of
:meth:`FeedSpec.sources`. ``structure`` is null for records, else header, repeated_header, types,
trailer, ignored, blank, comment, skipped: lines of the file that are no records."""
