-- Our expected cost: what the vendor's terms give for our own usage and inventory, for the
-- charges that belong on the invoice of the period.
with one_price as (
  select p.price_id, wide(max(t.rate_e12)) as rate_e12
  from price as p
  join price_tier as t on t.price_id = p.price_id
  where p.model = 'flat'
  group by p.price_id
  having count(*) = 1
)
select d.account_id as vendor_id, d.service_id, c.charge_code, d.usage_period, d.currency, d.kind,
  c.unit_size, c.allowance_quantity, c.basis, d.quantity, d.amount_minor, d.price_ids,
  case when c.pooled then wide(0) else coalesce(one.rate_e12, c.rate_e12) end as rate_e12
from desired_charge as d
join reconcile_scope as s on s.period = d.billing_period
join reconcile_own_price as c on c.charge_id = d.charge_id
left join one_price as one on one.price_id = d.price_ids
where d.level = 'vendor'
