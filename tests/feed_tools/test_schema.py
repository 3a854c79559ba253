"""docs/feed.schema.json: what editors complete; in step with the terms."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from iotbill_pipelines.config.documents import parse_yaml, read_yaml
from iotbill_pipelines.config.feed_schema import feed_schema
from iotbill_pipelines.engine.feeds.functions import FUNCTIONS
from tests.conftest import ROOT
from tests.feeds.harness import CSV_FEED

FEEDS = sorted((ROOT / "configs" / "feeds").glob("*.yaml"))


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return json.loads(feed_schema())


def data(document: Any) -> Any:
    if isinstance(document, dict):
        return {key: data(value) for key, value in document.items()}
    if isinstance(document, list):
        return [data(value) for value in document]
    return float(document) if isinstance(document, Decimal) else document


def accepts(schema: dict[str, Any], text: str) -> bool:
    document = parse_yaml(text, Path("x.yaml"))
    return jsonschema.Draft202012Validator(schema).is_valid(data(document.data))


def test_the_file_is_what_the_terms_say() -> None:
    """Write it again: python -m iotbill_pipelines.config.feed_schema > docs/feed.schema.json"""
    assert (ROOT / "docs" / "feed.schema.json").read_text() == feed_schema()


def test_every_key_is_explained(schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)
    bare = []

    def walk(node: Any, path: str) -> None:
        if isinstance(node, dict):
            for key, value in node.get("properties", {}).items():
                explained = isinstance(value, dict) and value.get("description")
                if not explained and "/if" not in path and "/then" not in path:
                    bare.append(f"{path}.{key}")
            for key, value in node.items():
                walk(value, f"{path}/{key}")
        elif isinstance(node, list):
            for number, value in enumerate(node):
                walk(value, f"{path}[{number}]")

    walk(schema, "")
    assert bare == []
    assert "``" not in json.dumps(schema) and ":class:" not in json.dumps(schema)


@pytest.mark.parametrize("path", FEEDS, ids=lambda path: path.stem)
def test_every_feed_that_ships_names_the_schema_and_keeps_it(
    schema: dict[str, Any], path: Path
) -> None:
    first = path.read_text().splitlines()[0]
    named = first.removeprefix("# yaml-language-server: $schema=")
    assert (path.parent / named).resolve() == ROOT / "docs" / "feed.schema.json"
    jsonschema.Draft202012Validator(schema).validate(data(read_yaml(path).data))


@pytest.mark.parametrize(
    ("change", "by"),
    [
        ("zone: UTC", "zon: UTC"),
        ("target: usage_record", "target: usage"),
        ("type: delimited", "type: csv"),
        ("uid_type: {value: imsi}", "uid_kind: {value: imsi}"),
        ("[trim, imsi]", "[trim, imzi]"),
        ("[trim, imsi]", "[{iccid: {luhn: always}}]"),
        ("[trim, imsi]", "[{trim: {}, imsi: {}}]"),
        ("dedup:", "duplicates:"),
        ("  quantity: {from: bytes, steps: [trim, integer]}\n", ""),
    ],
)
def test_what_cannot_load_is_marked(schema: dict[str, Any], change: str, by: str) -> None:
    assert change in CSV_FEED
    assert accepts(schema, CSV_FEED)
    assert not accepts(schema, CSV_FEED.replace(change, by))


@pytest.mark.parametrize(
    "line",
    [
        "apn: apn",
        "apn: {from: [apn, network]}",
        "apn: {value: 7}",
        "apn: {from: a, steps: [iccid@1, {pad: {length: 3, with: x}}]}",
        "apn: {choose: [{when: {field: a, in: [1, b]}, from: a}, {value: none}]}",
        "apn: {choose: [{when: {not: {any: [{field: a, empty: true}]}}, from: a}]}",
    ],
)
def test_short_forms_are_known(schema: dict[str, Any], line: str) -> None:
    assert accepts(schema, CSV_FEED.replace("fields:\n", f"fields:\n  {line}\n"))


def test_every_function_can_be_completed(schema: dict[str, Any]) -> None:
    step = json.dumps(schema["$defs"]["Step"])
    assert all(f'"{name}@{version}"' in step for name, version in FUNCTIONS)
