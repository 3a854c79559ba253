"""Worked examples: an adapter a concept, which builds the business from the case's own numbers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.contract import DatedRate
from iotbill_pipelines.engine.money import apportion, round_half_up
from iotbill_pipelines.engine.reconcile import PlanTerm, VendorTerms
from iotbill_pipelines.engine.terms import Charge, Offer, Price
from tests.feeds.harness import ingest_bytes
from tests.reconcile.market import Market, iccid

from . import gates, journals, sharing
from .business import (
    MEGA,
    PERIOD,
    Ledger,
    Settled,
    business,
    catalog,
    each,
    rounded,
    tiers,
    usage_charge,
    whole,
)
from .outcome import Case, Check, Entry, OutOfScope, Run
from .peers import days_of, needs, pool, recurring, voice

D = Decimal
Facts = dict[str, Any]


def amounts(want: object, found: list[Decimal]) -> list[Check]:
    told = want if isinstance(want, list) else [want]
    assert len(told) == len(found)
    return [
        Check(f"amount {number}", D(each_), got)
        for number, (each_, got) in enumerate(zip(told, found, strict=True), 1)
    ]


def _units(facts: Facts) -> list[int]:
    name = next(key for key in ("units", "used_GB", "MB", "used_MB") if key in facts)
    listed = facts[name] if isinstance(facts[name], list) else [facts[name]]
    return [whole(units) for units in listed]


def _want(case: Case) -> object:
    return case["expected"].get("amounts", case["expected"].get("amount"))


def graduated(case: Case) -> list[Check]:
    facts = case["facts"]
    charge = usage_charge(prices=[{"model": "graduated", "tiers": tiers(facts["tiers"])}])
    return amounts(_want(case), each(charge, [[units] for units in _units(facts)]))


_VOLUME: Facts = {
    "tiers": [
        {"up_to": 10000, "unit": "0.0010"},
        {"up_to": 50000, "unit": "0.0008"},
        {"up_to": 100000, "unit": "0.0006"},
        {"up_to": None, "unit": "0.0004"},
    ],
    "flat": "10.00",
}
"""The table that the edge case refers to: that of RT-03."""


def volume(case: Case) -> list[Check]:
    facts = case["facts"] if "tiers" in case["facts"] else {**_VOLUME, **case["facts"]}
    listed = [{**tier, "flat": facts.get("flat", "0")} for tier in facts["tiers"]]
    charge = usage_charge(prices=[{"model": "volume", "tiers": tiers(listed)}])
    return amounts(_want(case), each(charge, [[units] for units in _units(facts)]))


def bracketed_from(case: Case) -> list[Check]:
    """A tier that begins exactly at its bound: an edge that excludes the bound below."""
    facts = case["facts"]
    listed = [{"up_to": facts["tier3_from_GB"], "rate": "9"}, {"rate": facts["tier3_rate"]}]
    charge = usage_charge(prices=[{"model": "volume", "edge": "exclusive", "tiers": listed}])
    return amounts(case["expected"]["amount"], each(charge, [[whole(facts["used_GB"])]]))


def package(case: Case) -> list[Check]:
    facts = case["facts"]
    size = D(facts["size"])
    charge = {
        "id": "use", "product": "uplink", "kind": "usage", "per": f"{size} count",
        "allowance": D(facts.get("free", 0)) / size,
        "prices": [{"model": "package", "rate": facts["price"]}],
    }  # fmt: skip
    units = facts["units"] if isinstance(facts["units"], list) else [facts["units"]]
    found = each(charge, [[each_] for each_ in units])
    checks = amounts(_want(case), found)
    if "packages" in case["expected"]:
        checks.append(Check("packages", case["expected"]["packages"], found[0] / D(facts["price"])))
    return checks


def stairstep(case: Case) -> list[Check]:
    charge = usage_charge(prices=[{"model": "stairstep", "tiers": tiers(case["facts"]["steps"])}])
    return amounts(_want(case), each(charge, [[units] for units in _units(case["facts"])]))


def threshold(case: Case) -> list[Check]:
    facts = case["facts"]
    checks = []
    for mode, want in case["expected"].items():
        listed = [{"up_to": facts["threshold"], "rate": 0}, {"rate": facts["unit"]}]
        charge = usage_charge(
            prices=[{"model": mode.replace("mode", "threshold"), "tiers": listed}]
        )
        checks += amounts(want, each(charge, [[units] for units in _units(facts)]))
    return checks


def increments(case: Case) -> list[Check]:
    facts, want = case["facts"], case["expected"]
    billed, cost = [], []
    for rule in facts["rules"]:
        initial, subsequent = (int(part) for part in rule.split("/"))
        charge = voice(
            per="minute",
            increment={"initial": initial, "subsequent": subsequent},
            prices=[{"rate": "0.06"}],
        )
        found = business(
            catalog=catalog([charge]),
            services={"S": {"offer": "deal"}},
            usage=[{"service": "S", "at": "2026-03-02", "class": "voice",
                    "quantity": facts["seconds"]}],
        )  # fmt: skip
        billed.append(found.rows("rated_usage")[0]["rated_quantity"])
        cost.append(found.amount())
    return [
        Check("billed", want["billed"], billed),
        Check("cost", [D(amount) for amount in want["cost_at_0.06_per_min"]], cost),
    ]


def ceiling(case: Case) -> list[Check]:
    facts, want = case["facts"], case["expected"]
    initial, subsequent = (int(part) for part in facts["rule"].split("/"))
    charge = voice(
        per="minute",
        increment={"initial": initial, "subsequent": subsequent},
        prices=[
            {
                "rate": facts["rate_per_min"],
                "rounding": {"mode": "up", "digits": facts["rounding_digits"]},
            }
        ],
    )
    assert facts["cost_rounding"] == "ceiling"
    (found,) = each(charge, [[facts["seconds"]]], "CLF")
    return [Check("cost", rounded(want["cost"], "CLF"), found)]


def rounding_points(case: Case) -> list[Check]:
    facts, want = case["facts"], case["expected"]
    checks = []
    for point, key in (("record", "per_record_KB"), ("service_period", "per_period_KB")):
        charge = usage_charge(
            per=f"{facts['KB']} B",
            increment={"initial": facts["KB"], "subsequent": facts["KB"], "point": point},
            prices=[{"rate": 1}],
        )
        (found,) = each(charge, [facts["bytes"]])
        checks.append(Check(key, D(want[key]), found))
    return checks


def _windows(facts: Facts) -> tuple[Facts, list[Facts]]:
    boundary = facts["boundary"]
    windows = {"time_windows": [{"id": "off", "starts": boundary, "ends": "24:00"}]}
    prices = [{"rate": facts["off_per_min"], "time": "off"}, {"rate": facts["peak_per_min"]}]
    return windows, prices


def time_split(case: Case) -> list[Check]:
    facts, want = case["facts"], case["expected"]
    windows, prices = _windows(facts)
    start = datetime.fromisoformat(f"2026-03-02 {facts['start']}")
    terms: Facts = {"per": "minute", "prices": prices}
    if "rule" in facts:
        initial, subsequent = (int(part) for part in facts["rule"].split("/"))
        terms["increment"] = {"initial": initial, "subsequent": subsequent}
    checks = []
    modes = {"split": want.get("mode_split", want), "start_time": want.get("mode_start_time")}
    for policy, told in modes.items():
        if told is None:
            continue
        found = business(
            catalog=catalog([voice(**terms, time_policy=policy)], **windows),
            services={"S": {"offer": "deal"}},
            usage=[{"service": "S", "at": start.isoformat(), "class": "voice",
                    "quantity": facts["seconds"]}],
        )  # fmt: skip
        checks.append(Check(f"{policy} amount", D(told["amount"]), found.amount()))
        rated = {row["price_id"][-1]: row["rated_quantity"] for row in found.rows("rated_usage")}
        for key, number in (("peak_s", "2"), ("off_s", "1")):
            if key in told:
                checks.append(Check(f"{policy} {key}", told[key], rated[number]))
    return checks


def elapsed(case: Case) -> list[Check]:
    facts, want = case["facts"], case["expected"]
    zone = ZoneInfo(facts["tz"])
    start = datetime.fromisoformat(facts["start"]).astimezone(UTC)
    charge = voice(per="minute", prices=[{"rate": facts["rate_per_min"]}])
    (found,) = each(charge, [[facts["elapsed_s"]]], start=start.replace(tzinfo=None))
    end = (start + timedelta(seconds=facts["elapsed_s"])).astimezone(zone)
    return [
        Check("amount", D(want["amount"]), found),
        Check("end_local", want["end_local"], end.isoformat(timespec="minutes")),
        Check("billed_s", want["billed_s"], facts["elapsed_s"]),
    ]


def longest_match(case: Case) -> list[Check]:
    facts = case["facts"]
    rules = [
        {"zone": f"z{n}", **({"any": True} if network == "*" else
                             {"mcc" if len(network) == 3 else "plmn": [network]})}
        for n, network in enumerate(facts["zones"])
    ]  # fmt: skip
    prices: list[Facts] = [
        {"rate": rate, "zone": f"z{n}"} for n, rate in enumerate(facts["zones"].values())
    ]
    charge = usage_charge(prices=[*prices, {"rate": "99"}])
    found = business(
        catalog=catalog([charge], zone_sets=[{"id": "z", "rules": rules}], offer={"zone_set": "z"}),
        services={f"S{network}": {"offer": "deal"} for network in facts["plmn"]},
        usage=[
            {"service": f"S{network}", "at": "2026-03-02", "quantity": MEGA, "plmn": network}
            for network in facts["plmn"]
        ],
    )
    rates = [found.amount(service_id=f"S{network}") for network in facts["plmn"]]
    return amounts(case["expected"]["rates"], rates)


def on_net(case: Case) -> list[Check]:
    facts = case["facts"]
    rules = [{"zone": "home", "plmn": facts["home"]}, {"zone": "away", "any": True}]
    charge = usage_charge(prices=[{"rate": facts["on"], "zone": "home"}, {"rate": facts["off"]}])
    found = business(
        catalog=catalog([charge], zone_sets=[{"id": "z", "rules": rules}], offer={"zone_set": "z"}),
        services={"S": {"offer": "deal"}},
        usage=[
            {"service": "S", "at": f"2026-03-0{n}", "quantity": whole(units), "plmn": network}
            for n, (network, units) in enumerate(facts["records_MB"], 2)
        ],
    )
    return amounts(case["expected"]["amount"], [found.amount()])


def min_max(case: Case) -> list[Check]:
    facts = case["facts"]
    charge = usage_charge(minimum=facts["min"], maximum=facts["max"], prices=[{"rate": 1}])
    return amounts(
        case["expected"]["amounts"], each(charge, [[whole(raw)] for raw in facts["raw"]])
    )


def allowance_then_tier(case: Case) -> list[Check]:
    facts, want = case["facts"], case["expected"]
    charge = usage_charge(
        allowance=facts["free_MB"], prices=[{"model": "graduated", "tiers": tiers(facts["tiers"])}]
    )
    found = business(
        catalog=catalog([charge]),
        services={"S": {"offer": "deal"}},
        usage=[{"service": "S", "at": "2026-03-02", "quantity": whole(facts["used_MB"])}],
    )
    (used,) = found.rows("usage_aggregate")
    rated = used["rated_quantity"] - used["allowance_quantity"]
    return [
        Check("rated_MB", whole(want["rated_MB"]), rated),
        Check("amount", D(want["amount"]), found.amount()),
    ]


def ties(case: Case) -> list[Check]:
    """Values as prices of one unit; a credit is its mirror, as RULEBOOK §0.1 has it."""
    checks = []
    for mode, told in case["expected"].items():
        found = []
        for value in map(D, case["facts"]["values"]):
            charge = usage_charge(rounding=mode, prices=[{"rate": abs(value)}])
            (amount,) = each(charge, [[MEGA]])
            found.append(amount if value > 0 else -amount)
        checks.append(Check(mode, [D(value) for value in told], found))
    return checks


def billing_zone(case: Case) -> list[Check]:
    facts = case["facts"]
    event = datetime.fromisoformat(facts["event_utc"])
    found = business(
        periods=[str(Month.of(event) - 1), str(Month.of(event))],
        catalog=catalog([usage_charge(prices=[{"rate": 1}])]),
        accounts={"C1": {"zone": facts["account_tz"]}},
        services={"S": {"offer": "deal"}},
        usage=[{"service": "S", "at": event.isoformat(), "quantity": MEGA}],
    )
    (row,) = found.rows("rated_usage")
    return [Check("usage_period", case["expected"]["usage_period"], row["usage_period"])]


def small_amounts(case: Case) -> list[Check]:
    """Ten thousand records stand for the million, each of a hundredth of them."""
    facts, want = case["facts"], case["expected"]
    charge = {
        "id": "use", "product": "sms", "kind": "usage", "prices": [{"rate": facts["unit"]}]
    }  # fmt: skip
    count = 10_000
    found = business(
        catalog=catalog([charge]),
        services={"S": {"offer": "deal"}},
        usage=[{"service": "S", "at": "2026-03-02", "class": "sms", "times": count,
                "quantity": facts["records"] // count}],
    )  # fmt: skip
    return [Check("line", D(want["line"]), found.amount())]


def plan_precedence(case: Case) -> list[Check]:
    """Prices of a contract's line before its account's before the catalog's."""
    from iotbill_pipelines.engine.contract import (
        Contract,
        ContractPrice,
        ContractTerms,
        price_segments,
    )

    rates = case["facts"]["rates"]
    assert rates["bucket_tier"] is None
    assert rates["package"] is None

    def signed(rate: str | None, service: str | None) -> Contract | None:
        if rate is None:
            return None
        terms = ContractTerms(
            currency="EUR", term_months=12, prices=(ContractPrice(charge_id="use", rate=D(rate)),)
        )
        return Contract(
            id=service or "account", account_id="a", service_id=service,
            start=date(2026, 1, 1), end=date(2027, 1, 1), signed_terms=terms,
        )  # fmt: skip

    (segment,) = price_segments(
        "use",
        PERIOD.start,
        PERIOD.end,
        contracts=[
            contract
            for contract in (signed(rates["service"], "S"), signed(rates["account"], None))
            if contract is not None
        ],
        catalog=[DatedRate(D(rates["owner"]))],
    )
    assert segment.rate is not None
    charge = usage_charge(prices=[{"rate": segment.rate}])
    (found,) = each(charge, [[whole(case["facts"]["MB"])]])
    names = {"line_item": "service", "account": "account", "catalog": "owner"}
    want = case["expected"]
    return [
        Check("plan", want["plan"], names[segment.source]),
        Check("amount", D(want["amount"]), found),
    ]


