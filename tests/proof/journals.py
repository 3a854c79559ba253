"""Worked examples of journals and tie-out: through the shipped ledger's configuration."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import date
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from iotbill_pipelines.config.ledger import read_ledger
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.money import to_minor
from iotbill_pipelines.engine.post.export import PostedJournal, documents, export_problems
from iotbill_pipelines.engine.post.journals import (
    Cell,
    JournalDraft,
    Line,
    build_journals,
    external_id,
    reversed_lines,
)
from iotbill_pipelines.engine.post.terms import JournalType, LedgerTerms, Source
from iotbill_pipelines.engine.revenue import DeferralRule, RevenueLine, RevenueTerms, recognise
from iotbill_pipelines.engine.tax import (
    Customer,
    Jurisdiction,
    Seller,
    TableTaxEngine,
    TaxableLine,
    TaxDocument,
    TaxRate,
    TaxTable,
)
from iotbill_pipelines.operations.erp import Estimate
from iotbill_pipelines.storage.gl_balances import AccountTie

from .outcome import Case, Check

D = Decimal
MARCH = Month(2026, 3)
ROOT = Path(__file__).resolve().parents[2]

_CLASSES = {"recurring_monthly": "recurring", "annual_prepay": "recurring", "usage": "usage"}


@cache
def _terms() -> LedgerTerms:
    return read_ledger(ROOT / "configs" / "ledger")


def _type(source: Source, level: str = "retail") -> JournalType:
    return next(j for j in _terms().journals if (j.source, j.level) == (source, level))


def _cell(number: int, amount: str | Decimal, **values: Any) -> Cell:
    usual: dict[str, Any] = {
        "entity_id": "NL01",
        "currency": "EUR",
        "account_id": "C1",
        "level": "retail",
        "product_id": "data",
        "kind": "usage",
        "gl_class": "usage",
        "tax_code": "standard",
    }
    return Cell(
        cell_no=number, charges=1, amount_minor=to_minor(D(amount), "EUR"), **(usual | values)
    )


def _drafts(source: Source, cells: Sequence[Cell], period: Month = MARCH) -> list[JournalDraft]:
    drafts, unmapped = build_journals(cells, _type(source), period, _terms())
    assert not unmapped
    return drafts


def _nets(lines: Iterable[Line]) -> dict[str, Decimal]:
    """Net amount by account, debit positive, of journals together."""
    nets: dict[str, int] = defaultdict(int)
    for line in lines:
        nets[line.account] += line.debit_minor - line.credit_minor
    return {account: D(minor).scaleb(-2) for account, minor in nets.items() if minor}


def _wanted(told: dict[str, str]) -> dict[str, Decimal]:
    """``{"Dr 1200 AR": "1190.00"}`` as net amounts by account."""
    return {
        key.split()[1]: D(amount) if key.startswith("Dr") else -D(amount)
        for key, amount in told.items()
    }


def _taxed(nets: Sequence[str], rate: str) -> list[Cell]:
    engine = TableTaxEngine(
        TaxTable(
            jurisdictions=(Jurisdiction(id="DE", name="Germany", country="DE"),),
            rates=(TaxRate(jurisdiction="DE", tax_code="standard", tax="VAT", rate=D(rate)),),
        )
    )
    found = engine.assess(
        TaxDocument(
            id="I1",
            tax_point=MARCH.last_day,
            currency="EUR",
            seller=Seller("NL01", "NL"),
            customer=Customer("C1", "DE", ("DE",)),
            lines=tuple(
                TaxableLine(str(number), "standard", D(net), primary_use=("DE",))
                for number, net in enumerate(nets)
            ),
        )
    )
    return [
        _cell(number, line.tax, jurisdiction="DE", tax="VAT")
        for number, line in enumerate(found.lines)
    ]


def invoice(case: Case) -> list[Check]:
    """An invoice with a year in advance: revenue, what is deferred of it, and tax."""
    facts = case["facts"]
    sold = [
        _cell(
            number,
            line["net"],
            gl_class=_CLASSES[line["kind"]],
            product_id=line["kind"],
            kind="usage" if line["kind"] == "usage" else "recurring",
        )
        for number, line in enumerate(facts["lines"])
    ]
    rule = DeferralRule(id="year", when={"product": "annual_prepay"}, over="days", months=12)
    lines = [
        RevenueLine(
            charge_no=cell.cell_no,
            level="retail",
            entity_id=cell.entity_id,
            account_id=cell.account_id,
            service_id="S1",
            charge_id=cell.product_id,
            product_id=cell.product_id,
            kind=cell.kind,
            gl_class=cell.gl_class,
            tax_code=cell.tax_code,
            currency="EUR",
            usage_period=MARCH + 1,
            booked_in=MARCH,
            amount=D(cell.amount_minor).scaleb(-2),
        )
        for cell in sold
    ]
    entries = recognise(RevenueTerms(deferrals=(rule,)), lines, {}, MARCH)
    deferred = [
        _cell(n, entry.amount, gl_class=entry.line.gl_class, product_id=entry.line.product_id)
        for n, entry in enumerate(entries)
    ]
    drafts = [
        *_drafts("invoiced", sold),
        *_drafts("deferral", deferred),
        *_drafts("tax", _taxed([line["net"] for line in facts["lines"]], facts["vat"])),
    ]
    found = _nets(line for draft in drafts for line in draft.lines)
    return [Check("net by account", _wanted(case["expected"]), found)]


def credit_note(case: Case) -> list[Check]:
    """Amounts below zero stand on the other side."""
    note = case["facts"]["credit_note"]
    drafts = [
        *_drafts("invoiced", [_cell(1, note["net"], gl_class="recurring")]),
        *_drafts("tax", [_cell(1, note["vat"], jurisdiction="DE", tax="VAT")]),
    ]
    lines = [line for draft in drafts for line in draft.lines]
    return [
        Check("net by account", _wanted(case["expected"]), _nets(lines)),
        Check("least amount", True, all(min(x.debit_minor, x.credit_minor) >= 0 for x in lines)),
    ]


def unbilled(case: Case) -> list[Check]:
    """An accrual, and what posts it back on the next month's first day."""
    period = Month.parse(case["facts"]["period"])
    (draft,) = _drafts("unbilled", [_cell(1, case["facts"]["unbilled_usage"])], period)
    found = {
        str(draft.journal_date): _nets(draft.lines),
        str((period + 1).start): _nets(reversed_lines(draft.lines)),
    }
    return [Check(day, _wanted(dict(rows)), found[day]) for day, rows in case["expected"].items()]


