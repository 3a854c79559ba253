"""The stages in order: the one module that knows them all (DESIGN: they meet in table schemas).

:func:`rate_month` works on the records of one UTC month, :func:`settle_period` on one usage
period, which is a month in the payer's billing zone and so reads the UTC months around it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta

import pyarrow as pa

from iotbill_pipelines.engine import charge, combine, cycles, estimate, guide, mediate, rate, settle
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.compute import Compute
from iotbill_pipelines.engine.contract import stage as contract
from iotbill_pipelines.engine.schemas import (
    ALLOWANCE_LOT,
    DESIRED_CHARGE,
    POOL_LOT,
    SERVICE_ACTIVATION,
    USAGE_RECORD,
)
from iotbill_pipelines.engine.statements import statement


def find_nearby(compute: Compute, policies: mediate.Policies) -> None:
    """Define ``nearby_record``: what ``other_usage`` holds that decides on ``usage_record``."""
    mediate.load_policies(compute, policies)
    mediate.find_nearby(compute, policies)


def rate_month(
    compute: Compute, policies: mediate.Policies = mediate.PLAIN, *, nearby: bool = False
) -> None:
    """From ``usage_record`` of one UTC month to ``rated_usage``; nothing is written.

    Needs the relations ``usage_record`` and all of ``schemas.REFERENCE`` and ``schemas.CATALOG``,
    and with ``nearby`` ``nearby_record``; without it no other month holds usage of its keys.
    Defines ``duplicate_record``, ``suspended_record``, ``rated_usage`` (a view: reading it is the
    pass over the records), ``usage_part`` and ``usage_outcome``, as :mod:`engine.schemas` describes
    them.
    """
    mediate.load_policies(compute, policies)
    if not nearby:
        compute.load("nearby_record", USAGE_RECORD.arrow_schema.empty_table())
    bounds = compute.fetch(
        "select count(*) as records, min(event_start) as first_event,"
        " max(event_start) as last_event from usage_record"
    )
    first: datetime | None = bounds["first_event"][0].as_py()
    last: datetime | None = bounds["last_event"][0].as_py()
    mediate.mediate(compute, policies, records=bounds["records"][0].as_py())
    contract.end_services(compute)
    guide.define_day_intervals(compute)
    guide.load_calendar(compute, first, last)
    guide.define_instants(compute)
    rate.define_price_intervals(compute)
    contract.define_prices(compute, *_local_days(first, last))
    rate.rate(compute)


def estimate_suspense(compute: Compute) -> None:
    """From ``suspended_record`` to ``suspense_estimate``: what it is probably worth, and why.

    Needs also ``rated_usage`` of the same months (may be empty) and the reference and catalog
    relations. See :mod:`engine.estimate`; nothing of it is ever booked.
    """
    contract.end_services(compute)
    guide.define_day_intervals(compute)
    guide.define_owners(compute)
    compute.define("currency_unit", statement("pricing", "currency_unit"), keep=True)
    estimate.estimate(compute)


def _local_days(first: datetime | None, last: datetime | None) -> tuple[date, date]:
    """Local dates that events between two UTC instants can have, half-open."""
    if first is None or last is None:
        return date.min, date.min
    return first.date() - timedelta(days=1), last.date() + timedelta(days=2)


def _priced_days(compute: Compute, period: Month) -> tuple[date, date]:
    """Local dates that charges of the period, and those in advance, need prices for, half-open."""
    row = compute.fetch(
        "select min(window_start) as first, max(window_end) as last from cycle_window"
    ).to_pylist()[0]
    first, last = (period - 1).start, (period + 2).end
    return min(first, row["first"] or first), max(last, row["last"] or last)


CARRIED = (POOL_LOT, ALLOWANCE_LOT)
"""What one period leaves for the next."""


def settle_period(
    compute: Compute,
    period: Month,
    carried: Mapping[str, pa.Table] | None = None,
    *,
    earlier: bool = False,
    closed_activations: pa.Table | None = None,
) -> None:
    """From ``rated_usage`` to ``desired_charge`` of one usage period, at every level.

    Needs ``rated_usage`` holding at least every row of the windows that settle in it, and the
    reference and catalog relations. Other periods are left out, but tell what services that wait
    for first use have used before (RULEBOOK §2). ``carried`` has the tables of :data:`CARRIED` as
    settling the period before defined them, for units that outlive their window (RULEBOOK §3).
    Defines ``usage_aggregate``, ``pool_settlement``, ``pool_part``, ``pool_lot``,
    ``allowance_lot``, ``charge_component``, ``desired_charge``, ``charge_finding`` and
    ``commitment_status``. With ``earlier`` the relation ``earlier_charge`` holds the desired
    charges of earlier periods, which contract commitments count too; without it there were none.

    ``desired_charge`` and ``charge_component`` also hold the charges in advance of the next period
    that this period's invoice carries (ST-18): ``usage_period`` P+1, ``billing_period`` P. Settling
    P+1 says the same about them, and everything else about P+1.

    ``closed_activations`` (:data:`schemas.SERVICE_ACTIVATION`) are dates of first use that stay
    because their period is closed; ``service_activation`` has those of this period.
    """
    open_period(compute, period, carried, closed_activations=closed_activations)
    _settle(compute)
    if not earlier:
        compute.load("earlier_charge", DESIRED_CHARGE.arrow_schema.empty_table())
    contract.settle(compute, period)


def settle_open(
    compute: Compute,
    period: Month,
    carried: Mapping[str, pa.Table] | None = None,
    *,
    closed_activations: pa.Table | None = None,
) -> None:
    """Define ``open_charge``: what windows that go on beyond a period come to by its end.

    They are settled as if they ended with the period: use against all that the window includes,
    fees by their days in proportion to the whole window (a fee that does not go by days, whole).
    Charges in advance are left out: they are charged already. Reads what :func:`settle_period`
    reads; ``carried`` is what the period itself left. Nothing of it is ever billed.
    """
    open_period(compute, period, carried, closed_activations=closed_activations, cut=True)
    _settle(compute)
    compute.define("open_charge", _OPEN_CHARGE, keep=True)


_OPEN_CHARGE = """
select d.*
from desired_charge as d
join charge as c on c.charge_id = d.charge_id
where d.kind in ('usage', 'overage', 'combined')
  or (d.kind = 'recurring' and c.billing = 'arrears')
