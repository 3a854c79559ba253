-- Lines whose amounts are to be compared, summed per SIM, charge code and period. A quantity or a
-- price that one of them does not print is unknown for all.
with terms as (
  select p.*, coalesce(days_between(e.window_start, e.window_end), m.days) as days_of_period,
    case when until.day_no > since.day_no then until.day_no - since.day_no end as line_days
  from reconcile_placed as p
  join reconcile_month as m on m.vendor_id = p.vendor_id and m.month = p.usage_period
  left join reconcile_expected as e on e.vendor_id = p.vendor_id and e.unit_type = p.unit_type
    and e.unit_value = p.unit_value and e.charge_code = p.charge_code
    and e.currency = p.currency and e.usage_period = p.usage_period
    and e.plan_slot = p.plan_slot and e.kind = 'recurring'
  left join reconcile_day as since on since.vendor_id = p.vendor_id and since.day = p.service_start
  left join reconcile_day as until on until.vendor_id = p.vendor_id and until.day = p.service_end
  where p.refused is null
)
select vendor_id, unit_type, unit_value, charge_code, usage_period, currency, plan_slot,
  count(*) as invoice_lines, cast(sum(amount_minor) as bigint) as billed_minor,
  case when count(quantity) = count(*) then cast(sum(quantity) as bigint) end as billed_quantity,
  -- a line without dates bills the whole period
  cast(case when count(line_days) = count(*) and sum(line_days) < max(days_of_period)
       then sum(line_days) else max(days_of_period) end as bigint) as billed_days,
  max(days_of_period) as days_of_period,
  case when count(price_e12) = count(*) and count(quantity) = count(*)
       then sum(wide(quantity) * price_e12) end as printed_e12,
  case when count(price_e12) = count(*) then min(price_e12) end as least_price_e12,
  case when count(price_e12) = count(*) then max(price_e12) end as greatest_price_e12,
  sum(coalesce(tax_e12, wide(0))) as tax_e12, sum(coalesce(fx_e24, wide(0))) as fx_e24,
  min(uid_type) as uid_type, min(uid_value) as uid_value, min(service_id) as service_id,
  min(line_no) as first_line_no, min(plan_no) as least_billed_no,
  max(plan_no) as greatest_billed_no,
  case when min(invoice_no) = max(invoice_no) then min(invoice_no)
       else min(invoice_no) || ' + ' || max(invoice_no) end as invoice_no
from terms
group by vendor_id, unit_type, unit_value, charge_code, usage_period, currency, plan_slot
