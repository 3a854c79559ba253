"""The workbook a carrier gets: formulas agree with values, nothing of the data is alive."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from openpyxl import load_workbook
from openpyxl.utils import range_boundaries

from iotbill_pipelines.config.vendors import Contact, DisputeLayout, Vendor
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.storage import reconciliation_workbook
from iotbill_pipelines.storage.reconciliation_workbook import (
    DocumentClaim,
    DocumentLine,
    DocumentPlan,
    ReconciliationDocument,
    write_reconciliation,
)

CREATED = datetime(2026, 11, 3, tzinfo=UTC)
EVIL = ['=cmd|"/c calc"!A1', "+1+1", "-2", "@SUM(A1)", "\t=1", "==1"]


def line(sim: str | None, expected: int, invoiced: int, status: str, **causes: int) -> DocumentLine:
    return DocumentLine(
        "INV-1",
        sim,
        "2026-10",
        "DATA",
        "MB",
        Decimal("10.5"),
        Decimal("12"),
        expected,
        invoiced,
        status,
        causes,
    )


def claim(reference: str, billed: int, expected: int, cause: str) -> DocumentClaim:
    return DocumentClaim(
        reference,
        "INV-1",
        3,
        "8949000000000000001",
        "2026-10",
        "DATA",
        billed,
        expected,
        cause,
        "invoice INV-1 line 3: billed 12, ours 10.5",
        date(2026, 12, 30),
        "open",
    )


def document(currency: str = "EUR", **changes: Any) -> ReconciliationDocument:
    vendor = Vendor(
        vendor="acme",
        name="Acme & Sons",
        currency=currency,
        invoice_feed="acme",
        contact=Contact(name="Billing"),
        dispute=DisputeLayout(deadline_days=60),
    )
    base = ReconciliationDocument(
        vendor,
        "Us B.V.",
        Month(2026, 10),
        currency,
        date(2026, 11, 3),
        ["INV-1"],
        [
            line("8949000000000000001", 1000, 1250, "disputed", usage=200, rate=50),
            line("8949000000000000002", 500, 0, "underbilled", unbilled_sim=-500),
            line("8949000000000000003", 70, 71, "tolerated", rounding=1),
            line(None, 0, 963, "disputed", unexplained=963),
            line("8949000000000000004", 33, 33, "matched"),
        ],
        [claim("acme-1", 1250, 1000, "usage"), claim("acme-2", 963, 0, "unexplained")],
    )
    return replace(base, **changes)


def written(path: Path, content: ReconciliationDocument) -> tuple[Any, Any]:
    write_reconciliation(path, content, CREATED)
    return load_workbook(path), load_workbook(path, data_only=True)


class Calculator:
    """Works out the few functions that the workbook uses, from the cells of the file."""

    def __init__(self, book: Any) -> None:
        self.book = book

    def cells(self, sheet: str, where: str) -> list[Any]:
        if "!" in where:
            sheet, where = where.split("!")
        left, top, right, bottom = range_boundaries(where)
        return [
            self.value(sheet, self.book[sheet].cell(row, column))
            for row in range(top, bottom + 1)
            for column in range(left, right + 1)
        ]

    def value(self, sheet: str, cell: Any) -> Any:
        if cell.data_type != "f":
            return Decimal(str(cell.value)) if isinstance(cell.value, int | float) else cell.value
        if found := re.fullmatch(r"=SUMPRODUCT\((.*)\)", cell.value):
            return self.of_plans(sheet, found[1])
        return self.result(sheet, cell.value[1:])

    def of_plans(self, sheet: str, arguments: str) -> Decimal:
        billed, one, own, two, amounts = re.fullmatch(
            r"EXACT\((.+),(\w+)\)\*EXACT\((.+),(\w+)\)\*(.+)", arguments
        ).groups()
        wanted = (self.cells(sheet, one)[0], self.cells(sheet, two)[0])
        plans = zip(self.cells(sheet, billed), self.cells(sheet, own), strict=True)
        return sum(
            (
                n
                for n, pair in zip(self.cells(sheet, amounts), plans, strict=True)
                if pair == wanted
            ),
            Decimal(0),
        )

    def result(self, sheet: str, formula: str) -> Decimal:
        if re.fullmatch(r"[0-9]+", formula):
            return Decimal(formula)
        if found := re.fullmatch(r"(\w+)-(\w+)", formula):
            return self.cells(sheet, found[1])[0] - self.cells(sheet, found[2])[0]
        name, arguments = re.fullmatch(r"(\w+)\((.*)\)", formula).groups()
        parts = arguments.split(",")
        numbers = self.cells(sheet, parts[-1 if name == "SUBTOTAL" else 0])
        match name:
            case "SUM" | "SUBTOTAL":
                return sum((n for n in numbers if isinstance(n, Decimal)), Decimal(0))
            case "COUNT":
                return Decimal(sum(isinstance(n, Decimal) for n in numbers))
            case "COUNTIF":
                return Decimal(numbers.count(parts[1].strip('"')))
            case "SUMIFS":
                keys = self.cells(sheet, parts[1])
                wanted = parts[2].strip('"')
                return sum(
                    (n for n, key in zip(numbers, keys, strict=True) if key == wanted), Decimal(0)
                )
        raise AssertionError(formula)


def with_plans(currency: str = "EUR") -> ReconciliationDocument:
    """Two SIMs on another version than agreed, the rest as agreed or without a plan."""
    plain = document(currency)
    one, two, three, account, five = plain.lines
    old, new = "IoT * version 1", "IoT * version 2"
    return replace(
        plain,
        lines=[
            *(replace(x, billed_plan=new, own_plan=old) for x in (one, three)),
            replace(two, own_plan=old),
            account,
            replace(five, billed_plan=old, own_plan=old),
        ],
        plans=[
            DocumentPlan(new, old, "other_version", 2, 1070, 1321),
            DocumentPlan(None, old, None, 1, 500, 0),
            DocumentPlan(None, None, None, 0, 0, 963),
            DocumentPlan(old, old, "same", 1, 33, 33),
        ],
    )


def test_plans_are_told_by_id_and_version_and_add_up_to_the_invoice(tmp_path: Path) -> None:
    formulas, values = written(tmp_path / "a.xlsx", with_plans())
    assert formulas.sheetnames == ["Summary", "Plans", "Lines", "Disputes"]
    plans = list(values["Plans"].iter_rows(min_row=4, values_only=True))
    assert plans[0][:4] == ("IoT * version 2", "IoT * version 1", "Another version", 2)
    assert plans[0][4:] == (10.7, 13.21, 2.51)
    assert [cell.value for cell in values["Plans"][2]][4:] == [16.03, 23.17, 7.14]
    assert [cell.value for cell in values["Lines"][3]][5:7] == ["Plan billed", "Plan agreed"]
    assert formulas["Plans"].conditional_formatting


@pytest.mark.parametrize("currency", ["EUR", "JPY", "KWD"])
def test_every_formula_gives_what_is_stored_beside_it(tmp_path: Path, currency: str) -> None:
    formulas, values = written(tmp_path / "a.xlsx", with_plans(currency))
    calculator = Calculator(formulas)
    seen = 0
    for sheet in formulas:
        for row in sheet.iter_rows():
            for cell in row:
                if cell.data_type == "f":
                    stored = values[sheet.title][cell.coordinate].value
                    assert calculator.value(sheet.title, cell) == Decimal(str(stored)), cell
                    seen += 1
    assert seen > 35


def test_the_summary_says_what_the_lines_add_up_to(tmp_path: Path) -> None:
    _, values = written(tmp_path / "a.xlsx", document())
    summary = {row[0]: row for row in values["Summary"].iter_rows(values_only=True) if row[0]}
    assert summary["Expected by our records"][2] == 16.03
    assert summary["Invoiced"][2] == 23.17
    assert summary["Variance (invoiced - expected)"][2] == 7.14
    assert summary["Not billed"][2] == -5
    assert summary["Please credit"][1:3] == (2, 12.13)
    rows = list(values["Summary"].iter_rows(values_only=True))
    assert sum(row[0] == "Unexplained" for row in rows) == 2  # by cause, and claimed


def test_unexplained_is_listed_even_where_everything_is_explained(tmp_path: Path) -> None:
    content = document(lines=[line("1", 100, 100, "matched")], claims=[])
    _, values = written(tmp_path / "a.xlsx", content)
    summary = {row[0]: row for row in values["Summary"].iter_rows(values_only=True) if row[0]}
    assert summary["Unexplained"][1:3] == (0, 0)
    assert summary["Please credit"][1:3] == (0, 0)
    assert "No claims" in str(values["Disputes"]["A4"].value)


@pytest.mark.parametrize("evil", EVIL)
def test_no_text_of_the_data_becomes_a_formula(tmp_path: Path, evil: str) -> None:
    bad_line = DocumentLine(
        evil, evil, evil, evil, evil, None, None, 0, 5, "disputed", {"unexplained": 5}
    )
    bad_claim = replace(
        claim(evil, 5, 0, "unexplained"),
        invoice_no=evil,
        sim=evil,
        charge_code=evil,
        evidence=evil,
        status=evil,
        credit_reference=evil,
    )
    bad_line = replace(bad_line, billed_plan=evil, own_plan=evil)
    content = document(
        lines=[bad_line],
        claims=[bad_claim],
        customer_name=evil,
        invoices=[evil],
        plans=[DocumentPlan(evil, evil, "same", 1, 0, 5)],
    )
    formulas, _ = written(tmp_path / "a.xlsx", content)
    allowed = re.compile(
        r"=(SUM|SUMIFS|SUBTOTAL|COUNT|COUNTIF)\([A-Za-z0-9!:,\" ]*\)|=\w+-\w+|=0"
        r"|=SUMPRODUCT\(EXACT\([A-Z0-9a-z!:]+,A\d+\)\*EXACT\([A-Z0-9a-z!:]+,B\d+\)\*[A-Z0-9a-z!:]+\)"
    )
    for sheet in formulas:
        for row in sheet.iter_rows():
            for cell in row:
                if cell.data_type == "f":
                    assert allowed.fullmatch(cell.value), cell.value
                elif isinstance(cell.value, str) and evil.strip() in cell.value:
                    assert cell.value.startswith("'") or cell.value == "-2"


def test_the_same_document_gives_the_same_bytes(tmp_path: Path) -> None:
    first = write_reconciliation(tmp_path / "a.xlsx", document(), CREATED)
    second = write_reconciliation(tmp_path / "b.xlsx", document(), CREATED)
    assert first == second
    assert (tmp_path / "a.xlsx").read_bytes() == (tmp_path / "b.xlsx").read_bytes()


def test_it_is_made_for_reading_and_printing(tmp_path: Path) -> None:
    formulas, _ = written(tmp_path / "a.xlsx", document())
    assert formulas.sheetnames == ["Summary", "Lines", "Disputes"]
    lines, disputes = formulas["Lines"], formulas["Disputes"]
    assert (lines.freeze_panes, disputes.freeze_panes) == ("D4", "A4")
    assert lines.auto_filter.ref.startswith("A3:")
    assert disputes.auto_filter.ref == "A3:N5"
    assert lines.page_setup.orientation == "landscape"
    assert lines.print_title_rows == "$3:$3"
    assert lines["I4"].number_format == '#,##0.00" EUR";[Red]-#,##0.00" EUR"'
    assert lines["I4"].alignment.horizontal == "right"
    assert lines.conditional_formatting
    assert [row[0].value for row in lines.iter_rows(min_row=4)] == [
        "Claimed",
        "Claimed",
        "Less than expected",
        "Within tolerance",
        "Agrees",
    ]


def test_more_lines_than_a_sheet_holds_keep_their_totals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciliation_workbook, "LINE_LIMIT", 3)
    many = [line(f"89490000000000000{n:02d}", 10 + n, 10 + n, "matched") for n in range(9)]
    content = document(lines=[*many, line("1", 5, 6, "tolerated", rounding=1)], claims=[])
    _, values = written(tmp_path / "a.xlsx", content)
    rows = [row[:2] for row in values["Lines"].iter_rows(min_row=4, values_only=True)]
    assert rows == [("Within tolerance", "1"), ("Agrees", "(9 lines that agree)")]
    assert values["Lines"]["I2"].value == 1.31


def test_lines_that_agree_are_one_row_for_each_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciliation_workbook, "LINE_LIMIT", 3)
    many = [
        replace(line(f"89490000000000000{n:02d}", 10, 10, "matched"), billed_plan=p, own_plan=p)
        for n, p in enumerate(("A", "B", "A", "B", "B"))
    ]
    plans = [DocumentPlan("B", "B", "same", 3, 30, 30), DocumentPlan("A", "A", "same", 2, 20, 20)]
    formulas, values = written(tmp_path / "a.xlsx", document(lines=many, claims=[], plans=plans))
    rows = [row[1:7:4] for row in values["Lines"].iter_rows(min_row=4, values_only=True)]
    assert rows == [("(2 lines that agree)", "A"), ("(3 lines that agree)", "B")]
    calculator = Calculator(formulas)
    assert calculator.value("Plans", formulas["Plans"]["E4"]) == Decimal("0.3")
