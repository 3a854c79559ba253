"""Many runs in processes that live on: what they hold at the end and did not at the beginning.

One process is the sensors': it looks by all of them, one after the other, does what they ask for,
and again, as Dagster's daemon does. Half of the files come into the landing folder, half to a
configured source; a customer's name changes now and then, so that suspense is retried; incidents
are looked for, and nobody is told. Another process closes the month again and again meanwhile. Both
are asked for their memory, open files and database connections, the first one after every tenth of
its runs.
"""

import multiprocessing
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import psutil  # type: ignore[import-untyped]
import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.orm import Session

from iotbill_pipelines.config.close import read_close_policy
from iotbill_pipelines.config.sources import load_sources
from iotbill_pipelines.operations.benchmarks import check_empty, market
from iotbill_pipelines.operations.benchmarks.month import prepare
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.shell.assembly import build_definitions
from iotbill_pipelines.shell.environment import memory_limit
from iotbill_pipelines.shell.execution import execute_close
from iotbill_pipelines.shell.instance import open_instance
from iotbill_pipelines.shell.receiving import RECEIVE_JOB
from iotbill_pipelines.shell.resources import WorkspaceResource
from iotbill_pipelines.storage import database, reference

if TYPE_CHECKING:
    from multiprocessing.synchronize import Event

ROWS_PER_FILE = 500
LOOKS = 10
"""How often the receiving process is asked for what it holds; the closing one after each close."""


@dataclass(frozen=True)
class Held:
    """What a process held after so many runs; ``connections`` are all of the database's."""

    runs: int
    seconds: float
    memory_bytes: int
    open_files: int
    connections: int


