-- Days of a recurring charge: offer, state and price each by local day, laid over one another
-- (RULEBOOK §1). A span begins on the eve of the period at the earliest: a charge in advance that
-- was already billable on the eve was announced by the invoice before.
select p.usage_period, p.start_date, p.end_date, p.days, p.advance_only, p.previous_period,
  i.level, i.account_id, i.service_id, i.offer_id, c.charge_id, c.basis, c.billing,
  coalesce(k.price_id, n.price_id) as price_id,
  t.state, greatest(i.from_date, t.from_date, n.from_date, p.eve,
    coalesce(k.from_date, p.eve)) as from_date,
  least(i.to_date, t.to_date, n.to_date, p.end_date, coalesce(k.to_date, p.end_date)) as to_date
from charge_period as p
join recurring_offer as i on i.from_date < p.end_date and i.to_date > p.eve
join charge as c on c.charge_id = i.charge_id
  and (c.billing = 'advance' or not p.advance_only)
join service_state_interval as t on t.service_id = i.service_id
  and t.core_state <> 'cancelled' and t.from_date < p.end_date and t.to_date > p.eve
join price_interval as n on n.charge_id = c.charge_id and n.condition_key = t.state
  and n.from_date < p.end_date and n.to_date > p.eve
left join contract_price as k on k.service_id = i.service_id and k.account_id = i.account_id
  and k.replaced_price_id = n.price_id and k.from_date < p.end_date and k.to_date > p.eve
where greatest(i.from_date, t.from_date, n.from_date, p.eve, coalesce(k.from_date, p.eve))
    < least(i.to_date, t.to_date, n.to_date, p.end_date, coalesce(k.to_date, p.end_date))
