"""The part of a month that a correction of some accounts has to look at, and why it is enough.

An amount is of a level, an account, a service and a charge. What decides on it (RULEBOOK §§3..7) is
the catalog, what is said of the service, the usage of its SIM, and what other amounts it is shared
with. Sharing is all that leads from one account to another, and it does so in three ways:

- a **pool** is shared by services of one account or, where a plan says so, of an account tree;
- a **contract** that covers a tree discounts, prices and commits all accounts below its own;
- a **service** that moved from one payer to another draws from the pools of both.

:func:`find_scope` follows these from the accounts asked for until none leads further. Services that
the accounts found pay for are then read whole, at all levels and with all owners that their SIMs
ever had, so that each of their records finds the owner, the state and the offers that it finds
among everything; rating looks at no other record, duplicates apart, which mediation set aside.
What accounts outside come to from the part that is read is incomplete, and is left out. So the
accounts of a scope come to what they come to in the whole month, and nothing else is booked.

Where that is not so, the whole month is: accounts of carriers, who are paid for every SIM; more
than :data:`MOST` of all services; usage that came or went since the month was rated, for copies of
a record may lie anywhere; feeds that deliver sessions in parts or counters, where a usage price
would have to be chosen anew.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from functools import lru_cache, partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from sqlalchemy.orm import Session

from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.compute import Compute, literal
from iotbill_pipelines.engine.contract.terms import Contract
from iotbill_pipelines.engine.flow import CARRIED, rate_month
from iotbill_pipelines.engine.schemas import (
    CATALOG,
    DUPLICATE_RECORD,
    RATED_USAGE,
    REFERENCE,
    SERVICE_ACTIVATION,
    SUSPENDED_RECORD,
    USAGE_RECORD,
)
from iotbill_pipelines.operations import charges, contracts, mediation, reach, usage
from iotbill_pipelines.operations.runs import code_version
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage import reference
from iotbill_pipelines.storage.reference import SERVICE_TABLES, PaidFor, Snapshot

MOST = Decimal("0.5")
"""Beyond this share of all services a scope saves less than finding it costs."""


@dataclass(frozen=True)
class Scope:
    """Accounts that can be settled by themselves, the services that they pay for, and all that is
    said of those: the tables of REFERENCE narrowed, those of CATALOG whole.

    ``known`` has what is said of them now, where that is known; ``tables`` can be of another time.
    """

    accounts: frozenset[str]
    services: frozenset[str]
    tables: Mapping[str, pa.Table]
    known: Mapping[str, pa.Table] | None = None

    @property
    def contracts(self) -> tuple[Contract, ...]:
        """The contracts that hold for the accounts, or for others that pay for their services."""
        return contracts.read_tables(self.tables)


def find_scope(
    session: Session,
    known_at: datetime,
    catalog: Mapping[str, pa.Table],
    seeds: Iterable[str],
    earlier: Collection[Snapshot] = (),
) -> Scope | None:
    """Return the scope of accounts as known at a moment; None where it is better to look at all.

    ``catalog`` are the tables of CATALOG. See the module for what leads from account to account.
    With ``earlier`` snapshots the scope is one by what they say, too.
    """
    told = reference.as_known_at(
        session, known_at, [name for name in REFERENCE if name not in SERVICE_TABLES]
    )
    most = MOST * reference.count_services(session, known_at)
    carriers = {row["account_id"] for row in told["account"].to_pylist() if row["kind"] == "vendor"}

    def paid_for(accounts: Collection[str]) -> PaidFor | None:
        found = reference.paid_for(session, known_at, accounts)
        too_many = len(found.services) > most or not carriers.isdisjoint(accounts)
        return None if too_many else found

    found = closure(told, catalog, seeds, paid_for)
    while found is not None:
        linked = set(found.accounts)
        for snapshot in earlier:
            then = closure_then(snapshot, linked)
            linked, found = then.accounts, PaidFor(found.services | then.services, found.accounts)
        if linked == found.accounts:
            break
        found = closure(told, catalog, linked, paid_for)
    if found is None:
        return None
    told |= reference.as_known_at(session, known_at, SERVICE_TABLES, services=found.services)
    tables = _of_parties({**told, **catalog}, found.accounts)
    return Scope(frozenset(found.accounts), frozenset(found.services), tables, tables)


def closure(
    told: Mapping[str, pa.Table],
    catalog: Mapping[str, pa.Table],
    seeds: Iterable[str],
    paid_for: Callable[[Collection[str]], PaidFor | None],
) -> PaidFor | None:
    """Return all accounts that accounts share something with, and the services they pay for.

    ``told`` has the accounts and contracts. ``paid_for`` says what services accounts pay for, and
    who pays for one of them at the same level; None from it ends the search with None.
    """
    tree = _Tree(by_key(told["account"], "account_id", "parent_account_id"))
    shared_above = any(
        level != "account" for level in catalog["share_plan"]["share_level"].to_pylist()
    )
    covering = {
        contract.account_id
        for contract in contracts.read_tables(told)
        if contract.signed_terms.covers != "account"
    }
    accounts = set(seeds)
    while True:
        found = paid_for(accounts)
        if found is None:
            return None
        linked = accounts | found.accounts
        for account in sorted(linked):
            above = tree.above(account)
            if shared_above:
                linked |= tree.below(above[-1])
            for other in covering & {*above}:
                linked |= tree.below(other)
        if linked == accounts:
            return PaidFor(found.services, accounts)
        accounts = linked


def closure_then(snapshot: Snapshot, seeds: Iterable[str]) -> PaidFor:
    """The :func:`closure` of accounts by what an earlier snapshot says."""
    tables = {
        name: pq.read_table(snapshot.file(name))
        for name in ("account", "share_plan", *contracts.TABLES)
    }
    offers = pq.read_table(snapshot.file("service_offer"), columns=[*_PAID])
    found = closure(tables, tables, seeds, partial(_paid_for, offers))
    assert found is not None
    return found


_PAID = ("service_id", "level", "payer_account_id")


def _paid_for(offers: pa.Table, accounts: Collection[str]) -> PaidFor:
    services = rows_of(offers, "payer_account_id", accounts)["service_id"].unique().to_pylist()
    rows = rows_of(offers, "service_id", services).select([*_PAID])
    known = [tuple(row.values()) for row in rows.to_pylist()]
    mine = {(service, level) for service, level, payer in known if payer in accounts}
    return PaidFor(
        {service for service, _ in mine},
        {payer for service, level, payer in known if (service, level) in mine},
    )


def then_tables(ws: Workspace, scope: Scope, snapshot: Snapshot) -> dict[str, pa.Table]:
    """Return what an earlier snapshot says of a scope's accounts and services."""
    if scope.known is not None and not _changed_since(ws, snapshot):
        return {**scope.known, **reach.catalog_of(snapshot.tables_dir)}
    return _then_tables(snapshot.tables_dir, scope.accounts, scope.services)


