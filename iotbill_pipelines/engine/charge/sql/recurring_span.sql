-- Days of a recurring charge: offer, state and price each by local day, laid over one another in each
-- window of the charge's cycle (RULEBOOK §1). A contract's price stands in for the catalog's.
select w.cycle, w.bill_day, w.window_start, w.window_end, w.days, w.months, i.level, i.account_id,
  i.service_id, i.offer_id, c.charge_id, c.basis, c.billing,
  coalesce(k.price_id, n.price_id) as price_id, t.state, t.core_state,
  greatest(i.from_date, t.from_date, n.from_date, w.window_start,
    coalesce(k.from_date, w.window_start)) as from_date,
  least(i.to_date, t.to_date, n.to_date, w.window_end,
    coalesce(k.to_date, w.window_end)) as to_date
from recurring_offer as i
join charge as c on c.charge_id = i.charge_id
join account_cycle as y on y.account_id = i.account_id and y.cycle_level = 'account'
join cycle_window as w on w.cycle = c.cycle and w.bill_day = y.bill_day
  and i.from_date < w.window_end and i.to_date > w.window_start
  and (c.billing = 'advance' or w.in_period)
join service_state_interval as t on t.service_id = i.service_id
  and t.core_state <> 'cancelled' and t.from_date < w.window_end and t.to_date > w.window_start
join price_interval as n on n.charge_id = c.charge_id and n.condition_key = t.state
  and n.from_date < w.window_end and n.to_date > w.window_start
left join contract_price as k on k.service_id = i.service_id and k.account_id = i.account_id
  and k.replaced_price_id = n.price_id and k.from_date < w.window_end
  and k.to_date > w.window_start
where greatest(i.from_date, t.from_date, n.from_date, w.window_start,
    coalesce(k.from_date, w.window_start))
  < least(i.to_date, t.to_date, n.to_date, w.window_end, coalesce(k.to_date, w.window_end))
