-- The lots of the period, with those of pools that have no window in it, as they were.
select usage_period, window_start, window_end, level, pool_id, bucket_id, pool_account_id,
  granted_on, quantity, drawn, carried_on, windows_left
from every_pool_lot_of_round
union all
select p.usage_period, k.window_start, k.window_end, k.level, k.pool_id, k.bucket_id,
  k.pool_account_id, k.granted_on, k.quantity, k.drawn, k.carried_on, k.windows_left
from pool_carry as k
cross join settled_period as p
where not exists (
  select 1 from pool_total as t where t.level = k.level and t.pool_id = k.pool_id)
