"""Flux: every difference between two months is taken apart, and nothing is left over."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from iotbill_pipelines.engine.flux import EFFECTS, FluxItem, FluxKey, FluxRate, flux_lines

KEY = FluxKey("NL01", "retail", "data", "USD")
SAME = {("NL01", "USD"): FluxRate("USD", Fraction(1), Fraction(1))}


def item(
    account: str, q0: int, a0: int, q1: int, a1: int, nature: str = "regular", charge: str = "mb"
) -> FluxItem:
    return FluxItem(KEY, account, charge, nature, q0, a0, q1, a1)  # type: ignore[arg-type]


def effects(*items: FluxItem, rates: dict[tuple[str, str], FluxRate] = SAME) -> dict[str, int]:
    (line,) = flux_lines(items, rates)
    return {name: value for name, value in line.effects.items() if value}


def test_each_effect_by_itself() -> None:
    assert effects(item("A", 100, 1000, 150, 1500)) == {"volume": 500}
    assert effects(item("A", 100, 1000, 100, 1200)) == {"price": 200}
    # both pay what they paid, the volume is the same, but the cheaper one buys more of it
    assert effects(item("A", 100, 1000, 50, 500), item("B", 100, 400, 150, 600)) == {"mix": -300}
    assert effects(item("A", 0, 0, 9, 70, "late_usage")) == {"late_usage": 70}
    assert effects(item("A", 0, 90, 0, -20, "correction")) == {"corrections": -110}
    rates = {("NL01", "USD"): FluxRate("EUR", Fraction(9, 10), Fraction(8, 10))}
    assert effects(item("A", 100, 1000, 100, 1000), rates=rates) == {"fx": -100}


def test_a_product_that_is_new_or_gone_is_volume() -> None:
    assert effects(item("A", 0, 0, 5, 250)) == {"volume": 250}
    assert effects(item("A", 5, 250, 0, 0)) == {"volume": -250}
    # a least amount without any use has no price per unit
    assert effects(item("A", 0, 0, 0, 99)) == {"price": 99}


items = st.builds(
    FluxItem,
    key=st.sampled_from([KEY, FluxKey("NL01", "vendor", "sms", "USD")]),
    account_id=st.sampled_from("ABC"),
    charge_id=st.sampled_from(["x", "y"]),
    nature=st.sampled_from(["regular", "late_usage", "correction"]),
    quantity_0=st.integers(0, 10**6),
    amount_0_minor=st.integers(-(10**6), 10**6),
    quantity_1=st.integers(0, 10**6),
    amount_1_minor=st.integers(-(10**6), 10**6),
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(items, max_size=8),
    st.fractions(Fraction(1, 200), 200, max_denominator=997),
    st.fractions(Fraction(1, 200), 200, max_denominator=997),
)
def test_nothing_is_left_over(listed: list[FluxItem], r0: Fraction, r1: Fraction) -> None:
    for line in flux_lines(listed, {("NL01", "USD"): FluxRate("EUR", r0, r1)}):
        assert set(line.effects) == set(EFFECTS)
        assert line.last_minor + sum(line.effects.values()) == line.this_minor
