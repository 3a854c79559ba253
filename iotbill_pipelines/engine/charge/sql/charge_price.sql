-- The price versions behind each charge, as one text.
with used as (
  select distinct usage_period, level, account_id, service_id, charge_id, price_id from usage_free
  union
  select distinct usage_period, level, account_id, service_id, charge_id, price_id
  from recurring_segment
  union
  select distinct usage_period, level, account_id, service_id, charge_id, price_id
  from transition_due
  where price_id is not null
  union
  select distinct p.usage_period, p.level, p.account_id, p.service_id, p.charge_id, t.price_id
  from pool_part as p
  join pool_priced as t on t.window_start = p.window_start and t.level = p.level and t.pool_id = p.pool_id
  where t.price_id is not null
)
select usage_period, level, account_id, service_id, charge_id,
  joined(array_agg(price_id), 0, ' ') as price_ids
from used
group by usage_period, level, account_id, service_id, charge_id
