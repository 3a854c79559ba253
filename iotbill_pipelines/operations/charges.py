"""Settling: rated usage and reference data to the charges that the ledger should hold.

The unit of work is a usage period. Settled are the accounting period itself and every earlier one
that was settled before and whose inputs have changed since: late usage, a corrected price, a moved
SIM are the same operation (RULEBOOK §11).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa

from iotbill_pipelines.config.close import ClosePolicy, read_close_policy
from iotbill_pipelines.engine.calendars import Month, months_between
from iotbill_pipelines.engine.compute import Compute
from iotbill_pipelines.engine.contract.stage import first_month
from iotbill_pipelines.engine.contract.terms import Contract
from iotbill_pipelines.engine.cycles import USED, first_day
from iotbill_pipelines.engine.flow import CARRIED, settle_period
from iotbill_pipelines.engine.money import of_minor
from iotbill_pipelines.engine.schemas import (
    CHARGE_COMPONENT,
    CHARGE_FINDING,
    COMMITMENT_STATUS,
    DESIRED_CHARGE,
    POOL_PART,
    POOL_SETTLEMENT,
    RATED_USAGE,
    SERVICE_ACTIVATION,
    USAGE_AGGREGATE,
    Table,
)
from iotbill_pipelines.operations import contracts, fingerprints, reach, usage
from iotbill_pipelines.operations.knowledge import knowledge
from iotbill_pipelines.operations.locks import advisory_lock
from iotbill_pipelines.operations.opening import opening_lots
from iotbill_pipelines.operations.runs import code_version
from iotbill_pipelines.operations.stages import Finding, StageResult
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage.cockpit import replace_cockpit
from iotbill_pipelines.storage.models import Period
from iotbill_pipelines.storage.reference import Snapshot, load_snapshot

STAGE = "settle_charges"

_OF_THE_PERIOD = (
    USAGE_AGGREGATE, POOL_SETTLEMENT, POOL_PART, CHARGE_FINDING, COMMITMENT_STATUS
)  # fmt: skip
PREVIEW_ROWS = 10


def settle_charges(ws: Workspace, period: Month) -> StageResult:
    """Settle the period, and earlier ones whose inputs changed since they were settled.

    Publishes ``usage_aggregate``, ``pool_settlement``, ``pool_part``, ``pool_lot``,
    ``allowance_lot``, ``charge_component``, ``charge_finding`` and ``desired_charge`` in the lake.
    What one period leaves unused is an input of the next, so late usage moves all later ones.

    Findings: ``pools`` and ``components`` (block: parts that do not add up), ``commitments``
    (block: an ended window is not charged what is missing), ``reference_data`` (by
    configs/close.yaml), ``unsettled_usage`` (warn: usage of an earlier month, never closed).
    """
    snapshot = knowledge(ws, period)
    scope = settled_periods(ws, period)
    changed, findings = [], []
    policy = read_close_policy(ws.configs)
    for settled in scope:
        if settle_again(ws, settled, snapshot):
            changed.append(settled)
        findings += _check(ws, settled, policy)
    findings += _never_closed(ws, period, scope)
    rows, amounts, preview = _summary(ws, period)
    return StageResult(
        rows={
            "usage periods settled": len(changed),
            "usage periods unchanged": len(scope) - len(changed),
            **rows,
        },
        amounts=amounts,
        preview=preview,
        findings=findings,
        changed=bool(changed),
    )


def settle_again(ws: Workspace, period: Month, snapshot: Snapshot) -> bool:
    """Rate and settle a usage period if its inputs changed since; return whether they had."""
    months = usage_months(ws, period, snapshot)
    usage.rate_months(ws, usage.months_with_usage(ws, months), snapshot)
    # The next period waits too: it reads the lots that this one leaves, and what this one charges
    # in advance must not replace what the next was settled to meanwhile.
    with advisory_lock(ws.engine, f"settle:{period}", f"settle:{period + 1}", wait=True):
        known = fingerprints.recorded(ws, STAGE)
        carried = carried_over(ws, period)
        detail = _inputs(ws, period, snapshot, carried, known)
        if known.get(period) == fingerprints.fingerprint(detail):
            return False
        _settle(ws, period, snapshot, detail, carried, next_is_settled=period + 1 in known)
        return True


def usage_months(ws: Workspace, period: Month, snapshot: Snapshot) -> list[Month]:
    """The UTC months whose usage decides on a period: those around the windows that settle in it,
    and where services wait for their first use, every month before (RULEBOOK §2)."""
    months = {*months_between(Month.of(first_day_of_use(snapshot, period)) - 1, period + 1)}
    if snapshot.rows.get("first_use"):
        months |= {month for month in usage.months_with_usage(ws) if month < period}
    return sorted(months)


def first_day_of_use(snapshot: Snapshot, period: Month) -> date:
    """The earliest local day whose usage settles in a period: its windows may begin before it."""
    charges = pq.read_table(snapshot.file("charge"), columns=["cycle", "kind"]).to_pylist()
    accounts = pq.read_table(snapshot.file("account"), columns=["bill_day"])
    return first_day(
        {row["cycle"] for row in charges if row["kind"] in USED},
        set(accounts["bill_day"].to_pylist()),
        period,
    )


def closed_activations(ws: Workspace) -> pa.Table | None:
    """Dates of first use in periods that the payer's entity has closed: they stay (RULEBOOK §2)."""
    if ws.lake.version(SERVICE_ACTIVATION) is None:
        return None
    with ws.engine.connect() as connection:
        select = sa.select(Period.entity_id, Period.period).where(Period.state == "closed")
        closed = {(row.entity_id, row.period) for row in connection.execute(select)}
    with ws.compute() as compute:
        ws.lake.scan(compute, SERVICE_ACTIVATION)
        dates = compute.fetch("select * from service_activation")
    kept = [(row["entity_id"], row["usage_period"]) in closed for row in dates.to_pylist()]
    return dates.filter(pa.array(kept, pa.bool_()))


