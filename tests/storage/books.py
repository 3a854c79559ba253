"""A small ledger for tests: desired charges by hand, booked, invoiced and posted for real."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.orm import Session

from iotbill_pipelines.compute.duckdb_engine import DuckDbCompute
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.post.terms import (
    Entity,
    ExportColumn,
    ExportTarget,
    GlAccount,
    GlRule,
    JournalType,
    LedgerTerms,
)
from iotbill_pipelines.engine.schemas import BOOKING, CATALOG, DESIRED_CHARGE
from iotbill_pipelines.storage import database, ledger

NOW = datetime(2026, 11, 3, 9, tzinfo=UTC)
OCTOBER, NOVEMBER = Month(2026, 10), Month(2026, 11)

PRODUCTS = {
    "data": "usage",
    "pool": "overage",
    "sub": "recurring",
    "buy": "cost_usage",
    "odd": "unheard_of",
}

TERMS = LedgerTerms(
    entities=[Entity(id="NL01", name="Ours", currency="EUR", subsidiary="Ours B.V.")],
    accounts=[
        GlAccount(number=number, name=name)
        for number, name in (
            ("1200", "Receivables"),
            ("2100", "Accrued cost"),
            ("4000", "Subscriptions"),
            ("4100", "Usage"),
            ("5000", "Carrier cost"),
            ("9990", "Suspense"),
        )
    ],
    suspense_account="9990",
    gl_map=[
        GlRule(role="receivable", account="1200"),
        GlRule(role="revenue", when={"gl_class": "recurring"}, account="4000"),
        GlRule(role="revenue", when={"gl_class": "usage"}, account="4100", class_name="IoT"),
        GlRule(role="revenue", when={"gl_class": "overage"}, account="4100", class_name="IoT"),
        GlRule(role="cost", when={"gl_class": "cost_usage"}, account="5000"),
        GlRule(role="accrued_cost", account="2100"),
    ],
    journals=[
        JournalType(
            type="REVENUE",
            level="retail",
            source="invoiced",
            debit="receivable",
            credit="revenue",
            debit_by=["account"],
            memo="Revenue {period}",
        ),
        JournalType(
            type="COST",
            level="vendor",
            source="booked",
            debit="cost",
            credit="accrued_cost",
            credit_by=["account"],
        ),
    ],
    targets=[
        ExportTarget(
            id="plain",
            format="csv",
            integer_digits=10,
            decimals=2,
            columns=[
                ExportColumn(header="Id", field="external_id"),
                ExportColumn(header="Date", field="date", format="DD/MM/YYYY"),
                ExportColumn(header="Account", field="line.account"),
                ExportColumn(header="Debit", field="line.debit"),
                ExportColumn(header="Credit", field="line.credit"),
                ExportColumn(header="Name", field="line.name"),
            ],
        ),
        ExportTarget(
            id="book",
            format="xlsx",
            columns=[
                ExportColumn(header="Account", field="line.account_number"),
                ExportColumn(header="Date", field="date"),
                ExportColumn(header="Debit", field="line.debit"),
                ExportColumn(header="Credit", field="line.credit"),
            ],
        ),
    ],
)


@dataclass(frozen=True)
class Charge:
    """A desired charge; what a test does not care about has a default."""

    service_id: str = "S1"
    amount_minor: int = 0
    quantity: int = 1
    records: int = 1
    charge_id: str = "data"
    product_id: str = "data"
    kind: str = "usage"
    account_id: str = "A"
    level: str = "retail"
    usage_period: str = "2026-10"
    billing_period: str = "2026-10"
    entity_id: str = "NL01"
    linear: bool = True
    currency: str = "EUR"
    price_ids: str = "p1"

    def but(self, **values: Any) -> Charge:
        return replace(self, **values)


def desired(*charges: Charge) -> pa.Table:
    return pa.Table.from_pylist(
        [vars(charge) for charge in charges], schema=DESIRED_CHARGE.arrow_schema
    )


def products() -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "product_id": product,
                "name": product,
                "charge_type": "usage",
                "gl_class": gl_class,
                "tax_code": "standard",
            }
            for product, gl_class in PRODUCTS.items()
        ],
        schema=CATALOG["product"].arrow_schema,
    )


class Books:
    """The ledger of a test database."""

    def __init__(self, url: str) -> None:
        self.engine = database.connect(url)
        with Session(self.engine) as session, session.begin():
            ledger.ensure_entities(session, TERMS.entities)
            session.execute(
                sa.text(
                    "insert into run (run_id, kind, started_at, actor, code_version)"
                    " values ('run', 'close', now(), 'test', 'x') on conflict do nothing"
                )
            )

    def book(
        self, *charges: Charge, period: Month = OCTOBER, scope: tuple[str, ...] = ("2026-10",)
    ) -> list[tuple[str, str, int]]:
        """Book; return (service, reason, minor units) of the rows, in order."""
        with DuckDbCompute() as compute, Session(self.engine) as session, session.begin():
            compute.load("desired_charge", desired(*charges))
            compute.load("product", products())
            ledger.book(session, compute, period, scope, run_id="run", cause="test", booked_at=NOW)
            booked = compute.fetch(f"select * from booking order by {', '.join(BOOKING.key)}")
        return [
            (row["service_id"], row["reason"], row["amount_minor"]) for row in booked.to_pylist()
        ]

    def invoice(self, period: Month = OCTOBER) -> ledger.InvoiceResult:
        with Session(self.engine) as session, session.begin():
            return ledger.issue_invoices(
                session, period, run_id="run", issue_date=date(2026, 11, 3), issued_at=NOW
            )

    def post(self, period: Month = OCTOBER, terms: LedgerTerms = TERMS) -> ledger.JournalResult:
        with Session(self.engine) as session, session.begin():
            return ledger.post_journals(session, period, terms, run_id="run", built_at=NOW)

    def export(
        self, directory: Path, period: Month = OCTOBER, terms: LedgerTerms = TERMS
    ) -> tuple[list[ledger.ExportedFile], list[ledger.LedgerFinding]]:
        with Session(self.engine) as session, session.begin():
            return ledger.export_journals(session, period, terms, directory, exported_at=NOW)

    def findings(self, period: Month = OCTOBER) -> list[ledger.LedgerFinding]:
        with Session(self.engine) as session:
            return ledger.tie_out_findings(ledger.tie_out(session, period))

    def rows(self, select: str) -> list[tuple[Any, ...]]:
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text(select))]

    def refused(self, *statements: str) -> str:
        """Run statements in one transaction that must fail; return what the database said."""
        try:
            with self.engine.begin() as connection:
                for statement in statements:
                    connection.execute(sa.text(statement))
        except sa.exc.DBAPIError as error:
            return str(error.orig)
        raise AssertionError(f"the database took {statements}")
