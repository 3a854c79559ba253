"""A journal as the files of an ERP, by the target's columns and within its limits (RULEBOOK §9)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from itertools import groupby

from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.money import minor_digits
from iotbill_pipelines.engine.post.journals import Line
from iotbill_pipelines.engine.post.terms import (
    Entity,
    ExportColumn,
    ExportTarget,
    LedgerTerms,
)

_MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()

ExportCell = str | Decimal | int | date | None


@dataclass(frozen=True)
class PostedJournal:
    """A numbered journal. ``reverses`` is the external id of the accrual that it posts back."""

    external_id: str
    entity_id: str
    currency: str
    period: Month
    journal_type: str
    journal_date: date
    memo: str
    lines: tuple[Line, ...]
    revision: int = 1
    state: str = "built"
    is_accrual: bool = False
    reverses: str | None = None


@dataclass(frozen=True)
class Document:
    """A journal, or a balanced part of it that a target takes at once.

    ``id`` is the journal's external id, with the part's number behind it if there are several;
    ``number`` is short: entity, year and month, type and revision, at most 16 characters.
    """

    journal: PostedJournal
    id: str
    number: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class ExportFile:
    """A file of a target: its name and the documents in it."""

    name: str
    documents: tuple[Document, ...]


@dataclass(frozen=True)
class ExportProblem:
    """A rule of the target that a journal breaks; the ERP would refuse the file."""

    external_id: str
    target: str
    message: str
    what_to_do: str


def documents(journal: PostedJournal, target: ExportTarget, terms: LedgerTerms) -> list[Document]:
    """Split a journal at its balanced units into what the target takes at once (GL-06).

    As many whole units as fit make a document. A unit that does not fit alone makes one that is too
    long, which :func:`export_problems` reports. Lines without an amount in transaction currency are
    left out where the target shows no functional amounts: the ERP then rounds itself.
    """
    shown = [
        line
        for line in journal.lines
        if target.shows_functional or line.debit_minor or line.credit_minor
    ]
    parts: list[list[Line]] = []
    for _, unit in groupby(shown, key=lambda line: line.unit):
        lines = list(unit)
        limit = target.maximum_lines
        if parts and (limit is None or len(parts[-1]) + len(lines) <= limit):
            parts[-1] += lines
        else:
            parts.append(lines)
    number = _document_number(journal, terms)
    if len(parts) == 1:
        return [Document(journal, journal.external_id, number, tuple(parts[0]))]
    width = max(2, len(str(len(parts))))
    return [
        Document(
            journal,
            f"{journal.external_id}-{position:0{width}d}",
            f"{number}{position:0{width}d}",
            tuple(lines),
        )
        for position, lines in enumerate(parts, 1)
    ]


def export_files(
    journal: PostedJournal, target: ExportTarget, terms: LedgerTerms
) -> list[ExportFile]:
    """Return the files that carry a journal to a target, each within the target's limits."""
    split = documents(journal, target, terms)
    if target.documents_per_file == "one":
        return [
            ExportFile(_file_name(document.id, journal, target), (document,)) for document in split
        ]
    files: list[list[Document]] = [[]]
    for document in split:
        held = sum(len(other.lines) for other in files[-1])
        limit = target.maximum_lines_per_file
        if files[-1] and limit is not None and held + len(document.lines) > limit:
            files.append([])
        files[-1].append(document)
    if len(files) == 1:
        return [ExportFile(_file_name(journal.external_id, journal, target), tuple(files[0]))]
    return [
        ExportFile(
            _file_name(f"{journal.external_id}-file{position:02d}", journal, target), tuple(held)
        )
        for position, held in enumerate(files, 1)
    ]


def export_rows(
    file: ExportFile, target: ExportTarget, terms: LedgerTerms
) -> list[list[ExportCell]]:
    """Return a row per line, in the target's columns. The unused side stays empty."""
    rows: list[list[ExportCell]] = []
    for document in file.documents:
        entity = terms.entity(document.journal.entity_id)
        for place, line in enumerate(document.lines, 1):
            values = {
                **_journal_values(document, entity),
                **_line_values(document, line, target, terms),
                "line.number": place,
                "row.number": len(rows) + 1,
            }
            rows.append([_value(column, values) for column in target.columns])
    return rows


