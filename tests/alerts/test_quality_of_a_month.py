"""A sample month's feed-days: checked, remembered, alarmed, and cleared when the file comes."""

from __future__ import annotations

import shutil
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.operations.alerts import list_alerts
from iotbill_pipelines.operations.data_quality import check_quality, of_day
from iotbill_pipelines.operations.ingest import ingest, land
from iotbill_pipelines.operations.report import load_figures
from iotbill_pipelines.operations.sample import write_sample
from iotbill_pipelines.operations.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]
PERIOD = Month(2026, 10)


def test_a_late_day_fails_until_it_comes(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = tmp_path / "configs"
    shutil.copytree(ROOT / "configs", configs)
    ws = Workspace.open(
        tmp_path / "home", configs, postgres_url, migrate=True,
        clock=lambda: datetime(2026, 11, 3, 8, tzinfo=UTC),
    )  # fmt: skip
    folder = tmp_path / "landing"
    write_sample(folder, PERIOD, 40, 5)
    (late,) = folder.glob("emnify_2026-10-27*")
    held_back = tmp_path / late.name
    late.rename(held_back)
    land(ws, [folder])
    ingest(ws)

    first = check_quality(ws, PERIOD)
    told = {
        finding.message
        for finding in first.findings
        if "emnify_usage 2026-10-27" in finding.message
    }
    assert (
        "emnify_usage 2026-10-27: expected every file that is due has come; "
        "missing_files is 1 files" in told
    )
    assert {finding.code for finding in first.findings} == {"data_quality"}
    assert {finding.severity for finding in first.findings} == {"warn"}
    assert (ws.out(PERIOD) / "data_docs" / "index.html").is_file()
    assert of_day(first, date(2026, 10, 27)).rows == {"feed-days": 4}

    monkeypatch.setattr("iotbill_pipelines.operations.expectations.run_expectations", None)
    again = check_quality(ws, PERIOD)  # nothing changed: it does not even look
    assert again.changed is False
    assert again.findings == first.findings
    monkeypatch.undo()

    alarmed = [one for one in list_alerts(ws) if one.feed_id == "emnify_usage"]
    subjects = {(one.code, one.subject) for one in alarmed}
    assert ("data_quality", "2026-10-27 missing_files") in subjects
    assert ("delivery_missing", "since 2026-10-27") in subjects

    land(ws, [held_back])
    ingest(ws)
    last = check_quality(ws, PERIOD)
    assert last.changed
    assert not [one for one in last.findings if "2026-10-27" in one.message]
    assert not [one for one in list_alerts(ws) if "2026-10-27" in one.subject]
    with ws.engine.connect() as connection:
        held = connection.execute(
            sa.text(
                "select count(*) filter (where records > 0) as days, sum(records) as records"
                " from feed_day_profile"
            )
        ).one()
        accepted = connection.execute(
            sa.text("select sum(kept) from feed_file where '2026-10' = any(usage_months)")
        ).scalar_one()
    assert held.days == 4 * 31
    # files reach into September and November too
    assert 0.9 * float(accepted) < float(held.records) <= float(accepted)
    pages = [file.name for file in load_figures(ws, PERIOD).files if "data_docs" in file.name]
    assert pages == ["data_docs/index.html"]
    ws.close()
