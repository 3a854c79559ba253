"""What if: a month's real usage priced under another catalog, beside the present one.

Both catalogs pass the stages of a close (rate, settle) over the same records and the same reference
data, in memory; neither lake nor ledger is written. What a difference comes from is found by
turning one catalog into the other in steps (pools, allowances, tiers, then all the rest) and
pricing after each step, so that the causes of a difference always add up to it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
from pydantic import ValidationError
from sqlalchemy.orm import Session

from iotbill_pipelines.config.catalog import CatalogSource, canonical_json, read_catalog
from iotbill_pipelines.engine.calendars import Month, months_between
from iotbill_pipelines.engine.compute import Compute
from iotbill_pipelines.engine.cycles import USED, first_day
from iotbill_pipelines.engine.flow import rate_month, settle_period
from iotbill_pipelines.engine.mediate import Policies
from iotbill_pipelines.engine.money import of_minor
from iotbill_pipelines.engine.schemas import DESIRED_CHARGE, RATED_USAGE, USAGE_RECORD
from iotbill_pipelines.engine.terms import Catalog, TermsError, compile_catalog
from iotbill_pipelines.operations import mediation
from iotbill_pipelines.operations.charges import carried_over, closed_activations
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage.documents import ColumnFormat, Sheet, write_workbook
from iotbill_pipelines.storage.reference import as_known_at

Cause = Literal[
    "pool", "allowance", "tier", "price", "recurring", "one_time", "discount", "commitment"
]

_OF_KIND: Mapping[str, Cause] = {
    "usage": "price",
    "overage": "pool",
    "recurring": "recurring",
    "transition": "one_time",
    "discount": "discount",
    "shortfall": "commitment",
    "commit_overage": "commitment",
    "termination_fee": "one_time",
}


@dataclass(frozen=True)
class Change:
    """A product of an account under both catalogs, and what the difference comes from."""

    level: str
    account_id: str
    product_id: str
    currency: str
    services: int
    before: Decimal
    after: Decimal
    causes: dict[str, Decimal]

    @property
    def difference(self) -> Decimal:
        """What the changed catalog charges more (or less, if negative)."""
        return self.after - self.before


@dataclass(frozen=True)
class Suspense:
    """Records that one of the catalogs cannot rate, by reason."""

    reason_code: str
    before: int
    after: int


@dataclass(frozen=True)
class WhatIf:
    """A month under two catalogs. ``changes`` holds what differs; totals are of everything."""

    period: str
    before_digest: str
    after_digest: str
    totals: list[tuple[str, str, Decimal, Decimal]]
    changes: list[Change]
    suspense: list[Suspense]
    not_separated: list[str]


def whatif(ws: Workspace, folder: Path, period: Month, account: str | None = None) -> WhatIf:
    """Price the usage of ``period`` under the catalog in ``folder``, and compare.

    ``account`` limits what is reported, not what is computed: pools may span accounts. Raises
    ConfigError for a catalog that does not hold together, LookupError for an unknown account.
    """
    before, after = read_catalog(ws.configs / "catalog"), read_catalog(folder)
    with Session(ws.engine) as session:
        reference = as_known_at(session, ws.clock())
    known = reference["account"]["account_id"].to_pylist()
    if account is not None and account not in known:
        raise LookupError(f"no account {account!r}; known are {_some(known)}")
    steps, not_separated = _steps(before, after)
    since = min(_first_day(reference, catalog, period) for _, catalog in steps)
    months = _months(ws, since, period)
    rows = sum(table.num_rows for table in reference.values()) + sum(
        ws.lake.rows(USAGE_RECORD, usage_month=str(each.month)) + each.nearby.num_rows
        for each in months
    )
    with ws.compute(rows) as compute:
        for name, table in reference.items():
            compute.load(name, table)
        for each in months:
            ws.lake.scan(
                compute, USAGE_RECORD, name=_usage_of(each.month), usage_month=str(each.month)
            )
        amounts = [
            _priced(ws, compute, months, compile_catalog(catalog), since, period)
            for _, catalog in steps
        ]
    return WhatIf(
        str(period),
        before.digest,
        after.digest,
        *_compare([cause for cause, _ in steps], [found for found, _ in amounts], account),
        _suspense(amounts[0][1], amounts[-1][1]),
        not_separated,
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(sorted(names)[:8]) + (", ..." if len(names) > 8 else "")


# -------------------------------------------------------------------------------- pricing


@dataclass(frozen=True)
class _Usage:
    month: Month
    policies: Policies
    nearby: pa.Table


def _first_day(reference: Mapping[str, pa.Table], catalog: Catalog, period: Month) -> date:
    """The earliest local day whose usage settles in the period under a catalog."""
    rows = compile_catalog(catalog)["charge"].select(["cycle", "kind"]).to_pylist()
    used = {row["cycle"] for row in rows if row["kind"] in USED}
    return first_day(used, reference["account"]["bill_day"].to_pylist(), period)


def _months(ws: Workspace, since: date, period: Month) -> list[_Usage]:
    feeds = mediation.read_feeds(ws)
    wanted = months_between(Month.of(since) - 1, period + 1)
    held = {m for m in wanted if ws.lake.names(USAGE_RECORD, usage_month=str(m))}
    return [_Usage(m, *mediation.month_as_it_is(ws, m, feeds)) for m in sorted(held)]


_Group = tuple[str, str, str, str]
"""Level, account, product, currency."""

_Key = tuple[_Group, str, str]
"""Group, kind, service."""


def _usage_of(month: Month) -> str:
    """The relation of a UTC month's records."""
    return f"usage_{str(month).replace('-', '_')}"


