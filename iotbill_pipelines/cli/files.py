"""Commands on files: init, sample, land, ingest."""

from __future__ import annotations

from collections import Counter
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from iotbill_pipelines.cli import console
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.operations.stages import StageResult

if TYPE_CHECKING:
    from iotbill_pipelines.cli.main import Settings


def init(settings: Settings, role: str | None) -> None:
    """Make or update the workspace and Dagster's instance; let a role of the database use it."""
    from iotbill_pipelines.shell.instance import write_instance
    from iotbill_pipelines.storage import database

    with console.opened(settings, migrate=True) as ws:
        write_instance(ws)
        if role is not None:
            database.grant(ws.engine, role)
        kind = "your server" if settings.location.database_url else "embedded PostgreSQL"
        console.out.print(f"{ws.home} is ready ({kind}, configuration {ws.configs})")


def sample(month: Month, services: int, seed: int, out: Path) -> None:
    """Write the sample company's landing folder and say what is in it."""
    from iotbill_pipelines.operations.sample import write_sample

    summary = write_sample(out, month, services, seed)
    console.out.print(f"{len(summary.files)} files in {out}; planted deviations:")
    counted = Counter(planted.kind for planted in summary.planted)
    console.table("", ("deviation", "times"), sorted(counted.items()))


def lorawan_inventory(register: Path, since: Month, out: Path) -> None:
    """Write the inventory of a LoRaWAN operator whose devices are active since a month."""
    from iotbill_pipelines.operations.sample.lorawan import write_lorawan_inventory

    written = write_lorawan_inventory(register, out, since.start)
    console.out.print(f"{len(written)} files in {out}; land them with {register} and the uplinks")


def land(settings: Settings, paths: list[Path], *, as_json: bool) -> None:
    """Land files and say what is new."""
    from iotbill_pipelines.operations.ingest import land as land_files

    with console.opened(settings) as ws:
        landed = land_files(ws, paths)
    if as_json:
        console.print_json(landed)
        return
    new = [file for file in landed if file.new]
    known = len(landed) - len(new) - sum(file.state == "failed" for file in landed)
    counted = Counter(file.feed_id or "no feed" for file in new)
    console.table("New files", ("feed", "files"), sorted(counted.items()))
    console.out.print(f"{len(new)} new, {known} known already")
    for file in landed:
        if file.problem:
            console.out.print(f"[yellow] warn[/] {escape(file.problem)}")


def ingest(
    settings: Settings, day: str | None, named: list[str], *, again: bool, as_json: bool
) -> None:
    """Ingest landed files, or files once more, and say what became of their records."""
    from iotbill_pipelines.operations.ingest import ingest as ingest_files
    from iotbill_pipelines.operations.ingest_again import Again

    if named and not again:
        raise ValueError("--file names files to read again; add --again")
    with console.opened(settings) as ws:
        result = ingest_files(ws, _day(day), Again(tuple(named)) if again else None)
    if as_json:
        console.print_json(result)
    else:
        print_ingested(result)


def _day(text: str | None) -> date | None:
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a day; write it as YYYY-MM-DD") from None


def print_ingested(result: StageResult) -> None:
    """Print the per-feed counts and the findings of an ingestion."""
    if not result.rows.get("files"):
        console.out.print("nothing to ingest: no landed file waits")
    elif result.preview is not None:
        rows = result.preview.to_pylist()
        console.table("Ingested", result.preview.column_names, (row.values() for row in rows))
    console.findings(result.findings)
