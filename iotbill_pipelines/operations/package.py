"""The close package: everything a close came from and came to, in one folder that can be proved.

The manifest names every input file by its SHA-256, the catalog and code version, the control totals
and every file of the package. Its own hash is written to the audit log, whose entries are chained,
so that the manifest cannot be exchanged without the log showing it; with a key it is signed too.
:func:`verify_package` computes the charges again from the archived bytes, writes the ledger's files
again from the database and makes every document again (:mod:`operations.documents_again`), and
compares all of it with the package byte for byte.
"""

from __future__ import annotations

import csv
import hashlib
import hmac
import json
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import pyarrow.parquet as pq
import sqlalchemy as sa
from sqlalchemy.orm import Session

from iotbill_pipelines.config.ledger import read_ledger
from iotbill_pipelines.config.workbook_cells import safe_text
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.schemas import DESIRED_CHARGE, USAGE_RECORD
from iotbill_pipelines.operations import (
    charges,
    corrections,
    documents_again,
    reach,
    runs,
    usage,
)
from iotbill_pipelines.operations.basis import newest_rows, unpack_configs
from iotbill_pipelines.operations.closed_with import ClosedWith, before_folder, closed_with
from iotbill_pipelines.operations.documents_again import Check
from iotbill_pipelines.operations.gate_results import NEWEST_GATES
from iotbill_pipelines.operations.ingest import reread
from iotbill_pipelines.operations.report import FIGURES_NAME, read_figures
from iotbill_pipelines.operations.report_proof import (
    ADDED_UP,
    added_up_otherwise,
    rendered_otherwise,
)
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage import landing, ledger
from iotbill_pipelines.storage.documents import write_bytes, write_csv
from iotbill_pipelines.storage.lake import Lake
from iotbill_pipelines.storage.models import (
    AuditLog,
    FeedFile,
    Period,
    PeriodSignature,
    Run,
)
from iotbill_pipelines.storage.models import Snapshot as StoredSnapshot
from iotbill_pipelines.storage.reference import open_snapshot

MANIFEST, DIGEST, SIGNATURE = "manifest.json", "manifest.sha256", "manifest.hmac"
FORMAT = 3
DOCUMENTS = "documents"
JOURNALS = f"{DOCUMENTS}/journals"
FIGURES = "report/figures.json"

COMPARED: Mapping[str, str] = {
    "documents/": "every document is made again and compared byte for byte",
    JOURNALS: "written again from the database",
    "documents/close_report.*": f"rendered again from {FIGURES}",
    "documents/reconciliation_*, documents/vendor_*": "computed again, charges/ "
    "against the lines of the invoices' files; claims as they stood, see inputs/documents/",
    "documents/customer_*": "made again from the ledger up to the rows named in inputs/documents/",
    "documents/data_docs/": "each day's figures counted again from the records as read again from "
    "the input files, held against the feeds' expectations, and rendered",
    FIGURES: f"added up again from ledger/: {'; '.join(ADDED_UP)}. The rest is what stood when the "
    "report was made (files, gates, claims, forecasts), and held to its hash",
    "charges/": "computed again from the bytes of the input files, with inputs/, byte for byte",
    "ledger/": "written again from the database up to the rows named here, byte for byte",
    "inputs/": "held to their hashes; input files that were landed, to theirs in the archive",
    "inputs/documents/": "when documents were made, and what stood then and nothing computes: "
    "states of claims, files that had not come. Open claims are held against what is computed",
}
"""What verifying a package compares each part of it with."""


class PackageError(RuntimeError):
    """A package that cannot be made or read as asked; the message says what to do."""


@dataclass(frozen=True)
class Package:
    """A package that was written: its folder, its manifest's SHA-256, its files."""

    folder: Path
    manifest_sha256: str
    files: int
    size_bytes: int
    signed: bool


# --------------------------------------------------------------------------------- making


