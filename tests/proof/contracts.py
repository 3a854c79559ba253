"""Contract examples through the flow that closes a month: charges in, desired charges out."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from itertools import pairwise
from typing import Any

from iotbill_pipelines.engine.calendars import Month

from .business import Ledger, Settled, business, catalog, usage_charge, whole
from .outcome import Case, Check, Entry, Run

D = Decimal
Facts = dict[str, Any]
MONTH = Month(2026, 3)
_PENALTY = {"product_id": "activation"}


def _contract(contract_id: str = "K", service: str | None = None, **terms: Any) -> Facts:
    start = terms.pop("start", "2026-01-01")
    agreed = {"currency": "EUR", "term_months": 36, **terms}
    return {"id": contract_id, "account": "C1", "service": service, "start": start, "terms": agreed}


def _minimum(steps: list[Facts], **changes: Any) -> Facts:
    terms = {"id": "min", "kind": "invoice_amount", "amounts": steps, "penalty": _PENALTY}
    return {**terms, **changes}


def _spent(
    amounts: list[str],
    commitment: Facts,
    month: Month = MONTH,
    fee: str | None = None,
    start: str = "2026-01-01",
) -> Settled:
    """An account that uses so much, each amount by a record of its own, under a commitment."""
    use = {"id": "use", "product": "sms", "kind": "usage", "prices": [{"rate": "0.01"}]}
    charges: list[Facts] = [use]
    if fee is not None:
        charges.append(
            {"id": "fee", "product": "subscription", "kind": "recurring", "prices": [{"rate": fee}]}
        )
    usage = [
        {
            "service": "S",
            "at": f"{month}-{day:02}",
            "class": "sms",
            "quantity": int(D(amount) * 100),
        }
        for day, amount in enumerate(amounts, 1)
    ]
    return business(
        period=str(month),
        catalog={"offers": [{"id": "deal", "name": "Deal", "currency": "EUR", "charges": charges}]},
        services={"S": {"offer": "deal"}},
        usage=usage,
        contracts={"contracts": [_contract(start=start, commitments=[commitment])]},
    )


def _steps(value: object) -> list[Facts]:
    return [{"from_month": 1, "value": value}]


def ramp(case: Case) -> list[Check]:
    facts, want = case["facts"], case["expected"]
    steps = [
        {"from_month": first, "to_month": last, "value": value}
        for first, last, value in facts["ramp"]
    ]
    found = _spent([facts["eligible_billed"]], _minimum(steps), Month(2026, facts["month"]))
    (status,) = found.rows("commitment_status")
    return [
        Check("commit", D(want["commit"]), status["committed"]),
        Check("shortfall", D(want["shortfall"]), found.amount(kind="shortfall")),
    ]


def minimum_spend(case: Case) -> list[Check]:
    facts, want = case["facts"], case["expected"]
    found = [_spent([used], _minimum(_steps(facts["minimum"]))) for used in facts["usage"]]
    return [
        Check("true up", [D(a) for a in want["true_up"]],
              [each.amount(kind="shortfall") for each in found]),
        Check("pre-tax", [D(a) for a in want["pre_tax"]], [each.amount() for each in found]),
    ]  # fmt: skip


def minimum_with_fee(case: Case) -> list[Check]:
    facts, want = case["facts"], case["expected"]
    used = D(facts["unit"]) * facts["units"]
    found = _spent([str(used)], _minimum(_steps(facts["minimum"])), fee=facts["fee"])
    true_up = found.amount(kind="shortfall")
    return [
        Check("before", D(want["before"]), found.amount() - true_up),
        Check("true up", D(want["true_up"]), true_up),
        Check("total", D(want["total"]), found.amount()),
    ]


def connections(case: Case) -> list[Check]:
    facts, want = case["facts"], case["expected"]
    commitment = {
        "id": "lines", "kind": "connections", "unit": "quantity",
        "amounts": _steps(facts["min_connections"]),
        "penalty": {**_PENALTY, "unit_price": facts["unit_price"]},
    }  # fmt: skip
    found = []
    for active in facts["active"]:
        done = business(
            period=str(MONTH),
            catalog={"offers": [{"id": "deal", "name": "Deal", "currency": "EUR", "charges": []}]},
            services={"S": {"count": active, "offer": "deal"}},
            contracts={"contracts": [_contract(commitments=[commitment])]},
        )
        found.append(done.amount(kind="shortfall"))
    return [Check("penalty", [D(amount) for amount in want["penalty"]], found)]


def late_usage(case: Case) -> list[Check]:
    facts, checks = case["facts"], []
    terms = _minimum(_steps(facts["minimum"]))
    first = str(D(facts["minimum"]) - D(facts["billed_true_up"]))
    for late, want in zip(facts["late_usage"], case["expected"]["adjustment"], strict=True):
        before, after = _spent([first], terms), _spent([first, late], terms)
        ledger = Ledger.empty(before.products)
        ledger.book(before.tables["desired_charge"], MONTH)
        new = ledger.book(after.tables["desired_charge"], MONTH + 1)
        booked = {row["kind"]: D(row["amount_minor"]) / 100 for row in new}
        checks += [
            Check(f"usage {late}", D(want["usage"]), booked["usage"]),
            Check(f"true up after {late}", D(want["true_up"]), booked["shortfall"]),
            Check(f"net of {late}", D(want["net"]), sum(booked.values(), D(0))),
        ]
    return checks


def early_termination(case: Case) -> list[Check]:
    """Every candidate day booked as if the contract had really ended on it."""
    facts, checks = case["facts"], []
    tiers = [
        {"from_month": first, "to_month": last, "percent": percent.rstrip("%")}
        for first, last, percent in facts["tiers_by_contract_month"]
    ]
    ending = {
        "product_id": "activation", "kind": "pct_of_remaining", "tiers": tiers,
        "monthly_value": _steps(facts["monthly_commit"]),
    }  # fmt: skip
    for day, want in case["expected"].items():
        ended = date.fromisoformat(day)
        signed = _contract(start=facts["term"][0], early_termination=ending)
        last = Month.of(date.fromordinal(ended.toordinal() - 1))
        found = business(
            period=str(last),
            catalog={"offers": []},
            contracts={"contracts": [{**signed, "terminated_on": day}]},
        )
        checks.append(Check(day, D(want), found.amount(kind="termination_fee")))
    return checks


def _subscribed(
    month: Month, services: Facts, rate: str, *contracts: Facts, accounts: tuple[str, ...] = ("C1",)
) -> Settled:
    charge = {"id": "fee", "product": "subscription", "kind": "recurring",
              "prices": [{"rate": rate}]}  # fmt: skip
    offer = {"id": "deal", "name": "Deal", "currency": "EUR", "charges": [charge]}
    return business(
        period=str(month),
        catalog={"offers": [offer]},
        accounts={name: {} for name in accounts},
        services={name: {"offer": "deal", **more} for name, more in services.items()},
        contracts={"contracts": list(contracts)},
    )


def seasonal(case: Case) -> list[Check]:
    facts, want = case["facts"], case["expected"]
    starts = facts["season_high_from"]
    signed = _contract(
        seasons=[{"id": "high", "starts": starts, "ends_before": "10-01"}],
        prices=[{"charge_id": "fee", "rate": facts["low"],
                 "seasonal": [{"season": "high", "rate": facts["high"]}]}],
    )  # fmt: skip
    found = _subscribed(Month.parse(facts["period"]), {"S": {}}, "9.99", signed)
    parts = sorted(found.rows("charge_component"), key=lambda row: str(row["component_id"]))
    return [
        Check("segments", [D(amount) for amount in want["segments"]],
              [D(row["amount_minor"]) / 100 for row in parts]),
        Check("total", D(want["total"]), found.amount()),
    ]  # fmt: skip


def uplift(case: Case) -> list[Check]:
    facts, want = case["facts"], case["expected"]
    end = date.fromordinal(date.fromisoformat(facts["term_end"]).toordinal() + 1)
    signed = _contract(
        start=str(end.replace(year=end.year - 1)),
        term_months=12,
        prices=[{"charge_id": "fee", "rate": facts["price"]}],
        renewal={"kind": "auto_renew", "uplift_percent": facts["uplift_pct"]},
    )
    found = _subscribed(Month.of(end), {"S": {"count": facts["devices"]}}, "9.99", signed)
    each = {D(row["amount_minor"]) / 100 for row in found.rows()}
    return [
        Check("price", {D(want["price_from_2026-07-01"])}, each),
        Check("July", D(want["july"]), found.amount()),
    ]


def precedence(case: Case) -> list[Check]:
    facts, want = case["facts"], case["expected"]["prices"]
    (month,) = facts["seasonal_on_line"]
    season = {"id": "season", "starts": f"{month}-01", "ends_before": "01-01"}
    account = _contract("A", prices=[{"charge_id": "fee", "rate": facts["account_contract"]}])
    line = _contract(
        "L", "S", seasons=[season],
        prices=[{"charge_id": "fee", "rate": facts["line_item_contract"],
                 "seasonal": [{"season": "season", "rate": facts["seasonal_on_line"][month]}]}],
    )  # fmt: skip
    services = {"S": {"account": "C1"}, "T": {"account": "C1"}, "U": {"account": "C2"}}
    found = {
        name: _subscribed(
            Month.parse(name), services, facts["catalog"], account, line, accounts=("C1", "C2")
        )
        for name in ("2026-11", f"2026-{month}")
    }
    last = found[f"2026-{month}"]
    return [
        Check("2026-11", D(want["2026-11"]), found["2026-11"].amount(service_id="S")),
        Check(f"2026-{month}", D(want[f"2026-{month}"]), last.amount(service_id="S")),
        Check("other service", D(want["other_service"]), last.amount(service_id="T")),
        Check("no contract", D(want["no_contract"]), last.amount(service_id="U")),
    ]


def annual_forecast(case: Case) -> list[Check]:
    """Nothing is charged before the year ends; the cockpit shows what will be short then."""
    facts, want = case["facts"], case["expected"]
    year = int(facts["year"])
    (quarter, used), last = next(iter(facts["eligible_to_date"].items())), Month(year, 12)
    month = Month(year, 3 * int(quarter.removeprefix("Q")))
    left = (last.year - month.year) * 12 + last.month - month.month
    expected = [{"from_month": 1, "value": D(facts["forecast_rest"]) / left}]
    terms = _minimum(
        _steps(facts["annual_commit"]), period_months=12, frequency_months=12, expected=expected
    )
    found = _spent([used], terms, month, start=f"{year}-01-01")
    (status,) = found.rows("commitment_status")
    return [
        Check("expected shortfall", D(want["expected_shortfall"]), status["projected_missing"]),
        Check("accrued", D(want[f"accrue_{quarter}"]), found.amount(kind="shortfall")),
    ]


def renewals(case: Case) -> list[Check]:
    """What a month after the term costs, by the kind of renewal: a contract's price, or none."""
    facts, want = case["facts"], case["expected"]
    start, end = (date.fromisoformat(day) for day in facts["term"])
    months = (end.year - start.year) * 12 + end.month - start.month
    agreed = {
        "prices": [{"charge_id": "fee", "rate": "2.00"}],
        "commitments": [_minimum(_steps("10.00"))],
        "term_months": months,
    }
    checks = []
    for kind, expected in want[str(end)].items():
        renewal: Facts = {"kind": kind}
        if kind == "new_contract":
            renewal["successor"] = {"currency": "EUR", "term_months": 12}
        signed = _contract(start=str(start), renewal=renewal, **agreed)

        def settled(month: Month, signed: Facts = signed) -> list[Decimal]:
            found = _subscribed(month, {"S": {}}, "3.00", signed)
            return [found.amount(kind="recurring"), found.amount(kind="shortfall")]

        catalogs, whole = [D("3.00"), D(0)], [D("2.00"), D("8.00")]
        checks.append(Check(f"{kind}: last month", whole, settled(Month.of(end) - 1)))
        renewed = whole if kind == "auto_renew" else catalogs
        checks.append(Check(f"{kind}: next month", renewed, settled(Month.of(end))))
        if kind == "auto_renew":
            last = Month.of(date.fromisoformat(expected[1])) - 1
            checks.append(Check("the renewed term's last month", whole, settled(last)))
    return checks


