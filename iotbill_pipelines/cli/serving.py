"""The command ``up``: Dagster's web server and daemon on the workspace's instance."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from iotbill_pipelines.cli import console
from iotbill_pipelines.cli.main import EXIT_OK, EXIT_USAGE

if TYPE_CHECKING:
    from iotbill_pipelines.cli.main import Settings

_PATIENCE_SECONDS = 120


def up(settings: Settings, host: str, port: int) -> int:
    """Serve until interrupted; return the exit code.

    The web server and the daemon share one code server. This process keeps the embedded database
    up for them.
    """
    from iotbill_pipelines.shell.instance import write_instance

    if _answers(host, port):
        console.err.print(f"port {port} of {host} is taken; choose another with --port")
        return EXIT_USAGE
    with console.opened(settings) as ws:
        instance = write_instance(ws)
        environment = {
            **os.environ,
            **settings.location.variables(),
            "DAGSTER_HOME": str(instance.parent),
            "PYTHONWARNINGS": "ignore",  # Dagster's about its own commands are not the user's
        }
        # Dagster stops its processes by SIGINT, which a shell has a job in the background ignore
        signal.signal(signal.SIGINT, signal.default_int_handler)
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "dagster", "dev"),
                *_code_location(),
                *("--host", host, "--port", str(port)),
                *("--log-level", "warning", "--code-server-log-level", "warning"),
            ],
            env=environment,
            cwd=ws.home,
        )
        previous = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        try:
            _wait_until_served(process, host, port, ws.home)
            return process.wait()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
            process.wait()
            return EXIT_OK
        finally:
            signal.signal(signal.SIGTERM, previous)


def _code_location() -> tuple[str, str]:
    """Name the workspace.yaml beside the program; an installed program has none."""
    file = Path(__file__).resolve().parents[2] / "workspace.yaml"
    if file.is_file():
        return "--workspace", str(file)
    return "--module-name", "iotbill_pipelines.definitions"


def _wait_until_served(process: subprocess.Popen[bytes], host: str, port: int, home: Path) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        if _answers(host, port):
            console.out.print(
                f"Dagster serves http://{host}:{port} (state folder {home}); files put into "
                f"{home / 'landing'} are received by its sensor. Ctrl-C stops."
            )
            return
        time.sleep(0.5)


def _answers(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0