def form_rows(file: ExportFile, target: ExportTarget, terms: LedgerTerms) -> list[list[ExportCell]]:
    """Return the whole sheet of a target with a document header above the lines."""
    (document,) = file.documents
    values = _journal_values(document, terms.entity(document.journal.entity_id))
    head = [_value(column, values) for column in target.header_columns]
    width = max(len(target.columns), len(target.header_columns), 2)

    def names(columns: Sequence[ExportColumn]) -> Iterator[list[ExportCell]]:
        if target.technical_row:
            yield [column.technical for column in columns]
        yield [column.header for column in columns]

    rows: list[list[ExportCell]] = []
    if target.batch_label is not None:
        rows.append([target.batch_label, document.number])
    rows += [*names(target.header_columns), head]
    rows += [*names(target.columns), *export_rows(file, target, terms)]
    return [row + [None] * (width - len(row)) for row in rows]


def export_problems(
    journal: PostedJournal, target: ExportTarget, terms: LedgerTerms
) -> Iterator[ExportProblem]:
    """Yield what the target's rules refuse: counts, balance, digits, and every cell's own rules."""
    for document in documents(journal, target, terms):
        for message, what_to_do in _document_problems(document, target):
            yield ExportProblem(document.id, target.id, message, what_to_do)
    for file in export_files(journal, target, terms):
        limit, count = target.maximum_lines_per_file, sum(len(d.lines) for d in file.documents)
        if limit is not None and count > limit:
            yield ExportProblem(
                journal.external_id,
                target.id,
                f"{file.name} has {count} lines, {target.id} takes {limit} per file",
                _SPLIT,
            )
        for message, what_to_do in _cell_problems(file, target, terms):
            yield ExportProblem(journal.external_id, target.id, message, what_to_do)


_SPLIT = (
    "set unit: account or unit: invoice on the journal type, so that it can be split, or break "
    "lines down by less in debit_by and credit_by"
)


def _document_problems(document: Document, target: ExportTarget) -> Iterator[tuple[str, str]]:
    count = len(document.lines)
    if count < target.minimum_lines:
        yield (
            f"{count} lines, {target.id} wants at least {target.minimum_lines}",
            "check the GL mapping: a journal needs a debit and a credit",
        )
    if target.maximum_lines is not None and count > target.maximum_lines:
        yield (
            f"{count} lines that balance only together, {target.id} takes {target.maximum_lines}",
            _SPLIT,
        )
    debits = sum(line.debit_minor for line in document.lines)
    credits_ = sum(line.credit_minor for line in document.lines)
    if debits != credits_:
        yield f"debits {debits} and credits {credits_} differ", "report this as a defect"
    functional = [x.functional_debit_minor - x.functional_credit_minor for x in document.lines]
    if target.shows_functional and sum(functional) != 0:
        yield "debits and credits differ in functional currency", "report this as a defect"
    currency = document.journal.currency
    digits = minor_digits(currency)
    if target.decimals is not None and digits > target.decimals:
        yield (
            f"{currency} has {digits} decimals, {target.id} takes {target.decimals}",
            "post this currency to another target",
        )
    for line in document.lines:
        if target.integer_digits is not None and max(line.debit_minor, line.credit_minor) >= 10 ** (
            target.integer_digits + digits
        ):
            yield (
                f"line {line.line_no} has more than {target.integer_digits} digits before "
                "the point",
                "break lines down by more in the journal's debit_by and credit_by",
            )
        if line.role in target.name_required and not line.name:
            yield (
                f"line {line.line_no} on {line.account} has no name, which {target.id} wants on "
                f"{line.role} lines",
                "add account to the journal's debit_by or credit_by",
            )


def _cell_problems(
    file: ExportFile, target: ExportTarget, terms: LedgerTerms
) -> Iterator[tuple[str, str]]:
    if target.header_columns:
        (document,) = file.documents
        values = _journal_values(document, terms.entity(document.journal.entity_id))
        head = [_value(column, values) for column in target.header_columns]
        for column, cell in zip(target.header_columns, head, strict=True):
            yield from _broken_rules(column, cell, f"{file.name}, header")
    for number, row in enumerate(export_rows(file, target, terms), 1):
        for column, cell in zip(target.columns, row, strict=True):
            yield from _broken_rules(column, cell, f"{file.name}, line {number}")


