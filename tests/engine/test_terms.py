"""The typed catalog: what it compiles to, and what it says about contradictions."""

from __future__ import annotations

from copy import deepcopy
from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from iotbill_pipelines.engine.schemas import CATALOG
from iotbill_pipelines.engine.terms import Catalog, TermsError, compile_catalog

GOOD: dict[str, Any] = {
    "usage_classes": {"data": "byte", "sms": "count"},
    "states": [
        {"state": "active", "core": "active", "to": ["ended"]},
        {"state": "ended", "core": "cancelled"},
    ],
    "initial_states": ["active"],
    "products": [
        {
            "id": "data",
            "name": "Data",
            "charge_type": "usage",
            "usage_class": "data",
            "gl_class": "u",
        },
        {"id": "sms", "name": "SMS", "charge_type": "usage", "usage_class": "sms", "gl_class": "u"},
        {"id": "fee", "name": "Fee", "charge_type": "recurring", "gl_class": "r"},
        {"id": "over", "name": "Over", "charge_type": "overage", "gl_class": "o"},
    ],
    "zone_sets": [
        {"id": "z", "rules": [{"zone": "home", "mcc": ["262"]}, {"zone": "rest", "any": True}]}
    ],
    "share_plans": [
        {
            "id": "pool",
            "usage_class": "data",
            "currency": "EUR",
            "per": "MB",
            "overage": {
                "id": "excess",
                "product": "over",
                "kind": "overage",
                "per": "MB",
                "prices": [{"rate": "0.10"}],
            },
        }
    ],
    "offers": [
        {
            "id": "basic",
            "name": "Basic",
            "currency": "EUR",
            "zone_set": "z",
            "share_plan": "pool",
            "contribution": "1.5",
            "charges": [
                {
                    "id": "mb",
                    "product": "data",
                    "kind": "usage",
                    "per": "MB",
                    "pooled": True,
                    "allowance": "0.5",
                    "minimum": "1.00",
                    "prices": [
                        {"rate": "0.123456789012", "zone": "home"},
                        {
                            "model": "graduated",
                            "tiers": [{"up_to": "1.5", "rate": "1"}, {"rate": "2", "flat": "3"}],
                        },
                    ],
                },
                {
                    "id": "text",
                    "product": "sms",
                    "kind": "usage",
                    "per": "100 count",
                    "prices": [{"model": "package", "rate": "5"}],
                },
                {"id": "monthly", "product": "fee", "kind": "recurring", "prices": [{"rate": "2"}]},
                {
                    "id": "ending",
                    "product": "fee",
                    "kind": "transition",
                    "transition": ["active", "ended"],
                    "prices": [{"rate": "5"}],
                },
            ],
        }
    ],
}


def changed(path: str, value: object) -> dict[str, Any]:
    """Return the good catalog with one key set (``...`` deletes it)."""
    terms = deepcopy(GOOD)
    here: Any = terms
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    for part in parents:
        here = here[part]
    if value is ...:
        del here[last]
    elif isinstance(last, int) and last == len(here):
        here.append(value)
    else:
        here[last] = value
    return terms


def test_terms_become_rows_in_class_units() -> None:
    tables = compile_catalog(Catalog.model_validate(GOOD))
    assert set(tables) == set(CATALOG)
    for name, table in tables.items():
        assert table.schema.equals(CATALOG[name].arrow_schema), name
    charges = {row["charge_id"]: row for row in tables["charge"].to_pylist()}
    assert charges["mb"]["unit_size"] == 1_000_000
    assert charges["mb"]["allowance_quantity"] == 500_000
    assert charges["mb"]["minimum_minor"] == 100
    assert charges["text"]["unit_size"] == 100
    assert charges["excess"]["usage_class"] == "data"
    assert tables["share_participant"].to_pylist() == [
        {"offer_id": "basic", "bucket_id": "pool", "contribution_quantity": 1_500_000}
    ]
    prices = [row["price_id"] for row in tables["price"].to_pylist()]
    assert prices == ["excess#1", "mb#1", "mb#2", "text#1", "monthly#1", "ending#1"]
    tiers = [row for row in tables["price_tier"].to_pylist() if row["price_id"].startswith("mb")]
    assert [
        (r["lower_quantity"], r["upper_quantity"], r["rate_e12"], r["flat_e12"]) for r in tiers
    ] == [
        (0, None, Decimal(123456789012), Decimal(0)),
        (0, 1_500_000, Decimal(10**12), Decimal(0)),
        (1_500_000, None, Decimal(2 * 10**12), Decimal(3 * 10**12)),
    ]
    members = [(r["specificity"], r["mcc"], r["zone"]) for r in tables["zone_member"].to_pylist()]
    assert members == [(2, "262", "home"), (0, None, "rest")]
    transitions = {(r["from_state"], r["to_state"]) for r in tables["state_transition"].to_pylist()}
    assert transitions == {("NEW", "active"), ("active", "ended")}


