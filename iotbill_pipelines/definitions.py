"""Dagster's entry point (workspace.yaml): the workspace that the environment names."""

from iotbill_pipelines.config.close import read_close_policy
from iotbill_pipelines.config.sources import load_sources
from iotbill_pipelines.shell.assembly import build_definitions
from iotbill_pipelines.shell.environment import location_from_environment
from iotbill_pipelines.shell.resources import WorkspaceResource

_location = location_from_environment()

defs = build_definitions(
    WorkspaceResource.at(_location),
    read_close_policy(_location.configs),
    sources=load_sources(_location.configs).values(),
)
