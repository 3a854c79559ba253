"""A first version of a feed from a sample file, with everything said that is not certain.

:func:`scaffold` looks at the file (:mod:`.shapes`), says what its columns are (:mod:`.guessing`),
writes commented YAML, and then runs the sample through it: steps that would reject much of the
sample are taken back, and the figures of the last run stand in the file's head. What comes out
loads and lints without errors; whether it is right is for a person to say.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from iotbill_pipelines.config.documents import ConfigError, parse_yaml
from iotbill_pipelines.config.feeds import parse_feed
from iotbill_pipelines.engine.feeds.spec import DEFAULT_MAX_QUANTITY, PROVIDED, TARGETS
from iotbill_pipelines.engine.schemas import RATE, USAGE_RECORD
from iotbill_pipelines.engine.schemas import Column as TableColumn
from iotbill_pipelines.operations.feed_tools.guessing import (
    UNITS,
    Column,
    Times,
    clock,
    identifier,
    moments,
    names_a_device,
    unit_class,
    usage_class,
)
from iotbill_pipelines.operations.feed_tools.shapes import (
    Confidence,
    Doubt,
    Shape,
    UnknownShapeError,
    read_shape,
)
from iotbill_pipelines.operations.feed_tools.trying import Trial, try_sample

SCHEMA = "../../docs/feed.schema.json"
ATTRIBUTES = 12
"""Further columns that are kept as attributes, at most."""


@dataclass(frozen=True)
class Scaffold:
    """The YAML, what was guessed (least sure first), and what the sample gives with it."""

    feed_id: str
    text: str
    doubts: tuple[Doubt, ...]
    trial: Trial


@dataclass
class _Field:
    """A field to write: where from, steps as YAML, and what is said beside it."""

    source: str | None
    steps: tuple[str, ...] = ()
    value: str | None = None
    lines: tuple[str, ...] = ()
    """Branches of ``choose``, as YAML, instead of ``source``."""
    note: str = ""


@dataclass
class _Draft:
    feed_id: str
    shape: Shape
    columns: dict[str, Column]
    target: str = USAGE_RECORD.name
    fields: dict[str, _Field] = field(default_factory=dict)
    attributes: dict[str, _Field] = field(default_factory=dict)
    zone: str = "UTC"
    key: tuple[str, ...] = ()
    bounds: dict[str, str] = field(default_factory=dict)
    accepts: dict[str, str] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def doubt(self, about: str, taken: str, confidence: Confidence, why: str) -> None:
        self.shape.doubt(about, taken, confidence, why)

    def free(self) -> list[Column]:
        """Columns that no field reads yet and that hold something."""
        return [c for c in self.columns.values() if c.name not in self.used and c.values]

    def map(self, name: str, column: Column, *steps: str, note: str = "") -> None:
        self.fields[name] = _Field(column.name, steps, note=note)
        self.used.add(column.name)


def scaffold(
    sample: Path, now: datetime, feed_id: str | None = None, target: str = USAGE_RECORD.name
) -> Scaffold:
    """Make a feed for a sample file. ``now`` (naive UTC) is when the sample came.

    Raises UnknownShapeError for a file of which no feed of ``target`` can be made, saying why.
    """
    if target not in TARGETS:
        raise UnknownShapeError(f"there is no target {target!r}; use one of {', '.join(TARGETS)}")
    shape = read_shape(sample)
    draft = _Draft(feed_id or _identifier(sample.name), shape, _columns(shape), target)
    if target == USAGE_RECORD.name:
        _times(draft, now)
        _who(draft)
        _what(draft)
        _others(draft)
        _dedup(draft)
        _rest(draft)
    else:
        _like_names(draft)
    trial = _tried(draft, sample, now)
    for _ in range(6):
        if not _relaxed(draft, trial):
            break
        trial = _tried(draft, sample, now)
    rank = {"unsure": 0, "likely": 1, "sure": 2}
    doubts = tuple(sorted(shape.doubts, key=lambda doubt: rank[doubt.confidence]))
    return Scaffold(draft.feed_id, _write(draft, sample.name, trial), doubts, trial)


def _identifier(name: str) -> str:
    stem = re.sub(r"(\.[A-Za-z0-9]{1,6}){1,2}$", "", name)
    words = [w for w in re.findall(r"[a-z0-9]+", stem.lower()) if not w.isdigit()]
    text = "_".join(words) or "feed"
    return text if text[0].isalpha() else f"feed_{text}"


def _columns(shape: Shape) -> dict[str, Column]:
    columns = {}
    for position, name in enumerate(shape.names):
        values = tuple(v for row in shape.rows if (v := row.get(name)) is not None and v.strip())
        comma = bool(shape.format.get("decimal_comma"))
        columns[name] = Column(name, values, len(shape.rows), shape.named, position, comma)
    return columns


# ---------------------------------------------------------------- when


def _times(draft: _Draft, now: datetime) -> None:
    timed = [(c, t) for c in draft.free() if (t := c.times) is not None and c.filled > 0.3]
    if not timed:
        raise UnknownShapeError(
            "no column of the sample holds the times of events, so it is no usage file; for "
            "reference data, invoices or rates name their table: --target service"
        )
    start, times = max(timed, key=lambda item: (_start_rank(item[0]), -item[0].position))
    steps = _with_clock(draft, start, times)
    draft.map("event_start", start, *steps)
    named = _start_rank(start) > 2 and start.named
    draft.doubt(
        "fields.event_start",
        start.name,
        "likely" if named else "unsure",
        f"{times.share:.0%} of its values are times written as {times.format}"
        + ("" if len(timed) == 1 else f"; there are {len(timed)} columns of times"),
    )
    if times.ambiguous_day:
        draft.doubt(
            "fields.event_start",
            times.format,
            "unsure",
            "no day of the sample is past 12: day and month could be the other way",
        )
    _zone(draft, start, times)
    begun = dict(zip(start.values, moments(start, times), strict=True))
    ranked = sorted(
        timed, key=lambda item: (item[1].format == times.format, _end_rank(item[0])), reverse=True
    )
    for column, other in ranked:
        if column is start or "event_end" in draft.fields or _end_rank(column) < 0:
            continue
        pairs = [
            (begun.get(row.get(start.name) or ""), row.get(column.name)) for row in draft.shape.rows
        ]
        ended = dict(zip(column.values, moments(column, other), strict=True))
        both = [(b, e) for b, text in pairs if b and text and (e := ended.get(text))]
        if both and sum(e >= b for b, e in both) >= 0.8 * len(both):
            draft.map("event_end", column, "trim", _time_step(other))
    earliest = times.first.astimezone(UTC).replace(tzinfo=None)
    age = (now - earliest).days
    if age > 3600:
        draft.bounds["max_age_days"] = str(age + 366)
        draft.doubt(
            "bounds.max_age_days",
            str(age + 366),
            "unsure",
            f"the sample's first event is of {earliest:%Y}; lower it for real files",
        )


def _with_clock(draft: _Draft, day: Column, times: Times) -> tuple[str, ...]:
    """Put the clock of another column behind a day without one."""
    if "%" not in times.format or "%H" in times.format or "%I" in times.format:
        return ("trim", _time_step(times))
    clocks = [(c, form) for c in draft.free() if c is not day and (form := clock(c))]
    if not clocks:
        return ("trim", _time_step(times))
    column, form = min(clocks, key=lambda item: abs(item[0].position - day.position))
    draft.used.add(column.name)
    draft.doubt(
        "fields.event_start", f"{day.name} with {column.name}", "likely",
        f"the day has no clock, {column.name} is written {form}",
    )  # fmt: skip
    both = _quoted(f"{times.format} {form}")
    joined = f'{{join: {{field: {_quoted(column.name)}, with: " "}}}}'
    return ("trim", joined, f"{{timestamp: {{format: {both}}}}}")


def _start_rank(column: Column) -> int:
    if not column.named:
        return 2 if column.filled > 0.9 else 1
    if column.says(".*(production|birth|created|updated|expir|valid|account).*"):
        return -2
    if column.says(".*(end|stop|finish|until|disconnect|release|hangup).*"):
        return -1
    rank = 5 if column.says(".*(start|begin|setup|origination|starting).*") else 2
    if column.says("(event|record|reported|usage|call)?.*(date|time|stamp|timestamp|at).*"):
        rank += 1
    if column.indexed:
        rank -= 4  # a time inside an array belongs to its element
    if column.name.startswith("_") or column.name.count(".") > 1:
        rank -= 1
    return rank + (column.filled > 0.9)


def _end_rank(column: Column) -> int:
    if column.named:
        return 1 if column.says(".*(end|stop|finish|disconnect|release|hangup).*") else -1
    return column.position


def _time_step(times: Times) -> str:
    if times.format == "iso":
        return "timestamp"
    return f"{{timestamp: {{format: {_quoted(times.format)}}}}}"


def _zone(draft: _Draft, column: Column, times: Times) -> None:
    if times.format.startswith("epoch"):
        draft.doubt("zone", "UTC", "sure", "seconds since 1970 have no zone")
    elif times.offset:
        draft.doubt("zone", "UTC", "sure", "every time says its own offset")
    elif column.says(".*(utc|gmt).*"):
        draft.doubt("zone", "UTC", "likely", f"the column is called {column.name}")
    else:
        draft.doubt(
            "zone",
            "UTC",
            "unsure",
            "the times have no offset and nothing says their clock; ask the carrier",
        )


# ---------------------------------------------------------------- who

_PREFERRED = ("iccid", "imsi", "deveui", "msisdn", "eid", "imei")


def _who(draft: _Draft) -> None:
    known = [(c, i) for c in draft.free() if (i := identifier(c)) is not None and c.filled > 0.4]
    known = [(c, i) for c, i in known if not (c.numeric == 1 and _is_quantity_name(c))]
    callers = r"dest\w*|callee|called|peer|dst|other|to"
    known.sort(
        key=lambda item: (
            _PREFERRED.index(item[1].kind),
            item[1].confidence == "unsure",
            item[0].says(callers),
            item[0].name.count("."),
            item[0].position,
        )
    )
    if known and (known[0][1].kind != "msisdn" or known[0][0].named or known[0][0].filled == 1):
        column, found = known[0]
        draft.fields["uid_type"] = _Field(None, value=found.kind)
        draft.map("uid_value", column, *found.steps)
        if "none" in found.steps[-1]:
            draft.accepts["check_digit_off"] = "check digits of the sample are wrong"
        confidence: Confidence = "unsure" if found.confidence == "unsure" else "likely"
        if found.confidence == "sure":
            confidence = "sure"
        draft.doubt("fields.uid_value", f"{column.name} as {found.kind}", confidence, found.why)
        for other, meant in known[1:]:
            if (
                meant.kind == "msisdn"
                and found.kind == "msisdn"
                and "peer_number" not in (draft.fields)
            ):
                draft.map("peer_number", other, *meant.steps)
                draft.doubt(
                    "fields.peer_number",
                    other.name,
                    "unsure",
                    "the second column of phone numbers; the direction is not known",
                )
        return
    devices = [c for c in draft.free() if names_a_device(c) and c.filled > 0.8 and not c.times]
    if not devices and not draft.shape.named:
        # names of people and lines repeat, are texts, and stand early
        devices = [
            c
            for c in draft.free()
            if c.filled == 1
            and c.numeric < 1
            and not c.times
            and c.distinct > 1
            and c.share(lambda t: len(t) < 40) == 1
        ]
    if devices:
        draft.fields["uid_type"] = _Field(None, value="device")
        draft.map("uid_value", devices[0], "trim")
        draft.doubt(
            "fields.uid_value",
            f"{devices[0].name} as device",
            "unsure",
            "no ICCID, IMSI, MSISDN, IMEI or EUI was found; this is named like a user",
        )
        return
    draft.fields["uid_type"] = _Field(None, value="device")
    draft.fields["uid_value"] = _Field("$file")
    draft.doubt(
        "fields.uid_value",
        "the file's name",
        "unsure",
        "no column says whose usage it is; perhaps the name of the file does",
    )


# ---------------------------------------------------------------- what and how much


@dataclass(frozen=True)
class _Measure:
    column: Column
    kind: str
    rank: int
    steps: tuple[str, ...]
    confidence: Confidence
    why: str


_VOLUME = (
    r"\w*bytes?\w*|\w*octets?|volume\w*|traffic|usage|upload\w*|download\w*|kb|mb|gb|kib|mib|data"
)
_TALK = r"\w*duration|billsec|talk ?time|seconds?|secs?|minutes?|mins?"
_COUNT = r"count\w*|messages?|sms|events?|quantity|units|reading|value|kwh|consumption|amount"
_MONEY = r"\w*costs?|charged?|price\w*|revenue|fee|tax|buy|sell|billed|usd|eur|points"


def _is_quantity_name(column: Column) -> bool:
    return (
        column.named
        and (column.says(_VOLUME) or column.says(_TALK) or column.says(_COUNT))
        and not column.says(r"\w*id|number|date|time|name|zone|type")
    )


def _what(draft: _Draft) -> None:
    if _by_unit(draft):
        return
    classes = _class_column(draft)
    measures = sorted(_measures(draft), key=lambda m: (-m.rank, m.column.position))
    kinds = {m.kind: m.column.name for m in reversed(measures) if m.kind != "reading"}
    if classes is None and len(kinds) > 1 and draft.shape.named:
        draft.doubt(
            "format.unpivot",
            "nothing",
            "unsure",
            "a row may hold several usages, of which one is read; if so, write unpivot: "
            f"[{', '.join(kinds.values())}] and map $column and $value",
        )
    if classes is not None and len(classes[1]) > 1:
        _by_class(draft, classes[0], classes[1], measures)
    else:
        chosen = measures[0] if measures else None
        name = next(iter(set(classes[1].values())), None) if classes else None
        if name is None:
            name = chosen.kind if chosen else _event_class(draft)
        fitting = [m for m in measures if m.kind == name] or measures
        draft.fields["usage_class"] = _Field(None, value=name)
        draft.doubt(
            "fields.usage_class",
            name,
            "unsure" if chosen is None else "likely",
            "nothing in the file tells classes apart",
        )
        if not fitting or name in ("sms", "uplink"):
            draft.fields["quantity"] = _Field(None, ("integer",), value="1")
            draft.doubt(
                "fields.quantity",
                "1 for every record",
                "unsure",
                "no column of amounts was found, so events are counted",
            )
        else:
            _quantity(draft, fitting[0], measures)
    _directions(draft, measures)


def _by_unit(draft: _Draft) -> bool:
    """Map an amount whose unit stands in another column, and the class by the unit."""
    units = [
        c for c in draft.free()
        if c.filled > 0.9 and c.named and c.says(r".*unit|uom|einheit|unite|unidad")
        and c.share(lambda v: v.strip().lower() in UNITS) == 1
    ]  # fmt: skip
    measured = units and [
        c for c in draft.free()
        if c.numeric > 0.95 and c.filled > 0.9 and not c.times and not c.says(_MONEY)
        and not c.says(r"\w*id|number|code|\w*time")
    ]  # fmt: skip
    if not units or not measured:
        return False
    unit = units[0]
    amount = max(measured, key=lambda c: (_is_quantity_name(c), -abs(c.position - unit.position)))
    words = {v.strip(): UNITS[v.strip().lower()] for v in sorted(set(unit.values))}
    names = ", ".join(f"{_quoted(word)}: {meant}" for word, meant in words.items())
    classes = {word: unit_class(meant) for word, meant in words.items()}
    if len(set(classes.values())) == 1:
        draft.fields["usage_class"] = _Field(None, value=next(iter(classes.values())))
    else:
        pairs = ", ".join(f"{_quoted(word)}: {name}" for word, name in classes.items())
        draft.fields["usage_class"] = _Field(
            unit.name, ("trim", f"{{map: {{table: {{{pairs}}}}}}}")
        )
    step = f"{{units_by: {{field: {_quoted(unit.name)}, steps: [trim], names: {{{names}}}}}}}"
    draft.map("quantity", amount, "trim", step)
    draft.used.add(unit.name)
    draft.doubt(
        "fields.quantity", f"{amount.name} in {unit.name}", "likely",
        f"the unit stands beside each amount: {', '.join(words)}; the carrier must say if KB and "
        "MB are 1000 or 1024",
    )  # fmt: skip
    draft.doubt(
        "fields.usage_class", ", ".join(f"{k} {v}" for k, v in classes.items()), "likely",
        "told by the unit",
    )  # fmt: skip
    _amounts(draft, amount, "data")
    return True


def _event_class(draft: _Draft) -> str:
    return "uplink" if draft.fields["uid_type"].value == "deveui" else "event"


def _quantity(draft: _Draft, chosen: _Measure, measures: Sequence[_Measure]) -> None:
    draft.map("quantity", chosen.column, "trim", *chosen.steps)
    others = [m.column.name for m in measures if m.column is not chosen.column][:4]
    why = chosen.why + (f"; it could also be {', '.join(others)}" if others else "")
    draft.doubt(
        "fields.quantity", f"{chosen.column.name} in {chosen.steps[-1]}", chosen.confidence, why
    )
    _amounts(draft, chosen.column, chosen.kind)


def _amounts(draft: _Draft, column: Column, kind: str) -> None:
    numbers = column.numbers()
    if any(n < 0 for n in numbers):
        draft.bounds["allow_negative"] = "true"
        draft.doubt(
            "bounds.allow_negative",
            "true",
            "unsure",
            f"{sum(n < 0 for n in numbers)} amounts are negative: credits, or errors?",
        )
    if "round" in str(draft.fields["quantity"].steps):
        draft.accepts["rounding_per_record"] = "the sample has more decimals than whole units hold"
    top = DEFAULT_MAX_QUANTITY.get(kind)
    if top and numbers and max(numbers) > top:
        draft.bounds["max_quantity"] = f"{{{kind}: {int(max(numbers)) * 2}}}"


def _measures(draft: _Draft) -> Iterable[_Measure]:
    spans = _spans(draft)
    for column in draft.free():
        if column.numeric < 0.95 or column.times or column.indexed or column.filled < 0.3:
            continue
        if column.says(
            r"\w*id|\w*code|mcc|mnc|\w*port|rssi|snr|\w*latitude|\w*longitude|version|rate|number"
        ) and not column.says("octets|bytes|packets"):
            continue
        if column.named and column.says(_MONEY) and not column.says("bytes?|secs?|octets?"):
            continue
        total = 2 * column.says("total|sum|billsec|billed") - 2 * column.says(
            r"up|down|tx|rx|sent|received|\w*uplink|\w*downlink|upload|download|wait\w*|answer\w*|"
            r"home|\w*roaming|progress\w*|\w*lost|video\w*|packets?"
        )
        depth = -column.name.count(".")
        if column.named and column.says(_VOLUME):
            steps, confidence, why = _volume_steps(column)
            rank = 20 + total + depth + 2 * column.says(r"\w*bytes?|\w*octets?|volume\w*|total")
            yield _Measure(column, "data", rank, steps, confidence, why)
        elif column.named and column.says(_TALK):
            steps, confidence, why = _talk_steps(column)
            yield _Measure(column, "voice", 25 + total + depth, steps, confidence, why)
        elif column.named and column.says(_COUNT):
            steps, why = _plain_steps(column)
            kind = "sms" if column.says("sms|messages") else "reading"
            yield _Measure(column, kind, 12 + total + depth, steps, "unsure", why)
        elif not column.named:
            share = spans.get(column.name, 0.0)
            numbers = column.numbers()
            if share > 0.7:
                yield _Measure(
                    column,
                    "voice",
                    22 + int(share * 5),
                    ("{units: {unit: second}}",),
                    "likely",
                    f"{share:.0%} are the seconds from start to end",
                )
            elif numbers and max(abs(n) for n in numbers) < 10**6 and column.distinct > 1:
                phone = draft.fields["uid_type"].value == "msisdn" or len(draft.columns) > 6
                steps, why = _plain_steps(column)
                kind = "voice" if phone else "reading"
                if phone and steps == ("{units: {unit: count}}",):
                    steps, why = ("{units: {unit: second}}",), "taken as seconds; nothing says so"
                sequence = [int(n) for n in numbers] == list(
                    range(int(numbers[0]), int(numbers[0]) + len(numbers))
                )
                padded = any(
                    v.strip().startswith("0") and len(v.strip()) > 1 for v in column.values
                )
                stated = draft.shape.control.get("of") == column.name
                rank = 8 - 9 * (sequence or (padded and not stated)) + (max(numbers) > 1)
                rank += 10 * stated
                yield _Measure(column, kind, rank, steps, "unsure", why)


def _spans(draft: _Draft) -> dict[str, float]:
    """For each column: how many of its numbers are the seconds from a start to an end."""
    times = {
        c.name: dict(zip(c.values, moments(c, t), strict=True))
        for c in draft.columns.values()
        if (t := c.times) is not None
    }
    found: dict[str, float] = {}
    names = list(times)
    for column in draft.free():
        if column.numeric < 0.9 or column.name in times:
            continue
        for first in names:
            for last in names:
                if first == last:
                    continue
                hits = 0
                for row in draft.shape.rows[:200]:
                    begin = times[first].get(row.get(first) or "")
                    end = times[last].get(row.get(last) or "")
                    text = row.get(column.name)
                    if begin and end and text and end > begin:
                        hits += str(int((end - begin).total_seconds())) == text.strip()
                share = hits / max(1, min(200, len(draft.shape.rows)))
                found[column.name] = max(found.get(column.name, 0.0), share)
    return found


def _whole(numbers: Sequence[Decimal], factor: int) -> bool:
    return all((n * factor) % 1 == 0 for n in numbers)


def _volume_steps(column: Column) -> tuple[tuple[str, ...], Confidence, str]:
    numbers = column.numbers()
    for pattern, unit in (
        ("mib|mebi.*", "MiB"),
        ("kib", "KiB"),
        ("gib", "GiB"),
        ("mb|megabytes?", "MB"),
        ("kb|kilobytes?", "KB"),
        ("gb", "GB"),
        (r"\w*bytes?\w*|\w*octets?", "B"),
    ):
        if column.says(pattern):
            if _whole(numbers, _SIZES[unit]):
                sure: Confidence = "likely" if unit in ("B", "MiB", "KiB", "GiB") else "unsure"
                return (
                    (f"{{units: {{unit: {unit}}}}}",),
                    sure,
                    (
                        f"named after its unit; the carrier must say if {unit} is 1000 or 1024"
                        if sure == "unsure"
                        else "named after its unit"
                    ),
                )
            return (
                (f"{{units: {{unit: {unit}, round: half_up}}}}",),
                "unsure",
                (f"named after its unit, but not whole bytes as {unit}"),
            )
    if _whole(numbers, 1):
        return (
            ("{units: {unit: B}}",),
            "unsure",
            "whole numbers, taken as bytes; the unit is not said",
        )
    for unit in ("MB", "MiB", "KB", "GB"):
        if _whole(numbers, _SIZES[unit]):
            return (
                (f"{{units: {{unit: {unit}}}}}",),
                "unsure",
                (f"decimals that are whole bytes as {unit}; the unit is not said"),
            )
    return ("{units: {unit: MB, round: half_up}}",), "unsure", "decimals; the unit is not said"


_SIZES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def _talk_steps(column: Column) -> tuple[tuple[str, ...], Confidence, str]:
    unit = "minute" if column.says("minutes?|mins?") else "second"
    told = column.says(r"secs?|seconds?|billsec|minutes?|mins?")
    whole = _whole(column.numbers(), 60 if unit == "minute" else 1)
    step = f"{{units: {{unit: {unit}{'' if whole else ', round: up'}}}}}"
    return (
        (step,),
        "likely" if told else "unsure",
        ("named after its unit" if told else f"taken as {unit}s; the unit is not said"),
    )


def _plain_steps(column: Column) -> tuple[tuple[str, ...], str]:
    numbers = column.numbers()
    if _whole(numbers, 1):
        return ("{units: {unit: count}}",), "whole numbers; the unit is not said"
    if _whole(numbers, 10**6):
        return ("{units: {unit: unit}}",), "decimals, kept in millionths; the unit is not said"
    return ("{units: {unit: unit, round: half_up}}",), "decimals, rounded to millionths"


def _class_column(draft: _Draft) -> tuple[Column, dict[str, str]] | None:
    best: tuple[int, Column, dict[str, str]] | None = None
    for column in draft.free():
        if column.distinct > 12 or column.filled < 0.9 or column.numeric == 1:
            continue
        table = {v.strip(): c for v in sorted(set(column.values)) if (c := usage_class(v))}
        known = column.share(lambda v, t=table: v.strip() in t)  # type: ignore[misc]
        if known < 0.5 or (column.named and column.says("apn|rat|direction|record")):
            continue
        rank = len(set(table.values())) * 2 + column.says("service|traffic|type|class")
        if column.named and not column.says(r"service|traffic|\w*type|class|kind|category"):
            continue
        if not column.named and len(set(table.values())) < 2:
            continue  # one word in a column without a name says too little
        if best is None or rank > best[0]:
            best = (rank, column, table)
    return (best[1], best[2]) if best else None


def _by_class(
    draft: _Draft, column: Column, table: dict[str, str], measures: Sequence[_Measure]
) -> None:
    pairs = ", ".join(f"{_quoted(k)}: {v}" for k, v in table.items())
    draft.map("usage_class", column, "trim", f"{{map: {{table: {{{pairs}}}}}}}")
    others = sorted({v.strip() for v in column.values} - set(table))
    draft.shape.filters += [("other_class", column.name, word) for word in others]
    draft.doubt(
        "fields.usage_class",
        column.name,
        "likely",
        "its values are "
        + ", ".join(f"{k} ({v})" for k, v in table.items())
        + (f"; rows of {', '.join(others)} are filtered out" if others else ""),
    )
    lines = []
    for name in dict.fromkeys(table.values()):
        rows = [
            row
            for row in draft.shape.rows
            if table.get((row.get(column.name) or "").strip()) == name
        ]
        measure = _measure_of(name, measures, rows)
        when = f"when: {{target: usage_class, equals: {name}}}"
        if measure is None:
            lines.append(f'- {{{when}, value: "1", steps: [integer]}}')
            continue
        texts = tuple(v for row in rows if (v := row.get(measure.column.name)))
        own = Column(measure.column.name, texts, len(rows), True, 0)
        if name == "sms" and not _whole(own.numbers(), 1):
            lines.append(f'- {{{when}, value: "1", steps: [integer]}}')
            continue
        steps, confidence, why = {"data": _volume_steps, "voice": _talk_steps}.get(
            name, lambda c: (*_plain_steps(c)[:1], "unsure", _plain_steps(c)[1])
        )(own)
        draft.used.add(measure.column.name)
        draft.doubt("fields.quantity", f"{name}: {own.name} in {steps[-1]}", confidence, why)
        listed = ", ".join(("trim", *steps))
        lines.append(f"- {{{when}, from: {_quoted(own.name)}, steps: [{listed}]}}")
        if "round" in steps[-1]:
            draft.accepts["rounding_per_record"] = "the sample's decimals are no whole units"
    draft.fields["quantity"] = _Field(None, lines=tuple(lines))


def _measure_of(
    name: str, measures: Sequence[_Measure], rows: Sequence[dict[str, str | None]]
) -> _Measure | None:
    """The amounts of one usage class: a column that its records fill, named after it if any is."""
    total = r"total|quantity|usage|units|volume\w*|count"
    filled = [
        m
        for m in measures
        if sum(bool((row.get(m.column.name) or "").strip()) for row in rows) >= 0.9 * len(rows)
    ]
    ranked = [
        *(m for m in filled if m.kind == name),
        *(m for m in filled if m.column.says(total) and (name == "data" or m.kind != "voice")),
    ]
    return ranked[0] if ranked else None


def _directions(draft: _Draft, measures: Sequence[_Measure]) -> None:
    quantity = draft.fields["quantity"]
    if quantity.source is None or draft.fields["usage_class"].value != "data":
        return
    for name, pattern in (
        ("quantity_up", r"up|\w*uplink|\w*upload|tx|sent|outgoing"),
        ("quantity_down", r"down|\w*downlink|\w*download|rx|received|incoming"),
    ):
        fitting = [
            m.column
            for m in measures
            if m.column.name not in draft.used
            and m.column.says(pattern)
            and not m.column.says(r"home|\w*roaming|packets?")
        ]
        if fitting:
            draft.map(name, fitting[0], "trim", quantity.steps[-1])


# ---------------------------------------------------------------- other tables

_MEANT = {
    "account_id": "account|customer|client", "service_id": "service|subscription|sim|device",
    "name": "name|company", "label": "label|alias|note", "invoice_no": "invoice",
    "currency": "currency|curr", "amount": "amount|total|cost|charge|net",
    "tax_amount": "tax|vat", "unit_price": "unit price|price per|rate",
    "quantity": "quantity|volume|units|count",
    "charge_code": "charge|item|product|fee type|service name", "plan_id": "plan|tariff",
    "plan_version": "plan version|tariff version|version",
    "service_start": "start|from|begin", "service_end": "end|to|until",
    "valid_from": "valid from|from|start|since", "valid_to": "valid to|to|until|end",
    "changed_at": "changed|change|date|at|since", "state": "state|status",
    "offer_id": "offer|plan|tariff", "destination": "prefix|code|digits|destination|mccmnc",
    "destination_name": "destination|country|description|name", "rate": "rate|price|cost",
    "usage_class": "class|service|type", "unit": "unit",
    "billing_period": "month|period", "vendor_id": "vendor|carrier|supplier",
    "connection_fee": "connection|setup|connect", "first_increment": "initial increment|minimum",
    "next_increment": "increment|interval", "billing_zone": "zone|timezone|time zone",
    "entity_id": "entity|company", "kind": "kind|type", "parent_account_id": "parent|reseller",
}  # fmt: skip
"""Words by which files call what the columns of reference data, invoices and rate cards mean."""

_CONSTANTS = {
    "BIGINT": ("0", ()), "INTEGER": ("0", ()), "DATE": ("2000-01-01", ("date",)),
    "TIMESTAMP": ("2000-01-01T00:00:00Z", ("timestamp",)), "VARCHAR": ("CHANGE_ME", ()),
    RATE: ("0", ("decimal",)),
}  # fmt: skip


def _like_names(draft: _Draft) -> None:
    """Map columns by what they are called; what must be there and is not found is a constant."""
    table = TARGETS[draft.target]
    provided = PROVIDED.get(draft.target, frozenset())
    for column in table.columns:
        if column.name in provided or column.name in draft.fields:
            continue
        if column.name == "uid_value" and _identified(draft):
            continue
        found = _called(draft, column)
        if found is not None:
            draft.map(column.name, found, *_typed_steps(found, column))
            sure: Confidence = "likely" if found.says(column.name.replace("_", " ")) else "unsure"
            draft.doubt(f"fields.{column.name}", found.name, sure, "by its name and values")
        elif not column.nullable:
            value, steps = _CONSTANTS[column.type]
            draft.fields[column.name] = _Field(None, steps, value=value)
            draft.doubt(
                f"fields.{column.name}", value, "unsure",
                f"no column looks like it ({column.doc}); change the constant",
            )  # fmt: skip
    if "uid_value" in draft.fields and "uid_type" not in draft.fields:
        draft.fields["uid_type"] = _Field(None, value="iccid")


def _identified(draft: _Draft) -> bool:
    known = [(c, i) for c in draft.free() if (i := identifier(c)) is not None]
    if not known:
        return False
    column, found = min(known, key=lambda item: _PREFERRED.index(item[1].kind)
                        if item[1].kind in _PREFERRED else len(_PREFERRED))  # fmt: skip
    draft.fields["uid_type"] = _Field(None, value=found.kind)
    draft.map("uid_value", column, *found.steps)
    draft.doubt("fields.uid_value", f"{column.name} as {found.kind}", found.confidence, found.why)  # type: ignore[arg-type]
    return True


def _called(draft: _Draft, column: TableColumn) -> Column | None:
    """The free column that is named most like a column of the table and holds what it can."""
    words = column.name.replace("_", " ")
    ranked = []
    for candidate in draft.free():
        times = candidate.times is not None
        if (column.type in ("DATE", "TIMESTAMP")) != times:
            continue
        if column.type in ("BIGINT", "INTEGER", RATE) and candidate.numeric < 0.9:
            continue
        if candidate.says(words):
            rank = 3
        elif candidate.says(rf".*({_MEANT.get(column.name, words)}).*"):
            rank = 1 + candidate.says(_MEANT.get(column.name, words))
        else:
            continue
        ranked.append((rank, candidate.filled, -candidate.position, candidate))
    return max(ranked)[3] if ranked else None


def _typed_steps(found: Column, column: TableColumn) -> tuple[str, ...]:
    if column.type == RATE:
        return ("trim", "decimal")
    if column.type in ("BIGINT", "INTEGER"):
        return ("trim", "integer")
    times = found.times
    if column.type == "TIMESTAMP" and times is not None:
        return ("trim", _time_step(times))
    if column.type == "DATE" and times is not None:
        if times.format in ("iso", "%Y-%m-%d"):
            return ("trim", "{cut: {start: 1, length: 10}}", "date")
        return ("trim", f"{{date: {{format: {_quoted(times.format)}}}}}")
    return ("trim",)


# ---------------------------------------------------------------- further columns

_TEXTS = (
    ("apn", "apn|.*apn"),
    ("rat", "rat|rat type|.*radio.*"),
    ("region", ".*(rate ?zone|zone) ?name|zone|region"),
    ("session_id", ".*session ?id"),
)


def _others(draft: _Draft) -> None:
    for name, pattern in (("mcc", ".*mcc"), ("mnc", ".*mnc")):
        digits = "[2-79][0-9]{2}" if name == "mcc" else "[0-9]{2,3}"
        for column in draft.free():
            right = column.share(lambda v, d=digits: re.fullmatch(d, v.strip()) is not None)  # type: ignore[misc]
            if column.says(pattern) and right > 0.9 and name not in draft.fields:
                draft.map(name, column, "trim", name)
    for name, pattern in _TEXTS:
        for column in draft.free():
            if column.says(pattern) and name not in draft.fields:
                draft.map(name, column, "trim")
    for column in draft.free():
        if column.says("fcnt|f cnt|sequence.*|seq.*|.*sequence (no|number)") and (
            column.numeric == 1
            and _whole(column.numbers(), 1)
            and "sequence_no" not in draft.fields
        ):
            draft.map("sequence_no", column, "trim", "integer")
            draft.doubt("fields.sequence_no", column.name, "unsure", "named like a counter")
    for column in draft.free():
        if (
            column.says(".*(cost|charge|price|revenue|amount).*")
            and column.numeric == 1
            and ("vendor_cost" not in draft.fields and "[" not in column.name)
        ):
            draft.map("vendor_cost", column, "trim", "decimal")
            draft.doubt("fields.vendor_cost", column.name, "unsure", "named like a price")
    for column in draft.free() if "vendor_cost" in draft.fields else []:
        codes = column.share(lambda v: re.fullmatch("[A-Z]{3}", v.strip()) is not None)
        named = column.says(r"currency|\w*unit")
        if codes == 1 and named and "vendor_currency" not in draft.fields:
            draft.map("vendor_currency", column, "trim")


def _dedup(draft: _Draft) -> None:
    rows = len(draft.shape.rows)
    candidates = []
    for column in draft.columns.values():
        full = column.filled == 1 and column.distinct == rows
        named = column.named and column.says(
            "id|uuid|recordid|callid|cdrid|uniqueid|pkid|rowid|event counter"
        )
        uuid = (
            column.share(
                lambda v: (
                    re.fullmatch("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", v.strip()) is not None
                )
            )
            == 1
        )
        owner = column.says(
            r"account|user|customer|sim|device|endpoint|imsi|iccid|tariff|node|operator|"
            r"organi[sz]ation|switch|type|\w*zone|country|currency|plan|gateway|cluster\w*|manager"
        )
        if not column.named and not uuid:
            long = column.share(lambda v: len(v.strip()) >= 6) == 1
            full = full and rows > 2 and long and not column.share(lambda v: " " in v.strip())
        other = column.name in draft.used or column.times or owner or column.indexed
        if not column.values or other or not (named or uuid or (full and not column.named)):
            continue
        rank = 4 * uuid + 2 * full + named + 3 * (column.name == "id") - column.name.count(".")
        candidates.append((rank, -column.position, column))
    class_column = draft.fields["usage_class"].source
    if (
        candidates
        and (best := max(candidates))[2].filled == 1
        and (best[2].distinct == rows or class_column)
    ):
        column = best[2]
        draft.key = (column.name, "=usage_class") if class_column else (column.name,)
        draft.used.add(column.name)
        told = "differs in every row of the sample" if column.distinct == rows else "named so"
        draft.doubt(
            "dedup.key",
            column.name,
            "likely" if column.named and rows > 1 else "unsure",
            f"{told}; ask the carrier whether it stays when a file is sent again",
        )
        return
    key = ["=uid_value", "=usage_class", "=event_start"]
    key += [
        f"={name}"
        for name in ("event_end", "sequence_no", "peer_number", "session_id")
        if name in draft.fields
    ]
    draft.key = tuple(key)
    draft.accepts["no_vendor_key"] = "no column of the sample is a record id; ask the carrier"
    draft.doubt(
        "dedup.key",
        ", ".join(key),
        "unsure",
        "no column is a record id; two equal events would count once",
    )


def _rest(draft: _Draft) -> None:
    columns = {column.name for column in USAGE_RECORD.columns}
    left = [c for c in draft.free() if c.share(lambda v: len(v) <= 60) == 1]
    left.sort(key=lambda c: (identifier(c) is None, c.indexed, c.name.count("."), c.position))
    for column in left[:ATTRIBUTES]:
        words = re.findall(r"[a-z0-9]+", column.words) or [column.name.lower()]
        name = "_".join(words)[:40]
        if not name[0].isalpha():
            name = f"a_{name}"
        if name in columns or name in draft.attributes:
            name = f"{name}_{column.position + 1}"
        draft.attributes[name] = _Field(column.name, ("trim",))
        draft.used.add(column.name)


# ---------------------------------------------------------------- trying and writing


def _tried(draft: _Draft, sample: Path, now: datetime) -> Trial:
    text = _write(draft, sample.name, None)
    try:
        spec = parse_feed(parse_yaml(text, Path(f"{draft.feed_id}.yaml")))
    except ConfigError as error:
        raise UnknownShapeError(
            f"what was guessed is no feed ({error}); write it by hand, docs/feed.schema.json helps"
        ) from None
    return try_sample(spec, sample, now, most=0)


def _relaxed(draft: _Draft, trial: Trial) -> bool:
    """Take back a step that rejects more than a tenth of the sample; False: nothing to take."""
    for reason in trial.reasons:
        field_name = reason.field
        few = reason.records * 10 <= trial.records_in
        if reason.outcome != "rejected" or field_name not in draft.fields or few:
            continue
        given = draft.fields[field_name]
        table = TARGETS[draft.target]
        column = next(c for c in table.columns if c.name == field_name)
        if field_name == "usage_class":
            continue
        if column.type == "VARCHAR" and given.source and given.steps not in ((), ("trim",)):
            draft.fields[field_name] = _Field(given.source, ("trim",))
            taken = "the text as it stands"
        elif column.nullable:
            del draft.fields[field_name]
            draft.key = tuple(k for k in draft.key if k != f"={field_name}")
            taken = "left out"
        else:
            continue
        draft.doubt(
            f"fields.{field_name}",
            taken,
            "unsure",
            f"{reason.records} of {trial.records_in} records broke the rule {reason.reason}",
        )
        return True
    return False


def _write(draft: _Draft, sample: str, trial: Trial | None) -> str:  # noqa: PLR0912 - top to bottom
    lines = [f"# yaml-language-server: $schema={SCHEMA}"]
    lines.append(
        f"# Scaffold made from {sample}; every line of it is a guess until you checked it."
    )
    if trial is not None:
        counts = ", ".join(f"{count} {name}" for name, count in trial.counts.items())
        lines.append(f"# With that sample: {trial.records_in} records: {counts}.")
        for reason in trial.reasons:
            lines.append(
                f"#   {reason.outcome} {reason.reason}: {reason.records}, first in line "
                f"{reason.first_line}"
            )
    for confidence in ("unsure", "likely"):
        doubts = [d for d in draft.shape.doubts if d.confidence == confidence]
        if doubts:
            lines.append(f"# {confidence.capitalize()}:")
        for doubt in doubts:
            lines += _comment(f"{doubt.about} = {doubt.taken}: {doubt.why}")
    left = [c.name for c in draft.free()]
    if left:
        lines += _comment("not read: " + ", ".join(left[:40]), "# ")
    stated = draft.target in (USAGE_RECORD.name, "vendor_invoice_line")
    if not draft.shape.control and stated:
        draft.accepts["no_control_totals"] = "the sample states no totals; ask the carrier for some"
    lines += [f"# lint: accept {code}: {why}" for code, why in sorted(draft.accepts.items())]
    lines += [f"id: {draft.feed_id}", f"carrier: {draft.feed_id.split('_')[0]}"]
    lines += [f"target: {draft.target}", f"files: [{_quoted(_pattern(sample))}]"]
    if draft.shape.members is not None:
        ignored = ", ".join(map(_quoted, draft.shape.ignored))
        lines.append(
            f"archive: {{members: [{_quoted(draft.shape.members)}]"
            + (f", ignore: [{ignored}]}}" if ignored else "}")
        )
    lines += _format_lines(draft.shape.format)
    lines.append(f"zone: {draft.zone}")
    if draft.shape.control:
        pairs = ", ".join(f"{k}: {_quoted(v)}" for k, v in draft.shape.control.items())
        lines += ["", f"control: {{{pairs}}}"]
    if draft.shape.filters:
        lines += ["", "filter:"]
        for why, name, value in draft.shape.filters:
            lines.append(f"  - reason: {why}")
            lines.append(f"    when: {{field: {_quoted(name)}, equals: {_quoted(value)}}}")
    lines += ["", "fields:"]
    order = [c.name for c in TARGETS[draft.target].columns]
    for name in sorted(draft.fields, key=lambda n: (n == "quantity", order.index(n))):
        lines += _field_lines(name, draft.fields[name])
    if draft.attributes:
        lines += ["", "attributes:"]
        for name, given in draft.attributes.items():
            lines += _field_lines(name, given)
    if draft.key:
        lines += ["", "dedup:", f"  key: [{', '.join(map(_quoted, draft.key))}]"]
    if draft.bounds:
        lines += ["", "bounds:", *(f"  {name}: {text}" for name, text in draft.bounds.items())]
    if draft.target in (USAGE_RECORD.name, "vendor_invoice_line"):
        lines += ["", "expect:", "  min_records: 1"]
    return "\n".join(lines) + "\n"


def _comment(text: str, indent: str = "#   ") -> list[str]:
    return textwrap.wrap(
        text,
        98,
        initial_indent=indent,
        subsequent_indent=indent + "  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _pattern(name: str) -> str:
    pattern = re.sub(r"[0-9]{2,}([-_.]?[0-9]{2,})*", "*", name)
    stem = pattern.split(".")[0].replace("*", "")
    return pattern if len(stem) > 2 else name


def _field_lines(name: str, given: _Field) -> list[str]:
    if given.lines:
        return [f"  {name}:", "    choose:", *(f"      {line}" for line in given.lines)]
    origin = (
        f"value: {_quoted(given.value)}"
        if given.value is not None
        else f"from: {_quoted(given.source or '')}"
    )
    steps = f", steps: [{', '.join(given.steps)}]" if given.steps else ""
    return [f"  {name}: {{{origin}{steps}}}"]


def _format_lines(form: dict[str, object]) -> list[str]:
    if "layouts" not in form and "columns" not in form:
        pairs = ", ".join(f"{name}: {_scalar(value)}" for name, value in form.items())
        return [f"format: {{{pairs}}}"]
    lines = ["format:"]
    for name, value in form.items():
        if name == "layouts" and isinstance(value, list):
            lines.append("  layouts:")
            for layout in value:
                lines += _layout_lines(layout)
        else:
            lines.append(f"  {name}: {_scalar(value)}")
    return lines


def _layout_lines(layout: dict[str, object]) -> list[str]:
    lines = [f"    - kind: {layout['kind']}"]
    for name, value in layout.items():
        if name == "fields" and isinstance(value, dict):
            lines.append("      fields:")
            lines += [f"        {n}: {_scalar(v)}" for n, v in value.items()]
        elif name != "kind":
            lines.append(f"      {name}: {_scalar(value)}")
    return lines


def _scalar(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {_scalar(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_scalar, value)) + "]"
    return str(value) if isinstance(value, int) else _quoted(str(value))


_PLAIN = re.compile(r"[A-Za-z_$][A-Za-z0-9_.$/-]*( [A-Za-z0-9_.$/-]+)*")
_WORDS = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}


def _quoted(text: str) -> str:
    """Write a text as a YAML scalar that stands in flow collections, too."""
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    return json.dumps(text, ensure_ascii=False)
