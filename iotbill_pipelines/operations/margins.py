"""Margins of an accounting month by SIM, customer, product or partner, as earned (RULEBOOK §10).

Revenue and cost are what was booked in the month with what was deferred, released, accrued for
billing months that go on, or trued up; the view ``earned_part`` says whose they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import sqlalchemy as sa

from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.compute import Compute
from iotbill_pipelines.engine.money import apportion_sql, of_minor
from iotbill_pipelines.engine.schemas import Column, Table
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage.bulk import copy_out, literal
from iotbill_pipelines.storage.documents import ColumnFormat, Sheet, write_workbook
from iotbill_pipelines.storage.models import ProductCost

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
    if by == "product":
        found = _by_product(ws, values)
    else:
        with ws.engine.connect() as connection:
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

_REVENUE = """
select service_id, product_id, currency, sum(amount_minor)::bigint as revenue_minor
from earned_amount
where {period} = :period and level = 'retail'
group by service_id, product_id, currency
"""
_COST_OF_USAGE_PERIOD = """
select service_id, currency, sum(amount_minor)::bigint as cost_minor
from earned_amount
where period = :period and level = 'vendor'
group by service_id, currency
"""
_SERVICE_COST = Table(
    "service_cost",
    "What a SIM cost, or a vendor as a whole, whose service is the empty text.",
    (
        Column("service_id", "VARCHAR", "SIM"),
        Column("currency", "VARCHAR", "ISO 4217"),
        Column("cost_minor", "BIGINT", "minor units"),
    ),
    ("service_id", "currency"),
)
_PRODUCT_REVENUE = Table(
    "product_revenue",
    "What a SIM earned with a product.",
    (
        Column("service_id", "VARCHAR", "SIM"),
        Column("product_id", "VARCHAR", "product"),
        Column("currency", "VARCHAR", "ISO 4217"),
        Column("revenue_minor", "BIGINT", "minor units"),
    ),
    ("service_id", "product_id", "currency"),
)

# The products that earned something with a SIM share its cost in proportion (RULEBOOK §0.2).
_EARNING = """
select c.service_id, c.currency, r.product_id, c.cost_minor, r.revenue_minor
from service_cost as c
inner join product_revenue as r on c.service_id = r.service_id and c.currency = r.currency
where c.service_id <> '' and c.cost_minor <> 0 and r.revenue_minor > 0
"""
_COST_PART = f"""
select service_id, currency, product_id, part_minor as cost_minor
from ({apportion_sql("earning", ("service_id", "currency"), "cost_minor", "revenue_minor",
                     "product_id")}) as shared
union all
select service_id, currency, '{NO_REVENUE}', cost_minor
from service_cost as c
where cost_minor <> 0 and not exists (
  select 1 from earning as e where e.service_id = c.service_id and e.currency = c.currency)
"""  # fmt: skip

_BY_PRODUCT = """
select product_id, currency, count(distinct nullif(service_id, '')) as sims,
  cast(sum(revenue_minor) as bigint) as revenue_minor, cast(sum(cost_minor) as bigint) as cost_minor
from (
  select service_id, product_id, currency, revenue_minor, 0 as cost_minor
  from product_revenue semi join service_cost using (service_id, currency)
  union all
  select service_id, product_id, currency, 0, cost_minor from cost_part
) as parts
group by product_id, currency
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


def _by_product(ws: Workspace, values: dict[str, str | None]) -> list[Margin]:
    with ws.engine.connect() as connection:
        costs = _read(
            connection,
            "select p.service_id, p.currency, sum(p.cost_minor)::bigint as cost_minor"
            + _CHOSEN.format(named="customer", names="")
            + " group by p.service_id, p.currency",
            values,
            _SERVICE_COST,
        )
        revenue = _read(
            connection,
            _REVENUE.format(period="accounting_period"),
            {"period": values["period"]},
            _PRODUCT_REVENUE,
        )
    with _shared_costs(ws, costs, revenue) as compute:
        found = compute.fetch(_BY_PRODUCT).to_pylist()
    return [
        _margin({"key": row["product_id"], "name": "", "customer": "", "vendor": "", **row})
        for row in found
    ]


def publish_product_costs(ws: Workspace) -> None:
    """Fill ``product_cost`` with what the products of every usage period carry of vendors' cost.

    Periods are those of the view ``earned_amount``. One transaction reads and replaces; the parts
    of a period and currency add up to its cost as earned (RULEBOOK §0.2).
    """
    with ws.engine.begin() as connection:
        connection.execute(sa.delete(ProductCost))
        periods = connection.scalars(sa.text("select distinct period from earned_amount")).all()
        for period in sorted(periods):
            values: dict[str, str | None] = {"period": period}
            costs = _read(connection, _COST_OF_USAGE_PERIOD, values, _SERVICE_COST)
            revenue = _read(connection, _REVENUE.format(period="period"), values, _PRODUCT_REVENUE)
            with _shared_costs(ws, costs, revenue) as compute:
                rows = compute.fetch(
                    "select product_id, currency, cast(sum(cost_minor) as bigint) as amount_minor"
                    " from cost_part group by product_id, currency"
                ).to_pylist()
            if rows:
                connection.execute(
                    sa.insert(ProductCost), [{"usage_period": period, **row} for row in rows]
                )


@contextmanager
def _shared_costs(ws: Workspace, costs: pa.Table, revenue: pa.Table) -> Iterator[Compute]:
    """Relations of costs and revenue, and ``cost_part``: what of a SIM's cost each product of
    it carries; of cost that earned nothing, :data:`NO_REVENUE`."""
    with ws.compute(costs.num_rows + revenue.num_rows) as compute:
        compute.load("service_cost", costs)
        compute.load("product_revenue", revenue)
        compute.define("earning", _EARNING)
        compute.define("cost_part", _COST_PART)
        yield compute


def _read(
    connection: sa.Connection, select: str, values: dict[str, str | None], schema: Table
) -> pa.Table:
    """Read a SELECT whose parameters stand as ``:name`` in it."""
    literals = {name: literal(connection, value) for name, value in values.items()}
    return copy_out(
        connection, re.sub(r"(?<!:):(\w+)", lambda found: literals[found[1]], select), schema
    )


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
