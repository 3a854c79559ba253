-- When a waiting service becomes active: by the record that reaches a threshold (split), by the one
-- after it (next_event), or at the end of the window, whichever is first. A date that was billed in a
-- period which is closed stays, whatever came late; what is billed for usage follows the records.
with crossing as (
  select service_id, level, added_date, min(event_no) as crossing_no
  from first_use_event
  where quantity > 0 and reached >= threshold_quantity
  group by service_id, level, added_date
),
found as (
  select w.service_id, w.level, w.added_date, w.until_date, w.active_state, w.window_date, w.policy,
    c.crossing_no, e.local_date as usage_date, z.active_date as closed_date, w.account_id
  from first_use_wait as w
  left join crossing as c on c.service_id = w.service_id and c.level = w.level
    and c.added_date = w.added_date
  left join first_use_event as e on e.service_id = w.service_id and e.level = w.level
    and e.added_date = w.added_date
    and e.event_no = c.crossing_no + case when w.policy = 'next_event' then 1 else 0 end
  left join closed_activation as z on z.service_id = w.service_id and z.level = w.level
    and z.added_date = w.added_date
)
select service_id, level, account_id, added_date, active_state, policy, crossing_no,
  coalesce(window_date <= usage_date, usage_date is null) as by_window,
  coalesce(closed_date, case when usage_date is null or window_date <= usage_date then window_date
       else usage_date end) as active_date
from found
where closed_date is not null or (coalesce(usage_date, window_date) is not null
  and least(coalesce(usage_date, window_date), coalesce(window_date, usage_date)) < until_date)
