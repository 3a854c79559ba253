"""Dagster's pages in a real headless browser: what an operator sees of the flow, a run, a check.

The close is played: its stages return figures without computing any. Pictures of the pages go to
the folder that IOTBILL_SCREENSHOTS names.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from iotbill_pipelines.config.close import ClosePolicy
from iotbill_pipelines.operations.close import CLOSE_STAGES, Stage
from iotbill_pipelines.operations.stages import Finding, StageResult
from iotbill_pipelines.shell import closing
from iotbill_pipelines.shell.assembly import build_definitions
from iotbill_pipelines.shell.closing import CLOSE_JOB
from iotbill_pipelines.shell.resources import WorkspaceResource
from tests.conftest import ROOT
from tests.shell.servers import free_port, wait_for

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)

pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="there is no chromium to look with"),
    pytest.mark.skipif(
        not os.environ.get("IOTBILL_TEST_BROWSER"),
        reason="starts a web server and a browser, half a minute: `make test-browser` does",
    ),
]


def _played(stage: Stage) -> StageResult:
    findings = []
    if stage.name == "reconcile_vendors":
        findings = [
            Finding(
                "reconciliation",
                "warn",
                "bics: a part of the variance has no known cause",
                "EUR 9.63",
                "look at the lines marked Unexplained in the workbook and ask the vendor",
            )
        ]
    return StageResult(
        rows={"lines compared": 1140, **dict.fromkeys(stage.tables, 7)},
        amounts=[("bics expected", "EUR", Decimal("137.01"))],
        preview=pa.table({"vendor": ["bics"], "variance": ["3.33"]}),
        findings=findings,
    )


@dataclass(frozen=True)
class Served:
    """A web server with one close in its history."""

    address: str
    run_id: str
    profile: Path

    def page(self, path: str, name: str, size: str = "1700,1000") -> str:
        """The text of a page as a person sees it once everything is loaded."""
        assert BROWSER is not None
        command = [
            *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            *(f"--user-data-dir={self.profile}", f"--window-size={size}"),
            "--virtual-time-budget=25000",
        ]
        url = f"{self.address}{path}"
        shots = os.environ.get("IOTBILL_SCREENSHOTS")
        if shots:
            picture = f"--screenshot={Path(shots, f'{name}.png')}"
            subprocess.run([*command, picture, url], check=True, capture_output=True, timeout=120)
        done = subprocess.run(
            [*command, "--dump-dom", url], check=True, capture_output=True, timeout=120
        )
        text = re.sub(r"<(script|style)\b.*?</\1>", " ", done.stdout.decode(), flags=re.DOTALL)
        return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", text)))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("web")
    home = folder / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\nnux: {enabled: false}\n")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        run_id = _close(instance)
    port = free_port()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "dagster_webserver"),
            *("--module-name", "iotbill_pipelines.definitions"),
            *("--host", "127.0.0.1", "--port", str(port)),
        ],
        cwd=ROOT,
        env={
            **os.environ,
            "DAGSTER_HOME": str(home),
            "IOTBILL_HOME": str(folder / "home"),
            "PYTHONPATH": str(ROOT),
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        address = f"http://127.0.0.1:{port}"
        wait_for(f"{address}/server_info", process)
        yield Served(address, run_id, folder / "profile")
    finally:
        process.terminate()
        process.wait(30)


def _close(instance: dg.DagsterInstance) -> str:
    """Run the close job of a month with stages that only say what they found."""

    @contextmanager
    def configured(*_: object, **__: object) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(configs=ROOT / "configs")

    def play(_: Any, __: Any, stage: Stage) -> StageResult:
        return _played(stage)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(closing, "run_stage", play)
        patch.setattr(WorkspaceResource, "open", configured)
        definitions = build_definitions(WorkspaceResource(home="h", configs="c"), ClosePolicy())
        job = definitions.resolve_job_def(CLOSE_JOB)
        done = job.execute_in_process(instance=instance, partition_key="2026-10")
    assert done.success
    return done.run_id


def test_the_graph_tells_the_flow_by_groups_in_order(served: Served) -> None:
    shown = served.page("/asset-groups", "asset_graph")
    groups = list(dict.fromkeys(["1_receive", *(stage.group for stage in CLOSE_STAGES)]))
    places = [shown.find(group) for group in groups]
    assert -1 not in places
    assert places == sorted(places)


def test_a_run_shows_its_month_its_stages_and_how_it_ended(served: Served) -> None:
    shown = served.page(f"/runs/{served.run_id}", "run")
    assert "Success" in shown
    assert CLOSE_JOB in shown
    assert "2026-10" in shown
    assert f"Succeeded ({len(CLOSE_STAGES)})" in shown


def test_a_check_reads_as_a_sentence_and_says_what_to_do(served: Served) -> None:
    shown = served.page(
        "/assets/vendor_reconciliation?view=checks&checkDetail=reconciliation", "check"
    )
    assert "Every vendor is reconciled or accrued, and every cause is told." in shown
    assert "bics: a part of the variance has no known cause" in shown
    assert "EUR 9.63" in shown
    assert "look at the lines marked Unexplained in the workbook and ask the vendor" in shown


def test_an_asset_says_what_it_is_whose_it_is_and_what_it_found(served: Served) -> None:
    shown = served.page("/assets/vendor_reconciliation?view=overview", "asset", "1700,1600")
    assert "Our expected cost against every carrier's invoices, line by line" in shown
    assert "finance-operations" in shown
    found = served.page("/assets/vendor_reconciliation?view=events", "events", "1700,1600")
    assert "rows: lines compared 1140" in found
    assert "bics expected EUR 137.01" in found
