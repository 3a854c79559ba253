"""A month under another catalog: what differs and why, nothing written, and true once closed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy as sa
from openpyxl import load_workbook

from iotbill_pipelines.engine.schemas import TABLES
from iotbill_pipelines.operations.whatif import WhatIf, whatif, write_comparison
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage.models import Base, BookedCharge
from tests.conftest import ROOT
from tests.months import PERIOD, close

CHANGES = (
    ("{rate: 0.052, zone: eu", "{rate: 0.062, zone: eu"),  # price
    ("{up_to: 10, rate: 0.080}", "{up_to: 12, rate: 0.080}"),  # tier
    ("allowance: 10 ", "allowance: 5 "),
    ("contribution: 15 ", "contribution: 12 "),  # pool
    ("{rate: 1.20}", "{rate: 1.30}"),  # recurring
)


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration folder whose catalog differs in everything that causes are told of."""
    configs = tmp_path_factory.mktemp("changed") / "configs"
    shutil.copytree(ROOT / "configs", configs)
    file = configs / "catalog" / "retail.yaml"
    text = file.read_text()
    for old, new in CHANGES:
        assert old in text, old
        text = text.replace(old, new)
    file.write_text(text)
    return configs


def _everything_stored(ws: Workspace) -> dict[str, object]:
    with ws.engine.connect() as connection:
        rows: dict[str, object] = {
            name: connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
            for name, table in Base.metadata.tables.items()
        }
    files = {name: ws.lake.files(table) for name, table in TABLES.items() if table.partition_by}
    return rows | files


@pytest.fixture(scope="module")
def found(booked: Workspace, changed: Path) -> WhatIf:
    before = _everything_stored(booked)
    result = whatif(booked, changed / "catalog", PERIOD)
    assert _everything_stored(booked) == before, "what if writes neither to ledger nor to lake"
    return result


def _booked(ws: Workspace) -> dict[str, Decimal]:
    select = sa.select(BookedCharge.level, sa.func.sum(BookedCharge.amount)).where(
        BookedCharge.usage_period == str(PERIOD)
    )
    with ws.engine.connect() as connection:
        return {str(row[0]): row[1] for row in connection.execute(select.group_by("level"))}


def test_what_is_compared_with_is_what_was_booked(booked: Workspace, found: WhatIf) -> None:
    assert {level: before for level, _, before, _ in found.totals} == _booked(booked)


def test_causes_add_up_to_every_difference(found: WhatIf) -> None:
    assert found.changes
    for change in found.changes:
        assert sum(change.causes.values()) == change.difference, change
    for level, currency, before, after in found.totals:
        assert after - before == sum(
            c.difference for c in found.changes if (c.level, c.currency) == (level, currency)
        )
    told = {cause for change in found.changes for cause in change.causes}
    assert told == {"price", "tier", "allowance", "pool", "recurring"}
    assert not found.not_separated
    assert {c.level for c in found.changes} == {"retail"}, "no vendor price was changed"


def test_each_cause_stands_at_its_product(found: WhatIf) -> None:
    by_product: dict[str, set[str]] = {}
    for change in found.changes:
        by_product.setdefault(change.product_id, set()).update(change.causes)
    assert by_product["subscription"] == {"recurring"}
    assert by_product["pool_overage"] == {"pool"}
    assert by_product["sms"] == {"allowance"}
    assert by_product["data"] == {"price", "tier"}


def test_the_same_catalog_differs_in_nothing(booked: Workspace) -> None:
    same = whatif(booked, booked.configs / "catalog", PERIOD)
    assert (same.changes, same.suspense) == ([], [])
    assert same.before_digest == same.after_digest


def test_one_account_is_a_part_of_all(booked: Workspace, changed: Path, found: WhatIf) -> None:
    account = found.changes[0].account_id
    one = whatif(booked, changed / "catalog", PERIOD, account)
    assert one.changes == [c for c in found.changes if c.account_id == account]
    with pytest.raises(LookupError, match="no account 'nobody'; known are"):
        whatif(booked, changed / "catalog", PERIOD, "nobody")


def test_a_price_that_is_missing_shows_as_suspense(booked: Workspace, tmp_path: Path) -> None:
    folder = tmp_path / "catalog"
    shutil.copytree(ROOT / "configs" / "catalog", folder)
    file = folder / "retail.yaml"
    text = file.read_text().replace("{rate: 0.350} ", "{rate: 0.350, valid_from: 2026-11-01} ")
    file.write_text(text)
    (lost,) = whatif(booked, folder, PERIOD).suspense
    assert (lost.reason_code, lost.before) == ("no_rate", 0)
    assert lost.after > 0


def test_the_workbook_adds_up(booked: Workspace, found: WhatIf, tmp_path: Path) -> None:
    book = load_workbook(write_comparison(booked, found, tmp_path / "whatif.xlsx"))
    assert book.sheetnames == ["Differences", "Causes", "Totals"]
    rows = list(book["Causes"].iter_rows(values_only=True))
    head = next(n for n, row in enumerate(rows) if row[0] == "level")
    amounts = [Decimal(str(row[5])) for row in rows[head + 1 :]]
    assert sum(amounts) == sum(change.difference for change in found.changes)


def test_closing_with_the_changed_catalog_books_what_was_foretold(
    booked: Workspace, changed: Path, found: WhatIf
) -> None:
    close(replace(booked, configs=changed).for_run("another-catalog"))
    assert _booked(booked) == {level: after for level, _, _, after in found.totals}
