"""Laws that hold whatever the business: order, chunks, cuts, scale."""

# ruff: noqa: DTZ001 - times are UTC and naive, as in the tables

from __future__ import annotations

from copy import deepcopy
from datetime import date, datetime
from decimal import Decimal
from random import Random

import pyarrow as pa
import pytest

from iotbill_pipelines.compute.duckdb_engine import DuckDbCompute
from iotbill_pipelines.engine import flow
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.terms import Catalog, Price, compile_catalog
from iotbill_pipelines.operations.scenarios import run_tables
from tests.depth import seeds
from tests.together import Company, run_together

from .business import Business, make_business, place, to_tables

MARCH = Month(2026, 3)
MONEY = (
    "usage_period",
    "billing_period",
    "level",
    "account_id",
    "service_id",
    "charge_id",
    "records",
    "quantity",
    "currency",
    "amount_minor",
)
Charges = list[tuple[object, ...]]


def charged(*businesses: Business) -> list[Charges]:
    """What each of the businesses charges for March, from one run of them all."""
    ran = run_together([Company(to_tables(business), (MARCH,)) for business in businesses])
    return [
        sorted(tuple(row.values()) for row in got["desired_charge"].select(list(MONEY)).to_pylist())
        for got in ran
    ]


@pytest.mark.parametrize("seed", seeds(20, 1))
def test_order_and_files_never_change_a_cent(seed: int) -> None:
    business = make_business(seed, 250)
    again = deepcopy(business)
    again.usage = place(Random(seed + 1), again.usage)
    before, after = charged(business, again)
    assert before and after == before


@pytest.mark.parametrize("seed", seeds(30, 1))
def test_a_copy_of_every_record_changes_nothing(seed: int) -> None:
    business = make_business(seed, 150)
    again = deepcopy(business)
    again.usage += [{**row, "file_key": 1, "line_no": n} for n, row in enumerate(again.usage, 1)]
    before, after = charged(business, again)
    assert before and after == before


def cut(price: Price, day: date, name: str) -> list[Price]:
    """The same price as two versions that meet on ``day``."""
    if not price.valid_from < day < (price.valid_to or date.max):
        return [price]
    return [
        price.model_copy(update={"id": f"{name}.1", "valid_to": day}),
        price.model_copy(update={"id": f"{name}.2", "valid_from": day}),
    ]


def cut_prices(catalog: Catalog, day: date) -> Catalog:
    offers = [
        offer.model_copy(
            update={
                "charges": [
                    charge.model_copy(
                        update={
                            "prices": [
                                version
                                for number, price in enumerate(charge.prices)
                                for version in cut(price, day, f"{charge.id}.{number}")
                            ]
                        }
                    )
                    for charge in offer.charges
                ]
            }
        )
        for offer in catalog.offers
    ]
    return catalog.model_copy(update={"offers": offers})


@pytest.mark.parametrize("seed", seeds(40, 1))
@pytest.mark.parametrize("day", [date(2026, 3, 14), date(2026, 3, 31)])
def test_cutting_prices_in_two_at_equal_rates_changes_nothing(seed: int, day: date) -> None:
    """Recurring segments on every basis, and tiers that count on over the cut."""
    business = make_business(seed, 200)
    again = deepcopy(business)
    again.catalog = cut_prices(again.catalog, day)
    before, after = charged(business, again)
    assert before and after == before


@pytest.mark.parametrize("seed", seeds(50, 1))
def test_cutting_offers_and_identifiers_in_two_changes_nothing(seed: int) -> None:
    business = make_business(seed, 200)
    again = deepcopy(business)
    day = date(2026, 3, 17)
    for table, at in (("service_offer", day), ("service_identifier", datetime(2026, 3, 17, 5))):
        rows = []
        for row in again.reference[table]:
            if row["valid_from"] < at and (row["valid_to"] is None or row["valid_to"] > at):
                key = "service_id" if table == "service_offer" else "uid_value"
                later = [
                    other["valid_from"]
                    for other in again.reference[table]
                    if other[key] == row[key]
                    and other.get("level") == row.get("level")
                    and row["valid_from"] < other["valid_from"] <= at
                ]
                if not later:  # else the row has already been ended by a later one
                    rows += [{**row, "valid_to": at}, {**row, "valid_from": at}]
                    continue
            rows.append(row)
        again.reference[table] = rows
    before, after = charged(business, again)
    assert before and after == before


