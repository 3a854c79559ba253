"""The close report: what the stored results of a close say, read back and shown.

Nothing is computed here but sums and counts; :func:`load_figures` reads, the renderers of
:mod:`storage.close_report` show.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from pydantic import TypeAdapter, ValidationError
from rich.console import Console

from iotbill_pipelines.config.close import ClosePolicy, read_close_policy
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.money import to_minor
from iotbill_pipelines.engine.schemas import RATED_USAGE
from iotbill_pipelines.engine.terms import TermsError
from iotbill_pipelines.operations import usage
from iotbill_pipelines.operations.basis import keep_configs
from iotbill_pipelines.operations.close import CLOSE_STAGES
from iotbill_pipelines.operations.closed_with import keep_closed_with
from iotbill_pipelines.operations.customer_reports import write_group_workbooks
from iotbill_pipelines.operations.flux import flux
from iotbill_pipelines.operations.gate_results import WORST_GATES
from iotbill_pipelines.operations.report_pages import write_pages
from iotbill_pipelines.operations.stages import StageResult
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage.close_report import (
    CloseFigures,
    render_console,
    render_html,
    write_close_workbook,
)
from iotbill_pipelines.storage.close_report.figures import (
    BookingFigures,
    Fates,
    FeedFigures,
    FileFigures,
    FluxFigures,
    GateFigures,
    InvoiceFigures,
    JournalFigures,
    RevenueFigures,
    StatementFigures,
    SuspenseFigures,
    VendorFigures,
    amount,
)
from iotbill_pipelines.storage.documents import write_bytes

HTML_NAME = "close_report.html"
WORKBOOK_NAME = "close_report.xlsx"
OWN_NAMES = (HTML_NAME, WORKBOOK_NAME)
DOCS = "data_docs"
"""Pages of the data quality checks; the report leads to their index."""
FIGURES_NAME = ".close_report.json"
"""The figures that the report in the same folder was rendered from."""


def write_report(ws: Workspace, period: Month) -> StageResult:
    """Write the close report of ``period`` as HTML and XLSX into ``out/<period>``, and a workbook
    and a page per customer group, a page per vendor.

    A run that finds the same figures as the report before leaves the documents as they are.
    """
    groups = [*write_group_workbooks(ws, period), *write_pages(ws, period)]
    figures = load_figures(ws, period)
    folder = ws.out(period)
    page, workbook, last = (folder / n for n in (HTML_NAME, WORKBOOK_NAME, FIGURES_NAME))
    known = read_figures(last.read_bytes()) if last.is_file() else None
    same = (
        page.is_file()
        and workbook.is_file()
        and known is not None
        and _comparable(known) == _comparable(figures)
    )
    if not same:
        last.unlink(missing_ok=True)
        render(figures, folder)
        write_bytes(last, _FIGURES.dump_json(figures, indent=1))
    keep_configs(ws.configs, folder)
    keep_closed_with(ws, period)
    return StageResult(
        rows={
            "records in": figures.records.arrived,
            "records kept": figures.records.kept,
            "rows booked now": figures.booking.new_rows,
            "rows booked before": figures.booking.earlier_rows,
            "gates blocked": len(figures.blocked),
        },
        amounts=[
            (f"revenue {row.charge_type}", row.currency, amount(row.amount_minor, row.currency))
            for row in figures.revenue
        ],
        preview=pa.table(
            {
                "feed": [feed.feed for feed in figures.feeds],
                "in": [feed.records.arrived for feed in figures.feeds],
                "kept": [feed.records.kept for feed in figures.feeds],
                "ignored": [feed.records.ignored for feed in figures.feeds],
                "duplicate": [feed.records.duplicate for feed in figures.feeds],
                "rejected": [feed.records.rejected for feed in figures.feeds],
                "suspended": [feed.records.suspended for feed in figures.feeds],
            }
        ),
        files=[page, workbook, *groups],
        changed=not same,
    )


def print_report(ws: Workspace, period: Month, console: Console) -> CloseFigures:
    """Print the report of ``period`` as it stands now, and return what it says."""
    figures = load_figures(ws, period)
    folder = ws.out(period)
    own = [_file(folder, folder / name) for name in OWN_NAMES if (folder / name).is_file()]
    console.print(render_console(replace(figures, files=[*own, *figures.files])))
    return figures


_FIGURES = TypeAdapter(CloseFigures)


def read_figures(content: bytes) -> CloseFigures | None:
    """Return the figures that a report was rendered from; None if another version wrote them."""
    try:
        return _FIGURES.validate_json(content)
    except ValidationError:
        return None


def render(figures: CloseFigures, folder: Path) -> None:
    """Write the report as HTML and XLSX into a folder: equal figures, equal bytes."""
    write_bytes(folder / HTML_NAME, render_html(figures).encode("utf-8"))
    write_close_workbook(folder / WORKBOOK_NAME, figures)


def _comparable(figures: CloseFigures) -> str:
    """The figures as text, without what differs although nothing happened."""
    plain = _FIGURES.dump_python(figures, mode="json", exclude={"prepared_at", "run_id"})
    return json.dumps(plain, sort_keys=True)


# ------------------------------------------------------------------------------------ loading


def load_figures(ws: Workspace, period: Month) -> CloseFigures:
    """Read what the close of ``period`` left in PostgreSQL and in its folder.

    Rows booked under the workspace's run id count as new, all others as booked before.
    """
    parameters = {
        "period": str(period),
        "run_id": ws.run_id,
        "rated_files": _files_with_usage_of(ws, period),
    }
    with ws.engine.connect() as connection:

        def rows(query: str) -> Sequence[sa.RowMapping]:
            return connection.execute(sa.text(query), parameters).mappings().all()

        booked = rows(_BOOKED)
        compared, missing = _flux(ws, period)
        return CloseFigures(
            period=period,
            entities=[f"{row['name']} ({row['entity_id']})" for row in rows(_ENTITIES)],
            prepared_at=ws.clock(),
            run_id=ws.run_id,
            folder=str(ws.out(period)),
            feeds=[_feed(row) for row in rows(_FEEDS)],
            revenue=[RevenueFigures(**row) for row in rows(_REVENUE)],
            invoices=[InvoiceFigures(**row) for row in rows(_INVOICES)],
            vendors=[_vendor(row) for row in rows(_VENDORS)],
            journals=[JournalFigures(**row) for row in rows(_JOURNALS)],
            booking=BookingFigures(booked[0]["new_rows"], booked[0]["earlier_rows"]),
            suspense=[SuspenseFigures(**row) for row in rows(_SUSPENSE)],
            gates=_gates(rows(_GATES), read_close_policy(ws.configs)),
            files=_files(ws.out(period)),
            statements=[
                found
                for found in (
                    _statement(
                        "Customers with the lowest margin", _MARGIN_COLUMNS, rows(_BY_CUSTOMER), 2
                    ),
                    _statement("Margin by vendor", _PARTNER_COLUMNS, rows(_BY_VENDOR), 2),
                    _statement("SIMs that cost more than they earn", _SIM_COLUMNS, rows(_BY_SIM)),
                    _statement("Taxes", _TAX_COLUMNS, rows(_TAXES)),
                    _statement("Corrected taxes", _TAX_NOTE_COLUMNS, rows(_TAX_NOTES)),
                    _statement("Deferred", _DEFERRED_COLUMNS, rows(_DEFERRED)),
                    _statement("Commissions", _COMMISSION_COLUMNS, rows(_COMMISSIONS)),
                    _commitments(rows(_COMMITMENTS)),
                )
                if found.rows
            ],
            flux=compared,
            flux_missing=missing,
        )


_COMMITMENTS = """
with pools as (
  select account_id, min(1 - used::numeric / nullif(available, 0)) as left_
  from pool_headroom where usage_period = :period group by account_id
)
select c.*, p.left_
from commitment_status as c left join pools as p using (account_id)
where c.usage_period = :period
order by c.account_id, c.contract_id, c.commitment_id, c.window_start
"""


_COMMITMENT_LABELS = (
    *("Account", "Commitment", "Window", "Unit", "Committed", "So far", "At its end", "Short"),
    *("Step", "Next step", "Pool left"),
)


def _commitments(found: Sequence[sa.RowMapping]) -> StatementFigures:
    """The commit cockpit: where windows stand, and end if every day left is like those before."""

    def shown(value: Decimal) -> str:
        rounded = value.quantize(Decimal("0.01"))
        return f"{rounded.to_integral_value() if rounded == rounded.to_integral() else rounded:,f}"

    def labels(row: sa.RowMapping) -> tuple[str, ...]:
        coming, final = row["next_step_on"], ", final" if row["closes"] else ""
        return (
            row["account_id"],
            f"{row['contract_id']} {row['commitment_id']}",
            f"{row['window_start']} to before {row['window_end']}{final}",
            row["unit"],
            *(shown(row[name]) for name in ("committed", "measured", "projected")),
            shown(row["projected_missing"]),
            shown(row["step_value"]),
            f"{shown(row['next_step_value'])} from {coming}" if coming else "",
            "" if row["left_"] is None else f"{row['left_'] * 100:.1f} %",
        )

    rows = tuple((labels(row), row["currency"], (row["projected_minor"],)) for row in found)
    return StatementFigures("Commitments", _COMMITMENT_LABELS, ("To pay at its end",), rows)


def _flux(ws: Workspace, period: Month) -> tuple[list[FluxFigures], str]:
    try:
        found = flux(ws, period)
    except TermsError as error:
        return [], f"There is no flux: {error.rule}"
    lines = (*found.products, *found.totals) if found.products else ()
    return [
        FluxFigures(
            line.level,
            line.product_id,
            line.currency,
            to_minor(line.last, line.currency),
            to_minor(line.this, line.currency),
            {name: to_minor(value, line.currency) for name, value in line.effects.items()},
        )
        for line in lines
    ], ""


def _files_with_usage_of(ws: Workspace, period: Month) -> list[int]:
    """The files with usage of the period on some payer's calendar, also of a UTC day beside it."""
    with ws.compute() as compute:
        files = [
            file
            for month in usage.around(period)
            for file in ws.lake.files(RATED_USAGE, usage_month=str(month))
        ]
        compute.scan(RATED_USAGE, files)
        found = compute.fetch(
            f"select distinct file_key from rated_usage where usage_period = '{period}'"
        )
    return sorted(int(key) for key in found.column("file_key").to_pylist())


