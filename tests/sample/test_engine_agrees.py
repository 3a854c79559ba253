"""The engine against an independent biller, over a whole sample month, charge by charge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from hashlib import md5
from pathlib import Path
from random import Random

import pyarrow as pa
import pytest

from iotbill_pipelines.compute.duckdb_engine import DuckDbCompute
from iotbill_pipelines.config.catalog import read_catalog
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.flow import rate_month, settle_period
from iotbill_pipelines.engine.schemas import CATALOG, RATED_USAGE, REFERENCE, USAGE_RECORD
from iotbill_pipelines.engine.terms import compile_catalog
from iotbill_pipelines.operations.sample import SampleSummary, imagine, write_sample
from iotbill_pipelines.operations.sample.deliveries import Row
from iotbill_pipelines.operations.sample.fleet import ENTITY, Fleet

from .oracle import Amounts, Oracle, eur

ROOT = Path(__file__).resolve().parents[2]
CATALOG_TERMS = read_catalog(ROOT / "configs" / "catalog").catalog
SIZE = 120
MONTHS = [(Month(2026, 10), 1), (Month(2026, 3), 2)]
"""Both clock changes of Berlin, and the days on which New York's clock differs."""


def usage_records(rows: list[Row]) -> Iterator[dict[str, object]]:
    """Yield delivered rows as ingestion would hand them on, broken and ignored ones left out."""
    for number, row in enumerate(rows, 1):
        event = row.event
        if row.outcome in ("rejected", "ignored"):
            continue
        carrier = event.service.carrier.name
        bics, telfix = carrier == "bics", carrier == "telfix"
        content = f"{event.id} {event.quantity} {event.start}"
        yield {
            "file_key": 1,
            "line_no": number,
            "feed_id": carrier,
            "dedup_key": str(event.id),
            "content_hash": md5(content.encode(), usedforsecurity=False).hexdigest(),
            "usage_month": f"{event.start:%Y-%m}",
            "event_start": event.start,
            "event_text": str(event.start),
            "uid_type": "msisdn" if telfix else "iccid",
            "uid_value": event.service.msisdn if telfix else event.service.iccid,
            "usage_class": event.usage_class,
            "quantity": event.quantity,
            "mcc": None if bics else event.network.mcc,
            "mnc": None if bics else event.network.mnc,
            "region": event.network.bics_ratezone if bics else event.network.emnify_ratezone,
        }


def reference(fleet: Fleet) -> dict[str, list[dict[str, object]]]:
    """Return the inventory as reference tables."""
    services = fleet.services
    offers = [
        (s, "retail", s.account.account_id, offer, start, end)
        for s in services
        for start, end, offer in s.offers
    ] + [
        (s, "vendor", s.carrier.name, s.carrier.vendor_offer, s.offers[0][0], None)
        for s in services
    ]
    return {
        "account": [
            {
                "account_id": a.account_id,
                "name": a.name,
                "kind": a.kind,
                "parent_account_id": a.parent or None,
                "entity_id": ENTITY,
                "billing_zone": a.billing_zone,
                "currency": "EUR",
            }
            for a in fleet.accounts
        ],
        "service": [
            {"service_id": s.service_id, "account_id": s.account.account_id} for s in services
        ],
        "service_identifier": [
            {
                "uid_type": kind,
                "uid_value": value,
                "service_id": s.service_id,
                "valid_from": s.owned_from,
                "valid_to": s.owned_to,
            }
            for s in services
            for kind, value in (("iccid", s.iccid), ("msisdn", s.msisdn))
        ],
        "service_state": [
            {"service_id": s.service_id, "changed_at": moment, "state": state}
            for s in services
            for moment, state in s.states
        ],
        "service_offer": [
            {
                "service_id": s.service_id,
                "level": level,
                "payer_account_id": payer,
                "offer_id": offer,
                "valid_from": start,
                "valid_to": end,
            }
            for s, level, payer, offer, start, end in offers
        ],
    }


