"""Rating: charge, zone, price and rated quantity of every record (RULEBOOK §6, §7).

Prices are chosen once per distinct offer, usage class, network, set of conditions that hold and
set of time windows that hold, and joined back; records carry
integer quantities and the price version, never money. The second half sums a usage period.
"""

from __future__ import annotations

import pyarrow as pa

from iotbill_pipelines.engine.compute import Compute, conform
from iotbill_pipelines.engine.conditions import trait_sql
from iotbill_pipelines.engine.schemas import (
    ALLOWANCE_LOT,
    RATED_USAGE,
    SUSPENDED_RECORD,
    USAGE_AGGREGATE,
    USAGE_OUTCOME,
)
from iotbill_pipelines.engine.statements import statement

_OWN_MORE = pa.schema(
    [
        ("window_start", pa.date32()),
        ("level", pa.string()),
        ("account_id", pa.string()),
        ("service_id", pa.string()),
        ("charge_id", pa.string()),
        ("quantity", pa.int64()),
    ]
)


def define_price_intervals(compute: Compute) -> None:
    """Define ``price_interval``: the price of what is priced by local day alone, by condition.

    Also ``recurring_offer``: which recurring charges services owe on which days, by their own offer
    or by one that was agreed for them on a level of the lookup (RULEBOOK §6).
    """
    compute.define("day_candidate", statement("rate", "day_candidate"))
    compute.define("price_interval", _price_interval("day_candidate"), keep=True)
    if not _agreements(compute):
        compute.define("recurring_offer", _OWN_RECURRING)
        return
    compute.define("agreed_offer", statement("rate", "agreed_offer"), keep=True)
    compute.define("recurring_candidate", statement("rate", "recurring_candidate"))
    compute.define("recurring_interval", _price_interval("recurring_candidate"), keep=True)
    compute.define("recurring_offer", statement("rate", "recurring_offer"))


def _agreements(compute: Compute) -> bool:
    found = compute.fetch("select count(*) as overrides from price_override")["overrides"][0]
    return bool(found.as_py())


_OWN_RECURRING = """
select i.level, i.account_id, i.service_id, i.offer_id, c.charge_id, i.from_date, i.to_date
from service_offer_interval as i
join charge as c on c.offer_id = i.offer_id and c.kind = 'recurring'
""".strip()


def rate(compute: Compute) -> None:
    """Define ``rated_usage``, ``suspended_record`` and ``usage_outcome`` of a UTC month.

    ``rated_usage`` is a view: writing it is the one pass over the records. A record is in it for
    every level of its service's chain, or it is suspended with the first thing that is missing.
    """
    conditions = compute.fetch("select * from usage_condition order by condition_no")
    attributes = {row["name"]: row["kind"] for row in compute.fetch("record_attribute").to_pylist()}
    trait = trait_sql(conditions["expression"].to_pylist(), attributes)
    compute.define("traced_usage", f"select *, {trait} as trait from unique_usage")
    # kinds of usage: without conditions every record can tell them, which spares mediating twice
    source = "unique_usage" if conditions.num_rows else "usage_record"
    compute.define("kind_source", f"select *, {trait} as trait from {source}")
    compute.define("usage_kind", statement("rate", "usage_kind"), keep=True)
    compute.define("usage_candidate", statement("rate", "usage_candidate"))
    compute.define("usage_price_interval", _price_interval("usage_candidate"), keep=True)
    compute.define("rate_choice", statement("rate", "rate_choice"), keep=True)
    compute.define("guided_usage", statement("rate", "guided_usage"))
    if _agreements(compute):
        compute.define("override_candidate", statement("rate", "override_candidate"))
        intervals = _price_interval("override_candidate")
        compute.define("override_interval", intervals, keep=True)
        compute.define("whole_usage", statement("rate", "override_usage"))
    else:
        compute.define("whole_usage", "select * from guided_usage")
    compute.define("split_charge", statement("rate", "split_charge"), keep=True)
    if compute.fetch("split_charge").num_rows:
        compute.define("timed_usage", statement("rate", "split_usage"))
    else:
        compute.define("timed_usage", _UNSPLIT)
    compute.define("rating_attempt", statement("rate", "rating_attempt"))
    compute.define(
        "suspended_record",
        conform(statement("rate", "suspended_record"), SUSPENDED_RECORD),
        keep=True,
    )
    compute.define("rated_usage", conform(statement("rate", "rated_usage"), RATED_USAGE))
    compute.define("usage_outcome", conform(statement("rate", "usage_outcome"), USAGE_OUTCOME))


def _price_interval(candidates: str) -> str:
    return statement("rate", "price_interval").replace("candidate_input", candidates)


_UNSPLIT = """
select *, cast(1 as integer) as part_no, quantity as part_quantity, true as is_last_part
from whole_usage
""".strip()


def open_allowances(compute: Compute, carried: pa.Table | None) -> None:
    """Define ``own_more``: free units of services beyond those that the charge grants (SP-22);
    negative where it grants them by days.

    ``carried`` has the rows of ``allowance_lot`` of the period before; None where nothing was
    settled before. Needs ``usage_window``, ``charge_cycle``, ``account_cycle`` and the day
    intervals.
    """
    parts = []
    if _lasting_allowances(compute):
        lots = ALLOWANCE_LOT.arrow_schema.empty_table() if carried is None else carried
        compute.load("allowance_lot_before", lots)
        for step in ("allowance_carry", "own_lot"):
            compute.define(step, statement("rate", step), keep=True)
        parts.append(statement("rate", "own_more"))
    by_days = "select charge_id from charge where allowance_by_days limit 1"
    if compute.fetch(by_days).num_rows:
        parts.append(statement("rate", "own_part"))
    if parts:
        compute.define("own_more", " union all ".join(f"({part})" for part in parts), keep=True)
    else:
        compute.load("own_more", _OWN_MORE.empty_table())


def settle_allowances(compute: Compute) -> None:
    """Define ``allowance_lot``: what is left of free units that last. Needs ``usage_free``."""
    if _lasting_allowances(compute):
        compute.define("allowance_lot", conform(statement("rate", "allowance_lot"), ALLOWANCE_LOT))
    else:
        compute.load("allowance_lot", ALLOWANCE_LOT.arrow_schema.empty_table())


def _lasting_allowances(compute: Compute) -> bool:
    asked = "select charge_id from charge where allowance_windows > 0 or once_quantity > 0 limit 1"
    return bool(compute.fetch(asked).num_rows)


def sum_period(compute: Compute) -> None:
    """Define ``usage_aggregate`` of the windows in ``usage_window`` from ``windowed_usage``.

    Rounds sessions and service periods, and gives every charge's own allowance to the earliest
    units, free records to the earliest records. Also defines ``usage_free`` (the same rows with
    the first event) and ``usage_entry`` (the units in order of time), for later steps that draw
    down.
    """
    compute.define("free_event", statement("rate", "free_event"), keep=True)
    compute.define("period_usage", statement("rate", "period_usage"))
    compute.define("usage_connection", statement("rate", "usage_connection"), keep=True)
    compute.define("usage_unit", statement("rate", "usage_unit"), keep=True)
    compute.define("usage_by_price", statement("rate", "usage_by_price"), keep=True)
    compute.define("usage_rounded", statement("rate", "usage_rounded"), keep=True)
    compute.define("usage_entry", statement("rate", "usage_entry"))
    compute.define("allowance_draw", statement("rate", "allowance_draw"))
    compute.define("usage_free", statement("rate", "usage_free"), keep=True)
    compute.define("usage_aggregate", conform("select * from usage_free", USAGE_AGGREGATE))
