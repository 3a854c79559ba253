"""The close report as one HTML file: opens offline, prints well, carries no script."""

from __future__ import annotations

from collections.abc import Sequence

from iotbill_pipelines.storage.close_report.figures import (
    FLUX_EFFECTS,
    LEVEL_LABELS,
    REVENUE_LABELS,
    VENDOR_LABELS,
    CloseFigures,
    StatementFigures,
    count,
    label,
    money,
    size,
    totals_by_currency,
)
from iotbill_pipelines.storage.html_pages import Bar, bars, template


def render_html(figures: CloseFigures) -> str:
    """Return the report as a self-contained HTML page; text of the data is escaped."""
    return template("close_report.html").render(
        f=figures,
        money=money,
        count=count,
        size=size,
        revenue_label=lambda code: label(REVENUE_LABELS, code),
        level_label=lambda code: label(LEVEL_LABELS, code),
        vendor_label=lambda code: label(VENDOR_LABELS, code),
        reason_label=lambda code: label({}, code),
        revenue_totals=totals_by_currency((r.currency, r.amount_minor) for r in figures.revenue),
        new_totals=dict(totals_by_currency((r.currency, r.new_minor) for r in figures.revenue)),
        cost_totals=totals_by_currency((r.currency, r.expected_minor) for r in figures.vendors),
        waiting=any(feed.records.waiting for feed in figures.feeds),
        revenue_charts=_revenue_charts(figures),
        vendor_charts=_vendor_charts(figures),
        statement_charts=_statement_charts,
        flux_charts=_flux_charts(figures),
        flux_effects=FLUX_EFFECTS,
    )


def _revenue_charts(figures: CloseFigures) -> list[tuple[str, list[Bar]]]:
    """A chart a currency: bars of different currencies cannot be compared."""
    return [
        (
            currency,
            _bars(
                [
                    (label(REVENUE_LABELS, row.charge_type), row.amount_minor, "ours")
                    for row in figures.revenue
                    if row.currency == currency
                ],
                currency,
            ),
        )
        for currency in sorted({row.currency for row in figures.revenue})
    ]


def _statement_charts(statement: StatementFigures) -> list[tuple[str, list[Bar]]]:
    place = statement.charted
    if place is None:
        return []
    charts = []
    for currency in sorted({row[1] for row in statement.rows}):
        values = [
            (next(filter(None, texts[1:2]), texts[0]), amounts[place], "ours")
            for texts, unit, amounts in statement.rows
            if unit == currency
        ]
        charts.append((currency, _bars(sorted(values, key=lambda v: -v[1]), currency)))
    return charts


def _flux_charts(figures: CloseFigures) -> list[tuple[str, list[Bar]]]:
    return [
        (
            f"{label(LEVEL_LABELS, row.level)}, {row.currency}",
            _bars(
                [
                    ("Month before", row.last_minor, "ours"),
                    *((FLUX_EFFECTS[name], minor, "theirs") for name, minor in row.effects.items()),
                    ("This month", row.this_minor, "ours"),
                ],
                row.currency,
            ),
        )
        for row in figures.flux_totals
    ]


def _vendor_charts(figures: CloseFigures) -> list[tuple[str, list[Bar]]]:
    charts = []
    for currency in sorted({row.currency for row in figures.vendors}):
        values = []
        for row in figures.vendors:
            if row.currency == currency:
                values.append((f"{row.vendor}, expected", row.expected_minor, "ours"))
                if row.invoiced_minor is not None:
                    values.append((f"{row.vendor}, invoiced", row.invoiced_minor, "theirs"))
        charts.append((currency, _bars(values, currency)))
    return charts


def _bars(values: Sequence[tuple[str, int, str]], currency: str) -> list[Bar]:
    return bars([(title, minor, money(minor, currency), tone) for title, minor, tone in values])
