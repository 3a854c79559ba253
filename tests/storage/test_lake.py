"""Partitions are replaced whole or not at all, whoever writes beside them or dies."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from iotbill_pipelines.compute.duckdb_engine import DuckDbCompute
from iotbill_pipelines.engine.schemas import Column, Table
from iotbill_pipelines.storage.lake import Lake
from iotbill_pipelines.storage.lake_places import LakeError

TABLE = Table(
    "sample",
    "Rows for tests.",
    (
        Column("month", "VARCHAR", "month", nullable=True),
        Column("file_key", "BIGINT", "file"),
        Column("value", "BIGINT", "a value"),
        Column("moment", "TIMESTAMP", "UTC", nullable=True),
        Column("rate", "DECIMAL(38,0)", "wide", nullable=True),
    ),
    key=("file_key",),
    partition_by=("month", "file_key"),
)
FUTURE = datetime.now(UTC) + timedelta(days=1)


def rows(month: str | None, file_key: int, *values: int) -> str:
    text = "null::varchar" if month is None else "'" + month.replace("'", "''") + "'"
    listed = ", ".join(f"({value})" for value in values)
    return (
        f"select {text} as month, {file_key} as file_key, sum(v) as value,"
        " timestamp '2026-10-01 00:00:00.000001' as moment, 10::hugeint ** 30 as rate"
        f" from (values {listed}) as t(v) group by v"
    )


def replace(lake: Lake, month: str | None, file_key: int, *values: int) -> int:
    with DuckDbCompute() as compute:
        partition = {"month": month, "file_key": str(file_key)}
        return lake.replace(TABLE, compute, rows(month, file_key, *values), partition)


def replace_two(lake: Lake, value: int) -> int:
    """Replace two partitions of file 2 in one commit."""
    with DuckDbCompute() as compute:
        both = f"{rows('2026-10', 2, value)} union all {rows('2026-12', 2, value + 1)}"
        return lake.replace(TABLE, compute, both, {"file_key": "2"})


def replace_several(lake: Lake, value: int) -> int:
    """Fill two months and empty a third in one commit."""
    with DuckDbCompute() as compute:
        two = f"{rows('2026-10', 1, value)} union all {rows('2026-11', 1, value + 1)}"
        months = ["2026-10", "2026-11", "2026-12"]
        return lake.replace_each(TABLE, compute, two, "month", months)


def content(lake: Lake, version: int | None = None) -> list[tuple[str | None, int, int]]:
    with DuckDbCompute() as compute:
        lake.scan(compute, TABLE, version=version)
        found = compute.fetch("select month, file_key, value from sample order by 1, 2, 3")
    return [tuple(row.values()) for row in found.to_pylist()]  # type: ignore[misc]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def test_a_replacement_touches_one_partition_and_old_versions_stay(lake: Lake) -> None:
    assert (lake.files(TABLE), lake.partitions(TABLE), lake.version(TABLE)) == ([], [], None)
    assert content(lake) == []
    assert replace(lake, "2026-10", 1, 10, 11) == 2
    assert replace(lake, "2026-11", 1, 20) == 1
    before = lake.version(TABLE)
    assert replace(lake, "2026-10", 1, 12) == 1
    assert content(lake) == [("2026-10", 1, 12), ("2026-11", 1, 20)]
    assert content(lake, version=before) == [
        ("2026-10", 1, 10),
        ("2026-10", 1, 11),
        ("2026-11", 1, 20),
    ]
    assert lake.partitions(TABLE) == [
        {"month": "2026-10", "file_key": "1"},
        {"month": "2026-11", "file_key": "1"},
    ]
    assert len(lake.files(TABLE, month="2026-10")) == 1
    assert lake.files(TABLE, month="2026-12") == []
    assert lake.rows(TABLE) == 2


def test_some_of_the_partition_columns_replace_all_partitions_that_match(lake: Lake) -> None:
    replace(lake, "2026-10", 1, 1)
    replace(lake, "2026-10", 2, 2)
    with DuckDbCompute() as compute:
        both = f"{rows('2026-11', 1, 3)} union all {rows('2026-12', 1, 4)}"
        assert lake.replace(TABLE, compute, both, {"file_key": "1"}) == 2
    assert content(lake) == [("2026-10", 2, 2), ("2026-11", 1, 3), ("2026-12", 1, 4)]


def test_nothing_empties_a_partition_and_an_empty_one_costs_no_version(lake: Lake) -> None:
    replace(lake, "2026-10", 1, 1)
    with DuckDbCompute() as compute:
        nothing = f"select * from ({rows('2026-10', 1, 1)}) where false"
        partition = {"month": "2026-10", "file_key": "1"}
        assert lake.replace(TABLE, compute, nothing, partition) == 0
        version = lake.version(TABLE)
        assert lake.replace(TABLE, compute, nothing, partition) == 0
    assert (content(lake), lake.partitions(TABLE)) == ([], [])
    assert lake.version(TABLE) == version


@pytest.mark.parametrize("month", [None, "", "a b", "../../x", "50%", "é/ü=1", "x'y"])
def test_partition_values_of_any_text(lake: Lake, month: str | None) -> None:
    replace(lake, "2026-10", 1, 9)
    replace(lake, month, 1, 1)
    replace(lake, month, 1, 2)
    assert [value for _, _, value in content(lake)] in ([9, 2], [2, 9])
    (file,) = lake.files(TABLE, month=month)
    assert Path(file).is_relative_to(lake.root)
    assert {"month": month or "", "file_key": "1"} in lake.partitions(TABLE)


def test_rows_of_another_partition_are_refused_and_change_nothing(lake: Lake) -> None:
    replace(lake, "2026-10", 1, 1)
    with DuckDbCompute() as compute:
        for partition in ({"month": "2026-11", "file_key": "1"}, {"file_key": "2"}):
            with pytest.raises(LakeError, match="nothing was changed"):
                lake.replace(TABLE, compute, rows("2026-10", 1, 5), partition)
        mixed = f"{rows('2026-10', 1, 5)} union all {rows(None, 1, 6)}"
        with pytest.raises(LakeError, match="nothing was changed"):
            lake.replace(TABLE, compute, mixed, {"month": "2026-10", "file_key": "1"})
        with pytest.raises(LakeError, match="partitioned by month, file_key, not by value"):
            lake.replace(TABLE, compute, rows("2026-10", 1, 5), {"value": "1"})
    assert content(lake) == [("2026-10", 1, 1)]


def test_orphans_are_removed_and_pinned_versions_survive_a_vacuum(lake: Lake) -> None:
    replace(lake, "2026-10", 1, 1)
    pinned = lake.version(TABLE)
    assert pinned is not None
    replace(lake, "2026-10", 1, 2)
    forgotten = lake.version(TABLE)
    replace(lake, "2026-10", 1, 3)
    orphan = Path(lake.files(TABLE)[0]).with_name("part-orphan.parquet")
    orphan.write_bytes(b"half a fi")
    assert lake.remove_orphans(TABLE, datetime(2020, 1, 1, tzinfo=UTC)) == []
    assert lake.remove_orphans(TABLE, FUTURE) == ["month=2026-10/file_key=1/part-orphan.parquet"]
    newest = lake.version(TABLE)
    assert newest is not None
    assert len(lake.vacuum(TABLE, FUTURE, FUTURE, [pinned, newest])) == 1
    assert content(lake, version=pinned) == [("2026-10", 1, 1)]
    assert content(lake) == [("2026-10", 1, 3)]
    with pytest.raises(Exception, match="No files found"):
        content(lake, version=forgotten)
