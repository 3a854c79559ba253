"""What suspended usage is probably worth, so that suspense can be worked by money (RULEBOOK §13).

An estimate, never booked: the likeliest retail price of the usage class, without allowances, pools
and minimums. It says by which price, and says so where there is none; it is never silently zero.
"""

from __future__ import annotations

from iotbill_pipelines.engine.compute import Compute
from iotbill_pipelines.engine.pricing import price_sql
from iotbill_pipelines.engine.statements import statement


def estimate(compute: Compute) -> None:
    """Define ``suspense_estimate`` from ``suspended_record``; needs guide's owner and offer days.

    Grain: usage month, feed, reason, class, account and price. ``amount_minor`` is null where the
    catalog has no retail price of the class; ``basis`` says how it was estimated. ``rated_usage``
    (may be empty) tells which prices are used most.
    """
    compute.define("suspense_owner", statement("estimate", "suspense_owner"), keep=True)
    compute.define("price_candidate", statement("estimate", "price_candidate"), keep=True)
    compute.define("suspense_group", statement("estimate", "suspense_group"), keep=True)
    compute.define("suspense_slice", statement("estimate", "suspense_slice"), keep=True)
    compute.define("suspense_priced", price_sql("suspense_slice"), keep=True)
    compute.define("suspense_estimate", statement("estimate", "suspense_estimate"), keep=True)
