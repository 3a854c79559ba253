"""What every operation returns: figures to show, files to open, findings to act on.

The command line, Dagster and the tests read the same :class:`StageResult`; none of them computes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pyarrow as pa

    from iotbill_pipelines.engine.calendars import Month
    from iotbill_pipelines.operations.workspace import Workspace
    from iotbill_pipelines.storage.ledger import LedgerFinding

Severity = Literal["block", "warn", "info"]


@dataclass(frozen=True)
class Finding:
    """Something a person must know about a stage.

    ``code`` is stable and names the gate it belongs to; ``figure`` is the number behind it as
    text (``3 records``, ``EUR 0.01``); ``what_to_do`` is the next step. A finding of severity
    ``block`` fails the close (RULEBOOK §11). ``waived_by`` is set on what a person let pass.
    """

    code: str
    severity: Severity
    message: str
    figure: str = ""
    what_to_do: str = ""
    waived_by: str = ""
    waive_reason: str = ""


def finding(found: LedgerFinding) -> Finding:
    """Return what the ledger found as an operation's finding."""
    return Finding(found.code, found.severity, found.message, found.figure, found.what_to_do)


@dataclass(frozen=True)
class StageResult:
    """The outcome of one operation.

    ``rows`` counts what was read or written, by label. ``amounts`` are (label, currency, amount in
    the currency's own unit). ``preview`` holds a few rows for people. ``files`` were written.
    ``changed`` is false when the operation found everything done already. ``tables`` has the same
    of each part of the output that stands on its own (:attr:`Stage.tables`), by its name.
    """

    rows: dict[str, int] = field(default_factory=dict)
    amounts: list[tuple[str, str, Decimal]] = field(default_factory=list)
    preview: pa.Table | None = None
    files: list[Path] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    changed: bool = True
    tables: dict[str, StageResult] = field(default_factory=dict)

    @property
    def blocking(self) -> list[Finding]:
        """The findings that fail the close."""
        return [finding for finding in self.findings if finding.severity == "block"]


Operation = Callable[["Workspace", "Month"], StageResult]
"""A step of a close: reads and writes the workspace for one accounting period."""
