"""The sensor that tells people what is wrong: what is due goes out whoever found it."""

import dagster as dg

from iotbill_pipelines.shell.environment import secret
from iotbill_pipelines.shell.resources import WorkspaceResource


@dg.sensor(
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Sends what configs/alerts.yaml routes: one message an incident, one when it "
    "clears. What was told is in PostgreSQL, so a restart tells nobody twice.",
)
def send_alerts(context: dg.SensorEvaluationContext, workspace: WorkspaceResource) -> dg.SkipReason:
    """Send what is due; a channel that fails is logged and tried again later."""
    from iotbill_pipelines.operations.alerts import send_alerts as send

    with workspace.open() as ws:
        sent = send(ws, secret)
    for one in sent:
        if one.error:
            context.log.warning(f"channel {one.channel} failed: {one.error}")
    told = [
        f"{one.channel}: {one.new} new, {one.again} still open, {one.cleared} cleared"
        for one in sent
        if not one.error
    ]
    failed = [f"{one.channel} failed: {one.error}" for one in sent if one.error]
    return dg.SkipReason("; ".join(told + failed) or "nobody is due a message")
