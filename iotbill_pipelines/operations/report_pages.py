"""Pages that open offline, beside the close report: one for each vendor and customer group.

They show what the workbooks hold, for people who only want to look: figures, charts, and the rows
that matter.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from iotbill_pipelines.config.vendors import read_vendors
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.reconcile import CAUSES
from iotbill_pipelines.operations.basis import keep, newest_rows
from iotbill_pipelines.operations.catalogs import in_force
from iotbill_pipelines.operations.customer_reports import Names
from iotbill_pipelines.operations.knowledge import knowledge
from iotbill_pipelines.operations.reach import tables_of
from iotbill_pipelines.operations.reconciliation import Again
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage.close_report.figures import count, money
from iotbill_pipelines.storage.documents import document_name, write_bytes
from iotbill_pipelines.storage.html_pages import Card, Page, Section, bars, render_page
from iotbill_pipelines.storage.reconciliation_workbook import CAUSE_LABELS, CAUSE_MEANINGS

MOST_ROWS = 200
"""Most claims or accounts that a page lists; the workbook has all."""

_VENDORS = """
select vendor_id, currency, expected_minor, invoiced_minor, variance_minor, disputed_minor,
  lines, matched_lines
from vendor_reconciliation
where accounting_period = :period and status <> 'accrued'
order by vendor_id, currency, entity_id
"""

_CAUSES = """
select r.vendor_id, r.currency, c.cause, count(*) as lines, sum(c.amount_minor)::bigint as minor
from vendor_reconciliation_cause as c
join vendor_reconciliation as r using (reconciliation_id)
where r.accounting_period = :period group by 1, 2, 3
"""

_CLAIMS = """
select vendor_id, currency, dispute_id, coalesce(uid_value, '(account)') as sim, charge_code, cause,
  billed_minor, expected_minor, difference_minor, coalesce(deadline::text, '') as deadline, status
from dispute
where accounting_period = :period and status <> 'withdrawn'
order by difference_minor desc, dispute_id
"""

_CHARGES = """
select currency, product_id, account_id,
  coalesce(sum(amount_minor) filter (where accounting_period = :period), 0)::bigint as minor,
  coalesce(sum(amount_minor) filter (where accounting_period = :before), 0)::bigint as before
from booked_charge
where level = 'retail' and accounting_period in (:period, :before) and id <= :booked_charge
group by 1, 2, 3 order by 1, 2, 3
"""

_SIMS = """
select count(distinct service_id) from booked_charge
where level = 'retail' and accounting_period = :period and id <= :booked_charge
  and service_id <> '' and currency = :currency and account_id = any(:accounts)
"""

BASIS = ".pages.json"


@dataclass(frozen=True)
class PageClaim:
    """A claim as a vendor's page shows it; amounts in minor units."""

    vendor_id: str
    currency: str
    dispute_id: str
    sim: str
    charge_code: str
    cause: str
    billed_minor: int
    expected_minor: int
    difference_minor: int
    deadline: str
    status: str


@dataclass(frozen=True)
class Stood:
    """What the pages rest on (:mod:`operations.basis`): the snapshot that names customers, the
    newest rows of the ledger, and the claims as they stood."""

    snapshot_id: str
    newest_rows: dict[str, int]
    claims: list[PageClaim]


def write_pages(ws: Workspace, period: Month) -> list[Path]:
    """Write ``vendor_<vendor>_<period>.html`` and ``customer_<group>_<period>.html``.

    The same figures give the same bytes. A vendor without an invoice has no page yet.
    """
    snapshot = knowledge(ws, period)
    with ws.engine.connect() as connection:

        def rows(statement: str) -> list[dict[str, Any]]:
            found = connection.execute(sa.text(statement), {"period": str(period)})
            return [dict(row) for row in found.mappings()]

        vendors, causes = rows(_VENDORS), rows(_CAUSES)
        claims = [PageClaim(**row) for row in rows(_CLAIMS)]
        stood = Stood(snapshot.id, newest_rows(connection), claims)
    pages = {
        **_vendor_pages(ws, period, vendors, causes, stood),
        **_customer_pages(ws, period, Names(tables_of(snapshot.tables_dir)), stood),
    }
    keep(ws.out(period) / BASIS, stood)
    return _write(ws, period, pages)


