"""The close in Dagster: an asset per stage with its gates as checks, the job, the schedule."""

from collections.abc import Iterator
from datetime import date, datetime
from zoneinfo import ZoneInfo

import dagster as dg

from iotbill_pipelines.config.close import SchedulePolicy, read_close_policy
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.operations.calendar import business_day
from iotbill_pipelines.operations.close import CLOSE_STAGES, Stage, mart_descriptions, run_stage
from iotbill_pipelines.operations.stages import StageResult
from iotbill_pipelines.shell import rendering
from iotbill_pipelines.shell.partitions import accounting_months
from iotbill_pipelines.shell.resources import WorkspaceResource

OWNERS = ["team:finance-operations"]
CLOSE_JOB = "close_month"
CLOSE_TAG = "iotbill/close"
"""Tag that the instance limits to one run at a time: see configs/dagster/instance.yaml."""
CATALOG_TAG = "iotbill/catalog"
"""Tag of a run that prices by a kept catalog version: its digest."""


def close_asset(stage: Stage) -> dg.AssetsDefinition:
    """The asset of a stage, with its tables: calls its operation and shows what it returned."""

    @dg.multi_asset(
        name=stage.asset,
        specs=[
            dg.AssetSpec(
                stage.asset,
                group_name=stage.group,
                description=f"{stage.about} Made by `{stage.module}.{stage.name}`; safe to run "
                "again: it does only what is missing.",
                deps=stage.reads,
                kinds=set(stage.kinds),
                owners=OWNERS,
            ),
            *(
                dg.AssetSpec(
                    table,
                    group_name=stage.group,
                    description=f"{mart_descriptions()[table]} A table of PostgreSQL's schema "
                    "`marts`, with data tests in `dbt_project`.",
                    deps=stage.reads,
                    kinds=set(stage.kinds),
                    owners=OWNERS,
                )
                for table in stage.tables
            ),
        ],
        partitions_def=accounting_months,
        check_specs=[
            dg.AssetCheckSpec(
                gate.code,
                asset=stage.asset,
                description=f"{gate.title}.",
                # An ERROR stops the close here; configs/close.yaml decides on the severity.
                blocking=True,
            )
            for gate in stage.all_gates
        ],
    )
    def close_stage(
        context: dg.AssetExecutionContext, workspace: WorkspaceResource
    ) -> Iterator[dg.MaterializeResult]:  # type: ignore[type-arg]
        from iotbill_pipelines.storage.machine import as_machine_error

        catalog = context.run.tags.get(CATALOG_TAG)
        with as_machine_error(), workspace.open(context.run_id, actor_of(context), catalog) as ws:
            result = run_stage(ws, Month.parse(context.partition_key), stage)
            policy = read_close_policy(ws.configs)
        yield dg.MaterializeResult(
            asset_key=stage.asset,
            metadata=rendering.metadata(result),
            check_results=rendering.check_results(stage, result, policy),
        )
        for table in stage.tables:
            yield dg.MaterializeResult(
                asset_key=table,
                metadata={
                    "dagster/row_count": result.rows.get(table, 0),
                    **rendering.metadata(result.tables.get(table, StageResult())),
                },
            )

    return close_stage


def actor_of(context: dg.AssetExecutionContext) -> str:
    """Return who asked for a run."""
    return context.run.tags.get("user") or context.run.tags.get("iotbill/actor") or "dagster"


close_assets = [close_asset(stage) for stage in CLOSE_STAGES]

close_month = dg.define_asset_job(
    CLOSE_JOB,
    selection=dg.AssetSelection.assets(*close_assets),
    description="Close a month: rate, settle, book, invoice, reconcile, post, report.",
    tags={CLOSE_TAG: "month"},
)


def close_schedule(policy: SchedulePolicy) -> dg.ScheduleDefinition:
    """Close the month before on a business day of the month.

    Stopped until somebody starts it in Dagster: a close books money, and whether the carriers'
    files are in is a person's call until the completeness gate is trusted.
    """

    @dg.schedule(
        job=close_month,
        name="close_last_month",
        cron_schedule=f"0 {policy.hour} * * *",
        execution_timezone=policy.time_zone,
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description=f"Closes the month before on business day {policy.business_day}.",
    )
    def close_last_month(
        context: dg.ScheduleEvaluationContext,
    ) -> dg.RunRequest | dg.SkipReason:
        today = _local_date(context.scheduled_execution_time, policy.time_zone)
        due = business_day(Month.of(today), policy.business_day, policy.holidays_of)
        if today != due:
            return dg.SkipReason(f"{today} is not the close's day; that is {due}")
        return dg.RunRequest(partition_key=str(Month.of(today) - 1))

    return close_last_month


def _local_date(moment: datetime, zone: str) -> date:
    return moment.astimezone(ZoneInfo(zone)).date()


MOVE_JOB = "move_periods"


@dg.op(description="Soft-close what is past its cut-off; take into review what is due and clean.")
def move_due_periods(context: dg.OpExecutionContext, workspace: WorkspaceResource) -> None:
    """Move periods as configs/close.yaml says, and show which."""
    from iotbill_pipelines.operations.periods import review_due, soft_close_due

    with workspace.open(context.run_id) as ws:
        moved = [*soft_close_due(ws), *review_due(ws)]
    rows = [(move.entity_id, move.period, move.from_state, move.to_state) for move in moved]
    context.add_output_metadata(
        {"moved": dg.MetadataValue.md(rendering.table(("entity", "period", "from", "to"), rows))}
    )


@dg.job(
    name=MOVE_JOB,
    description="Move accounting periods whose day has come, as the person `dagster`.",
    tags={CLOSE_TAG: "month"},
)
def move_periods() -> None:
    move_due_periods()


def move_schedule(policy: SchedulePolicy) -> dg.ScheduleDefinition:
    """Move periods once a day; on where ``schedule.move_periods`` of configs/close.yaml says so."""
    return dg.ScheduleDefinition(
        name="move_due_periods",
        job=move_periods,
        cron_schedule=f"30 {policy.hour} * * *",
        execution_timezone=policy.time_zone,
        default_status=dg.DefaultScheduleStatus.RUNNING
        if policy.move_periods
        else dg.DefaultScheduleStatus.STOPPED,
        description="open -> soft_closed at the cut-off, soft_closed -> in_review on its business "
        "day if nothing blocks. Signing off is a person's.",
    )
