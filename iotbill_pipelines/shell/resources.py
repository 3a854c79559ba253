"""The resource that assets, sensors and schedules reach the workspace through."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from iotbill_pipelines.shell.environment import Location, memory_limit, secret

if TYPE_CHECKING:
    from iotbill_pipelines.operations.workspace import Workspace


class WorkspaceResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """A workspace by its folders; opened when a step, a tick or a check needs it.

    ``database_url`` is empty for the embedded server of ``home``, ``memory_limit`` for what the
    environment says.
    """

    home: str
    configs: str
    database_url: str = ""
    memory_limit: str = ""

    @classmethod
    def at(cls, location: Location) -> "WorkspaceResource":
        """The resource of a location."""
        return cls(
            home=str(location.home),
            configs=str(location.configs),
            database_url=location.database_url or "",
        )

    @classmethod
    def of(cls, ws: "Workspace") -> "WorkspaceResource":
        """The resource by which a run in this process opens the same workspace."""
        return cls(
            home=str(ws.home),
            configs=str(ws.configs),
            database_url=ws.database_url,
            memory_limit=ws.memory_limit or "",
        )

    @contextmanager
    def open(
        self,
        run_id: str | None = None,
        actor: str = "dagster",
        catalog_digest: str | None = None,
    ) -> Iterator["Workspace"]:
        """Open the workspace under a run id, and give its connections back afterwards.

        ``catalog_digest`` names a kept catalog version that the run prices by.
        """
        from iotbill_pipelines.operations.workspace import Workspace, configured_lake

        home, configs = Path(self.home), Path(self.configs)
        workspace = Workspace.open(
            home,
            configs,
            self.database_url or None,
            run_id=run_id,
            actor=actor,
            memory_limit=self.memory_limit or memory_limit(),
            lake=configured_lake(home, configs, secret),
        )
        try:
            yield replace(workspace, catalog_digest=catalog_digest)
        finally:
            workspace.close()
