"""A database server that is stopped and started in mid-close, with the real program.

The tests' other databases share a server; this one has its own, so that it can be restarted.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from iotbill_pipelines.compute.duckdb_engine import DuckDbCompute
from iotbill_pipelines.engine.schemas import DESIRED_CHARGE
from iotbill_pipelines.storage import database
from iotbill_pipelines.storage.lake import Lake
from tests.e2e.conftest import MONTH, QUICK, RUN, Company

# The program with one function after which the server is stopped and started again. It stops like
# a server that an administrator restarts: sessions are ended, open transactions are rolled back.
_RESTARTING = f"""
{QUICK}
import importlib
from pathlib import Path
from iotbill_pipelines.storage import database
module, _, name = "{{point}}".partition(":")
owner = importlib.import_module(module)
whole = getattr(owner, name)

def restarting(*arguments, **named):
    result = whole(*arguments, **named)
    assert database.stop(Path("{{server}}"))
    database.embedded_url(Path("{{server}}"))
    print("the server was restarted")
    return result

setattr(owner, name, restarting)
{RUN}
"""

_STORAGE, _OPERATIONS = "iotbill_pipelines.storage", "iotbill_pipelines.operations"


@pytest.fixture
def server() -> Iterator[Path]:
    home = Path(tempfile.mkdtemp(prefix="iotbill-restart-"))
    yield home
    database.stop(home)
    shutil.rmtree(home)


@pytest.fixture
def company(received: Company, server: Path, tmp_path: Path) -> Company:
    """A copy of the received month whose database is on the server of its own."""
    url = database.embedded_url(server, {"fsync": "off", "full_page_writes": "off"})
    binaries = database.binaries()
    dumped = subprocess.run(
        [binaries / "pg_dump", _libpq(received.database_url)], check=True, capture_output=True
    )
    loading = [binaries / "psql", "-q", "-v", "ON_ERROR_STOP=1", _libpq(url)]
    subprocess.run(loading, input=dumped.stdout, check=True, capture_output=True)
    home = tmp_path / "company"
    subprocess.run(["cp", "-a", str(received.home), str(home)], check=True)
    return Company(home, url)


def _libpq(url: str) -> str:
    """The URL as PostgreSQL's own programs read it: without SQLAlchemy's driver."""
    return sa.make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def close(company: Company, server: Path, point: str) -> tuple[int, str]:
    program = _RESTARTING.format(point=point, server=server)
    done = company.run("close", MONTH, program=program)
    said = done.stdout + done.stderr
    assert "the server was restarted" in said, said
    return done.returncode, said


def test_a_restarted_server_costs_a_run_or_nothing_and_the_next_run_is_right(
    company: Company, server: Path
) -> None:
    # the transaction that was open is gone, all of it; the close says what happened
    code, said = close(company, server, f"{_STORAGE}.ledger:book")
    assert code in (1, 2) and "Traceback" not in said, said
    assert "connection" in said
    assert company.rows("select count(*) from booked_charge") == [(0,)]
    states = company.rows("select distinct status from run where kind = 'close'")
    assert ("succeeded",) not in states

    # between a stage's commit and the next stage: what is posted stays, the close may go on
    code, said = close(company, server, f"{_OPERATIONS}.invoicing:issue_invoices")
    assert code in (0, 1, 2) and "Traceback" not in said, said
    booked = company.rows("select * from booked_charge order by id")
    invoiced = company.rows("select * from invoice order by invoice_id")
    assert booked and invoiced

    if code:
        done = company.run("close", MONTH)
        assert done.returncode == 0, done.stdout + done.stderr
    assert company.rows("select * from booked_charge order by id") == booked
    assert company.rows("select * from invoice order by invoice_id") == invoiced
    assert posted(company) == desired(company)
    assert company.rows(_UNPOSTED) == [(0,)]
    assert company.rows("select count(*) from journal where state = 'built'") == [(0,)]


_UNPOSTED = """
select count(*) from booked_charge b where amount_minor <> 0 and not exists (
  select from journal_charge c where c.booked_charge_id = b.id)
  and (level = 'vendor' or exists (select from invoice_line l where l.booked_charge_id = b.id))
"""


def posted(company: Company) -> list[tuple[object, ...]]:
    return company.rows(
        "select level, account_id, service_id, charge_id, usage_period, sum(amount_minor)::bigint,"
        " sum(quantity)::numeric::text from booked_charge group by 1, 2, 3, 4, 5"
        " order by 1, 2, 3, 4, 5"
    )


def desired(company: Company) -> list[tuple[object, ...]]:
    """What the lake says that the month and what it bills in advance come to."""
    with DuckDbCompute() as compute:
        compute.scan(DESIRED_CHARGE, Lake(str(company.home / "lake")).files(DESIRED_CHARGE))
        found = compute.fetch(
            "select level, account_id, service_id, charge_id, usage_period,"
            " cast(sum(amount_minor) as bigint) as minor,"
            " cast(sum(quantity) as varchar) as quantity from desired_charge group by all"
            " order by all"
        )
    return [tuple(row.values()) for row in found.to_pylist()]
