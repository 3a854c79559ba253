-- States of services with those that ended contracts brought about: on the first day without contract,
-- for services that were under it the day before, unless they were cancelled by then.
with under as (
  select distinct e.service_id, e.changed_at, e.state
  from contract_end as e
  join service_offer as o on o.service_id = e.service_id and o.payer_account_id = e.account_id
    and o.valid_from < e.ended_on and (o.valid_to is null or o.valid_to >= e.ended_on)
),
before_ as (
  select u.service_id, u.changed_at, u.state, s.state as held,
    row_number() over (
      partition by u.service_id, u.changed_at order by s.changed_at desc nulls last) as place
  from under as u
  join service_state as s on s.service_id = u.service_id and s.changed_at <= u.changed_at
)
select service_id, changed_at, state from service_state
union
select b.service_id, b.changed_at, b.state
from before_ as b
left join state as t on t.state = b.held
where b.place = 1 and b.held <> b.state and coalesce(t.core_state, 'unknown') <> 'cancelled'
