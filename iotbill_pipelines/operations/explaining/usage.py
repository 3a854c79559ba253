"""A usage charge in words: records to units, units to prices, one record after another."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import Any

from iotbill_pipelines.operations.explaining.prices import Slice, cost, finished, stepped
from iotbill_pipelines.operations.explaining.words import (
    Result,
    Row,
    Step,
    Unexplained,
    counted,
    exactly,
    in_money,
    price_terms,
)

_AFTER_ALL = datetime.max  # noqa: DTZ901 - naive UTC, as records carry
_MANY = 6
"""Single prices that are told one by one; of more, the rest is told as a sum."""


@dataclass(frozen=True)
class PricedCharge:
    """A usage charge with its prices, their tiers, its currency and the name of its unit."""

    charge: Row
    prices: Mapping[str, Row]
    tiers: Mapping[str, Sequence[Row]]
    currency: str
    per: str

    def price(self, price_id: str) -> Row:
        """A price by id. Raises Unexplained if the snapshot's catalog has none of that name."""
        found = self.prices.get(price_id)
        if found is None:
            raise Unexplained(f"the snapshot's catalog has no price {price_id!r}")
        return found


@dataclass
class _Entry:
    """A rated record, or a part of one: what it counts and whether it connects."""

    record: Row
    units: int
    connections: int

    @property
    def order(self) -> tuple[Any, ...]:
        record = self.record
        return record["event_start"], record["price_id"], record["pooled"], self.units


@dataclass
class _Used:
    """Use of one price, drawn from a pool or not."""

    price_id: str
    pooled: bool
    records: int = 0
    units: int = 0
    free: int = 0
    first: datetime = _AFTER_ALL


@dataclass(frozen=True)
class Free:
    """Free units of a window beside the charge's own: ``more`` that earlier windows left over or
    that were granted once; ``days`` of ``of_days`` where the charge grants its own by days."""

    more: int = 0
    days: int = 1
    of_days: int = 1


def counted_units(terms: PricedCharge, records: Sequence[Row], free: Free) -> int:
    """Units that a charge counts of its records of one window, after those that are free."""
    steps: list[Step] = []
    used, drawn = _by_price(terms.charge, _counted_entries(terms.charge, records, steps), steps)
    _draw_allowance(used, drawn, terms, free, steps)
    return sum(part.units - part.free for part in used)


def explain_usage(terms: PricedCharge, records: Sequence[Row], free: Free) -> Result:
    """Retell a charge from its rated records of one window; the order of records is no matter."""
    charge = terms.charge
    steps: list[Step] = []
    total = sum(record["quantity"] for record in records)
    lines = len({(r["file_key"], r["line_no"]) for r in records})
    steps.append(Step(f"{lines:,} records of together {total:,} units"))
    entries = _counted_entries(charge, records, steps)
    used, drawn = _by_price(charge, entries, steps)
    _draw_allowance(used, drawn, terms, free, steps)
    exact = Fraction(0)
    connections = _connections(terms, entries)
    groups: dict[str, list[_Used]] = defaultdict(list)
    for part in used:
        price = terms.price(part.price_id)
        if part.pooled:
            taken = counted(part.units - part.free, charge, terms.per)
            steps.append(
                Step(f"{part.records:,} records, {taken} of price {part.price_id}: drawn from the "
                     "pool, not charged here", in_money(0, terms.currency))
            )  # fmt: skip
        elif price["counted"] == "period":
            # tiers count on over the dated versions of a price for the same usage
            groups[price["count_group"]].append(part)
        else:
            mine = [entry for entry in entries if entry.record["price_id"] == part.price_id]
            exact += _one_by_one(terms, part, mine, steps)
    for group in sorted(groups):
        parts = sorted(groups[group], key=lambda part: (part.first, part.price_id))
        reached, whole = 0, sum(part.units - part.free for part in parts)
        for part in parts:
            price, units = terms.price(part.price_id), part.units - part.free
            zone = f", zone {price['zone']}" if price["zone"] else ""
            units_told = counted(units, charge, terms.per)
            steps.append(
                Step(f"{part.records:,} records, {units_told} at {price_terms(price)}{zone}")
            )
            span = Slice(reached, reached + units, whole, connections[part.price_id])
            amount, told = cost(price, terms.tiers[part.price_id], charge, terms.per, span)
            steps += told
            reached += units
            exact += amount
    return finished(exact, charge, terms.currency, steps)


