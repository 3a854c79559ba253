"""The documents of a close package made again, and compared with the package byte for byte.

What they show follows from the charges and invoice lines that verifying a package computes again,
from the ledger's rows, and from their bases (:mod:`operations.basis`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.operations import customer_reports, data_quality, report_pages
from iotbill_pipelines.operations import reconciliation as vendors
from iotbill_pipelines.operations.basis import read
from iotbill_pipelines.operations.reach import tables_of
from iotbill_pipelines.operations.report import OWN_NAMES
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage.documents import write_bytes

BASES = Path("inputs") / "documents"
CLAIMS = ".claims.json"


@dataclass(frozen=True)
class Check:
    """A part of verifying a package, and what was found."""

    check: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class _Family:
    """Documents that have a basis: of which kind it is, and the patterns of their paths."""

    check: str
    basis: str
    kind: type[Any]
    patterns: tuple[str, ...]

    def read(self, folder: Path) -> Any:
        return read(folder / BASES / self.basis.removeprefix("."), self.kind)


_VENDORS = _Family("reconciliations", vendors.BASIS, vendors.Stood, ("reconciliation_*.xlsx",))
_PAGES = _Family(
    "pages", report_pages.BASIS, report_pages.Stood, ("vendor_*.html", "customer_*.html")
)
_CUSTOMERS = _Family(
    "customers", customer_reports.BASIS, customer_reports.Stood, ("customer_*.xlsx",)
)
_QUALITY = _Family(
    "data quality", data_quality.BASIS, data_quality.Stood, (f"{data_quality.DOCS}/**/*",)
)
FAMILIES = (_VENDORS, _PAGES, _CUSTOMERS, _QUALITY)


def keep_bases(ws: Workspace, period: Month, folder: Path) -> None:
    """Take the bases of a month's documents into a package's folder."""
    for family in FAMILIES:
        path = ws.out(period) / family.basis
        if path.is_file():
            write_bytes(folder / BASES / family.basis.removeprefix("."), path.read_bytes())


def snapshots_of(folder: Path) -> list[str]:
    """Return the snapshots that a package's documents were made with."""
    stood = [family.read(folder) for family in (_VENDORS, _PAGES, _CUSTOMERS)]
    return sorted({each.snapshot_id for each in stood if each})


def files_of(folder: Path) -> set[int]:
    """Return the keys of the landed files that a package's documents show the content of."""
    invoices, quality = _VENDORS.read(folder), _QUALITY.read(folder)
    keys: set[int] = set(invoices.invoice_files) if invoices else set()
    return keys | set(quality.file_keys if quality else ())


def make_documents(ws: Workspace, period: Month, folder: Path, made: Path) -> None:
    """Make every document with a basis again, in the folder ``made``.

    The workspace's lake holds what verifying the package computed.
    """
    home = made.with_name(f"{made.name}-home")
    home.mkdir(parents=True)
    ws = replace(ws, home=home)
    stood = {family: family.read(folder) for family in FAMILIES}

    def tables(family: _Family) -> Mapping[str, pa.Table]:
        return tables_of(folder / "inputs" / "snapshots" / stood[family].snapshot_id)

    again = vendors.Again([], [], {})
    if stood[_VENDORS]:
        again = vendors.reconcile_again(ws, period, tables(_VENDORS), stood[_VENDORS])
    if stood[_PAGES]:
        report_pages.write_pages_again(ws, period, tables(_PAGES), stood[_PAGES], again)
    if stood[_CUSTOMERS]:
        customer_reports.write_workbooks_again(ws, period, tables(_CUSTOMERS), stood[_CUSTOMERS])
    if stood[_QUALITY]:
        data_quality.write_docs_again(ws, period, stood[_QUALITY])
    ws.out(period).rename(made)
    write_bytes(made / CLAIMS, json.dumps(again.claims, sort_keys=True).encode())


def check_documents(folder: Path, made: Path) -> list[Check]:
    """Compare the documents of a package's folder with those that :func:`make_documents` made.

    Documents that no stage of this program makes are a difference too.
    """
    documents = folder / "documents"
    stood = _VENDORS.read(folder)
    checks = [_check_claims(json.loads((made / CLAIMS).read_text("utf-8")), stood)] if stood else []
    checks += [_compared(family, documents, made) for family in FAMILIES]
    known = {path for family in FAMILIES for path in _paths(documents, family)}
    known |= {documents / name for name in OWN_NAMES}
    strange = [
        path.relative_to(documents).as_posix()
        for path in sorted(documents.rglob("*"))
        if path.is_file() and path not in known and path.parent != documents / "journals"
    ]
    if strange:
        told = ", ".join(strange[:5])
        checks.append(Check("other documents", False, f"nothing makes them again: {told}"))
    return checks


def _check_claims(computed: Mapping[str, Sequence[Any]], stood: vendors.Stood) -> Check:
    """Open claims say what the terms claim; those that were sent stay as they were sent."""
    wrong = [
        each.claim.reference
        for each in stood.claims
        if each.claim.status == "open"
        and tuple(computed.get(each.claim.reference, ()))
        != (each.claim.cause, each.claim.billed_minor, each.claim.expected_minor)
    ]
    missing = sorted(set(computed) - {each.claim.reference for each in stood.claims})
    told = [f"{name} is not what is computed" for name in wrong]
    told += [f"{name} is missing" for name in missing]
    count = sum(each.claim.status == "open" for each in stood.claims)
    return Check(
        "claims", not told, "; ".join(told[:5]) or f"{count} open claims, as they are computed"
    )


def _paths(root: Path, family: _Family) -> list[Path]:
    found = {path for pattern in family.patterns for path in root.glob(pattern)}
    return sorted(path for path in found if path.is_file())


def _compared(family: _Family, documents: Path, made: Path) -> Check:
    held = {path.relative_to(documents).as_posix(): path for path in _paths(documents, family)}
    again = {path.relative_to(made).as_posix(): path for path in _paths(made, family)}
    wrong = [
        *(f"{name} is not made again" for name in held if name not in again),
        *(f"{name} is missing" for name in again if name not in held),
        *(
            f"{name} differs"
            for name, path in held.items()
            if name in again and path.read_bytes() != again[name].read_bytes()
        ),
    ]
    said = "; ".join(wrong[:5]) or f"{len(held)} files, byte for byte"
    return Check(family.check, not wrong, said)
