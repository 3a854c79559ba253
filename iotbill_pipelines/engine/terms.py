"""Typed terms: what configuration means, and how it becomes tables for the engine to join.

A :class:`Catalog` holds products apart from offers (RULEBOOK §7). :func:`compile_catalog` turns it
into the tables of :data:`engine.schemas.CATALOG`; prices and policies are rows, never branches.
Cross-references that do not hold raise :class:`TermsError` with the key's path.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Literal

import pyarrow as pa
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from iotbill_pipelines.engine.calendars import ProrationBasis
from iotbill_pipelines.engine.money import RATE_SCALE, minor_digits, to_minor
from iotbill_pipelines.engine.schemas import CATALOG


class TermsError(ValueError):
    """Terms that contradict each other; ``path`` is the key, outermost first."""

    def __init__(self, path: tuple[str | int, ...], rule: str) -> None:
        super().__init__(f"{'.'.join(map(str, path))}: {rule}")
        self.path = path
        self.rule = rule


def _no_float(value: object) -> object:
    if isinstance(value, float):
        raise ValueError(f"{value!r} is a binary fraction; write money and rates in quotes")
    return value


Money = Annotated[Decimal, BeforeValidator(_no_float)]
Rate = Annotated[Decimal, BeforeValidator(_no_float), Field(decimal_places=RATE_SCALE)]

UNIT_SIZES: Mapping[str, int] = {
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "second": 1,
    "minute": 60,
    "hour": 3600,
    "count": 1,
    "thousand": 1000,
    "unit": 10**6,
}
"""Priced units in class units; decimal and binary are different names (RULEBOOK §0.5).

