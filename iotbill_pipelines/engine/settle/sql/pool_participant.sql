-- Contribution and eligible usage (after the service's own allowance) of each service of a pool.
with entry as (
  select usage_period, window_start, window_end, level, share_plan_id, pool_account_id, account_id,
    service_id, currency, contribution, wide(0) as used
  from pool_member
  union all
  select u.usage_period, u.window_start, u.window_end, u.level, o.share_plan_id,
    case when s.share_level = 'parent' then coalesce(a.parent_account_id, a.account_id)
         else a.account_id end,
    u.account_id, u.service_id, o.currency, 0, wide(u.rated_quantity - u.allowance_quantity)
  from usage_aggregate as u
  join offer as o on o.offer_id = u.offer_id
  join share_plan as s on s.share_plan_id = o.share_plan_id
  join account as a on a.account_id = u.account_id
  where u.pooled
)
select usage_period, window_start, window_end, level,
  share_plan_id || '/' || pool_account_id as pool_id, share_plan_id,
  pool_account_id, account_id, service_id, min(currency) as currency,
  cast(sum(contribution) as bigint) as contribution, cast(sum(used) as bigint) as used
from entry
group by usage_period, window_start, window_end, level, share_plan_id, pool_account_id, account_id,
  service_id