def settled_periods(ws: Workspace, period: Month) -> list[Month]:
    """The usage periods that a close of ``period`` answers for: it, and those settled before it,
    as far back as configs/close.yaml says."""
    earlier = sorted(month for month in fingerprints.recorded(ws, STAGE) if month < period)
    return [*within_look_back(ws, earlier, period)[0], period]


def within_look_back(
    ws: Workspace, periods: Sequence[Month], newest: Month
) -> tuple[list[Month], list[Month]]:
    """Split usage periods into those that a close of ``newest`` still corrects, and older ones."""
    limit = read_close_policy(ws.configs).corrections.look_back_months
    if limit is None:
        return list(periods), []
    oldest = newest - limit
    return [p for p in periods if p >= oldest], [p for p in periods if p < oldest]


def carried_over(ws: Workspace, period: Month) -> dict[str, pa.Table]:
    """What is left for a period (RULEBOOK §3): the lots of the one before, as settled; for the
    first period that is settled here, what configs/opening_lots.csv says.

    Raises ConfigError for what that file cannot mean.
    """
    with ws.compute() as compute:
        for table in CARRIED:
            ws.lake.scan(compute, table, usage_period=str(period - 1))
        left = left_over(compute)
    opened = opening_lots(ws, period, fingerprints.recorded(ws, STAGE))
    return {
        name: pa.concat_tables([lots, opened[name].cast(lots.schema)]) if name in opened else lots
        for name, lots in left.items()
    }


def left_over(compute: Compute) -> dict[str, pa.Table]:
    """What a period leaves for the next one, from the relations of its settlement."""
    return {
        table.name: compute.fetch(
            f"select {table.column_list} from {table.name} order by {', '.join(table.key)}"
        )
        for table in CARRIED
    }


EARLIER_ORDER = (*DESIRED_CHARGE.key, "billing_period")


@dataclass(frozen=True)
class Before:
    """What earlier months decide of a period's charges.

    ``carried`` are units that outlived their window (RULEBOOK §3, the tables of CARRIED),
    ``earlier`` the desired charges that count in windows of commitments (§4), ``activations`` the
    dates of first use that stay because their period is closed (§2).
    """

    carried: Mapping[str, pa.Table]
    earlier: pa.Table
    activations: pa.Table

    @property
    def tables(self) -> dict[str, pa.Table]:
        """All of it by name, as :meth:`of_tables` reads it back."""
        own = {"earlier_charge": self.earlier, "closed_activation": self.activations}
        return {**self.carried, **own}

    @classmethod
    def of_tables(cls, tables: Mapping[str, pa.Table]) -> Before:
        """Return what :attr:`tables` gave."""
        carried = {table.name: tables[table.name] for table in CARRIED}
        return cls(carried, tables["earlier_charge"], tables["closed_activation"])

    def settle(self, compute: Compute, period: Month) -> None:
        """Settle a period on it (:func:`engine.flow.settle_period`)."""
        compute.load("earlier_charge", self.earlier)
        settle_period(
            compute, period, self.carried, earlier=True, closed_activations=self.activations
        )


