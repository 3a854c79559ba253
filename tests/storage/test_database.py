"""The embedded server, the migrations, and what the database itself refuses."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from iotbill_pipelines.engine import money
from iotbill_pipelines.storage import database
from iotbill_pipelines.storage.models import Base

from .books import Books, Charge

# ------------------------------------------------------------------------ embedded server


@pytest.fixture
def home() -> Iterator[Path]:
    """A state folder too deep for a socket's path.

    Not pytest's tmp_path: every start of pytest locks that folder's parent again, which shuts a
    server out that runs as another user than root.
    """
    top = Path(tempfile.mkdtemp(prefix="iotbill-home-"))
    home = top / "/".join(["a-deep-folder"] * 10)
    yield home
    database.stop(home)
    shutil.rmtree(top)


def is_running(home: Path) -> bool:
    """Whether the process that the folder names as its server is there."""
    lock = home / "pg" / "postmaster.pid"
    return lock.exists() and psutil.pid_exists(int(lock.read_text().split()[0]))


def test_a_deep_folder_starts_serves_stops_and_starts_again(home: Path) -> None:
    url = database.embedded_url(home)
    assert url.startswith("postgresql+psycopg2://")
    engine = database.connect(url)
    with engine.begin() as connection:
        connection.execute(sa.text("create table kept (n int)"))
    assert database.embedded_url(home) == url
    assert is_running(home)
    engine.dispose()
    assert database.release(home)
    assert not is_running(home)
    with database.connect(database.embedded_url(home)).connect() as connection:
        assert connection.execute(sa.text("select count(*) from kept")).scalar() == 0
        # the order of text does not depend on the machine's locales
        ordered = "select string_agg(c, '' order by c) from unnest(array['ä', 'a', 'B', 'Z']) c"
        assert connection.execute(sa.text(ordered)).scalar() == "BZaä"


STARTER = textwrap.dedent("""
    import sys
    from pathlib import Path
    import sqlalchemy as sa
    from iotbill_pipelines.storage import database
    engine = database.connect(database.embedded_url(Path(sys.argv[1])))
    database.migrate(engine)
    print(engine.connect().execute(sa.text("select count(*) from run")).scalar(), flush=True)
    sys.stdin.readline()
