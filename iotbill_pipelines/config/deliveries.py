"""``configs/deliveries.yaml`` -> when which feed's files are due, and how their names count."""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, model_validator

from iotbill_pipelines.config.documents import parse, read_yaml
from iotbill_pipelines.engine.feeds.spec import Zone
from iotbill_pipelines.engine.terms import Terms, TermsError


def _pattern(text: str) -> str:
    try:
        groups = set(re.compile(text).groupindex)
    except re.error as error:
        raise ValueError(f"is not a regular expression: {error}") from None
    if "day" not in groups or groups - {"day", "number"}:
        raise ValueError(
            "needs a group (?P<day>...) for the date in a file's name, and may have (?P<number>...)"
        )
    return text


class Due(Terms):
    """Until when a day's files may take: this many days after it, at this hour."""

    days: int = Field(1, ge=0, le=60)
    hour: int = Field(12, ge=0, le=23)
    zone: Zone = "UTC"


class Delivery(Terms):
    """What a carrier promised of a feed."""

    feed: str
    name: Annotated[str, AfterValidator(_pattern)]
    """Found in a file's base name: its ``day`` is 2026-10-31 or 20261031 (or a month, 2026-10);
    its ``number``, if there is one, counts the files of a day without gaps."""
    every: Literal["day", "weekday", "month"] = "day"
    files: int = Field(1, ge=1)
    """Least number of files of a day."""
    since: date | None = None
    """First day that is due; by default the first that came."""
    until: date | None = None
    """Last day that is due, of a feed that has ended."""
    due: Due = Due()

    def day_of(self, file_name: str) -> tuple[date, int | None] | None:
        """The day and number that a file's name tells, None if it tells neither."""
        found = re.search(self.name, file_name)
        if found is None:
            return None
        digits = re.sub(r"\D", "", found["day"])
        try:
            day = date(int(digits[:4]), int(digits[4:6]), int(digits[6:8] or 1))
        except ValueError:
            return None
        number = found.groupdict().get("number")
        return day, int(number) if number and number.isdigit() else None

    def due_days(self, first: date, now: datetime) -> list[date]:
        """The days from ``first`` whose files must be there by ``now`` (an aware time)."""
        here = now.astimezone(ZoneInfo(self.due.zone))
        day, found = self.since or first, []
        while (self.until is None or day <= self.until) and self._due_at(day) <= here:
            if self.every == "day" or (self.every == "weekday" and day.weekday() < 5):
                found.append(day)
            elif self.every == "month" and (day.day == 1 or day == (self.since or first)):
                found.append(day.replace(day=1))
            day += timedelta(days=1)
        return found

    def _due_at(self, day: date) -> datetime:
        last = day
        if self.every == "month":
            following = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
            last = following - timedelta(days=1)
        return datetime.combine(
            last + timedelta(days=self.due.days), time(self.due.hour), ZoneInfo(self.due.zone)
        )


class Deliveries(Terms):
    look_back_days: int = Field(45, ge=1, le=400)
    """Days that are watched: what never came by then was given up."""
    deliveries: tuple[Delivery, ...] = ()

    @model_validator(mode="after")
    def _once(self) -> Deliveries:
        seen: set[str] = set()
        for number, delivery in enumerate(self.deliveries):
            if delivery.feed in seen:
                raise TermsError(
                    ("deliveries", number, "feed"), f"{delivery.feed} stands twice; keep one"
                )
            seen.add(delivery.feed)
        return self


def read_deliveries(configs: Path) -> Deliveries:
    """Read ``deliveries.yaml`` of a configuration folder; nothing is due where it is absent.

    Raises ConfigError naming file, line, key and what to do.
    """
    path = configs / "deliveries.yaml"
    if not path.exists():
        return Deliveries()
    return parse(Deliveries, read_yaml(path))
