"""Local time to UTC by a table, so that no engine's own time zone data decides (RULEBOOK §0.3)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import pyarrow as pa

LOCAL_DAY = pa.schema(
    [
        pa.field("zone", pa.string()),
        pa.field("local_date", pa.date32()),
        pa.field("local_from", pa.timestamp("us")),
        pa.field("local_to", pa.timestamp("us")),
        pa.field("offset_seconds", pa.int32()),
        pa.field("flag", pa.string()),
    ]
)
"""A stretch of a local day with one offset: ``[local_from, local_to)`` on the local clock, and
the flag of times in it: null, ``ambiguous_time`` or ``nonexistent_time``."""

Segment = tuple[date, datetime, datetime, int, str | None]


def local_days(zones: Iterable[str], first: date, last: date) -> pa.Table:
    """Return the local days of ``zones`` from ``first`` to ``last``, both included.

    Ambiguous times get the offset of their first occurrence; skipped ones the offset before the
    skip, which shifts them forward by its length.
    """
    rows: list[tuple[str, *Segment]] = [
        (zone, *segment) for zone in sorted(set(zones)) for segment in _segments(zone, first, last)
    ]
    columns = list(zip(*rows, strict=True)) or [()] * len(LOCAL_DAY)
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, LOCAL_DAY, strict=True)],
                    schema=LOCAL_DAY)  # fmt: skip


@lru_cache(maxsize=32)
def _segments(zone: str, first: date, last: date) -> tuple[Segment, ...]:
    return tuple(_days(zone, first, last))


def _days(zone: str, first: date, last: date) -> Iterator[Segment]:
    # breaks: on the local clock, from when on which offset and flag hold
    changes = list(_transitions(zone, first, last))
    breaks: list[tuple[datetime, int, str | None]] = [
        (datetime.min, changes[0][1] if changes else _offset(zone, _midnight(first)), None)  # noqa: DTZ901
    ]
    for at, before, after in changes:
        old, new = at + timedelta(seconds=before), at + timedelta(seconds=after)
        flag = "nonexistent_time" if after > before else "ambiguous_time"
        breaks += [(min(old, new), before, flag), (max(old, new), after, None)]
    position = 0
    day = first
    while day <= last:
        start, end = _midnight(day), _midnight(day) + timedelta(days=1)
        while position + 1 < len(breaks) and breaks[position + 1][0] <= start:
            position += 1
        here = position
        while True:
            until = breaks[here + 1][0] if here + 1 < len(breaks) else datetime.max  # noqa: DTZ901
            yield (day, max(start, breaks[here][0]), min(end, until), *breaks[here][1:])
            if until >= end:
                break
            here += 1
        day += timedelta(days=1)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day)  # noqa: DTZ001 - a time on a local clock


def _offset(zone: str, utc: datetime) -> int:
    offset = utc.replace(tzinfo=UTC).astimezone(ZoneInfo(zone)).utcoffset()
    assert offset is not None
    return int(offset.total_seconds())


def _transitions(zone: str, first: date, last: date) -> Iterator[tuple[datetime, int, int]]:
    """Yield (UTC instant, offset before, offset after) of every change of offset."""
    low = _midnight(first) - timedelta(days=2)
    end = _midnight(last) + timedelta(days=2)
    before = _offset(zone, low)
    while low < end:
        high = low + timedelta(days=1)
        after = _offset(zone, high)
        if after != before:
            left, right = low, high
            while right - left > timedelta(seconds=1):
                middle = left + (right - left) // 2
                middle = middle.replace(microsecond=0)
                if _offset(zone, middle) == before:
                    left = middle
                else:
                    right = middle
            yield right, before, after
        low, before = high, after
