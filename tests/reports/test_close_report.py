"""The close report from plain figures: what it says, and that it says it safely."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest
from openpyxl import load_workbook
from rich.console import Console

from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.storage.close_report import (
    CloseFigures,
    render_console,
    render_html,
    write_close_workbook,
)
from iotbill_pipelines.storage.close_report.figures import (
    BookingFigures,
    Fates,
    FeedFigures,
    FileFigures,
    FluxFigures,
    GateFigures,
    InvoiceFigures,
    JournalFigures,
    RevenueFigures,
    StatementFigures,
    SuspenseFigures,
    VendorFigures,
    count,
    money,
    size,
)

FIGURES = CloseFigures(
    period=Month(2026, 10),
    entities=["Sample Connect B.V. (NL01)"],
    prepared_at=datetime(2026, 11, 3, 8, tzinfo=UTC),
    run_id="run-1",
    folder="/home/out/2026-10",
    feeds=[
        FeedFigures(
            "emnify_usage",
            31,
            0,
            Fates(12_345, 12_300, 20, 10, 5, 10),
            Fates(9_000_000_000, 8_999_999_000, 0, 500, 0, 500),
        ),
        FeedFigures("accounts", 1, 0, Fates(10, 10, 0, 0, 0, 0), None),
    ],
    revenue=[
        RevenueFigures("usage", "EUR", 236, 1_234_567, 1_234_567),
        RevenueFigures("recurring", "EUR", 120, 13_880, 13_880),
        RevenueFigures("recurring", "JPY", 3, 5_000, 5_000),
    ],
    invoices=[InvoiceFigures("EUR", 6, 1_248_447), InvoiceFigures("JPY", 1, 5_000)],
    vendors=[
        VendorFigures("bics", "EUR", 29_19, 29_31, 1_40, 7, 6, "disputed"),
        VendorFigures("xl", "EUR", 10_10, None, 0, 0, 0, "accrued"),
    ],
    journals=[JournalFigures("NL01-2026-10-REVENUE-001", "REVENUE", "exported", "EUR", 12, 99, 99)],
    booking=BookingFigures(712, 0),
    suspense=[SuspenseFigures("no_owner", 10)],
    gates=[
        GateFigures("pools", "parts add up", "passed", "info", "", "parts add up", ""),
        GateFigures(
            "feeds", "files read", "failed", "warn", "1 file", "x.csv is odd", "send again"
        ),
    ],
    files=[FileFigures("reconciliation_bics_2026-10.xlsx", 21_400)],
    flux=[
        FluxFigures("retail", product, "EUR", 1_000_00, 1_090_10, effects)
        for product in ("data", "")
        for effects in [
            {"volume": 80_00, "price": -10_00, "mix": 5, "late_usage": 20_05}
            | {"corrections": 0, "fx": 0}
        ]
    ],
)


def console_text(figures: CloseFigures) -> str:
    console = Console(width=160, record=True, force_terminal=False)
    with console.capture() as captured:
        console.print(render_console(figures))
    return captured.get()


@pytest.mark.parametrize("render", [console_text, render_html])
def test_it_shows_the_figures_with_their_currency(render) -> None:
    text = render(FIGURES)
    for shown in (
        "12,345",
        "12,345.67 EUR",
        "12,484.47 EUR",
        "5,000 JPY",
        "0.12 EUR",
        "1.40 EUR",
        "10 no owner",
        "no invoice yet, accrued",
        "NL01-2026-10-REVENUE-001",
        "x.csv is odd",
        "send again",
        "reconciliation_bics_2026-10.xlsx",
        "/home/out/2026-10",
        "712 new rows",
    ):
        assert shown in text, shown


@pytest.mark.parametrize("render", [console_text, render_html])
def test_taxes_and_the_like_are_shown_where_there_are_any(render) -> None:
    statement = StatementFigures(
        "Taxes",
        ("Jurisdiction", "Rate"),
        ("Base", "Tax due"),
        ((("DE", "19 %"), "EUR", (333, 63)),),
    )
    text = render(replace(FIGURES, statements=[statement]))
    for shown in ("Taxes", "Jurisdiction", "19 %", "3.33 EUR", "0.63 EUR"):
        assert shown in text, shown
    assert "Taxes" not in render(FIGURES)


@pytest.mark.parametrize("render", [console_text, render_html])
def test_a_second_run_says_that_there_was_nothing_to_post(render) -> None:
    assert "nothing new to post" in render(replace(FIGURES, booking=BookingFigures(0, 712)))


def test_the_page_shows_what_lies_between_the_months() -> None:
    page = render_html(FIGURES)
    assert "1,000.00 EUR" in page and "20.05 EUR" in page and "1,090.10 EUR" in page
    assert "From the month before to this month" in page
    assert FIGURES.adds_up


def test_a_minus_among_quantities_is_told_to_be_a_credit() -> None:
    assert "credit" not in render_html(FIGURES)
    credits = replace(
        FIGURES.feeds[0],
        feed="xl_usage",
        quantity=Fates(900, 1000, 0, 0, rejected=-100, suspended=0),
    )
    page = render_html(replace(FIGURES, feeds=[credits]))
    assert "<td>-100</td>" in page
    assert "A minus is a credit" in page
    assert "(xl_usage rejected)" in page


def test_the_headline_names_what_blocks() -> None:
    gate = replace(FIGURES.gates[0], outcome="failed", severity="block", message="a cent is lost")
    blocked = replace(FIGURES, gates=[gate])
    assert blocked.headline == "October 2026 is blocked by pools"
    assert "BLOCKED" in console_text(blocked)
    assert 'class="headline stop"' in render_html(blocked)


def test_what_does_not_add_up_is_said() -> None:
    feed = replace(FIGURES.feeds[0], records=Fates(12_346, 12_300, 20, 10, 5, 10))
    broken = replace(FIGURES, feeds=[feed])
    assert broken.headline == "October 2026 does not add up; see below"
    assert "1 missing" in console_text(broken)
    assert "1 missing" in render_html(broken)
    uneven = replace(FIGURES, journals=[replace(FIGURES.journals[0], debit_minor=98)])
    assert not uneven.adds_up


class Page(HTMLParser):
    """Collects what a page refers to and runs."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.references: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.references += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href")]