def resold(case: Case) -> list[Check]:
    """The same minutes at two levels of the chain, each with its own price."""
    facts, want = case["facts"], case["expected"]
    quota = facts.get("quota_min", 0)
    minutes = facts.get("call_min", facts.get("minutes"))
    offers = [
        {"id": level, "name": level, "level": level, "currency": "EUR", "charges": [
            voice(per="minute", allowance=quota, prices=[{"rate": facts[level]}])
            | {"id": f"use_{level}"}]}
        for level in ("retail", "wholesale")
    ]  # fmt: skip
    found = business(
        catalog={"offers": offers},
        accounts={"C1": {}, "R1": {"kind": "reseller"}},
        services={"S": {"account": "C1", "offers": [
            {"offer": "retail"}, {"offer": "wholesale", "payer": "R1"}]}},
        usage=[{"service": "S", "at": "2026-03-02", "class": "voice",
                "quantity": (quota + minutes) * 60}],
    )  # fmt: skip
    retail, wholesale = (found.amount(level=level) for level in ("retail", "wholesale"))
    got = {
        "customer": retail, "reseller": wholesale,
        "we_bill_reseller": wholesale, "reseller_bills_customer": retail,
        "reseller_margin": retail - wholesale,
    }  # fmt: skip
    return [Check(key, D(value), got[key]) for key, value in want.items()]


