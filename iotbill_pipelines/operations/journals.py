"""Journals and their export for the ERP (RULEBOOK §9)."""

from __future__ import annotations

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.orm import Session

from iotbill_pipelines.config.ledger import read_ledger
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.money import of_minor
from iotbill_pipelines.operations.cut_off import cut_off
from iotbill_pipelines.operations.knowledge import knowledge
from iotbill_pipelines.operations.recognition import book_derived
from iotbill_pipelines.operations.stages import Finding, StageResult, finding
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage import ledger

_BALANCES = """
select j.external_id, j.journal_type, j.state, j.currency, count(*) as lines,
  sum(l.debit_minor)::bigint as debit_minor, sum(l.credit_minor)::bigint as credit_minor
from journal j join journal_line l using (journal_id)
where j.accounting_period = :period
group by j.external_id, j.journal_type, j.state, j.currency
order by j.external_id
"""


_TIES = ("tie_out", "tax_totals", "derived_entries")


_POSTED = """
select (select count(*) from invoice where accounting_period = :period) as invoices,
  (select count(*) from posted_tax where accounting_period = :period) as "tax items",
  (select count(*) from derived_entry where accounting_period = :period) as "derived entries"
"""


def build_journals(ws: Workspace, period: Month) -> StageResult:
    """Book what follows from charges, and build the period's journals of every configured type.

    Findings: ``journals`` (block: debits differ from credits), ``tie_out`` (block: the sum of
    journals, invoices and charges differ, or costs), ``tax_totals`` (block: taxes in journals are
    not those on invoices), ``derived_entries`` (block: a deferral, a commission or the like has no
    journal type), ``gl_suspense`` (block: no GL rule).
    """
    knowledge(ws, period)
    terms = read_ledger(ws.configs / "ledger")
    open_at_end = cut_off(ws, period, terms)
    with Session(ws.engine) as session, session.begin():
        ledger.ensure_entities(session, terms.entities)
        booked = book_derived(ws, session, period, terms, open_at_end)
        result = ledger.post_journals(session, period, terms, run_id=ws.run_id, built_at=ws.clock())
        ties = ledger.tie_out(session, period)
        balances = [
            dict(row)
            for row in session.execute(sa.text(_BALANCES), {"period": str(period)}).mappings()
        ]
        posted = dict(session.execute(sa.text(_POSTED), {"period": str(period)}).mappings().one())
    findings = [finding(found) for found in result.findings]
    for row in balances:
        if row["debit_minor"] != row["credit_minor"]:
            findings.append(
                Finding(
                    "journals",
                    "block",
                    f"journal {row['external_id']}: debits {row['debit_minor']} and credits "
                    f"{row['credit_minor']} differ (minor units of {row['currency']})",
                    _figure(row["debit_minor"] - row["credit_minor"], row["currency"]),
                    "do not export; report it: the database refuses such a journal",
                )
            )
    findings += [finding(f) for f in ledger.tie_out_findings(ties) if f.code in _TIES]
    return StageResult(
        rows={
            "journals built": len(result.built),
            "journals unchanged": len(result.unchanged),
            "journals": len(balances),
            "lines": sum(row["lines"] for row in balances),
            **posted,
        },
        amounts=[
            *(
                (f"{purpose} booked", currency, of_minor(minor, currency))
                for (purpose, currency), minor in sorted(booked.items())
            ),
            *(
                (f"{row['external_id']} {side}", row["currency"], of_minor(minor, row["currency"]))
                for row in balances
                for side, minor in (("debit", row["debit_minor"]), ("credit", row["credit_minor"]))
            ),
        ],
        preview=pa.Table.from_pylist(
            [
                {
                    "journal": row["external_id"],
                    "state": row["state"],
                    "lines": row["lines"],
                    "currency": row["currency"],
                    "debits": str(of_minor(row["debit_minor"], row["currency"])),
                    "credits": str(of_minor(row["credit_minor"], row["currency"])),
                }
                for row in balances
            ]
        ),
        findings=findings,
        changed=bool(result.built or booked),
    )


def export_journals(ws: Workspace, period: Month) -> StageResult:
    """Write the period's journals for every configured target into ``out/<period>``.

    The same journal gives the same bytes; journals are marked exported and no longer change.
    """
    knowledge(ws, period)
    terms = read_ledger(ws.configs / "ledger")
    folder = ws.out(period) / "journals"
    folder.mkdir(parents=True, exist_ok=True)
    with Session(ws.engine) as session, session.begin():
        files, found = ledger.export_journals(
            session, period, terms, folder, exported_at=ws.clock()
        )
    return StageResult(
        rows={
            "files": len(files),
            "files new": sum(file.is_new for file in files),
        },
        preview=pa.Table.from_pylist(
            [
                {
                    "journal": file.external_id,
                    "target": file.target,
                    "file": file.path.name,
                    "sha256": file.sha256[:16],
                    "new": file.is_new,
                }
                for file in files
            ]
        ),
        files=[file.path for file in files],
        findings=[finding(f) for f in found],
        changed=any(file.is_new for file in files),
    )


def _figure(minor: int, currency: str) -> str:
    return f"{currency} {of_minor(minor, currency)}"
