"""The workbook of a customer group: sums of its charges, the same bytes each time."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from openpyxl import load_workbook

from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.storage.group_workbook import GroupCharge, GroupDocument, write_group

NOW = datetime(2026, 11, 3, tzinfo=UTC)


def _charge(account: str, sim: str, product: str, minor: int, **more: str) -> GroupCharge:
    return GroupCharge(
        account_id=account[:2],
        account=account,
        invoice_no=f"INV-{account[:2]}",
        sim=sim,
        service_id=f"svc-{sim}" if sim else "",
        label="=label",
        product=product,
        kind=more.get("kind", "usage"),
        usage_period=more.get("usage_period", "2026-10"),
        quantity=7,
        amount_minor=minor,
    )


CHARGES = [
    _charge("Beta", "8931", "Data", 1_05),
    _charge("Beta", "8931", "Line", 2_00, kind="recurring"),
    _charge("Alpha", "8932", "Data", -30, usage_period="2026-09"),
    _charge("Alpha", "", "Pool", 4_00, kind="overage"),
]


def _document(**more: object) -> GroupDocument:
    return GroupDocument(
        "Group & Co", Month(2026, 10), "EUR", "Us B.V. (NL01)", date(2026, 11, 3), CHARGES, **more
    )  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "group.xlsx"


def test_stored_totals_are_those_of_the_charges(path: Path) -> None:
    write_group(path, _document(), NOW)

    values, formulas = load_workbook(path, data_only=True), load_workbook(path)

    summary = {row[0]: row for row in values["Summary"].iter_rows(values_only=True) if row[0]}
    assert summary["Data"][1:3] == (2, 0.75)
    assert summary["Total"][2] == 6.75
    assert summary["Alpha"][2] == 3.7
    assert values["Charges"]["I2"].value == 6.75
    assert values["SIMs"]["H2"].value == 2.75
    totals = [c.value for row in formulas["Summary"].iter_rows() for c in row if c.data_type == "f"]
    assert "=SUM(C9:C11)" in totals and all("Charges!" in t or "SUM(" in t for t in totals)
    assert formulas["Charges"]["I2"].value == "=SUBTOTAL(109,I4:I7)"


def test_pages_have_frozen_headers_filters_charts_and_no_formula_of_the_data(path: Path) -> None:
    write_group(path, _document(), NOW)

    book = load_workbook(path)

    for name in ("SIMs", "Charges"):
        assert book[name].freeze_panes == "B4"
        assert book[name].auto_filter.ref.startswith("A3:")
    assert len(book["Summary"]._charts) == 2
    assert book["SIMs"]["C4"].value == "'=label"


def test_changes_are_against_the_month_before(path: Path) -> None:
    before = {"Data": 1_50, "Gone": 2_00}
    write_group(path, _document(before_by_product=before, before_by_account={"Beta": 3_50}), NOW)

    rows = {
        row[0]: row
        for row in load_workbook(path, data_only=True)["Summary"].iter_rows(values_only=True)
        if row[0]
    }

    assert rows["Data"][2:6] == (0.75, 1.5, -0.75, -0.5)
    assert rows["Gone"][2:6] == (0, 2, -2, -1)
    assert rows["Pool"][3:6] == (0, 4, 0)


def test_the_same_charges_give_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    one, two = _document(), _document()
    object.__setattr__(two, "charges", CHARGES[::-1])

    digests = {write_group(tmp_path / f"{n}.xlsx", d, NOW) for n, d in enumerate((one, two))}

    assert len(digests) == 1
    assert sum(Decimal(c.amount_minor) for c in CHARGES) == 675
