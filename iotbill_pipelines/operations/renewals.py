"""The renewal desk: which terms end when, what to do by when, and the numbers behind each flag.

RULEBOOK §4; CT-13, CT-14. Figures are of whole months before the day asked about: what is included
and used comes from pools and allowances as closes settled them, devices from the reference data.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from fractions import Fraction
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.orm import Session

from iotbill_pipelines.engine import guide
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.contract import (
    AccountHistory,
    Contract,
    FlagPolicy,
    RenewalRow,
    renewal_pipeline,
    terms_of,
)
from iotbill_pipelines.engine.contract.stage import LEVELS
from iotbill_pipelines.engine.schemas import POOL_SETTLEMENT, USAGE_AGGREGATE
from iotbill_pipelines.engine.terms import compile_catalog
from iotbill_pipelines.operations import catalogs, contracts
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage import ledger
from iotbill_pipelines.storage.documents import ColumnFormat, Sheet, write_bytes, write_workbook
from iotbill_pipelines.storage.models import AuditLog
from iotbill_pipelines.storage.reference import as_known_at
from iotbill_pipelines.storage.renewal_page import render_renewals

MONTHS = 4
"""Months of history: a flag compares the last one with three before."""


@dataclass(frozen=True)
class Desk:
    """Terms that end before ``until``, and contracts that lapsed, as of a day."""

    as_of: date
    until: date
    rows: tuple[RenewalRow, ...]


def renewal_desk(ws: Workspace, as_of: date, days: int, account: str | None = None) -> Desk:
    """Return what ends within ``days`` of a day; nothing is written."""
    known = [c for c in contracts.read_known(ws) if account in (None, c.account_id)]
    until = as_of + timedelta(days=days)
    histories = account_histories(ws, known, as_of)
    rows = renewal_pipeline(
        known, as_of=as_of, until=until, histories=histories, policy=FlagPolicy()
    )
    return Desk(as_of, until, rows)


def account_histories(
    ws: Workspace, known: Sequence[Contract], as_of: date
) -> dict[str, AccountHistory]:
    """Return the figures of each contract's account, or service, for the months before a day."""
    if not known:
        return {}
    this = Month.of(as_of)
    months = [this - number for number in range(MONTHS, 0, -1)]
    devices = _devices(ws, [*(month.last_day for month in months), as_of])
    shares = _shares(ws, months)
    found = {}
    for contract in known:
        scope = contract.account_id, contract.service_id or ""
        used, included = _most_used(shares.get(scope, {}), months)
        counts = [devices.get((*scope, day), 0) for day in (m.last_day for m in months)]
        found[contract.id] = AccountHistory(
            included_quantity=included,
            used_quantity=used,
            active_devices=tuple(counts),
            devices_now=devices.get((*scope, as_of), 0),
        )
    return found


def _devices(ws: Workspace, days: Sequence[date]) -> dict[tuple[str, str, date], int]:
    """Active services by account and service ('' = all of the account's) on some days."""
    with Session(ws.engine) as session:
        reference = as_known_at(session, ws.clock())
    listed = ", ".join(f"(date '{day}')" for day in dict.fromkeys(days))
    levels = ", ".join(f"'{level}'" for level in LEVELS.values())
    found: dict[tuple[str, str, date], int] = defaultdict(int)
    with ws.compute() as compute:
        for name, table in {**reference, **compile_catalog(catalogs.in_force(ws).catalog)}.items():
            compute.load(name, table)
        guide.define_day_intervals(compute)
        rows = compute.fetch(
            "select d.day, i.account_id, i.service_id"
            f" from (values {listed}) as d(day)"
            " join service_offer_interval as i on i.from_date <= d.day and i.to_date > d.day"
            f" and i.level in ({levels})"
            " join service_state_interval as t on t.service_id = i.service_id"
            " and t.from_date <= d.day and t.to_date > d.day and t.core_state = 'active'"
            " group by all"
        ).to_pylist()
    for row in rows:
        found[row["account_id"], "", row["day"]] += 1
        found[row["account_id"], row["service_id"], row["day"]] = 1
    return found


Shares = dict[tuple[str, Month], tuple[int, int]]
"""(Pool or charge, month) -> used and included class units."""


