-- The dates on which services became active by first use, for the period that closes with them.
select p.usage_period, c.entity_id, a.service_id, a.level, a.added_date, a.active_date
from first_use_activation as a
join account as c on c.account_id = a.account_id
join settled_period as p on a.active_date >= p.start_date and a.active_date < p.end_date
