"""What running a published case can come to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Case = dict[str, Any]


@dataclass(frozen=True)
class Check:
    """One figure of a case: as published, and as the engine gives it."""

    what: str
    expected: object
    found: object

    @property
    def holds(self) -> bool:
        return self.expected == self.found


@dataclass(frozen=True)
class Run:
    """How a case is run. ``policy``: the setting under which the engine gives the peer's amount.

    ``peer_wrong``: why the peer's figure is not the one held to; the check has the exact one.
    """

    adapter: Callable[[Case], list[Check]]
    policy: str = ""
    peer_wrong: str = ""


@dataclass(frozen=True)
class OutOfScope:
    """A case that is not run, and why."""

    reason: str


Entry = Run | OutOfScope


def compare(case: Case, found: dict[str, Any]) -> list[Check]:
    """Hold every expected key to what was found."""
    return [Check(key, value, found[key]) for key, value in case["expected"].items()]
