-- What each pool holds: what it is granted, and what earlier windows left.
with carried as (
  select level, pool_id, sum(wide(carried_on)) as quantity
  from pool_carry
  group by level, pool_id
)
select z.*, cast(coalesce(k.quantity, wide(0)) as bigint) as carried,
  cast(z.granted + coalesce(k.quantity, wide(0)) as bigint) as available
from pool_size as z
left join carried as k on k.level = z.level and k.pool_id = z.pool_id
