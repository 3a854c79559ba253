-- Free units of services that used a charge at several prices: drawn in order of event time. Ties
-- are broken by price and quantity: records alike in all of these are interchangeable, so the
-- spread of records over files cannot move a cent.
with drawn as (
  select e.window_start, e.level, e.account_id, e.service_id, e.charge_id, e.price_id, e.pooled, e.quantity,
    c.allowance_quantity,
    sum(e.quantity) over (
      partition by e.window_start, e.level, e.account_id, e.service_id, e.charge_id
      order by e.event_start asc nulls last, e.price_id asc nulls last, e.pooled asc nulls last,
        e.quantity asc nulls last
      rows between unbounded preceding and current row) as reached
  from usage_entry as e
  join charge as c on c.charge_id = e.charge_id
  where c.allowance_quantity > 0 and exists (
    select 1 from usage_rounded as u
    where u.prices_used > 1 and u.window_start = e.window_start and u.level = e.level and u.account_id = e.account_id
      and u.service_id = e.service_id and u.charge_id = e.charge_id
  )
)
select window_start, level, account_id, service_id, charge_id, price_id, pooled,
  -- a credit gives back what it was given free
  cast(sum(least(greatest(wide(reached), 0), wide(allowance_quantity))
    - least(greatest(wide(reached) - quantity, 0), wide(allowance_quantity))) as bigint)
    as free_quantity
from drawn
group by window_start, level, account_id, service_id, charge_id, price_id, pooled
