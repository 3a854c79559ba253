-- Transition charges of a service and period: the sum of its occurrences, never prorated (ST-20).
with summed as (
  select d.usage_period, d.level, d.account_id, d.service_id, d.charge_id,
    min(o.currency) as currency, count(*) as occurrences, sum(wide(d.price_e12)) as exact_e12,
    min(d.local_date) as first_date, max(d.local_date) as last_date,
    min(c.rounding_mode) as rounding_mode
  from transition_due as d
  join offer as o on o.offer_id = d.offer_id
  join charge as c on c.charge_id = d.charge_id
  where d.price_id is not null
  group by d.usage_period, d.level, d.account_id, d.service_id, d.charge_id
)
select s.*, cast(rounded_div(s.exact_e12 * y.minor_per_unit, 1000000000000, s.rounding_mode) as bigint)
  as amount_minor
from summed as s
join currency_unit as y on y.currency = s.currency
