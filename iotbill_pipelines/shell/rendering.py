"""A stage's result as Dagster shows it: metadata of the asset, outcomes of its checks."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

from iotbill_pipelines.config.close import ClosePolicy
from iotbill_pipelines.operations.close import Gate, Stage
from iotbill_pipelines.operations.stages import Finding, StageResult

if TYPE_CHECKING:
    import pyarrow as pa

PREVIEW_ROWS = 20
MOST_TOLD = 5
"""Most findings that a check's description tells; all of them are in its table."""
PLOTTED = 12
"""Most amounts that are drawn over the months; all of them are in the table."""


def metadata(result: StageResult) -> dict[str, Any]:
    """Row counts, amounts, a preview table, files and findings of a result.

    Counts and amounts also stand alone, as numbers: Dagster draws them over the months.
    """
    found: dict[str, Any] = {
        f"rows: {label}": dg.MetadataValue.int(count) for label, count in result.rows.items()
    }
    if result.amounts:
        found["amounts"] = dg.MetadataValue.md(
            table(
                ("amount of", "currency", "amount"),
                ((label, currency, f"{amount:f}") for label, currency, amount in result.amounts),
            )
        )
        for label, currency, amount in result.amounts[:PLOTTED]:
            found[f"{label}, {currency}"] = dg.MetadataValue.float(float(amount))
    if result.preview is not None and result.preview.num_columns:
        found["preview"] = dg.MetadataValue.md(_preview(result.preview))
    if result.files:
        found["files"] = dg.MetadataValue.md("\n".join(f"- `{path}`" for path in result.files))
        found["folder"] = dg.MetadataValue.path(str(result.files[0].parent))
    if result.findings:
        found["findings"] = dg.MetadataValue.md(_findings(result.findings))
    found["changed"] = dg.MetadataValue.bool(result.changed)
    return found


def check_results(
    stage: Stage, result: StageResult, policy: ClosePolicy
) -> list[dg.AssetCheckResult]:
    """One result per gate: failed by findings of its code, as ERROR if any of them blocks."""
    counts = {name: dg.MetadataValue.int(number) for name, number in result.rows.items()}
    return [
        _check(
            gate,
            policy.owner_of(gate.code),
            result,
            [f for f in result.findings if stage.gate_of(f) == gate.code],
            counts,
        )
        for gate in stage.all_gates
    ]


def _check(
    gate: Gate,
    owner: str,
    result: StageResult,
    findings: list[Finding],
    counts: Mapping[str, dg.MetadataValue[Any]],
) -> dg.AssetCheckResult:
    failing = [finding for finding in findings if finding.severity != "info"]
    blocking = any(finding.severity == "block" for finding in failing)
    shown: dict[str, Any] = {
        "gate": gate.title,
        "owner": owner or "nobody is named: owners of configs/close.yaml",
        "figure": (failing[0].figure if failing else "") or gate.figure(result.rows),
        "findings that fail it": dg.MetadataValue.int(len(failing)),
        **counts,
    }
    if findings:
        shown["findings"] = dg.MetadataValue.md(_findings(findings))
    return dg.AssetCheckResult(
        check_name=gate.code,
        passed=not failing,
        severity=dg.AssetCheckSeverity.ERROR if blocking else dg.AssetCheckSeverity.WARN,
        description=" ".join(map(_sentence, failing[:MOST_TOLD]))
        or f"{gate.title}: {gate.figure(result.rows)}.",
        metadata=shown,
    )


def _sentence(finding: Finding) -> str:
    """A finding as a check's page shows it at once: what, how much, what to do."""
    figure = f" ({finding.figure})" if finding.figure else ""
    todo = f" To do: {finding.what_to_do}." if finding.what_to_do else ""
    return f"{finding.message.rstrip('.')}{figure}.{todo}"


def table(header: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Return a markdown table; bars and line ends in cells are made harmless."""
    names = list(header)
    lines = [names, ["---"] * len(names), *([_cell(value) for value in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: object) -> str:
    text = "" if value is None else str(value)
    return text.replace("|", "\\|").replace("\r", " ").replace("\n", " ")


def _preview(rows: "pa.Table") -> str:
    shown = rows.slice(0, PREVIEW_ROWS)
    return table(shown.column_names, (row.values() for row in shown.to_pylist()))


def _findings(findings: list[Finding]) -> str:
    return table(
        ("severity", "code", "figure", "message", "what to do"),
        ((f.severity, f.code, f.figure, f.message, f.what_to_do) for f in findings),
    )
