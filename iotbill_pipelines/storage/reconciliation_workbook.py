"""The workbook that goes to a carrier: what we expect, what it billed, what we claim and why.

Three sheets: *Summary* (totals, variance by cause, how to read it), *Lines* (one row a SIM and
charge code, the variance split into a column per cause) and *Disputes* (the claims, in the
vendor's own layout). Totals are formulas over the sheets' cells; what they give is stored beside
them, so that a preview shows it too. Amounts are RULEBOOK §10's; nothing is computed here but sums.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from openpyxl import Workbook
from openpyxl.cell import WriteOnlyCell
from openpyxl.formatting.rule import FormulaRule
from openpyxl.styles import Alignment, Border, Font, PatternFill, Side
from openpyxl.utils import get_column_letter
from openpyxl.worksheet.properties import PageSetupProperties

from iotbill_pipelines.config.vendors import Vendor
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.money import minor_digits
from iotbill_pipelines.engine.reconcile import CAUSES
from iotbill_pipelines.storage.documents import Cell, ColumnFormat, safe_text, save_workbook

CAUSE_LABELS: Mapping[str, str] = {
    "duplicate": "Billed twice",
    "wrong_period": "Wrong period",
    "unknown_sim": "SIM not ours",
    "billed_inactive": "SIM not active",
    "unbilled_sim": "Not billed",
    "proration": "Part month",
    "usage": "Quantity",
    "rate": "Price",
    "fx": "Exchange rate",
    "tax": "Tax",
    "rounding": "Rounding",
    "unexplained": "Unexplained",
    "systematic_rounding": "Many small differences",
}
"""Causes in the words of the people who read the workbook."""

CAUSE_MEANINGS: Mapping[str, str] = {
    "duplicate": "The same SIM, dates, charge, quantity and amount were billed before.",
    "wrong_period": "The line's own service dates belong on another invoice.",
    "unknown_sim": "The SIM is not on our contract with you.",
    "billed_inactive": "The SIM was not active on any day that was billed.",
    "unbilled_sim": "We expect a charge that is not on the invoice.",
    "proration": "More or fewer days were billed than the SIM was active.",
    "usage": "The billed quantity differs from our records, valued at the contract price.",
    "rate": "The billed price differs from the contract price, at the billed quantity.",
    "fx": "Converted at another exchange rate than agreed.",
    "tax": "Tax contained in the billed amount.",
    "rounding": "Both sides round to the smallest unit of the currency.",
    "unexplained": "No cause above explains this part; please send us the calculation.",
}

STATUS_LABELS: Mapping[str, str] = {
    "disputed": "Claimed",
    "underbilled": "Less than expected",
    "tolerated": "Within tolerance",
    "matched": "Agrees",
}
_STATUS_FILLS = {
    "disputed": "F8D7D3",
    "underbilled": "FCE8C3",
    "tolerated": "EEF1F4",
    "matched": "DCEFE0",
}

LINE_LIMIT = 200_000
"""Rows of the sheet Lines; beyond it, lines that agree are one row."""

_INK, _PALE, _RULE = "1F3A5F", "E9EEF5", "B8C4D6"
_FACE = "Calibri"
_TITLE = Font(name=_FACE, bold=True, size=16, color=_INK)
_SUBTITLE = Font(name=_FACE, size=11, color="555555")
_SECTION = Font(name=_FACE, bold=True, size=12, color=_INK)
_TEXT = Font(name=_FACE, size=11)
_BOLD = Font(name=_FACE, bold=True)
_HEADER = Font(name=_FACE, bold=True, color="FFFFFF")
_HEADER_FILL = PatternFill("solid", start_color=_INK)
_TOTAL_FILL = PatternFill("solid", start_color=_PALE)
_THIN = Border(bottom=Side(style="thin", color=_RULE))
_RIGHT = Alignment(horizontal="right", vertical="top", indent=1)
_LEFT = Alignment(horizontal="left", vertical="top", indent=1)
_WRAP = Alignment(horizontal="left", vertical="top", wrap_text=True, indent=1)


@dataclass(frozen=True)
class DocumentLine:
    """A reconciliation line. Amounts in minor units; quantities in ``unit``; causes add up to
    ``invoiced_minor - expected_minor``."""

    invoice_no: str | None
    sim: str | None
    usage_period: str
    charge_code: str
    unit: str
    expected_quantity: Decimal | None
    invoiced_quantity: Decimal | None
    expected_minor: int
    invoiced_minor: int
    status: str
    causes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class DocumentClaim:
    """A claim: what was billed, what the terms give, and why. Amounts in minor units."""

    reference: str
    invoice_no: str | None
    invoice_line_no: int | None
    sim: str | None
    usage_period: str
    charge_code: str
    billed_minor: int
    expected_minor: int
    cause: str
    evidence: str
    deadline: date | None
    status: str
    credit_reference: str | None = None


@dataclass(frozen=True)
class ReconciliationDocument:
    """Everything the workbook says about a vendor, period and currency."""

    vendor: Vendor
    customer_name: str
    period: Month
    currency: str
    prepared_on: date
    invoices: Sequence[str]
    lines: Sequence[DocumentLine]
    claims: Sequence[DocumentClaim]


def write_reconciliation(path: Path, document: ReconciliationDocument, created: datetime) -> str:
    """Write the workbook; return its SHA-256. The same document and time give the same bytes."""
    workbook, formula_values = _Book(document).build()
    return save_workbook(path, workbook, created, formula_values)


class _Book:
    def __init__(self, document: ReconciliationDocument) -> None:
        self.document = document
        self.workbook = Workbook(write_only=True)
        self.values: dict[str, dict[str, Decimal]] = {}
        self.money = ColumnFormat("", "money", document.currency).number_format
        self.digits = minor_digits(document.currency)
        self.lines = _listed(document.lines)
        self.causes = [
            cause
            for cause in CAUSES
            if cause == "unexplained" or any(line.causes.get(cause) for line in self.lines)
        ]

    def build(self) -> tuple[Workbook, dict[str, dict[str, Decimal]]]:
        # sheets in reading order; the Summary refers to cells that are laid out below it
        summary = self.workbook.create_sheet("Summary")
        lines = self.workbook.create_sheet("Lines")
        disputes = self.workbook.create_sheet("Disputes")
        self._summary(summary)
        self._lines(lines)
        self._disputes(disputes)
        return self.workbook, self.values

    # ------------------------------------------------------------------ cells

    def _amount(self, minor: int) -> Decimal:
        return Decimal(minor).scaleb(-self.digits)

    def _cell(
        self,
        page: Any,
        value: Cell,
        *,
        font: Font | None = None,
        number_format: str | None = None,
        alignment: Alignment | None = None,
        fill: PatternFill | None = None,
    ) -> Any:
        cell = WriteOnlyCell(page, safe_text(value) if isinstance(value, str) else value)
        if isinstance(value, str):
            cell.data_type = "s"
        if number_format:
            cell.number_format = number_format
        cell.alignment = alignment or (_LEFT if isinstance(value, str) or value is None else _RIGHT)
        cell.font = font or _TEXT
        if fill:
            cell.fill = fill
        return cell

    def _sum(
        self,
        page: Any,
        where: str,
        formula: str,
        value: Decimal,
        *,
        number_format: str | None = None,
        font: Font | None = _BOLD,
        fill: PatternFill | None = None,
    ) -> Any:
        """A formula of ours, never of the data; ``where`` is its cell, ``value`` its result."""
        cell = WriteOnlyCell(page, formula)
        cell.number_format = number_format or self.money
        cell.alignment = _RIGHT
        cell.font = font or _TEXT
        if fill:
            cell.fill = fill
        self.values.setdefault(page.title, {})[where] = value
        return cell

    def _count(
        self,
        page: Any,
        where: str,
        formula: str,
        count: int,
        font: Font | None = None,
        fill: PatternFill | None = None,
    ) -> Any:
        return self._sum(
            page, where, formula, Decimal(count), number_format="#,##0", font=font, fill=fill
        )

    def _header(self, page: Any, titles: Sequence[tuple[str, bool]]) -> None:
        page.append(
            [
                self._cell(
                    page,
                    title,
                    font=_HEADER,
                    fill=_HEADER_FILL,
                    alignment=Alignment(
                        horizontal="right" if right else "left",
                        vertical="center",
                        wrap_text=True,
                        indent=1,
                    ),
                )
                for title, right in titles
            ]
        )

    def _print(self, page: Any, *, landscape: bool, repeat: int | None = None) -> None:
        page.page_setup.orientation = "landscape" if landscape else "portrait"
        page.page_setup.paperSize = 9  # A4
        page.page_setup.fitToWidth = 1
        page.page_setup.fitToHeight = 0
        page.sheet_properties.pageSetUpPr = PageSetupProperties(fitToPage=True)
        page.page_margins.left = page.page_margins.right = 0.5
        page.page_margins.top = page.page_margins.bottom = 0.75
        page.page_margins.header = page.page_margins.footer = 0.3
        page.oddFooter.left.text = f"{_plain(self.document.vendor.name)} {self.document.period}"
        page.oddFooter.right.text = "Page &P of &N"
        page.sheet_view.showGridLines = False
        if repeat:
            page.print_title_rows = f"{repeat}:{repeat}"

    # ---------------------------------------------------------------- summary

    def _summary(self, page: Any) -> None:
        for letter, width in zip("ABCD", (26, 15, 22, 62), strict=True):
            page.column_dimensions[letter].width = width
        self._print(page, landscape=False)
        page.row_dimensions[1].height = 24
        rows: list[list[Any]] = []

        def add(*cells: Any) -> int:
            rows.append(list(cells))
            return len(rows)

        self._heading(page, add)
        add(self._cell(page, "Totals", font=_SECTION))
        self._totals(page, rows, add)
        add()
        add(self._cell(page, "Variance by cause", font=_SECTION))
        self._by_cause(page, rows, add)
        add()
        add(self._cell(page, "What we claim", font=_SECTION))
        self._claimed(page, rows, add)
        add()
        add(self._cell(page, "How to read this", font=_SECTION))
        for text in _HOW_TO_READ:
            add(self._cell(page, text))
        for cells in rows:
            page.append(cells)
        page.print_area = f"A1:D{len(rows)}"

    def _heading(self, page: Any, add: Any) -> None:
        document = self.document
        contact = document.vendor.contact
        add(self._cell(page, f"Invoice reconciliation: {document.vendor.name}", font=_TITLE))
        about = f"{document.period.start:%B %Y}, all amounts in {document.currency}"
        add(self._cell(page, about, font=_SUBTITLE))
        add()
        for label, value in (
            ("Customer", document.customer_name),
            ("Customer number", document.vendor.customer_number),
            ("To", contact.name + (f", {contact.email}" if contact.email else "")),
            ("Invoices", ", ".join(document.invoices) or "none received"),
            ("Prepared on", document.prepared_on.isoformat()),
            ("Claims to be made by", document.vendor.deadline(document.period).isoformat()),
        ):
            if value:
                add(self._cell(page, label, font=_BOLD), self._cell(page, value))
        add()

    def _column(self, key: str) -> str:
        """The cells of a column of the sheet Lines, for a formula."""
        letter = get_column_letter(self._line_columns().index(key) + 1)
        return f"Lines!{letter}{_DATA_ROW}:{letter}{_DATA_ROW + max(len(self.lines), 1) - 1}"

    def _totals(self, page: Any, rows: list[list[Any]], add: Any) -> None:
        self._table_head(page, add, ("", "Lines", f"Amount {self.document.currency}", ""))
        for label, key, minor in (
            ("Expected by our records", "expected", sum(x.expected_minor for x in self.lines)),
            ("Invoiced", "invoiced", sum(x.invoiced_minor for x in self.lines)),
        ):
            where = f"C{len(rows) + 1}"
            formula = f"=SUM({self._column(key)})"
            amount = self._sum(page, where, formula, self._amount(minor), font=None)
            add(self._cell(page, label), None, amount)
        row = len(rows) + 1
        variance = self._amount(sum(_variance(line) for line in self.lines))
        add(
            self._cell(page, "Variance (invoiced - expected)", font=_BOLD, fill=_TOTAL_FILL),
            self._cell(page, None, fill=_TOTAL_FILL),
            self._sum(page, f"C{row}", f"=C{row - 1}-C{row - 2}", variance, fill=_TOTAL_FILL),
            self._cell(page, None, fill=_TOTAL_FILL),
        )
        states = self._column("status")
        for status, label, meaning in (
            ("disputed", "of lines we claim on", "See the sheet Disputes."),
            ("tolerated", "within tolerance", "Accepted as billed."),
            (
                "underbilled",
                "less than expected",
                "We expect it later; not set off against claims.",
            ),
        ):
            row = len(rows) + 1
            chosen = [line for line in self.lines if line.status == status]
            wanted = f'{states},"{STATUS_LABELS[status]}"'
            amount = self._amount(sum(_variance(line) for line in chosen))
            formula = f"=SUMIFS({self._column('variance')},{wanted})"
            add(
                self._cell(page, f"   {label}"),
                self._count(page, f"B{row}", f"=COUNTIF({wanted})", len(chosen)),
                self._sum(page, f"C{row}", formula, amount, font=None),
                self._cell(page, meaning, font=_SUBTITLE),
            )

    def _by_cause(self, page: Any, rows: list[list[Any]], add: Any) -> None:
        titles = ("Cause", "Lines", f"Amount {self.document.currency}", "What it means")
        self._table_head(page, add, titles)
        first = len(rows) + 1
        for cause in self.causes:
            row = len(rows) + 1
            cells = self._column(cause)
            parts = [line.causes.get(cause, 0) for line in self.lines]
            amount = self._amount(sum(parts))
            add(
                self._cell(page, CAUSE_LABELS[cause]),
                self._count(page, f"B{row}", f"=COUNT({cells})", sum(1 for p in parts if p)),
                self._sum(page, f"C{row}", f"=SUM({cells})", amount, font=None),
                self._cell(page, CAUSE_MEANINGS[cause], alignment=_WRAP),
            )
        row = len(rows) + 1
        variance = self._amount(sum(_variance(line) for line in self.lines))
        formula = f"=SUM(C{first}:C{row - 1})"
        add(
            self._cell(page, "Variance", font=_BOLD, fill=_TOTAL_FILL),
            self._cell(page, None, fill=_TOTAL_FILL),
            self._sum(page, f"C{row}", formula, variance, fill=_TOTAL_FILL),
            self._cell(page, None, fill=_TOTAL_FILL),
        )

    def _table_head(self, page: Any, add: Any, titles: Sequence[str]) -> None:
        add(
            *(
                self._cell(
                    page,
                    title,
                    font=_HEADER,
                    fill=_HEADER_FILL,
                    alignment=_RIGHT if position in (1, 2) else _LEFT,
                )
                for position, title in enumerate(titles)
            )
        )

    def _claimed(self, page: Any, rows: list[list[Any]], add: Any) -> None:
        fields = [column.field for column in self.document.vendor.dispute.columns]
        end = _DATA_ROW + max(len(self.document.claims), 1) - 1
        difference = get_column_letter(fields.index("difference") + 1)
        why = get_column_letter(fields.index("cause") + 1)
        amounts = f"Disputes!{difference}{_DATA_ROW}:{difference}{end}"
        reasons = f"Disputes!{why}{_DATA_ROW}:{why}{end}"
        first = len(rows) + 1
        for cause in CAUSE_LABELS:
            chosen = [claim for claim in self.document.claims if claim.cause == cause]
            if not chosen:
                continue
            row = len(rows) + 1
            wanted = f'{reasons},"{CAUSE_LABELS[cause]}"'
            amount = self._amount(sum(_difference(claim) for claim in chosen))
            add(
                self._cell(page, CAUSE_LABELS[cause]),
                self._count(page, f"B{row}", f"=COUNTIF({wanted})", len(chosen)),
                self._sum(page, f"C{row}", f"=SUMIFS({amounts},{wanted})", amount, font=None),
            )
        row = len(rows) + 1
        total = self._amount(sum(_difference(claim) for claim in self.document.claims))
        count, amount_formula = (
            (f"=SUM(B{first}:B{row - 1})", f"=SUM(C{first}:C{row - 1})")
            if row > first
            else ("=0", "=0")
        )
        add(
            self._cell(page, "Please credit", font=_BOLD, fill=_TOTAL_FILL),
            self._count(
                page, f"B{row}", count, len(self.document.claims), font=_BOLD, fill=_TOTAL_FILL
            ),
            self._sum(page, f"C{row}", amount_formula, total, fill=_TOTAL_FILL),
            self._cell(page, None, fill=_TOTAL_FILL),
        )

    # ------------------------------------------------------------------ lines

    def _line_columns(self) -> list[str]:
        return [*(key for key, *_ in _LINE_COLUMNS), *self.causes]

    def _lines(self, page: Any) -> None:
        columns = self._line_columns()
        widths = [width for *_, width in _LINE_COLUMNS] + [15] * len(self.causes)
        for position, width in enumerate(widths, 1):
            page.column_dimensions[get_column_letter(position)].width = width
        last_letter = get_column_letter(len(columns))
        last = _DATA_ROW + max(len(self.lines), 1) - 1
        page.freeze_panes = f"D{_DATA_ROW}"
        page.auto_filter.ref = f"A{_HEADER_ROW}:{last_letter}{last}"
        page.row_dimensions[_HEADER_ROW].height = 32
        self._print(page, landscape=True, repeat=_HEADER_ROW)
        # the columns per cause are for the screen: on paper they would shrink the rest
        page.print_area = f"A1:{get_column_letter(len(_LINE_COLUMNS))}{last}"
        page.append(
            [
                self._cell(
                    page,
                    f"Lines of {self.document.vendor.name}, {self.document.period}, "
                    f"in {self.document.currency}",
                    font=_SECTION,
                )
            ]
        )
        totals: list[Any] = [self._cell(page, "Total of the rows shown", font=_BOLD)]
        for position, key in enumerate(columns[1:], 2):
            letter = get_column_letter(position)
            total = self._line_total(key)
            totals.append(
                self._cell(page, None)
                if total is None
                else self._sum(
                    page,
                    f"{letter}2",
                    f"=SUBTOTAL(109,{letter}{_DATA_ROW}:{letter}{last})",
                    self._amount(total),
                )
            )
        page.append(totals)
        titles = [(title, right) for _, title, right, _ in _LINE_COLUMNS]
        self._header(page, titles + [(CAUSE_LABELS[cause], True) for cause in self.causes])
        for line in self.lines:
            page.append(self._line_row(page, line))
        self._colour_status(page, columns, last)

    def _line_total(self, key: str) -> int | None:
        match key:
            case "expected":
                return sum(line.expected_minor for line in self.lines)
            case "invoiced":
                return sum(line.invoiced_minor for line in self.lines)
            case "variance":
                return sum(_variance(line) for line in self.lines)
            case _ if key in self.causes:
                return sum(line.causes.get(key, 0) for line in self.lines)
            case _:
                return None

    def _line_row(self, page: Any, line: DocumentLine) -> list[Any]:
        amounts = (line.expected_minor, line.invoiced_minor, _variance(line))
        return [
            self._cell(page, STATUS_LABELS[line.status]),
            self._cell(page, line.sim or "(account)"),
            self._cell(page, line.charge_code),
            self._cell(page, line.usage_period),
            self._cell(page, line.invoice_no or "(none)"),
            self._cell(page, line.unit),
            self._cell(page, line.expected_quantity, number_format="#,##0.###"),
            self._cell(page, line.invoiced_quantity, number_format="#,##0.###"),
            *(self._cell(page, self._amount(minor), number_format=self.money) for minor in amounts),
            self._cell(page, _main_cause(line)),
            *(
                self._cell(
                    page,
                    self._amount(line.causes[cause]) if line.causes.get(cause) else None,
                    number_format=self.money,
                )
                for cause in self.causes
            ),
        ]

    def _colour_status(self, page: Any, columns: Sequence[str], last: int) -> None:
        state = get_column_letter(columns.index("status") + 1)
        for status, colour in _STATUS_FILLS.items():
            page.conditional_formatting.add(
                f"A{_DATA_ROW}:{state}{last}",
                FormulaRule(
                    formula=[f'${state}{_DATA_ROW}="{STATUS_LABELS[status]}"'],
                    fill=PatternFill(bgColor=colour, fill_type="solid"),
                ),
            )
        letter = get_column_letter(columns.index("unexplained") + 1)
        page.conditional_formatting.add(
            f"{letter}{_DATA_ROW}:{letter}{last}",
            FormulaRule(
                formula=[f"AND(ISNUMBER({letter}{_DATA_ROW}),{letter}{_DATA_ROW}<>0)"],
                fill=PatternFill(bgColor=_STATUS_FILLS["disputed"], fill_type="solid"),
                font=Font(name=_FACE, bold=True, color="9C1C12"),
            ),
        )

    # --------------------------------------------------------------- disputes

    def _disputes(self, page: Any) -> None:
        columns = self.document.vendor.dispute.columns
        last = _DATA_ROW + max(len(self.document.claims), 1) - 1
        for position, column in enumerate(columns, 1):
            page.column_dimensions[get_column_letter(position)].width = _CLAIM_WIDTHS[column.field]
        page.freeze_panes = f"A{_DATA_ROW}"
        page.auto_filter.ref = f"A{_HEADER_ROW}:{get_column_letter(len(columns))}{last}"
        page.row_dimensions[_HEADER_ROW].height = 32
        self._print(page, landscape=True, repeat=_HEADER_ROW)
        page.append(
            [
                self._cell(
                    page,
                    f"Claims against {self.document.vendor.name}, {self.document.period}, "
                    f"in {self.document.currency}",
                    font=_SECTION,
                )
            ]
        )
        sums = {
            "billed": sum(claim.billed_minor for claim in self.document.claims),
            "expected": sum(claim.expected_minor for claim in self.document.claims),
            "difference": sum(_difference(claim) for claim in self.document.claims),
        }
        totals: list[Any] = []
        for position, column in enumerate(columns, 1):
            letter = get_column_letter(position)
            if column.field in sums:
                formula = f"=SUBTOTAL(109,{letter}{_DATA_ROW}:{letter}{last})"
                value = self._amount(sums[column.field])
                totals.append(self._sum(page, f"{letter}2", formula, value))
            else:
                text = "Total of the rows shown" if position == 1 else None
                totals.append(self._cell(page, text, font=_BOLD))
        page.append(totals)
        self._header(page, [(c.title, c.field in _CLAIM_NUMBERS) for c in columns])
        for number, claim in enumerate(self.document.claims, _DATA_ROW):
            # spreadsheets do not measure wrapped text that a program wrote
            page.row_dimensions[number].height = 15 * max(1, -(-len(claim.evidence) // 64))
            page.append([self._claim_cell(page, claim, column.field) for column in columns])
        if not self.document.claims:
            page.append([self._cell(page, "No claims: everything agrees or is within tolerance.")])

    def _claim_cell(self, page: Any, claim: DocumentClaim, name: str) -> Any:
        minor = {
            "billed": claim.billed_minor,
            "expected": claim.expected_minor,
            "difference": _difference(claim),
        }
        if name in minor:
            return self._cell(page, self._amount(minor[name]), number_format=self.money)
        if name == "evidence":
            return self._cell(page, claim.evidence, alignment=_WRAP)
        if name == "deadline":
            return self._cell(page, claim.deadline, number_format="yyyy-mm-dd")
        values: dict[str, Cell] = {
            "reference": claim.reference,
            "vendor": self.document.vendor.name,
            "invoice": claim.invoice_no,
            "line": claim.invoice_line_no,
            "sim": claim.sim or "(account)",
            "period": claim.usage_period,
            "charge_code": claim.charge_code,
            "currency": self.document.currency,
            "cause": CAUSE_LABELS[claim.cause],
            "status": claim.status,
            "credit_reference": claim.credit_reference,
        }
        return self._cell(page, values[name])


_HEADER_ROW = 3
_DATA_ROW = 4

_LINE_COLUMNS = (
    ("status", "Status", False, 19),
    ("sim", "SIM", False, 23),
    ("charge_code", "Charge code", False, 20),
    ("period", "Service period", False, 11),
    ("invoice", "Invoice", False, 18),
    ("unit", "Unit", False, 9),
    ("expected_quantity", "Our quantity", True, 14),
    ("invoiced_quantity", "Billed quantity", True, 14),
    ("expected", "Expected", True, 16),
    ("invoiced", "Invoiced", True, 16),
    ("variance", "Variance", True, 16),
    ("main_cause", "Main cause", False, 18),
)
"""Key, title, right-aligned, width; a column per cause follows, for the screen."""

_CLAIM_WIDTHS = {
    "reference": 27,
    "vendor": 20,
    "invoice": 18,
    "line": 9,
    "sim": 23,
    "period": 11,
    "charge_code": 18,
    "currency": 10,
    "billed": 15,
    "expected": 15,
    "difference": 15,
    "cause": 17,
    "evidence": 64,
    "deadline": 12,
    "status": 12,
    "credit_reference": 17,
}
_CLAIM_NUMBERS = ("line", "billed", "expected", "difference", "deadline")

_HOW_TO_READ = (
    "Expected is what your prices give for our own usage records and SIM inventory.",
    "Lines compares it with your invoice per SIM and charge code; every difference is split into",
    "causes, tried in the order above, that add up to it exactly. Positive = you billed more.",
    "A line passes within the agreed tolerance. Unknown and unbilled SIMs are never set off.",
    "Disputes lists what we ask you to credit, each with the invoice line and our evidence.",
    "Quantities are in the unit of the line; days for monthly fees. (account) = not a single SIM.",
)


def _variance(line: DocumentLine) -> int:
    return line.invoiced_minor - line.expected_minor


def _main_cause(line: DocumentLine) -> str | None:
    causes = {cause: abs(part) for cause, part in line.causes.items() if part}
    return CAUSE_LABELS[max(causes, key=lambda cause: causes[cause])] if causes else None


def _difference(claim: DocumentClaim) -> int:
    return claim.billed_minor - claim.expected_minor


def _plain(text: str) -> str:
    """Text for a page footer, where ``&`` starts a code."""
    return text.replace("&", "&&")


def _listed(lines: Sequence[DocumentLine]) -> list[DocumentLine]:
    """Claims first, greatest first; what agrees becomes one row if a sheet cannot hold it."""
    order = list(STATUS_LABELS)
    listed = list(lines)
    if len(listed) > LINE_LIMIT:
        agreeing = [line for line in listed if line.status == "matched" and not line.causes]
        listed = [line for line in listed if not (line.status == "matched" and not line.causes)]
        listed.append(
            DocumentLine(
                invoice_no=None,
                sim=f"({len(agreeing):,} lines that agree)",
                usage_period=agreeing[0].usage_period if agreeing else "",
                charge_code="(all)",
                unit="",
                expected_quantity=None,
                invoiced_quantity=None,
                expected_minor=sum(line.expected_minor for line in agreeing),
                invoiced_minor=sum(line.invoiced_minor for line in agreeing),
                status="matched",
            )
        )
    return sorted(
        listed,
        key=lambda line: (
            order.index(line.status),
            -abs(_variance(line)),
            line.sim or "",
            line.charge_code,
            line.usage_period,
            line.invoice_no or "",
        ),
    )
