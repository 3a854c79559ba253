"""The arithmetic of one charge in words and numbers, in plain Python and exact fractions.

Nothing here shares code with the SQL that charges were computed by, but for the rounding rules of
:mod:`engine.money` and the calendar of :mod:`engine.calendars`: days are walked one by one, records
are added one by one. An explanation that ends at another amount than the ledger's is a finding.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.money import RATE_SCALE, apportion, minor_digits, round_half_up

Row = Mapping[str, Any]
_RATE_UNIT = 10**RATE_SCALE
_AFTER_ALL = datetime.max  # noqa: DTZ901 - naive UTC, as records carry


class Unexplained(LookupError):
    """The stored data do not hold what the explanation needs; the message says what is missing."""


@dataclass(frozen=True)
class Unit:
    """What is rounded once: a charge of a service in a usage period (RULEBOOK §0.2)."""

    usage_period: str
    level: str
    account_id: str
    service_id: str
    charge_id: str


@dataclass(frozen=True)
class Step:
    """A line of an explanation: what was done, and the amount it gave, where it gave one."""

    text: str
    amount: str = ""


@dataclass(frozen=True)
class Result:
    """The steps of a charge and the amount that they lead to, in minor units."""

    steps: list[Step]
    amount_minor: int
    currency: str


@dataclass
class Evidence:
    """What is known about charges of a usage period: terms, states and offers, records, pools."""

    period: Month
    charges: dict[str, Row]
    prices: dict[str, list[Row]]
    tiers: dict[str, list[Row]]
    core_states: dict[str, str]
    offers: dict[str, Row]
    share_plans: dict[str, Row]
    share_buckets: dict[str, Row]
    """Overage charge -> the bucket that it is for."""
    parents: dict[str, str | None]
    """Account -> the account that it reports to."""
    service_states: dict[str, list[Row]]
    service_offers: dict[tuple[str, str], list[Row]]
    records: dict[Unit, list[Row]]
    pools: dict[tuple[str, str, date], Row]
    """Level, pool and window -> the pool as settled."""
    pool_parts: dict[tuple[str, str, date], list[Row]]
    waiting: dict[str, str] = field(default_factory=dict)
    """Offer -> state in which its services wait for their first use."""
    agreed: dict[Unit, Result] = field(default_factory=dict)
    """Charges of contracts, with their explanation (:mod:`.agreements`)."""
    contract_prices: dict[tuple[str, str, str], list[Row]] = field(default_factory=dict)
    """(Account, service, catalog price) -> days on which a contract's price stands in for it."""
    units_of: dict[str, str] = field(default_factory=dict)
    """Charge -> name of the priced unit, where the catalog's text is at hand."""

    def price_on(self, charge_id: str, day: date, fits: Callable[[Row], bool]) -> Row | None:
        """The first price by priority that fits and is in force on a day."""
        return next(
            (
                price
                for price in self.prices.get(charge_id, [])
                if price["priority"] > 0
                and fits(price)
                and price["valid_from"] <= day
                and (price["valid_to"] is None or day < price["valid_to"])
            ),
            None,
        )

    def agreed_on(self, unit: Unit, price: Row | None, day: date) -> Row | None:
        """The price that a contract puts in place of a catalog price on a day, or that price."""
        if price is None:
            return None
        key = unit.account_id, unit.service_id, price["price_id"]
        agreed = next(
            (
                row["price_id"]
                for row in self.contract_prices.get(key, [])
                if row["from_date"] <= day < row["to_date"]
            ),
            None,
        )
        if agreed is None:
            return price
        return next(row for row in self.prices[price["charge_id"]] if row["price_id"] == agreed)

    def offer_on(self, service_id: str, level: str, day: date) -> Row | None:
        """The offer of a service at a level on a day: the newest one begun, unless it has ended."""
        begun = [
            row
            for row in self.service_offers.get((service_id, level), [])
            if row["valid_from"] <= day
        ]
        newest = begun[-1] if begun else None
        if newest is None or (newest["valid_to"] is not None and newest["valid_to"] <= day):
            return None
        return newest

    def state_on(self, service_id: str, day: date) -> str | None:
        """The state that owns a day: the last change up to its end."""
        owner = None
        for row in self.service_states.get(service_id, []):
            if row["changed_at"].date() <= day:
                owner = row["state"]
        return owner


