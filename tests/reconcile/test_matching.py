"""Who a billed SIM is, which period a line is for, and what is not compared."""

from __future__ import annotations

from datetime import datetime

import pytest

from iotbill_pipelines.engine.reconcile import VendorTerms

from .market import Market, iccid


def market_with_fee(*, basis: str = "actual") -> Market:
    market = Market()
    market.charge("MRC", "recurring", "3.10", basis=basis)
    return market


def test_the_check_digit_of_an_iccid_may_be_left_out_or_added() -> None:
    market = market_with_fee()
    market.sim("S1")
    market.sim("S2", uid_value=iccid("S2") + "7")
    for sim in ("S1", "S2"):
        market.expect(sim, "MRC", 3_10)
    market.bill(None, "MRC", "3.10", uid=iccid("S1") + "4")
    market.bill(None, "MRC", "3.10", uid=iccid("S2"))
    result = market.reconcile()
    result.check_sums()
    assert {line["status"] for line in result.lines} == {"matched"}


def test_two_carriers_sims_with_the_same_digits_of_another_type_are_strangers() -> None:
    market = market_with_fee()
    market.sim("S1", uid_type="imsi", uid_value="204040000000001")
    market.expect("S1", "MRC", 3_10)
    market.bill(None, "MRC", "3.10", uid="204040000000001", uid_type="iccid")
    assert market.reconcile().by_cause() == {"unknown_sim": 3_10, "unbilled_sim": -3_10}


def test_the_owner_is_the_one_at_the_lines_dates() -> None:
    market = market_with_fee()
    moved = datetime.fromisoformat("2026-02-10")
    market.sim("S1", service="old", valid_to=moved)
    market.sim("S1", service="new", valid_from=moved)
    market.expect("S1", "MRC", 3_10, service="new")
    market.bill("S1", "MRC", "3.10", start="2026-03-01", end="2026-04-01")
    result = market.reconcile()
    result.check_sums()
    assert [(line["service_id"], line["status"]) for line in result.lines] == [("new", "matched")]


def test_a_sim_that_changed_hands_in_the_month_is_one_sim() -> None:
    market = market_with_fee()
    moved = datetime.fromisoformat("2026-03-11")
    market.sim("S1", service="old", valid_to=moved)
    market.sim("S1", service="new", valid_from=moved)
    market.expect("S1", "MRC", 1_00, quantity=10, service="old")
    market.expect("S1", "MRC", 2_10, quantity=21, service="new")
    market.bill("S1", "MRC", "3.10", start="2026-03-01", end="2026-04-01")
    (line,) = market.reconcile().lines
    assert (line["expected_minor"], line["expected_quantity"], line["status"]) == (
        3_10,
        31,
        "matched",
    )


def test_a_sim_of_another_carrier_is_not_on_this_contract() -> None:
    market = market_with_fee()
    market.sim("S1", vendor="elsewhere")
    market.bill("S1", "MRC", "3.10")
    assert market.reconcile().by_cause() == {"unknown_sim": 3_10}


@pytest.mark.parametrize(
    ("start", "end", "cause"),
    [
        ("2026-02-01", "2026-03-01", "wrong_period"),
        ("2026-03-01", "2026-04-01", None),
        ("2026-02-20", "2026-03-02", None),
        ("2026-04-01", "2026-05-01", "wrong_period"),
    ],
)
def test_a_line_belongs_to_the_period_of_its_own_dates(
    start: str, end: str, cause: str | None
) -> None:
    market = Market()
    market.charge("FEE", "recurring", "3.10", basis="none")
    market.sim("S1")
    market.sim("S2")
    market.expect("S1", "FEE", 3_10)
    market.expect("S2", "FEE", 3_10)
    market.bill("S2", "FEE", "3.10")
    market.bill("S1", "FEE", "3.10", start=start, end=end)
    result = market.reconcile()
    result.check_sums()
    expected = {cause: 3_10, "unbilled_sim": -3_10} if cause else {}
    assert result.by_cause() == expected


def test_a_fee_in_advance_is_for_the_next_month() -> None:
    market = market_with_fee()
    market.sim("S1")
    market.expect("S1", "MRC", 3_10, period="2026-04", quantity=30)
    market.bill("S1", "MRC", "3.10", start="2026-04-01", end="2026-05-01")
    (line,) = market.reconcile().lines
    assert (line["usage_period"], line["status"]) == ("2026-04", "matched")


