-- A SIM's state on the period's last day, and whether it was active on any day of the period. The
-- last change of a day owns it (ST-04).
with ordered as (
  select h.service_id, x.core_state, cast(h.changed_at as date) as first_day,
    cast(lead(h.changed_at) over (
      partition by h.service_id order by h.changed_at asc nulls last) as date) as next_day
  from service_state as h
  join state as x on x.state = h.state
)
select o.service_id,
  max(case when o.first_day < s.period_end
        and (o.next_day is null or o.next_day >= s.period_end) then o.core_state end) as core_state,
  max(case when o.core_state = 'active' and o.first_day < s.period_end
        and (o.next_day is null or o.next_day > s.period_start)
        and (o.next_day is null or o.next_day > o.first_day) then 1 else 0 end) as was_active,
  min(case when o.core_state = 'cancelled' then cast(o.first_day as string) end) as cancelled_on
from ordered as o
cross join audit_scope as s
group by o.service_id
