"""Derived entries: what follows from charges, booked by difference (RULEBOOK §§7, 9, 14).

What should be posted of an item is cumulative; what is booked of it up to the accounting period is
taken off, and the rest becomes a row of that period. A second run finds nothing to book.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.commission import EarningLine, SoldService
from iotbill_pipelines.engine.money import of_minor, to_minor
from iotbill_pipelines.engine.revenue import RevenueLine, RevenueTerms, ServiceLife
from iotbill_pipelines.storage import ledger, models
from iotbill_pipelines.storage.payments import collected


@dataclass(frozen=True)
class Desired:
    """What should be posted of an item by the end of a period, and how it is posted."""

    purpose: str
    item: str
    level: str
    entity_id: str
    account_id: str
    service_id: str
    product_id: str
    kind: str
    gl_class: str
    tax_code: str
    currency: str
    amount: Decimal
    version: str
    explanation: str
    booked_charge_id: int | None = None


_POSTED_AS = (
    "purpose item level entity_id account_id service_id product_id kind gl_class tax_code currency"
).split()


def book_derived(
    session: Session,
    accounting_period: Month,
    purposes: Sequence[str],
    desired: Iterable[Desired],
    *,
    run_id: str,
    booked_at: datetime,
) -> dict[tuple[str, str], int]:
    """Book what ``desired`` says of ``purposes`` and the ledger does not hold.

    ``desired`` is everything of these purposes: what is booked and not desired any more is taken
    back. Entities that closed the period are left alone; their next period books the difference.
    Returns the minor units booked by (purpose, currency), empty on a second run.
    """
    ledger.lock_ledger(session)
    closed = {
        entity
        for entity, state in ledger.period_states(session, accounting_period).items()
        if state == "closed"
    }
    wanted: dict[tuple[str, ...], Desired] = {}
    amounts: dict[tuple[str, ...], int] = {}
    for each in desired:
        key = tuple(getattr(each, name) for name in _POSTED_AS)
        wanted[key] = each
        amounts[key] = amounts.get(key, 0) + to_minor(each.amount, each.currency)
    booked, numbers = _booked(session, accounting_period, purposes)
    rows: list[dict[str, Any]] = []
    totals: dict[tuple[str, str], int] = {}
    newest = session.scalar(sa.select(sa.func.max(models.DerivedEntry.entry_id))) or 0
    for key in sorted({*amounts, *booked}):
        named = dict(zip(_POSTED_AS, key, strict=True))
        difference = amounts.get(key, 0) - booked.get(key, 0)
        if not difference or named["entity_id"] in closed:
            continue
        said = wanted.get(key)
        item = (named["purpose"], named["item"])
        numbers[item] = numbers.get(item, 0) + 1
        totals_key = (named["purpose"], named["currency"])
        totals[totals_key] = totals.get(totals_key, 0) + difference
        rows.append(
            {
                **named,
                "entry_id": newest + len(rows) + 1,
                "entry_no": numbers[item],
                "run_id": run_id,
                "accounting_period": str(accounting_period),
                "amount_minor": difference,
                "booked_charge_id": said.booked_charge_id if said else None,
                "version": said.version if said else "",
                "explanation": said.explanation if said else "no longer due",
                "booked_at": booked_at,
            }
        )
    if rows:
        entities = {row["entity_id"] for row in rows}
        ledger.ensure_periods(session, accounting_period, entities, booked_at)
        session.execute(sa.insert(models.DerivedEntry), rows)
    return totals


def _booked(
    session: Session, accounting_period: Month, purposes: Sequence[str]
) -> tuple[dict[tuple[str, ...], int], dict[tuple[str, str], int]]:
    """Minor units per item up to the period, and the newest entry number of each item."""
    columns = ", ".join(_POSTED_AS)
    found = session.execute(
        sa.text(
            f"select {columns}, "
            "coalesce(sum(amount_minor) filter (where accounting_period <= :period), 0)::bigint, "
            "max(entry_no) from derived_entry where purpose = any (:purposes) "
            f"group by {columns}"
        ),
        {"period": str(accounting_period), "purposes": list(purposes)},
    )
    booked: dict[tuple[str, ...], int] = {}
    numbers: dict[tuple[str, str], int] = {}
    for row in found:
        key: tuple[str, ...] = tuple(row[:-2])
        amount: int = row[-2]
        if amount:
            booked[key] = amount
        item = (key[0], key[1])
        numbers[item] = max(int(row[-1]), numbers.get(item, 0))
    return booked, numbers


# --------------------------------------------------------------------------------- revenue


def revenue_lines(
    session: Session, accounting_period: Month, terms: RevenueTerms
) -> list[RevenueLine]:
    """Return the booked rows that a deferral or a bundle may take, as of the end of a period.

    Revenue counts once it is invoiced, or accrued because its usage is over; cost once booked.
    """
    values: dict[str, Any] = {"period": str(accounting_period)}
    tests = []
    for number, rule in enumerate(terms.deferrals):
        values[f"level{number}"] = rule.level
        parts = [f"b.level = :level{number}"]
        for name, value in sorted(rule.when.items()):
            values[f"{name}{number}"] = value
            parts.append(f"b.{_COLUMNS[name]} = :{name}{number}")
        tests.append(f"({' and '.join(parts)})")
    values["bundled"] = sorted({charge for rule in terms.bundles for charge in rule.charges})
    tests.append("(b.level = 'retail' and b.charge_id = any (:bundled))")
    rows = session.execute(
        sa.text(
            "select b.id as charge_no, b.level, b.entity_id, b.account_id, b.service_id, "
            "b.charge_id, b.product_id, b.kind, b.gl_class, b.tax_code, b.currency, "
            "b.usage_period, b.accounting_period as booked_in, b.amount_minor "
            "from booked_charge b where b.accounting_period <= :period and b.amount_minor <> 0 "
            f"and ({' or '.join(tests)}) "
            "and (b.level <> 'retail' or b.usage_period <= :period or exists ("
            "  select from invoice_line l join invoice i using (invoice_id) "
            "  where l.booked_charge_id = b.id and i.accounting_period <= :period)) "
            "order by b.id"
        ),
        values,
    ).mappings()
    return [
        RevenueLine(
            usage_period=Month.parse(row["usage_period"]),
            booked_in=Month.parse(row["booked_in"]),
            amount=of_minor(row["amount_minor"], row["currency"]),
            **{name: row[name] for name in _LINE},
        )
        for row in rows
    ]


_COLUMNS: Mapping[str, str] = {
    "entity": "entity_id",
    "charge": "charge_id",
    "charge_type": "kind",
    "gl_class": "gl_class",
    "product": "product_id",
    "tax_code": "tax_code",
}

_LINE = (
    "charge_no level entity_id account_id service_id charge_id product_id kind gl_class tax_code "
    "currency"
).split()


def service_lives(session: Session, cancelled: Sequence[str]) -> dict[str, ServiceLife]:
    """Return when services started and ended: by their offers and by states in ``cancelled``."""
    rows = session.execute(sa.text(_LIVES), {"cancelled": list(cancelled)})
    return {row.service_id: ServiceLife(row.started_on, row.ended_on) for row in rows}


_LIVES = """
select s.service_id, o.started_on, least(o.ended_on, c.cancelled_on) as ended_on
from reference_service s
left join (select service_id, min(valid_from) as started_on,
             case when bool_and(valid_to is not null) then max(valid_to) end as ended_on
           from reference_service_offer where known_to is null and level = 'retail'
           group by service_id) o using (service_id)