def _changed_since(ws: Workspace, snapshot: Snapshot) -> bool:
    with Session(ws.engine) as session:
        return reference.changed_since(session, snapshot.known_at)


@lru_cache(maxsize=4)
def _then_tables(
    folder: Path, accounts: frozenset[str], services: frozenset[str]
) -> dict[str, pa.Table]:
    """A snapshot's files never change; a plan asks for the same of them at every step."""
    tables = {name: pq.read_table(folder / f"{name}.parquet") for name in {**REFERENCE, **CATALOG}}
    return narrowed(tables, accounts, services)


def narrowed(
    tables: Mapping[str, pa.Table], accounts: Collection[str], services: Collection[str]
) -> dict[str, pa.Table]:
    """Return what tables of REFERENCE say of accounts and services, with the catalog whole."""
    kept = dict(tables)
    for name in SERVICE_TABLES:
        kept[name] = rows_of(tables[name], "service_id", services)
    own = kept["service_identifier"]["uid_value"].unique().to_pylist()
    kept["service_identifier"] = rows_of(tables["service_identifier"], "uid_value", own)
    return _of_parties(kept, accounts)


class _Tree:
    """Accounts by the account that they report to; circles end where they close."""

    def __init__(self, parents: Mapping[str, str | None]) -> None:
        self._parents = parents
        self._children: dict[str, list[str]] = defaultdict(list)
        for account, parent in parents.items():
            if parent is not None:
                self._children[parent].append(account)

    def above(self, account: str) -> list[str]:
        """The account and all above it, in order."""
        chain, parent = [account], self._parents.get(account)
        while parent is not None and parent in self._parents and parent not in chain:
            chain.append(parent)
            parent = self._parents.get(parent)
        return chain

    def below(self, account: str) -> set[str]:
        """The account and all below it."""
        found, waiting = set[str](), [account]
        while waiting:
            one = waiting.pop()
            if one not in found:
                found.add(one)
                waiting += self._children.get(one, [])
        return found


def by_key(table: pa.Table, key: str, value: str) -> dict[str, str]:
    """One text column of a table by another."""
    return dict(zip(table[key].to_pylist(), table[value].to_pylist(), strict=True))


