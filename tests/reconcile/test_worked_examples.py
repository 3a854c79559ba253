"""VR-01 .. VR-12 of the rulebook's worked examples, as far as an invoice expresses them."""

from __future__ import annotations

from decimal import Decimal

from iotbill_pipelines.engine.reconcile import AccountCharge, FxRate, VendorTerms

from .market import Market


def test_vr01_usage_and_rate_variance_add_up() -> None:
    market = Market()
    market.charge("DATA", "usage", "0.020", unit_size=1_000_000)
    market.sim("S1")
    market.expect("S1", "DATA", 200_00, quantity=10_000_000_000, kind="usage")
    market.bill("S1", "DATA", "229.90", quantity=10_450_000_000, price="0.022")
    result = market.reconcile()
    result.check_sums()
    assert result.by_cause() == {"usage": 9_00, "rate": 20_90}
    (claim,) = result.disputes
    assert (claim["billed_minor"], claim["expected_minor"]) == (229_90, 200_00)
    assert claim["cause"] == "rate"
    assert "billed price 0.022, own price 0.02;" in claim["evidence"]
    assert (
        "usage: invoice INV-1 line 1: billed 10450, ours 10000, own price 0.02" in claim["evidence"]
    )


def test_vr02_inactive_sim() -> None:
    market = Market()
    market.charge("MRC", "recurring", "2.40")
    for sim in ("S1", "S3"):
        market.sim(sim)
        market.expect(sim, "MRC", 2_40)
    market.sim("S2", states=[("2025-01-01", "active"), ("2026-01-20", "cancelled")])
    for sim in ("S1", "S2", "S3"):
        market.bill(sim, "MRC", "2.40")
    result = market.reconcile()
    result.check_sums()
    assert result.by_cause() == {"billed_inactive": 2_40}
    (claim,) = result.disputes
    assert claim["uid_value"].endswith("2")
    assert (claim["cause"], claim["difference_minor"]) == ("billed_inactive", 2_40)
    assert "svc-S2 was not active between 2026-03-01 and 2026-03-31" in claim["evidence"]


def test_vr03_an_unknown_and_an_unbilled_sim_never_net() -> None:
    market = Market()
    market.charge("MRC", "recurring", "2.40")
    market.sim("S1")
    market.expect("S1", "MRC", 2_40)
    market.bill(None, "MRC", "2.40", uid="8949999999999999999")
    result = market.reconcile()
    result.check_sums()
    assert result.variance_minor == 0
    assert result.by_cause() == {"unknown_sim": 2_40, "unbilled_sim": -2_40}
    assert sorted(line["status"] for line in result.lines) == ["disputed", "underbilled"]
    assert [claim["cause"] for claim in result.disputes] == ["unknown_sim"]


def test_vr04_the_same_line_twice() -> None:
    market = Market()
    market.charge("MRC", "recurring", "2.40")
    market.sim("S1")
    market.expect("S1", "MRC", 2_40)
    market.bill("S1", "MRC", "2.40")
    market.bill("S1", "MRC", "2.40")
    result = market.reconcile()
    result.check_sums()
    assert result.by_cause() == {"duplicate": 2_40}
    (claim,) = result.disputes
    assert claim["first_line_no"] == 2


def test_vr04_across_invoices_of_different_periods() -> None:
    market = Market()
    market.charge("MRC", "recurring", "2.40")
    market.sim("S1")
    market.expect("S1", "MRC", 2_40)
    dates = {"start": "2026-02-01", "end": "2026-03-01"}
    market.bill("S1", "MRC", "2.40", invoice="INV-0", period="2026-02", **dates)
    market.bill("S1", "MRC", "2.40", invoice="INV-1", **dates)
    market.bill("S1", "MRC", "2.40", invoice="INV-1", start="2026-03-01", end="2026-04-01")
    result = market.reconcile()
    result.check_sums()
    assert result.by_cause() == {"duplicate": 2_40}


def test_vr04_a_credit_takes_a_copy_back() -> None:
    market = Market()
    market.charge("MRC", "recurring", "2.40")
    market.sim("S1")
    market.expect("S1", "MRC", 2_40)
    for amount in ("2.40", "2.40", "-2.40"):
        market.bill("S1", "MRC", amount)
    result = market.reconcile()
    result.check_sums()
    assert result.variance_minor == 0
    assert result.by_cause() == {}
    assert result.disputes == []


def test_vr06_foreign_amount_times_the_difference_of_the_rates() -> None:
    market = Market()
    market.terms = [
        VendorTerms("carrier", "EUR", fx_rates=(FxRate("EUR", "USD", Decimal("0.90")),))
    ]
    market.charge("MRC", "recurring", "90.00")
    market.sim("S1")
    market.expect("S1", "MRC", 90_00)
    market.bill("S1", "MRC", "92.50", foreign=("USD", "100.00", "0.925"))
    result = market.reconcile()
    result.check_sums()
    assert result.by_cause() == {"fx": 2_50}