def suspension(case: Case) -> list[Check]:
    """The month in which a suspended contract's price still holds, and the one after it."""
    facts, want = case["facts"], case["expected"]
    end = date.fromordinal(date.fromisoformat(facts["contract_end"]).toordinal() + 1)
    new_end = date.fromisoformat(want["new_end"])
    stood = date(end.year - 1, 9, 3)
    signed = _contract(
        start=str(end.replace(year=end.year - 1)), term_months=12, suspension_extends_term=True,
        prices=[{"charge_id": "fee", "rate": "31.00"}],
    )  # fmt: skip
    stopped = date.fromordinal(stood.toordinal() + facts["suspended_days"])
    signed["suspensions"] = [{"start": str(stood), "end": str(stopped)}]
    found = _subscribed(Month.of(new_end), {"S": {}}, "62.00", signed)
    days = {
        row["detail"].rpartition("price ")[2].partition(":")[0]: row["quantity"]
        for row in found.rows("charge_component")
    }
    return [Check("new end", new_end.day, days["K"])]


def peer_minimum(case: Case) -> list[Check]:
    definition, usage, want = case["definition"], case["usage"], case["expected"]
    if "minimum_cents" in definition:
        floor = str(D(definition["minimum_cents"]) / 100)
        cents = [usage.get("used_cents", 0), *usage.get("billed_usage_cents", [])]
        january, start = Month(2026, 1), "2026-01-01"
        if "proration" in definition:
            days, whole = (int(part) for part in definition["proration"].split() if part.isdigit())
            assert whole == january.days
            start = str(date.fromordinal(january.end.toordinal() - days))
        fee = definition.get("subscription_cents")
        found = _spent(
            [str(D(amount) / 100) for amount in cents],
            _minimum(_steps(floor)),
            january,
            None if fee is None else str(D(fee) / 100),
            start,
        )
        true_up = found.amount(kind="shortfall")
        return [Check("true up", D(want["true_up_cents"]) / 100, true_up)]
    used = D(definition["per_unit"]) * D(usage["units"])
    terms = _minimum(_steps(definition["minimum"]))
    found = _spent([str(used)], terms, fee=definition["subscription"])
    return [
        Check("true up", D(want["true_up"]), found.amount(kind="shortfall")),
        Check("invoice", D(want["invoice_total"]), found.amount()),
    ]


