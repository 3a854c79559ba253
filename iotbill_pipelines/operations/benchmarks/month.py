"""How long a month takes, from raw files to booked charges and journals, against a floor.

Every part runs in a process of its own, so that its peak memory is its own; PostgreSQL is a server
beside it. The floor is what nothing can beat: parse the same files once, write them once as
Parquet.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import sqlalchemy as sa
from sqlalchemy.orm import Session

from iotbill_pipelines.engine.compute import literal
from iotbill_pipelines.engine.money import of_minor
from iotbill_pipelines.operations.benchmarks import (
    comparison,
    in_own_process,
    market,
    peak_memory_bytes,
)
from iotbill_pipelines.operations.benchmarks.market import PERIOD, Size
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage import database
from iotbill_pipelines.storage.lake import Lake

OpenLake = Callable[[Path], Lake]
"""Opens the lake of a state folder; picklable, for every part opens it in its own process."""

FLOOR = "floor: parse once, write Parquet once"
RECEIVE = "receive: raw files to usage records"
CLOSE = "close: usage records to journals"
ONE_ACCOUNT = "one account rated again: a price from another day"
ONE_AMOUNT = "one account priced again: another amount"
CORRECTED = "a price corrected for 1 % of the accounts"
EVERY_STAGE = "every stage of a close again"
IN_DAGSTER = "the same as a Dagster run"
PANDAS = "the same job in pandas"
PYTHON = "the same job in Python, row by row, with Decimal"
CORRECTIONS = (ONE_AMOUNT, ONE_ACCOUNT, CORRECTED)
_NOT_OURS = (FLOOR, PANDAS, PYTHON)
ENGINE_STAGES = ("rate_usage", "settle_charges", "book_charges", "issue_invoices", "build_journals")


@dataclass(frozen=True)
class Measure:
    """What one part took. ``facts`` are counts and amounts that tell that the work was done.

    ``cpu_seconds`` are its process's own, without PostgreSQL's.
    """

    name: str
    seconds: float
    rows: int = 0
    peak_memory_bytes: int = 0
    cpu_seconds: float = 0.0
    parts: dict[str, float] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)

    @property
    def rows_per_second(self) -> int:
        return int(self.rows / self.seconds) if self.seconds and self.rows else 0


@dataclass(frozen=True)
class MonthBenchmark:
    """All measures of one run, in order, and the size they are of."""

    size: Size
    raw_bytes: int
    measures: list[Measure]

    def seconds(self, name: str) -> float | None:
        """The time of a part, None if it did not run."""
        return next((m.seconds for m in self.measures if m.name == name), None)

    @property
    def path_seconds(self) -> float:
        """The time from raw files to journals."""
        return sum(self.seconds(name) or 0.0 for name in (RECEIVE, CLOSE))

    @property
    def peak_memory_bytes(self) -> int:
        """The most that a part of the product held; the floor and the comparisons are none."""
        return max(
            (m.peak_memory_bytes for m in self.measures if m.name not in _NOT_OURS), default=0
        )

    def floors(self, seconds: float | None) -> float | None:
        """How many times the floor's time that is."""
        floor = self.seconds(FLOOR)
        return seconds / floor if seconds is not None and floor else None

    def share_of_path(self, name: str) -> float | None:
        """What a part takes of a full run's time, None if either did not run."""
        took = self.seconds(name)
        return took / self.path_seconds if took is not None and self.path_seconds else None

    @property
    def dagster_ratio(self) -> float | None:
        """How many times as long as without it a close takes as a Dagster run."""
        plain, dagster = self.seconds(EVERY_STAGE), self.seconds(IN_DAGSTER)
        return dagster / plain if plain and dagster is not None else None

    def as_json(self) -> dict[str, Any]:
        """Everything that the table tells, as plain values."""
        return {
            "size": asdict(self.size),
            "raw_bytes": self.raw_bytes,
            "measures": [
                {
                    **asdict(measure),
                    "rows_per_second": measure.rows_per_second,
                    "floors": self.floors(measure.seconds),
                }
                for measure in self.measures
            ],
            "raw_files_to_journals": {
                "seconds": self.path_seconds,
                "floors": self.floors(self.path_seconds),
                "rows_per_second": int(self.size.rows / self.path_seconds)
                if self.path_seconds
                else None,
                "peak_memory_bytes": self.peak_memory_bytes,
            },
            "shares_of_a_full_run": {name: self.share_of_path(name) for name in CORRECTIONS},
            "dagster_ratio": self.dagster_ratio,
        }


