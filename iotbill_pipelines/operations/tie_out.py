"""Tie-out of the sub-ledger with the general ledger, as a gate of the close (CL-04)."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.orm import Session

from iotbill_pipelines.config.ledger import read_ledger
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.money import of_minor
from iotbill_pipelines.operations.stages import Finding, finding
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage import gl_balances, ledger
from iotbill_pipelines.storage.gl_balances import AccountTie
from iotbill_pipelines.storage.models import GlEntry


@dataclass(frozen=True)
class AccountLine:
    """An account's tie-out in the currency's own unit, debit positive."""

    entity_id: str
    account: str
    currency: str
    opening: Decimal
    journals: Decimal
    payments: Decimal
    credits: Decimal
    other: Decimal
    expected: Decimal
    balance: Decimal
    difference: Decimal
    explained: Decimal
    unexplained: Decimal


@dataclass(frozen=True)
class TieOut:
    """The accounts whose balances were read, and what blocks."""

    lines: list[AccountLine]
    findings: list[Finding]


def read(ws: Workspace, period: Month, file: Path) -> TieOut:
    """Read a file of general ledger balances and compare; records the gate ``gl_balances``.

    Raises LedgerError naming file, line and value for what cannot be read.
    """
    terms = read_ledger(ws.configs / "ledger")
    balances = gl_balances.read_balances(file, terms)
    with Session(ws.engine) as session, session.begin():
        ledger.ensure_entities(session, terms.entities)
        gl_balances.store_balances(session, period, balances, actor=ws.actor, at=ws.clock())
        for entity_id in _entities(session, period):
            gl_balances.record_gate(session, period, entity_id, ws.clock())
        return _tie_out(session, period)


def explain(
    ws: Workspace,
    period: Month,
    *,
    entity_id: str,
    account: str,
    amount: Decimal,
    currency: str,
    reason: str,
) -> TieOut:
    """Sign for a part of an account's difference; records the gate again."""
    with Session(ws.engine) as session, session.begin():
        gl_balances.explain(
            session,
            period,
            entity_id,
            account,
            amount,
            currency,
            reason=reason,
            actor=ws.actor,
            at=ws.clock(),
        )
        gl_balances.record_gate(session, period, entity_id, ws.clock())
        return _tie_out(session, period)


def show(ws: Workspace, period: Month) -> TieOut:
    """Compare as things stand now."""
    with Session(ws.engine) as session:
        return _tie_out(session, period)


def _entities(session: Session, period: Month) -> list[str]:
    return list(
        session.scalars(
            sa.select(GlEntry.entity_id)
            .where(GlEntry.period == str(period), GlEntry.kind == "balance")
            .distinct()
            .order_by(GlEntry.entity_id)
        )
    )


def _tie_out(session: Session, period: Month) -> TieOut:
    return TieOut(
        [_line(tie) for tie in gl_balances.account_ties(session, period)],
        [
            finding(found)
            for entity_id in _entities(session, period)
            for found in gl_balances.balance_findings(session, period, entity_id)
        ],
    )


def _line(tie: AccountTie) -> AccountLine:
    def money(minor: int) -> Decimal:
        return of_minor(minor, tie.currency)

    return AccountLine(
        entity_id=tie.entity_id,
        account=tie.account,
        currency=tie.currency,
        opening=money(tie.opening),
        journals=money(tie.journals),
        payments=money(tie.payments),
        credits=money(tie.credits),
        other=money(tie.other),
        expected=money(tie.expected),
        balance=money(tie.balance),
        difference=money(tie.difference),
        explained=money(tie.explained),
        unexplained=money(tie.unexplained),
    )
