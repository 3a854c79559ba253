"""Landing and ingestion into a real database and lake."""

from __future__ import annotations

import gzip
import os
import shutil
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.schemas import REJECTED_RECORD, USAGE_RECORD, VENDOR_INVOICE_LINE
from iotbill_pipelines.operations.ingest import ingest, land
from iotbill_pipelines.operations.ingest_again import Again
from iotbill_pipelines.operations.sample import write_sample
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage import landing
from iotbill_pipelines.storage.models import FeedFile
from tests.feeds.harness import CSV_FEED, HEADER, row

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
NOW = datetime(2026, 11, 2, 6, tzinfo=UTC)


@pytest.fixture
def ws(tmp_path, postgres_url):
    configs = tmp_path / "configs"
    (configs / "feeds").mkdir(parents=True)
    (configs / "feeds" / "demo.yaml").write_text(
        CSV_FEED.replace('files: ["*.csv"]', 'files: ["demo_*"]')
    )
    for name in ("services", "emnify_invoice"):
        shutil.copy(CONFIGS / "feeds" / f"{name}.yaml", configs / "feeds")
    workspace = Workspace.open(tmp_path / "home", configs, postgres_url, lambda: NOW, migrate=True)
    yield workspace
    workspace.close()


@pytest.fixture
def inbox(tmp_path):
    folder = tmp_path / "inbox"
    folder.mkdir()

    def write(name, data):
        path = folder / name
        path.write_bytes(data)
        return path

    return write


def rows(ws, schema, columns="*"):
    files = ws.lake.files(schema)
    if not files:
        return []
    found = duckdb.execute(
        f"select {columns} from read_parquet(?, hive_partitioning = false) order by all", [files]
    )
    return found.fetchall()


def files(ws):
    with Session(ws.engine) as session:
        found = session.execute(sa.select(FeedFile).order_by(FeedFile.original_name)).scalars()
        return {file.original_name: file for file in found}


def test_a_file_becomes_usage_records(ws, inbox):
    [landed] = land(ws, [inbox("demo_1.csv", HEADER + row(1, 5) + b"broken\n" + row(2, -3))])
    assert (landed.feed_id, landed.state, landed.new) == ("demo", "landed", True)
    result = ingest(ws)
    assert result.rows == {
        "files": 1, "quarantined files": 0, "records in": 3, "accepted": 1, "ignored": 0,
        "rejected": 2,
    }  # fmt: skip
    assert rows(ws, USAGE_RECORD, "file_key, line_no, usage_month, quantity") == [
        (landed.file_key, 2, "2026-10", 5)
    ]
    assert rows(ws, REJECTED_RECORD, "line_no, reason_code, quantity") == [
        (3, "column_count", None), (4, "negative_quantity", -3),
    ]  # fmt: skip
    file = files(ws)["demo_1.csv"]
    assert (file.state, file.records_in, file.kept, file.rejected) == ("ingested", 3, 1, 2)
    assert (file.quantity_in, file.quantity_kept, file.quantity_rejected) == (2, 5, -3)
    assert (file.usage_months, file.attempts, file.received_day) == (
        ["2026-10"], 1, date(2026, 11, 2),
    )  # fmt: skip


def test_landing_and_ingesting_twice_change_nothing(ws, inbox):
    data = HEADER + row(1, 5)
    land(ws, [inbox("demo_1.csv", data)])
    ingest(ws)
    version = ws.lake.version(USAGE_RECORD)
    [again, renamed] = land(ws, [inbox("demo_1.csv", data), inbox("demo_copy.csv", data)])
    assert (again.new, renamed.new, renamed.file_key) == (False, False, again.file_key)
    result = ingest(ws)
    assert (result.rows["files"], result.changed) == (0, False)
    assert list(files(ws)) == ["demo_1.csv"]
    assert ws.lake.version(USAGE_RECORD) == version


