"""Charges: summed quantities and days into money, each parent rounded once (RULEBOOK §§0.2, 1, 6).

A parent is one (service, charge, usage period). Its exact amount is an integer numerator over one
denominator; it is rounded half-up once, and its components take largest-remainder parts.

A recurring charge is due once per window of its cycle, a month unless the terms say otherwise.
In **arrears** its usage period P is the month of the window's last day, or of the last day on which
the service had the offer and was not cancelled; P's invoice carries it. In **advance** P is the
month of the first billed day. Its billing period is then P-1 where the charge was already billable
on the day before P, because the invoice for P-1 announces what begins in the next month; otherwise
(activated in P) billing period P, where it meets the advance charge of P+1 on the first invoice:
prorated month + next month (ST-18). What was billed in advance and is not used after all, because
the service was cancelled or changed its plan, is credited as the difference to what is booked
(ST-17, ST-22).

Carriers count SIMs in other ways than by days (RULEBOOK §12): a charge with ``billable`` owes whole
prices of the services that count, or of as many as there were on one day.
"""

from __future__ import annotations

import pyarrow as pa

from iotbill_pipelines.engine.compute import Compute, conform
from iotbill_pipelines.engine.money import apportion_sql
from iotbill_pipelines.engine.pricing import price_sql
from iotbill_pipelines.engine.schemas import CHARGE_COMPONENT, CHARGE_FINDING, DESIRED_CHARGE
from iotbill_pipelines.engine.statements import statement

_SERVICE_CHARGE = ("usage_period", "level", "account_id", "service_id", "charge_id")


def charge(compute: Compute) -> None:
    """Define ``desired_charge``, ``charge_component`` and ``charge_finding``.

    Needs ``usage_free``, ``pool_part``, ``pool_priced``, the day intervals, ``price_interval``,
    ``settled_period`` (the usage period P), ``charge_period`` (P, and P+1 for charges in advance
    that P's invoice carries) and the windows of :mod:`engine.cycles`.
    """
    define = _definer(compute)
    define("usage_slice", keep=True)
    compute.define("usage_slice_priced", price_sql("usage_slice", "connections"), keep=True)
    define("usage_priced", keep=True)
    define("usage_total", keep=True)
    define("usage_child")
    compute.define(
        "usage_apportioned",
        apportion_sql(
            "usage_child",
            ("window_start", *_SERVICE_CHARGE),
            *("rounded_minor", "exact_e12", "price_id"),
        ),
    )
    define("usage_component")
    define("usage_charge")
    define("recurring_span", keep=True)
    define("recurring_owed")
    define("recurring_segment", keep=True)
    define("recurring_by_month")
    define("recurring_weighed", keep=True)
    _share_peaks(compute)
    define("recurring_total", keep=True)
    define("recurring_child")
    compute.define(
        "recurring_apportioned",
        apportion_sql(
            "recurring_child",
            ("window_start", *_SERVICE_CHARGE),
            *("charge_minor", "exact_e12", "segment_key"),
        ),
    )
    define("recurring_component")
    define("service_transition", keep=True)
    define("transition_due", keep=True)
    define("transition_total")
    define("transition_child")
    compute.define(
        "transition_apportioned",
        apportion_sql(
            "transition_child", _SERVICE_CHARGE, "charge_minor", "exact_e12", "occurrence_key"
        ),
    )
    define("transition_component")
    define("pool_share_component")
    compute.define(
        "charge_component", conform(statement("charge", "charge_component"), CHARGE_COMPONENT)
    )
    define("charge_price")
    compute.define(
        "desired_charge", conform(statement("charge", "desired_charge"), DESIRED_CHARGE), keep=True
    )
    compute.define("charge_finding", conform(statement("charge", "charge_finding"), CHARGE_FINDING))


_PEAK_PART = pa.schema(
    [
        ("window_start", pa.date32()),
        *((name, pa.string()) for name in ("level", "account_id", "service_id", "charge_id")),
        ("part_minor", pa.int64()),
    ]
)


def _share_peaks(compute: Compute) -> None:
    """Define ``recurring_peak_part``: each service's part of what an account owes for as many of
    its services as could owe it on one day."""
    if not compute.fetch("select charge_id from charge where billable = 'peak' limit 1").num_rows:
        compute.load("recurring_peak_part", _PEAK_PART.empty_table())
        return
    compute.define("recurring_peak", statement("charge", "recurring_peak"), keep=True)
    parent = ("window_start", "level", "account_id", "charge_id")
    shared = apportion_sql("recurring_peak", parent, "peak_minor", "weight", "service_id")
    compute.define("recurring_peak_shared", shared)
    names = ", ".join(_PEAK_PART.names)
    compute.define("recurring_peak_part", f"select {names} from recurring_peak_shared", keep=True)


class _definer:
    """Define a relation of this stage by the name of its file."""

    def __init__(self, compute: Compute) -> None:
        self.compute = compute

    def __call__(self, step: str, *, keep: bool = False) -> None:
        self.compute.define(step, statement("charge", step), keep=keep)
