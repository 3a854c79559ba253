"""Proof of a close report: rendered again from its figures, its figures added up from the ledger.

A report shows how things stood when it was made: files that came, gates, claims, forecasts. Those
move on, so that a package keeps the figures (``report/figures.json``) beside the report. The report
follows from them byte for byte; of them, everything that a close posts follows from the package's
own ledger files, row by row (:data:`ADDED_UP`).
"""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from pathlib import Path

from iotbill_pipelines.operations.report import HTML_NAME, WORKBOOK_NAME, render
from iotbill_pipelines.storage.close_report.figures import CloseFigures

ADDED_UP = (
    "rows booked",
    "revenue by charge type and currency, and how many charges",
    "invoices by currency and their totals",
    "journals, their lines, debits and credits",
)
"""The figures of a report that are added up again from the ledger's files."""


def rendered_otherwise(figures: CloseFigures, documents: Path, scratch: Path) -> list[str]:
    """Return what of a report differs from its figures rendered again, byte for byte."""
    scratch.mkdir(parents=True)
    render(figures, scratch)
    wrong = []
    for name in (HTML_NAME, WORKBOOK_NAME):
        kept = documents / name
        if not kept.is_file():
            wrong.append(f"{name} is missing")
        elif kept.read_bytes() != (scratch / name).read_bytes():
            wrong.append(f"{name} differs")
    return wrong


def added_up_otherwise(figures: CloseFigures, ledger: Path) -> list[str]:
    """Return what of a report's figures differs from the ledger's files of its period."""
    booked = _rows(ledger / "booked_charges.csv")
    revenue: dict[tuple[str, str], int] = defaultdict(int)
    charges: dict[tuple[str, str], set[tuple[str, ...]]] = defaultdict(set)
    for row in booked:
        if row["level"] == "retail":
            key = (row["kind"], row["currency"])
            revenue[key] += int(row["amount_minor"])
            charges[key].add(tuple(row[name] for name in _CHARGE))
    invoices: dict[str, int] = defaultdict(int)
    issued: Counter[str] = Counter()
    for row in _rows(ledger / "invoices.csv"):
        invoices[row["currency"]] += int(row["total_minor"])
        issued[row["currency"]] += 1
    journals: dict[str, tuple[int, int, int]] = {}
    for row in _rows(ledger / "journal_lines.csv"):
        lines, debit, credit = journals.get(row["external_id"], (0, 0, 0))
        journals[row["external_id"]] = (
            lines + 1,
            debit + int(row["debit_minor"]),
            credit + int(row["credit_minor"]),
        )
    pairs = (
        ("rows booked", figures.booking.new_rows + figures.booking.earlier_rows, len(booked)),
        (
            "revenue",
            {(r.charge_type, r.currency): (r.amount_minor, r.charges) for r in figures.revenue},
            {key: (minor, len(charges[key])) for key, minor in revenue.items()},
        ),
        (
            "invoices",
            {row.currency: (row.total_minor, row.invoices) for row in figures.invoices},
            {currency: (minor, issued[currency]) for currency, minor in invoices.items()},
        ),
        (
            "journals",
            {j.journal: (j.lines, j.debit_minor, j.credit_minor) for j in figures.journals},
            journals,
        ),
    )
    return [
        f"{what}: the report says {told}, the ledger {found}"
        for what, told, found in pairs
        if told != found
    ]


_CHARGE = ("account_id", "service_id", "charge_id", "usage_period")


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))
