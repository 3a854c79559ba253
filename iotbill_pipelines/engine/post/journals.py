"""Journals from summed charges: mapped, signed, balanced, hashed (RULEBOOK §9)."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date

from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.post.terms import (
    Attribute,
    JournalType,
    LedgerTerms,
    Role,
    map_account,
)


@dataclass(frozen=True, order=True)
class Cell:
    """Booked charges with the same attributes, and their sum in minor units."""

    cell_no: int
    entity_id: str
    currency: str
    account_id: str
    level: str
    product_id: str
    kind: str
    gl_class: str
    tax_code: str
    charges: int
    amount_minor: int

    @property
    def attributes(self) -> dict[Attribute, str]:
        return {
            "entity": self.entity_id,
            "level": self.level,
            "charge_type": self.kind,
            "gl_class": self.gl_class,
            "product": self.product_id,
            "tax_code": self.tax_code,
        }


@dataclass(frozen=True)
class Line:
    """A debit or a credit, in minor units; exactly one of them is greater than zero (GL-07)."""

    line_no: int
    role: str
    is_suspense: bool
    account: str
    account_name: str
    debit_minor: int
    credit_minor: int
    memo: str
    name: str | None
    department: str | None
    class_name: str | None
    location: str | None


@dataclass(frozen=True)
class JournalDraft:
    """A balanced journal without its number. ``cells`` maps cells to (debit, credit) lines.

    A line is None where the charges behind it cancelled out.
    """

    entity_id: str
    currency: str
    period: Month
    journal_type: str
    journal_date: date
    memo: str
    lines: tuple[Line, ...]
    cells: dict[int, tuple[int | None, int | None]]

    @property
    def content_hash(self) -> str:
        """SHA-256 of what the journal says; ids that a database assigned are not in it."""
        content = [
            [self.entity_id, self.currency, str(self.period), self.journal_type],
            [self.journal_date.isoformat(), self.memo],
            [list(vars(line).values()) for line in self.lines],
        ]
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def total_minor(self) -> int:
        """Sum of the debits, which is the sum of the credits."""
        return sum(line.debit_minor for line in self.lines)


@dataclass(frozen=True)
class Unmapped:
    """A sum of charges that no GL rule takes: it stands in suspense and blocks the close."""

    role: str
    cell: Cell


def external_id(entity_id: str, period: Month, journal_type: str, revision: int) -> str:
    """Return ``ENTITY-PERIOD-TYPE-nnn`` (RULEBOOK §9)."""
    return f"{entity_id}-{period}-{journal_type}-{revision:03d}"


def build_journals(
    cells: Iterable[Cell], journal_type: JournalType, period: Month, terms: LedgerTerms
) -> tuple[list[JournalDraft], list[Unmapped]]:
    """Return a journal per entity and currency, and what had to go to suspense.

    Every cell adds the same amount to a debit and to a credit line, so a journal balances by
    construction; a line that turns out negative swaps its side; one that is zero is left out. A
    group of cells that cancels out altogether gives no journal.
    """
    groups: dict[tuple[str, str], list[Cell]] = defaultdict(list)
    for cell in sorted(cells):
        groups[cell.entity_id, cell.currency].append(cell)
    drafts: list[JournalDraft] = []
    unmapped: list[Unmapped] = []
    for (entity_id, currency), members in sorted(groups.items()):
        sides = [
            _Side(journal_type.debit, journal_type.debit_by, 1),
            _Side(journal_type.credit, journal_type.credit_by, -1),
        ]
        for cell in members:
            for side in sides:
                if not side.take(cell, terms):
                    unmapped.append(Unmapped(side.role, cell))
        lines: list[Line] = []
        for side in sides:
            side.write(lines, terms)
        if lines:
            drafts.append(
                JournalDraft(
                    entity_id=entity_id,
                    currency=currency,
                    period=period,
                    journal_type=journal_type.type,
                    journal_date=period.last_day,
                    memo=journal_type.memo.format(
                        type=journal_type.type,
                        period=period,
                        entity=entity_id,
                        currency=currency,
                    ),
                    lines=tuple(lines),
                    cells={
                        cell.cell_no: (sides[0].line_of(cell), sides[1].line_of(cell))
                        for cell in members
                    },
                )
            )
    return drafts, unmapped


_Key = tuple[str, bool, tuple[str, ...], tuple[str, str, str]]
"""Account, whether it is suspense, values broken down by, and department, class, location."""


class _Side:
    """The debit or the credit side of a journal while its sums grow."""

    def __init__(self, role: Role, by: Sequence[str], sign: int) -> None:
        self.role, self.by, self.sign = role, by, sign
        self.sums: dict[_Key, int] = defaultdict(int)
        self.keys: dict[int, _Key] = {}
        self.numbers: dict[_Key, int] = {}

    def take(self, cell: Cell, terms: LedgerTerms) -> bool:
        rule = map_account(terms, self.role, cell.attributes)
        values = tuple(
            cell.account_id if attribute == "account" else cell.product_id for attribute in self.by
        )
        if rule is None:
            key: _Key = (terms.suspense_account, True, values, ("", "", ""))
        else:
            tags = (rule.department or "", rule.class_name or "", rule.location or "")
            key = (rule.account, False, values, tags)
        self.sums[key] += cell.amount_minor
        self.keys[cell.cell_no] = key
        return rule is not None

    def write(self, lines: list[Line], terms: LedgerTerms) -> None:
        for key, amount in sorted(self.sums.items()):
            signed = amount * self.sign
            if not signed:
                continue
            account, is_suspense, values, (department, class_name, location) = key
            named = dict(zip(self.by, values, strict=True))
            line_no = len(lines) + 1
            lines.append(
                Line(
                    line_no=line_no,
                    role=self.role,
                    is_suspense=is_suspense,
                    account=account,
                    account_name=terms.account(account).name,
                    debit_minor=max(signed, 0),
                    credit_minor=max(-signed, 0),
                    memo=", ".join(f"{name} {value}" for name, value in named.items()) or self.role,
                    name=named.get("account"),
                    department=department or None,
                    class_name=class_name or None,
                    location=location or None,
                )
            )
            self.numbers[key] = line_no

    def line_of(self, cell: Cell) -> int | None:
        return self.numbers.get(self.keys[cell.cell_no])
