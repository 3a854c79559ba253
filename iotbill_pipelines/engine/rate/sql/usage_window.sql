-- Windows that settle in the period: those whose last day it holds.
select w.cycle, w.bill_day, p.usage_period, w.window_start, w.window_end, w.last_date, w.days
from cycle_window as w
join settled_period as p on w.last_date >= p.start_date and w.last_date < p.end_date
