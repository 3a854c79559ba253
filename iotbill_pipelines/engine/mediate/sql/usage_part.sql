-- The parts of events that stand in this month, wherever the parts themselves lie.
select p.event_file_key, p.event_line_no, p.event_month as usage_month, p.file_key, p.line_no,
  p.feed_id, p.usage_month as part_month, p.part_kind as part, p.moment, p.quantity,
  p.counted_quantity
from session_standing as p
join session_part as e on e.file_key = p.event_file_key and e.line_no = p.event_line_no
  and e.is_here
where p.parts > 1 and p.standing in ('complete', 'released')
