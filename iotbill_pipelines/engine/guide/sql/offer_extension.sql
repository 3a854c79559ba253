-- By how many days suspensions moved the agreed end of an offer (ST-23). Every suspension that begins
-- before the end, as the earlier ones moved it, moves it by its days; one that has not ended keeps
-- the offer open.
with suspended as (
  select o.service_id, o.level, o.valid_from, o.valid_to, t.from_date,
    days_between(greatest(t.from_date, o.valid_from), t.to_date) as days
  from service_offer as o
  join service_state_interval as t on t.service_id = o.service_id and t.to_date > o.valid_from
  join state as s on s.state = t.state and s.extends_terms
  where o.valid_to is not null
),
summed as (
  select *,
    sum(days) over (
      partition by service_id, level, valid_from order by from_date asc nulls last
      rows between unbounded preceding and current row) as days_so_far
  from suspended
)
select service_id, level, valid_from, cast(max(days_so_far) as bigint) as days
from summed
where days_between(valid_to, from_date) < days_so_far - days
group by service_id, level, valid_from