def _shares(ws: Workspace, months: Sequence[Month]) -> dict[tuple[str, str], Shares]:
    """What was used of what pools and allowances include, by account and service."""
    found: dict[tuple[str, str], Shares] = defaultdict(dict)
    with ws.compute() as compute:
        for month in months:
            ws.lake.scan(compute, POOL_SETTLEMENT, usage_period=str(month))
            for row in compute.fetch("pool_settlement").to_pylist():
                key = row["pool_id"], month
                used, included = found[row["account_id"], ""].get(key, (0, 0))
                found[row["account_id"], ""][key] = (
                    used + row["used"],
                    included + row["available"],
                )
        allowed = compile_catalog(catalogs.in_force(ws).catalog)["charge"]
        compute.load("charge", allowed)
        for month in months:
            ws.lake.scan(compute, USAGE_AGGREGATE, usage_period=str(month))
            for row in compute.fetch(
                "select u.account_id, u.service_id, u.charge_id,"
                " cast(sum(u.rated_quantity) as bigint) as used,"
                " cast(max(c.allowance_quantity) as bigint) as included"
                " from usage_aggregate as u join charge as c on c.charge_id = u.charge_id"
                " where c.allowance_quantity > 0 and not u.pooled"
                " group by u.account_id, u.service_id, u.charge_id"
            ).to_pylist():
                key = row["charge_id"], month
                for service in ("", row["service_id"]):
                    shares = found[row["account_id"], service]
                    used, included = shares.get(key, (0, 0))
                    shares[key] = used + row["used"], included + row["included"]
    return found


def _most_used(
    shares: Mapping[tuple[str, Month], tuple[int, int]], months: Sequence[Month]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Used and included units a month of the pool or charge of which the most is used."""
    names = {name for name, _ in shares}

    def share(name: str) -> tuple[Fraction, str]:
        rows = [value for (other, _), value in shares.items() if other == name]
        used, included = (sum(values) for values in zip(*rows, strict=True))
        return (Fraction(used, included) if included else Fraction(0)), name

    if not names:
        return (), ()
    name = max(names, key=share)
    pairs = [shares.get((name, month), (0, 0)) for month in months]
    return tuple(used for used, _ in pairs), tuple(included for _, included in pairs)


# ---------------------------------------------------------------------- what the close books


def book_extensions(
    ws: Workspace, session: Session, known: Sequence[Contract], period: Month
) -> int:
    """Write down, once each, the terms that began by themselves up to the end of a period.

    A term that follows by the contract's own renewal needs nobody's hand; the audit log says when
    a close first billed under it. Returns how many were written.
    """
    told = set(
        session.scalars(sa.select(AuditLog.subject).where(AuditLog.action == "extend_contract"))
    )
    written = 0
    for contract in known:
        for term in terms_of(contract, period.end):
            subject = f"{contract.id} term {term.number}"
            if term.number == 1 or subject in told:
                continue
            ledger.audit(
                session,
                at=ws.clock(),
                actor=ws.actor,
                action="extend_contract",
                subject=subject,
                detail={
                    "renewal": term.kind,
                    "start": str(term.start),
                    "end": str(term.end),
                    "price_factor": str(term.price_factor),
                },
            )
            written += 1
    return written


# --------------------------------------------------------------------------------- documents

_COLUMNS = (
    ColumnFormat("Contract"),
    ColumnFormat("Account"),
    ColumnFormat("Service"),
    ColumnFormat("Term", "integer"),
    ColumnFormat("Last day", "date"),
    ColumnFormat("Notice by", "date"),
    ColumnFormat("Days to notice", "integer"),
    ColumnFormat("Next alert", "date"),
    ColumnFormat("Then"),
    ColumnFormat("Next term from", "date"),
    ColumnFormat("Next term to", "date"),
    ColumnFormat("Flags"),
    ColumnFormat("Numbers behind them", width=70),
)


def write_desk(ws: Workspace, desk: Desk, xlsx: Path | None, html: Path | None) -> list[Path]:
    """Write the desk as a workbook, as a page, or both; return what was written."""
    title = f"Contract terms that end before {desk.until}, as of {desk.as_of}"
    rows = [desk_cells(row) for row in desk.rows]
    written = []
    if xlsx is not None:
        sheet = Sheet("Renewals", _COLUMNS, rows, notes=(title,))
        write_workbook(xlsx, [sheet], ws.clock())
        written.append(xlsx)
    if html is not None:
        page = render_renewals(title, [column.title for column in _COLUMNS], rows)
        write_bytes(html, page.encode())
        written.append(html)
    return written


def desk_cells(row: RenewalRow) -> list[str | int | date | None]:
    """A row of the desk as cells of its documents."""
    following = row.next_term or (None, None)
    return [
        row.contract_id,
        row.account_id,
        row.service_id,
        row.term_number,
        row.last_day,
        row.notice_deadline,
        row.notice_days_left,
        row.alerts[0][1] if row.alerts else None,
        row.next_kind.replace("_", " "),
        *following,
        ", ".join(flag.code.replace("_", " ") for flag in row.flags),
        "; ".join(flag.evidence for flag in row.flags),
    ]
