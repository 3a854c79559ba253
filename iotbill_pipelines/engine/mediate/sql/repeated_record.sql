-- Every record of a repeated key and its verdict: kept, duplicate (same content as the kept one)
-- or conflict (other content). MD-04.
-- The verdict is a function of the set of records: where contents differ, the one with the least
-- quantity is kept, so that nobody pays for what the versions do not agree on, then the earliest
-- event, then the smallest hash. Arrival order, file names and the cutting of files play no part.
with version as (
  select r.file_key, r.line_no, r.feed_id, r.usage_month, r.dedup_key, r.content_hash, r.event_start,
    r.uid_type, r.uid_value, r.usage_class, r.quantity,
    row_number() over (
      partition by r.feed_id, r.dedup_key
      order by r.quantity asc nulls last, r.event_start asc nulls last,
        r.content_hash asc nulls last, r.file_key asc nulls last, r.line_no asc nulls last
    ) as choice_
  from usage_record as r
  join duplicate_key as k on k.feed_id = r.feed_id and k.dedup_key = r.dedup_key
),
kept as (
  select feed_id, dedup_key, content_hash, file_key, line_no
  from version
  where choice_ = 1
)
select v.file_key, v.line_no, v.feed_id, v.usage_month, v.dedup_key, v.event_start,
  v.uid_type, v.uid_value, v.usage_class, v.quantity,
  k.file_key as kept_file_key, k.line_no as kept_line_no,
  case when v.choice_ = 1 then 'kept'
       when v.content_hash = k.content_hash then 'duplicate'
       else 'conflict' end as verdict
from version as v
join kept as k on k.feed_id = v.feed_id and k.dedup_key = v.dedup_key
