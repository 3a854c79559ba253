-- The inventory's states, and those that first use brings about; of several levels the earliest.
select service_id, changed_at, state from service_state
union all
select service_id, cast(min(active_date) as timestamp), min(active_state)
from first_use_activation
group by service_id, added_date
