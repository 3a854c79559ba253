-- Every unique record at every level of its service's seller chain, with all that was found for
-- it and, where something is missing, the reason. A view: records stream through it.
select u.file_key, u.line_no, u.feed_id, u.usage_month, u.event_start, u.uid_type, u.uid_value,
  u.usage_class, u.quantity, u.mcc, u.mnc, u.region, u.session_id,
  case when l.file_key is null then u.flags else concat_ws(' ', u.flags, 'late') end as flags,
  l.late_days,
  w.service_id, f.level, f.account_id, f.offer_id, d.local_date, d.usage_period,
  r.charge_id, r.price_id, r.increment_point, r.record_initial, r.record_subsequent,
  -- before activation a service neither fills nor draws from a pool (RULEBOOK §§1, 2)
  r.pooled and coalesce(s.core_state, 'prospect') in ('active', 'suspended') as pooled,
  case when w.service_id is null then 'no_owner'
       when s.core_state = 'cancelled' then 'after_cancel'
       when f.offer_id is null then 'no_offer'
       when r.price_id is null then 'no_rate'
       when l.held then 'late' end as reason_code
from unique_usage as u
left join owner_interval as w on w.uid_type = u.uid_type and w.uid_value = u.uid_value
  and u.event_start >= w.from_utc and u.event_start < w.to_utc
left join state_instant as s on s.service_id = w.service_id
  and u.event_start >= s.from_utc and u.event_start < s.to_utc
left join offer_instant as f on f.service_id = w.service_id
  and u.event_start >= f.from_utc and u.event_start < f.to_utc
left join local_calendar as d on d.billing_zone = f.billing_zone
  and d.quarter_utc = quarter_hour(u.event_start)
left join rate_choice as r on r.offer_id = f.offer_id and r.usage_class = u.usage_class
  and r.mcc = coalesce(u.mcc, '') and r.mnc = coalesce(u.mnc, '')
  and r.region = coalesce(u.region, '')
  and d.local_date >= r.from_date and d.local_date < r.to_date
left join late_arrival as l on l.file_key = u.file_key and l.usage_period = d.usage_period
