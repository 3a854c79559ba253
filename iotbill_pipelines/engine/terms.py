"""Typed terms: what configuration means, and how it becomes tables for the engine to join.

A :class:`Catalog` holds products apart from offers (RULEBOOK §7). :func:`compile_catalog` turns it
into the tables of :data:`engine.schemas.CATALOG`; prices and policies are rows, never branches.
Cross-references that do not hold raise :class:`TermsError` with the key's path.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from datetime import date
from decimal import Decimal
from enum import StrEnum
from itertools import combinations
from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from iotbill_pipelines.engine.calendars import WEEKDAYS, Cycle, ProrationBasis
from iotbill_pipelines.engine.conditions import RECORD_FIELDS, ConditionError, Kind, parse
from iotbill_pipelines.engine.money import RATE_SCALE, minor_digits, to_minor
from iotbill_pipelines.engine.problems import TermsError as TermsError  # noqa: PLC0414 - raised
from iotbill_pipelines.engine.schemas import CATALOG
from iotbill_pipelines.engine.sharing import Sharing


def _no_float(value: object) -> object:
    if isinstance(value, float):
        raise ValueError(f"{value!r} is a binary fraction; write money and rates in quotes")
    return value


def _absent(value: object) -> bool:
    """Leave an optional key that is not used out of the catalog's JSON, and of its version."""
    return not value


def _unused(value: object) -> bool:
    """The same for a switch that is off."""
    return value is False


def _whole_allowance(value: object) -> bool:
    """The same for allowances that are not prorated."""
    return value == "none"


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


def unit_size(name: str) -> int:
    """Return how many class units a priced unit has. Raises KeyError for an unknown unit."""
    multiple = _MULTIPLE.fullmatch(name)
    count, unit = (int(multiple[1]), multiple[2]) if multiple else (1, name)
    return count * UNIT_SIZES[unit]


_CLOCK = r"^(([01][0-9]|2[0-3]):(00|15|30|45)|24:00)$"
_ATTRIBUTE = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_HOLIDAY = r"^([0-9]{4}-)?(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$"


