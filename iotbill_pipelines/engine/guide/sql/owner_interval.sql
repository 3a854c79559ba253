-- Which service an identifier meant, half-open in UTC (MD-10). Where a row was left open although
-- a later one follows, the later one ends it, so that an instant has one owner.
with ordered as (
  select i.uid_type, i.uid_value, i.service_id, i.valid_from,
    i.valid_to,
    lead(i.valid_from) over (
      partition by i.uid_type, i.uid_value order by i.valid_from asc nulls last
    ) as next_from
  from service_identifier as i
)
select o.uid_type, o.uid_value, o.service_id, o.valid_from as from_utc,
  least(
    coalesce(o.valid_to, timestamp '9999-12-31 00:00:00'),
    coalesce(o.next_from, timestamp '9999-12-31 00:00:00')
  ) as to_utc
from ordered as o
join service as s on s.service_id = o.service_id
