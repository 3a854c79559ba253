"""Check feeds: everything that is wrong, and what is legal but will hurt one day.

Errors keep a feed from loading. Warnings do not; one that is meant to be so is accepted in the
file, with the reason that the next reader needs::

    # lint: accept no_vendor_key: the report has no record id

====================== ============================================================================
no_control_totals      nothing states how much the file should hold: a file cut off passes
no_vendor_key          records are told apart by what they say, not by the vendor's id: two equal
                       events are one
shared_key             records made of one row or object have one key: they will conflict
no_zone                a time without offset rejects its record
local_clock            the zone's clocks change: an hour of every autumn is there twice
unit_not_declared      a measured quantity is taken as it stands; nobody wrote down bytes or MB
no_expectations        no figures of a normal day: an empty or doubled day passes unnoticed
overlapping_files      a file name can match two feeds; such a file is not read at all
broad_files            a pattern names no carrier: other people's files will match it
unknown_target         a name under expect, bounds or attributes that does not do what it says
map_default            unknown values become the default silently
check_digit_off        check digits are not verified: a typing error bills another SIM
rounding_per_record    each record is rounded; only right where the vendor does it too
unread_layout          a layout's field that no rule reads
useless_accept         an accept that accepts nothing
====================== ============================================================================
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

from iotbill_pipelines.config.documents import (
    ConfigError,
    Document,
    KeyPath,
    format_key,
    read_yaml,
)
from iotbill_pipelines.config.feeds import parse_feed
from iotbill_pipelines.engine.feeds.spec import (
    COLUMN,
    PIECE,
    PROVIDED,
    TARGETS,
    Branch,
    Condition,
    FeedSpec,
    FieldSpec,
    FixedFormat,
    JsonFormat,
    NdjsonFormat,
    Step,
)
from iotbill_pipelines.operations.feed_tools.patterns import common_name

COUNTED = frozenset({"sms", "sms_mo", "sms_mt", "uplink", "downlink", "event", "signaling"})
"""Usage classes that are counted; the others have a unit that a feed should say."""

_PLACEHOLDERS = {
    "VARCHAR": {"value": "x"},
    "BIGINT": {"value": "0"},
    "INTEGER": {"value": "0"},
    "TIMESTAMP": {"value": "2000-01-01T00:00:00Z"},
    "DATE": {"value": "2000-01-01"},
}
_ROUNDS = 50
"""Errors of one file that are found one after the other, at most."""


@dataclass(frozen=True)
class Note:
    """One finding: where, the rule, and what to do. ``accepted`` holds the reason given for it."""

    file: str
    line: int
    key: str
    severity: Literal["error", "warning"]
    code: str
    rule: str
    what_to_do: str
    accepted: str | None = None


@dataclass(frozen=True)
class LintReport:
    """What was found in ``files``; warnings that their file accepts are listed apart."""

    files: tuple[str, ...]
    notes: tuple[Note, ...]
    accepted: tuple[Note, ...]

    @property
    def errors(self) -> tuple[Note, ...]:
        return tuple(note for note in self.notes if note.severity == "error")

    @property
    def warnings(self) -> tuple[Note, ...]:
        return tuple(note for note in self.notes if note.severity == "warning")


@dataclass(frozen=True)
class _Feed:
    spec: FeedSpec
    document: Document

    def note(self, code: str, key: KeyPath, rule: str, what_to_do: str) -> Note:
        document = self.document
        return Note(
            str(document.path), document.line(key), format_key(key), "warning", code, rule,
            what_to_do,
        )  # fmt: skip


def lint(specs: Sequence[Path], others: Sequence[Path] = ()) -> LintReport:
    """Check feed files; ``others`` are the feeds beside them, whose files must not overlap.

    ``others`` are not checked themselves; what cannot be read of them is left out.
    """
    notes: list[Note] = []
    feeds: list[_Feed] = []
    for path in specs:
        try:
            document = read_yaml(path)
        except ConfigError as error:
            notes += _errors(error)
            continue
        found = list(_all_errors(document))
        notes += found
        if not found:
            feeds.append(_Feed(parse_feed(document), document))
    for feed in feeds:
        notes += _risks(feed)
    given = {path.resolve() for path in specs}
    beside = [feed for path in others if path.resolve() not in given for feed in _readable(path)]
    notes += _overlaps(feeds, beside)
    kept, accepted = _accepted(feeds, notes)
    return LintReport(
        tuple(map(str, specs)),
        tuple(sorted(kept, key=lambda n: (n.file, n.line, n.severity))),
        tuple(accepted),
    )


def _readable(path: Path) -> list[_Feed]:
    try:
        document = read_yaml(path)
        return [_Feed(parse_feed(document), document)]
    except ConfigError:
        return []


# ---------------------------------------------------------------- errors


def _errors(error: ConfigError) -> list[Note]:
    notes = []
    for problem in error.problems:
        rule, _, what_to_do = problem.rule.rpartition("; ")
        notes.append(
            Note(
                problem.file, problem.line, format_key(problem.key), "error", "error",
                rule or problem.rule, what_to_do if rule else "",
            )
        )  # fmt: skip
    return notes


def _all_errors(document: Document) -> Iterator[Note]:
    """Find every error: each one found is put right in a copy, and the copy is checked again."""
    data = copy.deepcopy(document.data)
    seen: set[tuple[str, str]] = set()
    for _ in range(_ROUNDS):
        try:
            parse_feed(Document(document.path, data, document.lines))
        except ConfigError as error:
            new = [n for n in _errors(error) if (n.key, n.rule) not in seen]
            seen |= {(n.key, n.rule) for n in new}
            yield from new
            repaired = [_repair(data, problem.key) for problem in error.problems]
            if not new or not any(repaired):
                return
        else:
            return


def _repair(data: Any, key: KeyPath) -> bool:  # noqa: PLR0911, PLR0912 - one answer per place
    """Replace what stands at ``key`` by something harmless; False where that is not possible."""
    if not isinstance(data, dict) or not key:
        return False
    table = TARGETS.get(str(data.get("target")))
    section = data.get(str(key[0]))
    match key:
        case ("fields",) if table is not None and isinstance(section, dict):
            provided = {*PROVIDED.get(table.name, ()), "event_text"}
            for column in table.columns:
                if not column.nullable and column.name not in {*section, *provided}:
                    section[column.name] = _placeholder(column.type)
                    return True
            return False
        case ("fields", str(name), *_) if table is not None and isinstance(section, dict):
            kinds = {c.name: c.type for c in table.columns}
            if name in kinds and name not in PROVIDED.get(table.name, ()):
                section[name] = _placeholder(kinds[name])
            else:
                section.pop(name, None)
            return True
        case ("attributes", str(name), *_) if isinstance(section, dict):
            return section.pop(name, None) is not None
        case ("filter", int(number), *_) if isinstance(section, list):
            section[number] = {"reason": "x", "when": {"field": "$file", "empty": True}}
            return True
        case ("dedup", *_) if table is not None and table.name == "usage_record":
            harmless = {"key": ["=uid_value"]}
            changed = data.get("dedup") != harmless
            data["dedup"] = harmless
            return changed
        case ("id" | "carrier", *_):
            data[str(key[0])] = "x"
            return True
        case ("files" | "target" | "format" | "fields", *_):
            return False
        case _:
            return data.pop(key[0], None) is not None


def _placeholder(kind: str) -> dict[str, Any]:
    return dict(_PLACEHOLDERS.get(kind, {"value": "0", "steps": ["decimal"]}))


# ---------------------------------------------------------------- warnings


def _risks(feed: _Feed) -> Iterator[Note]:
    spec = feed.spec
    usage = spec.target == "usage_record"
    if usage or spec.target == "vendor_invoice_line":
        # roaming files declare what they hold, and their decoder compares it
        if spec.control is None and spec.format.type not in ("tap", "nrtrde", "rap"):
            yield feed.note(
                "no_control_totals", ("format",),
                "nothing in the file says how many records it should hold; one cut off passes",
                "ask the sender for a trailer, a header or a companion file with totals",
            )  # fmt: skip
        if not (isinstance(feed.document.data, dict) and feed.document.data.get("expect")):
            yield feed.note(
                "no_expectations", (), "the feed has no expect section: no day looks unusual",
                "add expect with min_records, and max_quantity per usage class",
            )  # fmt: skip
    if usage:
        yield from _keys(feed)
        yield from _units(feed)
    yield from _times(feed)
    yield from _names(feed)
    yield from _steps_at_risk(feed)
    for number, pattern in enumerate(spec.files):
        if len(re.sub(r"\[[^]]*\]|[*?]|\.[A-Za-z0-9.]+$", "", pattern)) < 3:
            yield feed.note(
                "broad_files", ("files", number), f"{pattern!r} says nothing but the kind of file",
                "begin it with what the carrier's file names begin with",
            )  # fmt: skip


def _keys(feed: _Feed) -> Iterator[Note]:
    dedup, form = feed.spec.dedup, feed.spec.format
    abreast = form.parallel if isinstance(form, JsonFormat | NdjsonFormat) else ()
    telling = {PIECE, COLUMN, "=usage_class", "=event_start", *abreast}
    if dedup is not None and (form.unpivot or abreast) and not telling & set(dedup.key):
        several = "unpivot" if form.unpivot else "parallel"
        yield feed.note(
            "shared_key", ("dedup", "key"),
            f"{several} makes several records of one, and the key is the same for all: the second "
            "conflicts with the first, and waits in suspense",
            f"add {COLUMN if form.unpivot else PIECE} to the key",
        )  # fmt: skip
    if dedup is None or not {"=event_start", "=uid_value"} & set(dedup.key):
        return
    yield feed.note(
        "no_vendor_key", ("dedup", "key"),
        "the key is made of what the record says: two events alike to the second are one",
        "use the vendor's record id if the file has one, or add what tells records apart",
    )  # fmt: skip


def _times(feed: _Feed) -> Iterator[Note]:
    for path, _, steps in _ways(feed.spec):
        column = next((c for c in feed.spec.table.columns if c.name == path[1]), None)
        if path[0] == "attributes" or column is None:
            continue
        timed = [step for step in steps if step.name == "timestamp"]
        if not timed and column.type == "TIMESTAMP" and not _is_local(steps):
            timed = [Step(name="timestamp")]
        for step in timed:
            form = step.params.get("format", "iso")
            zone = step.params.get("zone") or feed.spec.zone
            if form in ("epoch_s", "epoch_ms"):
                continue
            if zone is None:
                yield feed.note(
                    "no_zone", path, "no zone is declared: a time without offset is rejected",
                    "declare zone for the feed, UTC if the carrier says so",
                )  # fmt: skip
            elif _changes(zone):
                yield feed.note(
                    "local_clock", path,
                    f"times without offset are on the clock of {zone}, which shows one hour of "
                    "autumn twice; its second pass is taken for the first (flag ambiguous_time)",
                    "ask the carrier for UTC or for times with offset",
                )  # fmt: skip


def _is_local(steps: Iterable[Step]) -> bool:
    return any(step.name == "local_time" for step in steps)


def _changes(zone: str) -> bool:
    known = ZoneInfo(zone)
    return (
        len({datetime(2026, month, 1, 12, tzinfo=known).utcoffset() for month in range(1, 13)}) > 1
    )


def _units(feed: _Feed) -> Iterator[Note]:
    spec = feed.spec
    for name in ("quantity", "quantity_up", "quantity_down"):
        field = spec.fields.get(name)
        if field is None:
            continue
        for number, branch in enumerate(field.branches()):
            steps = (*branch.steps, *field.steps)
            measured = sorted(_classes(spec, branch.when) - COUNTED)
            if branch.value is not None or not measured:
                continue
            if any(step.name not in _PLAIN_STEPS for step in steps):
                continue
            key: KeyPath = ("fields", name, *(("choose", number) if field.choose else ()))
            yield feed.note(
                "unit_not_declared", key,
                f"{', '.join(measured)} is taken as it stands; the feed does not say its unit",
                "write the unit that the carrier states: {units: {unit: B}}, MB (10^6), MiB "
                "(2^20), second, ...",
            )  # fmt: skip


_PLAIN_STEPS = frozenset({"trim", "integer", "absent", "extract", "cut", "matches"})
"""Steps after which a number is still what the carrier wrote, whatever that was."""


def _classes(spec: FeedSpec, when: Condition | None) -> set[str]:
    """Return the usage classes that records of a branch can have."""
    field = spec.fields["usage_class"]
    classes: set[str] = set()
    for branch in field.branches():
        if branch.value is not None:
            classes.add(branch.value)
        for step in (*branch.steps, *field.steps):
            if step.name == "map":
                classes |= {str(value) for value in step.params.get("table", {}).values()}
                classes |= {str(step.params["default"])} if step.params.get("default") else set()
    if when is None:
        return classes
    values = set(when.one_of or ()) | ({when.equals} if when.equals is not None else set())
    if when.target == "usage_class" and values:
        return values & classes
    told: set[str] = set()
    for branch in field.branches():
        if when.field in branch.from_:
            for step in (*branch.steps, *field.steps):
                if step.name == "map":
                    table = {str(k): str(v) for k, v in step.params.get("table", {}).items()}
                    told |= {table[value] for value in values if value in table}
        same = branch.when is not None and branch.when.field == when.field
        if same and branch.when is not None and branch.value is not None:
            given = set(branch.when.one_of or ()) | {branch.when.equals}
            told |= {branch.value} if given & values else set()
    return told or classes


def _closed(field: FieldSpec) -> bool:
    """Do the feed's own terms list every value that a field can have?"""
    return all(
        branch.value is not None or any(s.name == "map" for s in (*branch.steps, *field.steps))
        for branch in field.branches()
    )


