"""The arithmetic of one charge in words and numbers, in plain Python and exact fractions.

Nothing here shares code with the SQL that charges were computed by, but for the rounding rules of
:mod:`engine.money` and the calendar of :mod:`engine.calendars`: days are walked one by one, records
are added one by one. An explanation that ends at another amount than the ledger's is a finding.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from fractions import Fraction

from iotbill_pipelines.engine.calendars import Cycle, Month, add_months, clamp_day
from iotbill_pipelines.engine.money import apportion
from iotbill_pipelines.operations.explaining.first_use import Activation
from iotbill_pipelines.operations.explaining.prices import Slice, cost, finished, stepped
from iotbill_pipelines.operations.explaining.usage import (
    Free,
    PricedCharge,
    counted_units,
    explain_usage,
)
from iotbill_pipelines.operations.explaining.words import (
    RATE_UNIT,
    Result,
    Row,
    Step,
    Unexplained,
    Unit,
    counted,
    exactly,
    in_money,
    price_terms,
)


@dataclass(frozen=True)
class Window:
    """Days ``[start, end)`` that are counted and priced by themselves."""

    start: date
    end: date
    cycle: Cycle
    bill_day: int = 1

    @property
    def days(self) -> int:
        return (self.end - self.start).days

    @property
    def name(self) -> str:
        month = Month.of(self.start)
        if (self.start, self.end) == (month.start, month.end):
            return str(month)
        return f"{self.start} to before {self.end}"


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
    """Rated records of the windows that settle in the period, with the bounds of their window."""
    pools: dict[tuple[str, str, date], Row]
    """Level, pool and window -> the pool as settled."""
    pool_parts: dict[tuple[str, str, date], list[Row]]
    activations: Mapping[str, Activation] = field(default_factory=dict)
    """Service -> how it became active by first use, or by the end of its window."""
    more_allowance: dict[tuple[Unit, date], int] = field(default_factory=dict)
    """(Usage charge, window) -> free units beside those that the charge grants in the window."""
    measures: dict[str, list[Row]] = field(default_factory=dict)
    """Combined charge -> its measures and their bounds."""
    agreed: dict[Unit, Result] = field(default_factory=dict)
    """Charges of contracts, with their explanation (:mod:`.agreements`)."""
    contract_prices: dict[tuple[str, str, str], list[Row]] = field(default_factory=dict)
    """(Account, service, catalog price) -> days on which a contract's price stands in for it."""
    accounts: dict[str, Row] = field(default_factory=dict)
    overrides: Sequence[Row] = ()
    """Agreements that other offers price what a service has."""
    used: dict[tuple[str, str, str], list[tuple[date, date]]] = field(default_factory=dict)
    """(Level, account, service) -> windows in which it has usage."""
    units_of: dict[str, str] = field(default_factory=dict)
    """Charge -> name of the priced unit, where the catalog's text is at hand."""

    def window(self, charge: Row, account_id: str, day: date) -> Window:
        """The window of a charge's cycle that holds a day, by the payer's bill day."""
        cycle, bill_day = Cycle.parse(charge["cycle"]), self.accounts[account_id]["bill_day"] or 1
        return Window(*cycle.window(day, bill_day), cycle, bill_day)

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
    told = {
        "usage": _usage,
        "recurring": _recurring,
        "transition": _transitions,
        "overage": _overage,
        "combined": _combined,
    }
    if charge["kind"] in told:
        result = told[charge["kind"]](evidence, unit, charge)
        active = evidence.activations.get(unit.service_id)
        if active is not None:
            result.steps.insert(0, Step(f"service {unit.service_id} {active.words}"))
        return result
    raise Unexplained(f"charges of kind {charge['kind']!r} have no explanation")


# --------------------------------------------------------------------------------- usage


def _usage(evidence: Evidence, unit: Unit, charge: Row) -> Result:
    by_window: dict[Window, list[Row]] = defaultdict(list)
    cycle = Cycle.parse(charge["cycle"])
    for record in evidence.records.get(unit, []):
        by_window[Window(record["window_start"], record["window_end"], cycle)].append(record)
    if not by_window:
        raise Unexplained("no rated record of this charge is in the lake any more")
    currency = evidence.offers[charge["offer_id"]]["currency"]
    prices = {price["price_id"]: price for price in evidence.prices.get(unit.charge_id, [])}
    terms = PricedCharge(charge, prices, evidence.tiers, currency, _per(evidence, charge))
    windows = sorted(by_window, key=lambda window: window.start)
    return _together(
        windows,
        [explain_usage(terms, by_window[w], _free(evidence, unit, charge, w)) for w in windows],
    )


