"""A small business made by chance: accounts in several zones, plans of every kind, messy usage."""

# ruff: noqa: DTZ001 - times are UTC or local and naive, as in the tables

from __future__ import annotations

import hashlib
from datetime import date, datetime, timedelta
from random import Random
from typing import Any

import pyarrow as pa

from iotbill_pipelines.config.scenarios import ScenarioCatalog, ScenarioTables
from iotbill_pipelines.engine.schemas import REFERENCE, USAGE_RECORD
from iotbill_pipelines.engine.terms import Catalog, compile_catalog

from .oracle import Business, Row

FIRST, LAST = datetime(2026, 2, 26), datetime(2026, 4, 4)
NETWORKS = [("262", "01"), ("262", "02"), ("208", "01"), ("310", "410"), (None, None)]
ZONES = ["Europe/Berlin", "America/New_York", "UTC", "Asia/Kathmandu"]


def rate(chance: Random, digits: int = 4) -> str:
    return f"0.{chance.randrange(1, 10**digits):0{digits}d}"


def tiers(chance: Random, *, steps: bool = False) -> list[Row]:
    bounds = sorted(chance.sample(range(1, 40), chance.randrange(1, 4)))
    result: list[Row] = []
    for bound in [*bounds, None]:
        tier: Row = {"flat": rate(chance, 2)} if steps else {"rate": rate(chance)}
        if not steps and chance.random() < 0.4:
            tier["flat"] = rate(chance, 2)
        if bound is not None:
            tier["up_to"] = bound
        result.append(tier)
    return result


def price(chance: Random, **more: Any) -> Row:
    model = chance.choice(
        "flat flat graduated volume package stairstep threshold_excess threshold_all".split()
    )
    if model in ("flat", "package"):
        return {"model": model, "rate": rate(chance), **more}
    return {"model": model, "tiers": tiers(chance, steps=model == "stairstep"), **more}


def prices(chance: Random, zones: list[str], name: str) -> list[Row]:
    """Zones, versions that change inside the month, and the fallback."""
    result = []
    cut = date(2026, 3, chance.randrange(2, 30))
    for zone in chance.sample(zones, chance.randrange(0, len(zones) + 1)):
        if chance.random() < 0.5:
            result.append(price(chance, zone=zone, valid_to=cut, id=f"{name}.{zone}.old"))
            result.append(price(chance, zone=zone, valid_from=cut, id=f"{name}.{zone}.new"))
        else:
            result.append(price(chance, zone=zone, id=f"{name}.{zone}"))
    if chance.random() < 0.5:
        result.append(price(chance, valid_to=cut, id=f"{name}.any.old"))
        result.append(price(chance, valid_from=cut, id=f"{name}.any.new"))
    elif chance.random() < 0.1:
        result.append(price(chance, valid_from=cut, id=f"{name}.any.late"))
    else:
        result.append(price(chance, id=f"{name}.any"))
    return result


def usage_charge(chance: Random, name: str, product: str, zones: list[str], **more: Any) -> Row:
    point = chance.choice(["record", "record", "session", "service_period"])
    initial, subsequent = chance.choice([(1, 1), (1000, 1000), (60, 6), (1, 512), (777, 10)])
    charge: Row = {
        "id": name,
        "product": product,
        "kind": "usage",
        "per": chance.choice(["KB", "3 KB", "MB"] if product == "data" else ["count", "2 count"]),
        "increment": {"initial": initial, "subsequent": subsequent, "point": point}
        if product == "data"
        else {},
        "allowance": chance.choice([0, 0, 2, 15]),
        "prices": prices(chance, zones, name),
        **more,
    }
    if chance.random() < 0.2:
        charge["minimum"] = rate(chance, 2)
    if chance.random() < 0.2:
        charge["maximum"] = "1.50"
    return charge


def recurring(chance: Random, name: str) -> Row:
    cut = date(2026, 3, chance.randrange(2, 30))
    listed: list[Row] = [{"rate": rate(chance, 3), "id": f"{name}.active"}]
    if chance.random() < 0.5:
        listed = [
            {"rate": rate(chance, 3), "id": f"{name}.old", "valid_to": cut},
            {"rate": rate(chance, 3), "id": f"{name}.new", "valid_from": cut},
        ]
    if chance.random() < 0.7:
        listed.append({"rate": rate(chance, 3), "state": "suspended", "id": f"{name}.suspended"})
    if chance.random() < 0.2:
        listed.append({"rate": rate(chance, 3), "state": "preactive", "id": f"{name}.pre"})
    return {
        "id": name,
        "product": "subscription",
        "kind": "recurring",
        "billing": chance.choice(["advance", "arrears"]),
        "basis": chance.choice(
            ["actual", "actual_30", "strict_30_360", "none", "full_on_activation"]
        ),
        "prices": listed,
    }


