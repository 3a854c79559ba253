-- Records of other months with a key of this month, where no feed has sessions or counters.
select *
from other_usage
where dedup_key in (select dedup_key from usage_record)
