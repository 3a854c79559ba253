"""The catalog's JSON Schema: in step with the terms, true of the files, known to editors."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from iotbill_pipelines.config.catalog import catalog_schema

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "configs" / "catalog").glob("*.yaml"))


def test_the_published_schema_is_the_one_of_the_terms() -> None:
    published = (ROOT / "docs" / "catalog.schema.json").read_text()
    assert published == catalog_schema(), (
        "write it anew: python -m iotbill_pipelines.config.catalog > docs/catalog.schema.json"
    )


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_file_fits_the_schema_and_names_it(file: Path) -> None:
    first = file.read_text().splitlines()[0]
    _, _, named = first.partition("yaml-language-server: $schema=")
    assert (file.parent / named).resolve() == ROOT / "docs" / "catalog.schema.json"
    read = json.loads(json.dumps(yaml.safe_load(file.read_text()), default=str))
    validator = jsonschema.Draft202012Validator(json.loads(catalog_schema()))
    assert not list(validator.iter_errors(read))


def test_a_misspelt_key_is_told_to_the_editor() -> None:
    wrong = {"products": [{"id": "data", "nam": "Data"}]}
    validator = jsonschema.Draft202012Validator(json.loads(catalog_schema()))
    told = " ".join(error.message for error in validator.iter_errors(wrong))
    assert "'nam' was unexpected" in told
    assert "'name' is a required property" in told
