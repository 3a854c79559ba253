"""Invoices: what each account owes for a billing period, from charges booked and not invoiced."""

from __future__ import annotations

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.orm import Session

from iotbill_pipelines.config.close import read_close_policy
from iotbill_pipelines.config.tax import read_tax
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.money import of_minor
from iotbill_pipelines.engine.tax import TaxTerms
from iotbill_pipelines.operations import fingerprints
from iotbill_pipelines.operations.knowledge import knowledge
from iotbill_pipelines.operations.stages import StageResult, finding
from iotbill_pipelines.operations.trace import UnknownId
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage import ledger, taxes
from iotbill_pipelines.storage.models import Invoice, StageInput, TaxNote

PREVIEW_ROWS = 10

_STANDING = """
select count(distinct i.invoice_id) as invoices, count(*) as "invoice lines",
  count(*) filter (where exists (
    select from invoice_tax t where t.invoice_id = l.invoice_id and t.line_no = l.line_no
  )) as "taxed lines"
from invoice i join invoice_line l using (invoice_id) where i.accounting_period = :period
"""
TAX_STAGE = "tax_notes"
"""Under which it is recorded by what tables every issued invoice was found to be taxed."""


def issue_invoices(ws: Workspace, period: Month) -> StageResult:
    """Issue the invoices of an accounting period, dated on its last day.

    A second run issues none; charges that come later get a supplement. Taxes are charged with them,
    by ``configs/tax``; where that has been corrected for the dates of earlier invoices, notes to
    them carry the difference. Findings: ``invoices`` (block): invoices differ from the retail
    charges that they should carry; ``tax`` (block): a line cannot be taxed, so that none is issued;
    ``tax_notes`` (warn): an earlier invoice that today's tables tax otherwise stays as it is.
    """
    knowledge(ws, period)
    terms = read_tax(ws.configs)
    try:
        with Session(ws.engine) as session, session.begin():
            notes = _issue_tax_notes(ws, session, terms, period)
            result = ledger.issue_invoices(
                session,
                period,
                run_id=ws.run_id,
                issue_date=period.last_day,
                issued_at=ws.clock(),
            )
            charged = taxes.tax_invoices(session, terms)
            ties = ledger.tie_out(session, period)
            found = session.execute(sa.text(_STANDING), {"period": str(period)}).mappings().one()
            standing = dict(found)
    except taxes.UntaxableError as error:
        return StageResult(findings=[finding(found) for found in error.findings], changed=False)
    findings = [finding(f) for f in ledger.tie_out_findings(ties) if f.code == "invoices"]
    findings += [finding(f) for f in notes.findings]
    return StageResult(
        rows={
            "invoices issued": result.invoices,
            "lines": result.lines,
            **standing,
            **({"tax items": charged.items} if charged.items else {}),
            **({"tax notes": len(notes.notes)} if notes.notes else {}),
        },
        amounts=[
            (label, currency, of_minor(minor, currency))
            for label, totals in (
                ("invoiced", result.totals),
                ("tax", charged.totals),
                ("tax corrected", notes.totals),
            )
            for currency, minor in totals.items()
        ],
        preview=_preview(ws, period),
        findings=findings,
        changed=bool(result.invoices or notes.notes),
    )


def _issue_tax_notes(
    ws: Workspace, session: Session, terms: TaxTerms, period: Month
) -> taxes.TaxNotes:
    """Issue notes to invoices that the tax tables of now tax otherwise.

    Does nothing while the tables are those by which every invoice was issued or found right.
    """
    detail = {"terms": terms.model_dump(mode="json"), "groups": _groups(session, terms)}
    last = sa.select(StageInput.fingerprint).where(StageInput.stage == TAX_STAGE)
    known = session.scalar(last.order_by(StageInput.recorded_at.desc()).limit(1))
    if terms.mode == "none" or known == fingerprints.fingerprint(detail):
        return taxes.TaxNotes([], [], True, [], [])
    ledger.lock_ledger(session)
    due = taxes.due_tax_notes(session, terms, period, _corrected_since(ws, period))
    taxes.issue_tax_notes(
        session,
        due,
        period,
        run_id=ws.run_id,
        issue_date=period.last_day,
        issued_at=ws.clock(),
    )
    if due.is_complete:
        fingerprints.remember(session.connection(), ws, TAX_STAGE, period, detail)
    if due.notes:
        ledger.audit(
            session,
            at=ws.clock(),
            actor=ws.actor,
            action="tax_notes",
            subject=str(period),
            detail={"notes": len(due.notes), "tax_minor": due.totals},
            input_hashes={"tax": fingerprints.fingerprint(detail)},
        )
    return due


def _corrected_since(ws: Workspace, period: Month) -> Month | None:
    months = read_close_policy(ws.configs).corrections.look_back_months
    return None if months is None else period - months


def _groups(session: Session, terms: TaxTerms) -> dict[str, str | None]:
    """The accounts' customer groups, where the tables name groups."""
    if not any(customer.account.startswith("group:") for customer in terms.customers):
        return {}
    select = "select account_id, customer_group from reference_account where known_to is null"
    return {row.account_id: row.customer_group for row in session.execute(sa.text(select))}


def due_tax_notes(ws: Workspace, period: Month) -> taxes.TaxNotes:
    """Return the notes that a close of a period would issue now; nothing is written."""
    with Session(ws.engine) as session:
        terms = read_tax(ws.configs)
        return taxes.due_tax_notes(session, terms, period, _corrected_since(ws, period))


def tax_totals(ws: Workspace, period: Month) -> list[taxes.TaxTotalRow]:
    """Return the tax control totals of a period's invoices (RULEBOOK §11)."""
    with Session(ws.engine) as session:
        return taxes.tax_totals(session, period)


def taxes_of_invoice(ws: Workspace, invoice_no: str) -> list[taxes.InvoiceTaxLine]:
    """Return the taxes of an invoice and of notes to it, or of one note, with their arithmetic.

    Raises UnknownId for a number that is neither.
    """
    with Session(ws.engine) as session:
        known = sa.union_all(
            sa.select(Invoice.invoice_id).where(Invoice.invoice_no == invoice_no),
            sa.select(TaxNote.tax_note_id).where(TaxNote.note_no == invoice_no),
        )
        if session.execute(known).first() is None:
            raise UnknownId(
                f"{invoice_no!r} is no invoice or tax note here; they look like "
                "NL01-2026-10-000001 and NL01-2026-11-T000001"
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