def before(ws: Workspace, period: Month, signed: Iterable[Contract]) -> Before:
    """Return what the months before ``period`` were settled to, as far as it decides on it."""
    with ws.compute() as compute:
        scan_earlier(ws, compute, period, signed)
        earlier = compute.fetch(
            f"select {DESIRED_CHARGE.column_list} from earlier_charge"
            f" order by {', '.join(EARLIER_ORDER)}"
        )
    activations = closed_activations(ws)
    none = SERVICE_ACTIVATION.arrow_schema.empty_table()
    return Before(carried_over(ws, period), earlier, none if activations is None else activations)


CARRIED_NAMES = tuple(table.name for table in CARRIED)


def carried_digest(carried: Mapping[str, pa.Table]) -> dict[str, str]:
    """Return hashes of what is left for a period, by table; none where nothing is left."""
    lots = {name: str(table.to_pylist()) for name, table in carried.items() if table.num_rows}
    return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in lots.items()}


def _inputs(
    ws: Workspace,
    period: Month,
    snapshot: Snapshot,
    carried: dict[str, pa.Table],
    settled: Mapping[Month, str],
) -> dict[str, Any]:
    rated = fingerprints.recorded(ws, usage.STAGE)
    committed = committed_months(period, contracts.contracts_of(snapshot))
    return {
        **carried_digest(carried),
        "rated": {str(m): rated[m] for m in usage_months(ws, period, snapshot) if m in rated},
        "knowledge": reach.settling_digest(snapshot, period),
        "code": code_version(),
        # what earlier months came to decides on a commitment's window (CT-07)
        **({"before": committed_settlements(committed, settled)} if committed else {}),
    }


def committed_settlements(months: Iterable[Month], settled: Mapping[Month, str]) -> dict[str, str]:
    """Return the fingerprints of what months that count in commitments were settled from."""
    return {str(month): settled.get(month, "") for month in months}


def committed_months(period: Month, signed: Iterable[Contract]) -> list[Month]:
    """The months before ``period`` whose charges count in windows of contract commitments."""
    return list(months_between(first_month(signed, period), period - 1))


def scan_earlier(
    ws: Workspace, compute: Compute, period: Month, signed: Iterable[Contract]
) -> None:
    """Make ``earlier_charge`` hold what the months before were settled to, as far as it counts."""
    files = [
        file
        for month in committed_months(period, signed)
        for file in ws.lake.files(DESIRED_CHARGE, usage_period=str(month))
    ]
    compute.scan(DESIRED_CHARGE, files, "earlier_charge")


def _settle(
    ws: Workspace,
    period: Month,
    snapshot: Snapshot,
    detail: dict[str, Any],
    carried: dict[str, pa.Table],
    *,
    next_is_settled: bool,
) -> None:
    fingerprints.forget(ws, STAGE, period)
    this, following = str(period), str(period + 1)
    months = [str(month) for month in usage_months(ws, period, snapshot)]
    rated = sum(ws.lake.rows(RATED_USAGE, usage_month=month) for month in months)
    with ws.stage_compute(rated + sum(snapshot.rows.values())) as compute:
        load_snapshot(compute, snapshot)
        compute.scan(
            RATED_USAGE,
            [file for m in months for file in ws.lake.files(RATED_USAGE, usage_month=m)],
        )
        scan_earlier(ws, compute, period, contracts.contracts_of(snapshot))
        settle_period(
            compute,
            period,
            carried,
            earlier=True,
            closed_activations=closed_activations(ws),
        )
        lots = [
            table
            for table in (*CARRIED, SERVICE_ACTIVATION)
            if compute.fetch(table.name).num_rows or ws.lake.names(table, usage_period=this)
        ]
        for table in (*_OF_THE_PERIOD, *lots):
            _publish(ws, compute, table, f"usage_period = '{this}'", usage_period=this)
        _publish(ws, compute, CHARGE_COMPONENT, f"usage_period = '{this}'", usage_period=this)
        _publish(ws, compute, DESIRED_CHARGE, f"usage_period = '{this}'", usage_period=this)
        if not next_is_settled:
            # What this period's invoice carries of the next one, in advance. Once the next period
            # is settled it says itself what it costs.
            ahead = f"usage_period = '{following}'"
            _publish(ws, compute, CHARGE_COMPONENT, ahead, usage_period=following)
            _publish(ws, compute, DESIRED_CHARGE, ahead, usage_period=following)
        standing = [compute.fetch(table.name) for table in (COMMITMENT_STATUS, POOL_SETTLEMENT)]
    with ws.engine.begin() as connection:
        replace_cockpit(connection, this, *standing)
        fingerprints.remember(connection, ws, STAGE, period, detail, snapshot.id)


