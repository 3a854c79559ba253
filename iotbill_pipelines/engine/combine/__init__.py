"""Combined charges: one price over several measures (RULEBOOK §6, capacity; SP-28, blocks).

A combined charge counts nothing itself. Each of its measures is what a usage charge of the same
offer counts in the window, or how many services have the offer; a measure comes to started blocks
of its own size, or to the step that it reaches. The greatest of them is the count that is priced,
once per window and rounded once.
"""

from __future__ import annotations

from iotbill_pipelines.engine.compute import Compute, conform
from iotbill_pipelines.engine.pricing import price_sql
from iotbill_pipelines.engine.schemas import CHARGE_COMPONENT, CHARGE_FINDING, DESIRED_CHARGE
from iotbill_pipelines.engine.statements import statement


def combine(compute: Compute) -> None:
    """Add combined charges to ``desired_charge``, ``charge_component`` and ``charge_finding``.

    Needs what charges are made of: ``usage_free``, the day intervals, ``usage_window``,
    ``account_cycle``, ``price_interval`` and ``currency_unit``. Nothing changes where the catalog
    combines nothing.
    """
    if not compute.fetch("select charge_id from charge_measure limit 1").num_rows:
        return
    for step in ("combined_measure", "combined_count", "combined_slice"):
        compute.define(step, statement("combine", step), keep=True)
    compute.define("combined_slice_priced", price_sql("combined_slice"), keep=True)
    compute.define("combined_total", statement("combine", "combined_total"), keep=True)
    for step, schema in (
        ("combined_charge", DESIRED_CHARGE),
        ("combined_component", CHARGE_COMPONENT),
        ("combined_finding", CHARGE_FINDING),
    ):
        compute.define(step, conform(statement("combine", step), schema), keep=True)
        both = f"select * from {schema.name} union all select * from {step}"
        compute.define(schema.name, conform(both, schema), keep=True)