def peer_overage(case: Case) -> list[Check]:
    """The commitment alone, then one feature more each time: what each adds is its part."""
    definition, want = case["definition"], case["expected"]
    features = list(case["usage"])
    terms = _minimum(_steps(definition["commit"]), overage_factor=definition["overage_factor"])
    charges = [
        {"id": f"use_{name}", "product": name, "kind": "usage",
         "prices": [{"rate": definition["per_unit"][name]}]}
        for name in features
    ]  # fmt: skip
    totals = []
    for count in range(len(features) + 1):
        found = business(
            period=str(MONTH),
            catalog={
                "usage_classes": dict.fromkeys(features, "count"),
                "offers": [{"id": "deal", "name": "Deal", "currency": "EUR", "charges": charges}],
            },
            services={"S": {"offer": "deal"}},
            usage=[
                {"service": "S", "at": str(MONTH.start), "class": name,
                 "quantity": int(case["usage"][name])}
                for name in features[:count]
            ],
            contracts={"contracts": [_contract(commitments=[terms])]},
        )  # fmt: skip
        totals.append(found.amount())
    parts = [totals[0], *(after - before for before, after in pairwise(totals))]
    return [
        Check("amount", D(want["amount"]), totals[-1]),
        Check("parts", [D(part) for part in want["parts"]], parts),
    ]