def _names(feed: _Feed) -> Iterator[Note]:
    spec = feed.spec
    columns = {column.name for column in spec.table.columns}
    for name in spec.expect.max_null_percent:
        if name not in spec.fields:
            known = "is not mapped" if name in columns else f"is not a column of {spec.target}"
            yield feed.note(
                "unknown_target", ("expect", "max_null_percent", name), f"{name} {known}",
                "name a mapped field",
            )  # fmt: skip
    if spec.target == "usage_record":
        classes = _classes(spec, None) if _closed(spec.fields["usage_class"]) else set()
        sections = (
            ("expect", spec.expect.max_quantity), ("bounds", spec.bounds.max_quantity)
        )  # fmt: skip
        for section, limits in sections:
            for name in limits:
                if classes and name not in classes:
                    yield feed.note(
                        "unknown_target", (section, "max_quantity", name),
                        f"no record of this feed has usage class {name}",
                        f"use one of {', '.join(sorted(classes))}",
                    )  # fmt: skip
    for name in spec.attributes:
        if name in columns:
            yield feed.note(
                "unknown_target", ("attributes", name),
                f"{name} is a column of {spec.target}, but stands under attributes",
                "move it to fields, so that zones and reports can use it",
            )  # fmt: skip
    if isinstance(spec.format, FixedFormat):
        read = set(spec.sources())
        for number, layout in enumerate(spec.format.layouts):
            for name in layout.fields:
                full = name if layout.kind == "detail" else f"{layout.kind}.{name}"
                if layout.kind == "detail" and full not in read:
                    yield feed.note(
                        "unread_layout", ("format", "layouts", number, "fields", name),
                        f"{name} is in the layout and nothing reads it",
                        "map it to a field or an attribute, or leave it out of the layout",
                    )  # fmt: skip


