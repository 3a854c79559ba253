-- Free units that a service may use in a window beside those of its charge, and those of the charge
-- where they may be carried on: granted by the window, by windows before it, or once.
with sharing as (
  select w.usage_period, w.window_start, w.window_end, i.level, i.account_id, i.service_id,
    c.charge_id, c.allowance_quantity, c.allowance_windows, c.once_quantity, c.once_days,
    greatest(i.from_date, t.from_date) as from_date,
    greatest(i.from_date, t.from_date) < w.window_end
      and least(i.to_date, t.to_date) > w.window_start as is_there
  from charge as c
  join service_offer_interval as i on i.offer_id = c.offer_id
  join charge_cycle as k on k.charge_id = c.charge_id
  join account_cycle as y on y.account_id = i.account_id and y.cycle_level = k.cycle_level
  join usage_window as w on w.cycle = k.cycle and w.bill_day = y.bill_day
    and i.from_date < w.window_end
  join service_state_interval as t on t.service_id = i.service_id
    and t.core_state in ('active', 'suspended')
    and greatest(t.from_date, i.from_date) < least(t.to_date, i.to_date)
  where c.allowance_windows > 0 or c.once_quantity > 0
),
member as (
  select usage_period, window_start, window_end, level, account_id, service_id, charge_id,
    min(allowance_quantity) as allowance_quantity, min(allowance_windows) as allowance_windows,
    min(once_quantity) as once_quantity, min(once_days) as once_days, min(from_date) as first_date
  from sharing
  group by usage_period, window_start, window_end, level, account_id, service_id, charge_id
  having sum(case when is_there then 1 else 0 end) > 0
)
select usage_period, window_start, window_end, level, account_id, service_id, charge_id,
  'recurring' as kind, window_start as granted_on, cast(null as date) as expires_on,
  allowance_quantity as quantity, allowance_windows as windows_left
from member
where allowance_windows > 0
union all
select usage_period, window_start, window_end, level, account_id, service_id, charge_id, 'once',
  first_date, days_later(first_date, once_days), once_quantity, 0
from member
where once_quantity > 0 and first_date >= window_start and first_date < window_end
union all
select w.usage_period, w.window_start, w.window_end, k.level, k.account_id, k.service_id,
  k.charge_id, k.kind, k.granted_on, k.expires_on, k.carried_on,
  case when k.kind = 'once' then 0 else k.windows_left - 1 end
from allowance_carry as k
join charge_cycle as g on g.charge_id = k.charge_id
join account_cycle as y on y.account_id = k.account_id and y.cycle_level = g.cycle_level
join usage_window as w on w.cycle = g.cycle and w.bill_day = y.bill_day
where k.kind = 'recurring' or k.expires_on > w.window_start
