"""Rating: UTC usage months from accepted records to rated usage, as a whole set (RULEBOOK §§5, 6).

A month is rated again when its records, the reference data or the code changed, and only then.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from iotbill_pipelines.config.close import ClosePolicy, read_close_policy
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.flow import rate_month
from iotbill_pipelines.engine.schemas import (
    DUPLICATE_RECORD,
    RATED_USAGE,
    SUSPENDED_RECORD,
    USAGE_OUTCOME,
    USAGE_PART,
    USAGE_RECORD,
)
from iotbill_pipelines.operations import fingerprints, ingest_again, mediation, reach
from iotbill_pipelines.operations.knowledge import knowledge
from iotbill_pipelines.operations.locks import advisory_lock
from iotbill_pipelines.operations.runs import code_version
from iotbill_pipelines.operations.stages import Finding, StageResult
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage.models import FeedFile, FeedFileOutcome
from iotbill_pipelines.storage.reference import Snapshot, load_snapshot

STAGE = "rate_usage"

_LARGE_RECORDS = 10_000_000


def rate_usage(ws: Workspace, period: Month) -> StageResult:
    """Rate the UTC months around an accounting period, as far as they hold usage.

    A usage period is a month in the payer's zone, so it reaches into the UTC months beside it.
    Publishes ``rated_usage``, ``duplicate_record`` and ``suspended_record`` per month in the lake
    and ``feed_file_outcome`` in PostgreSQL. Findings: ``conservation`` (block), ``suspense`` (by
    configs/close.yaml), ``feeds`` (files that could not be read).
    """
    snapshot = knowledge(ws, period)
    months = months_with_usage(ws, around(period))
    rated = rate_months(ws, months, snapshot)
    policy = read_close_policy(ws.configs)
    outcomes = _outcomes(ws, months)
    preview = _per_feed(ws, months)
    files = sum(preview["files"].to_pylist()) if preview.num_rows else 0
    rows = {
        "months rated": len(rated),
        "months unchanged": len(months) - len(rated),
        "files read": files,
    }
    for outcome in ("kept", "duplicate", "suspended"):
        rows[outcome] = sum(row["records"] for row in outcomes if row["outcome"] == outcome)
    return StageResult(
        rows=rows,
        preview=preview,
        findings=[
            *check_conservation(ws, around(period)),  # also what the lake lacks altogether
            *_check_suspense(ws, outcomes, policy),
            *_tell_late(ws, months),
            *_check_files(ws, policy),
        ],
        changed=bool(rated),
    )


def around(period: Month) -> tuple[Month, Month, Month]:
    """The UTC months that records of a usage period can lie in."""
    return (period - 1, period, period + 1)


def months_with_usage(ws: Workspace, wanted: Iterable[Month] | None = None) -> list[Month]:
    """Return the UTC months that hold accepted records or rated ones, in order."""
    found = {
        Month.parse(partition["usage_month"])
        for table in (USAGE_RECORD, RATED_USAGE)
        for partition in ws.lake.partitions(table)
    }
    return sorted(found if wanted is None else found & set(wanted))


def rate_months(ws: Workspace, months: Iterable[Month], snapshot: Snapshot) -> list[Month]:
    """Rate those of the months whose inputs changed since they were rated; return them."""
    feeds = mediation.read_feeds(ws)
    return [month for month in months if _rate_if_changed(ws, month, snapshot, feeds)]


def _rate_if_changed(
    ws: Workspace, month: Month, snapshot: Snapshot, feeds: mediation.Feeds
) -> bool:
    # Closes of other months, retries and corrections rate it too. Of two at once, one's rated usage
    # would stand beside the other's suspense, and what neither holds would not be missed.
    with advisory_lock(ws.engine, f"rate:{month}", wait=True):
        context = mediation.month_context(ws, month, feeds)
        detail = _inputs(ws, month, snapshot, context)
        if fingerprints.recorded(ws, STAGE).get(month) == fingerprints.fingerprint(detail):
            return False
        _rate(ws, month, snapshot, context, detail)
        return True


def details(ws: Workspace) -> dict[Month, dict[str, Any]]:
    """Return what each UTC month was rated from: files, hashes, and the snapshot's id."""
    return fingerprints.details(ws, STAGE)


def accepted_files(ws: Workspace, month: Month) -> list[str]:
    """Return the lake's files of a UTC month's accepted records, by their path in the lake."""
    return ws.lake.names(USAGE_RECORD, usage_month=str(month))


