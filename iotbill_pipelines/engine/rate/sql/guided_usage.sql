-- Every unique record at every level of its service's seller chain: owner, state, offer, and the
-- local date and band of its start.
select u.file_key, u.line_no, u.feed_id, u.usage_month, u.event_start, u.uid_type, u.uid_value,
  u.usage_class, u.quantity, u.mcc, u.mnc, u.region, u.apn, u.peer_number, u.session_id,
  u.vendor_cost, u.vendor_currency, u.flags, u.trait,
  w.service_id, s.core_state, f.level, f.account_id, f.offer_id, f.billing_zone, d.local_date,
  d.usage_period, d.band, d.band_no
from traced_usage as u
left join owner_interval as w on w.uid_type = u.uid_type and w.uid_value = u.uid_value
  and u.event_start >= w.from_utc and u.event_start < w.to_utc
left join state_instant as s on s.service_id = w.service_id
  and u.event_start >= s.from_utc and u.event_start < s.to_utc
left join offer_instant as f on f.service_id = w.service_id
  and u.event_start >= f.from_utc and u.event_start < f.to_utc
left join local_calendar as d on d.billing_zone = f.billing_zone
  and d.quarter_utc = quarter_hour(u.event_start)