def _broken_rules(column: ExportColumn, cell: ExportCell, where: str) -> Iterator[tuple[str, str]]:
    text = "" if cell is None else f"{cell:f}" if isinstance(cell, Decimal) else str(cell)
    if column.required and not text.strip():
        yield (
            f"{where}: {column.header} is empty",
            "give the GL rule, the account or the entity what the column shows",
        )
    if column.max_length is not None and len(text) > column.max_length:
        yield (
            f"{where}: {column.header} is {len(text)} characters long ({text!r}), "
            f"{column.max_length} are taken",
            "shorten what it is made of: entity code, journal code, account number or name",
        )
    if text and column.pattern is not None and not re.fullmatch(column.pattern, text):
        yield (
            f"{where}: {column.header} {text!r} does not look like {column.pattern}",
            "correct the account, the name or the target's configuration",
        )


def _document_number(journal: PostedJournal, terms: LedgerTerms) -> str:
    entity = terms.entity(journal.entity_id)
    kind = journal.journal_type
    for journal_type in terms.journals:
        if journal_type.type == kind:
            kind = journal_type.short
        elif journal_type.reverses and journal_type.reversal == kind:
            kind = f"{journal_type.short[:2]}R"
    month = f"{journal.period.year % 100:02d}{journal.period.month:02d}"
    return f"{entity.code or entity.id}{month}{kind[:3]}{journal.revision:03d}"


def _file_name(document: str, journal: PostedJournal, target: ExportTarget) -> str:
    return target.file.format(
        document=document,
        external_id=document,
        entity=journal.entity_id,
        period=journal.period,
        type=journal.journal_type,
        target=target.id,
        format=target.format,
    )


def _journal_values(document: Document, entity: Entity) -> Mapping[str, ExportCell]:
    journal = document.journal
    first = document.lines[0] if document.lines else None
    rate = first.fx_rate if first else Decimal(1)
    return {
        "external_id": journal.external_id,
        "document": document.id,
        "document_number": document.number,
        "date": journal.journal_date,
        "posting_period": journal.period.start,
        "entity": journal.entity_id,
        "entity_code": entity.code or entity.id,
        "subsidiary": entity.subsidiary or entity.name,
        "currency": journal.currency,
        "functional_currency": entity.currency,
        "exchange_rate": _rate(rate),
        "fx_date": first.fx_date if first else None,
        "fx_source": first.fx_source if first else None,
        "memo": journal.memo,
        "type": journal.journal_type,
    }


def _line_values(
    document: Document, line: Line, target: ExportTarget, terms: LedgerTerms
) -> Mapping[str, ExportCell]:
    digits = minor_digits(document.journal.currency)
    functional_digits = minor_digits(terms.entity(document.journal.entity_id).currency)

    def money(minor: int, decimals: int) -> Decimal | None:
        return Decimal(minor).scaleb(-decimals) if minor else None

    chart = next((a for a in terms.accounts if a.number == line.account), None)
    name = chart.names.get(target.id, line.account_name) if chart else line.account_name
    return {
        "line.account": f"{line.account} {line.account_name}",
        "line.account_number": line.account,
        "line.account_name": name,
        "line.debit": money(line.debit_minor, digits),
        "line.credit": money(line.credit_minor, digits),
        "line.amount": Decimal(line.debit_minor - line.credit_minor).scaleb(-digits),
        "line.functional_debit": money(line.functional_debit_minor, functional_digits),
        "line.functional_credit": money(line.functional_credit_minor, functional_digits),
        "line.memo": line.memo,
        "line.name": line.name,
        "line.department": line.department,
        "line.class": line.class_name,
        "line.location": line.location,
    }


def _rate(rate: Decimal) -> Decimal:
    """The rate without zeros at its end, with two decimals at least."""
    plain = rate.normalize()
    return plain.quantize(Decimal("0.01")) if plain.as_tuple().exponent > -2 else plain  # type: ignore[operator]


def _value(column: ExportColumn, values: Mapping[str, ExportCell]) -> ExportCell:
    value: ExportCell
    if column.template is not None:
        value = re.sub(r"\{([^{}]*)\}", lambda found: _text(values[found[1]]), column.template)
    elif column.field is None:
        value = column.constant
    else:
        value = values[column.field]
        if column.format is not None and isinstance(value, date):
            value = format_date(value, column.format)
    if value in (None, "") and column.blank is not None:
        return column.blank
    if column.cut and isinstance(value, str):
        return value[: column.max_length]
    return value


def _text(value: ExportCell) -> str:
    return "" if value is None else f"{value:f}" if isinstance(value, Decimal) else str(value)


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
