"""A correction of a month whose pool leaves units for the next: both months are corrected."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest
import sqlalchemy as sa
from dagster._core.execution.backfill import BulkActionStatus
from dagster._core.storage.tags import BACKFILL_ID_TAG
from sqlalchemy.orm import Session

from iotbill_pipelines.cli.main import app
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.schemas import REFERENCE
from iotbill_pipelines.operations.corrections import Effect, correct_period, plan
from iotbill_pipelines.operations.ingest import ingest, land
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.shell.instance import open_instance
from iotbill_pipelines.storage import reference
from tests.conftest import ROOT
from tests.months import close

AUGUST, SEPTEMBER = Month(2026, 8), Month(2026, 9)
SIM = "8931000000000000014"

CATALOG = """
share_plans:
  - id: pool
    usage_class: data
    currency: EUR
    per: MB
    rollover: {periods: 1}
    overage: {id: over, product: pool_overage, kind: overage, per: MB, prices: [{rate: 0.10}]}
offers:
  - id: fleet
    name: Fleet
    currency: EUR
    share_plan: pool
    contribution: 10
    charges:
      - {id: mb, product: data, kind: usage, per: MB, pooled: true, prices: [{rate: 0.20}]}
"""

FEED = """
id: our_usage
carrier: ours
target: usage_record
files: ["use_*.csv"]
format: {type: delimited}
fields:
  event_start: {from: at, steps: [timestamp]}
  uid_type: {value: iccid}
  uid_value: {from: sim, steps: [iccid]}
  usage_class: {value: data}
  quantity: {from: mb, steps: [{units: {unit: MB}}]}
dedup:
  key: [id]
"""

KNOWN = {
    "account": {"account_id": "C1", "name": "One", "kind": "customer", "entity_id": "NL01",
                "billing_zone": "UTC", "currency": "EUR"},
    "service": {"service_id": "S1", "account_id": "C1"},
    "service_identifier": {"uid_type": "iccid", "uid_value": SIM, "service_id": "S1",
                           "valid_from": datetime(2026, 8, 1)},  # noqa: DTZ001
    "service_state": {"service_id": "S1", "changed_at": datetime(2026, 8, 1),  # noqa: DTZ001
                      "state": "active"},
    "service_offer": {"service_id": "S1", "level": "retail", "payer_account_id": "C1",
                      "offer_id": "fleet", "valid_from": date(2026, 8, 1)},
}  # fmt: skip


@pytest.fixture
def ws(tmp_path: Path, postgres_url: str) -> Iterator[Workspace]:
    configs = tmp_path / "configs"
    (configs / "catalog").mkdir(parents=True)
    for name in ("products", "states"):
        shutil.copy(ROOT / "configs" / "catalog" / f"{name}.yaml", configs / "catalog")
    for folder in ("ledger", "dagster"):
        shutil.copytree(ROOT / "configs" / folder, configs / folder)
    (configs / "catalog" / "retail.yaml").write_text(CATALOG)
    (configs / "feeds").mkdir()
    (configs / "feeds" / "our_usage.yaml").write_text(FEED)
    workspace = Workspace.open(
        tmp_path / "home",
        configs,
        postgres_url,
        migrate=True,
        clock=lambda: datetime(2026, 10, 3, 8, tzinfo=UTC),
    )
    with Session(workspace.engine) as session, session.begin():
        for name, row in KNOWN.items():
            rows = pa.Table.from_pylist([row], schema=REFERENCE[name].arrow_schema)
            reference.load(session, name, rows, workspace.clock(), "test")
    yield workspace
    workspace.close()


@pytest.fixture
def used(ws: Workspace, tmp_path: Path) -> Callable[[str, str], None]:
    """Land and read a file with a record of a day and so many MB."""

    def receive(day: str, mb: str) -> None:
        file = tmp_path / f"use_{day}_{mb}.csv"
        file.write_text(f"id,at,sim,mb\n{day}-{mb},{day}T12:00:00Z,{SIM},{mb}\n")
        land(ws, [file])
        ingest(ws)

    return receive


def overage(ws: Workspace) -> list[tuple[object, ...]]:
    select = sa.text(
        "select usage_period, accounting_period, sum(amount_minor)::int from booked_charge"
        " where charge_id = 'over' group by 1, 2 having sum(amount_minor) <> 0 order by 1, 2"
    )
    with ws.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(select)]


TAX = """
mode: table
policy: {pricing: exclusive}
sellers: [{entity: NL01, country: NL, jurisdictions: [NL]}]
jurisdictions: [{id: NL, name: Netherlands, country: NL}]
rates: [{jurisdiction: NL, tax_code: standard, tax: VAT, rate: "0.21"}]
customers: [{account: "*", country: NL, jurisdictions: [NL]}]
"""


def test_late_usage_that_takes_what_was_left_over_bills_the_month_after(
    ws: Workspace, used: Callable[[str, str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    (ws.configs / "tax").mkdir()
    (ws.configs / "tax" / "tax.yaml").write_text(TAX)
    used("2026-08-05", "8")  # 2 of 10 are left over
    used("2026-09-05", "14")  # 12 are there
    for month in (AUGUST, SEPTEMBER):
        close(replace(ws, run_id=f"close {month}"), month)
    assert overage(ws) == [("2026-09", "2026-09", 20)]
    assert plan(ws, AUGUST).touched == []

    used("2026-08-20", "1")
    found = plan(ws, AUGUST)
    assert [(t.usage_period, t.causes) for t in found.touched] == [
        ("2026-08", ("usage",)),
        ("2026-09", ("usage", "carried")),  # days of August lie beside it
    ]
    assert found.periods == ["2026-08", "2026-09"]
    (moved,) = [c for c in found.corrections if c.difference]
    assert (moved.usage_period, moved.causes) == ("2026-09", {"carried": Decimal("0.10")})
    cents = (Decimal("0.10"), Decimal("0.02"), Decimal("0.12"))
    assert found.effects == [Effect("C1", "EUR", *cents, "")]

    told = rerate(ws, capsys)
    assert [period for period, _ in told["backfill"]["runs"]] == ["2026-08", "2026-09"]
    assert told["backfill"]["error"] is None and told["rows_booked"] == 2
    assert overage(ws) == [("2026-09", "2026-09", 30)]
    with open_instance(ws) as instance:
        backfill = instance.get_backfill(told["backfill"]["backfill_id"])
        assert backfill is not None and backfill.status is BulkActionStatus.COMPLETED_SUCCESS
        assert backfill.tags["iotbill/actor"] == "controller"
        runs = instance.get_runs(dg.RunsFilter(tags={BACKFILL_ID_TAG: backfill.backfill_id}))
    assert sorted(run.tags["dagster/partition"] for run in runs) == ["2026-08", "2026-09"]
    assert plan(ws, AUGUST).touched == []
    again = rerate(ws, capsys)
    assert (again["backfill"], again["rows_booked"]) == (None, 0)


def rerate(ws: Workspace, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What the command says that it booked."""
    where = ["--home", str(ws.home), "--configs", str(ws.configs)]
    where += ["--database-url", ws.database_url, "--actor", "controller"]
    capsys.readouterr()
    app([*where, "rerate", "--since", "2026-08", "--yes", "--json"], standalone_mode=False)
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


