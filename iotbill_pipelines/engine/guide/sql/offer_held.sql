-- Offers by local day as they count: by cycle where the plan says so, else from the day of a change.
-- Before the first window and after the last one nothing has to be settled here.
with changing as (
  select i.*, min(w.window_start) as first_date, max(w.window_end) as end_date
  from service_offer_interval as i
  join offer as o on o.offer_id = i.offer_id and o.plan_change = 'cycle'
  join share_plan as s on s.share_plan_id = o.share_plan_id
  join account_cycle as y on y.account_id = i.account_id
    and y.cycle_level = 'plan ' || s.share_plan_id
  join change_window as w on w.cycle = s.cycle and w.bill_day = y.bill_day
  group by i.service_id, i.level, i.account_id, i.offer_id, i.from_date, i.to_date
)
select i.service_id, i.level, i.account_id, i.offer_id, i.from_date, i.to_date
from service_offer_interval as i
join offer as o on o.offer_id = i.offer_id and o.plan_change <> 'cycle'
union all
select service_id, level, account_id, offer_id, from_date, least(to_date, first_date)
from changing
where from_date < first_date
union all
select service_id, level, account_id, offer_id, greatest(from_date, end_date), to_date
from changing
where to_date > end_date
union all
select service_id, level, account_id, held_offer_id, from_date, to_date
from offer_piece
