"""What a contract says: prices, seasons, commitments, renewal and termination (RULEBOOK §4).

Everything is frozen: a template is a :class:`ContractTerms` under a name, a signed contract holds
its own copy, and later edits of the template make a new value that no signed contract refers to.
Intervals are half-open; amounts are in the contract's currency.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.terms import UNIT_SIZES, CoreState, Money, Rate, Terms

_MONTH_DAY = re.compile(r"(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])")
_LEAP_YEAR = 2024


def _month_day(text: str) -> str:
    """Check ``MM-DD``; 02-29 is a day of the year that common years skip."""
    match = _MONTH_DAY.fullmatch(text)
    if not match or int(match[2]) > Month(_LEAP_YEAR, int(match[1])).days:
        raise ValueError(f"{text!r} is not a day of the year; write MM-DD, for example 03-15")
    return text


NAME = r"^[A-Za-z0-9_.-]+$"
"""Ids that become part of a price's or a charge's id."""

MonthDay = Annotated[str, AfterValidator(_month_day)]
Percent = Annotated[Money, Field(ge=0)]


class Season(Terms):
    """A recurring range of days of the year, ``[starts, ends_before)``; it may wrap the year.

    A range that starts or ends on 02-29 does so on 1 March in a common year, so two seasons that
    meet there neither overlap nor leave a gap (CT-11).
    """

    id: str
    starts: MonthDay
    ends_before: MonthDay

    @model_validator(mode="after")
    def _not_empty(self) -> Season:
        if self.starts == self.ends_before:
            raise ValueError("a season ends on another day than it starts; drop it for all year")
        return self

    def holds(self, day: date) -> bool:
        """Say whether ``day`` is in the season."""
        text = f"{day:%m-%d}"
        if self.starts < self.ends_before:
            return self.starts <= text < self.ends_before
        return text >= self.starts or text < self.ends_before

    def boundaries(self, year: int) -> tuple[date, date]:
        """Return the first days of the season and of what follows it, within ``year``."""
        first, last = (_day_of(year, text) for text in (self.starts, self.ends_before))
        return first, last


def _day_of(year: int, month_day: str) -> date:
    month, day = (int(part) for part in month_day.split("-"))
    in_month = Month(year, month)
    return date(year, month, day) if day <= in_month.days else in_month.end


class SeasonalRate(Terms):
    """The price of a contract within one of its seasons."""

    season: str
    rate: Rate


class RampStep(Terms):
    """A value for contract months ``from_month`` to ``to_month``, both included (CT-01)."""

    from_month: int = Field(ge=1)
    to_month: int | None = Field(default=None, ge=1)
    value: Rate = Field(ge=0)


def _check_ramp(steps: Sequence[RampStep | PenaltyTier]) -> None:
    """Raise ValueError unless the steps follow each other from month 1 and only the last is open.

    A closed last step is legal: after it nothing is committed.
    """
    expected: int | None = 1
    for step in steps:
        if step.from_month != expected:
            raise ValueError(
                f"a step starts in contract month {step.from_month}, expected {expected}; "
                "steps follow each other from month 1 and only the last is open"
            )
        if step.to_month is not None and step.to_month < step.from_month:
            raise ValueError(f"step {step.from_month}..{step.to_month} ends before it starts")
        expected = None if step.to_month is None else step.to_month + 1


class ContractPrice(Terms):
    """A contract's own price of a catalog charge: a rate, or one that ramps by contract month.

    It stands in for the catalog's prices of the charge: for those of ``zone`` and of ``state``, or
    without them for all zones and for every core-active state. Prices are tried from top to bottom.
    Seasonal rates replace it within their season, and only when this contract is the one that
    prices the charge (CT-16). When seasons overlap, the first listed wins.
    """

    charge_id: str
    zone: str | None = None
    state: str | None = None
    rate: Rate | None = None
    ramp: tuple[RampStep, ...] = ()
    seasonal: tuple[SeasonalRate, ...] = ()

    @property
    def label(self) -> str:
        """The charge with the zone and state that the price is for."""
        return " ".join(part for part in (self.charge_id, self.zone, self.state) if part)

    @model_validator(mode="after")
    def _shape(self) -> ContractPrice:
        if (self.rate is None) == (not self.ramp):
            raise ValueError("give either rate or ramp")
        _check_ramp(self.ramp)
        if self.ramp and self.ramp[-1].to_month is not None:
            raise ValueError("leave to_month out of the last step: a price has no end of its own")
        return self


class EligibilityPolicy(Terms):
    """Which charges count towards a commitment (RULEBOOK §4, decision).

    ``discounts``: amounts ``after`` (default) or ``before`` discounts; always before tax.
    Hardware and adjustments whose usage lies outside the window are left out unless included here.
    """

    discounts: Literal["after", "before"] = "after"
    include_hardware: bool = False
    include_prior_periods: bool = False


class Penalty(Terms):
    """What a shortfall costs, charged as a product of its own so it has its own account (CT-08).

    ``full`` charges the whole shortfall, ``percent`` a share of it, ``flat`` one amount whenever
    there is any shortfall. ``unit_price`` values a missing unit of a commitment that is not money.
    """

    product_id: str
    method: Literal["full", "percent", "flat"] = "full"
    percent: Percent | None = None
    flat: Money | None = Field(default=None, ge=0)
    unit_price: Rate | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _shape(self) -> Penalty:
        if (self.method == "percent") != (self.percent is not None):
            raise ValueError("give percent for method percent, and only then")
        if (self.method == "flat") != (self.flat is not None):
            raise ValueError("give flat for method flat, and only then")
        return self


FLOW_KINDS = frozenset({"usage_class", "invoice_amount", "average_per_service"})
"""Commitments on what a window adds up to; the others are on how many there are."""


class Commitment(Terms):
    """A minimum the customer promised (RULEBOOK §4).

    Kinds, and what they measure:

    - ``invoice_amount``: eligible charges of the window (minimum spend, CT-02, CT-03);
    - ``usage_class``: eligible amount or quantity of the named classes;
    - ``average_per_service``: the same, promised per billable service of the window;
    - ``service_volume``: distinct services present; ``package_volume``: distinct (service, offer)
      of the named offers; ``package_service``: distinct (service, offer, product) of the named
      offers and products; ``connections``: distinct active services (CT-05). Those four count
      either on the last day of the window (default) or at its peak.

    ``amounts`` is promised per ``period_months`` and measured every ``frequency_months`` (a
    multiple; None: once, at the end of the term). Periods follow calendar months (aligned to
    January) or the contract's own anniversaries. What the contract does not cover of a period is
    prorated by days (CT-06). Quantities and ``penalty.unit_price`` are in units of ``per``.

    ``expected`` is what a calendar month is thought to bring, as a ramp; without it a forecast goes
    on as the days so far (CT-15).

    With ``overage_factor`` the commitment is drawn in order of the charges' ids, and what exceeds
    it costs so many times its price: the difference is a charge of its own.
    """

    id: Annotated[str, Field(pattern=NAME)]
    kind: Literal[
        "service_volume",
        "package_volume",
        "package_service",
        "usage_class",
        "invoice_amount",
        "average_per_service",
        "connections",
    ]
    unit: Literal["amount", "quantity"] = "amount"
    per: str = "count"
    amounts: tuple[RampStep, ...] = Field(min_length=1)
    period_months: int = Field(1, ge=1, le=120)
    frequency_months: int | None = Field(1, ge=1, le=120)
    alignment: Literal["calendar", "anniversary"] = "calendar"
    count_at: Literal["last_day", "peak"] = "last_day"
    usage_classes: tuple[str, ...] = ()
    offers: tuple[str, ...] = ()
    products: tuple[str, ...] = ()
    eligibility: EligibilityPolicy = EligibilityPolicy()
    overage_factor: Annotated[Money, Field(ge=1)] | None = None
    expected: tuple[RampStep, ...] = ()
    penalty: Penalty

    @model_validator(mode="after")
    def _shape(self) -> Commitment:
        _check_ramp(self.amounts)
        _check_ramp(self.expected)
        if self.expected and self.kind not in FLOW_KINDS:
            raise ValueError("expected is for what adds up; how many services there are is known")
        if self.frequency_months is not None and self.frequency_months % self.period_months:
            raise ValueError("frequency_months must be a multiple of period_months")
        if self.alignment == "calendar" and 12 % self.period_months:
            raise ValueError(
                "calendar periods have 1, 2, 3, 4, 6 or 12 months; use alignment anniversary"
            )
        if self.alignment == "calendar" and 12 % (self.frequency_months or 12):
            raise ValueError(
                "a calendar frequency has 1, 2, 3, 4, 6 or 12 months; use alignment anniversary"
            )
        if self.per not in UNIT_SIZES:
            raise ValueError(f"unknown unit {self.per!r}; known: {', '.join(sorted(UNIT_SIZES))}")
        needs_price = self.kind not in FLOW_KINDS or self.unit == "quantity"
        if needs_price and self.penalty.method != "flat" and self.penalty.unit_price is None:
            raise ValueError("penalty.unit_price is needed: it values a missing unit")
        if self.kind not in FLOW_KINDS:
            if self.unit != "quantity":
                raise ValueError(f"{self.kind} counts services; write unit: quantity")
            if self.frequency_months != self.period_months:
                raise ValueError(f"{self.kind} is a level; measure it once a period")
        if self.kind == "invoice_amount" and self.unit != "amount":
            raise ValueError("invoice_amount is money; write unit: amount")
        if self.overage_factor is not None and (
            self.kind not in ("usage_class", "invoice_amount") or self.unit != "amount"
        ):
            raise ValueError("overage_factor is for usage_class and invoice_amount, in money")
        if self.kind == "usage_class" and not self.usage_classes:
            raise ValueError("name the usage_classes that count")
        return self


class PenaltyTier(Terms):
    """An early termination penalty for contract months ``from_month``..``to_month`` (CT-09)."""

    from_month: int = Field(ge=1)
    to_month: int | None = Field(default=None, ge=1)
    percent: Percent | None = None
    flat: Money | None = Field(default=None, ge=0)


class EarlyTermination(Terms):
    """What ending before the term costs (RULEBOOK §4).

    ``remainder``: the monthly value of everything that remains; ``pct_of_remaining``: a share of
    it; ``flat``: one amount. ``tiers`` give the share or amount by contract month.
    ``monthly_value`` is what a contract month is worth, as a ramp; nothing after a closed
    last step.
    """

    product_id: str
    kind: Literal["remainder", "flat", "pct_of_remaining"]
    percent: Percent | None = None
    flat: Money | None = Field(default=None, ge=0)
    tiers: tuple[PenaltyTier, ...] = ()
    monthly_value: tuple[RampStep, ...] = ()

    @model_validator(mode="after")
    def _shape(self) -> EarlyTermination:
        _check_ramp(self.monthly_value)
        _check_ramp(self.tiers)
        if self.kind != "flat" and not self.monthly_value:
            raise ValueError(f"{self.kind} needs monthly_value: what a remaining month is worth")
        if self.kind == "remainder" and (self.tiers or self.percent is not None):
            raise ValueError("remainder takes everything; use pct_of_remaining for shares of it")
        wanted = {"remainder": None, "flat": "flat", "pct_of_remaining": "percent"}[self.kind]
        for name in ("percent", "flat"):
            own, tiered = getattr(self, name), [getattr(tier, name) for tier in self.tiers]
            given = [value for value in (own, *tiered) if value is not None]
            if name != wanted and given:
                raise ValueError(f"{self.kind} has no {name}")
            if name == wanted and (own is not None) == bool(self.tiers):
                raise ValueError(f"give either {name} or tiers")
            if name == wanted and None in tiered:
                raise ValueError(f"every tier of {self.kind} gives {name}")
        return self


class TerminationStatus(Terms):
    """A reason to end a contract: the core state its services take, and whether a fee is due.

    With ``state``, a state of the catalog on that core state, they take it by themselves on the
    first day without contract; without it the inventory tells, and a difference is a finding.
    """

    status: str
    core_state: CoreState
    state: str | None = None
    charges_fee: bool = True


class Renewal(Terms):
    """What follows the term (RULEBOOK §4, CT-12, CT-17).

    ``expire``: nothing. ``auto_renew``: the same term with the same commitments, prices raised by
    ``uplift_percent`` from the first day of each new term. ``new_contract``: the ``successor``
    terms, whose own renewal says what follows them. ``ramp`` says whether contract months start
    again (default: "identical term and commitments") or go on counting.
    """

    kind: Literal["expire", "new_contract", "auto_renew"] = "expire"
    uplift_percent: Money = Decimal(0)
    ramp: Literal["restart", "continue"] = "restart"
    successor: ContractTerms | None = None

    @model_validator(mode="after")
    def _shape(self) -> Renewal:
        if (self.kind == "new_contract") != (self.successor is not None):
            raise ValueError("give successor for kind new_contract, and only then")
        if self.uplift_percent and self.kind != "auto_renew":
            raise ValueError("uplift_percent belongs to auto_renew; a successor has its own prices")
        if self.uplift_percent <= -100:
            raise ValueError("uplift_percent must be above -100")
        return self


class Discount(Terms):
    """A discount of a contract, taken off before commitments are measured (RULEBOOK §4, order).

    ``percent`` of the account's (or service's) charges of a usage period, or an ``amount`` a month
    that never turns them into a credit; of ``charges`` only, if any are named. A month that is
    under contract in part gets the part of its days.
    """

    id: Annotated[str, Field(pattern=NAME)]
    percent: Annotated[Money, Field(ge=0, le=100)] | None = None
    amount: Money | None = Field(default=None, ge=0)
    charges: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _shape(self) -> Discount:
        if (self.percent is None) == (self.amount is None):
            raise ValueError("give either percent or amount")
        return self


class ContractTerms(Terms):
    """The terms of a template or of a signed contract.

    ``covers: tree`` lets a contract of an account hold for all accounts below it too: its prices
    where no account in between has its own, its commitments over all of them together.
    """

    currency: str
    term_months: int = Field(ge=1, le=600)
    covers: Literal["account", "tree"] = "account"
    prices: tuple[ContractPrice, ...] = ()
    seasons: tuple[Season, ...] = ()
    commitments: tuple[Commitment, ...] = ()
    discounts: tuple[Discount, ...] = ()
    early_termination: EarlyTermination | None = None
    termination_statuses: tuple[TerminationStatus, ...] = ()
    renewal: Renewal = Field(default_factory=Renewal)
    notice_days: int = Field(0, ge=0)
    alert_days: tuple[int, ...] = (90, 60, 30)
    suspension_extends_term: bool = False

    @model_validator(mode="after")
    def _references(self) -> ContractTerms:
        for label, ids in (
            ("price of charge", [price.label for price in self.prices]),
            ("season", [season.id for season in self.seasons]),
            ("commitment", [commitment.id for commitment in self.commitments]),
            ("discount", [discount.id for discount in self.discounts]),
            ("termination status", [status.status for status in self.termination_statuses]),
        ):
            twice = sorted({name for name in ids if ids.count(name) > 1})
            if twice:
                raise ValueError(f"{label} {twice[0]!r} is given twice")
        if self.covers == "tree" and any(each.amount is not None for each in self.discounts):
            raise ValueError("an amount is taken off one account; give accounts below their own")
        after = self.renewal.successor
        if after is not None and after.currency != self.currency:
            raise ValueError(
                f"the successor is in {after.currency}, these terms in {self.currency}"
            )
        known = {season.id for season in self.seasons}
        for price in self.prices:
            for seasonal in price.seasonal:
                if seasonal.season not in known:
                    raise ValueError(
                        f"price of charge {price.charge_id!r} names unknown season "
                        f"{seasonal.season!r}; known: {', '.join(sorted(known)) or 'none'}"
                    )
        return self

    def price_of(
        self, charge_id: str, zone: str | None = None, state: str | None = None
    ) -> ContractPrice | None:
        """Return these terms' own price of a charge, or None.

        ``zone`` and ``state`` are what the catalog's price is for; a core-active state is None.
        """
        return next(
            (
                price
                for price in self.prices
                if price.charge_id == charge_id
                and price.zone in (None, zone)
                and price.state == state
            ),
            None,
        )


class ContractTemplate(Terms):
    """Terms offered under a name; :func:`engine.contract.sign` copies them."""

    id: str
    name: str
    terms: ContractTerms


class Suspension(Terms):
    """Days ``[start, end)`` on which the contract's service stood still (ST-23)."""

    start: date
    end: date

    @model_validator(mode="after")
    def _order(self) -> Suspension:
        if self.end <= self.start:
            raise ValueError("end must be after start (the interval is half-open)")
        return self