def file_key_of(file: str) -> int:
    """Return the key of the landed file that a lake's file of accepted records is of."""
    return int(Path(file).parent.name.partition("=")[2])


def _inputs(
    ws: Workspace, month: Month, snapshot: Snapshot, context: mediation.MonthContext
) -> dict[str, Any]:
    return {
        "files": accepted_files(ws, month),
        "knowledge": reach.rating_digest(reach.tables_of(snapshot.tables_dir), month),
        "code": code_version(),
        "mediation": context.detail,
    }


def _rate(
    ws: Workspace,
    month: Month,
    snapshot: Snapshot,
    context: mediation.MonthContext,
    detail: dict[str, Any],
) -> None:
    fingerprints.forget(ws, STAGE, month)
    partition = {"usage_month": str(month)}
    records = ws.lake.rows(USAGE_RECORD, usage_month=str(month)) + context.nearby_rows
    if records > _LARGE_RECORDS:
        reach.tables_of.cache_clear()  # the engine needs what memory there is
    with ws.stage_compute(records + sum(snapshot.rows.values())) as compute:
        load_snapshot(compute, snapshot)
        ws.lake.scan(compute, USAGE_RECORD, usage_month=str(month))
        if context.nearby_rows:
            mediation.load_nearby(ws, compute, month)
        rate_month(compute, context.policies, nearby=context.nearby_rows > 0)
        for table in (RATED_USAGE, DUPLICATE_RECORD, SUSPENDED_RECORD, USAGE_PART):
            ws.lake.replace(
                table, compute, table.name, partition, order_by=_ORDER[table.name], note=ws.run_id
            )
        outcomes = compute.fetch(f"select {USAGE_OUTCOME.column_list} from usage_outcome")
    with ws.engine.begin() as connection:
        connection.execute(
            sa.delete(FeedFileOutcome).where(FeedFileOutcome.usage_month == str(month))
        )
        rows = [
            {**row, "reason_code": row["reason_code"] or "", "quantity": Decimal(row["quantity"])}
            for row in outcomes.to_pylist()
        ]
        if rows:
            connection.execute(sa.insert(FeedFileOutcome), rows)
        fingerprints.remember(connection, ws, STAGE, month, detail, snapshot.id)


# By account first: one account's rows of a month are then found without reading the others'.
_ORDER = {
    "rated_usage": ("account_id", "service_id", "event_start", "file_key", "line_no", "level"),
    "duplicate_record": ("file_key", "line_no"),
    "suspended_record": ("reason_code", "uid_value", "file_key", "line_no"),
    "usage_part": ("event_file_key", "event_line_no", "moment", "file_key", "line_no"),
}


def _outcomes(ws: Workspace, months: list[Month]) -> list[dict[str, Any]]:
    select = (
        sa.select(
            FeedFileOutcome.usage_month,
            FeedFileOutcome.outcome,
            FeedFileOutcome.reason_code,
            sa.func.sum(FeedFileOutcome.records).label("records"),
        )
        .where(FeedFileOutcome.usage_month.in_([str(month) for month in months]))
        .group_by(FeedFileOutcome.usage_month, FeedFileOutcome.outcome, FeedFileOutcome.reason_code)
        .order_by(FeedFileOutcome.usage_month, FeedFileOutcome.outcome, FeedFileOutcome.reason_code)
    )
    with ws.engine.connect() as connection:
        return [
            {**row, "records": int(row["records"])} for row in connection.execute(select).mappings()
        ]


_PER_FEED = """
select f.feed_id as feed, count(distinct f.file_key) as files,
  coalesce(sum(f.records_in), 0)::bigint as records_in,
  coalesce(sum(o.kept), 0)::bigint as kept, coalesce(sum(f.ignored), 0)::bigint as ignored,
  coalesce(sum(o.duplicate), 0)::bigint as duplicate,
  coalesce(sum(f.rejected), 0)::bigint as rejected,
  coalesce(sum(o.suspended), 0)::bigint as suspended
from feed_file f
left join (
  select file_key,
    sum(records) filter (where outcome = 'kept') as kept,
    sum(records) filter (where outcome = 'duplicate') as duplicate,
    sum(records) filter (where outcome = 'suspended') as suspended
  from feed_file_outcome group by file_key
) o using (file_key)
where f.state = 'ingested' and f.usage_months && cast(:months as text[])
group by f.feed_id order by f.feed_id
"""


