-- What the newest window of each pool carries on.
with newest as (
  select *, max(window_start) over (partition by level, pool_id) as newest_start
  from pool_lot_before
)
select k.window_start, k.window_end, k.level, k.pool_id, k.bucket_id, k.pool_account_id,
  k.granted_on, k.quantity, k.drawn, k.carried_on, k.windows_left
from newest as k
join share_bucket as b on b.bucket_id = k.bucket_id and b.rollover_periods > 0
where k.window_start = k.newest_start and k.carried_on > 0 and k.windows_left > 0
