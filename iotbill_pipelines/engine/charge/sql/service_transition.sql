-- Every state change, same-day round trips included; NEW is where a service comes from. Whole months
-- in the state that is left count from day to day, at the end of a shorter month to its last (ST-21).
with ordered as (
  select c.service_id, c.changed_at, c.state as to_state,
    coalesce(lag(c.state) over (
      partition by c.service_id order by c.changed_at asc nulls last), 'NEW') as from_state
  from known_state as c
),
changed as (
  select *,
    cast(lag(changed_at) over (
      partition by service_id order by changed_at asc nulls last) as date) as since_date
  from ordered
  where from_state <> to_state
)
select p.usage_period, o.service_id, o.changed_at, cast(o.changed_at as date) as local_date,
  o.from_state, o.to_state,
  coalesce(days_between(o.since_date, cast(o.changed_at as date)), 0) as state_days,
  coalesce(
    (extract(year from o.changed_at) - extract(year from o.since_date)) * 12
    + extract(month from o.changed_at) - extract(month from o.since_date)
    - case when extract(day from o.changed_at) >= extract(day from o.since_date)
             or cast(o.changed_at as date) = p.last_date then 0 else 1 end, 0) as state_months
from changed as o
join settled_period as p
  on cast(o.changed_at as date) >= p.start_date and cast(o.changed_at as date) < p.end_date
