-- Offers of a service as UTC intervals, per level of its seller chain, with the gaps between them
-- as rows without an offer: a level that once had an offer must be rated at every instant.
with dated as (
  select i.service_id, i.level, i.account_id, i.offer_id, a.billing_zone,
    case when i.from_date < b.first_date then timestamp '1000-01-01 00:00:00'
         else coalesce(f.starts_utc, timestamp '9999-12-31 00:00:00') end as from_utc,
    case when i.to_date < b.first_date then timestamp '1000-01-01 00:00:00'
         else coalesce(t.starts_utc, timestamp '9999-12-31 00:00:00') end as to_utc
  from service_offer_interval as i
  join account as a on a.account_id = i.account_id
  cross join calendar_bound as b
  left join zone_day as f on f.billing_zone = a.billing_zone and f.local_date = i.from_date
  left join zone_day as t on t.billing_zone = a.billing_zone and t.local_date = i.to_date
),
followed as (
  select d.service_id, d.level, d.account_id, d.offer_id, d.billing_zone, d.from_utc, d.to_utc,
    coalesce(
      lead(d.from_utc) over (
        partition by d.service_id, d.level
        order by d.from_utc asc nulls last, d.to_utc asc nulls last),
      timestamp '9999-12-31 00:00:00') as next_utc,
    row_number() over (
      partition by d.service_id, d.level
      order by d.from_utc asc nulls last, d.to_utc asc nulls last) as position_
  from dated as d
)
select service_id, level, account_id, offer_id, billing_zone, from_utc,
  least(to_utc, next_utc) as to_utc
from followed
where from_utc < least(to_utc, next_utc)
union all
select service_id, level, cast(null as string), cast(null as string), cast(null as string),
  timestamp '1000-01-01 00:00:00', from_utc
from followed
where position_ = 1 and from_utc > timestamp '1000-01-01 00:00:00'
union all
select service_id, level, cast(null as string), cast(null as string), cast(null as string),
  to_utc, next_utc
from followed
where to_utc < next_utc
