-- The SIM that stands for a service towards a vendor: the identifier type that the vendor prints,
-- else ICCID, else IMSI. A SIM that changed owner in the month is still one SIM on the invoice.
with wanted as (
  select vendor_id, service_id from reconcile_expected_service
  union
  select vendor_id, service_id from reconcile_owner
), candidate as (
  select w.vendor_id, w.service_id, i.uid_type, i.uid_value, i.valid_from,
    case when i.valid_from < cast(m.month_end as timestamp)
          and (i.valid_to is null or i.valid_to > cast(m.month_start as timestamp))
         then 1 else 0 end as in_period,
    case when i.uid_type = v.uid_type then 0 when i.uid_type = 'iccid' then 1
         when i.uid_type = 'imsi' then 2 else 3 end as preference
  from wanted as w
  cross join reconcile_scope as s
  join reconcile_month as m on m.vendor_id = w.vendor_id and m.month = s.period
  left join service_identifier as i on i.service_id = w.service_id
  left join vendor_tolerance as v on v.vendor_id = w.vendor_id
), ranked as (
  select *, row_number() over (
    partition by vendor_id, service_id
    order by in_period desc nulls last, preference asc nulls last, valid_from desc nulls last,
      uid_type asc nulls last, uid_value asc nulls last) as choice
  from candidate
)
select vendor_id, service_id, uid_type, uid_value, coalesce(uid_type, 'service') as unit_type,
  coalesce(case when uid_type = 'iccid' then substr(uid_value, 1, 19) else uid_value end,
    service_id) as unit_value
from ranked
where choice = 1