# ---------------------------------------------------------------------------------- states


def proration_start(case: Case) -> list[Check]:
    facts, want = case["facts"], case["expected"]
    checks = []
    for name, part in facts.items():
        if not isinstance(part, Mapping):
            continue
        start, cancel = part.get("start"), part.get("cancel")
        first = datetime.fromisoformat(start or facts["period"][0])
        found = recurring(
            part["price"],
            first,
            datetime.fromisoformat(cancel) if cancel else None,
            basis=facts["basis"],
        )(Month.of(date.fromisoformat(facts["period"][0])))
        checks.append(Check(f"{name}_days", want[f"{name}_days"], days_of(found)))
        checks.append(Check(name, D(want[name]), found.amount()))
    return checks


def basis(case: Case) -> list[Check]:
    facts = case["facts"]
    first = date.fromisoformat(facts["first_day"])
    end = date.fromisoformat(facts["last_day_inclusive"]) + timedelta(days=1)
    return [
        Check(name, D(want), recurring(facts["price"], first, end, basis=name)(
            Month.of(first)).amount(kind="recurring"))
        for name, want in case["expected"].items()
    ]  # fmt: skip


def two_months(case: Case) -> list[Check]:
    facts = case["facts"]
    start = date.fromisoformat(facts["start"])
    end = date.fromisoformat(facts["last_day_inclusive"]) + timedelta(days=1)
    run = recurring(facts["price"], start, end, basis=facts["basis"])
    return [
        Check(name, D(want), run(Month.of(start) + number).amount())
        for number, (name, want) in enumerate(case["expected"].items())
    ]


def activation(case: Case) -> list[Check]:
    facts, want = case["facts"], case["expected"]
    start = date.fromisoformat(facts["activated"])
    found = recurring(facts["price"], start, basis=facts["basis"])(Month.of(start))
    return [
        Check("days", want["days"], days_of(found)),
        Check("amount", D(want["amount"]), found.amount()),
    ]


def leap(case: Case) -> list[Check]:
    facts, want = case["facts"], case["expected"]
    checks = []
    for part in facts["cases"]:
        start = date.fromisoformat(part["start"])
        found = recurring(part["price"], start, basis=facts["basis"])(Month.of(start))
        checks.append(Check(str(start.year), D(want[str(start.year)]), found.amount()))
    return checks


def dst_day(case: Case) -> list[Check]:
    facts, want = case["facts"], case["expected"]
    start = datetime.fromisoformat(facts["active_from"]).replace(tzinfo=None)
    found = recurring(facts["price"], start)(Month.of(date.fromisoformat(facts["period"][0])))
    return [
        Check("days", want["days"], days_of(found)),
        Check("amount", D(want["amount"]), found.amount()),
    ]


def many_states(case: Case) -> list[Check]:
    facts, want = case["facts"], case["expected"]
    month = Month.parse(facts["period"])
    fee = {
        "id": "fee", "product": "subscription", "kind": "recurring",
        "prices": [{"rate": rate, "state": state} for state, rate in facts["prices"].items()],
    }  # fmt: skip
    day, changes = month.start, []
    for state, days in facts["segments"]:
        changes.append([str(day), state])
        day += timedelta(days=days)
    found = business(
        period=str(month),
        catalog=catalog([fee]),
        services={"S": {"offer": "deal", "states": changes}},
    )
    parts = sorted(found.rows("charge_component"), key=lambda row: str(row["component_id"]))
    return [
        Check("segments", [D(each_) for each_ in want["segments"]],
              [D(part["amount_minor"]).scaleb(-2) for part in parts]),
        Check("total", D(want["total"]), found.amount()),
    ]  # fmt: skip


def advance(case: Case) -> list[Check]:
    facts, want = case["facts"], case["expected"]
    start = date.fromisoformat(facts["activated"])
    found = recurring(facts["price"], start, billing=facts["billing"])(Month.of(start))
    carried = found.rows(billing_period=str(Month.of(start)))
    lines = [
        D(row["amount_minor"]).scaleb(-2)
        for row in sorted(carried, key=lambda row: str(row["usage_period"]))
    ]
    return [
        Check("lines", [D(line) for line in want["lines"]], lines),
        Check("total", D(want["total"]), sum(lines)),
    ]


def bill_day(case: Case) -> list[Check]:
    """Every period is a charge in arrears: its component tells its days."""
    facts, want = case["facts"], case["expected"]
    start = date.fromisoformat(facts["periods_from"])
    found = business(
        periods=[str(Month.of(start) + number) for number in range(facts["count"] + 1)],
        accounts={"C1": {"bill_day": facts["bill_day"]}},
        catalog=catalog(
            [{"id": "fee", "product": "subscription", "kind": "recurring", "prices": [{"rate": 1}]}]
        ),
        services={"S": {"offer": "deal", "states": [[str(start), "active"]]}},
    )
    charges = sorted(found.rows(), key=lambda row: str(row["usage_period"]))[: facts["count"]]
    days = [row["quantity"] for row in charges]
    bounds = [start + timedelta(days=sum(days[:number])) for number in range(len(days) + 1)]
    return [
        Check("periods", want["periods"], [[str(a), str(b)] for a, b in pairwise(bounds)]),
        Check("days", want["days"], days),
    ]


def transitions(case: Case) -> list[Check]:
    facts, want = case["facts"], case["expected"]
    charges = [
        {"id": f"nrc{n}", "product": "activation", "kind": "transition",
         "transition": pair.split(">"), "prices": [{"rate": rate}]}
        for n, (pair, rate) in enumerate(facts["nrc"].items())
    ]  # fmt: skip
    path = facts["path"][1:]
    found = business(
        catalog=catalog(charges),
        services={"S": {"offer": "deal", "states": [
            [f"2026-03-{day:02}", state] for day, state in enumerate(path, 2)]}},
    )  # fmt: skip
    return [Check("nrc_total", D(want["nrc_total"]), found.amount())]


