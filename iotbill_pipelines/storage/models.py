"""What PostgreSQL holds: files, reference data, the ledger, the close and its evidence.

Amounts are integers of the currency's minor unit (``*_minor``), so that no row can hold a fraction
of one; beside each stands the same amount in the currency's own unit (``NUMERIC(20,4)``, computed
by the database) for people and reports. Months are ``YYYY-MM``. Instants are timestamps with time
zone; the local and UTC times of reference data have none, as in :mod:`engine.schemas`.

What rows may never do (change after booking, unbalance, enter a closed period) is refused by
triggers in the migrations, not by this module.
"""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Annotated, Any

import sqlalchemy as sa
from sqlalchemy import CheckConstraint, ForeignKey, ForeignKeyConstraint, Index, UniqueConstraint
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from iotbill_pipelines.engine.schemas import COMMITMENT_STATUS, RATE, REFERENCE, Column, Table


class Base(DeclarativeBase):
    metadata = sa.MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012  (SQLAlchemy's declared way)
        str: sa.Text(),
        int: sa.BigInteger(),
        dt.datetime: sa.DateTime(timezone=True),
        dt.date: sa.Date(),
        dict[str, Any]: JSONB(),
        list[str]: ARRAY(sa.Text()),
    }


MonthText = Annotated[str, mapped_column(sa.String(7))]
Currency = Annotated[str, mapped_column(sa.String(3))]


def _months(*columns: str) -> list[CheckConstraint]:
    return [
        CheckConstraint(rf"{column} ~ '^[0-9]{{4}}-(0[1-9]|1[0-2])$'", name=f"{column}_is_a_month")
        for column in columns
    ]


def _one_of(column: str, *values: str) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} in ({listed})", name=f"{column}_is_known")


def _amount(column: str = "amount_minor") -> Mapped[Decimal]:
    """The amount in the currency's own unit, computed from ``column`` by the database."""
    return mapped_column(
        sa.Numeric(20, 4), sa.Computed(f"minor_to_amount({column}, currency)", persisted=True)
    )


# ------------------------------------------------------------------------------ landed files


class FeedFile(Base):
    """A landed file, one row a digest: landing the same bytes again changes nothing.

    ``records_in = kept + ignored + rejected`` once ingested; quantities likewise.
    """

    __tablename__ = "feed_file"

    file_key: Mapped[int] = mapped_column(
        primary_key=True, autoincrement=False, doc="first 60 bits of the SHA-256"
    )
    sha256: Mapped[str] = mapped_column(sa.String(64), unique=True)
    feed_id: Mapped[str | None] = mapped_column(index=True, doc="null while unrecognised")
    original_name: Mapped[str]
    size_bytes: Mapped[int]
    landed_at: Mapped[dt.datetime]
    received_day: Mapped[dt.date] = mapped_column(index=True)
    state: Mapped[str]
    error: Mapped[str | None] = mapped_column(doc="why it is quarantined, and what to do")
    records_in: Mapped[int | None]
    kept: Mapped[int | None] = mapped_column(doc="accepted by validation")
    ignored: Mapped[int | None]
    rejected: Mapped[int | None]
    quantity_in: Mapped[Decimal | None] = mapped_column(sa.Numeric(38, 0))
    quantity_kept: Mapped[Decimal | None] = mapped_column(sa.Numeric(38, 0))
    quantity_ignored: Mapped[Decimal | None] = mapped_column(sa.Numeric(38, 0))
    quantity_rejected: Mapped[Decimal | None] = mapped_column(sa.Numeric(38, 0))
    usage_months: Mapped[list[str] | None] = mapped_column(doc="UTC months that it touches")
    archive_path: Mapped[str]
    attempts: Mapped[int] = mapped_column(sa.Integer, server_default="0")
    ingested_at: Mapped[dt.datetime | None]

    __table_args__ = (
        _one_of("state", "landed", "ingested", "quarantined", "unrecognised"),
        CheckConstraint("size_bytes >= 0", name="size_is_not_negative"),
        CheckConstraint(
            "state <> 'ingested' or records_in = kept + ignored + rejected",
            name="records_are_conserved",
        ),
    )


class FileStatement(Base):
    """What a companion file states of a data file of its feed (RULEBOOK §5, MD-09).

    A landed companion has a row without ``data_file``, of which ``read_at`` is null until it is
    read; its statements are further rows. The same bytes under another name are another companion.
    """

    __tablename__ = "file_statement"

    feed_id: Mapped[str] = mapped_column(primary_key=True)
    companion: Mapped[str] = mapped_column(primary_key=True, doc="its name as delivered")
    data_file: Mapped[str] = mapped_column(
        primary_key=True, server_default="", doc="name that it means, perhaps without endings"
    )
    file_key: Mapped[int] = mapped_column(ForeignKey("feed_file.file_key"), index=True)
    landed_at: Mapped[dt.datetime]
    read_at: Mapped[dt.datetime | None]
    stated: Mapped[dict[str, Any] | None]

    __table_args__ = (Index(None, "feed_id", "data_file"),)


class FeedFileOutcome(Base):
    """What rating made of a file's accepted records, by UTC usage month."""

    __tablename__ = "feed_file_outcome"

    file_key: Mapped[int] = mapped_column(
        ForeignKey("feed_file.file_key"), primary_key=True, autoincrement=False
    )
    usage_month: Mapped[MonthText] = mapped_column(primary_key=True, index=True)
    outcome: Mapped[str] = mapped_column(primary_key=True)
    reason_code: Mapped[str] = mapped_column(primary_key=True, server_default="")
    records: Mapped[int]
    quantity: Mapped[Decimal] = mapped_column(sa.Numeric(38, 0))

    __table_args__ = (
        *_months("usage_month"),
        _one_of("outcome", "kept", "duplicate", "suspended"),
        CheckConstraint("records >= 0", name="records_are_not_negative"),
    )


class SuspenseWaiver(Base):
    """A suspended record that a named person decided not to wait for. Append-only; a
    :class:`SuspenseWaiverWithdrawal` takes it back.

    It is left out of the tolerance of the suspense gate as long as the record is suspended for the
    reason that was waived; it stays in every list, and is rated if it can be after all.
    """

    __tablename__ = "suspense_waiver"

    waiver_id: Mapped[int] = mapped_column(sa.Identity(always=True), primary_key=True)
    file_key: Mapped[int] = mapped_column(ForeignKey("feed_file.file_key"))
    line_no: Mapped[int]
    usage_month: Mapped[MonthText] = mapped_column(index=True)
    feed_id: Mapped[str]
    reason_code: Mapped[str]
    quantity: Mapped[int]
    waived_by: Mapped[str]
    waive_reason: Mapped[str]
    waived_at: Mapped[dt.datetime]

    __table_args__ = (
        *_months("usage_month"),
        Index(None, "file_key", "line_no"),
        CheckConstraint(
            "length(trim(waived_by)) > 0 and length(trim(waive_reason)) > 0",
            name="a_waiver_is_signed",
        ),
    )


