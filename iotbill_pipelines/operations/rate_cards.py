"""Carriers' rate cards, read through a feed, as rate tables of the catalog.

A card is a file of any format whose feed fills ``rate_card_line``: prices by dialled prefix,
network, country or zone. :func:`rate_table` writes it as the CSV that ``iotbill catalog import``
takes over (:mod:`config.rate_tables`); every row names the line of the card that it comes from.
"""

from __future__ import annotations

import csv
import io
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

from iotbill_pipelines.compute.duckdb_engine import DuckDbCompute
from iotbill_pipelines.compute.feed_files import ingest_files
from iotbill_pipelines.compute.readers import SourceFile
from iotbill_pipelines.config.catalog import read_catalog
from iotbill_pipelines.config.documents import ConfigError, Problem
from iotbill_pipelines.engine.feeds.spec import FeedSpec
from iotbill_pipelines.engine.feeds.tables import BUILTIN
from iotbill_pipelines.engine.schemas import RATE_CARD_LINE
from iotbill_pipelines.engine.terms import Charge
from iotbill_pipelines.operations.catalogs import Imported, import_tables

COLUMNS = (
    "charge", "plmn", "mcc", "zone", "when", "per", "currency", "rate", "connect_fee", "valid_from",
    "valid_to", "comment",
)  # fmt: skip


@dataclass(frozen=True)
class CardTable:
    """A card as the text of a rate table, and the card's line of each of its rows."""

    text: str
    lines: list[int]


def import_cards(
    folder: Path,
    cards: Sequence[Path],
    feed: FeedSpec,
    charges: Mapping[str, str],
    now: datetime,
    *,
    valid_from: date | None = None,
    write: bool = True,
) -> Imported:
    """Take rate cards over into a catalog folder, as :func:`catalogs.import_tables` does tables.

    For arguments and errors see :func:`rate_table`; what is wrong with a price is told with the
    card's line.
    """
    with tempfile.TemporaryDirectory() as temporary:
        tables: dict[str, tuple[Path, CardTable]] = {}
        for card in cards:
            table = rate_table(feed, card, charges, folder, now, valid_from)
            file = Path(temporary) / f"{card.stem}.csv"
            file.write_text(table.text, "utf-8")
            tables[str(file)] = card, table
        try:
            return import_tables(folder, [Path(file) for file in tables], write=write)
        except ConfigError as error:
            first, *rest = [_of_card(problem, tables) for problem in error.problems]
            raise ConfigError(first.file, first.key, first.line, first.rule, rest) from None


def _refuse(problems: Sequence[Problem]) -> None:
    if problems:
        first, *rest = problems
        raise ConfigError(first.file, first.key, first.line, first.rule, rest)


def _of_card(problem: Problem, tables: Mapping[str, tuple[Path, CardTable]]) -> Problem:
    if problem.file not in tables:
        return problem
    card, table = tables[problem.file]
    return Problem(str(card), (), table.lines[max(problem.line - 2, 0)], problem.rule)


def rate_table(
    feed: FeedSpec,
    card: Path,
    charges: Mapping[str, str],
    catalog: Path,
    now: datetime,
    valid_from: date | None = None,
) -> CardTable:
    """Return the rate table of a card for charges of a catalog, by usage class.

    ``valid_from`` is the first day of lines that do not say theirs. ``now`` (naive UTC) is when the
    card came. Raises ConfigError with file, line and what to do for everything that cannot be
    priced: a file or line that the feed rejects, a class without charge, another currency or unit,
    other increments than the charge's, a factor instead of a price, no first day.
    """
    if feed.target != RATE_CARD_LINE.name:
        raise ConfigError(
            str(card), (), 1, f"feed {feed.id} fills {feed.target}, not {RATE_CARD_LINE.name}"
        )
    rows, problems = _read(feed, card, now)
    known = {
        charge.id: charge for offer in read_catalog(catalog).catalog.offers
        for charge in offer.charges
    }  # fmt: skip
    wanted = []
    for row in rows:
        wrong = list(_wrong(row, charges, known, valid_from))
        problems += [Problem(str(card), (field,), row["line_no"], said) for field, said in wrong]
        if not wrong:
            wanted.append(row | {"valid_from": row["valid_from"] or valid_from})
    _refuse(problems)
    made = list(_rows(wanted, charges, card))
    out = io.StringIO()  # nobody opens it: the import reads it at once, as exact as it is here
    writer = csv.writer(out, lineterminator="\n")
    used = [name for name in COLUMNS if any(row.get(name) is not None for _, row in made)]
    writer.writerow(used)
    for _, row in made:
        writer.writerow(["" if row.get(name) is None else _text(row[name]) for name in used])
    return CardTable(out.getvalue(), [line for line, _ in made])


def _read(feed: FeedSpec, card: Path, now: datetime) -> tuple[list[dict[str, Any]], list[Problem]]:
    """The card's lines, and what the feed rejects of it."""
    source = SourceFile(1, card.name, now, card.stat().st_size, lambda: card.open("rb"))
    with DuckDbCompute() as compute:
        [result] = ingest_files(compute, feed, [source])
        if result.error is not None:
            return [], [Problem(str(card), (), 1, result.error)]
        rejected = compute.fetch(
            "select line_no, field, value, message from rejected_record"
            " where outcome = 'rejected' order by line_no"
        ).to_pylist()
        rows = compute.fetch(
            "select * from mapped_record where outcome = 'accepted' order by line_no"
        ).to_pylist()
    problems = [
        Problem(
            str(card), (row["field"] or "line",), row["line_no"],
            f"{row['message']} (found {row['value']!r})",
        )
        for row in rejected
    ]  # fmt: skip
    return rows, problems


