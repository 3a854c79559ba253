"""Data quality of a month's feeds: expectations of each feed-day, with Data Docs to look at.

A feed-day is a UTC day of a feed's usage. Its profile is made by one pass over the month's records
and kept in PostgreSQL, where the days of later months are compared with it. What is expected stands
under ``expect`` in each feed; what must not be billed was rejected record by record before.

Great Expectations runs on the profile, once per close and only if something changed: importing it
takes longer than everything it checks (:mod:`operations.expectations`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from statistics import median_low
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from iotbill_pipelines.config.close import read_close_policy
from iotbill_pipelines.config.feeds import load_feeds
from iotbill_pipelines.engine.feeds.spec import FeedSpec
from iotbill_pipelines.engine.schemas import USAGE_RECORD, Table
from iotbill_pipelines.engine.validate.profile import LANDED_FILE, OPTIONAL, profile
from iotbill_pipelines.operations import fingerprints, runs
from iotbill_pipelines.operations.basis import keep
from iotbill_pipelines.operations.deliveries import missing_files
from iotbill_pipelines.operations.stages import Finding, Severity, StageResult
from iotbill_pipelines.operations.table_schema import pandera_schema
from iotbill_pipelines.operations.usage import file_key_of
from iotbill_pipelines.storage.models import FeedDayFailure, FeedDayProfile, FeedFile

if TYPE_CHECKING:
    from iotbill_pipelines.engine.calendars import Month
    from iotbill_pipelines.operations.workspace import Workspace

STAGE = "check_feeds"
DOCS = "data_docs"
BASIS = ".data_docs.json"
SAMPLE_ROWS = 20_000
"""Records that pandera sees of a month: a bounded batch, whatever its size."""


@dataclass(frozen=True)
class FeedDay:
    """The profile of a feed on a UTC day. ``quantities`` are (records, sum, greatest) by class.

    ``missing`` tells which files of a due delivery have not come; empty if all have.
    """

    feed_id: str
    day: date
    files: int = 0
    records: int = 0
    rejected: int = 0
    ignored: int = 0
    reject_per_million: int = 0
    identifiers: int = 0
    nulls: Mapping[str, int] | None = None
    quantities: Mapping[str, tuple[int, int, int]] | None = None
    volume_percent: int | None = None
    usual_records: int | None = None
    missing: int = 0


@dataclass(frozen=True)
class Expectation:
    """An expectation of a column of the profile: ``low <= value <= high``, in words too."""

    column: str
    low: int | None
    high: int | None
    words: str


@dataclass(frozen=True)
class Failure:
    """A feed-day that breaks an expectation, with the value it has."""

    feed_id: str
    day: date
    column: str
    value: int
    words: str


@dataclass(frozen=True)
class LandedFile:
    """A file whose rejected and ignored records count in a month."""

    file_key: int
    feed_id: str
    received_day: date
    records_in: int
    ignored: int
    rejected: int


@dataclass(frozen=True)
class Stood:
    """What a month's pages show that its records do not tell (:mod:`operations.basis`).

    When they were made, the files whose records they count, what was ingested, rejected and missing
    by then, and the records of the earlier days that they are compared with.
    """

    checked_at: datetime
    file_keys: list[int]
    landed: list[LandedFile]
    missing: list[tuple[str, date, int]]
    history: list[tuple[str, date, int]]


def check_quality(ws: Workspace, period: Month) -> StageResult:
    """Check the feed-days of a UTC month outside of a close, as a run of its own."""
    with runs.whole(ws, "quality", period, stage=STAGE), runs.stage_lock(ws, period):
        return check_feeds(ws, period)


def check_feeds(ws: Workspace, period: Month) -> StageResult:
    """Check every feed-day of the UTC month ``period``; write Data Docs beside its report.

    Findings: ``data_quality`` per feed-day and expectation (configs/close.yaml decides whether
    they block), ``table_schema`` (block) for records that break their table's schema. The same
    inputs again give what was found before, at once.
    """
    feeds = load_feeds(ws.configs / "feeds")
    severity = read_close_policy(ws.configs).data_quality
    landed = _landed(ws, period)
    missing = {
        (one.feed_id, one.day): max(one.due - one.came, len(one.numbers))
        for one in missing_files(ws, ws.clock(), since=period.start)
        if one.day < period.end
    }
    detail = _inputs(ws, period, feeds, severity, landed, missing)
    index = ws.out(period) / DOCS / "index.html"
    basis = ws.out(period) / BASIS
    unchanged = fingerprints.recorded(ws, STAGE).get(period) == fingerprints.fingerprint(detail)
    if unchanged and index.is_file() and basis.is_file():
        stored = _stored_days(ws, period)
        return _result(stored, _stored_findings(ws, period), [index], changed=False)
    fingerprints.forget(ws, STAGE, period)
    files = ws.lake.files(USAGE_RECORD, usage_month=str(period))
    days, sample = _profiled(ws, files, landed)
    stood = Stood(
        ws.clock(),
        sorted({file_key_of(file) for file in files}),
        [LandedFile(**row) for row in landed.to_pylist()],
        [(feed_id, day, count) for (feed_id, day), count in sorted(missing.items())],
        _history(ws, period),
    )
    judged = _judged(days, stood, feeds)
    failures: list[Failure] = []
    if any(day.feed_id in feeds for day in judged):
        failures = _held(judged, feeds, index.parent, stood.checked_at)
    keep(basis, stood)
    findings = [finding_of(failure, severity) for failure in failures]
    # feeds that deliver credits are exempt by their own bounds, checked record by record
    credits = any(spec.bounds.allow_negative for spec in feeds.values())
    broken = check_table(USAGE_RECORD, sample, allow_negative=credits)
    with ws.engine.begin() as connection:
        _store(connection, ws, period, judged, failures, findings)
        if not broken:
            fingerprints.remember(connection, ws, STAGE, period, detail)
    return _result(judged, [*findings, *broken], [index] if index.is_file() else [])


def of_day(result: StageResult, day: date) -> StageResult:
    """Return what a month's result says of one day."""
    preview = result.preview
    if preview is not None:
        preview = preview.filter(pa.array([value == day for value in preview["day"].to_pylist()]))
    return replace(
        result,
        rows={"feed-days": preview.num_rows if preview is not None else 0},
        preview=preview,
        findings=[found for found in result.findings if f" {day}: " in found.message],
    )