CHARGE, MORE = "offers.0.charges.0", "offers.0.charges.4"
BLOCKS = {"charge": "text", "each": 10}


def combined(**terms: object) -> dict[str, object]:
    """A charge that counts blocks of messages, and what is wrong with it."""
    plain = {"id": "blocks", "product": "fee", "kind": "combined", "measures": [BLOCKS]}
    return {**plain, "prices": [{"rate": "5"}], **terms}


@pytest.mark.parametrize(
    ("path", "value", "where", "rule"),
    [
        ("products.4", GOOD["products"][0], "products", "'data' is defined twice"),
        ("offers.1", GOOD["offers"][0], "offers", "'basic' is defined twice"),
        ("share_plans.1", GOOD["share_plans"][0], "share_plans", "'pool' is defined twice"),
        ("zone_sets.1", GOOD["zone_sets"][0], "zone_sets", "'z' is defined twice"),
        ("states.2", GOOD["states"][0], "states", "'active' is defined twice"),
        ("states.0.to", ["gone"], "states.0.to", "unknown state 'gone'; known: active, ended"),
        ("initial_states", ["new"], "initial_states.0", "unknown state 'new'"),
        (
            "zone_sets.0.rules.2",
            {"zone": "x", "mcc": ["262"]},
            "zone_sets.0.rules",
            "'262*' is defined twice",
        ),
        ("share_plans.0.per", "MiB/s", "share_plans.0.per", "unknown unit 'MiB/s'; known: B, GB"),
        ("share_plans.0.usage_class", "fax", "share_plans.0.usage_class", "unknown usage class"),
        (
            "share_plans.0.overage.kind",
            "usage",
            "share_plans.0.overage.kind",
            "a share plan's charge has kind overage",
        ),
        ("share_plans.0.fixed", "0.0000001", "share_plans.0.fixed", "must be a whole number"),
        (
            "share_plans.0.currency",
            "USD",
            "offers.0.currency",
            "EUR differs from share plan pool's",
        ),
        ("offers.0.zone_set", "zz", "offers.0.zone_set", "unknown zone set 'zz'; known: z"),
        ("offers.0.share_plan", "pond", "offers.0.share_plan", "unknown share plan 'pond'"),
        ("offers.0.share_plan", ..., f"{CHARGE}.pooled", "the offer names no share_plan"),
        ("offers.0.contribution", "0.0000005", "offers.0.contribution", "0.5"),
        (f"{CHARGE}.product", "date", f"{CHARGE}.product", "unknown product 'date'"),
        (f"{CHARGE}.product", "fee", f"{CHARGE}.product", "product 'fee' names no usage class"),
        (f"{CHARGE}.product", "sms", f"{CHARGE}.pooled", "share plan 'pool' shares data, not sms"),
        (f"{CHARGE}.per", "0 MB", f"{CHARGE}.per", "unknown unit '0 MB'"),
        (f"{CHARGE}.allowance", "0.0000001", f"{CHARGE}.allowance", "must be a whole number"),
        (f"{CHARGE}.minimum", "1.005", f"{CHARGE}.minimum", "1.005 EUR is not a whole number"),
        (f"{CHARGE}.id", "text", "offers.0.charges.1.id", "charge 'text' is defined twice"),
        (f"{CHARGE}.prices.1.id", "mb#1", f"{CHARGE}.prices.1.id", "price 'mb#1' is defined twice"),
        (f"{CHARGE}.prices.0.zone", "moon", f"{CHARGE}.prices.0.zone", "unknown zone 'moon'"),
        (f"{CHARGE}.prices.0.state", "asleep", f"{CHARGE}.prices.0.state", "unknown state"),
        (f"{CHARGE}.prices.1.zone", "rest", f"{CHARGE}.prices", "no unconditional price"),
        (
            f"{CHARGE}.prices.1.tiers.0.up_to",
            "0.0000001",
            f"{CHARGE}.prices.1.tiers.0.up_to",
            "0.1",
        ),
        (f"{CHARGE}.transition", ["active", "ended"], f"{CHARGE}.transition", "and no other"),
        ("offers.0.charges.3.transition", ..., "offers.0.charges.3.transition", "and no other"),
        (
            "offers.0.charges.3.transition",
            ["active", "purged"],
            "offers.0.charges.3.transition",
            "unknown state 'purged'; known: NEW, active, ended",
        ),
        (
            "offers.0.charges.4",
            {**GOOD["offers"][0]["charges"][1], "id": "other"},
            "offers.0.charges.4.product",
            "charges 'text' and 'other' both price sms",
        ),
        (f"{CHARGE}.measures", [BLOCKS], f"{CHARGE}.measures", "a combined charge, and no other"),
        ("offers.0.charges.4", combined(measures=[]), f"{MORE}.measures", "and no other, has"),
        ("offers.0.charges.4", combined(per="thousand"), f"{MORE}.per", "write per: count"),
        ("offers.0.charges.4", combined(allowance=1), f"{MORE}.allowance", "that are measured"),
        (
            "offers.0.charges.4",
            combined(measures=[{"charge": "monthly", "each": 1}]),
            f"{MORE}.measures.0.charge",
            "unknown usage charge of the offer 'monthly'; known: mb, text",
        ),
        (
            "offers.0.charges.4",
            combined(measures=[{"charge": "mb", "each": 1}]),
            f"{MORE}.measures.0.charge",
            "priced here",
        ),
        (
            "offers.0.charges.4",
            combined(cycle={"every": "week"}),
            f"{MORE}.measures.0.charge",
            "give both charges the same cycle",
        ),
        (
            "offers.0.charges.4",
            combined(prices=[{"rate": 1, "zone": "home"}, {"rate": 1}]),
            f"{MORE}.prices.0",
            "are for what is measured",
        ),
        (
            "offers.0.charges.1",
            {
                **GOOD["offers"][0]["charges"][1],
                "allowance_rollover": 1,
                "allowance_proration": "days",
            },
            "offers.0.charges.1.allowance_proration",
            "do not last beyond their window",
        ),
    ],
)
def test_contradictions_name_their_key(path: str, value: object, where: str, rule: str) -> None:
    catalog = Catalog.model_validate(changed(path, value))
    with pytest.raises(TermsError) as caught:
        compile_catalog(catalog)
    assert ".".join(map(str, caught.value.path)) == where
    assert rule in caught.value.rule
    assert str(caught.value) == f"{where}: {caught.value.rule}"


