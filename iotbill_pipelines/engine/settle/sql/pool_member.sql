-- Services that fill a pool in a window: on an offer that shares the bucket and in a core-active or
-- core-suspended state on at least one day. Whoever leaves keeps its contribution to the end of the
-- window (SP-18); a service with two offers of the plan counts with the larger one at once. Plans
-- that count by the first or last day, or by use, leave the others out.
select w.usage_period, w.window_start, i.level, x.bucket_id, q.share_plan_id, q.pool_account_id,
  i.account_id, i.service_id,
  -- full: the whole contribution whenever it joined; prorate_join: by days from the first one
  cast(case when min(q.join_policy) = 'prorate_join'
       then half_up_div(
         wide(max(x.contribution_quantity))
           * days_between(greatest(w.window_start, min(greatest(i.from_date, t.from_date))),
                          w.window_end),
         w.days)
       else max(x.contribution_quantity) end as bigint) as contribution
from service_offer_interval as i
join share_participant as x on x.offer_id = i.offer_id
join share_bucket as b on b.bucket_id = x.bucket_id
join share_place as q on q.share_plan_id = b.share_plan_id and q.account_id = i.account_id
join plan_window as w on w.share_plan_id = q.share_plan_id
  and w.pool_account_id = q.pool_account_id
  and i.from_date < w.window_end and i.to_date > w.window_start
join service_state_interval as t on t.service_id = i.service_id
  and t.core_state in ('active', 'suspended')
  and greatest(t.from_date, i.from_date, w.window_start)
    < least(t.to_date, i.to_date, w.window_end)
left join share_opening as o on o.window_start = w.window_start and o.level = i.level
  and o.share_plan_id = q.share_plan_id and o.pool_account_id = q.pool_account_id
left join (
  select distinct window_start, level, account_id, service_id from usage_free where records > 0
) as u on u.window_start = w.window_start and u.level = i.level and u.account_id = i.account_id
  and u.service_id = case when q.billable = 'used' then i.service_id end
where (q.activation = 'participating_service' or o.opens_on is not null)
  and case q.billable
    when 'first_day' then greatest(i.from_date, t.from_date) <= w.window_start
    when 'last_day' then least(i.to_date, t.to_date) >= w.window_end
    when 'used' then u.service_id is not null
    else true end
group by w.usage_period, w.window_start, w.window_end, w.days, i.level, x.bucket_id,
  q.share_plan_id, q.pool_account_id, i.account_id, i.service_id