def explain_unit(evidence: Evidence, unit: Unit) -> Result:
    """Recompute a charge and tell every step.

    Raises Unexplained where terms or evidence are missing.
    """
    if unit in evidence.agreed:
        return evidence.agreed[unit]
    charge = evidence.charges.get(unit.charge_id)
    if charge is None:
        raise Unexplained(f"the catalog of this charge's snapshot has no charge {unit.charge_id!r}")
    waiting = evidence.waiting.get(charge["offer_id"] or "")
    states = {row["state"] for row in evidence.service_states.get(unit.service_id, [])}
    if waiting in states:
        raise Unexplained(
            f"service {unit.service_id} waits for its first use in state {waiting!r}; what it "
            "uses before is not retold here, `iotbill trace` shows components and records"
        )
    _refuse_unknown(f"charge {unit.charge_id}", charge, _AT_ONCE)
    match charge["kind"]:
        case "usage":
            return _usage(evidence, unit, charge)
        case "recurring":
            return _recurring(evidence, unit, charge)
        case "transition":
            return _transitions(evidence, unit, charge)
        case "overage":
            return _overage(evidence, unit, charge)
    raise Unexplained(f"charges of kind {charge['kind']!r} have no explanation")


# --------------------------------------------------------------------------------- usage


@dataclass
class _Used:
    """Use of one price, drawn from a pool or not."""

    price_id: str
    pooled: bool
    records: int = 0
    quantity: int = 0
    rated: int = 0
    free: int = 0
    first: datetime = _AFTER_ALL
    last: datetime = datetime.min  # noqa: DTZ901


def _usage(evidence: Evidence, unit: Unit, charge: Row) -> Result:
    currency = evidence.offers[charge["offer_id"]]["currency"]
    per = _per(evidence, charge)
    records = evidence.records.get(unit, [])
    if not records:
        raise Unexplained("no rated record of this charge is in the lake any more")
    steps: list[Step] = []
    _refuse_unknown(f"charge {unit.charge_id}", charge, _PLAIN_CHARGE)
    used, entries = _rounded_use(records, charge, steps)
    _draw_allowance(used, entries, charge, steps, per)
    exact = Fraction(0)
    groups: dict[str, list[_Used]] = defaultdict(list)
    for part in used:
        price = _price(evidence, charge, part.price_id)
        if part.pooled:
            steps.append(
                Step(
                    f"{part.records:,} records, {_count(part.rated - part.free, charge, per)} of "
                    f"price {part.price_id}: drawn from the pool, not charged here",
                    _money(0, currency),
                )
            )
        else:
            # tiers count on over the dated versions of a price for the same usage
            groups[price["count_group"]].append(part)
    for group in sorted(groups):
        parts = sorted(groups[group], key=lambda part: (part.first, part.price_id))
        total = sum(part.rated - part.free for part in parts)
        reached = 0
        for part in parts:
            price = _price(evidence, charge, part.price_id)
            units = part.rated - part.free
            steps.append(
                Step(
                    f"{part.records:,} records, {_count(units, charge, per)} at {_terms(price)}"
                    + (f", zone {price['zone']}" if price["zone"] else "")
                )
            )
            cost, told = _cost(
                price, evidence.tiers[part.price_id], charge, per, reached, reached + units, total
            )
            steps += told
            reached += units
            exact += cost
    return _finished(exact, charge, currency, steps)


