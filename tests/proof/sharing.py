"""Worked examples of share plans beyond one pool and month: rollover, weeks, buckets, changes."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from iotbill_pipelines.engine.calendars import Month

from .business import PERIOD, Settled, business, catalog, usage_charge, whole
from .outcome import Case, Check

D = Decimal


def plan(**terms: Any) -> dict[str, Any]:
    """A share plan of data at 1.00 a MB of overage."""
    overage = {
        "id": "over", "product": "overage", "kind": "overage", "per": "MB",
        "prices": [{"rate": terms.pop("rate", 1)}],
    }  # fmt: skip
    return {
        "id": "pool", "usage_class": "data", "currency": "EUR", "overage": overage, **terms
    }  # fmt: skip


def months(uses: list[object], **terms: Any) -> list[dict[str, Any]]:
    """The settlements of one service's pool over months in which it uses so many MB."""
    found = business(
        periods=[str(PERIOD + number) for number in range(len(uses))],
        catalog=catalog(
            [usage_charge(pooled=True, prices=[{"rate": 0}])],
            share_plans=[plan(**terms)],
            offer={"share_plan": "pool", "contribution": terms.pop("contribution", 0)},
        ),
        services={"S": {"offer": "deal"}},
        usage=[
            {"service": "S", "at": str((PERIOD + number).start + timedelta(days=4)),
             "quantity": whole(used)}
            for number, used in enumerate(uses)
        ],
    )  # fmt: skip
    return found.rows("pool_settlement")


def rollover(case: Case) -> list[Check]:
    facts, want = case["facts"], case["expected"]
    rows = months(
        [facts["used_MB"], 0], growth="fixed", fixed=facts["recurring_MB"], rollover={"periods": 1}
    )
    return [Check("next", whole(want["next_available_MB"]), rows[1]["available"])]


def expiry_order(case: Case) -> list[Check]:
    """The month before leaves what is rolled; what comes after says in which order it was used."""
    facts, want = case["facts"], case["expected"]
    fresh, rolled = facts["available"]["fresh"], facts["available"]["rolled"]
    checks = []
    for used in facts["cases_used_MB"]:
        rows = months(
            [fresh - rolled, used, 0], growth="fixed", fixed=fresh, rollover={"periods": 1}
        )
        checks += [
            Check("rolled", whole(rolled), rows[1]["carried"]),
            Check(
                f"used {used}", whole(want["next_available_MB"][str(used)]), rows[2]["available"]
            ),
        ]
    return checks


def nothing_used(case: Case) -> list[Check]:
    facts, want = case["facts"], case["expected"]
    fee = {"product": "subscription", "kind": "recurring"}
    offers = [
        {"id": f"deal{n}", "name": "d", "currency": "EUR", "share_plan": "pool", "charges": [
            {"id": f"fee{n}", "prices": [{"rate": price}], **fee},
            usage_charge(pooled=True, prices=[{"rate": 0}]) | {"id": f"use{n}"}]}
        for n, price in enumerate(facts["mrc"])
    ]  # fmt: skip
    terms = plan(growth="fixed", fixed=facts["pool_MB"], rollover={"periods": 1})
    found = business(
        periods=[str(PERIOD), str(PERIOD + 1)],
        catalog={"share_plans": [terms], "offers": offers},
        services={f"S{n}": {"offer": f"deal{n}"} for n in range(len(offers))},
    )
    first, second = found.rows("pool_settlement")
    fees = {"kind": "recurring", "usage_period": str(PERIOD)}
    return [
        Check("overage", D(want["overage"]), D(first["amount_minor"]).scaleb(-2)),
        Check("recurring", D(want["recurring"]), found.amount(**fees)),
        Check("rolled", whole(want["rolled_MB"]), second["carried"]),
    ]


def weekly(case: Case) -> list[Check]:
    facts, want = case["facts"], case["expected"]
    monday = date(2026, 3, 2)
    terms = plan(
        growth="fixed", fixed=facts["pool_MB"], rate=facts["rate_per_MB"],
        cycle={"every": facts["frequency"].removesuffix("ly")},
    )  # fmt: skip
    found = business(
        catalog=catalog(
            [usage_charge(pooled=True, prices=[{"rate": 0}])],
            share_plans=[terms],
            offer={"share_plan": "pool"},
        ),
        services={"S": {"offer": "deal"}},
        usage=[
            {"service": "S", "at": str(monday + timedelta(weeks=week)), "quantity": whole(used)}
            for week, used in enumerate(facts["usage_by_week_MB"])
        ],
    )
    over = sum(row["overage_quantity"] for row in found.rows("pool_settlement"))
    return [
        Check("overage", whole(want["overage_MB"]), over),
        Check("charge", D(want["charge"]), found.amount(charge_id="over")),
    ]


