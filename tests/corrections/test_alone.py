"""Accounts corrected by themselves: the same rows as by settling the whole month again."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from iotbill_pipelines.operations import corrections
from iotbill_pipelines.operations.corrections import Selection, correct_period
from iotbill_pipelines.operations.explaining import explain
from iotbill_pipelines.operations.trace import trace
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage import reference
from tests import months
from tests.conftest import ROOT
from tests.months import PERIOD
from tests.shelf import Shelf

EVERYTHING = Selection()
OWN = ("id", "entry_no", "level", "account_id", "service_id", "charge_id", "usage_period",
       "billing_period", "accounting_period", "records", "quantity", "amount_minor", "reason",
       "cause", "price_ids")  # fmt: skip


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory, shelf: Shelf) -> Iterator[list[Workspace]]:
    """The same booked October twice, with configurations of their own."""
    found = []
    for name in ("alone", "whole"):
        folder = tmp_path_factory.mktemp("corrections") / name
        url = shelf.copy(months.BOOKED, folder)
        shutil.copytree(ROOT / "configs", folder / "configs")
        found.append(months.opened(folder, url, folder / "configs"))
    yield found
    for ws in found:
        ws.close()


def change(twins: list[Workspace], old: str, new: str) -> None:
    for ws in twins:
        path = ws.configs / "catalog" / "retail.yaml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))


def correct(ws: Workspace, run_id: str, selection: Selection) -> list[tuple[Any, ...]]:
    """Correct October under a run and return what that booked."""
    result = correct_period(replace(ws, run_id=run_id), PERIOD, selection)
    with ws.engine.connect() as connection:
        found = connection.execute(
            sa.text(f"select {', '.join(OWN)} from booked_charge where run_id = :run order by id"),
            {"run": run_id},
        )
        rows = [tuple(row) for row in found]
    assert len(rows) == result.rows["rows booked"]
    return rows


def both(
    twins: list[Workspace],
    monkeypatch: pytest.MonkeyPatch,
    run_id: str,
    selection: Selection = EVERYTHING,
) -> list[tuple[Any, ...]]:
    """Correct one alone and the other whole; return what was booked, which is the same."""
    mine, other = twins
    settled = corrections.settled_details(mine)[PERIOD]
    rows = correct(mine, run_id, selection)
    assert corrections.settled_details(mine)[PERIOD] == settled  # the lake is as it was
    with monkeypatch.context() as patched:
        patched.setattr(corrections, "correct_alone", lambda *_: None)
        assert correct(other, run_id, selection) == rows
    return rows


def test_all_that_a_price_concerns(twins: list[Workspace], monkeypatch: pytest.MonkeyPatch) -> None:
    change(
        twins,
        "prices: [{rate: 0.060}]",  # of fleet_sms: another price from the 20th on
        "prices: [{rate: 0.061, valid_to: 2026-10-20},"
        " {rate: 0.3, valid_from: 2026-10-20, id: dearer}]",
    )
    change(twins, "- {rate: 2.40}", "- {rate: 3.40}")
    rows = both(twins, monkeypatch, "price")
    assert {row[3] for row in rows} == {"C0002"}
    assert any("dearer" in row[-1] for row in rows)
    assert explain(twins[0], rows[0][0]).agrees
    traced = [trace(ws, str(rows[0][0])).charges[0] for ws in twins]
    assert traced[0].components == traced[1].components
    assert traced[0].records == traced[1].records
    assert corrections.plan(twins[0], PERIOD).touched == []
    assert corrections.proposal(twins[0]) is None
    assert correct(twins[0], "price again", EVERYTHING) == []


def test_an_account_whose_sims_were_others(
    twins: list[Workspace], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two SIMs of C0004 were C0001's all month, in truth; each is told what that comes to."""
    for ws in twins:
        with Session(ws.engine) as session, session.begin():
            offers = reference.as_known_at(session, ws.clock(), ["service_offer"])["service_offer"]
            moved = [
                row | {"payer_account_id": "C0001"}
                for row in offers.to_pylist()
                if row["level"] == "retail" and row["payer_account_id"] == "C0004"
            ][:2]
            rows = pa.Table.from_pylist(moved, schema=offers.schema)
            reference.load(session, "service_offer", rows, ws.clock(), "test")
    lost = both(twins, monkeypatch, "lost", Selection(account="C0004"))
    won = both(twins, monkeypatch, "won", Selection(account="C0001"))
    assert {row[3] for row in lost} == {"C0004"} and {row[3] for row in won} == {"C0001"}
    assert sum(row[-4] for row in lost) < 0 < sum(row[-4] for row in won)
