"""Bundles: one price, several obligations (RULEBOOK §9; RV-01, RV-02, RV-03)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Literal

from pydantic import Field, model_validator

from iotbill_pipelines.engine.money import apportion, minor_digits, round_money, to_minor
from iotbill_pipelines.engine.terms import Money, Terms


class Obligation(Terms):
    """What the customer gets: its standalone selling price (SSP) of the whole term, and when.

    ``at_delivery`` (hardware, installation) or ``over_time`` (connectivity) of the bundle's months.
    """

    id: str
    ssp: Money = Field(ge=0)
    recognised: Literal["at_delivery", "over_time"]


class Bundle(Terms):
    """A hybrid bundle as sold: what is billed up front and per month, and its obligations."""

    id: str
    currency: str
    upfront: Money = Field(default=Decimal(0), ge=0)
    monthly: Money = Field(ge=0)
    months: int = Field(ge=1)
    obligations: tuple[Obligation, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _ids(self) -> Bundle:
        ids = [obligation.id for obligation in self.obligations]
        if len(set(ids)) != len(ids):
            raise ValueError("two obligations have the same id")
        if not any(obligation.ssp for obligation in self.obligations):
            raise ValueError("at least one obligation needs an SSP to allocate by")
        return self


@dataclass(frozen=True)
class Allocation:
    """A transaction price over obligations by relative SSP; the parts add up to ``price``."""

    price: Decimal
    currency: str
    parts: tuple[tuple[str, Decimal], ...]
    explanation: tuple[str, ...]

    def of(self, obligation_id: str) -> Decimal:
        """Return an obligation's part. Raises KeyError when there is none."""
        return dict(self.parts)[obligation_id]


@dataclass(frozen=True)
class BundleMonth:
    """Month ``number`` (1 = first): billed, earned, and what that does to the contract balance.

    ``unwind`` = billed - revenue reduces a contract asset (or builds up a liability);
    ``contract_asset`` is the balance after the month, a liability when negative.
    """

    number: int
    billed: Decimal
    revenue: Decimal
    unwind: Decimal
    contract_asset: Decimal


@dataclass(frozen=True)
class BundleSchedule:
    """A bundle's revenue: at delivery, then month by month until the contract balance is zero."""

    allocation: Allocation
    revenue_at_delivery: Decimal
    contract_asset_at_delivery: Decimal
    months: tuple[BundleMonth, ...]


def allocate(
    price: Decimal, currency: str, standalone: Sequence[tuple[str, Decimal]]
) -> Allocation:
    """Allocate a transaction price at inception by relative SSP (ASC 606-10-55-256; RV-01, RV-03).

    Largest remainder, ties to the smallest id (RULEBOOK §0.2). Later SSPs never change it: store
    the result with the contract. Raises ValueError for a negative SSP or a fraction of a cent.
    """
    scale = 10 ** minor_digits(currency)
    parts = apportion(
        to_minor(price, currency), [ssp for _, ssp in standalone], [name for name, _ in standalone]
    )
    whole = sum((ssp for _, ssp in standalone), Decimal(0))
    money = [round_money(Fraction(part, scale), currency) for part in parts]
    return Allocation(
        price=price,
        currency=currency,
        parts=tuple((name, part) for (name, _), part in zip(standalone, money, strict=True)),
        explanation=tuple(
            f"{name}: {price} x {ssp}/{whole} = {part} {currency}"
            for (name, ssp), part in zip(standalone, money, strict=True)
        ),
    )


def recognise_bundle(bundle: Bundle) -> BundleSchedule:
    """Return a bundle's revenue schedule and its contract asset (RV-02).

    What is delivered at once is earned at once, more than is billed by then: a contract asset,
    which the monthly bills unwind while connectivity is earned evenly. Months are cumulative
    roundings; after the last one billed = earned and the balance is zero.
    """
    currency = bundle.currency
    price = bundle.upfront + bundle.monthly * bundle.months
    allocation = allocate(price, currency, [(o.id, o.ssp) for o in bundle.obligations])
    at_delivery = sum(
        (allocation.of(o.id) for o in bundle.obligations if o.recognised == "at_delivery"),
        Decimal(0),
    )
    over_time = price - at_delivery
    asset = at_delivery - bundle.upfront
    months: list[BundleMonth] = []
    balance, earned = asset, Decimal(0)
    for number in range(1, bundle.months + 1):
        cumulative = round_money(Fraction(over_time) * number / bundle.months, currency)
        revenue, earned = cumulative - earned, cumulative
        unwind = bundle.monthly - revenue
        balance -= unwind
        months.append(BundleMonth(number, bundle.monthly, revenue, unwind, balance))
    return BundleSchedule(allocation, at_delivery, asset, tuple(months))
