"""Which months a change of reference data or catalog can touch (RULEBOOK §11, re-rating).

A month's results depend on what is said about it, not on everything that is known: a SIM that is
sold in November decides nothing about July. :func:`digest` hashes the part of a snapshot that can
decide on a span of days; a month is computed again only when that part changed. What is left out
is what cannot matter whatever the prices are, so that the rest may be too much, never too little.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from iotbill_pipelines.engine.calendars import Cycle, Month
from iotbill_pipelines.engine.schemas import CATALOG, REFERENCE
from iotbill_pipelines.storage.reference import Snapshot, content_hash

MARGIN = timedelta(days=2)
"""Local days reach into the UTC days beside them; two days are more than any zone takes."""


SETTLED_ONLY = frozenset(
    {
        *("price_tier", "product", "state_transition", "currency", "charge_measure"),
        *("share_plan", "share_bucket", "share_participant", "share_draw", "share_seller"),
        *("first_use", "first_use_threshold"),
    }
)
"""Tables of the catalog that settling reads and rating does not: a record is rated to quantities at
a price version; what the version costs, and who shares it, comes later."""


def rating_digest(tables: Mapping[str, pa.Table], month: Month) -> dict[str, str]:
    """Return hashes of what of a snapshot's tables can decide on the records of a UTC month."""
    found = relevant(tables, *rating_span(month))
    return _digest({name: found[name] for name in found if name not in SETTLED_ONLY})


def settling_digest(snapshot: Snapshot, period: Month) -> dict[str, str]:
    """Return hashes of what of a snapshot can decide on the charges of a usage period."""
    tables = tables_of(snapshot.tables_dir)
    return digest(tables, None, settling_end(tables, period))


def settling_end(tables: Mapping[str, pa.Table], period: Month) -> date:
    """Return the day from which on nothing said decides on a usage period's charges.

    Its invoice carries what is due in advance, for a whole cycle of the longest.
    """
    return (period + _longest_cycle(tables)).end + MARGIN


def rating_span(month: Month) -> tuple[date, date]:
    """Return the days ``[since, until)`` that decide on the records of a UTC month."""
    return month.start - MARGIN, month.end + MARGIN


def _longest_cycle(tables: Mapping[str, pa.Table]) -> int:
    """Months of the longest cycle that a charge has, one at least."""
    cycles = tables["charge"]["cycle"].unique().to_pylist()
    return max((Cycle.parse(cycle).months for cycle in cycles), default=1) or 1


@lru_cache(maxsize=4)
def tables_of(folder: Path) -> dict[str, pa.Table]:
    """Return every table of a snapshot's folder."""
    return {name: pq.read_table(folder / f"{name}.parquet") for name in {**REFERENCE, **CATALOG}}


def catalog_of(folder: Path) -> dict[str, pa.Table]:
    """Return the catalog's tables of a snapshot's folder."""
    return {name: pq.read_table(folder / f"{name}.parquet") for name in CATALOG}


def digest(tables: Mapping[str, pa.Table], since: date | None, until: date) -> dict[str, str]:
    """Return hashes of what inventory and catalog say of ``[since, until)``, each by itself.

    Without ``since`` everything before counts: what a service did earlier may decide on it still.
    """
    return _digest(relevant(tables, since, until))


def _digest(found: Mapping[str, pa.Table]) -> dict[str, str]:
    return {
        kind: content_hash({name: found[name] for name in sorted(schemas) if name in found})
        for kind, schemas in (("inventory", REFERENCE), ("catalog", CATALOG))
    }