def make_catalog(chance: Random) -> Catalog:
    currency = chance.choice(["EUR", "EUR", "JPY", "KWD"])
    digits = {"EUR": 2, "JPY": 0, "KWD": 3}[currency]
    zone_set = {
        "id": "zones",
        "rules": [
            {"zone": "partner", "plmn": ["26201"]},
            {"zone": "germany", "mcc": ["262"]},
            {"zone": "alps", "region": ["Alps"]},
        ]
        + ([{"zone": "world", "any": True}] if chance.random() < 0.5 else []),
    }
    zones = [rule["zone"] for rule in zone_set["rules"]]
    plans = [
        {
            "id": f"plan{number}",
            "usage_class": "data",
            "currency": currency,
            "growth": chance.choice(["variable", "variable", "fixed"]),
            "fixed": chance.choice([0, 20, 60]),
            "per": "KB",
            "share_level": chance.choice(["account", "parent"]),
            "join_policy": chance.choice(["full", "prorate_join"]),
            "attribution": chance.choice(
                ["proportional_excess", "proportional_usage", "equal", "chronological", "owner"]
            ),
            "overage": {
                "id": f"over{number}",
                "product": "overage",
                "kind": "overage",
                "per": "KB",
                "increment": chance.choice([{}, {"initial": 1000, "subsequent": 1000}]),
                "prices": [price(chance, id=f"over{number}.any")],
            },
        }
        for number in range(2)
    ]
    offers: list[Row] = []
    for number in range(5):
        pooled = number >= 2
        level = "vendor" if number == 4 else "retail"
        name = f"offer{number}"
        charges = [
            usage_charge(chance, f"{name}.data", "data", zones, pooled=pooled),
            recurring(chance, f"{name}.fee"),
            {
                "id": f"{name}.go",
                "product": "activation",
                "kind": "transition",
                "transition": chance.choice([["preactive", "active"], ["suspended", "active"]]),
                "prices": [{"rate": rate(chance, 2)}],
            },
            {
                "id": f"{name}.end",
                "product": "activation",
                "kind": "transition",
                "transition": ["active", "cancelled"],
                "prices": [{"rate": rate(chance, 3)}],
            },
        ]
        if chance.random() < 0.8:
            charges.append(usage_charge(chance, f"{name}.sms", "sms", zones))
        offer: Row = {
            "id": name,
            "name": name,
            "level": level,
            "currency": currency,
            "zone_set": "zones",
            "charges": charges,
        }
        if pooled:
            offer |= {
                "share_plan": f"plan{number % 2}",
                "contribution": chance.choice([0, 10, 25]),
            }
        offers.append(offer)
    for each in offers:  # least and greatest amounts must be whole minor units
        for charge in each["charges"]:
            for bound in ("minimum", "maximum"):
                if bound in charge and digits == 0:
                    charge[bound] = "1"
    return ScenarioCatalog.model_validate(
        {"zone_sets": [zone_set], "share_plans": plans, "offers": offers}
    ).completed()


def make_reference(chance: Random) -> dict[str, list[Row]]:
    rows: dict[str, list[Row]] = {name: [] for name in REFERENCE}

    def account(name: str, kind: str, zone: str, parent: str | None = None) -> None:
        rows["account"].append(
            {
                "account_id": name,
                "name": name,
                "kind": kind,
                "parent_account_id": parent,
                "entity_id": "E1",
                "billing_zone": zone,
                "currency": "EUR",
                "customer_group": None,
            }
        )

    account("G", "customer", "UTC")
    for number in range(4):
        account(
            f"C{number}", "customer", chance.choice(ZONES), chance.choice(["G", "G", None, "C0"])
        )
    rows["account"][1]["parent_account_id"] = None
    account("V", "vendor", "UTC")
    for number in range(14):
        name = f"S{number:02d}"
        owner = f"C{chance.randrange(4)}"
        rows["service"].append({"service_id": name, "account_id": owner, "label": None})
        service_states(chance, rows, name)
        service_offers(chance, rows, name, owner)
        since = chance.choice([datetime(2026, 1, 1), datetime(2026, 3, 3, 5, 7)])
        rows["service_identifier"].append(
            {
                "uid_type": "iccid",
                "uid_value": f"sim{number % 12}",
                "service_id": name,
                "valid_from": since + timedelta(minutes=number),
                "valid_to": chance.choice([None, None, datetime(2026, 3, 28, 11)]),
            }
        )
    return rows


