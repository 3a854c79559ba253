-- Days [from_date, to_date) on which services of committed accounts are there to be counted, by
-- offer and core state.
select i.level, i.account_id, i.service_id, i.offer_id, t.core_state,
  greatest(i.from_date, t.from_date) as from_date, least(i.to_date, t.to_date) as to_date
from service_offer_interval as i
join (select distinct account_id from committed_scope) as a on a.account_id = i.account_id
join service_state_interval as t on t.service_id = i.service_id
  and t.core_state in ('active', 'suspended')
where greatest(i.from_date, t.from_date) < least(i.to_date, t.to_date)
