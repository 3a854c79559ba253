"""Rate tables: rows of CSV files and workbooks as prices of a catalog's charges, and as zones.

A catalog names them under ``tables``. A sheet with a column ``charge`` holds rates: every row is a
price of a charge that an offer or share plan of the YAML files has, or a tier of one; what a row
prices comes before the prices that YAML gives the charge, which keep the fallback. A sheet with a
column ``zone_set`` holds zones. Rows of rates may name networks instead of zones (``plmn``, or
``mcc`` with or without ``mnc``, or ``region``): each then is a zone of the offer's zone set.

Every cell is typed; an error names file, sheet and cell, the value, the rule and what to do.
"""

from __future__ import annotations

import csv
import importlib
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from iotbill_pipelines.config.documents import ConfigError, Problem
from iotbill_pipelines.config.workbook_cells import cell_text, is_imprecise, safe_text

_PLAIN = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_DAY = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})( 00:00:00)?")
_FLAGS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True)
class Cell:
    """A value of a table, and where it stands."""

    text: str
    file: Path
    sheet: str | None
    row: int
    column: int

    @property
    def place(self) -> str:
        """The cell as a spreadsheet names it: ``Rates!C7``."""
        return f"{self.sheet}!{self.address}" if self.sheet else self.address

    @property
    def address(self) -> str:
        letters, number = "", self.column + 1
        while number:
            number, letter = divmod(number - 1, 26)
            letters = chr(65 + letter) + letters
        return f"{letters}{self.row}"

    def problem(self, rule: str) -> Problem:
        return Problem(str(self.file), (self.place,), self.row, rule)


@dataclass(frozen=True)
class Sheet:
    """A table as read: its columns and its rows, by name of the column."""

    file: Path
    name: str | None
    columns: tuple[str, ...]
    rows: list[dict[str, Cell]]

    @property
    def holds(self) -> str:
        """``rates`` or ``zones``, by its columns; anything else is ``nothing``."""
        if "charge" in self.columns:
            return "rates"
        return "zones" if "zone_set" in self.columns else "nothing"


@dataclass
class Merged:
    """What tables add to a catalog's data, and which cells each part came from."""

    problems: list[Problem] = field(default_factory=list)
    cells: dict[tuple[str | int, ...], dict[str, Cell]] = field(default_factory=dict)
    """Path of a price or tier -> its row's cells."""
    rows: dict[tuple[str | int, ...], int] = field(default_factory=dict)
    """Path of a charge -> how many of its prices, the first ones, come from tables."""


def read_sheets(file: Path) -> list[Sheet]:
    """Return the sheets of a workbook that are not empty, or the one table of a CSV file.

    The first row that is not empty is the header; names are compared in lower case, with ``_`` for
    blanks. Raises ConfigError for a file that cannot be read, a column named twice, a number of
    more digits than a workbook keeps.
    """
    if not file.is_file():
        raise ConfigError(str(file), (), 1, "there is no such file; name one beside the YAML files")
    rows = _workbook(file) if file.suffix.lower() in (".xlsx", ".xlsm", ".xls") else _csv(file)
    return [sheet for name, cells in rows for sheet in _sheets(file, name, cells)]


def _csv(file: Path) -> Iterator[tuple[str | None, list[list[str]]]]:
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(
            str(file), (), 1, f"not UTF-8 text ({error.reason}); save it as CSV UTF-8"
        ) from None
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    yield None, list(csv.reader(io.StringIO(text), delimiter=delimiter))


def _workbook(file: Path) -> Iterator[tuple[str | None, list[list[str]]]]:
    calamine = importlib.import_module("python_calamine")
    try:
        workbook = calamine.CalamineWorkbook.from_path(str(file))
        sheets = [
            (name, workbook.get_sheet_by_name(name).to_python(skip_empty_area=False))
            for name in workbook.sheet_names
        ]
    except (calamine.CalamineError, OSError, ValueError) as error:
        raise ConfigError(str(file), (), 1, f"is no workbook that can be read: {error}") from None
    for name, rows in sheets:
        for number, row in enumerate(rows, 1):
            for column, cell in enumerate(row):
                if is_imprecise(cell):
                    damaged = Cell(cell_text(cell), file, name, number, column)
                    problem = damaged.problem(
                        f"{damaged.text} has more than the 15 digits that a workbook keeps; "
                        "format the cell as text and write it again"
                    )
                    raise ConfigError(problem.file, problem.key, problem.line, problem.rule)
        yield name, [[cell_text(cell) for cell in row] for row in rows]


