-- Usage per price with the part that the charge's own allowance covers, before tiers (RT-26) and
-- before pools (SP-23).
select p.usage_period, u.window_start, u.window_end, u.level, u.account_id, u.service_id, u.offer_id,
  u.charge_id, u.price_id, u.pooled, u.records, u.quantity, u.rated_quantity,
  case when u.allowance_quantity = 0 then 0
       when u.prices_used = 1
       then greatest(0, least(u.rated_quantity, u.allowance_quantity))
       else coalesce(d.free_quantity, 0) end as allowance_quantity,
  u.first_event
from usage_rounded as u
cross join settled_period as p
left join allowance_draw as d on d.window_start = u.window_start and d.level = u.level and d.account_id = u.account_id
  and d.service_id = u.service_id and d.charge_id = u.charge_id and d.price_id = u.price_id
  and d.pooled = u.pooled
