"""Sub-ledger against general ledger, to the cent (RULEBOOK §11, CL-04).

Per account and currency: opening balance + what our exported journals posted + payments, credits
and other entries that the general ledger holds besides = the balance that we expect. What differs
blocks until it is explained by somebody, to the cent.
"""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.money import of_minor, to_minor
from iotbill_pipelines.engine.post.terms import LedgerTerms
from iotbill_pipelines.storage import ledger, models
from iotbill_pipelines.storage.ledger import LedgerError, LedgerFinding

GATE = "gl_balances"
KINDS = ("balance", "opening", "payment", "credit", "other")
_COLUMNS = ("entity", "account", "currency", "kind", "amount", "reference")


@dataclass(frozen=True)
class GlRow:
    """A row of a balance file; ``amount_minor`` is positive for debits."""

    line: int
    entity_id: str
    account: str
    currency: str
    kind: str
    amount_minor: int
    reference: str


@dataclass(frozen=True)
class BalanceFile:
    """A balance file as read."""

    name: str
    sha256: str
    rows: list[GlRow]


def read_balances(path: Path, terms: LedgerTerms) -> BalanceFile:
    """Read a balance file: CSV with the columns entity, account, currency, kind, amount, reference.

    Kinds: ``balance`` (closing, one per account), ``opening``, ``payment``, ``credit``, ``other``.
    Amounts are debit positive, with a point. Raises LedgerError naming file, line and value.
    """
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise LedgerError(f"{path}: not UTF-8 text; export the balances as CSV in UTF-8") from None
    reader = csv.DictReader(text.splitlines(keepends=True))
    missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise LedgerError(f"{path}:1: no column {', '.join(missing)}; there are to be "
                          f"{', '.join(_COLUMNS)}")  # fmt: skip
    rows: list[GlRow] = []
    balances: dict[tuple[str, str, str], int] = {}
    numbers = {account.number for account in terms.accounts}
    entities = {entity.id for entity in terms.entities}
    for row in reader:
        where = f"{path}:{reader.line_num}"
        if None in row or None in row.values():
            raise LedgerError(f"{where}: give {len(reader.fieldnames or ())} values")
        if row["entity"] not in entities:
            raise LedgerError(f"{where}: entity {row['entity']!r} is not in configs/ledger")
        if row["account"] not in numbers:
            raise LedgerError(
                f"{where}: account {row['account']!r} is not in configs/ledger; leave out accounts "
                "that we do not post to, or add it"
            )
        if row["kind"] not in KINDS:
            raise LedgerError(f"{where}: kind {row['kind']!r} is none of {', '.join(KINDS)}")
        try:
            minor = to_minor(Decimal(row["amount"]), row["currency"])
        except (InvalidOperation, ValueError):
            raise LedgerError(
                f"{where}: amount {row['amount']!r} is no amount of {row['currency']}; write it "
                "as -1234.50"
            ) from None
        if row["kind"] == "balance":
            key = (row["entity"], row["account"], row["currency"])
            if key in balances:
                raise LedgerError(f"{where}: line {balances[key]} has this account's balance")
            balances[key] = reader.line_num
        rows.append(
            GlRow(
                reader.line_num,
                row["entity"],
                row["account"],
                row["currency"],
                row["kind"],
                minor,
                row["reference"],
            )
        )
    if not balances:
        raise LedgerError(f"{path}: no balance in it")
    return BalanceFile(path.name, hashlib.sha256(content).hexdigest(), rows)


def store_balances(
    session: Session, period: Month, file: BalanceFile, *, actor: str, at: datetime
) -> None:
    """Replace what the general ledger said of the file's entities; explanations stay."""
    ledger.lock_ledger(session)
    entities = sorted({row.entity_id for row in file.rows})
    ledger.ensure_periods(session, period, entities, at)
    for entity_id in entities:
        session.execute(
            sa.delete(models.GlEntry).where(
                models.GlEntry.entity_id == entity_id,
                models.GlEntry.period == str(period),
                models.GlEntry.kind != "explanation",
            )
        )
        first = _next_entry(session, entity_id, period)
        session.execute(
            sa.insert(models.GlEntry),
            [
                {
                    "entity_id": entity_id,
                    "period": str(period),
                    "entry_no": number,
                    "account": row.account,
                    "currency": row.currency,
                    "kind": row.kind,
                    "amount_minor": row.amount_minor,
                    "reference": row.reference,
                    "source": f"{file.name} {file.sha256}",
                    "actor": actor,
                    "recorded_at": at,
                }
                for number, row in enumerate(
                    (row for row in file.rows if row.entity_id == entity_id), first
                )
            ],
        )
    ledger.audit(
        session,
        at=at,
        actor=actor,
        action="gl balances",
        subject=f"{', '.join(entities)} {period}",
        detail={"rows": len(file.rows)},
        input_hashes={file.name: file.sha256},
    )


