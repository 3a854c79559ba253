-- What a charge code costs on a plan and version, where they have one rate: used where a billed line
-- has no expected counterpart of its own.
with meant as (
  select o.vendor_id, o.plan_no, c.charge_code, c.unit_size, c.rate_e12
  from reconcile_plan_offer as o
  cross join reconcile_scope as s
  join reconcile_month as m on m.vendor_id = o.vendor_id and m.month = s.period
    and o.valid_from < m.month_end and (o.valid_to is null or o.valid_to > m.month_start)
  join reconcile_own_price as c on c.offer_id = o.offer_id
)
select vendor_id, plan_no, charge_code, min(unit_size) as unit_size, min(rate_e12) as rate_e12
from meant
group by vendor_id, plan_no, charge_code
having min(rate_e12) = max(rate_e12) and count(rate_e12) = count(*)
  and min(unit_size) = max(unit_size)