def plan_change(case: Case) -> list[Check]:
    """In advance: what is booked of the old plan is the whole month; the month has 30 days."""
    facts, want = case["facts"], case["expected"]
    month = Month(2026, 4)
    assert month.days == facts["cycle_days"]
    moved = month.start + timedelta(days=facts["change_day"] - 1)
    offers = [
        {"id": name, "name": name, "currency": "EUR", "charges": [
            {"id": name, "product": "subscription", "kind": "recurring", "billing": "advance",
             "prices": [{"rate": facts[name]["price"]}]}]}
        for name in ("old", "new")
    ]  # fmt: skip
    found = business(
        period=str(month),
        catalog={"offers": offers},
        services={"S": {"offers": [
            {"offer": "old", "to": str(moved)}, {"offer": "new", "from": str(moved)}]}},
    )  # fmt: skip
    credit = found.amount(charge_id="old") - D(facts["old"]["price"])
    debit = found.amount(charge_id="new", usage_period=str(month))
    return [
        Check("credit_old", D(want["credit_old"]), credit),
        Check("debit_new", D(want["debit_new"]), debit),
        Check("net", D(want["net"]), credit + debit),
    ]


def first_use(case: Case) -> list[Check]:
    """A service that waits until it is used or its window is over, with a fee and a price."""
    facts, want = case["facts"], case["expected"]
    days = [date.fromisoformat(day) for day, _ in facts["usage"]]
    added = date.fromisoformat(facts["added"]) if "added" in facts else min(days) - timedelta(1)
    policy: Facts = {"waiting": "preactive", "active": "active"}
    if "threshold_bytes" in facts:
        policy["thresholds"] = [
            {"usage_class": "data", "quantity": facts["threshold_bytes"], "per": "B"}
        ]
    if "window_days" in facts:
        policy["window_days"] = facts["window_days"]
    charges: list[Facts] = [
        usage_charge(prices=[{"rate": facts.get("rate_per_MB", "1")}]),
        {"id": "fee", "product": "subscription", "kind": "recurring",
         "prices": [{"rate": facts.get("price", "31")}]},
    ]  # fmt: skip
    for number, (pair, fee) in enumerate(facts.get("nrc", {}).items()):
        charges.append(
            {"id": f"nrc{number}", "product": "activation", "kind": "transition",
             "transition": pair.split(">"), "prices": [{"rate": fee}]}
        )  # fmt: skip
    found = business(
        period=str(Month.of(added)),
        catalog=catalog(charges, offer={"first_use": policy}),
        services={"S": {"offer": "deal", "states": [[str(added), "preactive"]]}},
        usage=[
            {"service": "S", "at": day, "quantity": quantity} for day, quantity in facts["usage"]
        ],
    )
    (fee_part,) = found.rows("charge_component", charge_id="fee")
    used = found.rows("usage_aggregate")
    billable = sum(row["rated_quantity"] for row in used)
    got: Facts = {
        "activated": fee_part["component_id"].split()[0],
        "recurring": found.amount(kind="recurring"),
        "nrc": found.amount(kind="transition"),
        "total": found.amount(),
        "billable_bytes": billable,
        "free_bytes": sum(row["quantity"] for row in used) - billable,
        "usage_charge": found.amount(kind="usage"),
    }
    return [
        Check(key, D(value) if isinstance(got[key], D) else value, got[key])
        for key, value in want.items()
    ]


def conditional_transition(case: Case) -> list[Check]:
    """A charge that falls due only after so many full months in the state that is left."""
    facts, want = case["facts"], case["expected"]
    pair, _, fee, _, _, months, *_ = facts["rule"].split()
    left, entered = pair.split(">")
    charge = {
        "id": "back", "product": "activation", "kind": "transition",
        "transition": [left, entered], "after_months": int(months), "prices": [{"rate": fee}],
    }  # fmt: skip
    since = date.fromisoformat(facts["suspended_from"])
    checks = []
    for back in facts["reactivated"]:
        found = business(
            period=back[:7],
            catalog=catalog([charge]),
            services={"S": {"offer": "deal", "states": [
                [str(since - timedelta(days=100)), entered], [str(since), left], [back, entered]]}},
        )  # fmt: skip
        checks.append(Check(back, D(want[back]), found.amount()))
    return checks


# ----------------------------------------------------------------------------------- pools


def growth(case: Case) -> list[Check]:
    facts, want = case["facts"], case["expected"]
    size = 1000 * D(facts["contribution_GB"])
    found = [
        pool({f"S{n}": [] for n in range(count)}, contribution=size) for count in facts["services"]
    ]
    return [
        Check("pool_GB", want["pool_GB"], [_pool(one)["available"] / 1000 / MEGA for one in found])
    ]


def _pool(found: Settled) -> dict[str, Any]:
    (row,) = found.rows("pool_settlement")
    return row


def _shares(found: Settled) -> dict[str, Decimal]:
    return {row["service_id"]: D(row["amount_minor"]).scaleb(-2) for row in found.rows("pool_part")}


_SP08: Facts = {
    "contribution_MB": [100, 100, 100], "usage_MB": [250, 120, 60], "rate_per_MB": "0.10",
    "policy": "proportional_excess",
}  # fmt: skip
"""The pool that other cases refer to."""


def attribution(case: Case) -> list[Check]:
    facts, want = {**_SP08, **case["facts"]}, case["expected"]
    names = [f"S{n}" for n in range(1, len(facts["usage_MB"]) + 1)]
    found = pool(
        {name: [whole(used)] for name, used in zip(names, facts["usage_MB"], strict=True)},
        contributions=dict(zip(names, facts["contribution_MB"], strict=True)),
        rate=facts["rate_per_MB"],
        attribution=facts["policy"],
    )
    shares = _shares(found)
    checks = [Check("shares", [D(s) for s in want["shares"]], [shares[name] for name in names])]
    row = _pool(found)
    for key, column in (("pool_MB", "available"), ("overage_MB", "overage_quantity")):
        if key in want:
            checks.append(Check(key, whole(want[key]), row[column]))
    if "charge" in want:
        checks.append(Check("charge", D(want["charge"]), D(row["amount_minor"]).scaleb(-2)))
    return checks


def chronological(case: Case) -> list[Check]:
    facts, want = case["facts"], case["expected"]
    names = sorted({name for _, name, _ in facts["records"]})
    plan = {
        "id": "pool", "usage_class": "data", "currency": "EUR", "attribution": facts["policy"],
        "growth": "fixed", "fixed": facts["pool_MB"],
        "overage": {"id": "over", "product": "overage", "kind": "overage", "per": "MB",
                    "prices": [{"rate": facts["rate_per_MB"]}]},
    }  # fmt: skip
    charge = usage_charge(pooled=True, prices=[{"rate": 0}])
    found = business(
        catalog=catalog([charge], share_plans=[plan], offer={"share_plan": "pool"}),
        services={name: {"offer": "deal"} for name in names},
        usage=[
            {"service": name, "at": f"2026-{when}", "quantity": whole(units)}
            for when, name, units in facts["records"]
        ],
    )
    parts = {row["service_id"]: row for row in found.rows("pool_part")}
    return [
        Check("in_pool", {k: whole(v) for k, v in want["in_pool"].items()},
              {n: parts[n]["used"] - parts[n]["overage_quantity"] for n in names}),
        Check("overage_MB", {k: whole(v) for k, v in want["overage_MB"].items()},
              {n: parts[n]["overage_quantity"] for n in names}),
        Check("shares", {k: D(v) for k, v in want["shares"].items()}, _shares(found)),
        Check("charge", D(want["charge"]), found.amount(charge_id="over")),
    ]  # fmt: skip


