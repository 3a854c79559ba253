"""Many runs in processes that live on: what they hold at the end and did not at the beginning.

One process is the sensors': it looks at the landing folder, receives what came, and again, as
Dagster's daemon does. Another one closes the month again and again meanwhile. Both are asked for
their memory, open files and database connections after every tenth of the runs.
"""

import multiprocessing
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import psutil  # type: ignore[import-untyped]
import sqlalchemy as sa

from iotbill_pipelines.config.close import read_close_policy
from iotbill_pipelines.operations.benchmarks import market
from iotbill_pipelines.operations.benchmarks.month import prepare
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.shell.assembly import build_definitions
from iotbill_pipelines.shell.environment import memory_limit
from iotbill_pipelines.shell.execution import execute_close
from iotbill_pipelines.shell.instance import open_instance
from iotbill_pipelines.shell.receiving import RECEIVE_JOB, new_files
from iotbill_pipelines.shell.resources import WorkspaceResource
from iotbill_pipelines.storage import database

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

    ``rows_received`` must be those of the files; ``events`` are entries of Dagster's event log.
    """

    receiving: list[Held]
    closing: list[Held]
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
    """Receive ``runs`` files, one a run, while the month is closed again and again.

    Writes into ``folder``, anew; ``database_url`` names an empty database instead of the embedded
    server. Raises RuntimeError if a run fails or what was received is not what was sent.
    """
    home, ours = folder / "home", folder / "configs"
    if database_url is None:
        database.stop(home)
    shutil.rmtree(home, ignore_errors=True)
    market.write_configs(configs, ours)
    # a run can take several files that settled meanwhile
    size = market.Size(rows=(runs * 3 // 2 + 30) * ROWS_PER_FILE, sims=1_000, accounts=200)
    files = market.write_usage(folder / "files", size, ROWS_PER_FILE)
    tell("taking over 1,000 SIMs")
    prepare(home, ours, size, database_url)
    ws = Workspace.open(home, ours, database_url, actor="close.lead", memory_limit=memory_limit())
    context = multiprocessing.get_context("spawn")
    done = context.Event()
    answers = context.Queue()
    closer = context.Process(target=_close, args=(home, ours, ws.database_url, done, answers))
    closer.start()
    try:
        receiving = _receive(ws, files, runs, tell)
        done.set()
        closing = answers.get(timeout=1800)
        closer.join(timeout=60)
        if isinstance(closing, str):
            raise RuntimeError(f"a close failed: {closing}")
        return _left(ws, receiving, closing)
    finally:
        done.set()
        if closer.is_alive():
            closer.terminate()
        ws.close()
        if database_url is None:
            database.release(home)


def _receive(
    ws: Workspace, files: list[Path], runs: int, tell: Callable[[str], None]
) -> list[Held]:
    """Let files come, look, and do what the sensor asks for, until there were so many runs."""
    resource = WorkspaceResource(
        home=str(ws.home), configs=str(ws.configs), database_url=ws.database_url
    )
    definitions = build_definitions(resource, read_close_policy(ws.configs), "CRITICAL")
    job = definitions.resolve_job_def(RECEIVE_JOB)
    looks: list[Held] = []
    started = time.monotonic()
    cursor: str | None = None
    coming = list(files)
    done = 0
    with open_instance(ws) as instance:
        while coming or _waiting(ws):
            if coming and done < runs:
                file = coming.pop(0)
                shutil.copyfile(file, ws.landing / file.name)
            elif coming:
                coming.clear()  # enough runs; what arrived is still received
            with dg.build_sensor_context(
                instance=instance, cursor=cursor, resources={"workspace": resource}
            ) as context:
                found = new_files(context)
            if not isinstance(found, dg.SensorResult) or not found.run_requests:
                time.sleep(2)  # files that were written just now are left alone
                continue
            cursor = found.cursor
            for request in found.run_requests:
                result = job.execute_in_process(
                    instance=instance,
                    partition_key=request.partition_key,
                    # A logger that the run does not name gives way to Dagster's own.
                    run_config={**request.run_config, "loggers": {"console": {}}},
                    tags=dict(request.tags),
                )
                if not result.success:
                    raise RuntimeError(f"run {result.run_id} failed")
                done += 1
                if done % max(1, runs // LOOKS) == 0:
                    looks.append(_held(ws, done, started))
                    tell(f"{done} of {runs} runs")
    return looks


def _waiting(ws: Workspace) -> bool:
    """Is there a file in the landing folder that was not received?"""
    with ws.engine.connect() as connection:
        known = connection.scalar(
            sa.text("select count(*) from feed_file where state = 'ingested'")
        )
    return sum(1 for _ in ws.landing.glob("*.csv")) > int(known or 0)


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


def _left(ws: Workspace, receiving: list[Held], closing: list[Held]) -> Soak:
    files = sum(1 for _ in ws.landing.glob("*.csv"))
    with ws.engine.connect() as connection:
        received = connection.scalar(
            sa.text("select coalesce(sum(records_in), 0)::bigint from feed_file")
        )
        twice = connection.scalar(sa.text(_TWICE))
        events = connection.execute(sa.text(_EVENTS)).one()
    if received != files * ROWS_PER_FILE:
        raise RuntimeError(f"{files * ROWS_PER_FILE} rows were sent, {received} received")
    return Soak(
        receiving, closing, files, int(received), int(twice or 0), events.events, events.bytes
    )
