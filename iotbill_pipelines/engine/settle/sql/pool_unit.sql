-- Pooled units one by one, where pools are drawn in order of time. Own allowances go first, unit by
-- unit; ties by service, price and quantity.
with asked as (
  select distinct d.offer_id, d.usage_class
  from share_draw as d
  join share_bucket as b on b.bucket_id = d.bucket_id
  where b.by_unit
),
own as (
  select e.*, wide(c.allowance_quantity) + coalesce(m.quantity, 0) as allowance_quantity, a.offer_id as pool_offer_id,
    a.usage_class,
    wide(sum(e.quantity) over (
      partition by e.window_start, e.level, e.account_id, e.service_id, e.charge_id
      order by e.event_start asc nulls last, e.price_id asc nulls last, e.pooled asc nulls last,
        e.quantity asc nulls last
      rows between unbounded preceding and current row)) as reached
  from usage_entry as e
  join charge as c on c.charge_id = e.charge_id
  left join offer_switch as w on w.window_start = e.window_start and w.level = e.level
    and w.account_id = e.account_id and w.service_id = e.service_id and w.offer_id = e.offer_id
  left join own_more as m on m.window_start = e.window_start and m.level = e.level
    and m.account_id = e.account_id and m.service_id = e.service_id
    and m.charge_id = e.charge_id
  join asked as a on a.offer_id = coalesce(w.held_offer_id, e.offer_id)
    and a.usage_class = c.usage_class
)
select w.window_start, w.level, w.account_id, w.service_id, w.pool_offer_id as offer_id,
  w.usage_class, w.event_start, w.local_date, w.price_id,
  w.quantity - least(greatest(w.reached, 0), w.allowance_quantity)
    + least(greatest(w.reached - w.quantity, 0), w.allowance_quantity) as units
from own as w
where w.pooled
