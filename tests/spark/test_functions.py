"""The prelude means the same on both engines, up to the last digit and at its edges."""

from __future__ import annotations

import random
from datetime import date, datetime
from decimal import Decimal

import pyarrow as pa

from iotbill_pipelines.compute.duckdb_engine import DuckDbCompute

from .conftest import Start

_EXPRESSIONS = {
    "widened": "wide(small) * wide(large)",
    "floored": "floor_div(large, divisor)",
    "ceiled": "ceil_div(abs(large), divisor)",
    "rounded": "half_up_div(large, divisor)",
    "half": "half_up_div((2 * wide(small) + 1) * divisor, 2 * divisor)",
    **{
        mode: f"rounded_div(small, divisor, '{mode}')"
        for mode in ("half_up", "half_even", "up", "down")
    },
    **{f"tied_{mode}": f"rounded_div(2 * small + 1, 2, '{mode}')" for mode in ("half_even", "up")},
    "nested": "floor_div(half_up_div(wide(small) * 1000, divisor), ten_to(power))",
    "exact": "as_e12(rate)",
    "powers": "ten_to(power)",
    "key": "json_text(told, 'a key')",
    "whole": r"fits(word, '[a-c]+\d*')",
    "inside": r"has(word, '\d')",
    "part": r"find(word, '([a-z]+)(\d+)', 2)",
    "swapped": r"swap(word, '\d', '-')",
    "moment": "epoch_time(wide_micros)",
    "earlier": "minus_seconds(since, 3601)",
    "seconds": "seconds_up(since, until)",
    "quarter": "quarter_hour(since)",
    "later": "days_later(day, power)",
    "days": "days_between(day, cast(since as date))",
    "quoted": "'it''s ' || word || ' \\'",
    "timed": "cast(since as string) || cast(day as string)",
    "cut": "substr(word, 2, 2) || lpad(cast(power as string), 4, '0')",
    "hashed": "md5(word || '|')",
    "short": "short_hash(word) between 0 and 9223372036854775807",
    "joined_words": "concat_ws(' ', word, null, 'x')",
    "least_of": "least(small, divisor, null)",
}


def test_functions_agree(start: Start) -> None:
    chance = random.Random(5)
    rows = [
        {
            "small": chance.choice([0, 1, -1, chance.randint(-(10**9), 10**9)]),
            "large": Decimal(chance.choice([0, chance.randint(-(10**28), 10**28)])),
            "divisor": chance.choice([1, 2, 3, 10**6, chance.randint(1, 10**12)]),
            "rate": Decimal(chance.randint(-(10**18), 10**18)).scaleb(-12),
            "power": chance.randint(0, 36),
            "told": chance.choice([None, '{"a key": "va\\"lue"}', '{"a key": null}', "{}"]),
            "word": chance.choice([None, "", "abc12", "x9y", "ÄÖ7", "ab"]),
            "wide_micros": chance.randint(0, 4 * 10**15),
            "since": datetime(2026, 3, 28, 23, 59, 59, chance.randint(0, 999_999)),  # noqa: DTZ001
            "until": datetime(2026, 3, 29, 4, chance.randint(0, 59), 0),  # noqa: DTZ001
            "day": date(2024, 2, chance.randint(1, 29)),
        }
        for _ in range(200)
    ]
    types = {
        "large": pa.decimal128(38, 0), "rate": pa.decimal128(30, 12), "since": pa.timestamp("us"),
        "until": pa.timestamp("us"), "day": pa.date32(),
    }  # fmt: skip
    table = pa.table(
        {
            "row_no": pa.array(range(len(rows)), pa.int64()),
            **{name: pa.array([row[name] for row in rows], types.get(name)) for name in rows[0]},
        }
    )
    listed = ", ".join(f"{told} as {name}" for name, told in _EXPRESSIONS.items())
    select = f"select {listed} from sample order by row_no"
    counted = (
        "select divisor > 9 as many, joined(array_agg(distinct word), 1, '+') as words,"
        " cast(sum(small) as bigint) as total, sum(wide(large)) as exact from sample"
        " where word is not null group by divisor > 9 order by many nulls last"
    )
    found = []
    with DuckDbCompute() as embedded, start(None) as spread, start(len(rows)) as small:
        for compute in (embedded, spread, small):
            compute.load("sample", table)
            found.append((compute.fetch(select), compute.fetch(counted)))
    for columns, groups in found[1:]:
        for name in _EXPRESSIONS:
            assert columns[name].to_pylist() == found[0][0][name].to_pylist(), name
        assert groups.to_pylist() == found[0][1].to_pylist()
