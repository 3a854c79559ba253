-- Usage with every key once.
select *
from usage_record as r
where not exists (
  select 1
  from repeated_record as x
  where x.file_key = r.file_key and x.line_no = r.line_no and x.verdict <> 'kept'
)