def _priced(
    ws: Workspace,
    compute: Compute,
    months: Sequence[_Usage],
    catalog: Mapping[str, pa.Table],
    since: date,
    period: Month,
) -> tuple[dict[_Key, int], dict[str, int]]:
    """Rate and settle a month; return minor units by key, and suspended records by reason.

    ``compute`` holds the reference data and the records of every month.
    """
    suspended: dict[str, int] = defaultdict(int)
    for name, table in catalog.items():
        compute.load(name, table)
    parts = []
    for part in months:
        compute.define("usage_record", f"select * from {_usage_of(part.month)}")
        compute.load("nearby_record", part.nearby)
        rate_month(compute, part.policies, nearby=part.nearby.num_rows > 0)
        parts.append(f"tried_{str(part.month).replace('-', '_')}")
        compute.define(
            parts[-1],
            f"select {RATED_USAGE.column_list} from rated_usage"
            f" where usage_period between '{Month.of(since)}' and '{period}'",
            keep=True,
        )
        for row in compute.fetch(
            "select reason_code, count(*) as records from suspended_record group by all"
        ).to_pylist():
            suspended[row["reason_code"]] += row["records"]
    if parts:
        compute.define("rated_usage", " union all ".join(f"select * from {p}" for p in parts))
    else:
        compute.load("rated_usage", RATED_USAGE.arrow_schema.empty_table())
    settled = {part["usage_period"] for part in ws.lake.partitions(DESIRED_CHARGE)}
    before = [
        file
        for month in sorted(settled)
        if month < str(period) and compute.fetch("contract").num_rows
        for file in ws.lake.files(DESIRED_CHARGE, usage_period=month)
    ]
    compute.scan(DESIRED_CHARGE, before, "earlier_charge")
    settle_period(
        compute,
        period,
        carried_over(ws, period),
        earlier=True,
        closed_activations=closed_activations(ws),
    )
    rows = compute.fetch(
        "select level, account_id, product_id, currency, kind, service_id,"
        " cast(sum(amount_minor) as bigint) as amount_minor from desired_charge"
        f" where usage_period = '{period}' group by all"
    ).to_pylist()
    amounts = {
        (
            (row["level"], row["account_id"], row["product_id"], row["currency"]),
            row["kind"],
            row["service_id"],
        ): row["amount_minor"]
        for row in rows
    }
    return amounts, suspended


# ----------------------------------------------------------------- from one catalog to the other


def _steps(
    before: CatalogSource, after: CatalogSource
) -> tuple[list[tuple[Cause | None, Catalog]], list[str]]:
    """The catalogs to price, each with the cause that it adds to the one before; the last is after.

    A step that does not make a catalog of its own (a new share plan in another currency, say) is
    left to the steps after it and named.
    """
    steps: list[tuple[Cause | None, Catalog]] = [(None, before.catalog)]
    not_separated: list[str] = []
    present, target = json.loads(before.json), json.loads(after.json)
    wanted = {charge["id"]: charge for offer in target["offers"] for charge in offer["charges"]}
    offers = {offer["id"]: offer for offer in target["offers"]}
    causes: tuple[Cause, ...] = ("pool", "allowance", "tier")
    for cause in causes:
        changed = json.loads(json.dumps(present))
        if cause == "pool":
            _take_pools(changed, target, offers, wanted)
        elif cause == "allowance":
            _take_allowances(changed, wanted)
        else:
            _take_tiers(changed, wanted)
        if changed == present:
            continue
        try:
            catalog = Catalog.model_validate(changed)
            compile_catalog(catalog)
        except (ValidationError, TermsError):
            not_separated.append(cause)
            continue
        present = changed
        steps.append((cause, catalog))
    if canonical_json(steps[-1][1]) != after.json or len(steps) == 1:
        steps.append((None, after.catalog))
    return steps, not_separated