def write_pages_again(
    ws: Workspace, period: Month, tables: Mapping[str, pa.Table], stood: Stood, again: Again
) -> None:
    """Write the pages again, from a reconciliation that was computed again, the ledger's rows by
    then and a snapshot's tables."""
    pages = {
        **_vendor_pages(ws, period, again.vendors, again.causes, stood),
        **_customer_pages(ws, period, Names(tables), stood),
    }
    _write(ws, period, pages)


def _write(ws: Workspace, period: Month, pages: Mapping[str, Page]) -> list[Path]:
    files = []
    for name, page in pages.items():
        path = ws.out(period) / document_name(f"{name}.html")
        write_bytes(path, render_page(page).encode("utf-8"))
        files.append(path)
    return files


def _vendor_pages(
    ws: Workspace,
    period: Month,
    vendors: Sequence[Mapping[str, Any]],
    causes: Sequence[Mapping[str, Any]],
    stood: Stood,
) -> dict[str, Page]:
    pages: dict[str, Page] = {}
    configured = read_vendors(ws.configs / "vendors")
    for vendor in vendors:
        own = configured.get(vendor["vendor_id"])
        suffix = "" if own is None or own.currency == vendor["currency"] else vendor["currency"]
        name = "_".join(filter(None, ("vendor", vendor["vendor_id"], str(period), suffix)))
        workbook = document_name(name.replace("vendor_", "reconciliation_", 1) + ".xlsx")
        called = own.name if own else vendor["vendor_id"]
        pages[name] = _vendor_page(vendor, called, period, causes, stood.claims, workbook)
    return pages


def _customer_pages(ws: Workspace, period: Month, names: Names, stood: Stood) -> dict[str, Page]:
    products = {p.id: p.name for p in in_force(ws).catalog.products}
    values = {"period": str(period), "before": str(period - 1), **stood.newest_rows}
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    with ws.engine.connect() as connection:
        for row in connection.execute(sa.text(_CHARGES), values).mappings():
            group = names.group.get(row["account_id"])
            if group:
                named = {**row, "account": names.account[row["account_id"]]}
                groups[group, row["currency"]].append(named)
        charged = sorted(key for key, rows in groups.items() if any(row["minor"] for row in rows))
        sims: dict[tuple[str, str], int] = {
            (group, currency): connection.execute(
                sa.text(_SIMS),
                {
                    **values,
                    "currency": currency,
                    "accounts": sorted({row["account_id"] for row in groups[group, currency]}),
                },
            ).scalar_one()
            for group, currency in charged
        }
    pages: dict[str, Page] = {}
    for group, currency in charged:
        alone = [other for other, _ in charged].count(group) == 1
        suffix = "" if alone else currency
        name = "_".join(filter(None, ("customer", group, str(period), suffix)))
        pages[name] = _customer_page(
            group,
            currency,
            period,
            groups[group, currency],
            sims[group, currency],
            products,
            document_name(f"{name}.xlsx"),
        )
    return pages