def _wrong(
    row: Mapping[str, Any],
    charges: Mapping[str, str],
    known: Mapping[str, Charge],
    valid_from: date | None,
) -> Iterator[tuple[str, str]]:
    """Why a line cannot be priced: column and what to do."""
    name = charges.get(row["usage_class"])
    if name is None:
        yield (
            "usage_class",
            (
                f"no charge is named for {row['usage_class']}; add --charge "
                f"{row['usage_class']}=ID, or filter such lines in the feed"
            ),
        )
        return
    charge = known.get(name)
    if charge is None:
        yield "charge", f"no offer has the charge {name!r}; describe it in a YAML file first"
        return
    if row["currency"] is None:
        yield (
            "currency",
            ("is absent, so the rate is a factor and no price; map the currency in the feed"),
        )
    if row["valid_from"] is None and valid_from is None:
        yield "valid_from", "says no first day; name it with --valid-from"
    increment = charge.increment
    step = (increment.initial, increment.subsequent) if increment else (1, 1)
    first = row["first_increment"] or 1
    asked = (first, row["next_increment"] or first)
    if asked != step:
        yield (
            "first_increment",
            (
                f"counts {asked[0]}, then steps of {asked[1]}, charge {name!r} counts {step[0]}, "
                f"then {step[1]}; write increment: {{initial: {asked[0]}, subsequent: {asked[1]}, "
                "point: record} in its YAML, or price such lines by a charge of their own"
            ),
        )
    if row["destination_type"] not in _KINDS:
        yield "destination_type", f"must be one of {', '.join(_KINDS)}"
    if row["destination_type"] == "country" and not _codes_of(row["destination"]):
        yield "destination", "is no ISO country (two letters) with mobile networks"


_KINDS = ("prefix", "network", "country", "zone")


def _codes_of(country: str) -> list[str]:
    codes = BUILTIN["country.mcc"]()
    return [mcc for mcc, found in codes.items() if found == country.upper()]


def _rows(
    lines: Sequence[Mapping[str, Any]], charges: Mapping[str, str], card: Path
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield rows of the table, each with its line of the card."""
    prefixes = []
    for line in lines:
        row = {
            "charge": charges[line["usage_class"]],
            "per": line["unit"],
            "currency": line["currency"],
            "rate": line["rate"],
            "connect_fee": line["connection_fee"] or None,
            "valid_from": line["valid_from"],
            "valid_to": line["valid_to"],
            "comment": f"{card.name} line {line['line_no']}",
        }
        match line["destination_type"]:
            case "network":
                yield line["line_no"], row | {"plmn": line["destination"].replace("-", "")}
            case "country":
                for mcc in _codes_of(line["destination"]):
                    yield line["line_no"], row | {"mcc": mcc}
            case "zone":
                yield line["line_no"], row | {"zone": line["destination"]}
            case _:
                prefixes.append((line["line_no"], line["destination"], row))
    yield from _by_prefix(prefixes, card)


def _by_prefix(
    lines: Sequence[tuple[int, str, dict[str, Any]]], card: Path
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield one row per price of dialled numbers, for all prefixes that have it.

    The longest prefix decides: a row leaves out the longer prefixes that have another price, so
    that the order of the rows has no meaning.
    """
    scope = ("charge", "valid_from", "valid_to")
    priced = ("per", "currency", "rate", "connect_fee")
    scopes: dict[tuple[Any, ...], dict[str, tuple[int, dict[str, Any]]]] = defaultdict(dict)
    problems: list[Problem] = []
    for line_no, prefix, row in lines:
        held = scopes[tuple(row[name] for name in scope)]
        if prefix in held and any(held[prefix][1][name] != row[name] for name in priced):
            before = held[prefix][0]
            problems.append(
                Problem(
                    str(card), ("destination",), line_no,
                    f"prices prefix {prefix} unlike line {before}; give the lines dates, or ask "
                    "the carrier which holds and filter the other in the feed",
                )
            )  # fmt: skip
        held.setdefault(prefix, (line_no, row))
    _refuse(problems)
    for held in scopes.values():
        groups: dict[tuple[Any, ...], list[str]] = defaultdict(list)
        for prefix, (_, row) in held.items():
            groups[tuple(row[name] for name in priced)].append(prefix)
        for price, members in groups.items():
            line_no, row = held[members[0]]
            nested = {p: _elsewhere(p, price, held, priced) for p in sorted(members)}
            plain = [prefix for prefix, others in nested.items() if not others]
            parts = [_starts(plain)] if plain else []
            parts += [
                f"({_starts([prefix])} and not {_starts(others)})"
                for prefix, others in nested.items() if others
            ]  # fmt: skip
            listed = ", ".join(str(held[prefix][0]) for prefix in members[:20])
            told = f"{card.name} lines {listed}{' ...' if len(members) > 20 else ''}"
            yield (
                line_no,
                row
                | {
                    "when": " or ".join(parts),
                    "comment": row["comment"] if len(members) == 1 else told,
                },
            )


def _elsewhere(
    prefix: str,
    price: tuple[Any, ...],
    held: Mapping[str, tuple[int, dict[str, Any]]],
    priced: Sequence[str],
) -> list[str]:
    """The longer prefixes of another price that a prefix must leave out, outermost only."""
    longer = [p for p in held if p.startswith(prefix) and p != prefix]
    other = [p for p in longer if tuple(held[p][1][name] for name in priced) != price]
    return sorted(p for p in other if not any(p.startswith(q) and p != q for q in other))


def _starts(prefixes: Sequence[str]) -> str:
    listed = ", ".join(f'"{prefix}"' for prefix in prefixes)
    return f"peer_number starts {f'({listed})' if len(prefixes) > 1 else listed}"


def _text(value: object) -> str:
    return f"{value.normalize():f}" if hasattr(value, "normalize") else str(value)
