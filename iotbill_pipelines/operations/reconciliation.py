"""Vendor reconciliation of a close: stored inputs to stored results and a workbook per vendor.

Expected cost is what the close settled at vendor level; invoices are what was landed. Results go to
``vendor_reconciliation`` (with the lines that differ, their causes and the claims) in PostgreSQL,
in full to the lake, and to ``out/<period>/reconciliation_<vendor>_<period>.xlsx``.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from iotbill_pipelines.config.ledger import read_ledger
from iotbill_pipelines.config.vendors import Contact, DisputeLayout, Vendor, read_vendors
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.compute import Compute
from iotbill_pipelines.engine.money import minor_digits, of_minor, round_half_up
from iotbill_pipelines.engine.reconcile import CAUSES, RESULTS, current_documents, reconcile
from iotbill_pipelines.engine.schemas import (
    DESIRED_CHARGE,
    RECONCILIATION_LINE,
    USAGE_AGGREGATE,
    VENDOR_INVOICE_LINE,
)
from iotbill_pipelines.engine.terms import unit_size
from iotbill_pipelines.operations import catalogs, charges, disputes, fingerprints
from iotbill_pipelines.operations.basis import keep
from iotbill_pipelines.operations.checklist import compare_sim_counts
from iotbill_pipelines.operations.knowledge import knowledge
from iotbill_pipelines.operations.runs import code_version
from iotbill_pipelines.operations.stages import Finding, StageResult
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage.bulk import copy_in
from iotbill_pipelines.storage.documents import document_name
from iotbill_pipelines.storage.ledger import ensure_entities, period_states
from iotbill_pipelines.storage.models import (
    Dispute,
    FeedFile,
    VendorReconciliation,
    VendorReconciliationLine,
)
from iotbill_pipelines.storage.reconciliation_workbook import (
    LINE_LIMIT,
    DocumentClaim,
    DocumentLine,
    DocumentPlan,
    ReconciliationDocument,
    write_reconciliation,
)
from iotbill_pipelines.storage.reference import Snapshot, load_snapshot

STAGE = "reconcile_vendors"

DEFAULT_DEADLINE_DAYS = 90
"""For a vendor that bills us without a file in configs/vendors."""


def reconcile_vendors(ws: Workspace, period: Month) -> StageResult:
    """Compare every vendor's invoices for ``period`` with our expected cost (RULEBOOK §10).

    Counts SIMs too (finding ``sim_counts``). Findings of gate ``reconciliation``: an invoice of a
    vendor that no account is (block); causes that do not add up (block); a variance that nothing
    explains, many small differences that add up, a vendor without terms in configs/vendors (warn);
    claims and accruals (info).
    """
    snapshot = knowledge(ws, period)
    detail = _inputs(ws, period, snapshot)
    known = fingerprints.recorded(ws, STAGE).get(period) == fingerprints.fingerprint(detail)
    files = _workbooks(ws, period)
    kept = [*files, ws.out(period) / BASIS]
    changed = not known or not all(path.is_file() for path in kept)
    findings: list[Finding] = []
    if changed:
        fingerprints.forget(ws, STAGE, period)
        files, findings = _reconcile(ws, period, snapshot)
        if not any(finding.severity == "block" for finding in findings):
            with ws.engine.begin() as connection:
                fingerprints.remember(connection, ws, STAGE, period, detail)
    rows, amounts, preview, stored = _summary(ws, period)
    counts, apart = compare_sim_counts(ws, period)
    return StageResult(
        rows={**rows, **counts},
        amounts=amounts,
        preview=preview,
        files=files,
        findings=findings + stored + apart,
        changed=changed,
    )


def _inputs(ws: Workspace, period: Month, snapshot: Snapshot) -> dict[str, Any]:
    configured = sorted((ws.configs / "vendors").glob("*.yaml"))
    settled = fingerprints.recorded(ws, charges.STAGE)
    return {
        "snapshot": snapshot.id,
        "settled": {str(m): settled[m] for m in (period, period + 1) if m in settled},
        "invoices": _digest(name.encode() for name in ws.lake.names(VENDOR_INVOICE_LINE)),
        "vendors": _digest(path.read_bytes() for path in configured),
        "code": code_version(),
    }


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()


# ----------------------------------------------------------------------------------- compute


@dataclass(frozen=True)
class _Party:
    """A vendor account: whose cost it is, and how it is called."""

    entity_id: str
    name: str


def _reconcile(
    ws: Workspace, period: Month, snapshot: Snapshot
) -> tuple[list[Path], list[Finding]]:
    vendors = read_vendors(ws.configs / "vendors")
    rows = (
        ws.lake.rows(DESIRED_CHARGE, billing_period=str(period))
        + ws.lake.rows(USAGE_AGGREGATE, usage_period=str(period))
        + ws.lake.rows(VENDOR_INVOICE_LINE)
        + sum(snapshot.rows.values())
    )
    basis = ws.out(period) / BASIS
    basis.unlink(missing_ok=True)
    with ws.compute(rows) as compute:
        load_snapshot(compute, snapshot)
        files = _both_sides(ws, compute, period)
        parties = _parties(compute)
        findings = _strangers(compute, period, parties) + _unknown_offers(compute, vendors)
        if findings:
            return [], findings
        with Session(ws.engine) as session, session.begin():
            states = period_states(session, period).items()
            closed = {entity for entity, state in states if state == "closed"}
            answered = disputes.match_credits(session, compute, period, ws.clock(), closed)
        reconcile(compute, period, [vendor.terms() for vendor in vendors.values()])
        for table in RESULTS:
            ws.lake.replace(
                table,
                compute,
                f"select * from {table.name}",
                {"accounting_period": str(period)},
                order_by=table.key,
                note=ws.run_id,
            )
        findings = _apart(compute)
        if findings:
            return [], findings
        totals = _totals(compute)
        vendors = _with_all(vendors, totals, parties)
        with Session(ws.engine) as session, session.begin():
            ensure_entities(session, read_ledger(ws.configs / "ledger").entities)
            _store(ws, session, compute, period, totals, parties, vendors, snapshot)
        stood = Stood(
            ws.today,
            snapshot.id,
            files,
            [(*line, taken) for line, taken in sorted(answered.items())],
            _claims(ws, period),
        )
        files_written = _write_documents(ws, compute, period, totals, parties, vendors, stood)
        keep(basis, stood)
        return files_written, _superseded(ws, compute, period)


def _both_sides(ws: Workspace, compute: Compute, period: Month) -> list[int]:
    """Define what was settled and what was invoiced; return the keys of the invoices' files."""
    ws.lake.scan(compute, DESIRED_CHARGE, billing_period=str(period))
    ws.lake.scan(compute, USAGE_AGGREGATE, usage_period=str(period))
    current_invoices(ws, compute)
    keys = compute.fetch("select distinct file_key from landed_invoice_line order by file_key")
    return [int(key) for key in keys.column("file_key").to_pylist()]