def test_bad_files_do_not_stop_others_and_say_why(ws, inbox):
    packed = gzip.compress(HEADER + row(1))
    paths = [
        inbox("demo_cut.csv.gz", packed[:-6]), inbox("demo_empty.csv", b""),
        inbox("demo_good.csv", HEADER + row(2)), inbox("demo_header.csv", b"x,y\n" + row(3)),
        inbox("unheard_of.bin", b"\0\1\2"),
    ]  # fmt: skip
    states = {found.path.name: (found.state, found.problem) for found in land(ws, paths)}
    assert states["unheard_of.bin"] == (
        "unrecognised",
        "unheard_of.bin matches no feed's files; add a pattern to a feed under configs/feeds",
    )
    result = ingest(ws)
    assert {f.code for f in result.findings} == {"file_quarantined", "file_unrecognised"}
    known = files(ws)
    assert {name: file.state for name, file in known.items()} == {
        "demo_cut.csv.gz": "quarantined", "demo_empty.csv": "quarantined",
        "demo_good.csv": "ingested", "demo_header.csv": "quarantined",
        "unheard_of.bin": "unrecognised",
    }  # fmt: skip
    assert (
        "missing_column: demo_header.csv line 1 has no column 'time'"
        in known["demo_header.csv"].error
    )
    assert rows(ws, REJECTED_RECORD, "line_no, reason_code") == [
        (0, "damaged_archive"), (0, "empty_file"), (0, "missing_column"),
    ]  # fmt: skip
    assert len(rows(ws, USAGE_RECORD)) == 1


def test_a_corrected_feed_reads_a_file_again_and_replaces_what_it_gave(ws, inbox):
    spec = ws.configs / "feeds" / "demo.yaml"
    spec.write_text(spec.read_text() + "bounds: {max_quantity: {data: 10}}\n")
    [landed] = land(ws, [inbox("demo_1.csv", HEADER + row(1, 5) + row(2, 50))])
    ingest(ws)
    assert (files(ws)["demo_1.csv"].kept, len(rows(ws, USAGE_RECORD))) == (1, 1)
    spec.write_text(spec.read_text().replace("data: 10}", "data: 100}"))
    assert ingest(ws, again=Again()).rows["files"] == 0  # it is not quarantined
    ingest(ws, again=Again((str(landed.file_key),)))
    file = files(ws)["demo_1.csv"]
    assert (file.kept, file.rejected, file.attempts) == (2, 0, 2)
    assert (len(rows(ws, USAGE_RECORD)), rows(ws, REJECTED_RECORD)) == (2, [])


def test_a_file_is_recognised_once_its_feed_exists(ws, inbox):
    [landed] = land(ws, [inbox("later_1.csv", HEADER + row(1))])
    assert landed.state == "unrecognised"
    spec = ws.configs / "feeds" / "demo.yaml"
    spec.write_text(spec.read_text().replace('["demo_*"]', '["demo_*", "later_*"]'))
    assert ingest(ws).rows["accepted"] == 1


def test_only_the_day_asked_for(ws, inbox):
    land(ws, [inbox("demo_1.csv", HEADER + row(1))])
    assert ingest(ws, date(2026, 11, 1)).rows["files"] == 0
    assert ingest(ws, date(2026, 11, 2)).rows["files"] == 1


def test_names_are_never_paths(ws, inbox):
    assert landing.safe_name("../../etc/demo_1.csv") == "demo_1.csv"
    assert landing.safe_name("C:\\in\\demo_1.csv") == "demo_1.csv"
    assert landing.safe_name("demo\u202efdp.csv\n") == "demo_fdp.csv_"
    assert landing.safe_name("..") == "unnamed"
    assert landing.safe_name("demo_" + "x" * 245 + ".csv").endswith("x.csv")
    assert len(landing.safe_name("demo_" + "x" * 245 + ".csv")) == 200
    evil = inbox("demo_'; drop table feed_file; --.csv", HEADER + row(1))
    [landed] = land(ws, [evil])
    assert ingest(ws).rows["accepted"] == 1
    archived = [p for p in ws.archive.rglob("*") if p.is_file()]
    assert [p.suffix for p in archived] == [".zst"]
    assert landed.file_key is not None