left join (select service_id, min(changed_at)::date as cancelled_on
           from reference_service_state where known_to is null and state = any (:cancelled)
           group by service_id) c using (service_id)
where s.known_to is null
"""


@dataclass(frozen=True)
class DeferredRow:
    """A month's movement of what is deferred: opening + additions - releases = closing.

    Also contract assets: ``kind`` says which (deferred, prepaid, contract_asset).
    """

    kind: str
    entity_id: str
    product_id: str
    currency: str
    opening: Decimal
    additions: Decimal
    releases: Decimal
    closing: Decimal


def roll_forward(session: Session, accounting_period: Month) -> list[DeferredRow]:
    """Return the roll-forward of deferred revenue, prepaid cost and contract assets."""
    rows = session.execute(sa.text(_ROLL_FORWARD), {"period": str(accounting_period)})
    return [
        DeferredRow(*(row[:4]), *(of_minor(minor, row.currency) for minor in row[4:]))
        for row in rows
        if any(row[4:])
    ]


_ROLL_FORWARD = """
with moves as (
  select case when purpose = 'allocation' then 'contract_asset'
              when level = 'vendor' then 'prepaid' else 'deferred' end as kind,
    entity_id, product_id, currency, accounting_period,
    case when purpose = 'release' then -amount_minor else amount_minor end as minor,
    purpose = 'release' or (purpose = 'allocation' and amount_minor < 0) as is_release
  from derived_entry
  where purpose in ('deferral', 'release', 'allocation') and accounting_period <= :period
)
select kind, entity_id, product_id, currency,
  coalesce(sum(minor) filter (where accounting_period < :period), 0)::bigint as opening,
  coalesce(sum(minor) filter (where accounting_period = :period and not is_release), 0)::bigint
    as additions,
  coalesce(-sum(minor) filter (where accounting_period = :period and is_release), 0)::bigint
    as releases,
  sum(minor)::bigint as closing