def _steps_at_risk(feed: _Feed) -> Iterator[Note]:
    for path, _, steps in _ways(feed.spec):
        for step in steps:
            if step.name == "map" and step.params.get("default") is not None:
                yield feed.note(
                    "map_default", path,
                    f"a value that the table does not know becomes {step.params['default']}",
                    "leave default out, so that new values are rejected and seen",
                )  # fmt: skip
            if step.name == "iccid" and step.params.get("luhn") == "none":
                yield feed.note(
                    "check_digit_off", path, "the check digit of ICCIDs is not verified",
                    "leave luhn out; ask the carrier about records that it would reject",
                )  # fmt: skip
            if step.name == "units" and step.params.get("round", "none") != "none":
                yield feed.note(
                    "rounding_per_record", path,
                    f"every record is rounded {step.params['round']} to a whole unit",
                    "keep it only where the carrier's own bill does the same",
                )  # fmt: skip


def _ways(spec: FeedSpec) -> Iterator[tuple[KeyPath, Branch, tuple[Step, ...]]]:
    """Yield every way to every field, with all the steps that it takes."""
    named: tuple[tuple[str, Mapping[str, FieldSpec]], ...] = (
        ("fields", spec.fields),
        ("attributes", spec.attributes),
    )
    for section, fields in named:
        for name, field in fields.items():
            for number, branch in enumerate(field.branches()):
                path: KeyPath = (section, name, *(("choose", number) if field.choose else ()))
                yield path, branch, (*branch.steps, *field.steps)


