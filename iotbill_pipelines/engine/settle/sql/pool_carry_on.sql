-- What the pools carry on after the windows of a round, and what those hold that had none.
select window_start, window_end, level, pool_id, bucket_id, pool_account_id, granted_on, quantity,
  drawn, carried_on, windows_left
from pool_lot_of_round
where carried_on > 0 and windows_left > 0
union all
select k.window_start, k.window_end, k.level, k.pool_id, k.bucket_id, k.pool_account_id,
  k.granted_on, k.quantity, k.drawn, k.carried_on, k.windows_left
from pool_carry as k
where not exists (
  select 1 from pool_used as t where t.level = k.level and t.pool_id = k.pool_id)
