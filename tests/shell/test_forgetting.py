"""Old runs that are no evidence go, with their events and logs; runs of closes stay."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import dagster as dg
import pytest
import sqlalchemy as sa

from iotbill_pipelines.config.close import ClosePolicy
from iotbill_pipelines.config.documents import ConfigError
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.shell.assembly import build_definitions
from iotbill_pipelines.shell.closing import CLOSE_JOB, MOVE_JOB
from iotbill_pipelines.shell.correcting import CORRECT_JOB
from iotbill_pipelines.shell.forgetting import FORGET_JOB, forget_runs, forget_schedule
from iotbill_pipelines.shell.instance import kept_days, open_instance
from iotbill_pipelines.shell.receiving import RECEIVE_JOB
from iotbill_pipelines.shell.resources import WorkspaceResource
from iotbill_pipelines.shell.retrying import RETRY_JOB
from tests.conftest import ROOT

_AGE = "update dagster.runs set create_timestamp = create_timestamp - interval '91 days'"


@pytest.fixture
def ws(tmp_path: Path, postgres_url: str) -> Iterator[Workspace]:
    workspace = Workspace.open(tmp_path / "home", ROOT / "configs", postgres_url, migrate=True)
    yield workspace
    workspace.close()


@dg.op
def _nothing() -> None: ...


def _evidence(instance: dg.DagsterInstance, name: str) -> str:
    """A run of a job of that name, which leaves what runs leave without what closes need."""
    job = dg.GraphDefinition(name=name, node_defs=[_nothing]).to_job()
    return job.execute_in_process(instance=instance).run_id


def _traces(ws: Workspace, run_id: str) -> list[str]:
    """What is left of a run among Dagster's files."""
    return [str(path) for path in ws.dagster_home.rglob("*") if run_id in path.name]


def test_the_nightly_run_forgets_what_is_old_and_no_evidence(ws: Workspace) -> None:
    resource = WorkspaceResource(
        home=str(ws.home), configs=str(ws.configs), database_url=ws.database_url
    )
    definitions = build_definitions(resource, ClosePolicy(), "CRITICAL")
    with open_instance(ws) as instance:

        def run(job: str, **options: Any) -> str:
            result = definitions.resolve_job_def(job).execute_in_process(
                instance=instance, **options
            )
            assert result.success
            return result.run_id

        def nightly() -> tuple[str, Any]:
            due = dg.build_schedule_context(scheduled_execution_time=ws.clock())
            (request,) = forget_schedule.evaluate_tick(due).run_requests or []
            done = run(FORGET_JOB, run_config=request.run_config, tags=dict(request.tags))
            (told,) = instance.all_logs(done, of_type=dg.DagsterEventType.STEP_OUTPUT)
            metadata = told.get_dagster_event().step_output_data.metadata
            return done, metadata["deleted runs"].value

        old = [run(RECEIVE_JOB, partition_key=str(ws.today)), run(RETRY_JOB), run(MOVE_JOB)]
        evidence = [_evidence(instance, name) for name in (CLOSE_JOB, CORRECT_JOB)]
        first, deleted = nightly()
        assert deleted == 0
        assert all(instance.all_logs(one) and _traces(ws, one) for one in old)
        with ws.engine.begin() as connection:
            connection.execute(sa.text(_AGE))
        young = run(RETRY_JOB)
        second, deleted = nightly()
        assert deleted == 4
        kept = {*evidence, young, second}
        assert {one.run_id for one in instance.get_runs()} == kept
        for one in (*old, first):
            assert not instance.all_logs(one) and not _traces(ws, one)
        assert all(instance.all_logs(one) and _traces(ws, one) for one in kept)


def test_a_run_under_way_is_left_alone() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        for status in (dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING):
            instance.add_run(dg.DagsterRun(job_name=RECEIVE_JOB, status=status))
        assert forget_runs(instance, datetime(2100, 1, 1, tzinfo=UTC)) == 0
        assert len(instance.get_runs()) == 2


def test_how_long_is_configured(tmp_path: Path) -> None:
    def days(configs: Path) -> int | None:
        return kept_days(cast(Any, SimpleNamespace(configs=configs)))

    assert days(ROOT / "configs") == 90
    assert days(tmp_path) is None
    (tmp_path / "dagster").mkdir()
    (tmp_path / "dagster" / "instance.yaml").write_text("iotbill: {receive_runs_days: 0}\n")
    with pytest.raises(ConfigError, match=r"receive_runs_days.*above zero"):
        days(tmp_path)
