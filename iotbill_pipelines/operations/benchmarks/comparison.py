"""The usage side of the benchmark's month without the product: in pandas, and row by row.

Both read the raw files, leave out what cannot be used and what is there twice, find the owner of
each SIM at the time, and price what customers and the carrier's contract say about data and SMS.
Recurring fees, suspense, invoices and tracing are not done: what they save counts for them.
The row-by-row one is exact; pandas computes with binary fractions and is compared to the euro.
"""

from __future__ import annotations

import csv
from bisect import bisect_right
from collections import defaultdict
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from iotbill_pipelines.operations.benchmarks import market
from iotbill_pipelines.operations.benchmarks.market import Size

_ZONES = {"Zone 1": "eu", "Zone 2": "near", "Zone 3": "americas"}
_PAYG = {"eu": "0.060", "near": "0.140", "americas": "0.110"}
_CARRIER = {"Zone 1": "0.0065", "Zone 2": "0.0310", "Zone 3": "0.0260"}
_SMS = {
    "payg": {"eu": "0.055"}, "iot_data": {}, "fleet": {}, "day_and_night": {}, "special": {},
}  # fmt: skip
_SMS_ELSE = {
    "payg": "0.090", "iot_data": "0.070", "fleet": "0.060", "day_and_night": "0.05",
    "special": "0.04",
}  # fmt: skip
_TIERS = (("10", "0.080"), ("50", "0.045"), (None, "0.021"))
_CENT = Decimal("0.01")
_MB = Decimal(1_000_000)
_BERLIN = ZoneInfo("Europe/Berlin")
_CUT = datetime(2026, 10, 16, tzinfo=_BERLIN)
_START = datetime(2026, 10, 1, tzinfo=_BERLIN)
_END = datetime(2026, 11, 1, tzinfo=_BERLIN)


def row_by_row(files: list[Path], size: Size) -> dict[str, str]:
    """Price the month with a loop over the rows and exact decimals; return the totals."""
    owners, offers, accounts = _owners(size)
    seen: set[tuple[str, ...]] = set()
    retail: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    carrier: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    data: dict[str, int] = defaultdict(int)
    for path in files:
        with path.open(newline="") as lines:
            for row in csv.DictReader(lines):
                try:
                    moment = datetime.fromisoformat(row["timestamp"])
                except ValueError:
                    continue
                sms = row["serviceTypeName"] == "SMS"
                quantity = int(row["count"] if sms else row["volumeTotal"])
                if quantity < 0 or not row["iccid"]:
                    continue
                key = (
                    row["iccid"], row["serviceTypeName"], row["timestamp"],
                    row["visitedOperatorName"], row["ratType"],
                )  # fmt: skip
                if key in seen:
                    continue
                seen.add(key)
                owned = owners.get(row["iccid"][:-1])
                if owned is None:
                    continue
                service = owned[1][bisect_right(owned[0], moment) - 1]
                local = moment.replace(tzinfo=UTC).astimezone(_BERLIN)
                zone = row["rateZoneName"]
                if _START <= local < _END:
                    _carrier_row(carrier, service, zone, quantity, sms=sms)
                    _retail_row(retail, data, offers[service], service, local, zone, quantity, sms)
    _tiers(retail, data, offers)
    total = sum(
        (min(amount, Decimal(40)) if kind == "payg" else amount).quantize(_CENT, ROUND_HALF_UP)
        for (kind, _), amount in retail.items()
    ) + _overage(data, offers, accounts)
    cost = sum(amount.quantize(_CENT, ROUND_HALF_UP) for amount in carrier.values())
    return {"retail usage": f"{total} EUR", "carrier usage": f"{cost} EUR"}


