-- Units of one layer of pools after it was drawn in order of time: what came when a pool was empty
-- goes on to the next pool of the service, if it has one. What a credit gives back it gives back to
-- where it was drawn last.
with running as (
  select e.*, wide(a.available) as available,
    wide(sum(wide(e.units)) over (
      partition by e.window_start, e.level, e.pool_id
      order by e.event_start asc nulls last, e.service_id asc nulls last,
        e.price_id asc nulls last, e.units asc nulls last
      rows between unbounded preceding and current row)) as reached
  from pool_arrived as e
  join pool_allotment as a on a.window_start = e.window_start and a.level = e.level
    and a.pool_id = e.pool_id
),
drawn as (
  select *,
    case when layer = layer_input and next_pool_id is not null
         then greatest(wide(0), reached - available)
           - greatest(wide(0), reached - units - available) else wide(0) end as late
  from running
)
select window_start, level, account_id, service_id, offer_id, usage_class, event_start, local_date,
  price_id, units - late as units, pool_id, layer, next_pool_id
from drawn
union all
select d.window_start, d.level, d.account_id, d.service_id, d.offer_id, d.usage_class,
  d.event_start, d.local_date, d.price_id, d.late, p.pool_id, p.layer, p.next_pool_id
from drawn as d
join pool_path as p on p.window_start = d.window_start and p.level = d.level
  and p.account_id = d.account_id and p.offer_id = d.offer_id
  and p.usage_class = d.usage_class and p.local_date = d.local_date
  and p.pool_id = d.next_pool_id
where d.late <> 0
