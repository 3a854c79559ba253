"""What mediation of a month is told: the feeds' policies, file versions, late files, other months.

The records of a UTC month are mediated with what other months hold of the same keys, sessions and
counters. That is found once per change of the files involved, kept in the lake's
``nearby_record``, and counted among a month's inputs by its content: a closed month is rated again
when what it shares with its neighbours changes, not whenever a neighbour grows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from iotbill_pipelines.config.feeds import load_feeds, policy_of
from iotbill_pipelines.engine.calendars import Month, months_between
from iotbill_pipelines.engine.compute import Compute
from iotbill_pipelines.engine.feeds.spec import FeedSpec
from iotbill_pipelines.engine.flow import find_nearby
from iotbill_pipelines.engine.mediate import Policies
from iotbill_pipelines.engine.schemas import (
    FEED_POLICY,
    FEED_WATERMARK,
    FILE_VERSION,
    LATE_ARRIVAL,
    NEARBY_RECORD,
    USAGE_RECORD,
)
from iotbill_pipelines.operations import fingerprints
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage.models import FeedFile, FeedFileOutcome, Run, StageInput

STAGE = "find_nearby"

MOST_MONTHS = 12
"""How far back the last reading of a counter is looked for."""


@dataclass(frozen=True)
class Feeds:
    """The usage feeds of a configuration, as mediation sees them."""

    specs: dict[str, FeedSpec]
    policy: pa.Table

    @property
    def window(self) -> int:
        """Months before and after in which copies are looked for: the most that a feed asks for."""
        return max((spec.dedup.months for spec in self.specs.values() if spec.dedup), default=1)

    @property
    def combining(self) -> list[FeedSpec]:
        return [spec for spec in self.specs.values() if spec.correlate is not None]

    @property
    def has_counters(self) -> bool:
        return any(s.correlate and s.correlate.combine == "increments" for s in self.combining)

    @property
    def digest(self) -> str:
        """A hash of everything declared that decides how records are mediated."""
        told = [
            (id_, spec.family, repr(spec.dedup), repr(spec.correlate), repr(spec.late))
            for id_, spec in sorted(self.specs.items())
        ]
        return hashlib.sha256(repr(told).encode()).hexdigest()[:16]


def read_feeds(ws: Workspace) -> Feeds:
    """Read the usage feeds. Raises ConfigError for feeds that do not hold together."""
    folder = ws.configs / "feeds"
    found = load_feeds(folder) if any(folder.glob("*.yaml")) else {}
    specs = {id_: spec for id_, spec in found.items() if spec.target == USAGE_RECORD.name}
    rows = [policy_of(spec) for spec in specs.values()]
    return Feeds(specs, pa.Table.from_pylist(rows, schema=FEED_POLICY.arrow_schema))


@dataclass(frozen=True)
class MonthContext:
    """A month's policies and what it shares with others. ``detail`` belongs to its fingerprint."""

    policies: Policies
    nearby_rows: int
    detail: dict[str, Any]


def month_context(ws: Workspace, month: Month, feeds: Feeds) -> MonthContext:
    """Return what rating a month needs besides its records, finding what changed since last."""
    late = late_arrivals(ws, month, feeds)
    policies = _policies(ws, feeds, late)
    nearby = _nearby(ws, month, feeds, policies)
    detail: dict[str, Any] = {"feeds": feeds.digest, "nearby": nearby["digest"]}
    if late:
        detail["late"] = [[row["file_key"], row["usage_period"], row["held"]] for row in late]
    if feeds.combining:
        marks = _watermarks(ws, month, feeds)
        policies = replace(policies, feed_watermark=marks)
        if _waits_for_parts(ws, month):
            detail["watermark"] = [[m["family"], str(m["newest_event"])] for m in marks.to_pylist()]
    return MonthContext(policies, int(nearby["rows"]), detail)


def month_as_it_is(ws: Workspace, month: Month, feeds: Feeds) -> tuple[Policies, pa.Table]:
    """Return a month's policies and its ``nearby_record``, keeping neither: for trying things."""
    policies = _policies(ws, feeds, late_arrivals(ws, month, feeds))
    by_month = _files_by_month(ws)
    with ws.stage_compute(_rows_around(ws, month, feeds)) as compute:
        rows, _ = _find(ws, compute, month, feeds, policies, by_month)
        nearby = (
            compute.fetch(f"select {USAGE_RECORD.column_list} from nearby_record")
            if rows
            else USAGE_RECORD.arrow_schema.empty_table()
        )
    if feeds.combining:
        policies = replace(policies, feed_watermark=_watermarks(ws, month, feeds))
    return policies, nearby


