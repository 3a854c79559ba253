-- The pools of each window: someone fills them, uses them or opened them, or something was left in
-- them that can still be used.
with found as (
  select window_start, level, bucket_id, pool_account_id from pool_member
  union
  select r.window_start, r.level, r.bucket_id, r.pool_account_id
  from shared_usage as u
  join share_reach as r on r.window_start = u.window_start and r.level = u.level
    and r.account_id = u.account_id and r.offer_id = u.offer_id
    and r.usage_class = u.usage_class
  union
  select o.window_start, o.level, b.bucket_id, o.pool_account_id
  from share_opening as o
  join share_bucket as b on b.share_plan_id = o.share_plan_id
  union
  select w.window_start, c.level, c.bucket_id, c.pool_account_id
  from pool_carry as c
  join share_bucket as b on b.bucket_id = c.bucket_id
  join round_window as w on w.share_plan_id = b.share_plan_id
    and w.pool_account_id = c.pool_account_id
)
select w.usage_period, w.window_start, w.window_end, f.level,
  f.bucket_id || '/' || f.pool_account_id as pool_id, f.bucket_id, f.pool_account_id,
  b.share_plan_id, s.currency, s.attribution, b.overage_charge_id as charge_id
from found as f
join share_bucket as b on b.bucket_id = f.bucket_id
join share_plan as s on s.share_plan_id = b.share_plan_id
join round_window as w on w.share_plan_id = b.share_plan_id
  and w.pool_account_id = f.pool_account_id and w.window_start = f.window_start
