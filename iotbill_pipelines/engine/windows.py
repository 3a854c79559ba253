"""Windows of the local clock: which of a catalog's time windows hold when (RULEBOOK §6, RT-18..21).

A *band* is a stretch of time in which the same windows hold; it is written as one character per
window, 1 or 0. A window that passes midnight belongs to the day on which it begins. Windows begin
and end on a quarter of an hour, like the offsets of all zones, so that a band never changes inside
one; durations between bands are elapsed time, whatever the clocks do (§0.3).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

DAY_KINDS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun", "holiday")


@dataclass(frozen=True)
class Window:
    """``[starts, ends)`` in minutes of the local day, on days of some kinds.

    With ``holidays`` a date among them is of kind ``holiday`` and of no other; ``MM-DD`` recurs.
    """

    days: frozenset[str]
    starts: int
    ends: int
    holidays: frozenset[str] | None

    def holds(self, day: date, minute: int) -> bool:
        if self.starts < self.ends:
            return self.starts <= minute < self.ends and self._fits(day)
        return (minute >= self.starts and self._fits(day)) or (
            minute < self.ends and self._fits(day - timedelta(days=1))
        )

    def _fits(self, day: date) -> bool:
        if self.holidays and (
            f"{day:%Y-%m-%d}" in self.holidays or f"{day:%m-%d}" in self.holidays
        ):
            return "holiday" in self.days
        return DAY_KINDS[day.weekday()] in self.days


def read_windows(
    rows: Iterable[Mapping[str, object]], holidays: Iterable[Mapping[str, object]]
) -> list[Window]:
    """Return the windows of ``time_window``, in order of their number, with their holidays."""
    dates: dict[object, set[str]] = {}
    for row in holidays:
        dates.setdefault(row["calendar_id"], set()).add(str(row["day"]))
    return [
        Window(
            frozenset(str(row["days"]).split()),
            int(str(row["starts_minute"])),
            int(str(row["ends_minute"])),
            None if row["calendar_id"] is None else frozenset(dates.get(row["calendar_id"], ())),
        )
        for row in sorted(rows, key=lambda row: int(str(row["window_no"])))
    ]


def band(windows: Sequence[Window], day: date, minute: int) -> str:
    """Return which windows hold at a minute of a local day."""
    return "".join("1" if window.holds(day, minute) else "0" for window in windows)
