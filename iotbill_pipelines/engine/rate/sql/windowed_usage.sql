-- Rated usage of the windows that settle in the period; windows may begin in earlier months.
select r.*, w.window_start, w.window_end
from rated_usage as r
join charge_cycle as c on c.charge_id = r.charge_id
join account_cycle as a on a.account_id = r.account_id and a.cycle_level = c.cycle_level
join usage_window as w on w.cycle = c.cycle and w.bill_day = a.bill_day
  and r.local_date >= w.window_start and r.local_date < w.window_end
