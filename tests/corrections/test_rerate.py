"""Corrections of booked months: what a change touches, what it comes to, booking just that."""

from __future__ import annotations

import gzip
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from iotbill_pipelines.config.alerts import read_alert_policy
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.schemas import REFERENCE
from iotbill_pipelines.operations import corrections, runs
from iotbill_pipelines.operations.charges import settle_charges, settled_periods
from iotbill_pipelines.operations.corrections import (
    CorrectionError,
    Selection,
    beyond_look_back,
    correct_period,
    plan,
    proposal,
)
from iotbill_pipelines.operations.incidents import Incident, find_incidents
from iotbill_pipelines.operations.ingest import ingest, land
from iotbill_pipelines.operations.usage import rate_usage
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.shell.correcting import changed_catalog
from iotbill_pipelines.shell.resources import WorkspaceResource
from iotbill_pipelines.storage import reference
from iotbill_pipelines.storage.landing import open_archived
from tests.conftest import ROOT
from tests.months import PERIOD

CENT = Decimal("0.01")


def booked_sums(ws: Workspace) -> dict[tuple[str, str], int]:
    with ws.engine.connect() as connection:
        return {
            (row.level, row.account_id): int(row.minor)
            for row in connection.execute(
                sa.text(
                    "select level, account_id, sum(amount_minor) as minor from booked_charge"
                    " group by level, account_id"
                )
            )
        }


def change(ws: Workspace, name: str, old: str, new: str) -> None:
    path = ws.configs / "catalog" / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def rerun(ws: Workspace) -> Workspace:
    """The same workspace under another run."""
    return replace(ws, run_id=f"run-{datetime.now(UTC).timestamp()}")


def noticed(ws: Workspace) -> dg.SensorResult | dg.SkipReason:
    """What the sensor says in one tick."""
    resource = WorkspaceResource(
        home=str(ws.home), configs=str(ws.configs), database_url=ws.database_url
    )
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_sensor_context(instance, resources={"workspace": resource})
        result = changed_catalog(context)
    assert isinstance(result, (dg.SensorResult, dg.SkipReason))
    return result


def find_incidents_of(ws: Workspace) -> list[Incident]:
    found = find_incidents(ws, read_alert_policy(ws.configs), ws.clock())
    return [incident for incident in found if incident.code == "catalog_reaches_back"]


def test_nothing_changed_touches_nothing(booked: Workspace) -> None:
    found = plan(booked, PERIOD)
    assert (found.examined, found.touched, found.corrections, found.pairs) == (
        [str(PERIOD)],
        [],
        [],
        0,
    )
    assert proposal(booked) is None
    assert isinstance(noticed(booked), dg.SkipReason)
    assert find_incidents_of(booked) == []


def test_a_sim_sold_later_and_a_price_of_later_touch_no_earlier_month(booked: Workspace) -> None:
    with Session(booked.engine) as session, session.begin():
        for name, row in (
            ("service", {"service_id": "NEW", "account_id": "C0001"}),
            (
                "service_identifier",
                {"uid_type": "iccid", "uid_value": "89", "service_id": "NEW"}
                | {"valid_from": datetime(2027, 1, 5)},  # noqa: DTZ001
            ),
        ):
            rows = pa.Table.from_pylist([row], schema=REFERENCE[name].arrow_schema)
            reference.load(session, name, rows, booked.clock(), "test")
    assert plan(booked, PERIOD).touched == []
    change(
        booked,
        "retail.yaml",
        "valid_from: 2026-10-16}",
        "valid_from: 2026-10-16, valid_to: 2027-02-01}\n"
        "          - {rate: 0.051, zone: eu, valid_from: 2027-02-01, id: payg_2027}",
    )
    found = plan(booked, PERIOD)
    assert [t for t in found.touched if t.causes != ("catalog",)] == []
    assert found.corrections == []


def test_a_corrected_rate_is_shown_then_booked_for_one_account_then_for_all(
    booked: Workspace,
) -> None:
    before = booked_sums(booked)
    change(booked, "retail.yaml", "{rate: 0.140, zone: near}", "{rate: 0.240, zone: near}")
    proposed = proposal(booked)
    assert proposed is not None and proposed.command == f"iotbill rerate --since {PERIOD}"
    assert proposed.usage_periods == [str(PERIOD)]
    told = noticed(booked)
    assert isinstance(told, dg.SkipReason)
    assert f"`iotbill rerate --since {PERIOD}`" in (told.skip_message or "")
    (incident,) = find_incidents_of(booked)
    assert (incident.severity, incident.evidence) == ("warn", proposed.command)
    found = plan(booked, PERIOD)
    assert [t.causes for t in found.touched] == [("catalog",)]
    assert found.periods == [str(PERIOD)]
    assert "0.14" in found.reasons[0].message and "0.24" in found.reasons[0].message
    assert {c.level for c in found.corrections} == {"retail"}
    assert all(c.difference == sum(c.causes.values()) > 0 for c in found.corrections)
    assert sum(c.units for c in found.corrections) == found.pairs
    assert booked_sums(booked) == before  # it was only shown

    accounts = sorted({c.account_id for c in found.corrections})
    chosen = Selection(account=accounts[0])
    mine = plan(booked, PERIOD, chosen)
    assert {c.account_id for c in mine.corrections} == {accounts[0]}
    ws = rerun(booked)
    result = correct_period(ws, PERIOD, chosen)
    assert result.rows["rows booked"] > 0 and result.preview is not None
    assert {row["account_id"] for row in result.preview.to_pylist()} == {accounts[0]}
    after = booked_sums(booked)
    assert {key for key in after if after[key] != before[key]} == {("retail", accounts[0])}
    (total,) = mine.totals
    changed = after["retail", accounts[0]] - before["retail", accounts[0]]
    assert changed * CENT == total[2]

    policy = booked.configs / "close.yaml"
    policy.write_text(policy.read_text().replace("changes: propose", "changes: book"))
    asked = noticed(booked)
    assert isinstance(asked, dg.SensorResult)
    (request,) = asked.run_requests or []
    assert request.partition_key == str(PERIOD) and proposed.catalog_digest in request.run_key

    rest = plan(booked, PERIOD)
    # the stored settlement is still the old one, which all others are booked by
    assert [t.causes for t in rest.touched] == [("catalog",)]
    assert {c.account_id for c in rest.corrections} == set(accounts[1:])
    assert all(set(c.causes) == {"catalog"} for c in rest.corrections)
    assert accounts[0] not in {c.account_id for c in rest.corrections}
    correct_period(rerun(booked), PERIOD, Selection(price="payg_data"))
    expected = sum(c.difference for c in found.corrections)
    assert (sum(booked_sums(booked).values()) - sum(before.values())) * CENT == expected
    assert correct_period(rerun(booked), PERIOD).rows["rows booked"] == 0
    assert plan(booked, PERIOD).corrections == []


