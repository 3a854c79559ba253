"""Settlement of share plans over the whole set of a period's usage (RULEBOOK §3).

A pool is one (level, bucket of a share plan, share-level account) in one window of its cycle. What
a service uses draws from the buckets it shares one after the other: an empty bucket passes on to
the next what came after, by event time; the last one has the overage. Overage units, unit
rounding, price tiers and the rounding of money happen once on the pool; attribution shares the
result out by largest remainder, down the accounts one step at a time, then to services, and never
changes the total.

Rollover is a function of history: a window starts with the lots that the window before carried on
(``pool_carry``), so that settling the periods in order again gives every lot again.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from iotbill_pipelines.engine.compute import Compute, conform
from iotbill_pipelines.engine.money import apportion_sql
from iotbill_pipelines.engine.pricing import price_sql
from iotbill_pipelines.engine.schemas import POOL_LOT, POOL_PART, POOL_SETTLEMENT
from iotbill_pipelines.engine.statements import statement

_ANCESTOR = pa.schema(
    [
        ("account_id", pa.string()),
        ("distance", pa.int64()),
        ("ancestor_id", pa.string()),
        ("depth", pa.int64()),
    ]
)


_CLOSED = pa.schema(
    [
        ("window_start", pa.date32()),
        ("level", pa.string()),
        ("account_id", pa.string()),
        ("charge_id", pa.string()),
        ("opens_on", pa.date32()),
    ]
)
_OPENING = pa.schema(
    [
        ("window_start", pa.date32()),
        ("level", pa.string()),
        ("share_plan_id", pa.string()),
        ("pool_account_id", pa.string()),
        ("opens_on", pa.date32()),
    ]
)
_PRICED = pa.schema(
    [
        *((n, pa.string()) for n in ("usage_period", "level", "pool_id", "charge_id", "currency")),
        ("price_id", pa.string()),
        ("window_start", pa.date32()),
        ("window_end", pa.date32()),
        ("overage_quantity", pa.int64()),
    ]
)
_PLACE = pa.schema(
    [(name, pa.string()) for name in ("share_plan_id", "account_id", "pool_account_id")]
)
_PEAK = pa.schema(
    [
        ("window_start", pa.date32()),
        *((name, pa.string()) for name in ("level", "bucket_id", "pool_account_id")),
        ("quantity", pa.int64()),
        ("services", pa.int64()),
    ]
)
_ENTRY = pa.schema(
    [
        ("window_start", pa.date32()),
        ("level", pa.string()),
        ("account_id", pa.string()),
        ("service_id", pa.string()),
        ("event_start", pa.timestamp("us")),
        ("price_id", pa.string()),
        ("units", pa.int64()),
        ("pool_id", pa.string()),
    ]
)


def place_plans(compute: Compute) -> None:
    """Define ``share_place``: the account whose pool each account shares, by plan."""
    if not _any_bucket(compute, "true"):
        compute.load("share_place", _PLACE.empty_table())
        return
    compute.load("account_ancestor", _ancestors(compute))
    compute.define("share_place", statement("settle", "share_place"), keep=True)


def open_plans(compute: Compute, carried: pa.Table | None) -> None:
    """Define who may draw from which pool of each window, and from which day.

    ``carried`` has the rows of ``pool_lot`` of the period before, with what they carry on; None
    where nothing was settled before. Defines ``plan_window``, ``share_reach``, ``share_closed`` and
    ``pool_carry``. Needs :func:`place_plans`, the day intervals and ``usage_window``.
    """
    if not _any_bucket(compute, "true"):
        compute.load("share_closed", _CLOSED.empty_table())
        return
    lots = POOL_LOT.arrow_schema.empty_table() if carried is None else carried
    compute.load("pool_lot_before", lots)
    compute.define("pool_carry", statement("settle", "pool_carry"), keep=True)
    compute.define("plan_window", statement("settle", "plan_window"), keep=True)
    if compute.fetch("select offer_id from share_seller limit 1").num_rows:
        compute.define("share_opening", statement("settle", "share_opening"), keep=True)
        compute.define("share_reach", statement("settle", "share_reach"), keep=True)
        compute.define("share_closed", statement("settle", "share_closed"), keep=True)
    else:
        compute.load("share_opening", _OPENING.empty_table())
        compute.define("share_reach", statement("settle", "share_reach"), keep=True)
        compute.load("share_closed", _CLOSED.empty_table())


def settle(compute: Compute) -> None:
    """Define ``pool_settlement``, ``pool_part`` and ``pool_lot`` of the windows of the period.

    Needs :func:`open_plans`, ``usage_free``, ``usage_entry``, the day intervals, ``offer_switch``
    and ``price_interval``. Units of the overage are rounded by the overage charge's increments
    whatever their ``point``: a pool has no other. Its price is the one that holds on the last day
    of the window.
    """
    if not _any_bucket(compute, "true"):
        for table in (POOL_SETTLEMENT, POOL_LOT, POOL_PART):
            compute.load(table.name, table.arrow_schema.empty_table())
        compute.load("pool_priced", _PRICED.empty_table())
        return
    for step, keep in (("pool_member", True), ("shared_usage", False)):
        compute.define(step, statement("settle", step), keep=keep)
    if compute.fetch("select share_plan_id from share_plan where billable = 'peak'").num_rows:
        compute.define("pool_peak", statement("settle", "pool_peak"), keep=True)
    else:
        compute.load("pool_peak", _PEAK.empty_table())
    by_unit = _any_bucket(compute, "by_unit")
    rolling = _any_bucket(compute, "rollover_periods > 0")
    if by_unit:
        compute.define("pool_unit", statement("settle", "pool_unit"), keep=True)
        compute.define("pool_path", statement("settle", "pool_path"), keep=True)
    if rolling:
        _settle_in_order(compute, by_unit=by_unit)
    else:
        compute.define("round_window", "select * from plan_window")
        _settle_round(compute, by_unit=by_unit)
        for name in _OF_A_ROUND:
            compute.define(f"every_{name}", f"select * from {name}")
    for step, keep in (("pool_total", True), ("pool_slice", False)):
        compute.define(step, statement("settle", step), keep=keep)
    compute.define("pool_slice_priced", price_sql("pool_slice"))
    compute.define("pool_priced", statement("settle", "pool_priced"), keep=True)
    compute.define(
        "pool_settlement", conform(statement("settle", "pool_settlement"), POOL_SETTLEMENT)
    )
    if rolling:
        compute.define("pool_lot", conform(statement("settle", "pool_lot"), POOL_LOT))
    else:
        compute.load("pool_lot", POOL_LOT.arrow_schema.empty_table())
    compute.define("pool_draw", statement("settle", "pool_draw"))
    compute.define("pool_share", statement("settle", "pool_share"), keep=True)
    _share_out(compute)


_OF_A_ROUND = ("pool_entry", "pool_participant", "pool_used")


def _any_bucket(compute: Compute, rule: str) -> bool:
    return bool(compute.fetch(f"select bucket_id from share_bucket where {rule} limit 1").num_rows)


def _settle_in_order(compute: Compute, *, by_unit: bool) -> None:
    """Settle the windows of the period one after the other: what one leaves, the next begins with.

    Without rollover windows know nothing of each other, and are settled at once.
    """
    rounds: int = compute.fetch("select coalesce(max(place), 1) as n from plan_window")["n"][
        0
    ].as_py()
    names = (*_OF_A_ROUND, "pool_lot_of_round")
    for number in range(1, rounds + 1):
        compute.define("round_window", f"select * from plan_window where place = {number}")
        _settle_round(compute, by_unit=by_unit)
        compute.define("pool_lot_of_round", statement("settle", "pool_lot_of_round"))
        for name in names:
            compute.define(f"{name}_{number}", f"select * from {name}", keep=True)
        compute.define("pool_carry_on", statement("settle", "pool_carry_on"), keep=True)
        compute.define("pool_carry", "select * from pool_carry_on", keep=True)
    for name in names:
        parts = (f"select * from {name}_{number}" for number in range(1, rounds + 1))
        compute.define(f"every_{name}", " union all ".join(parts))


def _settle_round(compute: Compute, *, by_unit: bool) -> None:
    """Define the draws, participants and totals of the windows in ``round_window``."""
    for step, keep in (("pool_open", False), ("pool_size", False), ("pool_allotment", True)):
        compute.define(step, statement("settle", step), keep=keep)
    if by_unit:
        _draw(compute)
    else:
        compute.load("pool_entry", _ENTRY.empty_table())
    for step in ("pool_participant", "pool_used"):
        compute.define(step, statement("settle", step), keep=True)


def _draw(compute: Compute) -> None:
    """Define ``pool_entry``: the units at the pool that takes them, where order matters."""
    compute.define("pool_arrived", statement("settle", "pool_arrival"), keep=True)
    spilling = compute.fetch(
        "select distinct layer from pool_path where next_pool_id is not null order by layer"
    )["layer"].to_pylist()
    for layer in spilling:
        text = statement("settle", "pool_spill").replace("layer_input", str(layer))
        compute.define("pool_arrived", text, keep=True)
    compute.define("pool_entry", f"select {', '.join(_ENTRY.names)} from pool_arrived")


def _share_out(compute: Compute) -> None:
    """Define ``pool_part``: down the accounts one step at a time, then to the services."""
    branch = "pool_branch_0"
    compute.define(branch, statement("settle", "pool_root"), keep=True)
    steps: int = compute.fetch(
        "select coalesce(max(t.distance), 0) as steps from pool_share as s"
        " join account_ancestor as t on t.account_id = s.account_id"
        " and t.ancestor_id = s.pool_account_id"
    )["steps"][0].as_py()
    for step in range(1, steps + 1):
        text = statement("settle", "pool_branch").replace("branch_input", branch)
        compute.define("pool_branch", text.replace("step_input", str(step)), keep=True)
        _split(
            compute,
            "pool_branch",
            ("window_start", "level", "pool_id", "above_id"),
            {"branch_minor": "above_minor", "branch_overage": "above_overage"},
            ("branch_weight", "account_id"),
        )
        branch = f"pool_branch_{step}"
        compute.define(branch, statement("settle", "pool_branch_part"), keep=True)
    text = statement("settle", "pool_service").replace("branch_input", branch)
    compute.define("pool_service", text, keep=True)
    _split(
        compute,
        "pool_service",
        ("window_start", "level", "pool_id", "account_id"),
        {"pool_service_minor": "account_minor", "pool_service_overage": "account_overage"},
        ("weight", "service_id"),
    )
    compute.define("pool_part", conform(statement("settle", "pool_part"), POOL_PART), keep=True)


def _split(
    compute: Compute,
    children: str,
    parent: tuple[str, ...],
    totals: Mapping[str, str],
    weight_and_tie: tuple[str, str],
) -> None:
    for name, total in totals.items():
        compute.define(name, apportion_sql(children, parent, total, *weight_and_tie))


def _ancestors(compute: Compute) -> pa.Table:
    """Every account with all accounts above it, itself first, and how many there are.

    Accounts that report to one another in a circle end where it closes.
    """
    parents: dict[str, str | None] = {
        row["account_id"]: row["parent_account_id"]
        for row in compute.fetch("select account_id, parent_account_id from account").to_pylist()
    }
    rows: list[dict[str, object]] = []
    for account in sorted(parents):
        chain, above = [account], parents[account]
        while above is not None and above in parents and above not in chain:
            chain.append(above)
            above = parents[above]
        rows += [
            {
                "account_id": account,
                "distance": distance,
                "ancestor_id": ancestor,
                "depth": len(chain) - 1,
            }
            for distance, ancestor in enumerate(chain)
        ]
    return pa.Table.from_pylist(rows, schema=_ANCESTOR)
