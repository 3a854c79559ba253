"""Commands that close: close and demo."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from sqlalchemy.orm import Session

from iotbill_pipelines.cli import alerting, console, files
from iotbill_pipelines.cli.errors import is_plain
from iotbill_pipelines.cli.main import EXIT_BLOCKED, EXIT_OK, EXIT_USAGE
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.operations import runs
from iotbill_pipelines.operations.close import CLOSE_STAGES, Stage, exclusive
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage.ledger import period_states

if TYPE_CHECKING:
    from iotbill_pipelines.cli.main import Settings
    from iotbill_pipelines.shell.execution import CloseRun, Watcher

_SHOWN = {"succeeded": "[green]done[/]", "failed": "[red]stopped[/]", "skipped": "[dim]skipped[/]"}


def close(settings: Settings, period: Month, catalog: str | None, *, as_json: bool) -> int:
    """Close a month and print its report; return the exit code.

    ``catalog`` names a kept catalog version to repeat the close with.
    """
    with console.opened(settings) as ws:
        if catalog is None:
            return close_in(ws, period, as_json=as_json)
        from iotbill_pipelines.operations import catalogs

        repeated = replace(ws, catalog_digest=catalogs.kept(ws, catalog)[0])
        return close_in(repeated, period, as_json=as_json)


def close_in(ws: Workspace, period: Month, *, as_json: bool = False) -> int:
    """Run the close job with a progress display, then say what came out."""
    from iotbill_pipelines.shell.execution import execute_close

    with exclusive(ws, period), _progress() as watch:
        run = execute_close(ws, period, watch)
    alerting.after_close(ws)
    found = runs.findings_of_run(ws, run.run_id)
    posted = runs.posted_by(ws, run.run_id)
    blocking = [finding for _, finding in found if finding.severity == "block"]
    if as_json:
        console.print_json(
            {
                "period": str(period),
                "run_id": run.run_id,
                "succeeded": run.succeeded,
                "error": run.error,
                "posted": posted,
                "findings": [{"stage": stage, "finding": finding} for stage, finding in found],
            }
        )
        return _exit_code(run)
    if run.succeeded:
        _print_report(ws.for_run(run.run_id), period)
    if posted.nothing and run.succeeded:
        console.out.print(f"\n{period}: all of it was booked before; nothing was posted.")
    elif run.succeeded:
        console.out.print(
            f"\n{period}: {posted.charges:,} charges booked, "
            f"{posted.invoices:,} invoices issued, {posted.journals:,} journals built."
        )
    if run.succeeded:
        _tell_states(ws, period)
    if blocking:
        console.out.print(f"\n[red]The close of {period} is blocked[/] by:")
        console.findings(blocking)
    elif not run.succeeded:
        console.out.print(f"\n[red]The close of {period} stopped.[/] {escape(run.error or '')}")
        console.out.print(
            f"Run {run.run_id} has the details: `iotbill up` shows it. What was done so far stays; "
            f"`iotbill close {period}` goes on."
        )
    return _exit_code(run)


_NEXT = {
    "open": "it takes corrections until it is signed off; next: `iotbill period soft-close {0}`",
    "soft_closed": "the close team only; next: `iotbill period review {0}`",
    "in_review": "frozen; next: `iotbill period sign-off {0}`",
    "closed": "what comes late is booked in the next open period",
    "reopened": "next: `iotbill period soft-close {0}`",
}


def _tell_states(ws: Workspace, period: Month) -> None:
    """Say how the period stands: running a close signs nothing off."""
    with Session(ws.engine) as session:
        states = period_states(session, period)
    for entity_id, state in states.items():
        told = _NEXT[state].format(period)
        console.out.print(f"{entity_id} {period} is [bold]{state}[/]: {told}")


def _exit_code(run: CloseRun) -> int:
    if run.succeeded:
        return EXIT_OK
    return EXIT_USAGE if is_plain(run.error_class) else EXIT_BLOCKED


def _print_report(ws: Workspace, period: Month) -> None:
    from iotbill_pipelines.operations.report import print_report

    print_report(ws, period, console.out)


@contextmanager
def _progress() -> Iterator[Watcher]:
    """Show each stage as it runs, on standard error; plain lines where that is no terminal."""
    started: dict[str, float] = {}
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=console.err,
        transient=True,
        disable=not console.err.is_terminal,
    ) as progress:
        bar = progress.add_task("Starting", total=None)

        def watch(stage: Stage, happened: str) -> None:
            number = 1 + next(i for i, s in enumerate(CLOSE_STAGES) if s.name == stage.name)
            label = f"{number:>2}/{len(CLOSE_STAGES)} {stage.title}"
            if happened == "started":
                started[stage.name] = time.monotonic()
                progress.update(bar, description=label)
                return
            took = time.monotonic() - started.get(stage.name, time.monotonic())
            progress.console.print(f"{label:<34} {_SHOWN[happened]} {took:5.1f} s")

        yield watch


def waive(settings: Settings, gate: str, period: Month, *, by: str, reason: str) -> None:
    """Record a waiver and say what it covers."""
    from iotbill_pipelines.operations.waivers import waive_gate

    with console.opened(settings) as ws:
        waived = waive_gate(ws, gate, period, by=by, reason=reason)
    console.out.print(f"{gate} of {period} is waived by {escape(by)}:")
    console.findings(waived)
    console.out.print(f"`iotbill close {period}` goes on as long as the gate finds just that.")


def demo(settings: Settings, period: Month, services: int, seed: int) -> int:
    """Run the whole path for the sample company, in the workspace's state folder."""
    from iotbill_pipelines.operations.ingest import ingest, land
    from iotbill_pipelines.operations.sample import write_sample
    from iotbill_pipelines.shell.instance import write_instance

    with console.opened(settings, migrate=True) as ws:
        write_instance(ws)
        folder = ws.home / f"sample-{period}"
        console.out.print(f"[bold]1[/] {ws.home} is ready")
        summary = write_sample(folder, period, services, seed)
        console.out.print(
            f"[bold]2[/] {len(summary.files)} files of a company with {services} SIMs in {folder}"
        )
        landed = land(ws, [folder])
        new = sum(file.new for file in landed)
        console.out.print(f"[bold]3[/] {new} files landed, {len(landed) - new} known already")
        result = ingest(ws)
        console.out.print("[bold]4[/] files read")
        files.print_ingested(result)
        console.out.print(f"[bold]5[/] closing {period}")
        return close_in(ws, period)
