-- Expected cost per SIM and charge code; per account where the vendor bills the code without SIMs, or
-- for as many SIMs as there were on one day.
with account_code as (
  select vendor_id, charge_code
  from reconcile_invoice_line
  group by vendor_id, charge_code
  having sum(case when uid_value is null then 0 else 1 end) = 0
  union
  select vendor_id, charge_code
  from reconcile_expected_service
  where billable = 'peak'
), compared_alone as (
  select distinct vendor_id, unit_type, unit_value, charge_code, usage_period, currency, own_plan_no
  from reconcile_plan_line
), placed as (
  select e.vendor_id, case when a.charge_code is null then u.unit_type else '' end as unit_type,
    case when a.charge_code is null then u.unit_value else '' end as unit_value,
    case when a.charge_code is null then u.uid_type end as uid_type,
    case when a.charge_code is null then u.uid_value end as uid_value,
    case when a.charge_code is null then e.service_id end as service_id,
    case when a.charge_code is null then coalesce(c.own_plan_no, 0) else 0 end as plan_slot,
    e.first_plan_no, e.own_plan_no,
    e.charge_code, e.usage_period, e.currency, e.kind, e.unit_size,
    e.allowance_quantity, e.basis, e.billable, e.rate_e12, e.quantity, e.amount_minor, e.window_start,
    e.window_end
  from reconcile_expected_service as e
  join reconcile_unit as u on u.vendor_id = e.vendor_id and u.service_id = e.service_id
  left join account_code as a on a.vendor_id = e.vendor_id and a.charge_code = e.charge_code
  left join compared_alone as c on c.vendor_id = e.vendor_id and c.unit_type = u.unit_type
    and c.unit_value = u.unit_value and c.charge_code = e.charge_code
    and c.usage_period = e.usage_period and c.currency = e.currency
    and c.own_plan_no = e.own_plan_no
  union all
  select f.vendor_id, '', '', cast(null as string), cast(null as string),
    cast(null as string), 0, cast(null as int), cast(null as int), f.charge_code, s.period, f.currency, 'account', 1, 0, 'none', 'days',
    wide(f.amount_minor) * money.unit_e12, cast(null as bigint), f.amount_minor, m.month_start,
    m.month_end
  from vendor_account_charge as f
  join (select distinct vendor_id from reconcile_invoice_line) as i on i.vendor_id = f.vendor_id
  cross join reconcile_scope as s
  join reconcile_month as m on m.vendor_id = f.vendor_id and m.month = s.period
    and f.valid_from < m.month_end and (f.valid_to is null or f.valid_to > m.month_start)
  join reconcile_currency as money on money.currency = f.currency
)
select vendor_id, unit_type, unit_value, charge_code, usage_period, currency, plan_slot,
  least(min(first_plan_no), min(own_plan_no)) as least_plan_no,
  greatest(max(first_plan_no), max(own_plan_no)) as greatest_plan_no,
  min(uid_type) as uid_type, min(uid_value) as uid_value, min(service_id) as service_id,
  min(kind) as kind, min(unit_size) as unit_size, min(basis) as basis,
  min(billable) as billable, count(*) as charges,
  min(window_start) as window_start, max(window_end) as window_end,
  case when min(rate_e12) = max(rate_e12) and count(rate_e12) = count(*)
        and min(unit_size) = max(unit_size) then min(rate_e12) end as rate_e12,
  cast(sum(allowance_quantity) as bigint) as allowance_quantity,
  cast(sum(quantity) as bigint) as expected_quantity,
  cast(sum(amount_minor) as bigint) as expected_minor
from placed
group by vendor_id, unit_type, unit_value, charge_code, usage_period, currency, plan_slot
