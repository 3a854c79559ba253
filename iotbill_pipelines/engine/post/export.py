"""A journal as the rows of an ERP's import file, by the target's columns (RULEBOOK §9)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.money import minor_digits
from iotbill_pipelines.engine.post.journals import Line
from iotbill_pipelines.engine.post.terms import Entity, ExportColumn, ExportTarget

_MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()

ExportCell = str | Decimal | int | date | None


@dataclass(frozen=True)
class PostedJournal:
    """A numbered journal."""

    external_id: str
    entity_id: str
    currency: str
    period: Month
    journal_type: str
    journal_date: date
    memo: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class ExportProblem:
    """A rule of the target that a journal breaks; the ERP would refuse the file."""

    external_id: str
    target: str
    message: str
    what_to_do: str


def file_name(journal: PostedJournal, target: ExportTarget) -> str:
    """Return the export's file name."""
    return target.file.format(
        external_id=journal.external_id,
        entity=journal.entity_id,
        period=journal.period,
        type=journal.journal_type,
        format=target.format,
    )


def export_rows(
    journal: PostedJournal, target: ExportTarget, entity: Entity
) -> list[list[ExportCell]]:
    """Return a row per journal line, in the target's columns. The unused side stays empty."""
    rows = []
    for line in journal.lines:
        values = _values(journal, line, entity)
        rows.append([_value(column, values) for column in target.columns])
    return rows


def export_problems(journal: PostedJournal, target: ExportTarget) -> Iterator[ExportProblem]:
    """Yield what the target's rules refuse: line counts, digits, decimals, balance."""

    def problem(message: str, what_to_do: str) -> ExportProblem:
        return ExportProblem(journal.external_id, target.id, message, what_to_do)

    count = len(journal.lines)
    if count < target.minimum_lines:
        yield problem(
            f"{count} lines, {target.id} wants at least {target.minimum_lines}",
            "check the GL mapping: a journal needs a debit and a credit",
        )
    if target.maximum_lines is not None and count > target.maximum_lines:
        yield problem(
            f"{count} lines, {target.id} takes {target.maximum_lines}",
            "break lines down by less in the journal's debit_by and credit_by",
        )
    debits = sum(line.debit_minor for line in journal.lines)
    credits_ = sum(line.credit_minor for line in journal.lines)
    if debits != credits_:
        yield problem(f"debits {debits} and credits {credits_} differ", "report this as a defect")
    digits = minor_digits(journal.currency)
    if target.decimals is not None and digits > target.decimals:
        yield problem(
            f"{journal.currency} has {digits} decimals, {target.id} takes {target.decimals}",
            "post this currency to another target",
        )
    if target.integer_digits is not None:
        limit = 10 ** (target.integer_digits + digits)
        for line in journal.lines:
            if max(line.debit_minor, line.credit_minor) >= limit:
                yield problem(
                    f"line {line.line_no} has more than {target.integer_digits} digits before "
                    "the point",
                    "break lines down by more in the journal's debit_by and credit_by",
                )


def _values(journal: PostedJournal, line: Line, entity: Entity) -> Mapping[str, ExportCell]:
    digits = minor_digits(journal.currency)

    def money(minor: int) -> Decimal:
        return Decimal(minor).scaleb(-digits)

    return {
        "external_id": journal.external_id,
        "date": journal.journal_date,
        "posting_period": journal.period.start,
        "entity": journal.entity_id,
        "subsidiary": entity.subsidiary or entity.name,
        "currency": journal.currency,
        "exchange_rate": Decimal("1.00") if journal.currency == entity.currency else None,
        "memo": journal.memo,
        "type": journal.journal_type,
        "line.number": line.line_no,
        "line.account": f"{line.account} {line.account_name}",
        "line.account_number": line.account,
        "line.account_name": line.account_name,
        "line.debit": money(line.debit_minor) if line.debit_minor else None,
        "line.credit": money(line.credit_minor) if line.credit_minor else None,
        "line.amount": money(line.debit_minor - line.credit_minor),
        "line.memo": line.memo,
        "line.name": line.name,
        "line.department": line.department,
        "line.class": line.class_name,
        "line.location": line.location,
    }


def _value(column: ExportColumn, values: Mapping[str, ExportCell]) -> ExportCell:
    if column.field is None:
        return column.constant
    value = values[column.field]
    if column.format is not None and isinstance(value, date):
        return format_date(value, column.format)
    return value


def format_date(day: date, pattern: str) -> str:
    """Write a date with the tokens YYYY, YY, MMM, MM, DD; month names are English everywhere."""
    tokens: Sequence[tuple[str, str]] = (
        ("YYYY", f"{day.year:04d}"),
        ("YY", f"{day.year % 100:02d}"),
        ("MMM", _MONTHS[day.month - 1]),
        ("MM", f"{day.month:02d}"),
        ("DD", f"{day.day:02d}"),
    )
    result, rest = "", pattern
    while rest:
        for token, text in tokens:
            if rest.startswith(token):
                result, rest = result + text, rest[len(token) :]
                break
        else:
            result, rest = result + rest[0], rest[1:]
    return result