def test_linear_prices_scale_linearly() -> None:
    """A hundred times the usage at a flat price of 3 costs a hundred times as much."""
    business = make_business(60, 200)
    flat = [Price(id="flat", rate=Decimal(3))]
    charges = [
        charge.model_copy(
            update={
                "prices": [p.model_copy(update={"id": f"{charge.id}.flat"}) for p in flat],
                "increment": type(charge.increment)(),
                "allowance": Decimal(0),
                "minimum": None,
                "maximum": None,
                "pooled": False,
                "per": "B" if charge.product == "data" else "count",
            }
        )
        for charge in business.catalog.offers[0].charges
        if charge.kind == "usage"
    ]
    offers = [
        offer.model_copy(
            update={
                "charges": [
                    c.model_copy(
                        update={
                            "id": f"{offer.id}.{c.id}",
                            "prices": [
                                p.model_copy(update={"id": f"{offer.id}.{p.id}"}) for p in c.prices
                            ],
                        }
                    )
                    for c in charges
                ]
            }
        )
        for offer in business.catalog.offers
    ]
    business.catalog = business.catalog.model_copy(update={"offers": offers})
    more = deepcopy(business)
    for row in more.usage:
        row["quantity"] *= 100
        row["content_hash"] += "x"
    once, hundredfold = ({row[:6]: row[9] for row in each} for each in charged(business, more))
    assert once
    assert hundredfold == {key: 100 * amount for key, amount in once.items()}


@pytest.mark.parametrize("seed", seeds(65, 1))
def test_a_reversal_of_every_record_leaves_nothing_of_it(seed: int) -> None:
    """Tiers, allowances, increments, pools: what is taken back costs what it cost, exactly."""
    business = make_business(seed, 200)
    none, both = deepcopy(business), deepcopy(business)
    none.usage = []
    both.usage += [
        {
            **row,
            "quantity": -row["quantity"],
            "dedup_key": f"{row['dedup_key']} back",
            "content_hash": f"{row['content_hash']}b",
            "file_key": row["file_key"] + 1000,
        }
        for row in business.usage
    ]
    charges, taken_back, nothing = charged(business, both, none)
    assert any(row[9] for row in charges if row[6])
    assert [row for row in taken_back if row[9]] == [row for row in nothing if row[9]]


def test_chunks_rated_apart_equal_all_at_once() -> None:
    """Records of different keys can be rated in any split; only keys must stay together."""
    business = make_business(70, 300)
    tables = to_tables(business)
    whole = run_tables(tables, [MARCH])["rated_usage"]
    parts = []
    keys = sorted({(row["feed_id"], row["dedup_key"]) for row in business.usage})
    for half in (set(keys[::2]), set(keys[1::2])):
        chunk = deepcopy(business)
        chunk.usage = [r for r in chunk.usage if (r["feed_id"], r["dedup_key"]) in half]
        parts.append(run_tables(to_tables(chunk), [])["rated_usage"])
    order = [("file_key", "ascending"), ("line_no", "ascending"), ("level", "ascending")]
    assert pa.concat_tables(parts).sort_by(order).equals(whole.sort_by(order))


def test_records_are_conserved_in_number_and_quantity() -> None:
    business = make_business(80)
    got = run_tables(to_tables(business), [])
    outcome = got["usage_outcome"].to_pylist()
    for file_key in {row["file_key"] for row in business.usage}:
        mine = [row for row in business.usage if row["file_key"] == file_key]
        told = [row for row in outcome if row["file_key"] == file_key]
        assert sum(row["records"] for row in told) == len(mine)
        assert sum(row["quantity"] for row in told) == sum(row["quantity"] for row in mine)
    kept = {(r["file_key"], r["line_no"]) for r in got["rated_usage"].to_pylist()}
    assert sum(row["records"] for row in outcome if row["outcome"] == "kept") == len(kept)


def test_no_usage_at_all_is_a_period_like_any_other() -> None:
    business = make_business(90, 1)
    business.usage = []
    got = run_tables(to_tables(business), [MARCH])
    assert {row["kind"] for row in got["desired_charge"].to_pylist()} <= {
        "recurring",
        "transition",
        "overage",
    }
    tables = to_tables(business)
    with DuckDbCompute() as compute:
        for name, table in (tables.catalog | tables.reference).items():
            compute.load(name, table)
        compute.load("usage_record", tables.usage)
        flow.rate_month(compute)
        assert compute.fetch("rated_usage").num_rows == 0
        assert compute.fetch("usage_outcome").num_rows == 0


def test_the_planner_changes_nothing() -> None:
    """Scenarios run without DuckDB's optimizer; the close runs with it."""
    tables = to_tables(make_business(95, 250))
    without = run_tables(tables, [MARCH])
    with DuckDbCompute() as compute:
        for name, table in (compile_catalog(make_business(95, 1).catalog)).items():
            compute.load(name, table)
        for name, table in tables.reference.items():
            compute.load(name, table)
        compute.load("rated_usage", without["rated_usage"])
        flow.settle_period(compute, MARCH)
        for name in ("desired_charge", "charge_component", "pool_part", "pool_settlement"):
            order = [(key, "ascending") for key in without[name].column_names[:8]]
            got = compute.fetch(name).sort_by(order)
            assert got.to_pylist() == without[name].sort_by(order).to_pylist(), name
