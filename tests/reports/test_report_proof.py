"""A close report held against the ledger's files: what a close posts is added up again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from iotbill_pipelines.operations.report import read_figures
from iotbill_pipelines.operations.report_proof import added_up_otherwise
from iotbill_pipelines.storage.close_report.figures import (
    BookingFigures,
    InvoiceFigures,
    JournalFigures,
    RevenueFigures,
)
from tests.reports.test_close_report import FIGURES

BOOKED = """level,kind,currency,account_id,service_id,charge_id,usage_period,amount_minor
retail,usage,EUR,A,S1,data,2026-10,100
retail,usage,EUR,A,S1,data,2026-10,-30
retail,recurring,EUR,A,S1,sub,2026-10,250
vendor,usage,EUR,V,S1,buy,2026-10,60
"""
INVOICES = "currency,total_minor\nEUR,320\n"
LINES = """external_id,debit_minor,credit_minor
J-1,320,0
J-1,0,320
"""

POSTED = replace(
    FIGURES,
    booking=BookingFigures(1, 3),
    revenue=[
        RevenueFigures("usage", "EUR", 1, 70, 0),
        RevenueFigures("recurring", "EUR", 1, 250, 250),
    ],
    invoices=[InvoiceFigures("EUR", 1, 320)],
    journals=[JournalFigures("J-1", "REVENUE", "exported", "EUR", 2, 320, 320)],
)


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    for name, content in (
        ("booked_charges", BOOKED),
        ("invoices", INVOICES),
        ("journal_lines", LINES),
    ):
        (tmp_path / f"{name}.csv").write_text(content)
    return tmp_path


def test_a_report_of_what_is_booked_adds_up(ledger: Path) -> None:
    assert added_up_otherwise(POSTED, ledger) == []


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("booked_charges", "retail,recurring", "vendor,recurring", "revenue: the report says"),
        ("booked_charges", "data,2026-10,-30", "more,2026-10,-30", "revenue"),
        ("booked_charges", BOOKED.splitlines()[-1], "", "rows booked: the report says 4"),
        ("invoices", "320", "321", "invoices"),
        ("journal_lines", "J-1,0,320", "J-1,0,319", "journals"),
        ("journal_lines", "J-1,0", "J-2,0", "journals"),
    ],
)
def test_whatever_differs_is_said(ledger: Path, name: str, old: str, new: str, said: str) -> None:
    file = ledger / f"{name}.csv"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new, 1))
    (found,) = added_up_otherwise(POSTED, ledger)
    assert said in found


def test_figures_of_another_version_are_no_figures() -> None:
    assert read_figures(b'{"period": "2026-10"}') is None
