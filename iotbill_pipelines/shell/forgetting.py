"""Runs that nobody needs any more: Dagster's event log kept in bounds.

Receiving files makes a run every half minute of a busy day, and each writes some forty events. What
was received is in our own tables for good; the runs tell how, and for how long they do is said in
``configs/dagster/instance.yaml``. Runs of closes and corrections are evidence and stay.
"""

from datetime import UTC, datetime, timedelta

import dagster as dg

from iotbill_pipelines.shell.instance import kept_days
from iotbill_pipelines.shell.receiving import RECEIVE_TAG
from iotbill_pipelines.shell.resources import WorkspaceResource
from iotbill_pipelines.shell.retrying import RETRY_TAG

BATCH = 200
"""So many runs are deleted before it is looked for more: each one is a transaction or two."""

_FINISHED = [
    dg.DagsterRunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE,
    dg.DagsterRunStatus.CANCELED,
]


def forget_runs(instance: dg.DagsterInstance, before: datetime) -> int:
    """Delete finished runs that received files or retried suspense, with their events.

    Those created before a moment are deleted; return how many.
    """
    deleted = 0
    for tags in ({RECEIVE_TAG: "files"}, {RETRY_TAG: "suspense"}):
        wanted = dg.RunsFilter(tags=tags, statuses=_FINISHED, created_before=before)
        while runs := instance.get_runs(wanted, limit=BATCH):
            for run in runs:
                instance.delete_run(run.run_id)
            deleted += len(runs)
    return deleted


@dg.op(description="Delete runs of receiving files and of retries that are older than configured.")
def forget_old_runs(context: dg.OpExecutionContext, workspace: WorkspaceResource) -> None:
    """Apply the retention of configs/dagster/instance.yaml."""
    with workspace.open(context.run_id) as ws:
        days = kept_days(ws)
    deleted = forget_runs(context.instance, datetime.now(UTC) - timedelta(days=days)) if days else 0
    context.add_output_metadata({"deleted runs": deleted, "kept days": days or "all"})


@dg.job(
    name="forget_runs",
    description="Keep Dagster's event log in bounds: delete old runs that are no evidence.",
)
def forget_runs_job() -> None:
    forget_old_runs()


forget_schedule = dg.ScheduleDefinition(
    name="forget_old_runs",
    job=forget_runs_job,
    cron_schedule="15 3 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Deletes runs of receiving files and of retries after iotbill.receive_runs_days of "
    "configs/dagster/instance.yaml. Runs of closes and corrections stay.",
)
