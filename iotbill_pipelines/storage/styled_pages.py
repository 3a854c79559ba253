"""How workbooks for people look: fonts, fills, cells, totals as formulas, printing.

A total is a formula of ours over cells of the book; what it gives is stored beside it, so that a
preview which does not calculate shows it too.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from openpyxl import Workbook
from openpyxl.cell import WriteOnlyCell
from openpyxl.chart import BarChart, Reference
from openpyxl.chart.label import DataLabelList
from openpyxl.styles import Alignment, Font, PatternFill
from openpyxl.worksheet.properties import PageSetupProperties

from iotbill_pipelines.config.workbook_cells import safe_text
from iotbill_pipelines.engine.money import minor_digits
from iotbill_pipelines.storage.documents import Cell, ColumnFormat

INK, PALE = "1F3A5F", "E9EEF5"
FACE = "Calibri"
TITLE = Font(name=FACE, bold=True, size=16, color=INK)
SUBTITLE = Font(name=FACE, size=11, color="555555")
SECTION = Font(name=FACE, bold=True, size=12, color=INK)
TEXT = Font(name=FACE, size=11)
BOLD = Font(name=FACE, bold=True)
HEADER = Font(name=FACE, bold=True, color="FFFFFF")
HEADER_FILL = PatternFill("solid", start_color=INK)
TOTAL_FILL = PatternFill("solid", start_color=PALE)
RIGHT = Alignment(horizontal="right", vertical="top", indent=1)
LEFT = Alignment(horizontal="left", vertical="top", indent=1)
WRAP = Alignment(horizontal="left", vertical="top", wrap_text=True, indent=1)


class StyledBook:
    """A workbook in one currency; ``footer`` is printed on every page."""

    def __init__(self, currency: str, footer: str) -> None:
        self.workbook = Workbook(write_only=True)
        self.values: dict[str, dict[str, Decimal]] = {}
        self.money = ColumnFormat("", "money", currency).number_format
        self.digits = minor_digits(currency)
        self.footer = footer

    def amount(self, minor: int) -> Decimal:
        return Decimal(minor).scaleb(-self.digits)

    def cell(
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
        cell.alignment = alignment or (LEFT if isinstance(value, str) or value is None else RIGHT)
        cell.font = font or TEXT
        if fill:
            cell.fill = fill
        return cell

    def sum(
        self,
        page: Any,
        where: str,
        formula: str,
        value: Decimal,
        *,
        number_format: str | None = None,
        font: Font | None = BOLD,
        fill: PatternFill | None = None,
    ) -> Any:
        """A formula of ours, never of the data; ``where`` is its cell, ``value`` its result."""
        cell = WriteOnlyCell(page, formula)
        cell.number_format = number_format or self.money
        cell.alignment = RIGHT
        cell.font = font or TEXT
        if fill:
            cell.fill = fill
        self.values.setdefault(page.title, {})[where] = value
        return cell

    def count(
        self,
        page: Any,
        where: str,
        formula: str,
        count: int,
        font: Font | None = None,
        fill: PatternFill | None = None,
    ) -> Any:
        return self.sum(
            page, where, formula, Decimal(count), number_format="#,##0", font=font, fill=fill
        )

    def header(self, page: Any, titles: Sequence[tuple[str, bool]]) -> None:
        page.append(self.header_cells(page, titles))

    def header_cells(self, page: Any, titles: Sequence[tuple[str, bool]]) -> list[Any]:
        """Column titles, each with whether it stands to the right."""
        return [
            self.cell(
                page,
                title,
                font=HEADER,
                fill=HEADER_FILL,
                alignment=Alignment(
                    horizontal="right" if right else "left",
                    vertical="center",
                    wrap_text=True,
                    indent=1,
                ),
            )
            for title, right in titles
        ]

    def bars(
        self, page: Any, title: str, names: int, values: int, first: int, last: int
    ) -> BarChart:
        """A chart of lying bars over rows ``first`` to ``last``; columns by number."""
        chart = BarChart()
        chart.type, chart.style = "bar", 10
        chart.title = title
        chart.add_data(Reference(page, min_col=values, min_row=first, max_row=last))
        chart.set_categories(Reference(page, min_col=names, min_row=first, max_row=last))
        chart.legend = None
        chart.gapWidth = 40
        chart.series[0].graphicalProperties.solidFill = INK
        chart.series[0].invertIfNegative = False
        chart.dataLabels = DataLabelList()
        chart.dataLabels.showVal = True
        chart.dataLabels.showSerName = chart.dataLabels.showCatName = False
        chart.dataLabels.showLegendKey = False
        chart.dataLabels.numFmt = "#,##0" + ("." + "0" * self.digits if self.digits else "")
        chart.x_axis.scaling.orientation = "maxMin"
        chart.x_axis.tickLblPos = "low"
        chart.x_axis.delete = chart.y_axis.delete = False
        chart.y_axis.majorGridlines = None
        chart.y_axis.numFmt = "#,##0"
        chart.width, chart.height = 20, 2 + 0.9 * max(5, last - first + 1)
        return chart

    def print_setup(self, page: Any, *, landscape: bool, repeat: int | None = None) -> None:
        page.page_setup.orientation = "landscape" if landscape else "portrait"
        page.page_setup.paperSize = 9  # A4
        page.page_setup.fitToWidth = 1
        page.page_setup.fitToHeight = 0
        page.sheet_properties.pageSetUpPr = PageSetupProperties(fitToPage=True)
        page.page_margins.left = page.page_margins.right = 0.5
        page.page_margins.top = page.page_margins.bottom = 0.75
        page.page_margins.header = page.page_margins.footer = 0.3
        page.oddFooter.left.text = _plain(self.footer)
        page.oddFooter.right.text = "Page &P of &N"
        page.sheet_view.showGridLines = False
        if repeat:
            page.print_title_rows = f"{repeat}:{repeat}"


def _plain(text: str) -> str:
    """Text for a page footer, where ``&`` starts a code."""
    return text.replace("&", "&&")
