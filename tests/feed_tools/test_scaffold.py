"""`iotbill feed new`: what it finds in files, what it admits not to know; it always loads."""

# ruff: noqa: DTZ001 - instants of records are naive UTC, as in the engine

from __future__ import annotations

import codecs
import gzip
from datetime import datetime
from pathlib import Path

import pytest

from iotbill_pipelines.config.documents import parse_yaml
from iotbill_pipelines.config.feeds import parse_feed
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.feeds.spec import FeedSpec
from iotbill_pipelines.operations.feed_tools.linting import lint
from iotbill_pipelines.operations.feed_tools.scaffolding import Scaffold, scaffold
from iotbill_pipelines.operations.feed_tools.shapes import UnknownShapeError
from iotbill_pipelines.operations.sample import write_sample

NOW = datetime(2026, 11, 21)
ICCID = "8988303000008013931"


def make(folder: Path, name: str, data: str | bytes) -> Scaffold:
    sample = folder / name
    sample.write_bytes(data.encode() if isinstance(data, str) else data)
    return scaffold(sample, NOW)


def spec_of(made: Scaffold) -> FeedSpec:
    return parse_feed(parse_yaml(made.text, Path("x.yaml")))


def doubts(made: Scaffold) -> dict[str, str]:
    return {doubt.about: doubt.confidence for doubt in made.doubts}


def clean(folder: Path, made: Scaffold) -> None:
    """The scaffold has no error; what it warns of is what it says itself."""
    path = folder / f"{made.feed_id}.yaml"
    path.write_text(made.text)
    assert [f"{n.code} {n.rule}" for n in lint([path]).notes] == []


def csv(delimiter: str = ",", rows: int = 20) -> str:
    lines = [delimiter.join(("recordId", "start (UTC)", "ICCID", "Service", "Volume MB", "MCC"))]
    for n in range(rows):
        kind, amount = ("Data", f"0.{n + 10:06d}") if n % 3 else ("SMS", "1")
        lines.append(
            delimiter.join((f"R{n:05d}", f"2026-10-05 10:{n:02d}:00", ICCID, kind, amount, "262"))
        )
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_a_table_with_a_header(tmp_path: Path, delimiter: str) -> None:
    made = make(tmp_path, "acme_20261005.csv", csv(delimiter))
    spec = spec_of(made)
    assert getattr(spec.format, "delimiter", None) == delimiter
    assert spec.files == ("acme_*.csv",) and spec.id == "acme"
    assert made.trial.counts == {"accepted": 20, "ignored": 0, "rejected": 0}
    sums = {q.usage_class: q.quantity for q in made.trial.quantities}
    assert sums == {"data": sum(n + 10 for n in range(20) if n % 3), "sms": 7}
    assert spec.dedup is not None and spec.dedup.key[0] == "recordId"
    assert spec.fields["mcc"].steps[-1].name == "mcc"
    assert doubts(made)["fields.uid_value"] == "sure"
    clean(tmp_path, made)


@pytest.mark.parametrize(
    ("encode", "encoding"),
    [
        (lambda text: codecs.BOM_UTF8 + text.encode(), "utf-8"),
        (lambda text: text.encode("utf-16"), "utf-16"),
        (lambda text: text.replace("SMS", "SMS é").encode("iso8859-15"), "iso8859-15"),
        (lambda text: gzip.compress(text.encode()), "utf-8"),
    ],
)
def test_bytes_become_text_first(tmp_path: Path, encode, encoding: str) -> None:  # type: ignore[no-untyped-def]
    made = make(tmp_path, "acme_1.csv", encode(csv()))
    assert getattr(spec_of(made).format, "encoding", None) == encoding
    assert made.trial.accepted == 20


def test_times_of_every_kind(tmp_path: Path) -> None:
    for text, form in (
        ("05.10.2026 10:00:{:02d}", "%d.%m.%Y %H:%M:%S"),
        ("20261005100{:03d}", "%Y%m%d%H%M%S"),
        ("17912988{:02d}", "epoch_s"),
        ("17912988{:02d}123", "epoch_ms"),
        ("2026-10-05T10:00:{:02d}+02:00", "iso"),
    ):
        rows = "".join(f"{text.format(n)},26201000000{n:04d},{n}\n" for n in range(10, 30))
        made = make(tmp_path, "acme_1.csv", "time,imsi,bytes\n" + rows)
        steps = spec_of(made).fields["event_start"].steps
        assert steps[-1].params.get("format", "iso") == form
        assert made.trial.accepted == 20, form
    assert doubts(made)["zone"] == "sure"


def test_a_day_that_could_be_a_month_is_said(tmp_path: Path) -> None:
    rows = "".join(f"05/10/2026 10:00:{n},26201000000{n:04d},{n}\n" for n in range(10, 30))
    made = make(tmp_path, "acme_1.csv", "time,imsi,bytes\n" + rows)
    assert any("day and month" in doubt.why for doubt in made.doubts)


