-- What the ledger should hold for the period, one row a service and charge.
with every_charge as (
  select usage_period, billing_period, level, account_id, service_id, charge_id, kind, linear,
    records, quantity, currency, amount_minor
  from usage_charge
  union all
  select usage_period, min(billing_period), level, account_id, service_id, charge_id, 'recurring',
    true, 0, sum(days), min(currency), sum(amount_minor)
  from recurring_total
  group by usage_period, level, account_id, service_id, charge_id
  union all
  select usage_period, usage_period, level, account_id, service_id, charge_id, 'transition', true,
    0, occurrences, currency, amount_minor
  from transition_total
  union all
  select p.usage_period, p.usage_period, p.level, p.account_id, p.service_id, p.charge_id,
    'overage', min(v.curves) = 0, 0, sum(p.overage_quantity), min(t.currency), sum(p.amount_minor)
  from pool_part as p
  join pool_priced as t on t.window_start = p.window_start and t.level = p.level and t.pool_id = p.pool_id
  join (
    select charge_id, max(case when model = 'flat' then 0 else 1 end) as curves
    from price
    group by charge_id
  ) as v on v.charge_id = p.charge_id
  where p.amount_minor <> 0 or p.overage_quantity <> 0
  group by p.usage_period, p.level, p.account_id, p.service_id, p.charge_id
)
select e.usage_period, e.billing_period, e.level, a.entity_id, e.account_id, e.service_id,
  e.charge_id, c.product_id, e.kind, e.linear, e.records, e.quantity, e.currency, e.amount_minor,
  coalesce(i.price_ids, '') as price_ids
from every_charge as e
join charge as c on c.charge_id = e.charge_id
join account as a on a.account_id = e.account_id
left join charge_price as i on i.usage_period = e.usage_period and i.level = e.level
  and i.account_id = e.account_id and i.service_id = e.service_id and i.charge_id = e.charge_id
