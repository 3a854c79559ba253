-- Invoices rounded once: what the carrier's total is, against the sum of its rounded lines.
select l.vendor_id, l.invoice_no, l.currency, count(*) as invoice_lines,
  cast(sum(l.amount_minor) as bigint) as lines_minor,
  cast(half_up_div(sum(l.amount_e12), max(money.unit_e12)) as bigint) as invoiced_minor
from reconcile_invoice_line as l
join reconcile_currency as money on money.currency = l.currency
group by l.vendor_id, l.invoice_no, l.currency