def _counted_entries(charge: Row, records: Sequence[Row], steps: list[Step]) -> list[_Entry]:
    """What every record counts: its quantity in increments, itself, or its cost."""
    initial, subsequent = charge["increment_initial"], charge["increment_subsequent"]
    wholes: dict[tuple[int, int], int] = defaultdict(int)
    lasts: dict[tuple[int, int], int] = defaultdict(int)
    for record in records:
        line = (record["file_key"], record["line_no"])
        wholes[line] += record["quantity"]
        lasts[line] = max(lasts[line], record["part_no"])
    free = _free_lines(charge, records)
    entries = []
    for record in records:
        line = (record["file_key"], record["line_no"])
        units = record["quantity"]
        if charge["counts"] == "cost":
            units = record["rated_quantity"]
        elif charge["counts"] == "events":
            units = -1 if units < 0 else 1
        elif charge["increment_point"] == "record" and record["part_no"] == lasts[line]:
            # of a duration that is split the whole is rounded once, in its last part
            units += stepped(wholes[line], initial, subsequent) - wholes[line]
        connects = 0
        if line in free or record.get("billed_quantity") == 0:
            units = 0
        elif record["part_no"] == 1 and record["quantity"]:
            connects = -1 if record["quantity"] < 0 else 1
        if units and "billed_quantity" in record:
            units = max(0, units - (record["quantity"] - record["billed_quantity"]))
        entries.append(_Entry(record, units, connects))
    _tell_counting(charge, records, entries, len(free), steps)
    return entries


def _tell_counting(
    charge: Row, records: Sequence[Row], entries: Sequence[_Entry], free: int, steps: list[Step]
) -> None:
    waited = sum(r["quantity"] - r["billed_quantity"] for r in records if "billed_quantity" in r)
    if waited:
        steps.append(Step(f"{waited:,} units were used before first use was complete: free"))
    if free:
        steps.append(Step(f"the first {free:,} records are free"))
    initial, subsequent = charge["increment_initial"], charge["increment_subsequent"]
    if charge["counts"] != "quantity":
        what = "records themselves" if charge["counts"] == "events" else "costs that records tell"
        steps.append(Step(f"counted are the {what}"))
    elif charge["increment_point"] == "record" and (initial, subsequent) != (1, 1):
        after = sum(entry.units for entry in entries)
        steps.append(
            Step(f"rounded up by {initial:,}/{subsequent:,} units per record: {after:,} units")
        )


def _free_lines(charge: Row, records: Sequence[Row]) -> set[tuple[int, int]]:
    if not charge["allowance_events"]:
        return set()
    whole = [record for record in records if record["part_no"] == 1]
    names = ("event_start", "price_id", "quantity", "file_key", "line_no")
    whole.sort(key=lambda record: tuple(record[name] for name in names))
    return {(r["file_key"], r["line_no"]) for r in whole[: charge["allowance_events"]]}


def _by_price(
    charge: Row, entries: Sequence[_Entry], steps: list[Step]
) -> tuple[list[_Used], list[tuple[datetime, str, bool, int]]]:
    """Units by price after rounding of sessions and periods; and the units in order of time."""
    used: dict[tuple[str, bool], _Used] = {}
    drawn = []
    for entry in entries:
        record = entry.record
        key = (record["price_id"], record["pooled"])
        part = used.setdefault(key, _Used(*key))
        part.records += record["part_no"] == 1
        part.units += entry.units
        part.first = min(part.first, record["event_start"])
        drawn.append((record["event_start"], *key, entry.units))
    if charge["aggregation"] != "sum":
        return _one_number(charge, entries, list(used.values()), steps), []
    initial, subsequent = charge["increment_initial"], charge["increment_subsequent"]
    point = charge["increment_point"]
    groups: Iterable[list[_Entry]] = ()
    if point == "session":
        sessions: dict[tuple[str, str], list[_Entry]] = defaultdict(list)
        for entry in entries:
            sessions[entry.record["used_by"], entry.record["session_key"]].append(entry)
        groups = sessions.values()
    elif point == "service_period":
        groups = [list(entries)]
    extra: dict[tuple[str, bool], int] = defaultdict(int)
    for group in groups:
        units = sum(entry.units for entry in group)
        last = max(group, key=lambda e: e.order[:3]).record
        extra[last["price_id"], last["pooled"]] += stepped(units, initial, subsequent) - units
    for key, units in extra.items():
        used[key].units += units
        drawn.append((_AFTER_ALL, *key, units))
    if (initial, subsequent) != (1, 1) and point in ("session", "service_period"):
        after = sum(part.units for part in used.values())
        steps.append(
            Step(f"rounded up by {initial:,}/{subsequent:,} units per {point.replace('_', ' ')}: "
                 f"{after:,} units")
        )  # fmt: skip
    return list(used.values()), drawn


