"""Corrections of booked periods: what a change touches, what it comes to, and booking it.

Late usage, a corrected rate, a changed contract, a moved SIM and a re-sent file are one mechanism:
desired minus booked, posted in the open period with the original usage period on the line
(RULEBOOK §11). :func:`plan` tells from recorded inputs which usage periods can differ,
prices those in memory and says who changes by how much and why; :func:`correct_period` books one of
them. A second run finds no difference.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa
from sqlalchemy.orm import Session

from iotbill_pipelines.config.tax import read_tax
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.compute import Compute, literal
from iotbill_pipelines.engine.contract.terms import Contract
from iotbill_pipelines.engine.flow import CARRIED, rate_month
from iotbill_pipelines.engine.mediate import Policies
from iotbill_pipelines.engine.money import of_minor
from iotbill_pipelines.engine.schemas import (
    CATALOG,
    DESIRED_CHARGE,
    POOL_PART,
    RATED_USAGE,
    REFERENCE,
    USAGE_RECORD,
)
from iotbill_pipelines.engine.tax import TaxTerms
from iotbill_pipelines.engine.terms import compile_catalog
from iotbill_pipelines.operations import (
    charges,
    contracts,
    fingerprints,
    mediation,
    reach,
    runs,
    usage,
)
from iotbill_pipelines.operations.alone import Order, correct_alone, known_alone
from iotbill_pipelines.operations.catalogs import differences, in_force
from iotbill_pipelines.operations.differences import (
    Standing,
    book_differences,
    preview_of_booked,
    standing,
    unbooked,
)
from iotbill_pipelines.operations.knowledge import knowledge
from iotbill_pipelines.operations.periods import require_close_team
from iotbill_pipelines.operations.scope import (
    Scope,
    keep_accounts,
    load_tables,
    lots_of,
    rated_usage,
    then_tables,
)
from iotbill_pipelines.operations.scope import before as scope_before
from iotbill_pipelines.operations.stages import StageResult
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage import ledger
from iotbill_pipelines.storage.models import BookedCharge, CatalogVersion, FeedFile
from iotbill_pipelines.storage.models import Snapshot as StoredSnapshot
from iotbill_pipelines.storage.reference import Snapshot, as_known_at, open_snapshot
from iotbill_pipelines.storage.taxes import tax_differences

Cause = Literal["unbooked", "code", "usage", "inventory", "catalog", "carried"]
CAUSES: tuple[Cause, ...] = ("unbooked", "code", "usage", "inventory", "catalog", "carried")
"""What can change a booked period, in the order in which a difference is taken apart.

