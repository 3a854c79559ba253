"""Contracts of a workspace: taken over from configs/contracts, signed, read (docs/contracts.md).

A contract is signed when it is first known: its template's terms are copied then, and a template
that is edited later changes no contract. The copy is reference data like the contract itself, so a
close of any month computes from what was known when it ran.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy.orm import Session

from iotbill_pipelines.config.catalog import read_catalog
from iotbill_pipelines.config.contracts import ContractBook, read_contract_book, template_copies
from iotbill_pipelines.engine.contract import (
    Contract,
    TerminationFee,
    price_segments,
    terms_of,
    whatif,
)
from iotbill_pipelines.engine.contract.checks import check_terms
from iotbill_pipelines.engine.contract.documents import (
    ContractError,
    effective_terms,
    read_contracts,
)
from iotbill_pipelines.engine.schemas import COMMITMENT_STATUS, REFERENCE
from iotbill_pipelines.engine.terms import Catalog
from iotbill_pipelines.operations.trace import UnknownId
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage import reference
from iotbill_pipelines.storage.reference import ReferenceDataError, Snapshot

TABLES = ("contract", "contract_terms", "contract_suspension")
_CONFIGURED = "configs/contracts"


def take_over(session: Session, book: ContractBook, catalog: Catalog, now: datetime) -> None:
    """Load the contracts of ``configs/contracts`` and sign what is not signed yet.

    A contract that was taken out of the files is closed. Raises ReferenceDataError for a contract
    of any source that cannot be read, or whose terms the catalog does not bear out.
    """
    if book.contracts or book.templates:
        for name, rows in (("contract", book.contracts), ("contract_suspension", book.suspensions)):
            table = pa.Table.from_pylist(list(rows), schema=REFERENCE[name].arrow_schema)
            reference.load(session, name, table, now, _CONFIGURED, complete=True)
    tables = known_tables(session, now)
    try:
        sign(session, tables, book, now)
        if not tables["contract"].num_rows:
            return
        tables = known_tables(session, now)
        read_tables(tables)
        copies = {row["contract_id"]: row["terms"] for row in tables["contract_terms"].to_pylist()}
        for row in tables["contract"].to_pylist():
            terms = effective_terms(copies.get(row["contract_id"]), row["own_terms"])
            for path, rule in check_terms(terms, catalog, line_item=row["service_id"] is not None):
                raise ContractError(row["contract_id"], f"{'.'.join(map(str, path))}: {rule}")
    except ContractError as error:
        raise ReferenceDataError(str(error)) from None


def sign(
    session: Session, tables: Mapping[str, pa.Table], book: ContractBook, now: datetime
) -> None:
    """Copy the template's terms of every contract that has no copy of that template yet."""
    signed = {
        (row["contract_id"], row["template_id"]) for row in tables["contract_terms"].to_pylist()
    }
    unsigned = [
        row
        for row in tables["contract"].to_pylist()
        if row["template_id"] and (row["contract_id"], row["template_id"]) not in signed
    ]
    copies = template_copies(unsigned, book.templates)
    if copies:
        table = pa.Table.from_pylist(copies, schema=REFERENCE["contract_terms"].arrow_schema)
        reference.load(session, "contract_terms", table, now, "signing")


def sign_landed(ws: Workspace, session: Session) -> None:
    """Sign contracts that a file has just brought, with the templates of now."""
    catalog = read_catalog(ws.configs / "catalog").catalog
    book = read_contract_book(ws.configs / "contracts", catalog)
    now = ws.clock()
    try:
        sign(session, known_tables(session, now), book, now)
    except ContractError as error:
        raise ReferenceDataError(str(error)) from None


def known_tables(session: Session, moment: datetime) -> dict[str, pa.Table]:
    """The contract tables as known at a moment."""
    return reference.as_known_at(session, moment, TABLES)


def read_known(ws: Workspace) -> tuple[Contract, ...]:
    """Every contract that a close would know now, also those not taken over yet.

    Nothing is written. Raises ConfigError and ReferenceDataError as a close would.
    """
    source = read_catalog(ws.configs / "catalog")
    book = read_contract_book(ws.configs / "contracts", source.catalog)
    with Session(ws.engine) as session:
        take_over(session, book, source.catalog, ws.clock())
        found = read_tables(known_tables(session, ws.clock()))
        session.rollback()
    return found


def contracts_of(snapshot: Snapshot) -> tuple[Contract, ...]:
    """The contracts that a snapshot holds."""
    if not snapshot.rows.get("contract"):
        return ()
    return read_tables({name: pq.read_table(snapshot.file(name)) for name in TABLES})


