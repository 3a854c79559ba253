"""Runs the statements of ``sql/`` in order; see :mod:`engine.reconcile` for what they decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from importlib.resources import files

import pyarrow as pa

from iotbill_pipelines.engine.calendars import Month, carrier_months
from iotbill_pipelines.engine.compute import Compute, conform
from iotbill_pipelines.engine.money import RATE_SCALE, minor_digits
from iotbill_pipelines.engine.reconcile.vendor_terms import VendorTerms, term_tables
from iotbill_pipelines.engine.schemas import (
    DISPUTE_ITEM,
    RECONCILIATION_CAUSE,
    RECONCILIATION_LINE,
    RECONCILIATION_TOTAL,
)

CAUSES = (
    "duplicate",
    "wrong_period",
    "unknown_sim",
    "billed_inactive",
    "unbilled_sim",
    "proration",
    "usage",
    "rate",
    "fx",
    "tax",
    "rounding",
    "unexplained",
)
"""Causes of a variance in the order in which they are tried (RULEBOOK §10)."""

_REFUSALS = ("duplicate", "wrong_period", "unknown_sim", "billed_inactive")

RESULTS = (RECONCILIATION_LINE, RECONCILIATION_CAUSE, RECONCILIATION_TOTAL, DISPUTE_ITEM)
"""Tables that :func:`reconcile` defines."""

_YEAR = 12
_EPOCH = date(1970, 1, 1)


def reconcile(compute: Compute, period: Month, terms: Sequence[VendorTerms]) -> None:
    """Compare what carriers billed for ``period`` with what their terms give.

    Reads relations ``vendor_invoice_line`` (this period's, and those of the year before in
    which to look for copies), ``desired_charge`` (level vendor, those whose ``billing_period`` is
    ``period``), ``usage_aggregate`` (of the same usage periods), ``account`` (the day on which each
    vendor's months begin), ``service_identifier``,
    ``service_state``, ``service_offer``, ``state``, ``offer``, ``charge``, ``price``,
    ``price_tier``, ``share_participant`` and ``share_bucket``. Defines :data:`RESULTS`. A vendor
    without terms is compared with tolerance zero.

    Per line and currency, ``sum(cause.amount_minor) = variance_minor``; the variances of an
    invoice's lines add up to its total, rounded once, minus our expected cost.
    """
    for name, table in term_tables(terms).items():
        compute.load(name, table)
    for name, table in _period_tables(period, _bill_days(compute, terms)).items():
        compute.load(name, table)
    compute.load("reconcile_currency", _currencies(compute, terms))
    for file in sorted(files(__package__).joinpath("sql").iterdir(), key=lambda f: f.name):
        # "07_reconcile_expected.sql" defines relation reconcile_expected, computed once
        name = file.name.removesuffix(".sql").partition("_")[2]
        compute.define(name, file.read_text(encoding="utf-8"), keep=True)
    compute.define(
        RECONCILIATION_LINE.name,
        conform("select * from reconcile_line", RECONCILIATION_LINE),
        keep=True,
    )
    compute.define(
        RECONCILIATION_CAUSE.name,
        conform(
            "select c.*, l.uid_value from reconcile_cause as c"
            " join reconcile_line as l on l.line_key = c.line_key",
            RECONCILIATION_CAUSE,
        ),
        keep=True,
    )
    compute.define(
        RECONCILIATION_TOTAL.name,
        conform("select * from reconcile_total", RECONCILIATION_TOTAL),
        keep=True,
    )
    compute.define(
        DISPUTE_ITEM.name, conform("select * from reconcile_dispute", DISPUTE_ITEM), keep=True
    )


def _bill_days(compute: Compute, terms: Sequence[VendorTerms]) -> dict[str, int]:
    """The day on which each vendor's months begin (RULEBOOK §0.4)."""
    vendors = compute.fetch(
        "select vendor_id from vendor_invoice_line"
        " union select account_id from desired_charge where level = 'vendor'"
    )["vendor_id"].to_pylist()
    accounts = compute.fetch("select account_id, bill_day from account where bill_day > 1")
    days: dict[str, int] = {row["account_id"]: row["bill_day"] for row in accounts.to_pylist()}
    names = {*vendors, *(vendor.vendor_id for vendor in terms)}
    return {name: days.get(name, 1) for name in sorted(names)}


def _period_tables(period: Month, bill_days: Mapping[str, int]) -> dict[str, pa.Table]:
    first, end = (period - _YEAR).start, (period + _YEAR).end + timedelta(days=1)
    calendars = {day: list(carrier_months(day, first, end)) for day in {*bill_days.values()}}
    months = [
        (vendor, str(month), start, until, day > 1)
        for vendor, day in bill_days.items()
        for month, start, until in calendars[day]
    ]
    days = [
        (vendor, month, start + timedelta(days=number))
        for vendor, month, start, until, _ in months
        for number in range((until - start).days)
    ]
    return {
        "reconcile_scope": pa.table(
            {
                "period": [str(period)],
                "period_start": [period.start],
                "period_end": [period.end],
                "history_start": [str(period - _YEAR)],
            }
        ),
        "reconcile_month": pa.table(
            {
                "vendor_id": pa.array([row[0] for row in months], pa.string()),
                "month": pa.array([row[1] for row in months], pa.string()),
                "month_start": pa.array([row[2] for row in months], pa.date32()),
                "month_end": pa.array([row[3] for row in months], pa.date32()),
                "days": pa.array([(row[3] - row[2]).days for row in months], pa.int64()),
                "is_offset": pa.array([row[4] for row in months], pa.bool_()),
            }
        ),
        "reconcile_day": pa.table(
            {
                "vendor_id": pa.array([row[0] for row in days], pa.string()),
                "month": pa.array([row[1] for row in days], pa.string()),
                "day": pa.array([row[2] for row in days], pa.date32()),
                "day_no": pa.array([(row[2] - _EPOCH).days for row in days], pa.int64()),
            }
        ),
        "reconcile_cause_order": pa.table(
            {
                "cause": list(CAUSES),
                "cause_no": list(range(len(CAUSES))),
                "is_refusal": [int(cause in _REFUSALS) for cause in CAUSES],
            }
        ),
    }


def _currencies(compute: Compute, terms: Sequence[VendorTerms]) -> pa.Table:
    """Every currency in sight with its minor unit x 10^12."""
    found = compute.fetch(
        "select currency from vendor_invoice_line union select currency from desired_charge"
    )
    currencies = sorted(
        {str(name) for name in found.column("currency").to_pylist()}
        | {charge.currency for vendor in terms for charge in vendor.account_charges}
    )
    return pa.table(
        {
            "currency": pa.array(currencies, type=pa.string()),
            "unit_e12": pa.array(
                [10 ** (RATE_SCALE - minor_digits(name)) for name in currencies], type=pa.int64()
            ),
        }
    )