def service_states(chance: Random, rows: dict[str, list[Row]], name: str) -> None:
    at, state = datetime(2026, 1, 3), "preactive"
    if chance.random() < 0.7:
        state = "active"
    following = {
        "preactive": ["active"],
        "active": ["suspended"] * 9 + ["cancelled"],
        "suspended": ["active"] * 9 + ["cancelled"],
        "cancelled": ["purged"],
        "purged": [],
    }
    while at < LAST:
        rows["service_state"].append({"service_id": name, "changed_at": at, "state": state})
        if not following[state]:
            return
        state = chance.choice(following[state])
        at += timedelta(hours=chance.choice([1, 7, 30, 24 * 9, 24 * 20, 24 * 40, 24 * 90]))
        if state == "active" and chance.random() < 0.3:
            at = at.replace(day=1) if at.day > 27 else at


def service_offers(chance: Random, rows: dict[str, list[Row]], name: str, owner: str) -> None:
    def use(level: str, payer: str, offer: str, start: date, end: date | None) -> None:
        rows["service_offer"].append(
            {
                "service_id": name,
                "level": level,
                "payer_account_id": payer,
                "offer_id": offer,
                "valid_from": start,
                "valid_to": end,
            }
        )

    first = f"offer{chance.randrange(4)}"
    start = chance.choice([date(2026, 1, 1), date(2026, 3, 2)])
    change = date(2026, 3, chance.randrange(3, 31))
    match chance.randrange(4):
        case 0:  # an open row that a later one ends
            use("retail", owner, first, start, None)
            use("retail", owner, f"offer{chance.randrange(4)}", change, None)
        case 1:  # a gap
            use("retail", owner, first, start, change)
            use("retail", owner, first, change + timedelta(days=2), None)
        case 2:
            use("retail", owner, first, start, change)
            use("retail", owner, f"offer{chance.randrange(4)}", change, None)
        case _:
            use("retail", owner, first, start, None)
    if chance.random() < 0.7:
        use("vendor", "V", "offer4", date(2026, 1, 1), None)


def make_usage(chance: Random, count: int) -> list[Row]:
    rows: list[Row] = []
    for number in range(count):
        start = FIRST + (LAST - FIRST) * chance.random()
        start = start.replace(microsecond=0)
        if chance.random() < 0.2:
            start = start.replace(minute=0, second=0)
        kind = chance.choice(["data", "data", "data", "sms"])
        mcc, mnc = chance.choice(NETWORKS)
        row: Row = dict.fromkeys(USAGE_RECORD.column_names)
        row |= {
            "feed_id": chance.choice(["a", "b"]),
            "dedup_key": f"k{number}",
            "usage_month": f"{start:%Y-%m}",
            "event_start": start,
            "event_text": str(start),
            "uid_type": "iccid",
            "uid_value": f"sim{chance.randrange(13)}",
            "usage_class": kind,
            "quantity": chance.choice([0, 1, 60, 61, 999, 1000, 4321, 12_345, 30_000])
            if kind == "data"
            else chance.randrange(0, 9),
            "mcc": mcc,
            "mnc": mnc,
            "region": chance.choice([None, "Alps", "Sea"]),
            "session_id": chance.choice([None, f"s{chance.randrange(30)}"]),
        }
        versions = [row]
        if chance.random() < 0.1:
            versions.append(dict(row))
        if chance.random() < 0.06:
            versions.append({**row, "quantity": row["quantity"] + 1})
        if chance.random() < 0.02:
            versions.append({**row, "uid_value": "sim0"})
        rows += versions
    for row in rows:
        content = (row["event_start"], row["uid_value"], row["usage_class"], row["quantity"])
        row["content_hash"] = hashlib.md5(str(content).encode(), usedforsecurity=False).hexdigest()
    return place(chance, rows)


def place(chance: Random, rows: list[Row]) -> list[Row]:
    """Spread records over files by chance, in any order."""
    rows = [dict(row) for row in rows]
    chance.shuffle(rows)
    files = [chance.getrandbits(60) for _ in range(chance.randrange(1, 6))]
    for number, row in enumerate(rows):
        row["file_key"], row["line_no"] = chance.choice(files), number + 1
    return rows


def make_business(seed: int, records: int = 400) -> Business:
    chance = Random(seed)
    return Business(make_catalog(chance), make_reference(chance), make_usage(chance, records))


def to_tables(business: Business) -> ScenarioTables:
    return ScenarioTables(
        catalog=compile_catalog(business.catalog),
        reference={
            name: pa.Table.from_pylist(business.reference[name], schema=table.arrow_schema)
            for name, table in REFERENCE.items()
        },
        usage=pa.Table.from_pylist(business.usage, schema=USAGE_RECORD.arrow_schema),
    )
