-- What each pool holds and what was used of it.
with summed as (
  select window_start, level, pool_id, sum(used) as used
  from pool_participant
  group by window_start, level, pool_id
)
select a.*, cast(coalesce(m.used, 0) as bigint) as used
from pool_allotment as a
left join summed as m on m.window_start = a.window_start and m.level = a.level
  and m.pool_id = a.pool_id