# ------------------------------------------------------------------------------ the profile


def _landed(ws: Workspace, period: Month) -> pa.Table:
    """The files whose rejected records count in this month: the first that they touch."""
    first_month = FeedFile.usage_months[1] == str(period)
    no_month = sa.func.coalesce(sa.func.cardinality(FeedFile.usage_months), 0) == 0
    received = FeedFile.received_day.between(period.start, period.end - timedelta(days=1))
    select = (
        sa.select(
            FeedFile.file_key,
            FeedFile.feed_id,
            FeedFile.received_day,
            sa.func.coalesce(FeedFile.records_in, 0).label("records_in"),
            sa.func.coalesce(FeedFile.ignored, 0).label("ignored"),
            sa.func.coalesce(FeedFile.rejected, 0).label("rejected"),
        )
        .where(FeedFile.state == "ingested", first_month | (no_month & received))
        .where(FeedFile.feed_id.in_(_usage_feeds(ws)))
        .order_by(FeedFile.file_key)
    )
    with ws.engine.connect() as connection:
        rows = [dict(row) for row in connection.execute(select).mappings()]
    return pa.Table.from_pylist(rows, schema=LANDED_FILE)


def _usage_feeds(ws: Workspace) -> list[str]:
    feeds = load_feeds(ws.configs / "feeds")
    return [feed_id for feed_id, spec in feeds.items() if spec.target == USAGE_RECORD.name]


def _inputs(
    ws: Workspace,
    period: Month,
    feeds: Mapping[str, FeedSpec],
    severity: str,
    landed: pa.Table,
    missing: Mapping[tuple[str, date], int],
) -> dict[str, Any]:
    return {
        "files": ws.lake.names(USAGE_RECORD, usage_month=str(period)),
        "landed": [[str(value) for value in row.values()] for row in landed.to_pylist()],
        "missing": sorted(f"{feed} {day} {count}" for (feed, day), count in missing.items()),
        "expect": {id_: spec.expect.model_dump_json() for id_, spec in sorted(feeds.items())},
        "severity": severity,
        "history": _history_digest(ws, period),
    }


def _history_digest(ws: Workspace, period: Month) -> str:
    """A hash of the earlier days that this month's are compared with."""
    select = sa.text(
        "select md5(coalesce(string_agg(feed_id || ' ' || day || ' ' || records, ','"
        " order by feed_id, day), '')) from feed_day_profile where day < :start and day >= :first"
    )
    values = {"start": period.start, "first": period.start - timedelta(weeks=26)}
    with ws.engine.connect() as connection:
        return str(connection.execute(select, values).scalar_one())


