-- The state of a service by local day, [from_date, to_date). A change's day belongs to the new
-- state (ST-03); the last change of a day owns it (ST-04).
with ranked as (
  select c.service_id, c.state, cast(c.changed_at as date) as from_date,
    row_number() over (
      partition by c.service_id, cast(c.changed_at as date)
      order by c.changed_at desc nulls last
    ) as rank_
  from state_source as c
)
select r.service_id, r.state, coalesce(s.core_state, 'unknown') as core_state, r.from_date,
  coalesce(
    lead(r.from_date) over (partition by r.service_id order by r.from_date asc nulls last),
    date '9999-12-31'
  ) as to_date
from ranked as r
left join state as s on s.state = r.state
where r.rank_ = 1
