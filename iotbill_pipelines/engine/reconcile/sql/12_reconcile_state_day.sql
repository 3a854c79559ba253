-- States as half-open ranges of local days; the last change of a day owns it (ST-04).
with ordered as (
  select h.service_id, c.core_state, cast(h.changed_at as date) as first_day,
    cast(lead(h.changed_at) over (
      partition by h.service_id order by h.changed_at asc nulls last) as date) as next_day
  from service_state as h
  join state as c on c.state = h.state
)
select service_id, core_state, first_day, next_day
from ordered
where next_day is null or next_day > first_day