def _profiled(
    ws: Workspace, files: Sequence[str], landed: pa.Table
) -> tuple[list[FeedDay], pa.Table]:
    """The feed-days of the lake's files, and a bounded sample of their records, always the same."""
    with ws.compute() as compute:
        compute.load("landed_file", landed)
        compute.scan(USAGE_RECORD, files)
        days, classes = profile(compute)
        sample = compute.fetch(
            f"select {USAGE_RECORD.column_list} from usage_record "
            f"order by hash(file_key, line_no), file_key, line_no limit {SAMPLE_ROWS}"
        )
    return feed_days(days, classes), sample


def feed_days(days: pa.Table, classes: pa.Table) -> list[FeedDay]:
    """Make feed-days of the two tables of a profile."""
    quantities: dict[tuple[str, date], dict[str, tuple[int, int, int]]] = {}
    for row in classes.to_pylist():
        quantities.setdefault((row["feed_id"], row["day"]), {})[row["usage_class"]] = (
            row["records"], int(row["quantity"]), row["greatest"],
        )  # fmt: skip
    return [
        FeedDay(
            feed_id=row["feed_id"],
            day=row["day"],
            files=row["files"],
            records=row["accepted"],
            rejected=row["rejected"],
            ignored=row["ignored"],
            reject_per_million=row["reject_per_million"],
            identifiers=row["identifiers"],
            nulls={name: row[f"nulls_{name}"] for name in OPTIONAL if row[f"nulls_{name}"]},
            quantities=quantities.get((row["feed_id"], row["day"]), {}),
        )
        for row in days.to_pylist()
    ]


def _with_missing_days(
    days: Sequence[FeedDay], missing: Mapping[tuple[str, date], int]
) -> list[FeedDay]:
    """Add the days whose files have not come: nothing delivered must be seen, not skipped."""
    known = {(day.feed_id, day.day) for day in days}
    made = [replace(day, missing=missing.get((day.feed_id, day.day), 0)) for day in days]
    made += [
        FeedDay(feed_id, day, nulls={}, quantities={}, missing=count)
        for (feed_id, day), count in missing.items()
        if (feed_id, day) not in known
    ]
    return sorted(made, key=lambda one: (one.feed_id, one.day))


def _history(ws: Workspace, period: Month) -> list[tuple[str, date, int]]:
    """The records of the earlier feed-days that the month's are compared with."""
    select = (
        sa.select(FeedDayProfile.feed_id, FeedDayProfile.day, FeedDayProfile.records)
        .where(
            FeedDayProfile.day < period.start,
            FeedDayProfile.day >= period.start - timedelta(weeks=26),
        )
        .order_by(FeedDayProfile.feed_id, FeedDayProfile.day)
    )
    with ws.engine.connect() as connection:
        return [(row.feed_id, row.day, row.records) for row in connection.execute(select)]


def _judged(days: Sequence[FeedDay], stood: Stood, feeds: Mapping[str, FeedSpec]) -> list[FeedDay]:
    """Add the days without files; set each day against the same weekday of the weeks before it."""
    missing = {(feed_id, day): count for feed_id, day, count in stood.missing}
    found = _with_missing_days(days, missing)
    history = {(feed_id, day): records for feed_id, day, records in stood.history}
    history |= {(day.feed_id, day.day): day.records for day in found}
    return [compared(day, history, feeds.get(day.feed_id)) for day in found]


def _held(
    days: Sequence[FeedDay], feeds: Mapping[str, FeedSpec], docs: Path, at: datetime
) -> list[Failure]:
    from iotbill_pipelines.operations.expectations import run_expectations  # noqa: PLC0415

    return run_expectations(
        [day for day in days if day.feed_id in feeds],
        {feed_id: expectations(spec) for feed_id, spec in feeds.items()},
        docs,
        at,
    )


def write_docs_again(ws: Workspace, period: Month, stood: Stood) -> None:
    """Write a month's pages again, from the accepted records in the workspace's lake."""
    feeds = load_feeds(ws.configs / "feeds")
    wanted = set(stood.file_keys)
    names = ws.lake.names(USAGE_RECORD, usage_month=str(period))
    files = ws.lake.paths([name for name in names if file_key_of(name) in wanted])
    landed = pa.Table.from_pylist([asdict(file) for file in stood.landed], schema=LANDED_FILE)
    days, _ = _profiled(ws, files, landed)
    _held(_judged(days, stood, feeds), feeds, ws.out(period) / DOCS, stood.checked_at)


