-- Which charge a service's recurring product is priced by, by local day: the one of its own offer,
-- and those of the same product in offers that were agreed for it. An agreement prices what the
-- service has and adds nothing; where an offer has a product twice, its own charges stay.
with own as (
  select offer_id, product_id, min(charge_id) as charge_id
  from charge
  where kind = 'recurring' and offer_id is not null
  group by offer_id, product_id
  having count(*) = 1
),
agreed as (
  select g.service_id, g.level, n.charge_id as own_charge_id, x.charge_id, g.priority, g.from_date,
    g.to_date
  from agreed_offer as g
  join own as n on n.offer_id = g.own_offer_id
  join own as x on x.offer_id = g.offer_id and x.product_id = n.product_id
)
select service_id as charge_id, level || '|' || own_charge_id as condition_key,
  charge_id as price_id, priority, from_date as valid_from, to_date as valid_to
from agreed
union all
select i.service_id, i.level || '|' || n.charge_id, n.charge_id, 599999999, i.from_date, i.to_date
from service_offer_interval as i
join own as n on n.offer_id = i.offer_id
where exists (
  select 1 from agreed as g
  where g.service_id = i.service_id and g.level = i.level and g.own_charge_id = n.charge_id)
