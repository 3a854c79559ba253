"""Taxes on invoices, their corrections and their journals: on a real PostgreSQL (RULEBOOK §8)."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from sqlalchemy.orm import Session

from iotbill_pipelines.cli import console
from iotbill_pipelines.cli.main import app
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.post.terms import GlAccount, GlRule, JournalType, LedgerTerms
from iotbill_pipelines.engine.tax import (
    ExemptionCertificate,
    Jurisdiction,
    ReverseCharge,
    TaxCustomer,
    TaxPolicy,
    TaxRate,
    TaxSeller,
    TaxTerms,
)
from iotbill_pipelines.storage import ledger, taxes
from tests.conftest import ROOT
from tests.storage.books import NOVEMBER, NOW, OCTOBER, TERMS, Books, Charge

TAX_JOURNALS = LedgerTerms(
    entities=TERMS.entities,
    accounts=[
        *TERMS.accounts,
        GlAccount(number="2200", name="VAT payable"),
        GlAccount(number="2210", name="Sales tax payable"),
    ],
    suspense_account="9990",
    gl_map=[
        *TERMS.gl_map,
        GlRule(role="tax", account="2200"),
        GlRule(role="tax", when={"jurisdiction": "WA", "tax": "sales"}, account="2210"),
    ],
    journals=[
        *TERMS.journals,
        JournalType(
            type="TAX",
            level="retail",
            source="tax",
            debit="receivable",
            credit="tax",
            debit_by=["account"],
        ),
        JournalType(
            type="TAX_INCL",
            code="TXI",
            level="retail",
            source="tax_within",
            debit="revenue",
            credit="tax",
        ),
    ],
    targets=[TERMS.targets[0]],
)


def rate(place: str, tax: str, value: str, **changes: Any) -> TaxRate:
    return TaxRate(jurisdiction=place, tax_code="standard", tax=tax, rate=Decimal(value), **changes)


TAXES = TaxTerms(
    mode="table",
    sellers=(TaxSeller(entity="NL01", country="NL", jurisdictions=("NL",)),),
    customers=(TaxCustomer(account="*", country="NL", jurisdictions=("NL",)),),
    jurisdictions=(
        Jurisdiction(id="NL", name="Netherlands", country="NL"),
        Jurisdiction(id="DE", name="Germany", country="DE"),
        Jurisdiction(id="WA", name="Washington", country="US"),
        Jurisdiction(id="KING", name="King County", country="US", parent="WA"),
    ),
    rates=(
        rate("NL", "VAT", "0.19", valid_to=date(2026, 11, 10)),
        rate("NL", "VAT", "0.21", valid_from=date(2026, 11, 10)),
        rate("DE", "VAT", "0.19"),
        rate("WA", "sales", "0.065"),
        rate("KING", "county", "0.036"),
    ),
)


@pytest.fixture
def books(postgres_url: str) -> Iterator[Books]:
    books = Books(postgres_url)
    yield books
    books.engine.dispose()


def invoice(
    books: Books, terms: TaxTerms = TAXES, period: Month = OCTOBER, on: date | None = None
) -> taxes.TaxResult:
    with Session(books.engine) as session, session.begin():
        ledger.issue_invoices(
            session,
            period,
            run_id="run",
            issue_date=on or period.last_day,
            issued_at=NOW,
        )
        return taxes.tax_invoices(session, terms)


def journal(books: Books, external_id: str) -> list[tuple[Any, ...]]:
    return books.rows(
        "select account, debit_minor, credit_minor from journal_line join journal using"
        f" (journal_id) where external_id = '{external_id}' order by line_no"
    )


def but(**changes: Any) -> TaxTerms:
    return TAXES.model_copy(update=changes)


def test_tax_stands_on_the_invoice_and_in_a_journal_of_its_own(
    books: Books, tmp_path: Path
) -> None:
    books.book(Charge(amount_minor=333), Charge(service_id="S2", amount_minor=333, account_id="B"))
    assert invoice(books).totals == {"EUR": 126}
    assert invoice(books).items == 0
    assert books.findings() != []  # not posted yet
    assert books.post(terms=TAX_JOURNALS).built == [
        "NL01-2026-10-REVENUE-001",
        "NL01-2026-10-TAX-001",
    ]
    assert journal(books, "NL01-2026-10-TAX-001") == [
        ("1200", 63, 0),
        ("1200", 63, 0),
        ("2200", 0, 126),
    ]
    assert books.findings() == []
    assert books.post(terms=TAX_JOURNALS).built == []
    books.export(tmp_path, terms=TAX_JOURNALS)
    assert books.post(terms=TAX_JOURNALS).built == []
    with Session(books.engine) as session:
        (total,) = taxes.tax_totals(session, OCTOBER)
        (first, *_) = taxes.invoice_taxes(session, "NL01-2026-10-000001")
    assert (total.jurisdiction, total.base, total.amount) == (
        "NL",
        Decimal("6.66"),
        Decimal("1.26"),
    )
    assert (first.rate, first.base, first.amount) == (
        Decimal("0.19"),
        Decimal("3.33"),
        Decimal("0.63"),
    )


def test_the_command_line_tells_totals_and_an_invoice_s_arithmetic(
    books: Books, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    books.book(Charge(amount_minor=333))
    invoice(books)
    say = saying(books, tmp_path, monkeypatch)
    assert json.loads(say("tax", "totals", "2026-10", "--json")) == [
        {
            "entity_id": "NL01",
            "jurisdiction": "NL",
            "tax": "VAT",
            "rate": "0.19",
            "treatment": "taxed",
            "currency": "EUR",
            "base": "3.33",
            "amount": "0.63",
        }
    ]
    assert "0.19" in say("tax", "invoice", "NL01-2026-10-000001")
    assert "no invoice of 2026-11" in say("tax", "totals", "2026-11")


def saying(books: Books, home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """What commands print about the books."""
    (home / "lake").mkdir()
    url = books.engine.url.render_as_string(hide_password=False)
    where = ["--home", str(home), "--configs", str(ROOT / "configs"), "--database-url", url]

    def say(*arguments: str) -> str:
        text = io.StringIO()
        monkeypatch.setattr(console, "out", Console(file=text, width=160, highlight=False))
        monkeypatch.setattr(sys, "stdout", text)
        try:
            app([*where, *arguments], standalone_mode=False)
        finally:
            monkeypatch.undo()
        return text.getvalue()

    return say


def test_an_invoice_that_cannot_be_taxed_is_not_issued(books: Books) -> None:
    books.book(Charge(amount_minor=100), Charge(service_id="S2", amount_minor=50, account_id="B"))
    nowhere = but(customers=(TaxCustomer(account="A", country="NL", jurisdictions=("NL",)),))
    with pytest.raises(taxes.UntaxableError, match="nothing is known of account B"):
        invoice(books, nowhere)
    unpriced = but(
        customers=(
            TaxCustomer(account="*", country="NL", jurisdictions=("NL",)),
            TaxCustomer(account="B", country="DE", jurisdictions=("DE",)),
        ),
        rates=(rate("NL", "VAT", "0.19"),),
    )
    with pytest.raises(taxes.UntaxableError) as caught:
        invoice(books, unpriced)
    (found,) = caught.value.findings
    assert found.severity == "block"
    assert found.figure == "EUR 0.50"
    assert "account B" in found.message
    assert "no rate of tax code 'standard' in DE" in found.message
    assert found.what_to_do == "add a rate, zero if nothing is due"
    assert books.rows("select count(*) from invoice") == [(0,)]


def test_stacked_taxes_have_their_own_accounts_and_certificates_exempt(books: Books) -> None:
    books.book(Charge(amount_minor=10_000), Charge("S2", 10_000, account_id="B"))
    terms = but(
        customers=(TaxCustomer(account="*", country="US", jurisdictions=("KING",)),),
        certificates=(
            ExemptionCertificate(
                number="X-1", customer_id="B", taxes=("sales",), valid_from=date(2026, 1, 1)
            ),
        ),
    )
    invoice(books, terms)
    books.post(terms=TAX_JOURNALS)
    assert journal(books, "NL01-2026-10-TAX-001") == [
        ("1200", 1010, 0),
        ("1200", 360, 0),
        ("2200", 0, 720),
        ("2210", 0, 650),
    ]
    assert books.rows(
        "select account_id, tax, treatment, note, amount_minor from invoice_tax"
        " join invoice using (invoice_id) where treatment <> 'taxed'"
    ) == [("B", "sales", "exempt", "exempt: X-1", 0)]
    assert books.findings() == []


def test_reverse_charge_is_a_line_without_an_amount(books: Books) -> None:
    books.book(Charge(amount_minor=10_000))
    terms = but(
        customers=(
            TaxCustomer(
                account="*",
                country="DE",
                jurisdictions=("DE",),
                vat_id="DE136695976",
                vat_id_validated_on=date(2026, 10, 31),
            ),
        ),
        reverse_charges=(ReverseCharge(id="EU", countries=frozenset({"NL", "DE"})),),
    )
    assert invoice(books, terms).totals == {"EUR": 0}
    assert books.rows("select treatment, note, base_minor, amount_minor from invoice_tax") == [
        ("reverse_charge", "reverse_charge", 10_000, 0)
    ]
    assert "TAX" not in "".join(books.post(terms=TAX_JOURNALS).built)
    assert books.findings() == []


def test_prices_that_include_tax_give_part_of_the_revenue_to_the_tax_account(books: Books) -> None:
    books.book(Charge(amount_minor=999))
    invoice(books, but(policy=TaxPolicy(pricing="inclusive")))
    books.post(terms=TAX_JOURNALS)
    assert journal(books, "NL01-2026-10-REVENUE-001") == [("1200", 999, 0), ("4100", 0, 999)]
    assert journal(books, "NL01-2026-10-TAX_INCL-001") == [("4100", 160, 0), ("2200", 0, 160)]
    assert books.findings() == []


@pytest.mark.parametrize("after", [999, 700, 0, -50])
def test_a_correction_adjusts_the_tax_by_the_difference(
    books: Books, tmp_path: Path, after: int
) -> None:
    charge = Charge(amount_minor=1001, linear=False)
    books.book(charge)
    invoice(books)
    books.post(terms=TAX_JOURNALS)
    books.export(tmp_path, terms=TAX_JOURNALS)
    books.book(charge.but(amount_minor=after), period=NOVEMBER)
    # the rate has changed since: what is taken back is taken back at the first invoice's
    invoice(books, period=NOVEMBER, on=date(2026, 11, 30))
    ((taxed,),) = books.rows("select sum(amount_minor)::int from invoice_tax")
    expected = {999: 190, 700: 133, 0: 0, -50: -11}  # below zero nothing was charged: 21 % of -0.50
    assert taxed == expected[after]
    books.post(NOVEMBER, TAX_JOURNALS)
    assert books.findings(NOVEMBER) == []


def test_more_of_a_unit_is_taxed_at_the_new_invoices_date(books: Books) -> None:
    charge = Charge(amount_minor=1000)
    books.book(charge)
    invoice(books)
    books.book(charge.but(amount_minor=1500), period=NOVEMBER)
    invoice(books, period=NOVEMBER, on=date(2026, 11, 30))
    books.book(charge.but(amount_minor=800), period=Month(2026, 12))
    invoice(books, period=Month(2026, 12))
    assert books.rows(
        "select i.accounting_period, t.rate::text, t.taxable_minor, t.amount_minor"
        " from invoice_tax t join invoice i using (invoice_id) order by t.tax_id"
    ) == [
        ("2026-10", "0.190000000000", 1000, 190),
        ("2026-11", "0.210000000000", 500, 105),
        ("2026-12", "0.190000000000", -200, -38),
        ("2026-12", "0.210000000000", -500, -105),
    ]


def test_taxes_of_an_issued_invoice_do_not_change(books: Books) -> None:
    books.book(Charge(amount_minor=1000))
    invoice(books)
    assert "UPDATE refused" in books.refused("update invoice_tax set amount_minor = 0")
    said = books.refused(
        "insert into invoice_tax (tax_id, invoice_id, line_no, part_no, item_no, jurisdiction, tax,"
        " rate, compound, apply_order, treatment, note, pricing, currency, taxable_minor,"
        " base_minor, amount_minor) select 99, invoice_id, line_no, 2, 1, jurisdiction, tax, rate,"
        " compound, apply_order, treatment, note, pricing, currency, 1, 1, 1 from invoice_tax"
    )
    assert "is issued" in said
