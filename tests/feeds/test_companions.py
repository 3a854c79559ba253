"""Data files wait for the companion that states what they hold, and are held to it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from iotbill_pipelines.operations import watching
from iotbill_pipelines.operations.feed_tools.pages import feed_page, to_markdown
from iotbill_pipelines.operations.feed_tools.trying import try_sample
from iotbill_pipelines.operations.ingest import ingest, land
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage.models import FeedFile
from tests.feeds.harness import CSV_FEED, HEADER, RECEIVED, feed, ingest_bytes, row

BY_NAME = (
    CSV_FEED.replace('files: ["*.csv"]', 'files: ["demo_*.csv*"]')
    + """
control:
  companion:
    files: ["demo_*.ctl"]
    format: {type: delimited, delimiter: "=", header: false, columns: [name, count]}
    records: count
"""
)
NOW = datetime(2026, 11, 2, 6, tzinfo=UTC)


@pytest.fixture
def opened(tmp_path, postgres_url):
    (tmp_path / "configs/feeds").mkdir(parents=True)
    (tmp_path / "configs/feeds/demo.yaml").write_text(BY_NAME)
    times = [NOW]
    home, configs = tmp_path / "home", tmp_path / "configs"
    workspace = Workspace.open(home, configs, postgres_url, lambda: times[-1], migrate=True)
    yield workspace, times
    workspace.close()


def put(ws: Workspace, name: str, data: bytes) -> Path:
    ws.landing.mkdir(exist_ok=True)
    path = ws.landing / name
    path.write_bytes(data)
    return path


def states(ws: Workspace) -> dict[str, str]:
    with Session(ws.engine) as session:
        rows = session.scalars(sa.select(FeedFile).order_by(FeedFile.original_name))
        return {f.original_name: (f.error or f.state).split(":")[0] for f in rows}


def test_a_file_waits_for_its_companion_and_is_held_to_it(opened):
    ws, times = opened
    land(ws, [put(ws, "demo_1.csv", HEADER + row(1))])
    result = ingest(ws)
    assert [f.code for f in result.findings] == ["companion_missing"]
    assert states(ws) == {"demo_1.csv": "waits for its companion file"}
    assert watching.waiting(ws, NOW + timedelta(days=9999)).days == ()  # nothing to do yet
    times.append(NOW + timedelta(days=1))
    told = b"records=2\n"
    land(ws, [put(ws, "demo_1.ctl", told)])
    ingest(ws, times[-1].date())
    assert states(ws) == {"demo_1.csv": "control_records", "demo_1.ctl": "ingested"}
    # the same bytes under another name speak of another file
    again = put(ws, "demo_2.csv.ctl", told)
    assert again in watching.waiting(ws, NOW + timedelta(days=9999)).files
    land(ws, [again, put(ws, "demo_2.csv", HEADER + row(1) + row(2))])
    ingest(ws)
    assert states(ws)["demo_2.csv"] == "ingested"
    # a corrected companion takes the place of the wrong one
    land(ws, [put(ws, "demo_1.ctl", b"records=1\n")])
    ingest(ws)
    assert states(ws)["demo_1.csv"] == "ingested"
    land(ws, [put(ws, "demo_3.ctl", b"what\n")])
    ingest(ws)
    assert states(ws)["demo_3.ctl"] == "unreadable_companion"


def test_a_companion_that_need_not_come():
    loose = BY_NAME + "    wait: false\n"
    out = ingest_bytes(loose, {"demo_1.csv": HEADER + row(1)})
    assert out.counts == {"accepted": 1}


def test_the_same_bytes_many_times_are_one_file(opened):
    ws, _ = opened
    ws.landing.mkdir(exist_ok=True)
    for number in range(50):
        (ws.landing / f"demo_{number}.csv").touch()
    later = NOW + timedelta(days=9999)
    first = watching.waiting(ws, later)
    assert len(first.files) == 50
    land(ws, [first.files[0]])
    assert watching.waiting(ws, later).files == ()
    assert watching.waiting(ws, later).known == 50


def test_a_sample_is_held_to_the_companion_beside_it(tmp_path):
    sample = tmp_path / "demo_1.csv"
    sample.write_bytes(HEADER + row(1))
    assert try_sample(feed(BY_NAME), sample, RECEIVED).error is None
    (tmp_path / "demo_1.ctl").write_bytes(b"records=2\n")
    assert (try_sample(feed(BY_NAME), sample, RECEIVED).error or "").startswith("control_records")
    page = to_markdown(feed_page(feed(BY_NAME)))
    assert "state count; a file waits for its own" in page
