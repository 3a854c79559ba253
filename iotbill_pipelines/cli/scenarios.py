"""The command ``scenario run``."""

from __future__ import annotations

from pathlib import Path

from rich.markup import escape

from iotbill_pipelines.cli import console
from iotbill_pipelines.cli.main import EXIT_BLOCKED, EXIT_OK
from iotbill_pipelines.operations.scenarios import run_scenario


def run(files: list[Path], *, verbose: bool) -> int:
    """Run scenario files and those in folders; print differences; return the exit code."""
    paths = [
        inside
        for path in files
        for inside in (sorted(path.rglob("*.yaml")) if path.is_dir() else [path])
    ]
    if not paths:
        raise ValueError(f"no *.yaml in {', '.join(map(str, files))}")
    failed = 0
    for path in paths:
        report = run_scenario(path)
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