def _sheets(file: Path, name: str | None, rows: Sequence[Sequence[str]]) -> Iterator[Sheet]:
    numbered = [(number, row) for number, row in enumerate(rows, 1) if any(map(str.strip, row))]
    if not numbered:
        return
    (head_no, head), *body = numbered
    columns = [re.sub(r"[\s-]+", "_", text.strip().lower()) for text in head]
    for column, text in enumerate(columns):
        if text and text in columns[:column]:
            problem = Cell(text, file, name, head_no, column).problem(
                f"column {text!r} stands twice; remove one"
            )
            raise ConfigError(problem.file, problem.key, problem.line, problem.rule)
    yield Sheet(
        file,
        name,
        tuple(columns),
        [
            {
                text: Cell(row[column].strip() if column < len(row) else "", file, name, no, column)
                for column, text in enumerate(columns)
                if text
            }
            for no, row in body
        ],
    )


# ----------------------------------------------------------------------------------- cells


class _Wrong(ValueError):
    """A cell that is not what its column holds."""


def _text(text: str) -> str:
    # written as a file for people it would change, and no longer be the name that was priced
    if safe_text(text) != text:
        raise _Wrong(
            f"{text!r} is text that a spreadsheet would run, or holds control characters; begin "
            "it with a letter or a digit and keep to characters that print"
        )
    return text


def _decimal(text: str) -> Decimal:
    if not _PLAIN.fullmatch(text):
        raise _Wrong(f"{text!r} is no decimal number; write it plainly, such as 0.0525")
    try:
        return Decimal(text)
    except InvalidOperation as error:  # pragma: no cover - the pattern has let it pass
        raise _Wrong(str(error)) from None


def _day(text: str) -> date:
    match = _DAY.fullmatch(text)
    try:
        return date.fromisoformat(match[1] if match else text)
    except ValueError:
        raise _Wrong(f"{text!r} is no day; write it as 2026-10-31") from None


def _flag(text: str) -> bool:
    if text.lower() not in _FLAGS:
        raise _Wrong(f"{text!r} is neither yes nor no")
    return _FLAGS[text.lower()]


