"""Every booked charge of a month explained: the arithmetic ends at the amount that is booked."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from iotbill_pipelines.cli import explaining as command
from iotbill_pipelines.operations.explaining import explain, explain_period
from iotbill_pipelines.operations.trace import UnknownId
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage.models import BookedCharge
from tests.months import PERIOD


def test_every_charge_of_a_month_is_explained_to_the_cent(booked: Workspace) -> None:
    found = explain_period(booked, PERIOD)
    with Session(booked.engine) as session:
        rows = session.scalars(
            sa.select(BookedCharge).where(BookedCharge.usage_period == str(PERIOD))
        ).all()
    assert len(found) == len(rows)
    apart = [(e.unit, e.booked_amount, e.explained_amount) for e in found if not e.agrees]
    assert not apart
    by_level = {row.level: Decimal(0) for row in rows}
    for explanation in found:
        assert explanation.explained_amount is not None
        by_level[explanation.unit.level] += explanation.explained_amount
    assert by_level == {
        level: sum(row.amount for row in rows if row.level == level) for level in by_level
    }


def test_the_month_has_charges_of_every_kind(booked: Workspace) -> None:
    """So that the test above covers pools, proration, tiers, increments and transitions."""
    with booked.engine.connect() as connection:
        kinds = Counter(connection.execute(sa.select(BookedCharge.kind)).scalars())
    assert min(kinds[kind] for kind in ("usage", "recurring", "transition", "overage")) > 0


def test_the_words_name_what_the_amount_follows_from(booked: Workspace) -> None:
    told = {
        kind: " / ".join(f"{step.text} {step.amount}" for step in explain(booked, number).steps)
        for kind, number in _one_of_each(booked).items()
    }
    for kind, words in {
        "usage": ("records of together", "price", "rounded once, half up"),
        "recurring": ("days of 2026-10 are billed", "/31", "from 2026-10-"),
        "transition": ("changed from", "never prorated"),
        "overage": ("contributing services", "overage", "weight", "largest remainder"),
    }.items():
        assert all(word in told[kind] for word in words), told[kind]


def _one_of_each(ws: Workspace) -> dict[str, int]:
    select = sa.select(BookedCharge.kind, sa.func.min(BookedCharge.id)).where(
        BookedCharge.amount_minor > 0
    )
    with ws.engine.connect() as connection:
        rows = connection.execute(select.group_by("kind")).all()
    return {str(row[0]): int(row[1]) for row in rows}


def test_a_ledger_that_holds_more_than_follows_is_told(
    booked: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    number = _one_of_each(booked)["usage"]
    monkeypatch.setattr("iotbill_pipelines.cli.console.opened", lambda _: _Opened(booked))
    assert command.explain(SimpleNamespace(), number, as_json=False) == 0  # type: ignore[arg-type]
    assert "exactly what is booked" in capsys.readouterr().out
    _book_again(booked, number, minor=1)
    assert not explain(booked, number).agrees
    assert command.explain(SimpleNamespace(), number, as_json=False) == 1  # type: ignore[arg-type]
    assert "-0.01 apart" in capsys.readouterr().out
    _book_again(booked, number, minor=-1)
    explained = explain(booked, number)
    assert explained.agrees
    assert [row.reason for row in explained.booked] == ["initial", "adjustment", "adjustment"]


class _Opened:
    def __init__(self, ws: Workspace) -> None:
        self.ws = ws

    def __enter__(self) -> Workspace:
        return self.ws

    def __exit__(self, *error: object) -> None:
        pass


def _book_again(ws: Workspace, number: int, minor: int) -> None:
    """Book a difference by hand, as no close would."""
    with Session(ws.engine) as session, session.begin():
        row = session.get_one(BookedCharge, number)
        newest: Any = session.execute(
            sa.select(
                sa.select(sa.func.max(BookedCharge.id)).scalar_subquery(),
                sa.select(sa.func.max(BookedCharge.entry_no))
                .where(
                    BookedCharge.service_id == row.service_id,
                    BookedCharge.charge_id == row.charge_id,
                )
                .scalar_subquery(),
            )
        ).one()
        copied: dict[str, Any] = {
            column.key: getattr(row, column.key)
            for column in sa.inspect(BookedCharge).column_attrs
            if column.key not in ("id", "entry_no", "amount", "amount_minor", "reason")
        }
        copied |= {"records": 0, "quantity": 0, "reason": "adjustment", "amount_minor": minor}
        numbers = {"id": newest[0] + 1, "entry_no": newest[1] + 1}
        session.add(BookedCharge(**numbers, **copied))


def test_a_number_that_nothing_has_is_said(booked: Workspace) -> None:
    with pytest.raises(UnknownId, match="99999999 is no booked charge"):
        explain(booked, 99999999)
