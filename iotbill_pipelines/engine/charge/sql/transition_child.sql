-- Occurrences as children of the transition charge.
select d.usage_period, d.level, d.account_id, d.service_id, d.charge_id, d.price_id, d.from_state,
  d.to_state, d.local_date, cast(d.changed_at as string) as occurrence_key,
  wide(d.price_e12) as exact_e12, t.amount_minor as charge_minor
from transition_due as d
join transition_total as t on t.level = d.level and t.account_id = d.account_id
  and t.service_id = d.service_id and t.charge_id = d.charge_id
where d.price_id is not null
