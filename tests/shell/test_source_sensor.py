"""The sensor of a source: it asks for what is ready there, once, and the run receives it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa

from iotbill_pipelines.config.close import ClosePolicy
from iotbill_pipelines.config.sources import load_sources
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.shell.assembly import build_definitions
from iotbill_pipelines.shell.receiving import RECEIVE_JOB, source_sensor
from iotbill_pipelines.shell.resources import WorkspaceResource
from tests.conftest import ROOT
from tests.shell.test_sensor import RECORD


@pytest.fixture
def ws(tmp_path: Path, postgres_url: str) -> Iterator[Workspace]:
    configs = tmp_path / "configs"
    shutil.copytree(ROOT / "configs" / "feeds", configs / "feeds")
    (configs / "sources").mkdir()
    (tmp_path / "share").mkdir()
    (configs / "sources" / "share.yaml").write_text(
        f"id: share\nurl: {(tmp_path / 'share').as_uri()}\nsettle_seconds: 0\n"
    )
    workspace = Workspace.open(tmp_path / "home", configs, postgres_url, migrate=True)
    yield workspace
    workspace.close()


def test_what_is_ready_at_a_source_is_received_by_one_run(ws: Workspace, tmp_path: Path) -> None:
    (source,) = load_sources(ws.configs).values()
    resource = WorkspaceResource(
        home=str(ws.home), configs=str(ws.configs), database_url=ws.database_url
    )
    definitions = build_definitions(resource, ClosePolicy(), sources=[source])
    assert definitions.resolve_sensor_def("fetch_share").minimum_interval_seconds == 60
    with dg.DagsterInstance.ephemeral() as instance:

        def tick() -> dg.SensorResult | dg.SkipReason:
            context = dg.build_sensor_context(instance, resources={"workspace": resource})
            result = source_sensor(source)(context)
            assert isinstance(result, (dg.SensorResult, dg.SkipReason))
            return result

        nothing = tick()
        assert isinstance(nothing, dg.SkipReason)
        assert (nothing.skip_message or "").startswith("0 files listed")
        (tmp_path / "share" / "accounts.csv").write_text(RECORD)
        asked = tick()
        assert isinstance(asked, dg.SensorResult)
        (request,) = asked.run_requests or []
        assert request.partition_key == str(datetime.now(UTC).date())
        ran = definitions.resolve_job_def(RECEIVE_JOB).execute_in_process(
            instance=instance,
            partition_key=request.partition_key,
            run_config=request.run_config,
            tags=dict(request.tags),
        )
        assert ran.success
        with ws.engine.connect() as connection:
            states = connection.execute(sa.text("select original_name, state from feed_file"))
            assert [tuple(row) for row in states] == [("accounts.csv", "ingested")]
        assert isinstance(tick(), dg.SkipReason)
        (tmp_path / "share").rename(tmp_path / "gone")
        lost = tick()
        assert isinstance(lost, dg.SkipReason)
        assert "is not there; check file://" in (lost.skip_message or "")