def peer_windows(case: Case) -> list[Check]:
    """A commitment for every hour: a tier of the record that ends where the commitment does."""
    definition, want = case["definition"], case["expected"]
    bucket = next(name for name in definition if name != "else")
    first, last = bucket.removeprefix("in_bucket_").split("_")

    def amount(*, over: bool, true_up: bool) -> Decimal:
        prices = [
            _hour(definition[name], over=over, true_up=true_up) | more
            for name, more in ((bucket, {"time": "in"}), ("else", {}))
        ]
        charge = usage_charge(prices=prices)
        found = business(
            catalog=catalog([charge], time_windows=[
                {"id": "in", "starts": f"{first}:00", "ends": f"{last}:00"}]),
            services={"S": {"offer": "deal"}},
            usage=[
                {"service": "S", "at": f"2026-03-02 {hour}", "quantity": whole(units)}
                for hour, units in case["usage"].items()
            ],
        )  # fmt: skip
        return found.amount()

    everything, utilized = amount(over=True, true_up=True), amount(over=False, true_up=False)
    overage = amount(over=True, true_up=False) - utilized
    return [
        Check("amount", D(want["amount"]), everything),
        Check("utilized", D(want["utilized"]), utilized),
        Check("overage", D(want["overage"]), overage),
        Check("true up", D(want["true_up"]), everything - overage - utilized),
    ]


