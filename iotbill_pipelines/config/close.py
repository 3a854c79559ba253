"""``configs/close.yaml`` -> the close policy: what may pass a gate, and when the close runs."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from iotbill_pipelines.config.documents import parse, read_yaml
from iotbill_pipelines.engine.terms import Money, Terms

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


class DraftReview(Terms):
    """Which accounts stand out against the month before, ahead of their invoices (RULEBOOK §11)."""

    percent: Decimal = Field(Decimal(50), gt=0, allow_inf_nan=False)
    """Changes of more than so many percent of the month before ..."""
    at_least: Money = Field(Decimal(100), ge=0)
    """... and of this amount at least, in the account's own currency."""
    verdict: Verdict = "warn"


class SchedulePolicy(Terms):
    """When the monthly close of the month before runs."""

    business_day: int = Field(3, ge=1, le=15)
    hour: int = Field(6, ge=0, le=23)
    time_zone: str = "UTC"
    holidays_of: str | None = None
    """ISO country whose public holidays are no business days; none by default."""
    move_periods: bool = False
    """Move periods by themselves, once a day: to soft_closed at the cut-off, then into review."""
    review_business_day: int | None = Field(None, ge=1, le=20)
    """Business day of the month after on which a soft-closed period goes into review, unless
    something blocks it. Left out: a person takes it there."""


class Person(Terms):
    """Somebody who moves periods; ``name`` is what ``--actor`` says."""

    name: str = Field(min_length=1)
    roles: list[str] = Field(min_length=1)


class PeriodPolicy(Terms):
    """Which roles may move a period, and what a sign-off asks for (RULEBOOK §11)."""

    soft_close: list[str] = Field(["close_team", "controller"], min_length=1)
    review: list[str] = Field(["close_team", "controller"], min_length=1)
    sign_off: list[str] = Field(["controller"], min_length=1)
    sign_off_signatures: int = Field(1, ge=1, le=5)
    """People who sign before a period in review is closed."""
    reopen: list[str] = Field(["controller", "cfo"], min_length=1)
    reopen_signatures: int = Field(2, ge=2, le=5)
    """People who sign before a closed period opens again; the database asks for two at least."""
    acknowledgement: Verdict = "warn"
    """A journal that the ERP has not acknowledged: block the sign-off, or warn."""
    gl_balances: Verdict = "warn"
    """General ledger balances that were not read: block the sign-off, or warn. A difference that
    is not explained always blocks."""


class CorrectionPolicy(Terms):
    """How far back a close corrects what was booked (RULEBOOK §11)."""

    look_back_months: int | None = Field(None, ge=1, le=240)
    """Usage periods that are older, counted from the month that is closed, are left as booked: a
    change that reaches them is told, not booked. Left out: there is no limit."""
    catalog_changes: Literal["propose", "book"] = "propose"
    """What happens once the configured catalog reaches into booked months: the run that corrects
    them is proposed to people, or launched."""


class ClosePolicy(Terms):
    """The gates' tolerances, who answers for them, and the close's calendar."""

    owners: dict[str, list[str]] = Field(default_factory=dict)
    """Who answers for which gates: a person or a team, and patterns of gates. The first that
    matches counts; who answers for all else stands last, with ``*``."""

    grace_days: int = Field(2, ge=0, le=60)
    """Cut-off = end of the period plus these days (RULEBOOK §11)."""
    grace_counts: Literal["calendar_days", "business_days"] = "calendar_days"
    """Business days are those of ``schedule``: its holidays, its time zone."""
    people: list[Person] = Field(default_factory=list)
    """Nobody named: everybody has every role, and two people still sign a reopening."""
    periods: PeriodPolicy = PeriodPolicy()
    suspense: SuspensePolicy = SuspensePolicy()
    files: FilePolicy = FilePolicy()
    reference_data: Verdict = "warn"
    data_quality: Verdict = "warn"
    """What a feed-day that breaks its feed's expectations does to the close."""
    draft_review: DraftReview = DraftReview()
    sim_counts: Verdict = "warn"
    """SIMs that vendors bill and nobody pays for, or that are charged without being in use."""
    schedule: SchedulePolicy = SchedulePolicy()
    corrections: CorrectionPolicy = CorrectionPolicy()

    @model_validator(mode="after")
    def _distinct_people(self) -> ClosePolicy:
        names = [person.name for person in self.people]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"people repeat: {', '.join(repeated)}")
        return self

    def owner_of(self, gate: str) -> str:
        """Return who answers for a gate of the checklist; empty if nobody is named."""
        return next(
            (
                owner
                for owner, patterns in self.owners.items()
                if any(fnmatchcase(gate, pattern) for pattern in patterns)
            ),
            "",
        )

    def role_of(self, actor: str, roles: Sequence[str]) -> str | None:
        """Return the first of ``roles`` that a person has, None if they have none of them."""
        if not self.people:
            return roles[0]
        held = next((person.roles for person in self.people if person.name == actor), [])
        return next((role for role in roles if role in held), None)


def read_close_policy(configs: Path) -> ClosePolicy:
    """Read ``close.yaml`` of a configuration folder; defaults where the file is absent.

    Raises ConfigError naming file, line, key and what to do.
    """
    path = configs / "close.yaml"
    if not path.exists():
        return ClosePolicy()
    return parse(ClosePolicy, read_yaml(path))
