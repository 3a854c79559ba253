-- Keys that were delivered more than once. Looking for them first keeps the window below small.
select feed_id, dedup_key
from usage_record
group by feed_id, dedup_key
having count(*) > 1