def explain(
    session: Session,
    period: Month,
    entity_id: str,
    account: str,
    amount: Decimal,
    currency: str,
    *,
    reason: str,
    actor: str,
    at: datetime,
) -> None:
    """Sign for a part of an account's difference; the same amount with the other sign undoes it.

    Raises LedgerError if no balance of the account was read, or without a reason.
    """
    ledger.lock_ledger(session)
    if not reason.strip():
        raise LedgerError("an explanation needs a reason; it is kept with your name")
    known = session.scalar(
        sa.select(sa.func.count())
        .select_from(models.GlEntry)
        .where(
            models.GlEntry.entity_id == entity_id,
            models.GlEntry.period == str(period),
            models.GlEntry.account == account,
            models.GlEntry.currency == currency,
            models.GlEntry.kind == "balance",
        )
    )
    if not known:
        raise LedgerError(
            f"no balance of account {account} in {currency} was read for {entity_id} {period}"
        )
    try:
        minor = to_minor(amount, currency)
    except ValueError as error:
        raise LedgerError(str(error)) from None
    session.add(
        models.GlEntry(
            entity_id=entity_id,
            period=str(period),
            entry_no=_next_entry(session, entity_id, period),
            account=account,
            currency=currency,
            kind="explanation",
            amount_minor=minor,
            reference=reason,
            source="",
            actor=actor,
            recorded_at=at,
        )
    )
    session.flush()
    ledger.audit(
        session,
        at=at,
        actor=actor,
        action="gl explanation",
        subject=f"{entity_id} {period} {account}",
        detail={"amount": f"{amount:f} {currency}", "reason": reason},
    )


def _next_entry(session: Session, entity_id: str, period: Month) -> int:
    newest = session.scalar(
        sa.select(sa.func.max(models.GlEntry.entry_no)).where(
            models.GlEntry.entity_id == entity_id, models.GlEntry.period == str(period)
        )
    )
    return (newest or 0) + 1


@dataclass(frozen=True)
class AccountTie:
    """An account's way from its opening to its closing balance, in minor units, debit positive.

    ``expected`` = opening + journals + payments + credits + other; ``difference`` = balance -
    expected; ``unexplained`` = difference - explained.
    """

    entity_id: str
    account: str
    currency: str
    opening: int
    journals: int
    payments: int
    credits: int
    other: int
    balance: int
    explained: int

    @property
    def expected(self) -> int:
        return self.opening + self.journals + self.payments + self.credits + self.other

    @property
    def difference(self) -> int:
        return self.balance - self.expected

    @property
    def unexplained(self) -> int:
        return self.difference - self.explained


_TIES = """
with entries as (
  select entity_id, account, currency, kind, sum(amount_minor)::bigint as minor
  from gl_entry where period = :period group by entity_id, account, currency, kind
), posted as (
  select j.entity_id, l.account, l.currency,
    sum(l.debit_minor - l.credit_minor)::bigint as minor
  from journal j join journal_line l using (journal_id)
  where j.accounting_period = :period and j.state in ('exported', 'acknowledged')
  group by j.entity_id, l.account, l.currency
), read_ones as (
  select entity_id, account, currency from entries where kind = 'balance'
)
select r.entity_id, r.account, r.currency,
  coalesce(sum(e.minor) filter (where e.kind = 'opening'), 0)::bigint as opening,
  coalesce(max(p.minor), 0)::bigint as journals,
  coalesce(sum(e.minor) filter (where e.kind = 'payment'), 0)::bigint as payments,
  coalesce(sum(e.minor) filter (where e.kind = 'credit'), 0)::bigint as credits,
  coalesce(sum(e.minor) filter (where e.kind = 'other'), 0)::bigint as other,
  coalesce(sum(e.minor) filter (where e.kind = 'balance'), 0)::bigint as balance,
  coalesce(sum(e.minor) filter (where e.kind = 'explanation'), 0)::bigint as explained
from read_ones r
join entries e using (entity_id, account, currency)
left join posted p using (entity_id, account, currency)
group by r.entity_id, r.account, r.currency
order by r.entity_id, r.account, r.currency
"""

