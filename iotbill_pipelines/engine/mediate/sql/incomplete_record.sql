-- Parts of this month whose session cannot be rated yet.
select file_key, line_no, feed_id, usage_month, event_start, uid_type, uid_value, usage_class,
  counted_quantity as quantity, 'session of ' || cast(parts as string) || ' parts lacks ' || missing
    || case when standing = 'timed_out' then ' and has timed out; ask the carrier for it'
            else '; it waits for it until it times out' end as detail
from session_standing
where is_here and standing in ('waiting', 'timed_out')
