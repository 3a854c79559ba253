"""The workbook of a customer group: what each account was charged, for what, for which SIM.

Sheets: *Summary* (by product and by account, against the month before, with charts), *SIMs* and
*Charges* (one row a charge). Totals are formulas over *Charges*; what they give is stored beside
them. No costs: the workbook can be given to the customer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from openpyxl.formatting.rule import DataBarRule, FormulaRule
from openpyxl.styles import Font, PatternFill
from openpyxl.utils import get_column_letter

from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.storage.documents import save_workbook
from iotbill_pipelines.storage.styled_pages import (
    BOLD,
    FACE,
    SECTION,
    SUBTITLE,
    TITLE,
    TOTAL_FILL,
    StyledBook,
)

KINDS: Mapping[str, str] = {
    "recurring": "Subscription",
    "usage": "Usage",
    "overage": "Pool overage",
    "transition": "One-time",
    "discount": "Discount",
}
"""Kinds of charges in the words of a customer."""

_OTHER = "Other"
_HEADER_ROW, _DATA_ROW = 3, 4
_TOP = 10
"""Most bars of a chart."""


@dataclass(frozen=True)
class GroupCharge:
    """A booked charge. ``sim`` is empty for charges of an account; amounts in minor units."""

    account_id: str
    account: str
    invoice_no: str
    sim: str
    service_id: str
    label: str
    product: str
    kind: str
    usage_period: str
    quantity: int
    amount_minor: int
    unit: str = ""
    """What the quantity counts: bytes, seconds, messages, days, ..."""


@dataclass(frozen=True)
class GroupDocument:
    """A customer group's charges of a period and currency, and the totals of the month before.

    ``before_by_product`` and ``before_by_account`` are minor units by product and account name;
    None where nothing was booked in the month before.
    """

    group: str
    period: Month
    currency: str
    seller: str
    prepared_on: date
    charges: Sequence[GroupCharge]
    before_by_product: Mapping[str, int] | None = None
    before_by_account: Mapping[str, int] | None = None


def write_group(path: Path, document: GroupDocument, created: datetime) -> str:
    """Write the workbook; return its SHA-256. The same document and time give the same bytes."""
    book = _Book(document)
    return save_workbook(path, book.build(), created, book.values)


class _Book(StyledBook):
    def __init__(self, document: GroupDocument) -> None:
        super().__init__(document.currency, f"{document.group} {document.period}")
        self.document = document
        self.charges = sorted(
            document.charges,
            key=lambda c: (c.account, c.account_id, c.sim, c.product, c.usage_period, c.kind),
        )
        self.last = _DATA_ROW + max(len(self.charges), 1) - 1

    def build(self) -> Any:
        summary = self.workbook.create_sheet("Summary")
        sims = self.workbook.create_sheet("SIMs")
        charges = self.workbook.create_sheet("Charges")
        self._summary(summary)
        self._sims(sims)
        self._charges(charges)
        return self.workbook

    def _column(self, key: str) -> str:
        letter = get_column_letter([name for name, *_ in _CHARGE_COLUMNS].index(key) + 1)
        return f"Charges!${letter}${_DATA_ROW}:${letter}${self.last}"

    # ---------------------------------------------------------------- summary

    def _summary(self, page: Any) -> None:
        for letter, width in zip("ABCDEFG", (34, 11, 18, 18, 18, 13, 3), strict=True):
            page.column_dimensions[letter].width = width
        self.print_setup(page, landscape=False)
        document = self.document
        rows: list[list[Any]] = [
            [self.cell(page, f"Charges of {document.group}", font=TITLE)],
            [
                self.cell(
                    page,
                    f"{document.period.start:%B %Y}, all amounts in {document.currency}, "
                    "before tax",
                    font=SUBTITLE,
                )
            ],
            [],
            [self.cell(page, "From", font=BOLD), self.cell(page, document.seller)],
            [
                self.cell(page, "Prepared on", font=BOLD),
                self.cell(page, document.prepared_on.isoformat()),
            ],
            [],
        ]
        charts = []
        for title, key, name_of, before in (
            ("By product", "product", lambda c: c.product, document.before_by_product),
            ("By account", "account", lambda c: c.account, document.before_by_account),
        ):
            rows.append([self.cell(page, title, font=SECTION)])
            first, last = self._grouped(page, rows, title[3:].title(), key, name_of, before)
            charts.append((title, first, last))
            rows.append([])
        rows.append([self.cell(page, "How to read this", font=SECTION)])
        rows += [[self.cell(page, text)] for text in _HOW_TO_READ]
        end = len(rows)
        page.row_dimensions[1].height = 24
        for cells in rows:
            page.append(cells)
        anchor = end + 2
        for title, first, last in charts:
            shown = min(last, first + _TOP - 1)
            name = f"{title}, {document.currency}"
            page.add_chart(self.bars(page, name, 1, 3, first, shown), f"A{anchor}")
            anchor += 6 + 17 * max(5, min(_TOP, last - first + 1)) // 10
        page.print_area = f"A1:F{anchor}"

    def _grouped(
        self,
        page: Any,
        rows: list[list[Any]],
        title: str,
        key: str,
        name_of: Callable[[GroupCharge], str],
        before: Mapping[str, int] | None,
    ) -> tuple[int, int]:
        """A table of totals by name; returns its first and last row."""
        document = self.document
        sums: dict[str, list[GroupCharge]] = defaultdict(list)
        for charge in self.charges:
            sums[name_of(charge)].append(charge)
        for name in before or ():
            sums.setdefault(name, [])
        order = sorted(sums, key=lambda n: (-sum(c.amount_minor for c in sums[n]), n))
        titles = [(title, False), ("SIMs", True), (f"{document.period}", True)]
        if before is not None:
            titles += [(f"{document.period - 1}", True), ("Change", True), ("Change %", True)]
        rows.append(self.header_cells(page, titles))
        first = len(rows) + 1
        amounts = self._column("amount")
        for name in order:
            row = len(rows) + 1
            found = sums[name]
            minor = sum(c.amount_minor for c in found)
            cells = [
                self.cell(page, name),
                self.cell(page, len({c.service_id for c in found if c.service_id})),
                self.sum(
                    page,
                    f"C{row}",
                    f"=SUMIFS({amounts},{self._column(key)},A{row})",
                    self.amount(minor),
                    font=None,
                ),
            ]
            if before is not None:
                cells += self._against(page, row, minor, before.get(name, 0), font=None)
            rows.append(cells)
        last = len(rows)
        row = last + 1
        total = sum(c.amount_minor for c in self.charges)
        cells = [
            self.cell(page, "Total", font=BOLD, fill=TOTAL_FILL),
            self.cell(
                page,
                len({c.service_id for c in self.charges if c.service_id}),
                font=BOLD,
                fill=TOTAL_FILL,
            ),
            self.sum(
                page, f"C{row}", f"=SUM(C{first}:C{last})", self.amount(total), fill=TOTAL_FILL
            ),
        ]
        if before is not None:
            known = sum(before.values())
            cells += self._against(
                page, row, total, known, formula=f"=SUM(D{first}:D{last})", fill=TOTAL_FILL
            )
            self._colour_change(page, first, row)
        rows.append(cells)
        return first, last

    def _against(
        self,
        page: Any,
        row: int,
        minor: int,
        before_minor: int,
        *,
        formula: str | None = None,
        font: Font | None = BOLD,
        fill: PatternFill | None = None,
    ) -> list[Any]:
        """The month before, and the change from it."""
        known = self.amount(before_minor)
        change = self.amount(minor - before_minor)
        share = (
            (Decimal(minor - before_minor) / before_minor).quantize(Decimal("0.0001"))
            if before_minor
            else Decimal(0)
        )
        return [
            self.cell(page, known, number_format=self.money, font=font, fill=fill)
            if formula is None
            else self.sum(page, f"D{row}", formula, known, fill=fill),
            self.sum(page, f"E{row}", f"=C{row}-D{row}", change, font=font, fill=fill),
            self.sum(
                page, f"F{row}", f"=IF(D{row}=0,0,E{row}/D{row})", share,
                number_format="+0.0%;[Red]-0.0%;0.0%", font=font, fill=fill,
            ),
        ]  # fmt: skip

    def _colour_change(self, page: Any, first: int, last: int) -> None:
        for beyond, colour in ((">0.2", "FCE8C3"), ("<-0.2", "DCEFE0")):
            page.conditional_formatting.add(
                f"E{first}:F{last}",
                FormulaRule(
                    formula=[f"AND($D{first}<>0,$E{first}/$D{first}{beyond})"],
                    fill=PatternFill(bgColor=colour, fill_type="solid"),
                ),
            )

    # ------------------------------------------------------------------- SIMs

    def _sims(self, page: Any) -> None:
        by_sim: dict[str, list[GroupCharge]] = defaultdict(list)
        for charge in self.charges:
            if charge.service_id:
                by_sim[charge.service_id].append(charge)
        kinds = [k for k in KINDS.values() if any(_kind(c) == k for c in self.charges)]
        if any(_kind(c) == _OTHER for c in self.charges):
            kinds.append(_OTHER)
        titles = [
            *(("SIM", False), ("Service", False), ("Label", False), ("Account", False)),
            *((kind, True) for kind in kinds),
            ("Total", True),
        ]
        for number, width in enumerate([23, 12, 24, 30, *[15] * len(kinds), 16], 1):
            page.column_dimensions[get_column_letter(number)].width = width
        last = _DATA_ROW + max(len(by_sim), 1) - 1
        total_letter = get_column_letter(len(titles))
        self._listing(page, f"SIMs of {self.document.group}, {self.document.period}", titles, last)
        sums: dict[int, int] = defaultdict(int)
        body = []
        for number, found in enumerate(
            sorted(by_sim.values(), key=lambda f: (f[0].account, f[0].sim, f[0].service_id)),
            _DATA_ROW,
        ):
            one = found[0]
            cells = [self.cell(page, t) for t in (one.sim, one.service_id, one.label, one.account)]
            row_total = 0
            for place, kind in enumerate(kinds, 5):
                minor = sum(c.amount_minor for c in found if _kind(c) == kind)
                sums[place] += minor
                row_total += minor
                value = self.amount(minor) if minor else None
                cells.append(self.cell(page, value, number_format=self.money))
            sums[len(titles)] += row_total
            first_letter, end_letter = get_column_letter(5), get_column_letter(4 + len(kinds))
            cells.append(
                self.sum(
                    page, f"{total_letter}{number}",
                    f"=SUM({first_letter}{number}:{end_letter}{number})", self.amount(row_total),
                )
            )  # fmt: skip
            body.append(cells)
        self._totals(page, titles, sums, last)
        self.header(page, titles)
        for cells in body:
            page.append(cells)
        page.conditional_formatting.add(
            f"{total_letter}{_DATA_ROW}:{total_letter}{last}",
            DataBarRule("num", 0, "max", color="9DB4D3"),
        )

    # ---------------------------------------------------------------- charges

    def _charges(self, page: Any) -> None:
        for number, (*_, width) in enumerate(_CHARGE_COLUMNS, 1):
            page.column_dimensions[get_column_letter(number)].width = width
        titles = [(title, right) for _, title, right, _ in _CHARGE_COLUMNS]
        title = f"Charges of {self.document.group}, {self.document.period}"
        self._listing(page, title, titles, self.last)
        total = sum(c.amount_minor for c in self.charges)
        self._totals(page, titles, {len(titles): total}, self.last)
        self.header(page, titles)
        for c in self.charges:
            texts = (c.account, c.invoice_no, c.sim or "(account)", c.product, _kind(c))
            page.append(
                [
                    *(self.cell(page, text) for text in texts),
                    self.cell(page, c.usage_period),
                    self.cell(page, c.quantity, number_format="#,##0"),
                    self.cell(page, c.unit),
                    self.cell(page, self.amount(c.amount_minor), number_format=self.money),
                ]
            )
        letter = get_column_letter(len(titles))
        page.conditional_formatting.add(
            f"A{_DATA_ROW}:{letter}{self.last}",
            FormulaRule(
                formula=[f"AND(ISNUMBER(${letter}{_DATA_ROW}),${letter}{_DATA_ROW}<0)"],
                font=Font(name=FACE, color="9C1C12"),
            ),
        )
        earlier = get_column_letter([name for name, *_ in _CHARGE_COLUMNS].index("period") + 1)
        page.conditional_formatting.add(
            f"A{_DATA_ROW}:{letter}{self.last}",
            FormulaRule(
                formula=[
                    f'AND(${earlier}{_DATA_ROW}<>"",'
                    f'${earlier}{_DATA_ROW}<>"{self.document.period}")'
                ],
                fill=PatternFill(bgColor="EEF1F4", fill_type="solid"),
            ),
        )

    def _listing(
        self, page: Any, title: str, titles: Sequence[tuple[str, bool]], last: int
    ) -> None:
        page.freeze_panes = f"B{_DATA_ROW}"
        page.auto_filter.ref = f"A{_HEADER_ROW}:{get_column_letter(len(titles))}{last}"
        page.row_dimensions[_HEADER_ROW].height = 32
        self.print_setup(page, landscape=True, repeat=_HEADER_ROW)
        page.append([self.cell(page, f"{title}, in {self.document.currency}", font=SECTION)])

    def _totals(
        self, page: Any, titles: Sequence[tuple[str, bool]], sums: Mapping[int, int], last: int
    ) -> None:
        cells = [self.cell(page, "Total of the rows shown", font=BOLD)]
        for place in range(2, len(titles) + 1):
            letter = get_column_letter(place)
            cells.append(
                self.sum(
                    page, f"{letter}2", f"=SUBTOTAL(109,{letter}{_DATA_ROW}:{letter}{last})",
                    self.amount(sums[place]),
                )
                if place in sums
                else self.cell(page, None)
            )  # fmt: skip
        page.append(cells)


_CHARGE_COLUMNS = (
    ("account", "Account", False, 30),
    ("invoice", "Invoice", False, 22),
    ("sim", "SIM", False, 23),
    ("product", "Product", False, 24),
    ("kind", "Kind", False, 15),
    ("period", "Usage of", False, 11),
    ("quantity", "Quantity", True, 18),
    ("unit", "Unit", False, 11),
    ("amount", "Amount", True, 16),
)

_HOW_TO_READ = (
    "Charges has a row for every charge; the totals above and of SIMs are sums of those rows.",
    "Rows of an earlier month's usage are grey: usage that came late, or a correction.",
    "A change of more than 20 % against the month before is coloured.",
    "Quantity is in its unit: bytes, seconds and messages that were used, days of a subscription.",
)


def _kind(charge: GroupCharge) -> str:
    return KINDS.get(charge.kind, _OTHER)
