-- The price versions behind each charge, as one text. Most charges have one: only the others are
-- sorted.
with used as (
  select usage_period, level, account_id, service_id, charge_id, price_id from usage_free
  union all
  select usage_period, level, account_id, service_id, charge_id, price_id
  from recurring_segment
  union all
  select usage_period, level, account_id, service_id, charge_id, price_id
  from transition_due
  where price_id is not null
  union all
  select p.usage_period, p.level, p.account_id, p.service_id, p.charge_id, t.price_id
  from pool_part as p
  join pool_priced as t on t.window_start = p.window_start and t.level = p.level and t.pool_id = p.pool_id
  where t.price_id is not null
),
charged as (
  select usage_period, level, account_id, service_id, charge_id, min(price_id) as first_id,
    max(price_id) as last_id
  from used
  group by usage_period, level, account_id, service_id, charge_id
),
mixed as (
  select distinct u.usage_period, u.level, u.account_id, u.service_id, u.charge_id, u.price_id
  from used as u
  join charged as c on c.usage_period = u.usage_period and c.level = u.level
    and c.account_id = u.account_id and c.service_id = u.service_id and c.charge_id = u.charge_id
  where c.first_id <> c.last_id
)
select usage_period, level, account_id, service_id, charge_id, first_id as price_ids
from charged
where first_id = last_id
union all
select usage_period, level, account_id, service_id, charge_id,
  joined(array_agg(price_id), 0, ' ') as price_ids
from mixed
group by usage_period, level, account_id, service_id, charge_id