def _with_all(
    vendors: Mapping[str, Vendor], totals: list[dict[str, Any]], parties: Mapping[str, _Party]
) -> dict[str, Vendor]:
    """The configured vendors, and those that bill us without a file in configs/vendors."""
    found = dict(vendors)
    for total in totals:
        vendor_id = total["vendor_id"]
        if vendor_id not in found:
            name = parties[vendor_id].name
            found[vendor_id] = _without_terms(vendor_id, name, total["currency"])
    return found


def _write_documents(
    ws: Workspace,
    compute: Compute,
    period: Month,
    totals: list[dict[str, Any]],
    parties: Mapping[str, _Party],
    vendors: Mapping[str, Vendor],
    stood: Stood,
) -> list[Path]:
    """Write a workbook for each vendor that billed us."""
    entities = {e.id: e.name for e in read_ledger(ws.configs / "ledger").entities}
    units = _units(ws)
    files = []
    for total in totals:
        if total["flag"] == "accrued":
            continue
        party, vendor = parties[total["vendor_id"]], vendors[total["vendor_id"]]
        customer = f"{entities.get(party.entity_id, party.entity_id)} ({party.entity_id})"
        document = _document(compute, period, vendor, total["currency"], customer, units, stood)
        path = ws.out(period) / _file_name(vendor, period, total["currency"])
        write_reconciliation(path, document, datetime.combine(stood.prepared_on, time(), UTC))
        files.append(path)
    return files


@dataclass(frozen=True)
class Again:
    """A reconciliation that was computed again, in the shape of what is stored of one.

    ``vendors`` has a row for each vendor and currency that billed, ``causes`` one for each of their
    causes, ``claims`` what the terms claim now, by the claims' ids.
    """

    vendors: list[dict[str, Any]]
    causes: list[dict[str, Any]]
    claims: dict[str, tuple[str, int, int]]


