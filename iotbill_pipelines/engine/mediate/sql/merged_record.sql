-- Parts of this month that went into the event of another record.
select file_key, line_no
from session_standing
where is_here and position_ > 1 and standing in ('complete', 'released')