def _together(windows: Sequence[Window], results: Sequence[Result]) -> Result:
    """Windows are rounded by themselves and never netted; the charge is their sum."""
    if len(results) == 1:
        return results[0]
    steps: list[Step] = []
    for window, result in zip(windows, results, strict=True):
        steps += [Step(f"{window.name}:"), *result.steps]
    total, currency = sum(result.amount_minor for result in results), results[0].currency
    steps.append(Step(f"{len(results)} windows together", in_money(total, currency)))
    return Result(steps, total, currency)


def _free(evidence: Evidence, unit: Unit, charge: Row, window: Window) -> Free:
    """Free units of a service in a window: what was left for it, and its days on the offer."""
    more = evidence.more_allowance.get((unit, window.start), 0)
    if not charge["allowance_by_days"]:
        return Free(more)
    days = 0
    for number in range(window.days):
        day = window.start + timedelta(days=number)
        offer = evidence.offer_on(unit.service_id, unit.level, day)
        core = evidence.core_states.get(evidence.state_on(unit.service_id, day) or "")
        if (
            offer is not None
            and (offer["offer_id"], offer["payer_account_id"])
            == (charge["offer_id"], unit.account_id)
            and core in ("active", "suspended")
        ):
            days += 1
    return Free(more, days, window.days)


def _combined(evidence: Evidence, unit: Unit, charge: Row) -> Result:
    """What every measure comes to in each window; the greatest is priced, once."""
    counts: dict[Window, dict[int, int]] = defaultdict(dict)
    bounds: dict[int, list[Row]] = defaultdict(list)
    for row in evidence.measures[unit.charge_id]:
        bounds[row["measure_no"]].append(row)
    measured = {no: rows[0]["measured_charge_id"] for no, rows in bounds.items()}
    window = evidence.window(charge, unit.account_id, evidence.period.start)
    while window.end <= evidence.period.end:
        for number, charge_id in measured.items():
            found = (
                _present(evidence, unit, charge, window)
                if charge_id is None
                else _measured(evidence, unit, charge_id, window)
            )
            if found is not None:
                counts[window][number] = found
        window = evidence.window(charge, unit.account_id, window.end)
    windows = [window for window in sorted(counts, key=lambda w: w.start) if counts[window]]
    if not windows:
        raise Unexplained("nothing that this charge measures is in the lake any more")
    results = []
    for window in windows:
        steps, greatest = [], 0
        for number, units in sorted(counts[window].items()):
            reached = _reached(units, bounds[number])
            greatest = max(greatest, reached)
            what = measured[number] or "services"
            steps.append(Step(f"{what}: {units:,} units come to {reached:,}"))
        steps.append(Step(f"the greatest counts: {greatest:,}"))
        last = window.end - timedelta(days=1)
        price = evidence.price_on(unit.charge_id, last, lambda p: p["zone"] is None)
        price = evidence.agreed_on(unit, price, last)
        exact = Fraction(0)
        if price is not None:
            steps.append(Step(f"priced at the window's end, {price_terms(price)}"))
            tiers = evidence.tiers[price["price_id"]]
            exact, told = cost(price, tiers, charge, "count", Slice(0, greatest, greatest))
            steps += told
        currency = evidence.offers[charge["offer_id"]]["currency"]
        results.append(finished(exact, charge, currency, steps))
    return _together(windows, results)