``per`` also takes a whole number of them: ``100 count``, ``720 thousand``, ``6 second``.
"""

_MULTIPLE = re.compile(r"([1-9][0-9]*) +([A-Za-z]+)")


class Terms(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CoreState(StrEnum):
    PROSPECT = "prospect"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    CANCELLED = "cancelled"


class Product(Terms):
    """What is sold, apart from its price."""

    id: str
    name: str
    charge_type: Literal["usage", "recurring", "one_time", "overage"]
    usage_class: str | None = None
    gl_class: str
    tax_code: str = "standard"


class ZoneRule(Terms):
    """Networks of a zone; the most specific rule that matches a record wins (RT-22)."""

    zone: str
    plmn: list[str] = []
    mcc: list[str] = []
    region: list[str] = []
    any: bool = False


class ZoneSet(Terms):
    id: str
    rules: list[ZoneRule]


class Tier(Terms):
    """A tier up to and including ``up_to`` priced units; the last one is open."""

    up_to: Rate | None = None
    rate: Rate = Decimal(0)
    flat: Rate = Decimal(0)


class Price(Terms):
    """A dated, conditional price; either ``rate`` or ``tiers``."""

    id: str | None = None
    model: Literal[
        "flat", "graduated", "volume", "package", "stairstep", "threshold_excess", "threshold_all"
    ] = "flat"
    rate: Rate | None = None
    tiers: list[Tier] = []
    zone: str | None = None
    state: str | None = None
    valid_from: date = date(1970, 1, 1)
    valid_to: date | None = None

    @model_validator(mode="after")
    def _shape(self) -> Price:
        if (self.rate is None) == (not self.tiers):
            raise ValueError("give either rate or tiers")
        bounds = [tier.up_to for tier in self.tiers]
        if bounds and (bounds[-1] is not None or None in bounds[:-1]):
            raise ValueError("only the last tier is open: leave up_to out there and nowhere else")
        if self.model == "stairstep" and any(tier.rate for tier in self.tiers):
            raise ValueError("a stairstep charges the flat price of the step; write flat, not rate")
        if self.model == "stairstep" and self.rate is not None:
            raise ValueError("a stairstep needs tiers with a flat price each")
        numbers = [bound for bound in bounds if bound is not None]
        if numbers != sorted(set(numbers)):
            raise ValueError("tiers must rise: each up_to greater than the one before")
        if self.valid_to is not None and self.valid_to <= self.valid_from:
            raise ValueError("valid_to must be after valid_from (the interval is half-open)")
        return self


class Increment(Terms):
    """Initial/subsequent increments in class units, and where they apply (RT-12..17)."""

    initial: int = Field(1, ge=1)
    subsequent: int = Field(1, ge=1)
    point: Literal["record", "session", "service_period", "pool_period"] = "record"


class Charge(Terms):
    """A priced item of an offer."""

    id: str
    product: str
    per: str = "count"
    kind: Literal["usage", "recurring", "transition", "overage"]
    external_code: str | None = None
    increment: Increment = Increment()
    allowance: Rate = Decimal(0)
    pooled: bool = False
    minimum: Money | None = None
    maximum: Money | None = None
    billing: Literal["advance", "arrears"] = "arrears"
    basis: ProrationBasis = ProrationBasis.ACTUAL
    transition: tuple[str, str] | None = None
    prices: list[Price] = Field(min_length=1)


class SharePlan(Terms):
    """A pool plan (RULEBOOK §3). ``overage`` prices what exceeds the pool."""

    id: str
    usage_class: str
    currency: str
    growth: Literal["fixed", "variable"] = "variable"
    fixed: Rate = Decimal(0)
    per: str = "MB"
    share_level: Literal["account", "parent"] = "account"
    join_policy: Literal["full", "prorate_join"] = "full"
    attribution: Literal[
        "proportional_excess", "proportional_usage", "chronological", "equal", "owner"
    ] = "proportional_excess"
    overage: Charge


class Offer(Terms):
    """Prices of products at a level of the seller chain."""

    id: str
    name: str
    level: Literal["retail", "wholesale", "vendor"] = "retail"
    currency: str
    zone_set: str | None = None
    share_plan: str | None = None
    contribution: Rate = Decimal(0)
    charges: list[Charge]


class StateDefinition(Terms):
    state: str
    core: CoreState
    to: list[str] = []


class Catalog(Terms):
    """Everything that prices need, of one currency or many."""

    usage_classes: dict[str, Literal["byte", "second", "count", "micro"]]
    states: list[StateDefinition]
    initial_states: list[str]
    products: list[Product]
    zone_sets: list[ZoneSet] = []
    share_plans: list[SharePlan] = []
    offers: list[Offer]


def compile_catalog(catalog: Catalog) -> dict[str, pa.Table]:
    """Return the tables of :data:`engine.schemas.CATALOG`. Raises TermsError."""
    return _Compiler(catalog).tables()


class _Compiler:
    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.rows: dict[str, list[dict[str, object]]] = {name: [] for name in CATALOG}
        self.products = {product.id: product for product in catalog.products}
        self.states = {definition.state for definition in catalog.states}
        self.zone_sets = {zones.id: zones for zones in catalog.zone_sets}
        self.share_plans = {plan.id: plan for plan in catalog.share_plans}
        self.charge_ids: set[str] = set()
        self.price_ids: set[str] = set()

    def tables(self) -> dict[str, pa.Table]:
        catalog = self.catalog
        _unique(("products",), (product.id for product in catalog.products))
        _unique(("offers",), (offer.id for offer in catalog.offers))
        _unique(("share_plans",), (plan.id for plan in catalog.share_plans))
        _unique(("zone_sets",), (zones.id for zones in catalog.zone_sets))
        _unique(("states",), (definition.state for definition in catalog.states))
        self._states()
        for product in catalog.products:
            self.rows["product"].append(
                {
                    "product_id": product.id,
                    "name": product.name,
                    "charge_type": product.charge_type,
                    "usage_class": product.usage_class,
                    "gl_class": product.gl_class,
                    "tax_code": product.tax_code,
                }
            )
        for number, zones in enumerate(catalog.zone_sets):
            self._zone_set(("zone_sets", number), zones)
        for number, plan in enumerate(catalog.share_plans):
            self._share_plan(("share_plans", number), plan)
        for number, offer in enumerate(catalog.offers):
            self._offer(("offers", number), offer)
        for currency in sorted(
            {offer.currency for offer in catalog.offers} | {p.currency for p in catalog.share_plans}
        ):
            self.rows["currency"].append(
                {"currency": currency, "minor_digits": minor_digits(currency)}
            )
        return {
            name: pa.Table.from_pylist(rows, schema=CATALOG[name].arrow_schema)
            for name, rows in self.rows.items()
        }

    def _states(self) -> None:
        for number, definition in enumerate(self.catalog.states):
            self.rows["state"].append(
                {"state": definition.state, "core_state": definition.core.value}
            )
            for target in definition.to:
                self._known(("states", number, "to"), target, self.states, "state")
                self.rows["state_transition"].append(
                    {"from_state": definition.state, "to_state": target}
                )
        for number, state in enumerate(self.catalog.initial_states):
            self._known(("initial_states", number), state, self.states, "state")
            self.rows["state_transition"].append({"from_state": "NEW", "to_state": state})

    def _zone_set(self, path: tuple[str | int, ...], zones: ZoneSet) -> None:
        members: list[dict[str, object]] = []
        for rule in zones.rules:
            for plmn in rule.plmn:
                members.append(
                    {"mcc": plmn[:3], "mnc": plmn[3:], "specificity": 3, "zone": rule.zone}
                )
            for mcc in rule.mcc:
                members.append({"mcc": mcc, "specificity": 2, "zone": rule.zone})
            for region in rule.region:
                members.append({"region": region, "specificity": 1, "zone": rule.zone})
            if rule.any:
                members.append({"specificity": 0, "zone": rule.zone})
        _unique(
            (*path, "rules"),
            (f"{m.get('mcc') or ''}{m.get('mnc') or ''}{m.get('region') or ''}*" for m in members),
        )
        self.rows["zone_member"] += [{"zone_set_id": zones.id, **member} for member in members]

    def _share_plan(self, path: tuple[str | int, ...], plan: SharePlan) -> None:
        size = self._unit((*path, "per"), plan.per)
        self._known(
            (*path, "usage_class"), plan.usage_class, self.catalog.usage_classes, "usage class"
        )
        if plan.overage.kind != "overage":
            raise TermsError((*path, "overage", "kind"), "a share plan's charge has kind overage")
        self.rows["share_plan"].append(
            {
                "share_plan_id": plan.id,
                "usage_class": plan.usage_class,
                "growth": plan.growth,
                "fixed_quantity": _whole((*path, "fixed"), plan.fixed * size),
                "share_level": plan.share_level,
                "join_policy": plan.join_policy,
                "attribution": plan.attribution,
                "overage_charge_id": plan.overage.id,
            }
        )
        self._charge((*path, "overage"), plan.overage, None, plan.currency, None, plan.usage_class)

    def _offer(self, path: tuple[str | int, ...], offer: Offer) -> None:
        zones = None
        if offer.zone_set is not None:
            self._known((*path, "zone_set"), offer.zone_set, self.zone_sets, "zone set")
            zones = self.zone_sets[offer.zone_set]
        contribution = 0
        if offer.share_plan is not None:
            self._known((*path, "share_plan"), offer.share_plan, self.share_plans, "share plan")
            plan = self.share_plans[offer.share_plan]
            if plan.currency != offer.currency:
                raise TermsError(
                    (*path, "currency"),
                    f"{offer.currency} differs from share plan {plan.id}'s {plan.currency}",
                )
            contribution = _whole(
                (*path, "contribution"),
                offer.contribution * self._unit((*path, "share_plan"), plan.per),
            )
        self.rows["offer"].append(
            {
                "offer_id": offer.id,
                "name": offer.name,
                "level": offer.level,
                "currency": offer.currency,
                "zone_set_id": offer.zone_set,
                "share_plan_id": offer.share_plan,
                "pool_contribution": contribution,
            }
        )
        priced_classes: dict[str, str] = {}
        for number, charge in enumerate(offer.charges):
            where = (*path, "charges", number)
            if charge.pooled and offer.share_plan is None:
                raise TermsError((*where, "pooled"), "the offer names no share_plan to draw from")
            product = self.products.get(charge.product)
            if charge.kind == "usage" and product is not None and product.usage_class is not None:
                self._one_charge(where, charge, product.usage_class, priced_classes)
                if charge.pooled and offer.share_plan is not None:
                    shared = self.share_plans[offer.share_plan].usage_class
                    if product.usage_class != shared:
                        raise TermsError(
                            (*where, "pooled"),
                            f"share plan {offer.share_plan!r} shares {shared}, "
                            f"not {product.usage_class}",
                        )
            self._charge(where, charge, offer.id, offer.currency, zones, None)

    @staticmethod
    def _one_charge(
        path: tuple[str | int, ...], charge: Charge, usage_class: str, priced: dict[str, str]
    ) -> None:
        """Refuse two usage charges of one class: a record would not know which one is meant."""
        if usage_class in priced:
            raise TermsError(
                (*path, "product"),
                f"charges {priced[usage_class]!r} and {charge.id!r} both price {usage_class}; "
                "keep one and give it several prices",
            )
        priced[usage_class] = charge.id

    def _charge(
        self,
        path: tuple[str | int, ...],
        charge: Charge,
        offer_id: str | None,
        currency: str,
        zones: ZoneSet | None,
        usage_class: str | None,
    ) -> None:
        if charge.id in self.charge_ids:
            raise TermsError((*path, "id"), f"charge {charge.id!r} is defined twice")
        self.charge_ids.add(charge.id)
        self._known((*path, "product"), charge.product, self.products, "product")
        product = self.products[charge.product]
        usage_class = usage_class or product.usage_class
        if charge.kind == "usage" and usage_class not in self.catalog.usage_classes:
            raise TermsError((*path, "product"), f"product {product.id!r} names no usage class")
        for state in charge.transition or ():
            self._known((*path, "transition"), state, self.states | {"NEW"}, "state")
        if (charge.kind == "transition") != (charge.transition is not None):
            raise TermsError((*path, "transition"), "a transition charge, and no other, has one")
        size = self._unit((*path, "per"), charge.per)
        start, end = charge.transition or (None, None)
        self.rows["charge"].append(
            {
                "charge_id": charge.id,
                "offer_id": offer_id,
                "product_id": product.id,
                "kind": charge.kind,
                "external_code": charge.external_code,
                "usage_class": usage_class,
                "unit_size": size,
                "increment_initial": charge.increment.initial,
                "increment_subsequent": charge.increment.subsequent,
                "increment_point": charge.increment.point,
                "allowance_quantity": _whole((*path, "allowance"), charge.allowance * size),
                "pooled": charge.pooled,
                "minimum_minor": _minor((*path, "minimum"), charge.minimum, currency),
                "maximum_minor": _minor((*path, "maximum"), charge.maximum, currency),
                "billing": charge.billing,
                "basis": charge.basis.value,
                "transition_from": start,
                "transition_to": end,
            }
        )
        if charge.kind in ("usage", "overage"):
            self._fallback(path, charge)
        for number, price in enumerate(charge.prices):
            where = (*path, "prices", number)
            if price.zone is not None:
                known = {rule.zone for rule in zones.rules} if zones else set()
                self._known((*where, "zone"), price.zone, known, "zone")
            if price.state is not None:
                self._known((*where, "state"), price.state, self.states, "state")
            self._price(where, charge, number, price, size)

    def _fallback(self, path: tuple[str | int, ...], charge: Charge) -> None:
        open_prices = [p for p in charge.prices if p.zone is None]
        if not open_prices:
            raise TermsError(
                (*path, "prices"), "no unconditional price; add one without zone (RULEBOOK §6)"
            )

    def _price(
        self, path: tuple[str | int, ...], charge: Charge, number: int, price: Price, size: int
    ) -> None:
        price_id = price.id or f"{charge.id}#{number + 1}"
        if price_id in self.price_ids:
            raise TermsError((*path, "id"), f"price {price_id!r} is defined twice")
        self.price_ids.add(price_id)
        self.rows["price"].append(
            {
                "price_id": price_id,
                "charge_id": charge.id,
                "priority": number + 1,
                "zone": price.zone,
                "state": price.state,
                "valid_from": price.valid_from,
                "valid_to": price.valid_to,
                "model": price.model,
            }
        )
        lower = 0
        for tier_no, tier in enumerate(price.tiers or [Tier(rate=price.rate or Decimal(0))], 1):
            upper = (
                None
                if tier.up_to is None
                else _whole((*path, "tiers", tier_no - 1, "up_to"), tier.up_to * size)
            )
            self.rows["price_tier"].append(
                {
                    "price_id": price_id,
                    "tier_no": tier_no,
                    "lower_quantity": lower,
                    "upper_quantity": upper,
                    "rate_e12": tier.rate.scaleb(RATE_SCALE).quantize(Decimal(1)),
                    "flat_e12": tier.flat.scaleb(RATE_SCALE).quantize(Decimal(1)),
                }
            )
            lower = upper or 0

    @staticmethod
    def _known(path: tuple[str | int, ...], name: str, known: Iterable[str], kind: str) -> None:
        choices = sorted(known)
        if name not in choices:
            raise TermsError(
                path, f"unknown {kind} {name!r}; known: {', '.join(choices) or 'none'}"
            )

    def _unit(self, path: tuple[str | int, ...], name: str) -> int:
        multiple = _MULTIPLE.fullmatch(name)
        count, name = (int(multiple[1]), multiple[2]) if multiple else (1, name)
        self._known(path, name, UNIT_SIZES, "unit")
        return count * UNIT_SIZES[name]


def _unique(path: tuple[str | int, ...], names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise TermsError(path, f"{name!r} is defined twice")
        seen.add(name)


def _whole(path: tuple[str | int, ...], value: Decimal) -> int:
    if value != value.to_integral_value():
        raise TermsError(path, f"{value} class units; it must be a whole number")
    return int(value)


def _minor(path: tuple[str | int, ...], value: Decimal | None, currency: str) -> int | None:
    if value is None:
        return None
    try:
        return to_minor(value, currency)
    except ValueError as error:
        raise TermsError(path, str(error)) from None