``unbooked`` is what an earlier correction settled and did not book: units that were not chosen, or
all of them where it was interrupted. ``carried`` is what earlier months left for it: units of a
pool (RULEBOOK §3, rollover), charges that count in a commitment (§4)."""

KIND = "correction"
"""Kind of the runs that book corrections outside a close."""

MOST_TOLD = 12
"""Changed values of a catalog, or names of files, that a reason lists."""


class CorrectionError(RuntimeError):
    """A correction that cannot be planned or booked as it stands; the message says what to do."""


@dataclass(frozen=True)
class Selection:
    """Which units to correct; none named, all of them.

    ``price`` is the id of a price or of a charge. Whoever shares a pool with a selected unit is
    selected with it: parts of a pool change together.
    """

    account: str | None = None
    price: str | None = None
    feed: str | None = None

    @property
    def everything(self) -> bool:
        return self.account is None and self.price is None and self.feed is None


@dataclass(frozen=True)
class Touched:
    """A settled usage period whose inputs changed since, and what changed."""

    usage_period: str
    causes: tuple[Cause, ...]


@dataclass(frozen=True)
class Correction:
    """What a product of an account changes by in a usage period, and what that comes from.

    ``units`` are charges that differ, ``records`` the usage records that came or went.
    """

    usage_period: str
    level: str
    account_id: str
    product_id: str
    units: int
    records: int
    currency: str
    booked: Decimal
    desired: Decimal
    causes: dict[Cause, Decimal]

    @property
    def difference(self) -> Decimal:
        """What is to be booked; negative is a credit."""
        return self.desired - self.booked


@dataclass(frozen=True)
class Reason:
    """What changed that a usage period rests on."""

    usage_period: str
    cause: Cause
    message: str


@dataclass(frozen=True)
class Effect:
    """What a customer owes more, or less (negative): ``net`` and ``tax``, which the next invoice
    adds or takes back, and both together. ``untaxed`` says what has no tax yet, and why."""

    account_id: str
    currency: str
    net: Decimal
    tax: Decimal
    gross: Decimal
    untaxed: str


@dataclass(frozen=True)
class Plan:
    """What a correction run would book, and in which accounting period.

    ``examined`` are the settled usage periods asked for, ``touched`` those whose inputs changed,
    ``periods`` those with a difference: what a run works on. ``pairs`` counts units x periods.
    ``effects`` are what customers owe with taxes, where charges are taxed at all.
    """

    since: str
    accounting_period: str
    examined: list[str]
    touched: list[Touched]
    periods: list[str]
    pairs: int
    totals: list[tuple[str, str, Decimal]]
    corrections: list[Correction]
    reasons: list[Reason]
    beyond: list[str]
    effects: list[Effect]


# --------------------------------------------------------------------------- what is touched


@dataclass(frozen=True)
class _Knowledge:
    """Reference data and catalog of now, and the digest of the catalog; of the accounts of a scope
    only, where they can be corrected by themselves."""

    tables: Mapping[str, pa.Table]
    catalog_digest: str
    scope: Scope | None = None

    def then(self, ws: Workspace, snapshot: Snapshot) -> Mapping[str, pa.Table]:
        """What an earlier snapshot says of the same."""
        if self.scope is None:
            return reach.tables_of(snapshot.tables_dir)
        return then_tables(ws, self.scope, snapshot)


class _OnlyWhole(Exception):
    """Some accounts by themselves do not tell; the whole month does."""


def _present(ws: Workspace) -> _Knowledge:
    source = in_force(ws)
    with Session(ws.engine) as session:
        reference = as_known_at(session, ws.clock())
    tables = {**reference, **compile_catalog(source.catalog)}
    schemas = {**REFERENCE, **CATALOG}
    return _Knowledge(
        {name: table.cast(schemas[name].arrow_schema) for name, table in tables.items()},
        source.digest,
    )


def beyond_look_back(ws: Workspace, period: Month) -> list[Touched]:
    """Return what changed of usage periods that a close of ``period`` no longer corrects."""
    settled = [m for m in sorted(settled_details(ws)) if m < period]
    _, beyond = charges.within_look_back(ws, settled, period)
    return _touched(ws, beyond, _present(ws), set(CAUSES)) if beyond else []


def _touched(
    ws: Workspace, periods: Sequence[Month], present: _Knowledge, wanted: set[Cause]
) -> list[Touched]:
    """Return which of the settled usage periods have inputs that changed since they settled.

    Tells from what is recorded; nothing is priced. A change that cannot reach a period does not
    touch it (:mod:`operations.reach`).
    """
    settled, rated = settled_details(ws), usage.details(ws)
    fingerprinted = fingerprints.recorded(ws, charges.STAGE)
    waiting, ledger_stands = unbooked(ws), standing(ws)
    feeds = mediation.read_feeds(ws)
    months = {period: _months_of(ws, period, settled[period]) for period in periods}
    rating = {
        month: _changes_of_usage(ws, month, rated.get(month), present, feeds)
        for month in sorted({month for each in months.values() for month in each})
    }
    found = []
    for period in periods:
        detail = settled[period]
        causes = set[Cause]().union(*(rating[month] for month in months[period]))
        until = reach.settling_end(present.tables, period)
        causes |= _differing(ws, detail, present, partial(reach.digest, since=None, until=until))
        left = charges.carried_digest(charges.carried_over(ws, period))
        if any(left.get(table.name) != detail.get(table.name) for table in CARRIED):
            causes.add("carried")
        counted = detail.get("before", {})
        if counted != charges.committed_settlements(map(Month.parse, counted), fingerprinted):
            causes.add("carried")
        stands = ledger_stands.get(period, Standing(None))
        if stands.catalog == present.catalog_digest and causes <= {"catalog"}:
            causes.clear()  # booked by a correction that left the stored settlement alone
        elif period in waiting and (stands.alone is None or not causes):
            causes.add("unbooked")
        causes &= wanted
        if causes:
            found.append(Touched(str(period), tuple(c for c in CAUSES if c in causes)))
    return found


def _months_of(ws: Workspace, period: Month, detail: dict[str, Any]) -> list[Month]:
    """The UTC months whose usage decided on a period when it was settled."""
    with Session(ws.engine) as session:
        return charges.usage_months(ws, period, open_snapshot(session, ws.home, detail["snapshot"]))


def _changes_of_usage(
    ws: Workspace,
    month: Month,
    detail: dict[str, Any] | None,
    present: _Knowledge,
    feeds: mediation.Feeds,
) -> set[Cause]:
    files = usage.accepted_files(ws, month)
    if detail is None:
        return {"usage"} if files else set()
    causes = _differing(ws, detail, present, partial(reach.rating_digest, month=month))
    told = detail.get("mediation", {})
    if files != detail["files"] or told.get("feeds") != feeds.digest:
        causes.add("usage")
    return causes


def _differing(
    ws: Workspace,
    detail: dict[str, Any],
    present: _Knowledge,
    digest: Callable[[Mapping[str, pa.Table]], dict[str, str]],
) -> set[Cause]:
    now = digest(present.tables)
    then = detail.get("knowledge", {})
    if present.scope is not None:
        then = digest(present.then(ws, _snapshot(ws, detail)))
    causes: set[Cause] = set()
    if detail.get("code") != runs.code_version():
        causes.add("code")
    if then.get("inventory") != now["inventory"]:
        causes.add("inventory")
    if then.get("catalog") != now["catalog"]:
        causes.add("catalog")
    return causes


def _snapshot(ws: Workspace, detail: dict[str, Any]) -> Snapshot:
    with Session(ws.engine) as session:
        return open_snapshot(session, ws.home, detail["snapshot"])


def settled_details(ws: Workspace) -> dict[Month, dict[str, Any]]:
    """Return what each settled usage period was settled from, with the snapshot's id."""
    return fingerprints.details(ws, charges.STAGE)


