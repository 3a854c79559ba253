"""Files that were quarantined are read once their feed is right, and nothing is counted twice."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
import sqlalchemy as sa
from click.testing import Result
from sqlalchemy.orm import Session
from typer.testing import CliRunner

from iotbill_pipelines.cli.main import app
from iotbill_pipelines.config.alerts import AlertPolicy
from iotbill_pipelines.config.documents import ConfigError
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.schemas import REJECTED_RECORD, USAGE_RECORD, Table
from iotbill_pipelines.operations.auditing import verify
from iotbill_pipelines.operations.incidents import find_incidents
from iotbill_pipelines.operations.ingest import ingest, land
from iotbill_pipelines.operations.ingest_again import Again
from iotbill_pipelines.operations.stages import StageResult
from iotbill_pipelines.operations.usage import check_conservation
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage.models import AuditLog, FeedFile
from tests.conftest import ROOT
from tests.feeds.harness import CSV_FEED, HEADER, row

RIGHT = CSV_FEED.replace('files: ["*.csv"]', 'files: ["demo_*"]')
WRONG = RIGHT.replace("from: time", "from: begin")
COMPANION = """
control:
  companion:
    files: ["demo_*.ctl"]
    format: {type: delimited, delimiter: ";", header: false, columns: [file, bytes, lines]}
    file: file
    records: lines
