-- Offers that change by cycle, cut at the bounds of the windows: whoever held several in one of them
-- held the highest all the time (an upgrade counts from the start, a downgrade from the next window:
-- SP-19).
with piece as (
  select w.window_start, i.service_id, i.level, i.account_id, i.offer_id, o.grade,
    o.brought_quantity, greatest(i.from_date, w.window_start) as from_date,
    least(i.to_date, w.window_end) as to_date
  from service_offer_interval as i
  join offer as o on o.offer_id = i.offer_id and o.plan_change = 'cycle'
  join share_plan as s on s.share_plan_id = o.share_plan_id
  join account_cycle as y on y.account_id = i.account_id
    and y.cycle_level = 'plan ' || s.share_plan_id
  join change_window as w on w.cycle = s.cycle and w.bill_day = y.bill_day
    and w.window_start < i.to_date and w.window_end > i.from_date
)
select *,
  first_value(offer_id) over (
    partition by window_start, service_id, level, account_id
    order by grade desc nulls last, brought_quantity desc nulls last, from_date desc nulls last,
      offer_id asc nulls last
    rows between unbounded preceding and unbounded following) as held_offer_id
from piece
