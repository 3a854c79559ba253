"""The Dagster instance of a workspace: its dagster.yaml, written from ours, and its opening."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from iotbill_pipelines.config.documents import ConfigError

if TYPE_CHECKING:
    import dagster as dg

    from iotbill_pipelines.operations.workspace import Workspace


OWN_KEY = "iotbill"
"""What Dagster does not know and we do, in the same file."""


def write_instance(ws: "Workspace") -> Path:
    """Write ``<home>/dagster/dagster.yaml``: our policy, and storage in the database.

    Nothing in it refers to the environment, so that every process finds the same instance. It may
    hold the database's password and is readable by its owner only. Returns the file's path.
    """
    from iotbill_pipelines.storage.database import dagster_url

    folder = ws.dagster_home
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    policy = _policy(ws.configs / "dagster" / "instance.yaml")
    policy.pop(OWN_KEY, None)
    settings = {
        **policy,
        "storage": {"postgres": {"postgres_url": dagster_url(ws.database_url)}},
        "local_artifact_storage": {
            "module": "dagster._core.storage.root",
            "class": "LocalArtifactStorage",
            "config": {"base_dir": str(folder)},
        },
        "compute_logs": {
            "module": "dagster._core.storage.local_compute_log_manager",
            "class": "LocalComputeLogManager",
            "config": {"base_dir": str(folder / "logs")},
        },
    }
    path = folder / "dagster.yaml"
    text = "# Written by iotbill; change configs/dagster/instance.yaml instead.\n"
    text += yaml.safe_dump(settings, sort_keys=False)
    if not path.exists() or path.read_text("utf-8") != text:
        fresh = folder / ".dagster.yaml.new"
        fresh.touch(mode=0o600)
        fresh.write_text(text, "utf-8")
        fresh.replace(path)
    return path


def kept_days(ws: "Workspace") -> int | None:
    """Days that runs of receiving files are kept, by configs/dagster/instance.yaml; None: always.

    Raises ConfigError for anything but a whole number of days above zero.
    """
    path = ws.configs / "dagster" / "instance.yaml"
    own = _policy(path).get(OWN_KEY) or {}
    days = own.get("receive_runs_days") if isinstance(own, dict) else 0
    if days is None or (isinstance(days, int) and not isinstance(days, bool) and days > 0):
        return days
    raise ConfigError(
        str(path), (OWN_KEY, "receive_runs_days"), 1, "must be a number of days above zero"
    )


@contextmanager
def open_instance(ws: "Workspace") -> "Iterator[dg.DagsterInstance]":
    """Open the workspace's instance while the block runs.

    Its storages share a pool of connections. By themselves they open one for every statement, five
    hundred in a close, so that many idle instances hold none; this one lives as long as a command.
    A connection that died is replaced before its next use.
    """
    import dagster as dg
    from dagster_postgres.utils import create_pg_engine

    write_instance(ws)
    with dg.DagsterInstance.from_config(str(ws.dagster_home)) as instance:
        storages: list[Any] = [
            instance.run_storage,
            instance.event_log_storage,
            instance.schedule_storage,
        ]
        pool = create_pg_engine(
            storages[0].postgres_url, isolation_level="AUTOCOMMIT", pool_pre_ping=True, pool_size=2
        )
        try:
            for storage in storages:
                storage._engine = pool  # no setting of theirs chooses it
            yield instance
        finally:
            pool.dispose()


def _policy(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {"telemetry": {"enabled": False}}
    try:
        # Dagster's own format and types, so not through our stricter reader.
        found = yaml.safe_load(path.read_text("utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError(str(path), (), 1, f"not valid YAML: {error}") from None
    if not isinstance(found, dict):
        raise ConfigError(str(path), (), 1, "expected a mapping of Dagster's instance settings")
    return found