# Usage files are those that hold usage of the month. Other files (inventory, invoices) have no
# month: those that landed since the close before.
_OF_THE_CLOSE = """
with before as (
  select max(finished_at) as closed_at from run
  where kind = 'close' and status = 'succeeded' and period < :period
), chosen as (
  select f.*, coalesce(cardinality(f.usage_months), 0) > 0 as is_usage
  from feed_file as f cross join before
  where :period = any(coalesce(f.usage_months, '{}'))
    or f.file_key = any(cast(:rated_files as bigint[]))
    or (coalesce(cardinality(f.usage_months), 0) = 0
        and (before.closed_at is null or f.landed_at > before.closed_at))
), outcome as (
  select file_key,
    coalesce(sum(records) filter (where outcome = 'kept'), 0) as kept,
    coalesce(sum(records) filter (where outcome = 'duplicate'), 0) as duplicate,
    coalesce(sum(records) filter (where outcome = 'suspended'), 0) as suspended,
    coalesce(sum(quantity) filter (where outcome = 'kept'), 0) as quantity_kept,
    coalesce(sum(quantity) filter (where outcome = 'duplicate'), 0) as quantity_duplicate,
    coalesce(sum(quantity) filter (where outcome = 'suspended'), 0) as quantity_suspended
  from feed_file_outcome where file_key in (select file_key from chosen) group by file_key
)
"""

