-- Every state change, same-day round trips included; NEW is where a service comes from.
with ordered as (
  select c.service_id, c.changed_at, c.state as to_state,
    coalesce(lag(c.state) over (
      partition by c.service_id order by c.changed_at asc nulls last), 'NEW') as from_state
  from service_state as c
)
select p.usage_period, o.service_id, o.changed_at, cast(o.changed_at as date) as local_date,
  o.from_state, o.to_state
from ordered as o
join settled_period as p
  on cast(o.changed_at as date) >= p.start_date and cast(o.changed_at as date) < p.end_date
where o.from_state <> o.to_state
