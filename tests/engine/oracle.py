"""The rules once more, one row at a time, in plain Python with fractions.

Written from the rulebook, sharing nothing with the engine but the typed terms: no SQL, no
intervals, no sets. Slow on purpose; tests compare every value the engine gives with these.
"""

# ruff: noqa: DTZ001 - times are UTC and naive, as in the tables

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

from iotbill_pipelines.engine.terms import Catalog, Charge, Offer, Price, SharePlan

Row = dict[str, Any]
SIZES = {"B": 1, "KB": 1000, "MB": 10**6, "GB": 10**9, "second": 1, "minute": 60, "count": 1}
DIGITS = {"EUR": 2, "USD": 2, "JPY": 0, "KWD": 3}


def size(per: str) -> int:
    count, _, name = per.rpartition(" ")
    return int(count or 1) * SIZES[name]


def half_up(value: Fraction) -> int:
    whole = (abs(value) * 2 + 1) // 2
    return int(whole if value >= 0 else -whole)


def share_out(total: int, weights: dict[Any, Fraction | int]) -> dict[Any, int]:
    """Largest remainder, ties to the smallest key; zero weights share equally."""
    if not weights:
        return {}
    if not any(weights.values()):
        weights = dict.fromkeys(weights, 1)
    sign, rest = (-1 if total < 0 else 1), abs(total)
    whole = sum(Fraction(w) for w in weights.values())
    exact = {key: Fraction(rest) * w / whole for key, w in weights.items()}
    parts = {key: int(value // 1) for key, value in exact.items()}
    left = rest - sum(parts.values())
    for key in sorted(weights, key=lambda k: (-(exact[k] % 1), k))[:left]:
        parts[key] += 1
    return {key: sign * part for key, part in parts.items()}


def stepped(quantity: int, initial: int, subsequent: int) -> int:
    if quantity <= 0:
        return quantity
    result = initial
    while result < quantity:
        missing = quantity - result
        result += max(1, missing // subsequent) * subsequent
    return result


def days(start: date, end: date) -> Iterable[date]:
    while start < end:
        yield start
        start += timedelta(days=1)


@dataclass
class Business:
    catalog: Catalog
    reference: dict[str, list[Row]]
    usage: list[Row]


@dataclass
class Outcome:
    charges: dict[tuple[str, ...], Row] = field(default_factory=dict)
    components: dict[tuple[str, ...], dict[str, int]] = field(default_factory=dict)
    pools: dict[tuple[str, str], Row] = field(default_factory=dict)
    parts: dict[tuple[str, ...], int] = field(default_factory=dict)
    suspended: dict[tuple[int, int], str] = field(default_factory=dict)
    duplicates: set[tuple[int, int]] = field(default_factory=set)
    rated: dict[tuple[int, int, str], Row] = field(default_factory=dict)


class Oracle:
    def __init__(self, business: Business) -> None:
        self.catalog, self.ref, self.usage = business.catalog, business.reference, business.usage
        self.accounts = {row["account_id"]: row for row in self.ref["account"]}
        self.services = {row["service_id"]: row for row in self.ref["service"]}
        self.offers = {offer.id: offer for offer in self.catalog.offers}
        self.plans = {plan.id: plan for plan in self.catalog.share_plans}
        self.classes = {product.id: product.usage_class for product in self.catalog.products}
        self.cores = {state.state: state.core.value for state in self.catalog.states}
        self.charges: dict[str, tuple[Charge, str]] = {}
        for offer in self.catalog.offers:
            for charge in offer.charges:
                self.charges[charge.id] = (charge, offer.currency)
        for plan in self.catalog.share_plans:
            self.charges[plan.overage.id] = (plan.overage, plan.currency)
        self.outcome = Outcome()

    # ---- reference data at a moment

    def owner(self, record: Row) -> str | None:
        found = [
            row
            for row in self.ref["service_identifier"]
            if (row["uid_type"], row["uid_value"]) == (record["uid_type"], record["uid_value"])
            and row["valid_from"] <= record["event_start"]
        ]
        if not found:
            return None
        last = max(found, key=lambda row: row["valid_from"])
        if last["valid_to"] is not None and last["valid_to"] <= record["event_start"]:
            return None
        return last["service_id"] if last["service_id"] in self.services else None

    def local(self, moment: datetime, account_id: str) -> date:
        zone = ZoneInfo(self.accounts[account_id]["billing_zone"])
        return moment.replace(tzinfo=UTC).astimezone(zone).date()

    def state(self, service_id: str, day: date) -> str | None:
        changes = [
            row
            for row in self.ref["service_state"]
            if row["service_id"] == service_id and row["changed_at"].date() <= day
        ]
        return max(changes, key=lambda row: row["changed_at"])["state"] if changes else None

    def core(self, service_id: str, day: date) -> str | None:
        state = self.state(service_id, day)
        return None if state is None else self.cores[state]

    def use(self, service_id: str, level: str, day: date) -> Row | None:
        found = [
            row
            for row in self.ref["service_offer"]
            if (row["service_id"], row["level"]) == (service_id, level) and row["valid_from"] <= day
        ]
        if not found:
            return None
        last = max(found, key=lambda row: row["valid_from"])
        return None if last["valid_to"] is not None and last["valid_to"] <= day else last

    def levels(self, service_id: str) -> list[str]:
        return sorted(
            {row["level"] for row in self.ref["service_offer"] if row["service_id"] == service_id}
        )

    def zone(self, offer: Offer, record: Row) -> str | None:
        for zones in self.catalog.zone_sets:
            if zones.id != offer.zone_set:
                continue
            plmn = (record["mcc"] or "") + (record["mnc"] or "")
            for rule in zones.rules:
                if plmn in rule.plmn:
                    return rule.zone
            for rule in zones.rules:
                if record["mcc"] in rule.mcc:
                    return rule.zone
            for rule in zones.rules:
                if record["region"] in rule.region:
                    return rule.zone
            return next((rule.zone for rule in zones.rules if rule.any), None)
        return None

    @staticmethod
    def price(charge: Charge, day: date, fits: Callable[[Price], bool]) -> tuple[str, Price] | None:
        for number, price in enumerate(charge.prices, 1):
            if (
                fits(price)
                and price.valid_from <= day
                and (price.valid_to is None or day < price.valid_to)
            ):
                return price.id or f"{charge.id}#{number}", price
        return None

    # ---- records

    def mediate(self) -> list[Row]:
        keys: dict[tuple[str, str], list[Row]] = defaultdict(list)
        for row in self.usage:
            keys[row["feed_id"], row["dedup_key"]].append(row)
        kept = []
        for rows in keys.values():
            rows.sort(
                key=lambda r: (
                    r["quantity"],
                    r["event_start"],
                    r["content_hash"],
                    r["file_key"],
                    r["line_no"],
                )
            )
            kept.append(rows[0])
            for row in rows[1:]:
                place = (row["file_key"], row["line_no"])
                if row["content_hash"] == rows[0]["content_hash"]:
                    self.outcome.duplicates.add(place)
                else:
                    self.outcome.suspended[place] = "conflict"
        return kept

    def rate(self) -> None:
        for record in self.mediate():
            place = (record["file_key"], record["line_no"])
            rated, reason = self.attempt(record)
            if reason:
                self.outcome.suspended[place] = reason
            else:
                for row in rated:
                    self.outcome.rated[(*place, row["level"])] = row

    def attempt(self, record: Row) -> tuple[list[Row], str | None]:
        service_id = self.owner(record)
        if service_id is None:
            return [], "no_owner"
        home = self.local(record["event_start"], self.services[service_id]["account_id"])
        core = self.core(service_id, home)
        if core == "cancelled":
            return [], "after_cancel"
        reasons, rated = [], []
        for level in self.levels(service_id):
            payers = {
                row["payer_account_id"]
                for row in self.ref["service_offer"]
                if (row["service_id"], row["level"]) == (service_id, level)
            }
            assert len({self.accounts[p]["billing_zone"] for p in payers}) == 1
            day = self.local(record["event_start"], min(payers))
            use = self.use(service_id, level, day)
            if use is None:
                reasons.append("no_offer")
                continue
            offer = self.offers[use["offer_id"]]
            charge = next(
                (
                    c
                    for c in offer.charges
                    if c.kind == "usage" and self.classes[c.product] == record["usage_class"]
                ),
                None,
            )
            zone = self.zone(offer, record)
            found = charge and self.price(charge, day, lambda p, z=zone: p.zone in (None, z))
            if not charge or not found:
                reasons.append("no_rate")
                continue
            inc = charge.increment
            rated.append(
                {
                    "level": level,
                    "account_id": use["payer_account_id"],
                    "service_id": service_id,
                    "offer_id": offer.id,
                    "charge_id": charge.id,
                    "price_id": found[0],
                    "price": found[1],
                    "usage_period": f"{day:%Y-%m}",
                    "event_start": record["event_start"],
                    "session": (record["feed_id"], record["session_id"])
                    if record["session_id"]
                    else (record["file_key"], record["line_no"]),
                    "quantity": record["quantity"],
                    "rated": stepped(record["quantity"], inc.initial, inc.subsequent)
                    if inc.point == "record"
                    else record["quantity"],
                    "pooled": charge.pooled and core in ("active", "suspended"),
                }
            )
        if not self.levels(service_id):
            return [], "no_offer"
        if reasons:
            return [], "no_offer" if "no_offer" in reasons else "no_rate"
        return rated, None

    # ---- the period

    def settle(self, period: str) -> None:
        year, month = map(int, period.split("-"))
        start = date(year, month, 1)
        end = (start + timedelta(days=32)).replace(day=1)
        units: dict[tuple[str, ...], list[Row]] = defaultdict(list)
        for row in self.outcome.rated.values():
            if row["usage_period"] == period:
                key = (row["level"], row["account_id"], row["service_id"], row["charge_id"])
                units[key].append(row)
        drawn: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
        for key, rows in units.items():
            self.usage_charge(period, key, rows, drawn)
        self.pools(period, start, end, drawn)
        self.recurring(start, end)
        self.transitions(period, start, end)

    def usage_charge(  # noqa: PLR0912 - the rule in one place, as it reads
        self,
        period: str,
        key: tuple[str, ...],
        rows: list[Row],
        drawn: dict[tuple[str, str, str], list[Row]],
    ) -> None:
        charge, currency = self.charges[key[3]]
        inc = charge.increment
        end_of_time = datetime(9999, 12, 31)
        entries = [
            {
                "at": r["event_start"],
                "price_id": r["price_id"],
                "pooled": r["pooled"],
                "units": r["rated"],
            }
            for r in rows
        ]

        def round_up(group: list[Row], total: int) -> None:
            last = max(group, key=lambda r: (r["event_start"], r["price_id"], r["pooled"]))
            extra = stepped(total, inc.initial, inc.subsequent) - total
            if extra:
                entries.append(
                    {
                        "at": end_of_time,
                        "price_id": last["price_id"],
                        "pooled": last["pooled"],
                        "units": extra,
                    }
                )

        if inc.point == "session":
            sessions: dict[Any, list[Row]] = defaultdict(list)
            for row in rows:
                sessions[row["session"]].append(row)
            for group in sessions.values():
                round_up(group, sum(r["rated"] for r in group))
            merged: dict[tuple[str, bool], int] = defaultdict(int)
            for entry in [e for e in entries if e["at"] == end_of_time]:
                merged[entry["price_id"], entry["pooled"]] += entry["units"]
                entries.remove(entry)
            for (price_id, pooled), extra in merged.items():
                entries.append(
                    {"at": end_of_time, "price_id": price_id, "pooled": pooled, "units": extra}
                )
        elif inc.point == "service_period":
            round_up(rows, sum(r["rated"] for r in rows))
        entries.sort(key=lambda e: (e["at"], e["price_id"], e["pooled"], e["units"]))
        free = int(charge.allowance * size(charge.per))
        sums: dict[str, int] = defaultdict(int)
        for entry in entries:
            covered = max(0, min(free, entry["units"]))
            free -= covered
            units = entry["units"] - covered
            if entry["pooled"]:
                drawn[key[0], key[1], key[2]].append(
                    {**entry, "units": units, "charge_id": charge.id}
                )
            else:
                sums[entry["price_id"]] += units
        names = {r["price_id"]: r["price"] for r in rows}
        first = {
            p: min(r["event_start"] for r in rows if r["price_id"] == p and not r["pooled"])
            for p in sums
        }
        exact: dict[str, Fraction] = {}
        for zone in {names[p].zone for p in sums}:
            position = 0
            mine = sorted((p for p in sums if names[p].zone == zone), key=lambda p: (first[p], p))
            total = sum(sums[p] for p in mine)
            for p in mine:
                exact[p] = self.cost(names[p], charge, position, position + sums[p], total)
                position += sums[p]
        scale = 10 ** DIGITS[currency]
        whole = sum(exact.values(), Fraction(0))
        rounded = half_up(whole * scale)
        amount = rounded
        if charge.minimum is not None and whole > 0:
            amount = max(amount, int(charge.minimum * scale))
        raised = amount
        if charge.maximum is not None:
            amount = min(amount, int(charge.maximum * scale))
        self.add(period, key, "usage", amount, sum(r["quantity"] for r in rows), len(rows), period)
        parts: dict[str, int] = share_out(rounded, exact)
        for r in rows:
            if r["pooled"]:
                parts["pooled " + r["price_id"]] = 0
        if raised != rounded:
            parts["minimum"] = raised - rounded
        if amount != raised:
            parts["maximum"] = amount - raised
        self.outcome.components[(period, *key)] = parts

    @staticmethod
    def cost(price: Price, charge: Charge, start: int, end: int, total: int) -> Fraction:
        """What units start+1 .. end of a count that ends at total cost, in currency units."""
        if end <= start:
            return Fraction(0)
        per = size(charge.per)
        tiers: list[tuple[int, int | None, Fraction, Fraction]] = []
        lower = 0
        if price.rate is not None:
            tiers.append((0, None, Fraction(price.rate), Fraction(0)))
        for tier in price.tiers:
            upper = None if tier.up_to is None else int(tier.up_to * per)
            tiers.append((lower, upper, Fraction(tier.rate), Fraction(tier.flat)))
            lower = upper or 0
        if price.model == "package":
            start, end = -(-start // per) * per, -(-end // per) * per
        amount = Fraction(0)
        if price.model in ("flat", "graduated", "package", "threshold_excess"):
            for low, high, rate, flat in tiers:
                inside = min(end, end if high is None else high) - max(start, low)
                if inside > 0:
                    amount += Fraction(inside, per) * rate
                    if low >= start:
                        amount += flat
            return amount
        for low, high, rate, flat in tiers:
            if low < total and (high is None or total <= high):
                if price.model != "stairstep":
                    amount += Fraction(end - start, per) * rate
                if end == total:
                    amount += flat
        return amount

    def pool_of(self, plan: SharePlan, account_id: str) -> str:
        parent = self.accounts[account_id]["parent_account_id"]
        return (parent or account_id) if plan.share_level == "parent" else account_id

    def pools(
        self, period: str, start: date, end: date, drawn: dict[tuple[str, str, str], list[Row]]
    ) -> None:
        whole = (end - start).days
        members: dict[tuple[str, str, str], dict[tuple[str, str], Row]] = defaultdict(dict)
        for service_id in self.services:
            for level in self.levels(service_id):
                for day in days(date(2025, 12, 1), end):
                    use = self.use(service_id, level, day)
                    if use is None or self.core(service_id, day) not in ("active", "suspended"):
                        continue
                    offer = self.offers[use["offer_id"]]
                    if offer.share_plan is None:
                        continue
                    plan = self.plans[offer.share_plan]
                    pool = (level, plan.id, self.pool_of(plan, use["payer_account_id"]))
                    who = (use["payer_account_id"], service_id)
                    seen = members[pool].setdefault(who, {"contribution": 0, "used": 0, "days": []})
                    seen["days"].append(day)
                    if day >= start:
                        brings = int(offer.contribution * size(plan.per))
                        seen["contribution"] = max(seen["contribution"], brings)
        for (level, account_id, service_id), entries in drawn.items():
            for entry in entries:
                offer = next(
                    o
                    for o in self.catalog.offers
                    if entry["charge_id"] in [c.id for c in o.charges]
                )
                plan = self.plans[offer.share_plan or ""]
                pool = (level, plan.id, self.pool_of(plan, account_id))
                who = members[pool].setdefault(
                    (account_id, service_id), {"contribution": 0, "used": 0, "days": []}
                )
                who["used"] += entry["units"]
                who.setdefault("entries", []).append({**entry, "service_id": service_id})
        for (level, plan_id, owner), people in sorted(members.items()):
            here = {
                who: one
                for who, one in people.items()
                if one["used"] or any(start <= day for day in one["days"])
            }
            if here:
                self.pool(period, start, whole, level, self.plans[plan_id], owner, here)

    def pool(  # noqa: PLR0912 - the rule in one place, as it reads
        self,
        period: str,
        start: date,
        whole: int,
        level: str,
        plan: SharePlan,
        owner: str,
        people: dict[tuple[str, str], Row],
    ) -> None:
        for one in people.values():
            if plan.join_policy == "prorate_join":
                # joined on the first day of the run of days that reaches into the period
                day = min(d for d in one["days"] if d >= start) if one["days"] else start
                while day - timedelta(days=1) in one["days"]:
                    day -= timedelta(days=1)
                late = max(0, (day - start).days)
                one["contribution"] = half_up(Fraction(one["contribution"] * (whole - late), whole))
        used = sum(one["used"] for one in people.values())
        brought = sum(one["contribution"] for one in people.values())
        available = int(plan.fixed * size(plan.per)) if plan.growth == "fixed" else brought
        over = max(0, used - available)
        inc = plan.overage.increment
        last = start + timedelta(days=whole - 1)
        found = self.price(plan.overage, last, lambda p: p.zone is None)
        scale = 10 ** DIGITS[plan.currency]
        amount = 0
        if found and over:
            units = stepped(over, inc.initial, inc.subsequent)
            exact = self.cost(found[1], plan.overage, 0, units, units)
            amount = half_up(exact * scale)
            if plan.overage.minimum is not None and exact > 0:
                amount = max(amount, int(plan.overage.minimum * scale))
            if plan.overage.maximum is not None:
                amount = min(amount, int(plan.overage.maximum * scale))
        weights: dict[tuple[str, str], Fraction | int] = {}
        for who, one in people.items():
            match plan.attribution:
                case "proportional_excess":
                    weights[who] = max(0, one["used"] - one["contribution"])
                case "proportional_usage":
                    weights[who] = one["used"]
                case "equal":
                    weights[who] = 1
                case _:
                    weights[who] = 0
        if plan.attribution == "owner":
            weights[owner, ""] = 1
        if plan.attribution == "chronological":
            everything = sorted(
                (
                    (e["at"], e["service_id"], e["price_id"], e["units"], who)
                    for who, one in people.items()
                    for e in one.get("entries", [])
                ),
                key=lambda e: e[:4],
            )
            left = available
            for *_, units, who in everything:
                inside = min(left, units)
                left -= inside
                weights[who] += units - inside
        pool_id = f"{plan.id}/{owner}"
        self.outcome.pools[level, pool_id] = {
            "available": available,
            "used": used,
            "overage_quantity": over,
            "amount_minor": amount,
            "services": sum(1 for one in people.values() if one["contribution"]),
        }
        accounts: dict[str, Fraction | int] = defaultdict(int)
        for (account_id, _), weight in weights.items():
            accounts[account_id] += weight
        money, volume = share_out(amount, accounts), share_out(over, accounts)
        for account_id in accounts:
            mine = {who: w for who, w in weights.items() if who[0] == account_id}
            part, more = share_out(money[account_id], mine), share_out(volume[account_id], mine)
            for who in mine:
                self.outcome.parts[level, pool_id, *who] = part[who]
                if part[who] or more[who]:
                    key = (level, account_id, who[1], plan.overage.id)
                    self.add(period, key, "overage", part[who], more[who], 0, period)

    def recurring(self, start: date, end: date) -> None:
        following = (end + timedelta(days=32)).replace(day=1)
        for service_id in self.services:
            for level in self.levels(service_id):
                self.fees(service_id, level, start, end, advance_only=False)
                self.fees(service_id, level, end, following, advance_only=True)

    def fees(
        self, service_id: str, level: str, start: date, end: date, *, advance_only: bool
    ) -> None:
        period = f"{start:%Y-%m}"
        before = f"{start - timedelta(days=1):%Y-%m}"
        paid: dict[tuple[str, str], dict[date, tuple[str, Price]]] = defaultdict(dict)
        for day in days(start - timedelta(days=1), end):
            use, state = self.use(service_id, level, day), self.state(service_id, day)
            if use is None or state is None or self.cores[state] == "cancelled":
                continue
            for charge in self.offers[use["offer_id"]].charges:
                if charge.kind != "recurring":
                    continue
                found = self.price(
                    charge,
                    day,
                    lambda p, s=state: (
                        p.state == s or (p.state is None and self.cores[s] == "active")
                    ),
                )
                if found:
                    paid[use["payer_account_id"], charge.id][day] = found
        for (account_id, charge_id), by_day in paid.items():
            charge, currency = self.charges[charge_id]
            inside = sorted(day for day in by_day if day >= start)
            announced = charge.billing == "advance" and start - timedelta(days=1) in by_day
            if not inside or (advance_only and not announced):
                continue
            fractions = self.fractions(charge.basis.value, inside, start, end)
            exact = sum(
                (Fraction(by_day[day][1].rate or 0) * fractions[day] for day in inside), Fraction(0)
            )
            amount = half_up(exact * 10 ** DIGITS[currency])
            key = (level, account_id, service_id, charge_id)
            carrier = before if announced else period
            self.add(period, key, "recurring", amount, len(inside), 0, carrier)

    @staticmethod
    def fractions(basis: str, inside: list[date], start: date, end: date) -> dict[date, Fraction]:
        whole = (end - start).days
        match basis:
            case "actual":
                return dict.fromkeys(inside, Fraction(1, whole))
            case "actual_30":
                share = Fraction(min(30, len(inside)), 30)
                return dict.fromkeys(inside, share / len(inside))
            case "strict_30_360":
                result = {}
                for day in inside:
                    part = 1
                    if day.day == 31 and day - timedelta(days=1) in inside:
                        part = 0  # the 31st is the 30th once more
                    if day + timedelta(days=1) == end and day.day < 30:
                        part = 30 - day.day + 1  # February ends on the 30th
                    result[day] = Fraction(part, 30)
                return result
        return dict.fromkeys(inside, Fraction(1, len(inside)))

    def transitions(self, period: str, start: date, end: date) -> None:
        due: dict[tuple[str, ...], list[Fraction]] = defaultdict(list)
        for service_id in self.services:
            changes = sorted(
                (r for r in self.ref["service_state"] if r["service_id"] == service_id),
                key=lambda r: r["changed_at"],
            )
            before = "NEW"
            for change in changes:
                old, before = before, change["state"]
                day = change["changed_at"].date()
                if old == before or not start <= day < end:
                    continue
                for level in self.levels(service_id):
                    use = self.use(service_id, level, day)
                    if use is None and self.cores[before] == "cancelled":
                        use = self.use(service_id, level, day - timedelta(days=1))
                    if use is None:
                        continue
                    for charge in self.offers[use["offer_id"]].charges:
                        if charge.transition != (old, before):
                            continue
                        found = self.price(charge, day, lambda _: True)
                        if found:
                            key = (level, use["payer_account_id"], service_id, charge.id)
                            due[key].append(Fraction(found[1].rate or 0))
        for key, rates in due.items():
            scale = 10 ** DIGITS[self.charges[key[3]][1]]
            amount = half_up(sum(rates, Fraction(0)) * scale)
            self.add(period, key, "transition", amount, len(rates), 0, period)

    def add(
        self,
        period: str,
        key: tuple[str, ...],
        kind: str,
        amount: int,
        quantity: int,
        records: int,
        billing_period: str,
    ) -> None:
        charge, currency = self.charges[key[3]]
        row = self.outcome.charges.setdefault(
            (period, *key),
            {
                "kind": kind,
                "amount_minor": 0,
                "quantity": 0,
                "records": 0,
                "billing_period": billing_period,
                "currency": currency,
                "product_id": charge.product,
                "entity_id": self.accounts[key[1]]["entity_id"],
            },
        )
        row["amount_minor"] += amount
        row["quantity"] += quantity
        row["records"] += records
