"""Correcting some accounts without the rest of the month (RULEBOOK §11, scope of re-rating).

The accounts are those of a selection, or those that a changed catalog can concern. They are rated
and settled in memory, by the same stages on the same inputs narrowed to their scope
(:mod:`operations.scope`), and the differences to what is booked are booked. The stored settlement
of the month stays as it is: the next close settles it whole, and finds these accounts booked.

Which accounts a change concerns is known where the code, the usage, the inventory and what earlier
months left are as they were when the month was settled, all that was settled is booked, and the
catalog differs in what is said of offers, their charges and prices. Everything else in a catalog
(states, zones, time windows, conditions, products, currencies, share plans, overriding prices) can
reach anybody: then the whole month is settled again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import pyarrow as pa
from sqlalchemy.orm import Session

from iotbill_pipelines.config.catalog import CatalogSource
from iotbill_pipelines.config.contracts import read_contract_book
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.compute import Compute
from iotbill_pipelines.engine.schemas import (
    ALLOWANCE_LOT,
    CATALOG,
    CHARGE_COMPONENT,
    POOL_PART,
    POOL_SETTLEMENT,
    RATED_USAGE,
    REFERENCE,
    USAGE_AGGREGATE,
)
from iotbill_pipelines.engine.terms import compile_catalog
from iotbill_pipelines.operations import charges, contracts, fingerprints, reach, runs, scope, usage
from iotbill_pipelines.operations.catalogs import in_force
from iotbill_pipelines.operations.differences import Standing, book_alone, standing
from iotbill_pipelines.operations.scope import Scope
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage import ledger, reference
from iotbill_pipelines.storage.models import Run
from iotbill_pipelines.storage.reference import Snapshot, open_snapshot, store_snapshot


@dataclass(frozen=True)
class Order:
    """A correction that was asked for: of a settled usage period, booked in ``accounting``.

    ``months`` are the usage periods that settling it speaks for, ``settled`` all that are settled.
    ``account`` names the one to correct, None whoever is concerned. ``everything`` of them is
    booked unless ``units`` says which units are.
    """

    period: Month
    accounting: Month
    months: Sequence[Month]
    settled: Sequence[Month]
    cause: str
    account: str | None
    units: Callable[[Compute], pa.Table] | None

    @property
    def everything(self) -> bool:
        return self.account is None and self.units is None


@dataclass(frozen=True)
class Known:
    """The catalog of now, as its digest and JSON, and the scope of a correction."""

    digest: str
    json: str
    at: datetime
    found: Scope


def correct_alone(ws: Workspace, order: Order) -> ledger.BookingResult | None:
    """Book the differences of an order for its accounts, under a run that is registered.

    None, and nothing booked, where only the whole month can tell; contracts that are taken over, a
    catalog and a snapshot are kept then all the same. See :mod:`operations.scope` for why the
    accounts found are enough.
    """
    held = standing(ws).get(order.period)
    with Session(ws.engine) as session, session.begin():
        known = _known(ws, session, order, held)
        if known is None:
            return None
        snapshot = store_snapshot(
            session, ws.home, known.at, known.found.tables,
            reference.store_catalog(session, known.json, known.at)
            if ws.catalog_digest is None else known.digest,
        )  # fmt: skip
    months = charges.usage_months(ws, order.period, snapshot)
    rated = scope.rated_usage(ws, months, known.found, same_records=order.account is None)
    if rated is None:
        return None
    rows = rated.num_rows + sum(table.num_rows for table in known.found.tables.values())
    with ws.compute(rows) as compute:
        scope.settle(ws, compute, order.period, known.found, rated)
        if not scope.leaves_the_same(ws, compute, order.period, known.found, order.settled):
            return None
        with Session(ws.engine) as session, session.begin():
            run = session.get_one(Run, ws.run_id)
            run.detail = {**(run.detail or {}), "snapshot_id": snapshot.id}
            return _book(ws, session, compute, order, known, snapshot, held)


def _book(
    ws: Workspace,
    session: Session,
    compute: Compute,
    order: Order,
    known: Known,
    snapshot: Snapshot,
    held: Standing | None,
) -> ledger.BookingResult:
    units = order.units
    return book_alone(
        ws,
        session,
        compute,
        order.accounting,
        order.months,
        snapshot,
        period=order.period,
        accounts=known.found.accounts,
        cause=order.cause,
        units=None if units is None else partial(units, compute),
        held=held,
        catalog=known.digest
        if order.everything or (held is not None and held.catalog == known.digest)
        else None,
    )


def _known(ws: Workspace, session: Session, order: Order, held: Standing | None) -> Known | None:
    source = in_force(ws)
    book = read_contract_book(ws.configs / "contracts", source.catalog)
    contracts.take_over(session, book, source.catalog, ws.clock())
    return _scope_of(ws, session, source, order.account, {order.period: held})


def known_alone(ws: Workspace, account: str | None, periods: Collection[Month]) -> Known | None:
    """Return what is known of an account, or of all that a changed catalog concerns in settled
    usage periods, and of all that they share with, then and now; None where it can be anybody."""
    if not periods:
        return None
    stands = standing(ws)
    ids = {detail["snapshot"] for detail in _settled(ws, periods).values()}
    rated = usage.details(ws)
    ids |= {rated[month]["snapshot"] for month in rated if month >= min(periods) - 1}
    with Session(ws.engine) as session:
        earlier = [open_snapshot(session, ws.home, each) for each in sorted(ids)]
        return _scope_of(
            ws,
            session,
            in_force(ws),
            account,
            {period: stands.get(period) for period in periods},
            [each for each in earlier if reference.changed_since(session, each.known_at)],
        )


def _settled(ws: Workspace, periods: Collection[Month]) -> dict[Month, dict[str, Any]]:
    found = fingerprints.details(ws, charges.STAGE)
    return {period: found[period] for period in periods}


def _scope_of(
    ws: Workspace,
    session: Session,
    source: CatalogSource,
    account: str | None,
    stands: Mapping[Month, Standing | None],
    earlier: Collection[Snapshot] = (),
) -> Known | None:
    catalog = {
        name: table.cast(CATALOG[name].arrow_schema)
        for name, table in compile_catalog(source.catalog).items()
    }
    at = ws.clock()
    seeds: set[str] = set() if account is None else {account}
    for period, held in stands.items() if account is None else ():
        found = concerned(ws, session, period, catalog, at, held)
        if found is None:
            return None
        seeds |= found
    scoped = scope.find_scope(session, at, catalog, seeds, earlier)
    return None if scoped is None else Known(source.digest, source.json, at, scoped)


# ------------------------------------------------------------------------------ told afterwards

_TOLD = (USAGE_AGGREGATE, POOL_SETTLEMENT, POOL_PART, ALLOWANCE_LOT, CHARGE_COMPONENT)


@dataclass(frozen=True)
class Settled:
    """What an account that was corrected by itself came to, and the snapshot that was read."""

    snapshot: Snapshot
    tables: Mapping[str, pa.Table]


def settled_alone(ws: Workspace, period: Month, accounts: Collection[str]) -> dict[str, Settled]:
    """Return what accounts came to when they were corrected by themselves, settled anew to be told.

    ``tables`` are ``rated_usage`` and what is stored of a settlement, of all accounts of a scope.
    Left out are accounts that are booked as their period was settled, or whose usage changed since.
    """
    held = standing(ws).get(period, Standing(None)).alone or {}
    told = {
        id_: _settled_anew(ws, period, id_, held) for id_ in {held.get(a) for a in accounts} if id_
    }
    found = {account: told.get(held.get(account, "")) for account in accounts}
    return {account: each for account, each in found.items() if each is not None}


def _settled_anew(
    ws: Workspace, period: Month, snapshot_id: str, held: Mapping[str, str]
) -> Settled | None:
    with Session(ws.engine) as session:
        snapshot = open_snapshot(session, ws.home, snapshot_id)
    tables = reach.tables_of(snapshot.tables_dir)
    accounts = frozenset(account for account, id_ in held.items() if id_ == snapshot_id)
    found = Scope(accounts, frozenset(tables["service"]["service_id"].to_pylist()), tables)
    months = charges.usage_months(ws, period, snapshot)
    rated = scope.rated_usage(ws, months, found, same_records=False)
    if rated is None:
        return None
    with ws.compute(rated.num_rows + sum(table.num_rows for table in tables.values())) as compute:
        scope.settle(ws, compute, period, found, rated)
        told = {
            table.name: scope.rows_of(
                compute.fetch(f"select {table.column_list} from {table.name}"),
                "account_id",
                accounts,
            )
            for table in _TOLD
        }
    return Settled(snapshot, {RATED_USAGE.name: rated, **told})


# ------------------------------------------------------------------------------ who is concerned


def concerned(
    ws: Workspace,
    session: Session,
    period: Month,
    catalog: Mapping[str, pa.Table],
    at: datetime,
    held: Standing | None,
) -> set[str] | None:
    """Return the accounts whose charges of a settled usage period can differ from what is booked.

    None where that cannot be told without looking at all. Usage is not looked at here.
    """
    detail = fingerprints.details(ws, charges.STAGE)[period]
    if held is None or held.alone is None or detail.get("code") != runs.code_version():
        return None
    snapshot = open_snapshot(session, ws.home, detail["snapshot"])
    if not _same_inventory(session, period, catalog, at, snapshot, detail["knowledge"]):
        return None
    left = charges.carried_digest(charges.carried_over(ws, period))
    settled = fingerprints.recorded(ws, charges.STAGE)
    counted = detail.get("before", {})
    if any(
        left.get(name) != detail.get(name) for name in charges.CARRIED_NAMES
    ) or counted != charges.committed_settlements(map(Month.parse, counted), settled):
        return None
    then = reach.catalog_of(snapshot.tables_dir)
    offers = changed_offers(then, catalog)
    if offers is None:
        return None
    return {*held.alone} | reference.paying_accounts(session, at, offers)


def _same_inventory(
    session: Session,
    period: Month,
    catalog: Mapping[str, pa.Table],
    at: datetime,
    snapshot: Snapshot,
    then: Mapping[str, str],
) -> bool:
    if not reference.changed_since(session, snapshot.known_at):
        return True
    tables = {**reference.as_known_at(session, at), **catalog}
    now = reach.digest(
        {name: table.cast({**REFERENCE, **CATALOG}[name].arrow_schema)
         for name, table in tables.items()},
        None, reach.settling_end(tables, period),
    )  # fmt: skip
    return now["inventory"] == then["inventory"]


_CHARGES_OF_PRICES = ("price_tier", "price_condition")


def changed_offers(
    before: Mapping[str, pa.Table], after: Mapping[str, pa.Table]
) -> set[str] | None:
    """Return the offers that two catalogs, as tables of CATALOG, say something else of.

    None where they differ in anything that is not of one offer: then it can reach anybody.
    """
    changed: dict[str, list[dict[str, Any]]] = {}
    for name in CATALOG:
        old, new = (
            {tuple(row.items()) for row in each[name].to_pylist()} for each in (before, after)
        )
        if old != new:
            changed[name] = [dict(row) for row in old ^ new]
    prices: dict[str, str] = {}
    owners: dict[str, set[str]] = {}
    for each in (before, after):
        prices |= scope.by_key(each["price"], "price_id", "charge_id")
        for charge, offer in scope.by_key(each["charge"], "charge_id", "offer_id").items():
            owners.setdefault(charge, set()).add(offer)
    offers: set[object] = set()
    for name, rows in changed.items():
        for row in rows:
            if name == "offer":
                offers.add(row["offer_id"])
            elif name in ("charge", "price", "charge_measure"):
                offers |= owners[row["charge_id"]]
            elif name in _CHARGES_OF_PRICES:
                offers |= owners[prices[row["price_id"]]]
            else:
                return None
    overriding = {
        offer
        for each in (before, after)
        for offer in each["price_override"]["offer_id"].to_pylist()
    }
    if None in offers or offers & overriding:
        return None  # overage of a share plan; prices that were agreed for others
    return {str(offer) for offer in offers}
