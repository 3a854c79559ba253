"""``configs/alerts.yaml`` -> who is told of what, and how often.

A channel's address names its secrets in braces; their values come from environment variables where
the program starts, never from the file.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from decimal import Decimal
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote, urlsplit

from pydantic import ConfigDict, Field, model_validator

from iotbill_pipelines.config.documents import parse, read_yaml
from iotbill_pipelines.engine.terms import Terms, TermsError

Patterns = Annotated[tuple[str, ...], Field(min_length=1)]
AlertSeverity = Literal["block", "warn"]

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


class AlertOwner(Terms):
    """Whose business an incident is."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    owner: str = Field(min_length=1)
    """A team or person, as routes name it."""
    feeds: Patterns = ("*",)
    """Patterns of feed ids."""
    codes: Patterns = ("*",)
    """Patterns of incident codes."""


class Route(Terms):
    """Incidents that match every pattern given go to these channels."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    to: tuple[str, ...] = Field(min_length=1)
    """Names of channels."""
    codes: Patterns = ("*",)
    """Patterns of incident codes."""
    severities: tuple[AlertSeverity, ...] = ("block", "warn")
    """block stops a close, warn does not."""
    feeds: Patterns = ("*",)
    """Patterns of feed ids; an incident of no feed has the empty id."""
    owners: Patterns = ("*",)
    """Patterns of owners."""
    repeat_after_hours: int | None = Field(None, ge=0)
    """Instead of the general one; 0 = never."""


class AlertPolicy(Terms):
    """Channels, routes and patience."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    channels: dict[str, str] = Field(default_factory=dict)
    """Addresses of the apprise library by name; {NAMES} in braces are environment variables."""
    routes: tuple[Route, ...] = ()
    """Which incidents go where; every one that matches is followed."""
    owners: tuple[AlertOwner, ...] = ()
    """Whose business incidents are; the first that matches."""
    repeat_after_hours: int = Field(24, ge=0)
    """An incident that stays open is told again after these hours; 0 = never."""
    dispute_days: int = Field(14, ge=0, le=365)
    """A claim is told these days before its deadline."""
    variance_percent: Decimal = Field(Decimal(5), ge=0, le=1000)
    """A vendor's invoices that differ by more than this from what we expect are told."""
    source_grace_minutes: int = Field(15, ge=0)
    """A source that cannot be reached is told when it was last reached longer ago than this."""
    companion_grace_minutes: int = Field(60, ge=0)
    """A file whose companion has not come is told when it landed longer ago than this."""
    most_listed: int = Field(25, ge=1, le=500)
    """Most incidents that one message spells out."""

    @model_validator(mode="after")
    def _consistent(self) -> AlertPolicy:
        for name, url in self.channels.items():
            _check_address(name, url)
        for number, route in enumerate(self.routes):
            for place, name in enumerate(route.to):
                if name not in self.channels:
                    known = ", ".join(self.channels) or "none; add it under channels"
                    raise TermsError(
                        ("routes", number, "to", place), f"{name!r} is no channel; known: {known}"
                    )
        return self

    def owner_of(self, code: str, feed_id: str | None) -> str | None:
        """Whose business an incident is; the first entry that matches counts."""
        for entry in self.owners:
            if _matches(entry.codes, code) and _matches(entry.feeds, feed_id):
                return entry.owner
        return None

    def channels_of(
        self, code: str, severity: str, feed_id: str | None, owner: str | None
    ) -> dict[str, int]:
        """The channels that hear of an incident, each with its hours until it is told again."""
        found: dict[str, int] = {}
        for route in self.routes:
            if (
                severity in route.severities
                and _matches(route.codes, code)
                and _matches(route.feeds, feed_id)
                and _matches(route.owners, owner)
            ):
                hours = route.repeat_after_hours
                hours = self.repeat_after_hours if hours is None else hours
                for name in route.to:
                    held = found.get(name, 0)
                    found[name] = min(held, hours) if held and hours else held or hours
        return found


def _matches(patterns: tuple[str, ...], value: str | None) -> bool:
    return any(fnmatchcase(value or "", pattern) for pattern in patterns)


def _check_address(name: str, url: str) -> None:
    for variable in _PLACEHOLDER.findall(url):
        if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", variable):
            raise TermsError(
                ("channels", name), f"{{{variable}}} is no name of an environment variable"
            )
    if _PLACEHOLDER.fullmatch(url):
        return
    if not re.match(r"[a-z][a-z0-9+]*://", url):
        raise TermsError(("channels", name), "write an address such as mailtos://... or json://...")
    user, _, password = urlsplit(url).netloc.rpartition("@")[0].partition(":")
    if password and not _PLACEHOLDER.search(password):
        raise TermsError(
            ("channels", name),
            f"must not hold a password; write {user or 'user'}:{{SOME_VARIABLE}}@ and set that "
            "environment variable",
        )


class SecretMissing(ValueError):
    """An environment variable that a channel names is not set."""


def address(name: str, url: str, secret: Callable[[str], str | None]) -> tuple[str, list[str]]:
    """Return a channel's address with its secrets in place, and the secrets, to keep them quiet.

    Raises SecretMissing naming channel and variable.
    """
    values: list[str] = []

    def value(match: re.Match[str]) -> str:
        found = secret(match[1])
        if not found:
            raise SecretMissing(
                f"the environment variable {match[1]} is not set; channel {name} needs it"
            )
        values.append(found)
        return found if _PLACEHOLDER.fullmatch(url) else quote(found, safe="")

    return _PLACEHOLDER.sub(value, url), values


def alert_schema() -> str:
    """Return the JSON Schema of alerts.yaml, as published in docs/, for editors.

    Write it again with ``python -m iotbill_pipelines.config.alerts > docs/alerts.schema.json``.
    """
    return json.dumps(AlertPolicy.model_json_schema(), indent=1, default=str) + "\n"


def read_alert_policy(configs: Path) -> AlertPolicy:
    """Read ``alerts.yaml`` of a configuration folder; nobody is told where it is absent.

    Raises ConfigError naming file, line, key and what to do.
    """
    path = configs / "alerts.yaml"
    if not path.exists():
        return AlertPolicy()
    return parse(AlertPolicy, read_yaml(path))


if __name__ == "__main__":
    sys.stdout.write(alert_schema())
