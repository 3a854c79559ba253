"""What a decoder hands over: records as text, findings that name their place, declared totals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Scope(StrEnum):
    """How far a finding reaches."""

    FILE = "file"
    """The file cannot be trusted as a whole: quarantine it (RULEBOOK §5, control totals)."""
    RECORD = "record"
    """One record is not usable; it is handed over all the same, so that it can be rejected."""
    NOTICE = "notice"
    """Worth showing; nothing is lost or doubtful because of it."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A typed finding. ``offset`` counts bytes from 0, ``line_no`` as the records do."""

    code: str
    message: str
    scope: Scope
    offset: int | None = None
    line_no: int | None = None


@dataclass(frozen=True, slots=True)
class RawRecord:
    """A record as delivered.

    ``line_no`` is the line (text), the row (sheets) or the ordinal of the event (binary files),
    from 1. A value is the delivered text, ``""`` where the source has an empty value and ``None``
    where it says that there is none. ``raw_text`` is what a person is shown: the text itself, or
    hexadecimal digits. ``problem`` is set on a record that must be rejected.
    """

    line_no: int
    fields: Mapping[str, str | None]
    raw_text: str
    problem: Problem | None = None


@dataclass(slots=True)
class Decoded:
    """A decoded file.

    ``problems`` and ``counted`` are complete when ``records`` is exhausted; everything that
    can be known from a file's frame alone is there from the start. ``header`` holds what the file
    says about itself, ``totals`` the control totals it declares, ``counted`` the same totals as
    found (both as exact decimal texts in the units of the file).
    """

    records: Iterator[RawRecord]
    problems: list[Problem] = field(default_factory=list)
    header: dict[str, str | None] = field(default_factory=dict)
    totals: dict[str, str] = field(default_factory=dict)
    counted: dict[str, str] = field(default_factory=dict)

    @property
    def quarantine(self) -> Problem | None:
        """The first finding for which the whole file has to be quarantined, if any so far."""
        return next((p for p in self.problems if p.scope is Scope.FILE), None)


class DecodeError(Exception):
    """A stream that cannot be read any further; carries the finding."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem
