"""Cycles: windows tile time, records settle once, cuts at equal prices change nothing."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from iotbill_pipelines.compute.duckdb_engine import DuckDbCompute
from iotbill_pipelines.config.documents import Document
from iotbill_pipelines.config.scenarios import Scenario
from iotbill_pipelines.engine import flow
from iotbill_pipelines.engine.calendars import Cycle, Month, ProrationBasis, clamp_day, prorate
from iotbill_pipelines.engine.cycles import first_day, open_since
from iotbill_pipelines.engine.terms import CycleTerms
from iotbill_pipelines.operations.scenarios import run_tables

CYCLES: list[dict[str, Any]] = [
    {},
    {"every": "month", "day": 19},
    {"every": "month", "day": 31},
    {"every": "week"},
    {"every": "week", "weekday": "sat"},
    {"every": "quarter", "month": 2, "day": 15},
    {"every": "half_year", "month": 3, "day": 31},
    {"every": "year", "month": 4},
]


def scenario(**parts: Any) -> Scenario:
    data = {"scenario": "case", "source": "case", "expected": {}, **parts}
    read = Scenario.model_validate(data)
    read._document = Document(Path("case.yaml"), data)
    return read


def settled(**parts: Any) -> dict[str, list[dict[str, Any]]]:
    read = scenario(**parts)
    return {
        name: table.to_pylist() for name, table in run_tables(read.tables(), read.months).items()
    }


@pytest.mark.parametrize("terms", CYCLES, ids=str)
@pytest.mark.parametrize("bill_day", [1, 15, 31])
def test_windows_tile_time_and_each_settles_in_one_month(
    terms: dict[str, Any], bill_day: int
) -> None:
    cycle = CycleTerms.model_validate(terms).cycle
    assert Cycle.parse(str(cycle)) == cycle
    first, end = date(2027, 1, 1), date(2029, 3, 1)
    windows = list(cycle.windows(first, end, bill_day))
    assert windows[0][0] <= first < windows[0][1] and windows[-1][1] >= end
    assert all(one[1] == other[0] for one, other in pairwise(windows))
    for start, stop in windows:
        months = list(cycle.by_month(start, stop, bill_day))
        assert len(months) == cycle.months
        if months:
            day = bill_day if cycle.day is None else cycle.day
            assert (months[0][0], months[-1][1]) == (start, stop)
            assert start == clamp_day(Month.of(start), day), "an anchor never drifts"
        period = Month.of(stop - timedelta(days=1))
        assert first_day([str(cycle)], [bill_day], period) <= start


def test_a_record_settles_in_one_window_of_its_charge() -> None:
    chance = Random(5)
    names = [f"c{number}" for number in range(len(CYCLES))]
    charges = [
        {
            "id": name,
            "product": f"class{number}",
            "kind": "usage",
            "prices": [{"rate": "0.01"}],
            **({"cycle": terms} if terms else {}),
        }
        for number, (name, terms) in enumerate(zip(names, CYCLES, strict=True))
    ]
    days = [date(2026, 3, 25) + timedelta(days=chance.randrange(300)) for _ in range(40)]
    found = settled(
        periods=[str(Month(2026, 3) + number) for number in range(25)],
        accounts={"C1": {"bill_day": 23}},
        catalog={
            "usage_classes": {f"class{number}": "count" for number in range(len(CYCLES))},
            "offers": [{"id": "deal", "name": "Deal", "currency": "EUR", "charges": charges}],
        },
        services={"S": {"offer": "deal"}},
        usage=[
            {"service": "S", "at": str(day), "class": f"class{number}", "quantity": 100}
            for day in days
            for number in range(len(CYCLES))
        ],
    )
    for name in names:
        rows = [row for row in found["desired_charge"] if row["charge_id"] == name]
        assert sum(row["records"] for row in rows) == len(days)
        assert sum(row["amount_minor"] for row in rows) == 100 * len(days)
    for row in found["usage_aggregate"]:
        last = row["window_end"] - timedelta(days=1)
        assert row["usage_period"] == str(Month.of(last))


BASES = ["actual", "actual_30", "strict_30_360", "by_month_first", "none"]


def _recurring(name: str, cut: date | None, terms: dict[str, Any], basis: str) -> dict[str, Any]:
    prices: list[dict[str, Any]] = [{"rate": "97.31"}]
    if cut is not None:
        prices = [{"rate": "97.31", "valid_to": cut}, {"rate": "97.31", "valid_from": cut}]
    return {
        "id": name,
        "product": "subscription",
        "kind": "recurring",
        "basis": basis,
        "prices": prices,
        **({"cycle": terms} if terms else {}),
    }


def test_a_cut_at_equal_prices_changes_nothing() -> None:
    chance = Random(7)
    charges, pairs = [], []
    for terms in CYCLES:
        for basis in BASES:
            if terms.get("every") == "week" and basis not in ("actual", "none"):
                continue
            name = f"c{len(pairs)}"
            cut = date(2026, 3, 1) + timedelta(days=chance.randrange(120))
            charges += [
                _recurring(f"{name}whole", None, terms, basis),
                _recurring(f"{name}cut", cut, terms, basis),
            ]
            pairs.append(name)
    found = settled(
        periods=["2026-04", "2026-05", "2026-08", "2027-03"],
        catalog={"offers": [{"id": "d", "name": "D", "currency": "EUR", "charges": charges}]},
        services={
            "S1": {"offer": "d", "states": [["2026-03-11", "active"]]},
            "S2": {"offer": "d", "states": [["2025-03-11", "active"], ["2026-05-08", "cancelled"]]},
        },
    )
    amounts: dict[str, list[tuple[str, str, int]]] = {}
    for row in found["desired_charge"]:
        key = (row["usage_period"], row["service_id"], row["amount_minor"])
        amounts.setdefault(row["charge_id"], []).append(key)
    for name in pairs:
        whole, cut_up = (sorted(amounts[f"{name}{kind}"]) for kind in ("whole", "cut"))
        assert whole == cut_up and whole


def test_twelve_months_are_a_year_by_months_first() -> None:
    """Of a price that every part of a month divides, a year is its months, to the cent."""
    monthly = Decimal(377580) / 100
    charges = [
        {
            **_recurring("month", None, {}, "actual"),
            "prices": [{"rate": monthly}],
        },
        {
            **_recurring("year", None, {"every": "year"}, "by_month_first"),
            "prices": [{"rate": 12 * monthly}],
        },
    ]
    found = settled(
        periods=[str(Month(2028, number)) for number in range(1, 13)],
        catalog={"offers": [{"id": "d", "name": "D", "currency": "EUR", "charges": charges}]},
        services={
            f"S{day}": {"offer": "d", "states": [[f"2028-02-{day:02d}", "active"]]}
            for day in (1, 9, 29)
        }
        | {
            "gone": {
                "offer": "d",
                "states": [["2028-01-13", "active"], ["2028-07-19", "cancelled"]],
            }
        },
    )
    sums: dict[tuple[str, str], int] = {}
    for row in found["desired_charge"]:
        key = (row["service_id"], row["charge_id"])
        sums[key] = sums.get(key, 0) + row["amount_minor"]
    for name in ("S1", "S9", "S29", "gone"):
        assert sums[name, "month"] == sums[name, "year"]


@pytest.mark.parametrize("basis", [ProrationBasis(name) for name in BASES])
def test_a_whole_quarter_costs_its_price(basis: ProrationBasis) -> None:
    start, end = date(2026, 2, 15), date(2026, 5, 15)
    days, whole = prorate(start, end, start, end, basis)
    assert (days, days) == (whole, whole) or basis is ProrationBasis.ACTUAL_30
    assert days == whole or Decimal(days) / whole > Decimal("0.98")


def test_a_date_of_first_use_stays_once_its_period_is_closed() -> None:
    """The late record is billed beyond the threshold; fee and activation keep their date."""
    offer = {
        "id": "plan",
        "name": "Plan",
        "currency": "EUR",
        "first_use": {
            "waiting": "preactive",
            "active": "active",
            "thresholds": [{"usage_class": "data", "quantity": 1, "per": "MB"}],
        },
        "charges": [
            {"id": "mb", "product": "data", "kind": "usage", "per": "MB",
             "prices": [{"rate": "1.00"}]},
            {"id": "fee", "product": "subscription", "kind": "recurring",
             "prices": [{"rate": "31.00"}]},
        ],
    }  # fmt: skip
    known = [
        {"service": "S", "at": "2026-03-05", "quantity": "0.6 MB"},
        {"service": "S", "at": "2026-03-20", "quantity": "0.6 MB"},
    ]
    late = [{"service": "S", "at": "2026-03-04", "quantity": "0.9 MB", "file": "late"}]
    parts: dict[str, Any] = {
        "period": "2026-03",
        "catalog": {"offers": [offer]},
        "services": {"S": {"offer": "plan", "states": [["2026-03-02", "preactive"]]}},
    }

    def settle(usage: list[dict[str, Any]], closed: pa.Table | None) -> tuple[Any, pa.Table]:
        tables = scenario(**parts, usage=usage).tables()
        with DuckDbCompute(expected_rows=0) as compute:
            for name, table in (tables.catalog | tables.reference).items():
                compute.load(name, table)
            compute.load("usage_record", tables.usage)
            flow.rate_month(compute)
            flow.settle_period(compute, Month(2026, 3), closed_activations=closed)
            rows = compute.fetch("desired_charge").to_pylist()
            return (
                {row["charge_id"]: row["amount_minor"] for row in rows},
                compute.fetch("service_activation"),
            )

    before, activation = settle(known, None)
    assert activation["active_date"].to_pylist() == [date(2026, 3, 20)]
    assert before == {"mb": 20, "fee": 1200}
    moved, _ = settle([*known, *late], None)
    assert moved == {"mb": 110, "fee": 2700}
    kept, again = settle([*known, *late], activation)
    assert kept == {"mb": 110, "fee": 1200}
    assert again == activation


def test_windows_that_go_on_come_to_their_share_by_the_end_of_the_month() -> None:
    """From 19 March: 13 of 31 days of the fee, use beyond the pool of two; nothing of what ended
    on 18 March, nothing that is paid in advance, nothing of a payer by the calendar."""
    carrier = {
        "id": "carrier",
        "name": "Carrier",
        "level": "vendor",
        "currency": "EUR",
        "share_plan": "pool",
        "contribution": 10,
        "charges": [
            {"id": "fee", "product": "subscription", "kind": "recurring",
             "prices": [{"rate": "3.10"}]},
            {"id": "ahead", "product": "subscription", "kind": "recurring", "billing": "advance",
             "prices": [{"rate": "9.00"}]},
            {"id": "used", "product": "data", "kind": "usage", "per": "MB", "pooled": True,
             "prices": [{"rate": 0}]},
        ],
    }  # fmt: skip
    retail = {
        "id": "retail",
        "name": "Retail",
        "currency": "EUR",
        "charges": [
            {"id": "mb", "product": "data", "kind": "usage", "per": "MB", "prices": [{"rate": 1}]}
        ],
    }
    overage = {"id": "over", "product": "overage", "kind": "overage", "per": "MB",
               "prices": [{"rate": "0.50"}]}  # fmt: skip
    plan = {"id": "pool", "usage_class": "data", "currency": "EUR", "overage": overage}
    tables = scenario(
        period="2026-03",
        accounts={"C1": {}, "V": {"kind": "vendor", "bill_day": 19}},
        catalog={"offers": [carrier, retail], "share_plans": [plan]},
        services={name: {"offers": ["carrier", "retail"]} for name in ("S1", "S2")},
        usage=[
            {"service": "S1", "at": "2026-03-18", "quantity": "500 MB"},
            {"service": "S1", "at": "2026-03-19", "quantity": "15 MB"},
            {"service": "S2", "at": "2026-03-31", "quantity": "9 MB"},
            {"service": "S2", "at": "2026-04-01", "quantity": "700 MB"},
        ],
    ).tables()
    with DuckDbCompute(expected_rows=0) as compute:
        for name, table in (tables.catalog | tables.reference).items():
            compute.load(name, table)
        rated = []
        for month in ("2026-03", "2026-04"):
            compute.load(
                "usage_record", tables.usage.filter(pc.equal(tables.usage["usage_month"], month))
            )
            flow.rate_month(compute)
            rated.append(compute.fetch("rated_usage"))
        compute.load("rated_usage", pa.concat_tables(rated))
        flow.settle_open(compute, Month(2026, 3))
        rows = compute.fetch("open_charge").to_pylist()
    assert {row["level"] for row in rows} == {"vendor"}
    assert {(row["window_start"], row["window_end"]) for row in rows} == {
        (date(2026, 3, 19), date(2026, 4, 1))
    }
    sums: dict[str, int] = {}
    for row in rows:
        sums[row["charge_id"]] = sums.get(row["charge_id"], 0) + row["amount_minor"]
    assert sums == {"fee": 2 * 130, "used": 0, "over": 2_00}
    assert open_since({"month"}, {19, None}, Month(2026, 3)) == date(2026, 3, 19)
    assert open_since({"month"}, {1, None}, Month(2026, 3)) is None
