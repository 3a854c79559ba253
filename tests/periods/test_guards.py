"""What is closed stays: against SQL of the tables' owner, and told if it got past that."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from iotbill_pipelines.storage import database, ledger
from tests.storage.books import NOW, OCTOBER, Books, Charge


@pytest.fixture(scope="module")
def closed(module_postgres_url: str) -> Iterator[Books]:
    books = Books(module_postgres_url)
    close_october(books)
    yield books
    books.engine.dispose()


def close_october(books: Books) -> None:
    books.book(Charge(amount_minor=100), Charge(service_id="S2", amount_minor=250))
    books.invoice()
    books.post()
    for state in ("soft_closed", "in_review", "closed"):
        with Session(books.engine) as session, session.begin():
            ledger.set_period_state(session, "NL01", OCTOBER, state, actor="t", at=NOW)


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


def test_taxes_and_derived_entries_of_a_closed_period_are_sealed_too(closed: Books) -> None:
    with closed.engine.connect() as connection, connection.begin() as change:
        for statement in (
            "set local iotbill.migrating = 'on'",
            "alter table derived_entry disable trigger all",
            "insert into derived_entry (entry_id, entry_no, run_id, purpose, item, level,"
            " entity_id, account_id, service_id, product_id, kind, gl_class, tax_code, currency,"
            " amount_minor, accounting_period, version, explanation, booked_at) values (1, 1,"
            " 'run', 'commission', 'P:2026-10', 'retail', 'NL01', 'P', '', '', '', '', '', 'EUR',"
            " 5, '2026-10', '', '', now())",
        ):
            connection.execute(sa.text(statement))
        with Session(connection) as session:
            assert "seal" in {f.code for f in ledger.check_seals(session)}
        change.rollback()
    assert findings(closed) == []


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


# ------------------------------------------------------- servers on which nobody is a superuser


@dataclass(frozen=True)
class Roles:
    """A closed month in a database of a plain owner, run by a role that owns nothing."""

    owner: Books
    runtime: Books


@pytest.fixture(scope="module")
def roles(module_postgres_url: str) -> Iterator[Roles]:
    admin = sa.create_engine(
        sa.make_url(module_postgres_url).set(database="postgres"),
        poolclass=sa.NullPool,
        isolation_level="AUTOCOMMIT",
    )
    name = f"plain_{uuid.uuid4().hex[:12]}"
    owner, runtime = f"{name}_owner", f"{name}_runtime"
    with admin.connect() as connection:
        for role in (owner, runtime):
            connection.execute(sa.text(f"create role {role} login"))
        connection.execute(sa.text(f"create database {name} owner {owner}"))
    url = sa.make_url(module_postgres_url).set(database=name)
    engine = database.connect(url.set(username=owner).render_as_string(hide_password=False))
    database.migrate(engine)
    database.grant(engine, runtime)
    database.grant(engine, runtime)
    books = Books(url.set(username=runtime).render_as_string(hide_password=False))
    close_october(books)
    yield Roles(Books(engine.url.render_as_string(hide_password=False)), books)
    books.engine.dispose()
    engine.dispose()
    with admin.connect() as connection:
        connection.execute(sa.text(f"drop database {name} with (force)"))
        for role in (owner, runtime):
            connection.execute(sa.text(f"drop role {role}"))


@pytest.mark.parametrize(
    ("statements", "said"),
    [
        (("update booked_charge set amount_minor = 1",), "permission denied"),
        (("delete from invoice_line",), "permission denied"),
        (("truncate booked_charge cascade",), "permission denied"),
        (("truncate journal_line cascade",), "permission denied"),
        (("delete from audit_log",), "permission denied"),
        ((REPLICA,), "permission denied"),
        (("alter table booked_charge disable trigger append_only",), "must be owner"),
        (("drop trigger append_only on booked_charge",), "must be owner"),
        (("drop table invoice_line cascade",), "must be owner"),
        (("alter function refuse_change() rename to gone",), "must be owner"),
        (("update period set state = 'open'",), "cannot go from closed to open"),
        (("delete from journal",), "closed"),
    ],
)
def test_the_role_that_runs_the_program_can_switch_nothing_off(
    roles: Roles, statements: tuple[str, ...], said: str
) -> None:
    assert said in roles.runtime.refused(*statements)
    assert findings(roles.runtime) == []


def test_an_owner_who_is_no_superuser_is_refused_too_and_told_if_he_gets_past(
    roles: Roles,
) -> None:
    assert "append-only" in roles.owner.refused("update booked_charge set amount_minor = 1")
    assert "permission denied" in roles.owner.refused(REPLICA)
    with roles.owner.engine.connect() as connection, connection.begin() as change:
        connection.execute(sa.text("alter table booked_charge disable trigger append_only"))
        connection.execute(sa.text("update booked_charge set amount_minor = amount_minor + 1"))
        with Session(connection) as session:
            assert {f.code for f in ledger.check_seals(session)} == {"seal", "guard"}
        change.rollback()
    assert findings(roles.owner) == []


def test_only_a_role_that_is_weaker_is_granted_anything(roles: Roles) -> None:
    owner = str(roles.owner.engine.url.username)
    for role, said in (("nobody", "no role 'nobody'"), ("postgres", "super"), (owner, "owns")):
        with pytest.raises(database.DatabaseError, match=said):
            database.grant(roles.owner.engine, role)
