"""The close package: sealed, whole, and the same when it is computed again."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from iotbill_pipelines.engine.schemas import DESIRED_CHARGE
from iotbill_pipelines.operations import expectations, package, runs
from iotbill_pipelines.operations.basis import newest_rows
from iotbill_pipelines.operations.charges import settle_charges
from iotbill_pipelines.operations.data_quality import Failure, FeedDay, check_feeds
from iotbill_pipelines.operations.erp import lint
from iotbill_pipelines.operations.ingest import ingest, land
from iotbill_pipelines.operations.invoicing import issue_invoices
from iotbill_pipelines.operations.journals import build_journals, export_journals
from iotbill_pipelines.operations.package import (
    MANIFEST,
    PackageError,
    verify_package,
    write_package,
)
from iotbill_pipelines.operations.reconciliation import reconcile_vendors
from iotbill_pipelines.operations.report import write_report
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage.lake import Lake
from iotbill_pipelines.storage.landing import open_archived
from tests.conftest import ROOT
from tests.months import PERIOD
from tests.storage.books import Books, Charge, desired

KEY = b"a secret"


def pages_of(
    days: Sequence[FeedDay], _wanted: object, directory: Path, at: datetime
) -> list[Failure]:
    """Pages as Great Expectations would write them, whose start alone takes longer than a test."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "index.html").write_text("\n".join([at.isoformat(), *map(repr, days)]))
    return []


@pytest.fixture(scope="module", autouse=True)
def plain_pages() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(expectations, "run_expectations", pages_of)
        yield


def read_balances(ws: Workspace) -> None:
    """The general ledgers of two entities, of which only the one that was read last agrees."""
    insert = (
        "insert into gate_result (entity_id, period, gate, outcome, severity, message, recorded_at)"
        " values (:entity, '2026-10', 'gl_balances', :outcome, :severity, 'as read', now())"
    )
    with ws.engine.begin() as connection:
        connection.execute(sa.text("insert into legal_entity values ('DE01', 'Unsere', 'EUR')"))
        for entity, outcome, severity in (("DE01", "failed", "block"), ("NL01", "passed", "info")):
            values = {"entity": entity, "outcome": outcome, "severity": severity}
            connection.execute(sa.text(insert), values)


def comes_later(ws: Workspace, folder: Path) -> None:
    """What comes between a close and its signature is of the next close: usage, configuration, and
    the month settled again with it."""
    with ws.engine.connect() as connection:
        statement = "select archive_path from feed_file where feed_id = 'emnify_usage'"
        path = connection.execute(sa.text(f"{statement} order by file_key")).scalars().first()
    with open_archived(ws.archive, str(path)) as handle:
        content = gzip.decompress(handle.read()).decode()
    record = next(json.loads(line) for line in content.splitlines())
    late = folder / "emnify_2026-10-late.ndjson"
    late.write_text(json.dumps({**record, "id": 1, "volume": {"total": 1}}) + "\n")
    land(ws, [late])
    ingest(ws)
    for name, old in (("vendors/bics.yaml", "name: BICS SA"), ("catalog/products.yaml", "name: ")):
        path = ws.configs / name
        path.write_text(path.read_text().replace(old, f"{old}Renamed ", 1))
    charged = ws.lake.files(DESIRED_CHARGE, usage_period=str(PERIOD))
    settle_charges(replace(ws, run_id="next-close"), PERIOD)
    assert ws.lake.files(DESIRED_CHARGE, usage_period=str(PERIOD)) != charged


