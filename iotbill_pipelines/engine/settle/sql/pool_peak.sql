-- What the services of a pool bring on the day on which they bring most, for plans that count so. A
-- service is in the pool from its first to its last day of the offer in an active or suspended state.
with present as (
  select w.window_start, i.level, x.bucket_id, q.pool_account_id, i.account_id, i.service_id,
    max(x.contribution_quantity) as contribution,
    min(greatest(t.from_date, i.from_date, w.window_start)) as from_date,
    max(least(t.to_date, i.to_date, w.window_end)) as to_date
  from service_offer_interval as i
  join share_participant as x on x.offer_id = i.offer_id
  join share_bucket as b on b.bucket_id = x.bucket_id
  join share_place as q on q.share_plan_id = b.share_plan_id and q.account_id = i.account_id
    and q.billable = 'peak'
  join plan_window as w on w.share_plan_id = q.share_plan_id
    and w.pool_account_id = q.pool_account_id
    and i.from_date < w.window_end and i.to_date > w.window_start
  join service_state_interval as t on t.service_id = i.service_id
    and t.core_state in ('active', 'suspended')
    and greatest(t.from_date, i.from_date, w.window_start)
      < least(t.to_date, i.to_date, w.window_end)
  group by w.window_start, i.level, x.bucket_id, q.pool_account_id, i.account_id, i.service_id
), change as (
  select window_start, level, bucket_id, pool_account_id, day, sum(quantity) as quantity,
    sum(services) as services
  from (
    select window_start, level, bucket_id, pool_account_id, from_date as day,
      wide(contribution) as quantity, case when contribution > 0 then 1 else 0 end as services
    from present
    union all
    select window_start, level, bucket_id, pool_account_id, to_date, -wide(contribution),
      case when contribution > 0 then -1 else 0 end
    from present
  ) as brought
  group by window_start, level, bucket_id, pool_account_id, day
), running as (
  select window_start, level, bucket_id, pool_account_id,
    sum(quantity) over (
      partition by window_start, level, bucket_id, pool_account_id order by day asc nulls last
      rows between unbounded preceding and current row) as quantity,
    sum(services) over (
      partition by window_start, level, bucket_id, pool_account_id order by day asc nulls last
      rows between unbounded preceding and current row) as services
  from change
)
select window_start, level, bucket_id, pool_account_id, max(quantity) as quantity,
  max(services) as services
from running
group by window_start, level, bucket_id, pool_account_id