def _vendor_page(
    vendor: Mapping[str, Any],
    name: str,
    period: Month,
    causes: Sequence[Mapping[str, Any]],
    claims: Sequence[PageClaim],
    workbook: str,
) -> Page:
    currency = vendor["currency"]

    def told(minor: int) -> str:
        return money(minor, currency)

    found = {
        row["cause"]: row
        for row in causes
        if (row["vendor_id"], row["currency"]) == (vendor["vendor_id"], currency)
    }
    listed = [
        (cause, found[cause]["lines"], found[cause]["minor"]) if cause in found else (cause, 0, 0)
        for cause in CAUSES
        if cause in found or cause == "unexplained"
    ]
    mine = [
        claim
        for claim in claims
        if (claim.vendor_id, claim.currency) == (vendor["vendor_id"], currency)
    ]
    return Page(
        title=f"{name}, {period.start:%B %Y}",
        about=f"Its invoices against our own cost, in {currency}",
        currency=currency,
        cards=[
            Card(told(vendor["expected_minor"]), "expected by our usage and its prices"),
            Card(told(vendor["invoiced_minor"]), "invoiced"),
            Card(told(vendor["variance_minor"]), "variance"),
            Card(told(vendor["disputed_minor"]), f"claimed, {count(len(mine))} claims"),
            Card(
                f"{count(vendor['matched_lines'])} of {count(vendor['lines'])}", "lines that agree"
            ),
        ],
        sections=[
            Section(
                "Variance by cause",
                texts=("Cause", "What it means"),
                figures=("Lines", "Amount"),
                rows=[
                    ((CAUSE_LABELS[cause], CAUSE_MEANINGS[cause]), (count(lines), told(minor)))
                    for cause, lines, minor in listed
                ],
                total=("", told(sum(minor for _, _, minor in listed))),
                bars=bars(
                    [(CAUSE_LABELS[cause], minor, told(minor), "theirs")
                     for cause, _, minor in listed]
                ),
                note="The causes add up to the variance. What was billed too little is not set off "
                "against claims, so that claims may exceed the variance.",
            ),
            Section(
                "Claims",
                texts=("SIM", "Charge", "Cause", "Claim by", "State"),
                figures=("Billed", "Expected", "Claimed"),
                rows=[
                    (
                        (claim.sim, claim.charge_code, CAUSE_LABELS[claim.cause],
                         claim.deadline, claim.status),
                        (told(claim.billed_minor), told(claim.expected_minor),
                         told(claim.difference_minor)),
                    )
                    for claim in mine[:MOST_ROWS]
                ],
                total=("", "", told(sum(claim.difference_minor for claim in mine))),
                note=f"The dearest {MOST_ROWS} of {count(len(mine))}."
                if len(mine) > MOST_ROWS
                else "" if mine else "Nothing is claimed.",
            ),
        ],
        links=[("Close report", "close_report.html"), ("Workbook", workbook)],
    )  # fmt: skip


def _customer_page(
    group: str,
    currency: str,
    period: Month,
    charges: Sequence[Mapping[str, Any]],
    sims: int,
    products: Mapping[str, str],
    workbook: str,
) -> Page:
    def told(minor: int) -> str:
        return money(minor, currency)

    def section(title: str, key: str, names: Mapping[str, str]) -> Section:
        sums: dict[str, tuple[int, int]] = {}
        for row in charges:
            this, before = sums.get(row[key], (0, 0))
            sums[row[key]] = (this + row["minor"], before + row["before"])
        ranked = sorted(sums.items(), key=lambda item: (-item[1][0], item[0]))
        return Section(
            title,
            texts=(title.removeprefix("By ").capitalize(),),
            figures=(str(period - 1), str(period), "Change"),
            rows=[
                (
                    (names.get(name, name),),
                    (told(before) if earlier else "–", told(this), _change(this, before)),
                )
                for name, (this, before) in ranked[:MOST_ROWS]
            ],
            total=(told(earlier) if earlier else "–", told(total), _change(total, earlier)),
            bars=bars(
                [(names.get(name, name), this, told(this), "ours") for name, (this, _) in ranked]
            )[:20],
            note=f"The first {MOST_ROWS} of {count(len(ranked))}."
            if len(ranked) > MOST_ROWS
            else "",
        )

    total = sum(row["minor"] for row in charges)
    earlier = sum(row["before"] for row in charges)
    accounts = {row["account_id"]: row["account"] for row in charges}
    return Page(
        title=f"Charges of {group}, {period.start:%B %Y}",
        about=f"All amounts in {currency}, before tax",
        currency=currency,
        cards=[
            Card(told(total), "charged in the period"),
            Card(told(earlier) if earlier else "–", f"in {period - 1}"),
            Card(count(sims), "SIMs"),
            Card(count(len(accounts)), "accounts"),
        ],
        sections=[
            section("By product", "product_id", products),
            section("By account", "account_id", accounts),
        ],
        links=[("Workbook", workbook)],
    )


def _change(this: int, before: int) -> str:
    if not before:
        return "–"
    percent = Decimal(100 * (this - before)) / abs(before)
    return f"{percent.quantize(Decimal('0.1')):+f} %"