"""


@dataclass
class Carrier:
    """A workspace with one feed, files that land a day after each other, and what came of them."""

    ws: Workspace
    inbox: Path
    times: list[datetime]

    def feed(self, text: str, name: str = "demo") -> None:
        (self.ws.configs / "feeds" / f"{name}.yaml").write_text(text)

    def land(self, name: str, data: bytes) -> int:
        """Land a file a day later than the one before; return its key."""
        self.times.append(self.times[-1] + timedelta(days=1))
        path = self.inbox / str(len(self.times)) / name
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
        [landed] = land(self.ws, [path])
        assert landed.new and landed.file_key is not None
        return landed.file_key

    def again(self, *named: object, day: date | None = None) -> StageResult:
        return ingest(self.ws, day, Again(tuple(map(str, named))))

    @property
    def files(self) -> dict[int, FeedFile]:
        with Session(self.ws.engine) as session:
            return {file.file_key: file for file in session.scalars(sa.select(FeedFile))}

    def state(self, key: int) -> str:
        file = self.files[key]
        return f"{file.state}: {(file.error or '').split(':')[0]}".rstrip(": ")

    def lake(self, schema: Table = USAGE_RECORD) -> list[tuple[int, int]]:
        """Key and line of every record in the lake."""
        paths = self.ws.lake.files(schema)
        select = "select file_key, line_no from read_parquet(?, hive_partitioning = false)"
        return sorted(duckdb.execute(select, [paths]).fetchall()) if paths else []

    def run(self, *arguments: str) -> Result:
        options = ["--home", str(self.ws.home), "--configs", str(self.ws.configs)]
        options += ["--database-url", self.ws.database_url, "--actor", "ann"]
        return CliRunner().invoke(app, [*options, *arguments])


@pytest.fixture
def carrier(tmp_path: Path, postgres_url: str) -> Iterator[Carrier]:
    configs = tmp_path / "configs"
    (configs / "feeds").mkdir(parents=True)
    times = [datetime(2026, 11, 2, 6, tzinfo=UTC)]
    home = tmp_path / "home"
    ws = Workspace.open(home, configs, postgres_url, lambda: times[-1], migrate=True)
    yield Carrier(ws, tmp_path / "inbox", times)
    ws.close()


def test_a_corrected_feed_reads_what_was_quarantined_once(carrier: Carrier) -> None:
    carrier.feed(WRONG)
    key = carrier.land("demo_1.csv", HEADER + row(1) + row(2) + b"broken\n")
    torn = carrier.land("demo_torn.csv.gz", b"\x1f\x8b\x08\x00torn")
    said = carrier.run("ingest").output
    assert f"iotbill ingest --again --file {key}" in " ".join(said.split())
    assert carrier.state(key) == "quarantined: missing_column"
    # an uncorrected feed, and what does not read it, leave it as it is
    assert carrier.run("ingest", "--again").exit_code == 0
    assert carrier.run("ingest").exit_code == 0
    assert carrier.state(key) == "quarantined: missing_column"
    carrier.feed(RIGHT)
    file = next(carrier.inbox.rglob("demo_1.csv"))
    known = " ".join(carrier.run("land", str(file)).output.split())
    assert "0 new, 1 known already" in known and f"ingest --again --file {key}" in known
    assert carrier.run("ingest", "--again").exit_code == 0
    found = carrier.files[key]
    assert (found.state, found.error) == ("ingested", None)
    assert (found.records_in, found.kept, found.ignored, found.rejected) == (3, 2, 0, 1)
    assert carrier.lake() == [(key, 2), (key, 3)]
    assert carrier.lake(REJECTED_RECORD) == sorted([(key, 4), (torn, 0)])
    counts = check_conservation(carrier.ws, [Month(2026, 10)])
    assert not [told for told in counts if "month 2026-10" not in told.message]  # nothing is rated
    # what is damaged stays so, with its reason
    assert carrier.state(torn) == "quarantined: damaged_archive"
    before = carrier.ws.lake.version(USAGE_RECORD), carrier.files[key].attempts
    assert carrier.run("ingest", "--again").exit_code == 0
    assert (carrier.ws.lake.version(USAGE_RECORD), carrier.files[key].attempts) == before
    # and a file that was ingested may be read again by its name: its records are there once
    assert carrier.run("ingest", "--again", "--file", "demo_1.csv").exit_code == 0
    assert carrier.lake() == [(key, 2), (key, 3)]
    assert carrier.files[key].attempts == before[1] + 1
    with Session(carrier.ws.engine) as session:
        entries = session.scalars(sa.select(AuditLog).order_by(AuditLog.seq)).all()
    assert {(entry.actor, entry.action) for entry in entries} == {("ann", "ingest_again")}
    assert entries[-1].detail["files"] == [
        {"file_key": str(key), "name": "demo_1.csv", "was": "ingested"}
    ]
    assert verify(carrier.ws).findings == []


def test_the_alert_names_the_command_that_reads_it(carrier: Carrier) -> None:
    carrier.feed(WRONG)
    key = carrier.land("demo_1.csv", HEADER + row(1))
    ingest(carrier.ws)
    shutil.copytree(ROOT / "configs" / "catalog", carrier.ws.configs / "catalog")
    [told] = [
        incident
        for incident in find_incidents(carrier.ws, AlertPolicy(), carrier.times[-1])
        if incident.code == "file_quarantined"
    ]
    carrier.feed(RIGHT)
    assert carrier.run(*told.evidence.removeprefix("iotbill ").split()).exit_code == 0
    assert carrier.lake() == [(key, 2)]


def test_a_file_is_claimed_once_its_feed_is_there(carrier: Carrier) -> None:
    carrier.feed(RIGHT)
    key = carrier.land("other_1.csv", HEADER + row(1))
    [told] = carrier.again(key).findings
    assert (told.code, carrier.state(key)) == ("file_left_alone", "unrecognised")
    assert "other_1.csv matches no feed's files" in told.message
    other = RIGHT.replace("id: demo", "id: other").replace("demo_*", "other_*")
    carrier.feed(other, "other")
    carrier.again()
    assert (carrier.state(key), carrier.lake()) == ("ingested", [(key, 2)])
    # one that was quarantined is read by the feed that claims it now
    carrier.feed(WRONG)
    moved = carrier.land("demo_x.csv", HEADER + row(2))
    ingest(carrier.ws)
    carrier.feed(WRONG.replace("demo_*", "demo_y*"))
    [told] = carrier.again().findings
    assert "demo_x.csv matches no feed's files" in told.message
    assert carrier.state(moved) == "quarantined: missing_column"
    carrier.feed(other.replace('["other_*"]', '["other_*", "demo_x*"]'), "other")
    carrier.again()
    assert (carrier.files[moved].feed_id, carrier.state(moved)) == ("other", "ingested")
    assert carrier.lake() == sorted([(key, 2), (moved, 2)])
    # one that was ingested stays with the feed whose table holds it
    carrier.feed(RIGHT)
    carrier.feed(other, "other")
    [told] = carrier.again(moved).findings
    assert "was read by feed other and is claimed by demo" in told.message
    assert carrier.lake() == sorted([(key, 2), (moved, 2)])


def test_what_a_later_file_has_replaced_is_read_only_if_it_is_named(carrier: Carrier) -> None:
    carrier.feed(WRONG)
    old = carrier.land("demo_1.csv", HEADER + row(1))
    ingest(carrier.ws)
    carrier.feed(RIGHT)
    new = carrier.land("demo_1.csv", HEADER + row(1) + row(2))
    ingest(carrier.ws)
    [told] = carrier.again().findings
    assert (told.severity, told.code) == ("info", "file_left_alone")
    assert f"iotbill ingest --again --file {old}" in told.what_to_do
    assert (carrier.state(old), carrier.lake()) == (
        "quarantined: missing_column", [(new, 2), (new, 3)],
    )  # fmt: skip
    with pytest.raises(ValueError, match=rf"several files are called so \({old} of 2026-11-03, q"):
        carrier.again("demo_1.csv")
    carrier.again("demo_1.csv", day=date(2026, 11, 3))
    assert carrier.state(old) == "ingested"


def test_only_what_is_asked_for_is_read(carrier: Carrier) -> None:
    carrier.feed(WRONG)
    keys = [carrier.land(f"demo_{number}.csv", HEADER + row(number)) for number in range(3)]
    ingest(carrier.ws)
    carrier.feed(RIGHT)
    waiting = carrier.land("demo_9.csv", HEADER + row(9))
    carrier.again(keys[0])
    assert carrier.lake() == [(keys[0], 2)]
    carrier.again(day=date(2026, 11, 4))
    assert carrier.lake() == sorted((key, 2) for key in keys[:2])
    assert (carrier.state(keys[2]), carrier.state(waiting)) == (
        "quarantined: missing_column", "landed",
    )  # fmt: skip
    carrier.again()
    assert carrier.lake() == sorted((key, 2) for key in [*keys, waiting])


def test_old_reference_data_does_not_take_back_what_is_known(carrier: Carrier) -> None:
    text = (ROOT / "configs" / "feeds" / "services.yaml").read_text()
    carrier.feed(text.replace("from: service_id", "from: sim"), "services")
    head = b"service_id,account_id,label\n"
    old = carrier.land("services_1.csv", head + b"S1,A1,old\n")
    ingest(carrier.ws)
    assert carrier.state(old) == "quarantined: missing_column"
    carrier.feed(text, "services")
    carrier.land("services_2.csv", head + b"S1,A1,new\n")
    ingest(carrier.ws)
    [told] = carrier.again().findings
    assert "services_1.csv stays quarantined: services_2.csv landed later" in told.message
    with carrier.ws.engine.connect() as connection:
        labels = connection.scalars(sa.text("select label from reference_service")).all()
    assert labels == ["new"]


def test_corrected_terms_of_companions_are_asked_again(carrier: Carrier) -> None:
    carrier.feed(RIGHT + COMPANION.replace("[file, bytes, lines]", "[file, lines, bytes]"))
    good = carrier.land("demo_1.csv", HEADER + row(1))
    bad = carrier.land("demo_2.csv", HEADER + row(2) + row(3))
    carrier.land("demo_day.ctl", b"demo_1.csv;1;1\ndemo_2.csv;3;2\n")
    ingest(carrier.ws)
    assert (carrier.state(good), carrier.state(bad)) == ("ingested", "quarantined: control_records")
    carrier.feed(RIGHT + COMPANION)
    assert carrier.again(bad).rows["quarantined files"] == 0
    assert carrier.lake() == sorted([(good, 2), (bad, 2), (bad, 3)])
    carrier.again("demo_day.ctl")  # it states the same again: no file is read for it
    assert [carrier.files[key].attempts for key in (good, bad)] == [1, 2]


def test_a_companion_that_could_not_be_read_is_read_again_as_one(carrier: Carrier) -> None:
    carrier.feed(RIGHT + COMPANION.replace('delimiter: ";"', 'delimiter: "|"'))
    key = carrier.land("demo_1.csv", HEADER + row(1))
    first = carrier.land("demo_1.ctl", b"demo_1.csv;9;7\n")
    ingest(carrier.ws)
    assert carrier.state(first) == "quarantined: unreadable_companion"
    second = carrier.land("demo_1.ctl", b"demo_1.csv;9;1\n")
    ingest(carrier.ws)
    carrier.feed(RIGHT + COMPANION)
    [told] = carrier.again().findings
    assert "another companion of this name took its place" in told.message
    assert (carrier.state(first), carrier.state(second), carrier.state(key)) == (
        "quarantined: unreadable_companion", "ingested", "ingested",
    )  # fmt: skip
    assert carrier.lake() == [(key, 2)]


def test_a_file_that_can_no_longer_be_read_leaves_nothing(carrier: Carrier) -> None:
    carrier.feed(RIGHT)
    key = carrier.land("demo_1.csv", HEADER + row(1))
    ingest(carrier.ws)
    carrier.feed(WRONG)
    carrier.again(key)
    assert (carrier.state(key), carrier.lake()) == ("quarantined: missing_column", [])
    carrier.feed(RIGHT)
    carrier.again(key)
    archived = carrier.ws.archive / carrier.files[key].archive_path
    archived.rename(carrier.inbox / "kept")
    carrier.again(key)
    assert (carrier.state(key), carrier.lake()) == ("quarantined: unreadable", [])
    (carrier.inbox / "kept").rename(archived)
    carrier.again()
    assert (carrier.state(key), carrier.lake()) == ("ingested", [(key, 2)])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--file", "demo_1.csv"], "--file names files to read again; add --again"),
        (["--again", "--file", "demo_9.csv"], "--file demo_9.csv: no file of this name or key"),
        (["--again", "--file", "9" * 30], "no file of this name or key has landed"),
        (["--again", "--day", ""], "'' is not a day; write it as YYYY-MM-DD"),
        (["--again", "--day", "soon"], "'soon' is not a day; write it as YYYY-MM-DD"),
    ],
)
def test_what_cannot_be_meant_is_told(carrier: Carrier, arguments: list[str], said: str) -> None:
    carrier.feed(RIGHT)
    result = carrier.run("ingest", *arguments)
    assert isinstance(result.exception, ValueError) and said in str(result.exception)


def test_a_feed_that_does_not_compile_changes_nothing(carrier: Carrier) -> None:
    carrier.feed(WRONG)
    key = carrier.land("demo_1.csv", HEADER + row(1))
    ingest(carrier.ws)
    carrier.feed(RIGHT.replace("trim, imsi]", "trim, {date: {}}]"))
    with pytest.raises(ConfigError, match="the steps give a date"):
        carrier.again()
    assert carrier.state(key) == "quarantined: missing_column"