def rated_details(ws: Workspace) -> dict[Month, dict[str, Any]]:
    """Return what each UTC month was rated from, with its files of the lake."""
    return usage.details(ws)


# --------------------------------------------------------------------------- what it comes to


def plan(ws: Workspace, since: Month, selection: Selection = Selection()) -> Plan:
    """Say what correcting the usage periods from ``since`` on would book, for whom and why.

    Prices the touched periods in memory, under what they were settled with and under what is known
    now; neither lake nor ledger changes. Raises CorrectionError where nothing was settled yet, or
    for an account, price or feed that is not known.
    """
    settled = sorted(settled_details(ws))
    if not settled:
        raise CorrectionError("no month was closed yet; there is nothing to correct")
    asked = [period for period in settled if period >= since]
    examined, _ = charges.within_look_back(ws, asked, settled[-1])
    known = None if selection.feed is not None else known_alone(ws, selection.account, examined)
    if known is not None and selection.account in (
        None,
        *known.found.tables["account"]["account_id"].to_pylist(),
    ):
        try:
            alone = _Knowledge(known.found.tables, known.digest, known.found)
            return _plan(ws, since, selection, settled, alone)
        except _OnlyWhole:
            pass
    return _plan(ws, since, selection, settled, _present(ws))


def _plan(
    ws: Workspace,
    since: Month,
    selection: Selection,
    settled: Sequence[Month],
    present: _Knowledge,
) -> Plan:
    _check_known(ws, selection, present)
    asked = [period for period in settled if period >= since]
    examined, beyond = charges.within_look_back(ws, asked, settled[-1])
    touched = _touched(ws, examined, present, set(CAUSES))
    corrections: list[Correction] = []
    pairs = 0
    taxes = read_tax(ws.configs)
    differences: list[dict[str, Any]] = []
    causes = {one.usage_period: one.causes for one in touched}
    worked: set[str] = set()
    left: dict[Month, _Left] = {}
    for period in examined:
        signed = _signed(ws, period, present)
        stored = _of(present, charges.before(ws, period, signed))
        before = _before(stored, period, left, charges.committed_months(period, signed))
        known = causes.get(str(period), ())
        if "carried" not in known and not _same(before, stored):
            causes[str(period)] = (*known, "carried")
        if str(period) not in causes:
            continue
        one = Touched(str(period), causes[str(period)])
        found, units, left[period] = _priced_corrections(
            ws, one, present, settled, selection, stored, before
        )
        corrections += found
        differences += units.differences if taxes.mode != "none" else []
        pairs += units.count
        follows = charges.carried_over(ws, period + 1)
        if present.scope is not None:
            follows = lots_of(present.scope, follows)
        if found or charges.carried_digest(left[period].carried) != charges.carried_digest(follows):
            worked.add(str(period))
    touched = [Touched(period, causes[period]) for period in sorted(causes)]
    sums: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for c in corrections:
        sums[c.level, c.currency] += c.difference
    return Plan(
        str(since),
        str(settled[-1]),
        [str(period) for period in examined],
        touched,
        sorted(worked),
        pairs,
        [(level, currency, amount) for (level, currency), amount in sorted(sums.items())],
        corrections,
        [reason for one in touched for reason in _reasons(ws, one, present)],
        [one.usage_period for one in _touched(ws, beyond, present, set(CAUSES))],
        _effects(ws, taxes, settled[-1], differences),
    )


def _effects(
    ws: Workspace, terms: TaxTerms, accounting: Month, differences: Sequence[dict[str, Any]]
) -> list[Effect]:
    with Session(ws.engine) as session:
        found = tax_differences(session, terms, accounting.last_day, differences)
    return [
        Effect(
            each.account_id,
            each.currency,
            of_minor(each.net_minor, each.currency),
            of_minor(each.tax_minor, each.currency),
            of_minor(each.gross_minor, each.currency),
            each.untaxed,
        )
        for each in found
    ]


