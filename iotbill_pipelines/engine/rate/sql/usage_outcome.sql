-- What became of the records of each file. Kept is what is set aside by nobody, so that the outcomes
-- add up by construction to what ingest accepted; that rating holds exactly the kept ones is a
-- check. A part that was merged is kept: its quantity is in the event of another record.
with aside as (
  select file_key, line_no, 'duplicate' as outcome, reason_code from duplicate_record
  union all
  select file_key, line_no, 'suspended', reason_code from suspended_record
  union all
  select file_key, line_no, 'kept', 'merged' from merged_record
)
select r.file_key, r.usage_month, coalesce(a.outcome, 'kept') as outcome, a.reason_code,
  count(*) as records, sum(r.quantity) as quantity
from usage_record as r
left join aside as a on a.file_key = r.file_key and a.line_no = r.line_no
group by r.file_key, r.usage_month, coalesce(a.outcome, 'kept'), a.reason_code
