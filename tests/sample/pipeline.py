"""Files to rated usage without database and lake: the engine's stages in one process."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from hashlib import sha256
from pathlib import Path

import pyarrow as pa

from iotbill_pipelines.compute.duckdb_engine import DuckDbCompute
from iotbill_pipelines.compute.readers import FileFault, SourceFile, read_files
from iotbill_pipelines.config.catalog import read_catalog
from iotbill_pipelines.config.feeds import load_feeds
from iotbill_pipelines.engine.feeds.mapping import compile_feed
from iotbill_pipelines.engine.feeds.zones import local_days
from iotbill_pipelines.engine.flow import rate_month
from iotbill_pipelines.engine.schemas import RATED_USAGE, REFERENCE, USAGE_RECORD
from iotbill_pipelines.engine.terms import compile_catalog


@dataclass(frozen=True)
class Ingested:
    """Records by feed, outcome and reason as files were read, and files that could not be."""

    outcomes: dict[str, list[dict[str, object]]]
    faults: list[FileFault]


def file_key(file: Path) -> int:
    """A key of the file, the same each time."""
    return int(sha256(file.name.encode()).hexdigest()[:15], 16)


def rate_files(
    compute: DuckDbCompute, configs: Path, files: dict[str, list[Path]], received: datetime
) -> Ingested:
    """Read all files of each feed and rate what they hold.

    Leaves relations behind: reference and catalog tables, ``rated_usage`` of all months,
    ``vendor_invoice_line``, and ``set_aside`` (feed_id, reason_code), a row per duplicate and
    suspended record.
    """
    feeds = load_feeds(configs / "feeds")
    targets: dict[str, list[pa.Table]] = {}
    outcomes, faults = {}, []
    for feed, paths in files.items():
        spec = feeds[feed]
        sources = [
            SourceFile(file_key(p), p.name, received, p.stat().st_size, lambda p=p: p.open("rb"))
            for p in paths
        ]
        faults += read_files(compute, spec, sources)
        compiled = compile_feed(spec)
        days = local_days(compiled.zones, date(2021, 1, 1), date(2027, 1, 1))
        compute.load("feed_local_day", days)
        compute.define("normalised", compiled.select, keep=True)
        outcomes[feed] = compute.fetch(
            "select outcome, reason_code, count(*) as records from normalised group by all"
        ).to_pylist()
        accepted = f"select {spec.table.column_list} from normalised where outcome = 'accepted'"
        targets.setdefault(spec.target, []).append(compute.fetch(accepted))
    for name, schema in REFERENCE.items():
        empty = schema.arrow_schema.empty_table()
        compute.load(name, pa.concat_tables(targets.get(name, [empty])))
    for name, table in compile_catalog(read_catalog(configs / "catalog").catalog).items():
        compute.load(name, table)
    if "vendor_invoice_line" in targets:
        compute.load("vendor_invoice_line", pa.concat_tables(targets["vendor_invoice_line"]))
    compute.load("all_usage", pa.concat_tables(targets["usage_record"]))
    _rate_every_month(compute)
    return Ingested(outcomes, faults)


def _rate_every_month(compute: DuckDbCompute) -> None:
    rated, aside = [], []
    months = compute.fetch("select distinct usage_month from all_usage order by 1")
    for month in months["usage_month"].to_pylist():
        compute.define(
            "usage_record",
            f"select {USAGE_RECORD.column_list} from all_usage where usage_month = '{month}'",
            keep=True,
        )
        rate_month(compute)
        rated.append(compute.fetch("rated_usage"))
        aside.append(compute.fetch("select feed_id, reason_code from suspended_record"))
        aside.append(
            compute.fetch("select feed_id, 'duplicate' as reason_code from duplicate_record")
        )
    compute.load("all_rated", pa.concat_tables(rated))
    compute.load("set_aside", pa.concat_tables(aside))
    compute.define("rated_usage", f"select {RATED_USAGE.column_list} from all_rated")
