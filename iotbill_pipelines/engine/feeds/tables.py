"""Tables by which texts of feeds are translated: built-in ones, and a feed's own (RULEBOOK §5).

Mappings join relation :data:`LOOKUP_TABLE`, which :func:`lookup_rows` makes for a feed. Built-in
tables come from maintained libraries: countries by CLDR, mobile country codes and networks by
python-stdnum, dialling codes by phonenumbers. A name says what its keys are; the values are ISO
alpha-2 codes, of networks ``MCC-MNC``.
"""

from __future__ import annotations

import importlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from functools import cache
from importlib import resources

import phonenumbers
import pyarrow as pa

from iotbill_pipelines.engine.feeds.spec import FeedSpec, LookupRow

LOOKUP_TABLE = "feed_lookup"
"""Relation of :func:`lookup_rows`."""

LOOKUP_SCHEMA = pa.schema(
    [
        pa.field("table_name", pa.string()),
        pa.field("key", pa.string()),
        pa.field("value", pa.string()),
        pa.field("valid_from", pa.timestamp("us")),
        pa.field("valid_to", pa.timestamp("us")),
    ]
)
"""A translation, valid in ``[valid_from, valid_to)`` UTC. Keys of a table never overlap."""

ALWAYS = (datetime.min, datetime.max - timedelta(days=1))  # noqa: DTZ901 - naive UTC
_NO_COUNTRY = frozenset("EU EZ UN QO XA XB ZZ".split())


def lookup_rows(spec: FeedSpec, builtin: Iterable[str]) -> pa.Table:
    """Return the rows of a feed's own tables and of the built-in ones it names."""
    columns: tuple[list[object], ...] = ([], [], [], [], [])
    for name, table in sorted(spec.tables.items()):
        for row in table.rows:
            low, high = interval(row)
            for column, value in zip(columns, (name, row.key, row.value, low, high), strict=True):
                column.append(value)
        for value in dict.fromkeys(row.value for row in table.rows):
            key = value.lower() if table.fold else value
            cells = (values_of(name), key, value, *ALWAYS)
            for column, cell in zip(columns, cells, strict=True):
                column.append(cell)
    for name in sorted(set(builtin) - set(spec.tables)):
        for key, value in BUILTIN[name]().items():
            for column, cell in zip(columns, (name, key, value, *ALWAYS), strict=True):
                column.append(cell)
    return pa.table(
        [pa.array(c, f.type) for c, f in zip(columns, LOOKUP_SCHEMA, strict=True)],
        schema=LOOKUP_SCHEMA,
    )


def values_of(table: str) -> str:
    """Return the name under which a table's own values stand, each for itself."""
    return f"{table}="


def interval(row: LookupRow) -> tuple[datetime, datetime]:
    """Return the instants between which a row holds; dates are midnights in UTC."""
    first, last = ALWAYS
    if row.valid_from is not None:
        first = datetime(row.valid_from.year, row.valid_from.month, row.valid_from.day)  # noqa: DTZ001
    if row.valid_to is not None:
        last = datetime(row.valid_to.year, row.valid_to.month, row.valid_to.day)  # noqa: DTZ001
    return first, last


@cache
def _iso2() -> Mapping[str, str]:
    names = importlib.import_module("babel").Locale("en").territories
    codes = (code for code in names if re.fullmatch("[A-Z]{2}", code))
    return {code: code for code in sorted(codes) if code not in _NO_COUNTRY}


def _aliases(pattern: str) -> dict[str, str]:
    known, aliases = _iso2(), importlib.import_module("babel.core").get_global("territory_aliases")
    return {
        key: targets[0]
        for key, targets in sorted(aliases.items())
        if re.fullmatch(pattern, key) and len(targets) == 1 and targets[0] in known
    }


@cache
def _iso3() -> Mapping[str, str]:
    return _aliases("[A-Z]{3}") | {"XKX": "XK"}


@cache
def _numeric() -> Mapping[str, str]:
    return _aliases("[0-9]{3}")


@cache
def _mcc() -> Mapping[str, str]:
    """Countries by mobile country code: that of most of its networks.

    Several codes of one country collapse; a few codes also serve a neighbour's island.
    """
    found: dict[str, Counter[str]] = defaultdict(Counter)
    mcc = ""
    text = (resources.files("stdnum") / "imsi.dat").read_text(encoding="utf-8")
    for line in text.splitlines():
        if re.match("[0-9]{3}", line):
            mcc = line[:3]
        country = re.search(r'cc="([a-z]{2})"', line)
        if country:
            found[mcc][country[1].upper()] += 1
    return {mcc: countries.most_common(1)[0][0] for mcc, countries in sorted(found.items())}


@cache
def _networks() -> Mapping[str, str]:
    """Networks by the digits that their IMSIs begin with: MCC and a MNC of 2 or 3 digits."""
    networks: dict[str, str] = {}
    mcc = ""
    text = (resources.files("stdnum") / "imsi.dat").read_text(encoding="utf-8")
    for line in text.splitlines():
        if match := re.match("([0-9]{3})(?![0-9])", line):
            mcc = match[1]
        elif match := re.match(" +([0-9]{2,3})(?![0-9-])", line):
            networks[mcc + match[1]] = f"{mcc}-{match[1]}"
    return networks


@cache
def _dialling() -> Mapping[str, str]:
    """Countries by dialling code; a code of several countries (1, 7, 44) names none of them."""
    return {
        str(code): regions[0]
        for code, regions in sorted(phonenumbers.COUNTRY_CODE_TO_REGION_CODE.items())
        if len(regions) == 1 and regions[0] != "001"
    }


BUILTIN = {
    "country.iso2": _iso2,
    "country.iso3": _iso3,
    "country.numeric": _numeric,
    "country.mcc": _mcc,
    "country.dialling": _dialling,
    "network.imsi": _networks,
}
"""Built-in tables by name."""


def calling_codes() -> str:
    """Return a pattern of every country calling code that is assigned."""
    codes = sorted(map(str, phonenumbers.COUNTRY_CODE_TO_REGION_CODE), key=lambda c: (len(c), c))
    return "|".join(codes)
