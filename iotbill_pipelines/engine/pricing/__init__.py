"""Prices of quantities, set-wise and exact: the price models of RULEBOOK §6.

Used wherever a quantity meets a price (a service's usage, a pool's overage), like
:mod:`engine.money` wherever money is rounded.
"""

from __future__ import annotations

from iotbill_pipelines.engine.statements import statement


def price_sql(slices: str, connections: str = "0") -> str:
    """Return SQL that adds ``exact_e12`` to relation ``slices``.

    A row of ``slices`` prices the units in ``(from_quantity, to_quantity]`` of a count that ends
    the period at ``total_quantity``, with the tiers of ``price_id``; ``slice_no`` identifies it.
    Cumulative models (flat, graduated, package, threshold_excess) charge what lies between the two
    positions, so that a price cut in two versions at equal rates charges the same. Models of the
    whole (volume, stairstep, threshold_all) take the tier of ``total_quantity``; their flat fee
    goes to the slice that ends there.

    ``connections`` names the column of ``slices`` with the number of connect fees that are due.
    Least and most of the price, and its own rounding, hold for each slice.

    The amount in currency units is ``exact_e12 / (unit_size * 10^12)``, exactly.
    """
    text = statement("pricing", "price_slice").replace("price_slice_input", slices)
    return text.replace("connections_of_slice", connections)
