"""Settlement of share plans over the whole set of a period's usage (RULEBOOK §3).

A pool is one (level, share plan, share-level account) in one window of the plan's cycle. Overage
units, unit rounding, price tiers and the rounding of money happen once on the pool; attribution
shares the result out by largest remainder, first to accounts, then to services, and never changes
the total.
"""

from __future__ import annotations

from iotbill_pipelines.engine.compute import Compute, conform
from iotbill_pipelines.engine.money import apportion_sql
from iotbill_pipelines.engine.pricing import price_sql
from iotbill_pipelines.engine.schemas import POOL_PART, POOL_SETTLEMENT
from iotbill_pipelines.engine.statements import statement


def settle(compute: Compute) -> None:
    """Define ``pool_settlement`` and ``pool_part`` of the windows in ``usage_window``.

    Needs ``usage_aggregate``, ``usage_entry``, the day intervals and ``price_interval``. Units of
    the overage are rounded by the overage charge's increments whatever their ``point``: a pool
    has no other. Its price is the one that holds on the last day of the window.
    """
    for step, keep in (
        ("pool_member", False),
        ("pool_participant", True),
        ("pool_total", True),
        ("pool_slice", False),
    ):
        compute.define(step, statement("settle", step), keep=keep)
    compute.define("pool_slice_priced", price_sql("pool_slice"))
    compute.define("pool_priced", statement("settle", "pool_priced"), keep=True)
    compute.define(
        "pool_settlement", conform(statement("settle", "pool_settlement"), POOL_SETTLEMENT)
    )
    compute.define("pool_draw", statement("settle", "pool_draw"))
    compute.define("pool_share", statement("settle", "pool_share"), keep=True)
    compute.define("pool_account", statement("settle", "pool_account"), keep=True)
    pool = ("window_start", "level", "pool_id")
    for name, total in (
        ("pool_account_minor", "pool_minor"),
        ("pool_account_overage", "pool_overage"),
    ):
        split = apportion_sql("pool_account", pool, total, "account_weight", "account_id")
        compute.define(name, split)
    compute.define("pool_service", statement("settle", "pool_service"), keep=True)
    for name, total in (
        ("pool_service_minor", "account_minor"),
        ("pool_service_overage", "account_overage"),
    ):
        split = apportion_sql("pool_service", (*pool, "account_id"), total, "weight", "service_id")
        compute.define(name, split)
    compute.define("pool_part", conform(statement("settle", "pool_part"), POOL_PART), keep=True)
