-- Every distinct kind of usage at every usage charge: visited network, traits, and the zone that the
-- network is in by the offer's zone set, '' where no price of the charge is for that zone.
-- Zone by longest match: network > country > region > any (RULEBOOK §6, RT-22).
with network as (
  select distinct usage_class, coalesce(mcc, '') as mcc, coalesce(mnc, '') as mnc,
    coalesce(region, '') as region, trait
  from kind_source
),
zoned as (
  select m.zone_set_id, n.usage_class, n.mcc, n.mnc, n.region, m.zone,
    row_number() over (
      partition by m.zone_set_id, n.usage_class, n.mcc, n.mnc, n.region
      order by m.specificity desc nulls last, m.zone asc nulls last) as rank_
  from (select distinct usage_class, mcc, mnc, region from network) as n
  join zone_member as m
    on (m.specificity = 3 and m.mcc = n.mcc and m.mnc = n.mnc)
    or (m.specificity = 2 and m.mcc = n.mcc)
    or (m.specificity = 1 and m.region = n.region)
    or m.specificity = 0
),
priced_zone as (
  select distinct charge_id, zone from price where zone is not null
),
usage_charge as (
  select offer_id, usage_class, min(charge_id) as charge_id
  from charge
  where kind = 'usage'
  group by offer_id, usage_class
)
select o.offer_id, o.currency, c.charge_id, n.usage_class, n.mcc, n.mnc, n.region, n.trait,
  coalesce(p.zone, '') as zone
from network as n
join usage_charge as u on u.usage_class = n.usage_class
join charge as c on c.charge_id = u.charge_id
join offer as o on o.offer_id = u.offer_id
left join zoned as z on z.rank_ = 1 and z.zone_set_id = o.zone_set_id
  and z.usage_class = n.usage_class and z.mcc = n.mcc and z.mnc = n.mnc and z.region = n.region
left join priced_zone as p on p.charge_id = c.charge_id and p.zone = z.zone
