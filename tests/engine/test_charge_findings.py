"""Reference data that would let a service go unbilled without a word."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest

from iotbill_pipelines.config.scenarios import read_scenario
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.operations.scenarios import run_tables
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("told", "code", "says"),
    [
        ({"offer_id": "requird"}, "unknown_offer", "the retail offer requird, which the catalog"),
        ({"payer_account_id": "ghost"}, "unknown_account", "paid by account ghost, which is not"),
    ],
)
def test_an_active_service_that_nothing_is_billed_of_is_told(
    told: dict[str, str], code: str, says: str
) -> None:
    tables = read_scenario(ROOT / "tests" / "scenarios" / "recurring_start.yaml").tables()
    offers = tables.reference["service_offer"]
    first, *others = offers.to_pylist()
    wrong = pa.Table.from_pylist([first | told, *others], schema=offers.schema)
    reference = tables.reference | {"service_offer": wrong}
    got = run_tables(replace(tables, reference=reference), [Month(2025, 10)])
    billed = {row["service_id"] for row in got["desired_charge"].to_pylist()}
    assert billed == {other["service_id"] for other in others}
    (found,) = [row for row in got["charge_finding"].to_pylist() if row["code"] == code]
    assert found["service_id"] == first["service_id"]
    assert says in found["message"]
