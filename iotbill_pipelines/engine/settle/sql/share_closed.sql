-- Offers whose use of a class finds no open pool before some day of the window: until then it is
-- priced like any other use.
with sold as (
  select distinct d.offer_id, d.usage_class
  from share_draw as d
  join share_bucket as b on b.bucket_id = d.bucket_id
  join share_plan as s on s.share_plan_id = b.share_plan_id and s.activation = 'selling_service'
),
asked as (
  select distinct w.window_start, f.level, q.account_id, d.offer_id, d.usage_class
  from sold as d
  join offer as f on f.offer_id = d.offer_id
  join share_place as q on q.share_plan_id = f.share_plan_id
  join plan_window as w on w.share_plan_id = q.share_plan_id
    and w.pool_account_id = q.pool_account_id
),
opened as (
  select window_start, level, account_id, offer_id, usage_class, min(opens_on) as opens_on
  from share_reach
  group by window_start, level, account_id, offer_id, usage_class
)
select a.window_start, a.level, a.account_id, c.charge_id,
  coalesce(r.opens_on, date '9999-12-31') as opens_on
from asked as a
join charge as c on c.offer_id = a.offer_id and c.usage_class = a.usage_class and c.kind = 'usage'
left join opened as r on r.window_start = a.window_start and r.level = a.level
  and r.account_id = a.account_id and r.offer_id = a.offer_id and r.usage_class = a.usage_class
