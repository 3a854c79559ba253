"""Each stage of a closed month again by itself, as somebody clicks on one asset in Dagster."""

from __future__ import annotations

import json

from iotbill_pipelines.operations.close import CLOSE_STAGES
from tests.e2e.conftest import MONTH, QUICK, Company

# The job without a name that Dagster runs for assets picked from the graph.
_EACH_ALONE = f"""
{QUICK}
import json, sys
from pathlib import Path
import dagster as dg
from iotbill_pipelines.config.close import ClosePolicy
from iotbill_pipelines.operations.close import CLOSE_STAGES
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.shell.assembly import build_definitions
from iotbill_pipelines.shell.instance import open_instance
from iotbill_pipelines.shell.resources import WorkspaceResource

_, _, home, _, configs, _, url, *_ = sys.argv
workspace = WorkspaceResource(home=home, configs=configs, database_url=url)
definitions = build_definitions(workspace, ClosePolicy(), "CRITICAL")
job = definitions.resolve_implicit_global_asset_job_def()
done = {{}}
with open_instance(Workspace.open(Path(home), Path(configs), url)) as instance:
    for stage in CLOSE_STAGES:
        run = job.execute_in_process(
            instance=instance,
            partition_key="{MONTH}",
            asset_selection=[dg.AssetKey(key) for key in (stage.asset, *stage.tables)],
            raise_on_error=False,
        )
        made = [event.asset_key for event in run.get_asset_materialization_events()]
        done[stage.name] = [run.success, *sorted(key.to_user_string() for key in made)]
print(json.dumps(done))
"""


def test_a_stage_that_runs_again_alone_changes_nothing(company: Company) -> None:
    before = company.ledger()
    ran = company.run(program=_EACH_ALONE)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert json.loads(ran.stdout.splitlines()[-1]) == {
        stage.name: [True, *sorted((stage.asset, *stage.tables))] for stage in CLOSE_STAGES
    }
    assert company.ledger() == before