class SuspenseWaiverWithdrawal(Base):
    """A waiver that a named person took back: the record is waited for again. Append-only."""

    __tablename__ = "suspense_waiver_withdrawal"

    waiver_id: Mapped[int] = mapped_column(
        ForeignKey("suspense_waiver.waiver_id"), primary_key=True, autoincrement=False
    )
    withdrawn_by: Mapped[str]
    withdraw_reason: Mapped[str]
    withdrawn_at: Mapped[dt.datetime]

    __table_args__ = (
        CheckConstraint(
            "length(trim(withdrawn_by)) > 0 and length(trim(withdraw_reason)) > 0",
            name="a_withdrawal_is_signed",
        ),
    )


# --------------------------------------------------------------------------- reference data

_SQL_TYPES: dict[str, sa.types.TypeEngine[Any]] = {
    "VARCHAR": sa.Text(),
    "BIGINT": sa.BigInteger(),
    "INTEGER": sa.Integer(),
    "BOOLEAN": sa.Boolean(),
    "DATE": sa.Date(),
    "TIMESTAMP": sa.DateTime(timezone=False),
}


def _reference_table(schema: Table) -> sa.Table:
    def column(declared: Column) -> sa.Column[Any]:
        return sa.Column(
            declared.name,
            _SQL_TYPES[declared.type],
            nullable=declared.nullable,
            comment=declared.doc,
        )

    name = f"reference_{schema.name}"
    return sa.Table(
        name,
        Base.metadata,
        sa.Column("row_id", sa.BigInteger(), sa.Identity(always=True), primary_key=True),
        *[column(declared) for declared in schema.columns],
        sa.Column("source", sa.Text(), nullable=False, comment="feed that said so"),
        sa.Column("file_key", sa.BigInteger(), nullable=True, comment="file that said so"),
        sa.Column("known_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("known_to", sa.DateTime(timezone=True), nullable=True),
        CheckConstraint("known_to >= known_from", name="knowledge_ends_after_it_starts"),
        Index(
            f"uq_{name}_current",
            *schema.key,
            unique=True,
            postgresql_where=sa.text("known_to is null"),
        ),
        Index(f"ix_{name}_known", "known_from", "known_to"),
        comment=schema.doc,
    )


REFERENCE_TABLES: dict[str, sa.Table] = {
    name: _reference_table(schema) for name, schema in REFERENCE.items()
}
"""A bitemporal table per reference schema, named ``reference_<name>``.

Valid time is in the row's own columns; ``known_from``/``known_to`` say when we knew it. Rows are
never changed but for ``known_to``, once."""


COMMITMENT_STATUS_TABLE = sa.Table(
    COMMITMENT_STATUS.name,
    Base.metadata,
    *[
        sa.Column(
            declared.name,
            sa.Numeric(30, 12) if declared.type == RATE else _SQL_TYPES[declared.type],
            nullable=declared.nullable,
            primary_key=declared.name in COMMITMENT_STATUS.key,
            comment=declared.doc,
        )
        for declared in COMMITMENT_STATUS.columns
    ],
    comment="Where commitments stand at the end of a usage period; a copy of the lake's table.",
)


class PoolHeadroom(Base):
    """What is left of a pool at the end of a usage period; a copy of the lake's settlement."""

    __tablename__ = "pool_headroom"

    usage_period: Mapped[MonthText] = mapped_column(primary_key=True)
    window_start: Mapped[dt.date] = mapped_column(primary_key=True)
    level: Mapped[str] = mapped_column(primary_key=True)
    pool_id: Mapped[str] = mapped_column(primary_key=True)
    charge_id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str]
    services: Mapped[int]
    available: Mapped[int] = mapped_column(doc="class units")
    used: Mapped[int] = mapped_column(doc="class units")


class ProductCost(Base):
    """What a product carries of vendors' cost in a usage period, as earned; '(no revenue)' carries
    what no product does. Replaced before marts are built."""

    __tablename__ = "product_cost"

    usage_period: Mapped[MonthText] = mapped_column(primary_key=True)
    product_id: Mapped[str] = mapped_column(primary_key=True)
    currency: Mapped[Currency] = mapped_column(primary_key=True)
    amount_minor: Mapped[int] = mapped_column(doc="parts of SIMs' cost, in minor units")
    amount: Mapped[Decimal] = _amount()


class CatalogVersion(Base):
    """The catalog as configured at a time; a new row when its content changes."""

    __tablename__ = "catalog_version"

    version_no: Mapped[int] = mapped_column(sa.Identity(always=True), primary_key=True)
    digest: Mapped[str] = mapped_column(sa.String(64), index=True, doc="SHA-256 of content")
    known_from: Mapped[dt.datetime]
    content: Mapped[str] = mapped_column(doc="canonical JSON")


class Snapshot(Base):
    """Reference data and catalog as known at a moment, written as Parquet; id = content hash."""

    __tablename__ = "snapshot"

    snapshot_id: Mapped[str] = mapped_column(primary_key=True)
    known_at: Mapped[dt.datetime] = mapped_column(doc="moment of the first snapshot like it")
    catalog_digest: Mapped[str | None] = mapped_column(sa.String(64))
    rows: Mapped[dict[str, Any]] = mapped_column(doc="rows per table")


# ------------------------------------------------------------------------- runs and periods


class Run(Base):
    """One execution of an operation or of a whole close; ``run_id`` is Dagster's where it runs."""

    __tablename__ = "run"

    run_id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    period: Mapped[MonthText | None] = mapped_column(index=True)
    started_at: Mapped[dt.datetime]
    finished_at: Mapped[dt.datetime | None]
    status: Mapped[str] = mapped_column(server_default="started")
    actor: Mapped[str]
    code_version: Mapped[str]
    detail: Mapped[dict[str, Any] | None]

    __table_args__ = (_one_of("status", "started", "succeeded", "failed"),)


class StageInput(Base):
    """What a stage last computed a month from; the same fingerprint again means nothing to do.

    The row is deleted before the stage writes and inserted after, so that one killed in between
    does its work again.
    """

    __tablename__ = "stage_input"

    stage: Mapped[str] = mapped_column(primary_key=True)
    month: Mapped[MonthText] = mapped_column(primary_key=True)
    fingerprint: Mapped[str] = mapped_column(sa.String(64))
    detail: Mapped[dict[str, Any]] = mapped_column(
        doc="what the fingerprint was made of, and the snapshot that was read"
    )
    run_id: Mapped[str] = mapped_column(ForeignKey("run.run_id"))
    recorded_at: Mapped[dt.datetime]

    __table_args__ = (*_months("month"),)


