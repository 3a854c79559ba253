"""What commands print: progress to standard error, answers to standard output."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from iotbill_pipelines.shell.environment import memory_limit, secret

if TYPE_CHECKING:
    from iotbill_pipelines.cli.main import Settings
    from iotbill_pipelines.operations.stages import Finding
    from iotbill_pipelines.operations.workspace import Workspace

WIDTH = 120
"""Columns where nobody says how many there are: in a pipe, a file or a log."""

out = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
err = Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else WIDTH)

_COLOURS = {"block": "red", "warn": "yellow", "info": "blue"}


@contextmanager
def opened(settings: Settings, *, migrate: bool = False) -> Iterator[Workspace]:
    """Open the workspace that the options name, and close it afterwards."""
    from iotbill_pipelines.operations.workspace import Workspace, configured_lake

    location = settings.location
    workspace = Workspace.open(
        location.home,
        location.configs,
        location.database_url,
        migrate=migrate,
        actor=settings.actor,
        memory_limit=memory_limit(),
        lake=configured_lake(location.home, location.configs, secret),
    )
    try:
        yield workspace
    finally:
        workspace.close()


def table(
    title: str,
    columns: Iterable[str],
    rows: Iterable[Iterable[object]],
    figures: Collection[str] = (),
) -> None:
    """Print a table; numbers and the columns ``figures`` stand to the right.

    Nothing is printed for no rows.
    """
    listed = [list(row) for row in rows]
    if not listed:
        return
    shown = Table(title=title, title_justify="left", header_style="bold")
    for position, column in enumerate(columns):
        number = all(isinstance(row[position], (int, Decimal, type(None))) for row in listed)
        right = number or column in figures
        shown.add_column(column, justify="right" if right else "left", overflow="fold")
    for row in listed:
        shown.add_row(*(_cell(value) for value in row))
    out.print(shown)


def records(title: str, columns: Sequence[str], found: Iterable[object]) -> None:
    """Print objects as a table of their attributes ``columns``."""
    table(title, columns, ([getattr(row, column) for column in columns] for row in found))


def findings(found: Iterable[Finding]) -> None:
    """Print findings, each with what to do."""
    for finding in found:
        colour = _COLOURS[finding.severity]
        out.print(
            f"[{colour}]{finding.severity:>5}[/] {escape(finding.code)}: {escape(finding.message)}"
        )
        if finding.waived_by:
            said = f"waived by {finding.waived_by}: {finding.waive_reason}"
            out.print(f"      [dim]{escape(said)}[/]")
        elif finding.what_to_do:
            out.print(f"      [dim]{escape(finding.what_to_do)}[/]")


def print_json(value: object) -> None:
    """Print a value as JSON: amounts as text, so that none becomes a binary fraction."""
    sys.stdout.write(json.dumps(_plain(value), indent=2, ensure_ascii=False) + "\n")


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (str, int, bool)):
        return value
    return value.to_pylist() if hasattr(value, "to_pylist") else _text(value)


def _text(value: object) -> str:
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Decimal):
        return f"{value:,}"
    return escape(str(value))
