"""Invoices: what each account owes for a billing period, from charges booked and not invoiced."""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.orm import Session

from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.money import minor_digits
from iotbill_pipelines.operations.knowledge import knowledge
from iotbill_pipelines.operations.stages import StageResult, finding
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage import ledger
from iotbill_pipelines.storage.models import Invoice

PREVIEW_ROWS = 10


def issue_invoices(ws: Workspace, period: Month) -> StageResult:
    """Issue the invoices of an accounting period, dated on its last day.

    A second run issues none; charges that come later get a supplement. Finding ``invoices``
    (block): invoices differ from the retail charges that they should carry.
    """
    knowledge(ws, period)
    with Session(ws.engine) as session, session.begin():
        result = ledger.issue_invoices(
            session,
            period,
            run_id=ws.run_id,
            issue_date=period.last_day,
            issued_at=ws.clock(),
        )
        ties = ledger.tie_out(session, period)
    findings = [finding(f) for f in ledger.tie_out_findings(ties) if f.code == "invoices"]
    return StageResult(
        rows={"invoices issued": result.invoices, "lines": result.lines},
        amounts=[
            ("invoiced", currency, _money(minor, currency))
            for currency, minor in result.totals.items()
        ],
        preview=_preview(ws, period),
        findings=findings,
        changed=bool(result.invoices),
    )


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


def _money(minor: int, currency: str) -> Decimal:
    return Decimal(minor).scaleb(-minor_digits(currency))
