"""The rules of revenue in small cases and for all amounts (RULEBOOK §§0.2, 9)."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.money import round_money
from iotbill_pipelines.engine.revenue import (
    Bundle,
    DeferredItem,
    Obligation,
    PrepaidBundle,
    Schedule,
    allocate,
    amortise,
    daily_straight_line,
    defer_activation_fee,
    monthly_straight_line,
    recognise_bundle,
    roll_forward,
)

PROPERTY = settings(max_examples=60, deadline=None)
D = Decimal
JAN = Month(2026, 1)


def amounts(schedule: Schedule) -> list[Decimal]:
    return [part.amount for part in schedule.months]


def test_a_price_is_allocated_by_standalone_prices_and_ties_go_to_the_smaller_id() -> None:
    """RV-01, RV-03."""
    found = allocate(D("100.00"), "EUR", [("b", D(1)), ("c", D(1)), ("a", D(1))])
    assert found.parts == (("b", D("33.33")), ("c", D("33.33")), ("a", D("33.34")))
    assert found.explanation[2] == "a: 100.00 x 1/3 = 33.34 EUR"
    assert allocate(D(1000), "JPY", [("a", D(2)), ("b", D(1))]).of("a") == D(667)


def test_a_bundle_billed_ahead_of_delivery_is_a_liability() -> None:
    bundle = Bundle(
        id="b",
        currency="EUR",
        upfront=D("90.00"),
        monthly=D("0.00"),
        months=3,
        obligations=(
            Obligation(id="device", ssp=D(50), recognised="at_delivery"),
            Obligation(id="net", ssp=D(50), recognised="over_time"),
        ),
    )
    found = recognise_bundle(bundle)
    assert found.contract_asset_at_delivery == D("-45.00")
    assert [month.contract_asset for month in found.months] == [D(-30), D(-15), D(0)]


def test_an_early_end_recognises_the_rest_in_its_month() -> None:
    start, end = date(2026, 1, 1), date(2027, 1, 1)
    whole = daily_straight_line(D("365.00"), "EUR", start, end)
    ended = daily_straight_line(D("365.00"), "EUR", start, end, ended_early_on=date(2026, 2, 15))
    assert amounts(whole)[:2] == [D(31), D(28)]
    assert amounts(ended) == [D(31), D(334)]
    first_of_month = daily_straight_line(
        D("365.00"), "EUR", start, end, ended_early_on=date(2026, 2, 1)
    )
    assert amounts(first_of_month) == [D(365)]
    never_began = daily_straight_line(D("365.00"), "EUR", start, end, ended_early_on=start)
    assert amounts(never_began) == [D(365)]


def test_a_distinct_service_is_earned_at_once() -> None:
    """RV-05."""
    found = defer_activation_fee(D("25.00"), "EUR", JAN, 24, distinct_service=True)
    assert amounts(found) == [D(25)]


def prepaid(**changes: Any) -> PrepaidBundle:
    fields: dict[str, Any] = {
        "id": "p",
        "cost": D("10.00"),
        "currency": "EUR",
        "start": date(2026, 1, 1),
        "end": date(2026, 5, 1),
        "included_quantity": 500,
    }
    return PrepaidBundle(**(fields | changes))


@pytest.mark.parametrize(
    ("basis", "expected"),
    [
        ("time", ["2.58", "2.34", "2.58", "2.50"]),
        ("usage", ["0.00", "8.00", "0.00", "2.00"]),
        ("faster", ["2.58", "5.42", "0.00", "2.00"]),
    ],
)
def test_a_prepaid_bundle_becomes_cost_by_time_or_use_and_expires(
    basis: Any, expected: list[str]
) -> None:
    """RV-06: 10.00 for 120 days and 500 units, of which 400 are used in February."""
    found = amortise(prepaid(basis=basis), Month(2026, 12), used_by_month={Month(2026, 2): 400})
    assert amounts(found) == [D(part) for part in expected]


def test_a_prepaid_bundle_used_up_or_cancelled_costs_the_rest_then() -> None:
    used = amortise(prepaid(basis="usage"), Month(2026, 3), used_by_month={JAN: 800})
    assert amounts(used) == [D(10), D(0), D(0)]
    cancelled = amortise(prepaid(), Month(2026, 3), ended_on=date(2026, 2, 2))
    assert amounts(cancelled) == [D("2.58"), D("7.42")]


def test_a_roll_forward_carries_credits_and_catches_up_late_items() -> None:
    year = daily_straight_line(D("365.00"), "EUR", date(2026, 1, 1), date(2027, 1, 1))
    credit = daily_straight_line(D("-337.00"), "EUR", date(2026, 1, 29), date(2027, 1, 1))
    items = [
        DeferredItem("late", "2400", Month(2026, 2), year),
        DeferredItem("credit", "2400", Month(2026, 3), credit),
    ]
    rows = roll_forward(items, JAN, Month(2026, 3))
    assert [(row.additions, row.releases, row.closing) for row in rows] == [
        (D(0), D(0), D(0)),
        (D(365), D(59), D(306)),
        (D(-337), D(31 - 62), D(0)),
    ]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: daily_straight_line(D(1), "EUR", date(2026, 1, 1), date(2026, 1, 1)),
            ValueError,
            "no day to recognise",
        ),
        (lambda: monthly_straight_line(D("0.001"), "EUR", JAN, 3), ValueError, "minor units"),
        (lambda: monthly_straight_line(D(1), "EUR", JAN, 0), ValueError, "no month"),
        (lambda: prepaid(basis="usage", included_quantity=0), ValidationError, "included_quantity"),
        (
            lambda: Bundle(
                id="b",
                currency="EUR",
                monthly=D(1),
                months=1,
                obligations=(Obligation(id="a", ssp=D(0), recognised="over_time"),),
            ),
            ValidationError,
            "needs an SSP",
        ),
    ],
)
def test_what_cannot_be_recognised_is_refused(
    make: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make()


money = st.decimals(-10_000, 10_000, places=2)
days = st.dates(date(2024, 1, 1), date(2027, 12, 31))


@PROPERTY
@given(money, days, st.integers(1, 800), st.integers(1, 800))
def test_months_add_up_and_a_credit_of_the_same_service_cancels_each(
    amount: Decimal, start: date, length: int, stop: int
) -> None:
    end = start + timedelta(days=length)
    ended = start + timedelta(days=stop)
    for early in (None, ended):
        found = daily_straight_line(amount, "EUR", start, end, ended_early_on=early)
        assert sum(amounts(found)) == amount
        assert found.months[-1].deferred == 0
        back = daily_straight_line(-amount, "EUR", start, end, ended_early_on=early)
        assert amounts(back) == [-part for part in amounts(found)]
        for part in found.months[:-1]:
            served = Fraction((part.month.end - start).days, length)
            assert part.cumulative == round_money(Fraction(amount) * served, "EUR")


@PROPERTY
@given(st.lists(st.tuples(money, st.integers(0, 20), st.integers(1, 15)), max_size=6))
def test_a_roll_forward_ties_to_the_schedules(
    sold: list[tuple[Decimal, int, int]],
) -> None:
    items = [
        DeferredItem(f"{n}", "2400", JAN + late, monthly_straight_line(amount, "EUR", JAN, months))
        for n, (amount, late, months) in enumerate(sold)
    ]
    rows = roll_forward(items, JAN, JAN + 40)
    assert all(row.opening + row.additions - row.releases == row.closing for row in rows)
    if rows:
        assert rows[-1].closing == 0
        assert sum(row.additions for row in rows) == sum(amount for amount, _, _ in sold)
        later = roll_forward(items, JAN + 7, JAN + 9)
        assert list(later) == [row for row in rows if JAN + 7 <= row.month <= JAN + 9]


@PROPERTY
@given(
    st.decimals(0, 999, places=2),
    st.decimals(0, 99, places=2),
    st.integers(1, 36),
    st.lists(st.tuples(st.decimals(1, 500, places=2), st.booleans()), min_size=1, max_size=4),
)
def test_a_bundle_earns_what_it_bills(
    upfront: Decimal, monthly: Decimal, months: int, parts: list[tuple[Decimal, bool]]
) -> None:
    bundle = Bundle(
        id="b",
        currency="EUR",
        upfront=upfront,
        monthly=monthly,
        months=months,
        obligations=tuple(
            Obligation(id=f"{n}", ssp=ssp, recognised="at_delivery" if at_once else "over_time")
            for n, (ssp, at_once) in enumerate(parts)
        ),
    )
    found = recognise_bundle(bundle)
    price = upfront + monthly * months
    assert sum(part for _, part in found.allocation.parts) == price
    assert found.revenue_at_delivery + sum(month.revenue for month in found.months) == price
    assert found.months[-1].contract_asset == 0
    turned = allocate(price, "EUR", [(o.id, o.ssp) for o in reversed(bundle.obligations)])
    assert turned.parts == found.allocation.parts[::-1]


@PROPERTY
@given(
    st.lists(st.integers(0, 300), min_size=4, max_size=4),
    st.sampled_from(["time", "usage", "faster"]),
)
def test_prepaid_cost_is_booked_once_whatever_was_used(used: list[int], basis: Any) -> None:
    months = {JAN + n: quantity for n, quantity in enumerate(used)}
    found = amortise(prepaid(basis=basis), Month(2026, 12), used_by_month=months)
    assert sum(amounts(found)) == D(10)
    assert all(part >= 0 for part in amounts(found))
    until_march = amortise(prepaid(basis=basis), Month(2026, 3), used_by_month=months)
    assert until_march.months == found.months[:3]
