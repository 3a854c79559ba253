"""One booked charge in words and numbers, recomputed from what is stored, and held to the ledger.

A booked row is a difference. What is explained is therefore the unit it belongs to (service,
charge, usage period, level): its amount follows from records, states and prices; the sum of its
booked rows must be that amount.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.orm import Session

from iotbill_pipelines.engine import guide
from iotbill_pipelines.engine.calendars import Month, months_between
from iotbill_pipelines.engine.compute import Compute
from iotbill_pipelines.engine.contract import stage as contract
from iotbill_pipelines.engine.flow import open_period
from iotbill_pipelines.engine.money import of_minor
from iotbill_pipelines.engine.schemas import (
    ALLOWANCE_LOT,
    POOL_PART,
    POOL_SETTLEMENT,
    RATED_USAGE,
    USAGE_AGGREGATE,
)
from iotbill_pipelines.operations import charges
from iotbill_pipelines.operations.alone import Settled, settled_alone
from iotbill_pipelines.operations.explaining.agreements import explain_agreements
from iotbill_pipelines.operations.explaining.arithmetic import Evidence, explain_unit
from iotbill_pipelines.operations.explaining.first_use import first_uses, with_activation
from iotbill_pipelines.operations.explaining.words import Result, Step, Unexplained, Unit
from iotbill_pipelines.operations.trace import UnknownId
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage import models
from iotbill_pipelines.storage.models import BookedCharge, CatalogVersion, StageInput
from iotbill_pipelines.storage.reference import (
    Snapshot,
    load_snapshot,
    open_snapshot,
)

__all__ = [
    "Booked",
    "Explanation",
    "Step",
    "Unexplained",
    "Unit",
    "explain",
    "explain_period",
    "explain_unit",
    "gather",
]

_UNIT = ("usage_period", "level", "account_id", "service_id", "charge_id")


@dataclass(frozen=True)
class Booked:
    """A row of the ledger that belongs to the explained unit."""

    id: int
    accounting_period: str
    reason: str
    amount: Decimal


@dataclass(frozen=True)
class Explanation:
    """The arithmetic of a charge, and whether the ledger holds the amount that it leads to."""

    unit: Unit
    currency: str
    catalog_digest: str | None
    snapshot_id: str
    booked: list[Booked]
    booked_amount: Decimal
    explained_amount: Decimal | None
    steps: list[Step]

    @property
    def agrees(self) -> bool:
        """Whether the recomputed amount is the booked one."""
        return self.explained_amount == self.booked_amount


def explain(ws: Workspace, charge_no: int) -> Explanation:
    """Explain the unit of a booked charge. Raises UnknownId if no charge has the number."""
    with Session(ws.engine) as session:
        row = session.get(BookedCharge, charge_no)
        if row is None:
            raise UnknownId(
                f"{charge_no} is no booked charge; `iotbill trace` tells the numbers of charges"
            )
        unit = Unit(**{name: getattr(row, name) for name in _UNIT})
    (found,) = _explained(ws, Month.parse(unit.usage_period), [unit])
    return found


def explain_period(ws: Workspace, period: Month) -> list[Explanation]:
    """Explain every unit of a usage period that the ledger knows, in order."""
    columns = [getattr(BookedCharge, name) for name in _UNIT]
    select = (
        sa.select(*columns)
        .where(BookedCharge.usage_period == str(period))
        .distinct()
        .order_by(*columns)
    )
    with ws.engine.connect() as connection:
        units = [Unit(**row) for row in connection.execute(select).mappings()]
    return list(_explained(ws, period, units))


def _explained(ws: Workspace, period: Month, units: Sequence[Unit]) -> Iterator[Explanation]:
    alone = settled_alone(ws, period, {unit.account_id for unit in units})
    with Session(ws.engine) as session:
        snapshots = _snapshots(ws, session, period, units, alone)
        distinct = {snapshot.id: snapshot for snapshot in snapshots.values()}
        catalogs = {each: _catalog(session, each) for each in distinct}
        booked = _booked(session, period, units)
    evidence = {}
    for snapshot in distinct.values():
        of_it = [unit for unit in units if snapshots[unit].id == snapshot.id]
        evidence[snapshot.id] = _evidence(
            ws, period, snapshot, of_it, catalogs[snapshot.id][1], alone.get(of_it[0].account_id)
        )
    for unit in units:
        snapshot = snapshots[unit]
        rows = booked[unit]
        currency = rows[0].currency
        amount = of_minor(sum(row.amount_minor for row in rows), currency)
        explained, steps = None, []
        try:
            result: Result = explain_unit(evidence[snapshot.id], unit)
        except Unexplained as error:
            steps = [Step(str(error))]
        else:
            steps = result.steps
            if result.currency == currency:
                explained = of_minor(result.amount_minor, currency)
            else:
                steps = [*steps, Step(f"in {result.currency}, but {currency} is booked")]
        yield Explanation(
            unit,
            currency,
            catalogs[snapshot.id][0],
            snapshot.id,
            [Booked(row.id, row.accounting_period, row.reason, row.amount) for row in rows],
            amount,
            explained,
            steps,
        )


def _booked(
    session: Session, period: Month, units: Sequence[Unit]
) -> dict[Unit, list[BookedCharge]]:
    select = sa.select(BookedCharge).where(BookedCharge.usage_period == str(period))
    if len(units) == 1:
        select = select.where(
            *(getattr(BookedCharge, name) == getattr(units[0], name) for name in _UNIT)
        )
    found: dict[Unit, list[BookedCharge]] = defaultdict(list)
    for row in session.scalars(select.order_by(BookedCharge.id)):
        found[Unit(**{name: getattr(row, name) for name in _UNIT})].append(row)
    session.expunge_all()
    return found


def _snapshots(
    ws: Workspace,
    session: Session,
    period: Month,
    units: Sequence[Unit],
    alone: Mapping[str, Settled],
) -> dict[Unit, Snapshot]:
    """What each unit was computed from: what its period was last settled with, or what was read
    when its account was corrected by itself.

    A charge in advance of a month that was not settled yet carries its own snapshot.
    """
    settled = session.scalar(
        sa.select(StageInput.detail).where(
            StageInput.stage == charges.STAGE, StageInput.month == str(period)
        )
    )
    if settled:
        snapshot = open_snapshot(session, ws.home, settled["snapshot"])
        own = {account_id: each.snapshot for account_id, each in alone.items()}
        return {unit: own.get(unit.account_id, snapshot) for unit in units}
    newest = sa.select(
        *(getattr(BookedCharge, name) for name in _UNIT), BookedCharge.snapshot_id
    ).where(BookedCharge.usage_period == str(period))
    ids = {Unit(*row[:-1]): row[-1] for row in session.execute(newest.order_by(BookedCharge.id))}
    opened = {each: open_snapshot(session, ws.home, each) for each in {ids[unit] for unit in units}}
    return {unit: opened[ids[unit]] for unit in units}


def _catalog(session: Session, snapshot_id: str) -> tuple[str | None, dict[str, str]]:
    """The catalog version of a snapshot: its digest, and the priced unit of every charge."""
    digest = session.get_one(models.Snapshot, snapshot_id).catalog_digest
    content = session.scalar(
        sa.select(CatalogVersion.content).where(CatalogVersion.digest == digest).limit(1)
    )
    listed = json.loads(content) if content else {}
    units = {
        charge["id"]: charge["per"]
        for charge in (
            *(c for offer in listed.get("offers", []) for c in offer["charges"]),
            *(
                each["overage"]
                for plan in listed.get("share_plans", [])
                for each in (plan, *plan.get("buckets", []))
                if each["overage"]
            ),
        )
    }
    return digest, units


def _evidence(
    ws: Workspace,
    period: Month,
    snapshot: Snapshot,
    units: Sequence[Unit],
    units_of: dict[str, str],
    alone: Settled | None,
) -> Evidence:
    with ws.compute() as compute:
        load_snapshot(compute, snapshot)
        table = pa.Table.from_pylist([{name: getattr(u, name) for name in _UNIT} for u in units])
        compute.load("asked_unit", table)
        for settled in (POOL_SETTLEMENT, POOL_PART, USAGE_AGGREGATE, ALLOWANCE_LOT):
            if alone is None:
                ws.lake.scan(compute, settled, usage_period=str(period))
            else:
                compute.load(settled.name, alone.tables[settled.name])
        begun = compute.fetch("select min(window_start) as day from usage_aggregate")["day"][
            0
        ].as_py()
        months = {*months_between(Month.of(begun or period.start) - 1, period + 1)}
        if snapshot.rows.get("first_use"):
            months |= {*charges.usage_months(ws, period, snapshot)}
        compute.scan(
            RATED_USAGE,
            [
                file
                for month in sorted(months)
                for file in ws.lake.files(RATED_USAGE, usage_month=str(month))
            ],
        )
        if alone is not None:
            compute.load(RATED_USAGE.name, alone.tables[RATED_USAGE.name])
        stay = charges.closed_activations(ws)
        evidence = gather(compute, period, units_of, stay.to_pylist() if stay is not None else ())
        evidence.agreed = explain_agreements(ws, compute, snapshot, period, units)
        return evidence


_TOLD = """
select usage_period, level, account_id, service_id, charge_id from asked_unit
union
select distinct a.usage_period, a.level, a.account_id, u.service_id, m.measured_charge_id
from asked_unit as a
join charge_measure as m on m.charge_id = a.charge_id
join usage_aggregate as u on u.level = a.level and u.account_id = a.account_id
  and u.charge_id = m.measured_charge_id and (a.service_id = '' or u.service_id = a.service_id)
