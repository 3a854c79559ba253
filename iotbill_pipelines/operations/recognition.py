"""Recognition: deferrals, contract assets, commissions and true-ups of a month (RULEBOOK §§7, 9).

Runs before the month's journals are built, in their transaction.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from iotbill_pipelines.config.revenue import read_commissions, read_revenue
from iotbill_pipelines.engine.calendars import Month, months_between
from iotbill_pipelines.engine.commission import (
    CommissionTerms,
    EarningLine,
    Payout,
    commissions,
    settle_payouts,
)
from iotbill_pipelines.engine.money import apportion, of_minor, to_minor
from iotbill_pipelines.engine.post.fx import conversion
from iotbill_pipelines.engine.post.terms import LedgerTerms
from iotbill_pipelines.engine.revenue import RevenueTerms, recognise
from iotbill_pipelines.engine.terms import CoreState
from iotbill_pipelines.operations.catalogs import in_force
from iotbill_pipelines.operations.cut_off import PURPOSE
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage import derived, payments
from iotbill_pipelines.storage.derived import Desired

_REVENUE = ("deferral", "release", "allocation")


def book_derived(
    ws: Workspace,
    session: Session,
    period: Month,
    terms: LedgerTerms,
    open_at_end: Sequence[Desired] | None = None,
) -> dict[tuple[str, str], int]:
    """Book what follows from the charges up to ``period`` and is not booked yet.

    ``open_at_end`` is what :func:`operations.cut_off.cut_off` found; None where nothing of the kind
    is accrued. Returns minor units by (purpose, currency); nothing on a second run.
    """
    desired = [
        *_revenue(ws, session, period, read_revenue(ws.configs)),
        *_commissions(ws, session, period, read_commissions(ws.configs), terms),
        *(open_at_end or ()),
    ]
    purposes = (*_REVENUE, "commission", "true_up")
    return derived.book_derived(
        session,
        period,
        purposes if open_at_end is None else (*purposes, PURPOSE),
        desired,
        run_id=ws.run_id,
        booked_at=ws.clock(),
    )


def _revenue(ws: Workspace, session: Session, period: Month, terms: RevenueTerms) -> list[Desired]:
    if terms.is_empty:
        return []
    found = _true_ups(session, period, terms)
    if not terms.deferrals and not terms.bundles:
        return found
    lines = derived.revenue_lines(session, period, terms)
    lives = derived.service_lives(session, _states(ws, CoreState.CANCELLED))
    for entry in recognise(terms, lines, lives, period, _quota_uses(ws, session, period, terms)):
        line = entry.line
        found.append(
            Desired(
                purpose=entry.purpose,
                item=entry.item,
                level=line.level,
                entity_id=line.entity_id,
                account_id=line.account_id,
                service_id=line.service_id,
                product_id=line.product_id,
                kind=line.kind,
                gl_class=line.gl_class,
                tax_code=line.tax_code,
                currency=line.currency,
                amount=entry.amount,
                version=entry.item.partition(":")[0],
                explanation=entry.explanation,
                booked_charge_id=entry.charge_no,
            )
        )
    return found


def _quota_uses(
    ws: Workspace, session: Session, period: Month, terms: RevenueTerms
) -> dict[tuple[str, str], dict[Month, int]]:
    """What services used of prepaid quotas by the end of a month, by rule and service."""
    rules = [rule for rule in terms.deferrals if rule.quota is not None]
    if not rules:
        return {}
    catalog = in_force(ws).catalog
    classes = {product.id: product.usage_class for product in catalog.products}
    found: dict[tuple[str, str], dict[Month, int]] = {}
    for rule in rules:
        charges = sorted(
            charge.id
            for offer in catalog.offers
            for charge in offer.charges
            if offer.level == "vendor"
            and charge.kind == "usage"
            and rule.quota is not None
            and classes.get(charge.product) == rule.quota.usage_class
        )
        for (service, month), quantity in derived.quantities(session, period, charges).items():
            found.setdefault((rule.id, service), {})[month] = quantity
    return found


def _true_ups(session: Session, period: Month, terms: RevenueTerms) -> list[Desired]:
    if terms.vendor_true_up == "none":
        return []
    found = []
    for row in derived.vendor_variances(session, period):
        claimed = row.disputed_minor if terms.vendor_true_up == "accepted" else 0
        minor = row.invoiced_minor - claimed - row.expected_minor
        if minor:
            found.append(
                Desired(
                    purpose="true_up",
                    item=f"{row.entity_id}:{row.accounting_period}:{row.vendor_id}:{row.currency}",
                    level="vendor",
                    entity_id=row.entity_id,
                    account_id=row.vendor_id,
                    service_id="",
                    product_id="",
                    kind="true_up",
                    gl_class="cost_true_up",
                    tax_code="",
                    currency=row.currency,
                    amount=of_minor(minor, row.currency),
                    version=terms.vendor_true_up,
                    explanation=f"billed {of_minor(row.invoiced_minor, row.currency)}, claimed "
                    f"{of_minor(row.disputed_minor, row.currency)}, expected "
                    f"{of_minor(row.expected_minor, row.currency)} in {row.accounting_period}",
                )
            )
    return found


def _commissions(
    ws: Workspace, session: Session, period: Month, terms: CommissionTerms, posting: LedgerTerms
) -> list[Desired]:
    if not terms.plans:
        return []
    lines = derived.earning_lines(session, period)
    if any(plan.plan.basis == "margin" for plan in terms.plans):
        lines = _with_cost(lines, derived.vendor_costs(session, period), posting)
    if any(plan.plan.recognised == "collected" for plan in terms.plans):
        paid = derived.collected_revenue(session, period)
        lines = [replace(line, collected=_collected(line, paid)) for line in lines]
    services = []
    if any(plan.upfront for plan in terms.plans):
        services = derived.sold_services(
            session,
            _states(ws, CoreState.CANCELLED),
            _states(ws, CoreState.SUSPENDED),
            period.end,
        )
    return [
        Desired(
            purpose="commission",
            item=entry.item,
            level="retail",
            entity_id=entry.entity_id,
            account_id=entry.partner_id,
            service_id=entry.service_id,
            product_id=entry.product_id,
            kind=entry.kind,
            gl_class=entry.gl_class,
            tax_code="",
            currency=entry.currency,
            amount=entry.amount,
            version=entry.version,
            explanation=entry.explanation,
        )
        for entry in commissions(terms, lines, services, period)
    ]


def _collected(line: EarningLine, paid: Mapping[tuple[Any, ...], int]) -> Decimal:
    key = (
        *(str(line.month), line.account_id, line.service_id, line.product_id, line.kind),
        *(line.gl_class, line.currency, str(line.usage_period), line.is_correction),
    )
    return of_minor(paid[key], line.currency)


def _with_cost(
    lines: Sequence[EarningLine],
    costs: dict[tuple[str, Month], list[tuple[str, int]]],
    posting: LedgerTerms,
) -> list[EarningLine]:
    """Give a service's cost of a usage period to the lines that first billed it, by revenue."""
    groups: dict[tuple[str, Month, str], list[int]] = defaultdict(list)
    for place, line in enumerate(lines):
        if not line.is_correction:
            groups[line.service_id, line.usage_period, line.currency].append(place)
    found = list(lines)
    for (service_id, usage_period, currency), places in sorted(groups.items()):
        minor = sum(
            conversion(posting, other, currency, usage_period.last_day).minor(amount)
            for other, amount in costs.get((service_id, usage_period), [])
        )
        if not minor:
            continue
        weights = [abs(to_minor(lines[place].revenue, currency)) for place in places]
        for place, part in zip(places, apportion(minor, weights, places), strict=True):
            found[place] = replace(lines[place], cost=of_minor(part, currency))
    return found


