"""Vendor files: what they become, and what a mistake is told."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from iotbill_pipelines.config.documents import ConfigError
from iotbill_pipelines.config.vendors import read_vendors
from iotbill_pipelines.engine.calendars import Month

ROOT = Path(__file__).resolve().parents[2]

GOOD = """\
vendor: acme
name: Acme Mobile
currency: EUR
invoice_feed: acme_invoice
contact: {name: Acme Billing}
tolerance: {absolute: 0.02, percent: 0.5, invoice: 3.00}
tax_codes: [VAT]
account_fees:
  - {charge_code: PLATFORM, amount: 250.00}
conversions:
  - {currency: USD, rate: 0.9215}
dispute:
  deadline_days: 60
  columns: [invoice, {sim: ICCID}, charge_code, billed, expected, difference, cause]
plans:
  - {plan: IOT, version: "1", offer: acme_iot, valid_to: 2026-03-05}
  - {plan: IOT, version: "2", offer: acme_iot, valid_from: 2026-03-05}
"""


def read(folder: Path, text: str) -> ConfigError:
    (folder / "acme.yaml").write_text(text)
    with pytest.raises(ConfigError) as raised:
        read_vendors(folder)
    return raised.value


def test_a_vendor_becomes_terms_in_minor_units(tmp_path: Path) -> None:
    (tmp_path / "acme.yaml").write_text(GOOD)
    vendor = read_vendors(tmp_path)["acme"]
    terms = vendor.terms()
    assert (terms.tolerance_minor, terms.tolerance_ppm, terms.limit_minor) == (2, 5000, 300)
    assert terms.account_charges[0].amount_minor == 250_00
    assert str(terms.fx_rates[0].rate) == "0.9215"
    assert vendor.deadline(Month(2026, 10)) == date(2026, 12, 30)
    assert [(p.version, p.valid_from.year) for p in terms.plans] == [("1", 1970), ("2", 2026)]
    assert [c.title for c in vendor.dispute.columns][:3] == ["Invoice", "ICCID", "Charge code"]


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("currency: EUR", "currency: eur", 3, "should match pattern"),
        ("absolute: 0.02", "absolute: 0.025", 1, "tolerance.absolute: 0.025 EUR is not a whole"),
        ("{sim: ICCID}, ", "", 14, "columns must contain sim"),
        ("[invoice, {", "[invoice, invoice, {", 14, "listed twice"),
        ("deadline_days: 60", "deadline_days: 0", 13, "greater than or equal to 1"),
        ("cause]", "causes]", 14, "'causes' is not allowed"),
        (", valid_from: 2026-03-05", "", 15, "offer acme_iot is two plans on 1970-01-01"),
        ("valid_to: 2026-03-05", "valid_to: 1970-01-01", 15, "first day without it"),
        ('version: "1", offer', "versio: 1, offer", 16, "did you mean 'version'?"),
        ("tax_codes", "taxcodes", 7, "did you mean 'tax_codes'?"),
    ],
)
def test_a_mistake_names_file_line_and_rule(
    tmp_path: Path, old: str, new: str, line: int, says: str
) -> None:
    error = read(tmp_path, GOOD.replace(old, new))
    assert says in str(error)
    assert error.file == str(tmp_path / "acme.yaml")
    assert error.line == line


def test_two_files_about_one_vendor(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    assert "in another file too" in str(read(tmp_path, GOOD))


def test_the_shipped_vendors_are_read() -> None:
    assert sorted(read_vendors(ROOT / "configs" / "vendors")) == ["bics", "emnify", "telfix", "xl"]
