"""When the monthly close is asked for."""

from __future__ import annotations

from datetime import UTC, date, datetime

import dagster as dg
import pytest

from iotbill_pipelines.config.close import SchedulePolicy
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.operations.calendar import business_day
from iotbill_pipelines.shell.closing import close_schedule

POLICY = SchedulePolicy(business_day=3, hour=6, time_zone="Europe/Amsterdam", holidays_of="NL")


@pytest.mark.parametrize(
    ("month", "number", "country", "day"),
    [
        ("2026-11", 1, None, date(2026, 11, 2)),  # the 1st is a Sunday
        ("2026-11", 3, None, date(2026, 11, 4)),
        ("2026-01", 1, "NL", date(2026, 1, 2)),  # New Year
        ("2026-04", 3, "DE", date(2026, 4, 7)),  # Good Friday to Easter Monday
        ("2026-04", 3, "US", date(2026, 4, 3)),
    ],
)
def test_business_days(month: str, number: int, country: str | None, day: date) -> None:
    assert business_day(Month.parse(month), number, country) == day


def test_an_unknown_country_is_told() -> None:
    with pytest.raises(ValueError, match=r"'XX'.*holidays_of"):
        business_day(Month(2026, 1), 1, "XX")


def _evaluate(moment: datetime) -> object:
    context = dg.build_schedule_context(scheduled_execution_time=moment)
    return close_schedule(POLICY)(context)


def test_the_third_business_day_closes_the_month_before() -> None:
    request = _evaluate(datetime(2026, 11, 4, 5, 0, tzinfo=UTC))
    assert isinstance(request, dg.RunRequest) and request.partition_key == "2026-10"


@pytest.mark.parametrize("day", [3, 5])
def test_other_days_close_nothing(day: int) -> None:
    skipped = _evaluate(datetime(2026, 11, day, 5, 0, tzinfo=UTC))
    assert isinstance(skipped, dg.SkipReason)
    assert "2026-11-04" in (skipped.skip_message or "")


def test_nobody_closes_books_by_accident() -> None:
    assert close_schedule(POLICY).default_status is dg.DefaultScheduleStatus.STOPPED
