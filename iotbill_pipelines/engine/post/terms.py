"""Typed ledger terms: entities, chart of accounts, GL mapping, journal types, export targets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from itertools import combinations
from typing import Literal, get_args

from pydantic import Field, model_validator

from iotbill_pipelines.engine.terms import Terms, TermsError

Attribute = Literal[
    "entity",
    "level",
    "charge_type",
    "gl_class",
    "product",
    "tax_code",
    "jurisdiction",
    "tax",
    "deferral",
]
"""What a GL rule may ask of a booked charge, of a tax on it (``jurisdiction``, ``tax``), and of
what defers it (``deferral``, the rule's id). RULEBOOK §9."""

Role = Literal[
    "receivable",
    "revenue",
    "cost",
    "accrued_cost",
    "unbilled",
    "tax",
    "deferred",
    "contract_asset",
    "commission",
    "commission_payable",
]


class Entity(Terms):
    """One of our companies. ``subsidiary`` is its name in the ERP.

    ``currency`` is its functional currency. ``code`` stands for it in document numbers, which ERPs
    keep short; its id if left out.
    """

    id: str = Field(pattern=r"^[A-Z0-9]{2,12}$")
    name: str
    currency: str
    subsidiary: str | None = None
    code: str | None = Field(None, pattern=r"^[A-Z0-9]{1,4}$")


class GlAccount(Terms):
    """An account of the chart. ``names`` are what export targets call it, by target id."""

    number: str
    name: str
    names: dict[str, str] = Field(default_factory=dict)

    @property
    def label(self) -> str:
        return f"{self.number} {self.name}"


class GlRule(Terms):
    """An account for a role, for charges that have every attribute in ``when``."""

    role: Role
    when: dict[Attribute, str] = Field(default_factory=dict)
    account: str
    department: str | None = None
    class_name: str | None = None
    location: str | None = None


Source = Literal[
    "invoiced",
    "booked",
    "unbilled",
    "estimated",
    "tax",
    "tax_within",
    "deferral",
    "release",
    "allocation",
    "commission",
    "true_up",
    "cut_off",
]

DERIVED_SOURCES = ("deferral", "release", "allocation", "commission", "true_up", "cut_off")
"""What follows from charges and is booked beside them; one journal type at most of each."""


class JournalType(Terms):
    """What a journal posts, and how.

    ``source``: charges once ``booked`` or once ``invoiced``; taxes on invoices, ``tax`` on top of
    prices and ``tax_within`` them (RULEBOOK §8); ``unbilled``, the charges of usage up to the
    period that no invoice of it carries; ``estimated``, accruals of usage that is missing. These
    two are accruals: ``reverses`` posts them back on the first day of the next period (GL-03,
    CL-06). The others are derived entries: revenue and prepaid cost in ``deferral`` and
    ``release``, what bundles earned beyond their bills (``allocation``), partners' ``commission``,
    what vendors' invoices change of accrued cost (``true_up``), and what billing months that go on
    beyond the period come to by its end (``cut_off``), taken back in the next period.

    The debit lines are one per account and value of ``debit_by``, the credit lines likewise.
    ``unit`` is the smallest part that balances by itself, where a journal of many lines may be
    split (GL-06): an invoice, a customer or vendor account, or the whole journal. ``code`` stands
    for the type in document numbers.
    """

    type: str = Field(pattern=r"^[A-Z_]{2,12}$")
    level: Literal["retail", "wholesale", "vendor"]
    source: Source
    debit: Role
    credit: Role
    debit_by: list[Literal["account", "product"]] = Field(default_factory=list)
    credit_by: list[Literal["account", "product"]] = Field(default_factory=list)
    memo: str = "{type} {period}"
    unit: Literal["journal", "account", "invoice"] = "journal"
    reverses: bool = False
    code: str | None = Field(None, pattern=r"^[A-Z0-9]{1,3}$")

    @model_validator(mode="after")
    def _consistent(self) -> JournalType:
        if self.reverses != (self.source in ("unbilled", "estimated")):
            raise ValueError("unbilled and estimated amounts reverse, invoiced and booked do not")
        if self.reverses and len(self.type) > REVERSIBLE_TYPE_LENGTH:
            raise ValueError(
                f"at most {REVERSIBLE_TYPE_LENGTH} letters: the reversal's type is {self.type}_REV"
            )
        if self.unit == "invoice" and self.source not in INVOICE_SOURCES:
            raise ValueError(f"unit: invoice goes with source: {', '.join(INVOICE_SOURCES)}")
        if self.source == "unbilled" and self.level != "retail":
            raise ValueError("what is not invoiced yet is of level retail")
        return self

    @property
    def short(self) -> str:
        """Its part of a document number."""
        return self.code or self.type.replace("_", "")[:3]

    @property
    def reversal(self) -> str:
        """The type of the journals that post it back."""
        return f"{self.type}_REV"


REVERSIBLE_TYPE_LENGTH = 8
INVOICE_SOURCES = ("invoiced", "tax", "tax_within")


ExportField = Literal[
    "external_id",
    "document",
    "document_number",
    "date",
    "posting_period",
    "entity",
    "entity_code",
    "subsidiary",
    "currency",
    "functional_currency",
    "exchange_rate",
    "fx_date",
    "fx_source",
    "memo",
    "type",
    "row.number",
    "line.number",
    "line.account",
    "line.account_number",
    "line.account_name",
    "line.debit",
    "line.credit",
    "line.amount",
    "line.functional_debit",
    "line.functional_credit",
    "line.memo",
    "line.name",
    "line.department",
    "line.class",
    "line.location",
]

DATE_FIELDS = ("date", "posting_period", "fx_date")


class ExportColumn(Terms):
    """A column of an export: a field of the journal or its line, a constant, or a template.

    ``template`` is text with fields in braces. ``format`` writes dates with the tokens YYYY, YY,
    MMM, MM, DD. ``blank`` stands where there is no value. The target's rules: ``required``,
    ``max_length`` (text that is longer breaks it, or is ``cut``), ``pattern`` (of the whole text).
    ``technical`` is the name in a row above the headers, where the target has one.
    """

    header: str
    field: ExportField | None = None
    constant: str | None = None
    template: str | None = None
    technical: str | None = None
    format: str | None = None
    blank: str | None = None
    required: bool = False
    max_length: int | None = None
    cut: bool = False
    pattern: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> ExportColumn:
        if sum(value is not None for value in (self.field, self.constant, self.template)) != 1:
            raise ValueError("give either field, constant or template")
        if self.format is not None and self.field not in DATE_FIELDS:
            raise ValueError(f"only {', '.join(DATE_FIELDS)} have a format")
        if self.cut and self.max_length is None:
            raise ValueError("cut goes with max_length")
        if self.pattern is not None:
            try:
                re.compile(self.pattern)
            except re.error as error:
                raise ValueError(f"pattern cannot be read: {error}") from None
        unknown = sorted(set(self.template_fields) - set(get_args(ExportField)))
        if unknown:
            raise ValueError(f"template names {', '.join(unknown)}, which is no field")
        return self

    @property
    def template_fields(self) -> list[str]:
        """The fields that a template names."""
        return re.findall(r"\{([^{}]*)\}", self.template or "")

    @property
    def fields(self) -> list[str]:
        """The fields that the column shows."""
        return [self.field] if self.field else self.template_fields


class Acknowledgement(Terms):
    """How the ERP's answer file is read: names of its columns, and of its verdicts."""

    document: list[str] = Field(["external_id", "External ID", "document", "journal"], min_length=1)
    status: list[str] = Field(["status", "state", "result"], min_length=1)
    message: list[str] = Field(["message", "error", "answer"])
    accepted: list[str] = Field(
        ["acknowledged", "accepted", "posted", "imported", "success", "ok"], min_length=1
    )
    rejected: list[str] = Field(["rejected", "failed", "failure", "error"], min_length=1)


class ExportTarget(Terms):
    """An ERP's journal file, as columns over one writer, with the ERP's own limits.

    ``maximum_lines`` is per document; a journal with more is split at its units. A file holds one
    document, or as many as ``maximum_lines_per_file`` lets it. ``header_columns`` make the file a
    form: a header of the document, then its lines in ``columns``.
    """

    id: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    format: Literal["csv", "xlsx"]
    file: str = "{document}.{format}"
    columns: list[ExportColumn] = Field(min_length=1)
    header_columns: list[ExportColumn] = Field(default_factory=list)
    batch_label: str | None = None
    header: bool = True
    technical_row: bool = False
    delimiter: str = Field(",", min_length=1, max_length=1)
    integer_digits: int | None = None
    decimals: int | None = None
    minimum_lines: int = 2
    maximum_lines: int | None = Field(None, ge=2)
    documents_per_file: Literal["one", "many"] = "one"
    maximum_lines_per_file: int | None = Field(None, ge=2)
    name_required: list[Role] = Field(default_factory=list)
    byte_order_mark: bool = False
    acknowledgement: Acknowledgement = Field(default_factory=Acknowledgement)

    @model_validator(mode="after")
    def _consistent(self) -> ExportTarget:
        for columns in (self.columns, self.header_columns):
            headers = [column.header for column in columns]
            repeated = sorted({header for header in headers if headers.count(header) > 1})
            if repeated:
                raise ValueError(f"columns repeat: {', '.join(repeated)}")
        if self.format == "xlsx" and (self.header_columns or self.technical_row or not self.header):
            raise ValueError("a workbook is a table with one header row")
        if self.header_columns and self.documents_per_file == "many":
            raise ValueError("a file with a document header holds one document")
        if any(f.startswith(("line.", "row.")) for c in self.header_columns for f in c.fields):
            raise ValueError("header_columns show fields of the journal, not of its lines")
        return self

    @property
    def shows_functional(self) -> bool:
        """Whether amounts in functional currency are given; else the ERP converts itself."""
        return any(f.startswith("line.functional") for c in self.columns for f in c.fields)


class FxRate(Terms):
    """What one unit of ``base`` is worth in ``quote`` on a day, and who says so."""

    date: date
    base: str = Field(pattern=r"^[A-Z]{3}$")
    quote: str = Field(pattern=r"^[A-Z]{3}$")
    rate: Decimal = Field(gt=0, max_digits=24, decimal_places=12)
    source: str = Field(min_length=1)


class LedgerTerms(Terms):
    """Everything that posting needs besides amounts."""

    entities: list[Entity] = Field(min_length=1)
    accounts: list[GlAccount]
    suspense_account: str
    gl_map: list[GlRule]
    journals: list[JournalType]
    targets: list[ExportTarget] = Field(default_factory=list)
    exports: list[str] | None = None
    """Targets that a close writes; every one if left out."""
    fx: list[FxRate] = Field(default_factory=list)
    fx_library: Literal["currency_converter"] | None = None
    """An installed package that ships the ECB's history, for days and pairs that no table has."""
    fx_rounding_account: str | None = None
    """Takes what is left when the lines of a journal are converted one by one (GL-02)."""
    fx_max_age_days: int = Field(7, ge=0)
    """A rate older than this at the journal's date is not used."""

    def target(self, target_id: str) -> ExportTarget:
        """Return an export target. Raises TermsError if it is not configured."""
        for target in self.targets:
            if target.id == target_id:
                return target
        known = ", ".join(target.id for target in self.targets)
        raise TermsError(("targets",), f"no target {target_id!r}; there are {known}")

    def entity(self, entity_id: str) -> Entity:
        """Return an entity. Raises TermsError if it is not configured."""
        for entity in self.entities:
            if entity.id == entity_id:
                return entity
        raise TermsError(
            ("entities",),
            f"entity {entity_id!r} is not configured; accounts refer to it, so add it",
        )

    def account(self, number: str) -> GlAccount:
        """Return an account of the chart by its number."""
        return next(account for account in self.accounts if account.number == number)


def check_ledger(terms: LedgerTerms) -> Iterator[TermsError]:
    """Yield every contradiction in ledger terms; ties of GL rules are among them (GL-08)."""
    yield from _repeated("entities", [entity.id for entity in terms.entities])
    yield from _repeated("accounts", [account.number for account in terms.accounts])
    yield from _repeated("journals", [journal.type for journal in terms.journals])
    yield from _repeated("targets", [target.id for target in terms.targets])
    numbers = {account.number for account in terms.accounts}
    if terms.suspense_account not in numbers:
        yield _unknown_account(("suspense_account",), terms.suspense_account)
    if terms.fx_rounding_account is not None and terms.fx_rounding_account not in numbers:
        yield _unknown_account(("fx_rounding_account",), terms.fx_rounding_account)
    known = {target.id for target in terms.targets}
    for position, name in enumerate(terms.exports or []):
        if name not in known:
            yield TermsError(
                ("exports", position),
                f"no target {name!r}; there are {', '.join(sorted(known))}",
            )
    yield from _wrong_types(terms)
    for position, rule in enumerate(terms.gl_map):
        if rule.account not in numbers:
            yield _unknown_account(("gl_map", position, "account"), rule.account)
    for (_, first), (position, second) in combinations(enumerate(terms.gl_map), 2):
        if _tied(first, second, terms.gl_map):
            yield TermsError(
                ("gl_map", position),
                f"ties with the rule {_wording(first)}: a charge can match both, with "
                f"{len(first.when)} conditions each; add a rule with the conditions of both, or "
                "make one of them more specific",
            )


def _wrong_types(terms: LedgerTerms) -> Iterator[TermsError]:
    names = [journal.type for journal in terms.journals]
    shorts = [journal.short for journal in terms.journals]
    for position, journal in enumerate(terms.journals):
        if journal.reverses and journal.reversal in names:
            yield TermsError(
                ("journals", position), f"{journal.reversal} is the type of its reversals"
            )
        if journal.short in shorts[:position]:
            yield TermsError(
                ("journals", position),
                f"its document numbers say {journal.short!r} like another type's; give it a code",
            )
    once = [(journal.source, journal.level) for journal in terms.journals]
    for position, source in enumerate(once):
        if source[0] in ("tax", "tax_within", *DERIVED_SOURCES) and source in once[:position]:
            yield TermsError(
                ("journals", position),
                f"another type posts source {source[0]} of level {source[1]} already",
            )


def _repeated(key: str, names: list[str]) -> Iterator[TermsError]:
    for position, name in enumerate(names):
        if name in names[:position]:
            yield TermsError((key, position), f"{name!r} is defined twice")


def _unknown_account(path: tuple[str | int, ...], number: str) -> TermsError:
    return TermsError(path, f"account {number!r} is not in accounts; add it with its name")


def _tied(first: GlRule, second: GlRule, rules: list[GlRule]) -> bool:
    if first.role != second.role or len(first.when) != len(second.when):
        return False
    if any(second.when.get(key, value) != value for key, value in first.when.items()):
        return False  # no charge has two values of one attribute
    both = {**first.when, **second.when}
    return not any(
        rule.role == first.role
        and len(rule.when) > len(first.when)
        and rule.when.items() <= both.items()
        for rule in rules
    )


def _wording(rule: GlRule) -> str:
    conditions = ", ".join(f"{key}={value}" for key, value in sorted(rule.when.items())) or "*"
    return f"{rule.role}: {conditions} -> {rule.account}"


def map_account(terms: LedgerTerms, role: Role, charge: Mapping[Attribute, str]) -> GlRule | None:
    """Return the most specific rule for a charge, None if it must go to suspense (GL-08).

    Raises TermsError for a tie, which :func:`check_ledger` finds beforehand.
    """
    matching = [
        rule
        for rule in terms.gl_map
        if rule.role == role and rule.when.items() <= dict(charge).items()
    ]
    if not matching:
        return None
    most = max(len(rule.when) for rule in matching)
    winners = [rule for rule in matching if len(rule.when) == most]
    if len(winners) > 1:
        raise TermsError(("gl_map",), f"{_wording(winners[0])} ties with {_wording(winners[1])}")
    return winners[0]
