"""Items of the close checklist that compare what other stages left (RULEBOOK §11).

Read from the ledger and from reference data as it is known now; nothing is written.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import Session

from iotbill_pipelines.config.close import DraftReview, read_close_policy
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.money import of_minor, to_minor
from iotbill_pipelines.engine.schemas import RECONCILIATION_LINE
from iotbill_pipelines.engine.terms import CoreState
from iotbill_pipelines.operations.catalogs import in_force
from iotbill_pipelines.operations.stages import Finding
from iotbill_pipelines.operations.workspace import Workspace

MOST_NAMED = 10
"""Accounts or services that a message names; the figure counts all."""


# ---------------------------------------------------------------------------- draft review

_DRAFTS = """
select account_id, currency,
  coalesce(sum(amount_minor) filter (where billing_period = :period), 0)::bigint as this_minor,
  coalesce(sum(amount_minor) filter (where billing_period = :before), 0)::bigint as last_minor
from booked_charge where level = 'retail' and billing_period in (:period, :before)
group by account_id, currency
having count(*) filter (where billing_period = :before) > 0
order by account_id, currency
"""


def review_drafts(
    ws: Workspace, session: Session, period: Month
) -> tuple[dict[str, int], list[Finding]]:
    """Compare what each account is billed with the month before, before invoices are issued.

    Counts the accounts that were compared.

    Finding ``draft_review`` (by configs/close.yaml) names those that changed by more than the
    policy's percentage and least amount, the greatest first. Accounts that were billed nothing the
    month before are not compared.
    """
    policy = read_close_policy(ws.configs).draft_review
    rows = session.execute(
        sa.text(_DRAFTS), {"period": str(period), "before": str(period - 1)}
    ).all()
    outliers = [row for row in rows if _is_outlier(row, policy)]
    counts = {"accounts compared": len(rows)}
    if not outliers:
        return counts, []
    outliers.sort(key=lambda row: (-abs(row.this_minor - row.last_minor), row.account_id))
    named = "; ".join(
        f"{row.account_id} {row.currency} {of_minor(row.last_minor, row.currency)} -> "
        f"{of_minor(row.this_minor, row.currency)}"
        for row in outliers[:MOST_NAMED]
    )
    return counts, [
        Finding(
            "draft_review",
            policy.verdict,
            f"{len(outliers)} of {len(rows)} accounts are billed more than {policy.percent} % more "
            f"or less than in {period - 1}: {named}",
            f"{len(outliers)} accounts",
            f"see why (`iotbill flux {period}`, `iotbill explain`); correct it and close again, or "
            "waive the gate (`iotbill waive`)",
        )
    ]


def _is_outlier(row: sa.Row[tuple[str, str, int, int]], policy: DraftReview) -> bool:
    change = abs(row.this_minor - row.last_minor)
    if change < to_minor(policy.at_least, row.currency):
        return False
    return bool(change * 100 > policy.percent * abs(row.last_minor))


# ------------------------------------------------------------------------------ SIM counts

# A service is in use if a state in :active held on any day of the month. One-time fees may come
# before and after; services without any state are not compared with inventory.
_IN_USE = """
with history as (
  select service_id, state, changed_at,
    lead(changed_at) over (partition by service_id order by changed_at) as until
  from reference_service_state where known_to is null
)
select service_id, bool_or(state = any (:active) and changed_at < :end
  and coalesce(until, :end) > :start) as is_active
from history group by service_id
"""

_CHARGED = """
select service_id from booked_charge
where level = 'retail' and usage_period = :period and service_id <> ''
  and kind in ('recurring', 'usage', 'overage')
group by service_id having sum(amount_minor) <> 0 or sum(records) > 0
"""

_BILLED = """
select uid_value, max(service_id) as service_id from reconciliation_line
where usage_period = '{period}' and invoiced_minor <> 0 and uid_value is not null
group by uid_value
"""


def compare_sim_counts(ws: Workspace, period: Month) -> tuple[dict[str, int], list[Finding]]:
    """Count the SIMs of inventory, of vendors' invoices and of our own charges (RULEBOOK §11).

    Finding ``sim_counts`` (by configs/close.yaml): SIMs that a vendor bills and nobody pays for or
    knows, or that are charged without having been in use.
    """
    catalog = in_force(ws).catalog
    in_use = (CoreState.ACTIVE, CoreState.SUSPENDED)
    values = {
        "active": [state.state for state in catalog.states if state.core in in_use],
        "period": str(period),
        "start": period.start,
        "end": period.end,
    }
    with ws.engine.connect() as connection:
        known = {r.service_id: r.is_active for r in connection.execute(sa.text(_IN_USE), values)}
        charged: set[str] = set(connection.execute(sa.text(_CHARGED), values).scalars())
    with ws.compute() as compute:
        ws.lake.scan(compute, RECONCILIATION_LINE, accounting_period=str(period))
        billed = compute.fetch(_BILLED.format(period=period)).to_pylist()
    counts = {
        "SIMs in use": sum(known.values()),
        "SIMs charged": len(charged),
        **({"SIMs billed by vendors": len(billed)} if billed else {}),
    }
    apart = {
        "billed by vendors and unknown to us": {
            row["uid_value"] for row in billed if row["service_id"] is None
        },
        "billed by vendors and not charged to anybody": {
            row["service_id"] for row in billed if row["service_id"] is not None
        }
        - charged,
        "charged without being in use": {one for one in charged if known.get(one) is False},
    }
    if not any(apart.values()):
        return counts, []
    told = ", ".join(f"{number} {name.removeprefix('SIMs ')}" for name, number in counts.items())
    return counts, [
        Finding(
            "sim_counts",
            read_close_policy(ws.configs).sim_counts,
            f"SIMs: {told}; "
            + "; ".join(f"{len(ids)} {what}: {_some(ids)}" for what, ids in apart.items() if ids),
            f"{sum(map(len, apart.values()))} SIMs",
            f"see `iotbill sims audit {period}`; correct inventory or contracts and close again, "
            "or claim from the vendor",
        )
    ]


def _some(ids: set[str]) -> str:
    return ", ".join(sorted(ids)[:MOST_NAMED]) + (" ..." if len(ids) > MOST_NAMED else "")