def sized_by_class(case: Case) -> list[Check]:
    facts, want = case["facts"], case["expected"]
    count, _, per = facts["ratio"].split()
    terms = plan(usage_class="request", per="count",
                 sized_by={"usage_class": "data", "quantity": count, "per": per})  # fmt: skip
    found = business(
        catalog=catalog(
            [
                usage_charge(prices=[{"rate": 0}]),
                {"id": "ask", "product": "request", "kind": "usage", "pooled": True,
                 "prices": [{"rate": 0}]},
            ],
            usage_classes={"data": "byte", "request": "count"},
            share_plans=[terms],
            offer={"share_plan": "pool"},
        ),
        services={"S": {"offer": "deal"}},
        usage=[{"service": "S", "at": "2026-03-05", "quantity": whole(D(facts["data_GB"]) * 1000)}],
    )  # fmt: skip
    (row,) = found.rows("pool_settlement")
    return [Check("included", want["included_requests"], row["available"])]


def upgrade(case: Case) -> list[Check]:
    """The case up, and the same change down: what the month and the next one cost and hold."""
    facts, want = case["facts"], case["expected"]
    changed = date.fromisoformat(facts["changed"])
    month = Month.of(changed)

    def run(first: str, second: str) -> tuple[Settled, list[Decimal]]:
        offers = [
            {"id": name, "name": name, "currency": "EUR", "share_plan": "pool",
             "contribution": facts[name]["MB"], "charges": [
                 {"id": f"fee_{name}", "product": "subscription", "kind": "recurring",
                  "prices": [{"rate": facts[name]["rental"]}]},
                 usage_charge(pooled=True, prices=[{"rate": 0}]) | {"id": f"use_{name}"}]}
            for name in ("old", "new")
        ]  # fmt: skip
        found = business(
            periods=[str(month), str(month + 1)],
            catalog={"share_plans": [plan(plan_change="cycle")], "offers": offers},
            services={"S": {"offers": [{"offer": first, "to": str(changed)},
                                       {"offer": second, "from": str(changed)}]}},
        )  # fmt: skip
        return found, [found.amount(kind="recurring", usage_period=str(month + n)) for n in (0, 1)]

    up, fees = run("old", "new")
    extra = fees[0] - D(facts["old"]["rental"])
    down, less = run("new", "old")
    sizes = [row["available"] for row in down.rows("pool_settlement")]
    old, new = (facts[name] for name in ("old", "new"))
    return [
        Check("extra charge", D(want["extra_charge"]), extra),
        Check(
            "contribution",
            whole(want["pool_contribution_MB"]),
            up.rows("pool_settlement")[0]["available"],
        ),
        Check("downgrade", want["downgrade_effective"], str((month + 1).start)),
        Check("downgraded size", [whole(new["MB"]), whole(old["MB"])], sizes),
        Check("downgraded fee", [D(new["rental"]), D(old["rental"])], less),
    ]


_BLOCK = {"devices": "100", "operations": "720000", "MB": "540", "price": "299.00"}
"""What a block holds, and costs; the case tells the amount, its source the rest."""


def blocks(case: Case) -> list[Check]:
    """One price for blocks of devices, operations and data: the measure that needs most counts."""
    facts, want = case["facts"], case["expected"]
    free = [{"rate": 0}]
    charges = [
        {"id": "ops", "product": "operation", "kind": "usage", "prices": free},
        usage_charge(prices=free),
        {"id": "block", "product": "subscription", "kind": "combined", "scope": "account",
         "measures": [
             {"services": True, "each": _BLOCK["devices"]},
             {"charge": "ops", "each": _BLOCK["operations"]},
             {"charge": "use", "each": _BLOCK["MB"]},
         ],
         "prices": [{"rate": _BLOCK["price"]}]},
    ]  # fmt: skip
    devices = facts["devices"]
    found = business(
        catalog=catalog(charges, usage_classes={"data": "byte", "operation": "count"}),
        services={"S": {"offer": "deal", "count": devices}},
        usage=[
            {"service": f"S-{number}", "at": "2026-03-05", "class": name, "quantity": part}
            for name, total in (("operation", facts["operations"]), ("data", whole(facts["MB"])))
            for number, part in ((1, total // 3), (2, total - total // 3))
        ],
    )
    (row,) = found.rows(charge_id="block")
    return [
        Check("blocks", want["blocks"], row["quantity"]),
        Check("amount", D(want["amount"]), found.amount()),
    ]
