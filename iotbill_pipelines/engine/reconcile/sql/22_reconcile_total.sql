-- Per invoice: totals, and whether what passed line by line adds up to too much (VR-07).
-- A vendor without an invoice has one row: what is to be accrued (VR-08).
with unexplained as (
  select line_key, sum(amount_minor) as unexplained_minor
  from reconcile_cause
  where cause = 'unexplained'
  group by line_key
), accrued as (
  select s.period as accounting_period, d.account_id as vendor_id, d.currency, d.amount_minor
  from desired_charge as d
  join reconcile_scope as s on s.period = d.billing_period
  where d.level = 'vendor'
  union all
  select s.period, f.vendor_id, f.currency, f.amount_minor
  from vendor_account_charge as f
  cross join reconcile_scope as s
  join reconcile_month as m on m.vendor_id = f.vendor_id and m.month = s.period
    and f.valid_from < m.month_end and (f.valid_to is null or f.valid_to > m.month_start)
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
union all
select a.accounting_period, a.vendor_id, null, a.currency, 0, cast(sum(a.amount_minor) as bigint),
  0, cast(-sum(a.amount_minor) as bigint), 0, 0, 0, 0, 'accrued'
from accrued as a
left join (select distinct vendor_id from reconcile_invoice_line) as i on i.vendor_id = a.vendor_id
where i.vendor_id is null
group by a.accounting_period, a.vendor_id, a.currency
