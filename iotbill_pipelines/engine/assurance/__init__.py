"""State-to-feed audit: our SIM states against what carriers bill and what traffic shows.

Every finding is priced and stands for itself; none is netted with another (RULEBOOK §10, §13.2):

* ``zombie``: a SIM that costs (by our terms, or by the carrier's invoice) and earns nothing;
* ``ghost``: a SIM that earns and costs nothing although a carrier has a contract for it;
* ``billed_unknown``: the carrier bills a SIM that our inventory does not have;
* ``billed_inactive``: the carrier bills a SIM that was active on no day of the period;
* ``active_unbilled``: a SIM active by our states that the carrier's invoice leaves out;
* ``traffic_after_cancel``: usage of a SIM after its cancellation, at the carrier's price; where
  zone or tier decides, at what the carrier's usage cost on average in the month, else the dearest.

Where a carrier tells its own states (``carrier_sim``), the newest that it told for a day of the
period is held against ours of that day:

* ``carrier_active``: active there and not with us, at what was billed, else a month's fee;
* ``carrier_unknown``: active there, and our inventory does not have it;
* ``carrier_inactive``: active with us and not there, at what its customer was charged;
* ``carrier_missing``: active with us, and in no list of the carrier, at our terms;
* ``traffic_not_active``: usage of the month of a SIM that the carrier has not as active and has not
  seen since before the month, at what the usage costs by our terms.
"""

from __future__ import annotations

import pyarrow as pa

from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.compute import Compute
from iotbill_pipelines.engine.money import RATE_SCALE, minor_digits
from iotbill_pipelines.engine.statements import statement

FINDINGS = (
    *("zombie", "ghost", "billed_unknown", "billed_inactive", "active_unbilled"),
    *("traffic_after_cancel", "carrier_active", "carrier_unknown", "carrier_inactive"),
    *("carrier_missing", "traffic_not_active"),
)
"""Findings in the order in which they are told."""

_STEPS = (
    *("sim_money", "sim_billed", "sim_day", "sim_contract", "sim_late_traffic", "sim_carrier"),
    *("sim_listed", "sim_fee", "sim_audit"),
)


def audit_sims(compute: Compute, period: Month) -> None:
    """Define ``sim_audit``: what does not fit between states, contracts, invoices and traffic.

    Reads ``desired_charge`` (of the usage period), ``vendor_invoice_line``, ``carrier_sim`` (empty
    where no carrier tells its states), ``suspended_record``, ``service``, ``service_identifier``,
    ``service_state``, ``service_offer``, ``state``, ``offer``, ``charge``, ``price`` and
    ``price_tier``. Columns: ``finding``, ``service_id`` and
    ``account_id`` (null where unknown), ``uid_value``, ``vendor_id``, ``core_state`` (ours, on the
    period's last day), ``currency``, ``amount_minor`` (the money at stake; null where no price
    covers it), ``evidence``.
    """
    compute.load(
        "audit_scope",
        pa.table(
            {
                "period": [str(period)],
                "period_start": [period.start],
                "period_end": [period.end],
            }
        ),
    )
    found = compute.fetch(
        "select currency from vendor_invoice_line union select currency from desired_charge"
        " union select currency from offer"
    )
    currencies = sorted(str(name) for name in found.column("currency").to_pylist())
    compute.load(
        "audit_currency",
        pa.table(
            {
                "currency": pa.array(currencies, pa.string()),
                "unit_e12": pa.array(
                    [10 ** (RATE_SCALE - minor_digits(name)) for name in currencies], pa.int64()
                ),
            }
        ),
    )
    for step in _STEPS:
        compute.define(step, statement("assurance", step), keep=True)
