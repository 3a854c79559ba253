-- The parent: one amount per service, charge and window, rounded once (RULEBOOK §0.2), less a
-- free amount, then held between least and greatest amount; the least is not charged on nothing
-- unless the charge says so (RT-25), and no credit is raised to it.
with summed as (
  select s.usage_period, s.window_start, s.window_end, s.level, s.account_id, s.service_id,
    s.charge_id, min(o.currency) as currency, sum(s.exact_e12) as exact_e12
  from usage_priced as s
  join offer as o on o.offer_id = s.offer_id
  group by s.usage_period, s.window_start, s.window_end, s.level, s.account_id, s.service_id, s.charge_id
),
due as (
  select m.*, c.minimum_minor, c.maximum_minor, c.minimum_at_zero, c.rounding_mode,
    wide(c.unit_size) * 1000000000000 as scale_,
    case when c.allowance_minor = 0 or m.exact_e12 < 0 then m.exact_e12 * y.minor_per_unit
         else greatest(wide(0), m.exact_e12 * y.minor_per_unit
           - wide(c.allowance_minor) * c.unit_size * 1000000000000) end as minor_e12
  from summed as m
  join charge as c on c.charge_id = m.charge_id
  join currency_unit as y on y.currency = m.currency
),
rounded as (
  select *, cast(rounded_div(minor_e12, scale_, rounding_mode) as bigint) as rounded_minor
  from due
),
raised as (
  select *,
    case when minor_e12 <= 0 and not minimum_at_zero then rounded_minor
         else greatest(rounded_minor, coalesce(minimum_minor, rounded_minor)) end as raised_minor
  from rounded
)
select *, least(raised_minor, coalesce(maximum_minor, raised_minor)) as amount_minor
from raised