CONTRACT = """
templates:
  - id: two_months
    name: So much in two months
    terms:
      currency: EUR
      term_months: 12
      commitments:
        - id: spend
          kind: invoice_amount
          amounts: [{from_month: 1, value: "5.00"}]
          period_months: 2
          frequency_months: 2
          alignment: anniversary
          penalty: {product_id: data}
contracts:
  - {id: K, account: C1, template: two_months, start: 2026-08-01}
"""


def test_a_plan_follows_a_correction_into_the_commitment_of_a_later_month(
    ws: Workspace, used: Callable[[str, str], None]
) -> None:
    (ws.configs / "contracts").mkdir()
    (ws.configs / "contracts" / "k.yaml").write_text(CONTRACT)
    used("2026-08-05", "10")
    used("2026-09-05", "12")  # 2 too much: 20 cents of the 5.00
    for month in (AUGUST, SEPTEMBER):
        close(replace(ws, run_id=f"close {month}"), month)
    assert plan(ws, AUGUST).touched == []

    used("2026-08-20", "7")
    found = plan(ws, AUGUST)
    assert found.touched[1].causes == ("usage", "carried")
    changed = {(c.usage_period, c.product_id): c.causes for c in found.corrections if c.difference}
    assert changed == {
        ("2026-08", "pool_overage"): {"usage": Decimal("0.70")},
        ("2026-09", "data"): {"carried": Decimal("-0.70")},
    }
    booked = [
        correct_period(replace(ws, run_id=f"correct {period}"), Month.parse(period)).amounts
        for period in found.periods
    ]
    assert [sum(amount for *_, amount in amounts) for amounts in booked] == [
        Decimal("0.70"), Decimal("-0.70")
    ]  # fmt: skip
    assert plan(ws, AUGUST).touched == []
