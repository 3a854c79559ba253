"""``configs/close.yaml`` -> the close policy: what may pass a gate, and when the close runs."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from iotbill_pipelines.config.documents import parse, read_yaml
from iotbill_pipelines.engine.terms import Terms

Share = Annotated[Decimal, Field(ge=0, le=1, allow_inf_nan=False)]
Verdict = Literal["block", "warn"]


class SuspensePolicy(Terms):
    """How much suspense a close bears (RULEBOOK §11: zero or waived)."""

    max_share_of_records: Share = Decimal(0)
    """Greatest suspended share of a usage month's records, 0 to 1."""


class FilePolicy(Terms):
    """What a file that could not be read does to the close."""

    quarantined: Verdict = "warn"
    unrecognised: Verdict = "warn"


class SchedulePolicy(Terms):
    """When the monthly close of the month before runs."""

    business_day: int = Field(3, ge=1, le=15)
    hour: int = Field(6, ge=0, le=23)
    time_zone: str = "UTC"
    holidays_of: str | None = None
    """ISO country whose public holidays are no business days; none by default."""


class ClosePolicy(Terms):
    """The gates' tolerances and the close's calendar."""

    grace_days: int = Field(2, ge=0, le=60)
    """Cut-off = end of the period plus these days (RULEBOOK §11)."""
    suspense: SuspensePolicy = SuspensePolicy()
    files: FilePolicy = FilePolicy()
    reference_data: Verdict = "warn"
    schedule: SchedulePolicy = SchedulePolicy()


def read_close_policy(configs: Path) -> ClosePolicy:
    """Read ``close.yaml`` of a configuration folder; defaults where the file is absent.

    Raises ConfigError naming file, line, key and what to do.
    """
    path = configs / "close.yaml"
    if not path.exists():
        return ClosePolicy()
    return parse(ClosePolicy, read_yaml(path))