""".strip()


def _settle(compute: Compute) -> None:
    rate.sum_period(compute)
    rate.settle_allowances(compute)
    settle.settle(compute)
    charge.charge(compute)
    combine.combine(compute)


def open_period(
    compute: Compute,
    period: Month,
    carried: Mapping[str, pa.Table] | None = None,
    *,
    closed_activations: pa.Table | None = None,
    cut: bool = False,
) -> None:
    """Define who has what in a usage period, before anything is summed: the relations that
    :func:`settle_period` begins with. Days of services on offers and in states, first use, windows,
    prices by day, which pools are open to whom, free units that earlier windows left. With ``cut``
    the windows are those of :func:`settle_open`."""
    coming = period + 1
    rows = [_period_row(period, advance_only=False), _period_row(coming, advance_only=True)]
    compute.load("charge_period", pa.Table.from_pylist(rows, schema=_CHARGE_PERIOD))
    compute.define("settled_period", "select * from charge_period where not advance_only")
    contract.end_services(compute)
    guide.define_day_intervals(compute)
    none_closed = SERVICE_ACTIVATION.arrow_schema.empty_table()
    compute.load(
        "closed_activation", none_closed if closed_activations is None else closed_activations
    )
    guide.activate_first_use(compute)
    compute.define("currency_unit", statement("pricing", "currency_unit"), keep=True)
    settle.place_plans(compute)
    cycles.load_windows(compute, period, cut=cut)
    guide.change_plans(compute, period)
    rate.define_price_intervals(compute)
    contract.define_prices(compute, *_priced_days(compute, period))
    before = carried or {}
    settle.open_plans(compute, before.get("pool_lot"))
    rate.open_allowances(compute, before.get("allowance_lot"))


_CHARGE_PERIOD = pa.schema(
    [
        ("usage_period", pa.string()),
        ("previous_period", pa.string()),
        ("start_date", pa.date32()),
        ("end_date", pa.date32()),
        ("last_date", pa.date32()),
        ("eve", pa.date32()),
        ("days", pa.int64()),
        ("advance_only", pa.bool_()),
    ]
)


def _period_row(period: Month, *, advance_only: bool) -> dict[str, object]:
    return {
        "usage_period": str(period),
        "previous_period": str(period - 1),
        "start_date": period.start,
        "end_date": period.end,
        "last_date": period.last_day,
        "eve": period.start - timedelta(days=1),
        "days": period.days,
        "advance_only": advance_only,
    }