class LegalEntity(Base):
    """One of our companies: it invoices, pays vendors, and has books of its own."""

    __tablename__ = "legal_entity"

    entity_id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    currency: Mapped[Currency] = mapped_column(doc="functional currency")


class Period(Base):
    """An accounting period of a legal entity and its state (RULEBOOK §11)."""

    __tablename__ = "period"

    entity_id: Mapped[str] = mapped_column(ForeignKey("legal_entity.entity_id"), primary_key=True)
    period: Mapped[MonthText] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(server_default="open")
    changed_at: Mapped[dt.datetime]
    closings: Mapped[int] = mapped_column(
        sa.Integer, server_default="0", doc="how often it was closed; counted by the database"
    )

    __table_args__ = (
        *_months("period"),
        _one_of("state", "open", "soft_closed", "in_review", "closed", "reopened"),
    )


class PeriodSignature(Base):
    """A person's signature under closing or reopening a period as it stands. Append-only."""

    __tablename__ = "period_signature"

    signature_id: Mapped[int] = mapped_column(sa.Identity(always=True), primary_key=True)
    entity_id: Mapped[str]
    period: Mapped[MonthText]
    action: Mapped[str]
    closings: Mapped[int] = mapped_column(sa.Integer, doc="the period's, when it was signed")
    actor: Mapped[str]
    role: Mapped[str]
    reason: Mapped[str]
    signed_at: Mapped[dt.datetime]

    __table_args__ = (
        ForeignKeyConstraint(["entity_id", "period"], ["period.entity_id", "period.period"]),
        Index(
            "uq_period_signature_reopen",
            *("entity_id", "period", "closings", "actor"),
            unique=True,
            postgresql_where=sa.text("action = 'reopen'"),
        ),
        _one_of("action", "close", "reopen"),
        CheckConstraint("btrim(reason) <> ''", name="reason_is_given"),
        CheckConstraint("btrim(actor) <> ''", name="actor_is_named"),
    )


class PeriodEvent(Base):
    """A change of a period's state: who, when, why. Append-only."""

    __tablename__ = "period_event"

    event_id: Mapped[int] = mapped_column(sa.Identity(always=True), primary_key=True)
    entity_id: Mapped[str]
    period: Mapped[MonthText]
    from_state: Mapped[str]
    to_state: Mapped[str]
    at: Mapped[dt.datetime]
    actor: Mapped[str]
    role: Mapped[str | None]
    reason: Mapped[str | None]

    __table_args__ = (
        ForeignKeyConstraint(["entity_id", "period"], ["period.entity_id", "period.period"]),
    )


class GateResult(Base):
    """Outcome of a close gate, or its waiver by a named person; the newest row counts."""

    __tablename__ = "gate_result"

    gate_result_id: Mapped[int] = mapped_column(sa.Identity(always=True), primary_key=True)
    entity_id: Mapped[str | None] = mapped_column(ForeignKey("legal_entity.entity_id"))
    period: Mapped[MonthText]
    gate: Mapped[str]
    outcome: Mapped[str]
    severity: Mapped[str]
    figure: Mapped[str | None]
    message: Mapped[str]
    what_to_do: Mapped[str | None]
    evidence: Mapped[dict[str, Any] | None]
    run_id: Mapped[str | None] = mapped_column(ForeignKey("run.run_id"))
    recorded_at: Mapped[dt.datetime]
    waived_by: Mapped[str | None]
    waive_reason: Mapped[str | None]

    __table_args__ = (
        *_months("period"),
        _one_of("outcome", "passed", "failed", "waived"),
        _one_of("severity", "block", "warn", "info"),
        CheckConstraint(
            "outcome <> 'waived' or (waived_by is not null and waive_reason is not null)",
            name="a_waiver_is_signed",
        ),
        Index(None, "period", "gate"),
    )


# -------------------------------------------------------------------------------- the ledger


class BookedCharge(Base):
    """A booked amount. Append-only: the truth about a unit is the sum of its rows (RULEBOOK §14).

    ``amount_minor`` is the difference this row books, not a balance. Every row carries the usage,
    the billing and the accounting period; none is derived from another (RULEBOOK §0.4).
    """

    __tablename__ = "booked_charge"

    id: Mapped[int] = mapped_column(
        primary_key=True, autoincrement=False, doc="assigned in order of key, without gaps"
    )
    entry_no: Mapped[int] = mapped_column(
        sa.Integer, doc="place in the unit's history, from 1: a second booking of it collides"
    )
    run_id: Mapped[str]
    level: Mapped[str]
    entity_id: Mapped[str]
    account_id: Mapped[str]
    service_id: Mapped[str]
    charge_id: Mapped[str]
    product_id: Mapped[str]
    kind: Mapped[str]
    gl_class: Mapped[str]
    tax_code: Mapped[str]
    usage_period: Mapped[MonthText]
    billing_period: Mapped[MonthText]
    accounting_period: Mapped[MonthText]
    records: Mapped[int]
    quantity: Mapped[int]
    currency: Mapped[Currency]
    amount_minor: Mapped[int]
    amount: Mapped[Decimal] = _amount()
    reason: Mapped[str]
    cause: Mapped[str]
    snapshot_id: Mapped[str | None]
    price_ids: Mapped[str]
    booked_at: Mapped[dt.datetime]

    __table_args__ = (
        *_months("usage_period", "billing_period", "accounting_period"),
        _one_of("level", "retail", "wholesale", "vendor"),
        _one_of("reason", "initial", "adjustment", "reversal", "rebill"),
        UniqueConstraint(
            *("usage_period", "level", "account_id", "service_id", "charge_id", "entity_id"),
            *("product_id", "kind", "gl_class", "tax_code", "currency", "entry_no"),
            name="uq_booked_charge_entry",
        ),
        CheckConstraint("entry_no > 0", name="entry_no_starts_at_one"),
        Index(
            None,
            "accounting_period",
            postgresql_using="brin",
            postgresql_with={"autosummarize": "on"},
        ),
    )


class Invoice(Base):
    """What an account owes an entity for a billing period, in one currency. Append-only.

    ``sequence`` above 1 is a supplement: charges booked after the invoice before it was issued.
    """

    __tablename__ = "invoice"

    invoice_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    invoice_no: Mapped[str] = mapped_column(unique=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("run.run_id"))
    entity_id: Mapped[str]
    account_id: Mapped[str]
    account_name: Mapped[str]
    billing_period: Mapped[MonthText]
    accounting_period: Mapped[MonthText]
    sequence: Mapped[int] = mapped_column(sa.Integer)
    issue_date: Mapped[dt.date]
    currency: Mapped[Currency]
    lines: Mapped[int]
    total_minor: Mapped[int]
    total: Mapped[Decimal] = _amount("total_minor")
    issued_at: Mapped[dt.datetime]

    __table_args__ = (
        ForeignKeyConstraint(
            ["entity_id", "accounting_period"], ["period.entity_id", "period.period"]
        ),
        UniqueConstraint("entity_id", "account_id", "billing_period", "currency", "sequence"),
        *_months("billing_period", "accounting_period"),
        CheckConstraint("lines > 0", name="has_lines"),
        CheckConstraint("sequence > 0", name="sequence_starts_at_one"),
        Index(None, "accounting_period", "entity_id"),
    )


