"""Every charge of a scenario once more, by the arithmetic that explains charges to people.

That arithmetic walks records and days one by one, in fractions, and shares no SQL with the engine;
so each scenario is computed twice, by two ways of thinking, and both must end at the same cent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from iotbill_pipelines.compute.duckdb_engine import DuckDbCompute
from iotbill_pipelines.engine.schemas import TABLES
from iotbill_pipelines.operations.explaining import Unexplained, Unit, explain_unit, gather
from iotbill_pipelines.operations.explaining.agreements import measured_again
from tests.together import Merged

_UNIT = ("usage_period", "level", "account_id", "service_id", "charge_id")


@dataclass
class Retold:
    """What came of telling a company's charges."""

    wrong: list[str] = field(default_factory=list)
    untold: list[str] = field(default_factory=list)


def retell(merged: Merged, results: Mapping[str, pa.Table]) -> list[Retold]:
    """Return for every company the charges that are told differently, or not at all."""
    tables = merged.tables
    charges = results["desired_charge"].to_pylist()
    owners = {prefix: Retold() for prefix in merged.prefixes}
    with DuckDbCompute(expected_rows=tables.usage.num_rows) as compute:
        for name, table in (tables.catalog | tables.reference).items():
            compute.load(name, table)
        for name in ("rated_usage", "usage_aggregate", "allowance_lot", "pool_settlement",
                     "pool_part"):  # fmt: skip
            compute.load(name, results[name].cast(TABLES[name].arrow_schema))
        for month in merged.months:
            mine = [row for row in charges if row["usage_period"] == str(month)]
            if not mine:
                continue
            asked = [{name: row[name] for name in _UNIT} for row in mine]
            compute.load("asked_unit", pa.Table.from_pylist(asked))
            evidence = gather(compute, month, {})
            if any("/" in row["charge_id"] for row in mine):
                evidence.agreed = measured_again(compute, month, charges)
            for row, unit in zip(mine, asked, strict=True):
                retold = owners[merged.owner(row)]
                what = f"{row['service_id']} {row['charge_id']} {row['usage_period']}"
                try:
                    told = explain_unit(evidence, Unit(**unit))
                except Unexplained as reason:
                    retold.untold.append(f"{what}: {reason}")
                    continue
                if (told.amount_minor, told.currency) != (row["amount_minor"], row["currency"]):
                    words = "\n  ".join(f"{step.text}  {step.amount}" for step in told.steps)
                    retold.wrong.append(
                        f"{what}: {row['amount_minor']}, told {told.amount_minor}\n  {words}"
                    )
    return list(owners.values())
