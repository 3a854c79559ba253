-- Keys that were delivered more than once, here or in a month nearby. Looking for them first keeps
-- the window below small. is_suspect stands for what a key must be to be looked at: of few keys all
-- are, of many those whose short hash comes more than once.
select dedup_key
from (
  select dedup_key from usage_record
  union all
  select dedup_key from nearby_record
) as delivered
where is_suspect
group by dedup_key
having count(*) > 1
