"""Every partner's commissions up to a month, from invoiced charges (RULEBOOK §7).

Cumulative like everything that is booked by difference: what each item should amount to by the end
of the month, whatever plans and charges became of it since.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal

from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.commission.clawback import claw_back
from iotbill_pipelines.engine.commission.earning import CommissionLine, Earned, earn
from iotbill_pipelines.engine.commission.terms import CommissionTerms, PartnerPlan


@dataclass(frozen=True)
class EarningLine:
    """Invoiced charges of an account, service and month of invoicing, before tax.

    ``usage_period`` is what they are for; earlier than ``month`` for a correction. ``first_month``
    is the service's first month with charges; ``collected`` what was paid of ``revenue`` by now.
    """

    month: Month
    account_id: str
    customer_group: str | None
    service_id: str
    product_id: str
    kind: str
    gl_class: str
    currency: str
    usage_period: Month
    first_month: Month
    is_correction: bool
    revenue: Decimal
    cost: Decimal = Decimal(0)
    collected: Decimal | None = None

    @property
    def key(self) -> str:
        """Unique among the lines of a partner, month and currency."""
        return ":".join(
            (
                self.account_id,
                self.service_id,
                self.product_id,
                self.kind,
                self.gl_class,
                str(self.usage_period),
                "c" if self.is_correction else "",
            )
        )


@dataclass(frozen=True)
class SoldService:
    """A service with charges: whose it is, from when to when (exclusive), days suspended."""

    service_id: str
    account_id: str
    customer_group: str | None
    started_on: date
    ended_on: date | None = None
    suspended_days: int = 0


@dataclass(frozen=True)
class CommissionEntry:
    """What an item should amount to: a line's commission, an upfront one, or its clawback."""

    item: str
    entity_id: str
    partner_id: str
    month: Month
    service_id: str
    product_id: str
    kind: str
    gl_class: str
    currency: str
    amount: Decimal
    version: str
    explanation: str


def commissions(
    terms: CommissionTerms,
    lines: Sequence[EarningLine],
    services: Sequence[SoldService],
    through: Month,
) -> list[CommissionEntry]:
    """Return every partner's commissions by the end of ``through``; zeros are left out.

    A correction takes back, or adds, at the percentage that its usage month earned (CM-06).
    """
    sets: dict[tuple[str, Month, str], list[tuple[EarningLine, PartnerPlan]]] = defaultdict(list)
    for line in lines:
        partner = terms.partner_of(line.account_id, line.customer_group, str(line.month))
        plan = terms.plan(partner.id, str(line.month)) if partner is not None else None
        if partner is None or plan is None or line.month > through:
            continue
        own = {"product": line.product_id, "gl_class": line.gl_class, "charge_type": line.kind}
        if plan.when.items() <= own.items():
            sets[partner.id, line.month, line.currency].append((line, plan))
    entries: list[CommissionEntry] = []
    percents: dict[tuple[str, Month, str], Decimal] = {}
    entity = {partner.id: partner.entity for partner in terms.partners}
    for (partner_id, month, currency), members in sorted(sets.items()):
        promise = members[0][1]
        earned = earn(
            promise.plan,
            [_line(line, promise, percents, partner_id) for line, _ in members],
            currency,
        )
        percents[partner_id, month, currency] = _blended(earned, members)
        for (line, _), part, told in zip(members, earned.lines, earned.explanation, strict=True):
            if part.amount:
                entries.append(
                    CommissionEntry(
                        item=f"{partner_id}:{month}:{currency}:{line.key}",
                        entity_id=entity[partner_id],
                        partner_id=partner_id,
                        month=month,
                        service_id=line.service_id,
                        product_id=line.product_id,
                        kind=line.kind,
                        gl_class=line.gl_class,
                        currency=currency,
                        amount=part.amount,
                        version=f"{promise.plan.id} {promise.plan.version}",
                        explanation=told,
                    )
                )
    for service in services:
        entries += _upfront(terms, service, entity, through)
    return entries


def _line(
    line: EarningLine,
    promise: PartnerPlan,
    percents: dict[tuple[str, Month, str], Decimal],
    partner_id: str,
) -> CommissionLine:
    age = (line.usage_period.year - line.first_month.year) * 12
    age += line.usage_period.month - line.first_month.month + 1
    percent = None
    if line.is_correction and promise.plan.tiers:
        percent = percents.get((partner_id, line.usage_period, line.currency))
    return CommissionLine(
        key=line.key,
        revenue=line.revenue,
        cost=line.cost,
        collected=line.collected,
        age_month=max(age, 1),
        percent=percent,
    )


def _blended(earned: Earned, members: Sequence[tuple[EarningLine, PartnerPlan]]) -> Decimal:
    """The percentage that a month's own lines earned together, for later corrections of them."""
    own = {line.key for line, _ in members if not line.is_correction}
    basis = sum((part.basis for part in earned.lines if part.key in own), start=0 * earned.basis)
    exact = sum((part.exact for part in earned.lines if part.key in own), start=0 * earned.basis)
    if not basis:
        return Decimal(0)
    percent = exact * 100 / basis
    return Decimal(percent.numerator) / Decimal(percent.denominator)


def _upfront(
    terms: CommissionTerms, service: SoldService, entity: dict[str, str], through: Month
) -> list[CommissionEntry]:
    month = Month.of(service.started_on)
    partner = terms.partner_of(service.account_id, service.customer_group, str(month))
    promise = terms.plan(partner.id, str(month)) if partner is not None else None
    if partner is None or promise is None or promise.upfront is None or month > through:
        return []
    paid = CommissionEntry(
        item=f"{partner.id}:{service.service_id}:upfront",
        entity_id=entity[partner.id],
        partner_id=partner.id,
        month=month,
        service_id=service.service_id,
        product_id="",
        kind="upfront",
        gl_class="commission",
        currency=promise.upfront.currency,
        amount=promise.upfront.amount,
        version=f"{promise.plan.id} {promise.plan.version}",
        explanation=f"service started on {service.started_on}",
    )
    back = promise.upfront.clawback
    if back is None or service.ended_on is None or Month.of(service.ended_on) > through:
        return [paid]
    taken = claw_back(
        back,
        paid.amount,
        paid.currency,
        service.started_on,
        service.ended_on,
        suspended_days=service.suspended_days,
    )
    if not taken.amount:
        return [paid]
    return [
        paid,
        replace(
            paid,
            item=f"{partner.id}:{service.service_id}:clawback",
            month=Month.of(service.ended_on),
            kind="clawback",
            amount=taken.amount,
            explanation=taken.explanation,
        ),
    ]
