-- Every part with what became of its session, and the part at which its event stands: the first.
select p.*, s.standing, s.missing, s.parts,
  e.file_key as event_file_key, e.line_no as event_line_no, e.usage_month as event_month
from session_part as p
join session as s on s.family = p.family and s.session_key = p.session_key
  and s.session_no = p.session_no
join session_part as e on e.family = p.family and e.session_key = p.session_key
  and e.session_no = p.session_no and e.position_ = 1
where p.combine = 'session'
