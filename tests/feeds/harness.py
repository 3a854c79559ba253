"""Feeds written in tests: YAML text and bytes in, outcomes per line out."""

# ruff: noqa: DTZ001 - instants of records are naive UTC, as in the engine

from __future__ import annotations

import io
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from iotbill_pipelines.compute.duckdb_engine import DuckDbCompute
from iotbill_pipelines.compute.feed_files import FileResult, ingest_files
from iotbill_pipelines.compute.readers import SourceFile
from iotbill_pipelines.config.documents import parse_yaml
from iotbill_pipelines.config.feeds import parse_feed
from iotbill_pipelines.engine.feeds.spec import FeedSpec

RECEIVED = datetime(2026, 11, 2, 6, 0)

CSV_FEED = """
id: demo
carrier: demo
target: usage_record
files: ["*.csv"]
format: {type: delimited}
zone: UTC
fields:
  event_start: {from: time, steps: [trim, timestamp]}
  uid_type: {value: imsi}
  uid_value: {from: sim, steps: [trim, imsi]}
  usage_class: {value: data}
  quantity: {from: bytes, steps: [trim, integer]}
dedup: {key: ["=uid_value", "=event_start"]}
"""

NDJSON_FEED = CSV_FEED.replace("delimited", "ndjson")

HEADER = b"time,sim,bytes\n"


def row(number: int = 1, size: object = 100, time: str = "2026-10-05T10:00:00Z") -> bytes:
    return f"{time},26201{number:010d},{size}\n".encode()


@dataclass(frozen=True)
class Outcome:
    """What came out of one or more files of a feed."""

    results: list[FileResult]
    mapped: list[dict[str, Any]]
    rejected: list[dict[str, Any]]

    @property
    def counts(self) -> dict[str, int]:
        return dict(Counter(r["reason_code"] or "accepted" for r in self.mapped))

    @property
    def accepted(self) -> list[dict[str, Any]]:
        return [r for r in self.mapped if r["outcome"] == "accepted"]

    def reason(self, line_no: int) -> str | None:
        [found] = [r for r in self.mapped if r["line_no"] == line_no]
        return found["reason_code"]


def feed(text: str) -> FeedSpec:
    return parse_feed(parse_yaml(text, Path("configs/feeds/demo.yaml")))


def source(name: str, data: bytes, key: int = 1, received_at: datetime = RECEIVED) -> SourceFile:
    return SourceFile(key, name, received_at, len(data), lambda: io.BytesIO(data))


def ingest_bytes(
    spec: FeedSpec | str, data: bytes | Mapping[str, bytes], received_at: datetime = RECEIVED
) -> Outcome:
    """Run files through a feed and hold every law that holds for all of them."""
    spec = feed(spec) if isinstance(spec, str) else spec
    named = data if isinstance(data, Mapping) else {"demo.csv": data}
    files = [
        source(name, content, key, received_at)
        for key, (name, content) in enumerate(named.items(), 1)
    ]
    with DuckDbCompute(expected_rows=0) as compute:
        results = ingest_files(compute, spec, files)
        mapped = compute.fetch("select * from mapped_record order by file_key, line_no").to_pylist()
        rejected = compute.fetch(
            "select * from rejected_record order by file_key, line_no"
        ).to_pylist()
        places = compute.fetch(
            "select file_key, line_no, structure from raw_record order by file_key, line_no"
        ).to_pylist()
    assert len({(p["file_key"], p["line_no"]) for p in places}) == len(places)
    records = [(p["file_key"], p["line_no"]) for p in places if p["structure"] is None]
    assert [(m["file_key"], m["line_no"]) for m in mapped] == records
    for record in mapped:
        assert (record["outcome"] == "accepted") == (record["reason_code"] is None)
        assert record["outcome"] == "accepted" or record["fault_message"]
    counted = [r for r in rejected if r["line_no"]]
    assert len(counted) == sum(m["outcome"] != "accepted" for m in mapped)
    assert all(r["message"] for r in rejected)
    for result in results:
        mine = [m for m in mapped if m["file_key"] == result.file_key]
        assert result.records_in == len(mine)
        assert result.quantity_in == sum(m["measured_quantity"] or 0 for m in mine)
    return Outcome(results, mapped, rejected)


def damaged(content: bytes, draw: random.Random) -> bytes:
    """Flip, cut, insert, truncate and repeat bytes."""
    changed = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(changed) + 1)
        match draw.choice(["flip", "cut", "insert", "truncate", "repeat"]):
            case "flip" if at < len(changed):
                changed[at] ^= draw.randint(1, 255)
            case "cut":
                del changed[at : at + draw.randint(1, 30)]
            case "insert":
                changed[at:at] = draw.choice([b"\0", b'"', b"\n", b",", b"\xff", b"<", b"{", b"]"])
            case "truncate":
                del changed[at:]
            case "repeat":
                changed[at:at] = changed[at : at + draw.randint(1, 200)]
    return bytes(changed)
