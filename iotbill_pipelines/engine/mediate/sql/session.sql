-- Sessions and whether they are whole: complete by what their feed needs, released after a silence
-- longer than the timeout, or incomplete and waiting. The silence is measured against the newest
-- event known of the feed, not against a clock (RULEBOOK §0.6; MD-05, MD-06).
with summed as (
  select family, session_key, session_no, counting, needs_start, needs_stop, needs_sequence,
    first_sequence, timeout_seconds, on_timeout,
    count(*) as parts,
    count(case when part_kind = 'start' then 1 end) as starts,
    count(case when part_kind in ('stop', 'whole') then 1 end) as stops,
    count(case when part_kind = 'whole' then 1 end) as wholes,
    count(sequence_no) as numbered_parts, count(distinct sequence_no) as numbers,
    min(sequence_no) as least_sequence, max(sequence_no) as greatest_sequence,
    min(case when part_kind in ('start', 'whole') then event_start end) as started_at,
    max(case when part_kind in ('stop', 'whole') then moment end) as stopped_at,
    max(moment) as last_moment,
    sum(counted_quantity) as quantity, sum(counted_up) as quantity_up,
    sum(counted_down) as quantity_down,
    case when counting = 'sum' then sum(vendor_cost) else max(vendor_cost) end as vendor_cost,
    max(case when counter_flag = 'counter_reset' then counter_flag end) as reset_flag,
    max(case when counter_flag = 'counter_wrap' then counter_flag end) as wrap_flag
  from session_part
  where combine = 'session'
  group by family, session_key, session_no, counting, needs_start, needs_stop, needs_sequence,
    first_sequence, timeout_seconds, on_timeout
),
judged as (
  select s.*,
    case when s.wholes > 0 then null
         when s.needs_start and s.starts = 0 then 'its start'
         when s.needs_stop and s.stops = 0 then 'its final record'
         when s.needs_sequence and s.numbered_parts > 0
           and (s.numbers < s.greatest_sequence - s.least_sequence + 1
                or s.least_sequence > coalesce(s.first_sequence, s.least_sequence))
           then 'a part between numbers '
             || cast(coalesce(least(s.first_sequence, s.least_sequence), s.least_sequence) as string)
             || ' and ' || cast(s.greatest_sequence as string)
    end as missing
  from summed as s
)
select j.family, j.session_key, j.session_no, j.parts, j.last_moment, j.missing, j.reset_flag,
  j.wrap_flag, j.quantity_up, j.quantity_down, j.vendor_cost,
  case when j.counting = 'elapsed' then seconds_up(j.started_at, j.stopped_at)
       else j.quantity end as quantity,
  case when j.missing is null then 'complete'
       when j.counting <> 'elapsed' and j.on_timeout = 'release'
         and j.last_moment < minus_seconds(w.newest_event, j.timeout_seconds) then 'released'
       when j.last_moment < minus_seconds(w.newest_event, j.timeout_seconds) then 'timed_out'
       else 'waiting' end as standing
from judged as j
left join feed_watermark as w on w.family = j.family
