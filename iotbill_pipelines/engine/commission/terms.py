"""What a partner is promised (RULEBOOK §7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Literal

from pydantic import Field, model_validator

from iotbill_pipelines.engine.terms import Money, Terms


class CommissionTier(Terms):
    """A percentage for a basis up to and including ``up_to``; the last tier is open."""

    up_to: Money | None = Field(default=None, gt=0)
    percent: Money = Field(ge=0)


class AgeTier(Terms):
    """A percentage for the service's months up to and including ``up_to_month`` (CM-05)."""

    up_to_month: int | None = Field(default=None, ge=1)
    percent: Money = Field(ge=0)


class PayoutTerms(Terms):
    """When earnings are paid: ``monthly`` or ``quarterly``, from ``minimum`` on (CM-04)."""

    frequency: Literal["monthly", "quarterly"] = "monthly"
    minimum: Money = Field(default=Decimal(0), ge=0)


class CommissionPlan(Terms):
    """A commission rule under a version that every earning records.

    One of ``percent``, ``tiers`` or ``age_tiers``. ``basis`` is revenue or margin (revenue - cost),
    before tax. ``tier_method``: each slice at its own percentage (``marginal``) or the whole basis
    at the percentage of the tier it reaches (``cliff``, CM-02). ``recognised`` on invoicing or
    as far as the customer has paid.
    """

    id: str
    version: str
    basis: Literal["revenue", "margin"] = "revenue"
    recognised: Literal["invoiced", "collected"] = "invoiced"
    percent: Money | None = Field(default=None, ge=0)
    tiers: tuple[CommissionTier, ...] = ()
    tier_method: Literal["marginal", "cliff"] = "marginal"
    age_tiers: tuple[AgeTier, ...] = ()
    payout: PayoutTerms = PayoutTerms()

    @model_validator(mode="after")
    def _shape(self) -> CommissionPlan:
        if (self.percent is not None) + bool(self.tiers) + bool(self.age_tiers) != 1:
            raise ValueError("give one of percent, tiers and age_tiers")
        for name, bounds in (
            ("tiers", [tier.up_to for tier in self.tiers]),
            ("age_tiers", [tier.up_to_month for tier in self.age_tiers]),
        ):
            if bounds and (bounds[-1] is not None or None in bounds[:-1]):
                raise ValueError(f"only the last of {name} is open: leave its bound out there")
            numbers = [bound for bound in bounds if bound is not None]
            if any(low >= high for low, high in pairwise(numbers)):
                raise ValueError(f"{name} must rise: each bound greater than the one before")
        return self


def plan_of(
    partner_id: str, parents: Mapping[str, str], plans: Sequence[tuple[str, CommissionPlan]]
) -> CommissionPlan | None:
    """Return a partner's plan: its own, or that of the nearest partner above it (RULEBOOK §7).

    ``parents`` maps a partner to the one above; ``plans`` are (partner, plan). Raises ValueError
    when partners are above each other in a circle.
    """
    own = dict(plans)
    seen: set[str] = set()
    current: str | None = partner_id
    while current is not None:
        if current in seen:
            raise ValueError(f"partner {partner_id}: partners lie above each other in a circle")
        if current in own:
            return own[current]
        seen.add(current)
        current = parents.get(current)
    return None
