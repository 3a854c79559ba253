"""Receiving files in Dagster: landing and ingestion per day, and the sensor that asks for them."""

import hashlib
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from iotbill_pipelines.shell import rendering
from iotbill_pipelines.shell.closing import OWNERS
from iotbill_pipelines.shell.environment import secret
from iotbill_pipelines.shell.partitions import received_days
from iotbill_pipelines.shell.resources import WorkspaceResource

if TYPE_CHECKING:
    from iotbill_pipelines.config.sources import Source
    from iotbill_pipelines.operations.ingest import Landed
    from iotbill_pipelines.operations.watching import Memory, Waiting
    from iotbill_pipelines.operations.workspace import Workspace

RECEIVE_JOB = "receive_files"
RECEIVE_TAG = "iotbill/receive"
BATCH_TAG = "iotbill/batch"
UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


class LandingConfig(dg.Config):
    """Which files of the landing folder to land, by their path in it; none named = all of them.

    With a ``source``, what is ready there is fetched instead.
    """

    files: list[str] = Field(default_factory=list)
    source: str = ""


@dg.asset(
    group_name="1_receive",
    description="Files as they landed: archived unchanged, known by their digest. Landing the same "
    "bytes again changes nothing.",
    partitions_def=received_days,
    kinds={"file", "postgres"},
    owners=OWNERS,
)
def feed_file(
    context: dg.AssetExecutionContext, config: LandingConfig, workspace: WorkspaceResource
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Land what is in the landing folder or at a source; only today's partition can."""
    from iotbill_pipelines.storage.landing import readable_path

    now = datetime.now(UTC)
    problems: list[str] = []
    with workspace.open(context.run_id) as ws:
        today = context.partition_key == str(now.date())
        if today and config.source:
            landed, problems = _fetched(ws, config.source)
        else:
            landed = _landed(ws, now, config.files) if today else []
    return dg.MaterializeResult(
        metadata={
            "problems": dg.MetadataValue.md("\n".join(f"- {text}" for text in problems)),
            "files": len(landed),
            "new": sum(file.new for file in landed),
            "preview": dg.MetadataValue.md(
                rendering.table(
                    ("file", "feed", "state", "new", "problem"),
                    (
                        (
                            readable_path(file.path.name),
                            file.feed_id,
                            file.state,
                            file.new,
                            file.problem,
                        )
                        for file in landed[: rendering.PREVIEW_ROWS]
                    ),
                )
            ),
        }
    )


@dg.asset(
    group_name="1_receive",
    description="Records of the day's files: accepted usage, rejected records with reasons, vendor "
    "invoice lines, reference data. A file that cannot be read is quarantined and stops no other.",
    deps=[feed_file],
    partitions_def=received_days,
    kinds={"duckdb", "deltalake"},
    owners=OWNERS,
    check_specs=[
        dg.AssetCheckSpec(
            "files_readable",
            asset="usage_record",
            description="no file of the day is quarantined or unrecognised",
        )
    ],
)
def usage_record(
    context: dg.AssetExecutionContext, workspace: WorkspaceResource
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Ingest the day's landed files."""
    from iotbill_pipelines.operations.ingest import ingest

    with workspace.open(context.run_id) as ws:
        result = ingest(ws, date.fromisoformat(context.partition_key))
    failing = [finding for finding in result.findings if finding.severity != "info"]
    return dg.MaterializeResult(
        metadata=rendering.metadata(result),
        check_results=[
            dg.AssetCheckResult(
                check_name="files_readable",
                passed=not failing,
                severity=dg.AssetCheckSeverity.WARN,
                description="; ".join(finding.message for finding in failing[:5]) or None,
            )
        ],
    )


def _landed(ws: "Workspace", now: datetime, names: list[str]) -> list["Landed"]:
    from iotbill_pipelines.operations.ingest import land
    from iotbill_pipelines.operations.watching import settled_files

    return land(ws, settled_files(ws, now, names))


def _fetched(ws: "Workspace", source_id: str) -> tuple[list["Landed"], list[str]]:
    from iotbill_pipelines.operations.fetching import chosen_sources, fetch

    (source,) = chosen_sources(ws, source_id)
    found = fetch(ws, source, secret)
    if found.look.error:
        raise dg.Failure(found.look.error)
    return list(found.landed), list(found.problems)


receive_files = dg.define_asset_job(
    RECEIVE_JOB,
    selection=dg.AssetSelection.assets(feed_file, usage_record),
    description="Land the files of the landing folder and ingest them.",
    tags={RECEIVE_TAG: "files"},
)


# What this process knows of files. Only saves reading it again: see operations/watching.py.
_REMEMBERED: "dict[str, Memory]" = {}


@dg.sensor(
    job=receive_files,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Asks for new files in the landing folder to be received. Decides from what is "
    "recorded of landed files, so a lost cursor, a restart or a file sent twice changes nothing. "
    "Running by default: receiving a file books nothing.",
)
def new_files(
    context: dg.SensorEvaluationContext, workspace: WorkspaceResource
) -> dg.SensorResult | dg.SkipReason:
    """Request one run for a bounded batch of new files, never a second while one is under way."""
    from iotbill_pipelines.operations.watching import Memory, waiting
    from iotbill_pipelines.storage.landing import readable_path

    if busy := _receiving(context.instance):
        return dg.SkipReason(busy)
    now = datetime.now(UTC)
    with workspace.open() as ws:
        memory = _REMEMBERED.setdefault(f"{ws.database_url} {ws.landing}", Memory())
        found = waiting(ws, now, position=context.cursor or None, memory=memory)
        names = [readable_path(str(path.relative_to(ws.landing))) for path in found.files]
    requests = _requests(names, found.days, now.date())
    held_back = [
        reason for request in requests if (reason := _held_back(context.instance, request, now))
    ]
    if not requests or held_back:
        context.update_cursor(found.position or "")
        return dg.SkipReason(held_back[0] if held_back else _nothing(found))
    return dg.SensorResult(run_requests=requests[:1], cursor=found.position or "")


def source_sensor(source: "Source") -> dg.SensorDefinition:
    """The sensor of a configured source: looks at it and asks for what is ready to be received.

    What was seen and landed is remembered in PostgreSQL, so there is no cursor to lose.
    """

    @dg.sensor(
        name=f"fetch_{source.id}",
        job=receive_files,
        minimum_interval_seconds=source.every_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Fetches new files from {source.url}. {source.description} Running by "
        "default: receiving a file books nothing.",
    )
    def fetch_source(
        context: dg.SensorEvaluationContext, workspace: WorkspaceResource
    ) -> dg.SensorResult | dg.SkipReason:
        from iotbill_pipelines.operations.fetching import look

        if busy := _receiving(context.instance):
            return dg.SkipReason(busy)
        now = datetime.now(UTC)
        with workspace.open() as ws:
            found = look(ws, source, secret)
        if found.error:
            return dg.SkipReason(found.error)
        ready = [f"{file.path} {file.version}" for file in found.decision.ready]
        ready += [f"clear {file.path} {file.version}" for file in found.decision.to_clear]
        if not ready:
            return dg.SkipReason(
                f"{found.listed} files listed; {found.decision.unsettled} may still be growing, "
                f"{found.decision.postponed} failed and are tried later"
            )
        request = _request(now.date(), LandingConfig(source=source.id), ready)
        if reason := _held_back(context.instance, request, now):
            return dg.SkipReason(reason)
        return dg.SensorResult(run_requests=[request])

    return fetch_source


def _receiving(instance: dg.DagsterInstance) -> str | None:
    """Why no other run may be asked for: one is receiving files."""
    running = instance.get_runs(
        dg.RunsFilter(tags={RECEIVE_TAG: "files"}, statuses=UNFINISHED), limit=1
    )
    return f"run {running[0].run_id} is receiving files" if running else None


def _requests(names: list[str], days: tuple[date, ...], today: date) -> list[dg.RunRequest]:
    """A run for new files, which are received today, or one for a day with landed ones."""
    wanted = [_request(today, LandingConfig(files=names), names)] if names else []
    return wanted + [_request(day, None, []) for day in days]


def _request(day: date, config: LandingConfig | None, files: list[str]) -> dg.RunRequest:
    return dg.RunRequest(
        partition_key=str(day),
        run_config=dg.RunConfig(ops={"feed_file": config}) if config else None,
        tags={RECEIVE_TAG: "files", BATCH_TAG: _batch(day, files)},
    )


def _batch(day: date, files: list[str]) -> str:
    return hashlib.sha256("\n".join([str(day), *sorted(files)]).encode()).hexdigest()[:16]


def _held_back(instance: dg.DagsterInstance, request: dg.RunRequest, now: datetime) -> str | None:
    """Why a batch that was tried before must wait: twice as long after every try, up to a day."""
    tried = instance.get_run_records(
        dg.RunsFilter(tags={BATCH_TAG: request.tags[BATCH_TAG]}), limit=12
    )
    if not tried:
        return None
    pause = min(timedelta(minutes=2 ** len(tried)), timedelta(days=1))
    again = tried[0].create_timestamp.astimezone(UTC) + pause
    if now >= again:
        return None
    return (
        f"run {tried[0].dagster_run.run_id} was to receive these files and they still wait; "
        f"next try after {again:%Y-%m-%d %H:%M} UTC; see the run's log"
    )


def _nothing(found: "Waiting") -> str:
    parts = ["no new files"]
    if found.unsettled:
        parts.append(f"{len(found.unsettled)} still being written")
    if found.unreadable:
        parts.append(f"unreadable: {', '.join(Path(p).name for p in found.unreadable[:3])}")
    return "; ".join(parts)