def voucher(case: Case) -> list[Check]:
    """A voucher of Dynamics 365: a debit and a credit that balance, within the target's rules."""
    (amount,) = {D(cell) for line in case["facts"]["lines"] for cell in line[1:]} - {D(0)}
    (draft,) = _drafts("invoiced", [_cell(1, amount)])
    journal = _posted(draft)
    target = _terms().target("d365_fo")
    (document,) = documents(journal, target, _terms())
    debit = sum(line.debit_minor for line in document.lines)
    credit = sum(line.credit_minor for line in document.lines)
    kept = not list(export_problems(journal, target, _terms()))
    found = {"balanced": kept and debit == credit, "debit": debit, "credit": credit}
    want = case["expected"]
    return [
        Check("balanced", want["balanced"], found["balanced"]),
        *(Check(side, to_minor(D(want[side]), "EUR"), found[side]) for side in ("debit", "credit")),
    ]


def split(case: Case) -> list[Check]:
    """A long journal is split at whole invoices, within SAP's lines of a document."""
    facts, want = case["facts"], case["expected"]
    by_invoice = _type("invoiced").model_copy(update={"unit": "invoice"})
    credits_ = facts["lines_per_invoice"] - 1
    cells = [
        _cell(
            number * credits_ + place, "5", unit=f"I{number:04}", account_id=f"C{number}",
            product_id=f"p{place}",
        )
        for number in range(facts["invoices"])
        for place in range(credits_)
    ]  # fmt: skip
    (draft,), _ = build_journals(cells, by_invoice, MARCH, _terms())
    parts = documents(_posted(draft), _terms().target("sap"), _terms())
    balanced = all(sum(x.debit_minor - x.credit_minor for x in part.lines) == 0 for part in parts)
    return [
        Check("documents", want["documents"], len(parts)),
        Check("lines", want["lines"], [len(part.lines) for part in parts]),
        Check("balanced_each", want["balanced_each"], balanced),
    ]


def _posted(draft: JournalDraft) -> PostedJournal:
    return PostedJournal(
        external_id(draft.entity_id, draft.period, draft.journal_type, 1),
        draft.entity_id,
        draft.currency,
        draft.period,
        draft.journal_type,
        date(2026, 3, 31),
        draft.memo,
        draft.lines,
    )


def estimate(case: Case) -> list[Check]:
    """Missing days accrued at their average, and what posts that back."""
    facts, want = case["facts"], case["expected"]
    given = Estimate(
        entity_id="NL01",
        level="retail",
        account_id="C1",
        product_id="data",
        gl_class="usage",
        currency="EUR",
        days=facts["missing_days"],
        per_day=D(facts["trailing_7d_avg_revenue_per_day"]),
        reason="files are missing",
    )
    (draft,) = _drafts("estimated", [_cell(1, D(given.amount_minor).scaleb(-2))])
    accrued, back = _nets(draft.lines), _nets(reversed_lines(draft.lines))
    cancels = {account: -amount for account, amount in accrued.items()} == back
    return [
        Check("accrual", D(want["accrual"]), max(accrued.values())),
        Check("reverses " + want["reverses"], True, cancels and _type("estimated").reverses),
    ]


def tie_out(case: Case) -> list[Check]:
    """An account against the general ledger: the difference blocks until somebody explains it."""
    facts, want = case["facts"], case["expected"]
    tie = AccountTie(
        entity_id="NL01",
        account="1200",
        currency="EUR",
        opening=to_minor(D(facts["opening"]), "EUR"),
        journals=to_minor(D(facts["invoices"]), "EUR"),
        payments=to_minor(D(facts["payments"]), "EUR"),
        credits=to_minor(D(facts["credits"]), "EUR"),
        other=0,
        balance=to_minor(D(facts["gl_ar"]), "EUR"),
        explained=0,
    )
    return [
        Check("subledger", to_minor(D(want["subledger"]), "EUR"), tie.expected),
        Check("difference", to_minor(D(want["difference"]), "EUR"), tie.difference),
        Check(
            "blocked until explained", want["status"].startswith("blocked"), tie.unexplained != 0
        ),
    ]
