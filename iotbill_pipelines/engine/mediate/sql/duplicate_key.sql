-- Keys that were delivered more than once, here or in a month nearby. Looking for them first keeps
-- the window below small.
select dedup_key
from (
  select dedup_key from usage_record
  union all
  select dedup_key from nearby_record
) as delivered
group by dedup_key
having count(*) > 1
