-- One-time charges of transitions, at each level: by the offer of that day; a cancellation also
-- by the offer that ends with it.
with offered as (
  select t.*, i.level, i.account_id, i.offer_id,
    row_number() over (
      partition by t.service_id, t.changed_at, i.level order by i.from_date desc nulls last) as rank_
  from service_transition as t
  left join state as s on s.state = t.to_state
  join service_offer_interval as i on i.service_id = t.service_id
    and i.from_date <= t.local_date
    and (i.to_date > t.local_date or (i.to_date = t.local_date and s.core_state = 'cancelled'))
)
select o.usage_period, o.level, o.account_id, o.service_id, o.offer_id, o.changed_at, o.local_date,
  o.from_state, o.to_state, c.charge_id,
  coalesce(k.price_id, n.price_id) as price_id, r.rate_e12 + r.flat_e12 as price_e12
from offered as o
join charge as c on c.offer_id = o.offer_id and c.kind = 'transition'
  and c.transition_from = o.from_state and c.transition_to = o.to_state
  and o.state_months >= c.transition_after_months and o.state_days >= c.transition_after_days
left join price_interval as n on n.charge_id = c.charge_id and n.condition_key = ''
  and n.from_date <= o.local_date and n.to_date > o.local_date
left join contract_price as k on k.service_id = o.service_id and k.account_id = o.account_id
  and k.replaced_price_id = n.price_id and k.from_date <= o.local_date and k.to_date > o.local_date
left join price_tier as r on r.price_id = coalesce(k.price_id, n.price_id) and r.tier_no = 1
where o.rank_ = 1
