"""Fixtures of every test: the public sample files, where they are at hand; a real PostgreSQL."""

from __future__ import annotations

import gc
import os
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from iotbill_pipelines.storage import database
from tests.shelf import Shelf

ROOT = Path(__file__).resolve().parent.parent

LONGEST = (
    *("e2e/test_a_closed_period.py", "e2e/test_killed.py", "corrections/test_year.py"),
    *("e2e/test_lorawan_close.py", "scenarios/test_scenarios.py", "proof/test_proof.py"),
    *("corrections/test_rerate.py", "corrections/test_rollover.py", "e2e/test_a_month_closes.py"),
    *("corrections/test_alone.py", "corrections/test_package.py", "telling/test_whatif.py"),
)
"""Modules that take longest. They come first, so that no worker waits long for the other's last."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest modules first; all else stays in its order."""
    places = {ROOT / "tests" / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


def pytest_collection_finish() -> None:
    """Leave what importing made, which nothing frees, out of the collections of garbage to come."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 10)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of public sample files beside a checkout; skips where it is absent."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("the public sample files (../shared) are not on this machine")
    return folder


@pytest.fixture(scope="session")
def shelf() -> Iterator[Shelf]:
    """The server of the test run, with states that tests begin with.

    One embedded server serves all workers of a test run; the last of them stops it.
    """
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", uuid.uuid4().hex)
    home = Path(tempfile.gettempdir()) / f"iotbill-tests-{run[:12]}"
    settings = {
        **{"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"},
        **{"wal_level": "minimal", "max_wal_senders": "0", "max_wal_size": "4GB"},
        **{"autovacuum": "off", "checkpoint_timeout": "1h", "jit": "off"},
    }
    url = sa.make_url(database.embedded_url(home, settings))
    admin = sa.create_engine(
        url.set(database="postgres"), poolclass=sa.NullPool, isolation_level="AUTOCOMMIT"
    )
    with admin.connect() as connection:
        connection.execute(sa.text("select pg_advisory_lock(1)"))
        exists = "select 1 from pg_database where datname = 'migrated'"
        if not connection.execute(sa.text(exists)).scalar():
            connection.execute(sa.text("create database unfinished"))
            engine = database.connect(
                url.set(database="unfinished").render_as_string(hide_password=False)
            )
            database.migrate(engine)
            engine.dispose()
            connection.execute(sa.text("alter database unfinished rename to migrated"))
    yield Shelf(home / "shelf", url)
    if database.release(home):
        # some ten thousand files, which nobody has to wait for
        subprocess.Popen(["rm", "-rf", str(home)], start_new_session=True)


@pytest.fixture(scope="session")
def new_database(shelf: Shelf) -> Callable[[], str]:
    """Make fresh, migrated databases: each call returns the URL of one, in a tenth of a second."""
    return shelf.new_database


@pytest.fixture
def postgres_url(shelf: Shelf) -> Iterator[str]:
    """The URL of an empty, migrated database of this test's own."""
    url = shelf.empty_database()
    yield url
    shelf.give_back(url)


@pytest.fixture(scope="module")
def module_postgres_url(shelf: Shelf) -> Iterator[str]:
    """The URL of an empty, migrated database that the tests of a module share."""
    url = shelf.empty_database()
    yield url
    shelf.give_back(url)
