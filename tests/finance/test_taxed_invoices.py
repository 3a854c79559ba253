"""Taxes on invoices, their corrections and their journals: on a real PostgreSQL (RULEBOOK §8)."""

from __future__ import annotations

import io
import json
import shutil
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
    TaxedService,
    TaxPolicy,
    TaxRate,
    TaxSeller,
    TaxTerms,
)
from iotbill_pipelines.operations.invoicing import issue_invoices
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage import ledger, taxes
from iotbill_pipelines.storage.taxes import TaxNotes
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


def saying(
    books: Books, home: Path, monkeypatch: pytest.MonkeyPatch, where: list[str] | None = None
) -> Callable[..., str]:
    """What commands print about the books."""
    if where is None:
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


def notes(books: Books, terms: TaxTerms, period: Month, since: Month | None = None) -> TaxNotes:
    with Session(books.engine) as session, session.begin():
        due = taxes.due_tax_notes(session, terms, period, since)
        taxes.issue_tax_notes(
            session, due, period, run_id="run", issue_date=period.last_day, issued_at=NOW
        )
        return due


def close_period(books: Books, period: Month) -> None:
    for state in ("soft_closed", "in_review", "closed"):
        with Session(books.engine) as session, session.begin():
            ledger.set_period_state(session, "NL01", period, state, actor="t", at=NOW)


RIGHT_RATE = but(rates=(rate("NL", "VAT", "0.21"), *TAXES.rates[2:]))


def test_a_corrected_rate_corrects_issued_invoices_by_notes_and_journals(
    books: Books, tmp_path: Path
) -> None:
    books.book(Charge(amount_minor=1001), Charge("S2", 333, account_id="B"))
    invoice(books)
    books.post(terms=TAX_JOURNALS)
    books.export(tmp_path, terms=TAX_JOURNALS)
    close_period(books, OCTOBER)
    assert notes(books, TAXES, NOVEMBER).notes == []  # 21 % from 10 November on, as it was

    found = notes(books, RIGHT_RATE, NOVEMBER)
    assert [(n["note_no"], n["tax_minor"]) for n in found.notes] == [
        ("NL01-2026-11-T000001", 20),
        ("NL01-2026-11-T000002", 7),
    ]
    assert [(i.invoice_no, i.rate, i.base, i.amount) for i in found.items[:2]] == [
        ("NL01-2026-10-000001", Decimal("0.19"), Decimal("-10.01"), Decimal("-1.90")),
        ("NL01-2026-10-000001", Decimal("0.21"), Decimal("10.01"), Decimal("2.10")),
    ]
    assert notes(books, RIGHT_RATE, NOVEMBER).notes == []
    assert books.findings(NOVEMBER) != []  # not posted yet
    assert books.post(NOVEMBER, TAX_JOURNALS).built == ["NL01-2026-11-TAX-001"]
    assert journal(books, "NL01-2026-11-TAX-001") == [
        ("1200", 20, 0),
        ("1200", 7, 0),
        ("2200", 0, 27),
    ]
    assert books.findings(OCTOBER) == books.findings(NOVEMBER) == []
    with Session(books.engine) as session:
        assert [(t.rate, t.amount) for t in taxes.tax_totals(session, NOVEMBER)] == [
            (Decimal("0.19"), Decimal("-2.53")),
            (Decimal("0.21"), Decimal("2.80")),
        ]
        of_invoice = taxes.invoice_taxes(session, "NL01-2026-10-000002")
        assert sum(line.amount for line in of_invoice) == Decimal("0.70")
        of_note = taxes.invoice_taxes(session, "NL01-2026-11-T000002")
    assert {line.document_no for line in of_note} == {"NL01-2026-11-T000002"}