@pytest.fixture(scope="module")
def packaged(booked: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.raises(PackageError, match="no close of 2026-10 ran through"):
        write_package(booked, PERIOD)
    # the ledger whose journals are vouchers: it keeps the rules of Dynamics 365 for a whole month
    dynamics = ROOT / "configs" / "examples" / "d365_fo" / "ledger.yaml"
    shutil.copy(dynamics, booked.configs / "ledger" / "ledger.yaml")
    read_balances(booked)
    for stage in (
        *(check_feeds, issue_invoices, reconcile_vendors, build_journals),
        *(export_journals, write_report),
    ):
        assert not stage(booked, PERIOD).blocking
    assert lint(booked, PERIOD, "d365_fo") == []
    runs.finish(booked, "succeeded", None)
    comes_later(booked, tmp_path_factory.mktemp("late"))
    folder = tmp_path_factory.mktemp("archive") / "close"
    made = write_package(booked, PERIOD, folder, KEY)
    assert made.signed and made.files > 20
    return folder


def verdicts(ws: Workspace, folder: Path, key: bytes | None = KEY) -> dict[str, bool]:
    return {check.check: check.passed for check in verify_package(ws, folder, key)}


def test_a_package_computed_again_is_the_same_byte_for_byte(
    booked: Workspace, packaged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute_again = package.compute_again

    def kept(ws: Workspace, folder: Path, manifest: dict[str, Any], again: Path) -> None:
        compute_again(ws, folder, manifest, again)
        shutil.copytree(again, packaged.parent / "again")

    monkeypatch.setattr(package, "compute_again", kept)
    checks = verify_package(replace(booked, run_id="other"), packaged, KEY)
    assert [check for check in checks if not check.passed] == []
    assert [check.check for check in checks][6:] == [
        *("charges", "booked", "ledger", "report", "journals"),
        *("claims", "reconciliations", "pages", "customers", "data quality"),
    ]
    assert len(list((packaged / "documents").glob("reconciliation_*.xlsx"))) == 2
    manifest = json.loads((packaged / MANIFEST).read_text())
    assert len(manifest["input_files"]) > 50
    assert {row["reason"] for row in manifest["control_totals"]["booked"]} == {"initial"}
    assert (packaged / "documents" / "close_report.html").is_file()
    balances = [gate for gate in manifest["gates"] if gate["gate"] == "gl_balances"]
    assert [(gate["entity"], gate["outcome"]) for gate in balances] == [
        ("DE01", "failed"),
        ("NL01", "passed"),
    ]
    figures = json.loads((packaged / package.FIGURES).read_text())
    (told,) = [gate for gate in figures["gates"] if gate["gate"] == "gl_balances"]
    assert told["outcome"] == "failed"
    assert (packaged / "charges" / "2026-10.csv").stat().st_size > 10_000


def test_whatever_is_changed_is_found(booked: Workspace, packaged: Path, tmp_path: Path) -> None:
    folder = tmp_path / "changed"
    shutil.copytree(packaged, folder)
    for name in (
        *("ledger/invoices.csv", "documents/close_report.html", "documents/data_docs/index.html"),
        *("documents/reconciliation_bics_2026-10.xlsx", "documents/vendor_emnify_2026-10.html"),
        "documents/customer_fleet_2026-10.xlsx",
    ):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content.replace(b"EUR", b"USD", 1) + b"\r\n")
    (folder / "documents" / "reconciliation_xl_2026-10.pdf").write_text("not ours")
    found = verdicts(booked, folder)
    changed = ("reconciliations", "pages", "data quality", "customers", "other documents")
    # the figures of the report no longer follow from the ledger's files either
    wrong = {"files", "ledger", "report", *changed}
    assert {check for check, passed in found.items() if not passed} == wrong

    sealed = (folder / MANIFEST).read_bytes()
    (folder / MANIFEST).write_bytes(sealed.replace(b'"rejected": 0', b'"rejected": 1', 1))
    (folder / "added.txt").write_text("more")
    (folder / "inputs" / "configs" / "close.yaml").write_text("")
    found = verdicts(booked, folder, b"another")
    for check in ("manifest", "audit log", "signature", "files"):
        assert not found[check], check
    assert "charges" not in found  # nothing is computed from inputs that were changed


def test_a_folder_in_use_or_without_manifest_is_refused(
    booked: Workspace, packaged: Path, tmp_path: Path
) -> None:
    with pytest.raises(PackageError, match="holds files already"):
        write_package(booked, PERIOD, packaged)
    with pytest.raises(PackageError, match=r"has no manifest\.json"):
        verify_package(booked, tmp_path)


def test_ids_that_a_spreadsheet_would_evaluate_are_booked_as_they_are_computed(
    postgres_url: str, tmp_path: Path
) -> None:
    """Files say such an id with an apostrophe before it, the ledger does not."""
    books = Books(postgres_url)
    charge = Charge(account_id="@acme", service_id="+31-6-1234", amount_minor=250)
    books.book(charge)
    ws = Workspace(tmp_path, ROOT / "configs", books.engine, Lake(tmp_path / "lake"))
    with ws.engine.connect() as connection:
        closed_rows = newest_rows(connection)
    manifest = {
        **{"settled": ["2026-10"], "usage_periods": {"2026-10": "a snapshot"}},
        "closed_rows": closed_rows,
    }
    for minor, booked_so in ((250, True), (249, False)):
        rows = desired(charge.but(amount_minor=minor)).to_pylist()
        package._write_charges(package._charges_path(tmp_path, PERIOD), rows)
        check = package._check_booked(ws, manifest, tmp_path)
        assert check.passed is booked_so, check.detail
    books.engine.dispose()
