"""The close report as a workbook: one sheet a subject, numbers as numbers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from iotbill_pipelines.storage.close_report.figures import (
    FLUX_EFFECTS,
    LEVEL_LABELS,
    REVENUE_LABELS,
    VENDOR_LABELS,
    CloseFigures,
    Fates,
    amount,
    label,
)
from iotbill_pipelines.storage.documents import Cell, ColumnFormat, Sheet, write_workbook


def write_close_workbook(path: Path, figures: CloseFigures) -> str:
    """Write the report's figures; return the SHA-256. Equal figures give equal bytes."""
    return write_workbook(path, list(_sheets(figures)), figures.prepared_at)


def _text(title: str, width: int | None = None) -> ColumnFormat:
    return ColumnFormat(title, width=width)


def _integer(title: str, *, total: bool = True) -> ColumnFormat:
    return ColumnFormat(title, "integer", total=total, width=14)


def _money(title: str, currency: str | None) -> ColumnFormat:
    return ColumnFormat(title, "money", currency, width=20, total=currency is not None)


def _one(currencies: Iterable[str]) -> str | None:
    """The currency of a sheet, if all its rows share one; only then can it have a total."""
    found = set(currencies)
    return found.pop() if len(found) == 1 else None


def _fates(fates: Fates | None) -> list[Cell]:
    if fates is None:
        return [None] * 7
    return [
        fates.arrived,
        fates.kept,
        fates.ignored,
        fates.duplicate,
        fates.rejected,
        fates.suspended,
        fates.waiting,
    ]


_FATES = ("In", "Kept", "Ignored", "Duplicate", "Rejected", "Suspended", "Not rated yet")


def _sheets(figures: CloseFigures) -> Iterable[Sheet]:
    yield Sheet(
        "Summary",
        [_text("Close report", 28), _text(f"{figures.period.start:%B %Y}", 70)],
        [
            ["Entities", ", ".join(figures.entities)],
            ["Result", figures.headline],
            ["New rows in the ledger", f"{figures.booking.new_rows:,}"],
            ["Rows booked before", f"{figures.booking.earlier_rows:,}"],
            ["Gates blocked", f"{len(figures.blocked):,}"],
            ["Gates to look at", f"{len(figures.warnings):,}"],
            ["Prepared at (UTC)", f"{figures.prepared_at:%Y-%m-%d %H:%M}"],
            ["Run", figures.run_id],
            ["Files are in", figures.folder],
        ],
    )
    yield Sheet(
        "Records",
        [_text("Feed", 26), _integer("Files"), *(_integer(title) for title in _FATES)],
        [[feed.feed, feed.files, *_fates(feed.records)] for feed in figures.feeds],
        totals=True,
        notes=["In = kept + ignored + duplicate + rejected + suspended + not rated yet."],
    )
    yield Sheet(
        "Quantities",
        [_text("Feed", 26), *(_integer(title, total=False) for title in _FATES)],
        [
            [feed.feed, *_fates(feed.quantity)]
            for feed in figures.feeds
            if feed.quantity is not None
        ],
        notes=figures.quantity_notes,
    )
    currency = _one(row.currency for row in figures.revenue)
    yield Sheet(
        "Revenue",
        [
            _text("Charge type", 24),
            _text("Currency"),
            _integer("Charges"),
            _money("Booked", currency),
            _money("New in this run", currency),
        ],
        [
            [
                label(REVENUE_LABELS, row.charge_type),
                row.currency,
                row.charges,
                amount(row.amount_minor, row.currency),
                amount(row.new_minor, row.currency),
            ]
            for row in figures.revenue
        ],
        totals=currency is not None,
    )
    yield Sheet(
        "Flux",
        [
            _text("Level", 16),
            _text("Product", 24),
            _text("Currency"),
            _money("Month before", None),
            *(_money(title, None) for title in FLUX_EFFECTS.values()),
            _money("This month", None),
        ],
        [
            [
                label(LEVEL_LABELS, row.level),
                row.product or "Total",
                row.currency,
                amount(row.last_minor, row.currency),
                *(amount(row.effects[name], row.currency) for name in FLUX_EFFECTS),
                amount(row.this_minor, row.currency),
            ]
            for row in figures.flux
        ],
        notes=["Month before + volume + price + mix + late usage + corrections + FX = this month."],
    )
    currency = _one(row.currency for row in figures.vendors)
    yield Sheet(
        "Vendors",
        [
            _text("Vendor", 24),
            _text("Result", 26),
            _text("Currency"),
            _money("Expected", currency),
            _money("Invoiced", currency),
            _money("Variance", currency),
            _money("Claimed", currency),
            _money("Unexplained", currency),
        ],
        [
            [
                row.vendor,
                label(VENDOR_LABELS, row.status),
                row.currency,
                amount(row.expected_minor, row.currency),
                None if row.invoiced_minor is None else amount(row.invoiced_minor, row.currency),
                None if row.variance_minor is None else amount(row.variance_minor, row.currency),
                amount(row.claimed_minor, row.currency),
                amount(row.unexplained_minor, row.currency),
            ]
            for row in figures.vendors
        ],
        totals=currency is not None,
    )
    for statement in figures.statements:
        currency = _one(currency for _, currency, _ in statement.rows)
        yield Sheet(
            statement.title,
            [
                *(_text(name, 24) for name in statement.labels),
                _text("Currency"),
                *(_money(name, currency) for name in statement.amounts),
            ],
            [
                [*texts, money_of, *(amount(minor, money_of) for minor in values)]
                for texts, money_of, values in statement.rows
            ],
            totals=currency is not None,
        )
    currency = _one(row.currency for row in figures.journals)
    yield Sheet(
        "Journals",
        [
            _text("Journal", 30),
            _text("Type"),
            _text("State"),
            _text("Currency"),
            _integer("Lines"),
            _money("Debits", currency),
            _money("Credits", currency),
        ],
        [
            [
                row.journal,
                row.kind,
                row.state,
                row.currency,
                row.lines,
                amount(row.debit_minor, row.currency),
                amount(row.credit_minor, row.currency),
            ]
            for row in figures.journals
        ],
        totals=currency is not None,
    )
    yield Sheet(
        "Gates",
        [
            _text("Gate", 26),
            _text("What it checks", 46),
            _text("Owner", 16),
            _text("Verdict", 12),
            _text("Figure", 30),
            _text("Finding", 60),
            _text("What to do", 60),
            _text("Waived by", 18),
        ],
        [
            [
                gate.gate,
                gate.title,
                gate.owner,
                gate.verdict,
                gate.figure,
                gate.message if gate.verdict != "passed" else "",
                gate.what_to_do if gate.verdict != "passed" else "",
                gate.waived_by,
            ]
            for gate in figures.gates
        ],
    )
    yield Sheet(
        "Files",
        [_text("File", 70), ColumnFormat("Bytes", "integer", width=14)],
        [[file.name, file.size_bytes] for file in figures.files],
        notes=[figures.folder],
    )
