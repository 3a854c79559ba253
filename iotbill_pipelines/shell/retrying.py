"""Suspense in Dagster: rated again when inventory, contracts or prices change."""

import dagster as dg

from iotbill_pipelines.shell import rendering
from iotbill_pipelines.shell.receiving import UNFINISHED
from iotbill_pipelines.shell.resources import WorkspaceResource

RETRY_JOB = "retry_suspense"
RETRY_TAG = "iotbill/retry"


@dg.op(
    description="Rate the months that hold suspended usage again with what is known now. What that "
    "fixes is charged by the next close.",
)
def rate_suspended_months(context: dg.OpExecutionContext, workspace: WorkspaceResource) -> None:
    """Retry, and show what was fixed and what still waits."""
    from iotbill_pipelines.operations.suspense import retry

    with workspace.open(context.run_id) as ws:
        result = retry(ws)
    rows = [
        (label, reason, count)
        for label, counts in (
            ("no longer suspended", result.fixed),
            ("suspended still", result.still),
            ("newly suspended", result.new),
        )
        for reason, count in counts.items()
    ]
    context.add_output_metadata(
        {
            "months": ", ".join(result.months) or "none changed",
            "records": dg.MetadataValue.md(rendering.table(("", "reason", "records"), rows)),
        }
    )


@dg.job(
    name=RETRY_JOB,
    description="Rate suspended usage again with the reference data and catalog of now.",
    tags={RETRY_TAG: "suspense"},
)
def retry_suspense() -> None:
    rate_suspended_months()


@dg.sensor(
    job=retry_suspense,
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Retries suspended usage when reference data or the catalog changed since the last "
    "retry, by what is recorded of it: a lost cursor or a restart changes nothing. Running by "
    "default: a retry books nothing.",
)
def changed_knowledge(
    context: dg.SensorEvaluationContext, workspace: WorkspaceResource
) -> dg.RunRequest | dg.SkipReason:
    """Request one retry for each state of knowledge, never a second while one is under way."""
    from iotbill_pipelines.operations.suspense import retry_due

    running = context.instance.get_runs(
        dg.RunsFilter(tags={RETRY_TAG: "suspense"}, statuses=UNFINISHED), limit=1
    )
    if running:
        return dg.SkipReason(f"run {running[0].run_id} is retrying suspense")
    with workspace.open() as ws:
        due = retry_due(ws)
    if due is None:
        return dg.SkipReason("nothing is suspended, or nothing has changed that could fix it")
    # the run key: a retry that fails is not asked for again until something changes
    return dg.RunRequest(run_key=due)
