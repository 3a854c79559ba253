-- Parts numbered into sessions. A key begins another session after a silence longer than the
-- timeout, with a start after a final record, and with every record that is a whole session.
-- Counters: what a reading adds to the one before it. A decrease is a reset, which counts the new
-- reading whole, unless the counter is declared to wrap and fell from its upper half to its lower.
with followed as (
  select s.*,
    lag(s.moment) over key_order as before_moment,
    lag(s.part_kind) over key_order as before_part
  from session_record as s
  window key_order as (
    partition by s.family, s.session_key
    order by s.moment asc nulls last, s.part_rank asc nulls last, s.sequence_no asc nulls last,
      s.quantity asc nulls last, s.content_hash asc nulls last, s.file_key asc nulls last,
      s.line_no asc nulls last)
),
numbered as (
  select f.*,
    sum(case when f.combine = 'increments' and f.before_moment is not null then 0
             when f.before_moment is null
               or f.event_start > minus_seconds(f.before_moment, -f.timeout_seconds)
               or (f.part_kind = 'start' and f.before_part in ('stop', 'whole'))
               or f.part_kind = 'whole' or f.before_part = 'whole' then 1
             else 0 end) over (
      partition by f.family, f.session_key
      order by f.moment asc nulls last, f.part_rank asc nulls last, f.sequence_no asc nulls last,
        f.quantity asc nulls last, f.content_hash asc nulls last, f.file_key asc nulls last,
        f.line_no asc nulls last
      rows between unbounded preceding and current row) as session_no
  from followed as f
),
counted as (
  select n.*,
    row_number() over session_order as position_,
    lag(n.quantity) over session_order as before_quantity,
    lag(n.quantity_up) over session_order as before_up,
    lag(n.quantity_down) over session_order as before_down
  from numbered as n
  window session_order as (
    partition by n.family, n.session_key, n.session_no
    order by n.moment asc nulls last, n.part_rank asc nulls last, n.sequence_no asc nulls last,
      n.quantity asc nulls last, n.content_hash asc nulls last, n.file_key asc nulls last,
      n.line_no asc nulls last)
),
grown as (
  select c.*,
    case when c.counting <> 'cumulative' then c.quantity
         when c.before_quantity is null then
           case when c.first_reading = 'baseline' and c.part_kind <> 'start' then 0
                else c.quantity end
         when c.quantity >= c.before_quantity then c.quantity - c.before_quantity
         when 2 * wide(c.before_quantity) > c.wrap_at and 2 * wide(c.quantity) < c.wrap_at
           then c.wrap_at - c.before_quantity + c.quantity
         else c.quantity end as counted_quantity,
    case when c.counting <> 'cumulative' then c.quantity_up
         when c.before_up is null then
           case when c.first_reading = 'baseline' and c.part_kind <> 'start' then 0
                else c.quantity_up end
         when c.quantity_up >= c.before_up then c.quantity_up - c.before_up
         when 2 * wide(c.before_up) > c.wrap_at and 2 * wide(c.quantity_up) < c.wrap_at
           then c.wrap_at - c.before_up + c.quantity_up
         else c.quantity_up end as counted_up,
    case when c.counting <> 'cumulative' then c.quantity_down
         when c.before_down is null then
           case when c.first_reading = 'baseline' and c.part_kind <> 'start' then 0
                else c.quantity_down end
         when c.quantity_down >= c.before_down then c.quantity_down - c.before_down
         when 2 * wide(c.before_down) > c.wrap_at and 2 * wide(c.quantity_down) < c.wrap_at
           then c.wrap_at - c.before_down + c.quantity_down
         else c.quantity_down end as counted_down
  from counted as c
)
select g.file_key, g.line_no, g.feed_id, g.usage_month, g.is_here, g.family, g.session_key,
  g.session_no, g.position_, g.combine, g.counting, g.part_kind, g.sequence_no, g.event_start,
  g.moment, g.uid_type, g.uid_value, g.usage_class, g.quantity,
  -- two counters that wrap on their own: their sum wraps at neither limit
  case when g.wrap_at is not null and g.counted_up is not null and g.counted_down is not null
       then g.counted_up + g.counted_down else g.counted_quantity end as counted_quantity,
  g.counted_up, g.counted_down, g.vendor_cost,
  case when g.counting <> 'cumulative' then null
       when g.before_quantity is null and g.first_reading = 'baseline' and g.part_kind <> 'start'
         then 'counter_baseline'
       when g.quantity >= g.before_quantity and coalesce(g.quantity_up >= g.before_up, true)
         and coalesce(g.quantity_down >= g.before_down, true) then null
       when g.before_quantity is null then null
       when g.wrap_at is not null
         and (g.quantity >= g.before_quantity or 2 * wide(g.before_quantity) > g.wrap_at
              or 2 * wide(g.before_up) > g.wrap_at or 2 * wide(g.before_down) > g.wrap_at)
         then 'counter_wrap'
       else 'counter_reset' end as counter_flag,
  g.needs_start, g.needs_stop, g.needs_sequence, g.first_sequence, g.timeout_seconds, g.on_timeout
from grown as g
