"""Taxes of corrections: however a unit got to its amount, its tax is that of the amount (§8)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from iotbill_pipelines.engine.tax import (
    Customer,
    IssuedDocument,
    Jurisdiction,
    Pricing,
    Seller,
    TableTaxEngine,
    TaxableLine,
    TaxDocument,
    TaxPart,
    TaxPolicy,
    TaxRate,
    TaxTable,
    assess_difference,
    reassess,
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


OTHER = TABLE.model_copy(
    update={
        "rates": (
            TABLE.rates[0].model_copy(update={"rate": Decimal("0.06")}),
            TABLE.rates[1].model_copy(update={"valid_to": date(2026, 4, 1)}),
            TABLE.rates[2].model_copy(update={"valid_from": date(2026, 4, 1)}),
        )
    }
)
TABLES = {"told": TABLE, "corrected": OTHER}
Ledger = list[tuple[TaxDocument, list[TaxPart]]]


def engine_of(name: str) -> Callable[[Pricing], TableTaxEngine]:
    return lambda how: TableTaxEngine(TABLES[name], TaxPolicy(pricing=how))


def corrected(ledger: Ledger, name: str) -> int:
    """Book what reassessing says; return how many invoices it changed."""
    issued = [
        IssuedDocument(str(n), document, {"1": "unit"}, {"1": tuple(parts)})
        for n, (document, parts) in enumerate(ledger)
    ]
    found = list(reassess(engine_of(name), issued))
    for each in found:
        ledger[int(each.id)][1].extend(each.parts["1"])
    return len(found)


def by_tax(ledger: Ledger) -> dict[tuple[object, ...], Decimal]:
    sums: dict[tuple[object, ...], Decimal] = {}
    for _, parts in ledger:
        for part in parts:
            for item in part.items:
                key = (item.tax, item.rate)
                sums[key] = sums.get(key, Decimal(0)) + item.amount
    return {key: amount for key, amount in sums.items() if amount}


tables = st.lists(st.sampled_from(["told", "corrected", ""]), min_size=6, max_size=6)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(-100_000, 100_000), min_size=1, max_size=6), tables, pricing)
def test_tables_may_change_at_any_time_and_the_last_ones_decide(
    changes: list[int], told: list[str], how: Pricing
) -> None:
    ledger: Ledger = []
    scratch: Ledger = []
    table = "told"
    for month, (change, corrects) in enumerate(zip(changes, told, strict=False), 1):
        if corrects:
            table = corrects
            corrected(ledger, table)
            assert corrected(ledger, table) == 0
        day = document(date(2026, month + 1, 28), change)
        for books, name in ((ledger, table), (scratch, "corrected")):
            before = [part for _, parts in books for part in parts]
            found = assess_difference(engine_of(name)(how), day, {"1": before})
            books.append((day, list(found.parts["1"])))
    corrected(ledger, "corrected")
    assert by_tax(ledger) == by_tax(scratch)
    assert corrected(ledger, "corrected") == 0