def policies_of(ws: Workspace, month: Month, feeds: Feeds) -> Policies:
    """Return a month's policies where no feed combines records."""
    return _policies(ws, feeds, late_arrivals(ws, month, feeds))


def as_recorded(ws: Workspace, month: Month, feeds: Feeds, told: Mapping[str, Any]) -> bool:
    """Whether a month whose own files are the same is mediated as when it was rated: by the same
    feeds, with the same of other months, and files as late. ``told`` is its recorded detail."""
    held = _held(ws, month)
    if held is None or told.get("feeds") != feeds.digest or told.get("nearby") != held["digest"]:
        return False
    inputs = _inputs(_files_by_month(ws), month, feeds, int(held["reach"]))
    if inputs != {key: held.get(key) for key in inputs}:
        return False
    late = late_arrivals(ws, month, feeds)
    found = [[row["file_key"], row["usage_period"], row["held"]] for row in late]
    return bool(found == told.get("late", [])) and "watermark" not in told


def combines(ws: Workspace, month: Month, feeds: Feeds) -> bool:
    """Whether a month has records of feeds that deliver sessions in parts, or counters."""
    if not feeds.combining:
        return False
    select = sa.select(FeedFile.file_key).where(
        FeedFile.feed_id.in_([spec.id for spec in feeds.combining]),
        sa.literal(str(month)) == sa.any_(FeedFile.usage_months),
    )
    with ws.engine.connect() as connection:
        return connection.execute(select.limit(1)).first() is not None


def _policies(ws: Workspace, feeds: Feeds, late: list[dict[str, Any]]) -> Policies:
    return Policies(
        feed_policy=feeds.policy,
        file_version=_file_versions(ws, feeds),
        late_arrival=pa.Table.from_pylist(late, schema=LATE_ARRIVAL.arrow_schema),
    )


def load_nearby(ws: Workspace, compute: Compute, month: Month) -> None:
    """Make relation ``nearby_record`` what :func:`month_context` found for the month."""
    ws.lake.scan(compute, NEARBY_RECORD, name="stored_nearby", rated_month=str(month))
    compute.define("nearby_record", f"select {USAGE_RECORD.column_list} from stored_nearby")


# ---------------------------------------------------------------- other months


def _nearby(ws: Workspace, month: Month, feeds: Feeds, policies: Policies) -> dict[str, Any]:
    """Find the records of other months that matter to ``month``, unless no file has changed."""
    by_month = _files_by_month(ws)
    held = _held(ws, month)
    if held is not None:
        inputs = _inputs(by_month, month, feeds, int(held["reach"]))
        if inputs == {key: held.get(key) for key in inputs}:
            return held
    fingerprints.forget(ws, STAGE, month)
    with ws.stage_compute(_rows_around(ws, month, feeds)) as compute:
        rows, reach = _find(ws, compute, month, feeds, policies, by_month)
        digest = _digest(compute) if rows else ""
        if rows or ws.lake.names(NEARBY_RECORD, rated_month=str(month)):
            ws.lake.replace(
                NEARBY_RECORD,
                compute,
                f"select *, '{month}' as rated_month from nearby_record",
                {"rated_month": str(month)},
                note=ws.run_id,
            )
    detail = {
        **_inputs(by_month, month, feeds, reach),
        "reach": reach,
        "rows": rows,
        "digest": digest,
    }
    with ws.engine.begin() as connection:
        fingerprints.remember(connection, ws, STAGE, month, detail)
    return detail


def _rows_around(ws: Workspace, month: Month, feeds: Feeds) -> int:
    """Records of the months that are looked at first."""
    months = months_between(month - feeds.window, month + feeds.window)
    return sum(ws.lake.rows(USAGE_RECORD, usage_month=str(each)) for each in months)


