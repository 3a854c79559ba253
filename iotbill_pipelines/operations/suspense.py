"""Suspense is worked: what waits, what it is probably worth, since when, and what to do about it.

Suspended records are rated as soon as they can be: :func:`retry` rates the months again whose
reference data or catalog changed. A record that nobody can or wants to complete is waived by a
named person; the suspense gate then no longer counts it, every list still shows it.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.compute import Compute, literal
from iotbill_pipelines.engine.flow import estimate_suspense
from iotbill_pipelines.engine.money import of_minor
from iotbill_pipelines.engine.schemas import RATED_USAGE, SUSPENDED_RECORD
from iotbill_pipelines.operations import catalogs, runs, usage
from iotbill_pipelines.operations.knowledge import knowledge
from iotbill_pipelines.operations.trace import raw_lines
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage import ledger
from iotbill_pipelines.storage.models import (
    REFERENCE_TABLES,
    FeedFile,
    Run,
    StageInput,
    SuspenseWaiver,
    SuspenseWaiverWithdrawal,
)
from iotbill_pipelines.storage.reference import Snapshot, load_snapshot, open_snapshot

RETRY = "suspense_retry"
"""Kind of the runs that rate suspended months again."""

WHAT_TO_DO = {
    "no_owner": "add the identifier to the inventory with the date it is valid from, land the "
    "file, then retry",
    "no_offer": "add the service's offer at that date to the contracts, land the file, then retry",
    "no_rate": "add a price for this usage class and network to the catalog, then retry",
    "after_cancel": "correct the service's states, or claim the usage back from the carrier; "
    "waive what was really used after the end",
    "conflict": "ask the carrier which version is right; have it sent again under its own key, "
    "or waive the wrong one",
    "incomplete_session": "wait for the missing part, or ask the carrier for it; it is released "
    "when it times out, if its feed says so",
    "late": "decide: raise late.hold_after_days of the feed to bill it, or waive it",
}


class SuspenseError(ValueError):
    """A request on suspended records that cannot be done; the message says why."""


@dataclass(frozen=True)
class Wanted:
    """Which suspended records are meant; None leaves a criterion open."""

    reason: str | None = None
    feed: str | None = None
    account: str | None = None
    month: Month | None = None


@dataclass(frozen=True)
class SuspenseGroup:
    """Suspended records of a month, reason, feed, class and account.

    ``estimate`` is in the currency's own unit, None where there is no price to estimate with;
    ``basis`` says how. ``oldest_days`` counts from the day the oldest of them was received.
    """

    usage_month: str
    reason: str
    feed: str
    usage_class: str
    account: str | None
    records: int
    waived: int
    quantity: int
    currency: str | None
    estimate: Decimal | None
    basis: str
    oldest_days: int


@dataclass(frozen=True)
class SuspenseTotal:
    """Suspended records of a reason, with the estimates that there are."""

    reason: str
    records: int
    waived: int
    oldest_days: int
    estimates: dict[str, Decimal]
    not_estimated: int


@dataclass(frozen=True)
class SuspendedLine:
    """One suspended record by its address ``FILE:LINE``."""

    address: str
    file_name: str
    received: datetime
    age_days: int
    usage_month: str
    event_start: str
    uid: str
    usage_class: str
    quantity: int
    reason: str
    detail: str
    waived_by: str | None


@dataclass(frozen=True)
class SuspenseList:
    groups: list[SuspenseGroup]
    totals: list[SuspenseTotal]
    records: list[SuspendedLine]
    records_total: int


@dataclass(frozen=True)
class SuspendedView:
    """One record with all that helps to decide on it; ``other`` is what it conflicts with."""

    line: SuspendedLine
    feed: str
    service: str | None
    account: str | None
    raw_text: str
    other_address: str | None
    other_raw_text: str | None
    currency: str | None
    estimate: Decimal | None
    basis: str
    what_to_do: str
    waivers: list[str]


@dataclass(frozen=True)
class Retried:
    """What rating again fixed: records by the reason that they were suspended for."""

    months: list[str]
    fixed: dict[str, int]
    still: dict[str, int]
    new: dict[str, int]


# ---------------------------------------------------------------- telling


def list_suspense(ws: Workspace, wanted: Wanted, most_records: int = 0) -> SuspenseList:
    """Return what is suspended, grouped and totalled, and the first records by address.

    Raises SuspenseError for months whose rating was interrupted before it was known whose they are.
    """
    with ws.compute(_rows(ws, wanted)) as compute:
        _select(ws, compute, wanted)
        counted = compute.fetch("select count(*) as records from chosen_suspense")
        total = int(counted["records"][0].as_py())
        groups = _groups(compute) if total else []
        rows = compute.fetch(
            f"select * from chosen_suspense order by usage_month, reason_code, file_key, line_no"
            f" limit {most_records}"
        ).to_pylist()
    return SuspenseList(groups, _totals(groups), [_line(ws, r) for r in rows], total)


def show(ws: Workspace, address: str) -> SuspendedView:
    """Return one suspended record by its address. Raises SuspenseError if none is there."""
    key, number = parse_address(address)
    with ws.compute(_rows(ws, Wanted())) as compute:
        _select(ws, compute, Wanted(), f"s.file_key = {key} and s.line_no = {number}")
        rows = compute.fetch("select * from chosen_suspense").to_pylist()
        if not rows:
            raise SuspenseError(
                f"no record is suspended at {address}; `iotbill suspense list --records 20` shows "
                "addresses"
            )
        estimated = _estimates(compute)
        owner = compute.fetch("select service_id, owner_service_id, account_id from suspense_owner")
    row, money, owned = rows[0], estimated[0], owner.to_pylist()[0]
    wanted_lines = [(key, number)]
    if row["other_file_key"] is not None:
        wanted_lines.append((row["other_file_key"], row["other_line_no"]))
    texts = raw_lines(ws, wanted_lines)
    with Session(ws.engine) as session:
        waivers = session.scalars(
            sa.select(SuspenseWaiver)
            .where(SuspenseWaiver.file_key == key, SuspenseWaiver.line_no == number)
            .order_by(SuspenseWaiver.waiver_id)
        ).all()
        ended = {
            w.waiver_id: f"; taken back {w.withdrawn_at:%Y-%m-%d %H:%M} UTC by {w.withdrawn_by}: "
            f"{w.withdraw_reason}"
            for w in session.scalars(
                sa.select(SuspenseWaiverWithdrawal).where(
                    SuspenseWaiverWithdrawal.waiver_id.in_([w.waiver_id for w in waivers])
                )
            )
        }
        told = [
            f"{w.waived_at:%Y-%m-%d %H:%M} UTC {w.waived_by} ({w.reason_code}): {w.waive_reason}"
            + ended.get(w.waiver_id, "")
            for w in waivers
        ]
    other = wanted_lines[1] if len(wanted_lines) > 1 else None
    return SuspendedView(
        line=_line(ws, row),
        feed=row["feed_id"],
        service=owned["service_id"] or owned["owner_service_id"],
        account=owned["account_id"],
        raw_text=texts.get((key, number), ""),
        other_address=f"{other[0]}:{other[1]}" if other else None,
        other_raw_text=texts.get(other, "") if other else None,
        currency=money["currency"],
        estimate=_amount(money),
        basis=money["basis"],
        what_to_do=WHAT_TO_DO.get(row["reason_code"], "complete what is missing, then retry"),
        waivers=told,
    )


def parse_address(address: str) -> tuple[int, int]:
    """Read ``FILE:LINE``. Raises SuspenseError showing the form."""
    file, _, line = address.partition(":")
    if not (file.isdecimal() and line.isdecimal()):
        raise SuspenseError(
            f"{address!r} is no record; write FILE:LINE as `iotbill suspense list --records 20` "
            "shows it, such as 861405927354028461:17"
        )
    return int(file), int(line)


def _rows(ws: Workspace, wanted: Wanted) -> int:
    """About how many rows :func:`_select` reads."""
    months = [wanted.month] if wanted.month else suspended_months(ws)
    snapshot = _snapshot(ws, months)
    return sum(snapshot.rows.values() if snapshot else ()) + sum(
        ws.lake.rows(table, usage_month=str(month))
        for table in (SUSPENDED_RECORD, RATED_USAGE)
        for month in months
    )


def _select(ws: Workspace, compute: Compute, wanted: Wanted, where: str = "true") -> None:
    """Define ``chosen_suspense``: the records meant, with landing, age and waiver.

    Raises SuspenseError where a rating was interrupted before it was known whose they are.
    """
    months = [wanted.month] if wanted.month else suspended_months(ws)
    scope = {str(month) for month in months}
    compute.scan(
        SUSPENDED_RECORD,
        [f for month in scope for f in ws.lake.files(SUSPENDED_RECORD, usage_month=month)],
        "every_suspended",
    )
    compute.scan(RATED_USAGE, [f for m in scope for f in ws.lake.files(RATED_USAGE, usage_month=m)])
    snapshot = _snapshot(ws, months)
    if snapshot is not None:
        load_snapshot(compute, snapshot)
    elif any(ws.lake.rows(SUSPENDED_RECORD, usage_month=month) for month in scope):
        only = f" --month {wanted.month}" if wanted.month else ""
        raise SuspenseError(
            f"the rating of {', '.join(sorted(scope))} was interrupted, so that nobody knows yet "
            f"whose records wait; rate the month first: `iotbill suspense retry{only}`"
        )
    with ws.engine.connect() as connection:
        files = connection.execute(
            sa.select(FeedFile.file_key, FeedFile.original_name, FeedFile.landed_at)
        ).all()
        waivers = connection.execute(_holding(scope)).all()
    compute.load(
        "landed_file",
        pa.table(
            {
                "file_key": pa.array([f.file_key for f in files], pa.int64()),
                "file_name": pa.array([f.original_name for f in files], pa.string()),
                "landed_at": pa.array(
                    [f.landed_at.replace(tzinfo=None) for f in files], pa.timestamp("us")
                ),
                "age_days": pa.array([(ws.clock() - f.landed_at).days for f in files], pa.int64()),
            }
        ),
    )
    compute.load(
        "waiver",
        pa.table(
            {
                "file_key": pa.array([w.file_key for w in waivers], pa.int64()),
                "line_no": pa.array([w.line_no for w in waivers], pa.int64()),
                "reason_code": pa.array([w.reason_code for w in waivers], pa.string()),
                "waived_by": pa.array([w.waived_by for w in waivers], pa.string()),
                "waiver_id": pa.array([w.waiver_id for w in waivers], pa.int64()),
            }
        ),
    )
    if wanted.reason:
        where += f" and s.reason_code = {literal(wanted.reason)}"
    if wanted.feed:
        where += f" and s.feed_id = {literal(wanted.feed)}"
    compute.define(
        "suspended_record", f"select * from every_suspended as s where {where}", keep=True
    )
    chosen = "true"
    if wanted.account:
        chosen = f"o.account_id = {literal(wanted.account)}"
    if snapshot is not None:
        estimate_suspense(compute)
        if wanted.account:  # whose it is comes out of the first pass
            compute.define(
                "of_account",
                f"select {SUSPENDED_RECORD.column_list} from suspense_owner as o where {chosen}",
                keep=True,
            )
            compute.define("suspended_record", "select * from of_account", keep=True)
            estimate_suspense(compute)
    compute.define(
        "chosen_suspense",
        "select s.*, f.file_name, f.landed_at, f.age_days, w.waived_by, w.waiver_id"
        " from suspended_record as s left join landed_file as f on f.file_key = s.file_key"
        " left join waiver as w on w.file_key = s.file_key and w.line_no = s.line_no"
        " and w.reason_code = s.reason_code",
        keep=True,
    )


def _holding(months: Iterable[str]) -> sa.Select[int, int, int, str, str]:
    """The waivers of months that nobody took back, one a record and reason."""
    ended = sa.select(SuspenseWaiverWithdrawal.waiver_id)
    key = (SuspenseWaiver.file_key, SuspenseWaiver.line_no, SuspenseWaiver.reason_code)
    return (
        sa.select(SuspenseWaiver.waiver_id, *key, SuspenseWaiver.waived_by)
        .where(
            SuspenseWaiver.usage_month.in_(sorted(months)), SuspenseWaiver.waiver_id.not_in(ended)
        )
        .distinct(*key)
        .order_by(*key, SuspenseWaiver.waiver_id)
    )


def suspended_months(ws: Workspace) -> list[Month]:
    """Return the UTC months that hold suspended records, in order."""
    return [Month.parse(p["usage_month"]) for p in ws.lake.partitions(SUSPENDED_RECORD)]


def _snapshot(ws: Workspace, months: Sequence[Month]) -> Snapshot | None:
    """The newest knowledge that one of the months was rated with."""
    select = (
        sa.select(StageInput.detail)
        .where(
            StageInput.stage == usage.STAGE,
            StageInput.month.in_([str(month) for month in months]),
        )
        .order_by(StageInput.recorded_at.desc())
        .limit(1)
    )
    with Session(ws.engine) as session:
        detail = session.scalars(select).first()
        return open_snapshot(session, ws.home, detail["snapshot"]) if detail else None


def _estimates(compute: Compute) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = compute.fetch(
        "select * from suspense_estimate"
        " order by usage_month, reason_code, feed_id, usage_class, account_id, basis"
    ).to_pylist()
    return rows


def _groups(compute: Compute) -> list[SuspenseGroup]:
    counted = compute.fetch(
        "select c.usage_month, c.reason_code, c.feed_id, c.usage_class, o.account_id,"
        " count(*) as records, count(c.waived_by) as waived, max(c.age_days) as oldest_days"
        " from chosen_suspense as c join suspense_owner as o"
        " on o.file_key = c.file_key and o.line_no = c.line_no group by all"
    ).to_pylist()
    names = ("usage_month", "reason_code", "feed_id", "usage_class", "account_id")
    ages = {tuple(row[name] for name in names): row for row in counted}
    groups, told = [], set()
    for row in _estimates(compute):
        key = tuple(row[name] for name in names)
        # several prices in a group: what the group shares is told with the first
        age = ages[key]
        waived = age["waived"] if key not in told else 0
        told.add(key)
        groups.append(
            SuspenseGroup(
                usage_month=row["usage_month"],
                reason=row["reason_code"],
                feed=row["feed_id"],
                usage_class=row["usage_class"],
                account=row["account_id"],
                records=row["records"],
                waived=waived,
                quantity=row["quantity"],
                currency=row["currency"],
                estimate=_amount(row),
                basis=row["basis"],
                oldest_days=age["oldest_days"] or 0,
            )
        )
    return groups


def _amount(row: dict[str, Any]) -> Decimal | None:
    if row["amount_minor"] is None:
        return None
    return of_minor(row["amount_minor"], row["currency"])


def _totals(groups: Sequence[SuspenseGroup]) -> list[SuspenseTotal]:
    by_reason: dict[str, list[SuspenseGroup]] = defaultdict(list)
    for group in groups:
        by_reason[group.reason].append(group)
    totals = []
    for reason, mine in sorted(by_reason.items()):
        amounts: dict[str, Decimal] = {}
        for group in mine:
            if group.estimate is not None and group.currency is not None:
                amounts[group.currency] = amounts.get(group.currency, Decimal(0)) + group.estimate
        totals.append(
            SuspenseTotal(
                reason,
                sum(g.records for g in mine),
                sum(g.waived for g in mine),
                max(g.oldest_days for g in mine),
                amounts,
                sum(g.records for g in mine if g.estimate is None),
            )
        )
    return totals


def _line(ws: Workspace, row: dict[str, Any]) -> SuspendedLine:
    return SuspendedLine(
        address=f"{row['file_key']}:{row['line_no']}",
        file_name=row["file_name"] or "",
        received=row["landed_at"] or ws.clock().replace(tzinfo=None),
        age_days=row["age_days"] or 0,
        usage_month=row["usage_month"],
        event_start=str(row["event_start"]),
        uid=f"{row['uid_type']}:{row['uid_value']}",
        usage_class=row["usage_class"],
        quantity=row["quantity"],
        reason=row["reason_code"],
        detail=row["detail"],
        waived_by=row["waived_by"],
    )


# ---------------------------------------------------------------- retrying


def retry(ws: Workspace, month: Month | None = None) -> Retried:
    """Rate months with suspense again with what is known now; return what that fixed.

    Months whose inputs have not changed are left alone. What is fixed is charged by the next close
    of its period, or as a correction in the open one.
    """
    with runs.whole(ws, RETRY, None) as told:
        token = knowledge_token(ws)
        snapshot = knowledge(ws)
        wanted = [month] if month else suspended_months(ws)
        before = _addresses(ws, wanted)
        with runs.stage_lock(ws, *(p for m in wanted for p in usage.around(m))):
            rated = usage.rate_months(ws, usage.months_with_usage(ws, wanted), snapshot)
        after = _addresses(ws, wanted)
        result = Retried(
            [str(m) for m in rated],
            _counted(reason for address, reason in before.items() if address not in after),
            _counted(after[address] for address in after if address in before),
            _counted(after[address] for address in after if address not in before),
        )
        told.update(months=result.months, fixed=result.fixed, still=result.still)
        if month is None:
            told.update(knowledge=token)
    return result


def retry_due(ws: Workspace) -> str | None:
    """Return a key of the retry that is due, None if nothing waits or nothing changed.

    Due it is when what is known changed since the last successful retry; until the next one
    succeeds or more changes, the key stays.
    """
    if not suspended_months(ws):
        return None
    select = (
        sa.select(Run.run_id, Run.detail)
        .where(Run.kind == RETRY, Run.status == "succeeded")
        .where(Run.detail.has_key("knowledge"))
        .order_by(Run.finished_at.desc())
        .limit(1)
    )
    with ws.engine.connect() as connection:
        last = connection.execute(select).first()
    token = knowledge_token(ws)
    if last is not None and last.detail["knowledge"] == token:
        return None
    return f"{token} after {last.run_id if last else 'none'}"


def knowledge_token(ws: Workspace) -> str:
    """Return a text that changes when reference data or the configured catalog do."""
    digest = hashlib.sha256(catalogs.in_force(ws).json.encode())
    with ws.engine.connect() as connection:
        for name, table in sorted(REFERENCE_TABLES.items()):
            row = connection.execute(
                sa.select(
                    sa.func.count(), sa.func.max(table.c.known_from), sa.func.max(table.c.known_to)
                )
            ).one()
            digest.update(f"{name}{tuple(map(str, row))}".encode())
    return digest.hexdigest()[:32]


def _addresses(ws: Workspace, months: Sequence[Month]) -> dict[tuple[int, int], str]:
    files = [f for m in months for f in ws.lake.files(SUSPENDED_RECORD, usage_month=str(m))]
    with ws.compute() as compute:
        compute.scan(SUSPENDED_RECORD, files)
        rows = compute.fetch("select file_key, line_no, reason_code from suspended_record")
    return {(row["file_key"], row["line_no"]): row["reason_code"] for row in rows.to_pylist()}


def _counted(reasons: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for reason in reasons:
        counts[reason] = counts.get(reason, 0) + 1
    return dict(sorted(counts.items()))


# ---------------------------------------------------------------- waiving


def waive(ws: Workspace, wanted: Wanted, addresses: Sequence[str], *, by: str, reason: str) -> int:
    """Record that a person decided not to wait for some records; return how many were added.

    Named are addresses, or everything that ``wanted`` selects. Waiving twice changes nothing.
    Raises SuspenseError for an empty name or reason, or where nothing that is meant is suspended.
    """
    places = {parse_address(address) for address in addresses}
    where = _signed_for(wanted, places, by, reason)
    with ws.compute(_rows(ws, wanted)) as compute:
        _select(ws, compute, wanted, where)
        rows = compute.fetch(
            "select file_key, line_no, usage_month, feed_id, reason_code, quantity"
            " from chosen_suspense where waived_by is null order by file_key, line_no"
        ).to_pylist()
        found = compute.fetch("select count(*) as records from chosen_suspense")
    count = int(found["records"][0].as_py())
    if not count or count < len(places):
        raise SuspenseError(
            f"{count} of {len(places) or 'these'} records are suspended; "
            "`iotbill suspense list --records 20` shows addresses"
        )
    signed = {"waived_by": by.strip(), "waive_reason": reason.strip(), "waived_at": ws.clock()}
    with Session(ws.engine) as session, session.begin():
        added = 0
        for first in range(0, len(rows), 5_000):
            added += len(
                session.execute(
                    insert(SuspenseWaiver)
                    .values([row | signed for row in rows[first : first + 5_000]])
                    .returning(SuspenseWaiver.waiver_id)
                ).all()
            )
        if added:
            ledger.audit(
                session,
                at=ws.clock(),
                actor=ws.actor,
                action="waive_suspense",
                subject=f"{added} records",
                detail={
                    "by": by.strip(),
                    "reason": reason.strip(),
                    "records": _counted(row["reason_code"] for row in rows),
                    "first": [f"{r['file_key']}:{r['line_no']}" for r in rows[:20]],
                },
            )
    return added


def unwaive(
    ws: Workspace, wanted: Wanted, addresses: Sequence[str], *, by: str, reason: str
) -> int:
    """Take waivers back, so that their records are waited for again; return how many.

    Named are records as in :func:`waive`, those that are suspended still. Raises SuspenseError for
    an empty name or reason, or where no record that is meant has a waiver that holds.
    """
    places = {parse_address(address) for address in addresses}
    where = _signed_for(wanted, places, by, reason)
    with ws.compute(_rows(ws, wanted)) as compute:
        _select(ws, compute, wanted, where)
        rows = compute.fetch(
            "select waiver_id, file_key, line_no, reason_code from chosen_suspense"
            " where waiver_id is not null order by file_key, line_no"
        ).to_pylist()
    if not rows or len(rows) < len(places):
        raise SuspenseError(
            f"{len(rows)} of {len(places) or 'these'} records are waived; "
            "`iotbill suspense list --records 20` shows addresses"
        )
    signed = {"withdrawn_by": by.strip(), "withdraw_reason": reason.strip()}
    with Session(ws.engine) as session, session.begin():
        for first in range(0, len(rows), 5_000):
            session.execute(
                insert(SuspenseWaiverWithdrawal).values(
                    [
                        {"waiver_id": row["waiver_id"], "withdrawn_at": ws.clock()} | signed
                        for row in rows[first : first + 5_000]
                    ]
                )
            )
        ledger.audit(
            session,
            at=ws.clock(),
            actor=ws.actor,
            action="unwaive_suspense",
            subject=f"{len(rows)} records",
            detail={
                "by": by.strip(),
                "reason": reason.strip(),
                "records": _counted(row["reason_code"] for row in rows),
                "first": [f"{r['file_key']}:{r['line_no']}" for r in rows[:20]],
            },
        )
    return len(rows)


def _signed_for(wanted: Wanted, places: Set[tuple[int, int]], by: str, reason: str) -> str:
    """SQL: which records a signature is for. Raises SuspenseError for nobody's, or for none."""
    if not by.strip() or not reason.strip():
        raise SuspenseError("a waiver needs a name and a reason: --by NAME --reason TEXT")
    if not places and wanted == Wanted():
        raise SuspenseError(
            "say which records: their addresses, or --reason-code, --feed, --account, --month"
        )
    if not places:
        return "true"
    pairs = ", ".join(f"({key}, {number})" for key, number in sorted(places))
    return f"(s.file_key, s.line_no) in ({pairs})"


def waived_records(ws: Workspace, month: Month) -> int:
    """Return how many records of a month are suspended for a reason that was waived."""
    with ws.engine.connect() as connection:
        waived = connection.execute(_holding([str(month)])).all()
    if not waived:
        return 0
    suspended = _addresses(ws, [month])
    return sum(suspended.get((row.file_key, row.line_no)) == row.reason_code for row in waived)
