"""Business days, for the calendar of a close."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import holidays

from iotbill_pipelines.config.close import ClosePolicy
from iotbill_pipelines.engine.calendars import Month


def business_day(month: Month, number: int, holidays_of: str | None = None) -> date:
    """Return the ``number``-th business day of a month, from 1.

    Saturdays, Sundays and the public holidays of the ISO country ``holidays_of`` are none.
    Raises ValueError for a country whose holidays are not known.
    """
    free: set[date] = set()
    if holidays_of:
        try:
            # a long grace reaches into the year after
            free = set(holidays.country_holidays(holidays_of, years=[month.year, month.year + 1]))
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


def cut_off(period: Month, policy: ClosePolicy) -> datetime:
    """Return the moment (UTC) from which usage of a period is late: its end plus the grace.

    The last day of grace is whole, in the schedule's time zone (RULEBOOK §11).
    """
    if policy.grace_counts == "business_days" and policy.grace_days:
        last = business_day(period + 1, policy.grace_days, policy.schedule.holidays_of)
        day = last + timedelta(days=1)
    else:
        day = period.end + timedelta(days=policy.grace_days)
    zone = ZoneInfo(policy.schedule.time_zone)
    return datetime.combine(day, time(), zone).astimezone(UTC)
