"""Bitemporal reference data: loads by difference, history as known at T, snapshots, findings."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from iotbill_pipelines.compute.duckdb_engine import DuckDbCompute
from iotbill_pipelines.engine.schemas import CATALOG, REFERENCE
from iotbill_pipelines.storage import database, reference
from iotbill_pipelines.storage.reference import LoadResult, ReferenceDataError

T0 = datetime(2026, 10, 1, 8, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def session(postgres_url: str) -> Iterator[Session]:
    engine = database.connect(postgres_url)
    with Session(engine) as session:
        yield session
    engine.dispose()


def table(name: str, *rows: dict[str, Any]) -> pa.Table:
    schema = REFERENCE[name]
    return pa.Table.from_pylist(
        [{column: row.get(column) for column in schema.column_names} for row in rows],
        schema=schema.arrow_schema,
    )


def account(account_id: str, name: str = "Acme", **values: Any) -> dict[str, Any]:
    return {
        "account_id": account_id,
        "name": name,
        "kind": "customer",
        "entity_id": "NL01",
        "billing_zone": "Europe/Berlin",
        "currency": "EUR",
    } | values


def load(session: Session, name: str, known_at: datetime, *rows: Any, **options: Any) -> LoadResult:
    return reference.load(session, name, table(name, *rows), known_at, name + "s", **options)


def test_only_differences_are_written_and_history_stays(session: Session) -> None:
    a, b = account("A"), account("B", name='B "quoted", with\nnewline', customer_group="")
    assert load(session, "account", T0, a, b) == (2, 0, 0)
    assert load(session, "account", T0 + DAY, b, a) == (0, 0, 0)
    renamed = account("A", name="Acme SE")
    assert load(session, "account", T0 + 2 * DAY, renamed) == (0, 1, 0)

    def names(moment: datetime) -> list[str]:
        return reference.as_known_at(session, moment)["account"]["name"].to_pylist()

    assert names(T0 - DAY) == []
    assert names(T0 + DAY) == ["Acme", 'B "quoted", with\nnewline']
    assert names(T0 + 2 * DAY) == ["Acme SE", 'B "quoted", with\nnewline']
    known = reference.as_known_at(session, T0)["account"]
    assert known.schema == REFERENCE["account"].arrow_schema
    # the empty text and null stay apart
    assert known["customer_group"].to_pylist() == [None, ""]


def test_vanished_rows_are_closed_only_for_a_complete_feed_and_only_its_own(
    session: Session,
) -> None:
    load(session, "account", T0, account("A"), account("B"))
    reference.load(session, "account", table("account", account("C")), T0, "other_feed")
    assert load(session, "account", T0 + DAY, account("A")) == (0, 0, 0)
    assert load(session, "account", T0 + DAY, account("A"), complete=True) == (0, 0, 1)
    now = reference.as_known_at(session, T0 + DAY)["account"]
    assert now["account_id"].to_pylist() == ["A", "C"]
    # it comes back as a new row, not by reopening the old one
    assert load(session, "account", T0 + 2 * DAY, account("B")) == (1, 0, 0)
    assert reference.as_known_at(session, T0 + DAY)["account"].num_rows == 2


def test_two_loads_at_one_instant_and_a_clock_that_goes_back(session: Session) -> None:
    load(session, "account", T0, account("A", name="first"))
    assert load(session, "account", T0, account("A", name="second")) == (0, 1, 0)
    assert load(session, "account", T0 - DAY, account("A", name="third")) == (0, 1, 0)
    assert reference.as_known_at(session, T0)["account"]["name"].to_pylist() == ["third"]


def test_contradicting_rows_of_a_key_are_refused_equal_ones_taken_once(session: Session) -> None:
    assert load(session, "account", T0, account("A"), account("A")) == (1, 0, 0)
    with pytest.raises(ReferenceDataError, match=r"account_id=A.*keep one row a key"):
        load(session, "account", T0, account("A", name="x"), account("A", name="y"))
    with pytest.raises(ReferenceDataError, match=r"unknown reference table 'acount'.*account"):
        reference.load(session, "acount", pa.table({}), T0, "x")


def test_the_database_keeps_the_history(session: Session) -> None:
    load(session, "account", T0, account("A"))
    session.commit()
    for statement in (
        "delete from reference_account",
        "update reference_account set name = 'x'",
        "truncate reference_account",
        "update reference_account set known_from = now(), known_to = now()",
    ):
        with pytest.raises(sa.exc.DBAPIError, match=r"keeps its history|append-only"):
            session.execute(sa.text(statement))
        session.rollback()


def empty_catalog() -> dict[str, pa.Table]:
    return {name: schema.arrow_schema.empty_table() for name, schema in CATALOG.items()}


def test_equal_knowledge_is_one_snapshot(session: Session, tmp_path: Path) -> None:
    load(session, "account", T0, account("A"), account("B"))
    load(
        session,
        "service_state",
        T0,
        {
            "service_id": "S",
            "changed_at": datetime.fromisoformat("2026-10-01T07:30"),
            "state": "on",
        },
    )
    first = reference.take_snapshot(session, tmp_path, T0, empty_catalog())
    again = reference.take_snapshot(session, tmp_path, T0 + DAY, empty_catalog())
    assert first.id == again.id
    assert [path.name for path in (tmp_path / "snapshots").iterdir()] == [first.id]
    load(session, "account", T0 + 2 * DAY, account("A", name="renamed"))
    later = reference.take_snapshot(session, tmp_path, T0 + 2 * DAY, empty_catalog())
    assert later.id != first.id
    assert reference.take_snapshot(session, tmp_path, T0, empty_catalog()).id == first.id
    with DuckDbCompute() as compute:
        reference.load_snapshot(compute, reference.open_snapshot(session, tmp_path, first.id))
        rows = compute.fetch("select account_id, name from account order by 1").to_pylist()
        assert [row["name"] for row in rows] == ["Acme", "Acme"]
        assert compute.fetch("price_tier").num_rows == 0
        states = compute.fetch("service_state").to_pylist()
        assert states[0]["changed_at"] == datetime.fromisoformat("2026-10-01T07:30")
    with pytest.raises(ReferenceDataError, match="snapshot nope"):
        reference.open_snapshot(session, tmp_path, "nope")


def test_a_catalog_is_kept_when_its_content_changes(session: Session) -> None:
    first = reference.store_catalog(session, '{"b": 1, "a": [2, "é"]}', T0)
    assert reference.store_catalog(session, '{"a":[2,"é"],  "b":1}', T0 + DAY) == first
    assert reference.store_catalog(session, '{"a": []}', T0 + DAY) != first
    assert reference.store_catalog(session, '{"a": [2, "é"], "b": 1}', T0 + 2 * DAY) == first
    rows = session.execute(sa.text("select content from catalog_version order by version_no"))
    assert [row[0] for row in rows] == ['{"a":[2,"é"],"b":1}', '{"a":[]}', '{"a":[2,"é"],"b":1}']