def test_lines_that_are_no_records(tmp_path: Path) -> None:
    rows = "".join(f"2026-10-05 10:00:{n},26201000000{n:04d},A,{n}\n" for n in range(10, 20))
    data = "time,imsi,operator,bytes\nTIMESTAMP,VARCHAR(20),VARCHAR(9),INTEGER\n" + rows
    data += "2026-10-05 10:00:00,262010000000010,Total,145\ntime,imsi,operator,bytes\n"
    made = make(tmp_path, "acme_1.csv", data)
    assert made.trial.accepted == 10
    assert made.trial.quantities[0].quantity == sum(range(10, 20))


def test_json_with_comments_and_records_inside(tmp_path: Path) -> None:
    data = """{"meta": {"page": 1}, // of many
      "usage": [{"start": "2026-10-05T10:00:00Z", "sim": {"iccid": "%s"}, "data_total": 5},
                {"start": "2026-10-05T11:00:00Z", "sim": {"iccid": "%s"}, "data_total": 7}]}"""
    made = make(tmp_path, "acme.json", data % (ICCID, ICCID))
    assert made.trial.quantities[0].quantity == 12
    clean(tmp_path, made)


def test_what_is_no_usage_says_so(tmp_path: Path) -> None:
    with pytest.raises(UnknownShapeError, match="no usage file"):
        make(tmp_path, "rates.csv", "prefix,price\n49,0.1\n44,0.2\n")
    with pytest.raises(UnknownShapeError, match="holds nothing"):
        make(tmp_path, "empty.csv", "\n\n")
    with pytest.raises(UnknownShapeError, match="neither a delimiter"):
        make(tmp_path, "prose.txt", "a line\nand another one that is longer\nend\n")


def test_the_sample_company_s_files(tmp_path: Path) -> None:
    """Four layouts whose truth is known: totals, units and classes must be found."""
    write_sample(tmp_path, Month(2026, 10), 40, 1)
    files = {
        "telfix": tmp_path / "telfix_20261001.dat",
        "bics": tmp_path / "bics_usage_20261001.csv",
        "xl": tmp_path / "xl_usage_2026-10-01.xlsx",
        "emnify": tmp_path / "emnify_2026-10-01.ndjson",
    }
    made = {name: scaffold(path, NOW) for name, path in files.items()}
    for name, found in made.items():
        trial = found.trial
        assert trial.accepted > 4 and not trial.counts["rejected"], (name, trial.reasons)
        clean(tmp_path, found)
    control = spec_of(made["telfix"]).control
    assert control is not None and (control.records, control.total) == (
        "trailer.records", "trailer.total"
    )  # fmt: skip
    for name in ("bics", "xl", "emnify"):
        classes = {q.usage_class for q in made[name].trial.quantities}
        assert classes >= {"data", "sms"}, name
    assert "{units: {unit: MB}}" in made["emnify"].text


REAL = {
    "cdr/asterisk_Master.csv": 2,
    "cdr/asterisk_cdrlib_good.csv": 5,
    "cdr/cdrstats_CDRImport-2015-10-26.csv": 5,
    "cdr/cdrstats_import_cdr.txt": 5,
    "cdr/cdrstats_import_cdr_100.txt": 100,
    "cdr/cgrates_kamailio_flatstore_quoted.csv": 7,
    "cdr/cgrates_partial_1.csv": 2,
    "cdr/cisco_cucm_cmr_docsample.csv": 2,
    "cdr/didww_cdr_export_2017.csv": 4,
    "cdr/freeswitch_cdr_csv_Master.csv": 5,
    "cdr/jbilling_asterisk-sample1.csv": 11,
    "iot/connectedyou_usage_event.json": 1,
    "iot/emnify_usage_examples.jsonc": 2,
    "iot/emnify_usage_examples.ndjson": 2,
    "iot/twilio_supersim_usage_examples.json": 2,
    "lorawan/campusiot_helium_IMST_7C727B.ndjson.gz": 13_352,
    "lorawan/campusiot_sainteynard_d1d1e80000000032.ndjson.gz": 9_786,
    "meter/oed_pipe121BInput.csv": 7,
    "meter/oed_pipe14Input.csv": 5,
    "meter/oed_pipe40Input.csv.gz": 5,
    "meter/oed_readings_ri_15_days_75_holes.head1000.csv": 999,
}
"""Records that a scaffold of each file must accept, as it stands."""


@pytest.mark.parametrize("name", REAL)
def test_real_files_keep_their_records(shared: Path, tmp_path: Path, name: str) -> None:
    made = scaffold(shared / "feeds" / name, NOW)
    assert made.trial.accepted == REAL[name]
    assert made.trial.counts["rejected"] == 0 and made.trial.error is None
    clean(tmp_path, made)


def test_durations_are_told_from_start_and_end(shared: Path) -> None:
    """c13 of Asterisk's file is the time from start to end, c14 from answer to end."""
    made = scaffold(shared / "feeds/cdr/asterisk_Master.csv", NOW)
    spec = spec_of(made)
    assert spec.fields["quantity"].from_ == ("c13",)
    assert (spec.fields["event_start"].from_, spec.fields["event_end"].from_) == (
        ("c10",), ("c12",)
    )  # fmt: skip
