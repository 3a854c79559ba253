-- One line per SIM, charge code, period and currency: what we expect, what they bill, and whether
-- the difference passes. Refused lines and the compared rest are judged apart, so that a copy
-- cannot hide behind a missing amount (VR-03).
with refused as (
  select vendor_id, unit_type, unit_value, charge_code, usage_period, currency, '' as plan_key,
    sum(invoice_lines) as invoice_lines, sum(amount_minor) as refused_minor,
    sum(abs(amount_minor)) as gross_minor, min(uid_type) as uid_type, min(uid_value) as uid_value,
    min(service_id) as service_id, min(least_billed_no) as least_billed_no,
    max(greatest_billed_no) as greatest_billed_no,
    case when min(invoice_no) = max(invoice_no) then min(invoice_no)
         else min(invoice_no) || ' + ' || max(invoice_no) end as invoice_no
  from reconcile_refused
  group by vendor_id, unit_type, unit_value, charge_code, usage_period, currency
), joined as (
  select coalesce(c.vendor_id, r.vendor_id) as vendor_id,
    coalesce(c.unit_type, r.unit_type) as unit_type,
    coalesce(c.unit_value, r.unit_value) as unit_value,
    coalesce(c.charge_code, r.charge_code) as charge_code,
    coalesce(c.usage_period, r.usage_period) as usage_period,
    coalesce(c.currency, r.currency) as currency, coalesce(c.plan_key, '') as plan_key,
    coalesce(c.least_billed_no, r.least_billed_no) as least_billed_no,
    coalesce(c.greatest_billed_no, r.greatest_billed_no) as greatest_billed_no,
    coalesce(c.least_plan_no, 0) as least_plan_no,
    coalesce(c.greatest_plan_no, 0) as greatest_plan_no,
    coalesce(c.uid_type, r.uid_type) as uid_type, coalesce(c.uid_value, r.uid_value) as uid_value,
    coalesce(c.service_id, r.service_id) as service_id, c.kind,
    coalesce(c.invoice_lines, 0) + coalesce(r.invoice_lines, 0) as invoice_lines,
    case when c.invoice_no is null then r.invoice_no when r.invoice_no is null then c.invoice_no
         when c.invoice_no = r.invoice_no then c.invoice_no
         else c.invoice_no || ' + ' || r.invoice_no end as invoice_no,
    c.own_quantity, c.their_quantity, coalesce(c.expected_minor, 0) as expected_minor,
    coalesce(c.billed_minor, 0) + coalesce(r.refused_minor, 0) as invoiced_minor,
    coalesce(c.compared_minor, 0) as compared_minor, coalesce(r.refused_minor, 0) as refused_minor,
    coalesce(r.gross_minor, 0) as gross_minor
  from reconcile_compared as c
  full outer join refused as r
    on r.vendor_id = c.vendor_id and r.unit_type = c.unit_type and r.unit_value = c.unit_value
    and r.charge_code = c.charge_code and r.usage_period = c.usage_period
    and r.currency = c.currency and r.plan_key = c.plan_key
), limited as (
  select j.*, greatest(
      wide(coalesce(t.tolerance_minor, 0)),
      floor_div(wide(coalesce(t.tolerance_ppm, 0)) * abs(j.expected_minor), 1000000)) as allowed
  from joined as j
  left join vendor_tolerance as t on t.vendor_id = j.vendor_id and t.currency = j.currency
), judged as (
  select md5(vendor_id || '|' || unit_type || '|' || unit_value || '|' || charge_code || '|'
      || usage_period || '|' || currency || plan_key) as line_key, *,
    case when refused_minor > allowed or compared_minor > allowed then 'disputed'
         when compared_minor < -allowed or gross_minor > allowed then 'underbilled'
         when compared_minor <> 0 or gross_minor <> 0 then 'tolerated'
         else 'matched' end as status
  from limited
)
select line_key, s.period as accounting_period, usage_period, vendor_id, invoice_no, uid_type,
  uid_value, service_id, charge_code, kind, p.billed_plan, p.own_plan, p.plan_match, currency,
  invoice_lines,
  own_quantity as expected_quantity, their_quantity as invoiced_quantity, expected_minor,
  invoiced_minor, invoiced_minor - expected_minor as variance_minor, compared_minor, status
from judged as j
cross join reconcile_scope as s
left join reconcile_plan_pair as p on p.least_billed_no = j.least_billed_no
  and p.greatest_billed_no = j.greatest_billed_no and p.least_plan_no = j.least_plan_no
  and p.greatest_plan_no = j.greatest_plan_no
union all
select md5(i.vendor_id || '|' || '' || '|' || '' || '|' || '(invoice rounding)' || '|' || s.period
    || '|' || i.currency || '|' || i.invoice_no),
  s.period, s.period, i.vendor_id, i.invoice_no, null, null, null, '(invoice rounding)', null,
  null, null, null,
  i.currency, 0, null, null, 0, i.invoiced_minor - i.lines_minor, i.invoiced_minor - i.lines_minor,
  i.invoiced_minor - i.lines_minor, 'tolerated'
from reconcile_invoice as i
cross join reconcile_scope as s
where i.invoiced_minor <> i.lines_minor