def _carrier_row(
    carrier: dict[tuple[str, str], Decimal], service: str, zone: str, quantity: int, *, sms: bool
) -> None:
    if sms:
        carrier["sms", service] += Decimal("0.018") * quantity
    else:
        blocks = -(-quantity // 1000) * 1000
        carrier["data", service] += Decimal(_CARRIER[zone]) * blocks / _MB


def _retail_row(
    retail: dict[tuple[str, str], Decimal],
    data: dict[str, int],
    offer: str,
    service: str,
    local: datetime,
    zone: str,
    quantity: int,
    sms: bool,
) -> None:
    place = _ZONES[zone]
    if sms:
        rate = _SMS[offer].get(place, _SMS_ELSE[offer])
        retail["sms", service] += Decimal(rate) * quantity
    elif offer == "payg":
        rate = "0.052" if place == "eu" and local >= _CUT else _PAYG[place]
        retail["payg", service] += Decimal(rate) * (-(-quantity // 1000) * 1000) / _MB
    elif offer == "day_and_night":
        night = local.hour >= 20 or local.hour < 6
        rate = ("0.030" if night else "0.052") if place == "eu" else "0.100" if night else "0.200"
        retail["data", service] += Decimal(rate) * quantity / _MB
    elif offer == "special":
        retail["data", service] += Decimal("0.041") * quantity / _MB
    else:
        data[service] += quantity


def _tiers(
    retail: dict[tuple[str, str], Decimal], data: dict[str, int], offers: dict[str, str]
) -> None:
    for service, volume_bytes in data.items():
        if offers[service] == "iot_data":
            retail["data", service] = _graduated(Decimal(volume_bytes) / _MB, _TIERS)


def _graduated(quantity: Decimal, tiers: tuple[tuple[str | None, str], ...]) -> Decimal:
    amount, lower = Decimal(0), Decimal(0)
    for bound, rate in tiers:
        upper = quantity if bound is None else min(quantity, Decimal(bound))
        if upper > lower:
            amount += (upper - lower) * Decimal(rate)
            lower = upper
    return amount


def _overage(data: dict[str, int], offers: dict[str, str], accounts: dict[str, str]) -> Decimal:
    used: dict[str, int] = defaultdict(int)
    brought: dict[str, int] = defaultdict(int)
    for service, offer in offers.items():
        if offer == "fleet":
            used[accounts[service]] += data.get(service, 0)
            brought[accounts[service]] += 15_000_000
    total = Decimal(0)
    for account, volume_bytes in used.items():
        above = Decimal(max(0, volume_bytes - brought[account])) / _MB
        amount = _graduated(above, (("500", "0.019"), (None, "0.014")))
        total += amount.quantize(_CENT, ROUND_HALF_UP)
    return total


def _owners(
    size: Size,
) -> tuple[dict[str, tuple[list[datetime], list[str]]], dict[str, str], dict[str, str]]:
    """Services by ICCID and time, their retail offers and accounts."""
    tables = market.reference_tables(size)
    owners: dict[str, tuple[list[datetime], list[str]]] = {}
    for row in tables["service_identifier"].to_pylist():
        since, services = owners.setdefault(row["uid_value"], ([], []))
        since.append(row["valid_from"])
        services.append(row["service_id"])
    offers, accounts = {}, {}
    for row in tables["service_offer"].to_pylist():
        if row["level"] == "retail":
            offers[row["service_id"]] = row["offer_id"]
            accounts[row["service_id"]] = row["payer_account_id"]
    return owners, offers, accounts


def in_pandas(files: list[Path], size: Size) -> dict[str, str]:
    """Price the month with data frames and binary fractions; return the totals to the euro."""
    import numpy as np  # noqa: PLC0415 - only this needs it
    import pandas as pd  # noqa: PLC0415

    wanted = ["timestamp", "serviceTypeName", "iccid", "visitedOperatorName", "rateZoneName",
              "count", "volumeTotal", "ratType"]  # fmt: skip
    rows = pd.concat(pd.read_csv(path, usecols=wanted, dtype={"iccid": "string"}) for path in files)
    rows["moment"] = pd.to_datetime(rows["timestamp"], errors="coerce")
    volume, count = (pd.to_numeric(rows[name]) for name in ("volumeTotal", "count"))
    rows["quantity"] = volume.where(rows["serviceTypeName"] == "DATA", count)
    rows = rows[rows["moment"].notna() & rows["iccid"].notna() & (rows["quantity"] >= 0)]
    rows = rows.drop_duplicates(
        ["iccid", "serviceTypeName", "timestamp", "visitedOperatorName", "ratType"]
    )
    tables = market.reference_tables(size)
    owners = tables["service_identifier"].to_pandas()[["uid_value", "service_id", "valid_from"]]
    offers = tables["service_offer"].to_pandas()
    offers = offers[offers["level"] == "retail"][["service_id", "offer_id", "payer_account_id"]]
    owners["uid_value"] = owners["uid_value"].astype("string")
    owners["valid_from"] = owners["valid_from"].astype("datetime64[ns]")
    rows["moment"] = rows["moment"].astype("datetime64[ns]")
    rows["iccid"] = rows["iccid"].str[:-1]
    rows = pd.merge_asof(
        rows.sort_values("moment"), owners.sort_values("valid_from"),
        left_on="moment", right_on="valid_from", left_by="iccid", right_by="uid_value",
    )  # fmt: skip
    rows = rows[rows["service_id"].notna()].merge(offers, on="service_id")
    local = rows["moment"].dt.tz_localize("UTC").dt.tz_convert("Europe/Berlin")
    inside = (local >= _START) & (local < _END)
    rows, local = rows[inside], local[inside]
    sms, zone = rows["serviceTypeName"] == "SMS", rows["rateZoneName"]
    blocks = np.ceil(rows["quantity"] / 1000) * 1000
    cost = np.where(sms, 0.018 * rows["quantity"], zone.map(_CARRIER).astype(float) * blocks / 1e6)
    carrier = rows.assign(cost=cost, sms=sms).groupby(["service_id", "sms"])["cost"].sum()
    place, offer = zone.map(_ZONES), rows["offer_id"]
    night = (local.dt.hour >= 20) | (local.dt.hour < 6)
    payg = place.map(_PAYG).astype(float).where(~((place == "eu") & (local >= _CUT)), 0.052)
    rate = np.select(
        [
            sms & (offer == "payg") & (place == "eu"), sms, offer == "payg",
            (offer == "day_and_night") & (place == "eu"), offer == "day_and_night",
            offer == "special",
        ],
        [
            0.055, offer.map(_SMS_ELSE).astype(float), payg,
            np.where(night, 0.030, 0.052), np.where(night, 0.100, 0.200), 0.041,
        ],
        0.0,
    )  # fmt: skip
    units = np.where(
        sms, rows["quantity"], np.where(offer == "payg", blocks, rows["quantity"]) / 1e6
    )
    rows = rows.assign(amount=rate * units, sms=sms)
    amounts = rows.groupby(["service_id", "offer_id", "sms"])["amount"].sum().reset_index()
    capped = (amounts["offer_id"] == "payg") & ~amounts["sms"]
    total = float(amounts["amount"].where(~capped, amounts["amount"].clip(upper=40)).round(2).sum())
    volume = rows[~rows["sms"]].groupby(["service_id", "offer_id"])["quantity"].sum().reset_index()
    tiers = volume[volume["offer_id"] == "iot_data"]["quantity"] / 1e6
    total += float(_graduated_frame(tiers, [(10, 0.080), (50, 0.045)], 0.021).round(2).sum())
    fleet = offers[offers["offer_id"] == "fleet"].merge(volume, on="service_id", how="left")
    pools = (
        fleet.fillna({"quantity": 0}).groupby("payer_account_id")["quantity"].agg(["sum", "size"])
    )
    above = (pools["sum"] / 1e6 - 15 * pools["size"]).clip(lower=0)
    total += float(_graduated_frame(above, [(500, 0.019)], 0.014).round(2).sum())
    return {
        "retail usage": f"about {total:.0f} EUR",
        "carrier usage": f"about {float(carrier.round(2).sum()):.0f} EUR",
    }


def _graduated_frame(quantity: Any, bounds: list[tuple[int, float]], last: float) -> Any:
    amount, lower = quantity * 0.0, 0
    for upper, rate in bounds:
        amount = amount + (quantity.clip(upper=upper) - lower).clip(lower=0) * rate
        lower = upper
    return amount + (quantity - lower).clip(lower=0) * last