def _overlaps(feeds: Sequence[_Feed], beside: Sequence[_Feed]) -> Iterator[Note]:
    pairs = [*combinations(feeds, 2), *((mine, other) for mine in feeds for other in beside)]
    for mine, other in pairs:
        if mine.spec.id == other.spec.id:
            yield Note(
                str(mine.document.path), mine.document.line(("id",)), "id", "error", "error",
                f"{mine.spec.id!r} is also the id of {other.document.path.name}",
                "choose another",
            )  # fmt: skip
        for number, pattern in enumerate(mine.spec.files):
            for theirs in other.spec.files:
                name = common_name(pattern, theirs)
                if name is None:
                    continue
                wider = theirs.startswith("*") and not pattern.startswith("*")
                if wider and other not in feeds and _accepts(other, "overlapping_files"):
                    continue  # the feed beside has answered for its pattern
                broad = wider and other in feeds
                at, place = (other, other.spec.files.index(theirs)) if broad else (mine, number)
                far, (near, wide) = (
                    (mine, (theirs, pattern)) if broad else (other, (pattern, theirs))
                )
                yield at.note(
                    "overlapping_files", ("files", place),
                    f"{near!r} and {wide!r} of feed {far.spec.id} both match {name!r}",
                    "make the patterns tell the files apart: a file of two feeds is not read",
                )  # fmt: skip