def _per_feed(ws: Workspace, months: list[Month]) -> pa.Table:
    with ws.engine.connect() as connection:
        rows = connection.execute(sa.text(_PER_FEED), {"months": [str(m) for m in months]})
        return pa.Table.from_pylist([dict(row) for row in rows.mappings()])


# ------------------------------------------------------------------------------------- gates

_MISCOUNTED_FILES = """
select file_key, original_name, records_in, kept, ignored, rejected,
  quantity_in, quantity_kept, quantity_ignored, quantity_rejected
from feed_file
where state = 'ingested' and (
  records_in is distinct from kept + ignored + rejected
  or quantity_in is distinct from quantity_kept + quantity_ignored + quantity_rejected)
order by original_name
"""

_ACCEPTED_FILES = """
select file_key, original_name, kept, quantity_kept, usage_months from feed_file
where state = 'ingested' and usage_months && cast(:months as text[])
order by original_name
"""


def check_conservation(ws: Workspace, months: Collection[Month]) -> list[Finding]:
    """Compare every file's records and quantities at ingest, in the lake and after rating.

    in = accepted + ignored + rejected when ingested; accepted = records in the lake over all of
    the file's months; records of a month = kept + duplicate + suspended. RULEBOOK §5.
    """
    with ws.engine.connect() as connection:
        miscounted = connection.execute(sa.text(_MISCOUNTED_FILES)).mappings().all()
        accepted = (
            connection.execute(sa.text(_ACCEPTED_FILES), {"months": [str(m) for m in months]})
            .mappings()
            .all()
        )
        outcomes = connection.execute(
            sa.select(
                FeedFileOutcome.file_key,
                FeedFileOutcome.usage_month,
                sa.func.sum(FeedFileOutcome.records),
                sa.func.sum(FeedFileOutcome.quantity),
            )
            .where(FeedFileOutcome.usage_month.in_([str(month) for month in months]))
            .group_by(FeedFileOutcome.file_key, FeedFileOutcome.usage_month)
        ).all()
    stored = _stored(ws, {str(m) for m in months}.union(*(r["usage_months"] for r in accepted)))
    names = {row["file_key"]: row["original_name"] for row in accepted}
    findings = [
        _unbalanced(
            row["file_key"],
            row["original_name"],
            "in",
            (row["records_in"], row["quantity_in"]),
            "kept + ignored + rejected",
            (
                row["kept"] + row["ignored"] + row["rejected"],
                row["quantity_kept"] + row["quantity_ignored"] + row["quantity_rejected"],
            ),
        )
        for row in miscounted
    ]
    for row in accepted:
        parts = [stored.get((row["file_key"], month), (0, 0)) for month in row["usage_months"]]
        in_lake = (sum(part[0] for part in parts), sum(part[1] for part in parts))
        if in_lake != (row["kept"], row["quantity_kept"]):
            findings.append(
                _unbalanced(
                    row["file_key"],
                    row["original_name"],
                    "accepted",
                    (row["kept"], row["quantity_kept"]),
                    "in the lake",
                    in_lake,
                )
            )
    rated = {(key, month): (int(records), int(total)) for key, month, records, total in outcomes}
    wanted = {str(month) for month in months}
    in_months = {key: value for key, value in stored.items() if key[1] in wanted}
    for key in sorted(in_months.keys() | rated.keys()):
        before, after = in_months.get(key, (0, 0)), rated.get(key, (0, 0))
        if before != after:
            findings.append(
                _unbalanced(
                    key[0],
                    f"{names.get(key[0], key[0])}, month {key[1]}",
                    "accepted",
                    before,
                    "kept + duplicate + suspended",
                    after,
                )
            )
    return findings


def _stored(ws: Workspace, months: Iterable[str]) -> dict[tuple[int, str], tuple[int, int]]:
    """Records and quantity in the lake per file and UTC month."""
    found: dict[tuple[int, str], tuple[int, int]] = {}
    with ws.compute() as compute:
        for month in sorted(months):
            ws.lake.scan(compute, USAGE_RECORD, usage_month=month)
            counted = compute.fetch(
                "select file_key, cast(count(*) as bigint) as records,"
                " cast(sum(quantity) as decimal(38,0)) as quantity"
                " from usage_record group by file_key"
            )
            for row in counted.to_pylist():
                found[row["file_key"], month] = (row["records"], int(row["quantity"]))
    return found


