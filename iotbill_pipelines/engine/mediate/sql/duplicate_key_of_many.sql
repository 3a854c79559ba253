-- Keys that were delivered more than once, as in duplicate_key, among those whose hash was.
select dedup_key
from (
  select dedup_key from usage_record
  union all
  select dedup_key from nearby_record
) as delivered
where short_hash(dedup_key) in (select key_hash from repeated_hash)
group by dedup_key
having count(*) > 1