def _publish(
    ws: Workspace, compute: Compute, table: Table, where: str, **partition: str | None
) -> None:
    ws.lake.replace(
        table,
        compute,
        f"select * from {table.name} where {where}",
        partition,
        order_by=table.key,
        note=ws.run_id,
    )


def publish_costs(ws: Workspace, compute: Compute, scope: Iterable[Month]) -> None:
    """Keep what reconciling vendors reads of usage periods that were settled in memory."""
    for month in map(str, scope):
        for table in (DESIRED_CHARGE, USAGE_AGGREGATE):
            _publish(ws, compute, table, f"usage_period = '{month}'", usage_period=month)


# ------------------------------------------------------------------------------------- gates

_POOLS_APART = """
select s.usage_period, s.pool_id, s.charge_id, s.currency, s.amount_minor,
  cast(coalesce(sum(p.amount_minor), 0) as bigint) as parts_minor,
  s.overage_quantity, cast(coalesce(sum(p.overage_quantity), 0) as bigint) as parts_quantity
from pool_settlement as s
left join pool_part as p on p.usage_period = s.usage_period and p.level = s.level
  and p.pool_id = s.pool_id and p.charge_id = s.charge_id
group by s.usage_period, s.level, s.pool_id, s.charge_id, s.currency, s.amount_minor,
  s.overage_quantity
having s.amount_minor <> coalesce(sum(p.amount_minor), 0)
  or s.overage_quantity <> coalesce(sum(p.overage_quantity), 0)
order by 1, 2, 3
"""

_CHARGES_APART = """
select coalesce(d.account_id, c.account_id) as account_id,
  coalesce(d.service_id, c.service_id) as service_id,
  coalesce(d.charge_id, c.charge_id) as charge_id, d.currency,
  coalesce(d.amount_minor, 0) as amount_minor, coalesce(c.amount_minor, 0) as parts_minor
from (select level, account_id, service_id, charge_id, currency,
        cast(sum(amount_minor) as bigint) as amount_minor
      from desired_charge group by level, account_id, service_id, charge_id, currency) as d
full join (select level, account_id, service_id, charge_id,
             cast(sum(amount_minor) as bigint) as amount_minor
           from charge_component group by level, account_id, service_id, charge_id) as c
  on c.level = d.level and c.account_id = d.account_id and c.service_id = d.service_id
  and c.charge_id = d.charge_id
where coalesce(d.amount_minor, 0) <> coalesce(c.amount_minor, 0)
order by 1, 2, 3
"""


_COMMITMENTS_APART = """
select coalesce(d.account_id, s.account_id) as account_id,
  coalesce(d.charge_id, s.charge_id) as charge_id, coalesce(d.currency, s.currency) as currency,
  coalesce(d.amount_minor, 0) as amount_minor, coalesce(s.penalty_minor, 0) as parts_minor
from (select level, account_id, service_id, charge_id, currency,
        cast(sum(amount_minor) as bigint) as amount_minor
      from desired_charge where kind = 'shortfall'
      group by level, account_id, service_id, charge_id, currency) as d
full join (select level, account_id, service_id, charge_id, currency,
             cast(sum(penalty_minor) as bigint) as penalty_minor
           from commitment_status where closes
           group by level, account_id, service_id, charge_id, currency) as s
  on s.level = d.level and s.account_id = d.account_id and s.service_id = d.service_id
  and s.charge_id = d.charge_id and s.currency = d.currency
where coalesce(d.amount_minor, 0) <> coalesce(s.penalty_minor, 0)
order by 1, 2, 3
"""


