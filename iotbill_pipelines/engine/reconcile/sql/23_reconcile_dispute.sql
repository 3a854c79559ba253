-- What we claim: every cause for which lines were refused, the compared rest where it exceeds the
-- tolerance, and what passed line by line but adds up to too much.
with refused as (
  select l.line_key, l.accounting_period, r.usage_period, r.vendor_id, r.invoice_no,
    r.first_line_no, coalesce(l.uid_value, r.uid_value) as uid_value, r.charge_code, r.currency,
    r.amount_minor as billed_minor, 0 as expected_minor, r.cause, c.evidence
  from reconcile_refused as r
  join reconcile_cause as c on c.vendor_id = r.vendor_id and c.unit_type = r.unit_type
    and c.unit_value = r.unit_value and c.charge_code = r.charge_code
    and c.usage_period = r.usage_period and c.currency = r.currency and c.cause = r.cause
  join reconcile_line as l on l.line_key = c.line_key
  where l.status = 'disputed' and r.amount_minor > 0
), ranked as (
  select c.line_key, c.cause, c.evidence, row_number() over (
      partition by c.line_key
      order by c.amount_minor desc nulls last, k.cause_no asc nulls last) as place
  from reconcile_cause as c
  join reconcile_cause_order as k on k.cause = c.cause
  where k.is_refusal = 0
), compared as (
  select l.line_key, l.accounting_period, l.usage_period, l.vendor_id, p.invoice_no,
    p.first_line_no, l.uid_value, l.charge_code, l.currency, p.billed_minor, p.expected_minor,
    one.cause,
    one.evidence || coalesce('; ' || two.cause || ': ' || two.evidence, '')
      || coalesce('; ' || three.cause || ': ' || three.evidence, '') as evidence
  from reconcile_line as l
  join reconcile_compared as p on p.vendor_id = l.vendor_id and p.charge_code = l.charge_code
    and p.usage_period = l.usage_period and p.currency = l.currency
    and l.line_key = md5(p.vendor_id || '|' || p.unit_type || '|' || p.unit_value || '|'
      || p.charge_code || '|' || p.usage_period || '|' || p.currency || p.plan_key)
  join ranked as one on one.line_key = l.line_key and one.place = 1
  left join ranked as two on two.line_key = l.line_key and two.place = 2
  left join ranked as three on three.line_key = l.line_key and three.place = 3
  where l.status = 'disputed' and p.compared_minor > 0
), stacked as (
  select md5(t.vendor_id || '|' || t.invoice_no || '|' || t.currency) as line_key,
    t.accounting_period, t.accounting_period as usage_period, t.vendor_id, t.invoice_no,
    cast(null as bigint) as first_line_no, cast(null as string) as uid_value,
    '(whole invoice)' as charge_code, t.currency, t.tolerated_minor as billed_minor,
    0 as expected_minor, 'systematic_rounding' as cause,
    'differences within the tolerance of a line add up to more than the invoice''s limit'
      as evidence
  from reconcile_total as t
  where t.flag is not null and t.tolerated_minor > 0 and t.invoice_no is not null
), claims as (
  select * from refused union all select * from compared union all select * from stacked
)
select md5(accounting_period || '|' || line_key || '|' || cause) as dispute_key, line_key,
  accounting_period, usage_period, vendor_id, invoice_no, first_line_no, uid_value, charge_code,
  currency, billed_minor, expected_minor, billed_minor - expected_minor as difference_minor, cause,
  evidence
from claims
