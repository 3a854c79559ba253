-- Charge and price decided once for every distinct kind of usage and band, for records to join by
-- equality, and the days on which the price holds.
select k.offer_id, k.usage_class, k.mcc, k.mnc, k.region, k.trait, b.band, k.currency,
  c.charge_id, i.price_id, c.pooled, c.counts, c.usage_key,
  case when c.increment_point = 'record' then c.increment_initial else 1 end as record_initial,
  case when c.increment_point = 'record' then c.increment_subsequent else 1 end
    as record_subsequent,
  i.from_date, i.to_date
from usage_kind as k
cross join (select distinct band from local_calendar) as b
join charge as c on c.charge_id = k.charge_id
join usage_price_interval as i on i.charge_id = k.charge_id
  and i.condition_key = k.zone || '|' || k.trait || '|' || b.band
