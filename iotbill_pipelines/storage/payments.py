"""Payments of invoices: read from a file, kept, and shared over what was invoiced (RULEBOOK §7)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from iotbill_pipelines.config.tables import read_table
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.money import apportion, apportion_signed, of_minor, to_minor
from iotbill_pipelines.engine.terms import Money, Terms
from iotbill_pipelines.storage import ledger, models
from iotbill_pipelines.storage.ledger import LedgerError


class PaymentRow(Terms):
    """A row of a payments file. A negative amount is one that went back: a chargeback, a refund.

    ``reference`` is the bank's or the ERP's own; together with the invoice it makes the payment.
    """

    invoice: str
    reference: str
    received_on: date
    amount: Money
    currency: str


@dataclass(frozen=True)
class PaymentsRead:
    """What became of a file: payments that are new, and those that were there already."""

    new: int
    known: int


@dataclass(frozen=True)
class OpenInvoice:
    """An invoice with its taxes and notes, what was paid of it, and what is open."""

    invoice_no: str
    account_id: str
    issue_date: date
    currency: str
    total: Decimal
    tax: Decimal
    paid: Decimal
    open: Decimal


def read_payments(session: Session, path: Path, *, actor: str, at: datetime) -> PaymentsRead:
    """Keep the payments of a CSV file: invoice, reference, received_on, amount, currency.

    A payment that was read before is left as it is. Raises ConfigError or LedgerError naming file,
    line and value, and keeps nothing then: for an unknown invoice, another currency, an amount with
    fractions of a minor unit, or a reference that paid another amount before.
    """
    ledger.lock_ledger(session)
    rows = list(
        read_table(
            path,
            PaymentRow,
            columns=list(PaymentRow.model_fields),
            key=("invoice", "reference"),
            what="payment",
        )
    )
    invoices = _invoices(session, [row.invoice for row in rows])
    held = {
        (p.invoice_id, p.reference): p
        for p in session.scalars(
            sa.select(models.Payment).where(
                models.Payment.invoice_id.in_([i.invoice_id for i in invoices.values()])
            )
        )
    }
    newest = session.scalar(sa.select(sa.func.max(models.Payment.payment_id))) or 0
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    fresh: list[dict[str, Any]] = []
    for line, row in enumerate(rows, 2):
        invoice = invoices.get(row.invoice)
        if invoice is None:
            raise LedgerError(f"{path}:{line}: {row.invoice!r} is no invoice here")
        if row.currency != invoice.currency:
            raise LedgerError(
                f"{path}:{line}: {row.invoice} is in {invoice.currency}, not {row.currency}; give "
                "what was paid of it in its own currency"
            )
        try:
            minor = to_minor(row.amount, row.currency)
        except ValueError as error:
            raise LedgerError(f"{path}:{line}: {error}") from None
        if not minor or not row.reference.strip():
            raise LedgerError(f"{path}:{line}: a payment has an amount and a reference")
        known = held.get((invoice.invoice_id, row.reference))
        if known is not None:
            if (known.amount_minor, known.received_on) != (minor, row.received_on):
                raise LedgerError(
                    f"{path}:{line}: {row.reference} paid {known.amount} of {row.invoice} on "
                    f"{known.received_on} before; a correction is a payment with its own reference"
                )
            continue
        fresh.append(
            {
                "payment_id": newest + len(fresh) + 1,
                "invoice_id": invoice.invoice_id,
                "reference": row.reference,
                "received_on": row.received_on,
                "currency": row.currency,
                "amount_minor": minor,
                "source": f"{path.name} {digest}",
                "actor": actor,
                "recorded_at": at,
            }
        )
    if fresh:
        session.execute(sa.insert(models.Payment), fresh)
        ledger.audit(
            session,
            at=at,
            actor=actor,
            action="payments",
            subject=path.name,
            detail={"payments": len(fresh)},
            input_hashes={path.name: digest},
        )
    return PaymentsRead(len(fresh), len(rows) - len(fresh))


def _invoices(session: Session, numbers: Sequence[str]) -> dict[str, Any]:
    found = session.execute(
        sa.select(
            models.Invoice.invoice_no, models.Invoice.invoice_id, models.Invoice.currency
        ).where(models.Invoice.invoice_no.in_(sorted(set(numbers))))
    )
    return {row.invoice_no: row for row in found}


_TOTALS = """
select i.invoice_id, i.invoice_no, i.account_id, i.issue_date, i.accounting_period, i.currency,
  i.total_minor,
  coalesce((select sum(t.amount_minor) from posted_tax t where t.invoice_id = i.invoice_id
    and t.pricing = 'exclusive' and t.accounting_period <= :period), 0)::bigint as tax_minor,
  coalesce((select sum(p.amount_minor) from payment p where p.invoice_id = i.invoice_id
            and p.received_on < :until), 0)::bigint as paid_minor
from invoice i where i.accounting_period <= :period
order by i.invoice_id
"""


def open_invoices(session: Session, through: Month) -> list[OpenInvoice]:
    """Return the invoices up to a month that are not paid to the cent by its end."""
    values = {"period": str(through), "until": through.end}
    return [
        OpenInvoice(
            row.invoice_no,
            row.account_id,
            row.issue_date,
            row.currency,
            of_minor(row.total_minor, row.currency),
            of_minor(row.tax_minor, row.currency),
            of_minor(row.paid_minor, row.currency),
            of_minor(row.total_minor + row.tax_minor - row.paid_minor, row.currency),
        )
        for row in session.execute(sa.text(_TOTALS), values)
        if row.total_minor + row.tax_minor != row.paid_minor
    ]


def collected(session: Session, through: Month) -> dict[int, int]:
    """Return what was paid of each invoiced charge, before tax, by a month's end, in minor units.

    A payment pays net and tax of its invoice in proportion, and every line in proportion, rounded
    once on the invoice (RULEBOOK §0.2). What is paid beyond an invoice's total counts for nothing;
    an invoice that owes the customer is collected as it is issued: it takes back.
    """
    values = {"period": str(through), "until": through.end}
    paid = {row.invoice_id: _net_paid(row) for row in session.execute(sa.text(_TOTALS), values)}
    lines: dict[int, list[tuple[int, int]]] = {}
    for row in session.execute(
        sa.text(
            "select l.invoice_id, l.booked_charge_id, l.amount_minor from invoice_line l"
            " join invoice i using (invoice_id) where i.accounting_period <= :period"
            " order by l.invoice_id, l.line_no"
        ),
        {"period": str(through)},
    ):
        lines.setdefault(row.invoice_id, []).append((row.booked_charge_id, row.amount_minor))
    found: dict[int, int] = {}
    for invoice_id, members in lines.items():
        net = sum(minor for _, minor in members)
        if paid[invoice_id] == net:
            found.update(members)
            continue
        shares = [Fraction(minor * paid[invoice_id], net) for _, minor in members]
        charges = [charge for charge, _ in members]
        found.update(zip(charges, apportion_signed(paid[invoice_id], shares, charges), strict=True))
    return found


def _net_paid(invoice: Any) -> int:
    """How much of an invoice's net total is paid."""
    net, tax = invoice.total_minor, invoice.tax_minor
    if net <= 0:
        return int(net)
    paid = max(0, min(invoice.paid_minor, net + tax))
    return apportion(paid, [net, max(0, tax)], [0, 1])[0]
