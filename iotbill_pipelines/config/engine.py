"""``configs/engine.yaml`` -> what computes: this machine, or a Spark cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from iotbill_pipelines.config.documents import parse, read_yaml
from iotbill_pipelines.engine.terms import Terms


class EngineChoice(Terms):
    """Which engine rates and settles, and how it is reached. Results never depend on it."""

    engine: Literal["duckdb", "spark"] = "duckdb"
    master: str | None = Field(None, pattern=r"^(local|local-cluster|spark://|yarn|k8s://).*$")
    """Spark's master URL, such as ``spark://host:7077``, ``yarn`` or ``local[4]``."""
    scratch: str | None = None
    """Folder or URL that driver and executors all reach, for what lives as long as a step; by
    default ``spill`` in the state folder."""
    settings: dict[str, str | int] = Field(default_factory=dict)
    """Spark's own settings, as in ``spark.executor.memory: 8g``."""
    least_rows: int = Field(0, ge=0)
    """Steps over fewer rows stay on this machine: a cluster would only cost them time."""

    @model_validator(mode="after")
    def _check(self) -> EngineChoice:
        if self.engine == "spark" and not self.master:
            raise ValueError("engine: spark needs a master, such as spark://host:7077")
        if self.engine == "duckdb" and (self.master or self.settings or self.scratch):
            raise ValueError("master, scratch and settings are Spark's; say engine: spark")
        wrong = sorted(name for name in self.settings if not name.startswith("spark."))
        if wrong:
            raise ValueError(f"settings: {', '.join(wrong)}: Spark's settings begin with spark.")
        return self


def read_engine(configs: Path) -> EngineChoice:
    """Read ``engine.yaml`` of a configuration folder; DuckDB where the file is absent.

    Raises ConfigError naming file, line, key and what to do.
    """
    path = configs / "engine.yaml"
    return parse(EngineChoice, read_yaml(path)) if path.exists() else EngineChoice()