def reconcile_again(
    ws: Workspace, period: Month, tables: Mapping[str, pa.Table], stood: Stood
) -> Again:
    """Compare and write the workbooks again, from the charges and invoices in the workspace's lake
    and the reference data and catalog in ``tables``; the database learns nothing."""
    vendors = read_vendors(ws.configs / "vendors")
    with ws.compute() as compute:
        for name, table in tables.items():
            compute.load(name, table)
        _both_sides(ws, compute, period)
        disputes.leave_out(compute, {(key, line): taken for key, line, taken in stood.answered})
        reconcile(compute, period, [vendor.terms() for vendor in vendors.values()])
        parties, totals = _parties(compute), _totals(compute)
        complete = _with_all(vendors, totals, parties)
        _write_documents(ws, compute, period, totals, parties, complete, stood)
        causes = compute.fetch(
            "select l.vendor_id, l.currency, c.cause, count(*) as lines,"
            " cast(sum(c.amount_minor) as bigint) as minor from reconciliation_cause as c"
            " join reconciliation_line as l on l.line_key = c.line_key"
            " group by l.vendor_id, l.currency, c.cause order by 1, 2, 3"
        ).to_pylist()
        claims = {
            _dispute_id(claim, period): (
                claim["cause"], claim["billed_minor"], claim["expected_minor"]
            )
            for claim in compute.fetch("dispute_item").to_pylist()
        }  # fmt: skip
    billed = [total for total in totals if total["flag"] != "accrued"]
    return Again(billed, causes, claims)


def current_invoices(ws: Workspace, compute: Compute) -> None:
    """Define ``vendor_invoice_line``: the stored lines that count, without versions that a later
    file or a correction replaced (:func:`engine.reconcile.current_documents`)."""
    vendors = read_vendors(ws.configs / "vendors")
    compute.scan(VENDOR_INVOICE_LINE, ws.lake.files(VENDOR_INVOICE_LINE), "landed_invoice_line")
    select = sa.select(FeedFile.file_key, FeedFile.landed_at)
    with ws.engine.connect() as connection:
        landed = [
            (row.file_key, row.landed_at.astimezone(UTC).replace(tzinfo=None))
            for row in connection.execute(select)
        ]
    in_parts = [vendor.vendor for vendor in vendors.values() if vendor.invoice_files == "add"]
    current_documents(compute, "landed_invoice_line", landed, in_parts)


def _parties(compute: Compute) -> dict[str, _Party]:
    rows = compute.fetch("select account_id, entity_id, name from account").to_pylist()
    return {row["account_id"]: _Party(row["entity_id"], row["name"]) for row in rows}


def _strangers(compute: Compute, period: Month, parties: Mapping[str, _Party]) -> list[Finding]:
    billed = compute.fetch(
        "select vendor_id, cast(count(*) as bigint) as lines from vendor_invoice_line"
        f" where billing_period = '{period}' group by vendor_id order by vendor_id"
    ).to_pylist()
    return [
        Finding(
            "reconciliation",
            "block",
            f"an invoice came from vendor {row['vendor_id']!r}, which no account is",
            f"{row['lines']} lines",
            "add the vendor to the accounts file, or correct vendor_id in the invoice's feed",
        )
        for row in billed
        if row["vendor_id"] not in parties
    ]


def _unknown_offers(compute: Compute, vendors: Mapping[str, Vendor]) -> list[Finding]:
    offers = compute.fetch("select offer_id from offer where level = 'vendor' order by offer_id")
    known = offers["offer_id"].to_pylist()
    return [
        Finding(
            "reconciliation",
            "block",
            f"vendor {vendor.vendor}: its plan {plan.plan!r} is offer {plan.offer!r}, which is no "
            "offer of level vendor in the catalog",
            plan.offer,
            f"correct plans in the vendor's file; offers of level vendor: {', '.join(known)}",
        )
        for vendor in vendors.values()
        for plan in vendor.plans
        if plan.offer not in known
    ]


def _apart(compute: Compute) -> list[Finding]:
    """Lines whose causes do not add up to their variance: never, unless the program is wrong."""
    rows = compute.fetch(
        "select l.vendor_id, l.line_key, l.variance_minor,"
        " cast(coalesce(sum(c.amount_minor), 0) as bigint) as explained"
        " from reconciliation_line as l"
        " left join reconciliation_cause as c on c.line_key = l.line_key"
        " group by l.vendor_id, l.line_key, l.variance_minor"
        " having l.variance_minor <> coalesce(sum(c.amount_minor), 0) order by 1, 2 limit 10"
    ).to_pylist()
    return [
        Finding(
            "reconciliation",
            "block",
            f"line {row['line_key']} of {row['vendor_id']}: variance {row['variance_minor']}, "
            f"causes {row['explained']} minor units",
            f"{row['variance_minor'] - row['explained']} minor units",
            "do not send the workbook; report it: causes always add up to the variance",
        )
        for row in rows
    ]


