"""Runs that nobody needs any more: Dagster's event log and the logs of its steps kept in bounds.

Receiving files makes a run every half minute of a busy day, and each writes some forty events and
three files. What was received is in our own tables for good; the runs tell how, and for how long
they do is said in ``configs/dagster/instance.yaml``. So are retries and moved periods: a move is a
period's event, with who and why, in the database. Runs of closes and corrections are evidence and
stay.
"""

from datetime import datetime, timedelta

import dagster as dg

from iotbill_pipelines.shell.closing import MOVE_JOB
from iotbill_pipelines.shell.instance import kept_days
from iotbill_pipelines.shell.receiving import RECEIVE_JOB
from iotbill_pipelines.shell.resources import WorkspaceResource
from iotbill_pipelines.shell.retrying import RETRY_JOB

BATCH = 200
"""So many runs are deleted before it is looked for more: each one is a transaction or two."""

FORGET_JOB = "forget_runs"
FORGOTTEN_JOBS = (RECEIVE_JOB, RETRY_JOB, MOVE_JOB, FORGET_JOB)
"""By the job and not by a tag: runs that move periods have the closes' tag, to wait for them."""

_FINISHED = [
    dg.DagsterRunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE,
    dg.DagsterRunStatus.CANCELED,
]


def forget_runs(instance: dg.DagsterInstance, before: datetime) -> int:
    """Delete finished runs that are no evidence, with their events and what their steps printed.

    Those created before a moment are deleted; return how many.
    """
    deleted = 0
    for job in FORGOTTEN_JOBS:
        wanted = dg.RunsFilter(job_name=job, statuses=_FINISHED, created_before=before)
        while runs := instance.get_runs(wanted, limit=BATCH):
            for run in runs:
                # First, for without its run nothing leads to them again.
                instance.compute_log_manager.delete_logs(prefix=[run.run_id])
                instance.delete_run(run.run_id)
            deleted += len(runs)
    return deleted


@dg.op(description="Delete runs that are no evidence and older than configured.")
def forget_old_runs(context: dg.OpExecutionContext, workspace: WorkspaceResource) -> None:
    """Apply the retention of configs/dagster/instance.yaml."""
    with workspace.open(context.run_id) as ws:
        days, now = kept_days(ws), ws.clock()
    deleted = forget_runs(context.instance, now - timedelta(days=days)) if days else 0
    context.add_output_metadata({"deleted runs": deleted, "kept days": days or "all"})


@dg.job(
    name=FORGET_JOB,
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
    description="Deletes runs that received files, retried suspense, moved periods or deleted runs "
    "after iotbill.receive_runs_days of configs/dagster/instance.yaml. Runs of closes and "
    "corrections stay.",
)