def _states(ws: Workspace, core: CoreState) -> list[str]:
    catalog = in_force(ws).catalog
    return [state.state for state in catalog.states if state.core == core]


def roll_forward(ws: Workspace, period: Month) -> list[derived.DeferredRow]:
    """Return the month's roll-forward of deferred revenue, prepaid cost and contract assets."""
    with Session(ws.engine) as session:
        return derived.roll_forward(session, period)


def read_payments(ws: Workspace, path: Path) -> payments.PaymentsRead:
    """Keep the payments of a file; commissions on collected amounts follow with the next close."""
    with Session(ws.engine) as session, session.begin():
        return payments.read_payments(session, path, actor=ws.actor, at=ws.clock())


def open_invoices(ws: Workspace, period: Month) -> list[payments.OpenInvoice]:
    """Return the invoices up to a month that are not paid to the cent by its end."""
    with Session(ws.engine) as session:
        return payments.open_invoices(session, period)


@dataclass(frozen=True)
class ChargeRecognition:
    """What was deferred and released of a charge in an accounting period."""

    accounting_period: str
    purpose: str
    amount: Decimal
    currency: str
    version: str
    explanation: str


def of_charge(ws: Workspace, charge_no: int) -> list[ChargeRecognition]:
    """Return the deferral and the releases of a booked charge, in the order of booking."""
    with Session(ws.engine) as session:
        return [
            ChargeRecognition(
                **{name: getattr(row, name) for name in ChargeRecognition.__dataclass_fields__}
            )
            for row in derived.entries_of(session, charge_no)
        ]


@dataclass(frozen=True)
class Statement:
    """A partner's month in one currency: opening + earned = paid + carried (CM-04)."""

    partner_id: str
    name: str
    currency: str
    month: str
    opening: Decimal
    earned: Decimal
    paid: Decimal
    carried: Decimal
    rules: list[str]


def statements(ws: Workspace, period: Month) -> list[Statement]:
    """Return every partner's statement of a month: balances carry, payouts from a minimum on."""
    terms = read_commissions(ws.configs)
    with Session(ws.engine) as session:
        rows = derived.commission_rows(session, period)
    found = []
    for partner in terms.partners:
        promise = terms.plan(partner.id, str(period))
        if promise is None:
            continue
        own = [row for row in rows if row.partner_id == partner.id]
        for currency in sorted({row.currency for row in own}):
            of_it = [row for row in own if row.currency == currency]
            months = [Month.parse(row.accounting_period) for row in of_it]
            earned = {month: Decimal(0) for month in months_between(min(months), period)}
            for row, month in zip(of_it, months, strict=True):
                earned[month] += row.amount
            last: Payout = settle_payouts(promise.plan.payout, earned, min(months), period)[-1]
            found.append(
                Statement(
                    partner.id,
                    partner.name,
                    currency,
                    str(period),
                    last.opening,
                    last.earned,
                    last.paid,
                    last.carried,
                    sorted({r.version for r in of_it if r.accounting_period == str(period)}),
                )
            )
    return found
