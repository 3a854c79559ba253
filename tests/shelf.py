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


_SHAPE = """
select md5(string_agg(told, ' ' order by told)) from (
  select concat(relnamespace::regnamespace, relname, relkind, relnatts, relacl, reloptions) as told
    from pg_class where relnamespace::regnamespace::text not like 'pg\\_%'
  union all
  select concat(tgrelid::regclass, tgname, tgenabled) from pg_trigger where not tgisinternal
  union all
  select concat(conrelid::regclass, conname, convalidated) from pg_constraint
  union all
  select concat(proname, md5(prosrc), proacl) from pg_proc
    where pronamespace::regnamespace::text not like 'pg\\_%'
  union all
  select concat(nspname, nspacl) from pg_namespace where nspname not like 'pg\\_t%'
  union all
  select concat(version_num) from alembic_version
) as parts
"""

_EMPTY = """
do $$ declare name text; filled bool; guard name; begin
  set local session_replication_role = replica;
  for name in select oid::regclass from pg_class
    where relkind = 'r' and relnamespace = 'public'::regnamespace and relname <> 'alembic_version'
  loop
    execute format('select exists (select from %s)', name) into filled;
    continue when not filled;
    -- the ledger's guards refuse it in every role
    execute format('alter table %s disable trigger user', name);
    execute format('delete from %s', name);
    execute format('alter table %s enable trigger user', name);
    for guard in select t.tgname from pg_trigger as t
      where t.tgrelid = name::regclass and not t.tgisinternal
    loop execute format('alter table %s enable always trigger %I', name, guard); end loop;
  end loop;
  for name in select oid::regclass from pg_class
    where relkind = 'S' and relnamespace = 'public'::regnamespace
  loop execute format('alter sequence %s restart', name); end loop;
end $$
"""


class Shelf:
    """States in ``folder`` and on the server of ``url``, which all workers of a test run share."""

    def __init__(self, folder: Path, url: sa.URL) -> None:
        self.folder = folder
        self.url = url
        self._empty: list[str] = []
        self._shape: str | None = None

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

    def empty_database(self) -> str:
        """Return the URL of a migrated database without rows, to give back after use.

        Making one takes ten times as long as emptying one.
        """
        if self._empty:
            return self._empty.pop()
        url = self.new_database()
        self._shape = self._shape or self._look(url)
        return url

    def give_back(self, url: str) -> None:
        """Empty a database for its next use, or drop it where more than rows was changed."""
        if self._look(url, and_empty=True) == self._shape:
            self._empty.append(url)
        else:
            self._execute(f"drop database {sa.make_url(url).database} with (force)")

    def _look(self, url: str, *, and_empty: bool = False) -> str:
        """Return a digest of everything but the rows; end all other connections first."""
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        with engine.begin() as connection:
            connection.execute(
                sa.text(
                    "select pg_terminate_backend(pid) from pg_stat_activity"
                    " where datname = current_database() and pid <> pg_backend_pid()"
                )
            )
            if and_empty:
                connection.execute(sa.text(_EMPTY))
            return str(connection.execute(sa.text(_SHAPE)).scalar_one())

    def _execute(self, statement: str) -> None:
        admin = sa.create_engine(
            self.url.set(database="postgres"),
            poolclass=sa.NullPool,
            isolation_level="AUTOCOMMIT",
        )
        with admin.connect() as connection:
            connection.execute(sa.text("select pg_advisory_lock(1)"))
            connection.execute(sa.text(statement))
