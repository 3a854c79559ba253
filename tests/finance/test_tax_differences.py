"""Taxes of corrections: however a unit got to its amount, its tax is that of the amount (§8)."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from iotbill_pipelines.engine.tax import (
    Customer,
    Jurisdiction,
    Seller,
    TableTaxEngine,
    TaxableLine,
    TaxDocument,
    TaxPart,
    TaxPolicy,
    TaxRate,
    TaxTable,
    assess_difference,
)

TABLE = TaxTable(
    jurisdictions=(Jurisdiction(id="QC", name="Québec", country="CA"),),
    rates=(
        TaxRate(jurisdiction="QC", tax_code="s", tax="GST", rate=Decimal("0.05"), order=1),
        TaxRate(
            jurisdiction="QC",
            tax_code="s",
            tax="QST",
            rate=Decimal("0.09975"),
            order=2,
            compound=True,
            valid_to=date(2026, 6, 1),
        ),
        TaxRate(
            jurisdiction="QC",
            tax_code="s",
            tax="QST",
            rate=Decimal("0.1"),
            order=2,
            compound=True,
            valid_from=date(2026, 6, 1),
        ),
    ),
)


def document(on: date, cents: int) -> TaxDocument:
    return TaxDocument(
        id="I",
        tax_point=on,
        currency="EUR",
        seller=Seller("us", "CA"),
        customer=Customer("them", "CA"),
        lines=(TaxableLine("1", "s", Decimal(cents).scaleb(-2), primary_use=("QC",)),),
    )


steps = st.lists(st.integers(-100_000, 100_000), min_size=1, max_size=8)
pricing = st.sampled_from(["exclusive", "inclusive"])


@settings(max_examples=80, deadline=None)
@given(steps, pricing)
def test_the_way_to_an_amount_does_not_change_its_tax(changes: list[int], how: str) -> None:
    engine = TableTaxEngine(TABLE, TaxPolicy.model_validate({"pricing": how}))
    day = date(2026, 3, 31)
    charged: list[TaxPart] = []
    for change in changes:
        charged += assess_difference(engine, document(day, change), {"1": charged}).parts.get(
            "1", ()
        )
    total = sum(changes)
    whole = engine.assess(document(day, total)).tax if total else Decimal(0)
    assert sum((part.tax for part in charged), Decimal(0)) == whole
    assert sum((part.amount for part in charged), Decimal(0)) == Decimal(total).scaleb(-2)


@settings(max_examples=80, deadline=None)
@given(steps, pricing)
def test_taking_everything_back_takes_back_every_cent_of_tax(changes: list[int], how: str) -> None:
    engine = TableTaxEngine(TABLE, TaxPolicy.model_validate({"pricing": how}))
    charged: list[TaxPart] = []
    for month, change in enumerate([*changes, -sum(changes)]):
        day = date(2026, 3 + month, 28) if month < 9 else date(2027, 1, 31)
        charged += assess_difference(engine, document(day, change), {"1": charged}).parts.get(
            "1", ()
        )
    by_tax: dict[tuple[str, Decimal], Decimal] = {}
    for part in charged:
        for item in part.items:
            key = (item.tax, item.rate)
            by_tax[key] = by_tax.get(key, Decimal(0)) + item.amount
    assert set(by_tax.values()) <= {Decimal(0)}