def _of_parties(tables: dict[str, pa.Table], accounts: Collection[str]) -> dict[str, pa.Table]:
    """Narrow accounts and contracts to those of the scope, of whoever else pays for or owns its
    services, and all above them."""
    tree = _Tree(by_key(tables["account"], "account_id", "parent_account_id"))
    parties = {
        *accounts,
        *tables["service_offer"]["payer_account_id"].unique().to_pylist(),
        *tables["service"]["account_id"].unique().to_pylist(),
    }
    parties = {above for party in parties for above in tree.above(party)}
    services = {*tables["service"]["service_id"].to_pylist()}
    rows = tables["contract"].to_pylist()
    held = {
        row["contract_id"]
        for row in rows
        if row["account_id"] in parties or row["service_id"] in services
    }
    held |= {row["account_contract_id"] for row in rows if row["contract_id"] in held} - {None}
    schemas = {**REFERENCE, **CATALOG}
    kept = dict(tables)
    for name, column, wanted in (
        ("account", "account_id", parties),
        *((name, "contract_id", held) for name in contracts.TABLES),
    ):
        named = pa.array(sorted(wanted), pa.string())
        kept[name] = kept[name].filter(pc.is_in(kept[name][column], named))
    return {
        name: table.select(schemas[name].column_names).cast(schemas[name].arrow_schema)
        for name, table in kept.items()
    }


# ------------------------------------------------------------------------------------- usage


def rated_usage(
    ws: Workspace, months: Iterable[Month], scope: Scope, *, same_records: bool
) -> pa.Table | None:
    """Return the rated usage of a scope's accounts in UTC months.

    As it is stored where nothing that rating reads has changed, else the accepted records of their
    SIMs rated again. With ``same_records`` None too where other records are kept than before: what
    is not rated at one level is not at any, so that other accounts would be concerned. None where
    only the whole month can tell.
    """
    feeds = mediation.read_feeds(ws)
    rated = usage.details(ws)
    parts = [RATED_USAGE.arrow_schema.empty_table()]
    for month in usage.months_with_usage(ws, months):
        detail = rated.get(month)
        if (
            detail is None
            or detail["files"] != usage.accepted_files(ws, month)
            or not mediation.as_recorded(ws, month, feeds, detail.get("mediation", {}))
        ):
            return None
        if _rated_alike(ws, month, scope, detail):
            parts.append(_stored(ws, month, scope))
            continue
        again = _rated_again(ws, month, scope, feeds)
        if again is None or (
            same_records and _records(again) != _records(_stored(ws, month, scope))
        ):
            return None
        parts.append(again)
    return pa.concat_tables(parts)


def _stored(ws: Workspace, month: Month, scope: Scope) -> pa.Table:
    with ws.compute() as compute:
        ws.lake.scan(compute, RATED_USAGE, usage_month=str(month))
        return _rated_of(compute, scope)


def _rated_of(compute: Compute, scope: Scope) -> pa.Table:
    """The rows of ``rated_usage`` that settling a scope reads."""
    where = f"account_id in ({_listed(scope.accounts)})"
    if scope.tables["first_use"].num_rows:  # use at any level makes a service active
        where += f" or service_id in ({_listed(scope.services)})"
    return compute.fetch(f"select {RATED_USAGE.column_list} from rated_usage where {where}").cast(
        RATED_USAGE.arrow_schema
    )


def _rated_alike(ws: Workspace, month: Month, scope: Scope, detail: Mapping[str, object]) -> bool:
    """Whether all that rating reads of the scope is as it was when the month was rated."""
    if detail.get("code") != code_version():
        return False
    with Session(ws.engine) as session:
        held = reference.open_snapshot(session, ws.home, str(detail["snapshot"]))
    if scope.known is None or _changed_since(ws, held):
        offers = pq.read_table(held.file("service_offer"), columns=[*_PAID])
        if not scope.services >= _paid_for(offers, scope.accounts).services:
            return False  # some were theirs then and are not now
    then = reach.rating_digest(then_tables(ws, scope, held), month)
    return then == reach.rating_digest(scope.tables, month)


def _rated_again(
    ws: Workspace, month: Month, scope: Scope, feeds: mediation.Feeds
) -> pa.Table | None:
    """The accepted records of the scope's SIMs, rated as they are in the whole month.

    What mediation set aside of them is left out instead of being found again: that is decided by
    the files alone, and they are the same. Of what it combines the result is not a record of a
    file: None then.
    """
    if mediation.combines(ws, month, feeds):
        return None
    own = scope.tables["service_identifier"].select(["uid_type", "uid_value"])
    with ws.compute() as compute:
        for table in (USAGE_RECORD, DUPLICATE_RECORD, SUSPENDED_RECORD):
            ws.lake.scan(compute, table, usage_month=str(month))
        compute.load("own_identifier", own.group_by(["uid_type", "uid_value"]).aggregate([]))
        values = sorted({*own["uid_value"].to_pylist()})
        columns = ", ".join(_ONLY_MEDIATED.get(name, name) for name in USAGE_RECORD.column_names)
        records = compute.fetch(
            f"select {columns} from usage_record as u"
            " semi join own_identifier using (uid_type, uid_value)"
            " anti join (select file_key, line_no from duplicate_record union all"
            "   select file_key, line_no from suspended_record where reason_code = 'conflict')"
            f" as aside using (file_key, line_no) where uid_value in ({_listed(values)})"
        ).cast(USAGE_RECORD.arrow_schema)
    policies = mediation.policies_of(ws, month, feeds)
    rows = records.num_rows + sum(table.num_rows for table in scope.tables.values())
    with ws.compute(rows) as compute:
        load_tables(compute, scope.tables)
        compute.load(USAGE_RECORD.name, records)
        rate_month(compute, replace(policies, feed_policy=policies.feed_policy.slice(0, 0)))
        return _rated_of(compute, scope)


