-- Chronological attribution: the units that came after the pool was empty, by service.
with running as (
  select e.*, t.available,
    wide(sum(wide(e.units)) over (
      partition by t.window_start, t.level, t.pool_id
      order by e.event_start asc nulls last, e.service_id asc nulls last,
        e.price_id asc nulls last, e.units asc nulls last
      rows between unbounded preceding and current row)) as reached
  from every_pool_entry as e
  join pool_total as t on t.window_start = e.window_start and t.level = e.level
    and t.pool_id = e.pool_id
  where t.attribution = 'chronological'
)
select window_start, level, pool_id, account_id, service_id,
  cast(greatest(wide(0), sum(greatest(wide(0), reached - available)
    - greatest(wide(0), reached - units - available))) as bigint) as late_quantity
from running
group by window_start, level, pool_id, account_id, service_id
