-- The cycle of each charge, and at which level of accounts the bill day is looked up: usage that
-- draws from a pool of the parent has the parent's windows.
select c.charge_id, c.kind, c.cycle,
  case when c.pooled then coalesce(s.share_level, 'account') else 'account' end as cycle_level
from charge as c
left join offer as o on o.offer_id = c.offer_id
left join share_plan as s on s.share_plan_id = o.share_plan_id
