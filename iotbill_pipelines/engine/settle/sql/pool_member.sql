-- Services that fill a pool in the period: on one of the plan's offers and in a core-active or
-- core-suspended state on at least one day. Whoever leaves keeps its contribution to the end of
-- the period (SP-18); a service with two offers of the plan counts with the larger one at once
-- (an upgrade counts from the start, a downgrade from the next period: SP-19).
select p.usage_period, i.level, o.share_plan_id,
  case when s.share_level = 'parent' then coalesce(a.parent_account_id, a.account_id)
       else a.account_id end as pool_account_id,
  i.account_id, i.service_id, min(o.currency) as currency,
  -- full: the whole contribution whenever it joined; prorate_join: by days from the first one
  cast(case when min(s.join_policy) = 'prorate_join'
       then half_up_div(
         wide(max(o.pool_contribution))
           * days_between(greatest(p.start_date, min(greatest(i.from_date, t.from_date))),
                          p.end_date),
         p.days)
       else max(o.pool_contribution) end as bigint) as contribution
from settled_period as p
join service_offer_interval as i on i.from_date < p.end_date and i.to_date > p.start_date
join offer as o on o.offer_id = i.offer_id
join share_plan as s on s.share_plan_id = o.share_plan_id
join account as a on a.account_id = i.account_id
join service_state_interval as t on t.service_id = i.service_id
  and t.core_state in ('active', 'suspended')
  and greatest(t.from_date, i.from_date, p.start_date) < least(t.to_date, i.to_date, p.end_date)
group by p.usage_period, p.start_date, p.end_date, p.days, i.level, o.share_plan_id, s.share_level,
  a.parent_account_id, a.account_id, i.account_id, i.service_id
