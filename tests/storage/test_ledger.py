"""Booking, invoices, journals and exports on a real PostgreSQL."""

from __future__ import annotations

import csv
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.orm import Session

from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.post.terms import Entity
from iotbill_pipelines.storage import ledger
from iotbill_pipelines.storage.ledger import LedgerError
from tests.depth import examples

from .books import NOVEMBER, NOW, OCTOBER, TERMS, Books, Charge


@pytest.fixture
def books(postgres_url: str) -> Iterator[Books]:
    books = Books(postgres_url)
    yield books
    books.engine.dispose()


# ------------------------------------------------------------------------------- booking


def test_cl_02_a_corrected_rate_books_the_difference_once_in_the_open_period(books: Books) -> None:
    charge = Charge(quantity=12345678000, amount_minor=123457)
    assert books.book(charge) == [("S1", "initial", 123457)]
    assert books.book(charge) == []
    corrected = charge.but(amount_minor=98765, price_ids="p2")
    assert books.book(corrected, period=NOVEMBER) == [("S1", "adjustment", -24692)]
    assert books.book(corrected, period=NOVEMBER) == []
    assert books.rows(
        "select usage_period, billing_period, accounting_period, quantity, amount, price_ids"
        " from booked_charge order by id"
    ) == [
        ("2026-10", "2026-10", "2026-10", 12345678000, Decimal("1234.57"), "p1"),
        ("2026-10", "2026-11", "2026-11", 0, Decimal("-246.92"), "p2"),
    ]


def test_cl_03_a_non_linear_price_gives_a_reversal_and_a_new_line(books: Books) -> None:
    charge = Charge(quantity=15, records=15, amount_minor=3000, linear=False)
    books.book(charge)
    more = charge.but(quantity=16, records=16, amount_minor=2400, price_ids="p1 p2")
    assert books.book(more, period=NOVEMBER) == [
        ("S1", "reversal", -3000),
        ("S1", "rebill", 2400),
    ]
    assert books.book(more, period=NOVEMBER) == []
    assert books.rows(
        "select entry_no, reason, quantity, records, price_ids from booked_charge order by id"
    ) == [
        (1, "initial", 15, 15, "p1"),
        (2, "reversal", -15, -15, "p1"),
        (3, "rebill", 16, 16, "p1 p2"),
    ]


def test_cl_07_one_late_record_moves_every_participant(books: Books) -> None:
    def pool(s1: int, s2: int, s3: int) -> list[Charge]:
        share = Charge(charge_id="over", product_id="pool", kind="overage")
        return [
            share.but(service_id="S1", amount_minor=s1),
            share.but(service_id="S2", amount_minor=s2),
            share.but(service_id="S3", amount_minor=s3),
        ]

    books.book(*pool(1147, 153, 0))
    booked = books.book(*pool(1500, 200, 700), period=NOVEMBER)
    assert booked == [
        ("S1", "adjustment", 353),
        ("S2", "adjustment", 47),
        ("S3", "adjustment", 700),
    ]
    assert sum(amount for _, _, amount in booked) == 1100


def test_what_is_no_longer_desired_is_reversed_and_may_come_back(books: Books) -> None:
    charge = Charge(quantity=7, amount_minor=700, linear=False)
    books.book(charge, charge.but(service_id="S2"))
    assert books.book(charge.but(service_id="S2")) == [("S1", "reversal", -700)]
    # nothing is left to reverse, so its return is one line
    assert books.book(charge, charge.but(service_id="S2")) == [("S1", "adjustment", 700)]


def test_a_charge_that_moves_to_another_owner_or_class_moves_its_amount(books: Books) -> None:
    charge = Charge(amount_minor=500)
    books.book(charge)
    moved = books.book(charge.but(account_id="B", product_id="sub"))
    assert sorted(moved) == [("S1", "initial", 500), ("S1", "reversal", -500)]
    assert books.rows(
        "select account_id, gl_class, sum(amount_minor)::int from booked_charge"
        " group by 1, 2 order by 1"
    ) == [("A", "usage", 0), ("B", "recurring", 500)]


def test_usage_without_an_amount_is_booked_as_quantity(books: Books) -> None:
    included = Charge(quantity=100, records=3, amount_minor=0, linear=False)
    assert books.book(included) == [("S1", "initial", 0)]
    assert books.book(included.but(quantity=120, records=4)) == [("S1", "adjustment", 0)]
    assert books.book(included.but(quantity=150, records=5, amount_minor=9)) == [
        ("S1", "adjustment", 9)
    ]


def test_only_the_periods_in_scope_are_compared(books: Books) -> None:
    books.book(Charge(usage_period="2026-09", amount_minor=5), scope=("2026-09",))
    assert books.book(Charge(amount_minor=6), scope=("2026-10",)) == [("S1", "initial", 6)]
    with pytest.raises(LedgerError, match=r"2026-09 were given, but only 2026-10"):
        books.book(Charge(usage_period="2026-09", amount_minor=5), scope=("2026-10",))


