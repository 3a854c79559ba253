"""Old runs that are no evidence go, with their events; runs of closes stay."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import dagster as dg
import pytest

from iotbill_pipelines.config.documents import ConfigError
from iotbill_pipelines.shell.closing import CLOSE_TAG
from iotbill_pipelines.shell.forgetting import forget_runs
from iotbill_pipelines.shell.instance import kept_days
from iotbill_pipelines.shell.receiving import RECEIVE_TAG
from iotbill_pipelines.shell.retrying import RETRY_TAG
from tests.conftest import ROOT


@dg.op
def _nothing() -> None: ...


@dg.job
def _work() -> None:
    _nothing()


def test_old_runs_of_receiving_go_and_closes_stay() -> None:
    tags = ({RECEIVE_TAG: "files"}, {RETRY_TAG: "suspense"}, {CLOSE_TAG: "month"})
    with dg.DagsterInstance.ephemeral() as instance:
        runs = [_work.execute_in_process(instance=instance, tags=t).run_id for t in tags]
        assert forget_runs(instance, datetime.now(UTC) - timedelta(days=1)) == 0
        assert len(instance.get_runs()) == 3
        assert forget_runs(instance, datetime.now(UTC) + timedelta(days=1)) == 2
        assert [run.run_id for run in instance.get_runs()] == [runs[2]]
        assert not instance.all_logs(runs[0]) and instance.all_logs(runs[2])


def test_how_long_is_configured(tmp_path: Path) -> None:
    def days(configs: Path) -> int | None:
        return kept_days(cast(Any, SimpleNamespace(configs=configs)))

    assert days(ROOT / "configs") == 90
    assert days(tmp_path) is None
    (tmp_path / "dagster").mkdir()
    (tmp_path / "dagster" / "instance.yaml").write_text("iotbill: {receive_runs_days: 0}\n")
    with pytest.raises(ConfigError, match=r"receive_runs_days.*above zero"):
        days(tmp_path)
