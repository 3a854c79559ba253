"""The close report on a terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from iotbill_pipelines.storage.close_report.figures import (
    REVENUE_LABELS,
    VENDOR_LABELS,
    CloseFigures,
    Fates,
    StatementFigures,
    count,
    label,
    money,
    size,
    totals_by_currency,
)

_VERDICT_STYLES = {
    "look at": "yellow",
    "waived": "yellow",
    "BLOCKED": "bold red",
}


def render_console(figures: CloseFigures) -> RenderableType:
    """Return the report as something that a rich console prints."""
    style = "bold red" if figures.blocked or not figures.adds_up else "bold green"
    parts: list[RenderableType] = [
        Panel(Text(figures.headline, style=style), title="Close report", title_align="left"),
    ]
    sections: list[RenderableType] = [
        *(section(figures) for section in (_feeds, _revenue, _vendors)),
        *(_statement(one) for one in figures.statements if one.charted is None),
        _journals(figures),
        _gates(figures),
        _files(figures),
    ]
    for section in sections:
        parts += [Text(), section]
    return Group(*parts)


def _table(title: str, left: tuple[str, ...], right: tuple[str, ...], last: str = "") -> Table:
    table = Table(
        title=title, title_justify="left", title_style="bold", show_edge=False, pad_edge=False
    )
    for name in left:
        table.add_column(name, overflow="fold")
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    if last:
        table.add_column(last, overflow="fold")
    return table


def _fates(fates: Fates, *, waiting: bool) -> list[str]:
    cells = [
        fates.arrived,
        fates.kept,
        fates.ignored,
        fates.duplicate,
        fates.rejected,
        fates.suspended,
    ]
    if waiting:
        cells.append(fates.waiting)
    return [count(cell) for cell in cells]


def _feeds(figures: CloseFigures) -> Table:
    waiting = any(feed.records.waiting for feed in figures.feeds)
    titles = ("Files", "Records in", "= Kept", "+ Ignored", "+ Duplicate", "+ Rejected")
    titles += ("+ Suspended", *(("+ Not rated yet",) if waiting else ()))
    table = _table("Records by feed", ("Feed",), titles, "Adds up")
    for feed in figures.feeds:
        sound = feed.records.missing == 0 and (feed.quantity is None or feed.quantity.missing == 0)
        files = count(feed.files) + (f" ({feed.unread_files} unread)" if feed.unread_files else "")
        table.add_row(
            Text(feed.feed),
            files,
            *_fates(feed.records, waiting=waiting),
            Text("yes", "green") if sound else Text(f"{feed.records.missing} missing", "bold red"),
        )
    table.add_section()
    table.add_row(
        Text("Total", "bold"),
        count(sum(feed.files for feed in figures.feeds)),
        *_fates(figures.records, waiting=waiting),
        "",
    )
    if figures.suspense:
        reasons = ", ".join(f"{count(s.records)} {label({}, s.reason)}" for s in figures.suspense)
        table.caption = f"In suspense, rated as soon as they can be: {reasons}"
        table.caption_justify = "left"
    return table


def _revenue(figures: CloseFigures) -> Table:
    table = _table("Revenue booked", ("Charge type",), ("Charges", "Booked", "New in this run"))
    for row in figures.revenue:
        table.add_row(
            label(REVENUE_LABELS, row.charge_type),
            count(row.charges),
            money(row.amount_minor, row.currency),
            money(row.new_minor, row.currency),
        )
    table.add_section()
    new = dict(totals_by_currency((row.currency, row.new_minor) for row in figures.revenue))
    for currency, minor in totals_by_currency(
        (row.currency, row.amount_minor) for row in figures.revenue
    ):
        table.add_row(
            Text("Total", "bold"), "", money(minor, currency), money(new[currency], currency)
        )
    for invoiced in figures.invoices:
        table.add_row(
            f"Invoiced on {count(invoiced.invoices)} invoices",
            "",
            money(invoiced.total_minor, invoiced.currency),
            "",
        )
    booking = figures.booking
    table.caption = (
        f"Nothing new to post: all {count(booking.earlier_rows)} rows were booked before."
        if booking.nothing_new
        else f"{count(booking.new_rows)} new rows in the ledger, "
        f"{count(booking.earlier_rows)} were booked before."
    )
    table.caption_justify = "left"
    return table


def _vendors(figures: CloseFigures) -> Table:
    table = _table(
        "Vendor cost", ("Vendor",), ("Expected", "Invoiced", "Variance", "Claimed"), "Result"
    )
    for row in figures.vendors:
        variance = row.variance_minor
        result = label(VENDOR_LABELS, row.status)
        if row.unexplained_minor:
            result += f", {money(row.unexplained_minor, row.currency)} unexplained"
        table.add_row(
            Text(row.vendor),
            money(row.expected_minor, row.currency),
            "-" if row.invoiced_minor is None else money(row.invoiced_minor, row.currency),
            "-" if variance is None else money(variance, row.currency),
            money(row.claimed_minor, row.currency) if row.claims else "-",
            result,
        )
    table.add_section()
    for currency, minor in totals_by_currency(
        (row.currency, row.expected_minor) for row in figures.vendors
    ):
        table.add_row(Text("Total", "bold"), money(minor, currency), "", "", "", "")
    return table


def _statement(statement: StatementFigures) -> Table:
    table = _table(statement.title, statement.labels, statement.amounts)
    for texts, currency, values in statement.rows:
        table.add_row(*map(Text, texts), *(money(minor, currency) for minor in values))
    return table


def _journals(figures: CloseFigures) -> Table:
    table = _table("Journals", ("Journal", "State"), ("Lines", "Debits", "Credits"), "Balanced")
    for row in figures.journals:
        balanced = row.debit_minor == row.credit_minor
        table.add_row(
            row.journal,
            row.state,
            count(row.lines),
            money(row.debit_minor, row.currency),
            money(row.credit_minor, row.currency),
            Text("yes", "green") if balanced else Text("NO", "bold red"),
        )
    return table


def _gates(figures: CloseFigures) -> RenderableType:
    """Only what needs a look; a list of passed gates hides the one that failed."""
    open_gates = [gate for gate in figures.gates if gate.verdict != "passed"]
    passed = len(figures.gates) - len(open_gates)
    title = f"Gates: {passed} of {len(figures.gates)} passed"
    if not open_gates:
        return Text(title, "bold green")
    table = _table(title, ("Gate", "Verdict"), (), "Finding, and what to do")
    for gate in open_gates:
        owned = f" [{gate.owner}]" if gate.owner else ""
        finding = gate.message + owned + (f"\n-> {gate.what_to_do}" if gate.what_to_do else "")
        if gate.waived_by:
            finding += f"\nwaived by {gate.waived_by}"
        table.add_row(
            Text(gate.gate), Text(gate.verdict, _VERDICT_STYLES[gate.verdict]), Text(finding)
        )
    return table


def _files(figures: CloseFigures) -> Table:
    table = _table(f"Files written to {figures.folder}", ("File",), ("Size",))
    for file in figures.files:
        table.add_row(Text(file.name), size(file.size_bytes))
    return table