def _superseded(ws: Workspace, compute: Compute, period: Month) -> list[Finding]:
    """Versions of the period's invoices that a later file or a correction replaced."""
    rows = compute.fetch(
        f"select * from superseded_document where billing_period = '{period}'"
        " order by vendor_id, invoice_no, file_key"
    ).to_pylist()
    with ws.engine.connect() as connection:
        named = sa.select(FeedFile.file_key, FeedFile.original_name)
        names = {row.file_key: row.original_name for row in connection.execute(named)}
    return [
        Finding(
            "invoice_version",
            "info",
            f"{row['vendor_id']}, invoice {row['invoice_no']}: {names.get(row['file_key'])} was "
            f"replaced by {names.get(row['replaced_by'])} and is not compared",
            f"{row['currency']} {round_half_up(row['amount'], minor_digits(row['currency']))}",
            "set invoice_files: add in the vendor's file if its invoices come in several parts",
        )
        for row in rows
    ]


def _totals(compute: Compute) -> list[dict[str, Any]]:
    """One row a vendor and currency: the columns of ``vendor_reconciliation``."""
    rows: list[dict[str, Any]] = compute.fetch(
        "with line as ("
        "  select vendor_id, currency, cast(count(*) as bigint) as lines,"
        "    cast(sum(case when status = 'matched' then 1 else 0 end) as bigint) as matched_lines,"
        "    cast(sum(case when status = 'underbilled' then 1 else 0 end) as bigint) as under"
        "  from reconciliation_line group by vendor_id, currency"
        "), claim as ("
        "  select vendor_id, currency, cast(sum(difference_minor) as bigint) as disputed_minor"
        "  from dispute_item group by vendor_id, currency"
        ") select t.vendor_id, t.currency,"
        "  cast(sum(t.expected_minor) as bigint) as expected_minor,"
        "  cast(sum(t.invoiced_minor) as bigint) as invoiced_minor,"
        "  cast(sum(t.variance_minor) as bigint) as variance_minor,"
        "  cast(sum(t.unexplained_minor) as bigint) as unexplained_minor,"
        "  cast(sum(t.tolerated_minor) as bigint) as tolerated_minor,"
        "  max(t.flag) as flag,"
        "  max(coalesce(c.disputed_minor, 0)) as disputed_minor,"
        "  max(coalesce(l.lines, 0)) as lines, max(coalesce(l.matched_lines, 0)) as matched_lines,"
        "  max(coalesce(l.under, 0)) as under"
        " from reconciliation_total as t"
        " left join line as l on l.vendor_id = t.vendor_id and l.currency = t.currency"
        " left join claim as c on c.vendor_id = t.vendor_id and c.currency = t.currency"
        " group by t.vendor_id, t.currency order by t.vendor_id, t.currency"
    ).to_pylist()
    return rows


def _status(total: Mapping[str, Any]) -> str:
    if total["flag"] == "accrued":
        return "accrued"
    if total["disputed_minor"]:
        return "disputed"
    if total["under"]:
        return "underbilled"
    return "matched" if total["lines"] == total["matched_lines"] else "tolerated"


def _without_terms(vendor_id: str, name: str, currency: str) -> Vendor:
    return Vendor(
        vendor=vendor_id,
        name=name,
        currency=currency,
        invoice_feed="unknown",
        contact=Contact(name=name),
        dispute=DisputeLayout(deadline_days=DEFAULT_DEADLINE_DAYS),
    )


# ------------------------------------------------------------------------------------- store


def _store(
    ws: Workspace,
    session: Session,
    compute: Compute,
    period: Month,
    totals: list[dict[str, Any]],
    parties: Mapping[str, _Party],
    vendors: Mapping[str, Vendor],
    snapshot: Snapshot,
) -> None:
    """Replace the period's reconciliation; claims are kept, since they have a life of their own.

    What an entity closed stays: later invoices and usage are claims, and costs of an open period.
    """
    now = ws.clock()
    closed = {e for e, state in period_states(session, period).items() if state == "closed"}
    session.execute(
        sa.delete(VendorReconciliation).where(
            VendorReconciliation.accounting_period == str(period),
            VendorReconciliation.entity_id.not_in(closed),
        )
    )
    for total in totals:
        if parties[total["vendor_id"]].entity_id in closed:
            continue
        row = VendorReconciliation(
            entity_id=parties[total["vendor_id"]].entity_id,
            accounting_period=str(period),
            vendor_id=total["vendor_id"],
            currency=total["currency"],
            expected_minor=total["expected_minor"],
            invoiced_minor=total["invoiced_minor"],
            variance_minor=total["variance_minor"],
            tolerated_minor=total["tolerated_minor"],
            disputed_minor=total["disputed_minor"],
            unexplained_minor=total["unexplained_minor"],
            lines=total["lines"],
            matched_lines=total["matched_lines"],
            status=_status(total),
            snapshot_id=snapshot.id,
            run_id=ws.run_id,
            reconciled_at=now,
        )
        session.add(row)
        session.flush()
        _store_lines(session, compute, row.reconciliation_id, total["vendor_id"], total["currency"])
    _store_claims(ws, session, compute, period, parties, vendors)