# ---------------------------------------------------------------- accepted warnings

_ACCEPT = re.compile(r"#\s*lint:\s*accept\s+([a-z_]+)(?:\s*:\s*(.*?))?\s*$")


def _accepts(feed: _Feed, code: str) -> bool:
    """Does a feed's file accept a warning, with a reason?"""
    text = feed.document.path.read_text(encoding="utf-8-sig")
    found = (_ACCEPT.search(line) for line in text.splitlines())
    return any(match and match[1] == code and match[2] for match in found)


def _accepted(feeds: Sequence[_Feed], notes: Sequence[Note]) -> tuple[list[Note], list[Note]]:
    """Part the warnings that their file accepts from the others."""
    reasons: dict[tuple[str, str], tuple[int, str]] = {}
    kept: list[Note] = []
    for feed in feeds:
        text = feed.document.path.read_text(encoding="utf-8-sig")
        for number, line in enumerate(text.splitlines(), 1):
            match = _ACCEPT.search(line)
            if match and not match[2]:
                kept.append(
                    Note(
                        str(feed.document.path), number, "", "warning", "useless_accept",
                        f"{match[1]} is accepted without a reason",
                        f"write why: # lint: accept {match[1]}: REASON",
                    )
                )  # fmt: skip
            elif match:
                reasons[(str(feed.document.path), match[1])] = (number, match[2])
    accepted: list[Note] = []
    used: set[tuple[str, str]] = set()
    for note in notes:
        found = reasons.get((note.file, note.code)) if note.severity == "warning" else None
        if found is None:
            kept.append(note)
            continue
        used.add((note.file, note.code))
        accepted.append(
            Note(
                note.file, note.line, note.key, note.severity, note.code, note.rule,
                note.what_to_do, found[1],
            )
        )  # fmt: skip
    for (file, code), (at, _) in reasons.items():
        if (file, code) not in used:
            kept.append(
                Note(
                    file, at, "", "warning", "useless_accept",
                    f"{code} is accepted, but nothing here causes it", "remove the comment",
                )
            )  # fmt: skip
    return kept, accepted
