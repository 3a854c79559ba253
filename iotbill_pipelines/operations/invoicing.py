"""Invoices: what each account owes for a billing period, from charges booked and not invoiced."""

from __future__ import annotations

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.orm import Session

from iotbill_pipelines.config.tax import read_tax
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.money import of_minor
from iotbill_pipelines.operations.knowledge import knowledge
from iotbill_pipelines.operations.stages import StageResult, finding
from iotbill_pipelines.operations.trace import UnknownId
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage import ledger, taxes
from iotbill_pipelines.storage.models import Invoice

PREVIEW_ROWS = 10


def issue_invoices(ws: Workspace, period: Month) -> StageResult:
    """Issue the invoices of an accounting period, dated on its last day.

    A second run issues none; charges that come later get a supplement. Taxes are charged with them,
    by ``configs/tax``. Findings: ``invoices`` (block): invoices differ from the retail charges that
    they should carry; ``tax`` (block): a line cannot be taxed, so that none is issued.
    """
    knowledge(ws, period)
    terms = read_tax(ws.configs)
    try:
        with Session(ws.engine) as session, session.begin():
            result = ledger.issue_invoices(
                session,
                period,
                run_id=ws.run_id,
                issue_date=period.last_day,
                issued_at=ws.clock(),
            )
            charged = taxes.tax_invoices(session, terms)
            ties = ledger.tie_out(session, period)
    except taxes.UntaxableError as error:
        return StageResult(findings=[finding(found) for found in error.findings], changed=False)
    findings = [finding(f) for f in ledger.tie_out_findings(ties) if f.code == "invoices"]
    return StageResult(
        rows={
            "invoices issued": result.invoices,
            "lines": result.lines,
            **({"tax items": charged.items} if charged.items else {}),
        },
        amounts=[
            (label, currency, of_minor(minor, currency))
            for label, totals in (("invoiced", result.totals), ("tax", charged.totals))
            for currency, minor in totals.items()
        ],
        preview=_preview(ws, period),
        findings=findings,
        changed=bool(result.invoices),
    )


def tax_totals(ws: Workspace, period: Month) -> list[taxes.TaxTotalRow]:
    """Return the tax control totals of a period's invoices (RULEBOOK §11)."""
    with Session(ws.engine) as session:
        return taxes.tax_totals(session, period)


def taxes_of_invoice(ws: Workspace, invoice_no: str) -> list[taxes.InvoiceTaxLine]:
    """Return an invoice's taxes with their arithmetic. Raises UnknownId for no invoice."""
    with Session(ws.engine) as session:
        known = sa.select(Invoice.invoice_id).where(Invoice.invoice_no == invoice_no)
        if session.scalar(known) is None:
            raise UnknownId(
                f"{invoice_no!r} is no invoice here; they look like NL01-2026-10-000001"
            )
        return taxes.invoice_taxes(session, invoice_no)


def _preview(ws: Workspace, period: Month) -> pa.Table:
    select = (
        sa.select(
            Invoice.invoice_no,
            Invoice.account_id,
            Invoice.account_name,
            Invoice.billing_period,
            Invoice.lines,
            Invoice.currency,
            Invoice.total,
        )
        .where(Invoice.accounting_period == str(period))
        .order_by(Invoice.total_minor.desc(), Invoice.invoice_no)
        .limit(PREVIEW_ROWS)
    )
    with ws.engine.connect() as connection:
        rows = [
            {**row, "total": str(row["total"])} for row in connection.execute(select).mappings()
        ]
    return pa.Table.from_pylist(rows)
