"""Which of a vendor's documents count: the newest file of an invoice, and what corrections leave.

Carriers export an invoice again under its number, or send a correction that replaces it. Only one
version may be compared with our cost; credit notes and invoices of other numbers all count.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

import pyarrow as pa

from iotbill_pipelines.engine.compute import Compute
from iotbill_pipelines.engine.schemas import VENDOR_INVOICE_LINE

CORRECTION, CREDIT_NOTE = "correction", "credit_note"


def current_documents(
    compute: Compute,
    landed: str,
    files: Iterable[tuple[int, datetime]],
    in_parts: Sequence[str] = (),
) -> None:
    """Define ``vendor_invoice_line``: the lines of relation ``landed`` that count.

    ``files`` says when each file was landed. Of the files with one vendor's invoice number the one
    landed last counts (ties: the greatest key), unless the vendor is one of ``in_parts``, whose
    invoices come in several files. A document of kind ``correction`` takes the place of the invoice
    it refers to. Also defines ``superseded_document``: ``vendor_id``, ``invoice_no``, ``file_key``,
    ``replaced_by`` (file key), ``billing_period``, ``lines``, ``amount`` and ``currency`` of what
    does not count.
    """
    rows = sorted(files)
    compute.load(
        "invoice_file",
        pa.table(
            {
                "file_key": pa.array([key for key, _ in rows], pa.int64()),
                "landed_at": pa.array([at for _, at in rows], pa.timestamp("us")),
            }
        ),
    )
    compute.load(
        "invoice_in_parts", pa.table({"vendor_id": pa.array(sorted(set(in_parts)), pa.string())})
    )
    compute.define(
        "document_version",
        f"""
with file as (
  select l.vendor_id, l.invoice_no, l.file_key, f.landed_at
  from (select distinct vendor_id, invoice_no, file_key from {landed}) as l
  left join invoice_file as f on f.file_key = l.file_key
), ranked as (
  select f.*, p.vendor_id is null as is_whole,
    first_value(f.file_key) over (
      partition by f.vendor_id, f.invoice_no
      order by f.landed_at desc nulls last, f.file_key desc nulls last) as newest
  from file as f
  left join invoice_in_parts as p on p.vendor_id = f.vendor_id
)
select vendor_id, invoice_no, file_key,
  case when is_whole and newest <> file_key then newest end as replaced_by
from ranked""",
        keep=True,
    )
    compute.define(
        "document_correction",
        f"""
select l.vendor_id, l.refers_to as invoice_no, max(l.file_key) as file_key
from {landed} as l
join document_version as v on v.vendor_id = l.vendor_id and v.invoice_no = l.invoice_no
  and v.file_key = l.file_key
where l.document_kind = '{CORRECTION}' and l.refers_to is not null
  and l.refers_to <> l.invoice_no and v.replaced_by is null
group by l.vendor_id, l.refers_to""",
        keep=True,
    )
    compute.define(
        "document_fate",
        """
select v.vendor_id, v.invoice_no, v.file_key, coalesce(v.replaced_by, c.file_key) as replaced_by
from document_version as v
left join document_correction as c
  on c.vendor_id = v.vendor_id and c.invoice_no = v.invoice_no""",
        keep=True,
    )
    same = "d.vendor_id = l.vendor_id and d.invoice_no = l.invoice_no and d.file_key = l.file_key"
    columns = ", ".join(f"l.{name}" for name in VENDOR_INVOICE_LINE.column_names)
    compute.define(
        VENDOR_INVOICE_LINE.name,
        f"select {columns} from {landed} as l join document_fate as d on {same}"
        " where d.replaced_by is null",
    )
    compute.define(
        "superseded_document",
        f"""
select l.vendor_id, l.invoice_no, l.file_key, d.replaced_by, l.billing_period, l.currency,
  cast(count(*) as bigint) as lines, sum(cast(l.amount as decimal(38, 12))) as amount
from {landed} as l join document_fate as d on {same}
where d.replaced_by is not null
group by l.vendor_id, l.invoice_no, l.file_key, d.replaced_by, l.billing_period, l.currency""",
    )
