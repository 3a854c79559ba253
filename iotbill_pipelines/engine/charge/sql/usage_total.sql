-- The parent: one amount per service, charge and usage period, rounded once (RULEBOOK §0.2), then
-- held between least and greatest amount; the least is not charged on nothing (RT-25).
with summed as (
  select s.usage_period, s.level, s.account_id, s.service_id, s.charge_id,
    min(s.unit_size) as unit_size, min(o.currency) as currency, sum(s.exact_e12) as exact_e12
  from usage_slice_priced as s
  join offer as o on o.offer_id = s.offer_id
  group by s.usage_period, s.level, s.account_id, s.service_id, s.charge_id
),
rounded as (
  select m.*, c.minimum_minor, c.maximum_minor,
    cast(half_up_div(m.exact_e12 * y.minor_per_unit, wide(m.unit_size) * 1000000000000) as bigint)
      as rounded_minor
  from summed as m
  join charge as c on c.charge_id = m.charge_id
  join currency_unit as y on y.currency = m.currency
),
raised as (
  select *,
    case when exact_e12 = 0 then rounded_minor
         else greatest(rounded_minor, coalesce(minimum_minor, rounded_minor)) end as raised_minor
  from rounded
)
select *, least(raised_minor, coalesce(maximum_minor, raised_minor)) as amount_minor
from raised
