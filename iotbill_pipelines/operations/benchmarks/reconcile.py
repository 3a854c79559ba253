"""How long a vendor reconciliation takes: seeded invoice lines against as many SIMs.

The inputs are Parquet files in a folder, as the lake and a snapshot hold them. What is timed is
what a close does with them: read, compare, split into causes, write every result to a lake. One
line in about thirty is wrong in some way (unknown, copied, missing, prorated, price, inactive,
another version of its plan), so that every cause has work. Memory is the peak of the measuring
process, which does nothing else.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from iotbill_pipelines.compute.duckdb_engine import DuckDbCompute
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.reconcile import RESULTS, PlanTerm, VendorTerms, reconcile
from iotbill_pipelines.engine.schemas import (
    CATALOG,
    DESIRED_CHARGE,
    REFERENCE,
    USAGE_AGGREGATE,
    VENDOR_INVOICE_LINE,
    Table,
)
from iotbill_pipelines.operations.benchmarks import in_own_process, peak_memory_bytes
from iotbill_pipelines.storage.lake import Lake

PERIOD = Month(2026, 10)
VENDOR = "carrier"

_FEE_MINOR, _RATE_E12, _UNIT_BYTES = 150, 2_000_000_000, 10**6
_EPOCH = datetime(2020, 1, 1)  # noqa: DTZ001 - reference times are UTC, naive
_CHUNK = 100_000


@dataclass(frozen=True)
class Measured:
    """What a run took: wall seconds, peak memory of its process, and what it found."""

    lines: int
    sims: int
    threads: int
    seconds: float
    peak_memory_bytes: int
    result_lines: int
    causes: int
    claims: int
    variance_minor: int


def measure(
    folder: Path,
    lines: int = 1_000_000,
    *,
    seed: int = 1,
    threads: int = 2,
    memory_limit: str = "1200MB",
) -> Measured:
    """Generate ``lines`` invoice lines for as many SIMs into ``folder`` and reconcile them.

    The same seed gives the same inputs and findings. ``memory_limit`` is DuckDB's, beyond which it
    spills into ``folder``; the process needs some more.
    """
    generate(folder, lines, seed)
    return in_own_process(_run, folder, lines, threads, memory_limit)


def _run(folder: Path, lines: int, threads: int, memory_limit: str) -> Measured:
    started = time.perf_counter()
    spill = folder / "spill"
    with DuckDbCompute(memory_limit=memory_limit, threads=threads, spill_dir=spill) as compute:
        for name, schema in _RELATIONS.items():
            compute.scan(schema, sorted(map(str, folder.glob(f"{name}.*.parquet"))), name)
        reconcile(compute, PERIOD, [_TERMS])
        lake = Lake(folder / "lake")
        for table in RESULTS:
            partition = {"accounting_period": str(PERIOD)}
            lake.replace(table, compute, table.name, partition, order_by=table.key)
        seconds = time.perf_counter() - started
        (found,) = compute.fetch(
            "select (select count(*) from reconciliation_line) as result_lines,"
            " (select count(*) from reconciliation_cause) as causes,"
            " (select count(*) from dispute_item) as claims,"
            " (select cast(sum(variance_minor) as bigint) from reconciliation_line)"
            "   as variance_minor"
        ).to_pylist()
    return Measured(lines, lines, threads, seconds, peak_memory_bytes(), **found)


# ----------------------------------------------------------------------------------- inputs

_TERMS = VendorTerms(
    VENDOR,
    "EUR",
    tolerance_minor=1,
    tolerance_ppm=5000,
    limit_minor=200,
    uid_type="iccid",
    plans=(PlanTerm("IOT-DEAL", "deal", "1"), PlanTerm("IOT-DEAL", "later", "2")),
)

_RELATIONS: dict[str, Table] = {
    **{
        n: REFERENCE[n] for n in ("account", "service_identifier", "service_state", "service_offer")
    },
    **CATALOG,
    "desired_charge": DESIRED_CHARGE,
    "usage_aggregate": USAGE_AGGREGATE,
    "vendor_invoice_line": VENDOR_INVOICE_LINE,
}


def generate(folder: Path, lines: int, seed: int) -> None:
    """Write the inputs; files of an earlier run in ``folder`` are replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.parquet"):
        old.unlink()
    for name, rows in _catalog().items():
        _write(folder, name, 0, rows)
    for number, rows_by_name in enumerate(_market(lines, random.Random(seed))):
        for name, rows in rows_by_name.items():
            _write(folder, name, number, rows)


