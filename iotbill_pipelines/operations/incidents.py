"""What is wrong now, by what is recorded: gates, runs, files, deliveries, sources, claims, margins.

Every incident says what, how much, what to do and which command shows what it rests on. Nothing is
remembered here: an incident that is no longer found has cleared (:mod:`operations.alerts`).
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from iotbill_pipelines.config.alerts import AlertPolicy, AlertSeverity
from iotbill_pipelines.config.documents import ConfigError
from iotbill_pipelines.config.sources import load_sources
from iotbill_pipelines.engine.contract import renewal_pipeline
from iotbill_pipelines.engine.money import minor_digits
from iotbill_pipelines.operations import contracts, ingest_again
from iotbill_pipelines.operations.corrections import proposal
from iotbill_pipelines.operations.deliveries import Missing, missing_files
from iotbill_pipelines.operations.gate_results import NEWEST_GATES
from iotbill_pipelines.operations.renewals import account_histories
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage import statements
from iotbill_pipelines.storage.lake_places import LakeError
from iotbill_pipelines.storage.reference import ReferenceDataError

TOLD_ELSEWHERE = ("feeds", "data_quality")
"""Gates whose findings are incidents of their own, file by file and day by day."""

TOLD_ONCE = ("contract_ends", "contract_lapsed")
"""Reminders by date: each is told on its day and not again, the next day has its own."""

UNCHECKED = {
    "contracts_unchecked": ("contract_ends", "contract_lapsed"),
    "catalog_unchecked": ("catalog", "catalog_reaches_back"),
}
"""What cannot be looked for, by the incident that says so: what is open of it has not cleared."""

LONGEST_MESSAGE = 600
_LONGEST_ALERT = timedelta(days=400)


@dataclass(frozen=True)
class Incident:
    """Something wrong: ``code`` and ``subject`` (with the feed) tell one from another."""

    code: str
    severity: AlertSeverity
    subject: str
    message: str
    figure: str
    what_to_do: str
    evidence: str
    feed_id: str | None = None

    @property
    def fingerprint(self) -> str:
        """The same for the same trouble, whatever its figures are by now."""
        told = "\n".join((self.code, self.feed_id or "", self.subject))
        return hashlib.sha256(told.encode()).hexdigest()


def find_incidents(ws: Workspace, policy: AlertPolicy, now: datetime) -> list[Incident]:
    """Return everything that is wrong now, the worst first."""
    with ws.engine.connect() as connection:
        found = [
            *_gates(connection),
            *_runs(connection),
            *_files(connection),
            *_waiting_files(connection, policy, now),
            *_feed_days(connection),
            *_sources(ws, connection, policy, now),
            *_claims(connection, policy, now),
            *_variances(connection, policy),
            *_margins(connection),
        ]
    found += _deliveries(missing_files(ws, now))
    found += _or_unchecked("contracts_unchecked", "contracts", _renewals(ws, now))
    found += _or_unchecked("catalog_unchecked", "the catalog", _catalog(ws))
    unique = {incident.fingerprint: incident for incident in found}
    return sorted(unique.values(), key=lambda i: (i.severity != "block", i.code, i.subject))


def _or_unchecked(code: str, what: str, finder: Iterator[Incident]) -> list[Incident]:
    """Return what a finder finds; where it cannot read what it looks at, that as an incident: the
    others are told nevertheless."""
    try:
        return list(finder)
    except (ConfigError, LakeError, ReferenceDataError) as error:
        return [
            Incident(
                code, "block", what, _short(f"{what} cannot be checked: {error}"), "",
                "mend what the message names; it is looked at again by itself",
                "iotbill alerts list",
            )
        ]  # fmt: skip


def _rows(connection: sa.Connection, statement: str, **values: object) -> Iterator[Any]:
    yield from connection.execute(sa.text(statement), values).mappings()


def _short(text: str) -> str:
    text = text.strip()
    return text if len(text) <= LONGEST_MESSAGE else text[: LONGEST_MESSAGE - 1] + "…"


# A period is settled when its books are closed in every entity: what they hold is accepted.
_OPEN_PERIODS = """
with settled as (
  select period from period group by period having bool_and(state = 'closed')
)
"""

_GATES = (
    _OPEN_PERIODS
    + f"""
