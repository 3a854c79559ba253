"""``configs/ledger`` -> :class:`LedgerTerms`: entities, chart of accounts, GL mapping, ERP files.

``ledger.yaml`` holds everything but the export targets and the rates; each ``targets/*.yaml`` is
one of those, and each ``fx/*.csv`` a table of rates (date, base, quote, rate, source).
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from iotbill_pipelines.config.documents import ConfigError, Document, Problem, parse, read_yaml
from iotbill_pipelines.engine.post.terms import (
    Entity,
    ExportTarget,
    FxRate,
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
    rates = [rate for file in sorted((folder / "fx").glob("*.csv")) for rate in _rates(file)]
    terms = terms.model_copy(
        update={
            "targets": [*terms.targets, *(target for _, target in targets)],
            "fx": [*terms.fx, *rates],
        }
    )
    own = len(terms.targets) - len(files)
    problems = [_problem(error, document, files, own) for error in check_ledger(terms)]
    if problems:
        first, *rest = problems
        raise ConfigError(first.file, first.key, first.line, first.rule, rest)
    return terms


_RATE_COLUMNS = ("date", "base", "quote", "rate", "source")


def _rates(file: Path) -> Iterator[FxRate]:
    """Read a table of rates; one day, pair and file has one rate."""
    seen: dict[tuple[str, str, str], int] = {}
    with file.open(encoding="utf-8-sig", newline="") as handle:
        rows = csv.DictReader(handle)
        if tuple(rows.fieldnames or ()) != _RATE_COLUMNS:
            raise ConfigError(
                str(file), (), 1, f"the first line names the columns {','.join(_RATE_COLUMNS)}"
            )
        for row in rows:
            line = rows.line_num
            if None in row or None in row.values():
                raise ConfigError(str(file), (), line, f"give {len(_RATE_COLUMNS)} values")
            key = (row["date"], row["base"], row["quote"])
            if key in seen:
                raise ConfigError(
                    str(file), (), line, f"line {seen[key]} has the rate of {', '.join(key)}"
                )
            seen[key] = line
            try:
                yield FxRate.model_validate(row)
            except ValidationError as error:
                problem = error.errors()[0]
                raise ConfigError(
                    str(file),
                    tuple(problem["loc"]),
                    line,
                    f"{problem['msg']}; {str(problem['input'])!r} was given",
                ) from None


def _problem(error: TermsError, document: Document, files: list[Path], own: int) -> Problem:
    if error.path[0] == "targets" and isinstance(error.path[1], int) and error.path[1] >= own:
        return Problem(str(files[error.path[1] - own]), ("id",), 1, error.rule)
    path = document.locate(error.path)
    return Problem(str(document.path), path, document.line(path), error.rule)