def _rounded_use(
    records: Sequence[Row], charge: Row, steps: list[Step]
) -> tuple[list[_Used], list[tuple[datetime, str, bool, int]]]:
    """Round units where the charge rounds them; return the use by price and its units in order."""
    initial, subsequent = charge["increment_initial"], charge["increment_subsequent"]
    point = charge["increment_point"]
    by_price: dict[tuple[str, bool], _Used] = {}
    entries: list[tuple[datetime, str, bool, int]] = []
    sessions: dict[str, list[Row]] = defaultdict(list)
    for record in records:
        key = (record["price_id"], record["pooled"])
        part = by_price.setdefault(key, _Used(*key))
        rated = record["quantity"]
        if point == "record":
            rated = _stepped(rated, initial, subsequent)
        elif point == "session":
            sessions[record["session_key"]].append(record)
        part.records += 1
        part.quantity += record["quantity"]
        part.rated += rated
        part.first = min(part.first, record["event_start"])
        part.last = max(part.last, record["event_start"])
        entries.append((record["event_start"], *key, rated))
    before = sum(part.quantity for part in by_price.values())
    groups: Iterable[list[Row]] = sessions.values() if point == "session" else ()
    if point == "service_period":
        groups = [list(records)]
    for group in groups:
        total = sum(record["quantity"] for record in group)
        added = _stepped(total, initial, subsequent) - total
        last = max(group, key=lambda r: (r["event_start"], r["price_id"], r["pooled"]))
        by_price[last["price_id"], last["pooled"]].rated += added
        if added:
            entries.append((_AFTER_ALL, last["price_id"], last["pooled"], added))
    after = sum(part.rated for part in by_price.values())
    steps.append(Step(f"{len(records):,} records of together {before:,} units"))
    if (initial, subsequent) != (1, 1) and point != "pool_period":
        steps.append(
            Step(
                f"rounded up by {initial:,}/{subsequent:,} units per {point.replace('_', ' ')}: "
                f"{after:,} units"
            )
        )
    return list(by_price.values()), entries


