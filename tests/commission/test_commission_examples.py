"""Every published example of commissions, straight from the file."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from published_examples import matches, worked_example, worked_ids

from iotbill_pipelines.engine.calendars import Month, add_months
from iotbill_pipelines.engine.commission import (
    AgeTier,
    ClawbackTerms,
    CommissionLine,
    CommissionPlan,
    PayoutTerms,
    claw_back,
    earn,
    settle_payouts,
)

Facts = dict[str, Any]
D = Decimal


def plan(**terms: Any) -> CommissionPlan:
    return CommissionPlan(id="p", version="1", **terms)


def bases(facts: Facts) -> Facts:
    sold = CommissionLine("1", D(facts["revenue"]), D(facts["cost"]))
    return {
        f"{basis}_basis": earn(
            plan(basis=basis, percent=D(facts[f"pct_{basis}"])), [sold], "EUR"
        ).amount
        for basis in ("revenue", "margin")
    }


def clawback(facts: Facts) -> Facts:
    terms = ClawbackTerms(method=facts["method"], window_months=facts["window_months"])
    start = date(2026, 1, 31)
    return {
        "clawback": [
            claw_back(terms, D(facts["upfront"]), "EUR", start, add_months(start, months)).amount
            for months in facts["cancelled_after_full_months"]
        ]
    }


def payout_minimum(facts: Facts) -> Facts:
    names = list(facts["earned"])
    earned = {Month(2026, n): D(facts["earned"][name]) for n, name in enumerate(names, 1)}
    found = settle_payouts(
        PayoutTerms(minimum=D(facts["minimum"])), earned, Month(2026, 1), Month(2026, len(names))
    )
    return {
        "paid": {name: row.paid for name, row in zip(names, found, strict=True)},
        "carried": {name: row.carried for name, row in zip(names, found, strict=True)},
    }


def residual_by_age(facts: Facts) -> Facts:
    by_age = plan(age_tiers=(AgeTier(up_to_month=3, percent=D(8)), AgeTier(percent=D(10))))
    return {
        "commission": [
            earn(by_age, [CommissionLine("1", D(facts["invoice"]), age_month=month)], "EUR").amount
            for month in facts["months"]
        ]
    }


def credit_notes(facts: Facts) -> Facts:
    terms = plan(percent=D(facts["pct"]))
    amounts = [facts["invoice"], facts["credit_note_next_month"]]
    return {"earned": [earn(terms, [CommissionLine("1", D(a))], "EUR").amount for a in amounts]}


WORKED: dict[str, Callable[[Facts], Facts]] = {
    "CM-01": bases,
    "CM-03": clawback,
    "CM-04": payout_minimum,
    "CM-05": residual_by_age,
    "CM-06": credit_notes,
}


@pytest.mark.parametrize("case_id", WORKED)
def test_worked_example(shared: Path, case_id: str) -> None:
    case = worked_example(shared, case_id)
    found = WORKED[case_id](case["facts"])
    assert matches(found, case["expected"]), (found, case["expected"], case["arithmetic"])


def test_no_worked_example_of_commissions_is_left_out(shared: Path) -> None:
    assert worked_ids(shared, "commission") == set(WORKED)
