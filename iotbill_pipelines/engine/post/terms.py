"""Typed ledger terms: entities, chart of accounts, GL mapping, journal types, export targets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Literal

from pydantic import Field, model_validator

from iotbill_pipelines.engine.terms import Terms, TermsError

Attribute = Literal["entity", "level", "charge_type", "gl_class", "product", "tax_code"]
"""What a GL rule may ask of a booked charge (RULEBOOK §9)."""

Role = Literal["receivable", "revenue", "cost", "accrued_cost"]


class Entity(Terms):
    """One of our companies. ``subsidiary`` is its name in the ERP."""

    id: str = Field(pattern=r"[A-Z0-9]{2,12}")
    name: str
    currency: str
    subsidiary: str | None = None


class GlAccount(Terms):
    number: str
    name: str

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


class JournalType(Terms):
    """What a journal posts: the charges of a level, once booked or once invoiced.

    The debit lines are one per account and value of ``debit_by``, the credit lines likewise.
    """

    type: str = Field(pattern=r"[A-Z_]{2,12}")
    level: Literal["retail", "wholesale", "vendor"]
    source: Literal["invoiced", "booked"]
    debit: Role
    credit: Role
    debit_by: list[Literal["account", "product"]] = Field(default_factory=list)
    credit_by: list[Literal["account", "product"]] = Field(default_factory=list)
    memo: str = "{type} {period}"


ExportField = Literal[
    "external_id",
    "date",
    "posting_period",
    "entity",
    "subsidiary",
    "currency",
    "exchange_rate",
    "memo",
    "type",
    "line.number",
    "line.account",
    "line.account_number",
    "line.account_name",
    "line.debit",
    "line.credit",
    "line.amount",
    "line.memo",
    "line.name",
    "line.department",
    "line.class",
    "line.location",
]


class ExportColumn(Terms):
    """A column of an export: a field of the journal or its line, or a constant.

    ``format`` writes dates with the tokens YYYY, YY, MMM, MM, DD.
    """

    header: str
    field: ExportField | None = None
    constant: str | None = None
    format: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> ExportColumn:
        if (self.field is None) == (self.constant is None):
            raise ValueError("give either field or constant")
        if self.format is not None and self.field not in ("date", "posting_period"):
            raise ValueError("only date and posting_period have a format")
        return self


class ExportTarget(Terms):
    """An ERP's journal file, as columns over one writer, with the ERP's own limits."""

    id: str = Field(pattern=r"[a-z][a-z0-9_]*")
    format: Literal["csv", "xlsx"]
    file: str = "{external_id}.{format}"
    columns: list[ExportColumn] = Field(min_length=1)
    integer_digits: int | None = None
    decimals: int | None = None
    minimum_lines: int = 2
    maximum_lines: int | None = None
    byte_order_mark: bool = False

    @model_validator(mode="after")
    def _distinct_headers(self) -> ExportTarget:
        headers = [column.header for column in self.columns]
        repeated = sorted({header for header in headers if headers.count(header) > 1})
        if repeated:
            raise ValueError(f"columns repeat: {', '.join(repeated)}")
        return self


class LedgerTerms(Terms):
    """Everything that posting needs besides amounts."""

    entities: list[Entity] = Field(min_length=1)
    accounts: list[GlAccount]
    suspense_account: str
    gl_map: list[GlRule]
    journals: list[JournalType]
    targets: list[ExportTarget] = Field(default_factory=list)

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
