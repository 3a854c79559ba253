"""What a reconciliation must know about a vendor besides prices: tolerances, tax, fixed fees, FX.

Amounts are integers of the currency's minor unit, rates :class:`~decimal.Decimal` with at most
twelve decimals; the tables are what the statements of :mod:`engine.reconcile` join.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Literal

import pyarrow as pa

from iotbill_pipelines.engine.money import RATE_SCALE


@dataclass(frozen=True)
class AccountCharge:
    """A fee that the vendor bills for the account as a whole, per month."""

    charge_code: str
    currency: str
    amount_minor: int
    valid_from: date = date(1970, 1, 1)
    valid_to: date | None = None
    """Exclusive; None = open."""


@dataclass(frozen=True)
class FxRate:
    """An agreed conversion: one unit of ``foreign_currency`` is ``rate`` units of ``currency``."""

    currency: str
    foreign_currency: str
    rate: Decimal


@dataclass(frozen=True)
class PlanTerm:
    """A rate plan of the vendor, by id and version, and the offer of ours that it is."""

    plan_id: str
    offer_id: str
    version: str | None = None
    """None = every version of the plan."""
    valid_from: date = date(1970, 1, 1)
    valid_to: date | None = None
    """Exclusive; None = open."""


@dataclass(frozen=True)
class VendorTerms:
    """How a vendor's invoice is judged (RULEBOOK §10, tolerance).

    A line passes when its difference is at most ``max(tolerance_minor, tolerance_ppm x expected)``;
    what passed may add up to ``limit_minor`` per invoice. ``uid_type`` is the identifier that the
    vendor prints.
    """

    vendor_id: str
    currency: str
    tolerance_minor: int = 0
    tolerance_ppm: int = 0
    """Parts per million of the expected amount: 0.5 % is 5000."""
    limit_minor: int = 0
    uid_type: str = "iccid"
    quantities: Literal["rated", "used"] = "rated"
    """What the vendor's quantities are: after increments, or as used."""
    lines: Literal["charges", "events"] = "charges"
    """What a line is: a charge of its own, or one event of many that make a charge."""
    tax_codes: tuple[str, ...] = ()
    account_charges: tuple[AccountCharge, ...] = ()
    fx_rates: tuple[FxRate, ...] = ()
    plans: tuple[PlanTerm, ...] = ()
    """None = the vendor calls its plans by the ids of our offers, or they are not compared."""


def term_tables(terms: Sequence[VendorTerms]) -> dict[str, pa.Table]:
    """Return the terms as the relations that the statements join. Raises ValueError on a vendor
    given twice, since its lines would then be counted twice."""
    names = [vendor.vendor_id for vendor in terms]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"vendor {name!r} has terms twice")
    return {
        "vendor_tolerance": pa.Table.from_pylist(
            [
                {
                    "vendor_id": vendor.vendor_id,
                    "currency": vendor.currency,
                    "tolerance_minor": vendor.tolerance_minor,
                    "tolerance_ppm": vendor.tolerance_ppm,
                    "limit_minor": vendor.limit_minor,
                    "uid_type": vendor.uid_type,
                    "quantities": vendor.quantities,
                    "lines": vendor.lines,
                }
                for vendor in terms
            ],
            schema=pa.schema(
                [
                    ("vendor_id", pa.string()),
                    ("currency", pa.string()),
                    ("tolerance_minor", pa.int64()),
                    ("tolerance_ppm", pa.int64()),
                    ("limit_minor", pa.int64()),
                    ("uid_type", pa.string()),
                    ("quantities", pa.string()),
                    ("lines", pa.string()),
                ]
            ),
        ),
        "vendor_tax_code": pa.Table.from_pylist(
            [
                {"vendor_id": vendor.vendor_id, "charge_code": code}
                for vendor in terms
                for code in sorted(set(vendor.tax_codes))
            ],
            schema=pa.schema([("vendor_id", pa.string()), ("charge_code", pa.string())]),
        ),
        "vendor_account_charge": pa.Table.from_pylist(
            [
                {
                    "vendor_id": vendor.vendor_id,
                    "charge_code": charge.charge_code,
                    "currency": charge.currency,
                    "amount_minor": charge.amount_minor,
                    "valid_from": charge.valid_from,
                    "valid_to": charge.valid_to,
                }
                for vendor in terms
                for charge in vendor.account_charges
            ],
            schema=pa.schema(
                [
                    ("vendor_id", pa.string()),
                    ("charge_code", pa.string()),
                    ("currency", pa.string()),
                    ("amount_minor", pa.int64()),
                    ("valid_from", pa.date32()),
                    ("valid_to", pa.date32()),
                ]
            ),
        ),
        "vendor_plan": pa.Table.from_pylist(
            [
                {
                    "vendor_id": vendor.vendor_id,
                    "offer_id": plan.offer_id,
                    "plan_id": plan.plan_id,
                    "plan_version": plan.version,
                    "valid_from": plan.valid_from,
                    "valid_to": plan.valid_to,
                }
                for vendor in terms
                for plan in vendor.plans
            ],
            schema=pa.schema(
                [
                    ("vendor_id", pa.string()),
                    ("offer_id", pa.string()),
                    ("plan_id", pa.string()),
                    ("plan_version", pa.string()),
                    ("valid_from", pa.date32()),
                    ("valid_to", pa.date32()),
                ]
            ),
        ),
        "vendor_fx_rate": pa.Table.from_pylist(
            [
                {
                    "vendor_id": vendor.vendor_id,
                    "currency": rate.currency,
                    "foreign_currency": rate.foreign_currency,
                    "rate_e12": rate.rate.scaleb(RATE_SCALE).quantize(Decimal(1)),
                }
                for vendor in terms
                for rate in vendor.fx_rates
            ],
            schema=pa.schema(
                [
                    ("vendor_id", pa.string()),
                    ("currency", pa.string()),
                    ("foreign_currency", pa.string()),
                    ("rate_e12", pa.decimal128(38, 0)),
                ]
            ),
        ),
    }
