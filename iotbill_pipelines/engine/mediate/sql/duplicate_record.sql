-- Copies of a kept record: audited, not rated.
select file_key, line_no, feed_id, usage_month, quantity, kept_file_key, kept_line_no
from repeated_record
where verdict = 'duplicate'
