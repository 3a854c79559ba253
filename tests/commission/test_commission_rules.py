"""The rules of commissions in small cases and for all lines (RULEBOOK §§0.2, 7)."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.commission import (
    AgeTier,
    ClawbackTerms,
    CommissionLine,
    CommissionPlan,
    CommissionTier,
    PayoutTerms,
    claw_back,
    earn,
    plan_of,
    settle_payouts,
)

PROPERTY = settings(max_examples=60, deadline=None)
D = Decimal
TIERS = (CommissionTier(up_to=D(10_000), percent=D(10)), CommissionTier(percent=D(12)))


def plan(**terms: Any) -> CommissionPlan:
    return CommissionPlan(**({"id": "p", "version": "2026-1"} | terms))


def earned(terms: CommissionPlan, *revenues: str) -> Decimal:
    lines = [CommissionLine(f"{n}", D(revenue)) for n, revenue in enumerate(revenues)]
    return earn(terms, lines, "EUR").amount


@pytest.mark.parametrize(
    ("method", "basis", "commission"),
    [
        ("marginal", "15000.00", "1600.00"),
        ("cliff", "15000.00", "1800.00"),
        ("marginal", "10000.00", "1000.00"),
        ("cliff", "10000.00", "1000.00"),
        ("cliff", "10000.01", "1200.00"),
        ("marginal", "-15000.00", "-1600.00"),
    ],
)
def test_tiers_pay_by_slice_or_from_the_first_euro(
    method: Any, basis: str, commission: str
) -> None:
    """CM-02; a bound belongs to the tier below it."""
    assert earned(plan(tiers=TIERS, tier_method=method), basis) == D(commission)


def test_lines_share_the_rounded_commission() -> None:
    """CM-07: three times 0.333 are 1.00, the cent to the smallest key."""
    lines = [CommissionLine(key, D("3.33")) for key in "cab"]
    found = earn(plan(percent=D(10)), lines, "EUR")
    assert found.amount == D("1.00")
    assert {line.key: line.amount for line in found.lines} == {
        "a": D("0.34"),
        "b": D("0.33"),
        "c": D("0.33"),
    }
    assert found.plan_version == "2026-1"


def test_credits_take_back_what_the_original_earned() -> None:
    """CM-06: a line with its own percentage leaves the tiers alone."""
    lines = [
        CommissionLine("new", D("10000.00")),
        CommissionLine("credit", D("-100.00"), percent=D(12)),
    ]
    found = earn(plan(tiers=TIERS), lines, "EUR")
    assert {line.key: line.amount for line in found.lines} == {
        "new": D("1000.00"),
        "credit": D("-12.00"),
    }


@pytest.mark.parametrize(
    ("basis", "collected", "commission"),
    [("revenue", "50.00", "5.00"), ("margin", "50.00", "2.00"), ("revenue", None, "0.00")],
)
def test_commission_on_collection_follows_the_payment(
    basis: Any, collected: str | None, commission: str
) -> None:
    paid = None if collected is None else D(collected)
    line = CommissionLine("1", D("100.00"), D("60.00"), collected=paid)
    terms = plan(basis=basis, recognised="collected", percent=D(10))
    assert earn(terms, [line], "EUR").amount == D(commission)


def test_nothing_sold_earns_nothing() -> None:
    assert earn(plan(tiers=TIERS), [], "EUR").amount == 0
    assert earned(plan(tiers=TIERS), "5.00", "-5.00") == 0


def test_an_age_plan_needs_the_age() -> None:
    by_age = plan(age_tiers=(AgeTier(up_to_month=3, percent=D(8)), AgeTier(percent=D(10))))
    with pytest.raises(ValueError, match="line 1 has age month None"):
        earn(by_age, [CommissionLine("1", D(1))], "EUR")


@pytest.mark.parametrize(
    ("cancelled_on", "suspended_days", "amount"),
    [
        (date(2026, 6, 1), 0, "-70.00"),
        (date(2026, 5, 31), 0, "-80.00"),
        (date(2026, 6, 1), 1, "-80.00"),
        (date(2026, 1, 1), 0, "-120.00"),
        (date(2025, 12, 1), 0, "-120.00"),
        (date(2028, 1, 1), 0, "0.00"),
        (date(2027, 1, 31), 30, "0.00"),
    ],
)
def test_suspended_days_do_not_count_towards_the_window(
    cancelled_on: date, suspended_days: int, amount: str
) -> None:
    """CM-03."""
    terms = ClawbackTerms(method="straight_line", window_months=12)
    found = claw_back(
        terms, D(120), "EUR", date(2026, 1, 1), cancelled_on, suspended_days=suspended_days
    )
    assert found.amount == D(amount)


@pytest.mark.parametrize(("served", "amount"), [(90, D(-120)), (91, D(0))])
def test_everything_is_due_back_within_the_days(served: int, amount: D) -> None:
    start = date(2026, 1, 1)
    terms = ClawbackTerms(method="full", within_days=90)
    found = claw_back(terms, D(120), "EUR", start, start + timedelta(days=served))
    assert found.amount == amount


def test_a_quarterly_payout_waits_for_the_quarter_and_the_minimum_is_enough() -> None:
    sums = {Month(2026, n): D(amount) for n, amount in ((1, 30), (2, 10), (3, 10), (4, 60))}
    rows = settle_payouts(
        PayoutTerms(frequency="quarterly", minimum=D(50)), sums, Month(2026, 1), Month(2026, 6)
    )
    assert [row.paid for row in rows] == [0, 0, 50, 0, 0, 60]


def test_a_negative_balance_is_carried_and_not_collected() -> None:
    rows = settle_payouts(
        PayoutTerms(), {Month(2026, 2): D(5)}, Month(2026, 1), Month(2026, 2), opening=D(-8)
    )
    assert [(row.paid, row.carried) for row in rows] == [(0, -8), (0, -3)]


def test_the_nearest_plan_above_a_partner_is_its_plan() -> None:
    root, own = plan(percent=D(5)), plan(id="own", percent=D(7))
    parents = {"dealer": "region", "region": "country"}
    plans = [("country", root), ("other", own)]
    assert plan_of("dealer", parents, plans) == root
    assert plan_of("dealer", parents, [*plans, ("region", own)]) == own
    assert plan_of("stranger", parents, plans) is None
    with pytest.raises(ValueError, match="in a circle"):
        plan_of("a", {"a": "b", "b": "a"}, plans)


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({}, "give one of"),
        ({"percent": D(1), "tiers": TIERS}, "give one of"),
        ({"tiers": TIERS[:1]}, "only the last of tiers is open"),
        ({"tiers": (TIERS[0], TIERS[0], TIERS[1])}, "must rise"),
    ],
)
def test_plans_that_contradict_themselves_are_refused(terms: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        plan(**terms)


PLANS = st.sampled_from(
    [
        plan(percent=D("7.5")),
        plan(tiers=TIERS),
        plan(tiers=TIERS, tier_method="cliff", basis="margin"),
        plan(age_tiers=(AgeTier(up_to_month=3, percent=D(8)), AgeTier(percent=D(10)))),
    ]
)
money = st.decimals(-9_000, 9_000, places=2)
lines_ = st.lists(
    st.builds(
        CommissionLine,
        key=st.uuids().map(str),
        revenue=money,
        cost=money,
        age_month=st.integers(1, 9),
        percent=st.none() | st.decimals(0, 20, places=1),
    ),
    max_size=8,
)


@PROPERTY
@given(PLANS, lines_, st.randoms())
def test_lines_add_up_whatever_the_order_and_cancel_when_reversed(
    terms: CommissionPlan, lines: list[CommissionLine], random: Any
) -> None:
    found = earn(terms, lines, "EUR")
    assert sum(line.amount for line in found.lines) == found.amount
    shuffled = earn(terms, random.sample(lines, len(lines)), "EUR")
    assert {line.key: line for line in shuffled.lines} == {line.key: line for line in found.lines}
    back = earn(
        terms,
        [
            CommissionLine(
                line.key,
                -line.revenue,
                -line.cost,
                age_month=line.age_month,
                percent=line.percent,
            )
            for line in lines
        ],
        "EUR",
    )
    assert [line.amount for line in back.lines] == [-line.amount for line in found.lines]


@PROPERTY
@given(
    st.dictionaries(st.integers(0, 14), money),
    st.decimals(0, 500, places=2),
    st.sampled_from(["monthly", "quarterly"]),
    st.integers(1, 13),
)
def test_payouts_never_lose_a_cent_and_can_be_settled_in_pieces(
    sums: dict[int, Decimal], minimum: Decimal, frequency: Any, cut: int
) -> None:
    first, last = Month(2026, 1), Month(2027, 3)
    by_month = {first + n: amount for n, amount in sums.items()}
    terms = PayoutTerms(frequency=frequency, minimum=minimum)
    rows = settle_payouts(terms, by_month, first, last)
    assert sum(row.paid for row in rows) + rows[-1].carried == sum(sums.values())
    assert all(row.paid == 0 or row.paid >= max(minimum, D("0.01")) for row in rows)
    early = settle_payouts(terms, by_month, first, first + cut - 1)
    late = settle_payouts(terms, by_month, first + cut, last, opening=early[-1].carried)
    assert early + late == rows