def test_the_page_is_self_contained_and_escapes_data() -> None:
    evil = '<script>alert("x")</script>'
    figures = replace(
        FIGURES,
        feeds=[replace(FIGURES.feeds[0], feed=evil)],
        vendors=[replace(FIGURES.vendors[0], vendor=evil)],
        gates=[replace(FIGURES.gates[1], message=evil)],
        files=[FileFigures(evil, 1)],
    )
    text = render_html(figures)
    page = Page()
    page.feed(text)
    assert "script" not in page.tags
    # only to the documents beside it
    assert page.references == ["%3Cscript%3Ealert%28%22x%22%29%3C/script%3E"]
    assert "url(" not in text
    assert "@import" not in text
    assert "svg" in page.tags


def test_the_page_without_any_figures_still_renders() -> None:
    empty = replace(
        FIGURES,
        entities=[],
        feeds=[],
        revenue=[],
        invoices=[],
        vendors=[],
        journals=[],
        suspense=[],
        gates=[],
        files=[],
    )
    assert "October 2026" in render_html(empty)
    assert "October 2026" in console_text(empty)


def test_a_vendor_that_costs_less_is_drawn_in_its_own_colour() -> None:
    figures = replace(FIGURES, vendors=[replace(FIGURES.vendors[0], invoiced_minor=-5_00)])
    assert 'class="negative"' in render_html(figures)


def test_the_workbook_holds_numbers_and_the_same_bytes(tmp_path: Path) -> None:
    first = write_close_workbook(tmp_path / "a.xlsx", FIGURES)
    assert first == write_close_workbook(tmp_path / "b.xlsx", FIGURES)
    book = load_workbook(tmp_path / "a.xlsx")
    assert book.sheetnames == [
        "Summary",
        "Records",
        "Quantities",
        "Revenue",
        "Flux",
        "Vendors",
        "Journals",
        "Gates",
        "Files",
    ]
    records = [row for row in book["Records"].iter_rows(values_only=True) if row[0]]
    assert records[2][:4] == ("emnify_usage", 31, 12_345, 12_300)
    vendors = list(book["Vendors"].iter_rows(values_only=True))
    assert ("bics", "claimed", "EUR", 29.19, 29.31, 0.12, 1.4, 0.07) in vendors
    for sheet in book:
        for row in sheet.iter_rows():
            assert all(cell.data_type != "f" for cell in row)


@pytest.mark.parametrize(
    ("minor", "currency", "text"),
    [
        (123_456_789, "EUR", "1,234,567.89 EUR"),
        (-5, "USD", "-0.05 USD"),
        (1_234, "JPY", "1,234 JPY"),
        (1_234_567, "KWD", "1,234.567 KWD"),
        (10**17 + 1, "EUR", "1,000,000,000,000,000.01 EUR"),
    ],
)
def test_money_is_exact_with_the_decimals_of_its_currency(
    minor: int, currency: str, text: str
) -> None:
    assert money(minor, currency) == text


def test_sizes_and_counts() -> None:
    assert [size(n) for n in (12, 21_400, 3_000_000)] == ["12 B", "21 KB", "3 MB"]
    assert count(1_234_567) == "1,234,567"
