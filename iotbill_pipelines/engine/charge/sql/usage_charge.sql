-- Usage charges, also those that a pool or an allowance makes free: they say what was used.
with used as (
  select u.usage_period, u.level, u.account_id, u.service_id, u.charge_id,
    min(o.currency) as currency, sum(u.records) as records, sum(u.quantity) as quantity,
    min(u.window_start) as window_start, max(u.window_end) as window_end
  from usage_free as u
  join offer as o on o.offer_id = u.offer_id
  group by u.usage_period, u.level, u.account_id, u.service_id, u.charge_id
),
curved as (
  select charge_id, max(case when model = 'flat' and counted = 'period' and rounding_mode is null
      and connect_e12 = 0 then 0 else 1 end) as curves
  from price
  group by charge_id
)
select u.usage_period, u.usage_period as billing_period, u.level, u.account_id, u.service_id,
  u.charge_id, 'usage' as kind,
  v.curves = 0 and c.allowance_quantity = 0 and c.once_quantity = 0 and c.minimum_minor is null
    and c.maximum_minor is null and c.increment_point <> 'service_period' and c.aggregation = 'sum'
    and c.scope = 'service' and c.allowance_events = 0 and c.allowance_minor = 0 as linear,
  u.records, u.quantity, u.currency, coalesce(t.amount_minor, 0) as amount_minor, u.window_start,
  u.window_end
from used as u
join charge as c on c.charge_id = u.charge_id
join curved as v on v.charge_id = u.charge_id
left join (
  select level, account_id, service_id, charge_id, sum(amount_minor) as amount_minor
  from usage_total
  group by level, account_id, service_id, charge_id
) as t on t.level = u.level and t.account_id = u.account_id
  and t.service_id = u.service_id and t.charge_id = u.charge_id
