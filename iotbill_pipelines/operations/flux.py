"""The flux report: what is booked in a month against the month before, and why it differs."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from iotbill_pipelines.config.ledger import read_ledger
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.flux import EFFECTS, FluxItem, FluxKey, FluxRate, flux_lines
from iotbill_pipelines.engine.money import minor_digits, of_minor
from iotbill_pipelines.engine.post.fx import conversion
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage.close_report.figures import FLUX_EFFECTS
from iotbill_pipelines.storage.documents import ColumnFormat, Sheet, write_workbook


@dataclass(frozen=True)
class ProductFlux:
    """A product's two months in functional currency; the effects add up to the difference."""

    entity_id: str
    level: str
    product_id: str
    transaction_currency: str
    currency: str
    last: Decimal
    this: Decimal
    effects: dict[str, Decimal]

    @property
    def difference(self) -> Decimal:
        return self.this - self.last


@dataclass(frozen=True)
class AccountFlux:
    """An account's two months in transaction currency, the largest differences first."""

    entity_id: str
    level: str
    account_id: str
    currency: str
    last: Decimal
    this: Decimal

    @property
    def difference(self) -> Decimal:
        return self.this - self.last


@dataclass(frozen=True)
class Flux:
    """A month against the one before: by product, in total by entity and level, by account."""

    period: str
    previous: str
    products: list[ProductFlux]
    totals: list[ProductFlux]
    accounts: list[AccountFlux]


# What belongs to an earlier usage period is late usage if records came or went, else a correction.
_ITEMS = """
with unit as (
  select accounting_period, usage_period, level, entity_id, account_id, service_id, charge_id,
    product_id, kind, currency, sum(records)::bigint as records, sum(quantity)::bigint as quantity,
    sum(amount_minor)::bigint as amount_minor
  from booked_charge where accounting_period in (:previous, :period)
  group by 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
), told as (
  select *,
    case when usage_period >= accounting_period then 'regular'
         when records <> 0 then 'late_usage' else 'correction' end as nature,
    case when kind in ('usage', 'overage') then quantity
         when amount_minor <> 0 then 1 else 0 end as volume
  from unit
)
select entity_id, level, product_id, currency, account_id, charge_id, nature,
  coalesce(sum(volume) filter (where accounting_period = :previous), 0)::bigint as quantity_0,
  coalesce(sum(amount_minor) filter (where accounting_period = :previous), 0)::bigint as amount_0,
  coalesce(sum(volume) filter (where accounting_period = :period), 0)::bigint as quantity_1,
  coalesce(sum(amount_minor) filter (where accounting_period = :period), 0)::bigint as amount_1
from told
group by entity_id, level, product_id, currency, account_id, charge_id, nature
order by entity_id, level, product_id, currency, account_id, charge_id, nature
"""


def flux(ws: Workspace, period: Month) -> Flux:
    """Take apart what differs between what is booked in ``period`` and in the month before.

    Raises TermsError where an amount in another currency has no rate for one of the months' ends.
    """
    with ws.engine.connect() as connection:
        rows = [
            dict(row)
            for row in connection.execute(
                sa.text(_ITEMS), {"period": str(period), "previous": str(period - 1)}
            ).mappings()
        ]
    items = [
        FluxItem(
            FluxKey(row["entity_id"], row["level"], row["product_id"], row["currency"]),
            row["account_id"],
            row["charge_id"],
            row["nature"],
            row["quantity_0"],
            row["amount_0"],
            row["quantity_1"],
            row["amount_1"],
        )
        for row in rows
    ]
    lines = flux_lines(items, _rates(ws, period, items))
    products = [
        ProductFlux(
            line.key.entity_id,
            line.key.level,
            line.key.product_id,
            line.key.currency,
            line.functional,
            of_minor(line.last_minor, line.functional),
            of_minor(line.this_minor, line.functional),
            {name: of_minor(minor, line.functional) for name, minor in line.effects.items()},
        )
        for line in lines
    ]
    return Flux(str(period), str(period - 1), products, _totals(products), _accounts(rows))


