"""Business days, for the calendar of a close."""

from __future__ import annotations

from datetime import date, timedelta

import holidays

from iotbill_pipelines.engine.calendars import Month


def business_day(month: Month, number: int, holidays_of: str | None = None) -> date:
    """Return the ``number``-th business day of a month, from 1.

    Saturdays, Sundays and the public holidays of the ISO country ``holidays_of`` are none.
    Raises ValueError for a country whose holidays are not known.
    """
    free: set[date] = set()
    if holidays_of:
        try:
            free = set(holidays.country_holidays(holidays_of, years=month.year))
        except NotImplementedError:
            raise ValueError(
                f"no holidays are known for {holidays_of!r}; write an ISO country code such as NL "
                "in schedule.holidays_of of configs/close.yaml, or leave it out"
            ) from None
    day, left = month.start, number
    while True:
        if day.weekday() < 5 and day not in free:
            left -= 1
            if not left:
                return day
        day += timedelta(days=1)