def remainder(case: Case) -> list[Check]:
    facts, want = case["facts"], case["expected"]
    exact = [D(line) for line in facts["precise_lines"]]
    parent = round_half_up(sum(exact, D(0)), 2)
    parts = apportion(int(parent.scaleb(2)), exact, range(len(exact)))
    return [
        Check("parent", D(want["parent"]), parent),
        Check("lines", [D(line) for line in want["lines"]], [D(p).scaleb(-2) for p in parts]),
    ]


def plans_apart(case: Case) -> list[Check]:
    facts, want = case["facts"], case["expected"]
    overage, charge = {}, D(0)
    for name, plan in facts["plans"].items():
        size = 1000 * D(name.removesuffix("GB"))
        used = whole(1000 * D(plan["used_GB"]))
        uses: dict[str, list[int]] = {f"S{n}": [] for n in range(plan["devices"])}
        uses["S0"] = [used]
        found = pool(uses, contribution=size, rate=D(facts["overage_per_GB"]) / 1000)
        overage[name] = D(_pool(found)["overage_quantity"]) / 1000 / MEGA
        charge += found.amount(charge_id="over")
    return [
        Check("overage_GB", {k: D(v) for k, v in want["overage_GB"].items()}, overage),
        Check("charge", D(want["charge"]), charge),
    ]


def exact_fit(case: Case) -> list[Check]:
    facts = case["facts"]
    found = pool({"S": [facts["used_bytes"]]}, fixed=D(facts["pool_bytes"]) / MEGA)
    return [
        Check("overage_bytes", case["expected"]["overage_bytes"], _pool(found)["overage_quantity"])
    ]


def fixed_pool(case: Case) -> list[Check]:
    facts, want = case["facts"], case["expected"]
    found = []
    for count in facts["services"]:
        uses: dict[str, list[int]] = {f"S{n}": [] for n in range(count)}
        uses["S0"] = [whole(facts["used_MB"])]
        found.append(pool(uses, fixed=facts["pool_MB"], rate=facts["rate_per_MB"]))
    return [
        Check("pool_MB", [whole(size) for size in want["pool_MB"]],
              [_pool(one)["available"] for one in found]),
        *(Check("overage", D(want["overage"]), one.amount(charge_id="over")) for one in found),
    ]  # fmt: skip


def parent_level(case: Case) -> list[Check]:
    facts, want = case["facts"], case["expected"]
    plan = {
        "id": "pool", "usage_class": "data", "currency": "EUR", "attribution": facts["policy"],
        "share_level": facts["share_level"],
        "overage": {"id": "over", "product": "overage", "kind": "overage", "per": "MB",
                    "prices": [{"rate": facts["rate_per_MB"]}]},
    }  # fmt: skip
    members = {
        service: (account, *figures)
        for account, services in facts["accounts"].items()
        for service, figures in services.items()
    }
    offers = [
        {"id": f"deal{size}", "name": "d", "currency": "EUR", "share_plan": "pool",
         "contribution": size,
         "charges": [usage_charge(pooled=True, prices=[{"rate": 0}]) | {"id": f"use{size}"}]}
        for size in sorted({size for _, size, _ in members.values()})
    ]  # fmt: skip
    found = business(
        catalog={"share_plans": [plan], "offers": offers},
        accounts={"P": {}} | {account: {"parent": "P"} for account in facts["accounts"]},
        services={s: {"account": account, "offer": f"deal{size}"}
                  for s, (account, size, _) in members.items()},
        usage=[{"service": s, "at": "2026-03-02", "quantity": whole(used)}
               for s, (_, _, used) in members.items()],
    )  # fmt: skip
    accounts = {name: found.amount(account_id=name, charge_id="over") for name in facts["accounts"]}
    row = _pool(found)
    return [
        Check("overage_MB", whole(want["overage_MB"]), row["overage_quantity"]),
        Check("charge", D(want["charge"]), D(row["amount_minor"]).scaleb(-2)),
        Check("accounts", {k: D(v) for k, v in want["accounts"].items()}, accounts),
        Check("services", {k: D(v) for k, v in want["services"].items()}, _shares(found)),
    ]


def leaver(case: Case) -> list[Check]:
    facts = case["facts"]
    plan = {
        "id": "pool", "usage_class": "data", "currency": "EUR",
        "overage": {"id": "over", "product": "overage", "kind": "overage", "per": "MB",
                    "prices": [{"rate": 1}]},
    }  # fmt: skip
    left = date.fromisoformat(facts["deactivated"])
    charge = usage_charge(pooled=True, prices=[{"rate": 0}])
    names = [f"S{n}" for n in range(facts["services"])]
    found = business(
        period=str(Month.of(left)),
        catalog=catalog([charge], share_plans=[plan],
                        offer={"share_plan": "pool", "contribution": facts["contribution_MB"]}),
        services={name: {"offer": "deal"} for name in names[1:]} | {names[0]: {
            "offer": "deal", "states": [["2026-01-01", "active"], [str(left), "cancelled"]]}},
    )  # fmt: skip
    return [Check("pool_MB", whole(case["expected"]["pool_MB"]), _pool(found)["available"])]


def carrier_invoice(case: Case) -> list[Check]:
    facts, want = case["facts"], case["expected"]
    plan = {
        "id": "pool", "usage_class": "data", "currency": "EUR",
        "overage": {"id": "over", "product": "overage", "kind": "overage", "per": "MB",
                    "prices": [{"rate": 1}]},
    }  # fmt: skip
    fee = {
        "id": "fee", "product": "subscription", "kind": "recurring",
        "prices": [{"rate": facts["fee"]}],
    }  # fmt: skip
    tunnel = {"id": "ipsec", "name": "IPsec", "currency": "EUR", "charges": [
        {"id": "ipsec", "product": "subscription", "kind": "recurring",
         "prices": [{"rate": facts["ipsec"]}]}]}  # fmt: skip
    terms = catalog(
        [fee, usage_charge(pooled=True, prices=[{"rate": 0}])],
        share_plans=[plan],
        offer={"share_plan": "pool", "contribution": facts["included_MB_per_sim"]},
    )
    terms["offers"].append(tunnel)
    found = business(
        catalog=terms,
        services={"sim": {"offer": "deal", "count": facts["active_sims"]},
                  "tunnel": {"offer": "ipsec"}},
    )  # fmt: skip
    return [
        Check("sim_fees", D(want["sim_fees"]), found.amount(charge_id="fee")),
        Check("pool_MB", whole(want["pool_MB"]), _pool(found)["available"]),
        Check("total", D(want["total"]), found.amount()),
    ]


def own_first(case: Case) -> list[Check]:
    facts, want = case["facts"], case["expected"]
    found = pool(
        {"S": [whole(facts["record_MB"])]},
        fixed=facts["pool_left_MB"],
        allowance=facts["own_recurring_left_MB"],
    )
    (used,) = found.rows("usage_aggregate")
    return [
        Check("own", whole(want["own"]), used["allowance_quantity"]),
        Check("pool", whole(want["pool"]), _pool(found)["used"]),
    ]


def binary_units(case: Case) -> list[Check]:
    facts, want = case["facts"], case["expected"]
    count, _ = facts["plan"].split()
    checks = []
    for key, per in (("overage_bytes_decimal", "GB"), ("overage_bytes_binary", "GiB")):
        charge = usage_charge(per=per, allowance=count, prices=[{"rate": 1}])
        found = business(
            catalog=catalog([charge]),
            services={"S": {"offer": "deal"}},
            usage=[{"service": "S", "at": "2026-03-02", "quantity": facts["used_bytes"]}],
        )
        (used,) = found.rows("usage_aggregate")
        over = used["rated_quantity"] - used["allowance_quantity"]
        checks.append(Check(key, want[key], over))
    return checks