def _find(
    ws: Workspace,
    compute: Compute,
    month: Month,
    feeds: Feeds,
    policies: Policies,
    by_month: dict[Month, list[str]],
) -> tuple[int, int]:
    """Define ``nearby_record``, looking as far as it leads; return its rows and how far that is."""
    reach = feeds.window
    while True:
        rows, farthest, unresolved = _look(ws, compute, month, feeds, policies, by_month, reach)
        further = farthest + feeds.window
        if unresolved and reach < MOST_MONTHS:
            further = max(further, reach + 1)
        beyond = [m for m in by_month if _distance(month, m) > reach]
        if further <= reach:
            return rows, reach
        if not beyond:  # a month that comes there later is within reach, then
            return rows, max(further, MOST_MONTHS if unresolved else further)
        reach = further


def _look(
    ws: Workspace,
    compute: Compute,
    month: Month,
    feeds: Feeds,
    policies: Policies,
    by_month: dict[Month, list[str]],
    reach: int,
) -> tuple[int, int, bool]:
    """Define ``nearby_record`` from the months within ``reach``.

    Return how many rows it has, how many months away the farthest is, and whether a counter of the
    month still lacks the reading before it.
    """
    others = [m for m in by_month if m != month and _distance(month, m) <= reach]
    if not others:
        compute.load("nearby_record", USAGE_RECORD.arrow_schema.empty_table())
        return 0, 0, feeds.has_counters
    compute.scan(USAGE_RECORD, ws.lake.paths(by_month.get(month, [])))
    names = [name for other in others for name in by_month[other]]
    compute.scan(USAGE_RECORD, ws.lake.paths(names), "other_usage")
    find_nearby(compute, policies)
    found = compute.fetch(
        "select usage_month, count(*) as records from nearby_record group by usage_month"
    ).to_pylist()
    rows = sum(row["records"] for row in found)
    farthest = max((_distance(month, Month.parse(r["usage_month"])) for r in found), default=0)
    unresolved = False
    if feeds.has_counters:
        listed = ", ".join(
            f"'{s.id}'"
            for s in feeds.combining
            if s.correlate and s.correlate.combine == "increments"
        )
        lacking = compute.fetch(
            "select count(*) as devices from (select distinct session_key from usage_record"
            f" where feed_id in ({listed}) and session_key is not null except"
            f" select session_key from nearby_record where usage_month < '{month}') as lacking"
        )
        unresolved = bool(lacking["devices"][0].as_py())
    return rows, farthest, unresolved


def _digest(compute: Compute) -> str:
    """A hash of what the nearby records say, whatever their order."""
    told = compute.fetch(
        "select file_key, line_no, dedup_key, content_hash, quantity, quantity_up, quantity_down,"
        " event_start, event_end, session_key, part, sequence_no"
        " from nearby_record order by file_key, line_no"
    )
    digest = hashlib.sha256()
    for batch in told.to_batches(max_chunksize=50_000):
        for row in batch.to_pylist():
            digest.update(repr(tuple(row.values())).encode())
    return digest.hexdigest()[:32]


def _distance(one: Month, other: Month) -> int:
    return abs((one.start.year - other.start.year) * 12 + one.start.month - other.start.month)


def _files_by_month(ws: Workspace) -> dict[Month, list[str]]:
    """The names in the lake of every month's accepted records; most are never read."""
    found: dict[Month, list[str]] = {}
    for month in sorted({p["usage_month"] for p in ws.lake.partitions(USAGE_RECORD)}):
        found[Month.parse(month)] = ws.lake.names(USAGE_RECORD, usage_month=month)
    return found


def _inputs(
    by_month: dict[Month, list[str]], month: Month, feeds: Feeds, reach: int
) -> dict[str, Any]:
    """What a search depends on: the files within its reach, and that there are none beyond."""
    digest = hashlib.sha256()
    for other in sorted(by_month):
        if _distance(month, other) <= reach:
            for name in by_month[other]:
                digest.update(name.rpartition("/")[2].encode())
    return {"files": digest.hexdigest()[:32], "feeds": feeds.digest}


def _held(ws: Workspace, month: Month) -> dict[str, Any] | None:
    select = sa.select(StageInput.detail).where(
        StageInput.stage == STAGE, StageInput.month == str(month), StageInput.fingerprint != ""
    )
    with ws.engine.connect() as connection:
        found: dict[str, Any] | None = connection.execute(select).scalar_one_or_none()
        return found


