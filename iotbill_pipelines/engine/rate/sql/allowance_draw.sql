-- Free units of services that used a charge at several prices: drawn in order of event time. Ties
-- are broken by price and quantity: records alike in all of these are interchangeable, so the
-- spread of records over files cannot move a cent.
with several as (
  select distinct window_start, level, account_id, service_id, charge_id, allowance_quantity
  from usage_rounded
  where prices_used > 1 and allowance_quantity > 0
),
drawn as (
  select e.window_start, e.level, e.account_id, e.service_id, e.charge_id, e.price_id, e.pooled,
    e.quantity, u.allowance_quantity,
    sum(e.quantity) over (
      partition by e.window_start, e.level, e.account_id, e.service_id, e.charge_id
      order by e.event_start asc nulls last, e.price_id asc nulls last, e.pooled asc nulls last,
        e.quantity asc nulls last
      rows between unbounded preceding and current row) as reached
  from usage_entry as e
  join several as u on u.window_start = e.window_start and u.level = e.level
    and u.account_id = e.account_id and u.service_id = e.service_id
    and u.charge_id = e.charge_id
)
select window_start, level, account_id, service_id, charge_id, price_id, pooled,
  -- a credit gives back what it was given free
  cast(sum(least(greatest(wide(reached), 0), wide(allowance_quantity))
    - least(greatest(wide(reached) - quantity, 0), wide(allowance_quantity))) as bigint)
    as free_quantity
from drawn
group by window_start, level, account_id, service_id, charge_id, price_id, pooled
