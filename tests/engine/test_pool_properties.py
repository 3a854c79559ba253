"""Laws of pools, many of them settled in one run: an account is a case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from random import Random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.depth import examples
from tests.proof.business import Settled, business

POLICIES = ("proportional_excess", "proportional_usage", "chronological", "equal", "owner")
RATE = "0.0377"
FEW = settings(
    max_examples=examples(2),
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)


@dataclass(frozen=True)
class Pool:
    """A fixed size in MB, and what each service uses, record by record."""

    size: int
    uses: tuple[tuple[int, ...], ...]

    @property
    def used(self) -> int:
        return sum(map(sum, self.uses))

    @property
    def over(self) -> int:
        return max(0, self.used - self.size)


_USES = st.lists(st.lists(st.integers(0, 40), max_size=3).map(tuple), max_size=4).map(tuple)
POOLS = st.lists(st.builds(Pool, st.integers(0, 90), _USES), min_size=6, max_size=6)
EDGES = [
    Pool(50, ()),
    Pool(0, ()),
    Pool(30, ((30,),)),
    Pool(30, ((31,),)),
    Pool(30, ((10,), (20,))),
    Pool(0, ((1,), (0,))),
]
"""No participant, no size, one participant, equality at the edge and one beyond it."""


def plan(name: str, size: int, **terms: Any) -> dict[str, Any]:
    return {
        "id": name, "usage_class": "data", "currency": "EUR", "growth": "fixed", "fixed": size,
        "overage": {"id": f"over_{name}", "product": "overage", "kind": "overage", "per": "MB",
                    "prices": [{"rate": RATE}]},
        **terms,
    }  # fmt: skip


def settle(
    pools: Sequence[Pool], plans: Sequence[Sequence[dict[str, Any]]], order: Random | None = None
) -> Settled:
    """Each pool's services share the plans at its place; every service opens them."""
    offers, shared, services, usage = [], [], {}, []
    for number, (pool, mine) in enumerate(zip(pools, plans, strict=True)):
        offer = f"offer{number}"
        offers.append({
            "id": offer, "name": offer, "currency": "EUR", "sells": [one["id"] for one in mine],
            "charges": [{"id": f"use{number}", "product": "data", "kind": "usage", "per": "MB",
                         "pooled": True, "prices": [{"rate": 1}]}]})  # fmt: skip
        shared += [{**one, "participants": [{"offer": offer}]} for one in mine]
        for place, records in enumerate(pool.uses):
            name = f"S{number}-{place}"
            services[name] = {"account": f"C{number}", "offer": offer}
            usage += [
                {"service": name, "at": f"2026-03-{day:02d}T0{place}:00:00",
                 "quantity": units * 10**6, "file": f"file{place}"}
                for day, units in enumerate(records, 2)
            ]  # fmt: skip
    if order is not None:
        order.shuffle(usage)
        usage = [{**one, "file": f"file{order.randrange(3)}"} for one in usage]
    return business(
        accounts={f"C{number}": {} for number in range(len(pools))},
        catalog={"offers": offers, "share_plans": shared},
        services=services,
        usage=usage,
    )


def cents(over: int) -> int:
    return int(over * Fraction(RATE) * 100 + Fraction(1, 2))


