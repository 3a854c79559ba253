"""CSV tables of configuration -> typed rows; every error names file, line and column."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from iotbill_pipelines.config.documents import ConfigError

M = TypeVar("M", bound=BaseModel)


def read_table(
    file: Path,
    model: type[M],
    *,
    columns: Sequence[str],
    lists: Sequence[str] = (),
    key: Sequence[str] = (),
    what: str = "row",
) -> Iterator[M]:
    """Yield a CSV file's rows as ``model``; the first line names the columns.

    Of ``columns`` only those that the model needs must be there. An empty cell leaves its key out;
    cells of ``lists`` hold several values, separated by blanks. ``key`` are columns of which no two
    rows, each a ``what``, have the same values.

    Raises ConfigError naming file, line, column and what to do.
    """
    needed = [name for name in columns if model.model_fields[name].is_required()]
    seen: dict[tuple[str, ...], int] = {}
    with file.open(encoding="utf-8-sig", newline="") as handle:
        rows = csv.DictReader(handle)
        names = list(rows.fieldnames or ())
        wrong = [name for name in names if name not in columns]
        missing = [name for name in needed if name not in names]
        if wrong or missing or len(set(names)) < len(names):
            raise ConfigError(
                str(file),
                (),
                1,
                f"the first line names the columns {','.join(columns)}"
                + (f" ({','.join(needed)} at least)" if needed != list(columns) else "")
                + f"; it reads {','.join(names)}",
            )
        for row in rows:
            line = rows.line_num
            if None in row or None in row.values():
                raise ConfigError(str(file), (), line, f"give {len(names)} values")
            value = tuple(row[name] for name in key if name in row)
            if key and value in seen:
                raise ConfigError(
                    str(file), (), line, f"line {seen[value]} has the {what} of {', '.join(value)}"
                )
            seen[value] = line
            yield _row(file, line, model, row, lists)


def _row(file: Path, line: int, model: type[M], row: Mapping[str, str], lists: Sequence[str]) -> M:
    given = {
        name: text.split() if name in lists else text.strip()
        for name, text in row.items()
        if text.strip()
    }
    try:
        return model.model_validate(given)
    except ValidationError as error:
        problem = error.errors()[0]
        raise ConfigError(
            str(file),
            tuple(problem["loc"]),
            line,
            f"{problem['msg']}; {str(problem['input'])!r} was given",
        ) from None