class InvoiceLine(Base):
    """A booked charge on an invoice; a charge is invoiced once."""

    __tablename__ = "invoice_line"

    invoice_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    line_no: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    booked_charge_id: Mapped[int] = mapped_column(unique=True)
    currency: Mapped[Currency]
    amount_minor: Mapped[int]
    amount: Mapped[Decimal] = _amount()


class TaxNote(Base):
    """A credit or debit of taxes only, to one issued invoice. Append-only.

    Issued where rates, certificates or facts of the invoice's own date were corrected since.
    """

    __tablename__ = "tax_note"

    tax_note_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    note_no: Mapped[str] = mapped_column(unique=True, doc="ENTITY-PERIOD-Tnnnnnn")
    run_id: Mapped[str] = mapped_column(ForeignKey("run.run_id"))
    invoice_id: Mapped[int] = mapped_column(ForeignKey("invoice.invoice_id"), index=True)
    entity_id: Mapped[str]
    accounting_period: Mapped[MonthText]
    issue_date: Mapped[dt.date]
    currency: Mapped[Currency]
    items: Mapped[int] = mapped_column(sa.Integer)
    tax_minor: Mapped[int]
    tax: Mapped[Decimal] = _amount("tax_minor")
    issued_at: Mapped[dt.datetime]

    __table_args__ = (
        ForeignKeyConstraint(
            ["entity_id", "accounting_period"], ["period.entity_id", "period.period"]
        ),
        *_months("accounting_period"),
        CheckConstraint("items > 0", name="has_items"),
        Index(None, "accounting_period", "entity_id"),
    )


class InvoiceTax(Base):
    """One tax of an invoice line, or of a part of it. Append-only, written with its document.

    A line has several parts where it takes back what earlier invoices charged (RULEBOOK §8), and
    where a note corrected it (``tax_note_id``).
    ``taxable_minor`` is the part's amount, gross where ``pricing`` is inclusive; ``base_minor`` is
    what ``rate`` was applied to.
    """

    __tablename__ = "invoice_tax"

    tax_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    invoice_id: Mapped[int] = mapped_column(ForeignKey("invoice.invoice_id"))
    line_no: Mapped[int]
    part_no: Mapped[int] = mapped_column(sa.Integer)
    item_no: Mapped[int] = mapped_column(sa.Integer)
    jurisdiction: Mapped[str]
    tax: Mapped[str]
    rate: Mapped[Decimal] = mapped_column(sa.Numeric(30, 12), doc="0.19 for 19 %")
    compound: Mapped[bool]
    apply_order: Mapped[int] = mapped_column(sa.Integer)
    treatment: Mapped[str]
    note: Mapped[str] = mapped_column(doc="printed: the certificate or the reverse charge")
    pricing: Mapped[str]
    currency: Mapped[Currency]
    tax_note_id: Mapped[int | None] = mapped_column(
        ForeignKey("tax_note.tax_note_id"), index=True, doc="the note that added it later"
    )
    taxable_minor: Mapped[int]
    base_minor: Mapped[int]
    amount_minor: Mapped[int]
    base: Mapped[Decimal] = _amount("base_minor")
    amount: Mapped[Decimal] = _amount()

    __table_args__ = (
        UniqueConstraint("invoice_id", "line_no", "part_no", "item_no"),
        _one_of("treatment", "taxed", "exempt", "reverse_charge"),
        _one_of("pricing", "exclusive", "inclusive"),
        CheckConstraint("treatment = 'taxed' or amount_minor = 0", name="only_taxed_has_an_amount"),
        CheckConstraint(
            "treatment = 'taxed' or btrim(note) <> ''", name="an_untaxed_base_has_a_reason"
        ),
    )


class Journal(Base):
    """A balanced journal of an entity, currency, accounting period and type (RULEBOOK §9).

    Until it is exported it may be rebuilt; afterwards only its state changes, and what comes later
    is a new revision that carries the difference.
    """

    __tablename__ = "journal"

    journal_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    external_id: Mapped[str] = mapped_column(unique=True, doc="ENTITY-PERIOD-TYPE-nnn")
    run_id: Mapped[str] = mapped_column(ForeignKey("run.run_id"))
    entity_id: Mapped[str]
    accounting_period: Mapped[MonthText]
    journal_type: Mapped[str]
    revision: Mapped[int] = mapped_column(sa.Integer)
    currency: Mapped[Currency]
    journal_date: Mapped[dt.date]
    memo: Mapped[str]
    content_hash: Mapped[str] = mapped_column(sa.String(64))
    state: Mapped[str] = mapped_column(server_default="built")
    built_at: Mapped[dt.datetime]
    exported_at: Mapped[dt.datetime | None]
    answered_at: Mapped[dt.datetime | None] = mapped_column(doc="acknowledged or rejected")
    answer: Mapped[str | None] = mapped_column(doc="what the ERP said")
    is_accrual: Mapped[bool] = mapped_column(
        server_default=sa.false(), doc="an accrual, or what posts it back"
    )
    reverses_id: Mapped[int | None] = mapped_column(
        ForeignKey("journal.journal_id"), unique=True, doc="the accrual that it posts back"
    )

    __table_args__ = (
        ForeignKeyConstraint(
            ["entity_id", "accounting_period"], ["period.entity_id", "period.period"]
        ),
        UniqueConstraint("entity_id", "accounting_period", "journal_type", "revision"),
        UniqueConstraint("journal_id", "currency"),
        _one_of("state", "built", "exported", "acknowledged", "rejected"),
        CheckConstraint("state = 'built' or exported_at is not null", name="export_is_dated"),
    )