def run(
    configs: Path,
    folder: Path,
    size: Size,
    *,
    memory_limit: str | None,
    compare: bool,
    close_in_dagster: Callable[[Workspace], bool] | None,
    tell: Callable[[str], None],
) -> MonthBenchmark:
    """Generate a month into ``folder`` and measure it; ``tell`` hears what begins.

    ``compare`` runs the same job in pandas and in row-at-a-time Python too, ``close_in_dagster``
    closes the month as a Dagster run. The folder must be empty or of an earlier run: it is written
    anew.
    """
    tell("writing the raw files")
    files = market.write_usage(folder / "files", size)
    raw_bytes = sum(path.stat().st_size for path in files)
    benchmark = MonthBenchmark(size, raw_bytes, [])

    def measure(name: str, work: Callable[[], Measure]) -> None:
        tell(name)
        benchmark.measures.append(replace(in_own_process(_measured, work), name=name))

    measure(FLOOR, partial(_floor, files, folder / "floor"))
    home, ours, changed = folder / "home", folder / "configs", folder / "changed"
    dated = folder / "dated"
    database.stop(home)
    shutil.rmtree(home, ignore_errors=True)
    market.write_configs(configs, ours)
    market.write_configs(configs, changed, market.DEARER)
    market.write_configs(configs, dated, market.DEARER_LATER)
    measure("take over SIMs, owners and contracts", partial(prepare, home, ours, size))
    measure(RECEIVE, partial(receive, home, ours, files, size.rows,
                                                            memory_limit))  # fmt: skip
    measure(CLOSE, partial(close, home, ours, size.rows,
                                                        memory_limit))  # fmt: skip
    measure("close again: nothing changed", partial(close, home, ours, 0, memory_limit))
    if close_in_dagster is not None:
        # the first time they write exports, marts and a report: what both then find done
        measure("every stage of a close", partial(_every_stage, home, ours, memory_limit))
        measure(EVERY_STAGE, partial(_every_stage, home, ours, memory_limit))
        measure(IN_DAGSTER, partial(_dagster, home, ours, memory_limit, close_in_dagster))
    account = market.account_id_of(0)
    measure(ONE_AMOUNT, partial(_correct, home, changed, account, memory_limit))
    measure(ONE_ACCOUNT, partial(_correct, home, dated, account, memory_limit))
    measure(CORRECTED, partial(_correct, home, changed, None, memory_limit))
    measure("the next close", partial(close, home, changed, size.rows, memory_limit))
    if compare:
        for name, work in ((PANDAS, comparison.in_pandas), (PYTHON, comparison.row_by_row)):
            measure(name, partial(_compared, work, files, size))
    return benchmark


def _measured(work: Callable[[], Measure]) -> Measure:
    made = work()
    return replace(
        made,
        peak_memory_bytes=peak_memory_bytes(),
        cpu_seconds=made.cpu_seconds or time.process_time(),
    )


def _floor(files: list[Path], folder: Path) -> Measure:
    folder.mkdir(parents=True, exist_ok=True)
    listed = ", ".join(literal(str(path)) for path in files)
    started = time.perf_counter()
    with duckdb.connect(":memory:") as connection:
        (rows,) = connection.execute(
            f"copy (from read_csv([{listed}], all_varchar = true))"
            f" to {literal(f'{folder}/floor.parquet')} "
            "(format parquet, compression zstd)"
        ).fetchone() or (0,)
    return Measure("floor", time.perf_counter() - started, rows)


@contextmanager
def _workspace(
    home: Path, configs: Path, lake: OpenLake | None = None, **options: Any
) -> Iterator[Workspace]:
    opened = lake(home) if lake else None
    ws = Workspace.open(home, configs, actor="close.lead", lake=opened, **options)
    try:
        yield ws
    finally:
        ws.close()
        database.release(home)  # a worker ends without its exit handlers


def prepare(home: Path, configs: Path, size: Size, database_url: str | None = None) -> Measure:
    """Make a workspace and load the market's SIMs, owners and contracts into its database."""
    from iotbill_pipelines.storage import reference  # noqa: PLC0415 - the parent stays light

    tables = market.reference_tables(size)
    started = time.perf_counter()
    with (
        _workspace(home, configs, database_url=database_url, migrate=True) as ws,
        Session(ws.engine) as session,
        session.begin(),
    ):
        for name, rows in tables.items():
            reference.load(session, name, rows, ws.clock(), "benchmark")
    rows_in = sum(rows.num_rows for rows in tables.values())
    return Measure("prepare", time.perf_counter() - started, rows_in)


