"""Lines are matched at plan, by id and version (RULEBOOK §10): VR-09 and what it implies."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from iotbill_pipelines.engine.reconcile import PlanTerm, VendorTerms

from .market import Market, Outcome

MARCH = {"start": "2026-03-01", "end": "2026-04-01"}


def market(*plans: PlanTerm) -> Market:
    """Offers ``old`` at 50.00 and ``new`` at 170.00, both billed as MRC of plan IOT."""
    made = Market(
        terms=[
            VendorTerms(
                "carrier",
                "EUR",
                plans=plans or (PlanTerm("IOT", "old", "1"), PlanTerm("IOT", "new", "2")),
            )
        ]
    )
    made.charge("MRC", "recurring", "50.00", offer="old", charge_id="old-fee")
    made.charge("MRC", "recurring", "170.00", offer="new", charge_id="new-fee")
    made.rows["offer"] = [
        {"offer_id": name, "name": name, "level": "vendor", "currency": "EUR"}
        for name in ("old", "new")
    ]
    return made


def plans(result: Outcome) -> list[tuple[Any, ...]]:
    result.check_sums()
    return [
        (line["billed_plan"], line["own_plan"], line["plan_match"], line["status"])
        for line in sorted(
            result.lines, key=lambda line: (line["uid_value"], line["expected_minor"])
        )
    ]


def test_vr09_the_same_plan_in_another_version_is_a_rate_and_says_so() -> None:
    made = market()
    for number in range(12):
        made.sim(f"S{number}", offer="old")
        made.expect(f"S{number}", "MRC", 50_00, charge_id="old-fee")
        made.bill(f"S{number}", "MRC", "170.00", plan="IOT", version="2", **MARCH)
    result = made.reconcile()
    assert result.by_cause() == {"rate": 1440_00}
    assert set(plans(result)) == {("IOT version 2", "IOT version 1", "other_version", "disputed")}
    assert "plan IOT version 2; agreed is IOT version 1" in result.causes[0]["evidence"]
    assert "plan IOT version 2; agreed is IOT version 1" in result.disputes[0]["evidence"]


def test_each_version_is_held_against_its_own_price() -> None:
    made = market()
    for sim, offer, amount in (("S1", "old", "50.00"), ("S2", "new", "170.00")):
        made.sim(sim, offer=offer)
        made.expect(sim, "MRC", int(amount.replace(".", "")), charge_id=f"{offer}-fee")
        made.bill(sim, "MRC", amount, plan="IOT", version="1" if offer == "old" else "2", **MARCH)
    assert plans(made.reconcile()) == [
        ("IOT version 1", "IOT version 1", "same", "matched"),
        ("IOT version 2", "IOT version 2", "same", "matched"),
    ]


def test_the_right_amount_on_the_wrong_version_is_told_though_nothing_is_claimed() -> None:
    made = market()
    made.sim("S1", offer="old")
    made.expect("S1", "MRC", 50_00, charge_id="old-fee")
    made.bill("S1", "MRC", "50.00", plan="IOT", version="2", **MARCH)
    result = made.reconcile()
    assert plans(result) == [("IOT version 2", "IOT version 1", "other_version", "matched")]
    assert result.disputes == []


def test_another_plan_and_one_that_nobody_agreed() -> None:
    made = market()
    for sim, plan in (("S1", "GOLD"), ("S2", None)):
        made.sim(sim, offer="old")
        made.expect(sim, "MRC", 50_00, charge_id="old-fee")
        made.bill(sim, "MRC", "50.00", plan=plan, version="2" if plan else None, **MARCH)
    assert plans(made.reconcile()) == [
        ("GOLD version 2", "IOT version 1", "other_plan", "matched"),
        (None, "IOT version 1", None, "matched"),
    ]


@pytest.mark.parametrize("version", [None, "1"])
def test_a_side_without_a_version_means_any(version: str | None) -> None:
    made = market(PlanTerm("IOT", "old", version))
    made.sim("S1", offer="old")
    made.expect("S1", "MRC", 50_00, charge_id="old-fee")
    made.bill("S1", "MRC", "50.00", plan="IOT", version=None if version else "7", **MARCH)
    ((_, _, match, status),) = plans(made.reconcile())
    assert (match, status) == ("same", "matched")


def changed_plans() -> Market:
    """A SIM on version 1 until 10 March and on version 2 from there."""
    made = market()
    made.sim("S1", offer="old")
    made.expect("S1", "MRC", 16_13, quantity=10, charge_id="old-fee")
    made.expect("S1", "MRC", 115_16, quantity=21, charge_id="new-fee")
    return made


def test_a_sim_that_changed_plans_is_compared_plan_by_plan() -> None:
    made = changed_plans()
    first = {"start": "2026-03-01", "end": "2026-03-11"}
    rest = {"start": "2026-03-11", "end": "2026-04-01"}
    made.bill("S1", "MRC", "16.13", plan="IOT", version="1", **first)
    made.bill("S1", "MRC", "120.00", plan="IOT", version="2", **rest)
    result = made.reconcile()
    assert plans(result) == [
        ("IOT version 1", "IOT version 1", "same", "matched"),
        ("IOT version 2", "IOT version 2", "same", "disputed"),
    ]
    assert result.by_cause() == {"rate": 4_84}


def test_too_much_on_one_version_is_not_set_off_against_the_other() -> None:
    """The whole month on the old version is a part month too much; the new one was not billed."""
    made = changed_plans()
    made.bill("S1", "MRC", "50.00", plan="IOT", version="1", **MARCH)
    result = made.reconcile()
    assert plans(result) == [
        ("IOT version 1", "IOT version 1", "same", "disputed"),
        (None, "IOT version 2", None, "underbilled"),
    ]
    assert result.by_cause() == {"proration": 33_87, "unbilled_sim": -115_16}
    assert [claim["difference_minor"] for claim in result.disputes] == [33_87]
    missing = next(c for c in result.causes if c["cause"] == "unbilled_sim")
    assert missing["evidence"].endswith("not on the invoice")


def test_without_a_version_both_plans_are_compared_together_as_before() -> None:
    made = changed_plans()
    made.bill("S1", "MRC", "131.29", plan="IOT", **MARCH)
    result = made.reconcile()
    assert plans(result) == [("IOT", "IOT version 1 + IOT version 2", "same", "matched")]


def test_a_version_that_begins_within_the_month_agrees_with_both() -> None:
    made = market(
        PlanTerm("IOT", "old", "1", valid_to=date(2026, 3, 5)),
        PlanTerm("IOT", "old", "2", valid_from=date(2026, 3, 5)),
    )
    made.sim("S1", offer="old")
    made.expect("S1", "MRC", 50_00, charge_id="old-fee")
    made.bill("S1", "MRC", "6.45", plan="IOT", version="1", start="2026-03-01", end="2026-03-05")
    made.bill("S1", "MRC", "43.55", plan="IOT", version="2", start="2026-03-05", end="2026-04-01")
    both = "IOT version 1 + IOT version 2"
    assert plans(made.reconcile()) == [(both, both, "same", "matched")]


def test_what_a_sim_that_we_expect_nothing_of_costs_goes_by_the_plan_that_is_billed() -> None:
    """Two offers have the code at two prices: only the plan's version says which one is meant."""
    made = market()
    for offer, price in (("old", "0.5"), ("new", "1.7")):
        made.charge("SMS", "usage", price, offer=offer, charge_id=f"{offer}-sms")
    for sim, version in (("S1", "1"), ("S2", "2")):
        made.sim(sim, offer="old")
        made.bill(sim, "SMS", "17.00", quantity=10, plan="IOT", version=version, **MARCH)
    result = made.reconcile()
    result.check_sums()
    assert sorted((c["cause"], c["uid_value"][-1], c["amount_minor"]) for c in result.causes) == [
        ("rate", "1", 12_00),
        ("usage", "1", 5_00),
        ("usage", "2", 17_00),
    ]


def test_a_carrier_may_call_its_plans_by_the_ids_of_our_offers() -> None:
    made = market()
    made.terms = []
    made.sim("S1", offer="old")
    made.expect("S1", "MRC", 50_00, charge_id="old-fee")
    made.bill("S1", "MRC", "170.00", plan="new", **MARCH)
    # a name that happens to be that of an offer which nobody has of this carrier says nothing
    assert plans(made.reconcile()) == [("new", None, None, "disputed")]
    made.sim("S2", offer="new", states=[("2026-03-31", "prospect")])
    assert plans(made.reconcile()) == [("new", "old", "other_plan", "disputed")]