def _store_lines(
    session: Session, compute: Compute, reconciliation_id: int, vendor_id: str, currency: str
) -> None:
    compute.load(
        "stored_vendor",
        pa.table({"vendor_id": [vendor_id], "currency": [currency], "id": [reconciliation_id]}),
    )
    compute.define(
        "stored_line",
        "select v.id as reconciliation_id, row_number() over (order by l.line_key asc nulls last)"
        "   as line_no, l.line_key, l.usage_period, l.invoice_no, l.uid_value, l.service_id,"
        "   l.charge_code, l.currency, l.expected_quantity, l.invoiced_quantity, l.expected_minor,"
        "   l.invoiced_minor, l.variance_minor, l.status"
        " from reconciliation_line as l join stored_vendor as v"
        "   on v.vendor_id = l.vendor_id and v.currency = l.currency"
        " where l.status <> 'matched'"
        "   or l.line_key in (select line_key from reconciliation_cause)",
        keep=True,
    )
    connection = session.connection()
    copy_in(connection, VendorReconciliationLine.__tablename__, compute.fetch("stored_line"))
    causes = compute.fetch(
        "select s.reconciliation_id, s.line_no, c.cause, c.currency, c.amount_minor, c.evidence"
        " from reconciliation_cause as c join stored_line as s on s.line_key = c.line_key"
        " order by s.line_no, c.cause"
    )
    copy_in(connection, "vendor_reconciliation_cause", causes)


def _store_claims(
    ws: Workspace,
    session: Session,
    compute: Compute,
    period: Month,
    parties: Mapping[str, _Party],
    vendors: Mapping[str, Vendor],
) -> None:
    """Open new claims, update open ones, withdraw open ones that no longer hold.

    What was sent or answered stays as it was sent: the carrier has it.
    """
    now = ws.clock()
    rows = [
        {
            "dispute_id": _dispute_id(claim, period),
            "entity_id": parties[claim["vendor_id"]].entity_id,
            "accounting_period": str(period),
            "usage_period": claim["usage_period"],
            "vendor_id": claim["vendor_id"],
            "invoice_no": claim["invoice_no"],
            "invoice_line_no": claim["first_line_no"],
            "uid_value": claim["uid_value"],
            "charge_code": claim["charge_code"],
            "cause": claim["cause"],
            "currency": claim["currency"],
            "billed_minor": claim["billed_minor"],
            "expected_minor": claim["expected_minor"],
            "difference_minor": claim["difference_minor"],
            "evidence": claim["evidence"],
            "deadline": vendors[claim["vendor_id"]].deadline(period),
            "status": "open",
            "opened_at": now,
            "updated_at": now,
        }
        for claim in compute.fetch("select * from dispute_item order by dispute_key").to_pylist()
    ]
    statement = insert(Dispute)
    changing = (
        *("billed_minor", "expected_minor", "difference_minor", "evidence", "invoice_line_no"),
        *("deadline", "status", "updated_at"),
    )
    if rows:
        session.execute(
            statement.on_conflict_do_update(
                index_elements=[Dispute.dispute_id],
                set_={name: statement.excluded[name] for name in changing},
                where=sa.or_(Dispute.status == "open", Dispute.status == "withdrawn"),
            ),
            rows,
        )
    current = {row["dispute_id"] for row in rows}
    open_ids = session.scalars(
        sa.select(Dispute.dispute_id).where(
            Dispute.accounting_period == str(period), Dispute.status == "open"
        )
    )
    gone = [name for name in open_ids if name not in current]
    for name in gone:
        claim = session.get_one(Dispute, name)
        note = "no longer found by the reconciliation"
        disputes.record(session, claim, now, ws.actor, "withdrawn", None, note)


def _dispute_id(claim: Mapping[str, Any], period: Month) -> str:
    return f"{claim['vendor_id']}-{period}-{claim['dispute_key'][:12]}"


# --------------------------------------------------------------------------------- documents


@dataclass(frozen=True)
class VendorClaim:
    """A claim as a vendor's workbook shows it."""

    vendor_id: str
    currency: str
    claim: DocumentClaim


@dataclass(frozen=True)
class Stood:
    """What the workbooks rest on beside charges and invoices (:mod:`operations.basis`).

    When they were made, by which snapshot, the invoices' files, the lines (file, line, amount) that
    answer earlier claims, and the claims as they stood: a carrier has those that were sent.
    """

    prepared_on: date
    snapshot_id: str
    invoice_files: list[int]
    answered: list[tuple[int, int, Decimal]]
    claims: list[VendorClaim]


