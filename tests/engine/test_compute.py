"""Relations of the embedded engine, made again and again: always of what their inputs hold now."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iotbill_pipelines.compute.duckdb_engine import SMALL_ROWS, DuckDbCompute
from tests.depth import examples

NAMES = st.sampled_from(["a", "b", "c"])
ROWS = st.lists(st.integers(0, 3), max_size=3)
STEPS = st.lists(
    st.one_of(st.tuples(NAMES, ROWS), st.tuples(NAMES, NAMES, NAMES, st.integers(0, 1))),
    min_size=1,
    max_size=12,
)


def table(rows: list[int]) -> pa.Table:
    return pa.table({"x": pa.array(rows, pa.int64())})


@settings(max_examples=examples(40), deadline=None)
@given(STEPS)
def test_a_relation_is_made_of_what_its_inputs_hold_when_it_is_defined(
    steps: list[tuple[str, list[int]] | tuple[str, str, str, int]],
) -> None:
    held: dict[str, list[int]] = {name: [] for name in "abc"}
    with DuckDbCompute(expected_rows=10) as compute:
        for name in held:
            compute.load(name, table([]))
        for name, *made in steps:
            match made:
                case [list() as rows]:
                    held[name] = rows
                    compute.load(name, table(rows))
                case [str() as one, str() as other, int() as more]:
                    held[name] = [x + more for x in held[one]] + held[other]
                    compute.define(
                        name, f"select x + {more} as x from {one} union all select x from {other}"
                    )
            for each, rows in held.items():
                assert sorted(compute.fetch(each)["x"].to_pylist()) == sorted(rows)


@pytest.mark.parametrize("expected_rows", [0, SMALL_ROWS])
def test_batches_take_the_place_of_those_before(expected_rows: int) -> None:
    with DuckDbCompute(expected_rows=expected_rows) as compute:
        for rows in ([1, 2], [3], [3]):
            batches = table(rows).to_reader()
            compute.load_batches("line", batches)
            compute.define("doubled", "select x * 2 as x from line")
            assert compute.fetch("doubled")["x"].to_pylist() == [2 * row for row in rows]


def test_an_equal_table_of_other_types_is_another_table() -> None:
    with DuckDbCompute(expected_rows=0) as compute:
        for type_, told in ((pa.int64(), "BIGINT"), (pa.int32(), "INTEGER")):
            compute.load("number", pa.table({"x": pa.array([1], type_)}))
            compute.define("type", "select typeof(x) as x from number")
            assert compute.fetch("type")["x"].to_pylist() == [told]