select g.period, g.gate, g.entity_id, g.outcome, g.severity, g.figure, g.message, g.what_to_do
from ({NEWEST_GATES}) as g
where g.period not in (select period from settled) and g.gate <> all(:elsewhere)
order by g.period, g.gate, g.entity_id
"""
)


_SHOWN_BY = {
    "suspense": "iotbill suspense list --month {period}",
    "draft_review": "iotbill flux {period}",
    "tax": "iotbill tax totals {period}",
    "tax_totals": "iotbill tax totals {period}",
    "reconciliation": "iotbill dispute list --period {period}",
    "sim_counts": "iotbill sims audit {period}",
    "journals": "iotbill journal lint {period}",
    "derived_entries": "iotbill revenue deferred {period}",
}
"""The command that shows what a gate's finding rests on; `iotbill status` where it says it all."""


def _gates(connection: sa.Connection) -> Iterator[Incident]:
    for row in _rows(connection, _GATES, elsewhere=list(TOLD_ELSEWHERE)):
        if row["outcome"] == "failed" and row["severity"] != "info":
            yield Incident(
                row["gate"], row["severity"],
                " ".join(filter(None, (row["period"], row["entity_id"]))),
                _short(f"{row['period']}: {row['message']}"), row["figure"] or "",
                _short(row["what_to_do"] or ""),
                _SHOWN_BY.get(row["gate"], "iotbill status {period}").format(period=row["period"]),
            )  # fmt: skip


_RUNS = (
    _OPEN_PERIODS
    + """
select distinct on (r.period) r.period, r.run_id, r.status, r.detail
from run as r
where r.kind = 'close' and r.period is not null and r.period not in (select period from settled)
order by r.period, r.started_at desc
"""
)


def _runs(connection: sa.Connection) -> Iterator[Incident]:
    for row in _rows(connection, _RUNS):
        error = (row["detail"] or {}).get("error")
        if row["status"] == "failed" and error:
            stage = row["detail"].get("stage", "")
            yield Incident(
                "run_failed", "block", row["period"],
                _short(f"the close of {row['period']} stopped at {stage}: {error}"), "1 run",
                f"mend what the message names; `iotbill close {row['period']}` then goes on",
                f"iotbill status {row['period']}",
            )  # fmt: skip


def _files(connection: sa.Connection) -> Iterator[Incident]:
    statement = (
        "select file_key, original_name, feed_id, state, error, size_bytes, received_day"
        " from feed_file where state in ('quarantined', 'unrecognised') order by original_name"
    )
    for row in _rows(connection, statement):
        name = row["original_name"]
        if row["state"] == "quarantined":
            yield Incident(
                "file_quarantined", "warn", f"{name} ({row['file_key']})",
                _short(f"{name} could not be used: {row['error']}"), f"{row['size_bytes']} bytes",
                "correct the feed and read the file again, or land a corrected file",
                ingest_again.command(row["file_key"]), row["feed_id"],
            )  # fmt: skip
        else:
            yield Incident(
                "file_unrecognised", "warn", f"{name} ({row['file_key']})",
                f"{name} is claimed by no feed", f"{row['size_bytes']} bytes",
                "add its name pattern to a feed under configs/feeds, then ingest",
                f"iotbill ingest --day {row['received_day']}",
            )  # fmt: skip


def _waiting_files(
    connection: sa.Connection, policy: AlertPolicy, now: datetime
) -> Iterator[Incident]:
    """Data files that nobody bills because what states their totals has not come."""
    statement = (
        "select file_key, original_name, feed_id, size_bytes, landed_at, received_day"
        " from feed_file where state = 'landed' and error = :waiting and landed_at <= :until"
        " order by original_name"
    )
    until = now - timedelta(minutes=policy.companion_grace_minutes)
    for row in _rows(connection, statement, waiting=statements.WAITING, until=until):
        name = row["original_name"]
        yield Incident(
            "companion_missing", "warn", f"{name} ({row['file_key']})",
            f"{name} came on {row['landed_at']:%Y-%m-%d %H:%M} UTC without the companion file that "
            "states what it holds; it is not billed until that comes",
            f"{row['size_bytes']} bytes", "ask the carrier for the companion, then ingest again",
            f"iotbill ingest --day {row['received_day']}", row["feed_id"],
        )  # fmt: skip


def _feed_days(connection: sa.Connection) -> Iterator[Incident]:
    statement = (
        "select feed_id, day, expectation, severity, figure, message, what_to_do"
        " from feed_day_failure where severity <> 'info' order by feed_id, day, expectation"
    )
    for row in _rows(connection, statement):
        yield Incident(
            "data_quality", row["severity"], f"{row['day']} {row['expectation']}",
            _short(row["message"]), row["figure"], _short(row["what_to_do"]),
            f"iotbill quality --day {row['day']}", row["feed_id"],
        )  # fmt: skip