BASIS = ".reconciliation.json"


def _file_name(vendor: Vendor, period: Month, currency: str) -> str:
    suffix = "" if currency == vendor.currency else f"_{currency}"
    return document_name(f"reconciliation_{vendor.vendor}_{period}{suffix}.xlsx")


def _workbooks(ws: Workspace, period: Month) -> list[Path]:
    """The files that the stored reconciliations of the period have."""
    vendors = read_vendors(ws.configs / "vendors")
    select = (
        sa.select(VendorReconciliation.vendor_id, VendorReconciliation.currency)
        .where(
            VendorReconciliation.accounting_period == str(period),
            VendorReconciliation.status != "accrued",
        )
        .order_by(VendorReconciliation.vendor_id, VendorReconciliation.currency)
    )
    with ws.engine.connect() as connection:
        stored = connection.execute(select).all()
    return [
        ws.out(period)
        / _file_name(
            vendors.get(vendor_id) or _without_terms(vendor_id, vendor_id, currency),
            period,
            currency,
        )
        for vendor_id, currency in stored
    ]


def _units(ws: Workspace) -> dict[str, tuple[str, int]]:
    """Charge code -> unit it is priced in, and its size."""
    catalog = catalogs.in_force(ws).catalog
    listed = [charge for offer in catalog.offers for charge in offer.charges]
    listed += [overage for plan in catalog.share_plans for _, overage in plan.overages()]
    return {
        charge.external_code or charge.id: ("days", 1)
        if charge.kind == "recurring"
        else (charge.per, unit_size(charge.per))
        for charge in listed
    }


def _document(
    compute: Compute,
    period: Month,
    vendor: Vendor,
    currency: str,
    customer_name: str,
    units: Mapping[str, tuple[str, int]],
    stood: Stood,
) -> ReconciliationDocument:
    compute.load("wanted_vendor", pa.table({"vendor_id": [vendor.vendor], "currency": [currency]}))
    chosen = (
        "from {} as x join wanted_vendor as w"
        " on w.vendor_id = x.vendor_id and w.currency = x.currency"
    )
    causes: dict[str, dict[str, int]] = defaultdict(dict)
    for row in compute.fetch(
        "select x.line_key, x.cause, x.amount_minor " + chosen.format("reconciliation_cause")
    ).to_pylist():
        causes[row["line_key"]][row["cause"]] = row["amount_minor"]
    lines = [
        _document_line(row, causes.get(row["line_key"], {}), units)
        for row in _document_rows(compute, chosen.format(RECONCILIATION_LINE.name))
    ]
    invoices = compute.fetch(
        "select distinct x.invoice_no "
        + chosen.format("vendor_invoice_line")
        + f" where x.billing_period = '{period}' order by x.invoice_no"
    )
    return ReconciliationDocument(
        vendor=vendor,
        customer_name=customer_name,
        period=period,
        currency=currency,
        prepared_on=stood.prepared_on,
        invoices=[str(number) for number in invoices.column("invoice_no").to_pylist()],
        lines=lines,
        plans=_document_plans(compute, chosen.format(RECONCILIATION_LINE.name)),
        claims=[
            each.claim
            for each in stood.claims
            if (each.vendor_id, each.currency) == (vendor.vendor, currency)
        ],
    )


def _claims(ws: Workspace, period: Month) -> list[VendorClaim]:
    """The claims about the period's invoices, the greatest first."""
    select = (
        sa.select(Dispute)
        .where(Dispute.accounting_period == str(period), Dispute.status != "withdrawn")
        .order_by(Dispute.difference_minor.desc(), Dispute.dispute_id)
    )
    with Session(ws.engine) as session:
        return [
            VendorClaim(
                claim.vendor_id,
                claim.currency,
                DocumentClaim(
                    reference=claim.dispute_id,
                    invoice_no=claim.invoice_no,
                    invoice_line_no=claim.invoice_line_no,
                    sim=claim.uid_value,
                    usage_period=claim.usage_period,
                    charge_code=claim.charge_code,
                    billed_minor=claim.billed_minor,
                    expected_minor=claim.expected_minor,
                    cause=claim.cause,
                    evidence=claim.evidence,
                    deadline=claim.deadline,
                    status=claim.status,
                    credit_reference=claim.credit_reference,
                ),
            )
            for claim in session.scalars(select)
        ]


