-- Per invoice: totals, and whether what passed line by line adds up to too much (VR-07).
with unexplained as (
  select line_key, sum(amount_minor) as unexplained_minor
  from reconcile_cause
  where cause = 'unexplained'
  group by line_key
), summed as (
  select l.accounting_period, l.vendor_id, l.invoice_no, l.currency,
    cast(sum(l.invoice_lines) as bigint) as invoice_lines,
    cast(sum(l.expected_minor) as bigint) as expected_minor,
    cast(sum(l.invoiced_minor) as bigint) as invoiced_minor,
    cast(sum(coalesce(u.unexplained_minor, 0)) as bigint) as unexplained_minor,
    cast(sum(case when l.status = 'tolerated' and l.charge_code <> '(invoice rounding)'
                  then 1 else 0 end) as bigint) as tolerated_lines,
    cast(sum(case when l.status = 'tolerated' then l.variance_minor else 0 end) as bigint)
      as tolerated_minor
  from reconcile_line as l
  left join unexplained as u on u.line_key = l.line_key
  group by l.accounting_period, l.vendor_id, l.invoice_no, l.currency
)
select m.accounting_period, m.vendor_id, m.invoice_no, m.currency, m.invoice_lines,
  m.expected_minor, m.invoiced_minor, m.invoiced_minor - m.expected_minor as variance_minor,
  m.unexplained_minor, m.tolerated_lines, m.tolerated_minor,
  coalesce(t.limit_minor, 0) as limit_minor,
  case when abs(m.tolerated_minor) > coalesce(t.limit_minor, 0) then 'systematic_rounding' end
    as flag
from summed as m
left join vendor_tolerance as t on t.vendor_id = m.vendor_id and t.currency = m.currency
