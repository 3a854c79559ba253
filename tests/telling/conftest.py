"""A small company's month, booked once; what only tells (explain, whatif) reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.operations.booking import book_charges
from iotbill_pipelines.operations.charges import settle_charges
from iotbill_pipelines.operations.ingest import ingest, land
from iotbill_pipelines.operations.sample import write_sample
from iotbill_pipelines.operations.usage import rate_usage
from iotbill_pipelines.operations.workspace import Workspace
from tests.conftest import ROOT

PERIOD = Month(2026, 10)


def close(ws: Workspace, period: Month = PERIOD) -> None:
    """The stages of a close that decide amounts."""
    for stage in (rate_usage, settle_charges, book_charges):
        stage(ws, period)


@pytest.fixture(scope="module")
def booked(
    tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str]
) -> Iterator[Workspace]:
    folder = tmp_path_factory.mktemp("telling")
    write_sample(folder / "landing", PERIOD, 60, 3)
    ws = Workspace.open(
        folder / "home",
        ROOT / "configs",
        new_database(),
        migrate=True,
        clock=lambda: datetime(2026, 11, 3, 8, tzinfo=UTC),
    )
    land(ws, sorted((folder / "landing").iterdir()))
    ingest(ws)
    close(ws)
    yield ws
    ws.close()
