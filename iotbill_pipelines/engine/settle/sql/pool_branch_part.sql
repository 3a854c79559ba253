-- What each account carries: money and overage.
select m.window_start, m.level, m.pool_id, m.account_id, m.above_id, m.part_minor as carried_minor,
  q.part_minor as carried_overage
from branch_minor as m
join branch_overage as q on q.window_start = m.window_start and q.level = m.level
  and q.pool_id = m.pool_id and q.above_id = m.above_id and q.account_id = m.account_id
