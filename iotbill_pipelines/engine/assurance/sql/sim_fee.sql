-- What a month of a SIM costs by an offer of a vendor: its recurring prices, where each has one.
with fee as (
  select c.offer_id, c.charge_id,
    case when min(t.rate_e12 + t.flat_e12) = max(t.rate_e12 + t.flat_e12)
         then min(t.rate_e12 + t.flat_e12) end as price_e12
  from charge as c
  join offer as f on f.offer_id = c.offer_id and f.level = 'vendor'
  join price as p on p.charge_id = c.charge_id
  join price_tier as t on t.price_id = p.price_id
  cross join audit_scope as s
  where c.kind = 'recurring' and p.valid_from < s.period_end
    and (p.valid_to is null or p.valid_to > s.period_start)
  group by c.offer_id, c.charge_id
)
select e.offer_id, f.currency,
  case when count(e.price_e12) = count(*)
       then cast(half_up_div(wide(sum(e.price_e12)), c.unit_e12) as bigint) end as fee_minor
from fee as e
join offer as f on f.offer_id = e.offer_id
join audit_currency as c on c.currency = f.currency
group by e.offer_id, f.currency, c.unit_e12