class JournalLine(Base):
    """A debit or a credit: never both, never negative (GL-07).

    The lines of a ``unit`` balance by themselves, in both currencies. A line without an amount in
    transaction currency takes what is left over by conversion (GL-02).
    """

    __tablename__ = "journal_line"

    journal_id: Mapped[int] = mapped_column(primary_key=True)
    line_no: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    role: Mapped[str] = mapped_column(doc="a role of engine.post.terms")
    is_suspense: Mapped[bool] = mapped_column(doc="no GL rule took it: blocks the close")
    account: Mapped[str] = mapped_column(doc="number in the general ledger")
    account_name: Mapped[str]
    currency: Mapped[Currency]
    debit_minor: Mapped[int] = mapped_column(server_default="0")
    credit_minor: Mapped[int] = mapped_column(server_default="0")
    debit: Mapped[Decimal] = _amount("debit_minor")
    credit: Mapped[Decimal] = _amount("credit_minor")
    memo: Mapped[str]
    name: Mapped[str | None] = mapped_column(doc="customer or vendor")
    department: Mapped[str | None]
    class_name: Mapped[str | None]
    location: Mapped[str | None]
    unit: Mapped[str] = mapped_column(server_default="", doc="empty: the whole journal is one")
    functional_currency: Mapped[Currency]
    functional_debit_minor: Mapped[int] = mapped_column(server_default="0")
    functional_credit_minor: Mapped[int] = mapped_column(server_default="0")
    fx_rate: Mapped[Decimal] = mapped_column(
        sa.Numeric(24, 12), server_default="1", doc="one unit of the currency in the functional one"
    )
    fx_date: Mapped[dt.date | None]
    fx_source: Mapped[str | None]
    functional_debit: Mapped[Decimal] = mapped_column(
        sa.Numeric(20, 4),
        sa.Computed("minor_to_amount(functional_debit_minor, functional_currency)", persisted=True),
    )
    functional_credit: Mapped[Decimal] = mapped_column(
        sa.Numeric(20, 4),
        sa.Computed(
            "minor_to_amount(functional_credit_minor, functional_currency)", persisted=True
        ),
    )

    __table_args__ = (
        ForeignKeyConstraint(
            ["journal_id", "currency"],
            ["journal.journal_id", "journal.currency"],
            ondelete="CASCADE",
        ),
        CheckConstraint(
            "debit_minor >= 0 and credit_minor >= 0"
            " and functional_debit_minor >= 0 and functional_credit_minor >= 0",
            name="no_negative_side",
        ),
        CheckConstraint(
            "(debit_minor > 0 or functional_debit_minor > 0)"
            " <> (credit_minor > 0 or functional_credit_minor > 0)",
            name="one_side_only",
        ),
        CheckConstraint("fx_rate > 0", name="fx_rate_is_positive"),
    )


class JournalCharge(Base):
    """Which journal lines carry a booked charge; a charge enters one journal of each type.

    Accruals are the exception: while it is unbilled, a charge is in one for each period
    (``accrued_in``), and a later revision may take it out again (``sign`` -1). A line number is
    null where the line's charges cancelled out, so that no line was needed.
    """

    __tablename__ = "journal_charge"

    booked_charge_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    journal_type: Mapped[str]
    journal_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    debit_line_no: Mapped[int | None]
    credit_line_no: Mapped[int | None]
    accrued_in: Mapped[str] = mapped_column(sa.String(7), server_default="")
    sign: Mapped[int] = mapped_column(sa.SmallInteger, server_default="1")

    __table_args__ = (
        Index(
            None,
            "journal_id",
            postgresql_using="brin",
            postgresql_with={"autosummarize": "on"},
        ),
        Index(
            "uq_journal_charge_once",
            "booked_charge_id",
            "journal_type",
            unique=True,
            postgresql_where=sa.text("accrued_in = ''"),
        ),
        Index(
            "ix_journal_charge_journal_type_accrued_in",
            "journal_type",
            "accrued_in",
            postgresql_where=sa.text("accrued_in <> ''"),
        ),
        CheckConstraint("sign in (1, -1)", name="sign_is_one"),
        CheckConstraint("accrued_in <> '' or sign = 1", name="only_accruals_repeat"),
    )


class DerivedEntry(Base):
    """What follows from charges and is booked beside them, by difference. Append-only.

    ``item`` is the same in every run; the sum of its rows is what should be posted of it.
    ``account_id`` is a customer, a vendor, or a partner. RULEBOOK §§7, 9.
    """

    __tablename__ = "derived_entry"

    entry_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    purpose: Mapped[str]
    item: Mapped[str]
    entry_no: Mapped[int] = mapped_column(sa.Integer)
    run_id: Mapped[str] = mapped_column(ForeignKey("run.run_id"))
    level: Mapped[str]
    entity_id: Mapped[str]
    accounting_period: Mapped[MonthText]
    account_id: Mapped[str]
    service_id: Mapped[str]
    product_id: Mapped[str]
    kind: Mapped[str]
    gl_class: Mapped[str]
    tax_code: Mapped[str]
    currency: Mapped[Currency]
    amount_minor: Mapped[int]
    amount: Mapped[Decimal] = _amount()
    booked_charge_id: Mapped[int | None] = mapped_column(doc="charge that it defers")
    version: Mapped[str] = mapped_column(doc="rule or plan that says so")
    explanation: Mapped[str]
    booked_at: Mapped[dt.datetime]

    __table_args__ = (
        ForeignKeyConstraint(
            ["entity_id", "accounting_period"], ["period.entity_id", "period.period"]
        ),
        UniqueConstraint("purpose", "item", "entry_no", name="uq_derived_entry_entry"),
        *_months("accounting_period"),
        _one_of("purpose", "deferral", "release", "allocation", "commission", "true_up", "cut_off"),
        _one_of("level", "retail", "wholesale", "vendor"),
        CheckConstraint("amount_minor <> 0", name="books_something"),
        CheckConstraint("entry_no > 0", name="entry_no_starts_at_one"),
        Index(None, "accounting_period", "purpose"),
    )


class JournalDerived(Base):
    """Which journal lines carry a derived entry."""

    __tablename__ = "journal_derived"

    entry_id: Mapped[int] = mapped_column(ForeignKey("derived_entry.entry_id"), primary_key=True)
    journal_type: Mapped[str] = mapped_column(primary_key=True)
    journal_id: Mapped[int] = mapped_column(
        ForeignKey("journal.journal_id", ondelete="CASCADE"), index=True
    )
    debit_line_no: Mapped[int | None]
    credit_line_no: Mapped[int | None]

    __table_args__ = (
        ForeignKeyConstraint(
            ["journal_id", "debit_line_no"],
            ["journal_line.journal_id", "journal_line.line_no"],
            ondelete="CASCADE",
        ),
        ForeignKeyConstraint(
            ["journal_id", "credit_line_no"],
            ["journal_line.journal_id", "journal_line.line_no"],
            ondelete="CASCADE",
        ),
    )


class JournalTax(Base):
    """Which journal lines carry a tax of an invoice."""

    __tablename__ = "journal_tax"

    tax_id: Mapped[int] = mapped_column(ForeignKey("invoice_tax.tax_id"), primary_key=True)
    journal_type: Mapped[str] = mapped_column(primary_key=True)
    journal_id: Mapped[int] = mapped_column(
        ForeignKey("journal.journal_id", ondelete="CASCADE"), index=True
    )
    debit_line_no: Mapped[int | None]
    credit_line_no: Mapped[int | None]

    __table_args__ = (
        ForeignKeyConstraint(
            ["journal_id", "debit_line_no"],
            ["journal_line.journal_id", "journal_line.line_no"],
            ondelete="CASCADE",
        ),
        ForeignKeyConstraint(
            ["journal_id", "credit_line_no"],
            ["journal_line.journal_id", "journal_line.line_no"],
            ondelete="CASCADE",
        ),
    )