def write_package(
    ws: Workspace, period: Month, folder: Path | None = None, key: bytes | None = None
) -> Package:
    """Write the package of a month's close into an empty or new folder.

    Without ``folder`` it is ``packages/<period>-<n>`` of the state folder. ``key`` signs the
    manifest by HMAC-SHA-256. Raises PackageError for a month whose close did not run through, or a
    folder that holds something.
    """
    run = _last_close(ws, period)
    closed = closed_with(ws, period)
    if run is None or closed is None:
        raise PackageError(f"no close of {period} ran through; run `iotbill close {period}` first")
    folder = folder if folder is not None else _next_folder(ws, period)
    if folder.exists() and any(folder.iterdir()):
        raise PackageError(f"{folder} holds files already; name a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    with ws.engine.connect() as connection:
        until = newest_rows(connection)
    shutil.copytree(
        ws.out(period),
        folder / DOCUMENTS,
        ignore=shutil.ignore_patterns(".*"),
        dirs_exist_ok=True,
    )
    if not unpack_configs(ws.out(period), folder / "inputs" / "configs"):
        shutil.rmtree(folder)
        raise PackageError(f"the close of {period} kept no configuration; close it again")
    for usage_period, snapshot_id in closed.usage_periods.items():
        _keep_snapshot(ws, snapshot_id, folder)
        _write_charges_of_lake(ws, Month.parse(usage_period), closed, folder)
        shutil.copytree(
            before_folder(ws.out(period), Month.parse(usage_period)),
            _before_folder(folder, Month.parse(usage_period)),
        )
    documents_again.keep_bases(ws, period, folder)
    for snapshot_id in documents_again.snapshots_of(folder):
        _keep_snapshot(ws, snapshot_id, folder)
    _write_ledger(ws, period, until, folder)
    _keep_figures(ws, period, folder)
    files = _listing(folder)
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "period": str(period),
        "prepared_at": ws.clock().isoformat(),
        "prepared_by": ws.actor,
        "close_run": run.run_id,
        "code_version": run.code_version,
        "catalog": _catalogs(ws, closed.usage_periods.values()),
        "usage_periods": closed.usage_periods,
        "settled": closed.settled,
        "closed_rows": closed.newest_rows,
        "newest_rows": until,
        "input_files": _input_files(ws),
        "usage_files": closed.usage_files,
        "control_totals": _control_totals(ws, period, until),
        "entities": _entities(ws, period),
        "gates": _gates(ws, period),
        "signatures": _signatures(ws, period),
        "audit_head": _audit_head(ws),
        "compared": dict(COMPARED),
        "files": files,
    }
    content = (json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()
    digest = write_bytes(folder / MANIFEST, content)
    write_bytes(folder / DIGEST, f"{digest}  {MANIFEST}\n".encode())
    if key is not None:
        write_bytes(folder / SIGNATURE, f"{_signature(content, key)}\n".encode())
    with Session(ws.engine) as session, session.begin():
        ledger.audit(
            session,
            at=ws.clock(),
            actor=ws.actor,
            action="package",
            subject=str(period),
            detail={"files": len(files), "close_run": run.run_id},
            input_hashes={"manifest": digest},
        )
    size = sum(file["size_bytes"] for file in files.values())
    return Package(folder, digest, len(files), size, key is not None)


def _keep_figures(ws: Workspace, period: Month, folder: Path) -> None:
    """Keep what the report was rendered from, if the ledger still says so."""
    path = ws.out(period) / FIGURES_NAME
    figures = read_figures(path.read_bytes()) if path.is_file() else None
    wrong = (
        ["its figures are not there"]
        if figures is None
        else added_up_otherwise(figures, folder / "ledger")
    )
    if wrong:
        shutil.rmtree(folder)
        raise PackageError(
            f"the close report of {period} is not of what is booked now ({'; '.join(wrong[:2])}); "
            f"run `iotbill close {period}` again"
        )
    write_bytes(folder / FIGURES, path.read_bytes())


def _signature(content: bytes, key: bytes) -> str:
    return hmac.new(key, content, hashlib.sha256).hexdigest()


def _next_folder(ws: Workspace, period: Month) -> Path:
    root, number = ws.home / "packages", 1
    while (root / f"{period}-{number}").exists():
        number += 1
    return root / f"{period}-{number}"


def _last_close(ws: Workspace, period: Month) -> Run | None:
    select = (
        sa.select(Run)
        .where(Run.kind == "close", Run.period == str(period), Run.status == "succeeded")
        .order_by(Run.finished_at.desc())
        .limit(1)
    )
    with Session(ws.engine, expire_on_commit=False) as session:
        return session.scalars(select).first()


def _keep_snapshot(ws: Workspace, snapshot_id: str, folder: Path) -> str:
    target = folder / "inputs" / "snapshots" / snapshot_id
    if not target.exists():
        with Session(ws.engine) as session:
            held = open_snapshot(session, ws.home, snapshot_id)
        shutil.copytree(held.tables_dir, target)
    return snapshot_id


def _before_folder(folder: Path, usage_period: Month) -> Path:
    return folder / "inputs" / "carried" / str(usage_period)


def _kept_before(folder: Path, usage_period: Month) -> charges.Before:
    files = _before_folder(folder, usage_period).glob("*.parquet")
    return charges.Before.of_tables({file.stem: pq.read_table(file) for file in files})


def _catalogs(ws: Workspace, snapshots: Iterable[str]) -> list[str]:
    with Session(ws.engine) as session:
        found = (session.get_one(StoredSnapshot, each).catalog_digest for each in snapshots)
        return sorted({digest for digest in found if digest})


_CHARGE_COLUMNS = DESIRED_CHARGE.column_names
_CHARGES = (
    f"select {', '.join(_CHARGE_COLUMNS)} from desired_charge where usage_period in ({{scope}})"
    f" order by {', '.join((*DESIRED_CHARGE.key, 'billing_period'))}"
)


def _charges_path(folder: Path, usage_period: Month) -> Path:
    return folder / "charges" / f"{usage_period}.csv"


def _write_charges_of_lake(
    ws: Workspace, usage_period: Month, closed: ClosedWith, folder: Path
) -> None:
    settled = [Month.parse(text) for text in closed.settled]
    scope = corrections.correction_scope(usage_period, settled)
    with ws.compute() as compute:
        compute.scan(DESIRED_CHARGE, ws.lake.paths(closed.charge_files[str(usage_period)]))
        rows = compute.fetch(_CHARGES.format(scope=_listed(scope))).to_pylist()
    _write_charges(_charges_path(folder, usage_period), rows)


def _write_charges(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    write_csv(path, _CHARGE_COLUMNS, (tuple(row.values()) for row in rows))


def _listed(scope: Iterable[Month]) -> str:
    return ", ".join(f"'{month}'" for month in scope)


# What a close leaves in the ledger, up to the newest rows when the package was made.
_LEDGER: Mapping[str, str] = {
    "booked_charges": (
        "select id, entry_no, level, entity_id, account_id, service_id, charge_id, product_id,"
        " kind, gl_class, tax_code, usage_period, billing_period, accounting_period, records,"
        " quantity, currency, amount_minor, reason, price_ids from booked_charge"
        " where accounting_period = :period and id <= :booked_charge order by id"
    ),
    "invoices": (
        "select invoice_id, invoice_no, entity_id, account_id, account_name, billing_period,"
        " accounting_period, sequence, issue_date, currency, lines, total_minor from invoice"
        " where accounting_period = :period and invoice_id <= :invoice order by invoice_id"
    ),
    "invoice_lines": (
        "select i.invoice_no, l.line_no, l.booked_charge_id, l.currency, l.amount_minor"
        " from invoice_line l join invoice i using (invoice_id)"
        " where i.accounting_period = :period and i.invoice_id <= :invoice"
        " order by i.invoice_id, l.line_no"
    ),
    "taxes": (
        "select document_no, line_no, part_no, item_no, jurisdiction, tax, rate, compound,"
        " treatment, note, pricing, currency, taxable_minor, base_minor, amount_minor"
        " from posted_tax where accounting_period = :period and tax_id <= :invoice_tax"
        " order by tax_id"
    ),
    "journal_lines": (
        "select j.external_id, l.line_no, j.journal_date, l.role, l.account, l.currency,"
        " l.debit_minor, l.credit_minor, l.functional_currency, l.functional_debit_minor,"
        " l.functional_credit_minor, l.memo, l.name from journal_line l join journal j"
        " using (journal_id) where j.accounting_period = :period and j.journal_id <= :journal"
        " order by j.external_id, l.line_no"
    ),
}


def _write_ledger(ws: Workspace, period: Month, until: Mapping[str, int], folder: Path) -> None:
    with ws.engine.connect() as connection:
        for name, statement in _LEDGER.items():
            rows = connection.execute(sa.text(statement), {"period": str(period), **until})
            header, path = list(rows.keys()), folder / "ledger" / f"{name}.csv"
            write_csv(path, header, [list[Any](row) for row in rows])


def _input_files(ws: Workspace) -> list[dict[str, Any]]:
    select = sa.select(FeedFile).order_by(FeedFile.landed_at, FeedFile.sha256)
    with Session(ws.engine) as session:
        return [
            {
                "file_key": file.file_key,
                "sha256": file.sha256,
                "feed": file.feed_id,
                "name": file.original_name,
                "size_bytes": file.size_bytes,
                "state": file.state,
                "records_in": file.records_in,
                "kept": file.kept,
                "ignored": file.ignored,
                "rejected": file.rejected,
            }
            for file in session.scalars(select)
        ]


_TOTALS: Mapping[str, str] = {
    "booked": (
        "select level, reason, currency, count(*) as rows, sum(amount_minor)::bigint as minor"
        " from booked_charge where accounting_period = :period and id <= :booked_charge"
        " group by 1, 2, 3 order by 1, 2, 3"
    ),
    "invoiced": (
        "select entity_id, currency, count(*) as invoices, sum(total_minor)::bigint as minor"
        " from invoice where accounting_period = :period and invoice_id <= :invoice"
        " group by 1, 2 order by 1, 2"
    ),
    "journals": (
        "select j.external_id, j.currency, sum(l.debit_minor)::bigint as debit_minor,"
        " sum(l.credit_minor)::bigint as credit_minor from journal j join journal_line l"
        " using (journal_id) where j.accounting_period = :period and j.journal_id <= :journal"
        " group by 1, 2 order by 1, 2"
    ),
}


def _control_totals(ws: Workspace, period: Month, until: Mapping[str, int]) -> dict[str, Any]:
    with ws.engine.connect() as connection:
        return {
            name: [
                dict(row)
                for row in connection.execute(
                    sa.text(statement), {"period": str(period), **until}
                ).mappings()
            ]
            for name, statement in _TOTALS.items()
        }


def _entities(ws: Workspace, period: Month) -> dict[str, str]:
    with Session(ws.engine) as session:
        return ledger.period_states(session, period)


def _gates(ws: Workspace, period: Month) -> list[dict[str, Any]]:
    statement = (
        "select gate, entity_id as entity, outcome, severity, figure, waived_by, waive_reason"
        f" from ({NEWEST_GATES}) as g where period = :period order by gate, entity_id"
    )
    with ws.engine.connect() as connection:
        rows = connection.execute(sa.text(statement), {"period": str(period)}).mappings()
        return [dict(row) for row in rows]


def _signatures(ws: Workspace, period: Month) -> list[dict[str, Any]]:
    select = (
        sa.select(PeriodSignature)
        .join(
            Period,
            sa.and_(
                Period.entity_id == PeriodSignature.entity_id,
                Period.period == PeriodSignature.period,
            ),
        )
        .where(PeriodSignature.period == str(period))
        .order_by(PeriodSignature.signature_id)
    )
    with Session(ws.engine) as session:
        return [
            {
                "entity": signed.entity_id,
                "action": signed.action,
                "actor": signed.actor,
                "role": signed.role,
                "reason": signed.reason,
                "signed_at": signed.signed_at.isoformat(),
            }
            for signed in session.scalars(select)
        ]


def _audit_head(ws: Workspace) -> str:
    with Session(ws.engine) as session:
        newest = session.scalar(sa.select(AuditLog.hash).order_by(AuditLog.seq.desc()).limit(1))
    return newest or "0" * 64


def _listing(folder: Path) -> dict[str, dict[str, Any]]:
    own = (MANIFEST, DIGEST, SIGNATURE)
    return {
        path.relative_to(folder).as_posix(): {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "size_bytes": path.stat().st_size,
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.relative_to(folder).as_posix() not in own
    }


# ------------------------------------------------------------------------------ verifying


def verify_package(ws: Workspace, folder: Path, key: bytes | None = None) -> list[Check]:
    """Prove a package: its seal, its files, its inputs; then compute it again and compare.

    Charges and reconciliations are computed from the archived bytes of the input files with the
    package's own configuration and snapshots; ledger and journals are written from the database;
    documents are made of both. Raises
    PackageError for a folder without a manifest that this version reads.
    """
    content, manifest = _read_manifest(folder)
    checks = [
        *_check_seal(ws, folder, content, key),
        _check_files(folder, manifest),
        _check_inputs(ws, manifest),
        Check(
            "code version",
            manifest["code_version"] == runs.code_version(),
            f"closed by {manifest['code_version']}, this is {runs.code_version()}",
        ),
    ]
    period = Month.parse(manifest["period"])
    with tempfile.TemporaryDirectory(prefix="iotbill-verify-") as scratch:
        again = Path(scratch) / "again"
        computable = checks[-2].passed and not _changed_files(folder, manifest, "inputs/")
        if computable:
            compute_again(ws, folder, manifest, again)
            checks.append(_compared("charges", folder, again, "charges"))
            checks.append(_check_booked(ws, manifest, again))
        _write_ledger(ws, period, manifest["newest_rows"], again)
        checks.append(_compared("ledger", folder, again, "ledger"))
        checks.append(_check_report(folder, again))
        _journals_again(ws, folder, manifest, again)
        checks.append(_compared("journals", folder, again, JOURNALS))
        if computable:
            checks += documents_again.check_documents(folder, again / DOCUMENTS)
    return checks


def _read_manifest(folder: Path) -> tuple[bytes, dict[str, Any]]:
    path = folder / MANIFEST
    if not path.is_file():
        raise PackageError(f"{folder} has no {MANIFEST}; name the folder of a close package")
    content = path.read_bytes()
    try:
        manifest: dict[str, Any] = json.loads(content)
        known = manifest["format"] == FORMAT
    except (ValueError, KeyError, TypeError):
        raise PackageError(f"{path} is not a manifest of a close package") from None
    if not known:
        raise PackageError(f"{path} has format {manifest['format']}; this version reads {FORMAT}")
    return content, manifest


def _check_seal(ws: Workspace, folder: Path, content: bytes, key: bytes | None) -> Iterable[Check]:
    digest = hashlib.sha256(content).hexdigest()
    path = folder / DIGEST
    told = path.read_text("utf-8").split(" ")[0] if path.is_file() else "absent"
    yield Check("manifest", told == digest, f"SHA-256 {digest}, {DIGEST} says {told}")
    with Session(ws.engine) as session:
        entry = session.scalar(
            sa.select(AuditLog.seq)
            .where(AuditLog.action == "package", AuditLog.input_hashes["manifest"].astext == digest)
            .limit(1)
        )
        broken = ledger.verify_audit(session)
    yield Check(
        "audit log",
        entry is not None and not broken,
        f"entry {entry} holds the manifest's hash; the chain is {'broken' if broken else 'whole'}"
        if entry is not None
        else "no entry holds the manifest's hash: it was exchanged, or made elsewhere",
    )
    signed = folder / SIGNATURE
    if key is not None or signed.is_file():
        given = signed.read_text("utf-8").strip() if signed.is_file() else ""
        right = key is not None and hmac.compare_digest(given, _signature(content, key))
        yield Check(
            "signature",
            right,
            "made with the key given"
            if right
            else "no key was given to check it with; say --key-file"
            if key is None
            else "not made with the key given, or absent",
        )


def _changed_files(folder: Path, manifest: Mapping[str, Any], under: str = "") -> list[str]:
    """What of a package's files is not as the manifest lists it."""
    held, told = _listing(folder), manifest["files"]
    wrong = [
        *((name, "is missing") for name in sorted(set(told) - set(held))),
        *((name, "was added") for name in sorted(set(held) - set(told))),
        *(
            (name, "was changed")
            for name in sorted(set(held) & set(told))
            if held[name]["sha256"] != told[name]["sha256"]
        ),
    ]
    return [f"{name} {what}" for name, what in wrong if name.startswith(under)]


def _check_files(folder: Path, manifest: Mapping[str, Any]) -> Check:
    wrong = _changed_files(folder, manifest)
    detail = f"{len(manifest['files'])} files as listed"
    return Check("files", not wrong, "; ".join(wrong[:5]) or detail)


def _check_inputs(ws: Workspace, manifest: Mapping[str, Any]) -> Check:
    wrong = []
    archived = {file.file_key: file.archive_path for file in _feed_files(ws, manifest)}
    for file in manifest["input_files"]:
        path = archived.get(file["file_key"])
        try:
            if path is None:
                raise FileNotFoundError
            with landing.open_archived(ws.archive, path) as handle:
                digest = _digest(handle)
        except OSError:
            wrong.append(f"{file['name']} is not in the archive")
            continue
        if digest != file["sha256"]:
            wrong.append(f"{file['name']} is not the file that was closed with")
    return Check(
        "input files",
        not wrong,
        "; ".join(wrong[:5]) or f"{len(manifest['input_files'])} archived files as listed",
    )


def _digest(handle: IO[bytes]) -> str:
    found = hashlib.sha256()
    while block := handle.read(1 << 20):
        found.update(block)
    return found.hexdigest()


def _feed_files(ws: Workspace, manifest: Mapping[str, Any]) -> list[FeedFile]:
    keys = [file["file_key"] for file in manifest["input_files"]]
    select = (
        sa.select(FeedFile)
        .where(FeedFile.file_key.in_(keys))
        .order_by(FeedFile.landed_at, FeedFile.original_name, FeedFile.file_key)
    )
    with Session(ws.engine, expire_on_commit=False) as session:
        return list(session.scalars(select))


def compute_again(ws: Workspace, folder: Path, manifest: Mapping[str, Any], again: Path) -> None:
    """Read a package's raw files again, price them into ``again/charges`` and make its documents in
    ``again/documents``; the workspace is left as it is."""
    apart = replace(
        ws,
        lake=Lake(str(again / "lake")),
        configs=folder / "inputs" / "configs",
        run_id="verify",
    )
    used = {month: set(keys) for month, keys in manifest["usage_files"].items()}
    wanted = set().union(*used.values(), documents_again.files_of(folder))
    reread(apart, [file for file in _feed_files(ws, manifest) if file.file_key in wanted])
    settled = [Month.parse(text) for text in manifest["settled"]]
    for told, snapshot_id in manifest["usage_periods"].items():
        usage_period = Month.parse(told)
        with Session(ws.engine) as session:
            held = open_snapshot(session, ws.home, snapshot_id)
        tables = reach.tables_of(folder / "inputs" / "snapshots" / snapshot_id)
        scope = corrections.correction_scope(usage_period, settled)
        with ws.compute() as compute:
            months = [
                Month.parse(month)
                for month in used
                if Month.parse(month) in charges.usage_months(apart, usage_period, held)
            ]
            files = {
                month: [
                    file
                    for file in apart.lake.files(USAGE_RECORD, usage_month=str(month))
                    if usage.file_key_of(file) in used[str(month)]
                ]
                for month in months
            }
            before = _kept_before(folder, usage_period)
            corrections.price(apart, compute, usage_period, tables, months, before, files)
            rows = compute.fetch(_CHARGES.format(scope=_listed(scope))).to_pylist()
            charges.publish_costs(apart, compute, scope)
        _write_charges(_charges_path(again, usage_period), rows)
    period = Month.parse(manifest["period"])
    documents_again.make_documents(apart, period, folder, again / DOCUMENTS)


_UNIT = ("usage_period", "level", "account_id", "service_id", "charge_id", "currency")

_BOOKED = f"""
select {", ".join(_UNIT)}, sum(amount_minor)::bigint as minor from booked_charge
where usage_period = any(:scope) and id <= :booked_charge
group by {", ".join(_UNIT)} having sum(amount_minor) <> 0
"""


def _check_booked(ws: Workspace, manifest: Mapping[str, Any], again: Path) -> Check:
    """Add up what was booked of the package's usage periods by the end of the close, in any month:
    it is what was computed again, or an earlier row is not what it should be."""
    computed: dict[tuple[str, ...], int] = defaultdict(int)
    settled = [Month.parse(text) for text in manifest["settled"]]
    scope = set()
    for told in manifest["usage_periods"]:
        scope |= set(map(str, corrections.correction_scope(Month.parse(told), settled)))
        with _charges_path(again, Month.parse(told)).open(encoding="utf-8", newline="") as handle:
            for row in csv.DictReader(handle):
                computed[tuple(row[name] for name in _UNIT)] += int(row["amount_minor"])
    values = {"scope": sorted(scope), **manifest["closed_rows"]}
    booked: dict[tuple[str, ...], int] = defaultdict(int)
    with ws.engine.connect() as connection:
        for held in connection.execute(sa.text(_BOOKED), values):
            # as the file says an id that a spreadsheet would evaluate
            booked[tuple(map(safe_text, held[:-1]))] += held.minor
    wanted = {unit: minor for unit, minor in computed.items() if minor}
    wrong = [
        f"{' '.join(unit)}: {booked.get(unit, 0)} booked, {wanted.get(unit, 0)} computed"
        for unit in sorted(booked.keys() | wanted.keys())
        if booked.get(unit) != wanted.get(unit)
    ]
    detail = f"{len(booked)} units of {len(scope)} usage periods, as they are computed"
    return Check("booked", not wrong, "; ".join(wrong[:5]) or detail)


def _check_report(folder: Path, again: Path) -> Check:
    """Render the report again from its figures, and add those up from the ledger's files."""
    path = folder / FIGURES
    figures = read_figures(path.read_bytes()) if path.is_file() else None
    if figures is None:
        return Check("report", False, f"{FIGURES} is missing, or no figures of a report")
    wrong = [
        *rendered_otherwise(figures, folder / DOCUMENTS, again / "report"),
        *added_up_otherwise(figures, folder / "ledger"),
    ]
    detail = "rendered again byte for byte, its figures added up from the ledger"
    return Check("report", not wrong, "; ".join(wrong[:5]) or detail)


def _journals_again(ws: Workspace, folder: Path, manifest: Mapping[str, Any], again: Path) -> None:
    """Write the journals' export files again; the database is left as it is."""
    terms = read_ledger(folder / "inputs" / "configs" / "ledger")
    target = again / JOURNALS
    target.mkdir(parents=True, exist_ok=True)
    with Session(ws.engine) as session:
        ledger.export_journals(
            session, Month.parse(manifest["period"]), terms, target, exported_at=ws.clock()
        )
        session.rollback()


def _compared(check: str, folder: Path, again: Path, part: str) -> Check:
    """Compare the package's files under ``part`` with those written again."""
    names = sorted(p.name for p in (folder / part).glob("*") if p.is_file())
    wrong = []
    for name in names:
        other = again / part / name
        if not other.is_file():
            wrong.append(f"{name} is not written again")
        elif other.read_bytes() != (folder / part / name).read_bytes():
            wrong.append(f"{name} differs")
    return Check(check, not wrong, "; ".join(wrong[:5]) or f"{len(names)} files, byte for byte")
