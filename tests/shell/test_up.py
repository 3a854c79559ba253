"""``iotbill up`` as an operator starts it: the processes it has, what they serve, how they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from iotbill_pipelines.definitions import defs
from iotbill_pipelines.operations.workspace import Workspace
from tests.conftest import ROOT
from tests.shell.servers import PATIENCE_SECONDS, free_port, wait_for

_ASKED = """{
  instance { daemonHealth { allDaemonStatuses { daemonType required healthy } } }
  workspaceOrError { ... on Workspace { locationEntries { locationOrLoadError {
    ... on PythonError { message }
    ... on RepositoryLocation { repositories {
      assetNodes { assetKey { path } }
      sensors { name sensorState { status } }
      schedules { name scheduleState { status } }
    } }
  } } } }
}"""


@dataclass(frozen=True)
class Served:
    """The running program and where it answers."""

    process: subprocess.Popen[bytes]
    address: str

    def ask(self) -> dict[str, Any]:
        """What the web server says of the daemons and of the code location."""
        request = urllib.request.Request(
            f"{self.address}/graphql",
            json.dumps({"query": _ASKED}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            data: dict[str, Any] = json.load(answer)["data"]
        return data


@pytest.fixture
def served(tmp_path: Path, postgres_url: str) -> Iterator[Served]:
    home, configs, port = tmp_path / "home", ROOT / "configs", free_port()
    Workspace.open(home, configs, postgres_url, migrate=True).close()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "iotbill_pipelines.cli.main"),
            *("--home", str(home), "--configs", str(configs), "--database-url", postgres_url),
            *("up", "--port", str(port)),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield Served(process, f"http://127.0.0.1:{port}")
    finally:
        if process.poll() is None:
            for left in psutil.Process(process.pid).children(recursive=True):
                left.kill()
            process.kill()
            process.wait()


def test_up_serves_the_code_location_with_its_daemons_and_leaves_no_process(
    served: Served,
) -> None:
    wait_for(f"{served.address}/server_info", served.process)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while waited_for := _without_heartbeat(answer := served.ask()):
        assert time.monotonic() < deadline, waited_for
        time.sleep(0.3)

    (entry,) = answer["workspaceOrError"]["locationEntries"]
    (repository,) = entry["locationOrLoadError"]["repositories"]
    ours = defs.get_repository_def()
    assert {tuple(node["assetKey"]["path"]) for node in repository["assetNodes"]} == {
        tuple(key.path) for key in ours.asset_graph.get_all_asset_keys()
    }
    assert {each["name"]: each["sensorState"]["status"] for each in repository["sensors"]} == {
        each.name: each.default_status.value for each in ours.sensor_defs
    }
    assert {each["name"]: each["scheduleState"]["status"] for each in repository["schedules"]} == {
        each.name: each.default_status.value for each in ours.schedule_defs
    }

    # as a service manager ends it
    below = psutil.Process(served.process.pid).children(recursive=True)
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(PATIENCE_SECONDS) == 0
    _, left = psutil.wait_procs(below, timeout=30)
    assert [process.cmdline() for process in left] == []


def _without_heartbeat(answer: dict[str, Any]) -> list[str]:
    daemons = answer["instance"]["daemonHealth"]["allDaemonStatuses"]
    return [each["daemonType"] for each in daemons if each["required"] and not each["healthy"]]
