"""Rounding and apportioning, in Python and in SQL."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iotbill_pipelines.compute.duckdb_engine import DuckDbCompute
from iotbill_pipelines.engine.money import (
    apportion,
    apportion_sql,
    minor_digits,
    of_minor,
    round_half_up,
    round_money,
    to_minor,
)
from tests.depth import examples


@pytest.mark.parametrize(
    ("value", "rounded"),
    [
        ("0.125", "0.13"),
        ("-0.125", "-0.13"),
        ("0.135", "0.14"),
        ("2.675", "2.68"),
        ("0.124", "0.12"),
    ],
)
def test_halves_go_away_from_zero(value: str, rounded: str) -> None:
    """RT-27."""
    assert round_half_up(Decimal(value), 2) == Decimal(rounded)
    assert round_half_up(Fraction(value), 2) == Decimal(rounded)


@given(st.fractions(), st.integers(0, 6))
def test_a_reversal_cancels_exactly(value: Fraction, digits: int) -> None:
    assert round_half_up(value, digits) + round_half_up(-value, digits) == 0
    assert abs(Fraction(round_half_up(value, digits)) - value) * 10**digits * 2 <= 1


def test_fractions_are_rounded_without_a_decimal_between() -> None:
    just_below = Fraction(1, 2) - Fraction(1, 10**80)
    assert round_half_up(just_below, 0) == 0


@pytest.mark.parametrize(("currency", "digits"), [("EUR", 2), ("JPY", 0), ("KWD", 3), ("CLF", 4)])
def test_minor_units_are_the_currencys_own(currency: str, digits: int) -> None:
    assert minor_digits(currency) == digits
    assert round_money(Fraction(2, 3), currency) == round_half_up(Fraction(2, 3), digits)


@pytest.mark.parametrize(
    ("minor", "currency", "amount"),
    [
        (728, "EUR", "7.28"),
        (-5, "EUR", "-0.05"),
        (0, "EUR", "0.00"),
        (12, "JPY", "12"),
        (1, "KWD", "0.001"),
        (10**37 + 1, "EUR", "1" + "0" * 35 + ".01"),
    ],
)
def test_minor_units_become_an_amount_exactly(minor: int, currency: str, amount: str) -> None:
    assert str(of_minor(minor, currency)) == amount


def test_a_fraction_of_a_minor_unit_is_refused() -> None:
    assert to_minor(Decimal("12.30"), "EUR") == 1230
    with pytest.raises(ValueError, match=r"12\.305 EUR is not a whole number of minor units"):
        to_minor(Decimal("12.305"), "EUR")


@pytest.mark.parametrize("text", ["Infinity", "-Infinity", "NaN", "sNaN", "1e30", "1e999999"])
def test_what_no_ledger_can_hold_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no amount of EUR that a ledger holds"):
        to_minor(Decimal(text), "EUR")
    assert to_minor(Decimal("-9999999999999999.99"), "EUR") == -(10**18 - 1)


@pytest.mark.parametrize(
    ("total", "weights", "parts"),
    [
        (371, [1612903, 322580, 1774193], [161, 32, 178]),  # ST-15
        (1300, [150, 20, 0], [1147, 153, 0]),  # SP-08
        (1300, [250, 120, 60], [756, 363, 181]),  # SP-09
        (4, [5] * 7, [1, 1, 1, 1, 0, 0, 0]),  # SP-12: ties to the smallest keys
        (20000, [120, 120, 30], [8889, 8889, 2222]),  # RV-03
        (83, [7, 2], [65, 18]),  # TX-06
        (146, [Fraction(14 * 80, 31), Fraction(17 * 200, 31)], [36, 110]),  # CT-11
        (100, [0, 0, 0], [34, 33, 33]),
        (0, [3, 4], [0, 0]),
        (-371, [1612903, 322580, 1774193], [-161, -32, -178]),
        (5, [1], [5]),
        (0, [], []),
    ],
)
def test_largest_remainder(total: int, weights: list[int], parts: list[int]) -> None:
    assert apportion(total, weights, range(len(weights))) == parts


def test_ties_go_by_key_not_by_position() -> None:
    assert apportion(1, [1, 1], ["b", "a"]) == [0, 1]


def test_what_cannot_be_apportioned() -> None:
    with pytest.raises(ValueError, match="nobody to carry 5 minor units"):
        apportion(5, [], [])
    with pytest.raises(ValueError, match="must not be negative"):
        apportion(5, [1, -1], [1, 2])
    with pytest.raises(ValueError, match="differ in length"):
        apportion(5, [1], [1, 2])


weights = st.lists(st.integers(0, 10**12) | st.just(0), min_size=1, max_size=8)


@given(st.integers(-(10**9), 10**9), weights, st.randoms())
def test_parts_add_up_negate_and_ignore_order(
    total: int, given_weights: list[int], chance: object
) -> None:
    keys = list(range(len(given_weights)))
    parts = apportion(total, given_weights, keys)
    assert sum(parts) == total
    assert apportion(-total, given_weights, keys) == [-part for part in parts]
    shuffled = list(zip(given_weights, keys, strict=True))
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    mixed = apportion(total, [w for w, _ in shuffled], [k for _, k in shuffled])
    assert {k: p for (_, k), p in zip(shuffled, mixed, strict=True)} == dict(
        zip(keys, parts, strict=True)
    )
    whole = sum(given_weights)
    for weight, part in zip(given_weights, parts, strict=True):
        if whole:
            assert abs(Fraction(total * weight, whole) - part) < 1


@given(st.lists(st.tuples(st.integers(-(10**7), 10**7), weights), min_size=1, max_size=4))
@settings(max_examples=examples(20), deadline=None)
def test_sql_apportions_like_python(parents: list[tuple[int, list[int]]]) -> None:
    rows = [
        {"parent": number, "child": child, "total": total, "weight": weight}
        for number, (total, children) in enumerate(parents)
        for child, weight in enumerate(children)
    ]
    with DuckDbCompute(threads=1) as compute:
        compute.load("part", pa.Table.from_pylist(rows[::-1]))
        split = compute.fetch(
            "select parent, child, part_minor from ("
            + apportion_sql("part", ["parent"], "total", "weight", "child")
            + ") order by parent, child"
        )
    assert split.schema.field("part_minor").type == pa.int64()
    expected = [
        part
        for total, children in parents
        for part in apportion(total, children, range(len(children)))
    ]
    assert split["part_minor"].to_pylist() == expected


@given(st.integers(-(10**20), 10**20), st.integers(1, 10**15))
@settings(max_examples=examples(30), deadline=None)
def test_sql_divides_like_python(numerator: int, denominator: int) -> None:
    with DuckDbCompute(threads=1) as compute:
        row = compute.fetch(
            f"select cast(half_up_div(wide('{numerator}'), wide('{denominator}')) as varchar) as h,"
            f" cast(floor_div(wide('{abs(numerator)}'), wide('{denominator}')) as varchar) as f,"
            f" cast(ceil_div(wide('{abs(numerator)}'), wide('{denominator}')) as varchar) as c"
        ).to_pylist()[0]
    exact = Fraction(numerator, denominator)
    assert int(row["h"]) == int(round_half_up(exact, 0))
    assert int(row["f"]) == abs(numerator) // denominator
    assert int(row["c"]) == -(-abs(numerator) // denominator)
