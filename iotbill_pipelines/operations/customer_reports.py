"""A workbook per customer group: the charges of a period, account by account, SIM by SIM."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from iotbill_pipelines.config.catalog import read_catalog
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage.documents import safe_name, write_bytes
from iotbill_pipelines.storage.group_workbook import GroupCharge, GroupDocument, write_group

_CHARGES = """
select a.customer_group, c.account_id, a.name as account, c.currency,
  coalesce(i.invoice_no, '(not invoiced)') as invoice_no, c.service_id,
  coalesce(x.uid_value, '') as sim, coalesce(s.label, '') as label, c.product_id as product,
  c.kind, c.usage_period, c.quantity, c.amount_minor
from booked_charge as c
join reference_account as a on a.account_id = c.account_id and a.known_to is null
left join invoice_line as l on l.booked_charge_id = c.id
left join invoice as i on i.invoice_id = l.invoice_id
left join reference_service as s on s.service_id = c.service_id and s.known_to is null
left join lateral (
  select r.uid_value from reference_service_identifier as r
  where r.service_id = c.service_id and r.uid_type = 'iccid' and r.known_to is null
  order by r.valid_from desc, r.uid_value limit 1
) as x on true
where c.level = 'retail' and c.accounting_period = :period
  and coalesce(a.customer_group, '') <> ''
order by c.id
"""

_BEFORE = """
select a.customer_group, c.currency, c.product_id as product, a.name as account,
  cast(sum(c.amount_minor) as bigint) as minor
from booked_charge as c
join reference_account as a on a.account_id = c.account_id and a.known_to is null
where c.level = 'retail' and c.accounting_period = :period
  and coalesce(a.customer_group, '') <> ''
group by 1, 2, 3, 4 order by 1, 2, 3, 4
"""

_SELLERS = """
select string_agg(name || ' (' || entity_id || ')', ', ' order by name) from legal_entity
"""

_WRITTEN = ".customer_groups.json"


def write_group_workbooks(ws: Workspace, period: Month) -> list[Path]:
    """Write ``customer_<group>_<period>.xlsx`` for every customer group that was charged something.

    A group charged in several currencies gets a workbook a currency. Accounts without a group have
    their invoices only. Workbooks whose charges are as they were are left as they are.
    """
    products = {p.id: p.name for p in read_catalog(ws.configs / "catalog").catalog.products}
    with ws.engine.connect() as connection:

        def rows(statement: str, month: Month) -> list[dict[str, Any]]:
            found = connection.execute(sa.text(statement), {"period": str(month)})
            return [dict(row) for row in found.mappings()]

        charges, before = rows(_CHARGES, period), rows(_BEFORE, period - 1)
        seller = connection.execute(sa.text(_SELLERS)).scalar() or ""
    groups: dict[tuple[str, str], list[GroupCharge]] = defaultdict(list)
    for row in charges:
        key = (row.pop("customer_group"), row.pop("currency"))
        row["product"] = products.get(row["product"], row["product"])
        groups[key].append(GroupCharge(**row))
    for row in before:
        row["product"] = products.get(row["product"], row["product"])
    names = [group for group, _ in groups]
    known = _digest(charges, before, seller)
    marker = ws.out(period) / _WRITTEN
    last = json.loads(marker.read_text("utf-8")) if marker.is_file() else {}
    written = [ws.out(period) / name for name in last.get("files", ())]
    if last.get("digest") == known and all(path.is_file() for path in written):
        return written
    marker.unlink(missing_ok=True)
    files = []
    for (group, currency), listed in sorted(groups.items()):
        earlier = [r for r in before if (r["customer_group"], r["currency"]) == (group, currency)]
        document = GroupDocument(
            group=group,
            period=period,
            currency=currency,
            seller=seller,
            prepared_on=ws.today,
            charges=listed,
            before_by_product=_summed(earlier, "product"),
            before_by_account=_summed(earlier, "account"),
        )
        suffix = f"_{currency}" if names.count(group) > 1 else ""
        path = ws.out(period) / safe_name(f"customer_{group}_{period}{suffix}.xlsx")
        write_group(path, document, datetime.combine(ws.today, time(), UTC))
        files.append(path)
    said = {"digest": known, "files": [path.name for path in files]}
    write_bytes(marker, json.dumps(said).encode())
    return files


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, default=str, sort_keys=True).encode()).hexdigest()


def _summed(rows: list[dict[str, Any]], key: str) -> dict[str, int] | None:
    sums: dict[str, int] = defaultdict(int)
    for row in rows:
        sums[row[key]] += row["minor"]
    return dict(sums) or None
