"""Charges of contracts explained: discounts, shortfalls, fees, from what the ledger holds.

A shortfall is measured again over the booked charges of its window, not over those that a close
desired: an explanation that ends at another amount than the booked one is a finding.
"""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
from sqlalchemy.orm import Session

from iotbill_pipelines.engine import guide
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.compute import Compute
from iotbill_pipelines.engine.contract import stage
from iotbill_pipelines.engine.money import of_minor
from iotbill_pipelines.engine.schemas import CHARGE_COMPONENT, CHARGE_FINDING, DESIRED_CHARGE
from iotbill_pipelines.operations import charges
from iotbill_pipelines.operations.contracts import contracts_of
from iotbill_pipelines.operations.explaining.words import Result, Row, Step, Unit
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage import ledger
from iotbill_pipelines.storage.reference import Snapshot


def explain_agreements(
    ws: Workspace, compute: Compute, snapshot: Snapshot, period: Month, units: Iterable[Unit]
) -> dict[Unit, Result]:
    """Return the results of those units that are a contract's own charges.

    ``compute`` holds the snapshot's relations; ``desired_charge`` and its like are replaced.
    """
    asked = {unit for unit in units if "/" in unit.charge_id}
    if not asked or not snapshot.rows.get("contract"):
        return {}
    months = [*charges.committed_months(period, contracts_of(snapshot)), period]
    with Session(ws.engine) as session:
        booked = ledger.booked_charges(session, [str(month) for month in months]).to_pylist()
    ws.lake.scan(compute, DESIRED_CHARGE, name="settled_charge", usage_period=str(period))
    carried_by = {
        tuple(row[name] for name in _KEY): row["billing_period"]
        for row in compute.fetch("settled_charge").to_pylist()
    }
    for row in booked:
        key = tuple(row[name] for name in _KEY)
        row["billing_period"] = carried_by.get(key, row["usage_period"])
    found = measured_again(compute, period, booked)
    return {unit: result for unit, result in found.items() if unit in asked}


_KEY = ("usage_period", "level", "account_id", "service_id", "charge_id")


def measured_again(compute: Compute, period: Month, charged: Iterable[Row]) -> dict[Unit, Result]:
    """Return the contracts' own charges of a period, from the other charges in ``charged``.

    Those are rows of ``booked_charge``, with ``billing_period``, of the period and of the earlier
    ones that windows reach into. ``compute`` holds the reference and catalog relations;
    ``desired_charge`` and its like are replaced.
    """
    rows = [
        {**row, "linear": True, "price_ids": ""}
        for row in charged
        if row["kind"] not in stage.KINDS or row["usage_period"] < str(period)
    ]
    of_period = [row for row in rows if row["usage_period"] == str(period)]
    earlier = [row for row in rows if row["usage_period"] < str(period)]
    compute.load("desired_charge", pa.Table.from_pylist(of_period, DESIRED_CHARGE.arrow_schema))
    compute.load("earlier_charge", pa.Table.from_pylist(earlier, DESIRED_CHARGE.arrow_schema))
    compute.load("charge_component", CHARGE_COMPONENT.arrow_schema.empty_table())
    compute.load("charge_finding", CHARGE_FINDING.arrow_schema.empty_table())
    compute.load("settled_period", pa.table({"usage_period": [str(period)]}))
    guide.define_day_intervals(compute)
    stage.settle(compute, period)
    found = compute.fetch(
        "select d.level, d.account_id, d.service_id, d.charge_id, d.currency, d.amount_minor,"
        " c.detail from desired_charge as d join charge_component as c"
        " on c.level = d.level and c.account_id = d.account_id and c.service_id = d.service_id"
        " and c.charge_id = d.charge_id"
    ).to_pylist()
    results = {}
    for row in found:
        unit = Unit(
            str(period), row["level"], row["account_id"], row["service_id"], row["charge_id"]
        )
        amount = of_minor(row["amount_minor"], row["currency"])
        told = [Step(text) for text in row["detail"].split("; ")]
        steps = [*told[:-1], Step(told[-1].text, f"{row['currency']} {amount}")]
        results[unit] = Result(steps, row["amount_minor"], row["currency"])
    return results
