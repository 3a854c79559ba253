"""A web server in a process of its own: a port for it, and waiting until it answers."""

from __future__ import annotations

import socket
import subprocess
import time
import urllib.request

import pytest

PATIENCE_SECONDS = 120


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    """Return once ``url`` answers; fail if the process ends or the patience does."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, "the web server stopped"
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"{url} does not answer")
