-- Segments in parts of months, for charges whose price is first cut into equal months: each day
-- weighs 1 / days of its month, over the common multiple of 28, 29, 30 and 31.
select s.window_start, s.level, s.account_id, s.service_id, s.charge_id, s.from_date, s.price_id,
  cast(sum(days_between(greatest(s.from_date, m.month_start), least(s.to_date, m.month_end))
    * floor_div(377580, m.days)) as bigint) as month_parts
from recurring_segment as s
join cycle_month as m on m.cycle = s.cycle and m.bill_day = s.bill_day
  and m.window_start = s.window_start
  and greatest(s.from_date, m.month_start) < least(s.to_date, m.month_end)
where s.basis = 'by_month_first'
group by s.window_start, s.level, s.account_id, s.service_id, s.charge_id, s.from_date, s.price_id
