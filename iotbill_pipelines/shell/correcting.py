"""Corrections in Dagster: an asset a usage period, its backfill, the sensor that proposes it."""

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.storage.tags import BACKFILL_ID_TAG

from iotbill_pipelines.config.close import read_close_policy
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.shell import rendering
from iotbill_pipelines.shell.closing import CLOSE_TAG, OWNERS, actor_of
from iotbill_pipelines.shell.instance import open_instance
from iotbill_pipelines.shell.partitions import accounting_months
from iotbill_pipelines.shell.resources import WorkspaceResource

if TYPE_CHECKING:
    from iotbill_pipelines.operations.corrections import Selection
    from iotbill_pipelines.operations.workspace import Workspace

CORRECT_JOB = "correct_usage_period"
ASSET = "correction"


class CorrectionConfig(dg.Config):
    """Which units to correct; left empty, all of them."""

    account: str = ""
    price: str = ""
    feed: str = ""


@dg.asset(
    name=ASSET,
    group_name="4_book",
    description="A settled usage period rated and settled again; the differences of the chosen "
    "units are booked in the open accounting period. The partition is the usage period. "
    "`iotbill rerate` shows what it comes to and launches it; a second run books nothing.",
    partitions_def=accounting_months,
    kinds={"duckdb", "postgres"},
    owners=OWNERS,
)
def correction(
    context: dg.AssetExecutionContext, config: CorrectionConfig, workspace: WorkspaceResource
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Correct one usage period."""
    from iotbill_pipelines.operations.corrections import Selection, correct_period
    from iotbill_pipelines.storage.machine import as_machine_error

    chosen = Selection(config.account or None, config.price or None, config.feed or None)
    with as_machine_error(), workspace.open(context.run_id, actor_of(context)) as ws:
        result = correct_period(ws, Month.parse(context.partition_key), chosen)
    return dg.MaterializeResult(metadata=rendering.metadata(result))


correct_usage_period = dg.define_asset_job(
    CORRECT_JOB,
    selection=dg.AssetSelection.assets(correction),
    description="Book the differences of a usage period in the open accounting period.",
    tags={CLOSE_TAG: "month"},
)


@dataclass(frozen=True)
class Backfill:
    """How a backfill ended: its runs by usage period, the first error, and its class."""

    backfill_id: str
    runs: list[tuple[str, str]]
    error: str | None
    error_class: str | None


def execute_backfill(
    ws: "Workspace",
    periods: Sequence[Month],
    selection: "Selection",
    watch: Callable[[Month], None] = lambda _month: None,
) -> Backfill:
    """Run the correction of usage periods as one Dagster backfill, oldest first, in this process.

    Stops at the first that fails; what was booked stays, and running again goes on.
    """
    from iotbill_pipelines.shell.assembly import build_definitions
    from iotbill_pipelines.shell.execution import error_of

    resource = WorkspaceResource.of(ws)
    definitions = build_definitions(resource, read_close_policy(ws.configs), "CRITICAL")
    job = definitions.resolve_job_def(CORRECT_JOB)
    backfill_id = uuid.uuid4().hex[:8]
    config = CorrectionConfig(
        account=selection.account or "", price=selection.price or "", feed=selection.feed or ""
    )
    done: list[tuple[str, str]] = []
    error = error_class = None
    with open_instance(ws) as instance:
        backfill = PartitionBackfill.from_asset_partitions(
            backfill_id=backfill_id,
            asset_graph=definitions.resolve_asset_graph(),
            partition_names=[str(period) for period in periods],
            asset_selection=[dg.AssetKey(ASSET)],
            backfill_timestamp=time.time(),
            tags={"iotbill/actor": ws.actor},
            dynamic_partitions_store=instance,
            all_partitions=False,
            title=f"Correct {periods[0]} to {periods[-1]}",
            description="Launched by iotbill rerate",
            run_config=None,
        )
        # Not REQUESTED: this process runs it, a daemon must not start it too.
        backfill = _with_status(backfill, BulkActionStatus.CANCELED)
        instance.add_backfill(backfill)
        for period in periods:
            watch(period)
            run_id = str(uuid.uuid4())
            result = job.execute_in_process(
                instance=instance,
                partition_key=str(period),
                run_id=run_id,
                raise_on_error=False,
                run_config=dg.RunConfig(ops={ASSET: config}),
                tags={CLOSE_TAG: "month", "iotbill/actor": ws.actor, BACKFILL_ID_TAG: backfill_id},
            )
            done.append((str(period), run_id))
            if not result.success:
                error, error_class = error_of(result)
                break
        ended = BulkActionStatus.COMPLETED_FAILED if error else BulkActionStatus.COMPLETED_SUCCESS
        instance.update_backfill(_with_status(backfill, ended))
    return Backfill(backfill_id, done, error, error_class)


def _with_status(backfill: PartitionBackfill, status: BulkActionStatus) -> PartitionBackfill:
    changed: PartitionBackfill = backfill.with_status(status)  # type: ignore[no-untyped-call]
    return changed


@dg.sensor(
    minimum_interval_seconds=300,
    job=correct_usage_period,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Notices a catalog that changes what is booked of earlier months, and proposes the "
    "run that corrects them; it launches the run itself only where `corrections.catalog_changes` "
    "of configs/close.yaml says `book`.",
)
def changed_catalog(
    context: dg.SensorEvaluationContext, workspace: WorkspaceResource
) -> dg.SensorResult | dg.SkipReason:
    """Say which command would correct what, for a person to decide; or ask for the runs."""
    from iotbill_pipelines.operations.corrections import proposal

    with workspace.open() as ws:
        proposed = proposal(ws)
        policy = read_close_policy(ws.configs).corrections
    if proposed is None:
        return dg.SkipReason("the catalog changes nothing of what is booked")
    told = f"{proposed.message}: `{proposed.command}` shows what changes"
    if policy.catalog_changes == "propose":
        # Not logged beside: a tick's log is a file that nothing deletes, every five minutes.
        return dg.SkipReason(told)
    context.log.info(told)
    return dg.SensorResult(
        run_requests=[
            dg.RunRequest(run_key=f"{proposed.catalog_digest} {period}", partition_key=period)
            for period in proposed.usage_periods
        ]
    )
