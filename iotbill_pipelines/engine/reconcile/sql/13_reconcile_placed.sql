-- Every billed line with its SIM, the usage period it is for, and the first cause by which it is
-- refused as a whole (RULEBOOK §10, in that order); null = its amount is to be compared.
with counted as (
  select distinct vendor_id, charge_code
  from reconcile_expected
  where billable = 'peak'
), named as (
  select l.*, o.service_id, coalesce(o.at_dates, false) as at_dates,
    k.charge_code is not null as by_peak,
    case when l.uid_value is null or k.charge_code is not null then ''
         when u.unit_type is null then l.uid_type
         else u.unit_type end as unit_type,
    case when l.uid_value is null or k.charge_code is not null then ''
         when u.unit_value is null then l.uid_match
         else u.unit_value end as unit_value
  from reconcile_invoice_line as l
  left join counted as k on k.vendor_id = l.vendor_id and k.charge_code = l.charge_code
  left join reconcile_owner as o on o.file_key = l.file_key and o.line_no = l.line_no
  left join reconcile_unit as u on u.vendor_id = o.vendor_id and u.service_id = o.service_id
), expected_code as (
  select vendor_id, charge_code, usage_period, min(window_start) as window_start,
    max(window_end) as window_end
  from reconcile_expected
  group by vendor_id, charge_code, usage_period
), billed_code as (
  select distinct vendor_id, charge_code from named
), allowed as (
  -- an invoice carries usage in arrears and some charges in advance: what our terms expect on it
  -- says which months a code may be for
  select vendor_id, charge_code, usage_period, window_start, window_end from expected_code
  union all
  select b.vendor_id, b.charge_code, s.period, m.month_start, m.month_end
  from billed_code as b
  cross join reconcile_scope as s
  join reconcile_month as m on m.vendor_id = b.vendor_id and m.month = s.period
  left join expected_code as e
    on e.vendor_id = b.vendor_id and e.charge_code = b.charge_code
  where e.vendor_id is null
), period_choice as (
  -- the line's own period if it is allowed, else the first one that its dates touch; of a carrier
  -- whose months begin on another day, what we expect of this SIM at these dates comes before both
  select n.file_key, n.line_no, substr(min(
    case when e.vendor_id is not null and m.is_offset then '0' when a.usage_period = n.dated_period then '1'
         else '2' end || a.usage_period), 2)
    as usage_period
  from named as n
  join allowed as a on a.vendor_id = n.vendor_id and a.charge_code = n.charge_code
    and n.window_start < a.window_end and n.window_end > a.window_start
  join reconcile_month as m on m.vendor_id = a.vendor_id and m.month = a.usage_period
  left join reconcile_expected as e on e.vendor_id = n.vendor_id and e.unit_type = n.unit_type
    and e.unit_value = n.unit_value and e.charge_code = n.charge_code
    and e.currency = n.currency and e.usage_period = a.usage_period
    and n.window_start < e.window_end and n.window_end > e.window_start
  group by n.file_key, n.line_no
), active as (
  select distinct n.file_key, n.line_no
  from named as n
  join reconcile_state_day as d on d.service_id = n.service_id
    and d.first_day < n.window_end and (d.next_day is null or d.next_day > n.window_start)
  where d.core_state = 'active'
), stateful as (
  select distinct service_id from service_state
), contracted as (
  select payer_account_id as vendor_id, service_id from service_offer where level = 'vendor'
  union
  select vendor_id, service_id from reconcile_expected_service
), decided as (
  select n.*, coalesce(p.usage_period, n.dated_period) as usage_period,
    coalesce(alone.own_plan_no, 0) as plan_slot,
    case when n.is_copy then 'duplicate'
         when p.usage_period is null then 'wrong_period'
         when n.uid_value is not null and (n.service_id is null or c.service_id is null)
           then 'unknown_sim'
         when n.uid_value is not null and (e.vendor_id is null or n.by_peak)
           and (not n.at_dates or (st.service_id is not null and a.file_key is null))
           then 'billed_inactive'
         when t.charge_code is not null then 'tax'
    end as refused
  from named as n
  left join period_choice as p
    on p.file_key = n.file_key and p.line_no = n.line_no
  left join contracted as c on c.vendor_id = n.vendor_id and c.service_id = n.service_id
  left join reconcile_plan_line as alone on alone.file_key = n.file_key
    and alone.line_no = n.line_no and alone.unit_type = n.unit_type
    and alone.usage_period = coalesce(p.usage_period, n.dated_period)
  left join reconcile_expected as e on e.vendor_id = n.vendor_id and e.unit_type = n.unit_type
    and e.unit_value = n.unit_value and e.charge_code = n.charge_code
    and e.currency = n.currency and e.usage_period = coalesce(p.usage_period, n.dated_period)
    and e.plan_slot = coalesce(alone.own_plan_no, 0)
  left join stateful as st on st.service_id = n.service_id
  left join active as a on a.file_key = n.file_key and a.line_no = n.line_no
  left join vendor_tax_code as t
    on t.vendor_id = n.vendor_id and t.charge_code = n.charge_code
)
select * from decided
