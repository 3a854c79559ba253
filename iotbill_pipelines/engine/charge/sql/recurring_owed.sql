-- Until when a window's charge can be owed: the service has the offer and is not cancelled, at a
-- price or not. A charge in arrears of a service that is gone does not wait for its window to end,
-- but on a carrier's invoice from another day than the 1st: that carries what falls into its month.
-- Nor does a charge that counts services.
select w.window_start, i.level, i.account_id, i.service_id, c.charge_id,
  days_later(max(case when f.bill_day is null and c.billable = 'days'
    then least(i.to_date, t.to_date, w.window_end) else w.window_end end), -1) as last_date
from recurring_offer as i
join charge as c on c.charge_id = i.charge_id and c.billing = 'arrears'
join account_cycle as y on y.account_id = i.account_id and y.cycle_level = 'account'
join cycle_window as w on w.cycle = c.cycle and w.bill_day = y.bill_day
  and i.from_date < w.window_end and i.to_date > w.window_start and w.in_period
join service_state_interval as t on t.service_id = i.service_id and t.core_state <> 'cancelled'
left join (select distinct bill_day from carrier_month) as f
  on f.bill_day = case when i.level = 'vendor' and w.months = 1 then w.bill_day end
where greatest(i.from_date, t.from_date, w.window_start)
    < least(i.to_date, t.to_date, w.window_end)
group by w.window_start, i.level, i.account_id, i.service_id, c.charge_id
