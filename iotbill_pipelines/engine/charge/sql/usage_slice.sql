-- Usage to be priced. Prices of one group of a charge count on from one another: positions count
-- from zero after the allowance (RT-26), over all versions of a condition, so that a price that is
-- cut in two on some day at equal rates charges the same. Where a price counts each day, session
-- or record by itself, alike ones are one slice that repeats.
with counted as (
  select u.usage_period, u.window_start, u.level, u.account_id, u.service_id, u.offer_id, u.charge_id,
    u.price_id, c.unit_size, wide(u.rated_quantity - u.allowance_quantity) as units,
    sum(wide(u.rated_quantity - u.allowance_quantity)) over (
      partition by u.window_start, u.level, u.account_id, u.service_id, u.charge_id,
        p.count_group
      order by u.first_event asc nulls last, u.price_id asc nulls last
      rows between unbounded preceding and current row) as to_quantity,
    sum(wide(u.rated_quantity - u.allowance_quantity)) over (
      partition by u.window_start, u.level, u.account_id, u.service_id, u.charge_id,
        p.count_group)
      as total_quantity,
    coalesce(k.connections, 0) as connections, 1 as repeats
  from usage_free as u
  join charge as c on c.charge_id = u.charge_id
  join price as p on p.price_id = u.price_id
  left join usage_connection as k on k.window_start = u.window_start and k.level = u.level and k.account_id = u.account_id
    and k.service_id = u.service_id and k.price_id = u.price_id
  where not u.pooled and p.counted = 'period'
),
slice as (
  select usage_period, window_start, level, account_id, service_id, offer_id, charge_id, price_id,
    unit_size, units, to_quantity - units as from_quantity, to_quantity, total_quantity, connections, repeats
  from counted
  union all
  select p.usage_period, u.window_start, u.level, u.account_id, u.service_id, c.offer_id, c.charge_id,
    u.price_id, c.unit_size, wide(u.unit_quantity), wide(0), wide(u.unit_quantity), wide(u.unit_quantity),
    u.connections, u.repeats
  from usage_unit as u
  cross join settled_period as p
  join price as i on i.price_id = u.price_id
  join charge as c on c.charge_id = i.charge_id
)
select *,
  row_number() over (
    order by level nulls last, account_id nulls last, service_id nulls last, charge_id nulls last,
      window_start nulls last, price_id nulls last, to_quantity nulls last, connections nulls last)
    as slice_no
from slice
