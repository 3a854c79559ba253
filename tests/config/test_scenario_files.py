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
from iotbill_pipelines.operations.scenarios import ingested

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


DELIVERED = ROOT / "tests" / "scenarios" / "delivered"
FILES = f"""\
usage_files:
  - feed: {ROOT}/configs/feeds/bics_usage.yaml
    files: [day_1.csv, day_2.csv]
expected:
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("day_2.csv]", "day_3.csv]", "case.yaml:18: usage_files[0].files[1]: "),
        ("day_2.csv]", "day_3.csv]", "day_3.csv cannot be read: No such file or directory; name"),
        ("day_2.csv]", "day_1.csv]", "has the content of day_1.csv, and a file lands once"),
        ("day_2.csv]", "again.csv]", "usage_files[0].files[1]: has the content of day_1.csv"),
        ("bics_usage.yaml", "bics.yaml", "case.yaml:17: usage_files[0].feed: there is no file"),
        ("bics_usage.yaml", "inventory.yaml", "inventory fills service_identifier; a scenario"),
        ("expected:", "feeds: {bics_usage: {}}\nexpected:", "feeds.bics_usage: the policies of"),
        ("quantity: 7,", "quantity: 7, feed: bics_usage,", "usage[1].feed: the records of bics_us"),
        ("quantity: 7,", "quantity: 7, file: day_1.csv,", "usage[1].file: the records of day_1.c"),
        ("kept: 4", "files: {day.csv: {}}", "expected.files.day.csv: 'day.csv' is not defined"),
        ("basic}\n", "basic, identifiers: ['iccid:89320420000000100923']}\n", "write iccid:8932"),
    ],
)  # fmt: skip
def test_errors_about_files_name_the_scenarios_line(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    for name, day in (("day_1", 6), ("day_2", 7), ("again", 6)):
        content = (DELIVERED / f"bics_usage_2026030{day}.csv").read_bytes()
        (tmp_path / f"{name}.csv").write_bytes(content)
    good = GOOD.replace("expected:\n", FILES)
    assert old in good
    path = tmp_path / "case.yaml"
    path.write_text(good)
    assert ingested(read_scenario(path)).usage.num_rows == 5
    path.write_text(good.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        scenario = read_scenario(path)
        scenario.tables(ingested(scenario))
    assert message in str(caught.value)
    assert "case.yaml:" in str(caught.value)


def test_files_that_were_not_read_are_not_left_out(tmp_path: Path) -> None:
    path = tmp_path / "case.yaml"
    path.write_text(GOOD.replace("expected:\n", FILES))
    with pytest.raises(ValueError, match="ingested first"):
        read_scenario(path).tables()


def test_the_newest_version_of_a_restating_feed_is_told_by_its_name(tmp_path: Path) -> None:
    feed = (ROOT / "configs" / "feeds" / "bics_usage.yaml").read_text()
    key = "dedup:\n"
    restating = f"{key}  restating: true\n  version: 'day_([0-9]+)'\n"
    (tmp_path / "feed.yaml").write_text(feed.replace(key, restating))
    for name, day in (("day_2", 6), ("day_1", 7)):
        content = (DELIVERED / f"bics_usage_2026030{day}.csv").read_bytes()
        (tmp_path / f"{name}.csv").write_bytes(content)
    path = tmp_path / "case.yaml"
    files = FILES.replace(f"{ROOT}/configs/feeds/bics_usage.yaml", "feed.yaml")
    path.write_text(
        GOOD.replace("expected:\n", files.replace("[day_1.csv, day_2", "[day_2.csv, day_1"))
    )
    scenario = read_scenario(path)
    policies = scenario.tables(ingested(scenario)).policies
    names = scenario.file_names()
    assert {
        names[row["file_key"]]: row["version_no"] for row in policies.file_version.to_pylist()
    } == {"day_1.csv": 1, "day_2.csv": 2}
    assert policies.feed_policy["restating"].to_pylist() == [True]


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
