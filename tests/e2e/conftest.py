"""A small company's month, received once; every test closes a copy of it with the real program."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.conftest import ROOT
from tests.shelf import Shelf, State

MONTH = "2026-10"
SERVICES = 40

# Without dbt and Great Expectations, whose start alone takes longer than all other stages together.
# The close that other tests begin with had both.
QUICK = """
from iotbill_pipelines.operations import expectations, marts
from iotbill_pipelines.operations.stages import StageResult
marts.publish_marts = lambda ws, period: StageResult()
def run_expectations(days, wanted, directory, at):
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "index.html").touch()
    return []
expectations.run_expectations = run_expectations
"""

RUN = """
from iotbill_pipelines.cli.main import main
main()
"""


# Dagster's tables, which the first close of a database would make.
_PREPARE = """
import sys
from pathlib import Path
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.shell.instance import open_instance
_, _, home, _, configs, _, url, *_ = sys.argv
with open_instance(Workspace.open(Path(home), Path(configs), url)):
    pass
"""


@cache
def _launcher() -> subprocess.Popen[str]:
    """The process that this worker's programs are forked from."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.e2e.launcher"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@dataclass(frozen=True)
class Company:
    """A state folder, its database, and the program run on them as a process of its own."""

    home: Path
    database_url: str
    configs: Path = ROOT / "configs"

    def run(self, *arguments: str, program: str = QUICK + RUN) -> subprocess.CompletedProcess[str]:
        """Run ``iotbill ARGUMENTS``; ``program`` is Python to run instead of the entry point."""
        options = ("--home", str(self.home), "--configs", str(self.configs))
        told = (*options, "--database-url", self.database_url, "--actor", "test", *arguments)
        with tempfile.TemporaryDirectory(prefix="iotbill-e2e-") as folder:
            out, errors = Path(folder, "stdout"), Path(folder, "stderr")
            request = {
                "arguments": told,
                "program": program,
                "cwd": str(self.home.parent),
                "stdout": str(out),
                "stderr": str(errors),
            }
            launcher = _launcher()
            assert launcher.stdin is not None and launcher.stdout is not None
            launcher.stdin.write(json.dumps(request) + "\n")
            launcher.stdin.flush()
            code = int(launcher.stdout.readline())
            return subprocess.CompletedProcess(told, code, out.read_text(), errors.read_text())

    def rows(self, statement: str) -> list[tuple[object, ...]]:
        """The rows of a SELECT on the database."""
        engine = sa.create_engine(self.database_url, poolclass=sa.NullPool)
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text(statement))]

    def ledger(self) -> dict[str, list[tuple[object, ...]]]:
        """Everything posted, without who posted it when."""
        return {name: self.rows(statement) for name, statement in _LEDGER.items()}


_LEDGER = {
    "charges": "select id, level, entity_id, account_id, service_id, charge_id, product_id, kind, "
    "gl_class, tax_code, usage_period, billing_period, accounting_period, records, quantity, "
    "currency, amount_minor, reason, snapshot_id, price_ids from booked_charge order by id",
    "invoices": "select invoice_id, invoice_no, account_id, billing_period, accounting_period, "
    "sequence, currency, lines, total_minor from invoice order by invoice_id",
    "invoice_lines": "select invoice_id, line_no, booked_charge_id, amount_minor "
    "from invoice_line order by invoice_id, line_no",
    "journals": "select journal_id, external_id, entity_id, accounting_period, journal_type, "
    "revision, currency, journal_date, memo, content_hash, state from journal order by journal_id",
    "journal_lines": "select journal_id, line_no, account, debit_minor, credit_minor, memo, name "
    "from journal_line order by journal_id, line_no",
    "journal_charges": "select * from journal_charge order by booked_charge_id, journal_type",
    "exports": "select journal_id, target, file_name, sha256 from journal_export "
    "order by journal_id, target",
    "reconciliations": "select entity_id, accounting_period, vendor_id, currency, expected_minor, "
    "invoiced_minor, variance_minor, tolerated_minor, disputed_minor, status "
    "from vendor_reconciliation order by vendor_id, currency",
    "disputes": "select dispute_id, vendor_id, invoice_no, uid_value, charge_code, cause, "
    "difference_minor, status from dispute order by dispute_id",
    "files": "select file_key, state, records_in, kept, ignored, rejected from feed_file "
    "order by file_key",
    "outcomes": "select * from feed_file_outcome order by 1, 2, 3, 4",
}


def _receive(folder: Path, url: str) -> None:
    files = str(folder / "files")
    for program, *command in (
        (QUICK + RUN, "init"),
        (_PREPARE,),
        (QUICK + RUN, "sample", "--month", MONTH, "--services", str(SERVICES), "--out", files),
        (QUICK + RUN, "land", files),
        (QUICK + RUN, "ingest"),
    ):
        done = Company(folder / "home", url).run(*command, program=program)
        assert done.returncode == 0, done.stderr
    (folder / "home" / "dagster" / "dagster.yaml").unlink()  # names the database


def _close(folder: Path, url: str) -> None:
    done = Company(folder / "home", url).run("close", MONTH, program=RUN)
    told = {"returncode": done.returncode, "stdout": done.stdout, "stderr": done.stderr}
    (folder / "close.json").write_text(json.dumps(told))
    (folder / "home" / "dagster" / "dagster.yaml").unlink()


RECEIVED = State("received_by_program", _receive)
"""The month's files landed and ingested by the program, nothing closed."""

CLOSED = State("closed_by_program", _close, RECEIVED)
"""The month closed by the program, with everything; what it said is in ``close.json``."""


@pytest.fixture(scope="session", autouse=True)
def launcher() -> Iterator[None]:
    """End the process that programs are forked from when the tests are over."""
    yield
    if _launcher.cache_info().currsize:
        _launcher().communicate()


@pytest.fixture(scope="session")
def received(tmp_path_factory: pytest.TempPathFactory, shelf: Shelf) -> Company:
    """The received month, to look at."""
    folder = tmp_path_factory.mktemp("e2e") / "received"
    return Company(folder / "home", shelf.copy(RECEIVED, folder))


@pytest.fixture
def copy_of(shelf: Shelf, tmp_path: Path) -> Callable[[str, State], Company]:
    """Make a copy of the month in a state, folder and database, under a name."""

    def make(name: str, state: State) -> Company:
        return Company(tmp_path / name / "home", shelf.copy(state, tmp_path / name))

    return make


@pytest.fixture
def company(copy_of: Callable[[str, State], Company]) -> Company:
    """A copy of the closed month of this test's own."""
    return copy_of("company", CLOSED)
