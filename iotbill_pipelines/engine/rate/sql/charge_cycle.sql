-- The cycle of each charge, and whose bill day counts: usage that draws from a pool, and what exceeds
-- it, has the windows of the pool.
select c.charge_id, c.kind, c.cycle,
  case when c.kind = 'overage' then 'plan ' || b.share_plan_id
       when c.pooled then 'plan ' || o.share_plan_id else 'account' end as cycle_level
from charge as c
left join offer as o on o.offer_id = c.offer_id
left join share_bucket as b on b.overage_charge_id = c.charge_id
