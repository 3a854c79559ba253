"""What a partner is promised (RULEBOOK §7)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Literal

from pydantic import Field, model_validator

from iotbill_pipelines.engine.commission.clawback import ClawbackTerms
from iotbill_pipelines.engine.terms import Money, Terms, TermsError

MONTH = r"^[0-9]{4}-(0[1-9]|1[0-2])$"


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


class Upfront(Terms):
    """A one-time commission for each new service, and how it is taken back (CM-03)."""

    amount: Money = Field(gt=0)
    currency: str = Field(pattern=r"^[A-Z]{3}$")
    clawback: ClawbackTerms | None = None


class PartnerPlan(Terms):
    """A version of what a partner is promised, in the months ``[valid_from, valid_to)``.

    ``when`` names attributes that a charge must have to earn; every charge earns without it.
    """

    partner: str
    plan: CommissionPlan
    upfront: Upfront | None = None
    when: dict[Literal["product", "gl_class", "charge_type"], str] = Field(default_factory=dict)
    valid_from: str = Field("1970-01", pattern=MONTH)
    valid_to: str | None = Field(None, pattern=MONTH)


class Partner(Terms):
    """Who earns. Without a plan of its own the nearest partner above gives it (RULEBOOK §7)."""

    id: str = Field(min_length=1)
    name: str
    entity: str
    above: str | None = None


class Brought(Terms):
    """Whose customers earn for a partner, in ``[valid_from, valid_to)``.

    ``account`` is an account's id or ``group:NAME``.
    """

    partner: str
    account: str = Field(min_length=1)
    valid_from: str = Field("1970-01", pattern=MONTH)
    valid_to: str | None = Field(None, pattern=MONTH)


class CommissionTerms(Terms):
    """Partners, what they are promised, and on whom they earn."""

    partners: tuple[Partner, ...] = ()
    plans: tuple[PartnerPlan, ...] = ()
    customers: tuple[Brought, ...] = ()

    def plan(self, partner_id: str, month: str) -> PartnerPlan | None:
        """Return what a partner is promised in a month (YYYY-MM): its own, or the nearest above."""
        parents = {p.id: p.above for p in self.partners if p.above is not None}
        valid = [
            each
            for each in self.plans
            if each.valid_from <= month and (each.valid_to is None or month < each.valid_to)
        ]
        found = plan_of(partner_id, parents, [(each.partner, each.plan) for each in valid])
        return next((each for each in valid if each.plan is found), None)

    def partner_of(self, account_id: str, group: str | None, month: str) -> Partner | None:
        """Return who earns on an account in a month; its own row wins over its group's."""
        for name in (account_id, f"group:{group}" if group else None):
            for row in self.customers if name else ():
                if row.account == name and row.valid_from <= month < (row.valid_to or "9999-99"):
                    return next(p for p in self.partners if p.id == row.partner)
        return None


def check_commissions(terms: CommissionTerms) -> Iterator[TermsError]:
    """Yield every contradiction in commission terms."""
    ids = [partner.id for partner in terms.partners]
    for position, partner in enumerate(terms.partners):
        if partner.id in ids[:position]:
            yield TermsError(("partners", position), f"{partner.id!r} is defined twice")
        if partner.above is not None and partner.above not in ids:
            yield TermsError(
                ("partners", position, "above"), f"{partner.above!r} is no partner; add it"
            )
    for position, plan in enumerate(terms.plans):
        if plan.partner not in ids:
            yield TermsError(
                ("plans", position, "partner"), f"{plan.partner!r} is no partner; add it"
            )
        for other in terms.plans[:position]:
            if other.partner == plan.partner and _meet(other, plan):
                yield TermsError(
                    ("plans", position),
                    f"{plan.partner!r} has plan {other.plan.id} {other.plan.version} in some of "
                    "the same months; end it with valid_to",
                )
    yield from _wrong_customers(terms, ids)
    try:
        for partner in terms.partners:
            terms.plan(partner.id, "9999-00")
    except ValueError as error:
        yield TermsError(("partners",), str(error))


def _wrong_customers(terms: CommissionTerms, ids: Sequence[str]) -> Iterator[TermsError]:
    for position, row in enumerate(terms.customers):
        if row.partner not in ids:
            yield TermsError(
                ("customers", position, "partner"), f"{row.partner!r} is no partner; add it"
            )
        for earlier in terms.customers[:position]:
            if earlier.account == row.account and _meet(earlier, row):
                yield TermsError(
                    ("customers", position),
                    f"{row.account!r} earns for {earlier.partner!r} in some of the same months; "
                    "end that with valid_to",
                )


def _meet(one: PartnerPlan | Brought, other: PartnerPlan | Brought) -> bool:
    return (one.valid_to is None or other.valid_from < one.valid_to) and (
        other.valid_to is None or one.valid_from < other.valid_to
    )
