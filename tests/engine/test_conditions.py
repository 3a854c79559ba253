"""The condition language: what it means, what it refuses, and that rating by it has no order."""

from __future__ import annotations

from copy import deepcopy
from datetime import date
from random import Random
from typing import Any

import pytest

from iotbill_pipelines.compute.duckdb_engine import DuckDbCompute
from iotbill_pipelines.config.scenarios import ScenarioCatalog
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.conditions import ConditionError, Kind, parse, trait_sql
from iotbill_pipelines.engine.windows import Window, band
from iotbill_pipelines.operations.scenarios import run_tables
from tests.depth import seeds

from .business import make_business, place, to_tables
from .oracle import Business

KINDS: dict[str, Kind] = {"firmware": "text", "features": "list", "size": "number"}
RECORD = """
select 'iot' as apn, cast(null as varchar) as rat, 5 as quantity, '262' as mcc,
  '{"firmware": "7.1", "features": "beta trial", "size": "2.50"}' as attributes
"""


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ('apn = "iot"', True),
        ('apn != "iot"', False),
        ('rat != "2G"', True),  # unknown is different from everything
        ('rat = "2G" or rat is missing', True),
        ('not rat is known and mcc in ("208", "262")', True),
        ('mcc not in ("208", "262")', False),
        ("quantity >= 5 and not quantity > 5", True),
        ('firmware starts "7." and features has "trial"', True),
        ('features has "tria"', False),
        ('firmware starts "."', False),
        ("size = 2.5", True),
        ("size < 2.5", False),
        ('apn = "x" and apn = "iot" or apn = "iot"', True),
        ('apn = "x" and (apn = "iot" or apn = "iot")', False),
    ],
)
def test_meaning(condition: str, holds: bool) -> None:
    with DuckDbCompute() as compute:
        traits = f"select {trait_sql([condition, 'rat is known'], KINDS)} as t from ({RECORD}) as r"
        assert compute.fetch(traits)["t"].to_pylist() == [f"{int(holds)}0"]


@pytest.mark.parametrize(
    ("condition", "says"),
    [
        ("", "the condition is empty"),
        ('colour = "red"', "unknown field 'colour'"),
        ('apn > "a"', "field apn is a text and can be compared by =, !=, in, starts"),
        ('quantity = "5"', "compare it with a number"),
        ("apn = iot", "compare it with a text in quotes"),
        ('apn = "a" apn = "b"', "comes after the end"),
        ('(apn = "a"', "expected ')'"),
        ('apn = "a" ; drop table usage_record', "cannot read"),
        ('apn like "a"', "not by 'like'"),
    ],
)
def test_refused_when_loaded(condition: str, says: str) -> None:
    with pytest.raises(ConditionError) as caught:
        parse(condition, KINDS)
    assert says in str(caught.value)


def test_a_night_belongs_to_the_day_it_begins_on() -> None:
    night = Window(frozenset({"fri", "holiday"}), 22 * 60, 6 * 60, frozenset({"12-25"}))
    friday = date(2026, 3, 13)
    told = [
        (friday, 21 * 60 + 59),
        (friday, 22 * 60),
        (date(2026, 3, 14), 5 * 60 + 59),
        (date(2026, 3, 14), 6 * 60),
        (friday, 60),
        (date(2026, 12, 26), 60),  # Christmas is a Friday and a holiday in 2026
    ]
    assert "".join(band([night], day, minute) for day, minute in told) == "011001"


def conditional_business(seed: int) -> Business:
    """Windows, conditions, surcharges, and sessions that connect, over the usual messy usage."""
    business = make_business(seed, 300)
    prices: list[dict[str, Any]] = [
        {"id": "x.peak", "rate": "0.004", "time": "day", "connect_fee": "0.01"},
        {"id": "x.iot", "when": 'apn = "iot"', "model": "graduated",
         "tiers": [{"up_to": 20, "rate": "0.003"}, {"rate": "0.002"}]},
        {"id": "x.record", "when": "quantity < 100", "rate": "0.5", "counted": "record",
         "rounding": {"mode": "up", "digits": 3}},
        {"id": "x.any", "rate": "0.001"},
    ]  # fmt: skip
    catalog = ScenarioCatalog.model_validate(
        {
            "time_windows": [{"id": "day", "days": ["mon", "tue"], "starts": "08:00",
                              "ends": "20:00"}],
            "offers": [
                {"id": f"offer{n}", "name": "x", "currency": "EUR",
                 "level": "vendor" if n == 4 else "retail",
                 "charges": [
                     {"id": f"c{n}.{product}", "product": product, "kind": "usage", "per": per,
                      "allowance_events": 2, "surcharges": [
                          {"id": "roaming", "when": 'mcc != "262"', "unit": "0.0001",
                           "percent": "12.5"}],
                      "prices": [{**p, "id": f"{p['id']}.{n}.{product}"} for p in prices]}
                     for product, per in (("data", "KB"), ("sms", "count"))]}
                for n in range(5)
            ],
        }
    ).completed()  # fmt: skip
    for row in business.usage:
        row["apn"] = "iot" if row["quantity"] % 2 else "web"
    business.catalog = catalog
    return business


def charged(business: Business) -> list[tuple[object, ...]]:
    rows = run_tables(to_tables(business), [Month(2026, 3)])["desired_charge"].to_pylist()
    names = ("level", "account_id", "service_id", "charge_id", "records", "quantity")
    return sorted((*(row[name] for name in names), row["amount_minor"]) for row in rows)


@pytest.mark.parametrize("seed", seeds(300, 1))
def test_order_and_files_never_matter_to_conditions(seed: int) -> None:
    business = conditional_business(seed)
    again = deepcopy(business)
    again.usage = place(Random(seed + 1), again.usage)
    first = charged(business)
    assert any(row[-1] for row in first)
    assert charged(again) == first


def test_a_window_at_equal_prices_changes_nothing() -> None:
    """Cutting durations at a border that no price cares for costs the same."""

    def calls(windows: list[dict[str, str]], prices: list[dict[str, str]]) -> object:
        business = make_business(310, 200)
        offers: list[dict[str, Any]] = [
            {"id": f"offer{n}", "name": "x", "currency": "EUR",
             "level": "vendor" if n == 4 else "retail",
             "charges": [{"id": f"c{n}", "product": "voice", "kind": "usage", "per": "minute",
                          "increment": {"initial": 60, "subsequent": 30}, "prices": prices}]}
            for n in range(5)
        ]  # fmt: skip
        business.catalog = ScenarioCatalog.model_validate(
            {"time_windows": windows, "offers": [
                {**o, "charges": [{**c, "prices": [{**p, "id": f"{c['id']}.{k}"}
                 for k, p in enumerate(c["prices"])]} for c in o["charges"]]} for o in offers]}
        ).completed()  # fmt: skip
        for row in business.usage:
            row["usage_class"] = "voice"
        return charged(business)

    window = {"id": "w", "starts": "07:15", "ends": "07:45"}
    assert calls([window], [{"rate": "0.7", "time": "w"}, {"rate": "0.7"}]) == calls(
        [], [{"rate": "0.7"}]
    )
