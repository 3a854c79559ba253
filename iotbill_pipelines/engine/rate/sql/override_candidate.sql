-- Which offer prices a service's usage of a class, by local day: the offer it has, and others that
-- were agreed for it; the most specific level that prices the class wins (RULEBOOK §6, RT-32).
with offered as (
  select service_id, level, offer_id, priority, from_date, to_date
  from agreed_offer
  union all
  -- the offer itself is the package's level; whoever has no agreement needs no row
  select i.service_id, i.level, i.offer_id, 599999999, i.from_date, i.to_date
  from service_offer_interval as i
  where exists (
    select 1 from agreed_offer as g where g.service_id = i.service_id and g.level = i.level)
)
select o.service_id as charge_id, o.level || '|' || c.usage_class as condition_key,
  o.offer_id as price_id, o.priority, o.from_date as valid_from,
  o.to_date as valid_to
from offered as o
join charge as c on c.offer_id = o.offer_id and c.kind = 'usage'