PRICE = f"{CHARGE}.prices.1"


@pytest.mark.parametrize(
    ("path", "value", "rule"),
    [
        (f"{PRICE}.rate", "1", "give one of rate, percent, markup and tiers"),
        (f"{PRICE}.tiers", [], "give one of rate, percent, markup and tiers"),
        (f"{PRICE}.tiers", [{"up_to": 1, "rate": 1}], "only the last tier is open"),
        (f"{PRICE}.tiers", [{"rate": 1}, {"rate": 1}], "only the last tier is open"),
        (f"{PRICE}.tiers", [{"up_to": 2}, {"up_to": 1}, {"rate": 1}], "tiers must rise"),
        (f"{PRICE}.model", "stairstep", "write flat, not rate"),
        (PRICE, {"model": "stairstep", "rate": "1"}, "a stairstep needs tiers"),
        (f"{PRICE}.valid_to", "1970-01-01", "valid_to must be after valid_from"),
        (f"{PRICE}.model", "vloume", "Input should be 'flat', 'graduated'"),
        (PRICE, {"rate": 0.1}, "0.1 is a binary fraction; write money and rates in quotes"),
        (PRICE, {"rate": "0.1234567890123"}, "no more than 12 decimal places"),
        (f"{CHARGE}.increment", {"initial": 0}, "greater than or equal to 1"),
        (f"{CHARGE}.prices", [], "at least 1 item"),
        (f"{CHARGE}.measures", [{"charge": "text"}], "give either each or steps"),
        (f"{CHARGE}.measures", [{"each": 1}], "measure either a charge or services"),
        (f"{CHARGE}.measures", [{**BLOCKS, "each": None, "steps": [2, 1]}], "steps must rise"),
        (f"{CHARGE}.minimun", "1", "Extra inputs are not permitted"),
    ],
)
def test_wrong_values_are_refused_before_compiling(path: str, value: object, rule: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Catalog.model_validate(changed(path, value))
    assert rule in str(caught.value)