""")


def test_processes_that_start_at_once_share_a_server_and_the_last_one_stops_it(
    home: Path,
) -> None:
    starters = [
        subprocess.Popen(
            [sys.executable, "-c", STARTER, str(home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    said = [starter.stdout.readline().strip() for starter in starters if starter.stdout]
    assert said == ["0", "0", "0"]
    starters[0].kill()  # dies without saying goodbye
    starters[1].communicate("\n", timeout=30)
    assert is_running(home)
    starters[2].communicate("\n", timeout=30)
    assert not is_running(home)
    starters[0].communicate()


def test_a_server_that_was_killed_comes_back_with_what_was_committed(home: Path) -> None:
    engine = database.connect(database.embedded_url(home))
    with engine.begin() as connection:
        connection.execute(sa.text("create table kept as select 7 as n"))
    pid = (home / "pg" / "postmaster.pid").read_text().splitlines()[0]
    subprocess.run(["kill", "-9", pid], check=True)
    again = database.connect(database.embedded_url(home))
    with again.connect() as connection:
        assert connection.execute(sa.text("select n from kept")).scalar() == 7


def test_a_lock_file_that_names_another_program_is_of_a_dead_server(home: Path) -> None:
    database.embedded_url(home)
    assert database.release(home)
    (home / "pg" / "postmaster.pid").write_text(f"{os.getpid()}\n{home / 'pg'}\n1\n")
    with database.connect(database.embedded_url(home)).connect() as connection:
        assert connection.execute(sa.text("select 7")).scalar() == 7


def test_an_interrupted_first_start_leaves_nothing_in_the_way(home: Path) -> None:
    (home / "pg.new").mkdir(parents=True)
    (home / "pg.new" / "PG_VERSION").write_text("18")
    database.embedded_url(home)
    assert is_running(home)


def test_urls_name_the_driver_and_other_databases_are_refused() -> None:
    engine = database.connect("postgresql://someone:secret@example.test:5433/books")
    assert engine.url.drivername == "postgresql+psycopg2"
    with pytest.raises(database.DatabaseError, match=r"'sqlite'; only postgresql"):
        database.connect("sqlite:///x.db")
    with pytest.raises(database.DatabaseError, match="cannot be read"):
        database.connect("nonsense")


# ----------------------------------------------------------------------------- migrations


def test_models_are_the_migrated_schema_and_upgrading_twice_changes_nothing(
    postgres_url: str,
) -> None:
    engine = database.connect(postgres_url)
    with engine.begin() as connection:
        connection.execute(sa.text("drop schema public cascade"))
        connection.execute(sa.text("create schema public"))
    database.migrate(engine)
    database.migrate(engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
        schemas = connection.execute(sa.text("select nspname from pg_namespace")).scalars().all()
        assert "dagster" in schemas


def test_dagster_keeps_its_tables_in_its_own_schema(postgres_url: str) -> None:
    engine = sa.create_engine(database.dagster_url(postgres_url))
    with engine.begin() as connection:
        connection.execute(sa.text("create table runs (n int)"))
        where = "select schemaname from pg_tables where tablename = 'runs'"
        assert connection.execute(sa.text(where)).scalars().all() == ["dagster"]
    engine.dispose()


def test_the_migrations_are_packaged() -> None:
    folder = Path(database.__file__).parent / "migrations"
    assert {path.suffix for path in (folder / "versions").glob("0001_*")} == {".py", ".sql"}
    for directory in (folder, folder / "versions"):
        assert (directory / "__init__.py").exists()


# ------------------------------------------------------------------------- what it refuses


@pytest.fixture(scope="module")
def books(module_postgres_url: str) -> Iterator[Books]:
    """A booked, invoiced, posted and exported October, and a built November."""
    books = Books(module_postgres_url)
    books.book(
        Charge(amount_minor=100),
        Charge(level="vendor", product_id="buy", account_id="V", amount_minor=60),
    )
    books.invoice()
    books.post()
    with books.engine.begin() as connection:
        connection.execute(sa.text("update journal set state = 'exported', exported_at = now()"))
    yield books
    books.engine.dispose()


@pytest.mark.parametrize(
    "statement",
    [
        "update booked_charge set amount_minor = 0",
        "delete from booked_charge",
        "truncate booked_charge cascade",
        "update invoice set total_minor = 1",
        "delete from invoice_line",
        "update invoice_line set amount_minor = 1",
        "update journal_line set memo = 'x'",
        "delete from period_event",
        "update audit_log set actor = 'x'",
        "delete from audit_log",
        "truncate journal cascade",
    ],
)
def test_booked_rows_are_not_changed(books: Books, statement: str) -> None:
    assert "append-only" in books.refused(statement)


BOOKED = (
    "insert into booked_charge (id, entry_no, run_id, level, entity_id, account_id, service_id,"
    " charge_id, product_id, kind, gl_class, tax_code, usage_period, billing_period,"
    " accounting_period, records, quantity, currency, amount_minor, reason, cause, price_ids,"
    " booked_at) values (99, {entry}, '{run}', 'retail', '{entity}', 'A', 'S1', 'data', 'data',"
    " 'usage', 'usage', 'standard', '{month}', '2026-10', '2026-10', 1, 1, 'EUR', 5,"
    " '{reason}', '', '', now())"
)


def booked(**values: object) -> str:
    usual = {"entry": 2, "run": "run", "entity": "NL01", "month": "2026-10", "reason": "rebill"}
    return BOOKED.format(**(usual | values))


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        (booked(entry=1), "uq_booked_charge_entry"),
        (booked(entry=0), "entry_no_starts_at_one"),
        (booked(month="2026-13"), "usage_period_is_a_month"),
        (booked(reason="fun"), "reason_is_known"),
        (booked(run="nobody"), "fk_booked_charge_run_id"),
        (booked(entity="XX"), "fk_booked_charge_entity_id"),
        (
            booked()
            .replace("price_ids,", "price_ids, snapshot_id,")
            .replace("'', now", "'', 'x', now"),
            "fk_booked_charge_snapshot_id",
        ),
        ("delete from run", "run run is never deleted"),
        ("update run set run_id = 'x'", "a run keeps its id"),
        (
            "insert into invoice_line (invoice_id, line_no, booked_charge_id, currency,"
            " amount_minor) values (999, 1, 998, 'EUR', 1)",
            "fk_invoice_line_invoice_id",
        ),
        (
            "insert into journal_charge (booked_charge_id, journal_type, journal_id)"
            " values (1, 'X', 999)",
            "fk_journal_charge_journal_id",
        ),
        ("update period set state = 'closed'", "cannot go from open to closed"),
        ("delete from period", "never deleted"),
        ("delete from journal", "is exported: not deleted"),
        ("update journal set memo = 'x'", "only its state changes"),
        ("update journal set state = 'built'", "cannot go from exported to built"),
        ("delete from journal_line", "is exported: its journal_line rows"),
        ("delete from journal_charge", "is exported: its journal_charge rows"),
        (
            "insert into invoice_line (invoice_id, line_no, booked_charge_id, currency,"
            " amount_minor) select invoice_id, 9, booked_charge_id, currency, amount_minor"
            " from invoice_line",
            "uq_invoice_line",
        ),
        (
            "insert into gate_result (period, gate, outcome, severity, message, recorded_at)"
            " values ('2026-10', 'g', 'waived', 'block', '', now())",
            "a_waiver_is_signed",
        ),
    ],
)
def test_rows_that_contradict_are_refused(books: Books, statement: str, said: str) -> None:
    assert said in books.refused(statement)


JOURNAL = (
    "insert into journal (journal_id, external_id, run_id, entity_id, accounting_period,"
    " journal_type, revision, currency, journal_date, memo, content_hash, built_at)"
    " values (50, 'X', 'run', 'NL01', '2026-10', 'OTHER', 1, 'EUR', now(), '', '', now())"
)


def line(number: int, debit: int, credit: int) -> str:
    return (
        "insert into journal_line (journal_id, line_no, role, is_suspense, account, account_name,"
        " currency, functional_currency, debit_minor, credit_minor, memo) values"
        f" (50, {number}, 'cost', false, '1', '', 'EUR', 'EUR', {debit}, {credit}, '')"
    )


def test_unbalanced_journals_do_not_commit(books: Books) -> None:
    said = books.refused(JOURNAL, line(1, 100, 0), line(2, 0, 99))
    assert "debits 100 and credits 99 (minor units of EUR) differ" in said
    assert "at least two lines" in books.refused(JOURNAL)
    assert "no_negative_side" in books.refused(JOURNAL, line(1, -5, 0))
    assert "one_side_only" in books.refused(JOURNAL, line(1, 5, 5))
    assert "one_side_only" in books.refused(JOURNAL, line(1, 0, 0))
    # a line that is taken out of a balanced journal later is noticed as well
    with books.engine.begin() as connection:
        for statement in (JOURNAL, line(1, 100, 0), line(2, 0, 100)):
            connection.execute(sa.text(statement))
    link = (
        "insert into journal_charge (booked_charge_id, journal_type, journal_id, debit_line_no,"
        " credit_line_no) values ({}, 'OTHER', 50, 1, {})"
    )
    assert "fk_journal_charge_journal_id_line_no" in books.refused(link.format(1, 3))
    assert "fk_journal_charge_booked_charge_id" in books.refused(link.format(999, 2))
    with books.engine.begin() as connection:
        connection.execute(sa.text(link.format(1, 2)))
    said = books.refused("delete from journal_line where journal_id = 50 and line_no = 2")
    assert "debits 100 and credits" in said or "at least two lines" in said
    with books.engine.begin() as connection:
        connection.execute(sa.text("delete from journal where journal_id = 50"))
    # a journal takes its links with it
    assert books.rows("select count(*) from journal_charge where journal_id = 50") == [(0,)]


INVOICE = (
    "insert into invoice (invoice_id, invoice_no, run_id, entity_id, account_id, account_name,"
    " billing_period, accounting_period, sequence, issue_date, currency, lines, total_minor,"
    " issued_at) values (70, 'X', 'run', 'NL01', 'A', 'A', '2026-10', '2026-10', 7, now(), 'EUR',"
    " {lines}, {total}, now())"
)


def test_invoices_are_their_lines(books: Books) -> None:
    assert "0 lines of 0 minor units" in books.refused(INVOICE.format(lines=1, total=5))
    new_line = (
        "insert into invoice_line (invoice_id, line_no, booked_charge_id, currency, amount_minor)"
        " values (70, 1, 99, 'EUR', {})"
    )
    said = books.refused(booked(), INVOICE.format(lines=1, total=6), new_line.format(6))
    assert "differs from its booked charge" in said
    said = books.refused(INVOICE.format(lines=1, total=6), new_line.format(6))
    assert "fk_invoice_line_booked_charge_id" in said
    vendor = "select id from booked_charge where level = 'vendor'"
    said = books.refused(
        INVOICE.format(lines=1, total=60),
        "insert into invoice_line (invoice_id, line_no, booked_charge_id, currency, amount_minor)"
        f" values (70, 1, ({vendor}), 'EUR', 60)",
    )
    assert "differs from its booked charge" in said
    said = books.refused(
        booked(),
        "insert into invoice_line (invoice_id, line_no, booked_charge_id, currency, amount_minor)"
        " select invoice_id, 2, 99, 'EUR', 5 from invoice limit 1",
    )
    assert "is issued: no lines are added" in said


def test_a_closed_period_takes_nothing(books: Books) -> None:
    close = [
        f"update period set state = '{state}'" for state in ("soft_closed", "in_review", "closed")
    ]
    assert "takes no new rows" in books.refused(*close, booked())
    assert "invoice takes no new rows" in books.refused(*close, INVOICE.format(lines=1, total=5))
    assert "journal takes no new rows" in books.refused(*close, JOURNAL)
    assert "cannot go from closed to open" in books.refused(
        *close, "update period set state = 'open'"
    )
    reopen = "update period set state = 'reopened'"
    assert "reopened by two people; 0 signed" in books.refused(*close, reopen)
    assert "reopened by two people; 1 signed" in books.refused(*close, signed("ann"), reopen)
    again = books.refused(*close, signed("ann"), signed("ann"), reopen)
    assert "uq_period_signature" in again
    assert "does not fit" in books.refused(signed("ann"))
    with pytest.raises(AssertionError, match="took"):  # reopened, it does again
        books.refused(
            *close,
            signed("ann"),
            signed("bea"),
            reopen,
            booked(),
            "update period set state = 'soft_closed'",
        )


def signed(actor: str) -> str:
    return (
        "insert into period_signature (entity_id, period, action, closings, actor, role, reason,"
        " signed_at) select entity_id, period, 'reopen', closings, "
        f"'{actor}', 'controller', 'late file', now() from period"
    )


CLOSED = [
    (booked(), "takes no new rows"),
    ("update booked_charge set amount_minor = 0", "append-only"),
    ("delete from booked_charge", "append-only"),
    ("truncate booked_charge cascade", "append-only"),
    ("update invoice set total_minor = 1", "append-only"),
    ("delete from invoice", "append-only"),
    ("truncate invoice cascade", "append-only"),
    ("update invoice_line set amount_minor = 1", "append-only"),
    ("delete from invoice_line", "append-only"),
    ("truncate invoice_line", "append-only"),
    ("delete from journal where state = 'built'", "is closed: journal NL01-2026-10-LATE-001"),
    (
        "update journal set state = 'exported', exported_at = now() where state = 'built'",
        "is closed: journal NL01-2026-10-LATE-001",
    ),
    ("truncate journal cascade", "append-only"),
    ("delete from journal_line", "is closed: DELETE refused on journal_line"),
    ("update journal_line set memo = 'x'", "append-only"),
    (
        "insert into journal_line (journal_id, line_no, role, is_suspense, account, account_name,"
        " currency, functional_currency, debit_minor, credit_minor, memo) select journal_id, 9,"
        " 'cost', false, '1', '', 'EUR', 'EUR', 5, 0, '' from journal where state = 'built'",
        "is closed: INSERT refused on journal_line",
    ),
    ("truncate journal_line cascade", "append-only"),
    ("delete from journal_charge", "is closed: DELETE refused on journal_charge"),
    ("truncate journal_charge", "append-only"),
    ("delete from journal_export", "is closed: DELETE refused on journal_export"),
    ("update journal_export set sha256 = 'x'", "is closed: UPDATE refused on journal_export"),
    ("truncate journal_export", "append-only"),
    ("update vendor_reconciliation set lines = 7", "is closed: UPDATE refused"),
    ("delete from vendor_reconciliation", "is closed: DELETE refused"),
    ("truncate vendor_reconciliation cascade", "append-only"),
    ("update period set state = 'open'", "cannot go from closed to open"),
    ("update period set closings = 0", "the database counts closings"),
    ("update period set period = '2026-09'", "a period keeps its key"),
    ("delete from period", "never deleted"),
    ("truncate period cascade", "append-only"),
    (
        "insert into period (entity_id, period, state, changed_at) values"
        " ('NL01', '2026-12', 'closed', now())",
        "starts open",
    ),
    ("delete from period_signature", "append-only"),
    ("truncate period_signature", "append-only"),
    ("truncate gate_result", "append-only"),
]


@pytest.fixture(scope="module")
def closed_books(new_database: Callable[[], str]) -> Iterator[Books]:
    """October booked, invoiced, posted, reconciled and closed, one journal still unexported."""
    books = Books(new_database())
    books.book(Charge(amount_minor=100))
    books.invoice()
    books.post()
    with books.engine.begin() as connection:
        for statement in (
            "update journal set state = 'exported', exported_at = now()",
            "insert into journal_export (journal_id, target, file_name, sha256, exported_at)"
            " select journal_id, 'plain', 'x.csv', 'x', now() from journal",
            JOURNAL.replace("'X'", "'NL01-2026-10-LATE-001'"),
            line(1, 100, 0),
            line(2, 0, 100),
            "insert into vendor_reconciliation (entity_id, accounting_period, vendor_id, currency,"
            " expected_minor, invoiced_minor, variance_minor, tolerated_minor, disputed_minor,"
            " unexplained_minor, lines, matched_lines, status, run_id, reconciled_at) values"
            " ('NL01', '2026-10', 'V', 'EUR', 1, 1, 0, 0, 0, 0, 1, 1, 'matched', 'run', now())",
            "insert into gate_result (period, gate, outcome, severity, message, recorded_at)"
            " values ('2026-10', 'g', 'passed', 'info', '', now())",
            "update period set state = 'soft_closed'",
            "update period set state = 'in_review'",
            "update period set state = 'closed'",
            signed("ann"),
        ):
            connection.execute(sa.text(statement))
    yield books
    books.engine.dispose()


@pytest.mark.parametrize(("statement", "said"), CLOSED)
def test_a_closed_period_stays_as_it_is(closed_books: Books, statement: str, said: str) -> None:
    assert said in closed_books.refused(statement)


def test_a_closed_period_still_hears_what_the_erp_answers(closed_books: Books) -> None:
    with closed_books.engine.begin() as connection:
        connection.execute(
            sa.text(
                "update journal set state = 'acknowledged', answered_at = now()"
                " where state = 'exported'"
            )
        )
    said = closed_books.refused("update journal set memo = 'x' where state = 'acknowledged'")
    assert "is closed" in said


def test_minor_units_are_those_of_the_engine(books: Books) -> None:
    currencies = [*money.MINOR_DIGITS, "EUR", "USD", "GBP"]
    listed = ", ".join(f"('{currency}')" for currency in currencies)
    digits = books.rows(f"select c, currency_digits(c) from (values {listed}) as t(c)")
    assert digits == [(currency, money.minor_digits(currency)) for currency in currencies]
    exact = books.rows(
        "select minor_to_amount(-12345, 'EUR') = -123.45, minor_to_amount(5, 'JPY') = 5,"
        " minor_to_amount(1, 'CLF') = 0.0001, minor_to_amount(1234, 'KWD') = 1.234"
    )
    assert exact == [(True, True, True, True)]