_FEEDS = (
    _OF_THE_CLOSE
    + """
select coalesce(c.feed_id, '(unrecognised)') as feed, count(*) as files,
  count(*) filter (where c.state <> 'ingested') as unread_files,
  bool_or(c.is_usage) as is_usage,
  coalesce(sum(c.records_in), 0) as arrived,
  coalesce(sum(case when c.is_usage then o.kept else c.kept end), 0) as kept,
  coalesce(sum(c.ignored), 0) as ignored, coalesce(sum(o.duplicate), 0) as duplicate,
  coalesce(sum(c.rejected), 0) as rejected, coalesce(sum(o.suspended), 0) as suspended,
  coalesce(sum(case when c.is_usage then c.kept - coalesce(o.kept, 0) - coalesce(o.duplicate, 0)
    - coalesce(o.suspended, 0) end), 0) as waiting,
  coalesce(sum(c.quantity_in), 0) as quantity_in,
  coalesce(sum(o.quantity_kept), 0) as quantity_kept,
  coalesce(sum(c.quantity_ignored), 0) as quantity_ignored,
  coalesce(sum(o.quantity_duplicate), 0) as quantity_duplicate,
  coalesce(sum(c.quantity_rejected), 0) as quantity_rejected,
  coalesce(sum(o.quantity_suspended), 0) as quantity_suspended,
  coalesce(sum(case when c.is_usage then c.quantity_kept - coalesce(o.quantity_kept, 0)
    - coalesce(o.quantity_duplicate, 0) - coalesce(o.quantity_suspended, 0) end), 0)
    as quantity_waiting
from chosen as c left join outcome as o on o.file_key = c.file_key
group by 1 order by bool_or(c.is_usage) desc, 1
"""
)

_SUSPENSE = (
    _OF_THE_CLOSE
    + """
select reason_code as reason, sum(records)::bigint as records
from feed_file_outcome
where outcome = 'suspended' and file_key in (select file_key from chosen)
group by reason_code order by records desc, reason_code
"""
)

