-- Weights by the plan's attribution policy; the pool's total never depends on them.
select t.usage_period, t.window_start, t.level, t.pool_id, p.pool_account_id, p.charge_id,
  t.account_id, t.service_id, t.contribution, t.used, p.overage_quantity as pool_overage,
  p.amount_minor as pool_minor,
  case p.attribution
    when 'proportional_excess' then greatest(0, t.used - t.contribution)
    when 'proportional_usage' then greatest(0, t.used)
    when 'equal' then 1
    when 'chronological' then coalesce(d.late_quantity, 0)
    else 0 end as weight
from every_pool_participant as t
join pool_priced as p on p.window_start = t.window_start and p.level = t.level
  and p.pool_id = t.pool_id
left join pool_draw as d on d.window_start = t.window_start and d.level = t.level
  and d.pool_id = t.pool_id and d.account_id = t.account_id and d.service_id = t.service_id
union all
-- owner: the share-level account carries the overage itself, on no service
select p.usage_period, p.window_start, p.level, p.pool_id, p.pool_account_id, p.charge_id,
  p.pool_account_id, '', 0, 0, p.overage_quantity, p.amount_minor, 1
from pool_priced as p
where p.attribution = 'owner'
