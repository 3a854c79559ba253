-- Each service's part of the pool; the parts add up to it.
select m.usage_period, m.window_start, m.level, m.pool_id, m.charge_id, m.account_id, m.service_id,
  m.contribution, m.used, m.weight, q.part_minor as overage_quantity,
  m.part_minor as amount_minor
from pool_service_minor as m
join pool_service_overage as q on q.window_start = m.window_start and q.level = m.level
  and q.pool_id = m.pool_id and q.account_id = m.account_id and q.service_id = m.service_id