_ENTITIES = """
select e.entity_id, e.name from legal_entity as e
where exists (select from period as p where p.entity_id = e.entity_id and p.period = :period)
order by e.entity_id
"""

_BOOKED = """
select count(*) filter (where run_id = :run_id) as new_rows,
  count(*) filter (where run_id <> :run_id) as earlier_rows
from booked_charge where accounting_period = :period
"""

_REVENUE = """
select kind as charge_type, currency,
  count(distinct (account_id, service_id, charge_id, usage_period)) as charges,
  sum(amount_minor)::bigint as amount_minor,
  coalesce(sum(amount_minor) filter (where run_id = :run_id), 0)::bigint as new_minor
from booked_charge
where level = 'retail' and accounting_period = :period
group by kind, currency order by currency, amount_minor desc, kind
"""

_INVOICES = """
select currency, count(*) as invoices, sum(total_minor)::bigint as total_minor
from invoice where accounting_period = :period
group by currency order by currency
"""

_VENDORS = """
select r.vendor_id as vendor, r.currency, r.expected_minor, r.invoiced_minor,
  r.disputed_minor as claimed_minor, r.unexplained_minor, r.status,
  (select count(*) from dispute as d
   where d.accounting_period = r.accounting_period and d.vendor_id = r.vendor_id
     and d.currency = r.currency and d.status <> 'withdrawn') as claims
from vendor_reconciliation as r
where r.accounting_period = :period
order by r.vendor_id, r.currency
"""

_JOURNALS = """
select j.external_id as journal, j.journal_type as kind, j.state, j.currency,
  count(l.line_no) as lines, coalesce(sum(l.debit_minor), 0)::bigint as debit_minor,
  coalesce(sum(l.credit_minor), 0)::bigint as credit_minor
from journal as j left join journal_line as l on l.journal_id = j.journal_id
where j.accounting_period = :period
group by j.external_id, j.journal_type, j.state, j.currency order by j.external_id
"""

_GATES = f"""
select gate, outcome, severity, figure, message, what_to_do, waived_by
from ({WORST_GATES}) as g where period = :period order by gate
"""


_TAX_COLUMNS = (("Jurisdiction", "Tax", "Rate", "Treatment"), ("Base", "Tax due"))

_TAXES = """
select t.jurisdiction as label_1, t.tax as label_2,
  trim(trailing '.' from trim(trailing '0' from (t.rate * 100)::text)) || ' %' as label_3,
  replace(t.treatment, '_', ' ') as label_4, t.currency,
  sum(t.base_minor)::bigint as amount_1, sum(t.amount_minor)::bigint as amount_2
from posted_tax t
where t.accounting_period = :period
group by t.jurisdiction, t.tax, t.rate, t.treatment, t.currency
order by t.jurisdiction, t.tax, t.rate, t.treatment, t.currency
"""

_TAX_NOTE_COLUMNS = (("Note", "Corrects", "Account"), ("Tax",))

_TAX_NOTES = """
select n.note_no as label_1, i.invoice_no as label_2, i.account_id as label_3, n.currency,
  n.tax_minor as amount_1
from tax_note n join invoice i using (invoice_id)
where n.accounting_period = :period order by n.note_no
"""

_DEFERRED_COLUMNS = (("What", "Product"), ("Opening", "Added", "Released", "Closing"))

_DEFERRED = """
with moves as (
  select case when purpose = 'allocation' then 'contract assets'
              when level = 'vendor' then 'prepaid cost' else 'deferred revenue' end as what,
    product_id, currency, accounting_period = :period as is_now,
    case when purpose = 'release' then -amount_minor else amount_minor end as minor,
    purpose = 'release' or (purpose = 'allocation' and amount_minor < 0) as is_release
  from derived_entry
  where purpose in ('deferral', 'release', 'allocation') and accounting_period <= :period
)
select what as label_1, product_id as label_2, currency,
  coalesce(sum(minor) filter (where not is_now), 0)::bigint as amount_1,
  coalesce(sum(minor) filter (where is_now and not is_release), 0)::bigint as amount_2,
  coalesce(-sum(minor) filter (where is_now and is_release), 0)::bigint as amount_3,
  sum(minor)::bigint as amount_4
from moves group by what, product_id, currency
having bool_or(is_now) or sum(minor) <> 0
order by what, product_id, currency
"""

_COMMISSION_COLUMNS = (("Partner", "Rule"), ("Earned",))

_COMMISSIONS = """
select account_id as label_1, version as label_2, currency, sum(amount_minor)::bigint as amount_1
from derived_entry where purpose = 'commission' and accounting_period = :period
group by account_id, version, currency order by account_id, version, currency
"""


