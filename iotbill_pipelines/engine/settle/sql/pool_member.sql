-- Services that fill a pool in a window of its cycle: on one of the plan's offers and in a core-active
-- or core-suspended state on at least one day. Whoever leaves keeps its contribution to the end of
-- the window (SP-18); a service with two offers of the plan counts with the larger one at once (an
-- upgrade counts from the start, a downgrade from the next window: SP-19).
with sharing as (
  select i.service_id, i.level, i.account_id, i.from_date, i.to_date, o.share_plan_id, o.currency,
    o.pool_contribution, s.join_policy, c.cycle, y.bill_day,
    case when s.share_level = 'parent' then coalesce(a.parent_account_id, a.account_id)
         else a.account_id end as pool_account_id
  from service_offer_interval as i
  join offer as o on o.offer_id = i.offer_id
  join share_plan as s on s.share_plan_id = o.share_plan_id
  join charge_cycle as c on c.charge_id = s.overage_charge_id
  join account as a on a.account_id = i.account_id
  join account_cycle as y on y.account_id = a.account_id and y.cycle_level = s.share_level
)
select w.usage_period, w.window_start, w.window_end, i.level, i.share_plan_id, i.pool_account_id,
  i.account_id, i.service_id, min(i.currency) as currency,
  -- full: the whole contribution whenever it joined; prorate_join: by days from the first one
  cast(case when min(i.join_policy) = 'prorate_join'
       then half_up_div(
         wide(max(i.pool_contribution))
           * days_between(greatest(w.window_start, min(greatest(i.from_date, t.from_date))),
                          w.window_end),
         w.days)
       else max(i.pool_contribution) end as bigint) as contribution
from sharing as i
join usage_window as w on w.cycle = i.cycle and w.bill_day = i.bill_day
  and i.from_date < w.window_end and i.to_date > w.window_start
join service_state_interval as t on t.service_id = i.service_id
  and t.core_state in ('active', 'suspended')
  and greatest(t.from_date, i.from_date, w.window_start)
    < least(t.to_date, i.to_date, w.window_end)
group by w.usage_period, w.window_start, w.window_end, w.days, i.level, i.share_plan_id,
  i.pool_account_id, i.account_id, i.service_id
