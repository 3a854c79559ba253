"""Peers' cases: an adapter a model, which builds the business from the case's own numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any

from iotbill_pipelines.engine.calendars import (
    MONTH_PARTS,
    Month,
    ProrationBasis,
    clamp_day,
    months_between,
    months_elapsed,
    prorate,
)
from iotbill_pipelines.engine.money import round_half_up
from iotbill_pipelines.engine.terms import Charge, Price, Terms, Tier

from .business import (
    MEGA,
    PERIOD,
    Ledger,
    Settled,
    business,
    businesses,
    catalog,
    currency_for,
    each,
    rounded,
    tiers,
    usage_charge,
    whole,
)
from .outcome import Case, Check, Entry, OutOfScope, Run

D = Decimal
CENT = D("0.01")


def needs(model: type[Terms], key: str, run: Run) -> Entry:
    """A run that rests on a key of the terms; where there is none, it is out of scope."""
    if key in model.model_fields:
        return run
    return OutOfScope(f"the terms have no `{key}` of a {model.__name__.lower()}")


def amount_check(case: Case, found: Sequence[Decimal], expected: Sequence[object]) -> list[Check]:
    return [
        Check(f"amount {number}" if len(found) > 1 else "amount", want, got)
        for number, (want, got) in enumerate(zip(expected, found, strict=True), 1)
    ]


def priced(model: str) -> Callable[[Case], list[Check]]:
    """Units under tiers of a price model."""

    def run(case: Case) -> list[Check]:
        want = case["expected"]["amount"]
        currency = currency_for(want)
        price = {"model": model, "tiers": tiers(case["definition"]["tiers"])}
        charge = usage_charge(prices=[price])
        found = each(charge, [[whole(case["usage"]["units"])]], currency)
        return amount_check(case, found, [rounded(want, currency)])

    return run


def per_unit(case: Case) -> list[Check]:
    want = case["expected"]["amount"]
    charge = usage_charge(prices=[{"rate": case["definition"]["per_unit"]}])
    found = each(charge, [[whole(case["usage"]["units"])]], currency_for(want))
    return amount_check(case, found, [rounded(want, currency_for(want))])


def _package(definition: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    size = D(definition["package_size"])
    price: dict[str, Any] = {"model": "package", "rate": definition["price_per_package"]}
    if definition.get("round") == "down":
        price["packages"] = "down"
    free = D(definition.get("free_units", "0")) / size
    return {
        "id": "use",
        "product": "uplink",
        "kind": "usage",
        "per": f"{size} count",
        "allowance": free,
        "prices": [price],
        **more,
    }


def package(case: Case) -> list[Check]:
    definition, used = case["definition"], int(case["usage"]["units"])
    found = each(_package(definition), [[used]])
    checks = amount_check(case, found, [rounded(case["expected"]["amount"], "EUR")])
    if "paid_units" in case["expected"]:
        paid = max(0, used - int(definition["free_units"]))
        checks.append(Check("paid_units", int(case["expected"]["paid_units"]), paid))
    return checks


# ------------------------------------------------------------------------- amounts of money

VALUES = {"usage_classes": {"value": "micro"}}
_VALUE_PRODUCT = [
    {"id": "value", "name": "Value", "charge_type": "usage", "usage_class": "value",
     "gl_class": "usage"}
]  # fmt: skip


def _values(
    price: Mapping[str, Any], amounts: Sequence[object], want: object, **terms: Any
) -> list[Check]:
    """Price amounts of money, each a record, by hundredths of them."""
    currency = currency_for(want)
    charge = {
        "id": "use", "product": "value", "kind": "usage", "per": "unit", "prices": [price], **terms
    }  # fmt: skip
    found = each(
        charge,
        [[whole(amount) for amount in amounts]],
        currency,
        more=VALUES | {"products": _VALUE_PRODUCT},
    )
    return [Check("amount", rounded(want, currency), found[0])]


def percentage(case: Case) -> list[Check]:
    definition, usage = case["definition"], case["usage"]
    total, events = D(usage["amount_processed"]), usage["events"]
    reached = [D(0), *map(D, usage.get("running_total", [])), total]
    amounts: list[Decimal] = [later - sooner for sooner, later in pairwise(reached)]
    if len(amounts) != events:
        amounts = [total / events] * events
    price = {
        "percent": definition["rate_percent"],
        "connect_fee": definition.get("fixed_per_event", "0"),
    }
    return _values(
        price, amounts, case["expected"]["amount"],
        allowance_events=definition.get("free_events", 0),
    )  # fmt: skip


def percentage_bounds(case: Case) -> list[Check]:
    definition = case["definition"]
    price = {
        "percent": definition["rate_percent"],
        "connect_fee": definition.get("fixed_per_event", "0"),
        "counted": "record",
        "least": definition["min_per_event"],
        "most": definition["max_per_event"],
    }
    return _values(price, case["usage"]["events"], case["expected"]["amount"])


def graduated_percentage(case: Case) -> list[Check]:
    price = {"model": "graduated", "tiers": tiers(case["definition"]["tiers"]), "at_zero": True}
    return _values(price, [case["usage"]["amount_processed"]], case["expected"]["amount"])


# ----------------------------------------------------------------------------------- blocks


def _blocks(listed: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Tiers of so many blocks each, as tiers with upper bounds."""
    reached, found = D(0), []
    for tier in listed:
        size = D(tier["block"])
        reached += size * D(tier["max_blocks"])
        found.append({"up_to": reached, "block": size, "block_price": D(tier["price"])})
    del found[-1]["up_to"]
    return found


