"""Every published example of revenue recognition, straight from the file."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from published_examples import matches, worked_example, worked_ids

from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.revenue import (
    Bundle,
    Obligation,
    allocate,
    daily_straight_line,
    defer_activation_fee,
    recognise_bundle,
)

Facts = dict[str, Any]
D = Decimal


def hybrid_bundle(facts: Facts) -> Facts:
    billed, ssp = facts["billed"], facts["ssp"]
    bundle = Bundle(
        id="b",
        currency="EUR",
        upfront=D(billed["device"]),
        monthly=D(billed["monthly"]),
        months=billed["months"],
        obligations=tuple(
            Obligation(
                id=name,
                ssp=D(price),
                recognised="over_time" if name == "connectivity" else "at_delivery",
            )
            for name, price in ssp.items()
        ),
    )
    found = recognise_bundle(bundle)
    (month,) = {(m.billed, m.revenue, m.unwind) for m in found.months}
    assert found.months[-1].contract_asset == 0
    return {
        "transaction_price": found.allocation.price,
        "allocated": dict(found.allocation.parts),
        "contract_asset_day1": found.contract_asset_at_delivery,
        "monthly": dict(zip(("billed", "revenue", "asset_unwind"), month, strict=True)),
    }


def ssp_rounding(facts: Facts) -> Facts:
    standalone = [(f"{number}", D(ssp)) for number, ssp in enumerate(facts["ssp"])]
    found = allocate(D(facts["price"]), "EUR", standalone)
    return {"allocated": [part for _, part in found.parts]}


def annual_prepay(facts: Facts) -> Facts:
    start, end = (date.fromisoformat(day) for day in facts["service"])
    found = daily_straight_line(D(facts["amount"]), "EUR", start, end)
    january, february, march = found.months[:3]
    assert sum(month.amount for month in found.months) == D(facts["amount"])
    return {
        "days": (end - start).days,
        "Jan": january.amount,
        "Feb": february.amount,
        "Mar": march.amount,
        "deferred_after_Mar": march.deferred,
    }


def activation_fee(facts: Facts) -> Facts:
    found = defer_activation_fee(
        D(facts["fee"]), "EUR", Month(2026, 1), facts["term_months"], distinct_service=False
    ).months
    return {
        "month_1": found[0].amount,
        "month_2": found[1].amount,
        "month_12_cum": found[11].cumulative,
        "month_24_cum": found[23].cumulative,
    }


WORKED: dict[str, Callable[[Facts], Facts]] = {
    "RV-02": hybrid_bundle,
    "RV-03": ssp_rounding,
    "RV-04": annual_prepay,
    "RV-05": activation_fee,
}


@pytest.mark.parametrize("case_id", WORKED)
def test_worked_example(shared: Path, case_id: str) -> None:
    case = worked_example(shared, case_id)
    found = WORKED[case_id](case["facts"])
    assert matches(found, case["expected"]), (found, case["expected"], case["arithmetic"])


def test_no_worked_example_of_revenue_is_left_out(shared: Path) -> None:
    assert worked_ids(shared, "revenue") == set(WORKED)
