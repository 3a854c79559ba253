-- What became of the records of each file: kept is what is left of all, so that the three add up
-- by construction to what ingest accepted; that rating holds exactly the kept ones is a check.
with total as (
  select file_key, usage_month, count(*) as records, sum(quantity) as quantity
  from usage_record
  group by file_key, usage_month
),
aside as (
  select file_key, usage_month, 'duplicate' as outcome, cast(null as varchar) as reason_code,
    count(*) as records, sum(quantity) as quantity
  from duplicate_record
  group by file_key, usage_month
  union all
  select file_key, usage_month, 'suspended', reason_code, count(*), sum(quantity)
  from suspended_record
  group by file_key, usage_month, reason_code
),
set_aside as (
  select file_key, usage_month, sum(records) as records, sum(quantity) as quantity
  from aside
  group by file_key, usage_month
)
select t.file_key, t.usage_month, 'kept' as outcome, cast(null as varchar) as reason_code,
  t.records - coalesce(s.records, 0) as records, t.quantity - coalesce(s.quantity, 0) as quantity
from total as t
left join set_aside as s on s.file_key = t.file_key and s.usage_month = t.usage_month
where t.records > coalesce(s.records, 0)
union all
select file_key, usage_month, outcome, reason_code, records, quantity from aside