def _stepped(units: int, initial: int, subsequent: int) -> int:
    if units <= 0:
        return units
    more = max(0, units - initial)
    return initial + -(-more // subsequent) * subsequent


def _draw_allowance(
    used: Sequence[_Used],
    entries: Iterable[tuple[datetime, str, bool, int]],
    charge: Row,
    steps: list[Step],
    per: str,
) -> None:
    allowance = left = charge["allowance_quantity"]
    if not allowance:
        return
    parts = {(part.price_id, part.pooled): part for part in used}
    if len(used) == 1:
        used[0].free = min(used[0].rated, allowance)
    else:
        for _, price_id, pooled, units in sorted(entries):
            taken = max(0, min(units, left))
            parts[price_id, pooled].free += taken
            left -= units
    free = sum(part.free for part in used)
    steps.append(
        Step(
            f"allowance of {_count(allowance, charge, per)}: {_count(free, charge, per)} are free"
            + (", the earliest first" if len(used) > 1 else "")
        )
    )


_AT_ONCE: Mapping[str, object] = {"transition_after_months": 0, "transition_after_days": 0}

_PLAIN_CHARGE: Mapping[str, object] = {
    "counts": "quantity",
    "aggregation": "sum",
    "scope": "service",
    "allowance_windows": 0,
    "once_quantity": 0,
    "allowance_events": 0,
    "allowance_minor": 0,
    "rounding_mode": "half_up",
    "minimum_at_zero": False,
    "time_policy": "start_time",
}
_PLAIN_PRICE: Mapping[str, object] = {
    "edge": "inclusive",
    "package_rounding": "up",
    "counted": "period",
    "at_zero": False,
    "connect_e12": 0,
    "least_e12": None,
    "most_e12": None,
    "rounding_mode": None,
}


def _refuse_unknown(what: str, row: Row, plain: Mapping[str, object]) -> None:
    """Say so where terms ask for arithmetic that is not retold here, rather than tell it wrong."""
    for name, value in plain.items():
        if name in row and row[name] != value:
            raise Unexplained(
                f"{what} has {name} {row[name]!r}; its arithmetic is not retold, "
                "`iotbill trace` shows its components and records"
            )


_CUMULATIVE = ("flat", "graduated", "package", "threshold_excess")
_WHOLE = ("volume", "stairstep", "threshold_all")


def _cost(
    price: Row, tiers: Sequence[Row], charge: Row, per: str, start: int, end: int, total: int
) -> tuple[Fraction, list[Step]]:
    """Price the units after ``start`` up to ``end`` of a count that ends at ``total``."""
    model, size = price["model"], charge["unit_size"]
    _refuse_unknown(f"price {price['price_id']}", price, _PLAIN_PRICE)
    for tier in tiers:
        _refuse_unknown(f"a tier of price {price['price_id']}", tier, {"block_quantity": 0})
    if start >= end:
        return Fraction(0), []
    if model in _CUMULATIVE:
        return _cumulative(price, tiers, charge, per, start, end)
    if model not in _WHOLE:
        raise Unexplained(f"price {price['price_id']} has the model {model!r}, unknown here")
    tier = next(t for t in tiers if t["upper_quantity"] is None or total <= t["upper_quantity"])
    rate, flat = Fraction(tier["rate_e12"], _RATE_UNIT), Fraction(tier["flat_e12"], _RATE_UNIT)
    amount = Fraction(0) if model == "stairstep" else Fraction(end - start, size) * rate
    told = [Step(f"the period ends at {_count(total, charge, per)}: {_bounds(tier, charge, per)}")]
    if model != "stairstep":
        told.append(
            Step(f"  {_units(end - start, charge)} x {_number(rate)} per {per}", _number(amount))
        )
    if flat and end == total:
        amount += flat
        told.append(Step("  flat price of the tier", _number(flat)))
    return amount, told


def _cumulative(
    price: Row, tiers: Sequence[Row], charge: Row, per: str, start: int, end: int
) -> tuple[Fraction, list[Step]]:
    size, told, amount = charge["unit_size"], [], Fraction(0)
    if price["model"] == "package":
        start, end = -(-start // size) * size, -(-end // size) * size
        told.append(Step(f"  {(end - start) // size:,} packages of {per} begun"))
    for tier in tiers:
        upper = end if tier["upper_quantity"] is None else min(end, tier["upper_quantity"])
        units = upper - max(start, tier["lower_quantity"])
        if units <= 0:
            continue
        rate, flat = Fraction(tier["rate_e12"], _RATE_UNIT), Fraction(tier["flat_e12"], _RATE_UNIT)
        cost = Fraction(units, size) * rate
        where = f"{_bounds(tier, charge, per)}: " if len(tiers) > 1 else ""
        told.append(
            Step(f"  {where}{_units(units, charge)} x {_number(rate)} per {per}", _number(cost))
        )
        amount += cost
        if flat and start <= tier["lower_quantity"]:
            told.append(Step("  flat price of the tier, entered", _number(flat)))
            amount += flat
    return amount, told


def _finished(exact: Fraction, charge: Row, currency: str, steps: list[Step]) -> Result:
    """Round once, then hold between the least and the greatest amount (RT-25)."""
    digits = minor_digits(currency)
    minor = int(round_half_up(exact, digits).scaleb(digits))
    rounded = f"rounded once, half up, to {digits} decimals of {currency}"
    steps.append(Step(f"sum {_number(exact)}, {rounded}", _money(minor, currency)))
    least, most = charge["minimum_minor"], charge["maximum_minor"]
    if least is not None and minor < least and exact:
        minor = least
        steps.append(Step("raised to the least amount of the charge", _money(minor, currency)))
    if most is not None and minor > most:
        minor = most
        steps.append(Step("lowered to the greatest amount of the charge", _money(minor, currency)))
    return Result(steps, minor, currency)


# ------------------------------------------------------------------------------ recurring


@dataclass(frozen=True)
class _Segment:
    state: str
    price: Row
    start: date
    end: date

    @property
    def days(self) -> int:
        return (self.end - self.start).days


def _recurring(evidence: Evidence, unit: Unit, charge: Row) -> Result:
    period = evidence.period
    currency = evidence.offers[charge["offer_id"]]["currency"]
    segments = list(_segments(evidence, unit, charge))
    basis, billed = charge["basis"], sum(segment.days for segment in segments)
    steps = [
        Step(
            f"recurring price in {charge['billing']}, basis {basis}: {billed} of {period.days} "
            f"days of {period} are billed; the day of a change belongs to the new state"
        )
    ]
    exact = Fraction(0)
    for number, segment in enumerate(segments):
        follows = number > 0 and segments[number - 1].end == segment.start
        share, words = _share(segment, basis, billed, period, follows=follows)
        first = evidence.tiers[segment.price["price_id"]][0]
        price = Fraction(first["rate_e12"] + first["flat_e12"], _RATE_UNIT)
        exact += price * share
        steps.append(
            Step(
                f"  {segment.state} from {segment.start} to before {segment.end}, {segment.days} "
                f"days: {_number(price)} x {words}, {_terms(segment.price)}",
                _number(price * share),
            )
        )
    return _finished(exact, {**charge, **_NO_BOUNDS}, currency, steps)


_NO_BOUNDS = {"minimum_minor": None, "maximum_minor": None}


def _segments(evidence: Evidence, unit: Unit, charge: Row) -> Iterator[_Segment]:
    """Walk the days of the period; days of one state and price are one segment."""
    day, current = evidence.period.start, None
    while day < evidence.period.end:
        state, price = None, None
        offer = evidence.offer_on(unit.service_id, unit.level, day)
        if (
            offer is not None
            and offer["offer_id"] == charge["offer_id"]
            and offer["payer_account_id"] == unit.account_id
        ):
            state = evidence.state_on(unit.service_id, day)
            core = evidence.core_states.get(state or "")
            if core is not None and core != "cancelled":
                price = evidence.price_on(charge["charge_id"], day, _for_state(state, core))
                price = evidence.agreed_on(unit, price, day)
        if current is not None and (
            price is None or (current.state, current.price) != (state, price)
        ):
            yield current
            current = None
        following = day + timedelta(days=1)
        if price is not None:
            begun = day if current is None else current.start
            current = _Segment(state or "", price, begun, following)
        day = following
    if current is not None:
        yield current


def _for_state(state: str | None, core: str) -> Callable[[Row], bool]:
    """A price of the state itself; one without state is for every core-active state."""
    return lambda price: price["state"] == state or (price["state"] is None and core == "active")


def _share(
    segment: _Segment, basis: str, billed: int, period: Month, *, follows: bool
) -> tuple[Fraction, str]:
    """The part of the period's price that a segment owes, and how it is reckoned."""
    days = segment.days
    match basis:
        case "actual":
            return Fraction(days, period.days), f"{days}/{period.days}"
        case "actual_30":
            whole = min(billed, 30)
            return (
                Fraction(days * whole, 30 * billed),
                f"{whole}/30, of which {days}/{billed} of the days",
            )
        case "strict_30_360":
            reached = 30 if segment.end == period.end else min(segment.end.day - 1, 30)
            before = min(segment.start.day - 1, 30) if follows else min(segment.start.day, 30) - 1
            counted = max(0, reached - before)
            return Fraction(counted, 30), f"{counted}/30 (the month counts 30 days)"
        case "none" | "full_on_activation":
            words = "1 (any day costs the whole month)"
            return Fraction(days, billed), words if days == billed else f"{days}/{billed} of it"
    raise Unexplained(f"the proration basis {basis!r} is unknown here")


# ----------------------------------------------------------------------------- transitions


def _transitions(evidence: Evidence, unit: Unit, charge: Row) -> Result:
    currency = evidence.offers[charge["offer_id"]]["currency"]
    steps: list[Step] = []
    exact, before = Fraction(0), "NEW"
    for row in evidence.service_states.get(unit.service_id, []):
        left, before = before, row["state"]
        day = row["changed_at"].date()
        if (
            left == row["state"]
            or (left, row["state"]) != (charge["transition_from"], charge["transition_to"])
            or not evidence.period.start <= day < evidence.period.end
            or not _sold(evidence, unit, charge, day, row["state"])
        ):
            continue
        price = evidence.price_on(charge["charge_id"], day, lambda p: p["zone"] is None)
        price = evidence.agreed_on(unit, price, day)
        if price is None:
            continue
        first = evidence.tiers[price["price_id"]][0]
        cost = Fraction(first["rate_e12"] + first["flat_e12"], _RATE_UNIT)
        exact += cost
        steps.append(
            Step(
                f"changed from {left} to {row['state']} on {day}: once, never prorated, "
                f"{_terms(price)}",
                _number(cost),
            )
        )
    return _finished(exact, {**charge, **_NO_BOUNDS}, currency, steps)


def _sold(evidence: Evidence, unit: Unit, charge: Row, day: date, state: str) -> bool:
    """Whether the charge's offer holds on the day; a cancellation still has the one it ends."""
    offer = evidence.offer_on(unit.service_id, unit.level, day)
    if offer is None and evidence.core_states.get(state) == "cancelled":
        offer = evidence.offer_on(unit.service_id, unit.level, day - timedelta(days=1))
    return (
        offer is not None
        and offer["offer_id"] == charge["offer_id"]
        and offer["payer_account_id"] == unit.account_id
    )


# ------------------------------------------------------------------------------------ pools


def _overage(evidence: Evidence, unit: Unit, charge: Row) -> Result:
    steps: list[Step] = []
    total, currency = 0, ""
    for (level, pool_id, window), parts in sorted(evidence.pool_parts.items()):
        pool = evidence.pools[level, pool_id, window]
        carried = any(
            (part["account_id"], part["service_id"]) == (unit.account_id, unit.service_id)
            for part in parts
        )
        if level != unit.level or pool["charge_id"] != unit.charge_id or not carried:
            continue
        currency = pool["currency"]
        minor = _pool(evidence, unit, charge, pool, parts, steps)
        total += minor
    if not currency:
        raise Unexplained("no pool of this charge and service is in the lake any more")
    return Result(steps, total, currency)


def _pool(
    evidence: Evidence,
    unit: Unit,
    charge: Row,
    pool: Row,
    parts: Sequence[Row],
    steps: list[Step],
) -> int:
    plan = evidence.share_plans[pool["share_plan_id"]]
    bucket = evidence.share_buckets[charge["charge_id"]]
    per, currency = _per(evidence, charge), pool["currency"]
    size, grown = _pool_size(bucket, pool, sum(part["contribution"] for part in parts))
    used = sum(part["used"] for part in parts)
    over = max(0, used - size)
    members = sum(part["contribution"] > 0 for part in parts)
    month = evidence.period
    days = ""
    if (pool["window_start"], pool["window_end"]) != (month.start, month.end):
        days = f" from {pool['window_start']} to before {pool['window_end']}"
    counted: Row = {**charge, "unit_size": 1} if bucket["extra_quantity"] else charge
    unit_name = "units" if bucket["extra_quantity"] else per
    steps.append(
        Step(
            f"pool {pool['pool_id']}{days}: {members:,} contributing services, size "
            f"{_count(size, counted, unit_name)} ({grown}), used "
            f"{_count(used, counted, unit_name)}, overage {_count(over, counted, unit_name)}"
        )
    )
    if pool["carried"]:
        steps.append(
            Step(f"  of the size, {_count(pool['carried'], counted, unit_name)} were carried over")
        )
    if bucket["extra_quantity"]:
        billed = -(-over // bucket["extra_quantity"])
        steps.append(
            Step(f"  sold as {billed:,} further pools of {bucket['extra_quantity']:,} units")
        )
    else:
        billed = _stepped(over, charge["increment_initial"], charge["increment_subsequent"])
    due = max(0, billed - charge["allowance_quantity"])
    if due != over and not bucket["extra_quantity"]:
        steps.append(Step(f"  in increments and after allowance: {_count(due, charge, per)}"))
    billed = due
    exact = Fraction(0)
    price = evidence.price_on(
        charge["charge_id"], pool["window_end"] - timedelta(days=1), lambda p: p["zone"] is None
    )
    if price is not None:
        steps.append(Step(f"  priced at the period's end, {_terms(price)}"))
        tiers = evidence.tiers[price["price_id"]]
        exact, told = _cost(price, tiers, charge, per, 0, billed, billed)
        steps += told
    whole = _finished(exact, charge, currency, steps)
    carried, told, own = _down(evidence, unit.account_id, pool, parts, whole.amount_minor)
    shares = apportion(
        carried, [part["weight"] for part in own], [part["service_id"] for part in own]
    )
    position = next(i for i, part in enumerate(own) if part["service_id"] == unit.service_id)
    mine = own[position]
    steps.append(
        Step(
            f"shared out by {plan['attribution']}: this service used "
            f"{_count(mine['used'], counted, unit_name)} with "
            f"{_count(mine['contribution'], counted, unit_name)} contributed, weight "
            f"{mine['weight']:,} of {sum(part['weight'] for part in parts):,}"
        )
    )
    steps += told
    steps.append(
        Step(
            "  part by largest remainder: the parts add up to the pool",
            _money(shares[position], currency),
        )
    )
    return shares[position]


def _pool_size(bucket: Row, pool: Row, contributed: int) -> tuple[int, str]:
    """The size of a pool with what was carried over, and how it came about."""
    if bucket["sized_by_class"] is not None:
        return pool["available"], f"with the use of {bucket['sized_by_class']}"
    size, step = contributed, bucket["step_quantity"]
    if bucket["growth"] == "fixed":
        size = bucket["fixed_quantity"]
    if step:
        size = -(-size // step) * step
    return max(size, bucket["minimum_quantity"]) + pool["carried"], bucket["growth"]


def _down(
    evidence: Evidence, account: str, pool: Row, parts: Sequence[Row], total: int
) -> tuple[int, list[Step], list[Row]]:
    """What an account carries itself, step by step down the accounts, and its own services."""

    def path(account_id: str) -> list[str]:
        found = [account_id]
        while found[0] != pool["account_id"]:
            found.insert(0, str(evidence.parents[found[0]]))
        return found

    paths = {part["account_id"]: path(part["account_id"]) for part in parts}
    here, told, depth = list(parts), [], 1
    while any(len(paths[part["account_id"]]) > depth for part in here):
        weights: dict[str, int] = defaultdict(int)
        for part in here:
            weights[_at(paths[part["account_id"]], depth)] += part["weight"]
        names = sorted(weights)
        shares = apportion(total, [weights[name] for name in names], names)
        chosen = _at(paths[account], depth)
        total = dict(zip(names, shares, strict=True))[chosen]
        here = [part for part in here if _at(paths[part["account_id"]], depth) == chosen]
        if len(names) > 1:
            told.append(
                Step(
                    f"  account {chosen} carries weight {weights[chosen]:,}",
                    _money(total, pool["currency"]),
                )
            )
        depth += 1
    return total, told, here


def _at(path: Sequence[str], depth: int) -> str:
    """The account at a depth of a path; below its end an account stands for itself."""
    return path[min(depth, len(path) - 1)]


# ------------------------------------------------------------------------------------ words


def _price(evidence: Evidence, charge: Row, price_id: str) -> Row:
    for price in evidence.prices.get(charge["charge_id"], []):
        if price["price_id"] == price_id:
            return price
    raise Unexplained(f"the snapshot's catalog has no price {price_id!r}")


def _terms(price: Row) -> str:
    until = price["valid_to"]
    since = None if price["valid_from"] <= date(1970, 1, 1) else price["valid_from"]
    dates = " ".join(
        [*([f"from {since}"] if since else []), *([f"to before {until}"] if until else [])]
    )
    return f"{price['model']} price {price['price_id']} ({dates or 'no end'})"


def _per(evidence: Evidence, charge: Row) -> str:
    name = evidence.units_of.get(charge["charge_id"])
    return name or (f"{charge['unit_size']:,} units" if charge["unit_size"] > 1 else "unit")


def _count(units: int, charge: Row, per: str) -> str:
    if charge["unit_size"] == 1:
        return f"{units:,} {per}"
    return f"{units:,} units = {_units(units, charge)} {per}"


def _units(units: int, charge: Row) -> str:
    return _number(Fraction(units, charge["unit_size"]))


def _bounds(tier: Row, charge: Row, per: str) -> str:
    lower = _units(tier["lower_quantity"], charge)
    if tier["upper_quantity"] is None:
        return f"tier {tier['tier_no']}, above {lower} {per}"
    upper = _units(tier["upper_quantity"], charge)
    return f"tier {tier['tier_no']}, above {lower} up to {upper} {per}"


def _number(value: Fraction) -> str:
    """Write a fraction exactly where it ends within 12 decimals, else rounded and marked."""
    rounded = round_half_up(value, RATE_SCALE)
    text = f"{rounded:f}".rstrip("0").rstrip(".") if rounded else "0"
    return text if Fraction(rounded) == value else f"{text}…"


def _money(minor: int, currency: str) -> str:
    return f"{Decimal(minor).scaleb(-minor_digits(currency)):f}"