def before_joining(case: Case) -> list[Check]:
    facts, want = case["facts"], case["expected"]
    joined = date.fromisoformat(facts["joined_plan"])
    plan = {
        "id": "pool", "usage_class": "data", "currency": "EUR", "growth": "fixed",
        "fixed": facts["pool_left_MB"],
        "overage": {"id": "over", "product": "overage", "kind": "overage", "per": "MB",
                    "prices": [{"rate": 1}]},
    }  # fmt: skip
    terms = catalog(
        [usage_charge(pooled=True, prices=[{"rate": 0}])],
        share_plans=[plan],
        offer={"share_plan": "pool"},
    )
    alone = usage_charge(prices=[{"rate": facts["individual_rate_per_MB"]}]) | {"id": "alone"}
    terms["offers"].append({"id": "solo", "name": "s", "currency": "EUR", "charges": [alone]})
    found = business(
        period=str(Month.of(joined)),
        catalog=terms,
        services={"S": {"offers": [{"offer": "solo", "to": str(joined)},
                                   {"offer": "deal", "from": str(joined)}]}},
        usage=[{"service": "S", "at": day, "quantity": whole(units)}
               for day, units in facts["records_MB"]],
    )  # fmt: skip
    return [
        Check("individual", D(want["individual"]), found.amount(charge_id="alone")),
        Check("pool_MB", whole(want["pool_MB"]), _pool(found)["used"]),
    ]


# ------------------------------------------------------------------------------ corrections


def _booked(found: Settled, ledger: Ledger) -> list[dict[str, Any]]:
    return ledger.book(found.tables["desired_charge"], PERIOD)


def rerate_delta(case: Case) -> list[Check]:
    facts, want = case["facts"], case["expected"]
    runs: list[Decimal] = []
    ledger: Ledger | None = None
    for rate in (facts["old_rate"], facts["new_rate"], facts["new_rate"]):
        found = business(
            catalog=catalog([usage_charge(prices=[{"rate": rate}])]),
            services={"S": {"offer": "deal"}},
            usage=[{"service": "S", "at": "2026-03-02", "quantity": whole(facts["MB"])}],
        )
        ledger = ledger or Ledger.empty(found.products)
        new = _booked(found, ledger)
        runs.append(D(sum(row["amount_minor"] for row in new)).scaleb(-2))
    return [
        Check("booked", D(want["booked"]), runs[0]),
        Check("adjustment", D(want["adjustment_in_open_period"]), runs[1]),
        Check("corrected", D(want["corrected"]), runs[0] + runs[1]),
        Check("second_run", D(want["second_run"]), runs[2]),
    ]


def rerate_volume(case: Case) -> list[Check]:
    facts, want = case["facts"], case["expected"]
    price = {"model": "volume", "tiers": tiers(facts["tiers"])}
    ledger: Ledger | None = None
    new: list[dict[str, Any]] = []
    for units in (facts["booked_units"], facts["now_units"]):
        found = business(
            catalog=catalog([usage_charge(prices=[price])]),
            services={"S": {"offer": "deal"}},
            usage=[{"service": "S", "at": "2026-03-02", "quantity": whole(units)}],
        )
        ledger = ledger or Ledger.empty(found.products)
        new = _booked(found, ledger)
    lines = [D(row["amount_minor"]).scaleb(-2) for row in sorted(new, key=lambda r: r["entry_no"])]
    return [
        Check("lines", [D(line) for line in want["lines"]], lines),
        Check("net", D(want["net"]), sum(lines)),
    ]


def reattribution(case: Case) -> list[Check]:
    facts, want = case["facts"], case["expected"]
    names = list(facts["booked"])
    before = dict(zip(names, _SP08["usage_MB"], strict=True))
    late = {name: units for name, (units, _) in facts["late"].items()}
    ledger: Ledger | None = None
    new: list[dict[str, Any]] = []
    for more in ({}, late):
        found = pool(
            {name: [whole(used), *([whole(more[name])] if name in more else [])]
             for name, used in before.items()},
            contribution=100,
            rate=_SP08["rate_per_MB"],
            attribution=_SP08["policy"],
        )  # fmt: skip
        ledger = ledger or Ledger.empty(found.products)
        new = _booked(found, ledger)
    overage = [row for row in new if row["charge_id"] == "over"]
    adjusted = {name: D(0) for name in names}
    for row in overage:
        adjusted[row["service_id"]] += D(row["amount_minor"]).scaleb(-2)
    row, shares = _pool(found), _shares(found)
    return [
        Check("overage_MB", whole(want["overage_MB"]), row["overage_quantity"]),
        Check("charge", D(want["charge"]), D(row["amount_minor"]).scaleb(-2)),
        Check("shares", [D(share) for share in want["shares"]], [shares[name] for name in names]),
        Check("adjustments", {k: D(v) for k, v in want["adjustments"].items()}, adjusted),
        Check("sum", D(want["sum"]), sum(adjusted.values())),
    ]


# -------------------------------------------------------------------------------- mediation


def dedup(case: Case) -> list[Check]:
    facts, want = case["facts"], case["expected"]
    found = business(
        catalog=catalog([usage_charge(per="B", prices=[{"rate": 1}])]),
        services={"S": {"offer": "deal"}},
        usage=[{"service": "S", "at": "2026-03-02", "quantity": quantity, "key": key, "file": file}
               for file, key, quantity in facts["records"]],
    )  # fmt: skip
    conflicts = found.rows("suspended_record", reason_code="conflict")
    return [
        Check("accepted", want["accepted"], len(found.rows("rated_usage"))),
        Check("duplicates", want["duplicates"], len(found.rows("duplicate_record"))),
        Check("conflicts", want["conflicts"], len(conflicts)),
        Check("billed_qty", D(want["billed_qty"]), found.amount()),
    ]


def ownership(case: Case) -> list[Check]:
    facts = case["facts"]
    uid = f"iccid:{facts['iccid']}"
    owned: dict[str, list[Facts]] = {}
    for account, start, end in facts["owners"]:
        owned.setdefault(account, []).append(
            {"uid": uid, "from": start, **({"to": end} if end else {})}
        )
    found = business(
        catalog=catalog([usage_charge(prices=[{"rate": 1}])]),
        accounts={account: {} for account in owned},
        services={f"S_{account}": {"account": account, "offer": "deal", "identifiers": uids}
                  for account, uids in owned.items()},
        usage=[{"uid": uid, "at": event, "quantity": 1} for event in facts["events"]],
    )  # fmt: skip
    rows = sorted(found.rows("rated_usage"), key=lambda row: str(row["event_start"]))
    return [Check("owners", case["expected"]["owners"], [row["account_id"] for row in rows])]


def no_owner(case: Case) -> list[Check]:
    facts = case["facts"]
    found = business(
        catalog=catalog([usage_charge(prices=[{"rate": 1}])]),
        services={"S": {"offer": "deal"}},
        usage=[{"uid": f"iccid:{facts['iccid']}", "at": "2026-03-02",
                "quantity": whole(facts["MB"])}],
    )  # fmt: skip
    (row,) = found.rows("suspended_record")
    return [
        Check("status", case["expected"]["status"], f"suspense:{row['reason_code']}"),
        Check("amount", D(0), found.amount()),
    ]


# ---------------------------------------------------------------------------------- vendors


def _minor(amount: object) -> int:
    return int(D(str(amount)) * 100)


