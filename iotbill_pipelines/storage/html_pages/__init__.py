"""Pages that open offline and print well: one file each, no script, charts drawn in them.

:func:`render_page` makes a page of cards, charts and tables; :mod:`storage.close_report` shares the
look and the charts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, Template

_BAR_UNITS = 1000
"""Width of a chart's bars, from the least to the greatest, in the drawing's own units."""


@dataclass(frozen=True)
class Bar:
    """A bar from ``start`` to ``start + length`` of a chart whose zero is at ``zero``, in drawing
    units; ``tone`` is its colour's name."""

    title: str
    text: str
    start: int
    length: int
    zero: int
    tone: str


@dataclass(frozen=True)
class Card:
    """A figure that a reader looks for first, as text."""

    figure: str
    label: str


@dataclass(frozen=True)
class Section:
    """A heading with a chart, a table, or both. Rows are (texts, figures), written out."""

    title: str
    texts: Sequence[str] = ()
    figures: Sequence[str] = ()
    rows: Sequence[tuple[Sequence[str], Sequence[str]]] = ()
    total: Sequence[str] = ()
    bars: Sequence[Bar] = ()
    note: str = ""


@dataclass(frozen=True)
class Page:
    """A page in one currency; ``links`` are (words, file beside it)."""

    title: str
    about: str
    currency: str
    cards: Sequence[Card]
    sections: Sequence[Section]
    links: Sequence[tuple[str, str]]


def render_page(page: Page) -> str:
    """Return the page as self-contained HTML; text of the data is escaped."""
    return template("page.html").render(page=page)


def bars(values: Sequence[tuple[str, int, str, str]]) -> list[Bar]:
    """Return a chart's bars from (title, minor units, text, tone); what is below zero stands to the
    left of it, in its own tone."""
    least = min((minor for _, minor, _, _ in values if minor < 0), default=0)
    span = max((minor for _, minor, _, _ in values if minor > 0), default=0) - least or 1
    zero = -least * _BAR_UNITS // span
    drawn = []
    for title, minor, text, tone in values:
        length = abs(minor) * _BAR_UNITS // span
        start = zero - length if minor < 0 else zero
        drawn.append(Bar(title, text, start, length, zero, "negative" if minor < 0 else tone))
    return drawn


@cache
def template(name: str) -> Template:
    """Return a template of the pages or of the close report."""
    packages = ("iotbill_pipelines.storage.html_pages", "iotbill_pipelines.storage.close_report")
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package, ".") for package in packages]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)