"""
"""The units asked about, and those that combined charges among them measure."""

_TOLD_SERVICE = """
select service_id from told_unit
union
select o.service_id from asked_unit as a
join charge_measure as m on m.charge_id = a.charge_id and m.measured_charge_id is null
join charge as c on c.charge_id = a.charge_id
join service_offer as o on o.offer_id = c.offer_id and o.level = a.level
  and o.payer_account_id = a.account_id
"""


_PLANS_THAT_MOVE = """
select offer_id from offer where plan_change = 'cycle'
union
select offer_id from share_seller
limit 1
"""
"""Whether offers count by window (SP-19), or pools open on a day: days alone do not tell then."""


def gather(
    compute: Compute,
    period: Month,
    units_of: dict[str, str],
    closed_activations: Sequence[dict[str, Any]] = (),
) -> Evidence:
    """Return what is known of the units in relation ``asked_unit``.

    Reads the relations of :data:`schemas.REFERENCE` and :data:`schemas.CATALOG`, ``rated_usage``,
    ``usage_aggregate``, ``allowance_lot``, ``pool_settlement`` and ``pool_part``. ``units_of``
    names the priced unit of charges; ``closed_activations`` are the dates of first use that stay.
    """
    contract.end_services(compute)
    guide.define_day_intervals(compute)
    contract.define_prices(compute, (period - 12).start, (period + 13).end)
    moving = compute.fetch(_PLANS_THAT_MOVE).num_rows
    compute.define("told_unit", _TOLD, keep=True)
    compute.define("told_service", _TOLD_SERVICE, keep=True)

    def rows(select: str) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = compute.fetch(select).to_pylist()
        return listed

    asked = "select service_id from told_service"
    pools = rows(
        f"select * from pool_settlement where usage_period = '{period}'"
        " and (level, charge_id) in (select level, charge_id from asked_unit)"
    )
    states = _grouped(
        rows(f"select * from service_state where service_id in ({asked}) order by changed_at"),
        "service_id",
    )
    offers = _paired(
        rows(
            "select o.service_id, o.level, o.payer_account_id, o.offer_id, o.valid_from,"
            # a suspension that has not ended keeps the offer open
            " case when x.days is null then o.valid_to when x.days > 1000000 then null"
            " else days_later(o.valid_to, x.days) end as valid_to from service_offer as o"
            " left join offer_extension as x on x.service_id = o.service_id"
            " and x.level = o.level and x.valid_from = o.valid_from"
            f" where o.service_id in ({asked}) order by o.valid_from"
        ),
        "service_id",
        "level",
    )
    opening: dict[tuple[str, str, str, date], date] = {}
    if moving:
        compute.define("every_price", "select * from contract_price", keep=True)
        open_period(compute, period)
        offers = _paired(
            rows(
                "select service_id, level, account_id as payer_account_id, offer_id,"
                " from_date as valid_from, to_date as valid_to from service_offer_interval"
                f" where service_id in ({asked}) order by from_date"
            ),
            "service_id",
            "level",
        )
        compute.define("contract_price", "select * from every_price", keep=True)
        opening = {
            (row["level"], row["account_id"], row["charge_id"], row["window_start"]): row[
                "opens_on"
            ]
            for row in rows("select * from share_closed")
        }
    waited = "o.service_id in (select service_id from told_service)"
    activations, billed = first_uses(
        rows("select * from first_use order by offer_id"),
        rows("select * from first_use_threshold order by offer_id, usage_class"),
        states,
        offers,
        rows(
            "select distinct r.* from rated_usage as r join service_offer as o"
            " on o.service_id = r.service_id and o.level = r.level"
            f" join first_use as f on f.offer_id = o.offer_id where {waited}"
        ),
        {
            (row["service_id"], row["level"], row["added_date"]): row["active_date"]
            for row in closed_activations
        },
    )
    for service, activation in activations.items():
        states[service] = with_activation(states[service], activation)
    records = rows(
        "select a.usage_period, r.level, r.account_id, a.service_id, r.charge_id,"
        " r.service_id as used_by, r.file_key, r.line_no, r.part_no, r.price_id,"
        " r.pooled, r.session_key, r.quantity, r.rated_quantity, r.event_start,"
        " r.local_date, w.window_start, w.window_end"
        " from rated_usage as r"
        " join charge as c on c.charge_id = r.charge_id"
        " join told_unit as a on a.level = r.level and a.account_id = r.account_id"
        " and a.charge_id = r.charge_id and a.service_id ="
        " case when c.scope = 'account' then '' else r.service_id end"
        " join (select distinct usage_period, level, account_id, service_id, charge_id,"
        " window_start, window_end from usage_aggregate) as w"
        " on w.usage_period = a.usage_period and w.level = a.level"
        " and w.account_id = a.account_id and w.service_id = a.service_id"
        " and w.charge_id = a.charge_id and r.local_date >= w.window_start"
        " and r.local_date < w.window_end"
    )
    for row in records:
        line = (row["file_key"], row["line_no"], row["part_no"], row["level"])
        if line in billed:
            row |= {"billed_quantity": billed[line].quantity, "pooled": billed[line].pooled}
        place = (row["level"], row["account_id"], row["charge_id"], row["window_start"])
        if row["local_date"] < opening.get(place, row["local_date"]):
            row["pooled"] = False  # the pool was not sold yet
    return Evidence(
        period=period,
        charges={row["charge_id"]: row for row in rows("select * from charge")},
        prices=_grouped(
            [
                row
                | {
                    name: None if row[name] is None else int(row[name])
                    for name in ("connect_e12", "least_e12", "most_e12")
                }
                for row in rows("select * from price order by priority, price_id")
            ],
            "charge_id",
        ),
        tiers=_grouped(
            [
                row | {name: int(row[name]) for name in ("rate_e12", "flat_e12")}
                for row in rows("select * from price_tier order by tier_no")
            ],
            "price_id",
        ),
        core_states={r["state"]: r["core_state"] for r in rows("select * from state")},
        offers={row["offer_id"]: row for row in rows("select * from offer")},
        share_plans={row["share_plan_id"]: row for row in rows("select * from share_plan")},
        share_buckets={row["overage_charge_id"]: row for row in rows("select * from share_bucket")},
        parents={
            row["account_id"]: row["parent_account_id"]
            for row in rows("select account_id, parent_account_id from account")
        },
        service_states=states,
        service_offers=offers,
        records=_records(records),
        pools={(row["level"], row["pool_id"], row["window_start"]): row for row in pools},
        pool_parts=_of_windows(
            rows(
                f"select * from pool_part where usage_period = '{period}'"
                " and (level, charge_id) in (select level, charge_id from asked_unit)"
            )
        ),
        activations=activations,
        more_allowance=_left_over(
            rows(
                "select l.* from allowance_lot as l join told_unit as a on a.level = l.level"
                " and a.usage_period = l.usage_period and a.account_id = l.account_id"
                " and a.service_id = l.service_id and a.charge_id = l.charge_id"
                " where l.kind = 'once' or l.granted_on < l.window_start"
            )
        ),
        measures=_grouped(
            rows("select * from charge_measure order by measure_no, step_no"), "charge_id"
        ),
        accounts={row["account_id"]: row for row in rows("select * from account")},
        overrides=rows("select * from price_override"),
        contract_prices=_agreed_days(
            rows(f"select * from contract_price where service_id in ({asked})")
            + rows(
                "select account_id, service_id, replaced_price_id, price_id, from_date, to_date"
                " from contract_rate where service_id = '' and price_id is not null"
            )
        ),
        used=_used(
            rows(
                "select distinct u.level, u.account_id, u.service_id, u.window_start, u.window_end"
                " from usage_aggregate as u join asked_unit as a on a.level = u.level"
                " and a.account_id = u.account_id and a.service_id = u.service_id"
                " join charge as c on c.charge_id = a.charge_id and c.billable = 'used'"
                " where u.records > 0"
            )
        ),
        units_of=units_of,
    )


def _left_over(rows: Sequence[dict[str, Any]]) -> dict[tuple[Unit, date], int]:
    found: dict[tuple[Unit, date], int] = defaultdict(int)
    for row in rows:
        unit = Unit(*(row[name] for name in _UNIT))
        found[unit, row["window_start"]] += row["quantity"]
    return dict(found)


def _used(rows: Sequence[dict[str, Any]]) -> dict[tuple[str, str, str], list[tuple[date, date]]]:
    found: dict[tuple[str, str, str], list[tuple[date, date]]] = defaultdict(list)
    for row in rows:
        key = (row["level"], row["account_id"], row["service_id"])
        found[key].append((row["window_start"], row["window_end"]))
    return found


def _records(rows: Sequence[dict[str, Any]]) -> dict[Unit, list[Any]]:
    found: dict[Unit, list[Any]] = defaultdict(list)
    for row in rows:
        found[Unit(*(row[name] for name in _UNIT))].append(row)
    return found


def _of_windows(rows: Sequence[dict[str, Any]]) -> dict[tuple[str, str, date], list[Any]]:
    found: dict[tuple[str, str, date], list[Any]] = defaultdict(list)
    for row in rows:
        found[row["level"], row["pool_id"], row["window_start"]].append(row)
    return found


def _agreed_days(rows: Sequence[dict[str, Any]]) -> dict[tuple[str, str, str], list[Any]]:
    found: dict[tuple[str, str, str], list[Any]] = defaultdict(list)
    for row in rows:
        found[row["account_id"], row["service_id"], row["replaced_price_id"]].append(row)
    return found


def _grouped(rows: Sequence[dict[str, Any]], key: str) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = defaultdict(list)
    for row in rows:
        found[row[key]].append(row)
    return found


def _paired(
    rows: Sequence[dict[str, Any]], first: str, second: str
) -> dict[tuple[str, str], list[Any]]:
    found: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for row in rows:
        found[row[first], row[second]].append(row)
    return found