def usage_and_rate(case: Case) -> list[Check]:
    facts, want = case["facts"], case["expected"]
    own, billed = facts["own"], facts["invoice"]
    expected = D(own["MB"]) * D(own["rate"])
    market = Market()
    market.charge("DATA", "usage", own["rate"], unit_size=MEGA)
    market.sim("S1")
    market.expect("S1", "DATA", _minor(expected), quantity=whole(own["MB"]), kind="usage")
    invoiced = D(billed["MB"]) * D(billed["rate"])
    market.bill("S1", "DATA", str(invoiced), quantity=whole(billed["MB"]), price=billed["rate"])
    found = market.reconcile()
    found.check_sums()
    causes = found.by_cause()
    return [
        Check("expected", D(want["expected"]), expected),
        Check("invoiced", D(want["invoiced"]), invoiced),
        Check("variance", _minor(want["variance"]), found.variance_minor),
        *(Check(cause, _minor(want[cause]), causes[cause]) for cause in ("usage", "rate")),
    ]


def inactive_sim(case: Case) -> list[Check]:
    facts, want = case["facts"], case["expected"]
    market = Market()
    market.charge("MRC", "recurring", facts["invoice_lines"][0][1])
    for sim, amount in facts["invoice_lines"]:
        state, _, since = facts["inventory"][sim].partition(" ")
        changes = [("2025-01-01", "active")] + ([(since, state)] if since else [])
        market.sim(sim, states=changes)
        if not since:
            market.expect(sim, "MRC", _minor(amount))
        market.bill(sim, "MRC", amount)
    found = market.reconcile()
    found.check_sums()
    (claim,) = found.disputes
    return [
        Check("cause", want["cause"], claim["cause"]),
        Check("sim", want["sim"], claim["evidence"].split("svc-")[1].split()[0]),
        Check("dispute", _minor(want["dispute"]), claim["difference_minor"]),
    ]


def duplicate_line(case: Case) -> list[Check]:
    lines = case["facts"]["lines"]
    market = Market()
    (sim,) = {line[0] for line in lines}
    (code,) = {line[2] for line in lines}
    market.charge(code, "recurring", lines[0][3])
    market.sim(sim)
    market.expect(sim, code, _minor(lines[0][3]))
    for line in lines:
        market.bill(sim, code, line[3])
    found = market.reconcile()
    found.check_sums()
    return [Check("causes", {k: _minor(v) for k, v in case["expected"].items()}, found.by_cause())]


def tolerance(case: Case) -> list[Check]:
    facts, want = case["facts"], case["expected"]
    terms = VendorTerms(
        "carrier",
        "EUR",
        tolerance_minor=_minor(facts["line_tolerance"]),
        limit_minor=_minor(facts["invoice_tolerance"]),
    )
    market = Market(terms=[terms])
    price = D("2.40")
    market.charge("MRC", "recurring", str(price))
    for number in range(facts["lines"]):
        market.sim(f"S{number}")
        market.expect(f"S{number}", "MRC", _minor(price))
        market.bill(f"S{number}", "MRC", str(price + D(facts["difference_each"])))
    found = market.reconcile()
    found.check_sums()
    (total,) = found.totals
    flagged = [line for line in found.lines if line["status"] == "disputed"]
    return [
        Check("lines_flagged", want["lines_flagged"], len(flagged)),
        Check("sum", _minor(want["sum"]), total["tolerated_minor"]),
        Check("invoice_flag", want["invoice_flag"], total["flag"]),
    ]


def wrong_price(case: Case) -> list[Check]:
    """A plan of one name in two versions: the SIMs are on the first and billed on the second."""
    facts = case["facts"]
    versions = (PlanTerm("IOT", "deal", "1"), PlanTerm("IOT", "later", "2"))
    market = Market(terms=[VendorTerms("carrier", "EUR", plans=versions)])
    market.charge("MRC", "recurring", facts["contract"])
    market.charge("MRC", "recurring", facts["billed"], offer="later", charge_id="later")
    for number in range(facts["lines"]):
        market.sim(f"S{number}")
        market.expect(f"S{number}", "MRC", _minor(facts["contract"]))
        market.bill(
            f"S{number}", "MRC", facts["billed"], price=facts["billed"], plan="IOT", version="2"
        )
    found = market.reconcile()
    found.check_sums()
    return [
        Check("rate", _minor(case["expected"]["rate_variance"]), found.by_cause().get("rate", 0)),
        Check("plan", {"other_version"}, {line["plan_match"] for line in found.lines}),
    ]


def margins(case: Case) -> list[Check]:
    """What each SIM earned and cost, as the audit of SIMs adds it up, and who leaks."""
    facts, want = case["facts"], case["expected"]
    market = Market()
    market.charge("LINE", "recurring", "1.00")
    for sim, money in facts.items():
        market.sim(sim)
        for level, amount in (("retail", money["revenue"]), ("vendor", money["cost"])):
            if D(amount):
                market.expect(sim, "LINE", _minor(amount))
                market.rows["desired_charge"][-1] |= {
                    "level": level,
                    "account_id": "customer" if level == "retail" else "carrier",
                }
    sums, findings = market.audit()
    found = {
        row["service_id"].removeprefix("svc-"): D(row["revenue_minor"] - row["cost_minor"]) / 100
        for row in sums
    }
    leaks = [row["service_id"].removeprefix("svc-") for row in findings["zombie"]]
    return [
        Check("margin", {sim: D(amount) for sim, amount in want["margin"].items()}, found),
        Check("total", D(want["total"]), sum(found.values())),
        Check("leak", want["leak"], leaks),
    ]


_IN_BUNDLE = """
id: demo
carrier: demo
target: vendor_invoice_line
files: ["*.csv"]
format: {type: delimited}
fields:
  vendor_id: {value: carrier}
  invoice_no: {value: INV-1}
  billing_period: {value: "2026-03"}
  charge_code: {from: ItemRef}
  uid_type: {value: iccid}
  uid_value: {from: ICCID, steps: [iccid]}
  quantity:
    from: Quantity
    steps: [integer, {plus: {field: InBundleQuantity, steps: [integer]}}]
  currency: {value: EUR}
  amount: {from: Amount, steps: [decimal]}
"""


def in_bundle(case: Case) -> list[Check]:
    """The file's line through its feed, the usage through our terms, and one against the other."""
    facts, want = case["facts"], case["expected"]
    sim, size = iccid("S1"), facts["MB"]
    line = f"Data,{sim},{facts['Quantity']},{facts['InBundleQuantity']},{want['overage']}\n"
    text = "ItemRef,ICCID,Quantity,InBundleQuantity,Amount\n" + line
    (billed,) = ingest_bytes(_IN_BUNDLE, text.encode()).accepted
    rate, included = D(facts["overage_per_MB"]), facts["BundleQuantity"]
    used = business(
        catalog=catalog(
            [{
                "id": "use", "product": "data", "kind": "usage", "per": f"{size} count",
                "allowance": str(D(included) / size), "prices": [{"rate": str(rate)}],
            }]
        ),
        services={"S": {"offer": "deal"}},
        usage=[{"service": "S", "at": "2026-03-02", "quantity": billed["quantity"]}],
    )  # fmt: skip
    market = Market()
    market.charge("Data", "usage", str(rate), unit_size=size, allowance=included)
    market.sim("S1")
    expected = _minor(used.amount())
    market.expect("S1", "Data", expected, quantity=billed["quantity"], kind="usage")
    market.bill("S1", "Data", want["overage"], quantity=billed["quantity"])
    found = market.reconcile()
    found.check_sums()
    return [
        Check("used_bytes", want["used_bytes"], billed["quantity"]),
        Check("used_MB", D(want["used_MB"]), D(billed["quantity"]) / size),
        Check("overage", D(want["overage"]), used.amount()),
        Check("status", "matched", found.line("S1", "Data")["status"]),
    ]