from moves group by 1, 2, 3, 4 order by 1, 2, 3, 4
"""


# ------------------------------------------------------------------------------ commissions


def earning_lines(session: Session, accounting_period: Month) -> list[EarningLine]:
    """Return invoiced charges up to a period, per month of invoicing, account and service.

    Cost is what the vendor level booked of the service and usage period, in the same currency,
    shared over the month's lines of the service by their revenue.
    """
    rows = session.execute(sa.text(_EARNING), {"period": str(accounting_period)}).mappings()
    return [
        EarningLine(
            month=Month.parse(row["month"]),
            usage_period=Month.parse(row["usage_period"]),
            first_month=Month.parse(row["first_month"]),
            revenue=of_minor(row["revenue_minor"], row["currency"]),
            **{name: row[name] for name in _EARNING_NAMES},
        )
        for row in rows
    ]


_EARNING_NAMES = (
    "account_id customer_group service_id product_id kind gl_class currency is_correction"
).split()

_EARNING = """
select i.accounting_period as month, b.account_id, a.customer_group, b.service_id, b.product_id,
  b.kind, b.gl_class, b.currency, b.usage_period, f.first_month,
  b.usage_period < i.accounting_period and b.entry_no > 1 as is_correction,
  sum(b.amount_minor)::bigint as revenue_minor
from invoice i join invoice_line l using (invoice_id)
join booked_charge b on b.id = l.booked_charge_id
left join reference_account a on a.account_id = b.account_id and a.known_to is null
join (select service_id, account_id, min(usage_period) as first_month from booked_charge
      where level = 'retail' group by service_id, account_id) f
  on f.service_id = b.service_id and f.account_id = b.account_id
where i.accounting_period <= :period
group by 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
order by 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
"""


def collected_revenue(session: Session, accounting_period: Month) -> dict[tuple[Any, ...], int]:
    """Return what was paid of :func:`earning_lines` by the end of a period, in minor units.

    By (month, account, service, product, kind, gl_class, currency, usage period, is a correction).
    """
    paid = collected(session, accounting_period)
    sums: dict[tuple[Any, ...], int] = {}
    rows = session.execute(
        sa.text(
            "select b.id, i.accounting_period as month, b.account_id, b.service_id, b.product_id,"
            " b.kind, b.gl_class, b.currency, b.usage_period,"
            " b.usage_period < i.accounting_period and b.entry_no > 1 as is_correction"
            " from invoice i join invoice_line l using (invoice_id)"
            " join booked_charge b on b.id = l.booked_charge_id"
            " where i.accounting_period <= :period"
        ),
        {"period": str(accounting_period)},
    )
    for row in rows:
        key = tuple(row[1:])
        sums[key] = sums.get(key, 0) + paid[row.id]
    return sums


def vendor_costs(
    session: Session, accounting_period: Month
) -> dict[tuple[str, Month], list[tuple[str, int]]]:
    """Return booked vendor cost by (service, usage period), as (currency, minor units)."""
    rows = session.execute(
        sa.text(
            "select service_id, usage_period, currency, sum(amount_minor)::bigint as cost_minor "
            "from booked_charge where level = 'vendor' and accounting_period <= :period "
            "group by 1, 2, 3 order by 1, 2, 3"
        ),
        {"period": str(accounting_period)},
    )
    costs: dict[tuple[str, Month], list[tuple[str, int]]] = {}
    for row in rows:
        key = (row.service_id, Month.parse(row.usage_period))
        costs.setdefault(key, []).append((row.currency, row.cost_minor))
    return costs


def quantities(
    session: Session, accounting_period: Month, charges: Sequence[str]
) -> dict[tuple[str, Month], int]:
    """Return the class units booked of these charges, by service and usage period."""
    rows = session.execute(
        sa.text(
            "select service_id, usage_period, sum(quantity)::bigint as quantity from booked_charge "
            "where charge_id = any (:charges) and accounting_period <= :period "
            "group by 1, 2 order by 1, 2"
        ),
        {"charges": list(charges), "period": str(accounting_period)},
    )
    return {(row.service_id, Month.parse(row.usage_period)): row.quantity for row in rows}


def sold_services(
    session: Session, cancelled: Sequence[str], suspended: Sequence[str], through: date
) -> list[SoldService]:
    """Return the services that started up to ``through``, with their ends and suspended days."""
    lives = service_lives(session, cancelled)
    rows = session.execute(
        sa.text(
            "select s.service_id, s.account_id, a.customer_group from reference_service s "
            "left join reference_account a on a.account_id = s.account_id and a.known_to is null "
            "where s.known_to is null order by s.service_id"
        )
    )
    paused = _suspended_days(session, suspended, through)
    sold = []
    for row in rows:
        life = lives[row.service_id]
        if life.started_on is not None and life.started_on <= through:
            sold.append(
                SoldService(
                    row.service_id,
                    row.account_id,
                    row.customer_group,
                    life.started_on,
                    life.ended_on,
                    paused.get(row.service_id, 0),
                )
            )
    return sold


def _suspended_days(session: Session, suspended: Sequence[str], through: date) -> dict[str, int]:
    """Days in suspended states up to a day; the day of a change is the new state's."""
    rows = session.execute(
        sa.text(
            "select service_id, sum(until - since)::int as days from ("
            "  select service_id, state, changed_at::date as since, "
            "    least(coalesce(lead(changed_at::date) over (partition by service_id "
            "      order by changed_at), :through), :through) as until "
            "  from reference_service_state where known_to is null) s "
            "where state = any (:suspended) and until > since group by service_id"
        ),
        {"suspended": list(suspended), "through": through},
    )
    return {row.service_id: row.days for row in rows}