def _write(folder: Path, name: str, number: int, rows: list[dict[str, Any]]) -> None:
    table = _RELATIONS[name]
    # columns that a reconciliation does not read, but that every row of the table has
    unread = {
        column.name: _NEUTRAL[column.type.partition("(")[0]]
        for column in table.columns
        if not column.nullable and rows and column.name not in rows[0]
    }
    path = folder / f"{name}.{number:04d}.parquet"
    filled = pa.Table.from_pylist([{**unread, **row} for row in rows], schema=table.arrow_schema)
    pq.write_table(filled, path, compression="zstd")


_NEUTRAL: dict[str, Any] = {
    "VARCHAR": "",
    "BIGINT": 0,
    "INTEGER": 0,
    "BOOLEAN": False,
    "DECIMAL": Decimal(0),
    "DATE": date(2020, 1, 1),
    "TIMESTAMP": datetime(2020, 1, 1),  # noqa: DTZ001 - reference times are UTC, naive
}


def _catalog() -> dict[str, list[dict[str, Any]]]:
    def charge(code: str, kind: str, unit_size: int) -> dict[str, Any]:
        return {
            "charge_id": code.lower(),
            "offer_id": "deal",
            "product_id": code.lower(),
            "kind": kind,
            "external_code": code,
            "unit_size": unit_size,
            "increment_initial": 1,
            "increment_subsequent": 1,
            "increment_point": "record",
            "allowance_quantity": 0,
            "pooled": False,
            "billing": "arrears",
            "basis": "actual",
            "billable": "days",
        }

    def tier(code: str, rate_e12: int) -> dict[str, Any]:
        return {
            "price_id": f"{code}#1",
            "tier_no": 1,
            "lower_quantity": 0,
            "rate_e12": Decimal(rate_e12),
            "flat_e12": Decimal(0),
        }

    return {
        "account": [{"account_id": VENDOR, "kind": "vendor"}],
        "state": [{"state": s, "core_state": s} for s in ("prospect", "active", "cancelled")],
        "offer": [
            {
                "offer_id": "deal",
                "name": "Deal",
                "level": "vendor",
                "currency": "EUR",
                "pool_contribution": 0,
            }
        ],
        "charge": [charge("FEE", "recurring", 1), charge("DATA", "usage", _UNIT_BYTES)],
        "price": [
            {
                "price_id": f"{code}#1",
                "charge_id": code,
                "priority": 1,
                "valid_from": date(1970, 1, 1),
                "model": "flat",
            }
            for code in ("fee", "data")
        ],
        "price_tier": [tier("fee", _FEE_MINOR * 10**10), tier("data", _RATE_E12)],
    }


def _market(sims: int, rng: random.Random) -> Iterator[dict[str, list[dict[str, Any]]]]:
    """SIMs in chunks: even ones cost a monthly fee, odd ones data; one invoice line for each."""
    line_no = 0
    for first in range(0, sims, _CHUNK):
        rows: dict[str, list[dict[str, Any]]] = {
            name: []
            for name in (
                *("service_identifier", "service_state", "service_offer", "desired_charge"),
                *("usage_aggregate", "vendor_invoice_line"),
            )
        }
        for sim in range(first, min(first + _CHUNK, sims)):
            fate = rng.random()
            inactive = fate < 0.005
            _known(rows, sim, "cancelled" if inactive else "active")
            quantity = 31 if sim % 2 == 0 else rng.randrange(10**6, 400 * 10**6)
            if not inactive:
                _expected(rows, sim, quantity)
            line_no += 1
            _billed(rows, sim, quantity, fate, line_no)
        yield rows


