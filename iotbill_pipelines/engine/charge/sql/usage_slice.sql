-- Usage to be priced, each price version beside the others of its condition: positions count from
-- zero after the allowance (RT-26), over all versions of one zone, so that a price that is cut in
-- two on some day at equal rates charges the same.
with counted as (
  select u.usage_period, u.level, u.account_id, u.service_id, u.offer_id, u.charge_id, u.price_id,
    u.records, u.quantity, u.allowance_quantity, c.unit_size,
    wide(u.rated_quantity - u.allowance_quantity) as units,
    sum(wide(u.rated_quantity - u.allowance_quantity)) over (
      partition by u.level, u.account_id, u.service_id, u.charge_id, coalesce(p.zone, '')
      order by u.first_event asc nulls last, u.price_id asc nulls last
      rows between unbounded preceding and current row) as to_quantity,
    sum(wide(u.rated_quantity - u.allowance_quantity)) over (
      partition by u.level, u.account_id, u.service_id, u.charge_id, coalesce(p.zone, ''))
      as total_quantity
  from usage_free as u
  join charge as c on c.charge_id = u.charge_id
  join price as p on p.price_id = u.price_id
  where not u.pooled
)
select *, to_quantity - units as from_quantity,
  row_number() over (order by level, account_id, service_id, charge_id, price_id) as slice_no
from counted
