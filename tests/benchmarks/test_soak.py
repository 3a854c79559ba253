"""A soak: what grows is told and what wavers is not; its sensors ask for what they should."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from iotbill_pipelines.cli.main import app
from iotbill_pipelines.operations import watching
from iotbill_pipelines.operations.benchmarks import market
from iotbill_pipelines.operations.benchmarks.month import prepare
from iotbill_pipelines.operations.close import run_stage, stage_named
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.shell.receiving import RECEIVE_JOB
from iotbill_pipelines.shell.retrying import RETRY_JOB
from iotbill_pipelines.shell.soaking import Daemon, Held, Soak, write_source
from tests import depth
from tests.conftest import ROOT

MB = 10**6
SIZE = market.Size(rows=8_000, sims=1_000, accounts=200)


def _leaks(receiving: list[Held], closing: list[Held]) -> list[str]:
    return Soak(receiving, closing, {}, 0, 0, 0, 0, 0).leaks()


def _looks(**held: list[int]) -> list[Held]:
    """Looks at a process of which only what is named changes."""
    count = max(map(len, held.values()))
    steady = {"memory_bytes": 400 * MB, "open_files": 25, "connections": 8}
    return [
        Held(number, float(number), **{name: held.get(name, [value] * count)[number]
                                       for name, value in steady.items()})
        for number in range(count)
    ]  # fmt: skip


@pytest.mark.parametrize(
    "held",
    [
        {"open_files": [20, 90, 25, 70, 22, 30]},
        {"connections": [2, 30, 8, 30, 6, 13]},
        {"memory_bytes": [n * MB for n in (100, 900, 400, 900, 420, 550)]},
        # what a process loads once is there after a third of the looks
        {"open_files": [5, 5, 40, 40, 41, 42], "memory_bytes": [MB, MB, *[900 * MB] * 4]},
        {"open_files": [500]},
    ],
)
def test_what_wavers_is_not_told(held: dict[str, list[int]]) -> None:
    assert _leaks(_looks(**held), _looks(**held)) == []


@pytest.mark.parametrize(
    ("held", "told"),
    [
        ({"open_files": [20, 20, 25, 26, 28, 31]}, "open files 25 -> 31"),
        ({"connections": [2, 8, 8, 9, 11, 14]}, "connections 8 -> 14"),
        ({"memory_bytes": [n * MB for n in (100, 400, 400, 420, 500, 551)]},
         "memory 400000000 -> 551000000"),
        ({"open_files": [25, 31]}, "open files 25 -> 31"),
    ],
)  # fmt: skip
def test_what_grew_is_told_of_either_process(held: dict[str, list[int]], told: str) -> None:
    grown, steady = _looks(**held), _looks(open_files=[25] * 6)
    assert _leaks(grown, steady) == [f"receiving: {told}"]
    assert _leaks(steady, grown) == [f"closing: {told}"]


def test_files_of_both_places_are_received_and_suspense_is_retried(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "QUIET", timedelta(0))
    files = market.write_usage(tmp_path / "files", SIZE, SIZE.rows // 8)
    configs = market.write_configs(ROOT / "configs", tmp_path / "configs")
    outbox = write_source(configs, tmp_path / "outbox")
    prepare(tmp_path / "home", configs, SIZE, postgres_url)
    ws = Workspace.open(tmp_path / "home", configs, postgres_url)
    customer = market.reference_tables(SIZE)["account"].slice(0, 1)
    daemon = Daemon(ws, outbox, customer)

    def rate(_text: str) -> None:
        """Does what the closing process does meanwhile, as far as suspense needs it."""
        run_stage(ws, market.PERIOD, stage_named("rate_usage"))

    daemon.receive(files, 3, rate)
    ws.close()
    assert 3 <= daemon.runs[RECEIVE_JOB] <= daemon.sent and daemon.looks
    assert len(list(outbox.iterdir())) == daemon.sent // 2
    assert daemon.runs[RETRY_JOB] >= 2  # one for the first suspense, one for a changed name


@pytest.mark.skipif(not depth.DEEP, reason="two closes in a process of their own: make test-deep")
def test_a_small_soak(tmp_path: Path, postgres_url: str) -> None:
    figures = tmp_path / "soak.json"
    told = CliRunner().invoke(
        app,
        [
            *("--configs", str(ROOT / "configs"), "--database-url", postgres_url),
            *("bench", "soak", "--runs", "10", "--dir", str(tmp_path), "--json", str(figures)),
        ],
    )
    assert told.exit_code == 0, told.output
    found = json.loads(figures.read_text("utf-8"))
    assert found["rows_received"] == 500 * found["files"] and not found["rows_booked_twice"]
    assert len(found["closing"]) >= 2 and found["runs"][RECEIVE_JOB] >= 10
