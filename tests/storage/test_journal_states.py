"""Accruals and their reversals, foreign currency, answers of the ERP: on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.post.terms import (
    Acknowledgement,
    ExportColumn,
    ExportTarget,
    FxRate,
    GlAccount,
    GlRule,
    JournalType,
    LedgerTerms,
)
from iotbill_pipelines.storage import acknowledgements, ledger
from iotbill_pipelines.storage.acknowledgements import Answer, Answered
from iotbill_pipelines.storage.ledger import LedgerError

from .books import NOVEMBER, NOW, OCTOBER, TERMS, Books, Charge

DECEMBER = Month(2026, 12)
MARCH, APRIL = Month(2026, 3), Month(2026, 4)

ACCRUING = LedgerTerms(
    entities=TERMS.entities,
    accounts=[
        *TERMS.accounts,
        GlAccount(number="1250", name="Unbilled"),
        GlAccount(number="7900", name="Rounding"),
    ],
    suspense_account="9990",
    gl_map=[*TERMS.gl_map, GlRule(role="unbilled", account="1250")],
    journals=[
        *TERMS.journals,
        JournalType(
            type="UNBILLED",
            level="retail",
            source="unbilled",
            reverses=True,
            debit="unbilled",
            credit="revenue",
        ),
        JournalType(
            type="ESTIMATE",
            level="retail",
            source="estimated",
            reverses=True,
            debit="unbilled",
            credit="revenue",
        ),
    ],
    targets=[TERMS.targets[0]],
    fx=[FxRate(date=date(2026, 10, 30), base="USD", quote="EUR", rate="0.915", source="ECB")],
    fx_rounding_account="7900",
)


@pytest.fixture
def books(postgres_url: str) -> Iterator[Books]:
    books = Books(postgres_url)
    yield books
    books.engine.dispose()


def close(books: Books, directory: Path, period: Month, terms: LedgerTerms = ACCRUING) -> list[str]:
    """Invoice, post and export a period; return the journals newly built."""
    books.invoice(period)
    built = books.post(period, terms).built
    _, findings = books.export(directory / str(period), period, terms)
    assert findings == []
    assert books.findings(period) == []
    return built


def journal(books: Books, external_id: str) -> list[tuple[str, int, int]]:
    return books.rows(  # type: ignore[return-value]
        "select account, debit_minor, credit_minor from journal_line join journal using"
        f" (journal_id) where external_id = '{external_id}' order by line_no"
    )


def balance(books: Books, account: str, until: Month) -> int:
    ((amount,),) = books.rows(
        "select coalesce(sum(debit_minor - credit_minor), 0)::int from journal_line join journal"
        f" using (journal_id) where account = '{account}' and accounting_period <= '{until}'"
        " and state <> 'built'"
    )
    return int(amount)


# ------------------------------------------------------------------------------- accruals


def test_gl_03_unbilled_usage_is_accrued_and_posted_back_on_the_first_day(
    books: Books, tmp_path: Path
) -> None:
    late = Charge(amount_minor=432109, usage_period="2026-03", billing_period="2026-04")
    books.book(late, period=MARCH, scope=("2026-03",))
    assert close(books, tmp_path, MARCH) == ["NL01-2026-03-UNBILLED-001"]
    assert books.rows(
        "select external_id, journal_date, accounting_period, state from journal order by 1"
    ) == [
        ("NL01-2026-03-UNBILLED-001", date(2026, 3, 31), "2026-03", "exported"),
        ("NL01-2026-04-UNBILLED_REV-001", date(2026, 4, 1), "2026-04", "exported"),
    ]
    assert journal(books, "NL01-2026-03-UNBILLED-001") == [
        ("1250", 432109, 0),
        ("4100", 0, 432109),
    ]
    assert journal(books, "NL01-2026-04-UNBILLED_REV-001") == [
        ("1250", 0, 432109),
        ("4100", 432109, 0),
    ]
    assert (tmp_path / "2026-03" / "NL01-2026-04-UNBILLED_REV-001.csv").is_file()
    # April bills the real amount; nothing is left of the accrual
    assert close(books, tmp_path, APRIL) == ["NL01-2026-04-REVENUE-001"]
    assert balance(books, "1250", MARCH) == 432109
    assert balance(books, "1250", APRIL) == 0
    assert balance(books, "4100", APRIL) == -432109
    assert close(books, tmp_path, MARCH) == close(books, tmp_path, APRIL) == []


def test_what_stays_unbilled_is_accrued_again_and_never_twice_in_a_period(
    books: Books, tmp_path: Path
) -> None:
    charge = Charge(amount_minor=100, billing_period="2026-12")
    books.book(charge)
    close(books, tmp_path, OCTOBER)
    close(books, tmp_path, NOVEMBER)
    assert [balance(books, "1250", month) for month in (OCTOBER, NOVEMBER)] == [100, 100]
    close(books, tmp_path, DECEMBER)
    assert balance(books, "1250", DECEMBER) == 0
    assert balance(books, "4100", DECEMBER) == -100


def test_a_later_revision_of_an_accrual_carries_the_difference_both_ways(
    books: Books, tmp_path: Path
) -> None:
    first = Charge(amount_minor=100, billing_period="2026-11")
    books.book(first)
    close(books, tmp_path, OCTOBER)
    second = first.but(service_id="S2", amount_minor=40)
    books.book(first, second)
    assert close(books, tmp_path, OCTOBER) == ["NL01-2026-10-UNBILLED-002"]
    assert journal(books, "NL01-2026-10-UNBILLED-002") == [("1250", 40, 0), ("4100", 0, 40)]
    assert balance(books, "1250", OCTOBER) == 140
    # the first one is no longer desired: its reversal is invoiced in October, the charge later
    books.book(second)
    close(books, tmp_path, OCTOBER)
    assert balance(books, "1250", NOVEMBER) == 0
    assert close(books, tmp_path, OCTOBER) == []
    close(books, tmp_path, NOVEMBER)
    assert balance(books, "1250", NOVEMBER) == 0
    assert balance(books, "4100", NOVEMBER) == -40


def test_advance_charges_are_not_unbilled_revenue(books: Books, tmp_path: Path) -> None:
    ahead = Charge(usage_period="2026-11", billing_period="2026-11", amount_minor=5)
    books.book(ahead, scope=("2026-11",))
    assert close(books, tmp_path, OCTOBER) == []


ESTIMATED = (
    "insert into accrual_estimate (estimate_id, entity_id, accounting_period, level, account_id,"
    " product_id, kind, gl_class, tax_code, currency, missing_days, per_day_minor, amount_minor,"
    " reason, actor, recorded_at) values ({}, 'NL01', '2026-10', 'retail', 'A', 'data', 'usage',"
    " 'usage', 'standard', 'EUR', {}, 31143, {}, 'two files are missing', 'ann', now())"
)


def test_cl_06_an_estimate_of_missing_days_is_accrued_once_and_posted_back(
    books: Books, tmp_path: Path
) -> None:
    books.book(Charge(amount_minor=1))
    with books.engine.begin() as connection:
        connection.execute(sa.text(ESTIMATED.format(1, 2, 62286)))
    assert close(books, tmp_path, OCTOBER) == [
        "NL01-2026-10-ESTIMATE-001",
        "NL01-2026-10-REVENUE-001",
    ]
    assert journal(books, "NL01-2026-10-ESTIMATE-001") == [("1250", 62286, 0), ("4100", 0, 62286)]
    assert close(books, tmp_path, OCTOBER) == []
    assert balance(books, "1250", OCTOBER) == 62286
    assert balance(books, "1250", NOVEMBER) == 0
    with books.engine.begin() as connection:  # one of the files came
        connection.execute(sa.text(ESTIMATED.format(2, -1, -31143)))
    assert close(books, tmp_path, OCTOBER) == ["NL01-2026-10-ESTIMATE-002"]
    assert balance(books, "1250", OCTOBER) == 31143
    assert balance(books, "1250", NOVEMBER) == 0
    assert "amount_is_days_times_rate" in books.refused(ESTIMATED.format(3, 2, 62287))
    assert "append-only" in books.refused("update accrual_estimate set reason = 'x'")


# ------------------------------------------------------------------------------ currency


def test_gl_02_a_journal_balances_in_both_currencies_and_says_whose_rate_it_used(
    books: Books, tmp_path: Path
) -> None:
    books.book(*(Charge(account_id=a, amount_minor=3, currency="USD") for a in "ABC"))
    close(books, tmp_path, OCTOBER)
    rows = books.rows(
        "select account, debit_minor, credit_minor, functional_debit, functional_credit, fx_rate,"
        " fx_date, fx_source from journal_line order by line_no"
    )
    usual = (Decimal("0.915"), date(2026, 10, 30), "ECB")
    cents = [Decimal(n) / 100 for n in range(10)]
    # three times 2.745 cents is 3 each; together 8.235 cents is 8
    assert rows == [
        ("1200", 3, 0, cents[3], 0, *usual),
        ("1200", 3, 0, cents[3], 0, *usual),
        ("1200", 3, 0, cents[3], 0, *usual),
        ("4100", 0, 9, 0, cents[8], *usual),
        ("7900", 0, 0, 0, cents[1], *usual),
    ]
    line = (
        "insert into journal_line (journal_id, line_no, role, is_suspense, account, account_name,"
        " currency, functional_currency, debit_minor, credit_minor, functional_debit_minor,"
        " functional_credit_minor, memo, unit) values (77, {}, 'cost', false, '1', '', 'USD',"
        " 'EUR', {}, {}, {}, {}, '', '{}')"
    )
    head = (
        "insert into journal (journal_id, external_id, run_id, entity_id, accounting_period,"
        " journal_type, revision, currency, journal_date, memo, content_hash, built_at)"
        " values (77, 'X', 'run', 'NL01', '2026-10', 'OTHER', 1, 'USD', now(), '', '', now())"
    )
    said = books.refused(head, line.format(1, 5, 0, 5, 0, ""), line.format(2, 0, 5, 0, 4, ""))
    assert "debits 5 and credits 4 (minor units of EUR, functional) differ" in said
    said = books.refused(head, line.format(1, 5, 0, 5, 0, "a"), line.format(2, 0, 5, 0, 5, "b"))
    assert "differ in a" in said
    assert "one_side_only" in books.refused(head, line.format(1, 5, 0, 0, 5, ""))


def test_a_missing_rate_stops_posting_and_posts_nothing(books: Books) -> None:
    books.book(Charge(amount_minor=3, currency="GBP"), Charge(service_id="S2", amount_minor=3))
    books.invoice()
    with pytest.raises(ValueError, match="no rate from GBP to EUR for 2026-10-31"):
        books.post(terms=ACCRUING)
    assert books.rows("select count(*) from journal") == [(0,)]


# ------------------------------------------------------------------------- units and parts


def test_gl_06_documents_of_a_split_journal_are_exported_and_answered_together(
    books: Books, tmp_path: Path
) -> None:
    revenue = TERMS.journals[0].model_copy(update={"unit": "invoice"})
    narrow = TERMS.targets[0].model_copy(update={"maximum_lines": 5})
    terms = TERMS.model_copy(update={"journals": [revenue], "targets": [narrow]})
    books.book(*(Charge(account_id=f"A{n}", amount_minor=10 + n) for n in range(5)))
    close(books, tmp_path, OCTOBER, terms)
    names = [f"NL01-2026-10-REVENUE-001-{n:02}" for n in (1, 2, 3)]
    assert sorted(path.stem for path in (tmp_path / "2026-10").iterdir()) == names
    assert books.rows("select documents from journal_export") == [(names,)]
    assert books.rows("select distinct unit from journal_line order by 1") == [
        (f"NL01-2026-10-00000{n}",) for n in range(1, 6)
    ]
    with pytest.raises(LedgerError, match="nothing about NL01-2026-10-REVENUE-001-03"):
        answer(books, *[(name, True, "") for name in names[:2]], target=narrow)
    done = answer(books, *[(name, True, "") for name in names], target=narrow)
    assert done.acknowledged == ["NL01-2026-10-REVENUE-001"]


# -------------------------------------------------------------------------------- answers


def answer(
    books: Books, *given: tuple[str, bool, str], target: ExportTarget = TERMS.targets[0]
) -> Answered:
    answers = [
        Answer(line, document, accepted, message)
        for line, (document, accepted, message) in enumerate(given, 2)
    ]
    with Session(books.engine) as session, session.begin():
        return acknowledgements.answer_journals(
            session, answers, target, actor="erp", at=NOW, file_name="a.csv", sha256="x"
        )


def retry(books: Books, external_id: str) -> None:
    with Session(books.engine) as session, session.begin():
        acknowledgements.retry(session, external_id, actor="ann", at=NOW, reason="corrected")


def states(books: Books) -> dict[str, str]:
    return dict(books.rows("select external_id, state from journal order by 1"))


COST, REVENUE = "NL01-2026-10-COST-001", "NL01-2026-10-REVENUE-001"


def an_exported_month(books: Books, directory: Path) -> None:
    books.book(
        Charge(amount_minor=100),
        Charge(level="vendor", product_id="buy", account_id="V", amount_minor=60),
    )
    close(books, directory, OCTOBER)


def test_answers_are_read_back_once_and_after_them_only_differences_are_posted(
    books: Books, tmp_path: Path
) -> None:
    an_exported_month(books, tmp_path)
    assert answer(books, (REVENUE, True, "id 4711"), (COST, False, "period locked")) == Answered(
        [REVENUE], [COST], []
    )
    assert states(books) == {COST: "rejected", REVENUE: "acknowledged"}
    assert answer(books, (REVENUE, True, "id 4711")).unchanged == [REVENUE]
    assert books.rows("select action, subject, detail->>'message' from audit_log order by seq") == [
        ("journal rejected", COST, "period locked"),
        ("journal acknowledged", REVENUE, "id 4711"),
    ]
    # gl-05: the acknowledged journal stays, its revision has the difference
    books.book(Charge(amount_minor=90), scope=("2026-10",))
    books.invoice()
    assert "NL01-2026-10-REVENUE-002" in books.post(terms=ACCRUING).built
    assert journal(books, "NL01-2026-10-REVENUE-002") == [("1200", 0, 10), ("4100", 10, 0)]


def test_a_rejected_journal_is_corrected_and_exported_under_its_own_id(
    books: Books, tmp_path: Path
) -> None:
    an_exported_month(books, tmp_path)
    answer(books, (COST, False, "account 5000 is inactive"), (REVENUE, True, ""))
    _, (finding,) = books.export(tmp_path / "again", terms=ACCRUING)
    assert (finding.code, finding.severity) == ("exports", "block")
    assert "account 5000 is inactive" in finding.message
    with pytest.raises(LedgerError, match="is acknowledged; only a rejected one"):
        retry(books, REVENUE)
    retry(books, COST)
    assert states(books)[COST] == "built"
    corrected = ACCRUING.model_copy(
        update={
            "accounts": [*ACCRUING.accounts, GlAccount(number="5001", name="Cost")],
            "gl_map": [
                rule.model_copy(update={"account": "5001"}) if rule.role == "cost" else rule
                for rule in ACCRUING.gl_map
            ],
        }
    )
    assert close(books, tmp_path, OCTOBER, corrected) == [COST]
    assert journal(books, COST) == [("5001", 60, 0), ("2100", 0, 60)]
    assert states(books) == {COST: "exported", REVENUE: "acknowledged"}
    assert answer(books, (COST, True, "")).acknowledged == [COST]
    with pytest.raises(LedgerError, match="is acknowledged and cannot be rejected"):
        answer(books, (COST, False, ""))


def test_nothing_of_a_file_is_taken_if_a_line_of_it_is_wrong(books: Books, tmp_path: Path) -> None:
    an_exported_month(books, tmp_path)
    with pytest.raises(LedgerError, match=r"a.csv:3: 'NL01-X' was not exported for plain"):
        answer(books, (REVENUE, True, ""), ("NL01-X", True, ""))
    assert set(states(books).values()) == {"exported"}


def test_a_rejected_accrual_takes_its_reversal_along(books: Books, tmp_path: Path) -> None:
    books.book(Charge(amount_minor=100, billing_period="2026-11"))
    close(books, tmp_path, OCTOBER)
    accrual, reversal = "NL01-2026-10-UNBILLED-001", "NL01-2026-11-UNBILLED_REV-001"
    answer(books, (accrual, False, "no"))
    retry(books, accrual)
    assert states(books) == {accrual: "built"}
    close(books, tmp_path, OCTOBER)
    assert states(books) == {accrual: "exported", reversal: "exported"}
    answer(books, (accrual, False, "no"), (reversal, True, ""))
    with pytest.raises(LedgerError, match=f"took {reversal}"):
        retry(books, accrual)


LAYOUT = Acknowledgement(document=["Ref"], status=["Result"], accepted=["OK"], rejected=["KO"])


def test_answer_files_are_read_by_names_of_columns(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("\ufeffMessage;REF;result\n;J-1;ok\nno; J-2 ;KO\n;;\n", "utf-8")
    assert acknowledgements.read_answers(file, LAYOUT) == [
        Answer(2, "J-1", True, ""),
        Answer(3, "J-2", False, "no"),
    ]
    file.write_text("external_id,status\nJ,posted\n", "utf-8")
    assert acknowledgements.read_answers(file, Acknowledgement()) == [Answer(2, "J", True, "")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no column says the document"),
        ("Ref\nJ\n", "no column says the status; there are ref"),
        ("Ref,Result\nJ,maybe\n", r"a.csv:2: status 'maybe' is neither accepted"),
        ("Ref,Result\nJ\n", r"a.csv:2: 1 values for 2 columns"),
        ("Ref,Result\n,OK\n", r"a.csv:2: no document is named"),
        ("Ref,Result\n", "no answers in it"),
    ],
)
def test_answer_files_that_cannot_be_read_name_line_and_value(
    tmp_path: Path, text: str, said: str
) -> None:
    file = tmp_path / "a.csv"
    file.write_text(text, "utf-8")
    with pytest.raises(LedgerError, match=said):
        acknowledgements.read_answers(file, LAYOUT)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LedgerError, match="not UTF-8"):
        acknowledgements.read_answers(file, LAYOUT)


def test_the_linter_checks_targets_that_a_close_does_not_write(books: Books) -> None:
    strict = ExportTarget(
        id="strict",
        format="csv",
        columns=[ExportColumn(header="Name", field="line.name", required=True)],
    )
    terms = ACCRUING.model_copy(
        update={"targets": [*ACCRUING.targets, strict], "exports": ["plain"]}
    )
    books.book(Charge(amount_minor=100))
    books.invoice()
    books.post(terms=terms)
    with Session(books.engine) as session:
        (found,) = ledger.lint_journals(session, OCTOBER, terms)
        assert ledger.lint_journals(session, OCTOBER, terms, ["plain"]) == []
        with pytest.raises(ValueError, match="no target 'other'; there are plain, strict"):
            ledger.lint_journals(session, OCTOBER, terms, ["other"])
    assert "line 2: Name is empty" in found.message
