"""``configs/tax``: the example loads, and mistakes name file, line and rule."""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path

import pytest

from iotbill_pipelines.config.documents import ConfigError
from iotbill_pipelines.config.tax import read_tax
from tests.conftest import ROOT

EXAMPLES = ROOT / "configs" / "examples"


def test_the_sample_charges_no_tax_and_the_example_shows_everything() -> None:
    assert read_tax(ROOT / "configs").mode == "none"
    terms = read_tax(EXAMPLES)
    facts = terms.customer("C0002", "fleet", date(2026, 10, 31))
    assert facts is not None
    assert facts.vat_id == "DE136695976"
    everybody = terms.customer("C0009", "fleet", date(2026, 10, 31))
    assert everybody is not None
    assert everybody.account == "*"
    grouped = terms.customer("C0009", "enterprise", date(2026, 10, 31))
    assert grouped is not None
    assert grouped.country == "DE"


@pytest.fixture
def configs(tmp_path: Path) -> Path:
    shutil.copytree(EXAMPLES / "tax", tmp_path / "tax")
    return tmp_path


BROKEN = [
    ("jurisdictions: [US-WA-KING]", "jurisdictions: [US-WA-KNG]", "'US-WA-KNG' is not in jurisd"),
    (
        "valid_to: 2020-07-01}",
        "valid_to: 2020-07-02}",
        "rates of DE/standard/VAT overlap",
    ),
    ("vat_id: DE136695976", "vat_id: DE136695975", "'DE136695975' is no VAT id of an EU country"),
    ('{account: "*",', '{account: "C0002",', "'C0002' has other facts for some of the same days"),
    ("mode: table", "mode: tables", "use 'none' or 'table'"),
    ("parent: US-WA}", "parent: US-WAA}", "lies in unknown 'US-WAA'"),
]


@pytest.mark.parametrize(("old", "new", "said"), BROKEN)
def test_mistakes_name_the_line(configs: Path, old: str, new: str, said: str) -> None:
    file = configs / "tax" / "tax.yaml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError, match=said) as caught:
        read_tax(configs)
    assert caught.value.file == str(file)
    assert caught.value.line > 0


def test_long_lists_stand_beside_it_as_tables(configs: Path) -> None:
    (configs / "tax" / "rates_us.csv").write_text(
        "jurisdiction,tax_code,tax,rate,valid_from,valid_to\n"
        "US-WA,hardware,state sales,0.065,2026-01-01,\n"
    )
    (configs / "tax" / "customers.csv").write_text(
        "account,country,jurisdictions\nC0100,US,US-WA US\n"
    )
    (configs / "tax" / "services.csv").write_text("service,primary_use\nS9,US-WA-KING\n")
    terms = read_tax(configs)
    assert terms.rates[-1].valid_from == date(2026, 1, 1)
    assert terms.customers[-1].jurisdictions == ("US-WA", "US")
    assert terms.services[-1].primary_use == ("US-WA-KING",)
    (configs / "tax" / "services.csv").write_text("service,prim_use\nS9,US\n")
    with pytest.raises(ConfigError, match="the first line names the columns service,primary_use"):
        read_tax(configs)
    (configs / "tax" / "services.csv").unlink()
    (configs / "tax" / "rates_us.csv").write_text("jurisdiction,tax_code,tax,rate\nUS,x,y,a lot\n")
    with pytest.raises(ConfigError, match="'a lot' was given") as caught:
        read_tax(configs)
    assert caught.value.line == 2
