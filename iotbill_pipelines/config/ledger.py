"""``configs/ledger`` -> :class:`LedgerTerms`: entities, chart of accounts, GL mapping, ERP files.

``ledger.yaml`` holds everything but the export targets; each ``targets/*.yaml`` is one of those.
"""

from __future__ import annotations

from pathlib import Path

from iotbill_pipelines.config.documents import ConfigError, Document, Problem, parse, read_yaml
from iotbill_pipelines.engine.post.terms import (
    Entity,
    ExportTarget,
    LedgerTerms,
    check_ledger,
)
from iotbill_pipelines.engine.terms import TermsError

__all__ = ["Entity", "ExportTarget", "LedgerTerms", "read_ledger"]


def read_ledger(folder: Path) -> LedgerTerms:
    """Read the ledger's configuration folder.

    Raises ConfigError naming file, line, key and rule, for ties of GL rules too (GL-08).
    """
    document = read_yaml(folder / "ledger.yaml")
    terms = parse(LedgerTerms, document)
    files = sorted((folder / "targets").glob("*.yaml"))
    targets = [(file, parse(ExportTarget, read_yaml(file))) for file in files]
    terms = terms.model_copy(
        update={"targets": [*terms.targets, *(target for _, target in targets)]}
    )
    own = len(terms.targets) - len(files)
    problems = [_problem(error, document, files, own) for error in check_ledger(terms)]
    if problems:
        first, *rest = problems
        raise ConfigError(first.file, first.key, first.line, first.rule, rest)
    return terms


def _problem(error: TermsError, document: Document, files: list[Path], own: int) -> Problem:
    if error.path[0] == "targets" and isinstance(error.path[1], int) and error.path[1] >= own:
        return Problem(str(files[error.path[1] - own]), ("id",), 1, error.rule)
    path = document.locate(error.path)
    return Problem(str(document.path), path, document.line(path), error.rule)
