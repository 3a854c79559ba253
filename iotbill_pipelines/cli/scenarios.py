"""The command ``scenario run``."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

from rich.markup import escape

from iotbill_pipelines.cli import console
from iotbill_pipelines.cli.main import EXIT_BLOCKED, EXIT_OK
from iotbill_pipelines.compute.spark_engine import SparkCompute
from iotbill_pipelines.operations.scenarios import run_scenario


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
    failed = 0
    for path in paths:
        report = run_scenario(path, engine)
        failed += not report.passed
        mark = "[green]same[/]" if report.passed else "[red]differs[/]"
        console.out.print(f"{mark} {escape(str(path))}")
        console.table(
            "",
            ("what", "expected", "got", "difference"),
            (
                (line.what, line.expected, line.got, line.difference)
                for line in report.lines
                if verbose or not line.passed
            ),
        )
    console.out.print(f"{len(paths) - failed} of {len(paths)} scenarios as expected")
    return EXIT_BLOCKED if failed else EXIT_OK


def _on_spark(master: str, expected_rows: int) -> SparkCompute:
    return SparkCompute(master, tempfile.gettempdir(), expected_rows=expected_rows)
