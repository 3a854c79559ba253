"""The catalog's files: what loads, what its digest depends on, and every message of a mistake."""

from __future__ import annotations

import shutil
from decimal import Decimal
from pathlib import Path

import pytest

from iotbill_pipelines.config.catalog import canonical_json, read_catalog
from iotbill_pipelines.config.documents import ConfigError
from iotbill_pipelines.engine.terms import Catalog, compile_catalog

ROOT = Path(__file__).resolve().parents[2]
BAD = ROOT / "tests" / "bad_configs" / "catalog"
BASE = BAD / "base.yaml"


def read_with(folder: Path, extra: str, base: str | None = None) -> str:
    """Read a catalog of two files and return its digest."""
    (folder / "a.yaml").write_text(base or BASE.read_text())
    (folder / "b.yaml").write_text(extra)
    return read_catalog(folder).digest


@pytest.mark.parametrize(
    "bad", sorted(set(BAD.glob("*.yaml")) - {BASE}), ids=lambda path: path.stem
)
def test_every_mistake_is_told_with_file_line_key_and_remedy(bad: Path, tmp_path: Path) -> None:
    shutil.copy(BASE, tmp_path)
    shutil.copy(bad, tmp_path)
    message, line = (text.removeprefix("# ") for text in bad.read_text().splitlines()[:2])
    with pytest.raises(ConfigError) as raised:
        read_catalog(tmp_path)
    assert str(raised.value) == f"{tmp_path / bad.name}:{line.removeprefix('line ')}: {message}"


def test_several_mistakes_are_told_together_in_the_order_of_the_files(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(BASE.read_text().replace("currency: EUR", "currency: eur"))
    (tmp_path / "b.yaml").write_text(
        "offers:\n  - {id: base, name: B, currency: EUR, charges: []}\n"
    )
    with pytest.raises(ConfigError) as raised:
        read_catalog(tmp_path)
    assert [(Path(p.file).name, p.line) for p in raised.value.problems] == [
        ("a.yaml", 19),
        ("b.yaml", 2),
    ]


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no \*\.yaml file here"):
        read_catalog(tmp_path)


def test_a_missing_top_level_key_names_the_folder(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("products: []\n")
    with pytest.raises(ConfigError) as raised:
        read_catalog(tmp_path)
    assert {(p.file, p.key) for p in raised.value.problems} >= {(str(tmp_path), ("offers",))}


SECOND = """
offers:
  - id: another
    name: Another
    currency: EUR
    charges:
      - {id: another_data, product: data, kind: usage, prices: [{rate: %s}]}
"""


def test_the_digest_knows_terms_and_not_how_they_are_written(tmp_path: Path) -> None:
    first, second, third, other = (tmp_path / name for name in "abcd")
    for folder in (first, second, third, other):
        folder.mkdir()
    digest = read_with(first, SECOND % "0.07")
    assert read_with(second, SECOND % '"0.0700"') == digest
    assert read_with(third, BASE.read_text(), base=SECOND % "0.07") == digest
    assert read_with(other, SECOND % "0.071") != digest


def test_the_canonical_json_reads_back_as_the_same_catalog(tmp_path: Path) -> None:
    shutil.copy(BASE, tmp_path)
    source = read_catalog(tmp_path)
    again = Catalog.model_validate_json(source.json)
    assert again == source.catalog
    assert canonical_json(again) == source.json


def test_decimals_are_read_exactly(tmp_path: Path) -> None:
    read_with(tmp_path, SECOND % "0.1")
    offer = read_catalog(tmp_path).catalog.offers[-1]
    assert offer.charges[0].prices[0].rate == Decimal("0.1")


@pytest.mark.parametrize("folder", ["catalog", "examples/helium/catalog"])
def test_the_catalogs_of_this_repository_load(folder: str) -> None:
    tables = compile_catalog(read_catalog(ROOT / "configs" / folder).catalog)
    assert {row["level"] for row in tables["offer"].to_pylist()} == {"retail", "vendor"}


def test_the_sample_catalog_shows_every_way_of_pricing() -> None:
    catalog = read_catalog(ROOT / "configs" / "catalog").catalog
    retail = [offer for offer in catalog.offers if offer.level == "retail"]
    models = {p.model for offer in retail for charge in offer.charges for p in charge.prices}
    assert models >= {"flat", "graduated", "volume", "package"}
    assert any(charge.pooled for offer in retail for charge in offer.charges)
    assert any(charge.kind == "transition" for offer in retail for charge in offer.charges)
