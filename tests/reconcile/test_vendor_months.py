"""Carriers whose months do not begin on the 1st: their invoices, their days, their SIMs."""

from __future__ import annotations

import pytest

from .market import PERIOD, Market

BILLED = ("2026-02-19", "2026-03-19")
"""The carrier's month 2026-03: called after the month that holds its last day."""
COMING = ("2026-03-19", "2026-04-19")


def _market() -> Market:
    market = Market()
    market.add("account", account_id="carrier", kind="vendor", bill_day=19)
    market.charge("MRC", "recurring", "2.80")
    market.charge("AHEAD", "recurring", "3.10")
    return market


def test_an_invoice_of_the_carriers_own_month_agrees() -> None:
    market = _market()
    for sim, dates in (("S1", True), ("S2", False)):
        market.sim(sim)
        market.expect(sim, "MRC", 2_80, quantity=28, window=BILLED)
        market.expect(sim, "AHEAD", 3_10, quantity=31, window=COMING)
        for code, amount, (start, end) in (("MRC", "2.80", BILLED), ("AHEAD", "3.10", COMING)):
            given = {"start": start, "end": end} if dates or code == "AHEAD" else {}
            market.bill(sim, code, amount, **given)
    result = market.reconcile()
    result.check_sums()
    assert result.by_cause() == {}
    assert {line["status"] for line in result.lines} == {"matched"}
    assert result.line("S1", "MRC")["expected_quantity"] == 28
    assert result.line("S2", "MRC")["invoiced_quantity"] == 28


def test_days_are_those_of_the_carriers_month() -> None:
    market = _market()
    market.sim("S1")
    market.expect("S1", "MRC", 1_40, quantity=14, window=BILLED)
    market.bill("S1", "MRC", "2.80", start=BILLED[0], end=BILLED[1])
    result = market.reconcile()
    result.check_sums()
    assert result.by_cause() == {"proration": 1_40}


@pytest.mark.parametrize(
    ("start", "end", "cause"),
    [
        ("2026-01-19", "2026-02-19", "wrong_period"),
        ("2026-03-19", "2026-04-19", "wrong_period"),
        ("2026-02-25", "2026-03-19", None),
    ],
)
def test_a_line_of_another_of_its_months_is_on_the_wrong_invoice(
    start: str, end: str, cause: str | None
) -> None:
    market = _market()
    market.sim("S1")
    market.expect("S1", "MRC", 2_80, quantity=28, window=BILLED)
    market.bill("S1", "MRC", "2.80", start=BILLED[0], end=BILLED[1])
    market.sim("S2")
    market.expect("S2", "MRC", 2_20, quantity=22, window=BILLED)
    market.bill("S2", "MRC", "2.20", start="2026-02-25", end=BILLED[1])
    market.bill("S1", "MRC", "1.11", start=start, end=end)
    result = market.reconcile()
    result.check_sums()
    if cause:
        assert result.by_cause() == {cause: 1_11}
    else:
        assert result.line("S1", "MRC")["variance_minor"] == 1_11


def test_a_sim_that_began_is_compared_at_its_own_days() -> None:
    """S2 began on 25 February: its part of the month before the fee in advance is on this invoice,
    under the usage period in which it began."""
    market = _market()
    market.sim("S1")
    market.expect("S1", "AHEAD", 3_10, quantity=31, window=COMING)
    market.bill("S1", "AHEAD", "3.10", start=COMING[0], end=COMING[1])
    market.sim("S2", states=[("2026-02-25", "active")])
    market.expect("S2", "AHEAD", 2_44, quantity=22, period="2026-02", window=BILLED)
    market.expect("S2", "AHEAD", 3_10, quantity=31, window=COMING)
    market.bill("S2", "AHEAD", "2.44", start="2026-02-25", end=BILLED[1])
    market.bill("S2", "AHEAD", "3.10", start=COMING[0], end=COMING[1])
    # S3 began on 5 March: both its parts are of one usage period
    market.sim("S3", states=[("2026-03-05", "active")])
    market.expect("S3", "AHEAD", 4_65, quantity=45, window=(BILLED[0], COMING[1]))
    market.bill("S3", "AHEAD", "1.55", start="2026-03-05", end=BILLED[1])
    market.bill("S3", "AHEAD", "3.10", start=COMING[0], end=COMING[1])
    result = market.reconcile()
    result.check_sums()
    assert result.by_cause() == {}
    assert {line["status"] for line in result.lines} == {"matched"}
    assert {line["accounting_period"] for line in result.lines} == {str(PERIOD)}


def test_a_late_invoice_accrues_what_the_carriers_month_comes_to() -> None:
    market = _market()
    market.sim("S1")
    market.expect("S1", "MRC", 2_80, quantity=28, window=BILLED)
    (total,) = market.reconcile().totals
    assert (total["flag"], total["expected_minor"]) == ("accrued", 2_80)