def _hour(terms: Facts, *, over: bool, true_up: bool) -> Facts:
    rate = D(terms["per_unit"])
    units = (
        D(terms["commit_units"]) if "commit_units" in terms else D(terms.get("commit", 0)) / rate
    )
    if not units:
        return {"rate": rate}
    beyond = rate * D(terms["overage_factor"]) if over else D(0)
    tiers = [{"up_to": units, "rate": rate}, {"rate": beyond}]
    least = {"least": units * rate} if true_up and terms.get("true_up") else {}
    return {"model": "graduated", "tiers": tiers, "counted": "record", **least}


def _discounted(amounts: list[object], discount: Facts, currency: str) -> Settled:
    """One-time fees of so much, each of a service of its own, under a contract with a discount."""
    charges = [
        {"id": f"fee{n}", "product": "subscription", "kind": "recurring", "prices": [{"rate": a}]}
        for n, a in enumerate(amounts)
    ]
    offer = {"id": "deal", "name": "Deal", "currency": currency, "charges": charges}
    signed = _contract(currency=currency, discounts=[{"id": "off", **discount}])
    return business(
        catalog={"offers": [offer]},
        services={"S": {"offer": "deal"}},
        contracts={"contracts": [signed]},
    )


def peer_percent_discount(case: Case) -> list[Check]:
    definition, want = case["definition"], case["expected"]
    found = _discounted(
        [case["usage"]["price"]], {"percent": definition["percent_off"]},
        definition["currency"].upper(),
    )  # fmt: skip
    return [
        Check("discount", D(want["discount"]), -found.amount(kind="discount")),
        Check("final", D(want["final"]), found.amount()),
    ]


def peer_penny(case: Case) -> list[Check]:
    lines = [D(cents) / 100 for cents in case["usage"]["lines_cents"]]
    off = {"amount": D(case["definition"]["discount_cents"]) / 100}
    found = _discounted(list(lines), off, "EUR")
    after = [line + found.amount(charge_id=f"K/off/fee{n}") for n, line in enumerate(lines)]
    return [Check("after", [D(cents) / 100 for cents in case["expected"]["after_cents"]], after)]


CONTRACT_PEERS: dict[str, Entry] = {
    "minimum_spend_true_up": Run(peer_minimum),
    "charge_minimum_true_up": Run(peer_minimum),
    "commitment_overage_across_features": Run(peer_overage, policy="overage_factor"),
    "window_commitment_time_of_day": Run(peer_windows, policy="counted: record"),
    "percent_discount_currency_rounding": Run(peer_percent_discount),
    "penny_allocation": Run(peer_penny),
}

CONTRACTS: dict[str, Entry] = {
    "CT-01": Run(ramp),
    "CT-02": Run(minimum_spend),
    "CT-03": Run(minimum_with_fee),
    "CT-05": Run(connections),
    "CT-07": Run(late_usage),
    "CT-09": Run(early_termination),
    "CT-11": Run(seasonal),
    "CT-12": Run(uplift),
    "CT-15": Run(annual_forecast),
    "CT-16": Run(precedence),
    "CT-17": Run(renewals),
    "ST-23": Run(suspension),
}
"""Worked examples whose figures are charges; the others are dates and forecasts, not billed."""
