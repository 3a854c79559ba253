"""A small company's October, booked once; each test of a module goes on where the last left it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from iotbill_pipelines.operations.ingest import ingest, land
from iotbill_pipelines.operations.sample import write_sample
from iotbill_pipelines.operations.workspace import Workspace
from tests.conftest import ROOT
from tests.telling.conftest import PERIOD, close


@pytest.fixture(scope="module")
def booked(
    tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str]
) -> Iterator[Workspace]:
    """A workspace with configs of its own, its October rated, settled and booked."""
    folder = tmp_path_factory.mktemp("corrections")
    write_sample(folder / "landing", PERIOD, 40, 3)
    shutil.copytree(ROOT / "configs", folder / "configs")
    ws = Workspace.open(
        folder / "home",
        folder / "configs",
        new_database(),
        migrate=True,
        clock=lambda: datetime(2026, 11, 3, 8, tzinfo=UTC),
        actor="close.lead",
    )
    land(ws, sorted((folder / "landing").iterdir()))
    ingest(ws)
    close(ws)
    yield ws
    ws.close()
