-- Each pool over the whole set of its records: overage = max(0, used - available), equality is not
-- overage (SP-14); units are rounded once, on the pool, by the increments of the overage charge.
with summed as (
  select t.usage_period, t.window_start, t.window_end, t.level, t.pool_id, t.share_plan_id, t.pool_account_id,
    min(t.currency) as currency,
    sum(case when t.contribution > 0 then 1 else 0 end) as services,
    sum(t.contribution) as contributed, sum(t.used) as used
  from pool_participant as t
  group by t.usage_period, t.window_start, t.window_end, t.level, t.pool_id, t.share_plan_id,
    t.pool_account_id
),
sized as (
  select m.*, s.overage_charge_id as charge_id, s.attribution,
    case when s.growth = 'fixed' then wide(s.fixed_quantity) else wide(m.contributed) end
      as available
  from summed as m
  join share_plan as s on s.share_plan_id = m.share_plan_id
),
exceeded as (
  select z.*, greatest(wide(0), z.used - z.available) as overage
  from sized as z
)
select e.usage_period, e.window_start, e.window_end, e.level, e.pool_id, e.share_plan_id, e.pool_account_id, e.charge_id,
  e.attribution, e.currency, y.minor_per_unit,
  cast(e.services as bigint) as services, cast(e.available as bigint) as available,
  cast(e.used as bigint) as used, cast(e.overage as bigint) as overage_quantity,
  cast(greatest(wide(0),
    case when e.overage = 0 then wide(0)
         else wide(c.increment_initial)
           + ceil_div(greatest(e.overage - c.increment_initial, 0), c.increment_subsequent)
           * c.increment_subsequent end - c.allowance_quantity) as bigint) as billed_quantity,
  c.unit_size, c.rounding_mode, c.minimum_minor, c.maximum_minor, i.price_id,
  row_number() over (order by e.level, e.pool_id, e.window_start) as slice_no
from exceeded as e
join charge as c on c.charge_id = e.charge_id
join currency_unit as y on y.currency = e.currency
-- priced at its end: the price that holds on the last day of the window
left join price_interval as i on i.charge_id = c.charge_id and i.condition_key = ''
  and i.from_date < e.window_end and i.to_date >= e.window_end