def _reached(units: int, rows: Sequence[Row]) -> int:
    """Started blocks, or the step that a count is on: bounds are inclusive."""
    each: int = rows[0]["each_quantity"]
    if each:
        return -(-max(0, units) // each)
    return 0 if units <= 0 else 1 + sum(units > row["bound_quantity"] for row in rows)


def _measured(evidence: Evidence, unit: Unit, charge_id: str, window: Window) -> int | None:
    charge, total, found = evidence.charges[charge_id], 0, False
    currency = evidence.offers[charge["offer_id"]]["currency"]
    prices = {price["price_id"]: price for price in evidence.prices.get(charge_id, [])}
    terms = PricedCharge(charge, prices, evidence.tiers, currency, _per(evidence, charge))
    for other, records in evidence.records.items():
        same = (other.level, other.account_id, other.charge_id)
        if same != (unit.level, unit.account_id, charge_id):
            continue
        if unit.service_id not in ("", other.service_id):
            continue
        mine = [record for record in records if record["window_start"] == window.start]
        if mine:
            free = _free(evidence, other, charge, window)
            total, found = total + counted_units(terms, mine, free), True
    return total if found else None


def _present(evidence: Evidence, unit: Unit, charge: Row, window: Window) -> int | None:
    """Services that had the offer and were active on some day of the window."""
    present = 0
    for service, level in evidence.service_offers:
        if level != unit.level or unit.service_id not in ("", service):
            continue
        day = window.start
        while day < window.end:
            offer = evidence.offer_on(service, level, day)
            state = evidence.state_on(service, day)
            if (
                offer is not None
                and offer["offer_id"] == charge["offer_id"]
                and offer["payer_account_id"] == unit.account_id
                and evidence.core_states.get(state or "") == "active"
            ):
                present += 1
                break
            day += timedelta(days=1)
    return present or None


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
    windows, results = [], []
    window = evidence.window(charge, unit.account_id, evidence.period.start)
    while window.start < evidence.period.end:
        segments = list(_segments(evidence, unit, charge, window))
        if segments and _due(evidence, unit, charge, window, segments) == evidence.period:
            windows.append(window)
            results.append(_recurring_of(evidence, unit, charge, window, segments))
        window = evidence.window(charge, unit.account_id, window.end)
    if not results:
        raise Unexplained(f"no day of {evidence.period} is billed by what is known of the service")
    return _together(windows, results)


def _due(
    evidence: Evidence, unit: Unit, charge: Row, window: Window, segments: Sequence[_Segment]
) -> Month:
    """The usage period of a window: in advance by its first billed day, in arrears by its last
    day, or the last one on which the service had the offer and was not cancelled. A carrier whose
    months begin on another day than the 1st bills all of a month together, and a charge that counts
    services waits for its window's end."""
    if charge["billing"] == "advance":
        return Month.of(segments[0].start)
    day = window.end - timedelta(days=1)
    if charge["billable"] != "days" or (
        unit.level == "vendor" and window.cycle.months == 1 and window.bill_day > 1
    ):
        return Month.of(day)
    while day > window.start and _owing(evidence, unit, charge, day) is None:
        day -= timedelta(days=1)
    return Month.of(day)


def _owing(evidence: Evidence, unit: Unit, charge: Row, day: date) -> tuple[str, str] | None:
    """State and core state of a service that has the charge on a day and is not cancelled."""
    offer = evidence.offer_on(unit.service_id, unit.level, day)
    if (
        offer is None
        or offer["payer_account_id"] != unit.account_id
        or not _priced_by(evidence, unit, offer["offer_id"], charge, day)
    ):
        return None
    state = evidence.state_on(unit.service_id, day)
    core = evidence.core_states.get(state or "")
    return None if state is None or core is None or core == "cancelled" else (state, core)


def _recurring_of(
    evidence: Evidence, unit: Unit, charge: Row, window: Window, segments: Sequence[_Segment]
) -> Result:
    currency = evidence.offers[charge["offer_id"]]["currency"]
    basis, billed = charge["basis"], sum(segment.days for segment in segments)
    steps = [
        Step(
            f"recurring price in {charge['billing']}, basis {basis}: {billed} of {window.days} "
            f"days of {window.name} are billed; the day of a change belongs to the new state"
        )
    ]
    exact = Fraction(0)
    for number, segment in enumerate(segments):
        follows = number > 0 and segments[number - 1].end == segment.start
        if charge["billable"] == "days":
            share, words = _share(segment, basis, billed, window, follows=follows)
        else:
            share, words = _counted(evidence, unit, charge, window, segment, billed)
        first = evidence.tiers[segment.price["price_id"]][0]
        price = Fraction(first["rate_e12"] + first["flat_e12"], RATE_UNIT)
        exact += price * share
        steps.append(
            Step(
                f"  {segment.state} from {segment.start} to before {segment.end}, {segment.days} "
                f"days: {exactly(price)} x {words}, {price_terms(segment.price)}",
                exactly(price * share),
            )
        )
    return finished(exact, {**charge, **_NO_BOUNDS}, currency, steps)


_NO_BOUNDS = {"minimum_minor": None, "maximum_minor": None}


def _segments(evidence: Evidence, unit: Unit, charge: Row, window: Window) -> Iterator[_Segment]:
    """Walk the days of the window; days of one state and price are one segment."""
    day, current = window.start, None
    while day < window.end:
        state, price = None, None
        if (owing := _owing(evidence, unit, charge, day)) is not None:
            state, core = owing
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


_OWN_OFFER = 599_999_999
"""Priority of the service's own offer: after overrides of its package, before its account's."""


def _priced_by(evidence: Evidence, unit: Unit, own: str, charge: Row, day: date) -> bool:
    """Whether a recurring charge is the one that prices its product on a day (RULEBOOK §6)."""

    def recurring(offer_id: str) -> list[str]:
        return [
            row["charge_id"]
            for row in evidence.charges.values()
            if (row["offer_id"], row["kind"], row["product_id"])
            == (offer_id, "recurring", charge["product_id"])
        ]

    if len(recurring(own)) != 1:
        return bool(charge["offer_id"] == own)
    account = evidence.accounts[unit.account_id]
    targets = {
        "line_item": (unit.service_id,),
        "service": (unit.service_id,),
        "account_contract": (unit.account_id,),
        "account": (unit.account_id,),
        "package": (own,),
        "bucket_tier": (evidence.offers[own]["share_plan_id"],),
        "owner": (account["parent_account_id"], account["entity_id"]),
    }
    found = [(_OWN_OFFER, own)]
    for row in evidence.overrides:
        if (
            row["target_id"] in targets[row["scope"]]
            and row["level"] == unit.level
            and row["valid_from"] <= day
            and (row["valid_to"] is None or day < row["valid_to"])
            and len(recurring(row["offer_id"])) == 1
        ):
            found.append((row["priority"], row["offer_id"]))
    return bool(min(found)[1] == charge["offer_id"])


def _for_state(state: str | None, core: str) -> Callable[[Row], bool]:
    """A price of the state itself; one without state is for every core-active state."""
    return lambda price: price["state"] == state or (price["state"] is None and core == "active")


def _counted(
    evidence: Evidence, unit: Unit, charge: Row, window: Window, segment: _Segment, billed: int
) -> tuple[Fraction, str]:
    """How many whole prices a segment owes, where services are counted."""
    match charge["billable"]:
        case "first_day" | "last_day" as rule:
            counts = (
                segment.start == window.start if rule == "first_day" else segment.end == window.end
            )
            return Fraction(int(counts)), f"{int(counts)} (counted on its {rule.replace('_', ' ')})"
        case "used":
            used = any(
                start < window.end and end > window.start
                for start, end in evidence.used.get(
                    (unit.level, unit.account_id, unit.service_id), ()
                )
            )
            share = Fraction(segment.days, billed) if used else Fraction(0)
            return share, f"{segment.days}/{billed} (it was used)" if used else "0 (not used)"
        case "from_activation":
            begun = next(
                day
                for row in evidence.service_states[unit.service_id]
                if evidence.core_states.get(row["state"]) == "active"
                for day in (row["changed_at"].date(),)
            )
            days = range((segment.start - begun).days, (segment.end - begun).days)
            times = sum(day >= 0 and day % charge["billable_days"] == 0 for day in days)
            return Fraction(times), f"{times} (anew every {charge['billable_days']} days)"
    raise Unexplained(
        "the account owes as many as there were on one day; this service has its part by days"
    )


def _share(
    segment: _Segment, basis: str, billed: int, window: Window, *, follows: bool
) -> tuple[Fraction, str]:
    """The part of the window's price that a segment owes, and how it is reckoned."""
    days, thirties = segment.days, 30 * window.cycle.months
    match basis:
        case "actual":
            return Fraction(days, window.days), f"{days}/{window.days}"
        case "actual_30":
            whole = min(billed, thirties)
            return (
                Fraction(days * whole, thirties * billed),
                f"{whole}/{thirties}, of which {days}/{billed} of the days",
            )
        case "strict_30_360":
            reached, before = _thirties(window, segment.end), _thirties(window, segment.start)
            if segment.start.day == 31 and not follows and segment.start != window.start:
                before -= 1
            measured = max(0, reached - before)
            return Fraction(measured, thirties), f"{measured}/{thirties} (a month counts 30 days)"
        case "by_month_first":
            return _by_months(segment, window)
        case "none" | "full_on_activation":
            words = "1 (any day costs the whole period)"
            return Fraction(days, billed), words if days == billed else f"{days}/{billed} of it"
    raise Unexplained(f"the proration basis {basis!r} is unknown here")


def _thirties(window: Window, day: date) -> int:
    """Days of 30-day months from the window's start to before a day; the 31st is no day."""
    whole = 30 * window.cycle.months
    if day == window.start:
        return 0
    if day == window.end:
        return whole
    months = (day.year - window.start.year) * 12 + day.month - window.start.month
    begun = min(window.start.day, 30) - 1
    return max(0, min(whole, months * 30 + min(day.day - 1, 30) - begun))


def _by_months(segment: _Segment, window: Window) -> tuple[Fraction, str]:
    months = window.cycle.months
    anchor = window.bill_day if window.cycle.day is None else window.cycle.day
    share, words, start, month = Fraction(0), [], window.start, Month.of(window.start)
    for number in range(1, months + 1):
        end = clamp_day(month + number, anchor)
        days = (min(segment.end, end) - max(segment.start, start)).days
        if days > 0:
            share += Fraction(days, (end - start).days)
            words.append(f"{days}/{(end - start).days}")
        start = end
    return share / months, f"({' + '.join(words)}) / {months}"


# ----------------------------------------------------------------------------- transitions


def _transitions(evidence: Evidence, unit: Unit, charge: Row) -> Result:
    currency = evidence.offers[charge["offer_id"]]["currency"]
    steps: list[Step] = []
    exact, before = Fraction(0), "NEW"
    since: date | None = None
    for row in evidence.service_states.get(unit.service_id, []):
        left, before = before, row["state"]
        day = row["changed_at"].date()
        if left == row["state"]:
            continue
        waited, since = since, day
        if (
            not _long_enough(charge, waited, day)
            or left == row["state"]
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
        cost = Fraction(first["rate_e12"] + first["flat_e12"], RATE_UNIT)
        exact += cost
        steps.append(
            Step(
                f"changed from {left} to {row['state']} on {day}: once, never prorated, "
                f"{price_terms(price)}",
                exactly(cost),
            )
        )
    return finished(exact, {**charge, **_NO_BOUNDS}, currency, steps)


def _long_enough(charge: Row, since: date | None, day: date) -> bool:
    """Whether the state that is left has lasted as long as the charge asks for (ST-21)."""
    months, days = charge["transition_after_months"], charge["transition_after_days"]
    if not months and not days:
        return True
    if since is None:
        return False
    return add_months(since, months) <= day and (day - since).days >= days


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
    measured: Row = {**charge, "unit_size": 1} if bucket["extra_quantity"] else charge
    unit_name = "units" if bucket["extra_quantity"] else per
    steps.append(
        Step(
            f"pool {pool['pool_id']}{days}: {members:,} contributing services, size "
            f"{counted(size, measured, unit_name)} ({grown}), used "
            f"{counted(used, measured, unit_name)}, overage {counted(over, measured, unit_name)}"
        )
    )
    if pool["carried"]:
        steps.append(
            Step(
                f"  of the size, {counted(pool['carried'], measured, unit_name)} were carried over"
            )
        )
    if bucket["extra_quantity"]:
        billed = -(-over // bucket["extra_quantity"])
        steps.append(
            Step(f"  sold as {billed:,} further pools of {bucket['extra_quantity']:,} units")
        )
    else:
        billed = stepped(over, charge["increment_initial"], charge["increment_subsequent"])
    due = max(0, billed - charge["allowance_quantity"])
    if due != over and not bucket["extra_quantity"]:
        steps.append(Step(f"  in increments and after allowance: {counted(due, charge, per)}"))
    billed = due
    exact = Fraction(0)
    last = pool["window_end"] - timedelta(days=1)
    price = evidence.price_on(charge["charge_id"], last, lambda p: p["zone"] is None)
    owner = Unit(unit.usage_period, unit.level, pool["account_id"], "", unit.charge_id)
    price = evidence.agreed_on(owner, price, last)
    if price is not None:
        steps.append(Step(f"  priced at the period's end, {price_terms(price)}"))
        tiers = evidence.tiers[price["price_id"]]
        exact, told = cost(price, tiers, charge, per, Slice(0, billed, billed))
        steps += told
    whole = finished(exact, charge, currency, steps)
    carried, told, own = _down(evidence, unit.account_id, pool, parts, whole.amount_minor)
    shares = apportion(
        carried, [part["weight"] for part in own], [part["service_id"] for part in own]
    )
    position = next(i for i, part in enumerate(own) if part["service_id"] == unit.service_id)
    mine = own[position]
    steps.append(
        Step(
            f"shared out by {plan['attribution']}: this service used "
            f"{counted(mine['used'], measured, unit_name)} with "
            f"{counted(mine['contribution'], measured, unit_name)} contributed, weight "
            f"{mine['weight']:,} of {sum(part['weight'] for part in parts):,}"
        )
    )
    steps += told
    steps.append(
        Step(
            "  part by largest remainder: the parts add up to the pool",
            in_money(shares[position], currency),
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
                    in_money(total, pool["currency"]),
                )
            )
        depth += 1
    return total, told, here


def _at(path: Sequence[str], depth: int) -> str:
    """The account at a depth of a path; below its end an account stands for itself."""
    return path[min(depth, len(path) - 1)]


# ------------------------------------------------------------------------------------ words


def _per(evidence: Evidence, charge: Row) -> str:
    name = evidence.units_of.get(charge["charge_id"])
    return name or (f"{charge['unit_size']:,} units" if charge["unit_size"] > 1 else "unit")
