"""What Dagster shows of a result."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import dagster as dg
import pyarrow as pa

from iotbill_pipelines.config.close import ClosePolicy
from iotbill_pipelines.operations.close import CHECKLIST, CLOSE_STAGES, stage_named
from iotbill_pipelines.operations.stages import Finding, StageResult
from iotbill_pipelines.shell.rendering import check_results, metadata, table

STAGE = stage_named("rate_usage")
POLICY = ClosePolicy(owners={"roaming": ["susp*"], "billing": ["*"]})


def test_metadata_has_rows_amounts_preview_files_and_findings() -> None:
    shown = metadata(
        StageResult(
            rows={"kept": 3},
            amounts=[("retail usage", "EUR", Decimal("12.30"))],
            preview=pa.table({"a": [1, 2]}),
            files=[Path("/out/a.csv")],
            findings=[Finding("suspense", "warn", "2 wait", "2 records", "add a price")],
        )
    )
    assert shown["rows: kept"] == dg.MetadataValue.int(3)
    assert "| retail usage | EUR | 12.30 |" in shown["amounts"].md_str
    assert shown["retail usage, EUR"] == dg.MetadataValue.float(12.3)  # drawn over the months
    assert shown["preview"].md_str.splitlines()[-1] == "| 2 |"
    assert "/out/a.csv" in shown["files"].md_str
    assert "add a price" in shown["findings"].md_str


def test_a_long_preview_is_cut() -> None:
    shown = metadata(StageResult(preview=pa.table({"a": list(range(1000))})))
    assert len(shown["preview"].md_str.splitlines()) == 22


def test_text_of_carriers_cannot_break_a_table() -> None:
    assert table(["a"], [["x|y\nz"]]).splitlines()[-1] == "| x\\|y z |"


def test_a_blocking_finding_fails_its_gate_as_error_and_leaves_others_alone() -> None:
    found = [Finding("conservation", "block", "one record is missing")]
    checks = {c.check_name: c for c in check_results(STAGE, StageResult(findings=found), POLICY)}
    assert not checks["conservation"].passed
    assert checks["conservation"].severity is dg.AssetCheckSeverity.ERROR
    assert checks["suspense"].passed and checks["rate_usage_findings"].passed


def test_a_warning_fails_its_gate_without_stopping_the_close() -> None:
    found = [Finding("suspense", "warn", "2 wait", "2 records", "add a price")]
    checks = {c.check_name: c for c in check_results(STAGE, StageResult(findings=found), POLICY)}
    assert not checks["suspense"].passed
    assert checks["suspense"].description == "2 wait (2 records). To do: add a price."
    assert checks["feeds"].description == "Every landed file was read: 0 files read."
    assert checks["suspense"].severity is dg.AssetCheckSeverity.WARN


def test_information_fails_nothing() -> None:
    found = [Finding("suspense", "info", "2 wait, as tolerated")]
    assert all(c.passed for c in check_results(STAGE, StageResult(findings=found), POLICY))


def test_a_finding_without_a_gate_of_its_own_still_stops_the_close() -> None:
    found = [Finding("surprise", "block", "never seen before")]
    checks = {c.check_name: c for c in check_results(STAGE, StageResult(findings=found), POLICY)}
    assert checks["rate_usage_findings"].severity is dg.AssetCheckSeverity.ERROR


def test_a_gate_says_who_owns_it_and_what_it_rests_on() -> None:
    result = StageResult(rows={"months rated": 1, "kept": 5, "duplicate": 2, "suspended": 0})
    checks = {c.check_name: c for c in check_results(STAGE, result, POLICY)}
    shown = {name: check.metadata for name, check in checks.items()}
    assert shown["suspense"]["owner"].value == "roaming"
    assert shown["conservation"]["owner"].value == "billing"
    assert shown["conservation"]["figure"].value == "5 kept, 2 duplicate, 0 suspended"
    nobody = check_results(STAGE, result, ClosePolicy())[0].metadata["owner"]
    assert "configs/close.yaml" in str(nobody.value)


def test_every_item_of_the_checklist_has_gates_and_every_gate_a_figure() -> None:
    gates = {gate.code: gate for stage in CLOSE_STAGES for gate in stage.gates}
    listed = [code for codes in CHECKLIST.values() for code in codes]
    after = {"acknowledgement", "gl_balances", "sign_off"}
    assert len(listed) == len(set(listed))
    assert set(listed) - after == set(gates) - {"mart_tests"}  # of reports, not of the books
    assert all(gate.counts for gate in gates.values())
