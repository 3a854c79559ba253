"""The code location: it loads, it is light, and it mirrors the list of stages."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import dagster as dg
import pytest
from dagster._core.workspace.load_target import ModuleTarget, WorkspaceFileTarget

from iotbill_pipelines.config.close import ClosePolicy
from iotbill_pipelines.operations.close import CLOSE_STAGES
from iotbill_pipelines.shell.assembly import build_definitions
from iotbill_pipelines.shell.closing import CLOSE_JOB
from iotbill_pipelines.shell.partitions import accounting_months, received_days
from iotbill_pipelines.shell.resources import WorkspaceResource
from tests.conftest import ROOT

HEAVY = ("pandas", "great_expectations", "dbt", "duckdb", "deltalake", "openpyxl", "pandera")


@pytest.fixture(scope="module")
def definitions() -> dg.Definitions:
    return build_definitions(WorkspaceResource(home="h", configs="c"), ClosePolicy())


def test_the_code_location_is_valid(definitions: dg.Definitions) -> None:
    dg.Definitions.validate_loadable(definitions)


def test_the_workspace_file_is_our_code_location() -> None:
    (location,) = WorkspaceFileTarget([str(ROOT / "workspace.yaml")]).create_origins()
    (installed,) = ModuleTarget("iotbill_pipelines.definitions", None, None, None).create_origins()
    assert location.location_name == installed.location_name
    module = import_module(location.loadable_target_origin.module_name)
    assert isinstance(module.defs, dg.Definitions)


def test_every_stage_is_an_asset_in_the_same_order(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    for stage in CLOSE_STAGES:
        node = graph.get(dg.AssetKey(stage.asset))
        assert {key.to_user_string() for key in node.parent_keys} == set(stage.reads)
        assert node.group_name == stage.group
        assert node.partitions_def == accounting_months
        assert node.owners and node.kinds and node.description
    order = [key.to_user_string() for key in graph.toposorted_asset_keys]
    for stage in CLOSE_STAGES:
        assert all(order.index(read) < order.index(stage.asset) for read in stage.reads)


def test_every_gate_is_a_check_that_can_stop_the_close(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    for stage in CLOSE_STAGES:
        keys = graph.get_check_keys_for_assets({dg.AssetKey(stage.asset)})
        assert {key.name for key in keys} == {gate.code for gate in stage.all_gates}
        assert all(graph.get_check_spec(key).blocking for key in keys)


def test_the_close_job_has_every_stage_and_nothing_else(definitions: dg.Definitions) -> None:
    job = definitions.resolve_job_def(CLOSE_JOB)
    assert {node.name for node in job.nodes} == {stage.asset for stage in CLOSE_STAGES}
    assert job.executor_def is dg.in_process_executor


def test_partitions_stay_few() -> None:
    assert len(received_days.get_partition_keys()) < 10_000
    assert "2026-10" in accounting_months.get_partition_keys()


def test_groups_stand_in_the_order_of_the_close() -> None:
    groups = [stage.group for stage in CLOSE_STAGES]
    assert groups == sorted(groups)


@pytest.mark.parametrize(
    "code",
    [
        "import iotbill_pipelines.definitions",
        "import iotbill_pipelines.cli.main",
    ],
)
def test_loading_imports_nothing_heavy(code: str) -> None:
    """A code server reloads often, and help must answer at once."""
    program = f"{code}\nimport sys\nprint([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_command_line_loads_no_dagster() -> None:
    program = "import iotbill_pipelines.cli.main, sys; print('dagster' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