def _check(ws: Workspace, period: Month, policy: ClosePolicy) -> list[Finding]:
    tables = (
        *(POOL_SETTLEMENT, POOL_PART, CHARGE_COMPONENT, DESIRED_CHARGE, CHARGE_FINDING),
        COMMITMENT_STATUS,
    )
    with ws.compute() as compute:
        for table in tables:
            ws.lake.scan(compute, table, usage_period=str(period))
        pools = compute.fetch(_POOLS_APART).to_pylist()
        charges = compute.fetch(_CHARGES_APART).to_pylist()
        commitments = compute.fetch(_COMMITMENTS_APART).to_pylist()
        wrong = compute.fetch(
            "select code, count(*) as findings, min(message) as message from charge_finding"
            " group by code order by code"
        ).to_pylist()
    return [
        *(
            Finding(
                "pools",
                "block",
                f"pool {row['pool_id']} in {period}: the pool is {row['amount_minor']} minor units "
                f"and {row['overage_quantity']} units of overage, its parts are "
                f"{row['parts_minor']} and {row['parts_quantity']}",
                _difference(row),
                "do not book; report it: parts always add up to the whole",
            )
            for row in pools
        ),
        *(
            Finding(
                "components",
                "block",
                f"charge {row['charge_id']} of service {row['service_id']} in {period}: "
                f"{row['amount_minor']} minor units, its components are {row['parts_minor']}",
                _difference(row),
                "do not book; report it: components always add up to the charge",
            )
            for row in charges
        ),
        *(
            Finding(
                "commitments",
                "block",
                f"commitment {row['charge_id']} of {row['account_id']} in {period}: "
                f"{row['amount_minor']} minor units are charged, {row['parts_minor']} are missing",
                _difference(row),
                "do not book; report it: a window that ended is charged what is missing",
            )
            for row in commitments
        ),
        *(
            Finding(
                "reference_data",
                policy.reference_data,
                f"{period}: {row['findings']} x {row['code']}; for example: {row['message']}",
                f"{row['findings']} findings",
                "correct the states, contracts or catalog and close again",
            )
            for row in wrong
        ),
    ]


def _difference(row: dict[str, Any]) -> str:
    currency = row["currency"] or ""
    minor = row["amount_minor"] - row["parts_minor"]
    return f"{currency} {of_minor(minor, currency)}".strip()


def _never_closed(ws: Workspace, period: Month, scope: list[Month]) -> list[Finding]:
    """Usage periods before this one that hold rated usage and were never closed."""
    months = [m for m in usage.months_with_usage(ws) if m <= period]
    if not months:
        return []
    with ws.compute() as compute:
        files = [f for m in months for f in ws.lake.files(RATED_USAGE, usage_month=str(m))]
        compute.scan(RATED_USAGE, files)
        listed = ", ".join(f"'{month}'" for month in scope)
        waiting = compute.fetch(
            "select usage_period, cast(count(distinct (file_key, line_no)) as bigint) as records"
            f" from rated_usage where usage_period < '{period}' and usage_period not in ({listed})"
            " group by usage_period order by usage_period"
        ).to_pylist()
    return [
        Finding(
            "unsettled_usage",
            "warn",
            f"{row['records']} records belong to {row['usage_period']}, which was never closed; "
            "they are not billed",
            f"{row['records']} records",
            f"run `iotbill close {row['usage_period']}`, unless it was billed elsewhere",
        )
        for row in waiting
    ]


def _summary(
    ws: Workspace, period: Month
) -> tuple[dict[str, int], list[tuple[str, str, Decimal]], pa.Table]:
    with ws.compute() as compute:
        ws.lake.scan(compute, DESIRED_CHARGE, billing_period=str(period))
        ws.lake.scan(compute, POOL_SETTLEMENT, usage_period=str(period))
        totals = compute.fetch(
            "select level, kind, currency, cast(count(*) as bigint) as charges,"
            " cast(sum(amount_minor) as bigint) as amount_minor"
            " from desired_charge group by level, kind, currency order by level, kind, currency"
        ).to_pylist()
        ws.lake.scan(compute, COMMITMENT_STATUS, usage_period=str(period))
        pools, ended = (
            compute.fetch(
                "select (select count(*) from pool_settlement) as pools,"
                " (select count(*) from commitment_status where closes) as ended"
            )
            .to_pylist()[0]
            .values()
        )
    amounts = [
        (
            f"{row['level']} {row['kind']}",
            row["currency"],
            of_minor(row["amount_minor"], row["currency"]),
        )
        for row in totals
    ]
    rows = {
        "pools": pools,
        "desired charges": sum(row["charges"] for row in totals),
        **({"commitment windows ended": ended} if ended else {}),
    }
    preview = pa.table(
        {
            "level": [row["level"] for row in totals],
            "kind": [row["kind"] for row in totals],
            "charges": [row["charges"] for row in totals],
            "currency": [row["currency"] for row in totals],
            "amount": [str(amount) for _, _, amount in amounts],
        }
    )
    return rows, amounts, preview
