"""From booked charges to what the books should show of them by the end of a month (RULEBOOK §9).

Everything is cumulative: an entry says how much of an item should be posted by then, so that the
difference to what was posted is all that a month books, whatever changed since.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Literal

from iotbill_pipelines.engine.calendars import Month, add_months, clamp_day
from iotbill_pipelines.engine.money import apportion, round_money, to_minor
from iotbill_pipelines.engine.revenue.bundles import Allocation, allocate
from iotbill_pipelines.engine.revenue.prepaid import PrepaidBundle, amortise
from iotbill_pipelines.engine.revenue.schedules import (
    Recognition,
    Schedule,
    daily_straight_line,
    monthly_straight_line,
)
from iotbill_pipelines.engine.revenue.terms import (
    BundleRule,
    DeferralRule,
    LineAttribute,
    RevenueTerms,
)


@dataclass(frozen=True)
class RevenueLine:
    """A booked row that is revenue, or cost, by now: invoiced or accrued as unbilled.

    ``charge_no`` is the row's number, ``booked_in`` its accounting period.
    """

    charge_no: int
    level: str
    entity_id: str
    account_id: str
    service_id: str
    charge_id: str
    product_id: str
    kind: str
    gl_class: str
    tax_code: str
    currency: str
    usage_period: Month
    booked_in: Month
    amount: Decimal

    @property
    def attributes(self) -> Mapping[LineAttribute, str]:
        return {
            "entity": self.entity_id,
            "charge": self.charge_id,
            "charge_type": self.kind,
            "gl_class": self.gl_class,
            "product": self.product_id,
            "tax_code": self.tax_code,
        }


@dataclass(frozen=True)
class ServiceLife:
    """When a service started, and its first day after the end; None where it is not known."""

    started_on: date | None = None
    ended_on: date | None = None


@dataclass(frozen=True)
class RevenueEntry:
    """What should be posted of an item by the end of a month.

    ``deferral`` takes an amount out of revenue (or cost) when it is booked, ``release`` puts it
    back as it is earned; ``allocation`` is what a bundle's obligation earned beyond what it billed.
    """

    purpose: Literal["deferral", "release", "allocation"]
    item: str
    line: RevenueLine
    amount: Decimal
    explanation: str
    charge_no: int | None = None


def recognise(
    terms: RevenueTerms,
    lines: Sequence[RevenueLine],
    lives: Mapping[str, ServiceLife],
    through: Month,
    uses: Mapping[tuple[str, str], Mapping[Month, int]] | None = None,
) -> list[RevenueEntry]:
    """Return what the books should show by the end of ``through``; amounts of zero are left out.

    ``lines`` are all that any rule or bundle can take. The charges of a bundle are not deferred.
    ``uses`` is what services used of the quota of a rule, by rule and service, in class units.
    """
    entries: list[RevenueEntry] = []
    bundled: dict[tuple[str, str], list[RevenueLine]] = defaultdict(list)
    first: dict[tuple[str, str], Month] = {}
    charges = {charge for rule in terms.bundles for charge in rule.charges}
    for line in lines:
        if line.level == "retail" and line.charge_id in charges and line.service_id:
            key = (line.service_id, line.currency)
            first[key] = min(line.usage_period, first.get(key, line.usage_period))
            bundled[key].append(line)
            continue
        rule = next((r for r in terms.deferrals if r.takes(line.level, line.attributes)), None)
        if rule is not None:
            life = lives.get(line.service_id, ServiceLife())
            used = (uses or {}).get((rule.id, line.service_id), {})
            entries += _deferred(rule, line, life, through, used)
    for key, members in sorted(bundled.items()):
        life = lives.get(key[0], ServiceLife())
        for bundle in terms.bundles:
            sold_on = first[key].start
            if bundle.sold_from <= sold_on and (bundle.sold_to is None or sold_on < bundle.sold_to):
                own = [line for line in members if line.charge_id in bundle.charges]
                if own and bundle.bundle.currency == key[1]:
                    entries += _allocated(bundle, own, first[key], life, through)
    return entries


def schedule_of(
    rule: DeferralRule,
    line: RevenueLine,
    life: ServiceLife,
    through: Month,
    used: Mapping[Month, int],
) -> Schedule:
    """Return the months in which a charge is earned under a rule; of one with a quota, up to
    ``through``, by what is ``used`` of it."""
    months = rule.months or 1
    early = life.ended_on if rule.ends_with_service else None
    if rule.over == "days":
        start = line.usage_period.start
        if rule.starts == "service" and life.started_on is not None:
            start = clamp_day(line.usage_period, life.started_on.day)
        if rule.quota is not None:
            bundle = PrepaidBundle(
                id=rule.id,
                cost=line.amount,
                currency=line.currency,
                start=start,
                end=add_months(start, months),
                basis=rule.quota.pace,
                included_quantity=rule.quota.included_quantity,
            )
            return amortise(bundle, through, used_by_month=used, ended_on=early)
        return daily_straight_line(
            line.amount, line.currency, start, add_months(start, months), ended_early_on=early
        )
    schedule = monthly_straight_line(line.amount, line.currency, line.usage_period, months)
    if early is None or early >= (line.usage_period + months).start:
        return schedule
    # The month of the last day takes what is left, as in a daily schedule.
    last = max(Month.of(date.fromordinal(early.toordinal() - 1)), line.usage_period)
    kept = (last.year - line.usage_period.year) * 12 + last.month - line.usage_period.month
    before = schedule.months[:kept]
    done = before[-1].cumulative if before else Decimal(0)
    rest = Recognition(last, Fraction(1), line.amount - done, line.amount, Decimal(0))
    return Schedule(
        line.amount,
        line.currency,
        (*before, rest),
        f"{schedule.explanation}, the rest when it ended on {early}",
    )


def _deferred(
    rule: DeferralRule,
    line: RevenueLine,
    life: ServiceLife,
    through: Month,
    used: Mapping[Month, int],
) -> Iterable[RevenueEntry]:
    schedule = schedule_of(rule, line, life, through, used)
    if not schedule.amount or schedule.cumulative_through(line.booked_in) == schedule.amount:
        return  # earned when it is booked
    item = f"{rule.id}:{line.charge_no}"
    told = schedule.explanation
    yield RevenueEntry("deferral", item, line, schedule.amount, told, line.charge_no)
    released = schedule.cumulative_through(through)
    if released:
        yield RevenueEntry("release", item, line, released, told, line.charge_no)


def _allocated(
    rule: BundleRule,
    lines: Sequence[RevenueLine],
    start: Month,
    life: ServiceLife,
    through: Month,
) -> Iterable[RevenueEntry]:
    if life.ended_on is not None and life.ended_on <= through.end:
        return  # what will not be billed any more is not revenue: the contract asset is written off
    bundle = rule.bundle
    price = bundle.upfront + bundle.monthly * bundle.months
    parts = allocate(price, bundle.currency, [(o.id, o.ssp) for o in bundle.obligations])
    number = (through.year - start.year) * 12 + through.month - start.month + 1
    billed = {
        obligation.id: sum(
            (line.amount for line in lines if line.charge_id in obligation.charges), Decimal(0)
        )
        for obligation in rule.obligations
    }
    earned = _earned(rule, parts, min(number, bundle.months), sum(billed.values(), Decimal(0)))
    newest = max(lines, key=lambda line: (line.usage_period, line.charge_no))
    for obligation in rule.obligations:
        amount = earned[obligation.id] - billed[obligation.id]
        if amount:
            yield RevenueEntry(
                "allocation",
                f"{rule.id}:{newest.service_id}:{obligation.id}",
                _posted_as(newest, obligation.product, obligation.gl_class),
                amount,
                f"month {number} of {bundle.months}: earned {earned[obligation.id]}, billed "
                f"{billed[obligation.id]} ({parts.of(obligation.id)} of {price} allocated)",
            )


def _earned(rule: BundleRule, parts: Allocation, month: int, billed: Decimal) -> dict[str, Decimal]:
    """What each obligation earned by the end of a month; the last month closes the balance."""
    bundle = rule.bundle
    at_once = {o.id: parts.of(o.id) for o in rule.obligations if o.recognised == "at_delivery"}
    over_time = [o for o in rule.obligations if o.recognised == "over_time"]
    delivered = sum(at_once.values(), Decimal(0))
    if not over_time:
        return at_once
    total = bundle.upfront + bundle.monthly * bundle.months - delivered
    due = round_money(total * month / bundle.months, bundle.currency)
    if month == bundle.months:
        due = billed - delivered
    split = apportion(
        to_minor(due, bundle.currency),
        [parts.of(o.id) for o in over_time],
        [o.id for o in over_time],
    )
    unit = round_money(Decimal(1), bundle.currency) / to_minor(Decimal(1), bundle.currency)
    return {**at_once, **{o.id: part * unit for o, part in zip(over_time, split, strict=True)}}


def _posted_as(line: RevenueLine, product: str, gl_class: str) -> RevenueLine:
    return RevenueLine(
        **{**vars(line), "product_id": product, "gl_class": gl_class, "kind": "bundle"}
    )
