"""The engine against the rules worked out one row at a time."""

from __future__ import annotations

import pytest

from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.schemas import TABLES
from iotbill_pipelines.operations.scenarios import run_tables
from tests.depth import seeds

from .business import make_business, to_tables
from .oracle import Oracle

KEY = ("usage_period", "level", "account_id", "service_id", "charge_id")


@pytest.mark.parametrize("seed", seeds(0, 4))
def test_engine_equals_oracle(seed: int) -> None:
    business = make_business(seed)
    oracle = Oracle(business)
    oracle.rate()
    oracle.settle("2026-03")
    expected = oracle.outcome
    got = run_tables(to_tables(business), [Month(2026, 3)])

    for name, table in got.items():
        assert table.schema.types == TABLES[name].arrow_schema.types, name

    suspended = {
        (row["file_key"], row["line_no"]): row["reason_code"]
        for row in got["suspended_record"].to_pylist()
    }
    assert suspended == expected.suspended
    duplicates = {(r["file_key"], r["line_no"]) for r in got["duplicate_record"].to_pylist()}
    assert duplicates == expected.duplicates
    rated = {
        (r["file_key"], r["line_no"], r["level"]): (r["price_id"], r["rated_quantity"], r["pooled"])
        for r in got["rated_usage"].to_pylist()
    }
    assert rated == {
        key: (row["price_id"], row["rated"], row["pooled"]) for key, row in expected.rated.items()
    }

    charges = {}
    for row in got["desired_charge"].to_pylist():
        key = tuple(row.pop(name) for name in KEY)
        del row["linear"], row["price_ids"]
        window, month = (row.pop("window_start"), row.pop("window_end")), Month.parse(key[0])
        if row["kind"] == "transition":  # the days of its transitions
            assert month.start <= window[0] < window[1] <= month.end
        else:
            assert window == (month.start, month.end)
        charges[key] = row
    assert charges == expected.charges

    pools = {
        (row["level"], row["pool_id"]): {
            name: row[name]
            for name in ("available", "used", "overage_quantity", "amount_minor", "services")
        }
        for row in got["pool_settlement"].to_pylist()
    }
    assert pools == expected.pools
    parts = {
        (row["level"], row["pool_id"], row["account_id"], row["service_id"]): row["amount_minor"]
        for row in got["pool_part"].to_pylist()
    }
    assert parts == expected.parts

    components: dict[tuple[str, ...], dict[str, int]] = {}
    for row in got["charge_component"].to_pylist():
        if row["kind"] in ("usage", "minimum", "maximum"):
            mine = components.setdefault(tuple(row[name] for name in KEY), {})
            mine[row["component_id"]] = row["amount_minor"]
    assert components == expected.components
    assert any(row["amount_minor"] for row in charges.values())


@pytest.mark.parametrize("seed", seeds(100, 1))
def test_components_add_up_to_their_charge(seed: int) -> None:
    got = run_tables(to_tables(make_business(seed)), [Month(2026, 3)])
    sums: dict[tuple[str, ...], int] = {}
    for row in got["charge_component"].to_pylist():
        key = tuple(row[name] for name in KEY)
        sums[key] = sums.get(key, 0) + row["amount_minor"]
    charges = {
        tuple(row[name] for name in KEY): row["amount_minor"]
        for row in got["desired_charge"].to_pylist()
    }
    assert sums == charges
    for pool in got["pool_settlement"].to_pylist():
        parts = [
            p
            for p in got["pool_part"].to_pylist()
            if p["pool_id"] == pool["pool_id"] and p["level"] == pool["level"]
        ]
        assert sum(p["amount_minor"] for p in parts) == pool["amount_minor"]
        assert sum(p["overage_quantity"] for p in parts) == pool["overage_quantity"]