def _deliveries(missing: list[Missing]) -> Iterator[Incident]:
    runs: dict[tuple[str, object], list[Missing]] = {}
    for one in missing:
        runs.setdefault((one.feed_id, one.since), []).append(one)
    for (feed_id, since), days in runs.items():
        span = f"{since}" if len(days) == 1 else f"{since} to {days[-1].day}"
        came, due = sum(day.came for day in days), sum(day.due for day in days)
        numbers = [f"{day.day} no. {number}" for day in days for number in day.numbers]
        told = f"{feed_id}: {came} of {due} files came for {span}"
        if numbers:
            told += f"; left out: {', '.join(numbers[:10])}{' ...' if len(numbers) > 10 else ''}"
        yield Incident(
            "delivery_missing", "warn", f"since {since}", told,
            f"{len(numbers) or due - came} files",
            "ask the carrier for them; change configs/deliveries.yaml if none are due",
            "iotbill status", feed_id,
        )  # fmt: skip


def _sources(
    ws: Workspace, connection: sa.Connection, policy: AlertPolicy, now: datetime
) -> Iterator[Incident]:
    configured = list(load_sources(ws.configs))
    grace = timedelta(minutes=policy.source_grace_minutes)
    statement = "select * from remote_source where source_id = any(:ids) order by source_id"
    for row in _rows(connection, statement, ids=configured):
        source, reached = row["source_id"], row["succeeded_at"]
        if row["error"] and (reached is None or now - reached >= grace):
            since = f"since {reached:%Y-%m-%d %H:%M} UTC" if reached else "never reached"
            yield Incident(
                "source_unreachable", "warn", source, _short(row["error"]), since,
                f"check configs/sources/{source}.yaml and the server, then fetch again",
                f"iotbill fetch {source}",
            )  # fmt: skip
        for name in row["refused"]:
            yield Incident(
                "source_name_refused", "warn", f"{source} {name}",
                _short(f"{source} lists a name that no file may have: {name}"), "1 file",
                "ask the carrier to rename the file", f"iotbill fetch {source}",
            )  # fmt: skip
    statement = (
        "select source_id, path, problem, attempts from remote_file"
        " where state = 'failed' and source_id = any(:ids) order by source_id, path"
    )
    for row in _rows(connection, statement, ids=configured):
        yield Incident(
            "source_file_failed", "warn", f"{row['source_id']} {row['path']}",
            _short(row["problem"] or ""), f"{row['attempts']} attempts",
            "see the message; the file is tried again by itself",
            f"iotbill fetch {row['source_id']}",
        )  # fmt: skip


_CLAIMS = """
select vendor_id, deadline, currency, count(*) as claims,
  sum(difference_minor)::bigint as amount_minor, min(accounting_period) as period
from dispute where status = 'open' and deadline <= :until
group by vendor_id, deadline, currency order by deadline, vendor_id, currency
"""


def _claims(connection: sa.Connection, policy: AlertPolicy, now: datetime) -> Iterator[Incident]:
    until = now.date() + timedelta(days=policy.dispute_days)
    for row in _rows(connection, _CLAIMS, until=until):
        late = row["deadline"] < now.date()
        yield Incident(
            "dispute_deadline", "block" if late else "warn",
            f"{row['vendor_id']} {row['deadline']} {row['currency']}",
            f"{row['claims']} claims against {row['vendor_id']} "
            f"{'had to be' if late else 'must be'} sent by {row['deadline']}",
            _money(row["amount_minor"], row["currency"]),
            f"iotbill dispute export {row['vendor_id']} --out claims.xlsx --send",
            f"iotbill dispute list --vendor {row['vendor_id']} --status open",
        )  # fmt: skip


_VARIANCES = (
    _OPEN_PERIODS
    + """
select accounting_period as period, vendor_id, currency, expected_minor, variance_minor
from vendor_reconciliation
where status <> 'accrued' and accounting_period not in (select period from settled)
  and abs(variance_minor)::numeric * 100 > :percent * abs(expected_minor)
order by 1, 2, 3
"""
)