def _iccid(sim: int) -> str:
    return f"8988{sim:015d}"


def _known(rows: dict[str, list[dict[str, Any]]], sim: int, state: str) -> None:
    service = f"svc-{sim}"
    rows["service_identifier"].append(
        {
            "uid_type": "iccid",
            "uid_value": _iccid(sim),
            "service_id": service,
            "valid_from": _EPOCH,
        }
    )
    rows["service_state"].append({"service_id": service, "changed_at": _EPOCH, "state": state})
    rows["service_offer"].append(
        {
            "service_id": service,
            "level": "vendor",
            "payer_account_id": VENDOR,
            "offer_id": "deal",
            "valid_from": _EPOCH.date(),
        }
    )


def _expected(rows: dict[str, list[dict[str, Any]]], sim: int, quantity: int) -> None:
    code = "fee" if sim % 2 == 0 else "data"
    common = {"usage_period": str(PERIOD), "level": "vendor", "account_id": VENDOR}
    rows["desired_charge"].append(
        {
            **common,
            "billing_period": str(PERIOD),
            "entity_id": "NL01",
            "service_id": f"svc-{sim}",
            "charge_id": code,
            "product_id": code,
            "kind": "recurring" if code == "fee" else "usage",
            "linear": True,
            "records": 1,
            "quantity": quantity,
            "currency": "EUR",
            "amount_minor": _FEE_MINOR if code == "fee" else _data_minor(quantity),
            "price_ids": f"{code}#1",
            "window_start": PERIOD.start,
            "window_end": PERIOD.end,
        }
    )
    if code == "data":
        rows["usage_aggregate"].append(
            {
                **common,
                "service_id": f"svc-{sim}",
                "offer_id": "deal",
                "charge_id": code,
                "price_id": "data#1",
                "pooled": False,
                "records": 30,
                "quantity": quantity,
                "rated_quantity": quantity,
                "allowance_quantity": 0,
            }
        )


def _data_minor(quantity: int) -> int:
    return (2 * quantity * _RATE_E12 + _UNIT_BYTES * 10**10) // (2 * _UNIT_BYTES * 10**10)


def _billed(
    rows: dict[str, list[dict[str, Any]]], sim: int, quantity: int, fate: float, line_no: int
) -> None:
    """The carrier's line: right, or wrong in the way that ``fate`` says."""
    lines = rows["vendor_invoice_line"]
    if 0.005 <= fate < 0.010 and lines:  # the line before once more, and this SIM not at all
        lines.append({**lines[-1], "line_no": line_no})
        return
    fee = sim % 2 == 0
    end = PERIOD.end
    minor = _FEE_MINOR if fee else _data_minor(quantity)
    if 0.010 <= fate < 0.020:
        minor += minor // 8 + 2
    elif 0.020 <= fate < 0.030 and fee:
        end, minor = date(PERIOD.start.year, PERIOD.start.month, 17), 77
    elif 0.020 <= fate < 0.030:
        quantity += 50 * 10**6
        minor = _data_minor(quantity)
    lines.append(
        {
            "file_key": 1,
            "line_no": line_no,
            "feed_id": "carrier_invoice",
            "vendor_id": VENDOR,
            "invoice_no": f"INV-{line_no // 250_000 + 1}",
            "billing_period": str(PERIOD),
            "uid_type": "iccid",
            "uid_value": _iccid(10**12 + sim) if 0.030 <= fate < 0.035 else _iccid(sim),
            "plan_id": "IOT-DEAL",
            "plan_version": "2" if 0.035 <= fate < 0.040 else "1",
            "charge_code": "FEE" if fee else "DATA",
            "service_start": PERIOD.start,
            "service_end": end,
            "quantity": None if fee else quantity,
            "unit_price": None if fee else Decimal("0.002"),
            "currency": "EUR",
            "amount": Decimal(minor) / 100,
        }
    )
