-- Unique records that are parts of something larger, of this month and nearby, with their policy.
-- moment is when a part says what it says: its end, where it has one.
with delivered as (
  select *, true as is_here from usage_record
  union all
  select *, false from nearby_record
)
select r.*, p.family, p.combine, p.counting, p.needs_start, p.needs_stop, p.needs_sequence,
  p.first_sequence, p.timeout_seconds, p.on_timeout, p.wrap_at, p.first_reading,
  coalesce(r.part, 'interim') as part_kind,
  case coalesce(r.part, 'interim') when 'start' then 1 when 'interim' then 2 else 3 end as part_rank,
  greatest(r.event_start, coalesce(r.event_end, r.event_start)) as moment
from delivered as r
join feed_policy as p on p.feed_id = r.feed_id and p.combine is not null
left join (
  select file_key, line_no from repeated_record where verdict <> 'kept'
) as x on x.file_key = r.file_key and x.line_no = r.line_no
where r.session_key is not null and x.file_key is null
