"""Damage of every format, and of the public files: nothing crashes, nothing is lost or doubled."""

# ruff: noqa: DTZ001 - instants of records are naive UTC, as in the engine

from __future__ import annotations

import io
import random
from collections import Counter
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path

import openpyxl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iotbill_pipelines.config.feeds import load_feed
from tests.decoders.test_roaming import charge, gprs, transfer_batch
from tests.depth import examples
from tests.feeds.harness import CSV_FEED, HEADER, damaged, feed, ingest_bytes, row
from tests.feeds.test_layouts import LAYOUTS, LINES, packed

SPECS = Path(__file__).parent / "specs"
QUICK = settings(deadline=None, max_examples=examples(7), suppress_health_check=list(HealthCheck))


def _workbook() -> bytes:
    book = openpyxl.Workbook()
    book.active.append(["time", "sim", "bytes"])
    for number in range(1, 6):
        book.active.append(["2026-10-05T10:00:00Z", f"26201{number:010d}", number])
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


CDR = "<cdr><time>2026-10-05T10:00:00Z</time><sim>262010000000001</sim><bytes>5</bytes></cdr>\n"
FILES = {
    "xml": (
        feed(CSV_FEED.replace("{type: delimited}", "{type: xml, record: usage/cdr}")),
        f"<usage>{CDR * 5}</usage>".encode(),
    ),
    "tap": (load_feed(SPECS / "tap.yaml"), transfer_batch(*[gprs(charge(150))] * 3)),
    "xlsx": (feed(CSV_FEED.replace("delimited", "xlsx")), _workbook()),
    "zip": (feed(CSV_FEED), packed({"a.csv": HEADER + row(1), "b.csv": HEADER + row(2)})),
    "layouts": (feed(LAYOUTS), "\n".join(LINES).encode()),
    "exploded": (
        feed(
            CSV_FEED.replace("{type: delimited}", "{type: ndjson, explode: [parts]}").replace(
                "from: bytes", "from: parts.bytes"
            )
        ),
        b'{"time":"2026-10-05T10:00:00Z","sim":"262010000000001","parts":[{"bytes":1},{"bytes":2}]}\n'
        * 5,
    ),
}


@pytest.mark.parametrize("kind", FILES)
@QUICK
@given(st.randoms(use_true_random=False))
def test_damage_costs_records_or_the_file_and_is_told(kind, draw):
    """The harness holds every record to one outcome, and every reject to a reason."""
    spec, content = FILES[kind]
    out = ingest_bytes(spec, {"demo": damaged(content, draw), "whole": content})
    first, whole = out.results
    assert whole.state == "ingested" and whole.records["accepted"]
    assert first.state == "ingested" or first.error
    if first.state == "quarantined":
        assert not first.records["accepted"]
        assert any(r["file_key"] == 1 for r in out.rejected)


@pytest.mark.parametrize("kind", ["xml", "tap", "zip", "xlsx"])
@QUICK
@given(st.floats(0, 1, exclude_max=True))
def test_a_file_cut_off_anywhere_is_never_taken_for_a_whole_one(kind, where):
    spec, content = FILES[kind]
    out = ingest_bytes(spec, content[: int(len(content) * where)])
    if kind == "xml" and out.results[0].state == "ingested":
        assert b"</usage>" in content[: int(len(content) * where)]
    else:
        assert out.results[0].state == "quarantined"


@pytest.mark.parametrize("name", sorted(path.stem for path in SPECS.glob("*.yaml")))
def test_public_files_damaged_shuffled_and_repeated(shared, name):
    spec = load_feed(SPECS / f"{name}.yaml")
    draw = random.Random(name)
    files = [
        path
        for path in sorted((shared / "feeds").rglob("*"))
        if path.is_file()
        and path.stat().st_size < 200_000
        and any(fnmatchcase(path.name, pattern) for pattern in spec.files)
    ]
    if not files:
        pytest.skip("no public file of this layout is small enough to be damaged many times")
    data = {}
    for path in files:
        content = path.read_bytes()
        for number in range(6):
            data[f"{number}_{path.name}"] = damaged(content, draw)
        lines = content.splitlines(keepends=True)
        draw.shuffle(lines)
        data[f"shuffled_{path.name}"] = b"".join(lines)
        data[f"twice_{path.name}"] = content + content
    out = ingest_bytes(spec, data, datetime(2023, 1, 1))
    assert len(out.results) == len(data)
    counted = Counter(m["file_key"] for m in out.mapped)
    for result in out.results:
        assert result.records_in == counted[result.file_key]
        assert result.state == "ingested" or result.error
