-- Whose SIM a billed line means, at the line's own dates. `at_dates` is false where we know the
-- identifier only from another time.
with known as (
  select uid_type, uid_value, service_id, valid_from, valid_to,
    case when uid_type = 'iccid' then substr(uid_value, 1, 19) else uid_value end as uid_match
  from service_identifier
), candidate as (
  select l.file_key, l.line_no, l.vendor_id, k.service_id, k.valid_from,
    case when k.uid_value = l.uid_value then 0 else 1 end as by_prefix,
    case when k.valid_from < cast(l.window_end as timestamp)
          and (k.valid_to is null or k.valid_to > cast(l.window_start as timestamp))
         then 1 else 0 end as at_dates
  from reconcile_invoice_line as l
  join known as k on k.uid_type = l.uid_type and k.uid_match = l.uid_match
), ranked as (
  select *, row_number() over (
    partition by file_key, line_no
    order by at_dates desc nulls last, by_prefix asc nulls last, valid_from desc nulls last,
      service_id asc nulls last) as choice
  from candidate
)
select file_key, line_no, vendor_id, service_id, at_dates = 1 as at_dates
from ranked
where choice = 1
