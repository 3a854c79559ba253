"""The first customer's real business: Helium recordings priced per uplink, month by month."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from iotbill_pipelines.compute.duckdb_engine import DuckDbCompute
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.flow import settle_period
from iotbill_pipelines.operations.sample.lorawan import write_lorawan_inventory

from .oracle import cents
from .pipeline import rate_files

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "examples" / "helium"
SINCE = date(2021, 1, 1)
PARIS = ZoneInfo("Europe/Paris")
TIERS = ((1000, Fraction("0.0012")), (5000, Fraction("0.0009")), (None, Fraction("0.0006")))


def uplinks_by_month(register: Path, recordings: list[Path]) -> Counter[tuple[str, str]]:
    """Count unique uplinks by (registered device, month in Paris), the earliest copy of each."""
    lines = [line.split(";") for line in register.read_text().splitlines()[1:]]
    names = {eui.upper(): name for name, eui, *_ in lines}
    first: dict[tuple[object, ...], tuple[int, str]] = {}
    for recording in recordings:
        for line in gzip.decompress(recording.read_bytes()).splitlines():
            record = json.loads(line)
            if record.get("fcnt") is None:
                continue
            payload = json.dumps((record.get("decoded") or {}).get("payload"))
            key = record["dev_eui"], record.get("devaddr"), record["fcnt"], payload
            heard = record["reported_at"], names.get(record["dev_eui"].upper(), "")
            first[key] = min(first.get(key, heard), heard)
    counts: Counter[tuple[str, str]] = Counter()
    for reported_at, name in first.values():
        moment = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=reported_at)
        if name:
            counts[name, f"{moment.astimezone(PARIS):%Y-%m}"] += 1
    return counts


def graduated(quantity: int) -> int:
    """Price uplinks slice by slice, in cents."""
    total, lower = Fraction(0), 0
    for upper, rate in TIERS:
        if quantity > lower:
            total += (quantity - lower if upper is None else min(quantity, upper) - lower) * rate
        lower = upper or lower
    return cents(total)


def test_the_months_of_the_recordings_are_billed_per_uplink(shared: Path, tmp_path: Path) -> None:
    folder = shared / "feeds" / "lorawan"
    register = folder / "campusiot_helium_endpoints.csv"
    recordings = sorted(folder.glob("campusiot_helium_*.ndjson.gz"))
    accounts, services, states, contracts = write_lorawan_inventory(register, tmp_path, SINCE)
    files = {
        "helium_endpoints": [register],
        "helium_uplinks": recordings,
        "accounts": [accounts],
        "services": [services],
        "states": [states],
        "contracts": [contracts],
    }
    expected = uplinks_by_month(register, recordings)
    with DuckDbCompute() as compute:
        ingested = rate_files(compute, CONFIGS, files, datetime.fromisoformat("2024-01-01"))
        assert ingested.faults == []
        months = sorted({month for _, month in expected})
        assert len(months) > 4
        billed: dict[tuple[str, str], tuple[int, int]] = {}
        fees: Counter[str] = Counter()
        for month in months:
            settle_period(compute, Month.parse(month))
            for row in compute.fetch(
                "select service_id, charge_id, quantity, amount_minor from desired_charge "
                f"where level = 'retail' and usage_period = '{month}'"
            ).to_pylist():
                if row["charge_id"] == "lora_messages":
                    billed[row["service_id"], month] = row["quantity"], row["amount_minor"]
                else:
                    fees[month] += row["amount_minor"]
    assert billed == {key: (count, graduated(count)) for key, count in expected.items()}
    devices = len(services.read_text().splitlines()) - 1
    assert fees == dict.fromkeys(months, 90 * devices)
    assert sum(count for count, _ in billed.values()) == sum(expected.values())


def test_the_catalogs_tiers_are_those_priced_here() -> None:
    from iotbill_pipelines.config.catalog import read_catalog

    offers = {offer.id: offer for offer in read_catalog(CONFIGS / "catalog").catalog.offers}
    tiers = offers["lora_uplink"].charges[2].prices[0].tiers
    assert [(tier.up_to, tier.rate) for tier in tiers] == [
        (None if upper is None else Decimal(upper), Decimal(rate.numerator) / rate.denominator)
        for upper, rate in TIERS
    ]


@pytest.mark.parametrize(
    ("register", "message"),
    [
        ("Name;EUI\nx;1\n", "line 1 has no column 'DevEUI'; it needs Name;DevEUI;..."),
        ("Name;DevEUI\nx;1\nx;2\n", "line 3: Name 'x' stands twice; it names the service"),
        ("Name;DevEUI\n;1\n", "line 2: Name is empty; fill it in"),
    ],
)
def test_a_wrong_register_is_told_with_file_line_and_column(
    register: str, message: str, tmp_path: Path
) -> None:
    file = tmp_path / "devices.csv"
    file.write_text(register)
    with pytest.raises(ValueError) as raised:
        write_lorawan_inventory(file, tmp_path / "out", SINCE)
    assert str(raised.value).startswith(f"{file}: {message}")
