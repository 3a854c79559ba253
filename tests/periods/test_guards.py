"""What is closed stays: against SQL of the tables' owner, and told if it got past that."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from iotbill_pipelines.storage import ledger
from tests.storage.books import NOW, OCTOBER, Books, Charge


@pytest.fixture(scope="module")
def closed(module_postgres_url: str) -> Iterator[Books]:
    books = Books(module_postgres_url)
    books.book(Charge(amount_minor=100), Charge(service_id="S2", amount_minor=250))
    books.invoice()
    books.post()
    for state in ("soft_closed", "in_review", "closed"):
        with Session(books.engine) as session, session.begin():
            ledger.set_period_state(session, "NL01", OCTOBER, state, actor="t", at=NOW)
    yield books
    books.engine.dispose()


REPLICA = "set local session_replication_role = replica"


@pytest.mark.parametrize(
    "statements",
    [
        ("update booked_charge set amount_minor = 1",),
        ("delete from booked_charge",),
        ("truncate booked_charge cascade",),
        ("truncate period cascade",),
        (REPLICA, "update booked_charge set amount_minor = 1"),
        (REPLICA, "delete from invoice_line"),
        (REPLICA, "truncate journal_line cascade"),
        (REPLICA, "update period set state = 'open'"),
        (REPLICA, "delete from audit_log"),
        ("alter table booked_charge disable trigger all",),
        ("alter table booked_charge disable trigger append_only",),
        ("alter table audit_log enable replica trigger append_only",),
        ("drop trigger append_only on booked_charge",),
        ("drop table invoice_line cascade",),
        ("drop function refuse_change cascade",),
        ("update journal_line set debit_minor = 1",),
        ("delete from journal",),
    ],
)
def test_a_closed_period_is_immutable_for_its_owner(
    closed: Books, statements: tuple[str, ...]
) -> None:
    said = closed.refused(*statements)
    assert any(
        word in said for word in ("append-only", "refused", "closed", "never deleted", "cannot go")
    ), said
    assert findings(closed) == []


def findings(books: Books) -> list[str]:
    with Session(books.engine) as session:
        return [f"{f.code} {f.figure}" for f in ledger.check_seals(session)]


def test_what_got_past_the_guards_is_told(closed: Books) -> None:
    with closed.engine.connect() as connection, connection.begin() as change:
        for statement in (
            "set local iotbill.migrating = 'on'",
            "alter table booked_charge disable trigger append_only",
            "update booked_charge set amount_minor = amount_minor + 1 where service_id = 'S2'",
        ):
            connection.execute(sa.text(statement))
        with Session(connection) as session:
            told = {f.code for f in ledger.check_seals(session)}
        change.rollback()
    assert told == {"seal", "guard"}
    assert findings(closed) == []
