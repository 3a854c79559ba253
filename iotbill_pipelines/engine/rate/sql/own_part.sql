-- Free units that a service does not get, where they are granted by its days on the offer: what is
-- missing of the window's whole allowance, a negative number.
select w.window_start, i.level, i.account_id, i.service_id, c.charge_id,
  cast(floor_div(
    wide(c.allowance_quantity)
      * sum(days_between(greatest(i.from_date, t.from_date, w.window_start),
                         least(i.to_date, t.to_date, w.window_end))),
    min(w.days)) - c.allowance_quantity as bigint) as quantity
from charge as c
join service_offer_interval as i on i.offer_id = c.offer_id
join charge_cycle as k on k.charge_id = c.charge_id
join account_cycle as y on y.account_id = i.account_id and y.cycle_level = k.cycle_level
join usage_window as w on w.cycle = k.cycle and w.bill_day = y.bill_day
  and i.from_date < w.window_end and i.to_date > w.window_start
join service_state_interval as t on t.service_id = i.service_id
  and t.core_state in ('active', 'suspended')
  and greatest(i.from_date, t.from_date, w.window_start)
    < least(i.to_date, t.to_date, w.window_end)
where c.allowance_by_days and c.allowance_quantity > 0
group by w.window_start, i.level, i.account_id, i.service_id, c.charge_id, c.allowance_quantity