@dataclass(frozen=True)
class _Units:
    """How many units differ in a period, and by how much each that customers pay."""

    count: int
    differences: list[dict[str, Any]]


# Units as taxes know them (storage.taxes), with what an invoice adds or takes back. One whose
# product the catalog dropped is taken back as booked: as most of it was, if that changed before.
_DIFFERENCES = """
with kinds as (
  select level, account_id, service_id, charge_id, usage_period, kind from desired_charge
  union select level, account_id, service_id, charge_id, usage_period, kind from booked_charge
),
as_booked as (
  select distinct on ({unit}) {unit}, gl_class, tax_code from booked_charge
  order by {unit}, abs(amount_minor) desc, gl_class, tax_code
)
select u.entity_id, u.account_id, u.service_id, u.charge_id, u.usage_period, u.product_id,
  k.kind, coalesce(p.gl_class, b.gl_class, 'unknown') as gl_class,
  coalesce(p.tax_code, b.tax_code, 'unknown') as tax_code, u.currency,
  u.amount_{last} - u.amount_0 as amount_minor
from unit_change as u
semi join selected_unit as s using (usage_period, level, account_id, service_id, charge_id)
join (select level, account_id, service_id, charge_id, usage_period, min(kind) as kind
      from kinds group by all) as k using (level, account_id, service_id, charge_id, usage_period)
left join product as p using (product_id)
left join as_booked as b using ({unit})
where u.level = 'retail' and u.amount_{last} <> u.amount_0
order by all
"""


@dataclass(frozen=True)
class _Left:
    """What a period that was priced in memory leaves for later ones."""

    carried: dict[str, pa.Table]
    desired: pa.Table


def _signed(ws: Workspace, period: Month, present: _Knowledge) -> list[Contract]:
    """The contracts that a period was settled with, and those of now."""
    with Session(ws.engine) as session:
        held = open_snapshot(session, ws.home, settled_details(ws)[period]["snapshot"])
    return [*contracts.contracts_of(held), *contracts.read_tables(present.tables)]


def _of(present: _Knowledge, found: charges.Before) -> charges.Before:
    return found if present.scope is None else scope_before(found, present.scope)


def _before(
    stored: charges.Before,
    period: Month,
    left: Mapping[Month, _Left],
    committed: Sequence[Month],
) -> charges.Before:
    """What earlier months leave for a period, those that were priced in memory as they came out."""
    previous = left.get(period - 1)
    again = [month for month in committed if month in left]
    earlier = stored.earlier
    if again:
        worked = pa.array([str(month) for month in again])
        kept = earlier.filter(pc.invert(pc.is_in(earlier["usage_period"], worked)))
        earlier = pa.concat_tables([kept, *(left[month].desired for month in again)]).sort_by(
            [(name, "ascending") for name in charges.EARLIER_ORDER]
        )
    return replace(
        stored, carried=previous.carried if previous else stored.carried, earlier=earlier
    )


def _same(before: charges.Before, stored: charges.Before) -> bool:
    """Whether earlier months leave the same as they had left."""
    lots = charges.carried_digest(before.carried) == charges.carried_digest(stored.carried)
    return lots and before.earlier.equals(stored.earlier)


def _check_known(ws: Workspace, selection: Selection, present: _Knowledge) -> None:
    for name, value, known in (
        ("account", selection.account, present.tables["account"]["account_id"].to_pylist()),
        (
            "price or charge",
            selection.price,
            []
            if selection.price is None
            else present.tables["price"]["price_id"].to_pylist()
            + present.tables["charge"]["charge_id"].to_pylist()
            + _booked_prices(ws),
        ),
        ("usage feed", selection.feed, list(mediation.read_feeds(ws).specs)),
    ):
        if value is not None and value not in known:
            some = ", ".join(sorted(set(known))[:8]) + (", ..." if len(set(known)) > 8 else "")
            raise CorrectionError(f"no {name} {value!r}; known are {some}")


def _booked_prices(ws: Workspace) -> list[str]:
    select = "select distinct unnest(string_to_array(price_ids, ' ')) from booked_charge"
    with ws.engine.connect() as connection:
        return [str(price) for (price,) in connection.execute(sa.text(select)) if price]


_UNIT = (
    "usage_period",
    "level",
    "entity_id",
    "account_id",
    "service_id",
    "charge_id",
    "product_id",
    "currency",
)


