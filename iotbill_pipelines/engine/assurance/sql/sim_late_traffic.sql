-- Usage after cancellation, at the flat price that the vendor's offer has for its class. A class
-- whose price depends on zone or tier has none: its traffic is told without an amount.
with flat as (
  select c.offer_id, c.usage_class, f.currency, min(c.unit_size) as unit_size,
    case when count(*) = 1 and max(p.model) = 'flat' then max(t.rate_e12) end as rate_e12
  from charge as c
  join offer as f on f.offer_id = c.offer_id and f.level = 'vendor'
  join price as p on p.charge_id = c.charge_id
  join price_tier as t on t.price_id = p.price_id
  cross join audit_scope as s
  where c.kind = 'usage' and p.valid_from < s.period_end
    and (p.valid_to is null or p.valid_to > s.period_start)
  group by c.offer_id, c.usage_class, f.currency
), used as (
  select r.service_id, r.usage_class, min(r.uid_value) as uid_value, count(*) as records,
    cast(sum(r.quantity) as bigint) as quantity, min(r.event_start) as first_seen
  from suspended_record as r
  join audit_scope as s on s.period = r.usage_month
  where r.reason_code = 'after_cancel' and r.service_id is not null
  group by r.service_id, r.usage_class
)
select u.service_id, u.usage_class, u.uid_value, u.records, u.quantity,
  cast(u.first_seen as string) as first_seen, k.vendor_id, f.currency,
  case when f.rate_e12 is not null then cast(half_up_div(
      wide(u.quantity) * wide(f.rate_e12), wide(f.unit_size) * c.unit_e12) as bigint)
  end as amount_minor
from used as u
left join sim_contract as k on k.service_id = u.service_id
left join flat as f on f.offer_id = k.offer_id and f.usage_class = u.usage_class
left join audit_currency as c on c.currency = f.currency