class Contract(Terms):
    """A signed contract: of an account, or of a line item (``service_id``) of it.

    ``[start, end)`` is the first term, before extensions; ``terminated_on`` the first day without
    contract when it was ended early. ``signed_terms`` is its own copy of what was signed.
    """

    id: Annotated[str, Field(pattern=NAME)]
    account_id: str
    service_id: str | None = None
    account_contract_id: str | None = None
    template_id: str | None = None
    start: date
    end: date
    signed_terms: ContractTerms
    suspensions: tuple[Suspension, ...] = ()
    terminated_on: date | None = None
    termination_status: str | None = None

    @property
    def level(self) -> Literal["account", "line_item"]:
        return "account" if self.service_id is None else "line_item"

    @model_validator(mode="after")
    def _shape(self) -> Contract:
        if self.end <= self.start:
            raise ValueError("end must be after start (the interval is half-open)")
        if self.service_id is not None and self.signed_terms.covers == "tree":
            raise ValueError("covers: tree is for contracts of accounts, not of a service")
        known = {status.status for status in self.signed_terms.termination_statuses}
        if self.termination_status is not None and self.termination_status not in known:
            raise ValueError(
                f"unknown termination status {self.termination_status!r}; "
                f"known: {', '.join(sorted(known)) or 'none'}"
            )
        return self


Renewal.model_rebuild()