@FEW
@given(POOLS, st.randoms(use_true_random=False))
def test_policies_share_one_total_whatever_the_order(drawn: list[Pool], chance: Random) -> None:
    pools = [pool for pool in [*drawn, *EDGES] for _ in POLICIES]
    plans = [
        [plan(f"p{number}", pool.size, attribution=POLICIES[number % len(POLICIES)])]
        for number, pool in enumerate(pools)
    ]
    found = settle(pools, plans, chance)
    settled = {row["share_plan_id"]: row for row in found.rows("pool_settlement")}
    for number, pool in enumerate(pools):
        if not pool.uses:
            assert f"p{number}" not in settled  # nobody is there to fill it or to use it
            continue
        row, policy = settled[f"p{number}"], POLICIES[number % len(POLICIES)]
        mega = 10**6
        assert (row["used"], row["overage_quantity"]) == (pool.used * mega, pool.over * mega)
        assert row["amount_minor"] == cents(pool.over)
        parts = found.rows("pool_part", pool_id=row["pool_id"])
        assert sum(part["amount_minor"] for part in parts) == row["amount_minor"]
        assert sum(part["overage_quantity"] for part in parts) == row["overage_quantity"]
        named = {part["service_id"]: part for part in parts}
        for place, records in enumerate(pool.uses):
            part = named[f"S{number}-{place}"]
            assert part["used"] == sum(records) * mega
            if policy == "chronological":
                assert part["overage_quantity"] <= part["used"]
            if policy == "owner" or (policy != "equal" and not any(records) and pool.over):
                assert part["amount_minor"] == 0
        if len(pool.uses) == 1 and policy != "owner":
            assert named[f"S{number}-0"]["amount_minor"] == row["amount_minor"]
        if policy == "equal":
            amounts = [part["amount_minor"] for part in parts]
            assert max(amounts) - min(amounts) <= 1


@FEW
@given(POOLS, st.integers(0, 3))
def test_a_pool_cut_into_plans_of_equal_terms_is_one_pool(drawn: list[Pool], cut: int) -> None:
    """One plan of 90 MB, or three of 90 in a row: the same units exceed them, at the same price."""
    pools = [pool for pool in [*drawn, *EDGES] if pool.uses]
    plans = []
    for number, pool in enumerate(pools):
        first = pool.size * cut // 4
        second = (pool.size - first) // 2
        sizes = (first, second, pool.size - first - second)
        plans.append([plan(f"p{number}_{n}", size, tie_break=n) for n, size in enumerate(sizes)])
    found = settle(pools, plans)
    settled = {row["share_plan_id"]: row for row in found.rows("pool_settlement")}
    for number, pool in enumerate(pools):
        rows = [settled[one["id"]] for one in plans[number]]
        assert [row["overage_quantity"] for row in rows] == [0, 0, pool.over * 10**6]
        assert [row["amount_minor"] for row in rows] == [0, 0, cents(pool.over)]
        assert sum(row["used"] for row in rows) == pool.used * 10**6
        full = [row["used"] for row in rows[:-1]]
        assert full[0] == min(pool.used, plans[number][0]["fixed"]) * 10**6


def test_pools_merged_under_a_parent_add_up_where_both_exceed() -> None:
    """Equal terms, flat price: apart 7 and 11 MB over, together 18; what one leaves helps."""
    families = [((17, 21), (7, 11), 18), ((4, 21), (0, 11), 5), ((0, 20), (0, 10), 0)]
    accounts: dict[str, Any] = {}
    services: dict[str, Any] = {}
    usage = []
    for number, (uses, _, _) in enumerate(families):
        accounts[f"P{number}"] = {}
        for side, used in zip("AB", uses, strict=True):
            accounts[f"{side}{number}"] = {"parent": f"P{number}"}
            for level in ("account", "parent"):
                name = f"{level}-{side}{number}"
                services[name] = {"account": f"{side}{number}", "offer": f"for_{level}"}
                usage.append({"service": name, "at": "2026-03-05", "quantity": used * 10**6})
    charge = {"product": "data", "kind": "usage", "per": "MB", "pooled": True}
    found = business(
        accounts=accounts,
        services=services,
        usage=usage,
        catalog={
            "share_plans": [
                plan(level, 0, growth="variable", share_level=level)
                for level in ("account", "parent")
            ],
            "offers": [
                {
                    "id": f"for_{level}",
                    "name": level,
                    "currency": "EUR",
                    "share_plan": level,
                    "contribution": 10,
                    "charges": [{"id": f"use_{level}", "prices": [{"rate": 1}], **charge}],
                }
                for level in ("account", "parent")
            ],
        },
    )
    over = {
        row["pool_id"]: row["overage_quantity"] // 10**6 for row in found.rows("pool_settlement")
    }
    for number, (_, apart, together) in enumerate(families):
        assert (over[f"account/A{number}"], over[f"account/B{number}"]) == apart
        assert over[f"parent/P{number}"] == together
