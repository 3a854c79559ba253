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
from decimal import Decimal
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from iotbill_pipelines.engine.schemas import (
    REFERENCE,
    USAGE_RECORD,
    VENDOR_INVOICE_LINE,
    Table,
)
from iotbill_pipelines.engine.terms import TermsError

TARGETS: Mapping[str, Table] = {
    table.name: table for table in (USAGE_RECORD, VENDOR_INVOICE_LINE, *REFERENCE.values())
}
"""Tables that a feed can fill."""

PROVIDED: Mapping[str, frozenset[str]] = {
    "usage_record": frozenset(
        "file_key line_no feed_id dedup_key content_hash usage_month session_key attributes "
        "flags".split()
    ),
    "vendor_invoice_line": frozenset("file_key line_no feed_id".split()),
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


class _Format(Spec):
    encoding: Encoding = "utf-8"
    nulls: tuple[Text, ...] = Field((), description="texts that mean nothing, besides empty")


class NdjsonFormat(_Format):
    """One JSON object per line."""

    type: Literal["ndjson"]


class JsonFormat(_Format):
    """JSON documents with records in an array at ``records`` (``data.items``; empty = the top).

    ``//`` and ``/* */`` comments are accepted.
    """

    type: Literal["json"]
    records: str = ""


class DelimitedFormat(_Format):
    """Lines of cells. Without ``header`` the columns are named here, in order.

    A quoted cell may hold line ends only with ``multiline``; otherwise an open quote costs its
    own line alone.
    """

    type: Literal["delimited"]
    delimiter: str = Field(",", min_length=1, max_length=4)
    quote: str | None = Field('"', min_length=1, max_length=1)
    header: bool = True
    columns: tuple[str, ...] = ()
    skip_rows: int = Field(0, ge=0)
    comment: str | None = Field(None, min_length=1)
    decimal_comma: bool = False
    multiline: bool = False

    @model_validator(mode="after")
    def _named(self) -> DelimitedFormat:
        if self.header == bool(self.columns):
            raise ValueError("give columns exactly when header is false")
        if len(set(self.columns)) != len(self.columns):
            raise ValueError("a name in columns stands twice")
        return self


class Slice(Spec):
    """Characters of a line, counted from 1."""

    start: int = Field(ge=1)
    length: int = Field(ge=1)


class LayoutMatch(Slice):
    """The text by which a line shows its layout."""

    equals: Text


class Layout(Spec):
    """A kind of line. Header and trailer fields are named ``header.x`` and ``trailer.x``."""

    kind: Literal["header", "detail", "trailer", "ignored"]
    when: LayoutMatch | None = None
    fields: dict[str, Slice] = {}
    length: int | None = Field(None, ge=1, description="exact line length, in characters")


class FixedFormat(_Format):
    """Fixed-width lines; the first layout whose ``when`` matches reads the line."""

    type: Literal["fixed"]
    layouts: tuple[Layout, ...] = Field(min_length=1)
    decimal_comma: bool = False


class XlsxFormat(_Format):
    """A worksheet; ``sheet`` is a name, or empty for the first one."""

    type: Literal["xlsx"]
    sheet: str | None = None
    header_row: int = Field(1, ge=1)


Format = Annotated[
    NdjsonFormat | JsonFormat | DelimitedFormat | FixedFormat | XlsxFormat,
    Field(discriminator="type"),
]

# ---------------------------------------------------------------- conditions


class Condition(Spec):
    """A test of one source field (``field``) or of an earlier mapped field (``target``).

    Exactly one of the tests, or a combination by ``all``, ``any`` or ``not``. Texts are compared
    exactly; an absent value is equal to nothing and is ``empty``.
    """

    field: str | None = None
    target: str | None = None
    equals: Text | None = None
    one_of: tuple[Text, ...] | None = Field(None, alias="in")
    starts_with: Text | None = None
    matches: Pattern | None = None
    empty: bool | None = None
    all: tuple[Condition, ...] | None = None
    any: tuple[Condition, ...] | None = None
    negate: Condition | None = Field(None, alias="not")

    @model_validator(mode="after")
    def _one_test(self) -> Condition:
        tests = (self.equals, self.one_of, self.starts_with, self.matches, self.empty)
        combined = (self.all, self.any, self.negate)
        count = sum(test is not None for test in tests)
        groups = sum(part is not None for part in combined)
        named = (self.field is not None) + (self.target is not None)
        if groups:
            if groups > 1 or count or named:
                raise ValueError("all, any and not stand alone; put tests inside them")
        elif count != 1 or named != 1:
            raise ValueError(
                "name one field (or target) and one test: equals, in, starts_with, matches, empty"
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

    reason: str = Field(pattern=r"[a-z][a-z0-9_]*")
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
        for branch in self.branches():
            yield from branch.from_
            if branch.when is not None:
                yield from branch.when.sources()


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
    scope: str | None = Field(None, pattern=r"[a-z][a-z0-9_]*")
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


class Control(Spec):
    """Totals that a header or trailer field states; a mismatch quarantines the file (MD-09)."""

    records: str | None = Field(None, description="field that holds the number of detail records")
    total: str | None = Field(None, description="field that holds a sum")
    of: str | None = Field(None, description="source field that is summed")

    @model_validator(mode="after")
    def _pair(self) -> Control:
        if (self.total is None) != (self.of is None):
            raise ValueError("total (the stated sum) and of (the field summed) belong together")
        if self.records is None and self.total is None:
            raise ValueError("name records, or total with of")
        return self


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


class Expect(Spec):
    """Expectations of a feed-day, checked on its profile at close; null = not expected."""

    min_records: int | None = Field(None, ge=0)
    max_records: int | None = Field(None, ge=0)
    max_reject_percent: Decimal = Field(Decimal(5), ge=0, le=100)
    max_null_percent: dict[str, Decimal] = {}
    max_quantity: dict[str, int] = {}
    min_identifiers: int | None = Field(None, ge=0)


class FeedSpec(Spec):
    """A feed: one YAML file. See the module's docstring."""

    id: str = Field(pattern=r"[a-z][a-z0-9_]*")
    carrier: str
    description: str = ""
    target: str
    files: tuple[str, ...] = Field(min_length=1)
    format: Format
    zone: Zone | None = None
    limits: Limits = Limits()
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
    def family(self) -> str:
        """Feeds of one family share record keys and sessions; by default each is its own."""
        return (self.dedup.scope if self.dedup else None) or self.id

    def _names(self) -> None:
        for name in (*(self.dedup.content if self.dedup else ()), *self.dedup_targets()):
            if name not in self.fields:
                raise TermsError(("dedup",), f"names {name}, which is not a mapped field")
        if isinstance(self.format, FixedFormat):
            known = set(self.layout_fields())
            for source in self.sources():
                if source not in known:
                    raise TermsError(
                        ("fields",),
                        f"{source!r} is in no layout; known: {', '.join(sorted(known))}",
                    )
        if isinstance(self.format, DelimitedFormat) and not self.format.header:
            for source in self.sources():
                if source not in self.format.columns:
                    raise TermsError(("fields",), f"{source!r} is not among format.columns")
        if self.control and not isinstance(self.format, FixedFormat):
            raise TermsError(("control",), "needs a format with header or trailer layouts: fixed")

    def dedup_targets(self) -> tuple[str, ...]:
        return tuple(k[1:] for k in (self.dedup.key if self.dedup else ()) if k.startswith("="))

    def layout_fields(self) -> Iterator[str]:
        """Yield the source fields that a fixed-width format defines."""
        if isinstance(self.format, FixedFormat):
            for layout in self.format.layouts:
                prefix = "" if layout.kind == "detail" else f"{layout.kind}."
                yield from (prefix + name for name in layout.fields)

    def sources(self) -> tuple[str, ...]:
        """Return every source field that the feed reads, once, in a stable order."""
        names: dict[str, None] = {}
        for rule in self.filter:
            names.update(dict.fromkeys(rule.when.sources()))
        for field in (*self.fields.values(), *self.attributes.values()):
            names.update(dict.fromkeys(field.sources()))
        if self.dedup:
            names.update(dict.fromkeys(k for k in self.dedup.key if not k.startswith("=")))
        if self.correlate:
            names.update(dict.fromkeys(k for k in self.correlate.key if not k.startswith("=")))
        if self.control:
            wanted = (self.control.records, self.control.total, self.control.of)
            names.update(dict.fromkeys(name for name in wanted if name))
        names.pop(FILE_NAME, None)
        return tuple(names)

    @property
    def table(self) -> Table:
        return TARGETS[self.target]


FILE_NAME = "$file"
"""Source field that every feed has: the base name of the file as it was delivered."""

RAW_COLUMNS = (
    "file_key",
    "file_name",
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
:meth:`FeedSpec.sources`. ``structure`` is null for records, else header, trailer, blank, comment,
skipped: lines of the file that are no records."""
