-- Suspended records with the service that their identifier meant then, and its retail offer.
select s.*, w.service_id as owner_service_id, v.account_id, o.offer_id
from suspended_record as s
left join owner_interval as w on w.uid_type = s.uid_type and w.uid_value = s.uid_value
  and s.event_start >= w.from_utc and s.event_start < w.to_utc
left join service as v on v.service_id = coalesce(s.service_id, w.service_id)
left join service_offer_interval as o on o.service_id = v.service_id and o.level = 'retail'
  and cast(s.event_start as date) >= o.from_date and cast(s.event_start as date) < o.to_date