def _one_number(
    charge: Row, entries: Sequence[_Entry], used: list[_Used], steps: list[Step]
) -> list[_Used]:
    """The greatest record, or how many different values there are, at the prices they belong to."""
    parts = {part.price_id: part for part in used}
    for part in used:
        part.units = 0
    if charge["aggregation"] == "peak":
        greatest = max(entry.units for entry in entries)
        firsts: dict[tuple[str, str], datetime] = {}
        for entry in entries:
            key = (entry.record["price_id"], entry.record["used_by"])
            at = entry.record["event_start"]
            firsts[key] = min(firsts.get(key, at), at)
        price_id = min(
            (firsts[e.record["price_id"], e.record["used_by"]], e.record["price_id"])
            for e in entries
            if e.units == greatest
        )[1]
        parts[price_id].units = greatest
        steps.append(Step(f"the greatest record counts: {greatest:,} units"))
        return used
    seen: set[str] = set()
    for entry in sorted(
        entries,
        key=lambda e: (e.record["event_start"], e.record["price_id"], e.record["used_by"]),
    ):
        value = entry.record["session_key"]
        if value and value not in seen:
            seen.add(value)
            parts[entry.record["price_id"]].units += 1
    steps.append(Step(f"counted is how many different values records have: {len(seen):,}"))
    return used


def _draw_allowance(
    used: Sequence[_Used],
    drawn: Iterable[tuple[datetime, str, bool, int]],
    terms: PricedCharge,
    given: Free,
    steps: list[Step],
) -> None:
    charge, per = terms.charge, terms.per
    own: int = charge["allowance_quantity"] * given.days // given.of_days
    if own != charge["allowance_quantity"]:
        whole = counted(charge["allowance_quantity"], charge, per)
        steps.append(
            Step(f"of {whole} that are free, {given.days}/{given.of_days} days grant "
                 f"{counted(own, charge, per)}")
        )  # fmt: skip
    allowance = own + given.more
    if not allowance:
        return
    if given.more:
        left = counted(given.more, charge, per)
        steps.append(
            Step(f"free are {counted(own, charge, per)} of this window and {left} left from before")
        )
    parts = {(part.price_id, part.pooled): part for part in used}
    if len(used) == 1:
        used[0].free = max(0, min(used[0].units, allowance))
    else:
        reached = 0
        for _, price_id, pooled, units in sorted(drawn):
            before, reached = reached, reached + units
            covered = [max(0, min(at, allowance)) for at in (before, reached)]
            parts[price_id, pooled].free += covered[1] - covered[0]
    free = sum(part.free for part in used)
    steps.append(
        Step(f"allowance of {counted(allowance, charge, per)}: {counted(free, charge, per)} are "
             "free" + (", the earliest first" if len(used) > 1 else ""))
    )  # fmt: skip


def _connections(terms: PricedCharge, entries: Sequence[_Entry]) -> Counter[str]:
    """Connections by price: records that used something, sessions at their first record's price."""
    ordered = sorted(
        (entry for entry in entries if entry.connections),
        key=lambda e: (e.record["event_start"], e.record["price_id"]),
    )
    seen: set[object] = set()
    found: Counter[str] = Counter()
    for entry in ordered:
        record, price = entry.record, terms.price(entry.record["price_id"])
        connection: object = (record["file_key"], record["line_no"])
        if price["connect_per"] == "session":
            connection = record["session_key"]
        if connection not in seen and price["connect_e12"]:
            found[record["price_id"]] += entry.connections
        seen.add(connection)
    return found


def _one_by_one(
    terms: PricedCharge, part: _Used, entries: Sequence[_Entry], steps: list[Step]
) -> Fraction:
    """Price each day, session or record by itself; alike ones are told once."""
    price = terms.price(part.price_id)
    units: Counter[str] = Counter()
    connections: Counter[str] = Counter()
    for entry in entries:
        record = entry.record
        key = {
            "day": str(record["local_date"]),
            "session": record["session_key"],
            "record": f"{record['file_key']}/{record['line_no']}/{record['part_no']}",
        }[price["counted"]]
        units[key] += entry.units
        connections[key] += entry.connections
    alike = Counter(
        (
            units[key],
            max(-1, min(1, connections[key]))
            if price["connect_per"] == "session"
            else connections[key],
        )
        for key in units
    )
    steps.append(
        Step(f"{part.records:,} records, each {price['counted']} by itself, at "
             f"{price_terms(price)}")
    )  # fmt: skip
    exact, untold = Fraction(0), Fraction(0)
    for number, ((count, fees), times) in enumerate(sorted(alike.items())):
        amount, told = cost(
            price, terms.tiers[part.price_id], terms.charge, terms.per,
            Slice(0, count, count, fees),
        )  # fmt: skip
        exact += amount * times
        if number >= _MANY:
            untold += amount * times
            continue
        words = counted(count, terms.charge, terms.per)
        steps += [Step(f"  {times:,} of {words}", exactly(amount * times)), *told]
    if len(alike) > _MANY:
        steps.append(Step(f"  {len(alike) - _MANY:,} other counts", exactly(untold)))
    return exact
