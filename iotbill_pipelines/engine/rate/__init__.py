"""Rating: charge, zone, price and rated quantity of every record (RULEBOOK §6, §7).

Prices are chosen once per distinct offer, usage class and network and joined back; records carry
integer quantities and the price version, never money. The second half sums a usage period.
"""

from __future__ import annotations

from iotbill_pipelines.engine.compute import Compute, conform
from iotbill_pipelines.engine.schemas import (
    RATED_USAGE,
    SUSPENDED_RECORD,
    USAGE_AGGREGATE,
    USAGE_OUTCOME,
)
from iotbill_pipelines.engine.statements import statement


def define_price_intervals(compute: Compute) -> None:
    """Define ``price_interval``: the price of a charge by condition and local day."""
    compute.define("price_interval", statement("rate", "price_interval"), keep=True)


def rate(compute: Compute) -> None:
    """Define ``rated_usage``, ``suspended_record`` and ``usage_outcome`` of a UTC month.

    ``rated_usage`` is a view: writing it is the one pass over the records. A record is in it for
    every level of its service's chain, or it is suspended with the first thing that is missing.
    """
    compute.define("rate_choice", statement("rate", "rate_choice"), keep=True)
    compute.define("rating_attempt", statement("rate", "rating_attempt"))
    compute.define(
        "suspended_record",
        conform(statement("rate", "suspended_record"), SUSPENDED_RECORD),
        keep=True,
    )
    compute.define("rated_usage", conform(statement("rate", "rated_usage"), RATED_USAGE))
    compute.define("usage_outcome", conform(statement("rate", "usage_outcome"), USAGE_OUTCOME))


def sum_period(compute: Compute) -> None:
    """Define ``usage_aggregate`` of the period in ``settled_period`` from ``rated_usage``.

    Rounds sessions and service periods, and gives every charge's own allowance to the earliest
    units. Also defines ``usage_free`` (the same rows with the first event) and ``usage_entry``
    (the units in order of time), for later steps that draw down.
    """
    compute.define("usage_by_price", statement("rate", "usage_by_price"), keep=True)
    compute.define("usage_rounded", statement("rate", "usage_rounded"), keep=True)
    compute.define("usage_entry", statement("rate", "usage_entry"))
    compute.define("allowance_draw", statement("rate", "allowance_draw"))
    compute.define("usage_free", statement("rate", "usage_free"), keep=True)
    compute.define("usage_aggregate", conform("select * from usage_free", USAGE_AGGREGATE))