@pytest.fixture(scope="module", params=MONTHS, ids=lambda param: f"{param[0]}, seed {param[1]}")
def settled(
    request: pytest.FixtureRequest,
) -> Iterator[tuple[DuckDbCompute, Fleet, list[Row], Amounts]]:
    """A sample month through the engine, and the oracle's charges for the same events."""
    month, seed = request.param
    fleet, deliveries, _ = imagine(month, SIZE, seed)
    rows = [row for days in deliveries.values() for day in days.values() for row in day]
    Random(4).shuffle(rows)  # nothing may depend on the order of arrival
    with DuckDbCompute() as compute:
        known = reference(fleet)
        for name, schema in REFERENCE.items():
            entries = known.get(name, [])
            compute.load(name, pa.Table.from_pylist(entries, schema=schema.arrow_schema))
        for name, table in compile_catalog(CATALOG_TERMS).items():
            assert name in CATALOG
            compute.load(name, table)
        records = list(usage_records(rows))
        rated, suspended = [], []
        for usage_month in sorted({str(record["usage_month"]) for record in records}):
            batch = [record for record in records if record["usage_month"] == usage_month]
            compute.load(
                "usage_record", pa.Table.from_pylist(batch, schema=USAGE_RECORD.arrow_schema)
            )
            rate_month(compute)
            rated.append(compute.fetch("rated_usage"))
            suspended.append(compute.fetch("suspended_record"))
        compute.load("all_rated", pa.concat_tables(rated))
        compute.load("all_suspended", pa.concat_tables(suspended))
        compute.define("rated_usage", f"select {RATED_USAGE.column_list} from all_rated")
        settle_period(compute, month)
        kept = [row.event for row in rows if row.outcome == "kept"]
        yield compute, fleet, rows, Oracle(CATALOG_TERMS, fleet).bill(kept)


def engine_charges(compute: DuckDbCompute, month: Month) -> Amounts:
    found = compute.fetch(
        "select level, service_id, charge_id, amount_minor from desired_charge "
        f"where usage_period = '{month}'"
    ).to_pylist()
    return {(r["level"], r["service_id"], r["charge_id"]): r["amount_minor"] for r in found}


Settled = tuple[DuckDbCompute, Fleet, list[Row], Amounts]


def test_every_charge_of_the_month_is_the_oracles(settled: Settled) -> None:
    compute, fleet, _, oracle = settled
    engine = engine_charges(compute, fleet.month)
    different = {
        key: (engine.get(key), oracle.get(key))
        for key in engine.keys() | oracle.keys()
        if engine.get(key, 0) != oracle.get(key, 0)
    }
    assert different == {}
    assert {key for key in oracle if oracle[key]} <= engine.keys()
    assert len(engine) > 3 * SIZE


def test_every_way_of_charging_is_exercised(settled: Settled) -> None:
    _, _, _, oracle = settled
    charged = {charge for (_, _, charge), amount in oracle.items() if amount}
    for expected in (
        "payg_data payg_sms payg_sim iot_data_usage iot_data_activation sms_volume_sms "
        "voice_alarm_voice fleet_sim fleet_pool_overage emnify_data bics_data telfix_voice_min "
        "xl_data xl_voice"
    ).split():
        assert expected in charged


def test_records_are_suspended_for_the_reasons_planted(settled: Settled) -> None:
    compute, _, rows, _ = settled
    found = compute.fetch("select reason_code, count(*) as records from all_suspended group by all")
    planted = Counter(row.kind for row in rows if row.outcome == "suspended")
    assert {r["reason_code"]: r["records"] for r in found.to_pylist()} == {
        "no_owner": planted["unknown_sim"],
        "after_cancel": planted["after_cancel"],
        "conflict": planted["conflicting_resend"],
    }


def test_reference_data_raises_no_findings(settled: Settled) -> None:
    compute = settled[0]
    assert compute.fetch("select * from charge_finding").to_pylist() == []


def test_the_generators_expected_cost_is_the_oracles_too(settled: Settled, tmp_path: Path) -> None:
    """The third opinion: the vendor terms as the invoice generator says them."""
    _, fleet, _, oracle = settled
    seed = dict(MONTHS)[fleet.month]
    summary: SampleSummary = write_sample(tmp_path, fleet.month, SIZE, seed)
    codes = {
        charge.id: charge.external_code
        for offer in CATALOG_TERMS.offers
        if offer.level == "vendor"
        for charge in offer.charges
    }
    carriers = {s.service_id: s.carrier.name for s in fleet.services}
    expected: dict[tuple[str, str, str], Decimal] = {
        (carriers[service], service, str(codes[charge])): eur(amount)
        for (level, service, charge), amount in oracle.items()
        if level == "vendor"
    }
    assert {k: v for k, v in summary.expected_cost.items() if v} == {
        k: v for k, v in expected.items() if v
    }
    assert fleet.month.start + timedelta(days=fleet.month.days) == fleet.month.end