def _rates(ws: Workspace, period: Month, items: list[FluxItem]) -> dict[tuple[str, str], FluxRate]:
    terms = read_ledger(ws.configs / "ledger")
    found = {}
    for entity_id, currency in sorted({(i.key.entity_id, i.key.currency) for i in items}):
        functional = terms.entity(entity_id).currency
        scale = Fraction(10) ** (minor_digits(functional) - minor_digits(currency))
        own = [i for i in items if (i.key.entity_id, i.key.currency) == (entity_id, currency)]
        rates = []
        for month, used in (
            (period - 1, any(i.amount_0_minor for i in own)),
            (period, any(i.amount_1_minor for i in own)),
        ):
            rate = conversion(terms, currency, functional, month.last_day).rate if used else None
            rates.append(None if rate is None else Fraction(rate) * scale)
        # a month without an amount needs no rate: the other's does
        known = next((rate for rate in rates if rate is not None), Fraction(1))
        found[entity_id, currency] = FluxRate(
            functional, *(known if rate is None else rate for rate in rates)
        )
    return found


def _totals(products: list[ProductFlux]) -> list[ProductFlux]:
    grouped: dict[tuple[str, str, str], list[ProductFlux]] = defaultdict(list)
    for product in products:
        grouped[product.entity_id, product.level, product.currency].append(product)
    return [
        ProductFlux(
            entity_id,
            level,
            "",
            currency,
            currency,
            sum((p.last for p in found), Decimal(0)),
            sum((p.this for p in found), Decimal(0)),
            {name: sum((p.effects[name] for p in found), Decimal(0)) for name in EFFECTS},
        )
        for (entity_id, level, currency), found in sorted(grouped.items())
    ]


def _accounts(rows: list[dict[str, Any]]) -> list[AccountFlux]:
    sums: dict[tuple[str, str, str, str], list[int]] = defaultdict(lambda: [0, 0])
    for row in rows:
        held = sums[row["entity_id"], row["level"], row["account_id"], row["currency"]]
        held[0] += row["amount_0"]
        held[1] += row["amount_1"]
    found = [
        AccountFlux(*key, of_minor(last, key[3]), of_minor(this, key[3]))
        for key, (last, this) in sorted(sums.items())
    ]
    return sorted(found, key=lambda a: (-abs(a.difference), a.level, a.account_id))


def write_flux(ws: Workspace, found: Flux, path: Path) -> Path:
    """Write the report as a workbook: by product, by account."""
    write_workbook(path, [*flux_sheets(found)], ws.clock())
    return path


def flux_sheets(found: Flux) -> list[Sheet]:
    """Return the report's sheets."""
    text = [ColumnFormat(title) for title in ("Entity", "Level")]
    money = [ColumnFormat(title, "money") for title in (found.previous, *FLUX_EFFECTS.values())]
    return [
        Sheet(
            "Flux",
            [
                *text,
                ColumnFormat("Product", width=24),
                ColumnFormat("Booked in"),
                ColumnFormat("Currency"),
                *money,
                ColumnFormat(found.period, "money"),
            ],
            [
                (
                    *(line.entity_id, line.level, line.product_id or "total"),
                    *(line.transaction_currency, line.currency, line.last),
                    *(line.effects[name] for name in EFFECTS),
                    line.this,
                )
                for line in (*found.products, *found.totals)
            ],
            notes=[
                f"{found.period} against {found.previous}; every row adds up from left to right"
            ],
        ),
        Sheet(
            "Flux by account",
            [
                *text,
                ColumnFormat("Account", width=24),
                ColumnFormat("Currency"),
                *(ColumnFormat(t, "money") for t in (found.previous, found.period, "Difference")),
            ],
            [
                (a.entity_id, a.level, a.account_id, a.currency, a.last, a.this, a.difference)
                for a in found.accounts
            ],
        ),
    ]