class AccrualEstimate(Base):
    """An amount for usage that is missing at a close: days times an average a day (CL-06).

    Posted in its period and back on the first day of the next. Append-only.
    """

    __tablename__ = "accrual_estimate"

    estimate_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    entity_id: Mapped[str]
    accounting_period: Mapped[MonthText] = mapped_column(index=True)
    level: Mapped[str]
    account_id: Mapped[str]
    product_id: Mapped[str]
    kind: Mapped[str]
    gl_class: Mapped[str]
    tax_code: Mapped[str]
    currency: Mapped[Currency]
    missing_days: Mapped[int] = mapped_column(sa.Integer)
    per_day_minor: Mapped[int]
    amount_minor: Mapped[int]
    amount: Mapped[Decimal] = _amount()
    reason: Mapped[str]
    actor: Mapped[str]
    recorded_at: Mapped[dt.datetime]

    __table_args__ = (
        ForeignKeyConstraint(
            ["entity_id", "accounting_period"], ["period.entity_id", "period.period"]
        ),
        *_months("accounting_period"),
        _one_of("level", "retail", "vendor"),
        CheckConstraint(
            "amount_minor = missing_days * per_day_minor and amount_minor <> 0",
            name="amount_is_days_times_rate",
        ),
        CheckConstraint("btrim(reason) <> ''", name="reason_is_given"),
    )


class JournalEstimate(Base):
    """Which journal carries an estimate."""

    __tablename__ = "journal_estimate"

    estimate_id: Mapped[int] = mapped_column(
        ForeignKey("accrual_estimate.estimate_id"), primary_key=True
    )
    journal_id: Mapped[int] = mapped_column(
        ForeignKey("journal.journal_id", ondelete="CASCADE"), primary_key=True
    )


class JournalExport(Base):
    """What was written for an ERP; the same journal and target always give the same bytes.

    A journal that the target takes in parts has several ``documents`` and may have several files;
    ``sha256`` is then that of their digests, in order.
    """

    __tablename__ = "journal_export"

    journal_id: Mapped[int] = mapped_column(ForeignKey("journal.journal_id"), primary_key=True)
    target: Mapped[str] = mapped_column(primary_key=True)
    file_name: Mapped[str]
    sha256: Mapped[str] = mapped_column(sa.String(64))
    documents: Mapped[list[str]] = mapped_column(
        server_default=sa.text("'{}'::text[]"), doc="ids that the ERP answers with"
    )
    exported_at: Mapped[dt.datetime]


class Payment(Base):
    """A payment of an invoice, or what went back of one (negative). Append-only."""

    __tablename__ = "payment"

    payment_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    invoice_id: Mapped[int] = mapped_column(ForeignKey("invoice.invoice_id"))
    reference: Mapped[str] = mapped_column(doc="the bank's or the ERP's")
    received_on: Mapped[dt.date]
    currency: Mapped[Currency]
    amount_minor: Mapped[int]
    amount: Mapped[Decimal] = _amount()
    source: Mapped[str] = mapped_column(doc="name and SHA-256 of the file")
    actor: Mapped[str]
    recorded_at: Mapped[dt.datetime]

    __table_args__ = (
        UniqueConstraint("invoice_id", "reference"),
        CheckConstraint("amount_minor <> 0", name="pays_something"),
        CheckConstraint("btrim(reference) <> ''", name="has_a_reference"),
    )


class GlEntry(Base):
    """What the general ledger says of an account of ours at a period's end (CL-04).

    ``balance`` is the account's closing balance; ``opening``, ``payment``, ``credit`` and ``other``
    are what it holds besides our journals; an ``explanation`` is signed for a part of a difference.
    Debits are positive. A file that is read again replaces all but the explanations.
    """

    __tablename__ = "gl_entry"

    entity_id: Mapped[str] = mapped_column(primary_key=True)
    period: Mapped[MonthText] = mapped_column(primary_key=True)
    entry_no: Mapped[int] = mapped_column(sa.Integer, primary_key=True, autoincrement=False)
    account: Mapped[str]
    currency: Mapped[Currency]
    kind: Mapped[str]
    amount_minor: Mapped[int]
    amount: Mapped[Decimal] = _amount()
    reference: Mapped[str] = mapped_column(doc="of the ledger's entry; an explanation's reason")
    source: Mapped[str] = mapped_column(doc="name and SHA-256 of the file")
    actor: Mapped[str]
    recorded_at: Mapped[dt.datetime]

    __table_args__ = (
        ForeignKeyConstraint(["entity_id", "period"], ["period.entity_id", "period.period"]),
        *_months("period"),
        _one_of("kind", "balance", "opening", "payment", "credit", "other", "explanation"),
        CheckConstraint(
            "kind <> 'explanation' or btrim(reference) <> ''",
            name="an_explanation_has_a_reason",
        ),
        Index(
            "uq_gl_entry_balance",
            "entity_id",
            "period",
            "account",
            "currency",
            unique=True,
            postgresql_where=sa.text("kind = 'balance'"),
        ),
    )


# --------------------------------------------------------------------------------- vendors


class VendorReconciliation(Base):
    """Expected against invoiced cost of a vendor, accounting period and currency (RULEBOOK §10)."""

    __tablename__ = "vendor_reconciliation"

    reconciliation_id: Mapped[int] = mapped_column(sa.Identity(always=True), primary_key=True)
    entity_id: Mapped[str] = mapped_column(ForeignKey("legal_entity.entity_id"))
    accounting_period: Mapped[MonthText]
    vendor_id: Mapped[str]
    currency: Mapped[Currency]
    expected_minor: Mapped[int]
    invoiced_minor: Mapped[int]
    variance_minor: Mapped[int]
    tolerated_minor: Mapped[int] = mapped_column(doc="sum of variances that passed tolerance")
    disputed_minor: Mapped[int]
    unexplained_minor: Mapped[int]
    lines: Mapped[int] = mapped_column(doc="SIMs x charge codes compared, matched ones included")
    matched_lines: Mapped[int]
    expected: Mapped[Decimal] = _amount("expected_minor")
    invoiced: Mapped[Decimal] = _amount("invoiced_minor")
    variance: Mapped[Decimal] = _amount("variance_minor")
    status: Mapped[str]
    snapshot_id: Mapped[str | None] = mapped_column(ForeignKey("snapshot.snapshot_id"))
    run_id: Mapped[str] = mapped_column(ForeignKey("run.run_id"))
    reconciled_at: Mapped[dt.datetime]

    __table_args__ = (
        UniqueConstraint("entity_id", "accounting_period", "vendor_id", "currency"),
        *_months("accounting_period"),
        _one_of("status", "matched", "tolerated", "disputed", "underbilled", "accrued"),
        CheckConstraint("variance_minor = invoiced_minor - expected_minor", name="variance_adds"),
    )


