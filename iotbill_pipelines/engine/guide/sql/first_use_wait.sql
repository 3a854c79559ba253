-- Services that wait for their first use: since when, until when the inventory says so, and the
-- policy of the offer that they wait on (RULEBOOK §2).
with ordered as (
  select service_id, state, cast(changed_at as date) as added_date,
    coalesce(cast(lead(changed_at) over (
      partition by service_id order by changed_at asc nulls last) as date), date '9999-12-31')
      as until_date
  from service_state
),
waiting as (
  select o.service_id, i.level, i.account_id, f.offer_id, f.policy, f.active_state, f.window_days, o.added_date,
    o.until_date,
    row_number() over (
      partition by o.service_id, i.level, o.added_date order by i.from_date asc nulls last) as place
  from ordered as o
  join service_offer_interval as i on i.service_id = o.service_id
    and i.from_date < o.until_date and i.to_date > o.added_date
  join first_use as f on f.offer_id = i.offer_id and f.waiting_state = o.state
  where o.added_date < o.until_date
)
select service_id, level, account_id, offer_id, policy, active_state, added_date, until_date,
  case when window_days is not null then days_later(added_date, window_days) end as window_date
from waiting
where place = 1
