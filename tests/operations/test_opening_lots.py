"""Units that customers bring along: the first month begins with them; they must mean something."""

from __future__ import annotations

from pathlib import Path

import pytest

from iotbill_pipelines.config.documents import ConfigError
from iotbill_pipelines.config.opening import read_opening_lots
from iotbill_pipelines.config.scenarios import ScenarioCatalog
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.operations import charges
from iotbill_pipelines.operations.workspace import Workspace
from tests.contract.test_contract_wiring import close, ws

__all__ = ["ws"]

HEAD = (
    "period,pool_id,account_id,service_id,charge_id,kind,"
    "granted_on,expires_on,quantity,windows_left"
)
POOLS = """
share_plans:
  - id: pool
    usage_class: data
    currency: EUR
    rollover: {periods: 2}
    overage: {id: over, product: over, kind: overage, per: MB, prices: [{rate: 1}]}
products: [{id: over, name: Overage, charge_type: overage, gl_class: usage}]
offers:
  - id: lasting
    name: Lasting
    currency: EUR
    share_plan: pool
    contribution: 10
    charges:
      - {id: mb, product: data, kind: usage, per: MB, pooled: true, allowance: 5,
         allowance_rollover: 1, once: {quantity: 100, days: 300}, prices: [{rate: 1}]}
"""


def test_the_first_month_begins_with_what_was_brought_along(ws: Workspace) -> None:
    (ws.configs / "catalog" / "pools.yaml").write_text(POOLS)
    file = ws.configs / "opening_lots.csv"
    file.write_text(
        f"{HEAD}\n2026-01,pool/C1,,,,,2025-11-01,,7000000,1\n"
        "2026-01,pool/C1,,,,,2025-12-01,,9000000,2\n"
        "2026-01,,C1,S1,mb,once,2025-12-10,2026-10-06,42000000,\n"
    )
    left = charges.carried_over(ws, Month(2026, 1))
    lots = left["pool_lot"].to_pylist()
    assert [(lot["granted_on"].month, lot["carried_on"]) for lot in lots] == [
        (11, 7_000_000), (12, 9_000_000),
    ]  # fmt: skip
    (own,) = left["allowance_lot"].to_pylist()
    assert (own["service_id"], own["carried_on"], str(own["expires_on"])) == (
        "S1", 42_000_000, "2026-10-06",
    )  # fmt: skip
    assert not charges.carried_over(ws, Month(2026, 2))["pool_lot"].num_rows
    close(ws, 1)
    file.write_text(f"{HEAD}\n2026-02,pool/C1,,,,,2025-11-01,,7000000,1\n")
    with pytest.raises(ConfigError, match="2026-01 was closed here"):
        charges.carried_over(ws, Month(2026, 2))
    file.write_text(f"{HEAD}\n2026-05,pool/C9,,,,,2025-11-01,,7000000,1\n")
    with pytest.raises(ConfigError, match="2: pool_id: 'C9' is not known"):
        charges.carried_over(ws, Month(2026, 5))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("2026-01,pond/C1,,,,,2025-11-01,,7,1", "is no pool with rollover"),
        ("2026-01,,C1,S1,fee,,2025-11-01,,7,1", "is no charge whose recurring free units last"),
        ("2026-01,pool/C1,C1,,,,2025-11-01,,7,1", "leave the other ids out"),
        ("2026-01,,C1,,mb,,2025-11-01,,7,1", "give pool_id, or account_id"),
        ("2026-01,pool/C1,,,,,2026-01-01,,7,1", "granted_on lies before the period"),
        ("2026-01,,C1,S1,mb,once,2025-11-01,,7,1", "units granted once, and no others"),
        ("2026-01,pool/C1,,,,,2025-11-01,,0,1", "greater than 0"),
        ("2026-13,pool/C1,,,,,2025-11-01,,5,1", "2026-13"),
    ],
)
def test_what_it_cannot_mean_is_told_with_its_line(tmp_path: Path, row: str, said: str) -> None:
    catalog = ScenarioCatalog.model_validate(
        {
            "share_plans": [
                {"id": "pool", "usage_class": "data", "currency": "EUR",
                 "rollover": {"periods": 2},
                 "overage": {"id": "over", "product": "overage", "kind": "overage", "per": "MB",
                             "prices": [{"rate": 1}]}}
            ],
            "offers": [
                {"id": "lasting", "name": "Lasting", "currency": "EUR", "charges": [
                    {"id": "mb", "product": "data", "kind": "usage", "allowance": 5,
                     "allowance_rollover": 1, "prices": [{"rate": 1}]}]}
            ],
        }
    ).completed()  # fmt: skip
    file = tmp_path / "opening_lots.csv"
    file.write_text(f"{HEAD}\n{row}\n")
    with pytest.raises(ConfigError) as caught:
        list(read_opening_lots(file, catalog))
    assert said in str(caught.value) and "opening_lots.csv:2" in str(caught.value)
