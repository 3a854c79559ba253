-- Each pool over the whole set of its records: overage = max(0, used - available), equality is not
-- overage (SP-14); units are rounded once, on the pool, by the increments of the overage charge, or
-- counted in extra pools of a size of their own (SP-29).
with exceeded as (
  select a.*, b.extra_quantity, greatest(wide(0), wide(a.used) - a.available) as overage
  from every_pool_used as a
  join share_bucket as b on b.bucket_id = a.bucket_id
),
counted as (
  select *,
    case when extra_quantity > 0 then ceil_div(overage, extra_quantity) else wide(0) end as pools
  from exceeded
)
select e.usage_period, e.window_start, e.window_end, e.level, e.pool_id, e.bucket_id,
  e.share_plan_id, e.pool_account_id, e.charge_id, e.attribution, e.currency, y.minor_per_unit,
  e.services, e.granted, e.carried, e.available,
  e.used, cast(e.overage as bigint) as overage_quantity,
  cast(e.pools as bigint) as extra_pools,
  cast(greatest(wide(0),
    case when e.extra_quantity > 0 then e.pools
         when e.overage = 0 then wide(0)
         else wide(c.increment_initial)
           + ceil_div(greatest(e.overage - c.increment_initial, 0), c.increment_subsequent)
           * c.increment_subsequent end - c.allowance_quantity) as bigint) as billed_quantity,
  c.unit_size, c.rounding_mode, c.minimum_minor, c.maximum_minor,
  coalesce(k.price_id, i.price_id) as price_id,
  row_number() over (order by e.level nulls last, e.pool_id nulls last, e.window_start nulls last) as slice_no
from counted as e
join charge as c on c.charge_id = e.charge_id
join currency_unit as y on y.currency = e.currency
-- priced at its end: the price that holds on the last day of the window
left join price_interval as i on i.charge_id = c.charge_id and i.condition_key = ''
  and i.from_date < e.window_end and i.to_date >= e.window_end
-- what the contract of the pool's account agreed on
left join contract_rate as k on k.account_id = e.pool_account_id and k.service_id = ''
  and k.replaced_price_id = i.price_id and k.from_date < e.window_end and k.to_date >= e.window_end