def block_tiers(model: str) -> Callable[[Case], list[Check]]:
    def run(case: Case) -> list[Check]:
        definition, usage = case["definition"], case["usage"]
        units = definition.get("units") or {"units": definition["tiers"]}
        parts = []
        for name, listed in units.items():
            charge = usage_charge(prices=[{"model": model, "tiers": _blocks(listed)}])
            want = case["expected"]["amount"]
            (part,) = each(charge, [[whole(usage[name])]], currency_for(want))
            parts.append(part)
        fee = D(definition.get("recurring", "0"))
        if fee:
            fee = _recurring(fee)
        checks = [Check("amount", D(case["expected"]["amount"]), sum(parts, fee))]
        if "parts" in case["expected"]:
            # its parts are those of each unit's tiers, in order
            told = [D(part) for part in case["expected"]["parts"]]
            checks.append(Check("parts", sum(told), sum(parts)))
        return checks

    return run


def _recurring(price: Decimal) -> Decimal:
    fee = {"id": "fee", "product": "subscription", "kind": "recurring", "prices": [{"rate": price}]}
    return business(catalog=catalog([fee]), services={"S": {"offer": "deal"}}).amount()


def capacity(case: Case) -> list[Check]:
    definition, usage = case["definition"], case["usage"]
    steps = [{"up_to": tier["max"], "flat": tier["price"]} for tier in definition["tiers"]]
    del steps[-1]["up_to"]
    charge = usage_charge(aggregation="peak", prices=[{"model": "stairstep", "tiers": steps}])
    peak = whole(usage["peak"])
    (found,) = each(charge, [[peak // 2, peak, peak // 3]])
    total = found + _recurring(D(definition["recurring"]))
    return [Check("amount", D(case["expected"]["amount"]), total)]


def capacity_of_units(case: Case) -> list[Check]:
    """Peaks of several classes with bounds of their own: the highest step that any is on."""
    steps, peaks = case["definition"]["tiers"], case["usage"]["peaks"]
    measured = list(steps[0]["max"])
    counting = [
        {"id": f"use_{name}", "product": name, "kind": "usage", "aggregation": "peak",
         "prices": [{"rate": 0}]}
        for name in measured
    ]  # fmt: skip
    capacity = {
        "id": "capacity", "product": "subscription", "kind": "combined",
        "measures": [
            {"charge": f"use_{name}", "steps": [int(step["max"][name]) for step in steps[:-1]]}
            for name in measured
        ],
        "prices": [{"model": "stairstep", "tiers": [
            *({"up_to": n, "flat": D(step["price"])} for n, step in enumerate(steps[:-1], 1)),
            {"flat": D(steps[-1]["price"])},
        ]}],
    }  # fmt: skip
    assert {steps[-1]["max"][name] for name in measured} == {"-1"}, "the last tier has no end"
    found = business(
        catalog=catalog([*counting, capacity], usage_classes=dict.fromkeys(measured, "count")),
        services={"S": {"offer": "deal"}},
        usage=[
            {"service": "S", "at": f"2026-03-0{day}", "class": name, "quantity": int(peak) // part}
            for name, peak in peaks.items()
            for day, part in ((2, 2), (3, 1), (4, 3))
        ],
    )
    return [Check("amount", D(case["expected"]["amount"]), found.amount())]


# -------------------------------------------------------------------------------- durations


def voice(**terms: Any) -> dict[str, Any]:
    return {"id": "use", "product": "voice", "kind": "usage", "per": "second", **terms}


def seconds_of(text: str) -> list[int]:
    """``61..119 (every integer)`` as numbers."""
    first, *last = re.findall(r"\d+", text.split("(", maxsplit=1)[0])
    return list(range(int(first), int(last[0]) + 1)) if last else [int(first)]


def _beats(listed: Sequence[Mapping[str, Any]]) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """Increments and tiers in seconds. The first tier's beat is the initial increment."""
    assert all(tier["from"] % tier["beat"] == 0 for tier in listed), "tiers begin on their beats"
    assert len({tier["beat"] for tier in listed[1:]}) <= 1, "one beat after the first tier"
    first, last = listed[0], listed[-1]
    if first["beat"] != last["beat"]:
        assert first["to"] == first["beat"], "the first tier is the initial increment"
    found = [{"up_to": tier["to"], "rate_of": tier} for tier in listed]
    del found[-1]["up_to"]
    return {"initial": first["beat"], "subsequent": last["beat"]}, found


def _beat_charge(model: str, listed: Sequence[Mapping[str, Any]], **dates: Any) -> dict[str, Any]:
    increment, found = _beats(listed)
    per = {tier["per"] for tier in listed}
    (unit,) = per
    size = D(unit)
    built: list[dict[str, Any]] = []
    for tier in found:
        bound = {"up_to": D(tier["up_to"]) / size} if "up_to" in tier else {}
        built.append({**bound, "rate": tier["rate_of"]["price"]})
    return voice(
        per=f"{unit} second",
        increment={**increment, "point": "session"},
        prices=[{"model": model, "tiers": built, **dates}],
    )


def beat(model: str) -> Callable[[Case], list[Check]]:
    def run(case: Case) -> list[Check]:
        lengths = seconds_of(case["usage"]["seconds"])
        charge = _beat_charge(model, case["definition"]["tiers"])
        found = each(charge, [[length] for length in lengths])
        return amount_check(case, found, [rounded(case["expected"]["amount"], "EUR")] * len(found))

    return run


def beat_beyond(case: Case) -> list[Check]:
    """Beyond the last tier the peer charges nothing; the last tier is open here."""
    charge = _beat_charge("volume", case["definition"]["tiers"])
    (found,) = each(charge, [seconds_of(case["usage"]["seconds"])])
    last = case["definition"]["tiers"][-1]
    blocks = -(-int(case["usage"]["seconds"]) // last["beat"])
    exact = rounded(blocks * D(last["beat"]) / last["per"] * D(last["price"]), "EUR")
    return [Check("amount", exact, found)]


def beat_continued(case: Case) -> list[Check]:
    """A session that goes on: what its next record adds to what it cost before."""
    already = case["definition"]["already_rated_seconds"]
    charge = _beat_charge("graduated", case["definition"]["tiers"])
    lengths = seconds_of(case["usage"]["seconds"])
    sessions = {f"S{length}": [already, length] for length in lengths} | {"S0": [already]}
    found = business(
        catalog=catalog([charge]),
        services={name: {"offer": "deal"} for name in sessions},
        usage=[
            {"service": name, "at": f"2026-03-02 1{n}:00", "class": "voice", "quantity": length,
             "session": name}
            for name, records in sessions.items()
            for n, length in enumerate(records)
        ],
    )  # fmt: skip
    before = found.amount(service_id="S0")
    return [
        Check(
            f"{length} s",
            D(case["expected"]["amount"]),
            found.amount(service_id=f"S{length}") - before,
        )
        for length in lengths
    ]


def price_version(case: Case) -> list[Check]:
    versions = sorted(case["definition"]["versions"], key=lambda v: v["valid_from"])
    charge = _beat_charge("graduated", versions[0]["tiers"])
    prices = []
    for number, version in enumerate(versions):
        (price,) = _beat_charge("graduated", version["tiers"])["prices"]
        price["valid_from"] = version["valid_from"]
        if number + 1 < len(versions):
            price["valid_to"] = versions[number + 1]["valid_from"]
        prices.append(price)
    lengths = seconds_of(case["usage"]["seconds"])
    start = datetime.fromisoformat(case["usage"]["event_date"])
    found = each(charge | {"prices": prices}, [[length] for length in lengths], start=start)
    return amount_check(case, found, [rounded(case["expected"]["amount"], "EUR")] * len(found))


def flat_seconds(case: Case) -> list[Check]:
    per = case["definition"]["per"]
    lengths = seconds_of(case["usage"]["seconds"])
    charge = voice(per=f"{per} second", prices=[{"rate": case["definition"]["price"]}])
    found = each(charge, [[length] for length in lengths], "CLF")
    price = D(case["definition"]["price"])
    return amount_check(
        case, found, [rounded(Fraction(price) * length / per, "CLF") for length in lengths]
    )


def per_event(case: Case) -> list[Check]:
    numbers = seconds_of(case["usage"]["events"])
    price = D(case["definition"]["price"])
    charge = {"id": "use", "product": "sms", "kind": "usage", "prices": [{"rate": price}]}
    found = each(charge, [[number] for number in numbers])
    return amount_check(case, found, [rounded(price * number, "EUR") for number in numbers])


def _seconds(text: str) -> int:
    return int(text.removesuffix("s"))


def per_time(case: Case) -> list[Check]:
    definition = case["definition"]
    per, step = _seconds(definition["per"]), _seconds(definition["increment"])
    charge = voice(
        per=f"{per} second",
        increment={"initial": step, "subsequent": step},
        prices=[{"rate": definition["rate"]}],
    )
    key = "amount" if "amount" in case["expected"] else "exact"
    want = case["expected"][key]
    found = each(charge, [[case["usage"]["seconds"]]], currency_for(want))
    return [Check(key, rounded(want, currency_for(want)), found[0])]


def rounded_once(case: Case) -> list[Check]:
    """A connect fee and a rate whose amount is rounded before it is charged."""
    definition = case["definition"]
    mode, digits = re.findall(r"[a-z-]+|[0-9]+", definition["round"])[:2]
    price = {
        "rate": definition["rate"],
        "connect_fee": definition.get("connect", "0"),
        "counted": "record",
        "rounding": {"mode": mode.replace("-", "_"), "digits": int(digits)},
    }
    per, step = _seconds(definition["per"]), _seconds(definition["increment"])
    charge = voice(
        per=f"{per} second", increment={"initial": step, "subsequent": step}, prices=[price]
    )
    (found,) = each(charge, [[case["usage"]["seconds"]]])
    return [Check("amount", rounded(case["expected"]["amount"], "EUR"), found)]


def grouped(case: Case) -> list[Check]:
    """Rates and increments that change within a call: tiers of each record by itself."""
    definition, length = case["definition"], case["usage"]["seconds"]
    groups = definition["groups"]
    units = {_seconds(group["per"]) for group in groups}
    (per,) = units
    built = []
    for number, group in enumerate(groups):
        step = _seconds(group["increment"])
        tier: dict[str, Any] = {"rate": D(group["rate"])}
        if step > 1:
            tier["block"] = D(step) / per
        if number + 1 < len(groups):
            tier["up_to"] = D(groups[number + 1]["from_s"]) / per
        built.append(tier)
    price: dict[str, Any] = {"model": "graduated", "tiers": built}
    if "counted" in Price.model_fields:
        price["counted"] = "record"
    if "connect" in definition:
        price["connect_fee"] = definition["connect"]
    key = "amount" if "amount" in case["expected"] else "exact"
    want = case["expected"][key]
    currency = currency_for(want)
    parts = [length]
    if "parts" in case["expected"]:  # what it cost up to each change of rate, and in all
        parts = [*(g["from_s"] for g in groups[1:]), length]
    found = each(voice(per=f"{per} second", prices=[price]), [[part] for part in parts], currency)
    checks = [Check(key, rounded(want, currency), found[-1])]
    if "parts" in case["expected"]:
        told = [rounded(part, currency) for part in case["expected"]["parts"]]
        checks.append(Check("first part", told[0], found[0]))
    return checks


def drift(case: Case) -> list[Check]:
    charge = {
        "id": "use", "product": "sms", "kind": "usage",
        "prices": [{"rate": case["definition"]["each"]}],
    }  # fmt: skip
    (found,) = each(charge, [[1] * case["definition"]["increments"]])
    return [Check("amount", rounded(case["expected"]["amount"], "EUR"), found)]


def data_increment(case: Case) -> list[Check]:
    definition = case["definition"]
    step = int(definition["increment"].split()[0])
    charge = {
        "id": "use", "product": "uplink", "kind": "usage",
        "per": definition["per"].replace("units", "count"),
        "increment": {"initial": step, "subsequent": step},
        "prices": [{"rate": definition["rate"]}],
    }  # fmt: skip
    (found,) = each(charge, [[int(case["usage"]["units"])]], "CLF")
    return [Check("amount", rounded(case["expected"]["amount"], "CLF"), found)]


def time_of_day(case: Case) -> list[Check]:
    """A plan of windows that begin at a time of working days, and one of weekends."""
    plan = case["definition"]["plan"]
    week = ["mon", "tue", "wed", "thu", "fri"]
    starts = sorted(key.removeprefix("weekday_") for key in plan if key.startswith("weekday_"))
    windows = [
        {"id": f"week{start[:2]}", "days": week, "starts": start, "ends": end}
        for start, end in zip(starts, [*starts[1:], "24:00"], strict=True)
    ]
    windows.append({"id": "weekend", "days": ["sat", "sun"]})
    prices = []
    first = "continuation" not in case["definition"]
    for window in windows:
        start = window.get("starts")
        terms = plan[f"weekday_{start}" if start else "weekend"]
        assert (terms["per"], terms["increment"]) == ("1s", "1s")
        fee = terms.get("connect", "0") if first else "0"
        prices.append({"rate": terms["rate"], "time": window["id"], "connect_fee": fee})
    prices.append({"rate": "9999"})
    start_at = datetime.fromisoformat(case["usage"]["start"]).replace(tzinfo=None)
    (found,) = each(
        voice(prices=prices, time_policy="split"),
        [[case["usage"]["seconds"]]],
        start=start_at,
        more={"time_windows": windows},
    )
    return [Check("amount", rounded(case["expected"]["amount"], "EUR"), found)]


def _zoned_allowance(case: Case, order: Sequence[str]) -> list[Check]:
    """Two calls in two zones at one rate, so that the free minute shows on either's component."""
    definition = case["definition"]
    per, free = _seconds(definition["per"]), D(definition["allowance_seconds"])
    at = {"A": "2026-03-02 15:15", "B": "2026-03-02 16:15"}
    rate = D(definition["rate"])
    charge = voice(
        per=f"{per} second",
        allowance=free / per,
        prices=[{"rate": rate, "zone": "za", "id": "A"}, {"rate": rate, "id": "B"}],
    )
    zones = [{"id": "z", "rules": [{"zone": "za", "mcc": ["262"]}, {"zone": "zb", "any": True}]}]
    found = business(
        catalog=catalog([charge], zone_sets=zones, offer={"zone_set": "z"}),
        services={"S": {"offer": "deal"}},
        usage=[
            {"service": "S", "at": at[name], "class": "voice", "quantity": 120,
             "plmn": "26201" if name == "A" else "20801"}
            for name in order
        ],
    )  # fmt: skip
    parts = {
        row["component_id"]: D(row["amount_minor"]).scaleb(-2)
        for row in found.rows("charge_component")
    }
    want = case["expected"]
    return [
        *(Check(name, rounded(want[name], "EUR"), parts[name]) for name in "AB" if name in want),
        Check("balance_after", rounded(want["balance_after"], "EUR"), -found.amount()),
    ]


def event_order(case: Case) -> list[Check]:
    return _zoned_allowance(case, "AB")


def arrival_order(case: Case) -> list[Check]:
    """The total agrees; which call is free follows event time, whatever order they arrive in."""
    order = [event["id"] for event in case["usage"]["arrival_order"]]
    late_first = _zoned_allowance(case, order)
    assert late_first == _zoned_allowance(case, order[::-1])
    return late_first


# -------------------------------------------------------------------------------- proration


def proration(case: Case) -> list[Check]:
    month = Month.parse(case["definition"]["period"])
    days = case["usage"]["days"]
    assert case["definition"]["denominator"] == month.days
    start = month.end - timedelta(days=days)
    share = Fraction(*prorate(start, month.end, month.start, month.end, ProrationBasis.ACTUAL))
    return [Check("factor", D(case["expected"]["factor"]), round_half_up(share, 4))]


def proration_months(case: Case) -> list[Check]:
    start = date.fromisoformat(case["usage"]["start"])
    last = date.fromisoformat(case["usage"]["end"].removesuffix(" inclusive"))
    elapsed = months_elapsed(start, last + timedelta(days=1))
    whole_months = elapsed.numerator // elapsed.denominator
    want = case["expected"]
    return [
        Check("months", want["months"], whole_months),
        Check("factor", D(want["factor"]), round_half_up(elapsed, 4)),
    ]


def recurring(
    price: object, start: datetime | date, end: datetime | date | None = None, **terms: Any
) -> Callable[[Month], Settled]:
    """A recurring charge of a service that is active from start to before end."""
    fee = {
        "id": "fee", "product": "subscription", "kind": "recurring",
        "prices": [{"rate": D(str(price))}], **terms,
    }  # fmt: skip
    states = [[_text(start), "active"]] + ([[_text(end), "cancelled"]] if end else [])

    def run(month: Month) -> Settled:
        return business(
            period=str(month),
            catalog=catalog([fee]),
            services={"S": {"offer": "deal", "states": states}},
        )

    return run


def proration_cycles(case: Case) -> list[Check]:
    """In advance with a bill day; its price is a whole number for every day of every month."""
    start, target = (date.fromisoformat(case["usage"][key]) for key in ("start", "target"))
    end = case["usage"].get("end")
    price = MONTH_PARTS
    run = recurring(
        price, start, date.fromisoformat(end) if end else None, billing="advance",
        cycle={"every": "month", "day": case["definition"]["billing_day"]},
    )  # fmt: skip
    last = Month.of(target if end is None else min(target, date.fromisoformat(end)))
    found = [run(month) for month in months_between(Month.of(start), last)]
    charged = {
        row["usage_period"]: row["amount_minor"]
        for one in found
        for row in one.rows()
        if row["usage_period"] <= str(last)
    }
    told = sum((Fraction(part.strip()) for part in case["expected"]["cycles"].split("+")),
               Fraction(0))  # fmt: skip
    return [Check("cycles", told, Fraction(sum(charged.values()), price * 100))]


def clamped_stub(case: Case) -> list[Check]:
    """A bill day that a month does not have: the stub's own period ends on the month's last day.

    The month in which the service starts holds the stub and the whole cycle after it.
    """
    start = date.fromisoformat(case["usage"]["start"])
    day, month = case["definition"]["billing_day"], Month.of(start)
    begun, ends = clamp_day(month - 1, day), clamp_day(month, day)
    found = recurring(
        MONTH_PARTS, start, billing="advance", cycle={"every": "month", "day": day}
    )(month)  # fmt: skip
    own = 1 + Fraction((ends - start).days, (ends - begun).days)
    amount = found.amount(usage_period=str(month))
    return [Check("cycles of its own days", own, Fraction(amount) / Fraction(MONTH_PARTS))]


def _text(moment: datetime | date) -> str:
    return str(moment)[:16]


def days_of(found: Settled) -> int:
    return int(sum(row["quantity"] for row in found.rows(kind="recurring")))


def proration_days(case: Case) -> list[Check]:
    year = 2025
    checks = []
    for key, want in (
        ("package_start", "package_days"),
        ("optional_service_start", "optional_days"),
    ):
        begin = datetime.strptime(f"{case['usage'][key]} {year}", "%b %d %H:%M %Y")  # noqa: DTZ007
        found = recurring("31", begin)(Month.of(begin))
        checks.append(Check(want, case["expected"][want], days_of(found)))
    return checks


def state_proration(case: Case) -> list[Check]:
    before, _, after, _, *when = case["usage"]["change"].split()
    change = datetime.strptime(f"{' '.join(when)} 2025", "%b %d %Y")  # noqa: DTZ007
    month = Month.of(change)
    fee = {
        "id": "fee", "product": "subscription", "kind": "recurring",
        "prices": [{"rate": "31"}, {"rate": "15.50", "state": after.lower()}],
    }  # fmt: skip
    found = business(
        period=str(month),
        catalog=catalog([fee]),
        services={"S": {"offer": "deal", "states": [
            [str(month.start), before.lower()], [str(change.date()), after.lower()]]}},
    )  # fmt: skip
    by_state = {row["detail"].split()[0]: row["quantity"] for row in found.rows("charge_component")}
    return [
        Check(key, want, by_state[key.removesuffix("_days")])
        for key, want in case["expected"].items()
    ]


def upgrade(case: Case) -> list[Check]:
    """In arrears: what is left of the old plan, and of the new one, is what credit and debit say.

    The case's period has 30 days from the first on: April.
    """
    old, new = (D(case["definition"][key]) for key in ("old_price", "new_price"))
    first = date.fromisoformat(case["definition"]["period"][0])
    change = date.fromisoformat(case["usage"]["change_on"])
    month = Month(first.year, 4)
    moved = month.start + (change - first)
    offers = [
        {"id": name, "name": name, "currency": "EUR", "charges": [
            {"id": f"fee_{name}", "product": "subscription", "kind": "recurring",
             "prices": [{"rate": price}]}]}
        for name, price in (("old", old), ("new", new))
    ]  # fmt: skip
    uses: list[dict[str, str]] = [{"offer": "new", "from": str(moved)}]
    if moved > month.start:
        uses.insert(0, {"offer": "old", "from": str(month.start), "to": str(moved)})
    found = business(
        period=str(month),
        catalog={"offers": offers},
        services={"S": {"offers": uses}},
    )
    credit = found.amount(charge_id="fee_old") - old
    charged = found.amount(charge_id="fee_new")
    want = case["expected"]
    return [
        Check("credit_cents", want["credit_cents"], int(credit / CENT)),
        Check("charge_cents", want["charge_cents"], int(charged / CENT)),
        Check("net_cents", want["net_cents"], int((credit + charged) / CENT)),
    ]


# ------------------------------------------------------------------------------------ pools


def pool(
    uses: Mapping[str, Sequence[int]],
    *,
    contribution: object = 0,
    fixed: object | None = None,
    rate: object = "0.10",
    attribution: str = "chronological",
    allowance: object = 0,
    join: str = "full",
    unit: int = MEGA,
    contributions: Mapping[str, object] | None = None,
) -> Settled:
    """Services that share a pool, each with its records in order of time; units are MB."""
    plan: dict[str, Any] = {
        "id": "pool", "usage_class": "data", "currency": "EUR", "attribution": attribution,
        "join_policy": join,
        "overage": {"id": "over", "product": "overage", "kind": "overage", "per": "MB",
                    "prices": [{"rate": rate}]},
    }  # fmt: skip
    if fixed is not None:
        plan |= {"growth": "fixed", "fixed": fixed}
    own = contributions or dict.fromkeys(uses, contribution)
    offers = [
        {
            "id": f"deal_{name}", "name": name, "currency": "EUR", "share_plan": "pool",
            "contribution": own[name],
            "charges": [{"id": f"use_{name}", "product": "data", "kind": "usage", "per": "MB",
                         "pooled": True, "allowance": allowance, "prices": [{"rate": 0}]}],
        }
        for name in uses
    ]  # fmt: skip
    order = [(name, quantity) for name, quantities in uses.items() for quantity in quantities]
    start = datetime(2026, 3, 2)  # noqa: DTZ001 - UTC, naive
    return business(
        catalog={"share_plans": [plan], "offers": offers},
        services={name: {"offer": f"deal_{name}"} for name in uses},
        usage=[
            {"service": name, "at": (start + timedelta(hours=n)).isoformat(), "quantity": quantity}
            for n, (name, quantity) in enumerate(order)
        ],
    )


def _in_and_over(found: Settled, service: str) -> dict[str, Any]:
    (part,) = found.rows("pool_part", service_id=service)
    return {
        "in": part["used"] - part["overage_quantity"],
        "over": part["overage_quantity"],
        "amount": found.amount(service_id=service, charge_id="over"),
    }


def _in_over_checks(want: Mapping[str, Any], got: Mapping[str, Any], what: str = "") -> list[Check]:
    return [
        Check(f"{what}{key}", D(value) if key == "amount" else whole(value), got[key])
        for key, value in want.items()
    ]


def pool_in_order(case: Case) -> list[Check]:
    """Records in order against a pool, fixed or growing with its SIMs."""
    definition, usage, want = case["definition"], case["usage"], case["expected"]
    members = definition.get("participants", 0)
    if "in_order" in usage:
        used = {f"sim{event['sim']}": [whole(event["units"])] for event in usage["in_order"]}
    else:
        used = {"sim1": [whole(usage["units"].split()[0])]}
    uses: dict[str, list[int]] = dict(used)
    for number in range(max(0, members - len(used))):
        uses[f"other{number}"] = []
    share = re.search(r"variable: (\d+)", definition.get("pool", ""))
    terms: dict[str, Any] = {"rate": definition["overage_per_unit"]}
    if share:
        terms["contribution"] = share[1]
    else:
        terms["fixed"] = definition["included"]
    found = pool(uses, **terms)
    if "in_order" in usage:
        return [
            check
            for name in used
            for check in _in_over_checks(want[name], _in_and_over(found, name), f"{name} ")
        ]
    return _in_over_checks(want, _in_and_over(found, "sim1"))


def pool_sizes(case: Case) -> list[Check]:
    definition, usage, want = case["definition"], case["usage"], case["expected"]
    if "sims" in usage:
        size = 1000 * D(definition["contribution_gb"])
        found = [
            pool({f"S{n}": [] for n in range(sims)}, contribution=size) for sims in usage["sims"]
        ]
        sizes = [D(one.rows("pool_settlement")[0]["available"]) / 1000 / MEGA for one in found]
        return [Check("pool_gb", [D(size) for size in want["pool_gb"]], sizes)]
    uses = {f"S{n}": [whole(mb)] for n, mb in enumerate(usage["mb"])}
    assert len(uses) == definition["participants"]
    (row,) = pool(uses, contribution=definition["contribution_mb"]).rows("pool_settlement")
    names = {"pool_mb": "available", "used_mb": "used", "overage_mb": "overage_quantity"}
    return [Check(key, whole(want[key]), row[column]) for key, column in names.items()]


def pool_variable(case: Case) -> list[Check]:
    return pool_in_order(case) if "pool" in case["definition"] else pool_sizes(case)


def own_then_pool(case: Case) -> list[Check]:
    definition = case["definition"]
    units = whole(case["usage"]["units"])
    found = pool(
        {"S": [units]},
        fixed=definition["pool_fixed"],
        allowance=definition["own"],
        rate=definition["overage_per_unit"],
    )
    got = _in_and_over(found, "S")
    return _in_over_checks(case["expected"], {**got, "in": units - got["over"]})


def included_bucket(case: Case) -> list[Check]:
    """Units of an allowance, then of a price: the last record's own part by difference."""
    definition = case["definition"]
    records = [whole(units) for units in case["usage"]["in_order"]]
    charge = usage_charge(
        allowance=definition["included"], prices=[{"rate": definition["overage_per_unit"]}]
    )
    before, after = each(charge, [records[:-1], records])
    free = whole(definition["included"])
    taken = min(sum(records), free) - min(sum(records[:-1]), free)
    got = {"in": taken, "over": records[-1] - taken, "amount": after - before}
    return _in_over_checks(case["expected"]["second"], got)


def included_per_item(case: Case) -> list[Check]:
    definition = case["definition"]
    included = D(definition["included_per_subscribed_item"]) * definition["subscribed_items"]
    charge = usage_charge(allowance=included, prices=[{"rate": definition["overage_per_unit"]}])
    units = case["usage"]["units"]
    (found,) = each(charge, [[whole(units)]])
    shown = round_half_up(Fraction(found) / Fraction(units), 2)
    want = case["expected"]
    return [
        Check("amount", D(want["amount"]), found),
        Check("unit_price_shown", D(want["unit_price_shown"]), shown),
    ]


def interval(case: Case) -> list[Check]:
    definition = case["definition"]
    assert D(definition["interval"]) == 1
    charge = usage_charge(prices=[{"model": "package", "rate": definition["per_unit"]}])
    (found,) = each(charge, [[whole(case["usage"]["units"])]])
    return [Check("amount", rounded(case["expected"]["amount"], "EUR"), found)]


def session_steps(case: Case) -> list[Check]:
    step = int(D(case["definition"]["step_kb"]) * 1000)
    size = int(D(case["usage"]["kb_each"]) * 1000)
    charge = usage_charge(
        per="KB",
        increment={"initial": step, "subsequent": step, "point": "session"},
        prices=[{"rate": 1}],
    )
    (found,) = each(charge, [[size] * case["usage"]["sessions"]])
    return [Check("billed_kb", D(case["expected"]["billed_kb"]), found)]


def volume_group(case: Case) -> list[Check]:
    """Bounds are those that fit every row: the next fifty at or above what reached a tier."""
    definition, usage, want = case["definition"], case["usage"], case["expected"]
    listed = definition["volume_tiers"]
    built = [
        {"up_to": -(-max(map(int, tier["reached_by"])) // 50) * 50, "rate": tier["per_unit"]}
        for tier in listed
    ]
    del built[-1]["up_to"]
    price: dict[str, Any] = {"model": "volume", "tiers": built}
    if definition["group_by"] == "usage start date":
        price["counted"] = "day"
    checks = []
    for month, amount in want.items():
        found = business(
            period=month,
            catalog=catalog([usage_charge(prices=[price])]),
            services={"S": {"offer": "deal"}},
            usage=[
                {"service": "S", "at": f"{day} 1{n}:00", "quantity": whole(units)}
                for day, each_units in usage.items()
                if day.startswith(month)
                for n, units in enumerate(each_units)
            ],
        )
        checks.append(Check(month, D(amount), found.amount()))
    return checks


# ---------------------------------------------------------------------- corrections, booking


def _periods(count: int) -> list[str]:
    return [str(PERIOD + number) for number in range(count)]


def run_by_run(
    charge: Mapping[str, Any], runs: Sequence[Sequence[object]]
) -> list[list[list[dict[str, Any]]]]:
    """Cumulative units by period, told run by run: what each run books, by usage period."""
    asked = []
    for cumulative in runs:
        reached = [D(0), *(D(str(units)) for units in cumulative)]
        periods = _periods(len(cumulative))
        asked.append(
            {
                "periods": periods,
                "catalog": catalog([charge]),
                "services": {"S": {"offer": "deal"}},
                "usage": [
                    {"service": "S", "at": f"{period}-02", "quantity": whole(later - sooner)}
                    for period, (sooner, later) in zip(periods, pairwise(reached), strict=True)
                    if later != sooner
                ],
            }
        )
    settled = businesses(asked)
    ledger = Ledger.empty(settled[0].products)
    booked = []
    for number, (cumulative, found) in enumerate(zip(runs, settled, strict=True)):
        new = ledger.book(found.tables["desired_charge"], PERIOD + number)
        booked.append(
            [[row for row in new if row["usage_period"] == p] for p in _periods(len(cumulative))]
        )
    return booked


def _sum(rows: Sequence[Mapping[str, Any]]) -> Decimal:
    return D(sum(row["amount_minor"] for row in rows)).scaleb(-2)


def late_correction(case: Case) -> list[Check]:
    definition, want = case["definition"], case["expected"]
    price: dict[str, Any] = (
        {"model": "volume", "tiers": tiers(definition["tiers"])}
        if "tiers" in definition
        else {"rate": definition["per_unit"]}
    )
    terms = {"maximum": definition["maximum"]} if "maximum" in definition else {}
    runs = run_by_run(usage_charge(prices=[price], **terms), case["usage"]["cumulative_by_run"])
    checks = []
    for number, booked in enumerate(runs, 1):
        told = want[f"run{number}"]
        everything = [row for period in booked for row in period]
        if not isinstance(told, dict):
            checks.append(Check(f"run{number}", D(told.split()[0]), _sum(everything)))
            continue
        for key, value in told.items():
            name, _, period = key.rpartition("_period")
            rows = booked[int(period) - 1] if period.isdigit() else everything
            if name in ("reverse", "rebill"):
                reason = {"reverse": "reversal", "rebill": "rebill"}[name]
                rows = [row for row in rows if row["reason"] == reason]
            elif key.startswith("period"):
                rows = booked[int(key.removeprefix("period")) - 1]
            checks.append(Check(f"run{number} {key}", D(value), _sum(rows)))
    return checks


def _booked_before(charge: Mapping[str, Any], already: object, now: object) -> Decimal:
    """What a run books for units that come on top of those booked already."""
    _, second = run_by_run(charge, [[already], [D(str(already)) + D(str(now))]])
    return _sum([row for period in second for row in period])


def incremental_package(case: Case) -> list[Check]:
    definition, usage, want = case["definition"], case["usage"], case["expected"]
    size = f"{definition['package_size']} MB"
    price = {"model": "package", "rate": definition["price_per_package"]}
    bounded = usage_charge(per=size, prices=[price], maximum=definition.get("maximum"))
    net = _booked_before(bounded, usage["already"], usage["now"])
    gross = _booked_before(usage_charge(per=size, prices=[price]), usage["already"], usage["now"])
    packages = gross / D(definition["price_per_package"])
    got = {
        "amount": net, "net": net, "gross": gross, "discount": gross - net, "packages": packages
    }  # fmt: skip
    return [Check(key, D(value), got[key]) for key, value in want.items()]


def incremental_graduated(case: Case) -> list[Check]:
    definition, usage, want = case["definition"], case["usage"], case["expected"]
    price = {"model": "graduated", "tiers": tiers(definition["tiers"])}
    bounds = {key: definition[key] for key in ("minimum", "maximum") if key in definition}
    already, total = D(usage["already"]), D(usage["already"]) + D(usage["now"])
    gross = _booked_before(usage_charge(prices=[price]), already, usage["now"])
    got: dict[str, object] = {"amount": gross, "gross": gross}
    if "maximum" in bounds:
        net = _booked_before(usage_charge(prices=[price], **bounds), already, usage["now"])
        got |= {"net": net, "discount": gross - net}
    if "minimum" in bounds:
        (raised,) = each(usage_charge(prices=[price], **bounds), [[whole(total)]])
        got["true_up"] = raised - D(definition["already_billed"])
    if "parts" in want:
        inside = [
            D(tier["up_to"]) for tier in definition["tiers"]
            if tier["up_to"] and already < D(tier["up_to"]) < total
        ]  # fmt: skip
        at = each(
            usage_charge(prices=[price]), [[whole(units)] for units in (already, *inside, total)]
        )
        got["parts"] = [later - sooner for sooner, later in pairwise(at)]
    return [
        Check(key, [D(v) for v in value] if isinstance(value, list) else D(value), got[key])
        for key, value in want.items()
    ]


def incremental_blocks(case: Case) -> list[Check]:
    """What a period books beyond what was invoiced of it before."""
    definition, want = case["definition"], case["expected"]
    (tier,) = definition["tiers"]
    size = f"{tier['block']} MB"
    charge = usage_charge(per=size, prices=[{"model": "package", "rate": tier["price"]}])
    billed = D(definition["already_invoiced"])
    booked_units = D(tier["block"]) * billed / D(tier["price"])
    checks = []
    for period, records in case["usage"].items():
        more = sum(map(D, records)) - booked_units
        checks.append(
            Check(
                period,
                rounded(want[f"delta_{period}"], "EUR"),
                _booked_before(charge, booked_units, more),
            )
        )
    return checks


def nothing_to_bill(case: Case) -> list[Check]:
    definition = case["definition"]
    charge = usage_charge(prices=[{"rate": definition["per_unit"]}], maximum=definition["max"])
    units = case["usage"]["units"]
    first, second = run_by_run(charge, [[units], [units]])
    billed = _sum([row for period in first for row in period])
    return [
        Check("already_invoiced", D(definition["already_invoiced"]), billed),
        Check("delta", [], [row for period in second for row in period]),
    ]


# ----------------------------------------------------------------------------------- registry

_UNTIL_OPEN = "the last tier is open here: use beyond it is never unbilled"

PEERS: dict[str, Entry] = {
    "graduated": Run(priced("graduated")),
    "graduated_with_flat": Run(priced("graduated")),
    "tiered_with_overage": Run(priced("graduated")),
    "volume_with_flat": Run(priced("volume")),
    "per_unit": Run(per_unit),
    "package": Run(package),
    "percentage": needs(Price, "percent", Run(percentage)),
    "percentage_min_max_per_event": needs(Price, "least", Run(percentage_bounds)),
    "graduated_percentage_with_flat": needs(
        Price, "at_zero", Run(graduated_percentage, policy="at_zero: true")
    ),
    "consumable_all_tiers": needs(Tier, "block_price", Run(block_tiers("graduated"))),
    "consumable_all_tiers_blocks": needs(Tier, "block_price", Run(block_tiers("graduated"))),
    "consumable_top_tier_blocks": needs(Tier, "block_price", Run(block_tiers("volume"))),
    "recurring_plus_consumable_all_tiers": needs(
        Tier, "block_price", Run(block_tiers("graduated"))
    ),
    "recurring_plus_consumable_top_tier": needs(Tier, "block_price", Run(block_tiers("volume"))),
    "recurring_plus_capacity": needs(Charge, "aggregation", Run(capacity, "aggregation: peak")),
    "capacity_peak_multi_unit": needs(
        Charge, "measures", Run(capacity_of_units, policy="kind: combined")
    ),
    "incremental_rebill": Run(incremental_blocks),
    "idempotent_rerun_rounding": Run(nothing_to_bill),
    "proration": Run(proration),
    "proration_multi_month": Run(proration_months),
    "proration_cycles": Run(proration_cycles),
    "proration_days": Run(proration_days),
    "state_specific_proration": Run(state_proration),
    "upgrade_proration": Run(upgrade, policy="in arrears: what is left of old and new"),
    "time_of_day": needs(Price, "time", Run(time_of_day, policy="time_policy: split")),
    "per_increment_rounding": Run(
        per_time, peer_wrong="rounds every second up to 4 decimals; its authors say 0.3 is right"
    ),
    "connect_fee_and_round_up": needs(
        Price, "rounding", Run(rounded_once, policy="rounding: {mode: up, digits: 2}")
    ),
    "rounding_mode": needs(
        Price, "rounding", Run(rounded_once, policy="rounding: {mode: down, digits: 1}")
    ),
    "grouped_increment": needs(Tier, "block", Run(grouped, policy="counted: record")),
    "grouped_rate": Run(grouped),
    "per_time": Run(per_time),
    "float_drift": Run(drift),
    "data_increment": Run(data_increment),
    "allowance_order_dependence": Run(
        arrival_order,
        peer_wrong="gives the free minute to whoever arrives first; nothing may depend on that",
    ),
    "rerate_in_event_order": Run(event_order),
    "tiered_beat": Run(beat("graduated")),
    "tiered_beat_with_offset": Run(beat_continued),
    "threshold_beat": Run(beat("volume")),
    "price_version_by_event_date": Run(price_version),
    "flat_no_beat": Run(flat_seconds),
    "per_event": Run(per_event),
    "time_split_beat_carry": OutOfScope(
        "increments that differ between the legs of one call, set off against one another; a call "
        "that is split is rounded once, as a whole (RT-18, RT-19)"
    ),
    "pool_fixed": Run(pool_in_order, policy="attribution: chronological"),
    "pool_variable": Run(pool_variable, policy="attribution: chronological"),
    "own_allowance_then_pool": Run(own_then_pool),
    "included_bucket_sequence": Run(included_bucket),
    "interval_round_up": Run(interval),
    "pool_by_subscribed_item": Run(included_per_item),
    "package_incremental": Run(incremental_package),
    "package_maximum_spend": Run(incremental_package),
    "graduated_incremental": Run(incremental_graduated),
    "graduated_minimum_spend": Run(incremental_graduated),
    "graduated_maximum_spend": Run(incremental_graduated),
    "late_usage_correction": Run(late_correction),
    "late_usage_volume_reprice": Run(late_correction),
    "late_usage_volume_reprice_max_spend": Run(late_correction),
    "per_session_round_up": Run(session_steps),
    "volume_rating_group": Run(volume_group),
}
"""Model -> how its cases are run."""

EXCEPTIONS: dict[str, Entry] = {
    "oc074": Run(
        clamped_stub,
        peer_wrong="prorates a stub by the 31 days that its billing period would have if February "
        "had them; 14 of its own 28 days are half",
    ),
    "oc117": Run(beat_beyond, peer_wrong=_UNTIL_OPEN),
    "oc157": needs(Price, "packages", Run(package, policy="packages: down")),
    "oc159": needs(Price, "packages", Run(package, policy="packages: down")),
    "oc210": needs(Price, "counted", Run(volume_group, policy="counted: day")),
    "oc096": needs(
        Tier, "block", Run(grouped, peer_wrong="rounds each second up; its authors expect 0.7")
    ),
}
"""Cases that stand apart from their model."""
