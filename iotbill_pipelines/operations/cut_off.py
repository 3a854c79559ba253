"""Cut-off: what billing months that go on beyond a month come to by its end (RULEBOOK §§0.4, 10).

A carrier whose months run from the 19th to the 18th bills the last days of March in April. Its cost
is booked in April, when its month is over; March's books show what it came to by then. The next
month takes that back and accrues its own last days.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

import pyarrow as pa
import pyarrow.parquet as pq

from iotbill_pipelines.engine.calendars import Month, months_between
from iotbill_pipelines.engine.cycles import open_since
from iotbill_pipelines.engine.flow import settle_open
from iotbill_pipelines.engine.money import of_minor
from iotbill_pipelines.engine.post.terms import LedgerTerms
from iotbill_pipelines.engine.schemas import RATED_USAGE
from iotbill_pipelines.operations import charges, usage
from iotbill_pipelines.operations.knowledge import knowledge
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage.derived import Desired
from iotbill_pipelines.storage.reference import Snapshot, load_snapshot

PURPOSE = "cut_off"

_PAYERS = {"vendor": ("vendor",), "retail": ("customer", "reseller")}


def cut_off(ws: Workspace, period: Month, terms: LedgerTerms) -> list[Desired] | None:
    """Return what should be accrued at the end of ``period`` for windows that are open then.

    One entry an account, product and window, of the levels that have a journal type with source
    ``cut_off``; None where no level has one.
    """
    levels = sorted({kind.level for kind in terms.journals if kind.source == PURPOSE})
    if not levels:
        return None
    snapshot = knowledge(ws, period)
    since = _open_since(snapshot, period, levels)
    if since is None:
        return []
    with ws.compute() as compute:
        load_snapshot(compute, snapshot)
        months = usage.months_with_usage(ws, months_between(Month.of(since) - 1, period + 1))
        files = [f for m in months for f in ws.lake.files(RATED_USAGE, usage_month=str(m))]
        compute.scan(RATED_USAGE, files)
        settle_open(
            compute,
            period,
            charges.carried_over(ws, period + 1),
            closed_activations=charges.closed_activations(ws),
        )
        compute.load("cut_off_level", pa.table({"level": levels}))
        rows = compute.fetch(_PER_PRODUCT).to_pylist()
    return [
        Desired(
            purpose=PURPOSE,
            item=f"{row['account_id']}:{row['product_id']}:{row['kind']}:{row['window_start']}",
            level=row["level"],
            entity_id=row["entity_id"],
            account_id=row["account_id"],
            service_id="",
            product_id=row["product_id"],
            kind=row["kind"],
            gl_class=row["gl_class"],
            tax_code=row["tax_code"],
            currency=row["currency"],
            amount=of_minor(row["amount_minor"], row["currency"]),
            version="",
            explanation=f"{row['charges']} charges from {row['window_start']} to before "
            f"{period.end}, of windows that go on",
        )
        for row in rows
        if row["amount_minor"]
    ]


_PER_PRODUCT = """
select o.level, o.entity_id, o.account_id, o.product_id, o.kind, p.gl_class, p.tax_code, o.currency,
  o.window_start, cast(count(*) as bigint) as charges,
  cast(sum(o.amount_minor) as bigint) as amount_minor
from open_charge as o
join cut_off_level as l on l.level = o.level
join product as p on p.product_id = o.product_id
group by o.level, o.entity_id, o.account_id, o.product_id, o.kind, p.gl_class, p.tax_code,
  o.currency, o.window_start
order by 1, 2, 3, 4, 5, 8, 9
"""


def _open_since(snapshot: Snapshot, period: Month, levels: Iterable[str]) -> date | None:
    """The first day of the windows that payers of these levels have open at the period's end."""
    kinds = {kind for level in levels for kind in _PAYERS.get(level, ())}
    charges_ = pq.read_table(snapshot.file("charge"), columns=["cycle", "kind", "billing"])
    accounts = pq.read_table(snapshot.file("account"), columns=["bill_day", "kind"])
    return open_since(
        {
            row["cycle"]
            for row in charges_.to_pylist()
            if row["kind"] in ("usage", "overage")
            or (row["kind"] == "recurring" and row["billing"] == "arrears")
        },
        {row["bill_day"] for row in accounts.to_pylist() if row["kind"] in kinds},
        period,
    )