def read_tables(tables: Mapping[str, pa.Table]) -> tuple[Contract, ...]:
    """Contracts of the contract tables. Raises ContractError."""
    rows: dict[str, list[dict[str, Any]]] = {name: tables[name].to_pylist() for name in TABLES}
    return read_contracts(rows["contract"], rows["contract_terms"], rows["contract_suspension"])


# ------------------------------------------------------------------------------- what is asked


@dataclass(frozen=True)
class ContractLine:
    """A contract as a list shows it: the term of a day, or the last one if it has ended."""

    contract_id: str
    account_id: str
    service_id: str | None
    template_id: str | None
    state: Literal["to_come", "in_force", "ended", "terminated"]
    term: int
    start: date
    end: date
    then: str
    currency: str


@dataclass(frozen=True)
class ContractRate:
    """A price of a contract on a day."""

    charge_id: str
    zone: str | None
    state: str | None
    rate: Decimal | None
    season: str | None


@dataclass(frozen=True)
class ContractView:
    """A contract on a day: its term, its prices then, what it commits to, where windows stand."""

    line: ContractLine
    rates: list[ContractRate]
    commitments: list[dict[str, Any]]
    termination_kind: str | None
    notice_days: int


def list_contracts(ws: Workspace, account: str | None = None) -> list[ContractLine]:
    """Return all contracts, or those of an account, as of today; nothing is written."""
    return [
        _line(contract, ws.today)
        for contract in read_known(ws)
        if account in (None, contract.account_id)
    ]


def show_contract(ws: Workspace, contract_id: str, day: date | None = None) -> ContractView:
    """Return a contract on a day (today). Raises UnknownId for one that is not known."""
    contract = find_contract(ws, contract_id)
    day = day or ws.today
    line = _line(contract, day)
    terms = next(term.terms for term in terms_of(contract, date.max) if term.number == line.term)
    rates = []
    for price in terms.prices:
        segments = price_segments(
            price.charge_id, day, day + timedelta(days=1), contracts=[contract],
            zone=price.zone, state=price.state,
        )  # fmt: skip
        rates += [
            ContractRate(price.charge_id, price.zone, price.state, each.rate, each.season)
            for each in segments
        ]
    ending = terms.early_termination
    return ContractView(
        line, rates, _standing(ws, contract_id), None if ending is None else ending.kind,
        terms.notice_days,
    )  # fmt: skip


def termination_whatif(
    ws: Workspace, contract_id: str, days: Sequence[date], status: str | None = None
) -> tuple[TerminationFee, ...]:
    """Return what ending a contract on each of the days costs; nothing is written (CT-09).

    Raises UnknownId for a contract, ReferenceDataError for a status that is not known.
    """
    contract = find_contract(ws, contract_id)
    try:
        return whatif(contract, days, status=status)
    except ValueError as error:
        raise ReferenceDataError(str(error)) from None


def find_contract(ws: Workspace, contract_id: str) -> Contract:
    """Return a known contract. Raises UnknownId naming some that are."""
    known = {contract.id: contract for contract in read_known(ws)}
    if contract_id not in known:
        some = ", ".join(sorted(known)[:8]) or "none"
        raise UnknownId(
            f"no contract {contract_id!r}; known are {some}; see `iotbill contract list`"
        )
    return known[contract_id]


def _line(contract: Contract, day: date) -> ContractLine:
    terms = list(terms_of(contract, max(day, contract.start) + timedelta(days=1)))
    term = terms[-1]
    state: Literal["to_come", "in_force", "ended", "terminated"] = "in_force"
    if day < contract.start:
        state = "to_come"
    elif not term.holds(day):
        state = "ended" if contract.terminated_on is None else "terminated"
    then: str = term.terms.renewal.kind
    if contract.terminated_on is not None and contract.terminated_on <= term.end:
        then = "terminated"
    return ContractLine(
        contract.id, contract.account_id, contract.service_id, contract.template_id, state,
        term.number, term.start, term.covered_until, then, term.terms.currency,
    )  # fmt: skip


def _standing(ws: Workspace, contract_id: str) -> list[dict[str, Any]]:
    """The newest row of every window of a contract's commitments, as closes settled them."""
    with ws.compute() as compute:
        ws.lake.scan(compute, COMMITMENT_STATUS)
        rows: list[dict[str, Any]] = compute.fetch("commitment_status").to_pylist()
    newest = {
        (row["commitment_id"], row["window_start"]): row
        for row in sorted(rows, key=lambda row: str(row["usage_period"]))
        if row["contract_id"] == contract_id
    }
    return [newest[key] for key in sorted(newest)]
