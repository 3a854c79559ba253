"""Text of cells: the exact text of one that is read, and text that is safe in one that is written.

A cell of numbers holds a binary fraction; what its author wrote has at most 15 significant
digits, and that is what is given: 5994165.0 is ``5994165``, 0.30000000000000004 is ``0.3``. Longer
identifiers were damaged by Excel when they were typed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

_EXACT_BELOW = 10**15
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_PLAIN_NUMBER = re.compile(r"[+-]?[0-9][0-9 ]*(\.[0-9]+)?")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]")


def safe_text(text: str) -> str:
    """Return text that no spreadsheet evaluates.

    A leading formula character, also behind blanks, gets an apostrophe before it, unless the whole
    text is a plain number such as a phone number. Control characters become U+FFFD.
    """
    text = _CONTROL.sub("\ufffd", text)
    start = text.lstrip(" \u00a0\u200b\ufeff")
    if start.startswith(_FORMULA_STARTS) and not _PLAIN_NUMBER.fullmatch(start.strip()):
        return "'" + text
    return text


def is_imprecise(cell: object) -> bool:
    """Whether a cell is a number of more than 15 digits, of which Excel keeps 15."""
    return (
        isinstance(cell, int | float) and not isinstance(cell, bool) and abs(cell) >= _EXACT_BELOW
    )


def cell_text(cell: object) -> str:
    """Return the exact text of a cell, independent of how the sheet shows it.

    Dates are ISO 8601, durations ``h:mm:ss``, truth values ``TRUE`` and ``FALSE``.
    """
    for kind, text in _TEXTS:
        if isinstance(cell, kind):
            return text(cell)
    return "" if cell is None else str(cell)


def _number(cell: float) -> str:
    text = f"{Decimal(f'{cell:.15g}'):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _duration(cell: timedelta) -> str:
    seconds = cell.days * 86_400 + cell.seconds
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


_TEXTS: tuple[tuple[type, Callable[[Any], str]], ...] = (
    (str, str),
    (bool, lambda cell: "TRUE" if cell else "FALSE"),
    (int, str),
    (float, _number),
    (datetime, lambda cell: str(cell.isoformat(" "))),
    (date, date.isoformat),
    (time, time.isoformat),
    (timedelta, _duration),
)
"""Ways to write a cell; the first type that fits decides (True is an int, a datetime a date)."""
