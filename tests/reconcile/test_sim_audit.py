"""SIM states against invoices, contracts and traffic: every finding priced, none netted."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pyarrow as pa

from iotbill_pipelines.compute.duckdb_engine import DuckDbCompute
from iotbill_pipelines.engine.assurance import audit_sims
from iotbill_pipelines.engine.schemas import REFERENCE, SUSPENDED_RECORD

from .market import PERIOD, Market, iccid


def _earns(market: Market, sim: str, minor: int) -> None:
    row = {**market.rows["desired_charge"][-1]} if market.rows.get("desired_charge") else {}
    market.expect(sim, "LINE", minor)
    market.rows["desired_charge"][-1] |= {"level": "retail", "account_id": "customer"}
    assert row is not market.rows["desired_charge"][-1]


def _audit(market: Market, suspended: list[dict[str, Any]] | None = None) -> dict[str, list[Any]]:
    tables = market.tables()
    services = {row["service_id"] for row in market.rows.get("service_identifier", [])}
    with DuckDbCompute(threads=1) as compute:
        for name, table in tables.items():
            compute.load(name, table)
        for schema, rows in (
            (
                REFERENCE["service"],
                [{"service_id": s, "account_id": "customer"} for s in sorted(services)],
            ),
            (SUSPENDED_RECORD, suspended or []),
        ):
            columns = pa.schema([pa.field(c.name, c.arrow) for c in schema.columns])
            compute.load(schema.name, pa.Table.from_pylist(rows, schema=columns))
        audit_sims(compute, PERIOD)
        found: dict[str, list[Any]] = {}
        for row in compute.fetch("select * from sim_audit order by finding, uid_value").to_pylist():
            found.setdefault(row["finding"], []).append(
                (row["service_id"] or row["uid_value"], row["amount_minor"])
            )
        return found


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


def test_traffic_after_cancellation_has_the_carriers_flat_price_or_none() -> None:
    market = _market()
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

    assert sorted(found["traffic_after_cancel"], key=str) == [("svc-S1", 10), ("svc-S1", None)]