def test_vr07_small_differences_add_up_to_a_flag() -> None:
    market = Market(terms=[VendorTerms("carrier", "EUR", tolerance_minor=1, limit_minor=5_00)])
    market.charge("MRC", "recurring", "2.40")
    for number in range(2000):
        sim = f"S{number}"
        market.sim(sim)
        market.expect(sim, "MRC", 2_40)
        market.bill(sim, "MRC", "2.404")
    result = market.reconcile()
    result.check_sums()
    assert [line for line in result.lines if line["status"] == "disputed"] == []
    (total,) = result.totals
    assert total["invoiced_minor"] == 4808_00
    assert total["tolerated_minor"] == 8_00
    assert total["flag"] == "systematic_rounding"
    assert result.by_cause() == {"rounding": 8_00}
    (claim,) = result.disputes
    assert (claim["cause"], claim["difference_minor"]) == ("systematic_rounding", 8_00)


def test_vr07_tolerated_cents_count_too() -> None:
    market = Market(terms=[VendorTerms("carrier", "EUR", tolerance_minor=1, limit_minor=10)])
    market.charge("MRC", "recurring", "2.40")
    for number in range(11):
        market.sim(f"S{number}")
        market.expect(f"S{number}", "MRC", 2_40)
        market.bill(f"S{number}", "MRC", "2.41")
    (total,) = market.reconcile().totals
    assert (total["tolerated_lines"], total["tolerated_minor"]) == (11, 11)
    assert total["flag"] == "systematic_rounding"


def test_vr09_same_plan_name_at_another_price() -> None:
    market = Market()
    market.charge("PLAN", "recurring", "50.00")
    for number in range(12):
        market.sim(f"S{number}")
        market.expect(f"S{number}", "PLAN", 50_00)
        market.bill(f"S{number}", "PLAN", "170.00", quantity=1, price="170.00", plan="IoT v2")
    result = market.reconcile()
    result.check_sums()
    assert result.by_cause() == {"rate": 1440_00}
    assert "billed price 170, own price 50, plan IoT v2" in result.causes[0]["evidence"]


def test_vr11_usage_is_what_was_used_inside_and_outside_of_the_bundle() -> None:
    market = Market()
    mebibyte = 1_048_576
    market.charge("DATA", "usage", "0.09", unit_size=mebibyte, allowance=250 * mebibyte)
    market.sim("S1")
    market.expect("S1", "DATA", 9, quantity=251 * mebibyte, kind="usage")
    # the feed maps Quantity + InBundleQuantity to the line's quantity
    market.bill("S1", "DATA", "0.09", quantity=1_048_576 + 262_144_000)
    assert market.reconcile().line("S1", "DATA")["status"] == "matched"
    market.rows["vendor_invoice_line"].clear()
    market.bill("S1", "DATA", "0.18", quantity=2 * mebibyte + 262_144_000)
    result = market.reconcile()
    result.check_sums()
    assert result.by_cause() == {"usage": 9}


def test_vr12_what_no_cause_explains_is_a_line() -> None:
    market = Market()
    market.charge("MRC", "recurring", "2.40")
    market.charge("DATA", "usage", "0.01", unit_size=1)
    market.charge("FEE", "recurring", "9.63")
    for number in range(10):  # 10 copies: 24.00
        market.sim(f"S{number}")
        market.expect(f"S{number}", "MRC", 2_40)
        market.bill(f"S{number}", "MRC", "2.40")
        market.bill(f"S{number}", "MRC", "2.40")
    for number in range(100, 115):  # 15 cancelled SIMs: 36.00
        market.sim(f"S{number}", states=[("2025-01-01", "active"), ("2026-01-20", "cancelled")])
        market.bill(f"S{number}", "MRC", "2.40")
    market.sim("S200")  # 1000 units at 0.04 instead of 0.01: 30.00
    market.expect("S200", "DATA", 10_00, quantity=1000, kind="usage")
    market.bill("S200", "DATA", "40.00", quantity=1000, price="0.04")
    for number in range(300, 337):  # 37 x one cent
        market.sim(f"S{number}")
        market.expect(f"S{number}", "MRC", 2_40)
        market.bill(f"S{number}", "MRC", "2.41")
    market.bill(None, "MISC", "9.63")
    result = market.reconcile()
    result.check_sums()
    assert result.by_cause() == {
        "duplicate": 24_00,
        "billed_inactive": 36_00,
        "rate": 30_00,
        "rounding": 37,
        "unexplained": 9_63,
    }
    assert result.variance_minor == 100_00
    assert sum(total["unexplained_minor"] for total in result.totals) == 9_63


def test_an_account_fee_is_compared_with_the_terms() -> None:
    fee = AccountCharge("PLATFORM", "EUR", 100_00)
    market = Market(terms=[VendorTerms("carrier", "EUR", account_charges=(fee,))])
    market.bill(None, "PLATFORM", "120.00")
    result = market.reconcile()
    result.check_sums()
    assert result.by_cause() == {"rate": 20_00}
    assert result.line(None, "PLATFORM")["uid_value"] is None
