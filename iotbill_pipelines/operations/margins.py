"""Margins of an accounting month by SIM, customer, product or partner, as earned (RULEBOOK §10).

Revenue and cost are what was booked in the month with what was deferred, released, accrued for
billing months that go on, or trued up; the view ``earned_part`` says whose they are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa

from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.money import apportion, of_minor
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage.documents import ColumnFormat, Sheet, write_workbook

Grain = Literal["sim", "customer", "product", "partner"]
GRAINS: tuple[Grain, ...] = ("sim", "customer", "product", "partner")

NO_REVENUE = "(no revenue)"


@dataclass(frozen=True)
class Margin:
    """What one SIM, customer, product or partner earned and cost, in one currency.

    ``key`` is the service, account, product or vendor id; '' is what no SIM carries. ``customer``
    and ``vendor`` are told of SIMs.
    """

    key: str
    name: str
    customer: str
    vendor: str
    sims: int
    currency: str
    revenue: Decimal
    cost: Decimal

    @property
    def margin(self) -> Decimal:
        """Revenue less cost."""
        return self.revenue - self.cost


def margins(
    ws: Workspace,
    period: Month,
    by: Grain = "customer",
    *,
    customer: str | None = None,
    vendor: str | None = None,
    negative: bool = False,
) -> list[Margin]:
    """Return the margins of ``period``, the lowest first.

    ``customer`` and ``vendor`` choose whose SIMs; ``negative`` leaves out what does not lose money.
    """
    values = {"period": str(period), "customer": customer, "vendor": vendor}
    with ws.engine.connect() as connection:
        if by == "product":
            found = _by_product(connection, values)
        else:
            rows = connection.execute(sa.text(_QUERIES[by]), values).mappings()
            found = [_margin(row) for row in rows]
    return sorted(
        (one for one in found if not negative or one.margin < 0),
        key=lambda one: (one.margin, one.key, one.currency),
    )


_CHOSEN = """
from earned_part as p
left join reference_account as a on a.account_id = p.{named} and a.known_to is null
{names}
where p.accounting_period = :period
  and (cast(:customer as text) is null or p.customer = :customer)
  and (cast(:vendor as text) is null or p.vendor = :vendor)
"""
_SUMS = """p.currency, count(distinct nullif(p.service_id, '')) as sims,
  sum(p.revenue_minor)::bigint as revenue_minor, sum(p.cost_minor)::bigint as cost_minor
"""
_QUERIES: dict[Grain, str] = {
    "sim": "select p.service_id as key, coalesce(min(i.uid_value), '') as name,"
    f" min(p.customer) as customer, min(nullif(p.vendor, '(none)')) as vendor, {_SUMS}"
    + _CHOSEN.format(
        named="customer",
        names="left join (select service_id, min(uid_value) as uid_value"
        " from reference_service_identifier where known_to is null and uid_type = 'iccid'"
        " group by service_id) as i on i.service_id = p.service_id",
    )
    + " group by p.service_id, p.currency",
    "customer": "select p.customer as key, coalesce(min(a.name), '') as name, '' as customer,"
    f" '' as vendor, {_SUMS}" + _CHOSEN.format(named="customer", names="")
    + " group by p.customer, p.currency",
    "partner": "select p.vendor as key, coalesce(min(a.name), '') as name, '' as customer,"
    f" '' as vendor, {_SUMS}" + _CHOSEN.format(named="vendor", names="")
    + " group by p.vendor, p.currency",
}  # fmt: skip

_REVENUE_BY_PRODUCT = """
select service_id, product_id, currency, sum(amount_minor)::bigint as minor
from earned_amount
where accounting_period = :period and level = 'retail'
group by service_id, product_id, currency
order by service_id, product_id, currency
"""


def _margin(row: Any) -> Margin:
    currency = row["currency"]
    return Margin(
        row["key"],
        row["name"],
        row["customer"],
        row["vendor"] or "",
        row["sims"],
        currency,
        of_minor(row["revenue_minor"], currency),
        of_minor(row["cost_minor"], currency),
    )


def _by_product(connection: sa.Connection, values: dict[str, str | None]) -> list[Margin]:
    """A SIM's cost is shared by its products in proportion to revenue (RULEBOOK §0.2)."""
    sims = connection.execute(
        sa.text(
            f"select p.service_id, {_SUMS}"
            + _CHOSEN.format(named="customer", names="")
            + " group by p.service_id, p.currency"
        ),
        values,
    ).mappings()
    costs = {(row["service_id"], row["currency"]): row["cost_minor"] for row in sims}
    earned: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for row in connection.execute(sa.text(_REVENUE_BY_PRODUCT), values).mappings():
        if (row["service_id"], row["currency"]) in costs:
            earned[row["service_id"], row["currency"]][row["product_id"]] = row["minor"]
    revenue: dict[tuple[str, str], int] = defaultdict(int)
    cost: dict[tuple[str, str], int] = defaultdict(int)
    carried: dict[tuple[str, str], set[str]] = defaultdict(set)
    for (service, currency), minor in costs.items():
        products = earned.get((service, currency), {})
        for product, amount in products.items():
            revenue[product, currency] += amount
            carried[product, currency].add(service)
        weights = [max(amount, 0) for amount in products.values()]
        if minor and (not service or not any(weights)):
            cost[NO_REVENUE, currency] += minor
            carried[NO_REVENUE, currency].add(service)
        elif minor:
            parts = apportion(minor, weights, list(products))
            for product, part in zip(products, parts, strict=True):
                cost[product, currency] += part
    return [
        Margin(
            product,
            "",
            "",
            "",
            len(carried[product, currency] - {""}),
            currency,
            of_minor(revenue[product, currency], currency),
            of_minor(cost[product, currency], currency),
        )
        for product, currency in sorted({*revenue, *cost})
    ]


def columns(by: Grain) -> tuple[str, ...]:
    """Titles of what :func:`row_of` gives."""
    first = {
        "sim": ("service", "SIM", "customer", "vendor"),
        "customer": ("customer", "name", "SIMs"),
        "product": ("product", "SIMs"),
        "partner": ("partner", "name", "SIMs"),
    }[by]
    return (*first, "currency", "revenue", "cost", "margin")


def row_of(one: Margin, by: Grain) -> tuple[str | int | Decimal, ...]:
    """A margin as :func:`columns` tells it."""
    first: dict[Grain, tuple[str | int, ...]] = {
        "sim": (one.key or "(no SIM)", one.name, one.customer, one.vendor),
        "customer": (one.key, one.name, one.sims),
        "product": (one.key, one.sims),
        "partner": (one.key, one.name, one.sims),
    }
    return (*first[by], one.currency, one.revenue, one.cost, one.margin)


def write_margins(ws: Workspace, found: Sequence[Margin], by: Grain, path: Path) -> None:
    """Write margins as a workbook, a sheet a currency with totals."""
    titles = columns(by)
    sheets = []
    for currency in sorted({one.currency for one in found}):
        formats = [
            ColumnFormat(title[:1].upper() + title[1:], "money", currency, total=True)
            if title in ("revenue", "cost", "margin")
            else ColumnFormat(
                title[:1].upper() + title[1:], "integer" if title == "SIMs" else "text"
            )
            for title in titles
        ]
        rows = [row_of(one, by) for one in found if one.currency == currency]
        sheets.append(Sheet(f"By {by}, {currency}", formats, rows, totals=True))
    write_workbook(path, sheets or [Sheet("Margins", [ColumnFormat("Nothing")], [])], ws.clock())
