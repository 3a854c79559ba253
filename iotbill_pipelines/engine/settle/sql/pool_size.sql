-- How much each pool is granted: its size, in whole steps and at least the least size, and what
-- another class's use brings. A plan that counts the peak holds what its services bring on the day on
-- which they bring most.
with contributed as (
  select m.window_start, m.level, m.bucket_id, m.pool_account_id,
    coalesce(min(k.quantity), sum(wide(m.contribution))) as quantity,
    coalesce(min(k.services), sum(case when m.contribution > 0 then 1 else 0 end)) as services
  from pool_member as m
  left join pool_peak as k on k.window_start = m.window_start and k.level = m.level
    and k.bucket_id = m.bucket_id and k.pool_account_id = m.pool_account_id
  group by m.window_start, m.level, m.bucket_id, m.pool_account_id
),
-- final use of the class by the participants, whether it is pooled or not (SP-25)
sizing as (
  select u.window_start, u.level, x.bucket_id, q.pool_account_id,
    sum(wide(u.rated_quantity)) as quantity
  from usage_free as u
  join charge as c on c.charge_id = u.charge_id
  join share_participant as x on x.offer_id = u.offer_id
  join share_bucket as b on b.bucket_id = x.bucket_id and b.sized_by_class = c.usage_class
  join share_place as q on q.share_plan_id = b.share_plan_id and q.account_id = u.account_id
  group by u.window_start, u.level, x.bucket_id, q.pool_account_id
),
sized as (
  select o.*, b.minimum_quantity, b.step_quantity, coalesce(c.services, 0) as services,
    case when b.growth = 'fixed' then wide(b.fixed_quantity)
         else coalesce(c.quantity, wide(0)) end as plain,
    coalesce(floor_div(greatest(wide(0), z.quantity) * b.sized_quantity, b.sized_each), wide(0))
      as brought
  from pool_open as o
  join share_bucket as b on b.bucket_id = o.bucket_id
  left join contributed as c on c.window_start = o.window_start and c.level = o.level
    and c.bucket_id = o.bucket_id and c.pool_account_id = o.pool_account_id
  left join sizing as z on z.window_start = o.window_start and z.level = o.level
    and z.bucket_id = o.bucket_id and z.pool_account_id = o.pool_account_id
)
select usage_period, window_start, window_end, level, pool_id, bucket_id, pool_account_id,
  share_plan_id, currency, attribution, charge_id, cast(services as bigint) as services,
  cast(brought + greatest(wide(minimum_quantity),
    case when step_quantity = 0 then plain
         else ceil_div(plain, step_quantity) * step_quantity end) as bigint) as granted
from sized
