"""Many small companies in one run of the engine, each of which must come out as if it were alone.

A run costs about as much for a hundred companies as for one. Every id of a company gets a prefix
of its own, also in the terms of its contracts; its conditions and windows of time get numbers of
their own. What nothing tells apart (states, months, policies) must be the same for all companies of
a run, so companies are grouped by it.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from iotbill_pipelines.config.scenarios import ScenarioTables
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.mediate import PLAIN
from iotbill_pipelines.engine.schemas import TABLES
from iotbill_pipelines.operations.scenarios import run_tables

Results = dict[str, pa.Table]

_NAMED = ("count_group", "uid_value", "dedup_key")
"""Columns with names of a company's own beside those that end in ``_id``."""

_SHARED = ("state", "state_transition")
"""Tables that say the same to all companies of a run."""

_NUMBERED = {"window_no": "time_window", "condition_no": "usage_condition"}
"""Columns that count the rows of a company's table."""

_TERMS = ("own_terms", "terms")
_TERMS_NAME = {"charge_id", "product_id", "charges", "offers", "products"}
"""Columns of contracts' terms, and their keys that name what has an id in the catalog."""

_PREFIX = re.compile(r"co\d{4}__")
_FILE_KEYS = ("file_key", "kept_file_key", "other_file_key", "event_file_key")


@dataclass(frozen=True)
class Company:
    """The inputs of one run: its tables, and the usage periods to settle, in order."""

    tables: ScenarioTables
    months: tuple[Month, ...]


@dataclass(frozen=True)
class Merged:
    """Companies in one set of tables, with what tells their results apart again."""

    tables: ScenarioTables
    months: tuple[Month, ...]
    prefixes: list[str]
    file_keys: dict[int, tuple[str, int]] = field(default_factory=dict)

    def owner(self, row: Mapping[str, object]) -> str:
        """Return the prefix of the company of a row: it is in its ids or in the key of its file."""
        if self.prefixes == [""]:
            return ""
        told = {
            match
            for value in row.values()
            if isinstance(value, str)
            for match in _PREFIX.findall(value)
        }
        if not told:
            told = {self.file_keys[row["file_key"]][0]}  # type: ignore[index]
        assert len(told) == 1, f"companies meet in {row}"
        return told.pop()

    def _session(self, key: str) -> str:
        """A record without a session is one of its own, called by its file and line."""
        file_key, slash, line = key.partition("/")
        if slash and file_key.isdecimal() and int(file_key) in self.file_keys:
            return f"{self.file_keys[int(file_key)][1]}/{line}"
        return key

    def apart(self, results: Mapping[str, pa.Table]) -> list[Results]:
        """Return the results of each company, under the ids that it had."""
        if self.prefixes == [""]:
            return [dict(results)]
        found: list[Results] = [{} for _ in self.prefixes]
        for name, table in results.items():
            owners = [self.owner(row) for row in table.to_pylist()]
            plain = self._plain(table)
            for number, prefix in enumerate(self.prefixes):
                rows = [at for at, mine in enumerate(owners) if mine == prefix]
                found[number][name] = plain.take(pa.array(rows, pa.int64()))
        return found

    def _plain(self, table: pa.Table) -> pa.Table:
        for number, column in enumerate(table.schema):
            values = table.column(number)
            if pa.types.is_string(column.type):
                values = pc.replace_substring_regex(values, _PREFIX.pattern, "")
                if column.name == "session_key":
                    told = [
                        None if key is None else self._session(key) for key in values.to_pylist()
                    ]
                    values = pa.chunked_array([pa.array(told, column.type)])
            elif column.name in _FILE_KEYS:
                keys = [
                    None if key is None else self.file_keys[key][1] for key in values.to_pylist()
                ]
                values = pa.chunked_array([pa.array(keys, column.type)])
            else:
                continue
            table = table.set_column(number, column, values)
        return table


def run_together(companies: Sequence[Company]) -> list[Results]:
    """Return what :func:`run_tables` gives for each company, in their order."""
    found: list[Results] = [{} for _ in companies]
    for members in groups(companies):
        merged = merge([companies[number] for number in members])
        results = merged.apart(run_tables(merged.tables, merged.months))
        for number, mine in zip(members, results, strict=True):
            found[number] = mine
    return found


