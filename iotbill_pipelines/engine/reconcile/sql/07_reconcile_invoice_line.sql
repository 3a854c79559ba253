-- Invoice lines of the period in exact integers; money is rounded here, once per line.
-- A copy is the second line with the same SIM, dates, charge code, quantity and amount, on this
-- invoice or an earlier one (VR-04). A credit takes back one copy; both then count as duplicate.
-- A vendor that bills event by event, as TAP does, is compared per SIM, charge code and month: its
-- events are added up before anything is rounded, and alike ones are no copies.
with counted_event as (
  select l.*,
    row_number() over (
      partition by l.vendor_id, l.invoice_no, l.billing_period, l.uid_type, l.uid_value,
        l.charge_code, l.plan_id, l.plan_version, l.currency, l.foreign_currency, t.month
      order by l.file_key asc nulls last, l.line_no asc nulls last) as place,
    cast(case when count(l.quantity) over same = count(*) over same
              then sum(l.quantity) over same end as bigint) as all_quantity,
    min(l.service_start) over same as first_day,
    max(coalesce(l.service_end, days_later(l.service_start, 1))) over same as end_day,
    sum(l.amount) over same as all_amount, sum(l.tax_amount) over same as all_tax,
    sum(l.foreign_amount) over same as all_foreign, min(l.fx_rate) over same as least_fx,
    max(l.fx_rate) over same as greatest_fx
  from vendor_invoice_line as l
  join vendor_tolerance as v on v.vendor_id = l.vendor_id and v.lines = 'events'
  left join reconcile_day as t on t.vendor_id = l.vendor_id and t.day = l.service_start
  window same as (
    partition by l.vendor_id, l.invoice_no, l.billing_period, l.uid_type, l.uid_value,
      l.charge_code, l.plan_id, l.plan_version, l.currency, l.foreign_currency, t.month)
), billed as (
  select l.file_key, l.line_no, l.vendor_id, l.invoice_no, l.billing_period, l.uid_type, l.uid_value,
    l.charge_code, l.plan_id, l.plan_version, l.currency, l.quantity, l.unit_price, l.service_start,
    l.service_end, l.amount, l.tax_amount, l.foreign_currency, l.foreign_amount, l.fx_rate
  from vendor_invoice_line as l
  left join vendor_tolerance as v on v.vendor_id = l.vendor_id
  where coalesce(v.lines, 'charges') = 'charges'
  union all
  select file_key, line_no, vendor_id, invoice_no, billing_period, uid_type, uid_value, charge_code,
    plan_id, plan_version, currency, all_quantity, null, first_day, end_day, all_amount, all_tax,
    foreign_currency, all_foreign, case when least_fx = greatest_fx then least_fx end
  from counted_event
  where place = 1
), exact as (
  select l.file_key, l.line_no, l.vendor_id, l.invoice_no, l.billing_period, l.uid_type, l.uid_value,
    -- a 20th digit of an ICCID is its check digit, which carriers print or leave out
    case when l.uid_type = 'iccid' then substr(l.uid_value, 1, 19) else l.uid_value end
      as uid_match,
    l.charge_code, p.plan_no, l.currency, l.quantity, l.unit_price, l.service_start, l.service_end,
    coalesce(t.month, substr(cast(l.service_start as string), 1, 7), l.billing_period)
      as dated_period,
    wide(cast(cast(l.amount as decimal(25,12)) * cast(1000000000000 as decimal(13,0))
      as decimal(38,0))) as amount_e12,
    wide(cast(cast(l.unit_price as decimal(25,12)) * cast(1000000000000 as decimal(13,0))
      as decimal(38,0))) as price_e12,
    wide(cast(cast(l.tax_amount as decimal(25,12)) * cast(1000000000000 as decimal(13,0))
      as decimal(38,0))) as tax_e12,
    wide(cast(cast(l.foreign_amount as decimal(25,12)) * cast(1000000000000 as decimal(13,0))
      as decimal(38,0))) as foreign_e12,
    wide(cast(cast(l.fx_rate as decimal(25,12)) * cast(1000000000000 as decimal(13,0))
      as decimal(38,0))) as fx_e12,
    l.foreign_currency
  from billed as l
  join reconcile_scope as s
    on l.billing_period >= s.history_start and l.billing_period <= s.period
  left join reconcile_day as t on t.vendor_id = l.vendor_id and t.day = l.service_start
  left join reconcile_plan as p on p.plan_id = l.plan_id
    and p.plan_version is not distinct from l.plan_version
), alike as (
  -- the few lines that another one may be a copy of, before they are put in order
  select vendor_id, uid_type, uid_match, charge_code, currency, dated_period, service_start,
    service_end, quantity, abs(amount_e12) as size_e12
  from exact
  group by vendor_id, uid_type, uid_match, charge_code, currency, dated_period, service_start,
    service_end, quantity, abs(amount_e12)
  having count(*) > 1
), counted as (
  select e.file_key, e.line_no,
    row_number() over (
      partition by e.vendor_id, e.uid_type, e.uid_match, e.charge_code, e.currency, e.dated_period,
        e.service_start, e.service_end, e.quantity, e.amount_e12
      order by e.billing_period asc nulls last, e.invoice_no asc nulls last,
        e.file_key asc nulls last, e.line_no asc nulls last) as copy_no,
    sum(case when e.amount_e12 > 0 then 1 else 0 end) over (
      partition by e.vendor_id, e.uid_type, e.uid_match, e.charge_code, e.currency, e.dated_period,
        e.service_start, e.service_end, e.quantity, abs(e.amount_e12)) as charged
  from exact as e
  join alike as a on a.vendor_id = e.vendor_id and a.charge_code = e.charge_code
    and a.currency = e.currency and a.dated_period = e.dated_period
    and a.size_e12 = abs(e.amount_e12) and a.uid_match is not distinct from e.uid_match
    and a.uid_type is not distinct from e.uid_type
    and a.service_start is not distinct from e.service_start
    and a.service_end is not distinct from e.service_end
    and a.quantity is not distinct from e.quantity
)
select c.file_key, c.line_no, c.vendor_id, c.invoice_no, c.uid_type, c.uid_value, c.uid_match,
  c.charge_code, c.plan_no, c.currency, c.quantity, c.unit_price, c.service_start, c.service_end,
  c.dated_period, c.amount_e12, c.price_e12, c.tax_e12,
  case when c.foreign_e12 is not null and c.fx_e12 is not null and own.rate_e12 is not null
       then c.foreign_e12 * (c.fx_e12 - wide(own.rate_e12)) end as fx_e24,
  cast(half_up_div(c.amount_e12, money.unit_e12) as bigint) as amount_minor,
  coalesce(c.service_start, m.month_start) as window_start,
  case when c.service_start is null then m.month_end
       when c.service_end > c.service_start then c.service_end
       else c.service_start + 1 end as window_end,
  case when c.amount_e12 > 0 and n.copy_no > 1 then true
       when c.amount_e12 < 0 and n.copy_no <= n.charged - 1 then true
       else false end as is_copy
from exact as c
left join counted as n on n.file_key = c.file_key and n.line_no = c.line_no
join reconcile_scope as s on c.billing_period = s.period
join reconcile_month as m on m.vendor_id = c.vendor_id and m.month = s.period
join reconcile_currency as money on money.currency = c.currency
left join vendor_fx_rate as own on own.vendor_id = c.vendor_id and own.currency = c.currency
  and own.foreign_currency = c.foreign_currency
