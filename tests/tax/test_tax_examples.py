"""Every published example of taxes, straight from the files, through the public functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from published_examples import matches, peer_cases, worked_example, worked_ids

from iotbill_pipelines.engine.money import round_money
from iotbill_pipelines.engine.tax import (
    Assessment,
    Customer,
    Jurisdiction,
    ReverseCharge,
    Seller,
    Sourcing,
    TableTaxEngine,
    TaxableLine,
    TaxDocument,
    TaxPolicy,
    TaxRate,
    TaxTable,
    credit_note,
)

Facts = dict[str, Any]
D = Decimal
CENT = D("0.01")
DAY = date(2026, 10, 31)


def table(rates: Mapping[str, str | D]) -> TaxTable:
    """Return a table in which place X levies the named taxes."""
    return TaxTable(
        jurisdictions=(Jurisdiction(id="X", name="X", country="NL"),),
        rates=tuple(
            TaxRate(jurisdiction="X", tax_code="std", tax=tax, rate=D(rate))
            for tax, rate in rates.items()
        ),
    )


def assess(
    amounts: Sequence[str | D],
    rates: Mapping[str, str | D],
    **policy: Any,
) -> Assessment:
    lines = tuple(
        TaxableLine(f"{number}", "std", D(amount), primary_use=("X",))
        for number, amount in enumerate(amounts)
    )
    document = TaxDocument("I1", DAY, "EUR", Seller("e", "NL"), Customer("c", "NL"), lines)
    return TableTaxEngine(table(rates), TaxPolicy(**policy)).assess(document)


def stacked(facts: Facts) -> Facts:
    found = assess([facts["base"]], facts["rates"])
    combined = str(sum(map(D, facts["rates"].values())))
    return {
        **{item.tax: item.amount for item in found.lines[0].items},
        "total": found.tax,
        "if_combined_rate": assess([facts["base"]], {"all": combined}).tax,
    }


def reverse_charge(facts: Facts) -> Facts:
    taxes = TaxTable(
        jurisdictions=(Jurisdiction(id="DE", name="Germany", country="DE"),),
        rates=(TaxRate(jurisdiction="DE", tax_code="std", tax="VAT", rate=D(facts["vat_rate"])),),
        reverse_charges=(ReverseCharge(id="EU", countries=frozenset({"DE", "AT", "NL"})),),
    )
    customers = {
        "valid_vat_id_other_EU": Customer("c", "AT", vat_id="ATU12345675", vat_id_valid=True),
        "no_vat_id": Customer("c", "AT"),
    }
    line = TaxableLine("1", "std", D(facts["net"]), primary_use=("DE",))
    found = [
        TableTaxEngine(taxes).assess(
            TaxDocument("I", DAY, "EUR", Seller("e", "DE"), customers[case], (line,))
        )
        for case in facts["cases"]
    ]
    return {"tax": [one.tax for one in found], "note": ["".join(one.notes) for one in found]}


def inclusive(facts: Facts) -> Facts:
    found = assess([facts["gross"]], facts["rates"], pricing="inclusive")
    return {"net": found.net, **{item.tax: item.amount for item in found.lines[0].items}}


def credit(facts: Facts) -> Facts:
    original = facts["original"]
    invoice = assess([original["net"]], {"VAT": original["rate"]})
    note = credit_note(invoice, document_id="C1", tax_point=DAY)
    assert note.net == D(facts["credit_net"])
    return {"original_tax": invoice.tax, "credit_tax": note.tax}


def inclusive_sum(facts: Facts) -> Facts:
    rates = {"VAT": facts["rate"]}
    return {
        f"net_{rounding}": assess(facts["gross"], rates, pricing="inclusive", rounding=rounding).net
        for rounding in ("per_line", "per_invoice")
    }


def sourcing(facts: Facts) -> Facts:
    states = ("NV", "WA", "OR")
    taxes = TaxTable(
        jurisdictions=tuple(Jurisdiction(id=s, name=s, country="US") for s in states),
        rates=tuple(
            TaxRate(jurisdiction=s, tax_code=code, tax="sales", rate=D("0.01"))
            for s in states
            for code in ("connectivity", "hardware")
        ),
        sourcing=(
            Sourcing(tax_code="connectivity", place="primary_use"),
            Sourcing(tax_code="hardware", place="ship_to"),
        ),
    )
    lines = tuple(
        TaxableLine(
            code,
            code,
            D(10),
            primary_use=(facts["place_of_primary_use"],),
            ship_to=(facts["ship_to_hardware"],),
        )
        for code in ("connectivity", "hardware")
    )
    found = TableTaxEngine(taxes).assess(
        TaxDocument("I", DAY, "USD", Seller("e", "US"), Customer("c", "US"), lines)
    )
    return {f"{line.key}_jurisdiction": line.items[0].jurisdiction for line in found.lines}


WORKED: dict[str, Callable[[Facts], Facts]] = {
    "TX-03": stacked,
    "TX-05": reverse_charge,
    "TX-06": inclusive,
    "TX-07": credit,
    "TX-08": inclusive_sum,
    "TX-09": sourcing,
}


@pytest.mark.parametrize("case_id", WORKED)
def test_worked_example(shared: Path, case_id: str) -> None:
    case = worked_example(shared, case_id)
    found = WORKED[case_id](case["facts"])
    assert matches(found, case["expected"]), (found, case["expected"], case["arithmetic"])


def test_no_worked_example_of_taxes_is_left_out(shared: Path) -> None:
    assert worked_ids(shared, "tax") == set(WORKED)


def percent(definition: Facts) -> dict[str, D]:
    return {"VAT": D(definition["tax_percent"]) / 100}


def peer_prorated(case: Facts) -> Facts:
    definition, usage = case["definition"], case["usage"]
    exact = Fraction(D(definition["price"])) * usage["active_days"] / usage["period_days"]
    found = assess([round_money(exact, "EUR")], percent(definition))
    return {"invoice_total_cents": int(found.gross / CENT)}


def peer_credit(case: Facts) -> Facts:
    definition = case["definition"]
    invoice = assess([D(definition["price_cents"]) * CENT], percent(definition))
    unused = Fraction(definition["unused_days"], definition["period_days"])
    back = round_money(Fraction(invoice.net) * unused, "EUR")
    note = credit_note(invoice, document_id="C", tax_point=DAY, amounts={"0": back})
    return {
        "net_cents": int(-note.net / CENT),
        "tax_cents": int(-note.tax / CENT),
        "total_cents": int(-note.gross / CENT),
    }


def peer_rounding(case: Facts) -> Facts:
    definition = case["definition"]
    amounts = definition.get("lines") or [D(c) * CENT for c in definition["lines_cents"]]
    by_line = assess(amounts, percent(definition))
    whole = assess(amounts, percent(definition), rounding="per_invoice")
    known = {
        "document_total_cents": int(whole.gross / CENT),
        "sum_of_per_line_totals_cents": int(by_line.gross / CENT),
        "sum_of_line_tax": by_line.tax,
        "document_tax": whole.tax,
        "document_total_by_line": by_line.gross,
    }
    return {key: known[key] for key in case["expected"]}


PEERS: dict[str, Callable[[Facts], Facts]] = {
    "proration_with_tax": peer_prorated,
    "credit_note_rounding": peer_credit,
    "tax_rounding_line_vs_document": peer_rounding,
}


@pytest.mark.parametrize("model", PEERS)
def test_peer_cases(shared: Path, model: str) -> None:
    for case in peer_cases(shared, model):
        found = PEERS[model](case)
        assert matches(found, case["expected"]), (case["id"], found, case["expected"])
