"""Periods, billing days, proration and the local clock."""

# ruff: noqa: DTZ001 - UTC instants are naive, as in the tables

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iotbill_pipelines.engine.calendars import (
    Cycle,
    Month,
    ProrationBasis,
    clamp_day,
    months_between,
    prorate,
    quarter_offsets,
)
from iotbill_pipelines.engine.money import round_money

ACTUAL = ProrationBasis.ACTUAL


def day(text: str) -> date:
    return date.fromisoformat(text)


def amount(price: str, start: str, end: str, month: str, basis: ProrationBasis = ACTUAL) -> str:
    period = Month.parse(month)
    share = Fraction(*prorate(day(start), day(end), period.start, period.end, basis))
    return str(round_money(Fraction(price) * share, "EUR"))


@pytest.mark.parametrize(
    ("case", "price", "start", "end", "month", "expected"),
    [
        ("ST-01 required", "31.00", "2025-10-04", "2025-11-01", "2025-10", "28.00"),
        ("ST-01 optional", "15.50", "2025-10-15", "2025-11-01", "2025-10", "8.50"),
        ("ST-02 package", "31.00", "2025-10-01", "2025-10-24", "2025-10", "23.00"),
        ("ST-02 optional", "31.00", "2025-10-01", "2025-10-15", "2025-10", "14.00"),
        ("ST-10", "1.00", "2025-10-16", "2025-11-01", "2025-10", "0.52"),
        ("ST-11 leap", "29.00", "2028-02-29", "2028-03-01", "2028-02", "1.00"),
        ("ST-11", "29.00", "2027-02-28", "2027-03-01", "2027-02", "1.04"),
        ("ST-13", "62.00", "2026-03-29", "2026-04-01", "2026-03", "6.00"),
        ("ST-18", "3.10", "2026-03-17", "2026-04-01", "2026-03", "1.50"),
        ("oc133", "1000.00", "2012-01-16", "2012-02-01", "2012-01", "516.13"),
        ("before the period", "31.00", "2025-09-01", "2025-10-01", "2025-10", "0.00"),
        ("ST-16 no day", "31.00", "2025-10-04", "2025-10-04", "2025-10", "0.00"),
        ("longer than the period", "31.00", "2020-01-01", "2030-01-01", "2025-10", "31.00"),
    ],
)
def test_days_of_the_period(
    case: str, price: str, start: str, end: str, month: str, expected: str
) -> None:
    assert amount(price, start, end, month) == expected, case


@pytest.mark.parametrize(
    ("case", "start", "end", "month", "expected"),
    [
        ("ST-05", "2021-01-27", "2021-02-01", "2021-01", ("16.13", "16.67", "13.33")),
        ("ST-06", "2021-02-27", "2021-03-01", "2021-02", ("7.14", "6.67", "13.33")),
        ("ST-07", "2020-02-01", "2020-03-01", "2020-02", ("100.00", "96.67", "100.00")),
        ("ST-09 Feb", "2017-02-06", "2017-03-01", "2017-02", ("82.14", "76.67", "83.33")),
        ("ST-09 Mar", "2017-03-01", "2017-03-24", "2017-03", ("74.19", "76.67", "76.67")),
        ("31 days", "2021-01-01", "2021-02-01", "2021-01", ("100.00", "100.00", "100.00")),
    ],
)
def test_bases(case: str, start: str, end: str, month: str, expected: tuple[str, ...]) -> None:
    bases = (ACTUAL, ProrationBasis.ACTUAL_30, ProrationBasis.STRICT_30_360)
    assert tuple(amount("100.00", start, end, month, basis) for basis in bases) == expected, case


@pytest.mark.parametrize("basis", [ProrationBasis.NONE, ProrationBasis.FULL_ON_ACTIVATION])
def test_any_day_is_the_whole_period(basis: ProrationBasis) -> None:
    assert amount("5.00", "2026-03-31", "2026-04-01", "2026-03", basis) == "5.00"
    assert amount("5.00", "2026-04-01", "2026-05-01", "2026-03", basis) == "0.00"


def test_quarters_and_years_prorate_by_their_own_days() -> None:
    assert prorate(
        day("2028-02-01"), day("2028-02-11"), day("2028-01-01"), day("2029-01-01"), ACTUAL
    ) == (10, 366)


def test_a_bill_day_clamps_and_never_drifts() -> None:
    """ST-19."""
    found, today = [], day("2027-01-31")
    for _ in range(3):
        start, end = Cycle().window(today, 31)
        found.append((str(start), str(end), (end - start).days))
        today = end
    assert found == [
        ("2027-01-31", "2027-02-28", 28),
        ("2027-02-28", "2027-03-31", 31),
        ("2027-03-31", "2027-04-30", 30),
    ]
    assert Cycle().window(day("2026-01-04"), 19) == (day("2025-12-19"), day("2026-01-19"))
    assert clamp_day(Month(2028, 2), 30) == day("2028-02-29")


@given(st.dates(date(2000, 1, 1), date(2099, 1, 1)), st.integers(1, 31))
def test_every_day_is_in_exactly_one_window(today: date, bill_day: int) -> None:
    start, end = Cycle().window(today, bill_day)
    assert start <= today < end
    assert Cycle().window(end, bill_day)[0] == end
    assert Cycle().window(start, bill_day) == (start, end)


@given(
    st.dates(date(2024, 1, 1), date(2024, 12, 31)),
    st.integers(0, 40),
    st.integers(0, 40),
)
def test_days_of_segments_add_up(start: date, first: int, second: int) -> None:
    period = Month.of(start)
    middle = start + timedelta(days=first)
    end = middle + timedelta(days=second)

    def share(a: date, b: date) -> Fraction:
        return Fraction(*prorate(a, b, period.start, period.end, ACTUAL))

    assert share(start, middle) + share(middle, end) == share(start, end)


def test_months() -> None:
    assert [str(m) for m in months_between(Month(2025, 11), Month(2026, 2))] == [
        "2025-11",
        "2025-12",
        "2026-01",
        "2026-02",
    ]
    assert Month.parse("2024-02").days == 29
    assert Month(2026, 1) - 13 == Month(2024, 12)
    assert Month(2026, 12).end == day("2027-01-01")
    assert Month.of(day("2026-03-31")) == Month(2026, 3)
    for wrong in ("2026-13", "2026-00", "26-01", "2026-1", "March", "2026-03 ", ""):
        with pytest.raises(ValueError, match="is not a month; write it as YYYY-MM"):
            Month.parse(wrong)


@pytest.mark.parametrize(
    "zone",
    ["Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "Asia/Gaza",
     "Africa/Casablanca", "Pacific/Apia", "America/St_Johns"],
)  # fmt: skip
@pytest.mark.parametrize(
    "first", [datetime(2026, 3, 1), datetime(2026, 10, 1), datetime(2011, 12, 15)]
)
def test_the_quarter_hour_calendar_is_the_zone(zone: str, first: datetime) -> None:
    offsets = quarter_offsets(zone, first, first + timedelta(days=40))
    assert len(offsets) == 40 * 24 * 4
    for number, minutes in enumerate(offsets):
        quarter = first + timedelta(minutes=15 * number)
        local = quarter.replace(tzinfo=UTC).astimezone(ZoneInfo(zone))
        assert quarter + timedelta(minutes=minutes) == local.replace(tzinfo=None)