def test_what_customers_owe_counts_units_of_a_product_that_is_gone(booked: Workspace) -> None:
    """A product under another id: what the old one was booked for is taken back in full."""
    tables = ("catalog/products.yaml", "catalog/retail.yaml", "tax/tax.yaml")
    before = {name: (booked.configs / name).read_text() for name in tables}
    try:
        for name in tables[:2]:
            text = re.sub(r"(id|product): activation\b", r"\1: setup", before[name])
            (booked.configs / name).write_text(text)
        taxed = ROOT / "configs" / "examples" / "tax" / "tax.yaml"
        (booked.configs / "tax/tax.yaml").write_text(taxed.read_text())
        found = plan(booked, PERIOD)
        assert {c.product_id for c in found.corrections} == {"activation", "setup"}
        assert [total for total in found.totals if total[2]] == []
        assert found.effects and {effect.net for effect in found.effects} == {Decimal(0)}
    finally:
        for name, text in before.items():
            (booked.configs / name).write_text(text)


def test_late_usage_of_a_feed_and_a_rate_are_told_apart(booked: Workspace, tmp_path: Path) -> None:
    with booked.engine.connect() as connection:
        name, archived = connection.execute(
            sa.text(
                "select original_name, archive_path from feed_file where feed_id = 'emnify_usage'"
                " and state = 'ingested' order by original_name offset 12 limit 1"
            )
        ).one()
    assert re.search(r"ndjson", name)
    with open_archived(booked.archive, archived) as handle:
        content = handle.read()
    lines = (gzip.decompress(content) if name.endswith(".gz") else content).splitlines()
    records = [json.loads(line) for line in lines]
    for record in records:
        record["id"] += 700_000_000
    late = tmp_path / "emnify_2026-10-late.ndjson"
    late.write_text("".join(json.dumps(record) + "\n" for record in records))
    land(booked, [late])
    ingest(booked)
    change(booked, "retail.yaml", "{rate: 0.240, zone: near}", "{rate: 0.9, zone: near}")
    found = plan(booked, PERIOD)
    assert [t.causes for t in found.touched] == [("usage", "catalog")]
    assert any("emnify_2026-10-late.ndjson" in reason.message for reason in found.reasons)
    assert {cause for c in found.corrections for cause in c.causes} == {"usage", "catalog"}
    assert all(c.difference == sum(c.causes.values()) for c in found.corrections)
    mine = plan(booked, PERIOD, Selection(feed="emnify_usage"))
    assert mine.pairs <= found.pairs and mine.pairs
    ws = rerun(booked)
    result = correct_period(ws, PERIOD)
    assert sum(amount for *_, amount in result.amounts) == sum(
        c.difference for c in found.corrections
    )
    assert runs.posted_by(ws, ws.run_id).charges == result.rows["rows booked"]


def test_what_cannot_be_corrected_says_so(booked: Workspace) -> None:
    with pytest.raises(CorrectionError, match="no account 'C9'"):
        plan(booked, PERIOD, Selection(account="C9"))
    with pytest.raises(CorrectionError, match="no usage feed"):
        plan(booked, PERIOD, Selection(feed="nobody"))
    with pytest.raises(CorrectionError, match="never closed"):
        correct_period(rerun(booked), Month(2025, 1))


def test_a_close_looks_back_only_so_far(booked: Workspace) -> None:
    later = Month(2027, 3)
    assert settled_periods(booked, later) == [PERIOD, later]
    policy = booked.configs / "close.yaml"
    text = policy.read_text()
    policy.write_text(re.sub(r"look_back_months: \d+", "look_back_months: 3", text))
    try:
        assert settled_periods(booked, later) == [later]
        assert beyond_look_back(booked, later) == []
        change(booked, "retail.yaml", "{rate: 0.9, zone: near}", "{rate: 0.2, zone: near}")
        assert [t.usage_period for t in beyond_look_back(booked, later)] == [str(PERIOD)]
        assert plan(booked, PERIOD).beyond == []  # October is the newest that was closed
    finally:
        policy.write_text(text)
    assert corrections.CAUSES  # the fixture's October stays settled for the tests after
    for stage in (rate_usage, settle_charges):
        stage(rerun(booked), PERIOD)
