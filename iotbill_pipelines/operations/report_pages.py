"""Pages that open offline, beside the close report: one for each vendor and customer group.

They show what the workbooks hold, for people who only want to look: figures, charts, and the rows
that matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from iotbill_pipelines.config.catalog import read_catalog
from iotbill_pipelines.config.vendors import read_vendors
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.reconcile import CAUSES
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage.close_report.figures import count, money
from iotbill_pipelines.storage.documents import safe_name, write_bytes
from iotbill_pipelines.storage.html_pages import Card, Page, Section, bars, render_page
from iotbill_pipelines.storage.reconciliation_workbook import CAUSE_LABELS, CAUSE_MEANINGS

MOST_ROWS = 200
"""Most claims or accounts that a page lists; the workbook has all."""

_VENDORS = """
select vendor_id, currency, expected_minor, invoiced_minor, variance_minor, disputed_minor,
  tolerated_minor, unexplained_minor, lines, matched_lines, status, reconciliation_id
from vendor_reconciliation
where accounting_period = :period and status <> 'accrued'
order by vendor_id, currency, entity_id
"""

_CAUSES = """
select c.reconciliation_id, c.cause, count(*) as lines, sum(c.amount_minor)::bigint as minor
from vendor_reconciliation_cause as c
join vendor_reconciliation as r using (reconciliation_id)
where r.accounting_period = :period group by 1, 2
"""

_CLAIMS = """
select vendor_id, currency, dispute_id, coalesce(uid_value, '(account)') as sim, charge_code, cause,
  billed_minor, expected_minor, difference_minor, coalesce(deadline::text, '') as deadline, status
from dispute
where accounting_period = :period and status <> 'withdrawn'
order by difference_minor desc, dispute_id
"""

_CHARGES = """
select a.customer_group, b.currency, b.product_id, b.account_id, a.name as account,
  count(distinct nullif(b.service_id, '')) as sims,
  coalesce(sum(b.amount_minor) filter (where b.accounting_period = :period), 0)::bigint as minor,
  coalesce(sum(b.amount_minor) filter (where b.accounting_period = :before), 0)::bigint as before
from booked_charge as b
join reference_account as a on a.account_id = b.account_id and a.known_to is null
where b.level = 'retail' and b.accounting_period in (:period, :before)
  and coalesce(a.customer_group, '') <> ''
group by 1, 2, 3, 4, 5 order by 1, 2, 3, 4
"""

_SIMS = """
select a.customer_group, b.currency, count(distinct b.service_id) as sims
from booked_charge as b
join reference_account as a on a.account_id = b.account_id and a.known_to is null
where b.level = 'retail' and b.accounting_period = :period and b.service_id <> ''
group by 1, 2
"""


def write_pages(ws: Workspace, period: Month) -> list[Path]:
    """Write ``vendor_<vendor>_<period>.html`` and ``customer_<group>_<period>.html``.

    The same figures give the same bytes. A vendor without an invoice has no page yet.
    """
    with ws.engine.connect() as connection:

        def rows(statement: str) -> list[dict[str, Any]]:
            found = connection.execute(
                sa.text(statement), {"period": str(period), "before": str(period - 1)}
            )
            return [dict(row) for row in found.mappings()]

        vendors, causes, claims = rows(_VENDORS), rows(_CAUSES), rows(_CLAIMS)
        charges, sims = rows(_CHARGES), rows(_SIMS)
    pages: dict[str, Page] = {}
    configured = read_vendors(ws.configs / "vendors")
    for vendor in vendors:
        own = configured.get(vendor["vendor_id"])
        suffix = "" if own is None or own.currency == vendor["currency"] else vendor["currency"]
        name = "_".join(filter(None, ("vendor", vendor["vendor_id"], str(period), suffix)))
        workbook = name.replace("vendor_", "reconciliation_", 1) + ".xlsx"
        pages[name] = _vendor_page(
            vendor, own.name if own else vendor["vendor_id"], period, causes, claims, workbook
        )
    products = {p.id: p.name for p in read_catalog(ws.configs / "catalog").catalog.products}
    groups = sorted({(row["customer_group"], row["currency"]) for row in charges if row["minor"]})
    for group, currency in groups:
        alone = [other for other, _ in groups].count(group) == 1
        suffix = "" if alone else currency
        name = "_".join(filter(None, ("customer", group, str(period), suffix)))
        mine = [r for r in charges if (r["customer_group"], r["currency"]) == (group, currency)]
        used = next(
            (r["sims"] for r in sims if (r["customer_group"], r["currency"]) == (group, currency)),
            0,
        )
        pages[name] = _customer_page(group, currency, period, mine, used, products, f"{name}.xlsx")
    files = []
    for name, page in pages.items():
        path = ws.out(period) / safe_name(f"{name}.html")
        write_bytes(path, render_page(page).encode("utf-8"))
        files.append(path)
    return files


def _vendor_page(
    vendor: Mapping[str, Any],
    name: str,
    period: Month,
    causes: Sequence[Mapping[str, Any]],
    claims: Sequence[Mapping[str, Any]],
    workbook: str,
) -> Page:
    currency = vendor["currency"]

    def told(minor: int) -> str:
        return money(minor, currency)

    found = {
        row["cause"]: row
        for row in causes
        if row["reconciliation_id"] == vendor["reconciliation_id"]
    }
    listed = [
        (cause, found[cause]["lines"], found[cause]["minor"]) if cause in found else (cause, 0, 0)
        for cause in CAUSES
        if cause in found or cause == "unexplained"
    ]
    mine = [
        row
        for row in claims
        if (row["vendor_id"], row["currency"]) == (vendor["vendor_id"], currency)
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
                        (row["sim"], row["charge_code"], CAUSE_LABELS[row["cause"]],
                         row["deadline"], row["status"]),
                        (told(row["billed_minor"]), told(row["expected_minor"]),
                         told(row["difference_minor"])),
                    )
                    for row in mine[:MOST_ROWS]
                ],
                total=("", "", told(sum(row["difference_minor"] for row in mine))),
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
