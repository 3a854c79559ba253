"""Journals from summed charges: mapped, signed, balanced, hashed (RULEBOOK §9)."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal

from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.post.fx import Conversion, conversion
from iotbill_pipelines.engine.post.terms import (
    Attribute,
    JournalType,
    LedgerTerms,
    Role,
    map_account,
)
from iotbill_pipelines.engine.terms import TermsError


@dataclass(frozen=True, order=True)
class Cell:
    """Booked charges, or taxes on them, with the same attributes; their sum in minor units.

    ``unit`` is the part of the journal that balances by itself; empty if that is all of it.
    """

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
    unit: str = ""
    jurisdiction: str = ""
    tax: str = ""
    deferral: str = ""

    @property
    def attributes(self) -> dict[Attribute, str]:
        return {
            "entity": self.entity_id,
            "level": self.level,
            "charge_type": self.kind,
            "gl_class": self.gl_class,
            "product": self.product_id,
            "tax_code": self.tax_code,
            "jurisdiction": self.jurisdiction,
            "tax": self.tax,
            "deferral": self.deferral,
        }


@dataclass(frozen=True)
class Line:
    """A debit or a credit, in minor units; exactly one of them is greater than zero (GL-07).

    The functional amounts stand on the same side; the line that takes what conversion leaves over
    has nothing else. ``fx_rate`` is what one unit of the currency is worth in the functional one.
    """

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
    unit: str = ""
    functional_currency: str = ""
    functional_debit_minor: int = 0
    functional_credit_minor: int = 0
    fx_rate: Decimal = Decimal(1)
    fx_date: date | None = None
    fx_source: str | None = None


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
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), default=str)
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
    group of cells that cancels out altogether gives no journal. In functional currency each line is
    converted and rounded by itself; what is left over in a unit goes to the rounding account.

    Raises TermsError if a rate is missing.
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
        rate = conversion(terms, currency, terms.entity(entity_id).currency, period.last_day)
        for unit in sorted({cell.unit for cell in members}):
            first = len(lines)
            for side in sides:
                side.write(lines, unit, rate, terms)
            _round(lines, first, unit, rate, terms)
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


def _round(lines: list[Line], first: int, unit: str, rate: Conversion, terms: LedgerTerms) -> None:
    left = sum(line.functional_debit_minor - line.functional_credit_minor for line in lines[first:])
    if not left:
        return
    if terms.fx_rounding_account is None:
        raise TermsError(
            ("fx_rounding_account",),
            f"converting {rate.currency} to {rate.functional} leaves minor units over; name the "
            "account that takes them in configs/ledger/ledger.yaml",
        )
    lines.append(
        Line(
            line_no=len(lines) + 1,
            role="rounding",
            is_suspense=False,
            account=terms.fx_rounding_account,
            account_name=terms.account(terms.fx_rounding_account).name,
            debit_minor=0,
            credit_minor=0,
            memo="conversion rounding",
            name=None,
            department=None,
            class_name=None,
            location=None,
            unit=unit,
            functional_currency=rate.functional,
            functional_debit_minor=max(-left, 0),
            functional_credit_minor=max(left, 0),
            fx_rate=rate.rate,
            fx_date=rate.date,
            fx_source=rate.source,
        )
    )


def reversed_lines(lines: Iterable[Line]) -> tuple[Line, ...]:
    """Return the lines with their sides swapped: what an accrual posts back (GL-03)."""
    return tuple(
        replace(
            line,
            debit_minor=line.credit_minor,
            credit_minor=line.debit_minor,
            functional_debit_minor=line.functional_credit_minor,
            functional_credit_minor=line.functional_debit_minor,
        )
        for line in lines
    )


_Key = tuple[str, str, bool, tuple[str, ...], tuple[str, str, str]]
"""Unit, account, whether it is suspense, values broken down by, and department, class, location."""


class _Side:
    """The debit or the credit side of a journal while its sums grow."""

    def __init__(self, role: Role, by: Sequence[str], sign: int) -> None:
        self.role, self.by, self.sign = role, by, sign
        self.sums: dict[str, dict[_Key, int]] = defaultdict(lambda: defaultdict(int))
        self.keys: dict[int, _Key] = {}
        self.numbers: dict[_Key, int] = {}

    def take(self, cell: Cell, terms: LedgerTerms) -> bool:
        rule = map_account(terms, self.role, cell.attributes)
        values = tuple(
            cell.account_id if attribute == "account" else cell.product_id for attribute in self.by
        )
        if rule is None:
            key: _Key = (cell.unit, terms.suspense_account, True, values, ("", "", ""))
        else:
            tags = (rule.department or "", rule.class_name or "", rule.location or "")
            key = (cell.unit, rule.account, False, values, tags)
        self.sums[cell.unit][key] += cell.amount_minor
        self.keys[cell.cell_no] = key
        return rule is not None

    def write(self, lines: list[Line], unit: str, rate: Conversion, terms: LedgerTerms) -> None:
        for key, amount in sorted(self.sums[unit].items()):
            signed = amount * self.sign
            if not signed:
                continue
            functional = rate.minor(signed)
            _, account, is_suspense, values, (department, class_name, location) = key
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
                    unit=unit,
                    functional_currency=rate.functional,
                    functional_debit_minor=max(functional, 0),
                    functional_credit_minor=max(-functional, 0),
                    fx_rate=rate.rate,
                    fx_date=rate.date,
                    fx_source=rate.source,
                )
            )
            self.numbers[key] = line_no

    def line_of(self, cell: Cell) -> int | None:
        return self.numbers.get(self.keys[cell.cell_no])