def _variances(connection: sa.Connection, policy: AlertPolicy) -> Iterator[Incident]:
    for row in _rows(connection, _VARIANCES, percent=policy.variance_percent):
        more = "more" if row["variance_minor"] > 0 else "less"
        yield Incident(
            "vendor_variance", "warn", f"{row['period']} {row['vendor_id']} {row['currency']}",
            f"{row['period']}: {row['vendor_id']} billed {more} than "
            f"{_money(row['expected_minor'], row['currency'])} by over "
            f"{policy.variance_percent:f} %",
            _money(row["variance_minor"], row["currency"]),
            "look at the causes in the vendor's workbook, then send the claims",
            f"iotbill dispute list --vendor {row['vendor_id']} --period {row['period']}",
        )  # fmt: skip


# Where an account's amounts are in several currencies, no sum says whether it loses money.
_MARGINS = (
    _OPEN_PERIODS
    + """
select p.accounting_period as period, p.customer as account_id, min(p.currency) as currency,
  sum(p.revenue_minor - p.cost_minor)::bigint as margin_minor
from earned_part as p
where p.accounting_period not in (select period from settled) and p.customer <> '(nobody)'
group by p.accounting_period, p.customer
having count(distinct p.currency) = 1 and sum(p.revenue_minor - p.cost_minor) < 0
order by 1, 2
"""
)


def _margins(connection: sa.Connection) -> Iterator[Incident]:
    for row in _rows(connection, _MARGINS):
        yield Incident(
            "margin_negative", "warn", f"{row['period']} {row['account_id']}",
            f"{row['period']}: account {row['account_id']} costs more than it pays",
            _money(row["margin_minor"], row["currency"]),
            "compare its offers with the vendor's prices, or correct the prices",
            f"iotbill margins {row['period']} --by sim --negative"
            f" --customer {shlex.quote(row['account_id'])}",
        )  # fmt: skip


def _renewals(ws: Workspace, now: datetime) -> Iterator[Incident]:
    """Terms whose alert days have come, the tightest of them; and what lapsed (CT-13)."""
    today = now.date()
    with Session(ws.engine) as session:
        tables = contracts.known_tables(session, now)
    if not tables["contract"].num_rows:
        return
    known = contracts.read_tables(tables)
    rows = renewal_pipeline(
        known, as_of=today, until=today + _LONGEST_ALERT,
        histories=account_histories(ws, known, today),
    )  # fmt: skip
    for row in rows:
        ended = row.last_day < today
        passed = [(days, day) for days, day in (*row.alerts_passed, *row.alerts) if day <= today]
        if not passed and not ended:
            continue
        days, _ = min(passed, default=(0, row.last_day))
        flags = "; ".join(f"{flag.code}: {flag.evidence}" for flag in row.flags)
        yield Incident(
            "contract_lapsed" if ended else "contract_ends", "warn",
            f"{row.contract_id} {row.last_day} {days}",
            _short(
                f"contract {row.contract_id} of {row.account_id} "
                f"{'ended' if ended else 'ends'} on {row.last_day}, notice by "
                f"{row.notice_deadline}, then {row.next_kind.replace('_', ' ')}"
                + (f"; {flags}" if flags else "")
            ),
            f"{(row.last_day - today).days} days",
            "renew, replace or end it; what its terms say happens by itself",
            f"iotbill contract show {row.contract_id}",
        )  # fmt: skip


def _catalog(ws: Workspace) -> Iterator[Incident]:
    """A catalog that changes what is booked, until the run that it calls for went through."""
    try:
        proposed = proposal(ws)
    except ConfigError as error:
        yield Incident(
            "catalog", "block", str(ws.configs / "catalog"), _short(str(error)), "",
            "correct it; nothing can be closed until it is right",
            f"iotbill catalog lint {shlex.quote(str(ws.configs / 'catalog'))}",
        )  # fmt: skip
        return
    if proposed is not None:
        yield Incident(
            "catalog_reaches_back", "warn", proposed.catalog_digest, _short(proposed.message),
            f"{len(proposed.usage_periods)} months",
            f"see `{proposed.command}` and book it with --yes; or take the change back",
            proposed.command,
        )  # fmt: skip


def _money(minor: int, currency: str) -> str:
    digits = minor_digits(currency)
    sign, whole = "-" if minor < 0 else "", f"{abs(minor):0{digits + 1}d}"
    return (
        f"{currency} {sign}{whole[:-digits]}.{whole[-digits:]}" if digits else f"{currency} {minor}"
    )