def test_a_month_billed_whole_for_a_part_is_proration() -> None:
    market = market_with_fee()
    market.sim("S1", states=[("2026-03-17", "active")])
    market.expect("S1", "MRC", 1_50, quantity=15)
    market.bill("S1", "MRC", "3.10", start="2026-03-01", end="2026-04-01")
    result = market.reconcile()
    result.check_sums()
    assert result.by_cause() == {"proration": 1_60}
    assert "billed 31 days, ours 15, own price 3.1" in result.causes[0]["evidence"]


def test_days_explain_only_what_they_make_smaller() -> None:
    market = market_with_fee()
    market.sim("S1", states=[("2026-03-17", "active")])
    market.expect("S1", "MRC", 1_50, quantity=15)
    # the dates are the cycle's, the amount was prorated, at another price
    market.bill("S1", "MRC", "1.60", start="2026-03-01", end="2026-04-01")
    assert market.reconcile().by_cause() == {"rate": 10}


def test_usage_that_we_have_not_seen_is_valued_at_our_price() -> None:
    market = Market()
    market.charge("DATA", "usage", "0.02", unit_size=1000)
    market.sim("S1")
    market.bill("S1", "DATA", "1.50", quantity=50_000)
    result = market.reconcile()
    result.check_sums()
    assert result.by_cause() == {"usage": 1_00, "rate": 50}


def test_a_rate_by_zone_is_compared_at_the_effective_rate() -> None:
    market = Market()
    market.charge("DATA", "usage", None)
    market.sim("S1")
    market.expect("S1", "DATA", 60, quantity=100, kind="usage", price_ids="data#1 data#2")
    market.bill("S1", "DATA", "0.90", quantity=150)
    assert market.reconcile().by_cause() == {"usage": 30}


def test_usage_without_a_line_is_a_quantity_where_the_sim_is_billed() -> None:
    market = market_with_fee()
    market.charge("SMS", "usage", "0.05")
    for sim in ("S1", "S2"):
        market.sim(sim)
        market.expect(sim, "MRC", 3_10)
        market.expect(sim, "SMS", 10, quantity=2, kind="usage")
    market.bill("S1", "MRC", "3.10")
    result = market.reconcile()
    result.check_sums()
    assert result.by_cause() == {"usage": -10, "unbilled_sim": -3_20}
    assert result.disputes == []


def test_a_code_billed_for_the_account_is_compared_for_the_account() -> None:
    market = Market()
    market.charge("DATA", "usage", "0.02")
    for sim in ("S1", "S2"):
        market.sim(sim)
        market.expect(sim, "DATA", 2_00, quantity=100, kind="usage")
    market.bill(None, "DATA", "4.20", quantity=210)
    result = market.reconcile()
    result.check_sums()
    assert result.by_cause() == {"usage": 20}
    (line,) = result.lines
    assert (line["expected_minor"], line["uid_value"]) == (4_00, None)


def test_a_carriers_contract_reduces_charges_and_has_codes_of_its_own() -> None:
    market = market_with_fee()
    for sim in ("S1", "S2"):
        market.sim(sim)
        market.expect(sim, "MRC", 3_10)
        market.expect(sim, "K/tenth/MRC", -31, quantity=0, kind="discount", price_ids="")
    market.expect("", "K/least/2026-03-01", 4_42, quantity=0, kind="shortfall", service="")
    market.rows["desired_charge"][-1] |= {"service_id": "", "product_id": "minimum"}
    market.bill("S1", "MRC", "2.79")
    market.bill("S2", "MRC", "3.10")
    market.bill(None, "minimum", "4.42")
    result = market.reconcile()
    result.check_sums()
    assert result.line("S1", "MRC")["status"] == "matched"
    assert (result.line(None, "minimum")["expected_minor"], result.variance_minor) == (4_42, 31)
    assert result.by_cause() == {"rate": 31}  # the discount was forgotten on one SIM


def test_a_price_that_does_not_make_the_amount_is_unexplained() -> None:
    market = Market()
    market.charge("SMS", "usage", "0.05")
    market.sim("S1")
    market.expect("S1", "SMS", 1_00, quantity=20, kind="usage")
    market.bill("S1", "SMS", "7.00", quantity=20, price="0.05")
    assert market.reconcile().by_cause() == {"unexplained": 6_00}


def test_tax_on_the_line_and_on_a_line_of_its_own() -> None:
    market = Market(terms=[VendorTerms("carrier", "EUR", tax_codes=("VAT",))])
    market.charge("MRC", "recurring", "3.10")
    market.sim("S1")
    market.expect("S1", "MRC", 3_10)
    market.bill("S1", "MRC", "3.69", tax="0.59")
    market.bill(None, "VAT", "0.42")
    result = market.reconcile()
    result.check_sums()
    assert result.by_cause() == {"tax": 1_01}


