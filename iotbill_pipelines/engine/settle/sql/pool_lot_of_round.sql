-- Units by the window that granted them, the oldest drawn first; what is left may be carried on, the
-- newest first where that is limited (SP-20, SP-21).
with lot as (
  select t.usage_period, t.window_start, t.window_end, t.level, t.pool_id, t.bucket_id,
    t.pool_account_id, wide(t.used) as used, t.window_start as granted_on,
    wide(t.granted) as quantity, b.rollover_periods as windows_left, b.rollover_maximum
  from pool_used as t
  join share_bucket as b on b.bucket_id = t.bucket_id
  where b.rollover_periods > 0
  union all
  select t.usage_period, t.window_start, t.window_end, t.level, t.pool_id, t.bucket_id,
    t.pool_account_id, wide(t.used), k.granted_on, wide(k.carried_on), k.windows_left - 1,
    b.rollover_maximum
  from pool_carry as k
  join pool_used as t on t.level = k.level and t.pool_id = k.pool_id
  join share_bucket as b on b.bucket_id = t.bucket_id
),
placed as (
  select *,
    wide(sum(quantity) over (
      partition by window_start, level, pool_id order by granted_on asc nulls last
      rows between unbounded preceding and current row)) as reached
  from lot
),
kept as (
  select *, least(quantity, greatest(wide(0), used - (reached - quantity))) as drawn,
    case when windows_left = 0 then wide(0)
         else quantity - least(quantity, greatest(wide(0), used - (reached - quantity))) end as kept
  from placed
),
limited as (
  select *,
    wide(sum(kept) over (
      partition by window_start, level, pool_id order by granted_on desc nulls last
      rows between unbounded preceding and current row)) - kept as newer
  from kept
)
select usage_period, window_start, window_end, level, pool_id, bucket_id, pool_account_id,
  granted_on, quantity, drawn,
  case when rollover_maximum is null then kept
       else greatest(wide(0), least(kept, rollover_maximum - newer)) end as carried_on,
  windows_left
from limited