class Terms(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CoreState(StrEnum):
    PROSPECT = "prospect"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    CANCELLED = "cancelled"


class Product(Terms):
    """What is sold, apart from its price.

    Contract commitments count charges of products that are ``commit_eligible`` and not
    ``hardware`` (RULEBOOK §4).
    """

    id: str
    name: str
    charge_type: Literal["usage", "recurring", "one_time", "overage"]
    usage_class: str | None = None
    gl_class: str
    tax_code: str = "standard"
    commit_eligible: bool = True
    hardware: bool = False

    @model_serializer(mode="wrap")
    def _as_before(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out flags at their defaults: who does not use them keeps the catalog's digest."""
        data: dict[str, Any] = serialise(self)
        for name in ("commit_eligible", "hardware"):
            if data[name] == Product.model_fields[name].default:
                del data[name]
        return data


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


class RoundingMode(StrEnum):
    """How a fraction is rounded; every mode treats a credit as the mirror of a charge (RT-27)."""

    HALF_UP = "half_up"
    HALF_EVEN = "half_even"
    UP = "up"
    DOWN = "down"


class Rounding(Terms):
    """Rounding of a price's amount before it joins the charge: mode and decimals (RT-13)."""

    mode: RoundingMode = RoundingMode.HALF_UP
    digits: int = Field(ge=0, le=12)


class Tier(Terms):
    """A tier up to ``up_to`` priced units (see ``edge``); the last one is open.

    ``rate`` is for one priced unit. With ``block``, units of the tier count in started blocks of
    that many priced units, at ``rate`` a unit or ``block_price`` a block. ``percent`` is a rate in
    hundredths, for classes that count amounts.
    """

    up_to: Rate | None = None
    rate: Rate = Decimal(0)
    percent: Rate | None = None
    flat: Rate = Decimal(0)
    block: Rate | None = Field(None, gt=0)
    block_price: Rate | None = None

    @model_validator(mode="after")
    def _one_rate(self) -> Tier:
        if sum([bool(self.rate), self.percent is not None, self.block_price is not None]) > 1:
            raise ValueError("give one of rate, percent and block_price")
        if self.block_price is not None and self.block is None:
            raise ValueError("block_price needs the size of its block")
        return self


class Price(Terms):
    """A dated, conditional price: one of ``rate``, ``percent``, ``markup`` and ``tiers``.

    ``percent`` is a rate in hundredths of a counted amount, ``markup`` hundredths on top of cost.
    ``counted`` says what the tiers, packages, bounds and rounding are for: all units of the period
    (RULEBOOK §6: aggregated tiers rate at period end), or each day, session or record by itself.
    ``time`` names a time window, ``when`` is a condition on the record (engine.conditions).
    ``edge`` says whether a count that ends exactly at ``up_to`` is still inside the tier (RT-06).
    """

    id: str | None = None
    model: Literal[
        "flat", "graduated", "volume", "package", "stairstep", "threshold_excess", "threshold_all"
    ] = "flat"
    rate: Rate | None = None
    percent: Rate | None = None
    markup: Rate | None = None
    tiers: list[Tier] = []
    edge: Literal["inclusive", "exclusive"] = "inclusive"
    packages: Literal["up", "down"] = "up"
    counted: Literal["period", "day", "session", "record"] = "period"
    at_zero: bool = False
    connect_fee: Rate = Decimal(0)
    connect_per: Literal["record", "session"] = "record"
    least: Rate | None = None
    most: Rate | None = None
    rounding: Rounding | None = None
    zone: str | None = None
    time: str | None = None
    when: str | None = None
    state: str | None = None
    valid_from: date = date(1970, 1, 1)
    valid_to: date | None = None

    @model_validator(mode="after")
    def _shape(self) -> Price:
        given = [self.rate is not None, self.percent is not None, self.markup is not None]
        if sum([*given, bool(self.tiers)]) != 1:
            raise ValueError("give one of rate, percent, markup and tiers")
        if self.least is not None and self.most is not None and self.most < self.least:
            raise ValueError("most must not be below least")
        if self.packages == "down" and self.model != "package":
            raise ValueError("packages: down is for model package")
        if self.connect_per == "session" and self.counted == "record":
            raise ValueError("a price that counts each record connects per record")
        bounds = [tier.up_to for tier in self.tiers]
        if bounds and (bounds[-1] is not None or None in bounds[:-1]):
            raise ValueError("only the last tier is open: leave up_to out there and nowhere else")
        if self.model == "stairstep" and any(tier.rate for tier in self.tiers):
            raise ValueError("a stairstep charges the flat price of the step; write flat, not rate")
        if self.model == "stairstep" and not self.tiers:
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


class TimeWindow(Terms):
    """A window of the local clock: ``starts`` inclusive, ``ends`` exclusive, on days of some kinds.

    A window that ends at or before its start passes midnight and belongs to the day it begins on.
    With ``holidays`` the dates of that calendar are days of kind ``holiday`` and of no other.
    """

    id: str
    days: list[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun", "holiday"]] = [
        "mon", "tue", "wed", "thu", "fri", "sat", "sun", "holiday"
    ]  # fmt: skip
    starts: str = Field("00:00", pattern=_CLOCK)
    ends: str = Field("24:00", pattern=_CLOCK)
    holidays: str | None = None


class HolidayCalendar(Terms):
    """Holidays by date, ``2026-04-03``, or for every year, ``12-25``."""

    id: str
    days: list[Annotated[str, Field(pattern=_HOLIDAY)]]


class CycleTerms(Terms):
    """How often: windows that usage is counted in, or periods that a fee is for (RULEBOOK §§1, 3).

    A week begins on ``weekday``. Anything else begins on ``day``, or without it on the payer's bill
    day (the 1st, unless the account has one); a day that a month does not have is its last (ST-19).
    A quarter, half year or year begins in ``month``, and so many months before and after it.
    """

    every: Literal["week", "month", "quarter", "half_year", "year"] = "month"
    day: int | None = Field(None, ge=1, le=31)
    month: int | None = Field(None, ge=1, le=12)
    weekday: Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"] | None = None

    @model_validator(mode="after")
    def _fits(self) -> CycleTerms:
        if self.every == "week" and (self.day is not None or self.month is not None):
            raise ValueError("a week begins on a weekday; remove day and month")
        if self.every != "week" and self.weekday is not None:
            raise ValueError("weekday is for weeks; write day, and month for more than a month")
        if self.every == "month" and self.month is not None:
            raise ValueError("every month begins on day; month is for longer cycles")
        return self

    @property
    def cycle(self) -> Cycle:
        return Cycle(self.every, self.day, self.month or 1, WEEKDAYS.index(self.weekday or "mon"))


class Surcharge(Terms):
    """More per unit, or in hundredths of the price with all unit surcharges (RT-24)."""

    id: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
    when: str
    unit: Rate = Decimal(0)
    percent: Rate = Decimal(0)


class OnceAllowance(Terms):
    """Free units granted once, on a service's first active day, for ``days`` days.

    What is left on the first window that begins after them is lost.
    """

    quantity: Rate = Field(gt=0)
    days: int = Field(ge=1, le=36_500)


class Measure(Terms):
    """One of several measures of a combined charge: what a usage charge counts, or services.

    ``each`` makes started blocks of so many priced units; ``steps`` are inclusive bounds: up to the
    first a measure comes to 1, up to the second to 2, beyond the last to one more. Units are those
    of the measured charge (``per``).
    """

    charge: str | None = None
    services: bool = False
    each: Rate | None = Field(None, gt=0)
    steps: list[Rate] = []

    @model_validator(mode="after")
    def _one_way(self) -> Measure:
        if (self.charge is not None) == self.services:
            raise ValueError("measure either a charge or services: true")
        if (self.each is not None) == bool(self.steps):
            raise ValueError("give either each or steps")
        if self.steps != sorted(set(self.steps)) or any(step <= 0 for step in self.steps):
            raise ValueError("steps must rise from above 0")
        return self


ChargeCount = Literal["days", "first_day", "last_day", "used", "peak", "from_activation"]
"""How a recurring charge counts the services that owe it."""
PoolCount = Literal["any_day", "first_day", "last_day", "used", "peak"]
"""How a share plan counts the services that fill its pools."""


class Charge(Terms):
    """A priced item of an offer.

    ``counts`` is what a usage charge prices: the quantity, the number of records, or the cost that
    the record brought with it (RT-29). ``aggregation`` makes one number of a period's records:
    their sum, the greatest of them (capacity), or how many different values ``distinct`` has.
    ``scope: account`` takes the services of an account together: tiers, least and greatest amount
    then hold for all of them, and the charge stands on service ``""``.

    ``time_policy`` says what a record that lasts beyond a time window is rated by: its start, or
    split at the border, the default for durations (RT-18).

    ``allowance_proration: days`` grants a service the part of its free units that its days on the
    offer have in the window, whole class units only; by default any day grants all (ST-22).

    ``allowance_rollover`` lets free units that are left be used for so many windows more; ``once``
    grants some only once. First the window's own are used, then those carried over, then the ones
    granted once, then those of share plans (SP-22).

    ``billable`` says which services owe a recurring price in a window, where that does not go by
    days: those that could owe it on its ``first_day`` or ``last_day``, those that ``used``
    anything, as many as could owe it on one and the same day (``peak``: the account owes the
    greatest sum of a day, its services share it by days), or each as often as ``billable_days``
    from its activation begin anew in the window (``from_activation``). Each then owes the whole
    price (RULEBOOK §12).

    ``cycle`` says how often a recurring price is due, and over which windows usage is counted:
    allowances, tiers, least and greatest amounts start anew in each, and each is settled with the
    month that holds its last day. Left out, it is the payer's billing month; usage that draws from
    a share plan has the plan's cycle.

    A charge of kind ``combined`` prices the greatest of its ``measures`` (SP-28): each is what a
    usage charge of the same offer counts in the window, or its services, in blocks or steps.
    """

    id: str
    product: str
    per: str = "count"
    kind: Literal["usage", "recurring", "transition", "overage", "combined"]
    external_code: str | None = None
    increment: Increment = Increment()
    counts: Literal["quantity", "events", "cost"] = "quantity"
    aggregation: Literal["sum", "peak", "distinct"] = "sum"
    distinct: (
        Literal["network", "country", "apn", "peer_number", "identifier", "day", "service"] | None
    ) = None
    scope: Literal["service", "account"] = "service"
    allowance: Rate = Decimal(0)
    allowance_proration: Literal["none", "days"] = Field("none", exclude_if=_whole_allowance)
    allowance_rollover: int = Field(0, ge=0, le=120, exclude_if=_absent)
    once: OnceAllowance | None = Field(None, exclude_if=_absent)
    allowance_events: int = Field(0, ge=0)
    allowance_amount: Money | None = None
    pooled: bool = False
    minimum: Money | None = None
    minimum_at_zero: bool = False
    maximum: Money | None = None
    rounding: RoundingMode = RoundingMode.HALF_UP
    time_policy: Literal["start_time", "split"] | None = None
    surcharges: list[Surcharge] = Field([], max_length=8)
    measures: list[Measure] = Field([], exclude_if=_absent)
    billing: Literal["advance", "arrears"] = "arrears"
    basis: ProrationBasis = ProrationBasis.ACTUAL
    billable: ChargeCount = Field("days", exclude_if=lambda rule: rule == "days")
    billable_days: int | None = Field(None, ge=1, le=366, exclude_if=_absent)
    cycle: CycleTerms | None = Field(None, exclude_if=_absent)
    transition: tuple[str, str] | None = None
    after_months: int = Field(0, ge=0)
    after_days: int = Field(0, ge=0)
    prices: list[Price] = Field(min_length=1)


class SizedBy(Terms):
    """Units that another class's use brings: ``quantity`` for each ``per`` of ``usage_class``.

    Counted at the end of the period from the final use of the pool's participants, proportionally,
    whole units only (SP-25).
    """

    usage_class: str
    quantity: Rate = Field(gt=0)
    per: str = "count"


class Rollover(Terms):
    """Unused units join the next allotments for ``periods`` more periods, the oldest drawn first.

    ``maximum`` is the most that is carried on, newest grants first (SP-20, SP-21).
    """

    periods: int = Field(1, ge=1, le=120)
    maximum: Rate | None = None


class BucketTerms(Terms):
    """What a pool shares, how large it is, and what use beyond it costs (RULEBOOK §3).

    Several ``usage_classes`` of one unit share the bucket. A fixed bucket holds ``fixed``, a
    variable one the sum of contributions; either is then counted in whole ``step``s, at least
    ``minimum``. ``extra_pool`` sells overage as further pools of that size: the overage charge
    then counts pools (``per: count``; SP-29).
    """

    usage_class: str | None = None
    usage_classes: list[str] = Field([], exclude_if=_absent)
    growth: Literal["fixed", "variable"] = "variable"
    fixed: Rate = Decimal(0)
    minimum: Rate = Field(Decimal(0), ge=0, exclude_if=_absent)
    step: Rate = Field(Decimal(0), ge=0, exclude_if=_absent)
    sized_by: SizedBy | None = Field(None, exclude_if=_absent)
    extra_pool: Rate | None = Field(None, gt=0, exclude_if=_absent)
    rollover: Rollover | None = Field(None, exclude_if=_absent)
    per: str = "MB"
    overage: Charge | None = None

    @property
    def classes(self) -> list[str]:
        """The usage classes that draw from it."""
        return [*([] if self.usage_class is None else [self.usage_class]), *self.usage_classes]


class Bucket(BucketTerms):
    """One of several buckets of a share plan; its pool is called ``plan.bucket/account``."""

    id: str = Field(pattern=r"^[A-Za-z0-9_-]+$")


class Participant(Terms):
    """An offer, or every offer of a service type, that shares a plan, and what it brings.

    ``contribution`` is for the plan's first bucket, ``contributions`` by bucket.
    """

    offer: str | None = None
    service_type: str | None = None
    contribution: Rate = Decimal(0)
    contributions: dict[str, Rate] = {}

    @model_validator(mode="after")
    def _one(self) -> Participant:
        if (self.offer is None) == (self.service_type is None):
            raise ValueError("name either an offer or a service_type")
        return self


class SharePlan(BucketTerms):
    """A pool plan (RULEBOOK §3): one bucket, or several ``buckets``, for each share-level account.

    ``share_level`` puts together an account's services, those of all accounts that report to the
    same ``parent`` (``levels_up`` levels above them), or of a whole tree (``root``). What a service
    uses draws from the plans it shares in order of ``tie_break``, then id. With ``activation:
    selling_service`` a pool exists only from the day a service of an offer that ``sells`` the plan
    is sold. Each window of ``cycle`` is a pool of its own; what one leaves over never pays for
    another (SP-24), unless the bucket has ``rollover``. ``plan_change: cycle`` lets an upgrade
    count from the window's first day, a downgrade from the next window (SP-19). ``billable`` says
    which services fill a pool: those in it on ``any_day`` of the window, on its ``first_day`` or
    ``last_day``, those that ``used`` anything, or as many as were in it on one day (``peak``).
    """

    id: str
    currency: str
    buckets: list[Bucket] = Field([], exclude_if=_absent)
    participants: list[Participant] = Field([], exclude_if=_absent)
    share_level: Literal["account", "parent", "root"] = "account"
    levels_up: int = Field(1, ge=1, le=20, exclude_if=lambda levels: levels == 1)
    tie_break: int = Field(0, exclude_if=_absent)
    activation: Literal["participating_service", "selling_service"] = Field(
        "participating_service", exclude_if=lambda rule: rule == "participating_service"
    )
    plan_change: Literal["day", "cycle"] = Field("day", exclude_if=lambda rule: rule == "day")
    join_policy: Literal["full", "prorate_join"] = "full"
    billable: PoolCount = Field("any_day", exclude_if=lambda rule: rule == "any_day")
    attribution: Literal[
        "proportional_excess", "proportional_usage", "chronological", "equal", "owner"
    ] = "proportional_excess"
    cycle: CycleTerms | None = Field(None, exclude_if=_absent)

    @model_validator(mode="after")
    def _shape(self) -> SharePlan:
        if self.levels_up != 1 and self.share_level != "parent":
            raise ValueError("levels_up is for share_level parent")
        if self.buckets:
            alone = {*BucketTerms.model_fields} & self.model_fields_set
            if alone:
                raise ValueError(f"a plan with buckets says {min(alone)} in each of them")
            return self
        if not self.classes or self.overage is None:
            raise ValueError("give usage_class and overage, or buckets that have them")
        return self

    def each_bucket(self) -> list[tuple[str, tuple[str | int, ...], BucketTerms]]:
        """Its buckets: id, path of keys below the plan, terms. A plan without buckets is one."""
        if not self.buckets:
            return [(self.id, (), self)]
        return [
            (f"{self.id}.{bucket.id}", ("buckets", number), bucket)
            for number, bucket in enumerate(self.buckets)
        ]

    def overages(self) -> list[tuple[tuple[str | int, ...], Charge]]:
        """The charges of its buckets with their paths below the plan."""
        return [
            ((*path, "overage"), bucket.overage)
            for _, path, bucket in self.each_bucket()
            if bucket.overage is not None
        ]


class FirstUseThreshold(Terms):
    usage_class: str
    quantity: Rate = Field(gt=0)
    per: str = "count"


class FirstUse(Terms):
    """A service waits in ``waiting`` until it is used, or the window is over (RULEBOOK §2).

    Reaching any threshold activates it: ``split`` bills what exceeds the threshold, ``next_event``
    nothing up to it and everything after. What was used before is free.
    """

    waiting: str
    active: str
    policy: Literal["split", "next_event"] = "split"
    thresholds: list[FirstUseThreshold] = []
    window_days: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _ends(self) -> FirstUse:
        if not self.thresholds and self.window_days is None:
            raise ValueError("give thresholds, window_days or both, or it waits for ever")
        return self


SCOPES = ("line_item", "account_contract", "bucket_tier", "service", "package", "account", "owner")
"""Levels at which a rate is looked up, the most specific first (RULEBOOK §6)."""


class PriceOverride(Terms):
    """Usage charges of another offer for a service, an account, a pool plan or an offer (RT-32).

    ``target`` is a service (line_item, service), an account (account_contract, account), a share
    plan (bucket_tier), an offer (package), or a parent account or legal entity (owner). Classes
    that ``offer`` does not price stay with the next level.
    """

    id: str
    scope: Literal[
        "line_item", "account_contract", "bucket_tier", "service", "package", "account", "owner"
    ]
    target: str
    offer: str
    valid_from: date = date(1970, 1, 1)
    valid_to: date | None = None

    @model_validator(mode="after")
    def _dates(self) -> PriceOverride:
        if self.valid_to is not None and self.valid_to <= self.valid_from:
            raise ValueError("valid_to must be after valid_from (the interval is half-open)")
        return self


class Offer(Terms):
    """Prices of products at a level of the seller chain.

    ``share_plan`` and ``contribution`` (or ``contributions`` by bucket) let its services share a
    pool; further plans name the offer, or its ``service_type``, among their participants.
    ``sells`` names share plans that its services open for their account. Where plans change by
    cycle, the higher ``grade``, then the higher contribution, is the upgrade.
    """

    id: str
    name: str
    level: Literal["retail", "wholesale", "vendor"] = "retail"
    currency: str
    zone_set: str | None = None
    share_plan: str | None = None
    contribution: Rate = Decimal(0)
    contributions: dict[str, Rate] = Field({}, exclude_if=_absent)
    service_type: str | None = Field(None, exclude_if=_absent)
    sells: list[str] = Field([], exclude_if=_absent)
    grade: int = Field(0, exclude_if=_absent)
    first_use: FirstUse | None = None
    charges: list[Charge]


class StateDefinition(Terms):
    """A state of services: its core state, and which states may follow it.

    With ``extends_terms`` every day in it moves the agreed end of the service's offers by a day
    (RULEBOOK §1, ST-23).
    """

    state: str
    core: CoreState
    to: list[str] = []
    extends_terms: bool = Field(False, exclude_if=_unused)


class Catalog(Terms):
    """Everything that prices need, of one currency or many."""

    usage_classes: dict[str, Literal["byte", "second", "count", "micro"]]
    states: list[StateDefinition]
    initial_states: list[str]
    products: list[Product]
    zone_sets: list[ZoneSet] = []
    attributes: dict[str, Kind] = {}
    time_windows: list[TimeWindow] = []
    holidays: list[HolidayCalendar] = []
    share_plans: list[SharePlan] = []
    offers: list[Offer]
    price_overrides: list[PriceOverride] = []


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
        self.share_plans = {plan.id for plan in catalog.share_plans}
        self.charge_ids: set[str] = set()
        self.price_ids: set[str] = set()
        self.windows = {window.id: no for no, window in enumerate(catalog.time_windows, 1)}
        self.conditions: dict[str, int] = {}

    def tables(self) -> dict[str, pa.Table]:
        catalog = self.catalog
        _unique(("products",), (product.id for product in catalog.products))
        _unique(("offers",), (offer.id for offer in catalog.offers))
        _unique(("share_plans",), (plan.id for plan in catalog.share_plans))
        _unique(("zone_sets",), (zones.id for zones in catalog.zone_sets))
        _unique(("states",), (definition.state for definition in catalog.states))
        self._states()
        self._time()
        for product in catalog.products:
            self.rows["product"].append(
                {
                    "product_id": product.id,
                    "name": product.name,
                    "charge_type": product.charge_type,
                    "usage_class": product.usage_class,
                    "gl_class": product.gl_class,
                    "tax_code": product.tax_code,
                    "commit_eligible": product.commit_eligible,
                    "hardware": product.hardware,
                }
            )
        for number, zones in enumerate(catalog.zone_sets):
            self._zone_set(("zone_sets", number), zones)
        self.sharing = self._share_plans()
        for number, offer in enumerate(catalog.offers):
            self._offer(("offers", number), offer)
        self._overrides()
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

    def _time(self) -> None:
        catalog = self.catalog
        _unique(("time_windows",), (window.id for window in catalog.time_windows))
        _unique(("holidays",), (calendar.id for calendar in catalog.holidays))
        calendars = {calendar.id for calendar in catalog.holidays}
        for number, window in enumerate(catalog.time_windows):
            if window.holidays is not None:
                self._known(
                    ("time_windows", number, "holidays"), window.holidays, calendars, "calendar"
                )
            self.rows["time_window"].append(
                {
                    "window_no": number + 1,
                    "window_id": window.id,
                    "days": " ".join(window.days),
                    "starts_minute": _minute(window.starts),
                    "ends_minute": _minute(window.ends),
                    "calendar_id": window.holidays,
                }
            )
        for number, calendar in enumerate(catalog.holidays):
            _unique(("holidays", number, "days"), calendar.days)
            self.rows["holiday"] += [
                {"calendar_id": calendar.id, "day": day} for day in calendar.days
            ]
        for name, kind in catalog.attributes.items():
            if name in RECORD_FIELDS or not _ATTRIBUTE.fullmatch(name):
                raise TermsError(
                    ("attributes", name), "not a name, or the name of a field that records have"
                )
            self.rows["record_attribute"].append({"name": name, "kind": kind})

    def _condition(self, path: tuple[str | int, ...], text: str) -> int:
        """Return the number of a condition; the same text has the same number."""
        try:
            parse(text, self.catalog.attributes)
        except ConditionError as error:
            raise TermsError(path, str(error)) from None
        number = self.conditions.setdefault(text, len(self.conditions) + 1)
        if number == len(self.rows["usage_condition"]) + 1:
            self.rows["usage_condition"].append({"condition_no": number, "expression": text})
        return number

    def _states(self) -> None:
        for number, definition in enumerate(self.catalog.states):
            self.rows["state"].append(
                {
                    "state": definition.state,
                    "core_state": definition.core.value,
                    "extends_terms": definition.extends_terms,
                }
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

    def _overrides(self) -> None:
        _unique(("price_overrides",), (override.id for override in self.catalog.price_overrides))
        offers = {offer.id: offer for offer in self.catalog.offers}
        self._overlaps(offers)
        ranked = sorted(
            enumerate(self.catalog.price_overrides),
            key=lambda item: (SCOPES.index(item[1].scope), item[0]),
        )
        # the service's own offer comes between the overrides of its package and of its account
        for number, override in ranked:
            path = ("price_overrides", number)
            self._known((*path, "offer"), override.offer, offers, "offer")
            if override.scope == "bucket_tier":
                self._known((*path, "target"), override.target, self.share_plans, "share plan")
            if override.scope == "package":
                self._known((*path, "target"), override.target, offers, "offer")
            rank = SCOPES.index(override.scope) + 1
            self.rows["price_override"].append(
                {
                    "override_id": override.id,
                    "scope": override.scope,
                    "scope_rank": rank,
                    "priority": rank * OVERRIDES_A_SCOPE + number,
                    "target_id": override.target,
                    "level": offers[override.offer].level,
                    "offer_id": override.offer,
                    "valid_from": override.valid_from,
                    "valid_to": override.valid_to,
                }
            )

    def _overlaps(self, offers: Mapping[str, Offer]) -> None:
        """Refuse two agreements that price the same thing for the same target on the same day."""
        seen: dict[tuple[str, ...], list[tuple[int, PriceOverride]]] = {}
        for number, override in enumerate(self.catalog.price_overrides):
            offer = offers.get(override.offer)
            if offer is None:
                continue
            for key in sorted({charge.product for charge in offer.charges}):
                product = self.products.get(key)
                priced = product.usage_class or product.id if product else key
                place = (override.scope, override.target, offer.level, priced)
                for earlier, other in seen.setdefault(place, []):
                    begins = max(override.valid_from, other.valid_from)
                    ends = min(override.valid_to or date.max, other.valid_to or date.max)
                    if begins < ends:
                        raise TermsError(
                            ("price_overrides", number),
                            f"{other.id!r} (number {earlier + 1}) prices {priced} for the same "
                            f"{override.scope} {override.target!r} from {begins} on; end one of "
                            "them, or give them separate days",
                        )
                seen[place].append((number, override))

    def _first_use(self, path: tuple[str | int, ...], offer: Offer) -> None:
        policy = offer.first_use
        if policy is None:
            return
        for key, state in (("waiting", policy.waiting), ("active", policy.active)):
            self._known((*path, "first_use", key), state, self.states, "state")
        _unique((*path, "first_use", "thresholds"), (t.usage_class for t in policy.thresholds))
        self.rows["first_use"].append(
            {
                "offer_id": offer.id,
                "waiting_state": policy.waiting,
                "active_state": policy.active,
                "policy": policy.policy,
                "window_days": policy.window_days,
            }
        )
        for number, threshold in enumerate(policy.thresholds):
            where = (*path, "first_use", "thresholds", number)
            self._known(
                (*where, "usage_class"),
                threshold.usage_class,
                self.catalog.usage_classes,
                "usage class",
            )
            size = self._unit((*where, "per"), threshold.per)
            self.rows["first_use_threshold"].append(
                {
                    "offer_id": offer.id,
                    "usage_class": threshold.usage_class,
                    "threshold_quantity": _whole((*where, "quantity"), threshold.quantity * size),
                }
            )

    def _share_plans(self) -> Sharing:
        sharing = Sharing(
            self.catalog,
            lambda path, amount, per: _whole(path, amount * self._unit((*path[:-1], "per"), per)),
        )
        self.rows |= sharing.rows()
        for number, plan in enumerate(self.catalog.share_plans):
            for _, below, bucket in plan.each_bucket():
                assert bucket.overage is not None
                where = ("share_plans", number, *below, "overage")
                if bucket.overage.cycle is not None:
                    raise TermsError(
                        (*where, "cycle"), "write the cycle on the share plan, for all of the pool"
                    )
                self._charge(
                    *(where, bucket.overage, None, plan.currency, None, bucket.classes[0]),
                    cycle=plan.cycle,
                )
        return sharing

    def _offer(self, path: tuple[str | int, ...], offer: Offer) -> None:
        zones = None
        if offer.zone_set is not None:
            self._known((*path, "zone_set"), offer.zone_set, self.zone_sets, "zone set")
            zones = self.zone_sets[offer.zone_set]
        plans = self.sharing.plans_of(offer.id)
        self.sharing.check_cycles(path, offer.id)
        self.rows["offer"].append(
            {
                "offer_id": offer.id,
                "name": offer.name,
                "level": offer.level,
                "currency": offer.currency,
                "zone_set_id": offer.zone_set,
                "share_plan_id": plans[0].id if plans else None,
                "plan_change": "cycle"
                if any(plan.plan_change == "cycle" for plan in plans)
                else "day",
                "grade": offer.grade,
                "brought_quantity": self.sharing.grade(offer),
            }
        )
        self._first_use(path, offer)
        priced_classes: dict[str, str] = {}
        for number, charge in enumerate(offer.charges):
            where = (*path, "charges", number)
            if charge.pooled and not plans:
                raise TermsError((*where, "pooled"), "the offer names no share_plan to draw from")
            product = self.products.get(charge.product)
            if charge.kind == "usage" and product is not None and product.usage_class is not None:
                self._one_charge(where, charge, product.usage_class, priced_classes)
                shared = self.sharing.shared_classes(offer.id)
                if charge.pooled and product.usage_class not in shared:
                    names = ", ".join(repr(plan.id) for plan in plans)
                    raise TermsError(
                        (*where, "pooled"),
                        f"share plan {names} shares {', '.join(shared)}, not {product.usage_class}",
                    )
            cycle = charge.cycle
            if charge.pooled:
                cycle = plans[0].cycle
                if charge.cycle is not None and charge.cycle != cycle:
                    raise TermsError(
                        (*where, "cycle"),
                        f"pooled usage has the cycle of share plan {plans[0].id!r}; write it there",
                    )
            if charge.basis in _BY_MONTHS and cycle is not None and cycle.every == "week":
                raise TermsError(
                    (*where, "basis"), f"{charge.basis} counts months, the cycle counts weeks"
                )
            self._billable(where, charge)
            if charge.kind == "transition" and cycle is not None:
                raise TermsError((*where, "cycle"), "a transition happens once; remove cycle")
            self._charge(where, charge, offer.id, offer.currency, zones, None, cycle=cycle)
        for number, charge in enumerate(offer.charges):
            self._measures((*path, "charges", number), charge, offer)

    def _measures(self, path: tuple[str | int, ...], charge: Charge, offer: Offer) -> None:
        """Rows of ``charge_measure``: one per measure in blocks, one per bound of one in steps."""
        if (charge.kind == "combined") != bool(charge.measures):
            raise TermsError((*path, "measures"), "a combined charge, and no other, has measures")
        if charge.kind != "combined":
            return
        for name in _OF_WHAT_IS_COUNTED:
            if getattr(charge, name) != Charge.model_fields[name].default:
                raise TermsError((*path, name), "write it on the charges that are measured")
        if charge.per != "count":
            raise TermsError((*path, "per"), "blocks and steps are counted; write per: count")
        known = {other.id: other for other in offer.charges if other.kind == "usage"}
        for number, measure in enumerate(charge.measures):
            where = (*path, "measures", number)
            size = 1
            if measure.charge is not None:
                self._known((*where, "charge"), measure.charge, known, "usage charge of the offer")
                measured = known[measure.charge]
                size = self._unit(where, measured.per)
                if measured.counts == "cost" or measured.pooled:
                    raise TermsError((*where, "charge"), "measures count use that is priced here")
                if (measured.cycle or CycleTerms()) != (charge.cycle or CycleTerms()):
                    raise TermsError((*where, "charge"), "give both charges the same cycle")
                if measured.scope == "account" and charge.scope != "account":
                    raise TermsError((*where, "charge"), "it counts accounts; write scope: account")
            for step, bound in enumerate(measure.steps or [None], 1):
                self.rows["charge_measure"].append(
                    {
                        "charge_id": charge.id,
                        "measure_no": number + 1,
                        "step_no": step,
                        "measured_charge_id": measure.charge,
                        "each_quantity": 0
                        if measure.each is None
                        else _whole((*where, "each"), measure.each * size),
                        "bound_quantity": None
                        if bound is None
                        else _whole((*where, "steps", step - 1), bound * size),
                    }
                )

    @staticmethod
    def _billable(path: tuple[str | int, ...], charge: Charge) -> None:
        """Refuse rules of counting that contradict how the charge is due."""
        if (charge.billable == "from_activation") != (charge.billable_days is not None):
            raise TermsError(
                (*path, "billable_days"), "billable: from_activation, and no other, needs it"
            )
        if charge.billable == "days":
            return
        if charge.kind != "recurring":
            raise TermsError((*path, "billable"), "only recurring charges count services")
        if charge.billing == "advance":
            raise TermsError(
                (*path, "billable"), "services are counted when the window is over: bill in arrears"
            )
        if charge.basis is not ProrationBasis.ACTUAL:
            raise TermsError(
                (*path, "basis"), f"billable: {charge.billable} owes whole prices; remove basis"
            )

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
        *,
        cycle: CycleTerms | None,
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
        if charge.counts == "cost":
            size = COST_SIZE
        self._counting(path, charge, cycle)
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
                "counts": charge.counts,
                "time_policy": self._time_policy(path, charge, usage_class),
                "aggregation": charge.aggregation,
                "usage_key": _usage_key(charge),
                "scope": charge.scope,
                "increment_initial": charge.increment.initial,
                "increment_subsequent": charge.increment.subsequent,
                "increment_point": charge.increment.point,
                "allowance_quantity": _whole((*path, "allowance"), charge.allowance * size),
                "allowance_by_days": charge.allowance_proration == "days",
                "allowance_windows": charge.allowance_rollover,
                "once_quantity": 0
                if charge.once is None
                else _whole((*path, "once", "quantity"), charge.once.quantity * size),
                "once_days": 0 if charge.once is None else charge.once.days,
                "allowance_events": charge.allowance_events,
                "allowance_minor": _minor(
                    (*path, "allowance_amount"), charge.allowance_amount, currency
                )
                or 0,
                "pooled": charge.pooled,
                "rounding_mode": charge.rounding.value,
                "minimum_at_zero": charge.minimum_at_zero,
                "minimum_minor": _minor((*path, "minimum"), charge.minimum, currency),
                "maximum_minor": _minor((*path, "maximum"), charge.maximum, currency),
                "billing": charge.billing,
                "basis": charge.basis.value,
                "billable": charge.billable,
                "billable_days": charge.billable_days or 0,
                "cycle": str((cycle or CycleTerms()).cycle),
                "transition_from": start,
                "transition_to": end,
                "transition_after_months": charge.after_months,
                "transition_after_days": charge.after_days,
            }
        )
        if charge.kind in ("usage", "overage", "combined"):
            self._fallback(path, charge)
        _unique((*path, "surcharges"), (surcharge.id for surcharge in charge.surcharges))
        known_zones = {rule.zone for rule in zones.rules} if zones else set()
        for number, price in enumerate(charge.prices):
            where = (*path, "prices", number)
            self._fits(where, charge, price)
            if price.zone is not None:
                self._known((*where, "zone"), price.zone, known_zones, "zone")
            if price.state is not None:
                self._known((*where, "state"), price.state, self.states, "state")
            if price.time is not None:
                self._known((*where, "time"), price.time, self.windows, "time window")
            self._price(where, charge, number, price, size)

    @staticmethod
    def _fits(path: tuple[str | int, ...], charge: Charge, price: Price) -> None:
        """Refuse conditions of a price that charges of this kind have no use for."""
        if charge.kind != "usage" and (price.time or price.when or charge.surcharges):
            raise TermsError(path, "times, conditions and surcharges are for usage")
        if charge.kind != "combined":
            return
        if price.zone or price.state or price.connect_fee:
            raise TermsError(path, "zones, states and connect fees are for what is measured")
        if price.counted != "period":
            raise TermsError((*path, "counted"), "a combined charge counts its window")

    @staticmethod
    def _counting(path: tuple[str | int, ...], charge: Charge, cycle: CycleTerms | None) -> None:
        """Refuse ways of counting that contradict each other."""
        if charge.kind != "usage":
            return
        if (charge.aggregation == "distinct") != (charge.distinct is not None):
            raise TermsError((*path, "distinct"), "aggregation distinct, and no other, names it")
        plain = charge.counts == "quantity" and charge.aggregation == "sum"
        if not plain and charge.increment != Increment():
            raise TermsError(
                (*path, "increment"), "increments round a sum of quantities; remove one of the two"
            )
        if charge.pooled and not (plain and charge.scope == "service"):
            raise TermsError(
                (*path, "pooled"), "a pool takes sums of quantities per service, nothing else"
            )
        _Compiler._lasting(path, charge, cycle, plain=plain)
        if charge.increment.point == "pool_period":
            raise TermsError(
                (*path, "increment", "point"),
                "pool_period rounds a pool's overage; write it on the share plan's overage charge",
            )
        for number, price in enumerate(charge.prices):
            where = (*path, "prices", number)
            if (price.markup is not None) != (charge.counts == "cost") and not price.tiers:
                raise TermsError(
                    (*where, "markup"), "markup is for charges that count cost, and only for them"
                )
            single = price.counted == "period"
            if single and (price.least is not None or price.most is not None):
                raise TermsError(
                    (*where, "counted"),
                    "least and most bound the price of one record, session or day; say which",
                )
            if not single and (
                charge.pooled
                or charge.allowance
                or charge.aggregation != "sum"
                or charge.increment.point != "record"
            ):
                raise TermsError(
                    (*where, "counted"),
                    f"a price that counts each {price.counted} knows neither pools, free units, "
                    "peaks nor increments of longer spans",
                )
            if price.connect_fee and charge.pooled:
                raise TermsError((*where, "connect_fee"), "pooled usage pays no connect fee")

    @staticmethod
    def _lasting(
        path: tuple[str | int, ...], charge: Charge, cycle: CycleTerms | None, *, plain: bool
    ) -> None:
        """Refuse free units by days, or for longer than a window, where nothing tells which."""
        if charge.allowance_proration == "days" and (
            charge.scope != "service" or charge.allowance_rollover or charge.once is not None
        ):
            raise TermsError(
                (*path, "allowance_proration"),
                "days prorate free units of a service that do not last beyond their window",
            )
        if charge.allowance_rollover or charge.once is not None:
            single = charge.scope == "service" and all(p.counted == "period" for p in charge.prices)
            weekly = cycle is not None and cycle.every == "week"
            if not (plain and single) or weekly:
                raise TermsError(
                    (*path, "allowance_rollover" if charge.allowance_rollover else "once"),
                    "free units that last are for sums of quantities per service, counted by the "
                    "month or longer",
                )

    def _fallback(self, path: tuple[str | int, ...], charge: Charge) -> None:
        open_prices = [
            p for p in charge.prices if p.zone is None and p.time is None and p.when is None
        ]
        if not open_prices:
            raise TermsError(
                (*path, "prices"), "no unconditional price; add one without zone (RULEBOOK §6)"
            )

    def _time_policy(
        self, path: tuple[str | int, ...], charge: Charge, usage_class: str | None
    ) -> str:
        unit = self.catalog.usage_classes.get(usage_class or "")
        timed = any(price.time is not None for price in charge.prices)
        if charge.time_policy == "split" and unit != "second":
            raise TermsError(
                (*path, "time_policy"), "only durations, in seconds, can be split over time"
            )
        whole = charge.counts != "quantity" or charge.aggregation != "sum"
        if charge.time_policy is None:
            return "split" if timed and unit == "second" and not whole else "start_time"
        if charge.time_policy == "split" and whole:
            raise TermsError((*path, "time_policy"), "only a sum of durations can be split")
        return charge.time_policy if timed else "start_time"

    def _price(
        self, path: tuple[str | int, ...], charge: Charge, number: int, price: Price, size: int
    ) -> None:
        """One row a price; with surcharges, one for every set of them that may come together.

        A set comes before the sets it contains, so the first that matches is what applies.
        """
        price_id = price.id or f"{charge.id}#{number + 1}"
        sets = [
            chosen
            for count in range(len(charge.surcharges), -1, -1)
            for chosen in combinations(range(len(charge.surcharges)), count)
        ]
        for place, chosen in enumerate(sets, 1):
            self._price_row(
                path,
                charge,
                "+".join([price_id, *(charge.surcharges[n].id for n in chosen)]),
                number * len(sets) + place,
                price,
                size,
                chosen,
            )

    def _price_row(
        self,
        path: tuple[str | int, ...],
        charge: Charge,
        price_id: str,
        priority: int,
        price: Price,
        size: int,
        chosen: tuple[int, ...],
    ) -> None:
        if price_id in self.price_ids:
            raise TermsError((*path, "id"), f"price {price_id!r} is defined twice")
        self.price_ids.add(price_id)
        conditions = [] if price.when is None else [self._condition((*path, "when"), price.when)]
        for n in chosen:
            where = (*path[:-2], "surcharges", n, "when")
            conditions.append(self._condition(where, charge.surcharges[n].when))
        self.rows["price_condition"] += [
            {"price_id": price_id, "condition_no": condition} for condition in sorted({*conditions})
        ]
        more = sum((charge.surcharges[n].unit for n in chosen), Decimal(0))
        factor = 1 + sum((charge.surcharges[n].percent for n in chosen), Decimal(0)) / 100
        self.rows["price"].append(
            {
                "price_id": price_id,
                "charge_id": charge.id,
                "priority": priority,
                "zone": price.zone,
                "window_no": None if price.time is None else self.windows[price.time],
                "state": price.state,
                "valid_from": price.valid_from,
                "valid_to": price.valid_to,
                "model": price.model,
                "edge": price.edge,
                "package_rounding": price.packages,
                "counted": price.counted,
                "count_group": f"{price.zone or ''}|{price.time or ''}|{price.when or ''}",
                "at_zero": price.at_zero,
                "connect_e12": _e12(path, price.connect_fee * factor),
                "connect_per": price.connect_per,
                "least_e12": None if price.least is None else _e12(path, price.least),
                "most_e12": None if price.most is None else _e12(path, price.most),
                "rounding_mode": price.rounding.mode.value if price.rounding else None,
                "rounding_digits": price.rounding.digits if price.rounding else None,
                "surcharge_e12": _e12(path, more),
                "surcharge_factor_e12": _e12(path, factor),
            }
        )
        lower = 0
        for tier_no, tier in enumerate(price.tiers or [Tier(rate=_single_rate(price))], 1):
            where = (*path, "tiers", tier_no - 1)
            upper = None if tier.up_to is None else _whole((*where, "up_to"), tier.up_to * size)
            block = 0 if tier.block is None else _whole((*where, "block"), tier.block * size)
            self.rows["price_tier"].append(
                {
                    "price_id": price_id,
                    "tier_no": tier_no,
                    "lower_quantity": lower,
                    "upper_quantity": upper,
                    "block_quantity": block,
                    "rate_e12": _e12(where, _tier_rate(tier, more, price) * factor),
                    "flat_e12": _e12(where, tier.flat * factor),
                }
            )
            lower = upper or 0

    @staticmethod
    def _known(path: tuple[str | int, ...], name: str, known: Iterable[str], kind: str) -> None:
        choices = known if isinstance(known, Collection) else set(known)
        if name not in choices:
            listed = ", ".join(sorted(choices)[:40]) or "none"
            raise TermsError(path, f"unknown {kind} {name!r}; known: {listed}")

    def _unit(self, path: tuple[str | int, ...], name: str) -> int:
        try:
            return unit_size(name)
        except KeyError as unknown:
            raise TermsError(
                path, f"unknown unit {unknown}; known: {', '.join(sorted(UNIT_SIZES))}"
            ) from None


_OF_WHAT_IS_COUNTED = (
    *("increment", "counts", "aggregation", "pooled", "surcharges", "time_policy"),
    *("allowance", "allowance_events", "allowance_amount", "allowance_rollover", "once"),
)
"""Keys that say how a usage charge counts; one that combines charges counts nothing itself."""

OVERRIDES_A_SCOPE = 100_000_000
"""Priorities of one scope of overrides end where those of the next begin."""

_BY_MONTHS = (
    ProrationBasis.ACTUAL_30,
    ProrationBasis.STRICT_30_360,
    ProrationBasis.BY_MONTH_FIRST,
)

COST_SIZE = 10**12
"""Class units of one currency unit, where a charge counts cost: cost is exact to 12 decimals."""


def _usage_key(charge: Charge) -> str | None:
    """What records of one kind have in common, where a charge has to tell them apart."""
    if charge.distinct is not None:
        return charge.distinct
    by_session = charge.increment.point == "session" or any(
        price.counted == "session" or (price.connect_fee and price.connect_per == "session")
        for price in charge.prices
    )
    return "session" if by_session else None


def _single_rate(price: Price) -> Decimal:
    if price.percent is not None:
        return price.percent / 100
    if price.markup is not None:
        return 1 + price.markup / 100
    return price.rate or Decimal(0)


def _tier_rate(tier: Tier, more: Decimal, price: Price) -> Decimal:
    """The rate of a priced unit with its unit surcharges; with a block, of one block."""
    if price.model == "stairstep":
        return Decimal(0)
    if tier.block_price is not None:
        assert tier.block is not None
        return tier.block_price + more * tier.block
    rate = (tier.rate if tier.percent is None else tier.percent / 100) + more
    return rate if tier.block is None else rate * tier.block


def _e12(path: tuple[str | int, ...], rate: Decimal) -> Decimal:
    scaled = rate.scaleb(RATE_SCALE)
    if scaled % 1:
        raise TermsError(path, f"{rate} has more than {RATE_SCALE} decimals")
    return scaled.quantize(Decimal(1))


def _minute(clock: str) -> int:
    hour, minute = clock.split(":")
    return int(hour) * 60 + int(minute)


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
