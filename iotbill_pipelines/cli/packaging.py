"""The commands ``close package`` and ``close verify``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from iotbill_pipelines.cli import console
from iotbill_pipelines.cli.main import EXIT_BLOCKED, EXIT_OK
from iotbill_pipelines.engine.calendars import Month

if TYPE_CHECKING:
    from iotbill_pipelines.cli.main import Settings


def package(
    settings: Settings, period: Month, out: Path | None, key_file: Path | None, *, as_json: bool
) -> None:
    """Write a close package and say where it is."""
    from iotbill_pipelines.operations.package import write_package

    with console.opened(settings) as ws:
        made = write_package(ws, period, out, _key(key_file))
    if as_json:
        console.print_json(made)
        return
    console.out.print(
        f"{made.folder}: {made.files} files, {made.size_bytes:,} bytes"
        f"{', signed' if made.signed else ''}"
    )
    console.out.print(f"manifest {made.manifest_sha256}, kept in the audit log")
    console.out.print(f"`iotbill close verify {made.folder}` proves it")


def verify(settings: Settings, folder: Path, key_file: Path | None, *, as_json: bool) -> int:
    """Prove a close package; return the exit code."""
    from iotbill_pipelines.operations.package import verify_package

    with console.opened(settings) as ws:
        checks = verify_package(ws, folder, _key(key_file))
    if as_json:
        console.print_json(checks)
    else:
        for check in checks:
            verdict = "[green]agrees[/]" if check.passed else "[red]DIFFERS[/]"
            console.out.print(f"{verdict} {check.check}: {escape(check.detail)}")
    return EXIT_OK if all(check.passed for check in checks) else EXIT_BLOCKED


def _key(path: Path | None) -> bytes | None:
    if path is None:
        return None
    key = path.read_bytes().strip()
    if not key:
        raise ValueError(f"{path} is empty; put a secret into it")
    return key
