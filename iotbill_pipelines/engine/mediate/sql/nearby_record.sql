-- Records of other months that decide on records of this one: those of the same session, the last
-- reading of a counter before the month, and all copies of any of their keys.
with wanted_session as (
  select distinct coalesce(p.family, u.feed_id) as family, u.session_key
  from usage_record as u
  join feed_policy as p on p.feed_id = u.feed_id and p.combine is not null
  where u.session_key is not null
),
session_record as (
  select o.file_key, o.line_no, o.dedup_key, p.combine, p.family, o.session_key, o.event_start,
    o.event_end, o.sequence_no, o.quantity, o.usage_month
  from other_usage as o
  join feed_policy as p on p.feed_id = o.feed_id and p.combine is not null
  join wanted_session as w on w.family = p.family and w.session_key = o.session_key
),
reading as (
  select s.file_key, s.line_no, s.dedup_key,
    row_number() over (
      partition by s.family, s.session_key
      order by greatest(s.event_start, coalesce(s.event_end, s.event_start)) desc nulls last,
        s.sequence_no desc nulls last, s.quantity desc nulls last, s.file_key asc nulls last,
        s.line_no asc nulls last) as back_
  from session_record as s
  join (select min(usage_month) as usage_month from usage_record) as m
    on s.usage_month < m.usage_month
  where s.combine = 'increments'
),
wanted_record as (
  select file_key, line_no, dedup_key from session_record where combine = 'session'
  union all
  select file_key, line_no, dedup_key from reading where back_ = 1
),
chosen as (
  select file_key, line_no from wanted_record
  union
  select file_key, line_no
  from other_usage
  where dedup_key in (select dedup_key from usage_record)
  union
  select file_key, line_no
  from other_usage
  where dedup_key in (select dedup_key from wanted_record)
)
select o.*
from other_usage as o
join chosen as c on c.file_key = o.file_key and c.line_no = o.line_no
