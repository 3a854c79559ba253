"""A workbook per customer group: the charges of a period, account by account, SIM by SIM."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.operations.basis import keep, newest_rows, read
from iotbill_pipelines.operations.catalogs import in_force
from iotbill_pipelines.operations.knowledge import knowledge
from iotbill_pipelines.operations.reach import tables_of
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage.documents import document_name
from iotbill_pipelines.storage.group_workbook import GroupCharge, GroupDocument, write_group

_CHARGES = """
select c.account_id, c.currency, coalesce(i.invoice_no, '(not invoiced)') as invoice_no,
  c.service_id, c.product_id as product, c.kind, c.usage_period, c.quantity, c.amount_minor
from booked_charge as c
left join invoice_line as l on l.booked_charge_id = c.id and l.invoice_id <= :invoice
left join invoice as i on i.invoice_id = l.invoice_id
where c.level = 'retail' and c.accounting_period = :period and c.id <= :booked_charge
order by c.id
"""

_BEFORE = """
select c.account_id, c.currency, c.product_id as product,
  cast(sum(c.amount_minor) as bigint) as minor
from booked_charge as c
where c.level = 'retail' and c.accounting_period = :period and c.id <= :booked_charge
group by 1, 2, 3 order by 1, 2, 3
"""

_SELLERS = """
select string_agg(name || ' (' || entity_id || ')', ', ' order by name) from legal_entity
"""

BASIS = ".customer_groups.json"


@dataclass(frozen=True)
class Stood:
    """What the workbooks rest on (:mod:`operations.basis`): a digest of it, their names and date,
    the snapshot that names accounts and SIMs, and the newest rows of the ledger by then."""

    digest: str
    files: list[str]
    prepared_on: date
    snapshot_id: str
    newest_rows: dict[str, int]
    seller: str


class Names:
    """How customers and their SIMs are called, by a snapshot's tables."""

    def __init__(self, tables: Mapping[str, pa.Table]) -> None:
        accounts = tables["account"].select(["account_id", "name", "customer_group"]).to_pylist()
        self.account = {row["account_id"]: row["name"] for row in accounts}
        self.group = {row["account_id"]: row["customer_group"] or "" for row in accounts}
        services = tables["service"].select(["service_id", "label"]).to_pylist()
        self.label = {row["service_id"]: row["label"] or "" for row in services}
        identifiers = tables["service_identifier"].select(
            ["service_id", "uid_type", "uid_value", "valid_from"]
        )
        listed = identifiers.filter(pc.equal(identifiers["uid_type"], "iccid")).sort_by(
            [("valid_from", "ascending"), ("uid_value", "descending")]
        )
        self.sim = dict(
            zip(listed["service_id"].to_pylist(), listed["uid_value"].to_pylist(), strict=True)
        )


def write_group_workbooks(ws: Workspace, period: Month) -> list[Path]:
    """Write ``customer_<group>_<period>.xlsx`` for every customer group that was charged something.

    A group charged in several currencies gets a workbook a currency. Accounts without a group have
    their invoices only. Workbooks whose charges are as they were are left as they are.
    """
    snapshot = knowledge(ws, period)
    with ws.engine.connect() as connection:
        stood = Stood(
            "",
            [],
            ws.today,
            snapshot.id,
            newest_rows(connection),
            connection.execute(sa.text(_SELLERS)).scalar() or "",
        )
    documents, digest = _documents(ws, period, Names(tables_of(snapshot.tables_dir)), stood)
    marker = ws.out(period) / BASIS
    last = read(marker, Stood)
    written = [ws.out(period) / name for name in last.files] if last else []
    if last and last.digest == digest and all(path.is_file() for path in written):
        return written
    marker.unlink(missing_ok=True)
    files = _write(ws, period, documents)
    keep(marker, replace(stood, digest=digest, files=[path.name for path in files]))
    return files


def write_workbooks_again(
    ws: Workspace, period: Month, tables: Mapping[str, pa.Table], stood: Stood
) -> None:
    """Write the workbooks again, from the ledger's rows by then and a snapshot's tables."""
    _write(ws, period, _documents(ws, period, Names(tables), stood)[0])


_UNITS = {"data": "bytes", "voice": "seconds", "sms": "messages"}


def _unit(kind: str | None, usage_class: str | None) -> str:
    """What the quantity of a charge counts."""
    if kind == "recurring":
        return "days"
    if kind in ("usage", "overage", "combined"):
        return _UNITS.get(usage_class or "", "units")
    return "times" if kind == "transition" else ""


def _documents(
    ws: Workspace, period: Month, names: Names, stood: Stood
) -> tuple[list[GroupDocument], str]:
    catalog = in_force(ws).catalog
    products = {p.id: p.name for p in catalog.products}
    classes = {p.id: p.usage_class for p in catalog.products}
    with ws.engine.connect() as connection:

        def rows(statement: str, month: Month) -> list[dict[str, Any]]:
            values = {"period": str(month), **stood.newest_rows}
            found = [dict(row) for row in connection.execute(sa.text(statement), values).mappings()]
            for row in found:
                row["customer_group"] = names.group.get(row["account_id"], "")
                row["account"] = names.account.get(row["account_id"], "")
                row["unit"] = _unit(row.get("kind"), classes.get(row["product"]))
                row["product"] = products.get(row["product"], row["product"])
            return [row for row in found if row["customer_group"]]

        charges, before = rows(_CHARGES, period), rows(_BEFORE, period - 1)
    groups: dict[tuple[str, str], list[GroupCharge]] = defaultdict(list)
    for row in charges:
        key = (row.pop("customer_group"), row.pop("currency"))
        sim, label = (of.get(row["service_id"], "") for of in (names.sim, names.label))
        groups[key].append(GroupCharge(**row, sim=sim, label=label))
    documents = []
    for (group, currency), listed in sorted(groups.items()):
        earlier = [r for r in before if (r["customer_group"], r["currency"]) == (group, currency)]
        documents.append(
            GroupDocument(
                group=group,
                period=period,
                currency=currency,
                seller=stood.seller,
                prepared_on=stood.prepared_on,
                charges=listed,
                before_by_product=_summed(earlier, "product"),
                before_by_account=_summed(earlier, "account"),
            )
        )
    return documents, _digest([replace(d, prepared_on=period.start) for d in documents])


def _write(ws: Workspace, period: Month, documents: Sequence[GroupDocument]) -> list[Path]:
    names = [document.group for document in documents]
    files = []
    for document in documents:
        suffix = f"_{document.currency}" if names.count(document.group) > 1 else ""
        path = ws.out(period) / document_name(f"customer_{document.group}_{period}{suffix}.xlsx")
        write_group(path, document, datetime.combine(document.prepared_on, time(), UTC))
        files.append(path)
    return files


def _digest(documents: object) -> str:
    return hashlib.sha256(repr(documents).encode()).hexdigest()


def _summed(rows: list[dict[str, Any]], key: str) -> dict[str, int] | None:
    sums: dict[str, int] = defaultdict(int)
    for row in rows:
        sums[row[key]] += row["minor"]
    return dict(sums) or None
