-- Usage with sessions as one event each, at their first part, and counters as what they grew by.
select u.file_key, u.line_no, u.feed_id, u.dedup_key, u.content_hash, u.usage_month, u.event_start,
  u.event_end, u.event_text, u.uid_type, u.uid_value, u.usage_class, u.quantity, u.quantity_up,
  u.quantity_down, u.mcc, u.mnc, u.region, u.apn, u.rat, u.peer_number, u.session_id,
  u.sequence_no, u.session_key, u.part, u.vendor_cost, u.vendor_currency, u.attributes, u.flags
from single_usage as u
left join feed_policy as p on p.feed_id = u.feed_id and p.combine is not null
where p.feed_id is null or u.session_key is null
union all
select u.file_key, u.line_no, u.feed_id, u.dedup_key, u.content_hash, u.usage_month, u.event_start,
  s.last_moment, u.event_text, u.uid_type, u.uid_value, u.usage_class,
  cast(s.quantity as bigint), cast(s.quantity_up as bigint), cast(s.quantity_down as bigint),
  u.mcc, u.mnc, u.region, u.apn, u.rat, u.peer_number, u.session_id, u.sequence_no, u.session_key,
  u.part, s.vendor_cost, u.vendor_currency, u.attributes,
  nullif(concat_ws(' ', u.flags, s.reset_flag, s.wrap_flag,
    case when s.standing = 'released' then 'timeout_release' end), '')
from single_usage as u
join session_part as e on e.file_key = u.file_key and e.line_no = u.line_no
  and e.position_ = 1 and e.combine = 'session'
join session as s on s.family = e.family and s.session_key = e.session_key
  and s.session_no = e.session_no and s.standing in ('complete', 'released')
union all
select u.file_key, u.line_no, u.feed_id, u.dedup_key, u.content_hash, u.usage_month, u.event_start,
  u.event_end, u.event_text, u.uid_type, u.uid_value, u.usage_class,
  cast(e.counted_quantity as bigint), cast(e.counted_up as bigint),
  cast(e.counted_down as bigint), u.mcc, u.mnc, u.region, u.apn, u.rat, u.peer_number,
  u.session_id, u.sequence_no, u.session_key, u.part, u.vendor_cost, u.vendor_currency,
  u.attributes, nullif(concat_ws(' ', u.flags, e.counter_flag), '')
from single_usage as u
join session_part as e on e.file_key = u.file_key and e.line_no = u.line_no
  and e.combine = 'increments'
