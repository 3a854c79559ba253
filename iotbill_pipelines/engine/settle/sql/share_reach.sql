-- The pools that an account's use of a class under an offer may draw from in a window, by place, and
-- from which day.
select w.window_start, d.offer_id, d.usage_class, q.account_id, f.level, d.place, d.layer,
  d.bucket_id, b.share_plan_id, b.by_unit, q.pool_account_id,
  d.bucket_id || '/' || q.pool_account_id as pool_id,
  case when q.activation = 'participating_service' then w.window_start else o.opens_on end
    as opens_on
from share_draw as d
join offer as f on f.offer_id = d.offer_id
join share_bucket as b on b.bucket_id = d.bucket_id
join share_place as q on q.share_plan_id = b.share_plan_id
join plan_window as w on w.share_plan_id = q.share_plan_id
  and w.pool_account_id = q.pool_account_id
left join share_opening as o on o.window_start = w.window_start and o.level = f.level
  and o.share_plan_id = q.share_plan_id and o.pool_account_id = q.pool_account_id
where q.activation = 'participating_service' or o.opens_on is not null