def _unbalanced(
    file_key: int,
    subject: str,
    left: str,
    lefts: tuple[Any, Any],
    right: str,
    rights: tuple[Any, Any],
) -> Finding:
    return Finding(
        code="conservation",
        severity="block",
        message=(
            f"{subject}: {left} {lefts[0]} records (quantity {lefts[1]}), {right} {rights[0]} "
            f"records (quantity {rights[1]})"
        ),
        figure=f"{(lefts[0] or 0) - (rights[0] or 0)} records",
        what_to_do=f"run `{ingest_again.command(file_key)}`, then close again; if it stays, the "
        "file's parts in the lake and its row in feed_file disagree: do not book",
    )


def _check_suspense(
    ws: Workspace, outcomes: list[dict[str, Any]], policy: ClosePolicy
) -> list[Finding]:
    from iotbill_pipelines.operations.suspense import waived_records  # noqa: PLC0415 - a cycle

    findings = []
    for month in sorted({row["usage_month"] for row in outcomes}):
        rows = [row for row in outcomes if row["usage_month"] == month]
        total = sum(row["records"] for row in rows)
        suspended = [row for row in rows if row["outcome"] == "suspended"]
        count = sum(row["records"] for row in suspended)
        if not count:
            continue
        reasons = ", ".join(f"{row['records']} {row['reason_code']}" for row in suspended)
        limit = policy.suspense.max_share_of_records
        waived = waived_records(ws, Month.parse(month))
        over = count - waived > limit * total
        told = f", {waived} of them waived" if waived else ""
        findings.append(
            Finding(
                code="suspense",
                severity="block" if over else "info",
                message=(
                    f"{month}: {count} of {total} records are suspended ({reasons}){told}; "
                    f"{'more than' if over else 'within'} the {limit:%} that configs/close.yaml "
                    "tolerates"
                ),
                figure=f"{count} records",
                what_to_do="see `iotbill suspense list`; complete inventory, contracts or prices "
                "and close again: what can be rated then is; waive the others",
            )
        )
    return findings


_LATE = """
select usage_period, feed_id as feed, count(*) as records, min(event_start) as oldest
from rated_usage where level = 'retail' and flags like '%late%'
group by usage_period, feed_id order by usage_period, feed_id
"""


def _tell_late(ws: Workspace, months: list[Month]) -> list[Finding]:
    """Tell of usage that came after its period was closed: it is billed all the same (CL-01)."""
    feeds = mediation.read_feeds(ws)
    findings = []
    for month in months:
        arrivals = mediation.late_arrivals(ws, month, feeds)
        if not arrivals:
            continue
        days = max(row["late_days"] for row in arrivals)
        with ws.compute() as compute:
            ws.lake.scan(compute, RATED_USAGE, usage_month=str(month))
            rows = compute.fetch(_LATE).to_pylist()
        findings += [
            Finding(
                "late_usage",
                "info",
                f"{row['records']} records of {row['feed']} came after {row['usage_period']} was "
                f"closed, up to {days} days; the oldest is of {row['oldest']:%Y-%m-%d}",
                f"{row['records']} records",
                "nothing: they are billed in the open period under their own usage period",
            )
            for row in rows
        ]
    return findings


def _check_files(ws: Workspace, policy: ClosePolicy) -> list[Finding]:
    select = (
        sa.select(FeedFile.state, FeedFile.original_name, FeedFile.error, FeedFile.file_key)
        .where(FeedFile.state != "ingested")
        .order_by(FeedFile.state, FeedFile.original_name)
    )
    with ws.engine.connect() as connection:
        files = connection.execute(select).all()
    findings = []
    for state, name, error, file_key in files:
        if state == "landed":
            findings.append(
                Finding(
                    "feeds",
                    "warn",
                    f"{name} {error}" if error else f"{name} landed but was not ingested",
                    "1 file",
                    "have the carrier send the companion, or run `iotbill ingest`; then close "
                    "again",
                )
            )
        elif state == "quarantined":
            findings.append(
                Finding(
                    "feeds",
                    policy.files.quarantined,
                    f"{name} is quarantined: {error}",
                    "1 file",
                    f"correct the feed and run `{ingest_again.command(file_key)}`, or have the "
                    "carrier send a correct file and land it; then close again",
                )
            )
        else:
            findings.append(
                Finding(
                    "feeds",
                    policy.files.unrecognised,
                    f"{name} is claimed by no feed",
                    "1 file",
                    "add its name pattern to a feed in configs/feeds and run `iotbill ingest`, or "
                    "ignore it",
                )
            )
    return findings
