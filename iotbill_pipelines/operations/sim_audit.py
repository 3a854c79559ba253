"""The state-to-feed audit on stored data: zombies, ghosts, traffic after cancellation, priced."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from iotbill_pipelines.engine.assurance import FINDINGS, audit_sims
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.compute import Compute
from iotbill_pipelines.engine.money import of_minor
from iotbill_pipelines.engine.schemas import CARRIER_SIM, DESIRED_CHARGE, SUSPENDED_RECORD
from iotbill_pipelines.engine.terms import CoreState, TermsError
from iotbill_pipelines.operations import runs
from iotbill_pipelines.operations.knowledge import knowledge
from iotbill_pipelines.operations.reconciliation import current_invoices
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage.documents import ColumnFormat, Sheet, write_workbook
from iotbill_pipelines.storage.reference import load_snapshot

LABELS = {
    "zombie": "Costs, earns nothing",
    "ghost": "Earns, costs nothing",
    "billed_unknown": "Billed, not in our inventory",
    "billed_inactive": "Billed, not active",
    "active_unbilled": "Active, not billed by the carrier",
    "traffic_after_cancel": "Traffic after cancellation",
    "carrier_active": "Active at the carrier, not with us",
    "carrier_unknown": "Active at the carrier, not in our inventory",
    "carrier_inactive": "Active with us, not at the carrier",
    "carrier_missing": "Active with us, not in the carrier's list",
    "traffic_not_active": "Traffic, although not active at the carrier",
}
"""Findings in words."""


@dataclass(frozen=True)
class SimFinding:
    """A SIM that does not fit; ``amount`` is the money at stake, None where no price says it."""

    finding: str
    sim: str | None
    service_id: str | None
    account_id: str | None
    vendor_id: str | None
    core_state: str | None
    currency: str | None
    amount: Decimal | None
    evidence: str


def audit(ws: Workspace, period: Month) -> list[SimFinding]:
    """Audit a settled usage period; the dearest of each finding first.

    Raises TermsError where a feed of carriers' SIMs gives a core state that there is not.
    """
    with runs.whole(ws, "sim_audit", None), ws.compute() as compute:
        load_snapshot(compute, knowledge(ws))
        ws.lake.scan(compute, DESIRED_CHARGE, usage_period=str(period))
        ws.lake.scan(compute, SUSPENDED_RECORD, usage_month=str(period))
        current_invoices(ws, compute)
        compute.scan(CARRIER_SIM, ws.lake.files(CARRIER_SIM))
        _known_states(compute)
        audit_sims(compute, period)
        rows = compute.fetch("sim_audit").to_pylist()
    found = [
        SimFinding(
            row["finding"],
            row["uid_value"],
            row["service_id"],
            row["account_id"],
            row["vendor_id"],
            row["core_state"],
            row["currency"],
            None if row["amount_minor"] is None else of_minor(row["amount_minor"], row["currency"]),
            row["evidence"],
        )
        for row in rows
    ]
    return sorted(
        found,
        key=lambda f: (
            FINDINGS.index(f.finding),
            -(f.amount or Decimal(0)),
            f.sim or "",
            f.service_id or "",
            f.currency or "",
        ),
    )


def _known_states(compute: Compute) -> None:
    known = ", ".join(f"'{state.value}'" for state in CoreState)
    wrong = compute.fetch(
        f"select feed_id, line_no, core_state from carrier_sim where core_state not in ({known})"
        " order by feed_id, line_no limit 1"
    ).to_pylist()
    for row in wrong:
        raise TermsError(
            ("fields", "core_state"),
            f"feed {row['feed_id']} gives {row['core_state']!r} in line {row['line_no']}; map the "
            f"carrier's states to {', '.join(state.value for state in CoreState)}",
        )


def totals(found: Sequence[SimFinding]) -> list[tuple[str, str, int, Decimal]]:
    """Findings added up: finding, currency, SIMs and money at stake."""
    sums: dict[tuple[str, str], list[SimFinding]] = defaultdict(list)
    for one in found:
        sums[(one.finding, one.currency or "")].append(one)
    return [
        (finding, currency, len(listed), sum((f.amount or Decimal(0) for f in listed), Decimal(0)))
        for (finding, currency), listed in sums.items()
    ]


COLUMNS = (
    *("finding", "SIM", "service", "account", "vendor", "our state", "currency", "amount"),
    "evidence",
)


def row_of(found: SimFinding) -> tuple[str | Decimal | None, ...]:
    """A finding as :data:`COLUMNS` tell it."""
    return (
        *(LABELS[found.finding], found.sim, found.service_id, found.account_id, found.vendor_id),
        *(found.core_state, found.currency, found.amount, found.evidence),
    )


def write_audit(ws: Workspace, found: Sequence[SimFinding], path: Path) -> None:
    """Write the findings and their totals as a workbook."""
    formats = [
        ColumnFormat(title[:1].upper() + title[1:], "money" if title == "amount" else "text")
        for title in COLUMNS
    ]
    summary = [ColumnFormat("Finding"), ColumnFormat("Currency")]
    summary += [ColumnFormat("SIMs", "integer"), ColumnFormat("At stake", "money")]
    write_workbook(
        path,
        [
            Sheet(
                "Summary",
                summary,
                [
                    (LABELS[name], currency, sims, amount)
                    for name, currency, sims, amount in totals(found)
                ],
                notes=("Each finding stands for itself; none is netted with another",),
            ),
            Sheet("SIMs", formats, [row_of(one) for one in found]),
        ],
        ws.clock(),
    )
