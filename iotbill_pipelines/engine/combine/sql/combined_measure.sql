-- What each measure of a combined charge is in a window: units that a usage charge counted after its
-- free ones, or services that had the offer and were active on some day.
with measure as (
  select distinct m.charge_id, m.measure_no, m.measured_charge_id, c.offer_id, c.cycle, c.scope
  from charge_measure as m
  join charge as c on c.charge_id = m.charge_id
)
select u.window_start, u.window_end, u.level, u.account_id,
  case when m.scope = 'account' then '' else u.service_id end as service_id, m.charge_id,
  m.measure_no, m.measured_charge_id as measured,
  sum(wide(u.rated_quantity - u.allowance_quantity)) as quantity
from measure as m
join usage_free as u on u.charge_id = m.measured_charge_id
group by u.window_start, u.window_end, u.level, u.account_id,
  case when m.scope = 'account' then '' else u.service_id end, m.charge_id, m.measure_no,
  m.measured_charge_id
union all
select w.window_start, w.window_end, i.level, i.account_id,
  case when m.scope = 'account' then '' else i.service_id end, m.charge_id, m.measure_no,
  'services', wide(count(distinct i.service_id))
from measure as m
join service_offer_interval as i on i.offer_id = m.offer_id
join account_cycle as y on y.account_id = i.account_id and y.cycle_level = 'account'
join usage_window as w on w.cycle = m.cycle and w.bill_day = y.bill_day
join service_state_interval as t on t.service_id = i.service_id and t.core_state = 'active'
  and greatest(t.from_date, i.from_date, w.window_start) < least(t.to_date, i.to_date, w.window_end)
where m.measured_charge_id is null
group by w.window_start, w.window_end, i.level, i.account_id,
  case when m.scope = 'account' then '' else i.service_id end, m.charge_id, m.measure_no