def _priced_corrections(
    ws: Workspace,
    touched: Touched,
    present: _Knowledge,
    settled: Sequence[Month],
    selection: Selection,
    stored: charges.Before,
    before: charges.Before,
) -> tuple[list[Correction], _Units, _Left]:
    """Return what differs, by product and by unit, and what is left for later periods.

    ``stored`` is what the lake says that earlier months leave, ``before`` what they will.
    """
    period = Month.parse(touched.usage_period)
    scope = correction_scope(period, settled)
    alone = present.scope
    with Session(ws.engine) as session:
        booked = ledger.booked_charges(
            session, [str(p) for p in scope], None if alone is None else alone.accounts
        )
    months = _months_of(ws, period, settled_details(ws)[period])
    usage_rows = (
        sum(ws.lake.rows(USAGE_RECORD, usage_month=str(month)) for month in months)
        if alone is None
        else 0
    )
    known_rows = sum(table.num_rows for table in present.tables.values())
    with ws.compute(usage_rows + known_rows + booked.num_rows) as compute:
        compute.load("booked_charge", booked)
        steps = _steps(ws, compute, period, touched.causes, present, stored, before)
        over = charges.left_over(compute)
        left = _Left(
            over if alone is None else lots_of(alone, over),
            compute.fetch(
                f"select {DESIRED_CHARGE.column_list} from desired_charge"
                f" where usage_period = '{period}'"
            ),
        )
        _define_changes(compute, scope, len(steps))
        _define_selected(compute, selection)
        amounts = ", ".join(
            f"cast(sum(c.amount_{n}) as bigint) as amount_{n}" for n in range(len(steps) + 1)
        )
        rows = compute.fetch(
            f"select usage_period, level, account_id, product_id, currency, count(*) as units,"
            f" cast(sum(records) as bigint) as records, {amounts}"
            " from unit_change as c semi join selected_unit as s using (usage_period, level,"
            " account_id, service_id, charge_id) group by all order by all"
        ).to_pylist()
        units = _Units(
            sum(row["units"] for row in rows),
            compute.fetch(_DIFFERENCES.format(last=len(steps), unit=", ".join(_UNIT))).to_pylist(),
        )
    corrections = []
    for row in rows:
        along = [of_minor(row[f"amount_{n}"], row["currency"]) for n in range(len(steps) + 1)]
        causes = {
            cause: later - earlier
            for cause, earlier, later in zip(steps, along, along[1:], strict=False)
            if later != earlier
        }
        corrections.append(
            Correction(
                row["usage_period"],
                row["level"],
                row["account_id"],
                row["product_id"],
                row["units"],
                row["records"],
                row["currency"],
                along[0],
                along[-1],
                causes,
            )
        )
    return corrections, units, left


def correction_scope(period: Month, settled: Sequence[Month]) -> list[Month]:
    """The usage periods that settling ``period`` speaks for: it, and the next one's charges in
    advance until that settles itself."""
    return [period] if period + 1 in settled else [period, period + 1]


def _steps(
    ws: Workspace,
    compute: Compute,
    period: Month,
    causes: Sequence[Cause],
    present: _Knowledge,
    stored: charges.Before,
    before: charges.Before,
) -> list[Cause]:
    """Price the period from what it was settled with to what is known now, a cause at a time.

    Defines ``step_0`` (booked), ``step_1`` ... and leaves ``rated_usage`` and ``pool_part`` of the
    last one. Returns the cause of each step but the first.
    """
    held = _snapshot(ws, settled_details(ws)[period])
    then = present.then(ws, held)
    unit = ", ".join(_UNIT)
    compute.define(
        "step_0",
        f"select {unit}, cast(sum(records) as bigint) as records, cast(sum(amount_minor) as bigint)"
        f" as amount_minor, string_agg(price_ids, ' ') as price_ids from booked_charge"
        f" group by {unit}",
        keep=True,
    )
    months = charges.usage_months(ws, period, held)
    known_files = _known_files(ws, months)
    steps = list(causes)
    if "code" in steps and known_files is None:
        steps.remove("code")  # files it was computed from are gone: told with the usage, then
        steps += [] if "usage" in steps else ["usage"]
        steps.sort(key=CAUSES.index)
    for number, cause in enumerate(steps, 1):
        known = {known for known in CAUSES if CAUSES.index(known) <= CAUSES.index(cause)}
        tables = {
            **{
                name: (present.tables if "inventory" in known else then)[name] for name in REFERENCE
            },
            **{name: (present.tables if "catalog" in known else then)[name] for name in CATALOG},
        }
        left = before if "carried" in known else stored
        files = None if "usage" in known else known_files
        if present.scope is None:
            price(ws, compute, period, tables, months, left, files)
        else:
            _price_alone(ws, compute, period, replace(present.scope, tables=tables), months, left)
        compute.define(
            f"step_{number}",
            f"select {unit}, cast(sum(records) as bigint) as records,"
            " cast(sum(amount_minor) as bigint) as amount_minor,"
            f" string_agg(price_ids, ' ') as price_ids from desired_charge group by {unit}",
            keep=True,
        )
    return steps


