"""The SQL of the stages, as files that an auditor can read: one statement a step."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def statement(stage: str, step: str) -> str:
    """Return the text of ``engine/<stage>/sql/<step>.sql``: one SELECT over named relations."""
    folder = files("iotbill_pipelines.engine").joinpath(stage, "sql")
    return folder.joinpath(f"{step}.sql").read_text(encoding="utf-8").strip()
