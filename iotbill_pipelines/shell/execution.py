"""Running the close job in this process, on the workspace's instance, with somebody watching."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg

from iotbill_pipelines.config.close import read_close_policy
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.operations.close import CLOSE_STAGES, Stage
from iotbill_pipelines.shell.assembly import build_definitions
from iotbill_pipelines.shell.closing import CATALOG_TAG, CLOSE_JOB, CLOSE_TAG
from iotbill_pipelines.shell.instance import open_instance
from iotbill_pipelines.shell.partitions import accounting_months
from iotbill_pipelines.shell.resources import WorkspaceResource

if TYPE_CHECKING:
    from iotbill_pipelines.operations.workspace import Workspace

Watcher = Callable[[Stage, str], None]
"""Hears of a stage and what happens to it: started, succeeded, failed or skipped."""

_HEARD = {
    dg.DagsterEventType.STEP_START: "started",
    dg.DagsterEventType.STEP_SUCCESS: "succeeded",
    dg.DagsterEventType.STEP_FAILURE: "failed",
    dg.DagsterEventType.STEP_SKIPPED: "skipped",
}


@dataclass(frozen=True)
class CloseRun:
    """How a close job ended. ``error`` is what stopped it, other than a gate, and its class."""

    run_id: str
    succeeded: bool
    error: str | None
    error_class: str | None


def check_month(period: Month) -> None:
    """Raise ValueError for a month that cannot be closed: one that has not begun."""
    months = accounting_months.get_partition_keys()
    if str(period) not in months:
        raise ValueError(f"{period} cannot be closed; closable are {months[0]} to {months[-1]}")


def execute_close(ws: "Workspace", period: Month, watch: Watcher) -> CloseRun:
    """Run the close job for a month; every stage, gate and event is kept in the instance."""
    check_month(period)
    resource = WorkspaceResource.of(ws)
    # What goes wrong is told from the result, once, and not by a log on the console too.
    definitions = build_definitions(resource, read_close_policy(ws.configs), "CRITICAL")
    job = definitions.resolve_job_def(CLOSE_JOB)
    stages = {stage.asset: stage for stage in CLOSE_STAGES}
    run_id = str(uuid.uuid4())

    def hear(entry: dg.EventLogEntry) -> None:
        event = entry.dagster_event
        if event is None or event.step_key is None:
            return
        happened = _HEARD.get(event.event_type)
        if happened and event.step_key in stages:
            watch(stages[event.step_key], happened)

    with open_instance(ws) as instance:
        instance.add_event_listener(run_id, hear)
        result = job.execute_in_process(
            instance=instance,
            partition_key=str(period),
            run_id=run_id,
            raise_on_error=False,
            tags={
                CLOSE_TAG: "month",
                "iotbill/actor": ws.actor,
                **({CATALOG_TAG: ws.catalog_digest} if ws.catalog_digest else {}),
            },
            # A logger that the run does not name gives way to Dagster's own, which tells all.
            run_config={"loggers": {"console": {}}},
        )
    return CloseRun(run_id, result.success, *error_of(result))


def error_of(result: "dg.ExecuteInProcessResult") -> tuple[str | None, str | None]:
    """Return what failed a run, other than a check, and its class."""
    for event in result.all_events:
        if event.is_step_failure and event.step_failure_data.error is not None:
            error = event.step_failure_data.error
            if error.cls_name == "DagsterAssetCheckFailedError":
                continue
            cause = error.cause or error
            # Dagster puts the class in front of the message, with its module if it has one.
            name = (cause.cls_name or "").rpartition(".")[2]
            said = cause.message.strip().partition(f"{name}: ")[2] or cause.message.strip()
            return f"{event.step_key}: {said}", name
    return None, None