def _price_alone(
    ws: Workspace,
    compute: Compute,
    period: Month,
    scope: Scope,
    months: Sequence[Month],
    before: charges.Before,
) -> None:
    """Like :func:`price`, for the accounts of a scope. Raises _OnlyWhole where that cannot tell."""
    rated = rated_usage(ws, months, scope, same_records=True)
    if rated is None:
        raise _OnlyWhole
    load_tables(compute, scope.tables)
    compute.load(RATED_USAGE.name, rated)
    before.settle(compute, period)
    keep_accounts(compute, scope)


def _known_files(ws: Workspace, months: Iterable[Month]) -> dict[Month, list[str]] | None:
    """The files of each month when it was rated; None if one of them is no longer there."""
    rated = rated_details(ws)
    found = {month: rated[month]["files"] for month in months if month in rated}
    if not ws.lake.holds([name for names in found.values() for name in names]):
        return None
    return {month: ws.lake.paths(names) for month, names in found.items()}


def price(
    ws: Workspace,
    compute: Compute,
    period: Month,
    tables: Mapping[str, pa.Table],
    months: Sequence[Month],
    before: charges.Before,
    files: Mapping[Month, list[str]] | None = None,
) -> None:
    """Rate the UTC months and settle a period in memory, under given reference data and catalog.

    Defines every relation of :func:`engine.flow.settle_period`. The records are those of the lake's
    ``files`` by month, or of all that it holds. ``before`` is what earlier months leave.
    """
    for name, table in tables.items():
        compute.load(name, table)
    feeds = mediation.read_feeds(ws)
    parts = []
    for month in months:
        chosen = (
            ws.lake.files(USAGE_RECORD, usage_month=str(month))
            if files is None
            else files.get(month, [])
        )
        if not chosen:
            continue
        policies: Policies
        policies, nearby = mediation.month_as_it_is(ws, month, feeds)
        compute.scan(USAGE_RECORD, chosen)
        compute.load("nearby_record", nearby)
        rate_month(compute, policies, nearby=nearby.num_rows > 0)
        parts.append(f"rated_{str(month).replace('-', '_')}")
        compute.define(parts[-1], f"select {RATED_USAGE.column_list} from rated_usage", keep=True)
    if parts:
        union = " union all ".join(f"select * from {part}" for part in parts)
        compute.define("rated_usage", union, keep=True)
    else:
        compute.load("rated_usage", RATED_USAGE.arrow_schema.empty_table())
    before.settle(compute, period)


def _define_changes(compute: Compute, scope: Sequence[Month], steps: int) -> None:
    """Define ``unit_change``: units of the scope whose last step differs from what is booked."""
    listed = ", ".join(f"'{month}'" for month in scope)
    unit = ", ".join(_UNIT)
    union = " union all ".join(
        f"select {n} as step, * from step_{n} where usage_period in ({listed})"
        for n in range(steps + 1)
    )
    amounts = ", ".join(
        f"cast(coalesce(sum(amount_minor) filter (where step = {n}), 0) as bigint) as amount_{n}"
        for n in range(steps + 1)
    )
    compute.define(
        "unit_change",
        f"select *, last_records - first_records as records from (select {unit}, {amounts},"
        " cast(coalesce(sum(records) filter (where step = 0), 0) as bigint) as first_records,"
        f" cast(coalesce(sum(records) filter (where step = {steps}), 0) as bigint) as last_records,"
        f" ' ' || string_agg(price_ids, ' ') || ' ' as price_ids from ({union}) as along"
        f" group by {unit}) as compared"
        f" where amount_0 <> amount_{steps} or first_records <> last_records",
        keep=True,
    )


def _define_selected(compute: Compute, selection: Selection) -> None:
    """Define ``selected_unit`` of ``unit_change``; sharers of a pool go together."""
    where = ["true"]
    if selection.account is not None:
        where.append(f"account_id = {literal(selection.account)}")
    if selection.price is not None:
        where.append(
            f"(contains(price_ids, {literal(f' {selection.price} ')})"
            f" or charge_id = {literal(selection.price)})"
        )
    if selection.feed is not None:
        where.append(
            "service_id in (select service_id from rated_usage"
            f" where feed_id = {literal(selection.feed)})"
        )
    compute.define(
        "selected_unit",
        f"with named as (select * from unit_change where {' and '.join(where)}),"
        " pool as (select distinct p.usage_period, p.level, p.pool_id, p.charge_id"
        "   from pool_part as p join named as n on n.usage_period = p.usage_period"
        "   and n.level = p.level and (n.service_id = p.service_id"
        "     or (n.charge_id = p.charge_id and n.account_id = p.account_id))),"
        " sharing as (select p.usage_period, p.level, p.service_id, p.account_id, p.charge_id"
        "   from pool_part as p semi join pool using (usage_period, level, pool_id, charge_id))"
        " select usage_period, level, account_id, service_id, charge_id from named"
        " union select u.usage_period, u.level, u.account_id, u.service_id, u.charge_id"
        " from unit_change as u semi join sharing using (usage_period, level, charge_id,"
        " account_id)",
        keep=True,
    )


