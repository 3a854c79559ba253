"""Runs the statements of ``sql/`` in order; see :mod:`engine.reconcile` for what they decide."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from importlib.resources import files

import pyarrow as pa

from iotbill_pipelines.engine.calendars import Month, months_between
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


def reconcile(compute: Compute, period: Month, terms: Sequence[VendorTerms]) -> None:
    """Compare what carriers billed for ``period`` with what their terms give.

    Reads relations ``vendor_invoice_line`` (this period's, and those of the year before in
    which to look for copies), ``desired_charge`` (level vendor, those whose ``billing_period`` is
    ``period``), ``usage_aggregate`` (of the same usage periods), ``service_identifier``,
    ``service_state``, ``service_offer``, ``state``, ``offer``, ``charge``, ``price``,
    ``price_tier``, ``share_participant`` and ``share_bucket``. Defines :data:`RESULTS`. A vendor
    without terms is compared with tolerance zero.

    Per line and currency, ``sum(cause.amount_minor) = variance_minor``; the variances of an
    invoice's lines add up to its total, rounded once, minus our expected cost.
    """
    for name, table in term_tables(terms).items():
        compute.load(name, table)
    for name, table in _period_tables(period).items():
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


def _period_tables(period: Month) -> dict[str, pa.Table]:
    months = list(months_between(period - _YEAR, period + _YEAR))
    days = (months[-1].end - months[0].start).days
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
                "month": [str(month) for month in months],
                "month_start": [month.start for month in months],
                "month_end": [month.end for month in months],
                "days": [month.days for month in months],
            }
        ),
        "reconcile_day": pa.table(
            {
                "day": pa.array(
                    [months[0].start + timedelta(days=day) for day in range(days + 1)],
                    type=pa.date32(),
                ),
                "day_no": pa.array(
                    [(months[0].start - date(1970, 1, 1)).days + day for day in range(days + 1)],
                    type=pa.int64(),
                ),
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
