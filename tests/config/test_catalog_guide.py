"""docs/catalog.md is read by people who copy from it: its examples load, its sums are right."""

from __future__ import annotations

import re
from pathlib import Path

import openpyxl
import yaml

from iotbill_pipelines.config.catalog import read_catalog
from iotbill_pipelines.engine.money import apportion

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "catalog.md").read_text()
AROUND = """
usage_classes: {data: byte, sms: count}
states:
  - {state: inventory, core: prospect, to: [active]}
  - {state: active, core: active, to: [suspended]}
  - {state: suspended, core: suspended}
initial_states: [inventory]
products:
  - {id: sms, name: SMS, charge_type: usage, usage_class: sms, gl_class: usage}
  - {id: activation, name: Activation, charge_type: one_time, gl_class: one_time}
  - {id: pool_overage, name: Overage, charge_type: overage, usage_class: data, gl_class: overage}
  - {id: cost_data, name: Data, charge_type: usage, usage_class: data, gl_class: cost_usage}
  - {id: cost_sim, name: SIM, charge_type: recurring, gl_class: cost_recurring}
zone_sets:
  - {id: bics_zones, rules: [{zone: z1, region: ["Zone 1"]}]}
"""


def _tables(folder: Path, tables: list[dict[str, str]]) -> None:
    """The spreadsheets that the guide speaks of, without rows."""
    columns = ["charge", "zone", "valid_from", "rate"]
    for table in tables:
        file = folder / table["file"]
        file.parent.mkdir(exist_ok=True)
        if file.suffix == ".csv":
            file.write_text(",".join(columns) + "\n")
            continue
        book = openpyxl.Workbook()
        book.active.title = table["sheet"]
        book.active.append(columns)
        book.save(file)


def test_the_examples_of_the_guide_make_a_catalog(tmp_path: Path) -> None:
    (tmp_path / "around.yaml").write_text(AROUND)
    charges = []
    for number, block in enumerate(re.findall(r"```yaml\n(.*?)```", GUIDE, re.S)):
        data = yaml.safe_load(block)
        if "tables" in data:
            _tables(tmp_path, data["tables"])
        if isinstance(data, list):
            charges += data
        else:
            (tmp_path / f"block{number}.yaml").write_text(block)
    whole = {"offers": [{"id": "rest", "name": "Rest", "currency": "EUR", "charges": charges}]}
    (tmp_path / "rest.yaml").write_text(yaml.safe_dump(whole))
    catalog = read_catalog(tmp_path).catalog
    offers = {"basic", "fleet", "bics_things", "blocks", "carrier_peak", "trial", "yearly", "rest"}
    assert offers == {offer.id for offer in catalog.offers}
    assert len(charges) == 2


def test_the_pool_of_the_guide_is_shared_as_it_says() -> None:
    assert apportion(11, [0, 5, 6], ["a", "b", "c"]) == [0, 5, 6]