def test_tolerance_is_the_greater_of_amount_and_share() -> None:
    market = Market(terms=[VendorTerms("carrier", "EUR", tolerance_minor=2, tolerance_ppm=10_000)])
    market.charge("PLAN", "recurring", "10.00")
    for sim, billed in (("S1", "10.10"), ("S2", "10.11"), ("S3", "9.90"), ("S4", "9.89")):
        market.sim(sim)
        market.expect(sim, "PLAN", 10_00)
        market.bill(sim, "PLAN", billed)
    result = market.reconcile()
    result.check_sums()
    assert [result.line(f"S{n}", "PLAN")["status"] for n in range(1, 5)] == [
        "tolerated",
        "disputed",
        "tolerated",
        "underbilled",
    ]
    assert [claim["difference_minor"] for claim in result.disputes] == [11]


def test_vr08_without_an_invoice_the_expected_cost_is_accrued() -> None:
    market = market_with_fee()
    market.sim("S1")
    market.expect("S1", "MRC", 3_10)
    result = market.reconcile()
    assert result.lines == []
    (total,) = result.totals
    assert (total["flag"], total["expected_minor"], total["invoiced_minor"]) == (
        "accrued",
        3_10,
        0,
    )


def test_increments_of_the_carrier_are_compared_with_rated_quantities() -> None:
    market = Market()
    market.charge("DATA", "usage", "0.01", unit_size=1000)
    market.sim("S1")
    market.expect("S1", "DATA", 3, quantity=2_100, kind="usage")
    market.add(
        "usage_aggregate",
        usage_period="2026-03",
        level="vendor",
        account_id="carrier",
        service_id="svc-S1",
        offer_id="deal",
        charge_id="data",
        price_id="data#1",
        pooled=False,
        records=3,
        quantity=2_100,
        rated_quantity=3_000,
        allowance_quantity=0,
    )
    market.bill("S1", "DATA", "0.03", quantity=3_000)
    assert market.reconcile().line("S1", "DATA")["status"] == "matched"


def test_an_amount_in_a_foreign_currency_is_not_mixed_in() -> None:
    market = market_with_fee()
    market.sim("S1")
    market.expect("S1", "MRC", 3_10)
    market.bill("S1", "MRC", "3.50", currency="USD")
    result = market.reconcile()
    result.check_sums()
    assert {(c["currency"], c["cause"], c["amount_minor"]) for c in result.causes} == {
        ("EUR", "unbilled_sim", -3_10),
        ("USD", "unexplained", 3_50),
    }


def test_as_many_sims_as_there_were_on_one_day_are_compared_for_the_account() -> None:
    """We expect two SIMs' worth, shared by three; the carrier bills one more, as a count or by
    SIM. What it bills for a SIM that was never active is claimed by itself."""
    for by_sim in (False, True):
        market = Market()
        market.charge("PEAK", "recurring", "2.40", billable="peak")
        for sim, part in (("S1", 2_40), ("S2", 1_60), ("S3", 80)):
            market.sim(sim)
            market.expect(sim, "PEAK", part)
        if by_sim:
            market.sim("S4", states=[("2025-01-01", "active"), ("2026-01-20", "cancelled")])
            for sim in ("S1", "S2", "S3", "S4"):
                market.bill(sim, "PEAK", "2.40")
        else:
            market.bill(None, "PEAK", "7.20", quantity=3)
        result = market.reconcile()
        result.check_sums()
        expected = {"usage": 2_40, "billed_inactive": 2_40} if by_sim else {"usage": 2_40}
        assert result.by_cause() == expected
        line = next(line for line in result.lines if line["charge_code"] == "PEAK")
        assert (line["expected_quantity"], line["invoiced_quantity"]) == (2, 3)


def test_a_sim_that_does_not_count_is_billed_too_much() -> None:
    market = Market()
    market.charge("LAST", "recurring", "2.40", billable="last_day")
    for sim, amount in (("S1", 2_40), ("S2", 0)):
        market.sim(sim)
        market.expect(sim, "LAST", amount, quantity=14)
        market.bill(sim, "LAST", "2.40", quantity=31)
    result = market.reconcile()
    result.check_sums()
    assert result.by_cause() == {"usage": 2_40}
    (claim,) = result.disputes
    assert "billed 1, ours 0, own price 2.4" in claim["evidence"]