def _charges(data: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    for offer in data["offers"]:
        yield from offer["charges"]


_OF_POOLS = ("share_plan", "contribution", "contributions", "service_type", "sells", "grade")


def _take_pools(
    data: dict[str, Any],
    target: Mapping[str, Any],
    offers: Mapping[str, Mapping[str, Any]],
    wanted: Mapping[str, Mapping[str, Any]],
) -> None:
    data["share_plans"] = target["share_plans"]
    needed = {
        each["overage"]["product"]
        for plan in target["share_plans"]
        for each in (plan, *plan.get("buckets", []))
        if each["overage"]
    }
    held = {product["id"] for product in data["products"]}
    data["products"] += [
        product
        for product in target["products"]
        if product["id"] in needed and product["id"] not in held
    ]
    for offer in data["offers"]:
        if offer["id"] in offers:
            for name in _OF_POOLS:
                offer.pop(name, None)
                if name in offers[offer["id"]]:
                    offer[name] = offers[offer["id"]][name]
    for charge in _charges(data):
        if charge["id"] in wanted:
            charge["pooled"] = wanted[charge["id"]]["pooled"]


def _take_allowances(data: dict[str, Any], wanted: Mapping[str, Mapping[str, Any]]) -> None:
    for charge in _charges(data):
        other = wanted.get(charge["id"])
        if other is not None and other["per"] == charge["per"]:
            charge["allowance"] = other["allowance"]


def _take_tiers(data: dict[str, Any], wanted: Mapping[str, Mapping[str, Any]]) -> None:
    """Take over prices whose model or bounds differ; rates alone are left to the last step."""
    for charge in _charges(data):
        other = wanted.get(charge["id"])
        if other is None or other["per"] != charge["per"] or charge["kind"] != "usage":
            continue
        if len(other["prices"]) != len(charge["prices"]):
            continue
        for number, (old, new) in enumerate(zip(charge["prices"], other["prices"], strict=True)):
            if _shape(old) != _shape(new) and _applies(old) == _applies(new):
                charge["prices"][number] = new


_AMOUNTS = {"rate", "tiers", "model", "id"}


def _shape(price: Mapping[str, Any]) -> object:
    return price["model"], [tier["up_to"] for tier in price["tiers"]]


def _applies(price: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in price.items() if key not in _AMOUNTS}


# ----------------------------------------------------------------------------- comparison


def _compare(
    causes: Sequence[Cause | None], amounts: Sequence[dict[_Key, int]], account: str | None
) -> tuple[list[tuple[str, str, Decimal, Decimal]], list[Change]]:
    """Totals by level and currency, and what differs, each difference by cause."""
    keys = sorted({key for found in amounts for key in found if account in (None, key[0][1])})
    sums: dict[_Group, list[int]] = defaultdict(lambda: [0, 0])
    by_cause: dict[_Group, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    services: dict[_Group, set[str]] = defaultdict(set)
    for key in keys:
        group, kind, service = key
        along = [found.get(key, 0) for found in amounts]
        sums[group][0] += along[0]
        sums[group][1] += along[-1]
        if len(set(along)) > 1:
            services[group].add(service)
        for cause, earlier, later in zip(causes[1:], along, along[1:], strict=False):
            named = cause if cause and kind in ("usage", "overage") else _OF_KIND[kind]
            by_cause[group][named] += later - earlier
    totals: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for (level, _, _, currency), (old, new) in sums.items():
        totals[level, currency][0] += old
        totals[level, currency][1] += new
    return (
        [
            (level, currency, of_minor(old, currency), of_minor(new, currency))
            for (level, currency), (old, new) in sorted(totals.items())
        ],
        [
            Change(
                level,
                account_id,
                product_id,
                currency,
                len(services[level, account_id, product_id, currency]),
                of_minor(old, currency),
                of_minor(new, currency),
                {
                    cause: of_minor(minor, currency)
                    for cause, minor in sorted(
                        by_cause[level, account_id, product_id, currency].items()
                    )
                    if minor
                },
            )
            for (level, account_id, product_id, currency), (old, new) in sorted(sums.items())
            if services[level, account_id, product_id, currency]
        ],
    )


def _suspense(before: Mapping[str, int], after: Mapping[str, int]) -> list[Suspense]:
    return [
        Suspense(reason, before.get(reason, 0), after.get(reason, 0))
        for reason in sorted({*before, *after})
        if before.get(reason, 0) != after.get(reason, 0)
    ]


def write_comparison(ws: Workspace, found: WhatIf, path: Path) -> Path:
    """Write a comparison as a workbook: differences, their causes, totals."""
    text = [ColumnFormat(title) for title in ("level", "account", "product", "currency")]
    notes = (
        f"Usage of {found.period}, priced and not booked",
        f"before: catalog {found.before_digest}",
        f"after: catalog {found.after_digest}",
    )
    money = [ColumnFormat(title, "money") for title in ("before", "after", "difference")]
    sheets = [
        Sheet(
            "Differences",
            [*text, ColumnFormat("services", "integer"), *money],
            [
                (
                    *(c.level, c.account_id, c.product_id, c.currency),
                    *(c.services, c.before, c.after, c.difference),
                )
                for c in found.changes
            ],
            notes=notes,
        ),
        Sheet(
            "Causes",
            [*text, ColumnFormat("cause"), ColumnFormat("difference", "money")],
            [
                (c.level, c.account_id, c.product_id, c.currency, cause, amount)
                for c in found.changes
                for cause, amount in c.causes.items()
            ],
        ),
        Sheet(
            "Totals",
            [ColumnFormat("level"), ColumnFormat("currency"), *money],
            [(level, currency, old, new, new - old) for level, currency, old, new in found.totals],
        ),
    ]
    write_workbook(path, sheets, ws.clock())
    return path