def test_an_unknown_entity_is_named(books: Books) -> None:
    with pytest.raises(LedgerError, match=r"entity XX99.*not configured"):
        books.book(Charge(entity_id="XX99", amount_minor=1))


def close_period(books: Books, period: Month = OCTOBER) -> None:
    with Session(books.engine) as session, session.begin():
        for state in ("soft_closed", "in_review", "closed"):
            ledger.set_period_state(session, "NL01", period, state, actor="ann", at=NOW)


def test_cl_01_usage_of_a_closed_period_is_booked_and_billed_in_the_next_open_one(
    books: Books,
) -> None:
    charge = Charge(amount_minor=100)
    books.book(charge)
    books.invoice()
    books.post()
    close_period(books)
    assert books.book(charge) == []
    # the close of October runs again, with a record that came late
    assert books.book(charge.but(amount_minor=130, quantity=2)) == [("S1", "adjustment", 30)]
    assert books.book(charge.but(amount_minor=130, quantity=2)) == []
    assert books.invoice() == ledger.InvoiceResult(0, 0, {})
    assert books.post().built == []
    assert books.findings() == []
    assert books.invoice(NOVEMBER) == ledger.InvoiceResult(1, 1, {"EUR": 30})
    assert books.post(NOVEMBER).built == ["NL01-2026-11-REVENUE-001"]
    assert books.findings(NOVEMBER) == []
    assert books.rows(
        "select usage_period, billing_period, accounting_period, amount_minor from booked_charge"
        " order by id"
    ) == [("2026-10", "2026-10", "2026-10", 100), ("2026-10", "2026-11", "2026-11", 30)]
    events = books.rows("select from_state, to_state, actor from period_event order by event_id")
    assert events == [
        ("open", "soft_closed", "ann"),
        ("soft_closed", "in_review", "ann"),
        ("in_review", "closed", "ann"),
    ]


def test_corrections_skip_every_closed_period_and_each_entity_has_its_own(books: Books) -> None:
    with Session(books.engine) as session, session.begin():
        ledger.ensure_entities(session, [Entity(id="US01", name="Theirs", currency="USD")])
    ours, theirs = (
        Charge(amount_minor=100),
        Charge(entity_id="US01", service_id="S2", currency="USD"),
    )
    books.book(ours, theirs)
    books.book(period=NOVEMBER, scope=("2026-11",))
    with Session(books.engine) as session, session.begin():
        ledger.ensure_periods(session, NOVEMBER, ["NL01"], NOW)
    close_period(books)
    close_period(books, NOVEMBER)
    books.book(ours.but(amount_minor=1), theirs.but(amount_minor=2))
    assert books.rows(
        "select entity_id, accounting_period, amount_minor from booked_charge where entry_no = 2"
        " order by 1"
    ) == [("NL01", "2026-12", -99), ("US01", "2026-10", 2)]