def groups(companies: Sequence[Company]) -> list[list[int]]:
    """Return the places of companies that can be in one run."""
    found: dict[str, list[int]] = defaultdict(list)
    for number, company in enumerate(companies):
        tables = company.tables
        alone = tables.policies is not PLAIN  # its sources have names of their own
        shared = [tables.catalog[name].to_pylist() for name in _SHARED]
        key = json.dumps([number if alone else "", list(map(str, company.months)), shared])
        found[key].append(number)
    return list(found.values())


def merge(companies: Sequence[Company]) -> Merged:
    """Put companies of one group into one set of tables; one alone keeps its ids."""
    one = companies[0]
    if len(companies) == 1:
        return Merged(one.tables, one.months, [""])
    prefixes = [f"co{number:04}__" for number in range(len(companies))]
    file_keys: dict[int, tuple[str, int]] = {}
    parts: dict[str, list[pa.Table]] = defaultdict(list)
    before = dict.fromkeys(_NUMBERED, 0)
    for prefix, company in zip(prefixes, companies, strict=True):
        tables = company.tables
        for name, table in (tables.catalog | tables.reference | {"": tables.usage}).items():
            parts[name].append(_own(table, prefix, file_keys, before))
        for column, name in _NUMBERED.items():
            before[column] += tables.catalog[name].num_rows
    joined = {name: pa.concat_tables(tables) for name, tables in parts.items()}
    joined |= {name: one.tables.catalog[name] for name in _SHARED}
    for name in ("currency", "record_attribute"):
        joined[name] = _distinct(joined[name], TABLES[name].key)
    merged = ScenarioTables(
        {name: joined[name] for name in one.tables.catalog},
        {name: joined[name] for name in one.tables.reference},
        joined[""],
    )
    return Merged(merged, one.months, prefixes, file_keys)


def _own(
    table: pa.Table,
    prefix: str,
    file_keys: dict[int, tuple[str, int]],
    before: Mapping[str, int],
) -> pa.Table:
    for number, column in enumerate(table.schema):
        values = table.column(number)
        if pa.types.is_string(column.type) and (
            column.name.endswith("_id") or column.name in _NAMED
        ):
            named = pc.binary_join_element_wise(prefix, values, "")
            values = pc.if_else(pc.equal(values, ""), values, named)
        elif column.name in _FILE_KEYS:
            keys = [_file_key(key, prefix, file_keys) for key in values.to_pylist()]
            values = pa.chunked_array([pa.array(keys, column.type)])
        elif column.name in _NUMBERED:
            values = pc.add(values, pa.scalar(before[column.name], column.type))
        elif column.name in _TERMS:
            terms = [text and json.dumps(_own_terms(json.loads(text), prefix)) for text in
                     values.to_pylist()]  # fmt: skip
            values = pa.chunked_array([pa.array(terms, column.type)])
        else:
            continue
        table = table.set_column(number, column, values)
    return table


def _own_terms(terms: object, prefix: str, key: str = "") -> object:
    if isinstance(terms, dict):
        return {name: _own_terms(value, prefix, name) for name, value in terms.items()}
    if isinstance(terms, list):
        return [_own_terms(value, prefix, key) for value in terms]
    return f"{prefix}{terms}" if terms and key in _TERMS_NAME else terms


def _file_key(key: int, prefix: str, file_keys: dict[int, tuple[str, int]]) -> int:
    """A key of the same order among its company's files as before, unique among all."""
    number = int(prefix[2:6])
    own = (key << 14 if key < 1 << 40 else key >> 14 << 14) | number
    assert file_keys.setdefault(own, (prefix, key)) == (prefix, key)
    return own


def _distinct(table: pa.Table, key: Iterable[str]) -> pa.Table:
    rows: dict[tuple[object, ...], dict[str, object]] = {}
    for row in table.to_pylist():
        assert rows.setdefault(tuple(row[name] for name in key), row) == row, row
    return pa.Table.from_pylist(list(rows.values()), schema=table.schema)
