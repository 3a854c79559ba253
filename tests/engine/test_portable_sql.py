"""The stages' SQL stays in the part that DuckDB and Spark share, with one meaning on both."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlglot
from sqlglot import exp

import iotbill_pipelines.engine
from iotbill_pipelines.compute import duckdb_engine, spark_engine
from iotbill_pipelines.engine import compute
from iotbill_pipelines.engine.money import apportion_sql

ENGINE = Path(iotbill_pipelines.engine.__file__).parent
STATEMENTS = sorted(ENGINE.rglob("*.sql"))

EMBEDDED_ONLY = {"parse_time"}
"""Functions of the reading of files, which is not Spark's work."""

SHARED = set(
    """
    abs array_agg coalesce concat_ws count exists extract first_value greatest lag lead least lpad
    max md5 min nullif regexp_replace row_number substr sum
    """.split()
)
"""Functions that mean the same on both engines, for the arguments that the stages give them."""

PRELUDE = set(re.findall(r"^``(\w+)\(", compute.__doc__ or "", re.MULTILINE))

TYPES = {"BIGINT", "INT", "BOOLEAN", "DATE", "TIMESTAMPNTZ", "DECIMAL", "TEXT"}


def test_every_engine_defines_what_the_protocol_promises() -> None:
    embedded = set(re.findall(r"create or replace macro (\w+)\(", duckdb_engine.PRELUDE))
    spark = {signature.partition("(")[0] for signature in spark_engine.PRELUDE}
    assert embedded == PRELUDE
    assert spark == PRELUDE - EMBEDDED_ONLY


@pytest.mark.parametrize("path", STATEMENTS, ids=lambda path: f"{path.parts[-3]}/{path.stem}")
def test_a_statement_is_portable(path: Path) -> None:
    assert not list(_faults(path.read_text("utf-8")))


def test_built_statements_are_portable() -> None:
    assert not list(_faults(apportion_sql("child", ("parent",), "total", "weight", "key")))


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("select cast(a as varchar) as a from t", "varchar"),
        ("select strftime(a, '%Y') as a from t", "strftime"),
        ("select row_number() over (order by a) as n from t", "null order"),
        ("select a::bigint as a from t", "::"),
        ("select cast(a as hugeint) as a from t", "INT128"),
        ("select string_agg(a, ' ' order by a) as a from t", "string_agg"),
    ],
)
def test_what_is_not_portable_is_told(statement: str, fault: str) -> None:
    assert fault in list(_faults(statement))


def _faults(statement: str) -> Iterator[str]:
    bare = re.sub(r"--.*|'[^']*'", "", statement)
    if "::" in bare:
        yield "::"
    if re.search(r"\bvarchar\b", bare, re.IGNORECASE):
        yield "varchar"
    allowed = SHARED | PRELUDE
    yield from sorted(
        {
            name
            for name in map(str.lower, re.findall(r"\b(\w+)\s*\(", bare))
            if name not in allowed and name not in _WORDS
        }
    )
    tree, other = (sqlglot.parse_one(statement, dialect=name) for name in ("duckdb", "spark"))
    yield from sorted(
        {cast.to.this.name for cast in tree.find_all(exp.Cast) if cast.to.this.name not in TYPES}
    )
    # Without a word about nulls they stand last on DuckDB and first on Spark, where it ascends.
    orders = [
        [bool(order.args.get("nulls_first")) for order in each.find_all(exp.Ordered)]
        for each in (tree, other)
    ]
    if orders[0] != orders[1]:
        yield "null order"


_WORDS = set(
    """
    all and any as by case cast date decimal distinct else except from having in intersect join not
    on or over partition select then union using values when where with
    """.split()
)
