"""JSON Schemas of sources and alerts: in step with the terms, known to the files that ship."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from iotbill_pipelines.config.alerts import alert_schema
from iotbill_pipelines.config.sources import source_schema

ROOT = Path(__file__).resolve().parents[2]
SCHEMAS = {"source.schema.json": source_schema, "alerts.schema.json": alert_schema}
FILES = [
    ("alerts.schema.json", ROOT / "configs/alerts.yaml"),
    *(("source.schema.json", path) for path in sorted(ROOT.glob("configs/examples/sources/*"))),
]


@pytest.mark.parametrize("name", list(SCHEMAS))
def test_the_published_schema_is_the_one_of_the_terms(name: str) -> None:
    assert (ROOT / "docs" / name).read_text() == SCHEMAS[name](), "write it anew, see its function"


def _undescribed(node: Any) -> list[str]:
    found = []
    if isinstance(node, dict):
        for key, value in node.get("properties", {}).items():
            found += [] if value.get("description") else [key]
        for value in node.values():
            found += _undescribed(value)
    return found


@pytest.mark.parametrize("name", list(SCHEMAS))
def test_every_key_is_explained(name: str) -> None:
    assert _undescribed(json.loads(SCHEMAS[name]())) == []


@pytest.mark.parametrize(("name", "file"), FILES, ids=lambda value: Path(value).stem)
def test_files_name_their_schema_and_keep_it(name: str, file: Path) -> None:
    first = file.read_text().splitlines()[0]
    named = first.partition("$schema=")[2]
    assert (file.parent / named).resolve() == ROOT / "docs" / name
    read = json.loads(json.dumps(yaml.safe_load(file.read_text()), default=str))
    jsonschema.Draft202012Validator(json.loads(SCHEMAS[name]())).validate(read)
    wrong = {**read, "ownrs": []}
    with pytest.raises(jsonschema.ValidationError, match="ownrs"):
        jsonschema.Draft202012Validator(json.loads(SCHEMAS[name]())).validate(wrong)
