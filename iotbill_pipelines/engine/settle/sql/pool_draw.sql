-- Chronological attribution: the units that came after the pool was empty, by service. Own
-- allowances go first, unit by unit in order of time; ties by service, price and quantity.
with own as (
  select e.*, c.allowance_quantity,
    sum(e.quantity) over (
      partition by e.window_start, e.level, e.account_id, e.service_id, e.charge_id
      order by e.event_start asc nulls last, e.price_id asc nulls last, e.pooled asc nulls last,
        e.quantity asc nulls last
      rows between unbounded preceding and current row) as reached
  from usage_entry as e
  join charge as c on c.charge_id = e.charge_id
  join offer as o on o.offer_id = e.offer_id
  join share_plan as s on s.share_plan_id = o.share_plan_id
  where s.attribution = 'chronological'
),
eligible as (
  select w.window_start, w.level, w.account_id, w.service_id, w.event_start, w.price_id, o.share_plan_id,
    case when s.share_level = 'parent' then coalesce(a.parent_account_id, a.account_id)
         else a.account_id end as pool_account_id,
    w.quantity - greatest(wide(0),
      least(wide(w.quantity), wide(w.allowance_quantity) - (wide(w.reached) - w.quantity)))
      as units
  from own as w
  join offer as o on o.offer_id = w.offer_id
  join share_plan as s on s.share_plan_id = o.share_plan_id
  join account as a on a.account_id = w.account_id
  where w.pooled
),
running as (
  select e.*, t.pool_id, t.available,
    sum(e.units) over (
      partition by t.window_start, t.level, t.pool_id
      order by e.event_start asc nulls last, e.service_id asc nulls last,
        e.price_id asc nulls last, e.units asc nulls last
      rows between unbounded preceding and current row) as pool_reached
  from eligible as e
  join pool_total as t on t.window_start = e.window_start and t.level = e.level and t.share_plan_id = e.share_plan_id
    and t.pool_account_id = e.pool_account_id
)
select window_start, level, pool_id, account_id, service_id,
  cast(sum(greatest(wide(0), least(wide(units), wide(pool_reached) - available))) as bigint)
    as late_quantity
from running
group by window_start, level, pool_id, account_id, service_id