def test_two_closes_at_once_book_one_difference(books: Books) -> None:
    charges = [Charge(service_id=f"S{n}", amount_minor=n + 1) for n in range(50)]
    booked: list[int] = []

    def close() -> None:
        booked.append(len(books.book(*charges)))
        booked.append(1000 * books.invoice().invoices)

    threads = [threading.Thread(target=close) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(booked) == [0, 0, 0, 0, 0, 0, 50, 1000]
    assert books.rows("select count(*), max(id), sum(amount_minor)::int from booked_charge") == [
        (50, 50, 1275)
    ]


amounts = st.integers(-(10**12), 10**12)
states = st.lists(
    st.dictionaries(
        st.tuples(st.sampled_from(["S1", "S2"]), st.sampled_from(["A", "B"])),
        st.tuples(amounts, st.integers(0, 10**15), st.booleans()),
    ),
    min_size=1,
    max_size=5,
)


@pytest.fixture(scope="module")
def shared_books(module_postgres_url: str) -> Iterator[Books]:
    books = Books(module_postgres_url)
    yield books
    books.engine.dispose()


@settings(max_examples=examples(10), deadline=None, suppress_health_check=list(HealthCheck))
@given(states)
def test_any_history_of_desired_states_ends_at_the_last(
    shared_books: Books, history: list[dict[tuple[str, str], tuple[int, int, bool]]]
) -> None:
    with shared_books.engine.begin() as connection:  # a period of its own for each example
        used = connection.execute(
            sa.text("select count(distinct usage_period) from booked_charge")
        ).scalar_one()
    period = f"{2000 + used // 12}-{used % 12 + 1:02}"
    charges: list[Charge] = []
    for state in history:
        charges = [
            Charge(
                service_id=service,
                account_id=account,
                amount_minor=amount,
                quantity=quantity,
                linear=linear,
                usage_period=period,
            )
            for (service, account), (amount, quantity, linear) in state.items()
        ]
        shared_books.book(*charges, scope=(period,))
        assert shared_books.book(*charges, scope=(period,)) == []
        held = shared_books.rows(
            "select service_id, account_id, sum(amount_minor)::bigint, sum(quantity)::bigint,"
            f" sum(records)::bigint from booked_charge where usage_period = '{period}'"
            " group by 1, 2 having (sum(amount_minor), sum(quantity), sum(records)) <> (0, 0, 0)"
        )
        assert sorted(held) == sorted(
            (c.service_id, c.account_id, c.amount_minor, c.quantity, c.records) for c in charges
        )


# ------------------------------------------------------------------------------ invoices


def test_an_invoice_per_account_and_period_and_a_supplement_for_what_comes_later(
    books: Books,
) -> None:
    a, b = Charge(amount_minor=1000), Charge(service_id="S2", account_id="B", amount_minor=-250)
    cost = Charge(level="vendor", product_id="buy", account_id="V", amount_minor=77)
    later = Charge(service_id="S3", billing_period="2026-11", amount_minor=40)
    books.book(a, b, cost, later)
    assert books.invoice() == ledger.InvoiceResult(2, 2, {"EUR": 750})
    assert books.invoice() == ledger.InvoiceResult(0, 0, {})
    books.book(a.but(amount_minor=1100), b, cost, later)
    assert books.invoice() == ledger.InvoiceResult(1, 1, {"EUR": 100})
    assert books.rows(
        "select invoice_no, account_id, sequence, billing_period, total_minor, lines from invoice"
        " order by invoice_id"
    ) == [
        ("NL01-2026-10-000001", "A", 1, "2026-10", 1000, 1),
        ("NL01-2026-10-000002", "B", 1, "2026-10", -250, 1),
        ("NL01-2026-10-000003", "A", 2, "2026-10", 100, 1),
    ]
    books.post()
    assert books.findings() == []


def test_zero_lines_wait_for_an_invoice_with_an_amount(books: Books) -> None:
    included = Charge(quantity=5, amount_minor=0)
    books.book(included)
    assert books.invoice().invoices == 0
    books.book(included, Charge(service_id="S2", amount_minor=10))
    assert books.invoice() == ledger.InvoiceResult(1, 2, {"EUR": 10})


# ------------------------------------------------------------------------------ journals


def lines(books: Books, external_id: str) -> list[tuple[object, ...]]:
    return books.rows(
        "select account, name, debit_minor, credit_minor from journal_line"
        f" join journal using (journal_id) where external_id = '{external_id}' order by line_no"
    )


def a_month(books: Books) -> None:
    books.book(
        Charge(amount_minor=40000),
        Charge(charge_id="sub", product_id="sub", kind="recurring", amount_minor=36000),
        Charge(service_id="S2", account_id="B", product_id="pool", amount_minor=-8000),
        Charge(level="vendor", product_id="buy", account_id="V", amount_minor=15500),
    )
    books.invoice()


def test_journals_balance_swap_sides_and_tie_out(books: Books) -> None:
    a_month(books)
    result = books.post()
    assert (result.built, result.findings) == (
        ["NL01-2026-10-COST-001", "NL01-2026-10-REVENUE-001"],
        [],
    )
    # gl-07: B's credit is a credit of receivables, not a negative debit
    assert lines(books, "NL01-2026-10-REVENUE-001") == [
        ("1200", "A", 76000, 0),
        ("1200", "B", 0, 8000),
        ("4000", None, 0, 36000),
        ("4100", None, 0, 32000),
    ]
    assert lines(books, "NL01-2026-10-COST-001") == [
        ("5000", None, 15500, 0),
        ("2100", "V", 0, 15500),
    ]
    assert books.findings() == []
    assert books.rows(
        "select count(*), count(debit_line_no), count(credit_line_no) from journal_charge"
    ) == [(4, 4, 4)]


def test_the_same_content_keeps_its_journal_and_a_change_before_export_replaces_it(
    books: Books,
) -> None:
    a_month(books)
    books.post()
    before = books.rows("select external_id, content_hash from journal order by 1")
    assert books.post().built == []
    assert books.post().unchanged == ["NL01-2026-10-COST-001", "NL01-2026-10-REVENUE-001"]
    books.book(
        Charge(usage_period="2026-09", service_id="S9", amount_minor=100), scope=("2026-09",)
    )
    books.invoice()
    assert books.findings() != []  # invoiced, not posted yet
    assert books.post().built == ["NL01-2026-10-REVENUE-001"]
    after = books.rows("select external_id, content_hash from journal order by 1")
    assert [name for name, _ in after] == [name for name, _ in before]
    assert after[0] == before[0]
    assert after[1] != before[1]
    assert books.findings() == []


def test_gl_05_after_export_only_the_difference_is_posted_as_a_new_revision(
    books: Books, tmp_path: Path
) -> None:
    a_month(books)
    books.post()
    books.export(tmp_path)
    books.book(
        Charge(usage_period="2026-09", service_id="S9", amount_minor=-100), scope=("2026-09",)
    )
    books.invoice()
    assert books.post().built == ["NL01-2026-10-REVENUE-002"]
    assert lines(books, "NL01-2026-10-REVENUE-002") == [
        ("1200", "A", 0, 100),
        ("4100", None, 100, 0),
    ]
    assert books.findings() == []
    assert books.post().built == []


def test_charges_that_cancel_out_need_no_journal(books: Books, tmp_path: Path) -> None:
    a_month(books)
    books.post()
    books.export(tmp_path)
    books.book(
        Charge(usage_period="2026-09", service_id="S8", amount_minor=5),
        Charge(usage_period="2026-09", service_id="S9", amount_minor=-5),
        scope=("2026-09",),
    )
    books.invoice()
    assert books.post().built == []
    assert books.findings() == []


def test_what_no_rule_takes_stands_in_suspense_and_blocks(books: Books) -> None:
    books.book(Charge(product_id="odd", amount_minor=999))
    books.invoice()
    (finding,) = books.post().findings
    assert (finding.code, finding.severity, finding.figure) == ("gl_suspense", "block", "EUR 9.99")
    assert "gl_class=unheard_of" in finding.message
    assert "gl_map" in finding.what_to_do
    assert lines(books, "NL01-2026-10-REVENUE-001") == [
        ("1200", "A", 999, 0),
        ("9990", None, 0, 999),
    ]


def test_re_export_gives_the_same_bytes(books: Books, tmp_path: Path) -> None:
    a_month(books)
    books.post()
    files, findings = books.export(tmp_path / "first")
    again, _ = books.export(tmp_path / "second")
    assert findings == []
    assert [file.is_new for file in files] == [True] * 4
    assert [file.is_new for file in again] == [False] * 4
    for one, other in zip(files, again, strict=True):
        assert one.path.read_bytes() == other.path.read_bytes()
    with (tmp_path / "first" / "NL01-2026-10-REVENUE-001.csv").open(newline="") as handle:
        rows = list(csv.reader(handle))
    assert rows == [
        ["Id", "Date", "Account", "Debit", "Credit", "Name"],
        ["NL01-2026-10-REVENUE-001", "31/10/2026", "1200 Receivables", "760.00", "", "A"],
        ["NL01-2026-10-REVENUE-001", "31/10/2026", "1200 Receivables", "", "80.00", "B"],
        ["NL01-2026-10-REVENUE-001", "31/10/2026", "4000 Subscriptions", "", "360.00", ""],
        ["NL01-2026-10-REVENUE-001", "31/10/2026", "4100 Usage", "", "320.00", ""],
    ]
    assert books.rows("select distinct state from journal") == [("exported",)]


def test_a_target_s_limits_stop_the_export(books: Books, tmp_path: Path) -> None:
    books.book(Charge(amount_minor=10**12))
    books.invoice()
    books.post()
    files, findings = books.export(tmp_path)
    assert files == []
    assert {finding.code for finding in findings} == {"exports"}
    assert "more than 10 digits" in findings[0].message
    assert books.rows("select distinct state from journal") == [("built",)]


def test_changed_columns_after_an_export_are_told(books: Books, tmp_path: Path) -> None:
    a_month(books)
    books.post()
    books.export(tmp_path)
    changed = TERMS.model_copy(
        update={"targets": [TERMS.targets[0].model_copy(update={"byte_order_mark": True})]}
    )
    _, findings = books.export(tmp_path, terms=changed)
    assert [finding.severity for finding in findings] == ["warn", "warn"]
    assert "differs from what was exported" in findings[0].message


def test_the_audit_log_is_a_chain(books: Books) -> None:
    with Session(books.engine) as session, session.begin():
        for number in range(3):
            ledger.audit(
                session, at=NOW, actor="ann", action="book", subject="x", detail={"n": number}
            )
        assert ledger.verify_audit(session) == []
    with books.engine.begin() as connection:
        # what only the owner of the database could do: switch the guards off, and still be seen
        connection.execute(sa.text("alter event trigger guards_stay_on disable"))
        connection.execute(sa.text("alter table audit_log disable trigger append_only"))
        connection.execute(sa.text("update audit_log set actor = 'bob' where seq = 2"))
    with Session(books.engine) as session:
        (finding,) = ledger.verify_audit(session)
    assert finding.figure == "entry 2"
