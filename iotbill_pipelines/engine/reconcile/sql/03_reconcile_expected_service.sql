-- Our expected cost: what the vendor's terms give for our own usage and inventory, for the
-- charges that belong on the invoice of the period. Vendors that have sent no invoice are left out:
-- their cost is accrued as a whole (VR-08), it is not a thousand unbilled SIMs.
with invoiced as (
  select distinct l.vendor_id
  from vendor_invoice_line as l
  join reconcile_scope as s on s.period = l.billing_period
), counted as (
  -- carriers print what they charge for: usage after increments
  select usage_period, account_id, service_id, charge_id,
    cast(sum(rated_quantity) as bigint) as rated_quantity
  from usage_aggregate
  where level = 'vendor'
  group by usage_period, account_id, service_id, charge_id
), one_price as (
  select p.price_id, wide(max(t.rate_e12)) as rate_e12
  from price as p
  join price_tier as t on t.price_id = p.price_id
  where p.model = 'flat'
  group by p.price_id
  having count(*) = 1
)
select d.account_id as vendor_id, d.service_id, c.charge_code, d.usage_period, d.currency, d.kind,
  c.unit_size, c.allowance_quantity, c.basis, d.amount_minor,
  d.price_ids, case when v.quantities = 'used' then d.quantity
                    else coalesce(q.rated_quantity, d.quantity) end as quantity,
  case when c.pooled then wide(0) else coalesce(one.rate_e12, c.rate_e12) end as rate_e12
from desired_charge as d
join reconcile_scope as s on s.period = d.billing_period
join reconcile_own_price as c on c.charge_id = d.charge_id
join invoiced as i on i.vendor_id = d.account_id
left join counted as q on q.usage_period = d.usage_period and q.account_id = d.account_id
  and q.service_id = d.service_id and q.charge_id = d.charge_id
left join vendor_tolerance as v on v.vendor_id = d.account_id
left join one_price as one on one.price_id = d.price_ids
where d.level = 'vendor'