# --------------------------------------------------------------------------------- vendors


@dataclass(frozen=True)
class VendorVariance:
    """A reconciled vendor invoice of a period against what was expected, in minor units."""

    entity_id: str
    accounting_period: str
    vendor_id: str
    currency: str
    expected_minor: int
    invoiced_minor: int
    disputed_minor: int
    status: str


def vendor_variances(session: Session, accounting_period: Month) -> list[VendorVariance]:
    """Return the reconciliations up to a period whose invoice has come."""
    table = models.VendorReconciliation
    rows = session.execute(
        sa.select(*(getattr(table, name) for name in VendorVariance.__dataclass_fields__))
        .where(table.accounting_period <= str(accounting_period), table.status != "accrued")
        .order_by(table.accounting_period, table.entity_id, table.vendor_id, table.currency)
    ).mappings()
    return [VendorVariance(**row) for row in rows]


@dataclass(frozen=True)
class CommissionRow:
    """A partner's commissions of an accounting period, by rule version, in own units."""

    partner_id: str
    entity_id: str
    accounting_period: str
    kind: str
    version: str
    currency: str
    amount: Decimal


def commission_rows(session: Session, accounting_period: Month) -> list[CommissionRow]:
    """Return what partners earned in every accounting period up to one."""
    rows = session.execute(
        sa.text(
            "select account_id as partner_id, entity_id, accounting_period, "
            "case when kind in ('upfront', 'clawback') then kind else 'commission' end as kind, "
            "version, currency, sum(amount_minor)::bigint as minor from derived_entry "
            "where purpose = 'commission' and accounting_period <= :period "
            "group by 1, 2, 3, 4, 5, 6 order by 1, 2, 3, 4, 5, 6"
        ),
        {"period": str(accounting_period)},
    )
    return [
        CommissionRow(
            partner_id=row.partner_id,
            entity_id=row.entity_id,
            accounting_period=row.accounting_period,
            kind=row.kind,
            version=row.version,
            currency=row.currency,
            amount=of_minor(row.minor, row.currency),
        )
        for row in rows
    ]


def entries_of(session: Session, booked_charge_id: int) -> list[models.DerivedEntry]:
    """Return what was derived from a charge, in the order in which it was booked."""
    return list(
        session.scalars(
            sa.select(models.DerivedEntry)
            .where(models.DerivedEntry.booked_charge_id == booked_charge_id)
            .order_by(models.DerivedEntry.entry_id)
        )
    )
