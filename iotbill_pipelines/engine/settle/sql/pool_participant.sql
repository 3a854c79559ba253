-- Contribution and eligible usage (after the service's own allowance) of each service of a pool.
with entry as (
  select window_start, level, bucket_id || '/' || pool_account_id as pool_id, account_id,
    service_id, contribution, wide(0) as used
  from pool_member
  union all
  select r.window_start, r.level, r.pool_id, u.account_id, u.service_id, 0, u.units
  from shared_usage as u
  join share_reach as r on r.window_start = u.window_start and r.level = u.level
    and r.account_id = u.account_id and r.offer_id = u.offer_id
    and r.usage_class = u.usage_class and r.place = 1 and not r.by_unit
  union all
  select window_start, level, pool_id, account_id, service_id, 0, wide(units)
  from pool_entry
)
select a.usage_period, e.window_start, e.level, e.pool_id, a.pool_account_id, e.account_id,
  e.service_id, cast(sum(e.contribution) as bigint) as contribution,
  cast(sum(e.used) as bigint) as used
from entry as e
join pool_allotment as a on a.window_start = e.window_start and a.level = e.level
  and a.pool_id = e.pool_id
group by a.usage_period, e.window_start, e.level, e.pool_id, a.pool_account_id, e.account_id,
  e.service_id