def relevant(
    tables: Mapping[str, pa.Table], since: date | None, until: date
) -> dict[str, pa.Table]:
    """Return the rows of REFERENCE and CATALOG that can decide on ``[since, until)``, sorted.

    Left out are rows that begin at ``until`` or later, ends that lie there (as good as open),
    identifiers that had ended before ``since``, and what then nobody refers to: services without
    rows of their own, accounts without services, offers that nobody has, and their prices.
    """
    found = {name: _begun(tables[name], until) for name in sorted(tables)}
    if since is not None:
        found["service_identifier"] = _not_ended(found["service_identifier"], since)
    services = _values(
        found, "service_id", ("service_identifier", "service_state", "service_offer")
    )
    found["service"] = _where(found["service"], "service_id", services)
    accounts = _values(found, "account_id", ("service",))
    accounts |= set(found["service_offer"]["payer_account_id"].to_pylist())
    found["account"] = _where(found["account"], "account_id", _with_parents(tables, accounts))
    if not found["contract"].num_rows:  # a contract may name any product, offer or charge
        _leave_out_offers(found)
    return {
        name: table.sort_by([(key, "ascending") for key in {**REFERENCE, **CATALOG}[name].key])
        for name, table in found.items()
    }


def _leave_out_offers(found: dict[str, pa.Table]) -> None:
    """Leave out what of the catalog nobody refers to."""
    offers = _values(found, "offer_id", ("service_offer", "price_override"))
    for name in CATALOG:
        if "offer_id" in found[name].schema.names:
            found[name] = _where(found[name], "offer_id", {*offers, None})
    charges = _values(found, "charge_id", ("charge",))
    found["price"] = _where(found["price"], "charge_id", charges)
    prices = _values(found, "price_id", ("price",))
    for name in CATALOG:
        if name != "price" and "price_id" in found[name].schema.names:
            found[name] = _where(found[name], "price_id", prices)
    products = {
        value
        for name in CATALOG
        if name != "product"
        for column in found[name].schema.names
        if column.endswith("product_id")
        for value in found[name][column].unique().to_pylist()
    }
    found["product"] = _where(found["product"], "product_id", products)


def _begun(table: pa.Table, until: date) -> pa.Table:
    names = table.schema.names
    for column in ("valid_from", "changed_at"):
        if column in names:
            begun = pc.less(table[column], _scalar(until, table.schema.field(column).type))
            table = table.filter(pc.fill_null(begun, True))
    if "valid_to" in names:
        kind = table.schema.field("valid_to").type
        ended = pc.less(table["valid_to"], _scalar(until, kind))
        clipped = pc.if_else(pc.fill_null(ended, False), table["valid_to"], pa.scalar(None, kind))
        table = table.set_column(names.index("valid_to"), table.schema.field("valid_to"), clipped)
    return table


def _not_ended(table: pa.Table, since: date) -> pa.Table:
    ends = table["valid_to"]
    return table.filter(
        pc.or_kleene(
            pc.is_null(ends), pc.greater(ends, _scalar(since, table.schema.field("valid_to").type))
        )
    )


def _scalar(day: date, kind: pa.DataType) -> pa.Scalar:
    return pa.scalar(datetime.combine(day, time()) if pa.types.is_timestamp(kind) else day, kind)


def _values(tables: Mapping[str, pa.Table], column: str, names: tuple[str, ...]) -> set[str | None]:
    return {value for name in names for value in tables[name][column].unique().to_pylist()}


def _where(table: pa.Table, column: str, wanted: set[str | None]) -> pa.Table:
    named = pa.array(sorted(v for v in wanted if v is not None), table.schema.field(column).type)
    held = pc.is_in(table[column], value_set=named)
    if None in wanted:
        held = pc.or_(held, pc.is_null(table[column]))
    return table.filter(held)


def _with_parents(tables: Mapping[str, pa.Table], accounts: set[str | None]) -> set[str | None]:
    account = tables["account"]
    parents = dict(
        zip(
            account["account_id"].to_pylist(), account["parent_account_id"].to_pylist(), strict=True
        )
    )
    found: set[str | None] = set()
    for each in accounts:
        one = each
        while one is not None and one not in found:
            found.add(one)
            one = parents.get(one)
    return found
