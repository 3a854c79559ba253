"""The renewal desk on a workspace: rows, flags, documents, alerts, extensions written down."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import openpyxl
import pytest
import sqlalchemy as sa

from iotbill_pipelines.cli.alerting import after_close
from iotbill_pipelines.config.alerts import AlertPolicy
from iotbill_pipelines.config.lake import LakeChoice
from iotbill_pipelines.operations import incidents
from iotbill_pipelines.operations.alerts import list_alerts
from iotbill_pipelines.operations.renewals import renewal_desk, write_desk
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage.lake import Lake
from iotbill_pipelines.storage.lake_places import place_of
from tests.contract.test_contract_wiring import add_service, close, known, ws

__all__ = ["ws"]

TERMS = """
contracts:
  - id: K
    account: C1
    start: 2025-07-01
    terms:
      currency: EUR
      term_months: 12
      notice_days: 60
      renewal: {kind: auto_renew, uplift_percent: "3"}
      prices: [{charge_id: fee, rate: "2.00"}]
  - {id: OLD, account: C2, start: 2025-01-01, terms: {currency: EUR, term_months: 12}}
"""


def test_the_desk_shows_deadlines_flags_and_what_follows(ws: Workspace, tmp_path: Path) -> None:
    (ws.configs / "contracts" / "a.yaml").write_text(TERMS)
    known(ws, "account", account_id="C2", name="C2", kind="customer", entity_id="NL01",
          billing_zone="UTC", currency="EUR")  # fmt: skip
    for number in range(2, 6):
        add_service(ws, f"S{number}", date(2025, 12, 1))
    add_service(ws, "T1", date(2025, 12, 1), "C2")
    for number in range(2, 4):
        known(ws, "service_state", service_id=f"S{number}", state="cancelled",
              changed_at=datetime(2026, 2, number))  # noqa: DTZ001  # fmt: skip
    desk = renewal_desk(ws, date(2026, 4, 2), 120)
    old, row = desk.rows
    assert (old.contract_id, [flag.code for flag in old.flags]) == ("OLD", ["lapse"])
    assert old.flags[0].evidence == "ended 2025-12-31, 1 devices still active"
    assert (row.last_day, row.notice_deadline, row.notice_days_left) == (
        date(2026, 6, 30), date(2026, 5, 1), 29,
    )  # fmt: skip
    assert row.alerts_passed == ((90, date(2026, 4, 1)),)
    assert row.next_term == (date(2026, 7, 1), date(2027, 7, 1))
    assert [flag.code for flag in row.flags] == ["churn_risk"]
    assert row.flags[0].evidence == "active devices 4 -> 3 in 3 months: -25.0 %"
    assert [each.contract_id for each in renewal_desk(ws, date(2026, 4, 2), 120, "C1").rows] == [
        "K"
    ]
    paths = write_desk(ws, desk, tmp_path / "desk.xlsx", tmp_path / "desk.html")
    sheet = openpyxl.load_workbook(paths[0])["Renewals"]
    cells = [cell for line in sheet.iter_rows(values_only=True) for cell in line]
    assert "churn risk" in cells and "K" in cells
    assert "active devices 4 -&gt; 3" in paths[1].read_text()

    close(ws, 7)
    found = {
        incident.subject: incident
        for incident in incidents.find_incidents(
            ws, AlertPolicy(), datetime(2026, 5, 3, tzinfo=UTC)
        )
    }
    assert found["K 2026-06-30 60"].code == "contract_ends"
    assert found["K 2026-06-30 60"].figure == "58 days"
    assert found["OLD 2025-12-31 30"].code == "contract_lapsed"
    with ws.engine.connect() as connection:
        told = connection.execute(
            sa.text("select subject, detail ->> 'price_factor' from audit_log"
                    " where action = 'extend_contract'")
        ).fetchall()  # fmt: skip
    assert [tuple(row) for row in told] == [("K term 2", "103/100")]


def test_a_lake_out_of_reach_silences_no_alert(
    ws: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (ws.configs / "contracts" / "a.yaml").write_text(TERMS)
    close(ws, 7)
    moment = datetime(2026, 5, 3, tzinfo=UTC)
    there = replace(ws, clock=lambda: moment)

    def told(one: Workspace) -> set[str]:
        return {incident.code for incident in list_alerts(one)}

    assert told(there) == {"contract_ends"}
    nowhere = LakeChoice.model_validate(
        {
            **{"url": "s3://gone/lake", "endpoint": "http://127.0.0.1:9", "region": "eu-west-1"},
            "credentials": {"access_key": "KEY", "secret_key": "SECRET"},
        }
    )
    away = replace(there, lake=Lake(place_of(nowhere, tmp_path, lambda _name: "x")))
    # reminders that nobody can look for now have not cleared
    assert told(away) == {"contract_ends", "contracts_unchecked"}
    after_close(away)
    assert told(there) == {"contract_ends"}

    # whatever fails when a close tells how it went is named, and is not the close's failure
    url = sa.make_url("postgresql+psycopg2://nobody@127.0.0.1:9/none")
    after_close(replace(there, engine=sa.create_engine(url)))
    assert "nobody was alerted" in capsys.readouterr().err