def _document_rows(compute: Compute, chosen: str) -> list[dict[str, Any]]:
    """The lines of a document; where a sheet cannot hold them, those that agree as one row."""
    columns = (
        "select x.line_key, x.invoice_no, x.uid_value, x.usage_period, x.charge_code,"
        " x.expected_quantity, x.invoiced_quantity, x.expected_minor, x.invoiced_minor, x.status,"
        " x.billed_plan, x.own_plan "
    )
    counted = compute.fetch(f"select count(*) as n {chosen}").column("n")[0].as_py()
    if counted <= LINE_LIMIT:
        rows: list[dict[str, Any]] = compute.fetch(columns + chosen).to_pylist()
        return rows
    differing = "x.status <> 'matched' or x.line_key in (select line_key from reconciliation_cause)"
    rows = compute.fetch(f"{columns} {chosen} where {differing}").to_pylist()
    rows += compute.fetch(
        "select '' as line_key, null as invoice_no, '(' || cast(count(*) as string)"
        " || ' lines that agree)' as uid_value, min(x.usage_period) as usage_period,"
        " '(all)' as charge_code, null as expected_quantity, null as invoiced_quantity,"
        " cast(sum(x.expected_minor) as bigint) as expected_minor,"
        " cast(sum(x.invoiced_minor) as bigint) as invoiced_minor, 'matched' as status,"
        " x.billed_plan, x.own_plan"
        f" {chosen} where not ({differing}) group by x.billed_plan, x.own_plan"
        " order by x.billed_plan, x.own_plan"
    ).to_pylist()
    return rows


def _document_line(
    row: Mapping[str, Any], causes: Mapping[str, int], units: Mapping[str, tuple[str, int]]
) -> DocumentLine:
    unit, size = units.get(row["charge_code"], ("", 1))
    return DocumentLine(
        invoice_no=row["invoice_no"],
        sim=row["uid_value"],
        usage_period=row["usage_period"],
        charge_code=row["charge_code"],
        unit=unit,
        expected_quantity=_scaled(row["expected_quantity"], size),
        invoiced_quantity=_scaled(row["invoiced_quantity"], size),
        expected_minor=row["expected_minor"],
        invoiced_minor=row["invoiced_minor"],
        status=row["status"],
        causes={cause: causes[cause] for cause in CAUSES if cause in causes},
        billed_plan=row["billed_plan"],
        own_plan=row["own_plan"],
    )


def _document_plans(compute: Compute, chosen: str) -> list[DocumentPlan]:
    """What was billed on each plan against what was agreed, by what differs most."""
    rows = compute.fetch(
        "select x.billed_plan, x.own_plan, x.plan_match,"
        " cast(count(distinct x.uid_value) as bigint) as sims,"
        " cast(sum(x.expected_minor) as bigint) as expected_minor,"
        " cast(sum(x.invoiced_minor) as bigint) as invoiced_minor"
        f" {chosen} group by x.billed_plan, x.own_plan, x.plan_match"
        " order by abs(sum(x.invoiced_minor) - sum(x.expected_minor)) desc, 1, 2, 3"
    ).to_pylist()
    if not any(row["billed_plan"] or row["own_plan"] for row in rows):
        return []
    return [DocumentPlan(**row) for row in rows]


def _scaled(quantity: int | None, size: int) -> Decimal | None:
    """A quantity in priced units with three decimals, for reading."""
    if quantity is None:
        return None
    thousandths = (2 * abs(quantity) * 1000 + size) // (2 * size)
    return Decimal(thousandths if quantity >= 0 else -thousandths).scaleb(-3)


# ----------------------------------------------------------------------------------- summary