# --------------------------------------------------------------------------- why


def _reasons(ws: Workspace, touched: Touched, present: _Knowledge) -> Iterable[Reason]:
    period = Month.parse(touched.usage_period)
    detail = settled_details(ws)[period]
    if "unbooked" in touched.causes:
        yield Reason(
            touched.usage_period,
            "unbooked",
            "corrected for some units only, or by a run that was interrupted",
        )
    if "carried" in touched.causes:
        yield Reason(touched.usage_period, "carried", "what earlier months leave for it changed")
    if "code" in touched.causes:
        yield Reason(
            touched.usage_period,
            "code",
            f"settled by code version {detail.get('code')}; this one is {runs.code_version()}",
        )
    if "usage" in touched.causes:
        yield Reason(touched.usage_period, "usage", _usage_reason(ws, period))
    if "inventory" in touched.causes:
        yield Reason(
            touched.usage_period, "inventory", _inventory_reason(ws, period, detail, present)
        )
    if "catalog" in touched.causes:
        yield Reason(touched.usage_period, "catalog", _catalog_reason(ws, detail, present))


def _usage_reason(ws: Workspace, period: Month) -> str:
    rated = rated_details(ws)
    came: set[int] = set()
    went: set[int] = set()
    for month in _months_of(ws, period, settled_details(ws)[period]):
        then = {usage.file_key_of(name) for name in rated.get(month, {"files": []})["files"]}
        now = {usage.file_key_of(name) for name in usage.accepted_files(ws, month)}
        came |= now - then
        went |= then - now
    names = {}
    with ws.engine.connect() as connection:
        select = sa.select(FeedFile.file_key, FeedFile.original_name, FeedFile.landed_at)
        for key, name, at in connection.execute(
            select.where(FeedFile.file_key.in_(sorted(came | went)))
        ):
            names[key] = f"{name} (landed {at:%Y-%m-%d})"
    parts = [
        f"{len(keys)} files {verb}: {_some([names.get(key, str(key)) for key in sorted(keys)])}"
        for keys, verb in ((came, "came"), (went, "went"))
        if keys
    ]
    return "; ".join(parts) or "what its records share with other months changed"


def _inventory_reason(
    ws: Workspace, period: Month, detail: dict[str, Any], present: _Knowledge
) -> str:
    then = present.then(ws, _snapshot(ws, detail))
    until = reach.settling_end(present.tables, period)
    before = reach.relevant(then, None, until)
    after = reach.relevant(present.tables, None, until)
    parts = []
    for name in REFERENCE:
        old = {tuple(row.values()) for row in before[name].to_pylist()}
        new = {tuple(row.values()) for row in after[name].to_pylist()}
        changed = sorted({str(row[0]) for row in old ^ new})
        if changed:
            parts.append(f"{name} of {_some(changed)}")
    return "; ".join(parts) or "what is said of the month's own days changed"


def _catalog_reason(ws: Workspace, detail: dict[str, Any], present: _Knowledge) -> str:
    with Session(ws.engine) as session, session.begin():
        digest = session.get_one(StoredSnapshot, detail["snapshot"]).catalog_digest
        known = session.scalar(
            sa.select(CatalogVersion.digest).where(CatalogVersion.digest == digest).limit(1)
        )
    if digest is None or known is None:
        return "the catalog version that it was settled with was not kept"
    found = differences(ws, digest, str(ws.configs / "catalog"))
    told = [f"{d.path}: {d.before or '-'} -> {d.after or '-'}" for d in found]
    return f"catalog {digest[:12]} -> {present.catalog_digest[:12]}: {_some(told)}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_TOLD} more" if len(names) > MOST_TOLD else ""
    return ", ".join(names[:MOST_TOLD]) + more


# --------------------------------------------------------------------------- booking


