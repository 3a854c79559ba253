"""A biller that reads a catalog row by row, in plain Python and exact fractions.

It is slow, it shares no code with the engine, and it knows only what the sample's catalog uses:
flat, graduated, volume and package prices, increments per record and per month, allowances, a
greatest amount, fees by days or whole, transitions, and variable pools shared by excess.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, date, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from zoneinfo import ZoneInfo

from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.terms import UNIT_SIZES, Catalog, Charge, Offer, Price
from iotbill_pipelines.operations.sample.fleet import Fleet, Service
from iotbill_pipelines.operations.sample.traffic import Event, Network

Amounts = dict[tuple[str, str, str], int]
"""Cents by (level, service, charge)."""


def cents(amount: Fraction) -> int:
    """Round half up; nothing here is negative."""
    return int((amount * 200 + 1) // 2)


def stepped(quantity: int, charge: Charge) -> int:
    """Round up to the charge's increments; nothing stays nothing."""
    if quantity == 0:
        return 0
    first, then = charge.increment.initial, charge.increment.subsequent
    return first + -(-max(0, quantity - first) // then) * then


def priced(price: Price, quantity: int, unit: int) -> Fraction:
    """Price a month's quantity in class units."""
    units = Fraction(quantity, unit)
    if price.rate is not None:
        whole = Fraction(-(-quantity // unit)) if price.model == "package" else units
        return whole * Fraction(price.rate)
    lower, total = Fraction(0), Fraction(0)
    for tier in price.tiers:
        upper = None if tier.up_to is None else Fraction(tier.up_to)
        inside = units > lower and (upper is None or units <= upper)
        if price.model == "volume":
            if inside:
                return units * Fraction(tier.rate) + Fraction(tier.flat)
        elif units > lower:
            slice_ = (units if upper is None else min(units, upper)) - lower
            total += slice_ * Fraction(tier.rate) + Fraction(tier.flat)
        lower = upper if upper is not None else lower
    return total


class Oracle:
    """Bills one month of a fleet's kept events under a catalog."""

    def __init__(self, catalog: Catalog, fleet: Fleet) -> None:
        self.catalog = catalog
        self.month = fleet.month
        self.services = {service.service_id: service for service in fleet.services}
        self.offers = {offer.id: offer for offer in catalog.offers}
        self.charges = {charge.id: charge for o in catalog.offers for charge in o.charges}
        self.classes = {product.id: product.usage_class for product in catalog.products}
        self.zones = {zones.id: zones for zones in catalog.zone_sets}
        self.cores = {state.state: state.core.value for state in catalog.states}
        self.days = [self.month.start + timedelta(days=day) for day in range(self.month.days)]

    def bill(self, events: list[Event]) -> Amounts:
        """Return every charge of the month, also those of zero."""
        result: Amounts = {}
        pooled: dict[str, int] = defaultdict(int)
        for (level, service_id, charge_id), used in self._usage(events).items():
            charge = self.charges[charge_id]
            if charge.pooled:
                pooled[service_id] += sum(used.values())
            result[level, service_id, charge_id] = (
                0 if charge.pooled else self._usage_amount(charge, used)
            )
        for service in self.services.values():
            for level in ("retail", "vendor"):
                result |= self._fees(level, service) | self._transitions(level, service)
        return result | self._overage(pooled)

    def _offer(self, level: str, service: Service, day: date) -> Offer | None:
        if level == "vendor":
            known = day >= service.offers[0][0]
            return self.offers[service.carrier.vendor_offer] if known else None
        for start, end, offer in service.offers:
            if start <= day and (end is None or day < end):
                return self.offers[offer]
        return None

    @staticmethod
    def _state(service: Service, day: date) -> str | None:
        reached = [state for moment, state in sorted(service.states) if moment.date() <= day]
        return reached[-1] if reached else None

    def _usage(self, events: list[Event]) -> dict[tuple[str, str, str], dict[int, int]]:
        """Sum quantities by (level, service, charge), then by the position of the price."""
        used: dict[tuple[str, str, str], dict[int, int]] = defaultdict(lambda: defaultdict(int))
        for event in events:
            service = event.service
            for level, account in (
                ("retail", service.account),
                ("vendor", service.carrier.account),
            ):
                zone = ZoneInfo(account.billing_zone)
                day = event.start.replace(tzinfo=UTC).astimezone(zone).date()
                offer = self._offer(level, service, day)
                if Month.of(day) != self.month or offer is None:
                    continue
                charge = next(
                    charge
                    for charge in offer.charges
                    if charge.kind == "usage" and self.classes[charge.product] == event.usage_class
                )
                quantity = event.quantity
                if charge.increment.point == "record":
                    quantity = stepped(quantity, charge)
                number = self._price(offer, charge, event, day)
                used[level, service.service_id, charge.id][number] += quantity
        return used

    def _price(self, offer: Offer, charge: Charge, event: Event, day: date) -> int:
        zone = self._zone(offer, event.service.carrier.name, event.network)
        for number, price in enumerate(charge.prices):
            in_time = price.valid_from <= day and (price.valid_to is None or day < price.valid_to)
            if in_time and price.zone in (None, zone):
                return number
        raise AssertionError(f"{charge.id} has no price for {event}")

    def _zone(self, offer: Offer, carrier: str, network: Network) -> str | None:
        if offer.zone_set is None:
            return None
        # What the carrier's records say: BICS writes its zone, the others the network.
        region = {"bics": network.bics_ratezone, "emnify": network.emnify_ratezone}.get(carrier)
        plmn, mcc = network.mcc + network.mnc, network.mcc
        if carrier == "bics":
            plmn = mcc = "none"
        rules = self.zones[offer.zone_set].rules
        for fits in (
            lambda rule: plmn in rule.plmn,
            lambda rule: mcc in rule.mcc,
            lambda rule: region in rule.region,
            lambda rule: rule.any,
        ):
            for rule in rules:
                if fits(rule):
                    return rule.zone
        return None

    def _usage_amount(self, charge: Charge, used: dict[int, int]) -> int:
        unit = UNIT_SIZES[charge.per]
        if charge.increment.point == "service_period":
            assert len(used) == 1
            used = {number: stepped(quantity, charge) for number, quantity in used.items()}
        free = int(charge.allowance * unit)
        assert not free or len(used) == 1
        amount = sum(
            (
                priced(charge.prices[number], max(0, quantity - free), unit)
                for number, quantity in used.items()
            ),
            Fraction(0),
        )
        rounded = cents(amount)
        return rounded if charge.maximum is None else min(rounded, cents(Fraction(charge.maximum)))

    def _fees(self, level: str, service: Service) -> Amounts:
        sums: dict[str, Fraction] = defaultdict(Fraction)
        for day in self.days:
            offer, state = self._offer(level, service, day), self._state(service, day)
            if offer is None or state is None:
                continue
            for charge in offer.charges:
                if charge.kind != "recurring":
                    continue
                active = self.cores[state] == "active"
                for price in charge.prices:
                    if price.state == state or (price.state is None and active):
                        rate = Fraction(price.rate or 0)
                        whole = charge.basis == "none"
                        part = rate if whole else rate / self.month.days
                        sums[charge.id] = part if whole else sums[charge.id] + part
                        break
        return {(level, service.service_id, charge): cents(sum_) for charge, sum_ in sums.items()}

    def _transitions(self, level: str, service: Service) -> Amounts:
        result: Amounts = {}
        for (_, before), (moment, after) in pairwise(sorted(service.states)):
            offer = self._offer(level, service, moment.date())
            if Month.of(moment.date()) != self.month or offer is None:
                continue
            for charge in offer.charges:
                if charge.transition == (before, after):
                    key = level, service.service_id, charge.id
                    once = cents(Fraction(charge.prices[0].rate or 0))
                    result[key] = result.get(key, 0) + once
        return result

    def _overage(self, pooled: dict[str, int]) -> Amounts:
        result: Amounts = {}
        (plan,) = self.catalog.share_plans
        pools: dict[str, dict[str, int]] = defaultdict(dict)
        for service in self.services.values():
            for day in self.days:
                offer, state = self._offer("retail", service, day), self._state(service, day)
                core = self.cores[state] if state else ""
                if offer and offer.share_plan == plan.id and core in ("active", "suspended"):
                    brought = int(offer.contribution * UNIT_SIZES[plan.per])
                    pools[service.account.account_id][service.service_id] = brought
        for members in pools.values():
            used = {service: pooled.get(service, 0) for service in members}
            overage = max(0, sum(used.values()) - sum(members.values()))
            unit = UNIT_SIZES[plan.overage.per]
            total = cents(priced(plan.overage.prices[0], overage, unit))
            weights = {s: max(0, used[s] - members[s]) for s in members}
            for service, part in largest_remainder(total, weights).items():
                if part:
                    result["retail", service, plan.overage.id] = part
        return result


def largest_remainder(total: int, weights: dict[str, int]) -> dict[str, int]:
    """Give floors, then one cent each to the largest fractions, ties to the smallest key."""
    whole = sum(weights.values())
    if not whole:
        return dict.fromkeys(weights, 0)
    exact = {key: Fraction(total * weight, whole) for key, weight in weights.items()}
    parts = {key: int(part) for key, part in exact.items()}
    claims = sorted(exact, key=lambda key: (parts[key] - exact[key], key))
    for key in claims[: total - sum(parts.values())]:
        parts[key] += 1
    return parts


def eur(amount_minor: int) -> Decimal:
    return Decimal(amount_minor).scaleb(-2)