@pytest.mark.parametrize("when", ["before", "after"])
def test_what_was_taken_back_of_an_invoice_is_corrected_with_it(books: Books, when: str) -> None:
    charge = Charge(amount_minor=1000)
    books.book(charge)
    invoice(books)
    if when == "before":
        notes(books, RIGHT_RATE, NOVEMBER)
    books.book(charge.but(amount_minor=600), period=NOVEMBER)
    invoice(books, RIGHT_RATE, NOVEMBER)
    if when == "after":
        assert len(notes(books, RIGHT_RATE, NOVEMBER).notes) == 2
    assert notes(books, RIGHT_RATE, NOVEMBER).notes == []
    assert books.rows(
        "select rate::numeric(4, 2)::text, sum(taxable_minor)::int, sum(amount_minor)::int"
        " from invoice_tax group by 1 order by 1"
    ) == [("0.19", 0, 0), ("0.21", 600, 126)]
    back = notes(books, TAXES, NOVEMBER)  # the old table was right after all
    assert sum(note["tax_minor"] for note in back.notes) == -12


def test_a_certificate_that_came_late_and_a_place_that_changed(books: Books) -> None:
    books.book(Charge(amount_minor=10_000), Charge("S2", 10_000))
    here = but(customers=(TaxCustomer(account="*", country="US", jurisdictions=("KING",)),))
    invoice(books, here)
    certified = here.model_copy(
        update={
            "certificates": (
                ExemptionCertificate(
                    number="X-1", customer_id="A", taxes=("sales",), valid_from=date(2026, 10, 1)
                ),
            )
        }
    )
    found = notes(books, certified, OCTOBER)  # the month is open still
    assert [(i.tax, i.treatment, i.base, i.amount) for i in found.items if i.tax == "sales"] == [
        ("sales", "taxed", Decimal("-200.00"), Decimal("-13.00")),
        ("sales", "exempt", Decimal("200.00"), Decimal("0.00")),
    ]
    renamed = certified.model_copy(
        update={"certificates": (certified.certificates[0].model_copy(update={"number": "X-2"}),)}
    )
    assert notes(books, renamed, OCTOBER).notes == []
    moved = TaxedService(service="S2", primary_use=("WA",), valid_from=date(2026, 11, 1))
    assert notes(books, certified.model_copy(update={"services": (moved,)}), OCTOBER).notes == []
    before = moved.model_copy(update={"valid_from": date(2026, 10, 1)})
    (note,) = notes(books, certified.model_copy(update={"services": (before,)}), OCTOBER).notes
    assert note["tax_minor"] == -360
    assert "TAX" in "".join(books.post(terms=TAX_JOURNALS).built)
    assert books.findings() == []


def test_prices_that_include_tax_keep_what_is_due_and_move_revenue(books: Books) -> None:
    books.book(Charge(amount_minor=999))
    invoice(books, but(policy=TaxPolicy(pricing="inclusive")))
    books.post(terms=TAX_JOURNALS)
    # what was agreed on stays agreed on: the policy of today is of no consequence
    (note,) = notes(books, RIGHT_RATE, OCTOBER).notes
    assert note["tax_minor"] == 173 - 160
    books.post(terms=TAX_JOURNALS)
    assert journal(books, "NL01-2026-10-TAX_INCL-001") == [("4100", 173, 0), ("2200", 0, 173)]
    assert books.findings() == []


def test_what_cannot_or_may_not_be_corrected_is_told(books: Books) -> None:
    books.book(Charge(amount_minor=1000))
    invoice(books)
    gone = but(customers=(TaxCustomer(account="B", country="NL", jurisdictions=("NL",)),))
    (found,) = notes(books, gone, NOVEMBER).findings
    assert "nothing is known of its customer" in found.message and found.severity == "warn"
    (found,) = notes(books, but(rates=TAXES.rates[1:]), NOVEMBER).findings
    assert "no rate of tax code 'standard' in NL on 2026-10-31" in found.message
    old = notes(books, RIGHT_RATE, NOVEMBER, since=NOVEMBER)
    assert old.notes == [] and old.is_complete
    assert old.findings[0].figure == "EUR 0.20"
    close_period(books, OCTOBER)
    waiting = notes(books, RIGHT_RATE, OCTOBER)
    assert waiting.notes == [] and not waiting.is_complete
    assert len(notes(books, RIGHT_RATE, NOVEMBER).notes) == 1
    assert "UPDATE refused" in books.refused("update tax_note set tax_minor = 0")
    said = books.refused(
        "insert into tax_note (tax_note_id, note_no, run_id, invoice_id, entity_id,"
        " accounting_period, issue_date, currency, items, tax_minor, issued_at)"
        " select 9, 'X', run_id, invoice_id, entity_id, '2026-10', issue_date, currency, 1, 1,"
        " issued_at from tax_note"
    )
    assert "is closed: tax_note takes no new rows" in said


