-- Usage with every key once. An outer join against the few set aside: engines plan it as one hash
-- table of those, where a correlated "not exists" first groups all records.
select r.*
from usage_record as r
left join (
  select file_key, line_no from repeated_record where verdict <> 'kept'
) as x on x.file_key = r.file_key and x.line_no = r.line_no
where x.file_key is null
