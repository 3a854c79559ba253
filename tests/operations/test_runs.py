"""What is kept of a run: it ends as it came out, whatever it was for."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from iotbill_pipelines.config.documents import ConfigError
from iotbill_pipelines.operations import sim_audit, suspense
from iotbill_pipelines.operations.corrections import correct_period
from iotbill_pipelines.operations.workspace import Workspace
from tests import months
from tests.conftest import ROOT
from tests.months import PERIOD
from tests.shelf import Shelf


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory, shelf: Shelf) -> Iterator[Workspace]:
    folder = tmp_path_factory.mktemp("runs") / "month"
    url = shelf.copy(months.SETTLED, folder)
    shutil.copytree(ROOT / "configs", folder / "configs")
    ws = months.opened(folder, url, folder / "configs")
    yield ws
    ws.close()


@pytest.fixture
def ws(settled: Workspace) -> Workspace:
    return settled.for_run(f"run-{uuid.uuid4()}", "close.lead")


def _run(ws: Workspace) -> Any:
    with ws.engine.connect() as connection:
        statement = "select kind, status, finished_at, detail from run where run_id = :run"
        return connection.execute(sa.text(statement), {"run": ws.run_id}).one()


RUNS: dict[str, Callable[[Workspace], object]] = {
    "correction": lambda ws: correct_period(ws, PERIOD),
    "sim_audit": lambda ws: sim_audit.audit(ws, PERIOD),
    "suspense_retry": suspense.retry,
}


@pytest.mark.parametrize("kind", RUNS)
def test_a_run_ends_as_it_came_out(ws: Workspace, kind: str) -> None:
    broken = ws.configs / "catalog" / "broken.yaml"
    broken.write_text("offers: [")
    try:
        with pytest.raises(ConfigError) as raised:
            RUNS[kind](ws)
    finally:
        broken.unlink()
    run = _run(ws)
    assert (run.kind, run.status, run.detail["error"]) == (kind, "failed", str(raised.value))
    assert run.finished_at
    RUNS[kind](ws)
    run = _run(ws)
    assert run.status == "succeeded" and run.finished_at
