"""Where the workspace is, from the environment: read here and by the command line, nowhere else."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

HOME_VARIABLE = "IOTBILL_HOME"
DATABASE_VARIABLE = "IOTBILL_DATABASE_URL"
CONFIGS_VARIABLE = "IOTBILL_CONFIGS"
MEMORY_VARIABLE = "IOTBILL_MEMORY_LIMIT"

DEFAULT_MEMORY_LIMIT = "750MB"
"""With what a process needs beside it, below 1.5 GB for a month of 20 million records."""


@dataclass(frozen=True)
class Location:
    """A workspace's state folder, configuration folder and, if not embedded, its database."""

    home: Path
    configs: Path
    database_url: str | None = None

    def variables(self) -> dict[str, str]:
        """The environment under which another process finds the same workspace."""
        found = {HOME_VARIABLE: str(self.home), CONFIGS_VARIABLE: str(self.configs)}
        if self.database_url:
            found[DATABASE_VARIABLE] = self.database_url
        return found


def default_configs() -> Path:
    """``configs`` here if there is one, else the sample company's beside the program."""
    here = Path("configs")
    return here if here.is_dir() else Path(__file__).resolve().parents[2] / "configs"


def location_from_environment() -> Location:
    """Read the three variables; what is unset has the command line's defaults."""
    return Location(
        home=Path(os.environ.get(HOME_VARIABLE) or ".iotbill").resolve(),
        configs=Path(os.environ.get(CONFIGS_VARIABLE) or default_configs()).resolve(),
        database_url=os.environ.get(DATABASE_VARIABLE) or None,
    )


def memory_limit() -> str:
    """How much memory the embedded engine may use before it spills (``1GB``, ``512MB``)."""
    return os.environ.get(MEMORY_VARIABLE) or DEFAULT_MEMORY_LIMIT


def secret(variable: str) -> str | None:
    """The value of an environment variable that a source or an alert channel names."""
    return os.environ.get(variable)