_NOT_READ = """
select j.entity_id, l.account, l.currency,
  sum(l.debit_minor - l.credit_minor)::bigint as minor
from journal j join journal_line l using (journal_id)
where j.accounting_period = :period and j.state in ('exported', 'acknowledged')
  and j.entity_id = :entity
  and exists (select from gl_entry e where e.entity_id = j.entity_id and e.period = :period)
  and not exists (select from gl_entry e where e.entity_id = j.entity_id and e.period = :period
    and e.account = l.account and e.currency = l.currency and e.kind = 'balance')
group by j.entity_id, l.account, l.currency
having sum(l.debit_minor - l.credit_minor) <> 0
order by j.entity_id, l.account, l.currency
"""


def account_ties(session: Session, period: Month) -> list[AccountTie]:
    """Return every account whose balance was read, each figure from its own table."""
    rows = session.execute(sa.text(_TIES), {"period": str(period)}).mappings()
    return [AccountTie(**row) for row in rows]


def was_read(session: Session, period: Month, entity_id: str) -> bool:
    """Whether balances of an entity were read for a period."""
    return bool(
        session.scalar(
            sa.select(sa.func.count())
            .select_from(models.GlEntry)
            .where(
                models.GlEntry.entity_id == entity_id,
                models.GlEntry.period == str(period),
                models.GlEntry.kind == "balance",
            )
        )
    )


def balance_findings(session: Session, period: Month, entity_id: str) -> list[LedgerFinding]:
    """Return what is not explained: differences, and accounts posted to that no file names."""
    found = [
        LedgerFinding(
            GATE,
            "block",
            f"{tie.entity_id}: account {tie.account} is {_money(tie.balance, tie.currency)} in the "
            f"general ledger, {_money(tie.expected, tie.currency)} by our journals "
            f"(opening {_money(tie.opening, tie.currency)}, journals "
            f"{_money(tie.journals, tie.currency)}, payments {_money(tie.payments, tie.currency)}, "
            f"credits {_money(tie.credits, tie.currency)}, other "
            f"{_money(tie.other, tie.currency)}); "
            f"{_money(tie.explained, tie.currency)} of the difference is explained",
            f"{tie.currency} {_money(tie.unexplained, tie.currency)}",
            "find the entry and read the balances again, or sign for it with `iotbill gl explain`",
        )
        for tie in account_ties(session, period)
        if tie.unexplained and tie.entity_id == entity_id
    ]
    values = {"period": str(period), "entity": entity_id}
    for row in session.execute(sa.text(_NOT_READ), values):
        found.append(
            LedgerFinding(
                GATE,
                "block",
                f"{row.entity_id}: our journals post {_money(row.minor, row.currency)} "
                f"{row.currency} to account {row.account}, whose balance the file does not say",
                f"{row.currency} {_money(row.minor, row.currency)}",
                "export the balances of all our accounts",
            )
        )
    return found


def record_gate(session: Session, period: Month, entity_id: str, at: datetime) -> None:
    """Keep how an entity's tie-out came out as a gate of the period."""
    found = balance_findings(session, period, entity_id)
    evidence: dict[str, Any] = {
        "stage": "gl_balances",
        "findings": [vars(finding) for finding in found],
        "accounts": [
            {
                "account": tie.account,
                "currency": tie.currency,
                "balance_minor": tie.balance,
                "expected_minor": tie.expected,
                "explained_minor": tie.explained,
            }
            for tie in account_ties(session, period)
            if tie.entity_id == entity_id
        ],
    }
    session.add(
        models.GateResult(
            entity_id=entity_id,
            period=str(period),
            gate=GATE,
            outcome="failed" if found else "passed",
            severity="block" if found else "info",
            figure=found[0].figure if found else None,
            message="\n".join(f.message for f in found) or "sub-ledger = general ledger",
            what_to_do=found[0].what_to_do if found else None,
            evidence=evidence,
            recorded_at=at,
        )
    )
    session.flush()


def _money(minor: int, currency: str) -> str:
    return f"{of_minor(minor, currency):f}"