def correct_period(
    ws: Workspace, usage_period: Month, selection: Selection = Selection()
) -> StageResult:
    """Rate and settle a settled usage period again, and book the differences of selected units.

    They are booked in the newest period that was closed or is being, or the next one open, with
    ``usage_period`` on the line. Other units' differences stay for the next close. A second run
    books nothing. Raises CorrectionError for a period that was never settled, PeriodError for an
    actor who may not book in the open period.
    """
    settled = sorted(settled_details(ws))
    if usage_period not in settled:
        raise CorrectionError(
            f"{usage_period} was never closed; run `iotbill close {usage_period}`"
        )
    accounting = settled[-1]
    require_close_team(ws, accounting)
    scope = correction_scope(usage_period, settled)
    chosen = None if selection.everything else partial(_selected, scope, selection)
    order = Order(
        usage_period, accounting, scope, settled, _cause(usage_period, selection),
        selection.account, chosen,
    )  # fmt: skip
    with runs.whole(ws, KIND, accounting) as told, runs.stage_lock(ws, accounting):
        result = correct_alone(ws, order) if selection.feed is None else None
        if result is None:
            result = _correct_whole(ws, order)
        told.update(usage_period=str(usage_period), rows=result.count)
    return StageResult(
        rows={"rows booked": result.count},
        amounts=[
            (f"{level} {reason}", currency, of_minor(minor, currency))
            for (level, reason, currency), minor in result.amounts().items()
        ],
        preview=preview_of_booked(ws, BookedCharge.run_id == ws.run_id),
        changed=bool(result.count),
    )


def _correct_whole(ws: Workspace, order: Order) -> ledger.BookingResult:
    """Rate and settle the whole period again in the lake, and book the chosen differences."""
    snapshot = knowledge(ws)
    charges.settle_again(ws, order.period, snapshot)
    with ws.compute() as compute, Session(ws.engine) as session, session.begin():
        compute.scan(POOL_PART, ws.lake.files(POOL_PART, usage_period=str(order.period)))
        months = charges.usage_months(ws, order.period, snapshot)
        rated = [f for m in months for f in ws.lake.files(RATED_USAGE, usage_month=str(m))]
        compute.scan(RATED_USAGE, rated)
        return book_differences(
            ws,
            session,
            compute,
            order.accounting,
            order.months,
            snapshot,
            cause=order.cause,
            action="correct",
            subject=order.period,
            units=None if order.units is None else partial(order.units, compute),
        )


def _cause(usage_period: Month, selection: Selection) -> str:
    named = [
        f"{name} {value}"
        for name, value in (
            ("account", selection.account),
            ("price", selection.price),
            ("feed", selection.feed),
        )
        if value is not None
    ]
    return f"correction of {usage_period}" + (f" ({', '.join(named)})" if named else "")


def _selected(scope: Sequence[Month], selection: Selection, compute: Compute) -> pa.Table:
    """The selected units, from the relations ``booked_charge`` and ``desired_charge``."""
    unit = ", ".join(_UNIT)
    for number, name in enumerate(("booked_charge", "desired_charge")):
        compute.define(
            f"step_{number}",
            f"select {unit}, cast(sum(records) as bigint) as records,"
            " cast(sum(amount_minor) as bigint) as amount_minor,"
            f" string_agg(price_ids, ' ') as price_ids from {name} group by {unit}",
            keep=True,
        )
    _define_changes(compute, scope, 1)
    _define_selected(compute, selection)
    return compute.fetch("select * from selected_unit")


@dataclass(frozen=True)
class Proposal:
    """The run that a catalog version calls for: the booked usage periods that it reaches into."""

    catalog_digest: str
    usage_periods: list[str]

    @property
    def command(self) -> str:
        """What shows who changes by how much, and books it if told to."""
        return f"iotbill rerate --since {self.usage_periods[0]}"

    @property
    def message(self) -> str:
        return (
            f"catalog {self.catalog_digest[:12]} reaches into what is booked of "
            f"{_some(self.usage_periods)}"
        )


def proposal(ws: Workspace) -> Proposal | None:
    """Return the run that corrects what the catalog of now changes in booked periods.

    None if it reaches into none that a close would still correct.
    """
    settled = sorted(settled_details(ws))
    if not settled:
        return None
    digest = in_force(ws).digest
    if _booked_catalogs(ws) <= {digest}:
        return None
    examined, _ = charges.within_look_back(ws, settled, settled[-1])
    touched = _touched(ws, examined, _present(ws), {"catalog", "unbooked"})
    return Proposal(digest, [one.usage_period for one in touched]) if touched else None


def _booked_catalogs(ws: Workspace) -> set[str | None]:
    """The digests of the catalogs by which usage periods are booked; None where one is in part."""
    waiting, ledger_stands = unbooked(ws), standing(ws)
    found: set[str | None] = set()
    ids = set()
    for period, detail in settled_details(ws).items():
        if period in waiting:
            found.add(ledger_stands.get(period, Standing(None)).catalog)
        else:
            ids.add(detail["snapshot"])
    select = sa.select(StoredSnapshot.catalog_digest).where(StoredSnapshot.snapshot_id.in_(ids))
    with Session(ws.engine) as session:
        return found | set(session.scalars(select))
