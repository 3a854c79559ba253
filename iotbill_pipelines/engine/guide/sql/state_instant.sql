-- Service states as UTC intervals, through the calendar of the owning account's billing zone, so
-- that a record needs no local date to find its state. Only the calendar's range has to be right.
select i.service_id, i.core_state,
  case when i.from_date < b.first_date then timestamp '1000-01-01 00:00:00'
       else coalesce(f.starts_utc, timestamp '9999-12-31 00:00:00') end as from_utc,
  case when i.to_date < b.first_date then timestamp '1000-01-01 00:00:00'
       else coalesce(t.starts_utc, timestamp '9999-12-31 00:00:00') end as to_utc
from service_state_interval as i
join service as s on s.service_id = i.service_id
join account as a on a.account_id = s.account_id
cross join calendar_bound as b
left join zone_day as f on f.billing_zone = a.billing_zone and f.local_date = i.from_date
left join zone_day as t on t.billing_zone = a.billing_zone and t.local_date = i.to_date
