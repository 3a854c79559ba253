"""SIM states against invoices, contracts and traffic: every finding priced, none netted."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from .market import PERIOD, Market, iccid


def _earns(market: Market, sim: str, minor: int) -> None:
    row = {**market.rows["desired_charge"][-1]} if market.rows.get("desired_charge") else {}
    market.expect(sim, "LINE", minor)
    market.rows["desired_charge"][-1] |= {"level": "retail", "account_id": "customer"}
    assert row is not market.rows["desired_charge"][-1]


def _audit(market: Market, suspended: list[dict[str, Any]] | None = None) -> dict[str, list[Any]]:
    _, found = market.audit(suspended or [])
    return {
        finding: [(row["service_id"] or row["uid_value"], row["amount_minor"]) for row in rows]
        for finding, rows in found.items()
    }


def _market() -> Market:
    market = Market()
    market.charge("FEE", "recurring", "2.40")
    market.charge("DATA", "usage", "0.02", unit_size=10**6)
    for row in market.rows["charge"]:
        row["usage_class"] = "data" if row["kind"] == "usage" else None
    return market


def test_a_sim_that_costs_earns_and_is_billed_is_no_finding() -> None:
    market = _market()
    market.sim("S1")
    market.expect("S1", "FEE", 240)
    _earns(market, "S1", 350)
    market.bill("S1", "FEE", "2.40")

    assert _audit(market) == {}


def test_zombies_cost_and_earn_nothing_by_invoice_or_by_our_terms() -> None:
    market = _market()
    for sim in ("S1", "S2"):
        market.sim(sim)
        market.expect(sim, "FEE", 240)
    market.bill("S1", "FEE", "2.50")

    found = _audit(market)

    assert found["zombie"] == [("svc-S1", 250), ("svc-S2", 240)]
    assert found["active_unbilled"] == [("svc-S2", 240)]


def test_ghosts_earn_and_cost_nothing() -> None:
    market = _market()
    market.sim("S1", vendor=None)
    _earns(market, "S1", 350)

    assert _audit(market) == {"ghost": [("svc-S1", 350)]}


def test_what_a_carrier_bills_without_our_knowing_or_using_it() -> None:
    market = _market()
    market.sim("S1", states=(("2025-01-01", "active"), ("2026-01-20", "cancelled")))
    market.bill("S1", "FEE", "2.40")
    market.bill(None, "FEE", "1.10", uid=iccid("S99"))
    market.bill(None, "FEE", "7.00")

    found = _audit(market)

    assert found["billed_inactive"] == [("svc-S1", 240)]
    assert found["billed_unknown"] == [(iccid("S99"), 110)]
    assert found["zombie"] == [("svc-S1", 240)]


def test_a_sim_that_changed_hands_is_billed_under_one_of_its_services() -> None:
    market = _market()
    half = datetime(2026, 3, 16)  # noqa: DTZ001
    market.sim("S1", valid_to=half)
    market.sim("S1", service="svc-next", valid_from=half)
    for service in ("svc-S1", "svc-next"):
        market.expect("S1", "FEE", 120, service=service)
        _earns(market, "S1", 150)
        market.rows["desired_charge"][-1]["service_id"] = service
    market.bill("S1", "FEE", "2.40")

    assert _audit(market) == {}


@pytest.mark.parametrize(
    ("sold", "minor", "said"),
    [
        (None, 280, "at the dearest price of carrier"),
        ((40, 10_00), 100, "at the average price of carrier in the month"),
    ],
)
def test_traffic_after_cancellation_is_priced_by_the_carriers_terms(
    sold: tuple[int, int] | None, minor: int, said: str
) -> None:
    """Data is flat; messages have two prices, so what they came to in the month says it."""
    market = _market()
    market.charge("SMS", "usage", None)
    market.rows["charge"][-1]["usage_class"] = "sms"
    if sold:
        market.sim("S2")
        market.expect("S2", "SMS", sold[1], quantity=sold[0], kind="usage")
    market.sim("S1", states=(("2025-01-01", "active"), ("2026-03-05", "cancelled")))
    record = {
        "file_key": 1,
        "feed_id": "f",
        "usage_month": str(PERIOD),
        "event_start": datetime(2026, 3, 9),  # noqa: DTZ001
        "uid_type": "iccid",
        "uid_value": iccid("S1"),
        "reason_code": "after_cancel",
        "detail": "",
        "service_id": "svc-S1",
    }
    suspended = [
        {**record, "line_no": 1, "usage_class": "data", "quantity": 3 * 10**6},
        {**record, "line_no": 2, "usage_class": "data", "quantity": 2 * 10**6},
        {**record, "line_no": 3, "usage_class": "sms", "quantity": 4},
        {**record, "line_no": 4, "usage_class": "data", "quantity": 9, "reason_code": "no_rate"},
    ]

    found = _audit(market, suspended)

    assert sorted(found["traffic_after_cancel"]) == [("svc-S1", 10), ("svc-S1", minor)]
    _, rows = market.audit(suspended)
    assert any(row["evidence"].endswith(said) for row in rows["traffic_after_cancel"])


def test_states_of_the_carrier_are_held_against_ours_of_that_day() -> None:
    market = _market()
    for sim in ("S1", "S2", "S3", "S5"):
        market.sim(sim)
        market.expect(sim, "FEE", 240)
        _earns(market, sim, 350)
    market.sim("S4", states=[("2025-01-01", "active"), ("2026-03-10", "cancelled")])
    market.carrier_has("S1", "active")
    market.carrier_has("S2", "cancelled")  # S3 is in no list
    market.carrier_has("S4", "active", last_seen="2026-03-30")
    market.carrier_has("S99", "active")
    market.carrier_has("S98", "cancelled")
    # only the newest line of the month counts, and only of the month
    market.carrier_has("S5", "suspended", on="2026-03-02")
    market.carrier_has("S5", "active", on="2026-03-30")
    market.carrier_has("S5", "cancelled", on="2026-04-01")

    assert _audit(market) == {
        "carrier_inactive": [("svc-S2", 350)],
        "carrier_missing": [("svc-S3", 240)],
        "carrier_active": [("svc-S4", 240)],
        "carrier_unknown": [(iccid("S99"), None)],
    }
    _, found = market.audit()
    assert found["carrier_active"][0]["evidence"] == (
        "carrier has it as Active on 2026-03-31, last seen on 2026-03-30; we have it as cancelled"
    )


def test_a_state_is_compared_on_the_day_it_is_told_for() -> None:
    market = _market()
    market.sim("S1", states=[("2025-01-01", "active"), ("2026-03-20", "cancelled")])
    market.expect("S1", "FEE", 140)
    _earns(market, "S1", 200)
    market.carrier_has("S1", "active", on="2026-03-19")

    assert _audit(market) == {}
    market.carrier_has("S1", "active", on="2026-03-20")
    assert set(_audit(market)) == {"carrier_active"}


def test_traffic_of_a_sim_that_its_carrier_has_switched_off() -> None:
    market = _market()
    market.sim("S1")
    market.expect("S1", "DATA", 12, quantity=6 * 10**6, kind="usage")
    _earns(market, "S1", 350)
    market.carrier_has("S1", "suspended", last_seen="2026-02-27")

    assert _audit(market)["traffic_not_active"] == [("svc-S1", 12)]


def test_what_the_carrier_billed_prices_what_it_has_active() -> None:
    market = _market()
    market.sim("S1", states=[("2025-01-01", "active"), ("2026-01-20", "cancelled")])
    market.carrier_has("S1", "active")
    market.carrier_has("S99", "active")
    market.bill("S1", "FEE", "2.55")
    market.bill(None, "FEE", "1.10", uid=iccid("S99"))

    found = _audit(market)

    assert found["carrier_active"] == [("svc-S1", 255)]
    assert found["carrier_unknown"] == [(iccid("S99"), 110)]
