-- Plans that exist from the day they are sold: the first day of the window on which a service that
-- opens the plan is sold to an account of the pool. What is opened stays so to the window's end.
select w.window_start, i.level, q.share_plan_id, q.pool_account_id,
  min(greatest(i.from_date, t.from_date, w.window_start)) as opens_on
from share_seller as x
join share_place as q on q.share_plan_id = x.share_plan_id
  and q.activation = 'selling_service'
join service_offer_interval as i on i.offer_id = x.offer_id and i.account_id = q.account_id
join plan_window as w on w.share_plan_id = q.share_plan_id
  and w.pool_account_id = q.pool_account_id
  and i.from_date < w.window_end and i.to_date > w.window_start
join service_state_interval as t on t.service_id = i.service_id and t.core_state <> 'cancelled'
  and greatest(t.from_date, i.from_date, w.window_start)
    < least(t.to_date, i.to_date, w.window_end)
group by w.window_start, i.level, q.share_plan_id, q.pool_account_id
