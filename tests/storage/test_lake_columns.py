"""A column that a table got later is null in the files written before it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from iotbill_pipelines.compute.duckdb_engine import DuckDbCompute
from iotbill_pipelines.engine.schemas import Column, Table
from iotbill_pipelines.storage.lake import Lake

OLD = Table(
    "reading",
    "Rows for tests.",
    (Column("month", "VARCHAR", "month"), Column("value", "BIGINT", "a value")),
    key=("value",),
    partition_by=("month",),
)
NEW = replace(
    OLD,
    columns=(
        OLD.columns[0],
        Column("rate", "DECIMAL(30,12)", "added later", nullable=True),
        OLD.columns[1],
        Column("moment", "TIMESTAMP", "added later, never null in new files", nullable=False),
    ),
)


def test_older_files_are_read_beside_newer_ones_and_alone(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    with DuckDbCompute() as compute:
        lake.replace(OLD, compute, "select '2026-10' as month, 1 as value", {"month": "2026-10"})
        lake.scan(compute, NEW)
        alone = compute.fetch("reading")
        assert alone.schema.names == list(NEW.column_names)
        assert [str(alone.schema.field(n).type) for n in ("rate", "moment")] == [
            "decimal128(30, 12)", "timestamp[us]",
        ]  # fmt: skip
        new = (
            "select '2026-11' as month, 2 as value, 0.5::decimal(30,12) as rate,"
            " now()::timestamp as moment"
        )
        lake.replace(NEW, compute, new, {"month": "2026-11"})
        lake.scan(compute, NEW)
        rows = compute.fetch("select * from reading order by value").to_pylist()
    assert [(r["month"], r["value"], r["rate"] and float(r["rate"])) for r in rows] == [
        ("2026-10", 1, None), ("2026-11", 2, 0.5),
    ]  # fmt: skip
    assert rows[0]["moment"] is None