_ONLY_MEDIATED = {
    "dedup_key": "cast(file_key as varchar) || '/' || cast(line_no as varchar) as dedup_key",
    "content_hash": "'' as content_hash",
    "event_text": "'' as event_text",
}
"""What rating does not read of a record that is mediated already: more than half of its bytes."""


def _records(rated: pa.Table) -> set[tuple[int, int]]:
    return {*zip(rated["file_key"].to_pylist(), rated["line_no"].to_pylist(), strict=True)}


def _listed(values: Iterable[str]) -> str:
    return ", ".join(map(literal, sorted(values))) or "null"


def load_tables(compute: Compute, tables: Mapping[str, pa.Table]) -> None:
    """Make every relation of REFERENCE and CATALOG hold the rows of ``tables``."""
    for name in {**REFERENCE, **CATALOG}:
        compute.load(name, tables[name])


# ------------------------------------------------------------------------------------- settling


def before(found: charges.Before, scope: Scope) -> charges.Before:
    """Of what the months before a usage period leave, that of a scope's accounts."""
    return replace(
        found,
        carried=lots_of(scope, found.carried),
        earlier=rows_of(found.earlier, "account_id", scope.accounts),
    )


def leaves_the_same(
    ws: Workspace, compute: Compute, period: Month, scope: Scope, settled: Sequence[Month]
) -> bool:
    """Whether later months begin with what the stored settlement of ``period`` leaves for them.

    They do unless units that outlive their window, dates of first use, or charges that count in a
    commitment of a later month could be others now: then the whole period is settled again, so that
    what follows from it is.
    """
    if any(
        period in charges.committed_months(later, scope.contracts)
        for later in settled
        if later > period
    ):
        return False
    now = lots_of(scope, charges.left_over(compute))
    used = {SERVICE_ACTIVATION.name: ("service_id", scope.services)}
    with ws.compute() as stored:
        for table in (*CARRIED, SERVICE_ACTIVATION):
            ws.lake.scan(stored, table, usage_period=str(period))
        then = lots_of(scope, charges.left_over(stored))
        dates = stored.fetch(SERVICE_ACTIVATION.name)
    if any(not _alike(now[name], then[name]) for name in now):
        return False
    column, wanted = used[SERVICE_ACTIVATION.name]
    return _alike(
        rows_of(compute.fetch(SERVICE_ACTIVATION.name), column, wanted),
        rows_of(dates, column, wanted),
    )


def lots_of(scope: Scope, carried: Mapping[str, pa.Table]) -> dict[str, pa.Table]:
    """Of units that outlive their window those of a scope's accounts."""
    return {
        name: rows_of(
            lots,
            "account_id" if "account_id" in lots.schema.names else "pool_account_id",
            scope.accounts,
        )
        for name, lots in carried.items()
    }


def rows_of(table: pa.Table, column: str, wanted: Collection[str]) -> pa.Table:
    """Return the rows with one of some values in a column."""
    return table.filter(pc.is_in(table[column], pa.array(sorted(wanted), pa.string())))


def _alike(one: pa.Table, other: pa.Table) -> bool:
    def rows(table: pa.Table) -> list[str]:
        return sorted(str(row) for row in table.to_pylist())

    return rows(one) == rows(other)


def settle(
    ws: Workspace,
    compute: Compute,
    period: Month,
    scope: Scope,
    rated: pa.Table,
) -> None:
    """Settle a usage period for a scope: every relation of :func:`engine.flow.settle_period`, with
    ``desired_charge`` of the scope's accounts only."""
    load_tables(compute, scope.tables)
    compute.load(RATED_USAGE.name, rated)
    before(charges.before(ws, period, scope.contracts), scope).settle(compute, period)
    keep_accounts(compute, scope)


def keep_accounts(compute: Compute, scope: Scope) -> None:
    """Leave out of ``desired_charge`` what accounts outside the scope come to: it is incomplete."""
    compute.define(
        "desired_charge",
        f"select * from desired_charge where account_id in ({_listed(scope.accounts)})",
        keep=True,
    )
