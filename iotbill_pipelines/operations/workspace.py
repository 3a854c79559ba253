"""Where a company's billing lives: its state folder, configuration, database, lake and clock.

An operation gets everything it depends on from here, so that it never asks the environment, the
wall clock or a global for anything.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path

import sqlalchemy as sa

from iotbill_pipelines.compute.duckdb_engine import DuckDbCompute
from iotbill_pipelines.compute.spark_engine import SparkCompute
from iotbill_pipelines.config.engine import EngineChoice, read_engine
from iotbill_pipelines.config.lake import read_lake
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.storage import database
from iotbill_pipelines.storage.lake import Lake
from iotbill_pipelines.storage.lake_places import place_of

FOLDERS = ("lake", "archive", "snapshots", "landing", "out", "dagster", "spill")


def configured_lake(home: Path, configs: Path, secret: Callable[[str], str | None]) -> Lake:
    """Return the lake that ``configs/lake.yaml`` names, by default the one in the state folder.

    ``secret`` gives the values of environment variables. Raises ConfigError or LakeError.
    """
    return Lake(place_of(read_lake(configs), home.resolve(), secret))


class WorkspaceError(RuntimeError):
    """The workspace cannot be used as it is; the message says what to do."""


def wall_clock() -> datetime:
    """The time now, in UTC; the only clock of the product."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Workspace:
    """A state folder (``home``), its configuration, database and lake.

    ``clock`` returns an aware UTC datetime. ``run_id`` names the execution that everything booked
    through this object belongs to, ``actor`` who asked for it. ``catalog_digest`` names a kept
    catalog version to price by, instead of the configured catalog.
    """

    home: Path
    configs: Path
    engine: sa.Engine
    lake: Lake
    clock: Callable[[], datetime] = wall_clock
    database_url: str = ""
    run_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    actor: str = "iotbill"
    memory_limit: str | None = None
    catalog_digest: str | None = None
    engine_choice: EngineChoice = field(default_factory=EngineChoice)

    @classmethod
    def open(
        cls,
        home: Path,
        configs: Path,
        database_url: str | None = None,
        clock: Callable[[], datetime] = wall_clock,
        *,
        migrate: bool = False,
        run_id: str | None = None,
        actor: str = "iotbill",
        memory_limit: str | None = None,
        lake: Lake | None = None,
    ) -> Workspace:
        """Open a state folder; without ``database_url`` its embedded PostgreSQL is started.

        Without ``lake`` it is the one in the state folder: what opens a folder of its own beside a
        company's, to try or to measure something, must not write into the company's.

        ``migrate`` makes what is missing (folders, schema) and is what ``iotbill init`` does.
        Raises WorkspaceError if the folder was never initialised or the configuration is absent.
        """
        home, configs = home.resolve(), configs.resolve()
        if not configs.is_dir():
            raise WorkspaceError(
                f"the configuration folder {configs} does not exist; name one with --configs or "
                "IOTBILL_CONFIGS"
            )
        if migrate:
            for folder in FOLDERS:
                (home / folder).mkdir(parents=True, exist_ok=True)
        elif not (home / "lake").is_dir():
            raise WorkspaceError(f"{home} is not initialised; run `iotbill init` first")
        url = database_url or database.embedded_url(home)
        engine = database.connect(url)
        if migrate:
            database.migrate(engine)
        return cls(
            home=home,
            configs=configs,
            engine=engine,
            lake=lake or Lake(home / "lake"),
            clock=clock,
            database_url=url,
            run_id=run_id or str(uuid.uuid4()),
            actor=actor,
            memory_limit=memory_limit,
            engine_choice=read_engine(configs),
        )

    def for_run(self, run_id: str, actor: str | None = None) -> Workspace:
        """Return the same workspace acting under another run id."""
        return replace(self, run_id=run_id, actor=actor or self.actor)

    def compute(self, expected_rows: int | None = None) -> DuckDbCompute:
        """Return a fresh in-memory DuckDB; use it as a context manager. Spills into the home."""
        spill = self.home / "spill"
        spill.mkdir(exist_ok=True)
        return DuckDbCompute(
            memory_limit=self.memory_limit, spill_dir=spill, expected_rows=expected_rows
        )

    def stage_compute(self, expected_rows: int) -> DuckDbCompute | SparkCompute:
        """Return what rates and settles whole months: the engine of configs/engine.yaml."""
        choice = self.engine_choice
        if choice.engine == "duckdb" or choice.master is None or expected_rows < choice.least_rows:
            return self.compute(expected_rows)
        return SparkCompute(
            choice.master,
            choice.scratch or str(self.home / "spill"),
            expected_rows=expected_rows,
            settings={name: str(value) for name, value in choice.settings.items()},
        )

    def close(self) -> None:
        """Give the database connections back; the embedded server stops with its last user. The
        cache of a lake in an object store may be trimmed."""
        self.engine.dispose()
        self.lake.release()

    @property
    def today(self) -> date:
        """The UTC date of the clock."""
        return self.clock().date()

    @property
    def archive(self) -> Path:
        """Landed files, unchanged, compressed, by SHA-256."""
        return self.home / "archive"

    @property
    def landing(self) -> Path:
        """Folder that the sensor watches."""
        return self.home / "landing"

    @property
    def snapshots(self) -> Path:
        """Reference data as known at a moment."""
        return self.home / "snapshots"

    @property
    def dagster_home(self) -> Path:
        """Home of the Dagster instance (dagster.yaml, logs, artefacts)."""
        return self.home / "dagster"

    def out(self, period: Month) -> Path:
        """Folder of a close's documents; made if absent."""
        folder = self.home / "out" / str(period)
        folder.mkdir(parents=True, exist_ok=True)
        return folder