def waterfall(case: Case) -> list[Check]:
    """An invoice with the causes of the case and nothing else, so that the rest has none."""
    facts, want = case["facts"], case["expected"]
    found = {cause: _minor(amount) for cause, amount in facts["found"].items()}
    market = Market()
    prices = {"COPY": found["duplicate"], "GONE": found["billed_inactive"], "CENT": 10}
    for code, minor in prices.items():
        market.charge(code, "recurring", str(D(minor) / 100))
    market.charge("DATA", "usage", "0.01")
    market.sim("S1")
    market.expect("S1", "COPY", prices["COPY"])
    for _ in range(2):
        market.bill("S1", "COPY", str(D(prices["COPY"]) / 100))
    market.sim("S2", states=[("2025-01-01", "active"), ("2026-01-20", "cancelled")])
    market.bill("S2", "GONE", str(D(prices["GONE"]) / 100))
    market.sim("S3")
    units = found["rate"]  # at two cents instead of one
    market.expect("S3", "DATA", units, quantity=units, kind="usage")
    market.bill("S3", "DATA", str(D(2 * units) / 100), quantity=units, price="0.02")
    for number in range(found["rounding"]):
        market.sim(f"S{10 + number}")
        market.expect(f"S{10 + number}", "CENT", 10)
        market.bill(f"S{10 + number}", "CENT", "0.11")
    # the rest agrees, but for what nobody can explain
    rest = _minor(facts["expected"]) - prices["COPY"] - units - 10 * found["rounding"]
    market.charge("REST", "recurring", str(D(rest) / 100))
    market.sim("S4")
    market.expect("S4", "REST", rest)
    market.bill("S4", "REST", str(D(rest) / 100))
    variance = _minor(facts["invoiced"]) - _minor(facts["expected"])
    market.bill(None, "MISC", str(D(variance - sum(found.values())) / 100))
    result = market.reconcile()
    result.check_sums()
    causes = result.by_cause()
    unexplained = causes.pop("unexplained")
    return [
        Check("variance", variance, result.variance_minor),
        Check("found", found, causes),
        Check("explained", _minor(want["explained"]), sum(causes.values())),
        Check("unexplained", _minor(want["unexplained"]), unexplained),
    ]


# --------------------------------------------------------------------------------- registry

_FEEDS = OutOfScope("fields and totals of a file, not an amount of a charge")

WORKED: dict[str, Entry] = {
    "bill_on_first_use": needs(Offer, "first_use", Run(first_use)),
    "close.rerate_delta": Run(rerate_delta),
    "close.rerate_volume_tier": Run(rerate_volume),
    "close.rerate_with_pool_reattribution": Run(reattribution),
    "close.cutoff_watermark": Run(gates.completeness),
    "close.accrual_estimate": Run(journals.estimate),
    "close.tie_out": Run(journals.tie_out),
    "journal.invoice": Run(journals.invoice),
    "journal.unbilled_accrual": Run(journals.unbilled),
    "journal.d365_example": Run(journals.voucher),
    "journal.line_limit_split": Run(journals.split),
    "journal.negative_amount": Run(journals.credit_note),
    "mediation": _FEEDS,
    "mediation.dedup": Run(dedup),
    "mediation.uid_ownership_history": Run(ownership),
    "mediation.no_owner": Run(no_owner),
    "reseller": Run(resold),
    "rating.graduated": Run(graduated),
    "rating.volume": Run(volume),
    "rating.volume.bracketed": needs(Price, "edge", Run(bracketed_from, policy="edge: exclusive")),
    "rating.package": Run(package),
    "rating.flexprice_package": Run(package),
    "rating.stairstep": Run(stairstep),
    "rating.threshold": Run(threshold),
    "rating.increment": Run(increments),
    "rating.increment.carrier_ceiling": needs(
        Price, "rounding", Run(ceiling, policy="rounding: {mode: up, digits: 4}")
    ),
    "rating.rounding_point": Run(rounding_points),
    "rating.time_of_day": needs(Price, "time", Run(time_split)),
    "rating.dst": Run(elapsed),
    "rating.zone": Run(longest_match),
    "rating.on_net_off_net": Run(on_net),
    "rating.min_max": Run(min_max),
    "rating.allowance_then_tier": Run(allowance_then_tier),
    "rounding.ties": needs(Charge, "rounding", Run(ties, policy="rounding: half_even")),
    "time.billing_timezone": Run(billing_zone),
    "rating.small_amounts": Run(small_amounts),
    "rating.plan_precedence": Run(plan_precedence),
    "share.variable_growth": Run(growth),
    "share.pools_do_not_mix": Run(plans_apart),
    "share.carrier_invoice": Run(carrier_invoice),
    "share.overage_proportional_excess": Run(attribution),
    "share.overage_proportional_usage": Run(attribution, policy="proportional_usage"),
    "share.overage_chronological": Run(chronological, policy="chronological"),
    "share.overage_tie_drift": Run(remainder),
    "share.exact_fit": Run(exact_fit),
    "share.fixed_pool": Run(fixed_pool),
    "share.parent_level_two_step": Run(parent_level),
    "share.leaver_keeps_contribution": Run(leaver),
    "share.own_bucket_first": Run(own_first),
    "share.joiner_usage_before_join": Run(before_joining),
    "share.zero_usage": Run(sharing.nothing_used),
    "share.rollover": Run(sharing.rollover),
    "share.rollover_expiry_order": Run(sharing.expiry_order),
    "share.weekly_frequency": Run(sharing.weekly),
    "share.multi_class_bucket": Run(sharing.sized_by_class),
    "share.mid_month_upgrade": Run(sharing.upgrade, policy="plan_change: cycle"),
    "share.particle_block": Run(sharing.blocks, policy="kind: combined"),
    "units.binary_vs_decimal": Run(binary_units),
    "recurring.proration.start": Run(proration_start),
    "recurring.proration.cancel": Run(proration_start),
    "recurring.proration.basis": Run(basis),
    "recurring.proration.30_360": Run(two_months),
    "recurring.proration.activation": Run(activation),
    "recurring.proration.leap_february": Run(leap),
    "recurring.proration.dst_day": Run(dst_day),
    "recurring.state_price": Run(many_states),
    "recurring.advance": Run(advance),
    "billing_period.bill_day_31": Run(bill_day),
    "transition_nrc.sequence": Run(transitions),
    "transition_nrc.conditional": needs(Charge, "after_months", Run(conditional_transition)),
    "plan_change": Run(plan_change, policy="billing: advance"),
    "vendor.usage_and_rate_variance": Run(usage_and_rate),
    "vendor.inactive_sim": Run(inactive_sim),
    "vendor.duplicate": Run(duplicate_line),
    "vendor.tolerance_stacking": Run(tolerance),
    "vendor.same_plan_name_wrong_price": Run(wrong_price),
    "vendor.margin_per_device": Run(margins),
    "vendor.in_bundle_arithmetic": Run(in_bundle),
    "vendor.cause_waterfall": Run(waterfall),
}
"""Concept, or the area of several, -> how its cases are run."""

WORKED_EXCEPTIONS: dict[str, Entry] = {}
"""Cases that stand apart from their concept."""