class VendorReconciliationLine(Base):
    """One SIM, charge code and usage period of a reconciliation that differs.

    Lines that agree are in the lake's ``reconciliation_line`` only; the parent counts them.
    """

    __tablename__ = "vendor_reconciliation_line"

    reconciliation_id: Mapped[int] = mapped_column(
        ForeignKey("vendor_reconciliation.reconciliation_id", ondelete="CASCADE"), primary_key=True
    )
    line_no: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    line_key: Mapped[str] = mapped_column(doc="the same in every run")
    usage_period: Mapped[MonthText]
    invoice_no: Mapped[str | None]
    uid_value: Mapped[str | None]
    service_id: Mapped[str | None]
    charge_code: Mapped[str]
    currency: Mapped[Currency]
    expected_quantity: Mapped[int | None]
    invoiced_quantity: Mapped[int | None]
    expected_minor: Mapped[int]
    invoiced_minor: Mapped[int]
    variance_minor: Mapped[int]
    variance: Mapped[Decimal] = _amount("variance_minor")
    status: Mapped[str]

    __table_args__ = (
        _one_of("status", "matched", "tolerated", "disputed", "underbilled"),
        CheckConstraint("variance_minor = invoiced_minor - expected_minor", name="variance_adds"),
    )


class VendorReconciliationCause(Base):
    """A part of a line's variance; the parts add up to it, checked at commit."""

    __tablename__ = "vendor_reconciliation_cause"

    reconciliation_id: Mapped[int] = mapped_column(primary_key=True)
    line_no: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    cause: Mapped[str] = mapped_column(primary_key=True)
    currency: Mapped[Currency]
    amount_minor: Mapped[int]
    amount: Mapped[Decimal] = _amount()
    evidence: Mapped[str]

    __table_args__ = (
        ForeignKeyConstraint(
            ["reconciliation_id", "line_no"],
            [
                "vendor_reconciliation_line.reconciliation_id",
                "vendor_reconciliation_line.line_no",
            ],
            ondelete="CASCADE",
        ),
    )


class Dispute(Base):
    """A claim against a vendor's invoice line; outlives the reconciliation that found it."""

    __tablename__ = "dispute"

    dispute_id: Mapped[str] = mapped_column(primary_key=True, doc="stable: derived from its key")
    entity_id: Mapped[str] = mapped_column(ForeignKey("legal_entity.entity_id"))
    accounting_period: Mapped[MonthText]
    usage_period: Mapped[MonthText]
    vendor_id: Mapped[str]
    invoice_no: Mapped[str | None]
    invoice_line_no: Mapped[int | None] = mapped_column(doc="first line it is about")
    uid_value: Mapped[str | None]
    charge_code: Mapped[str]
    cause: Mapped[str]
    currency: Mapped[Currency]
    billed_minor: Mapped[int]
    expected_minor: Mapped[int]
    difference_minor: Mapped[int]
    difference: Mapped[Decimal] = _amount("difference_minor")
    evidence: Mapped[str]
    deadline: Mapped[dt.date | None]
    status: Mapped[str] = mapped_column(server_default="open")
    credit_reference: Mapped[str | None]
    opened_at: Mapped[dt.datetime]
    updated_at: Mapped[dt.datetime]

    __table_args__ = (
        *_months("accounting_period", "usage_period"),
        _one_of("status", "open", "sent", "accepted", "rejected", "credited", "withdrawn"),
        UniqueConstraint(
            *("vendor_id", "accounting_period", "usage_period", "invoice_no", "uid_value"),
            *("charge_code", "cause", "currency"),
            name="uq_dispute_key",
            postgresql_nulls_not_distinct=True,
        ),
    )


class DisputeEvent(Base):
    """A step in a claim's life, by whom and why. Append-only."""

    __tablename__ = "dispute_event"

    event_id: Mapped[int] = mapped_column(sa.Identity(always=True), primary_key=True)
    dispute_id: Mapped[str] = mapped_column(ForeignKey("dispute.dispute_id"), index=True)
    at: Mapped[dt.datetime]
    actor: Mapped[str]
    status: Mapped[str]
    credit_reference: Mapped[str | None]
    note: Mapped[str] = mapped_column(server_default="")

    __table_args__ = (
        _one_of("status", "open", "sent", "accepted", "rejected", "credited", "withdrawn"),
    )


class DisputeCredit(Base):
    """A line of a vendor's credit that answers a claim; one line may answer several."""

    __tablename__ = "dispute_credit"

    file_key: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    line_no: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    dispute_id: Mapped[str] = mapped_column(
        ForeignKey("dispute.dispute_id"), primary_key=True, index=True
    )
    accounting_period: Mapped[MonthText] = mapped_column(doc="period of the crediting document")
    invoice_no: Mapped[str]
    currency: Mapped[Currency]
    amount_minor: Mapped[int] = mapped_column(doc="credited, positive")
    amount: Mapped[Decimal] = _amount()
    matched_by: Mapped[str]

    __table_args__ = (
        *_months("accounting_period"),
        _one_of("matched_by", "reference", "line"),
        CheckConstraint("amount_minor > 0", name="a_credit_is_positive"),
    )


# --------------------------------------------------------------- sources of files, and alerts


class RemoteSource(Base):
    """A place that files are fetched from, and how the last look at it went."""

    __tablename__ = "remote_source"

    source_id: Mapped[str] = mapped_column(primary_key=True)
    polled_at: Mapped[dt.datetime] = mapped_column(doc="last look, whether it succeeded or not")
    succeeded_at: Mapped[dt.datetime | None]
    listed: Mapped[int] = mapped_column(server_default="0", doc="files that the last look saw")
    error: Mapped[str | None] = mapped_column(doc="why the last look failed, and what to do")
    refused: Mapped[list[str]] = mapped_column(
        server_default=sa.text("'{}'::text[]"), doc="names that cannot be a file's, and why"
    )