def test_invoices_that_were_issued_without_taxes_stay_without(books: Books) -> None:
    books.book(Charge(amount_minor=1000))
    books.invoice()
    assert notes(books, TAXES, NOVEMBER).notes == []


TABLES = """
mode: table
sellers: [{entity: NL01, country: NL, jurisdictions: [NL]}]
customers: [{account: "*", country: NL, jurisdictions: [NL]}]
jurisdictions: [{id: NL, name: Netherlands, country: NL}]
rates: [{jurisdiction: NL, tax_code: standard, tax: VAT, rate: 0.19}]
"""


def test_a_close_issues_the_notes_that_the_command_line_foretells(
    books: Books, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = tmp_path / "configs"
    for folder in ("catalog", "ledger"):
        shutil.copytree(ROOT / "configs" / folder, configs / folder)
    (configs / "tax").mkdir()
    tables = configs / "tax" / "tax.yaml"
    tables.write_text(TABLES)
    url = books.engine.url.render_as_string(hide_password=False)
    ws = Workspace.open(tmp_path / "home", configs, url, migrate=True, run_id="run", actor="ann")
    books.book(Charge(amount_minor=1000))
    assert issue_invoices(ws, OCTOBER).rows["tax items"] == 1
    tables.write_text(TABLES.replace("0.19", "0.21"))
    where = ["--home", str(ws.home), "--configs", str(configs), "--database-url", url]
    say = saying(books, tmp_path, monkeypatch, where)
    (back, due) = json.loads(say("tax", "notes", "2026-11", "--json"))["notes"]
    assert (back["rate"], back["amount"], due["amount"]) == ("0.19", "-1.90", "2.10")
    assert "NL01-2026-10-000001" in say("tax", "notes", "2026-11")
    assert books.rows("select count(*) from tax_note") == [(0,)]

    first = issue_invoices(ws, NOVEMBER)
    assert first.rows["tax notes"] == 1 and first.changed
    assert first.amounts == [("tax corrected", "EUR", Decimal("0.20"))]
    assert "2.10" in say("tax", "invoice", "NL01-2026-11-T000001")
    assert "every invoice that can be" in say("tax", "notes", "2026-11")
    monkeypatch.setattr(taxes, "due_tax_notes", None)  # not asked again while nothing changed
    assert not issue_invoices(ws, NOVEMBER).changed
    assert books.rows("select actor, subject from audit_log where action = 'tax_notes'") == [
        ("ann", "2026-11")
    ]
    ws.close()


def test_what_a_correction_comes_to_with_taxes_is_told_before_it_is_invoiced(books: Books) -> None:
    charge = Charge(amount_minor=1000)
    books.book(charge)
    invoice(books)  # at 19 %
    change = {
        "service_id": "S1", "charge_id": "data", "product_id": "data", "kind": "usage",
        "entity_id": "NL01", "account_id": "A", "usage_period": "2026-10", "gl_class": "usage",
        "tax_code": "standard", "currency": "EUR",
    }  # fmt: skip
    more = {**change, "charge_id": "fee", "amount_minor": 100}
    with Session(books.engine) as session:
        (told,) = taxes.tax_differences(
            session, TAXES, NOVEMBER.last_day, [{**change, "amount_minor": -300}, more]
        )
        nobody = but(customers=())
        (untaxed,) = taxes.tax_differences(session, nobody, NOVEMBER.last_day, [more])
    # what is taken back is taken back at 19 %, what is added is taxed at 21 %
    assert (told.net_minor, told.tax_minor, told.gross_minor) == (-200, -57 + 21, -236)
    assert (untaxed.tax_minor, untaxed.untaxed) == (0, "nothing is known of account A for taxes")
    books.book(
        charge.but(amount_minor=700), charge.but(charge_id="fee", amount_minor=100),
        period=NOVEMBER,
    )  # fmt: skip
    assert invoice(books, period=NOVEMBER).totals == {"EUR": told.tax_minor}