def compared(
    day: FeedDay, history: Mapping[tuple[str, date], int], spec: FeedSpec | None
) -> FeedDay:
    """Return a feed-day with its volume in percent of the median of its weekday before it."""
    volume = spec.expect.volume if spec else None
    if volume is None:
        return day
    weeks = [
        history[day.feed_id, before]
        for number in range(1, volume.weeks + 1)
        if (day.feed_id, before := day.day - timedelta(weeks=number)) in history
    ]
    usual = median_low(weeks) if len(weeks) >= volume.min_weeks else 0
    if not usual:
        return day
    return replace(day, usual_records=usual, volume_percent=day.records * 100 // usual)


# ------------------------------------------------------------------------- the expectations


def expectations(spec: FeedSpec) -> list[Expectation]:
    """Return what a feed's ``expect`` section means for the columns of its profile."""
    expect = spec.expect
    made = [
        Expectation("missing_files", None, 0, "every file that is due has come"),
        Expectation(
            "reject_per_million", None, int(expect.max_reject_percent * 10_000),
            f"at most {expect.max_reject_percent} % of the records are rejected",
        ),
    ]  # fmt: skip
    if expect.volume is not None:
        low, high = expect.volume.min_percent, expect.volume.max_percent
        words = f"between {low} % and {high} % of the weekday's usual records"
        made.append(Expectation("volume_percent", low, high, words))
    if expect.min_records is not None or expect.max_records is not None:
        words = f"at least {expect.min_records or 0}"
        if expect.max_records is not None:
            words += f" and at most {expect.max_records}"
        made.append(
            Expectation("records", expect.min_records, expect.max_records, f"{words} records a day")
        )
    if expect.min_identifiers is not None:
        words = f"at least {expect.min_identifiers} SIMs or devices a day"
        made.append(Expectation("identifiers", expect.min_identifiers, None, words))
    for column, percent in sorted(expect.max_null_percent.items()):
        made.append(
            Expectation(f"null_per_million_{column}", None, int(percent * 10_000),
                        f"at most {percent} % of the records lack {column}")
        )  # fmt: skip
    for usage_class, most in sorted(expect.max_quantity.items()):
        made.append(Expectation(f"quantity_{usage_class}", None, most,
                                f"at most {most} units of {usage_class} a day"))  # fmt: skip
    for usage_class, most in sorted(expect.max_record_quantity.items()):
        made.append(Expectation(f"greatest_{usage_class}", None, most,
                                f"at most {most} units of {usage_class} a record"))  # fmt: skip
    return made


def numbers(day: FeedDay, wanted: Iterable[Expectation]) -> dict[str, int | None]:
    """Return the columns that expectations look at, in integers; None is not judged."""
    found: dict[str, int | None] = {
        "files": day.files,
        "records": day.records,
        "rejected": day.rejected,
        "identifiers": day.identifiers,
        "missing_files": day.missing,
        "reject_per_million": day.reject_per_million,
        "volume_percent": day.volume_percent,
    }
    for expectation in wanted:
        kind, _, name = expectation.column.partition("_")
        if expectation.column.startswith("null_per_million_"):
            name = expectation.column.removeprefix("null_per_million_")
            nulls = (day.nulls or {}).get(name, 0)
            found[expectation.column] = nulls * 1_000_000 // day.records if day.records else None
        elif kind in ("quantity", "greatest"):
            _, total, greatest = (day.quantities or {}).get(name, (0, 0, 0))
            found[expectation.column] = total if kind == "quantity" else greatest
    return found


def finding_of(failure: Failure, severity: Severity) -> Finding:
    """Return what a feed-day that breaks an expectation does to the close, and what to do."""
    value = f"{failure.value:,}"
    action = (
        f"look at the day's files and rejected records of {failure.feed_id}, or ask the carrier; "
        "change expect in its feed if this is normal"
    )
    if "per_million" in failure.column:
        value = f"{failure.value / 10_000:.2f} %"
    elif failure.column == "volume_percent":
        value = f"{failure.value} %"
    elif failure.column == "missing_files":
        value = f"{failure.value} files"
        action = (
            "wait for them and close again, accrue an estimate (`iotbill journal estimate`), or "
            "waive the gate with a sign-off (`iotbill waive`)"
        )
    return Finding(
        "data_quality", severity,
        f"{failure.feed_id} {failure.day}: expected {failure.words}; {failure.column} is {value}",
        value,
        action,
    )  # fmt: skip


# ------------------------------------------------------------------------------ what is kept


def _store(
    connection: sa.Connection,
    ws: Workspace,
    period: Month,
    days: Sequence[FeedDay],
    failures: Sequence[Failure],
    findings: Sequence[Finding],
) -> None:
    connection.execute(sa.delete(FeedDayProfile).where(_within(FeedDayProfile.day, period)))
    now = ws.clock()
    rows = [
        {
            "feed_id": day.feed_id,
            "day": day.day,
            "files": day.files,
            "records": day.records,
            "rejected": day.rejected,
            "ignored": day.ignored,
            "identifiers": day.identifiers,
            "nulls": dict(day.nulls or {}),
            "quantities": {
                name: {"records": str(n), "quantity": str(total), "greatest": str(greatest)}
                for name, (n, total, greatest) in (day.quantities or {}).items()
            },
            "profiled_at": now,
            "run_id": ws.run_id,
        }
        for day in days
    ]
    if rows:
        connection.execute(insert(FeedDayProfile), rows)
    told = [
        {
            "feed_id": failure.feed_id,
            "day": failure.day,
            "expectation": failure.column,
            "severity": finding.severity,
            "figure": finding.figure,
            "message": finding.message,
            "what_to_do": finding.what_to_do,
            "checked_at": now,
        }
        for failure, finding in zip(failures, findings, strict=True)
    ]
    if told:
        connection.execute(insert(FeedDayFailure), told)


def _within(column: Any, period: Month) -> sa.ColumnElement[bool]:
    return sa.and_(column >= period.start, column < period.end)


def _stored_days(ws: Workspace, period: Month) -> list[FeedDay]:
    select = sa.select(FeedDayProfile).where(_within(FeedDayProfile.day, period))
    with ws.engine.connect() as connection:
        rows = connection.execute(select.order_by(FeedDayProfile.feed_id, FeedDayProfile.day)).all()
    return [
        FeedDay(row.feed_id, row.day, row.files, row.records, row.rejected, row.ignored,
                identifiers=row.identifiers)
        for row in rows
    ]  # fmt: skip


def _stored_findings(ws: Workspace, period: Month) -> list[Finding]:
    select = (
        sa.select(FeedDayFailure)
        .where(_within(FeedDayFailure.day, period))
        .order_by(FeedDayFailure.feed_id, FeedDayFailure.day, FeedDayFailure.expectation)
    )
    with ws.engine.connect() as connection:
        return [
            Finding("data_quality", row.severity, row.message, row.figure, row.what_to_do)
            for row in connection.execute(select)
        ]


def _result(
    days: Sequence[FeedDay], findings: list[Finding], files: list[Path], *, changed: bool = True
) -> StageResult:
    return StageResult(
        rows={
            "feed-days": len(days),
            "records": sum(day.records for day in days),
            "expectations failed": len(findings),
        },
        preview=pa.table(
            {
                "feed": [day.feed_id for day in days],
                "day": pa.array([day.day for day in days], pa.date32()),
                "files": [day.files for day in days],
                "records": [day.records for day in days],
                "rejected": [day.rejected for day in days],
                "ignored": [day.ignored for day in days],
                "SIMs": [day.identifiers for day in days],
            }
        ),
        files=files,
        findings=findings,
        changed=changed,
    )


def check_table(
    schema: Table, rows: pa.Table, *, unique_key: bool = True, allow_negative: bool = False
) -> list[Finding]:
    """Hold a small table against the pandera schema of its declaration.

    Each broken rule is one finding that blocks: a stage must never publish such rows.
    """
    import pandas as pd  # noqa: PLC0415 - see pandera_schema
    import pandera.pandas as pandera  # noqa: PLC0415

    # nulls are pandera's to find: Arrow would only refuse them
    types = pa.schema([field.with_nullable(True) for field in schema.arrow_schema])
    frame = rows.cast(types).to_pandas(types_mapper=pd.ArrowDtype)
    try:
        pandera_schema(schema, unique_key=unique_key, allow_negative=allow_negative).validate(
            frame, lazy=True
        )
    except pandera.errors.SchemaErrors as error:
        return [
            Finding(
                "table_schema", "block",
                f"{schema.name}.{column or 'rows'}: {check}, for example {cases.iloc[0]}",
                f"{len(cases)} rows",
                "correct the file that delivered these rows and land it again",
            )
            for (column, check), cases in error.failure_cases.fillna({"column": ""}).groupby(
                ["column", "check"], sort=True
            )["failure_case"]
        ]  # fmt: skip
    return []
