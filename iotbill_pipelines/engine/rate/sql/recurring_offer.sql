-- Recurring charges that services owe, by local day, where others than their own offer may price
-- them.
select i.level, i.account_id, i.service_id, c.offer_id, c.charge_id,
  greatest(i.from_date, coalesce(r.from_date, i.from_date)) as from_date,
  least(i.to_date, coalesce(r.to_date, i.to_date)) as to_date
from service_offer_interval as i
join charge as n on n.offer_id = i.offer_id and n.kind = 'recurring'
left join recurring_interval as r on r.charge_id = i.service_id
  and r.condition_key = i.level || '|' || n.charge_id
  and r.from_date < i.to_date and r.to_date > i.from_date
join charge as c on c.charge_id = coalesce(r.price_id, n.charge_id)
