"""Everything that Dagster serves, put together for one workspace."""

import warnings
from collections.abc import Iterable

import dagster as dg

from iotbill_pipelines.config.close import ClosePolicy
from iotbill_pipelines.config.sources import Source
from iotbill_pipelines.shell.alerting import send_alerts
from iotbill_pipelines.shell.closing import (
    close_assets,
    close_month,
    close_schedule,
    move_periods,
    move_schedule,
)
from iotbill_pipelines.shell.correcting import changed_catalog, correct_usage_period, correction
from iotbill_pipelines.shell.forgetting import forget_runs_job, forget_schedule
from iotbill_pipelines.shell.receiving import (
    feed_file,
    new_files,
    receive_files,
    source_sensor,
    usage_record,
)
from iotbill_pipelines.shell.resources import WorkspaceResource
from iotbill_pipelines.shell.retrying import changed_knowledge, retry_suspense

# Dagster copies sensors by a parameter of its own that it calls beta: nothing for a user to act on.
warnings.filterwarnings("ignore", r"Parameter `owners` of initializer `SensorDefinition")


def build_definitions(
    workspace: WorkspaceResource,
    policy: ClosePolicy,
    log_level: str = "WARNING",
    sources: Iterable[Source] = (),
) -> dg.Definitions:
    """Return the code location: assets, jobs, sensors, schedule; every job runs in one process.

    A process per step costs 8 s a step on 2 cores, more than most steps themselves. ``log_level``
    is the console's; the event log has everything.
    """
    return dg.Definitions(
        assets=[feed_file, usage_record, *close_assets, correction],
        jobs=[
            *(receive_files, close_month, retry_suspense, correct_usage_period, move_periods),
            forget_runs_job,
        ],
        sensors=[
            new_files,
            changed_knowledge,
            changed_catalog,
            send_alerts,
            *map(source_sensor, sources),
        ],
        schedules=[
            close_schedule(policy.schedule),
            move_schedule(policy.schedule),
            forget_schedule,
        ],
        resources={"workspace": workspace},
        executor=dg.in_process_executor,
        loggers={"console": dg.colored_console_logger.configured({"log_level": log_level})},
    )
