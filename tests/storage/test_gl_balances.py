"""Sub-ledger against general ledger on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from iotbill_pipelines.storage import gl_balances, ledger
from iotbill_pipelines.storage.gl_balances import AccountTie, GlRow
from iotbill_pipelines.storage.ledger import LedgerError

from .books import NOW, OCTOBER, TERMS, Books, Charge

HEADER = "entity,account,currency,kind,amount,reference\n"


@pytest.fixture
def books(postgres_url: str, tmp_path: Path) -> Iterator[Books]:
    """October: invoices of EUR 5,400.00, exported."""
    books = Books(postgres_url)
    books.book(
        Charge(amount_minor=600000), Charge(service_id="S2", account_id="B", amount_minor=-60000)
    )
    books.invoice()
    books.post()
    books.export(tmp_path / "out")
    yield books
    books.engine.dispose()


def read(books: Books, folder: Path, *rows: str) -> None:
    file = folder / "balances.csv"
    file.write_text(HEADER + "".join(f"{row}\n" for row in rows), "utf-8")
    with Session(books.engine) as session, session.begin():
        found = gl_balances.read_balances(file, TERMS)
        gl_balances.store_balances(session, OCTOBER, found, actor="ann", at=NOW)


def explain(books: Books, amount: str, reason: str, account: str = "1200") -> None:
    with Session(books.engine) as session, session.begin():
        gl_balances.explain(
            session,
            OCTOBER,
            "NL01",
            account,
            Decimal(amount),
            "EUR",
            reason=reason,
            actor="ann",
            at=NOW,
        )


def ties(books: Books) -> list[AccountTie]:
    with Session(books.engine) as session:
        return gl_balances.account_ties(session, OCTOBER)


def findings(books: Books) -> list[ledger.LedgerFinding]:
    with Session(books.engine) as session:
        return gl_balances.balance_findings(session, OCTOBER, "NL01")


CL_04 = (
    "NL01,1200,EUR,opening,10000.00,",
    "NL01,1200,EUR,payment,-4900.00,bank 31 October",
    "NL01,1200,EUR,credit,-150.00,goodwill",
    "NL01,1200,EUR,balance,10350.05,",
    "NL01,4100,EUR,balance,-5400.00,",
)


def test_cl_04_a_difference_of_five_cents_blocks_until_it_is_explained(
    books: Books, tmp_path: Path
) -> None:
    read(books, tmp_path, *CL_04)
    receivables, usage = ties(books)
    assert (receivables.journals, receivables.expected) == (540000, 1035000)
    assert (receivables.difference, receivables.unexplained) == (5, 5)
    assert (usage.journals, usage.difference) == (-540000, 0)
    (finding,) = findings(books)
    assert (finding.severity, finding.figure) == ("block", "EUR 0.05")
    assert "10350.05 in the general ledger, 10350.00 by our journals" in finding.message
    explain(books, "0.03", "bank rounding")
    assert findings(books)[0].figure == "EUR 0.02"
    explain(books, "0.02", "a second one")
    assert findings(books) == []
    # read again: the explanations stay, and too much explained blocks as well
    read(books, tmp_path, *CL_04[:3], "NL01,1200,EUR,balance,10350.00,", CL_04[4])
    assert findings(books)[0].figure == "EUR -0.05"
    explain(books, "-0.05", "corrected in the ledger")
    assert findings(books) == []
    with Session(books.engine) as session:
        assert ledger.verify_audit(session) == []
    assert books.rows("select action, actor from audit_log order by seq")[:2] == [
        ("gl balances", "ann"),
        ("gl explanation", "ann"),
    ]


def test_journals_that_were_not_exported_do_not_count(books: Books, tmp_path: Path) -> None:
    books.book(Charge(usage_period="2026-09", amount_minor=7), scope=("2026-09",))
    books.invoice()
    books.post()
    read(books, tmp_path, *CL_04)
    assert ties(books)[0].journals == 540000


def test_an_account_that_we_post_to_must_be_in_the_file(books: Books, tmp_path: Path) -> None:
    read(books, tmp_path, *CL_04[:3], "NL01,1200,EUR,balance,10350.00,")
    (finding,) = findings(books)
    assert "to account 4100, whose balance the file does not say" in finding.message
    assert finding.figure == "EUR -5400.00"


def test_the_gate_is_recorded_with_its_evidence(books: Books, tmp_path: Path) -> None:
    read(books, tmp_path, *CL_04)
    with Session(books.engine) as session, session.begin():
        gl_balances.record_gate(session, OCTOBER, "NL01", NOW)
    ((outcome, figure, evidence),) = books.rows(
        "select outcome, figure, evidence from gate_result where gate = 'gl_balances'"
    )
    assert (outcome, figure) == ("failed", "EUR 0.05")
    assert evidence["accounts"][0]["expected_minor"] == 1035000  # type: ignore[index]


def test_nothing_is_explained_without_a_balance_or_a_reason(books: Books, tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="no balance of account 1200 in EUR was read"):
        explain(books, "0.05", "why")
    read(books, tmp_path, *CL_04)
    with pytest.raises(LedgerError, match="needs a reason"):
        explain(books, "0.05", " ")
    with pytest.raises(LedgerError, match="not a whole number of minor units"):
        explain(books, "0.005", "half a cent")
    with pytest.raises(LedgerError, match="Infinity is no amount of EUR"):
        explain(books, "inf", "all of it")
    explain(books, "0.05", "why")
    for statement, said in (
        ("delete from gl_entry where kind = 'explanation'", "not removed"),
        ("update gl_entry set amount_minor = 0", "append-only"),
        ("truncate gl_entry", "append-only"),
    ):
        assert said in books.refused(statement)


def test_a_closed_period_takes_no_balances(books: Books, tmp_path: Path) -> None:
    read(books, tmp_path, *CL_04)
    with Session(books.engine) as session, session.begin():
        for state in ("soft_closed", "in_review", "closed"):
            ledger.set_period_state(session, "NL01", OCTOBER, state, actor="ann", at=NOW)
    with pytest.raises(sa.exc.DBAPIError, match="is closed: DELETE refused on gl_entry"):
        read(books, tmp_path, *CL_04)
    with pytest.raises(sa.exc.DBAPIError, match="is closed: INSERT refused on gl_entry"):
        explain(books, "0.05", "why")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("XX,1200,EUR,balance,1.00,", "b.csv:2: entity 'XX' is not in configs/ledger"),
        ("NL01,1,EUR,balance,1.00,", "b.csv:2: account '1' is not in configs/ledger"),
        ("NL01,1200,EUR,sum,1.00,", "b.csv:2: kind 'sum' is none of balance"),
        ("NL01,1200,EUR,balance,1.005,", "b.csv:2: amount '1.005' is no amount of EUR"),
        ("NL01,1200,EUR,balance,,", "b.csv:2: amount '' is no amount"),
        ("NL01,1200,EUR,balance,NaN,", "b.csv:2: amount 'NaN' is no amount"),
        ("NL01,1200,EUR,balance,Infinity,", "b.csv:2: amount 'Infinity' is no amount"),
        ("NL01,1200,EUR,balance,1e30,", "b.csv:2: amount '1e30' is no amount"),
        ("NL01,1200,EUR", "b.csv:2: give 6 values"),
        ("NL01,1200,EUR,opening,1.00,", "no balance in it"),
        (
            "NL01,1200,EUR,balance,1.00,\nNL01,1200,EUR,balance,2.00,",
            "b.csv:3: line 2 has this account's balance",
        ),
    ],
)
def test_balance_files_that_cannot_be_read_name_line_and_value(
    tmp_path: Path, row: str, said: str
) -> None:
    file = tmp_path / "b.csv"
    file.write_text(HEADER + row + "\n", "utf-8")
    with pytest.raises(LedgerError, match=said):
        gl_balances.read_balances(file, TERMS)


def test_balance_files_are_read_by_names_of_columns(tmp_path: Path) -> None:
    file = tmp_path / "b.csv"
    file.write_text("entity,account\n", "utf-8")
    with pytest.raises(LedgerError, match="no column currency, kind, amount, reference"):
        gl_balances.read_balances(file, TERMS)
    file.write_text(
        "\ufeffamount,note,kind,currency,account,entity,reference\n-1,x,balance,JPY,1200,NL01,r\n",
        "utf-8",
    )
    assert gl_balances.read_balances(file, TERMS).rows == [
        GlRow(2, "NL01", "1200", "JPY", "balance", -1, "r")
    ]
