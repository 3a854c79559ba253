-- Short hashes of keys that come more than once, here or in a month nearby, of one part of all hashes:
-- part_no of part_count. Other keys may share a hash; of those that repeat none is missed.
select key_hash
from (
  select short_hash(dedup_key) as key_hash from usage_record
  union all
  select short_hash(dedup_key) as key_hash from nearby_record
) as delivered
where key_hash % part_count = part_no
group by key_hash
having count(*) > 1