# ---------------------------------------------------------------- files


def _file_versions(ws: Workspace, feeds: Feeds) -> pa.Table:
    """Number the files of restating feeds: by the version in the name, else by their landing."""
    restating = {id_: s for id_, s in feeds.specs.items() if s.dedup and s.dedup.restating}
    empty = FILE_VERSION.arrow_schema.empty_table()
    if not restating:
        return empty
    select = sa.select(
        FeedFile.file_key, FeedFile.feed_id, FeedFile.original_name, FeedFile.landed_at
    ).where(FeedFile.feed_id.in_(restating))
    with ws.engine.connect() as connection:
        files = connection.execute(select).all()
    ordered = []
    for key, feed_id, name, landed_at in files:
        dedup = restating[feed_id or ""].dedup
        ordered.append((dedup.version_of(name) if dedup else "", landed_at, key))
    rows = [
        {"file_key": key, "version_no": number}
        for number, (_, _, key) in enumerate(sorted(ordered), 1)
    ]
    return pa.Table.from_pylist(rows, schema=FILE_VERSION.arrow_schema)


def late_arrivals(ws: Workspace, month: Month, feeds: Feeds) -> list[dict[str, Any]]:
    """Files with usage of a UTC month that landed after a usage period around it was closed."""
    with ws.engine.connect() as connection:
        found = connection.execute(
            sa.select(Run.period, sa.func.min(Run.finished_at).label("closed_at"))
            .where(Run.kind == "close", Run.status == "succeeded", Run.finished_at.is_not(None))
            .where(Run.period.in_([str(month - 1), str(month), str(month + 1)]))
            .group_by(Run.period)
            .order_by(Run.period)
        ).all()
        closed = [(period, at) for period, at in found if at is not None]
        if not closed:
            return []
        files = connection.execute(
            sa.select(FeedFile.file_key, FeedFile.feed_id, FeedFile.landed_at)
            .where(sa.literal(str(month)) == sa.any_(FeedFile.usage_months))
            .where(FeedFile.landed_at > min(at for _, at in closed))
            .order_by(FeedFile.file_key)
        ).all()
    rows = []
    for key, feed_id, landed_at in files:
        spec = feeds.specs.get(feed_id or "")
        hold = spec.late.hold_after_days if spec else None
        for period, closed_at in closed:
            if landed_at > closed_at:
                days = (landed_at - closed_at) // timedelta(days=1)
                rows.append(
                    {
                        "file_key": key,
                        "usage_period": period,
                        "late_days": days,
                        "held": hold is not None and days > hold,
                    }
                )
    return rows


# ---------------------------------------------------------------- silence


def _watermarks(ws: Workspace, month: Month, feeds: Feeds) -> pa.Table:
    """The newest event of each family, no later than could end a session of the month.

    Cut off there, so that a month whose sessions have all ended is not rated again for ever.
    """
    families = {spec.id: spec.family for spec in feeds.combining}
    longest = max(s.correlate.timeout_hours for s in feeds.combining if s.correlate)
    names = [name for m, found in _files_by_month(ws).items() if m >= month for name in found]
    end = datetime.combine((month + 2).start, datetime.min.time()) + timedelta(hours=longest)
    newest: dict[str, datetime] = {}
    with ws.compute() as compute:
        compute.scan(USAGE_RECORD, ws.lake.paths(names))
        found = compute.fetch(
            "select feed_id, max(greatest(event_start, coalesce(event_end, event_start))) as newest"
            " from usage_record group by feed_id"
        ).to_pylist()
    for row in found:
        if (family := families.get(row["feed_id"])) is not None:
            newest[family] = max(newest.get(family, row["newest"]), min(row["newest"], end))
    rows = [{"family": family, "newest_event": at} for family, at in sorted(newest.items())]
    return pa.Table.from_pylist(rows, schema=FEED_WATERMARK.arrow_schema)


def _waits_for_parts(ws: Workspace, month: Month) -> bool:
    select = sa.select(FeedFileOutcome.file_key).where(
        FeedFileOutcome.usage_month == str(month),
        FeedFileOutcome.reason_code == "incomplete_session",
    )
    with ws.engine.connect() as connection:
        return connection.execute(select.limit(1)).first() is not None
