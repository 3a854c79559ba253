-- What of a waiting service's records is billed: nothing before it is active; of the record that
-- reaches the threshold what exceeds it (split). From then on usage draws from pools.
select e.file_key, e.line_no, e.part_no, e.level,
  cast(case when a.active_date is null then 0
       when a.by_window then case when e.local_date < a.active_date then 0 else e.quantity end
       when e.event_no > a.crossing_no then e.quantity
       when e.event_no < a.crossing_no or a.policy = 'next_event' then 0
       else e.reached - e.threshold_quantity end as bigint) as billed_quantity,
  e.pooled and a.active_date is not null and e.local_date >= a.active_date
    and case when a.by_window then true
             when a.policy = 'next_event' then e.event_no > a.crossing_no
             else e.event_no >= a.crossing_no end as pooled
from first_use_event as e
left join first_use_activation as a on a.service_id = e.service_id and a.level = e.level
  and a.added_date = e.added_date
