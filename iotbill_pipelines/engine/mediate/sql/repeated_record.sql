-- Every record of a repeated key and its verdict: kept, duplicate (same content as the kept one),
-- restated (a newer version of a restating feed holds) or conflict (other content). MD-04.
-- The verdict is a function of the set of records: where contents differ, the one with the least
-- quantity is kept, so that nobody pays for what the versions do not agree on, then the earliest
-- event, then the smallest hash. Arrival order and the cutting of files play no part, but for the
-- file versions of restating feeds. Every month that a key reaches into sees all of its records
-- (is_here tells its own), so that all of them name the same one.
with delivered as (
  select file_key, line_no, feed_id, usage_month, dedup_key, content_hash, event_start, uid_type,
    uid_value, usage_class, quantity, true as is_here
  from usage_record
  union all
  select file_key, line_no, feed_id, usage_month, dedup_key, content_hash, event_start, uid_type,
    uid_value, usage_class, quantity, false
  from nearby_record
),
version as (
  select d.*, coalesce(p.family, d.feed_id) as family,
    coalesce(p.restating, false) as restating,
    case when p.restating then coalesce(f.version_no, 0) else 0 end as version_no,
    case when p.restating then d.line_no else 0 end as later_line
  from delivered as d
  join duplicate_key as k on k.dedup_key = d.dedup_key
  left join feed_policy as p on p.feed_id = d.feed_id
  left join file_version as f on f.file_key = d.file_key
),
ranked as (
  select v.*,
    row_number() over (
      partition by v.family, v.dedup_key
      order by v.version_no desc nulls last, v.later_line desc nulls last,
        v.quantity asc nulls last, v.event_start asc nulls last,
        v.content_hash asc nulls last, v.file_key asc nulls last, v.line_no asc nulls last
    ) as choice_
  from version as v
),
kept as (
  select family, dedup_key, content_hash, file_key, line_no
  from ranked
  where choice_ = 1
)
select v.file_key, v.line_no, v.feed_id, v.usage_month, v.dedup_key, v.event_start,
  v.uid_type, v.uid_value, v.usage_class, v.quantity, v.is_here,
  k.file_key as kept_file_key, k.line_no as kept_line_no,
  case when v.choice_ = 1 then 'kept'
       when v.content_hash = k.content_hash then 'duplicate'
       when v.restating then 'restated'
       else 'conflict' end as verdict
from ranked as v
join kept as k on k.family = v.family and k.dedup_key = v.dedup_key
