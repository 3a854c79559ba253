"""Hundreds of participants over months, against a model that bills them one unit at a time.

The model shares nothing with the engine: whole megabytes in lists, its own largest remainder.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from fractions import Fraction
from random import Random
from typing import Any

from iotbill_pipelines.engine.calendars import Month
from tests.proof.business import Ledger, Settled, business

MONTHS = [Month(2026, 3), Month(2026, 4), Month(2026, 5)]
FIRST, LAST = MONTHS[0].start, MONTHS[-1].end
TREE = {"TOP": None, "N": "TOP", "S": "TOP", "N1": "N", "N2": "N", "N3": "N", "S1": "S", "S2": "S"}
BRINGS = {"little": 1, "much": 5}
OWN = {"little": 2, "much": 0}
LOCAL, RATE, STEP = 30, Fraction(377, 10_000), 20


@dataclass
class Sim:
    """A service: where it belongs, when it was there, its offers from when on, what it used."""

    account: str
    joined: date
    left: date | None
    offers: list[tuple[date, str]]
    uses: list[tuple[datetime, int, bool]] = field(default_factory=list)

    def offer_on(self, day: date) -> str:
        return [offer for since, offer in self.offers if since <= day][-1]

    def held(self, month: Month) -> str | None:
        """The best offer it had on any day of the month; None if it was not there."""
        days = [month.start + timedelta(days=n) for n in range(month.days)]
        there = [d for d in days if self.joined <= d and (self.left is None or d < self.left)]
        return max((self.offer_on(day) for day in there), key=BRINGS.__getitem__, default=None)


def fleet(chance: Random, count: int) -> dict[str, Sim]:
    sims = {}
    for number in range(count):
        joined = FIRST - timedelta(days=9)
        if chance.random() < 0.4:
            joined = FIRST + timedelta(days=chance.randrange((LAST - FIRST).days - 10))
        left = None
        if chance.random() < 0.25:
            left = joined + timedelta(days=chance.randrange(6, 60))
        offers = [(joined, chance.choice([*BRINGS]))]
        last = min(left or LAST, LAST)
        if chance.random() < 0.4 and last > max(joined, FIRST) + timedelta(days=4):
            span = (last - max(joined, FIRST)).days
            day = max(joined, FIRST) + timedelta(days=chance.randrange(1, span))
            offers.append((day, next(o for o in BRINGS if o != offers[0][1])))
        sim = Sim(chance.choice([*TREE]), joined, left, offers)
        begin = datetime.combine(max(joined, FIRST), datetime.min.time())
        seconds = int((datetime.combine(last, datetime.min.time()) - begin).total_seconds())
        for _ in range(chance.randrange(0, 9) if seconds > 0 else 0):
            at = begin + timedelta(seconds=chance.randrange(seconds))
            sim.uses.append(
                (
                    at,
                    chance.choice([0, 1, 2, 3, 5, 14 if at.month != 4 else 1]),
                    chance.random() < 0.1,
                )
            )
        sims[f"SIM{number:03d}"] = sim
    return sims


# --------------------------------------------------------------------------------- the model


def split(total: int, weights: dict[str, int]) -> dict[str, int]:
    """Whole parts of a total: floors, then one more to the largest remainders, ties by name."""
    if not any(weights.values()):
        weights = dict.fromkeys(weights, 1)
    whole = sum(weights.values())
    parts = {name: total * weight // whole for name, weight in weights.items()}
    order = sorted(parts, key=lambda name: (-(total * weights[name] % whole), name))
    for name in order[: total - sum(parts.values())]:
        parts[name] += 1
    return parts


def path(account: str) -> list[str]:
    above = TREE[account]
    return [account] if above is None else [*path(above), account]


def down(total: int, weights: dict[str, int], sims: dict[str, Sim], depth: int) -> dict[str, int]:
    """A total over services: first over the accounts at this depth, then deeper, then services."""
    paths = {name: path(sims[name].account) for name in weights}
    if all(len(one) <= depth for one in paths.values()):
        return split(total, weights)
    groups: dict[str, dict[str, int]] = defaultdict(dict)
    for name, weight in weights.items():
        groups[paths[name][min(depth, len(paths[name]) - 1)]][name] = weight
    shares = split(total, {account: sum(group.values()) for account, group in groups.items()})
    return {
        name: part
        for account, group in groups.items()
        for name, part in down(shares[account], group, sims, depth + 1).items()
    }


@dataclass
class Bill:
    """A month of the pool of the whole tree."""

    available: int
    carried: int
    used: int
    overage: int
    cents: int
    parts: dict[str, int]


def bill(sims: dict[str, Sim], *, late: bool) -> dict[str, Bill]:
    bills, lot = {}, 0
    for month in MONTHS:
        held = {name: offer for name, sim in sims.items() if (offer := sim.held(month))}
        own = {(name, offer): OWN[offer] for name in sims for offer in OWN}
        local = dict.fromkeys(TREE, LOCAL)
        used = dict.fromkeys(held, 0)
        events = sorted(
            (at, name, units)
            for name, sim in sims.items()
            for at, units, arrives_late in sim.uses
            if Month.of(at.date()) == month and (late or not arrives_late)
        )
        for at, name, units in events:
            for _ in range(units):
                offer = sims[name].offer_on(at.date())
                if own[name, offer]:
                    own[name, offer] -= 1
                elif local[sims[name].account]:
                    local[sims[name].account] -= 1
                else:
                    used[name] += 1
        brought = {name: BRINGS[offer] for name, offer in held.items()}
        size = -(-sum(brought.values()) // STEP) * STEP
        total = sum(used.values())
        over = max(0, total - size - lot)
        cents = int(over * RATE * 100 + Fraction(1, 2))
        weights = {name: max(0, used[name] - brought[name]) for name in held}
        parts = down(cents, weights, sims, 1)
        bills[str(month)] = Bill(size + lot, lot, total, over, cents, parts)
        lot = size - min(size, max(0, total - lot))
    return bills


# --------------------------------------------------------------------------------- the engine


def settle(sims: dict[str, Sim], *, late: bool) -> Settled:
    def offer(name: str) -> dict[str, Any]:
        charge = {
            "id": f"{name}_mb", "product": "data", "kind": "usage", "per": "MB", "pooled": True,
            "allowance": OWN[name], "prices": [{"rate": 0}],
        }  # fmt: skip
        return {
            "id": name, "name": name, "currency": "EUR", "share_plan": "tree",
            "contribution": BRINGS[name], "charges": [charge],
        }  # fmt: skip

    def overage(name: str) -> dict[str, Any]:
        price = f"{float(RATE):.4f}" if name == "over" else "99"
        return {
            "id": name, "product": "overage", "kind": "overage", "per": "MB",
            "prices": [{"rate": price}],
        }  # fmt: skip

    day = {"every": "month", "day": 1}
    plans = [
        {"id": "tree", "usage_class": "data", "currency": "EUR", "share_level": "root",
         "tie_break": 2, "plan_change": "cycle", "step": STEP, "rollover": {"periods": 1},
         "cycle": day, "overage": overage("over")},
        {"id": "local", "usage_class": "data", "currency": "EUR", "growth": "fixed",
         "fixed": LOCAL, "tie_break": 1, "plan_change": "cycle", "cycle": day,
         "participants": [{"offer": name} for name in BRINGS], "overage": overage("none")},
    ]  # fmt: skip
    return business(
        periods=[str(month) for month in MONTHS],
        accounts={name: {"parent": parent} for name, parent in TREE.items()},
        catalog={"share_plans": plans, "offers": [offer(name) for name in BRINGS]},
        services={
            name: {
                "account": sim.account,
                "offers": [
                    {"offer": offer_id, "from": str(since), "to": str(until) if until else None}
                    for (since, offer_id), until in zip(
                        sim.offers,
                        [*(since for since, _ in sim.offers[1:]), sim.left],
                        strict=True,
                    )
                ],
                "states": [
                    [str(sim.joined), "active"],
                    *([[str(sim.left), "cancelled"]] if sim.left else []),
                ],
            }
            for name, sim in sims.items()
        },
        usage=[
            {"service": name, "at": at.isoformat(), "quantity": units * 10**6}
            for name, sim in sims.items()
            for at, units, arrives_late in sim.uses
            if late or not arrives_late
        ],
    )


def test_months_of_joins_leaves_upgrades_and_late_usage() -> None:
    sims = fleet(Random(20260301), 220)
    ledgers: list[Ledger] = []
    for late in (False, True):
        found, expected = settle(sims, late=late), bill(sims, late=late)
        assert any(one.overage for one in expected.values())
        assert any(one.carried for one in expected.values())
        for row in found.rows("pool_settlement"):
            if row["pool_id"] == "tree/TOP":
                want = expected[row["usage_period"]]
                mega = 10**6
                assert (
                    row["available"], row["carried"], row["used"], row["overage_quantity"],
                    row["amount_minor"],
                ) == (
                    want.available * mega, want.carried * mega, want.used * mega,
                    want.overage * mega, want.cents,
                )  # fmt: skip
            else:
                assert row["amount_minor"] == 0
                assert row["used"] <= row["available"] == LOCAL * 10**6
        for period, want in expected.items():
            parts = {
                row["service_id"]: row["amount_minor"]
                for row in found.rows("pool_part", usage_period=period, pool_id="tree/TOP")
            }
            assert parts == want.parts
        ledgers = ledgers or [Ledger.empty(found.products)]
        ledgers[0].book(found.tables["desired_charge"], MONTHS[-1])
    # what was booked first, and the differences booked late, are what is right now
    held: dict[tuple[str, str], int] = defaultdict(int)
    for row in ledgers[0].rows:
        if row["kind"] == "overage":
            held[row["usage_period"], row["service_id"]] += row["amount_minor"]
    assert {key: cents for key, cents in held.items() if cents} == {
        (period, name): cents
        for period, one in bill(sims, late=True).items()
        for name, cents in one.parts.items()
        if cents
    }
