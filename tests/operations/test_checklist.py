"""Items of the checklist that compare: accounts that stand out, and SIMs counted three ways."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pyarrow as pa
import pytest
from sqlalchemy.orm import Session

from iotbill_pipelines.compute.duckdb_engine import DuckDbCompute
from iotbill_pipelines.engine.schemas import RECONCILIATION_LINE, REFERENCE
from iotbill_pipelines.operations import runs
from iotbill_pipelines.operations.checklist import compare_sim_counts, review_drafts
from iotbill_pipelines.operations.close import stage_named
from iotbill_pipelines.operations.stages import Finding, StageResult
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage import reference
from iotbill_pipelines.storage.lake import Lake
from tests.conftest import ROOT
from tests.storage.books import NOVEMBER, NOW, OCTOBER, Books, Charge


@pytest.fixture
def books(postgres_url: str) -> Iterator[Books]:
    books = Books(postgres_url)
    yield books
    books.engine.dispose()


def workspace(books: Books, configs: Path, lake: Lake | None = None) -> Workspace:
    found = SimpleNamespace(
        configs=configs,
        catalog_digest=None,
        engine=books.engine,
        clock=lambda: NOW,
        run_id="run",
        lake=lake,
        compute=DuckDbCompute,
    )
    return cast(Workspace, found)


def drafts(books: Books, configs: Path = ROOT / "configs") -> list[Finding]:
    with Session(books.engine) as session:
        return review_drafts(workspace(books, configs), session, NOVEMBER)[1]


def test_accounts_that_change_much_are_named_before_they_are_invoiced(
    books: Books, tmp_path: Path
) -> None:
    october = [("A", 20_000), ("B", 20_000), ("C", 100), ("E", 50_000)]
    books.book(*(Charge(f"S{a}", minor, account_id=a) for a, minor in october))
    november = Charge(usage_period="2026-11", billing_period="2026-11")
    told = [("A", 30_000), ("B", 30_001), ("C", 9_000), ("D", 90_000)]  # E is billed nothing more
    books.book(
        *(november.but(service_id=f"S{a}", account_id=a, amount_minor=minor) for a, minor in told),
        period=NOVEMBER,
        scope=("2026-11",),
    )
    (found,) = drafts(books)
    assert (found.severity, found.figure) == ("warn", "2 accounts")
    assert "2 of 4 accounts" in found.message
    assert found.message.endswith("E EUR 500.00 -> 0.00; B EUR 200.00 -> 300.01")
    (tmp_path / "close.yaml").write_text("draft_review: {percent: 10, at_least: 0, verdict: block}")
    (found,) = drafts(books, tmp_path)
    assert (found.severity, found.figure) == ("block", "4 accounts")
    (tmp_path / "close.yaml").write_text("draft_review: {percent: 9000, at_least: 600.00}")
    assert drafts(books, tmp_path) == []


def test_sims_of_inventory_vendors_and_charges_are_counted_apart(
    books: Books, tmp_path: Path
) -> None:
    states = [("S1", "active"), ("S2", "inventory"), ("S3", "active")]
    with Session(books.engine) as session, session.begin():
        rows = [
            {"service_id": service, "changed_at": datetime(2026, 9, 1), "state": state}  # noqa: DTZ001
            for service, state in states
        ]
        table = pa.Table.from_pylist(rows, schema=REFERENCE["service_state"].arrow_schema)
        reference.load(session, "service_state", table, NOW, "test")
    ws = workspace(books, ROOT / "configs", Lake(str(tmp_path)))
    books.book(Charge("S1", 100), Charge("S2", 100), Charge("S9", 100), Charge("S3", 0, records=0))
    counts, found = compare_sim_counts(ws, OCTOBER)
    assert counts == {"SIMs in use": 2, "SIMs charged": 3}
    assert "1 charged without being in use: S2" in found[0].message  # of S9 nobody said a state
    lines = [
        dict.fromkeys(("vendor_id", "currency"), "")
        | {"line_key": uid, "uid_value": uid, "service_id": service, "invoiced_minor": 5}
        | {"accounting_period": "2026-10", "usage_period": "2026-10", "charge_code": "MRC"}
        | {"invoice_lines": 1, "expected_minor": 5, "variance_minor": 0, "compared_minor": 0}
        | {"status": "matched"}
        for uid, service in (("89-1", "S1"), ("89-3", "S3"), ("89-7", None))
    ]
    with DuckDbCompute() as compute:
        stored = pa.Table.from_pylist(lines, schema=RECONCILIATION_LINE.arrow_schema)
        compute.load("lines", stored)
        ws.lake.replace(RECONCILIATION_LINE, compute, "lines", {"accounting_period": "2026-10"})
    counts, (finding,) = compare_sim_counts(ws, OCTOBER)
    assert counts["SIMs billed by vendors"] == 3
    assert "1 billed by vendors and unknown to us: 89-7" in finding.message
    assert "1 billed by vendors and not charged to anybody: S3" in finding.message
    assert (finding.severity, finding.figure) == ("warn", "3 SIMs")


def test_a_gate_that_passes_has_figure_and_evidence_too(books: Books) -> None:
    result = StageResult(rows={"rows booked": 2986, "usage periods": 2})
    runs.record_gates(
        workspace(books, ROOT / "configs"), OCTOBER, stage_named("book_charges"), result
    )
    told = books.rows("select gate, outcome, figure, evidence from gate_result order by 1")
    assert {(outcome, figure) for _, outcome, figure, _ in told} == {
        ("passed", "2,986 rows booked, 2 usage periods"),
        ("passed", "0 accounts compared"),
    }
    assert told[0][3]["counts"] == {"rows booked": 2986, "usage periods": 2}
    assert {gate: evidence["owner"] for gate, _, _, evidence in told}["booked"] == "billing"