def receive(
    home: Path,
    configs: Path,
    files: list[Path],
    rows: int,
    memory_limit: str | None,
    lake: OpenLake | None = None,
) -> Measure:
    """Land and ingest raw files into a prepared workspace, by default with its own lake."""
    from iotbill_pipelines.operations.ingest import ingest, land  # noqa: PLC0415

    with _workspace(home, configs, lake, memory_limit=memory_limit) as ws:
        started = time.perf_counter()
        land(ws, files)
        landed = time.perf_counter()
        result = ingest(ws)
        ended = time.perf_counter()
    return Measure(
        "receive",
        ended - started,
        rows,
        parts={"land": landed - started, "ingest": ended - landed},
        facts={name: f"{count:,}" for name, count in result.rows.items()},
    )


def close(
    home: Path,
    configs: Path,
    rows: int,
    memory_limit: str | None,
    lake: OpenLake | None = None,
) -> Measure:
    """Do the stages of a close that decide amounts, one after the other."""
    from iotbill_pipelines.operations.close import run_stage, stage_named  # noqa: PLC0415

    parts: dict[str, float] = {}
    facts: dict[str, str] = {}
    with _workspace(home, configs, lake, memory_limit=memory_limit) as ws:
        for name in ENGINE_STAGES:
            started = time.perf_counter()
            result = run_stage(ws, PERIOD, stage_named(name))
            parts[name] = time.perf_counter() - started
            facts |= {f"{name}: {label}": f"{count:,}" for label, count in result.rows.items()}
            if result.blocking:
                raise RuntimeError(f"{name}: {result.blocking[0].message}")
        facts |= booked_usage(ws)
    return Measure("close", sum(parts.values()), rows, parts=parts, facts=facts)


def _correct(home: Path, configs: Path, account: str | None, memory_limit: str | None) -> Measure:
    """Book what a changed price comes to, for an account or for all that it concerns.

    The time is from the opened workspace on; what the process took to get there, imports and all,
    is told apart.
    """
    from iotbill_pipelines.operations.corrections import (  # noqa: PLC0415
        Selection,
        correct_period,
    )

    with _workspace(home, configs, memory_limit=memory_limit) as ws:
        before = time.process_time()
        started = time.perf_counter()
        result = correct_period(ws, PERIOD, Selection(account=account))
        seconds = time.perf_counter() - started
        cpu_seconds = time.process_time() - before
    facts = {name: f"{count:,}" for name, count in result.rows.items()}
    facts |= {label: f"{amount} {currency}" for label, currency, amount in result.amounts}
    facts["CPU seconds before"] = f"{before:.2f}"
    return Measure("correct", seconds, cpu_seconds=cpu_seconds, facts=facts)


def booked_usage(ws: Workspace) -> dict[str, str]:
    """Return what is booked for the usage of the month, as :mod:`comparison` computes it."""
    select = sa.text(
        "select level, sum(amount_minor)::bigint as minor from booked_charge"
        " where kind in ('usage', 'overage') and usage_period = :period group by level"
    )
    with ws.engine.connect() as connection:
        rows = connection.execute(select, {"period": str(PERIOD)}).all()
    found: dict[str, int] = {row.level: row.minor for row in rows}
    return {
        "retail usage": f"{of_minor(found.get('retail', 0), 'EUR')} EUR",
        "carrier usage": f"{of_minor(found.get('vendor', 0), 'EUR')} EUR",
    }


def _every_stage(home: Path, configs: Path, memory_limit: str | None) -> Measure:
    from iotbill_pipelines.operations.close import CLOSE_STAGES, run_close  # noqa: PLC0415

    with _workspace(home, configs, memory_limit=memory_limit) as ws:
        started = time.perf_counter()
        done = run_close(ws, PERIOD)
        seconds = time.perf_counter() - started
    stopped = [found.message for _, result in done for found in result.blocking]
    facts = {"stages": f"{len(done)} of {len(CLOSE_STAGES)}"}
    return Measure("every stage", seconds, facts=facts | {"stopped by": "; ".join(stopped)[:300]})


def _dagster(
    home: Path, configs: Path, memory_limit: str | None, close: Callable[[Workspace], bool]
) -> Measure:
    with _workspace(home, configs, memory_limit=memory_limit) as ws:
        started = time.perf_counter()
        succeeded = close(ws)
        seconds = time.perf_counter() - started
    return Measure("dagster", seconds, facts={"succeeded": str(succeeded)})


def _compared(
    work: Callable[[list[Path], Size], dict[str, str]], files: list[Path], size: Size
) -> Measure:
    started = time.perf_counter()
    facts = work(files, size)
    return Measure("compared", time.perf_counter() - started, size.rows, facts=facts)