def _summary(
    ws: Workspace, period: Month
) -> tuple[dict[str, int], list[tuple[str, str, Decimal]], pa.Table, list[Finding]]:
    select = (
        sa.select(VendorReconciliation)
        .where(VendorReconciliation.accounting_period == str(period))
        .order_by(VendorReconciliation.vendor_id, VendorReconciliation.currency)
    )
    claims_by_vendor = (
        sa.select(Dispute.vendor_id, Dispute.currency, sa.func.count())
        .where(Dispute.accounting_period == str(period), Dispute.status != "withdrawn")
        .group_by(Dispute.vendor_id, Dispute.currency)
    )
    stacked = (
        sa.select(Dispute)
        .where(
            Dispute.accounting_period == str(period),
            Dispute.status == "open",
            Dispute.cause == "systematic_rounding",
        )
        .order_by(Dispute.dispute_id)
    )
    with Session(ws.engine) as session:
        vendors = list(session.scalars(select))
        claims = {(row[0], row[1]): row[2] for row in session.execute(claims_by_vendor)}
        rounding = list(session.scalars(stacked))
    configured = read_vendors(ws.configs / "vendors")
    other_plans = _other_plans(ws, period)
    amounts: list[tuple[str, str, Decimal]] = []
    findings: list[Finding] = []
    for vendor in vendors:
        for label, minor in (
            ("expected", vendor.expected_minor),
            ("invoiced", vendor.invoiced_minor),
            ("variance", vendor.variance_minor),
        ):
            amounts.append(
                (f"{vendor.vendor_id} {label}", vendor.currency, of_minor(minor, vendor.currency))
            )
        findings += _findings_of(vendor, claims.get((vendor.vendor_id, vendor.currency), 0))
        findings += other_plans.get((vendor.vendor_id, vendor.currency), [])
        if vendor.vendor_id not in configured:
            findings.append(
                Finding(
                    "reconciliation",
                    "warn",
                    f"vendor {vendor.vendor_id} has no file in configs/vendors; it was compared "
                    "with tolerance zero",
                    what_to_do=f"write configs/vendors/{vendor.vendor_id}.yaml",
                )
            )
    findings += [
        Finding(
            "reconciliation",
            "warn",
            f"{claim.vendor_id}, invoice {claim.invoice_no}: differences within the tolerance of "
            "a line add up to more than the invoice's limit",
            f"{claim.currency} {of_minor(claim.difference_minor, claim.currency)}",
            "ask the vendor how it rounds; claim the sum",
        )
        for claim in rounding
    ]
    rows = {
        "vendors reconciled": sum(1 for v in vendors if v.status != "accrued"),
        "vendors accrued": sum(1 for v in vendors if v.status == "accrued"),
        "lines compared": sum(v.lines for v in vendors),
        "lines that agree": sum(v.matched_lines for v in vendors),
        "claims": sum(claims.values()),
    }
    preview = pa.table(
        {
            "vendor": [v.vendor_id for v in vendors],
            "status": [v.status for v in vendors],
            "currency": [v.currency for v in vendors],
            "expected": [str(of_minor(v.expected_minor, v.currency)) for v in vendors],
            "invoiced": [str(of_minor(v.invoiced_minor, v.currency)) for v in vendors],
            "variance": [str(of_minor(v.variance_minor, v.currency)) for v in vendors],
            "claimed": [str(of_minor(v.disputed_minor, v.currency)) for v in vendors],
        }
    )
    return rows, amounts, preview, findings


def _other_plans(ws: Workspace, period: Month) -> dict[tuple[str, str], list[Finding]]:
    """SIMs that are billed on another plan or version than agreed, by vendor and currency."""
    with ws.compute(ws.lake.rows(RECONCILIATION_LINE, accounting_period=str(period))) as compute:
        ws.lake.scan(compute, RECONCILIATION_LINE, accounting_period=str(period))
        rows = compute.fetch(
            "select vendor_id, currency, plan_match, billed_plan, own_plan,"
            " cast(count(distinct uid_value) as bigint) as sims,"
            " cast(sum(variance_minor) as bigint) as variance_minor"
            " from reconciliation_line where plan_match in ('other_version', 'other_plan')"
            " group by vendor_id, currency, plan_match, billed_plan, own_plan"
            " order by vendor_id, currency, plan_match, billed_plan, own_plan"
        ).to_pylist()
    found: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for row in rows:
        kind = (
            "another version of the plan"
            if row["plan_match"] == "other_version"
            else "another plan"
        )
        variance = of_minor(row["variance_minor"], row["currency"])
        found[(row["vendor_id"], row["currency"])].append(
            Finding(
                "reconciliation",
                "warn",
                f"{row['vendor_id']}: {row['sims']} SIMs are billed on {kind} than agreed: "
                f"{row['billed_plan']} instead of {row['own_plan']}",
                f"{row['currency']} {variance} variance",
                "see the sheet Plans of the workbook; have the vendor move the SIMs, or correct "
                "plans in its file under configs/vendors",
            )
        )
    return found


def _findings_of(vendor: VendorReconciliation, claims: int) -> list[Finding]:
    found = []
    if vendor.unexplained_minor:
        found.append(
            Finding(
                "reconciliation",
                "warn",
                f"{vendor.vendor_id}: a part of the variance has no known cause",
                f"{vendor.currency} {of_minor(vendor.unexplained_minor, vendor.currency)}",
                "look at the lines marked Unexplained in the workbook and ask the vendor",
            )
        )
    if vendor.status == "accrued":
        found.append(
            Finding(
                "accrual",
                "info",
                f"{vendor.vendor_id}: no invoice yet; the expected cost is accrued",
                f"{vendor.currency} {of_minor(vendor.expected_minor, vendor.currency)}",
                "land the invoice when it comes and close again",
            )
        )
    if claims:
        found.append(
            Finding(
                "claims",
                "info",
                f"{vendor.vendor_id}: {claims} claims, see the workbook",
                f"{vendor.currency} {of_minor(vendor.disputed_minor, vendor.currency)}",
                "mail the workbook to the vendor before the deadline",
            )
        )
    return found