@dataclass(frozen=True)
class Soak:
    """What was held along the way, and what was left in the database and the lake.

    ``runs`` are those that sensors asked for, by their job; ``rows_received`` must be those of the
    files; ``events`` are entries of Dagster's event log.
    """

    receiving: list[Held]
    closing: list[Held]
    runs: dict[str, int]
    files: int
    rows_received: int
    rows_booked_twice: int
    events: int
    event_bytes: int

    def leaks(self) -> list[str]:
        """What grew after a third of the looks by more than measuring wavers."""
        found = []
        for name, looks in (("receiving", self.receiving), ("closing", self.closing)):
            if len(looks) < 2:
                continue
            # what a process loads once, it has after a third of its runs
            first, last = looks[len(looks) // 3], looks[-1]
            if last.open_files > first.open_files + 5:
                found.append(f"{name}: open files {first.open_files} -> {last.open_files}")
            if last.connections > first.connections + 5:
                found.append(f"{name}: connections {first.connections} -> {last.connections}")
            if last.memory_bytes > 1.25 * first.memory_bytes + 50e6:
                found.append(f"{name}: memory {first.memory_bytes} -> {last.memory_bytes}")
        return found

    def as_json(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {**asdict(self), "leaks": self.leaks()}


def soak(
    configs: Path, folder: Path, runs: int, database_url: str | None, tell: Callable[[str], None]
) -> Soak:
    """Receive files by ``runs`` runs while the month is closed again and again.

    Writes into ``folder``, anew; ``database_url`` names an empty database instead of the embedded
    server. Raises RuntimeError if a run fails or what was received is not what was sent, and
    WorkspaceError for a database that is in use.
    """
    home, ours = folder / "home", folder / "configs"
    if database_url is None:
        database.stop(home)
    else:
        check_empty(database_url)
    shutil.rmtree(home, ignore_errors=True)
    market.write_configs(configs, ours)
    outbox = write_source(ours, folder / "outbox")
    # a run can take several files that settled meanwhile
    size = market.Size(rows=(runs * 3 // 2 + 30) * ROWS_PER_FILE, sims=1_000, accounts=200)
    files = market.write_usage(folder / "files", size, ROWS_PER_FILE)
    tell("taking over 1,000 SIMs")
    prepare(home, ours, size, database_url)
    customer = market.reference_tables(size)["account"].slice(0, 1)
    ws = Workspace.open(home, ours, database_url, actor="close.lead", memory_limit=memory_limit())
    context = multiprocessing.get_context("spawn")
    done = context.Event()
    answers = context.Queue()
    closer = context.Process(target=_close, args=(home, ours, ws.database_url, done, answers))
    closer.start()
    try:
        daemon = Daemon(ws, outbox, customer)
        daemon.receive(files, runs, tell)
        done.set()
        closing = answers.get(timeout=1800)
        closer.join(timeout=60)
        if isinstance(closing, str):
            raise RuntimeError(f"a close failed: {closing}")
        return _left(ws, daemon, closing)
    finally:
        done.set()
        if closer.is_alive():
            closer.terminate()
        ws.close()
        if database_url is None:
            database.release(home)


def write_source(configs: Path, outbox: Path) -> Path:
    """Make ``outbox``, an empty folder, a configured source; return it."""
    shutil.rmtree(outbox, ignore_errors=True)
    outbox.mkdir(parents=True)
    (configs / "sources").mkdir()
    (configs / "sources" / "outbox.yaml").write_text(
        f"id: outbox\nurl: {outbox.as_uri()}\nsettle_seconds: 0\n", "utf-8"
    )
    return outbox


class Daemon:
    """Looks by the sensors and runs what they ask for, in this process.

    ``sent`` counts the files that came, ``runs`` what was run by job; ``looks`` tell what was held.
    """

    def __init__(self, ws: Workspace, outbox: Path, customer: pa.Table) -> None:
        self.sent = 0
        self.runs: Counter[str] = Counter()
        self.looks: list[Held] = []
        self._ws = ws
        self._outbox = outbox
        self._customer = customer
        self._resource = WorkspaceResource.of(ws)
        self._definitions = build_definitions(
            self._resource,
            read_close_policy(ws.configs),
            "CRITICAL",
            load_sources(ws.configs).values(),
        )
        self._cursors: dict[str, str | None] = {}

    def receive(self, files: list[Path], runs: int, tell: Callable[[str], None]) -> None:
        """Let files come and look, until all came or so many runs received some, and none waits."""
        sensors = self._definitions.get_repository_def().sensor_defs
        started = time.monotonic()
        coming = list(files)
        every = max(1, runs // LOOKS)
        with open_instance(self._ws) as instance:
            while (more := bool(coming) and self.runs[RECEIVE_JOB] < runs) or self._waiting():
                if more:
                    file = coming.pop(0)
                    to = self._outbox if self.sent % 2 else self._ws.landing
                    shutil.copyfile(file, to / file.name)
                    self.sent += 1
                before = self.runs[RECEIVE_JOB]
                if not sum(self._tick(instance, sensor) for sensor in sensors):
                    time.sleep(1)  # files that were written just now are left alone
                received = self.runs[RECEIVE_JOB]
                if received // every > before // every:
                    self.looks.append(_held(self._ws, received, started))
                    self._rename(received)
                    tell(f"{received} of {runs} runs")

    def _tick(self, instance: dg.DagsterInstance, sensor: dg.SensorDefinition) -> int:
        """Evaluate a sensor and run what it asks for; return how many runs those were."""
        with dg.build_sensor_context(
            instance,
            self._cursors.get(sensor.name),
            sensor_name=sensor.name,
            resources={"workspace": self._resource},
            definitions=self._definitions,
        ) as context:
            found = sensor.evaluate_tick(context)
        self._cursors[sensor.name] = found.cursor
        for request in found.run_requests or ():
            name = request.job_name or sensor.job.name
            result = self._definitions.resolve_job_def(name).execute_in_process(
                instance=instance,
                partition_key=request.partition_key,
                # A logger that the run does not name gives way to Dagster's own.
                run_config={**request.run_config, "loggers": {"console": {}}},
                tags=dict(request.tags),
            )
            if not result.success:
                raise RuntimeError(f"run {result.run_id} of {name} failed")
            self.runs[name] += 1
        return len(found.run_requests or ())

    def _waiting(self) -> bool:
        """Was a file sent that is not received?"""
        with self._ws.engine.connect() as connection:
            known = connection.scalar(
                sa.text("select count(*) from feed_file where state = 'ingested'")
            )
        return self.sent > int(known or 0)

    def _rename(self, number: int) -> None:
        """Change what is known, as a file of reference data does: suspense is due a retry."""
        place = self._customer.schema.get_field_index("name")
        renamed = self._customer.set_column(place, "name", pa.array([f"Customer {number}"]))
        with Session(self._ws.engine) as session, session.begin():
            reference.load(session, "account", renamed, self._ws.clock(), "benchmark")


def _close(
    home: Path,
    configs: Path,
    database_url: str,
    done: "Event",
    answers: "multiprocessing.Queue[list[Held] | str]",
) -> None:
    ws = Workspace.open(home, configs, database_url, actor="close.lead")
    looks: list[Held] = []
    started = time.monotonic()
    try:
        while not done.is_set() or len(looks) < 2:
            run = execute_close(ws, market.PERIOD, lambda _stage, _event: None)
            if run.error:
                answers.put(run.error)
                return
            looks.append(_held(ws, len(looks) + 1, started))
        answers.put(looks)
    except Exception as error:  # told to the parent, which ends the measurement
        answers.put(f"{type(error).__name__}: {error}")
        raise
    finally:
        ws.close()


def _held(ws: Workspace, runs: int, started: float) -> Held:
    process = psutil.Process()
    with ws.engine.connect() as connection:
        connections = connection.scalar(
            sa.text("select count(*) from pg_stat_activity where datname = current_database()")
        )
    return Held(
        runs,
        round(time.monotonic() - started, 1),
        process.memory_info().rss,
        process.num_fds(),
        int(connections or 0),
    )


_TWICE = """
select count(*) from (
  select from booked_charge
  group by usage_period, level, account_id, service_id, charge_id, entity_id, product_id, kind,
    gl_class, tax_code, currency, entry_no
  having count(*) > 1
) as twice
"""

_EVENTS = (
    "select count(*) as events, pg_total_relation_size('dagster.event_logs') as bytes"
    " from dagster.event_logs"
)


def _left(ws: Workspace, daemon: Daemon, closing: list[Held]) -> Soak:
    with ws.engine.connect() as connection:
        received = connection.scalar(
            sa.text("select coalesce(sum(records_in), 0)::bigint from feed_file")
        )
        twice = connection.scalar(sa.text(_TWICE))
        events = connection.execute(sa.text(_EVENTS)).one()
    sent = daemon.sent * ROWS_PER_FILE
    if received != sent:
        raise RuntimeError(f"{sent} rows were sent, {received} received")
    return Soak(
        receiving=daemon.looks,
        closing=closing,
        runs=dict(daemon.runs),
        files=daemon.sent,
        rows_received=int(received),
        rows_booked_twice=int(twice or 0),
        events=events.events,
        event_bytes=events.bytes,
    )