def _digits(count: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if not re.fullmatch(f"[0-9]{{{count}}}", text):
            raise _Wrong(
                f"{text!r} has not the {count.replace(',', ' or ')} digits of such a code; format "
                "the cell as text to keep leading zeros"
            )
        return text

    return read


def _plmn(text: str) -> str:
    return _digits("5,6")(text.replace("-", ""))


_OF_TIER: Mapping[str, Callable[[str], Any]] = {
    "up_to": _decimal,
    "rate": _decimal,
    "percent": _decimal,
    "flat": _decimal,
    "block": _decimal,
    "block_price": _decimal,
}
_OF_PRICE: Mapping[str, Callable[[str], Any]] = {
    "id": _text,
    "model": _text,
    "markup": _decimal,
    "edge": _text,
    "packages": _text,
    "counted": _text,
    "at_zero": _flag,
    "connect_fee": _decimal,
    "connect_per": _text,
    "least": _decimal,
    "most": _decimal,
}
_OF_KEY: Mapping[str, Callable[[str], Any]] = {
    "zone": _text,
    "time": _text,
    "when": _text,
    "state": _text,
    "valid_from": _day,
    "valid_to": _day,
}
_OF_NETWORK: Mapping[str, Callable[[str], Any]] = {
    "plmn": _plmn,
    "mcc": _digits("3"),
    "mnc": _digits("2,3"),
    "region": _text,
}
_OF_CHARGE: Mapping[str, Callable[[str], Any]] = {
    "charge": _text,
    "currency": _text,
    "per": _text,
    "from": _decimal,
}
_REMARKS = ("country", "operator", "network", "comment", "note", "remark", "description")
_RATE_COLUMNS = {**_OF_CHARGE, **_OF_KEY, **_OF_NETWORK, **_OF_PRICE, **_OF_TIER}
_ZONE_COLUMNS = {"zone_set": _text, "zone": _text, "any": _flag, **_OF_NETWORK}


class _Row:
    """A row's typed values; what is wrong with it is told once, where it stands."""

    def __init__(
        self,
        cells: dict[str, Cell],
        known: Mapping[str, Callable[[str], Any]],
        problems: list[Problem],
    ) -> None:
        self.cells, self.problems = cells, problems
        self.values: dict[str, Any] = {}
        for name, cell in cells.items():
            if cell.text and name in known:
                try:
                    self.values[name] = known[name](cell.text)
                except _Wrong as wrong:
                    self.wrong(name, str(wrong))

    def wrong(self, column: str, rule: str) -> None:
        cell = self.cells.get(column) or next(iter(self.cells.values()))
        self.problems.append(cell.problem(rule))

    def pick(self, names: Mapping[str, object]) -> dict[str, Any]:
        return {name: self.values[name] for name in names if name in self.values}

    @property
    def first(self) -> Cell:
        return next(iter(self.cells.values()))


def _columns(
    sheet: Sheet, known: Mapping[str, object], needed: Sequence[str], problems: list[Problem]
) -> None:
    head = sheet.rows[0] if sheet.rows else {}
    for name in sheet.columns:
        if name and name not in known and name not in _REMARKS:
            cell = head.get(name)
            row = cell.row - 1 if cell else 1
            at = Cell(name, sheet.file, sheet.name, row, sheet.columns.index(name))
            problems.append(
                at.problem(
                    f"unknown column {name!r}; known: {', '.join(known)}, and for people "
                    f"{', '.join(_REMARKS)}"
                )
            )
    for name in needed:
        if name not in sheet.columns:
            problems.append(
                Cell("", sheet.file, sheet.name, 1, 0).problem(f"has no column {name!r}; add it")
            )


# ----------------------------------------------------------------------------------- merge


def merge(data: dict[str, Any], sheets: Sequence[Sheet]) -> Merged:
    """Put the rows of sheets into a catalog's data, in place; return where each came from.

    Problems are collected, not raised: they are told together with those of the YAML files.
    """
    merged = Merged()
    charges, networks = dict(_charges(data)), _Networks(data)
    for sheet in sheets:
        if sheet.holds == "zones":
            _zones(networks, sheet, merged)
    for sheet in sheets:
        if sheet.holds == "rates":
            _rates(networks, sheet, charges, merged)
        elif sheet.holds == "nothing":
            merged.problems.append(
                Cell("", sheet.file, sheet.name, 1, 0).problem(
                    "has neither a column charge (rates) nor zone_set (zones); "
                    f"its columns are {', '.join(filter(None, sheet.columns))}"
                )
            )
    _unpriced_networks(networks, charges, merged)
    merged.rows = {target.path: target.rows for target in charges.values() if target.rows}
    return merged


@dataclass
class _Target:
    """A charge that rows may price, with the offer or plan it belongs to."""

    path: tuple[str | int, ...]
    charge: dict[str, Any]
    owner: dict[str, Any]
    rows: int = 0
    networks: dict[tuple[str, str], Cell] = field(default_factory=dict)


def _charges(data: Mapping[str, Any]) -> Iterator[tuple[str, _Target]]:
    for number, offer in enumerate(_listed(data.get("offers"))):
        for index, charge in enumerate(_listed(offer.get("charges"))):
            place = ("offers", number, "charges", index)
            yield str(charge.get("id")), _Target(place, charge, offer)
    for number, plan in enumerate(_listed(data.get("share_plans"))):
        overage = plan.get("overage")
        if isinstance(overage, dict):
            path = ("share_plans", number, "overage")
            yield str(overage.get("id")), _Target(path, overage, plan)


def _listed(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _zones(networks: _Networks, sheet: Sheet, merged: Merged) -> None:
    _columns(sheet, _ZONE_COLUMNS, ("zone",), merged.problems)
    for cells in sheet.rows:
        before = len(merged.problems)
        row = _Row(cells, _ZONE_COLUMNS, merged.problems)
        if len(merged.problems) > before:
            continue
        if "zone_set" not in row.values or "zone" not in row.values:
            row.wrong("zone" if "zone_set" in row.values else "zone_set", "is empty; fill it in")
            continue
        named = _network(row)
        if named is None and not row.values.get("any"):
            row.wrong("zone", "names no network; fill in plmn, mcc, mcc and mnc, region or any")
            continue
        kind, code = named or ("any", "")
        other = networks.add(row.values["zone_set"], row.values["zone"], kind, code)
        if other is not None:
            row.wrong(
                kind if kind in cells else "mcc",
                f"{code or 'any'} is in zone {other!r} already; a network is in one zone",
            )


def _network(row: _Row) -> tuple[str, str] | None:
    """The network that a row names: kind of rule and code."""
    values = row.values
    given = [name for name in ("plmn", "mcc", "region") if name in values]
    if len(given) > 1:
        row.wrong(given[1], f"is given beside {given[0]}; name the network one way")
        return None
    if "mnc" in values and "mcc" not in values:
        row.wrong("mnc", "needs its mcc")
        return None
    if "mnc" in values:
        return "plmn", values["mcc"] + values["mnc"]
    return (given[0], values[given[0]]) if given else None


class _Networks:
    """The networks of a catalog's zone sets, found by their code and added to by tables."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.sets = data.setdefault("zone_sets", [])
        self.known: dict[tuple[str, str, str], str] = {}
        self.rules: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.given: set[tuple[str, str, str]] = set()
        self.lists = {str(zones.get("id")): zones for zones in _listed(self.sets)}
        for zone_set, zones in self.lists.items():
            for rule in _listed(zones.get("rules")):
                for kind in ("plmn", "mcc", "region"):
                    for code in rule.get(kind) or []:
                        self.known.setdefault((zone_set, kind, str(code)), str(rule.get("zone")))
                if rule.get("any") is True:
                    self.known.setdefault((zone_set, "any", ""), str(rule.get("zone")))
        self.given.update(self.known)

    def add(self, zone_set: str, zone: str, kind: str, code: str) -> str | None:
        """Put a network in a zone; return the other zone that it is in already, if any."""
        place = (zone_set, kind, code)
        known = self.known.setdefault(place, zone)
        if known != zone:
            return known
        if place in self.given:
            return None
        self.given.add(place)
        if zone_set not in self.lists:
            self.lists[zone_set] = {"id": zone_set, "rules": []}
            self.sets.append(self.lists[zone_set])
        rule = self.rules.get((zone_set, zone, kind))
        if rule is None:
            rule = {"zone": zone, "any": True} if kind == "any" else {"zone": zone, kind: []}
            self.rules[zone_set, zone, kind] = rule
            self.lists[zone_set].setdefault("rules", []).append(rule)
        if kind != "any":
            rule[kind].append(code)
        return None

    def inside(self, zone_set: str, mcc: str) -> list[tuple[str, str]]:
        """Networks of a country that are in zones of their own, with these zones."""
        return sorted(
            (code, zone)
            for (name, kind, code), zone in self.known.items()
            if name == zone_set and kind == "plmn" and code.startswith(mcc)
        )


def _rates(
    networks: _Networks, sheet: Sheet, charges: Mapping[str, _Target], merged: Merged
) -> None:
    _columns(sheet, _RATE_COLUMNS, ("valid_from",), merged.problems)
    prices: dict[tuple[Any, ...], tuple[_Target, list[_Row]]] = {}
    for cells in sheet.rows:
        before = len(merged.problems)
        row = _Row(cells, _RATE_COLUMNS, merged.problems)
        target = charges.get(row.values.get("charge", ""))
        if target is None:
            if "charge" in row.values or not cells["charge"].text:
                row.wrong(
                    "charge",
                    f"no offer or share plan has the charge {cells['charge'].text!r}; "
                    "describe it in a YAML file first",
                )
            continue
        _of_charge(row, target)
        network = _network(row)
        if network is not None:
            _zone_of_row(networks, row, target, network)
        if "valid_from" in cells and not cells["valid_from"].text:
            row.wrong("valid_from", "is empty; a rate of a table says from which day it holds")
        if len(merged.problems) > before:
            continue
        key = (row.values["charge"], *(row.values.get(name) for name in _OF_KEY))
        prices.setdefault(key, (target, []))[1].append(row)
    for target, rows in prices.values():
        _price(target, rows, merged)


def _of_charge(row: _Row, target: _Target) -> None:
    currency, per = row.values.get("currency"), row.values.get("per")
    if currency is not None and currency != target.owner.get("currency"):
        row.wrong(
            "currency",
            f"{currency} is not the {target.owner.get('currency')} of {target.owner.get('id')!r}; "
            "a charge has one currency",
        )
    if per is not None and per != target.charge.get("per", "count"):
        row.wrong(
            "per",
            f"{per!r} is not the {target.charge.get('per', 'count')!r} that charge "
            f"{target.charge.get('id')!r} is priced in",
        )


def _zone_of_row(networks: _Networks, row: _Row, target: _Target, network: tuple[str, str]) -> None:
    kind, code = network
    column = kind if kind in row.cells else "mcc"
    zone_set = target.owner.get("zone_set")
    if not isinstance(zone_set, str):
        row.wrong(
            column,
            f"prices a network, but {target.owner.get('id')!r} names no zone_set; add one",
        )
        return
    zone = row.values.setdefault("zone", networks.known.get((zone_set, kind, code), code))
    other = networks.add(zone_set, zone, kind, code)
    if other is not None:
        row.wrong(
            column,
            f"{code} is in zone {other!r} of {zone_set!r} already; a network is in one zone",
        )
        return
    target.networks.setdefault(network, row.first)


def _price(target: _Target, rows: Sequence[_Row], merged: Merged) -> None:
    """One price of rows that share what they are for: one rate, or its tiers in order."""
    first = rows[0]
    price = {**first.pick(_OF_KEY), **first.pick(_OF_PRICE)}
    tiered = len(rows) > 1 or "up_to" in first.values or price.get("model") == "stairstep"
    if len(rows) > 1 and all("up_to" not in row.values for row in rows):
        # several networks of one zone, told row by row, at one rate
        said = {tuple(row.pick({**_OF_TIER, **_OF_PRICE}).items()) for row in rows}
        if len(said) == 1 and len({_network(row) for row in rows}) == len(rows):
            tiered, rows = False, rows[:1]
        else:
            again = rows[1]
            again.wrong(
                "rate" if "rate" in again.cells else "charge",
                f"says again what {first.first.place} says; one zone, time and day has one rate "
                "(tiers need up_to in all rows but the last)",
            )
            return
    path = (*target.path, "prices", target.rows)
    if tiered:
        _bounds(rows)
        price["tiers"] = [row.pick(_OF_TIER) for row in rows]
        price.setdefault("model", "graduated")
        for number, row in enumerate(rows):
            merged.cells[(*path, "tiers", number)] = row.cells
    else:
        price |= first.pick({"rate": None, "percent": None})
        for name in ("flat", "block", "block_price"):
            if name in first.values:
                first.wrong(name, f"{name} is of a tier; give its row an up_to, or remove it")
    merged.cells[path] = first.cells
    listed = target.charge.setdefault("prices", [])
    if not isinstance(listed, list):
        return
    listed.insert(target.rows, price)
    target.rows += 1


def _bounds(rows: Sequence[_Row]) -> None:
    """Tiers that say where they begin must begin where the one before ends."""
    reached: Decimal | None = Decimal(0)
    for row in rows:
        start, end = row.values.get("from"), row.values.get("up_to")
        if start is not None and reached is not None and start != reached:
            kind = "leaves a gap after" if start > reached else "overlaps"
            row.wrong(
                "from",
                f"{start} {kind} the tier before, which ends at {reached}; a tier begins where the "
                "one before ends",
            )
        if reached is None:
            row.wrong("up_to", "a tier stands after the open one; only the last has no up_to")
        elif end is not None and end <= reached:
            row.wrong("up_to", f"{end} is not above {reached}, where the tier begins")
        reached = end


def _unpriced_networks(networks: _Networks, charges: Mapping[str, _Target], merged: Merged) -> None:
    """Refuse a network that is a zone of its own where a charge prices only its country.

    The longest match decides on the zone, so such a charge would price it by its fallback.
    """
    for target in charges.values():
        countries = [(code, at) for (kind, code), at in target.networks.items() if kind == "mcc"]
        if not countries:
            continue
        priced = {price.get("zone") for price in _listed(target.charge.get("prices"))}
        for mcc, cell in countries:
            for network, zone in networks.inside(str(target.owner.get("zone_set")), mcc):
                if zone not in priced:
                    merged.problems.append(
                        cell.problem(
                            f"charge {target.charge.get('id')!r} prices country {mcc}, but network "
                            f"{network} is in zone {zone!r}, for which it has no rate; add a row "
                            "for it"
                        )
                    )


# ---------------------------------------------------------------------------------- writing


def kept_table(sheet: Sheet) -> tuple[list[str], list[list[str]]]:
    """Return columns and rows of the table that a catalog keeps of a sheet: those of ours, in one
    spelling. Remarks are as they came: who writes them disarms them."""
    known = _RATE_COLUMNS if sheet.holds == "rates" else _ZONE_COLUMNS
    columns = [name for name in sheet.columns if name in known or name in _REMARKS]
    return columns, [
        [_spelling(name, cells[name].text, known) for name in columns] for cells in sheet.rows
    ]


def _spelling(name: str, text: str, known: Mapping[str, Callable[[str], Any]]) -> str:
    if not text or name not in known:
        return text
    value = known[name](text)
    if isinstance(value, Decimal):
        return f"{value:f}"
    return str(value).lower() if isinstance(value, bool) else str(value)
