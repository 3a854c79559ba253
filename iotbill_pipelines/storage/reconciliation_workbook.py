"""The workbook that goes to a carrier: what we expect, what it billed, what we claim and why.

Sheets: *Summary* (totals, variance by cause, how to read it), *Plans* where plans are known (what
was billed on which plan and version against the one agreed), *Lines* (one row a SIM and charge
code, the variance split into a column per cause) and *Disputes* (the claims, in the vendor's own
layout). Totals are formulas over the sheets' cells; what they give is stored beside
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
from openpyxl.formatting.rule import FormulaRule
from openpyxl.styles import Font, PatternFill
from openpyxl.utils import get_column_letter

from iotbill_pipelines.config.vendors import Vendor
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.reconcile import CAUSES
from iotbill_pipelines.storage.documents import Cell, save_workbook
from iotbill_pipelines.storage.styled_pages import (
    BOLD,
    FACE,
    HEADER,
    HEADER_FILL,
    LEFT,
    RIGHT,
    SECTION,
    SUBTITLE,
    TITLE,
    TOTAL_FILL,
    WRAP,
    StyledBook,
)

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

PLAN_LABELS: Mapping[str, str] = {
    "same": "As agreed",
    "other_version": "Another version",
    "other_plan": "Another plan",
}
"""How a billed plan stands to the agreed one."""

_NO_PLAN = "(none)"

LINE_LIMIT = 200_000
"""Rows of the sheet Lines; beyond it, lines that agree are one row."""


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
    billed_plan: str | None = None
    own_plan: str | None = None


@dataclass(frozen=True)
class DocumentPlan:
    """Lines billed on one plan and version where another, or the same, was agreed."""

    billed_plan: str | None
    own_plan: str | None
    plan_match: str | None
    sims: int
    expected_minor: int
    invoiced_minor: int


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
    plans: Sequence[DocumentPlan] = ()
    """Every line is of one of these; none where neither side names a plan."""


def write_reconciliation(path: Path, document: ReconciliationDocument, created: datetime) -> str:
    """Write the workbook; return its SHA-256. The same document and time give the same bytes."""
    workbook, formula_values = _Book(document).build()
    return save_workbook(path, workbook, created, formula_values)


class _Book(StyledBook):
    def __init__(self, document: ReconciliationDocument) -> None:
        super().__init__(document.currency, f"{document.vendor.name} {document.period}")
        self.document = document
        self.lines = _listed(document.lines)
        self.causes = [
            cause
            for cause in CAUSES
            if cause == "unexplained" or any(line.causes.get(cause) for line in self.lines)
        ]
        hidden = () if document.plans else _PLAN_COLUMNS
        self.columns = [column for column in _LINE_COLUMNS if column[0] not in hidden]

    def build(self) -> tuple[Workbook, dict[str, dict[str, Decimal]]]:
        # sheets in reading order; the Summary refers to cells that are laid out below it
        summary = self.workbook.create_sheet("Summary")
        plans = self.workbook.create_sheet("Plans") if self.document.plans else None
        lines = self.workbook.create_sheet("Lines")
        disputes = self.workbook.create_sheet("Disputes")
        self._summary(summary)
        if plans is not None:
            self._plans(plans)
        self._lines(lines)
        self._disputes(disputes)
        return self.workbook, self.values

    # ---------------------------------------------------------------- summary

    def _summary(self, page: Any) -> None:
        for letter, width in zip("ABCD", (26, 15, 22, 62), strict=True):
            page.column_dimensions[letter].width = width
        self.print_setup(page, landscape=False)
        page.row_dimensions[1].height = 24
        rows: list[list[Any]] = []

        def add(*cells: Any) -> int:
            rows.append(list(cells))
            return len(rows)

        self._heading(page, add)
        add(self.cell(page, "Totals", font=SECTION))
        self._totals(page, rows, add)
        add()
        add(self.cell(page, "Variance by cause", font=SECTION))
        causes = self._by_cause(page, rows, add)
        add()
        add(self.cell(page, "What we claim", font=SECTION))
        self._claimed(page, rows, add)
        add()
        add(self.cell(page, "How to read this", font=SECTION))
        for text in _HOW_TO_READ:
            add(self.cell(page, text))
        for cells in rows:
            page.append(cells)
        title = f"Variance by cause, {self.document.currency}"
        anchor, height = len(rows) + 2, 6 + 2 * max(5, len(self.causes))
        page.add_chart(self.bars(page, title, 1, 3, *causes), f"A{anchor}")
        page.print_area = f"A1:D{anchor + height}"

    def _heading(self, page: Any, add: Any) -> None:
        document = self.document
        contact = document.vendor.contact
        add(self.cell(page, f"Invoice reconciliation: {document.vendor.name}", font=TITLE))
        about = f"{document.period.start:%B %Y}, all amounts in {document.currency}"
        add(self.cell(page, about, font=SUBTITLE))
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
                add(self.cell(page, label, font=BOLD), self.cell(page, value))
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
            amount = self.sum(page, where, formula, self.amount(minor), font=None)
            add(self.cell(page, label), None, amount)
        row = len(rows) + 1
        variance = self.amount(sum(_variance(line) for line in self.lines))
        add(
            self.cell(page, "Variance (invoiced - expected)", font=BOLD, fill=TOTAL_FILL),
            self.cell(page, None, fill=TOTAL_FILL),
            self.sum(page, f"C{row}", f"=C{row - 1}-C{row - 2}", variance, fill=TOTAL_FILL),
            self.cell(page, None, fill=TOTAL_FILL),
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
            amount = self.amount(sum(_variance(line) for line in chosen))
            formula = f"=SUMIFS({self._column('variance')},{wanted})"
            add(
                self.cell(page, f"   {label}"),
                self.count(page, f"B{row}", f"=COUNTIF({wanted})", len(chosen)),
                self.sum(page, f"C{row}", formula, amount, font=None),
                self.cell(page, meaning, font=SUBTITLE),
            )

    def _by_cause(self, page: Any, rows: list[list[Any]], add: Any) -> tuple[int, int]:
        """The table of causes; returns its first and last row."""
        titles = ("Cause", "Lines", f"Amount {self.document.currency}", "What it means")
        self._table_head(page, add, titles)
        first = len(rows) + 1
        for cause in self.causes:
            row = len(rows) + 1
            cells = self._column(cause)
            parts = [line.causes.get(cause, 0) for line in self.lines]
            amount = self.amount(sum(parts))
            add(
                self.cell(page, CAUSE_LABELS[cause]),
                self.count(page, f"B{row}", f"=COUNT({cells})", sum(1 for p in parts if p)),
                self.sum(page, f"C{row}", f"=SUM({cells})", amount, font=None),
                self.cell(page, CAUSE_MEANINGS[cause], alignment=WRAP),
            )
        row = len(rows) + 1
        variance = self.amount(sum(_variance(line) for line in self.lines))
        formula = f"=SUM(C{first}:C{row - 1})"
        add(
            self.cell(page, "Variance", font=BOLD, fill=TOTAL_FILL),
            self.cell(page, None, fill=TOTAL_FILL),
            self.sum(page, f"C{row}", formula, variance, fill=TOTAL_FILL),
            self.cell(page, None, fill=TOTAL_FILL),
        )
        return first, row - 1

    def _table_head(self, page: Any, add: Any, titles: Sequence[str]) -> None:
        add(
            *(
                self.cell(
                    page,
                    title,
                    font=HEADER,
                    fill=HEADER_FILL,
                    alignment=RIGHT if position in (1, 2) else LEFT,
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
            amount = self.amount(sum(_difference(claim) for claim in chosen))
            add(
                self.cell(page, CAUSE_LABELS[cause]),
                self.count(page, f"B{row}", f"=COUNTIF({wanted})", len(chosen)),
                self.sum(page, f"C{row}", f"=SUMIFS({amounts},{wanted})", amount, font=None),
            )
        row = len(rows) + 1
        total = self.amount(sum(_difference(claim) for claim in self.document.claims))
        count, amount_formula = (
            (f"=SUM(B{first}:B{row - 1})", f"=SUM(C{first}:C{row - 1})")
            if row > first
            else ("=0", "=0")
        )
        add(
            self.cell(page, "Please credit", font=BOLD, fill=TOTAL_FILL),
            self.count(
                page, f"B{row}", count, len(self.document.claims), font=BOLD, fill=TOTAL_FILL
            ),
            self.sum(page, f"C{row}", amount_formula, total, fill=TOTAL_FILL),
            self.cell(page, None, fill=TOTAL_FILL),
        )

    # ------------------------------------------------------------------ plans

    def _plans(self, page: Any) -> None:
        titles = (
            *(("Plan billed", False), ("Plan agreed", False), ("Agreement", False)),
            *(("SIMs", True), ("Expected", True), ("Invoiced", True), ("Variance", True)),
        )
        for letter, width in zip("ABCDEFG", (34, 34, 18, 10, 16, 16, 16), strict=True):
            page.column_dimensions[letter].width = width
        last = _DATA_ROW + len(self.document.plans) - 1
        page.freeze_panes = f"A{_DATA_ROW}"
        page.auto_filter.ref = f"A{_HEADER_ROW}:G{last}"
        page.row_dimensions[_HEADER_ROW].height = 32
        self.print_setup(page, landscape=True, repeat=_HEADER_ROW)
        about = (
            f"Plans of {self.document.vendor.name}, {self.document.period}, "
            f"in {self.document.currency}"
        )
        page.append([self.cell(page, about, font=SECTION)])
        sums = {
            "E": sum(plan.expected_minor for plan in self.document.plans),
            "F": sum(plan.invoiced_minor for plan in self.document.plans),
        }
        sums["G"] = sums["F"] - sums["E"]
        page.append(
            [
                self.cell(page, "Total of the rows shown", font=BOLD),
                *(self.cell(page, None) for _ in range(3)),
                *(
                    self.sum(
                        page,
                        f"{letter}2",
                        f"=SUBTOTAL(109,{letter}{_DATA_ROW}:{letter}{last})",
                        self.amount(minor),
                    )
                    for letter, minor in sums.items()
                ),
            ]
        )
        self.header(page, titles)
        for row, plan in enumerate(self.document.plans, _DATA_ROW):
            billed, own = self._column("billed_plan"), self._column("own_plan")
            chosen = f"EXACT({billed},A{row})*EXACT({own},B{row})"
            page.append(
                [
                    self.cell(page, plan.billed_plan or _NO_PLAN),
                    self.cell(page, plan.own_plan or _NO_PLAN),
                    self.cell(page, _agreement(plan)),
                    self.cell(page, plan.sims, number_format="#,##0"),
                    *(
                        self.sum(
                            page,
                            f"{letter}{row}",
                            f"=SUMPRODUCT({chosen}*{self._column(key)})",
                            self.amount(minor),
                            font=None,
                        )
                        for letter, key, minor in (
                            ("E", "expected", plan.expected_minor),
                            ("F", "invoiced", plan.invoiced_minor),
                        )
                    ),
                    self.sum(
                        page,
                        f"G{row}",
                        f"=F{row}-E{row}",
                        self.amount(plan.invoiced_minor - plan.expected_minor),
                        font=None,
                    ),
                ]
            )
        for match, colour in (("other_version", "FCE8C3"), ("other_plan", "F8D7D3")):
            page.conditional_formatting.add(
                f"A{_DATA_ROW}:C{last}",
                FormulaRule(
                    formula=[f'$C{_DATA_ROW}="{PLAN_LABELS[match]}"'],
                    fill=PatternFill(bgColor=colour, fill_type="solid"),
                ),
            )

    # ------------------------------------------------------------------ lines

    def _line_columns(self) -> list[str]:
        return [*(key for key, *_ in self.columns), *self.causes]

    def _lines(self, page: Any) -> None:
        columns = self._line_columns()
        widths = [width for *_, width in self.columns] + [15] * len(self.causes)
        for position, width in enumerate(widths, 1):
            page.column_dimensions[get_column_letter(position)].width = width
        last_letter = get_column_letter(len(columns))
        last = _DATA_ROW + max(len(self.lines), 1) - 1
        page.freeze_panes = f"D{_DATA_ROW}"
        page.auto_filter.ref = f"A{_HEADER_ROW}:{last_letter}{last}"
        page.row_dimensions[_HEADER_ROW].height = 32
        self.print_setup(page, landscape=True, repeat=_HEADER_ROW)
        # the columns per cause are for the screen: on paper they would shrink the rest
        page.print_area = f"A1:{get_column_letter(len(self.columns))}{last}"
        page.append(
            [
                self.cell(
                    page,
                    f"Lines of {self.document.vendor.name}, {self.document.period}, "
                    f"in {self.document.currency}",
                    font=SECTION,
                )
            ]
        )
        totals: list[Any] = [self.cell(page, "Total of the rows shown", font=BOLD)]
        for position, key in enumerate(columns[1:], 2):
            letter = get_column_letter(position)
            total = self._line_total(key)
            totals.append(
                self.cell(page, None)
                if total is None
                else self.sum(
                    page,
                    f"{letter}2",
                    f"=SUBTOTAL(109,{letter}{_DATA_ROW}:{letter}{last})",
                    self.amount(total),
                )
            )
        page.append(totals)
        titles = [(title, right) for _, title, right, _ in self.columns]
        self.header(page, titles + [(CAUSE_LABELS[cause], True) for cause in self.causes])
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
            self.cell(page, STATUS_LABELS[line.status]),
            self.cell(page, line.sim or "(account)"),
            self.cell(page, line.charge_code),
            self.cell(page, line.usage_period),
            self.cell(page, line.invoice_no or "(none)"),
            *(
                [
                    self.cell(page, line.billed_plan or _NO_PLAN),
                    self.cell(page, line.own_plan or _NO_PLAN),
                ]
                if self.document.plans
                else []
            ),
            self.cell(page, line.unit),
            self.cell(page, line.expected_quantity, number_format="#,##0.###"),
            self.cell(page, line.invoiced_quantity, number_format="#,##0.###"),
            *(self.cell(page, self.amount(minor), number_format=self.money) for minor in amounts),
            self.cell(page, _main_cause(line)),
            *(
                self.cell(
                    page,
                    self.amount(line.causes[cause]) if line.causes.get(cause) else None,
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
                font=Font(name=FACE, bold=True, color="9C1C12"),
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
        self.print_setup(page, landscape=True, repeat=_HEADER_ROW)
        page.append(
            [
                self.cell(
                    page,
                    f"Claims against {self.document.vendor.name}, {self.document.period}, "
                    f"in {self.document.currency}",
                    font=SECTION,
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
                value = self.amount(sums[column.field])
                totals.append(self.sum(page, f"{letter}2", formula, value))
            else:
                text = "Total of the rows shown" if position == 1 else None
                totals.append(self.cell(page, text, font=BOLD))
        page.append(totals)
        self.header(page, [(c.title, c.field in _CLAIM_NUMBERS) for c in columns])
        for number, claim in enumerate(self.document.claims, _DATA_ROW):
            # spreadsheets do not measure wrapped text that a program wrote
            page.row_dimensions[number].height = 15 * max(1, -(-len(claim.evidence) // 64))
            page.append([self._claim_cell(page, claim, column.field) for column in columns])
        if not self.document.claims:
            page.append([self.cell(page, "No claims: everything agrees or is within tolerance.")])

    def _claim_cell(self, page: Any, claim: DocumentClaim, name: str) -> Any:
        minor = {
            "billed": claim.billed_minor,
            "expected": claim.expected_minor,
            "difference": _difference(claim),
        }
        if name in minor:
            return self.cell(page, self.amount(minor[name]), number_format=self.money)
        if name == "evidence":
            return self.cell(page, claim.evidence, alignment=WRAP)
        if name == "deadline":
            return self.cell(page, claim.deadline, number_format="yyyy-mm-dd")
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
        return self.cell(page, values[name])


_HEADER_ROW = 3
_DATA_ROW = 4

_LINE_COLUMNS = (
    ("status", "Status", False, 19),
    ("sim", "SIM", False, 23),
    ("charge_code", "Charge code", False, 20),
    ("period", "Service period", False, 11),
    ("invoice", "Invoice", False, 18),
    ("billed_plan", "Plan billed", False, 24),
    ("own_plan", "Plan agreed", False, 24),
    ("unit", "Unit", False, 9),
    ("expected_quantity", "Our quantity", True, 14),
    ("invoiced_quantity", "Billed quantity", True, 14),
    ("expected", "Expected", True, 16),
    ("invoiced", "Invoiced", True, 16),
    ("variance", "Variance", True, 16),
    ("main_cause", "Main cause", False, 18),
)
"""Key, title, right-aligned, width; a column per cause follows, for the screen."""

_PLAN_COLUMNS = ("billed_plan", "own_plan")

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


def _agreement(plan: DocumentPlan) -> str:
    if plan.plan_match is not None:
        return PLAN_LABELS[plan.plan_match]
    if plan.billed_plan is None:
        return "No plan billed" if plan.own_plan else "No plan"
    return "None agreed"


def _difference(claim: DocumentClaim) -> int:
    return claim.billed_minor - claim.expected_minor


def _listed(lines: Sequence[DocumentLine]) -> list[DocumentLine]:
    """Claims first, greatest first; what agrees becomes one row if a sheet cannot hold it."""
    order = list(STATUS_LABELS)
    listed = list(lines)
    if len(listed) > LINE_LIMIT:
        agreeing: dict[tuple[str, str], list[DocumentLine]] = {}
        for line in listed:
            if line.status == "matched" and not line.causes:
                agreeing.setdefault((line.billed_plan or "", line.own_plan or ""), []).append(line)
        listed = [line for line in listed if not (line.status == "matched" and not line.causes)]
        listed += [
            DocumentLine(
                invoice_no=None,
                sim=f"({len(lines):,} lines that agree)",
                usage_period=lines[0].usage_period,
                charge_code="(all)",
                unit="",
                expected_quantity=None,
                invoiced_quantity=None,
                expected_minor=sum(line.expected_minor for line in lines),
                invoiced_minor=sum(line.invoiced_minor for line in lines),
                status="matched",
                billed_plan=billed or None,
                own_plan=own or None,
            )
            for (billed, own), lines in sorted(agreeing.items())
        ]
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
