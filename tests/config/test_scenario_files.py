"""Scenario files: what they mean, and what is said about wrong ones."""

# ruff: noqa: DTZ001 - times are UTC or local and naive, as in the tables

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import jsonschema
import pytest

from iotbill_pipelines.config.documents import ConfigError, parse_yaml, read_yaml
from iotbill_pipelines.config.scenarios import read_scenario, scenario_schema

ROOT = Path(__file__).resolve().parents[2]
GOOD = """\
scenario: A case
source: ours
period: 2026-03
catalog:
  offers:
    - id: basic
      name: Basic
      currency: EUR
      charges: [{id: mb, product: data, kind: usage, per: MB, prices: [{rate: 1}]}]
services:
  S1: {offer: basic, states: [[2026-03-02, preactive], ["2026-03-03 10:00", active]]}
  many: {count: 2, offer: basic}
usage:
  - {service: S1, at: "2026-03-10T01:30:00+02:00", quantity: 1.5 MB, plmn: "262-01"}
  - {service: many-2, at: 2026-03-10, quantity: 7, times: 3}
expected:
  kept: 4
"""


def read(tmp_path: Path, text: str) -> object:
    path = tmp_path / "case.yaml"
    path.write_text(text)
    return read_scenario(path).tables()


def test_short_forms_become_full_tables(tmp_path: Path) -> None:
    path = tmp_path / "case.yaml"
    path.write_text(GOOD)
    tables = read_scenario(path).tables()
    usage = tables.usage.to_pylist()
    assert len(usage) == 4
    assert usage[0]["event_start"] == datetime(2026, 3, 9, 23, 30)
    assert (usage[0]["quantity"], usage[0]["mcc"], usage[0]["mnc"]) == (1_500_000, "262", "01")
    assert len({row["dedup_key"] for row in usage}) == 4
    services = tables.reference["service"]["service_id"].to_pylist()
    assert services == ["S1", "many-1", "many-2"]
    states = [
        row for row in tables.reference["service_state"].to_pylist() if row["service_id"] == "S1"
    ]
    assert [(row["changed_at"], row["state"]) for row in states] == [
        (datetime(2026, 3, 2), "preactive"),
        (datetime(2026, 3, 3, 10), "active"),
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("period: 2026-03", "period: 2026-13", "case.yaml:3: period: '2026-13' is not a month"),
        ("period: 2026-03", "about: x", "give either period or periods"),
        ("service: S1,", "service: S9,", "usage[0].service: 'S9' is not defined here; known: S1"),
        ("1.5 MB", "1.5 parsec", "case.yaml:14: usage[0].quantity: unknown unit 'parsec'"),
        ("1.5 MB", "1.5", "1.5 is 1.5 class units; it must be a whole number"),
        ("product: data", "product: date", "catalog.offers[0].charges[0].product: unknown product"),
        ("{offer: basic, states", "{offer: basics, states", "services.S1.offers: 'basics' is not"),
        ("kept: 4", "keep: 4", "expected.keep: unknown key; did you mean 'kept'?"),
        ("service: S1,", "service: S1, class: fax,", "usage[0].class: 'fax' is not defined here"),
        ("2026-03-03 10:00", "2026-03-03T10:00Z", "drop the zone"),
        ("at: 2026-03-10, ", "at: noon, ", "'noon' is no time; write 2026-03-17"),
        ("{count: 2,", "{account: C7, count: 2,", "services.many.account: 'C7' is not defined"),
    ],
)
def test_errors_name_file_line_key_and_rule(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, GOOD.replace(old, new, 1))
    assert message in str(caught.value)
    assert "case.yaml:" in str(caught.value)


def test_a_catalog_folder_can_be_named(tmp_path: Path) -> None:
    start, _, rest = GOOD.partition("catalog:\n")
    _, _, rest = rest.partition("services:\n")
    (tmp_path / "terms").mkdir()
    source = ROOT / "configs" / "catalog"
    for file in source.glob("*.yaml"):
        (tmp_path / "terms" / file.name).write_text(file.read_text())
    text = f"{start}catalog_from: terms\nservices:\n{rest}".replace("basic", "payg")
    text = text.replace("preactive", "inventory")
    assert read(tmp_path, text)


def test_the_schema_accepts_what_the_reader_accepts() -> None:
    validator = jsonschema.Draft202012Validator(json.loads(scenario_schema()))
    files = sorted((ROOT / "tests" / "scenarios").glob("*.yaml"))
    for document in [parse_yaml(GOOD, Path("case.yaml")), *map(read_yaml, files)]:
        plain = json.loads(json.dumps(document.data, default=_plain))
        errors = [
            f"{document.path.name} {e.json_path}: {e.message}" for e in validator.iter_errors(plain)
        ]
        assert not errors
    wrong = json.loads(json.dumps(parse_yaml(GOOD, Path("case.yaml")).data, default=_plain))
    wrong["services"]["S1"]["ofer"] = "basic"
    assert list(validator.iter_errors(wrong))


def _plain(value: object) -> object:
    return float(value) if isinstance(value, Decimal) else str(value)


def test_the_published_schema_is_the_models() -> None:
    published = (ROOT / "docs" / "scenario.schema.json").read_text()
    assert published == scenario_schema(), (
        "write it anew: python -m iotbill_pipelines.config.scenarios > docs/scenario.schema.json"
    )
