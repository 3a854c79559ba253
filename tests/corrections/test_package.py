"""The close package: sealed, whole, and the same when it is computed again."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from iotbill_pipelines.operations import runs
from iotbill_pipelines.operations.erp import lint
from iotbill_pipelines.operations.invoicing import issue_invoices
from iotbill_pipelines.operations.journals import build_journals, export_journals
from iotbill_pipelines.operations.package import (
    MANIFEST,
    PackageError,
    verify_package,
    write_package,
)
from iotbill_pipelines.operations.report import write_report
from iotbill_pipelines.operations.workspace import Workspace
from tests.conftest import ROOT
from tests.months import PERIOD

KEY = b"a secret"


@pytest.fixture(scope="module")
def packaged(booked: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.raises(PackageError, match="no close of 2026-10 ran through"):
        write_package(booked, PERIOD)
    # the ledger whose journals are vouchers: it keeps the rules of Dynamics 365 for a whole month
    dynamics = ROOT / "configs" / "examples" / "d365_fo" / "ledger.yaml"
    shutil.copy(dynamics, booked.configs / "ledger" / "ledger.yaml")
    for stage in (issue_invoices, build_journals, export_journals, write_report):
        assert not stage(booked, PERIOD).blocking
    assert lint(booked, PERIOD, "d365_fo") == []
    runs.finish(booked, "succeeded", None)
    folder = tmp_path_factory.mktemp("archive") / "close"
    made = write_package(booked, PERIOD, folder, KEY)
    assert made.signed and made.files > 20
    return folder


def verdicts(ws: Workspace, folder: Path, key: bytes | None = KEY) -> dict[str, bool]:
    return {check.check: check.passed for check in verify_package(ws, folder, key)}


def test_a_package_computed_again_is_the_same_byte_for_byte(
    booked: Workspace, packaged: Path
) -> None:
    checks = verify_package(replace(booked, run_id="other"), packaged, KEY)
    assert all(check.passed for check in checks), checks
    assert [check.check for check in checks][-4:] == ["charges", "ledger", "report", "journals"]
    manifest = json.loads((packaged / MANIFEST).read_text())
    assert len(manifest["input_files"]) > 50
    assert {row["reason"] for row in manifest["control_totals"]["booked"]} == {"initial"}
    assert (packaged / "documents" / "close_report.html").is_file()
    assert (packaged / "charges" / "2026-10.csv").stat().st_size > 10_000


def test_whatever_is_changed_is_found(booked: Workspace, packaged: Path) -> None:
    invoices = packaged / "ledger" / "invoices.csv"
    content = invoices.read_bytes()
    invoices.write_bytes(content.replace(b"EUR", b"USD", 1))
    found = verdicts(booked, packaged)
    assert (found["files"], found["ledger"], found["journals"]) == (False, False, True)
    assert not found["report"]  # whose figures no longer follow from the ledger's files
    invoices.write_bytes(content)

    page = packaged / "documents" / "close_report.html"
    content = page.read_bytes()
    page.write_bytes(content.replace(b"EUR", b"USD", 1))
    found = verdicts(booked, packaged)
    assert (found["files"], found["report"], found["ledger"]) == (False, False, True)
    page.write_bytes(content)

    sealed = (packaged / MANIFEST).read_bytes()
    (packaged / MANIFEST).write_bytes(sealed.replace(b'"rejected": 0', b'"rejected": 1', 1))
    (packaged / "added.txt").write_text("more")
    found = verdicts(booked, packaged, b"another")
    for check in ("manifest", "audit log", "signature", "files"):
        assert not found[check], check
    (packaged / "added.txt").unlink()
    (packaged / MANIFEST).write_bytes(sealed)


def test_a_folder_in_use_or_without_manifest_is_refused(
    booked: Workspace, packaged: Path, tmp_path: Path
) -> None:
    with pytest.raises(PackageError, match="holds files already"):
        write_package(booked, PERIOD, packaged)
    with pytest.raises(PackageError, match=r"has no manifest\.json"):
        verify_package(booked, tmp_path)
