"""States of a company that many tests begin with: made once a test run, copied for each use."""

from __future__ import annotations

import fcntl
import subprocess
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa


@dataclass(frozen=True)
class State:
    """What ``build`` makes of a folder and its database, fresh and migrated or copies of ``base``.

    ``build`` gets their path and URL, and leaves no connection open.
    """

    name: str
    build: Callable[[Path, str], None]
    base: State | None = None


class Shelf:
    """States in ``folder`` and on the server of ``url``, which all workers of a test run share."""

    def __init__(self, folder: Path, url: sa.URL) -> None:
        self.folder = folder
        self.url = url

    def copy(self, state: State, to: Path) -> str:
        """Copy a state to the folder ``to``, which must not exist; return its database.

        The first worker that asks for it makes it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        kept, database = self.folder / state.name, f"kept_{state.name}"
        with (self.folder / f"{state.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not kept.is_dir():
                fresh = self.folder / uuid.uuid4().hex
                if state.base is None:
                    fresh.mkdir()
                    url = self.new_database()
                else:
                    url = self.copy(state.base, fresh)
                state.build(fresh, url)
                self._execute(f"alter database {sa.make_url(url).database} rename to {database}")
                fresh.rename(kept)
            subprocess.run(["cp", "-a", str(kept), str(to)], check=True)
            return self.new_database(database)

    def new_database(self, template: str = "migrated") -> str:
        """Make a database, fresh and migrated unless a template is named; return its URL."""
        name = f"test_{uuid.uuid4().hex}"
        self._execute(f"create database {name} template {template}")
        return self.url.set(database=name).render_as_string(hide_password=False)

    def _execute(self, statement: str) -> None:
        admin = sa.create_engine(
            self.url.set(database="postgres"),
            poolclass=sa.NullPool,
            isolation_level="AUTOCOMMIT",
        )
        with admin.connect() as connection:
            connection.execute(sa.text("select pg_advisory_lock(1)"))
            connection.execute(sa.text(statement))
