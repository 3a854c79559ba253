"""A small company's October: received, or booked too, by the operations and at a fixed moment."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime
from pathlib import Path

from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.operations.booking import book_charges
from iotbill_pipelines.operations.charges import settle_charges
from iotbill_pipelines.operations.ingest import ingest, land
from iotbill_pipelines.operations.sample import SampleSummary, write_sample
from iotbill_pipelines.operations.usage import rate_usage
from iotbill_pipelines.operations.workspace import Workspace
from tests.conftest import ROOT
from tests.shelf import State

PERIOD = Month(2026, 10)
SERVICES, SEED = 60, 3


def moment() -> datetime:
    """When it all happens."""
    return datetime(2026, 11, 3, 8, tzinfo=UTC)


def opened(folder: Path, url: str, configs: Path = ROOT / "configs") -> Workspace:
    """Open a copy of the month, acting under the run that booked it."""
    return Workspace.open(
        folder / "home",
        configs,
        url,
        moment,
        migrate=True,
        run_id="first-close",
        actor="close.lead",
    )


def close(ws: Workspace, period: Month = PERIOD) -> None:
    """The stages of a close that decide amounts."""
    for stage in (rate_usage, settle_charges, book_charges):
        stage(ws, period)


def summary(folder: Path) -> SampleSummary:
    """What the sample wrote into the files of a copy."""
    found: SampleSummary = pickle.loads((folder / "summary.pickle").read_bytes())
    return found


def _receive(folder: Path, url: str) -> None:
    written = write_sample(folder / "landing", PERIOD, SERVICES, SEED)
    (folder / "summary.pickle").write_bytes(pickle.dumps(written))
    ws = opened(folder, url)
    land(ws, sorted((folder / "landing").iterdir()))
    ingest(ws)
    ws.close()


def _settle(folder: Path, url: str) -> None:
    ws = opened(folder, url)
    rate_usage(ws, PERIOD)
    settle_charges(ws, PERIOD)
    ws.close()


def _book(folder: Path, url: str) -> None:
    ws = opened(folder, url)
    book_charges(ws, PERIOD)
    ws.close()


RECEIVED = State("received", _receive)
"""Files landed and ingested."""

SETTLED = State("settled", _settle, RECEIVED)
"""Rated and settled too."""

BOOKED = State("booked", _book, SETTLED)
"""Booked too."""
