-- Billed lines that name one of several plans which we expect of their SIM, as in a month in which it
-- changed plans: they are compared with what that plan and version gives, and with nothing else.
with placed as (
  select e.vendor_id, u.unit_type, u.unit_value, e.charge_code, e.usage_period, e.currency,
    e.service_id, e.own_plan_no
  from reconcile_expected_service as e
  join reconcile_unit as u on u.vendor_id = e.vendor_id and u.service_id = e.service_id
), several as (
  select vendor_id, unit_type, unit_value, charge_code, usage_period, currency
  from placed
  group by vendor_id, unit_type, unit_value, charge_code, usage_period, currency
  having min(own_plan_no) <> max(own_plan_no)
), wanted as (
  select distinct p.vendor_id, p.unit_type, p.unit_value, p.charge_code, p.usage_period, p.currency,
    p.own_plan_no, a.plan_id, a.plan_version
  from placed as p
  join several as s on s.vendor_id = p.vendor_id and s.unit_type = p.unit_type
    and s.unit_value = p.unit_value and s.charge_code = p.charge_code
    and s.usage_period = p.usage_period and s.currency = p.currency
  join reconcile_plan as a on a.plan_no = p.own_plan_no
), named as (
  select w.vendor_id, w.unit_type, w.unit_value, w.charge_code, w.usage_period, w.currency,
    w.own_plan_no, l.file_key, l.line_no,
    count(*) over (partition by l.file_key, l.line_no, w.usage_period) as plans
  from wanted as w
  join reconcile_unit as u on u.vendor_id = w.vendor_id and u.unit_type = w.unit_type
    and u.unit_value = w.unit_value
  join reconcile_owner as o on o.vendor_id = u.vendor_id and o.service_id = u.service_id
  join reconcile_invoice_line as l on l.file_key = o.file_key and l.line_no = o.line_no
    and l.charge_code = w.charge_code and l.currency = w.currency
  join reconcile_plan as b on b.plan_no = l.plan_no and b.plan_id = w.plan_id
  where b.plan_version = w.plan_version or b.plan_version is null or w.plan_version is null
)
select vendor_id, unit_type, unit_value, charge_code, usage_period, currency, own_plan_no, file_key,
  line_no
from named
where plans = 1
