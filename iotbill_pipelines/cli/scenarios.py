"""The command ``scenario run``."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from iotbill_pipelines.cli import console
from iotbill_pipelines.cli.main import EXIT_BLOCKED, EXIT_OK
from iotbill_pipelines.operations.scenarios import ScenarioReport, run_scenario

if TYPE_CHECKING:
    from iotbill_pipelines.compute.spark_engine import SparkCompute

_FIGURES = ("expected", "came out", "difference")


def run(files: list[Path], *, verbose: bool, spark: str | None) -> int:
    """Run scenario files and those in folders; print differences; return the exit code.

    ``spark`` is the URL of a Spark master to run them on, instead of this process.
    """
    paths = [
        inside
        for path in files
        for inside in (sorted(path.rglob("*.yaml")) if path.is_dir() else [path])
    ]
    if not paths:
        raise ValueError(f"no *.yaml in {', '.join(map(str, files))}")
    engine = None if spark is None else partial(_on_spark, spark)
    reports = []
    for path in paths:
        reports.append(run_scenario(path, engine))
        _show(reports[-1], verbose)
    failed = sum(bool(report.differing) for report in reports)
    seconds = sum(report.seconds for report in reports)
    console.out.print(
        f"{len(paths) - failed} of {len(paths)} scenarios as expected, in {seconds:.1f} s"
    )
    return EXIT_BLOCKED if failed else EXIT_OK


def _show(report: ScenarioReport, verbose: bool) -> None:
    """Print a verdict, and what differs as a table with where the expected amounts come from."""
    wrong = report.differing
    mark, lines = "[green]same[/]   ", f"{len(report.lines)} lines"
    if wrong:
        mark, lines = "[red]differs[/]", f"{len(wrong)} of {lines}"
    told = f"{report.title} ({report.path}, {lines}, {report.seconds:.1f} s)"
    console.out.print(f"{mark} {escape(told)}", soft_wrap=True)
    if wrong:
        reason = report.source if report.about is None else f"{report.source}: {report.about}"
        console.out.print(f"        [dim]{escape(reason)}[/]", soft_wrap=True)
    console.table(
        "",
        ("what", *_FIGURES),
        (
            (line.what, line.expected, line.got, line.difference)
            for line in (report.lines if verbose else wrong)
        ),
        _FIGURES,
    )


def _on_spark(master: str, expected_rows: int) -> SparkCompute:
    from iotbill_pipelines.compute.spark_engine import SparkCompute

    return SparkCompute(master, tempfile.gettempdir(), expected_rows=expected_rows)
