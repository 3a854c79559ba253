-- Copies of a kept record, and what a newer version replaced: audited, not rated.
select file_key, line_no, feed_id, usage_month, quantity, kept_file_key, kept_line_no,
  case when verdict = 'restated' then 'restated' end as reason_code
from repeated_record
where is_here and verdict in ('duplicate', 'restated')
