-- The windows of each plan that settle in the period, by the bill day of the pool's account, in
-- order.
with placed as (
select distinct s.share_plan_id, q.pool_account_id, w.usage_period, w.window_start, w.window_end,
  w.days
from share_plan as s
join share_place as q on q.share_plan_id = s.share_plan_id
join account as a on a.account_id = q.pool_account_id
join usage_window as w on w.cycle = s.cycle and w.bill_day = coalesce(a.bill_day, 1)
)
select *,
  row_number() over (
    partition by share_plan_id, pool_account_id order by window_start asc nulls last) as place
from placed
