-- Prices by condition for what is priced by day alone: the state for recurring charges, nothing for
-- transitions, combined charges and the overage of pools.
with asked as (
  select c.charge_id, c.kind, '' as condition_key
  from charge as c
  where c.kind in ('transition', 'overage', 'combined')
  union all
  select c.charge_id, c.kind, s.state
  from charge as c
  cross join state as s
  where c.kind = 'recurring' and s.core_state <> 'cancelled'
)
select a.charge_id, a.condition_key, p.price_id, p.priority, p.valid_from,
  coalesce(p.valid_to, date '9999-12-31') as valid_to
from asked as a
join price as p on p.charge_id = a.charge_id
left join state as s on s.state = a.condition_key
where p.priority > 0
  and case when a.kind = 'recurring'
           then p.state = a.condition_key or (p.state is null and s.core_state = 'active')
           else p.zone is null end
