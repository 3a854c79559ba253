"""The rules of taxes in small cases and for all documents (RULEBOOK §§0.2, 8)."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from iotbill_pipelines.engine.money import round_money
from iotbill_pipelines.engine.tax import (
    Assessment,
    Customer,
    ExemptionCertificate,
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
    control_totals,
    credit_note,
)

PROPERTY = settings(max_examples=60, deadline=None)

D = Decimal
DAY = date(2026, 10, 31)
PLACES = (
    Jurisdiction(id="US", name="United States", country="US"),
    Jurisdiction(id="US-WA", name="Washington", country="US", parent="US"),
    Jurisdiction(id="US-WA-KING", name="King County", country="US", parent="US-WA"),
    Jurisdiction(id="US-WA-RTA", name="Transit district", country="US", parent="US-WA"),
    Jurisdiction(id="CA-QC", name="Québec", country="CA"),
)


def rate(place: str, tax: str, value: str, **changes: Any) -> TaxRate:
    return TaxRate(
        jurisdiction=place,
        tax_code=changes.pop("tax_code", "std"),
        tax=tax,
        rate=D(value),
        **changes,
    )


def table(*rates: TaxRate, **changes: Any) -> TaxTable:
    return TaxTable(jurisdictions=PLACES, rates=rates, **changes)


def invoice(*lines: TaxableLine, **changes: Any) -> TaxDocument:
    whole = TaxDocument("I", DAY, "USD", Seller("e", "US"), Customer("c", "US"), lines)
    return replace(whole, **changes)


def line(
    amount: str | D, key: str = "1", place: str | tuple[str, ...] = "US-WA", code: str = "std"
) -> TaxableLine:
    places = (place,) if isinstance(place, str) else place
    return TaxableLine(key, code, D(amount), primary_use=places)


def taxes(found: Assessment) -> list[tuple[str, str, D]]:
    return [(i.jurisdiction, i.tax, i.amount) for one in found.lines for i in one.items]


WA = rate("US-WA", "sales", "0.065")


def test_per_invoice_rounds_once_and_gives_the_lines_their_parts() -> None:
    """TX-02: three times 0.10 at 6.5 % are 0.02 together and 0.03 line by line."""
    lines = [line("0.10", key) for key in "cab"]
    per_line = TableTaxEngine(table(WA)).assess(invoice(*lines))
    whole = TableTaxEngine(table(WA), TaxPolicy(rounding="per_invoice")).assess(invoice(*lines))
    assert (per_line.tax, whole.tax) == (D("0.03"), D("0.02"))
    assert {one.key: one.tax for one in whole.lines} == {"a": D("0.01"), "b": D("0.01"), "c": 0}


def test_a_compound_tax_is_levied_on_the_taxes_before_it() -> None:
    """TX-04: 9.5 % on 100.00 + 5.00."""
    compound = table(
        rate("CA-QC", "GST", "0.05", order=1),
        rate("CA-QC", "QST", "0.095", order=2, compound=True),
    )
    found = TableTaxEngine(compound).assess(invoice(line("100.00", place="CA-QC")))
    assert taxes(found) == [("CA-QC", "GST", D("5.00")), ("CA-QC", "QST", D("9.98"))]
    assert found.explanation[1] == (
        "1: CA-QC QST: 0.095 of 105.00 (with the taxes before it) = 9.98"
    )
    back = TableTaxEngine(compound, TaxPolicy(pricing="inclusive")).assess(
        invoice(line(found.gross, place="CA-QC"))
    )
    assert (back.net, taxes(back)) == (D("100.00"), taxes(found))


@pytest.mark.parametrize(("method", "net"), [("round_net", D("0.01")), ("round_tax", D("0.00"))])
def test_which_side_of_an_inclusive_price_is_rounded_can_move_a_cent(method: Any, net: D) -> None:
    """TX-01: at 100 % one cent is half a cent each."""
    policy = TaxPolicy(pricing="inclusive", inclusive_rounding=method)
    engine = TableTaxEngine(table(rate("US-WA", "sales", "1")), policy)
    found = engine.assess(invoice(line("0.01")))
    assert (found.net, found.gross) == (net, D("0.01"))


def test_a_place_is_taxed_by_all_it_lies_in_each_once() -> None:
    stack = table(WA, rate("US-WA-KING", "county", "0.01"), rate("US-WA-RTA", "transit", "0.014"))
    found = TableTaxEngine(stack).assess(invoice(line("100.00", place=("US-WA-KING", "US-WA-RTA"))))
    assert taxes(found) == [
        ("US-WA", "sales", D("6.50")),
        ("US-WA-KING", "county", D("1.00")),
        ("US-WA-RTA", "transit", D("1.40")),
    ]


@pytest.mark.parametrize(
    ("tax_point", "tax"), [(date(2026, 6, 30), D("6.00")), (date(2026, 7, 1), D("7.00"))]
)
def test_the_rate_is_that_of_the_tax_point(tax_point: date, tax: D) -> None:
    change = date(2026, 7, 1)
    dated = table(
        rate("US-WA", "sales", "0.06", valid_to=change),
        rate("US-WA", "sales", "0.07", valid_from=change),
    )
    found = TableTaxEngine(dated).assess(invoice(line("100.00"), tax_point=tax_point))
    assert found.tax == tax


@pytest.mark.parametrize(
    ("asked", "reason", "said"),
    [
        (line("1", place=()), "no_place", "taxed at primary_use, which is not given"),
        (line("1", place="US-XX"), "unknown_jurisdiction", "'US-XX'"),
        (line("1", code="telecom"), "no_rate", "add a rate, zero if nothing is due"),
    ],
)
def test_what_cannot_be_taxed_is_told_and_not_taxed_at_zero(
    asked: TaxableLine, reason: str, said: str
) -> None:
    found = TableTaxEngine(table(WA)).assess(invoice(asked, line("10.00", "ok")))
    assert [one.key for one in found.lines] == ["ok"]
    (problem,) = found.unresolved
    assert (problem.key, problem.reason) == ("1", reason)
    assert said in problem.message


def test_a_zero_rate_is_a_statement() -> None:
    found = TableTaxEngine(table(rate("US-WA", "sales", "0"))).assess(invoice(line("10.00")))
    assert (found.tax, found.unresolved) == (D("0.00"), ())


def certificate(**changes: Any) -> ExemptionCertificate:
    fields: dict[str, Any] = {
        "number": "X1", "customer_id": "c", "valid_from": date(2026, 1, 1),
        "valid_to": date(2027, 1, 1),
    }  # fmt: skip
    return ExemptionCertificate(**(fields | changes))


@pytest.mark.parametrize(
    ("changes", "tax"),
    [
        ({}, 0),
        ({"jurisdictions": ("US-WA",)}, 0),
        ({"jurisdictions": ("US-WA",), "and_below": False}, 1),
        ({"jurisdictions": ("US-WA-KING",)}, D("6.50")),
        ({"taxes": ("county",)}, D("6.50")),
        ({"tax_codes": ("telecom",)}, D("7.50")),
        ({"customer_id": "other"}, D("7.50")),
        ({"valid_to": DAY}, D("7.50")),
        ({"valid_from": DAY}, 0),
    ],
)
def test_a_certificate_exempts_whom_where_and_when_it_says(changes: dict[str, Any], tax: D) -> None:
    dated = table(WA, rate("US-WA-KING", "county", "0.01"), certificates=(certificate(**changes),))
    found = TableTaxEngine(dated).assess(invoice(line("100.00", place="US-WA-KING")))
    assert found.tax == tax
    exempt = [item for item in found.lines[0].items if item.treatment == "exempt"]
    assert all((item.base, item.note) == (D(100), "exempt: X1") for item in exempt)


@pytest.mark.parametrize(
    ("customer", "reverse"),
    [
        (Customer("c", "AT", vat_id="ATU1", vat_id_valid=True), True),
        (Customer("c", "AT", vat_id="ATU1", vat_id_valid=False), False),
        (Customer("c", "AT", vat_id_valid=True), False),
        (Customer("c", "NL", vat_id="NL1", vat_id_valid=True), False),
        (Customer("c", "CH", vat_id="CHE1", vat_id_valid=True), False),
    ],
)
def test_reverse_charge_needs_two_countries_and_a_validated_id(
    customer: Customer, reverse: bool
) -> None:
    """TX-05."""
    eu = table(
        WA,
        reverse_charges=(
            ReverseCharge(id="EU", countries=frozenset({"NL", "AT"}), invoice_note="Art. 196"),
        ),
    )
    found = TableTaxEngine(eu).assess(
        invoice(line("100.00"), seller=Seller("e", "NL"), customer=customer)
    )
    assert found.notes == (("Art. 196",) if reverse else ())
    assert found.tax == (0 if reverse else D("6.50"))
    assert found.lines[0].items[0].base == 100


@pytest.mark.parametrize("place", ["establishment", "seller"])
def test_a_tax_code_may_be_sourced_to_either_party(place: Any) -> None:
    sourced = table(WA, sourcing=(Sourcing(tax_code="std", place=place),))
    party: dict[str, Any] = {
        "establishment": {"customer": Customer("c", "US", ("US-WA",))},
        "seller": {"seller": Seller("e", "US", ("US-WA",))},
    }[place]
    assert TableTaxEngine(sourced).assess(invoice(line("100.00", place=()), **party)).tax == D(6.5)


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ((WA, rate("US-WA", "sales", "0.07", valid_from=DAY)), "overlap on 2026-10-31"),
        ((rate("XX", "sales", "0.07"),), "unknown jurisdiction 'XX'"),
    ],
)
def test_a_table_that_contradicts_itself_is_refused(
    rates: tuple[TaxRate, ...], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        table(*rates)


def test_jurisdictions_may_not_lie_inside_themselves() -> None:
    ring = (
        Jurisdiction(id="A", name="A", country="US", parent="B"),
        Jurisdiction(id="B", name="B", country="US", parent="A"),
    )
    with pytest.raises(ValidationError, match="lies inside itself"):
        TaxTable(jurisdictions=ring, rates=())


def test_partial_credits_recompute_and_the_last_one_takes_the_rest() -> None:
    """TX-07: 0.70 on 10.05 at 7 %, credited as 4.00, 4.00 and what is left."""
    original = TableTaxEngine(table(rate("US-WA", "sales", "0.07"))).assess(invoice(line("10.05")))
    notes: list[Assessment] = []
    for number, amount in enumerate([D(4), D(4), None]):
        amounts = None if amount is None else {"1": amount}
        notes.append(
            credit_note(
                original,
                document_id=f"C{number}",
                tax_point=DAY,
                amounts=amounts,
                earlier=tuple(notes),
            )
        )
    assert [note.tax for note in notes] == [D("-0.28"), D("-0.28"), D("-0.14")]
    assert [note.net for note in notes] == [D(-4), D(-4), D("-2.05")]
    with pytest.raises(ValueError, match=r"cannot credit 1, 0.00 is left"):
        credit_note(
            original, document_id="C", tax_point=DAY, amounts={"1": D(1)}, earlier=tuple(notes)
        )
    with pytest.raises(ValueError, match="has no line '2'"):
        credit_note(original, document_id="C", tax_point=DAY, amounts={"2": D(1)})


def test_control_totals_add_up_by_tax() -> None:
    engine = TableTaxEngine(table(WA))
    first, second = engine.assess(invoice(line("10.00"))), engine.assess(invoice(line("20.00")))
    back = credit_note(first, document_id="C", tax_point=DAY)
    (total,) = control_totals([first, second, back])
    assert (total.base, total.amount, total.currency) == (D("20.00"), D("1.30"), "USD")


# -- for all documents -----------------------------------------------------------------------------

amounts_ = st.lists(st.decimals(-100, 100, places=2), min_size=1, max_size=10)
policies = st.builds(
    TaxPolicy,
    pricing=st.sampled_from(["exclusive", "inclusive"]),
    rounding=st.sampled_from(["per_line", "per_invoice"]),
    inclusive_rounding=st.sampled_from(["round_net", "round_tax"]),
)
STACK = table(
    WA,
    rate("US-WA-KING", "county", "0.0125", order=1),
    rate("US-WA-RTA", "transit", "0.095", order=2, compound=True),
)
PLACE = ("US-WA-KING", "US-WA-RTA")


def document(amounts: list[Decimal]) -> TaxDocument:
    return invoice(*(line(amount, f"{n:02}", PLACE) for n, amount in enumerate(amounts)))


@PROPERTY
@given(amounts_, policies, st.randoms())
def test_net_and_taxes_add_up_whatever_the_order_and_cancel_when_reversed(
    amounts: list[Decimal], policy: TaxPolicy, random: Any
) -> None:
    engine, whole = TableTaxEngine(STACK, policy), document(amounts)
    found = engine.assess(whole)
    for asked, one in zip(whole.lines, found.lines, strict=True):
        assert asked.amount == (one.gross if policy.pricing == "inclusive" else one.net)
        assert one.gross == one.net + sum((item.amount for item in one.items), D(0))
    lines = tuple(random.sample(whole.lines, len(amounts)))
    shuffled = engine.assess(replace(whole, lines=lines))
    assert {one.key: one for one in shuffled.lines} == {one.key: one for one in found.lines}
    back = engine.assess(document([-amount for amount in amounts]))
    assert [one.net for one in back.lines] == [-one.net for one in found.lines]
    assert [t[2] for t in taxes(back)] == [-t[2] for t in taxes(found)]


@PROPERTY
@given(amounts_)
def test_a_document_tax_is_the_rounded_exact_tax(amounts: list[Decimal]) -> None:
    exact = TableTaxEngine(table(WA), TaxPolicy(rounding="per_invoice")).assess(document(amounts))
    total = sum((Fraction(amount) for amount in amounts), Fraction(0))
    assert exact.tax == round_money(total * Fraction(WA.rate), "USD")
    inclusive = TaxPolicy(rounding="per_invoice", pricing="inclusive")
    found = TableTaxEngine(table(WA), inclusive).assess(document(amounts))
    assert found.net == round_money(total / (1 + Fraction(WA.rate)), "USD")


@PROPERTY
@given(amounts_, policies, st.lists(st.integers(0, 100), max_size=4))
def test_credits_of_every_size_cancel_the_invoice_to_the_cent(
    amounts: list[Decimal], policy: TaxPolicy, percents: list[int]
) -> None:
    original = TableTaxEngine(STACK, policy).assess(document(amounts))
    left = {f"{n:02}": amount for n, amount in enumerate(amounts)}
    notes: list[Assessment] = []
    for percent in percents:
        asked = {key: round_money(amount * percent / 100, "USD") for key, amount in left.items()}
        left = {key: amount - asked[key] for key, amount in left.items()}
        notes.append(
            credit_note(
                original, document_id="C", tax_point=DAY, amounts=asked, earlier=tuple(notes)
            )
        )
    notes.append(credit_note(original, document_id="C", tax_point=DAY, earlier=tuple(notes)))
    for total in control_totals([original, *notes]):
        assert (total.base, total.amount) == (0, 0)
    assert original.net + sum(note.net for note in notes) == 0


@PROPERTY
@given(amounts_, policies)
def test_a_full_credit_is_the_invoice_negated(amounts: list[Decimal], policy: TaxPolicy) -> None:
    original = TableTaxEngine(STACK, policy).assess(document(amounts))
    note = credit_note(original, document_id="C", tax_point=DAY)
    assert [t[2] for t in taxes(note)] == [-t[2] for t in taxes(original)]
    assert [one.net for one in note.lines] == [-one.net for one in original.lines]