def test_a_name_that_is_no_text_stops_nothing(ws, inbox):
    odd = inbox(os.fsdecode(b"demo_\xff\xfe.csv"), HEADER + row(1))
    landed = land(ws, [odd, inbox("demo_2.csv", HEADER + row(2))])
    assert [file.state for file in landed] == ["landed", "landed"]
    assert ingest(ws).rows["accepted"] == 2


def test_the_archive_holds_the_original_bytes(ws, inbox):
    data = gzip.compress(HEADER + row(1))
    path = inbox("demo_1.csv.gz", data)
    land(ws, [path])
    file = files(ws)["demo_1.csv.gz"]
    with landing.open_archived(ws.archive, file.archive_path) as stream:
        assert stream.read() == data
    assert path.read_bytes() == data


def test_folders_leave_out_hidden_unfinished_and_linked_files(ws, inbox, tmp_path):
    path = inbox("demo_1.csv", HEADER + row(1))
    inbox(".demo_2.csv", b"x")
    inbox("demo_3.csv.part", b"x")
    (path.parent / "demo_4.csv").symlink_to("/etc/hostname")
    (path.parent / "inner").mkdir()
    inbox("inner/demo_5.csv", HEADER + row(5))
    assert [found.path.name for found in land(ws, [path.parent])] == ["demo_1.csv", "demo_5.csv"]
    with pytest.raises(landing.LandingError, match="no file or folder"):
        land(ws, [tmp_path / "absent"])


def test_a_file_that_changes_while_it_is_read_is_left_for_later(ws, inbox, monkeypatch):
    path = inbox("demo_1.csv", HEADER + row(1))
    monkeypatch.setattr(landing, "BLOCK_BYTES", 8)
    real, grown = landing.hashlib.sha256, []

    class Hash:
        def __init__(self):
            self.inner = real()

        def update(self, block):
            self.inner.update(block)
            if not grown:  # somebody appends while we read
                grown.append(True)
                with path.open("ab") as more:
                    more.write(row(2))

        def hexdigest(self):
            return self.inner.hexdigest()

    monkeypatch.setattr(landing.hashlib, "sha256", Hash)
    [landed] = land(ws, [path])
    assert landed.state == "failed"
    assert "changed while it was read" in (landed.problem or "")
    assert not [p for p in ws.archive.rglob("*") if p.is_file()]
    monkeypatch.undo()
    assert land(ws, [path])[0].new


def test_reference_files_become_bitemporal_rows(ws, inbox):
    land(ws, [inbox("services_1.csv", b"service_id,account_id,label\nS1,A1,one\n,A1,\n")])
    assert ingest(ws).rows["rejected"] == 1
    with ws.engine.connect() as connection:
        found = connection.execute(
            sa.text("select service_id, account_id, label, source from reference_service")
        ).all()
    assert [tuple(r) for r in found] == [("S1", "A1", "one", "services")]


def test_a_sample_month_is_ingested_and_conserved(tmp_path, postgres_url):
    out = tmp_path / "sample"
    summary = write_sample(out, Month(2026, 10), services=60, seed=3)
    ws = Workspace.open(tmp_path / "home", CONFIGS, postgres_url, lambda: NOW, migrate=True)
    land(ws, [out])
    result = ingest(ws)
    assert result.findings == []
    planted = {file.name: file for file in summary.files if file.feed_id.endswith("_usage")}
    assert len(planted) > 100
    with Session(ws.engine) as session:
        for file in session.execute(sa.select(FeedFile)).scalars():
            assert file.state == "ingested"
            promised = planted.get(file.original_name)
            if promised is not None:
                assert (file.records_in, file.ignored, file.rejected) == (
                    promised.records,
                    promised.outcomes["ignored"],
                    promised.outcomes["rejected"],
                ), file.original_name
            assert file.records_in == file.kept + file.ignored + file.rejected
            assert file.quantity_in == (
                file.quantity_kept + file.quantity_ignored + file.quantity_rejected
            )
    records = ws.lake.rows(USAGE_RECORD) + ws.lake.rows(VENDOR_INVOICE_LINE)
    assert records <= result.rows["accepted"]
    assert ws.lake.rows(REJECTED_RECORD) == result.rows["rejected"] + result.rows["ignored"]
    assert ingest(ws).changed is False
    ws.close()