class RemoteFile(Base):
    """A version of a file at a source: what it is known by there, and what became of it.

    ``version`` is the source's own (an ETag) or size and time of change. A version that changed
    before it was landed leaves no row behind.
    """

    __tablename__ = "remote_file"

    source_id: Mapped[str] = mapped_column(primary_key=True)
    path: Mapped[str] = mapped_column(primary_key=True, doc="below the source's folder")
    version: Mapped[str] = mapped_column(primary_key=True)
    size_bytes: Mapped[int]
    state: Mapped[str] = mapped_column(server_default="seen")
    first_seen_at: Mapped[dt.datetime]
    file_key: Mapped[int | None] = mapped_column(ForeignKey("feed_file.file_key"))
    landed_at: Mapped[dt.datetime | None]
    cleared_at: Mapped[dt.datetime | None] = mapped_column(doc="deleted or moved at the source")
    attempts: Mapped[int] = mapped_column(sa.Integer, server_default="0")
    retry_at: Mapped[dt.datetime | None] = mapped_column(doc="not tried again before")
    problem: Mapped[str | None] = mapped_column(doc="why the last attempt failed, what to do")

    __table_args__ = (
        _one_of("state", "seen", "failed", "landed"),
        CheckConstraint("size_bytes >= 0", name="size_is_not_negative"),
        CheckConstraint(
            "(state = 'landed') = (file_key is not null and landed_at is not null)",
            name="landed_means_archived",
        ),
        Index("ix_remote_file_waiting", "source_id", postgresql_where=sa.text("state <> 'landed'")),
        Index(None, "file_key"),
    )


class LandingFile(Base):
    """A file of the landing folder that is known by its content: it needs no second look.

    While size, times of change and inode stay, so does the content. Saves reading only: without a
    row the file is read again and found in the archive.
    """

    __tablename__ = "landing_file"

    path: Mapped[str] = mapped_column(primary_key=True, doc="below the landing folder")
    size_bytes: Mapped[int]
    modified_ns: Mapped[int]
    changed_ns: Mapped[int]
    inode: Mapped[int]
    file_key: Mapped[int] = mapped_column(ForeignKey("feed_file.file_key"), index=True)


class FeedDayProfile(Base):
    """What a feed delivered of a UTC day of usage: the counts that its quality is judged by.

    ``rejected`` and ``ignored`` are those of the files whose usage lies mainly on the day.
    """

    __tablename__ = "feed_day_profile"

    feed_id: Mapped[str] = mapped_column(primary_key=True)
    day: Mapped[dt.date] = mapped_column(primary_key=True, index=True)
    files: Mapped[int] = mapped_column(doc="files with accepted records of the day")
    records: Mapped[int] = mapped_column(doc="accepted")
    rejected: Mapped[int]
    ignored: Mapped[int]
    identifiers: Mapped[int] = mapped_column(doc="distinct SIMs")
    nulls: Mapped[dict[str, Any]] = mapped_column(doc="accepted records without a value, by column")
    quantities: Mapped[dict[str, Any]] = mapped_column(
        doc="by usage class: records, quantity and greatest quantity, as texts"
    )
    profiled_at: Mapped[dt.datetime]
    run_id: Mapped[str] = mapped_column(ForeignKey("run.run_id"))

    __table_args__ = (CheckConstraint("records >= 0", name="records_are_not_negative"),)


class FeedDayFailure(Base):
    """An expectation that a feed-day does not meet, as it was last checked."""

    __tablename__ = "feed_day_failure"

    feed_id: Mapped[str] = mapped_column(primary_key=True)
    day: Mapped[dt.date] = mapped_column(primary_key=True)
    expectation: Mapped[str] = mapped_column(primary_key=True)
    severity: Mapped[str]
    figure: Mapped[str]
    message: Mapped[str]
    what_to_do: Mapped[str]
    checked_at: Mapped[dt.datetime]

    __table_args__ = (
        ForeignKeyConstraint(
            ["feed_id", "day"],
            ["feed_day_profile.feed_id", "feed_day_profile.day"],
            ondelete="CASCADE",
        ),
        _one_of("severity", "block", "warn", "info"),
    )


class AlertIncident(Base):
    """Something wrong that people are told of once, from when it was found until it clears."""

    __tablename__ = "alert_incident"

    incident_id: Mapped[int] = mapped_column(sa.Identity(always=True), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(sa.String(64), doc="the same for the same trouble")
    code: Mapped[str]
    severity: Mapped[str]
    subject: Mapped[str] = mapped_column(doc="what it is about: a file, a feed-day, a month")
    feed_id: Mapped[str | None]
    owner: Mapped[str | None]
    message: Mapped[str]
    figure: Mapped[str]
    what_to_do: Mapped[str]
    evidence: Mapped[str] = mapped_column(doc="command that shows what it rests on")
    opened_at: Mapped[dt.datetime]
    cleared_at: Mapped[dt.datetime | None]

    __table_args__ = (
        _one_of("severity", "block", "warn"),
        CheckConstraint("cleared_at >= opened_at", name="clears_after_it_opens"),
        Index(
            "uq_alert_incident_open",
            "fingerprint",
            unique=True,
            postgresql_where=sa.text("cleared_at is null"),
        ),
        Index(None, "cleared_at"),
    )


class AlertDelivery(Base):
    """What a channel was told of an incident: that it opened (and again), that it cleared."""

    __tablename__ = "alert_delivery"

    incident_id: Mapped[int] = mapped_column(
        ForeignKey("alert_incident.incident_id", ondelete="CASCADE"), primary_key=True
    )
    channel: Mapped[str] = mapped_column(primary_key=True)
    event: Mapped[str] = mapped_column(primary_key=True)
    severity: Mapped[str] = mapped_column(doc="as it was told")
    times: Mapped[int] = mapped_column(sa.Integer, doc="messages that went out")
    sent_at: Mapped[dt.datetime] = mapped_column(doc="last of them")

    __table_args__ = (
        _one_of("event", "opened", "cleared"),
        _one_of("severity", "block", "warn"),
        CheckConstraint("times > 0", name="was_sent"),
    )


class AlertChannel(Base):
    """How the last message to a channel went."""

    __tablename__ = "alert_channel"

    channel: Mapped[str] = mapped_column(primary_key=True)
    tried_at: Mapped[dt.datetime]
    failures: Mapped[int] = mapped_column(sa.Integer, doc="in a row; 0 = the last one went out")
    error: Mapped[str | None]


# ----------------------------------------------------------------------------------- audit


class AuditLog(Base):
    """Who did what, when, from which inputs. Append-only; each row's hash covers the one before.

    The database fills ``seq``, ``previous_hash`` and ``hash``.
    """

    __tablename__ = "audit_log"

    seq: Mapped[int] = mapped_column(
        primary_key=True, autoincrement=False, server_default=sa.text("0")
    )
    at: Mapped[dt.datetime]
    actor: Mapped[str]
    action: Mapped[str]
    subject: Mapped[str]
    detail: Mapped[dict[str, Any]] = mapped_column(server_default=sa.text("'{}'::jsonb"))
    input_hashes: Mapped[dict[str, Any]] = mapped_column(server_default=sa.text("'{}'::jsonb"))
    previous_hash: Mapped[str] = mapped_column(sa.String(64), server_default="")
    hash: Mapped[str] = mapped_column(sa.String(64), server_default="")