_MARGIN_COLUMNS = (("Account", "Name", "Group"), ("Revenue", "Cost", "Margin"))

_BY_CUSTOMER = """
select p.customer as label_1, coalesce(a.name, '') as label_2,
  coalesce(a.customer_group, '') as label_3, p.currency, sum(p.revenue_minor)::bigint as amount_1,
  sum(p.cost_minor)::bigint as amount_2, sum(p.revenue_minor - p.cost_minor)::bigint as amount_3
from earned_part as p
left join reference_account as a on a.account_id = p.customer and a.known_to is null
where p.accounting_period = :period
group by p.customer, a.name, a.customer_group, p.currency
order by amount_3, p.customer, p.currency limit 25
"""

_PARTNER_COLUMNS = (("Vendor",), ("Revenue of its SIMs", "Cost", "Margin"))

_BY_VENDOR = """
select vendor as label_1, currency, sum(revenue_minor)::bigint as amount_1,
  sum(cost_minor)::bigint as amount_2, sum(revenue_minor - cost_minor)::bigint as amount_3
from earned_part where accounting_period = :period
group by vendor, currency order by amount_3, vendor, currency
"""

_SIM_COLUMNS = (("Service", "Account", "Vendor"), ("Revenue", "Cost", "Margin"))

_BY_SIM = """
select service_id as label_1, min(customer) as label_2, max(vendor) as label_3, currency,
  sum(revenue_minor)::bigint as amount_1, sum(cost_minor)::bigint as amount_2,
  sum(revenue_minor - cost_minor)::bigint as amount_3
from earned_part where accounting_period = :period and service_id <> ''
group by service_id, currency having sum(revenue_minor) < sum(cost_minor)
order by amount_3, service_id, currency limit 20
"""


def _statement(
    title: str,
    columns: tuple[tuple[str, ...], tuple[str, ...]],
    found: Sequence[sa.RowMapping],
    charted: int | None = None,
) -> StatementFigures:
    labels, amounts = columns
    return StatementFigures(
        title,
        labels,
        amounts,
        tuple(
            (
                tuple(row[f"label_{place}"] for place in range(1, len(labels) + 1)),
                row["currency"],
                tuple(row[f"amount_{place}"] for place in range(1, len(amounts) + 1)),
            )
            for row in found
        ),
        charted,
    )


def _feed(row: sa.RowMapping) -> FeedFigures:
    names = ("kept", "ignored", "duplicate", "rejected", "suspended", "waiting")
    return FeedFigures(
        feed=row["feed"],
        files=row["files"],
        unread_files=row["unread_files"],
        records=Fates(int(row["arrived"]), *(int(row[name]) for name in names)),
        quantity=Fates(int(row["quantity_in"]), *(int(row[f"quantity_{name}"]) for name in names))
        if row["is_usage"]
        else None,
    )


def _vendor(row: sa.RowMapping) -> VendorFigures:
    values: dict[str, Any] = dict(row)
    if row["status"] == "accrued":
        values["invoiced_minor"] = None
    return VendorFigures(**values)


def _gates(stored: Sequence[sa.RowMapping], policy: ClosePolicy) -> list[GateFigures]:
    """The gates in the order of the close; those of the report itself come after it."""
    titles = {gate.code: gate.title for stage in CLOSE_STAGES for gate in stage.all_gates}
    order = {code: number for number, code in enumerate(titles)}
    own = {gate.code for stage in CLOSE_STAGES[-1:] for gate in stage.all_gates}
    return [
        GateFigures(
            gate=row["gate"],
            title=titles.get(row["gate"], ""),
            outcome=row["outcome"],
            severity=row["severity"],
            figure=row["figure"] or "",
            message=row["message"],
            what_to_do=row["what_to_do"] or "",
            waived_by=row["waived_by"] or "",
            owner=policy.owner_of(row["gate"]),
        )
        for row in sorted(stored, key=lambda row: (order.get(row["gate"], len(order)), row["gate"]))
        if row["gate"] not in own
    ]


def _files(folder: Path) -> list[FileFigures]:
    """The documents of the close, but for the report itself."""
    found = [
        path
        for path in folder.rglob("*")
        if path.is_file()
        and path.name not in OWN_NAMES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and (DOCS not in path.parts or path == folder / DOCS / "index.html")
    ]
    return [_file(folder, path) for path in sorted(found)]


def _file(folder: Path, path: Path) -> FileFigures:
    return FileFigures(path.relative_to(folder).as_posix(), path.stat().st_size)
