-- Charges with the one flat rate they have, where they have one. A charge whose rate depends on
-- zone, tier, state or a date inside the month has none: its effective rate is then the expected
-- amount over the expected quantity.
with flat as (
  select p.charge_id, p.price_id, max(t.rate_e12) as rate_e12,
    case when count(*) = 1 and max(p.model) = 'flat' then 1 else 0 end as is_flat
  from price as p
  join price_tier as t on t.price_id = p.price_id
  cross join reconcile_scope as s
  where p.valid_from < s.period_end and (p.valid_to is null or p.valid_to > s.period_start)
  group by p.charge_id, p.price_id
), single as (
  select charge_id,
    case when min(is_flat) = 1 and min(rate_e12) = max(rate_e12) then min(rate_e12) end as rate_e12
  from flat
  group by charge_id
), shared as (
  -- a share plan's overage belongs to the one offer that takes part in it
  select b.overage_charge_id as charge_id, min(p.offer_id) as offer_id
  from share_bucket as b
  join share_participant as p on p.bucket_id = b.bucket_id
  group by b.overage_charge_id
  having min(p.offer_id) = max(p.offer_id)
)
select c.charge_id, coalesce(c.offer_id, shared.offer_id) as offer_id, coalesce(c.external_code, c.charge_id) as charge_code, c.kind,
  c.unit_size, c.allowance_quantity, c.basis, c.billable, c.pooled,
  -- usage that draws from a pool costs nothing by itself; its overage is a charge of its own
  case when c.pooled then wide(0) else wide(single.rate_e12) end as rate_e12
from charge as c
left join single on single.charge_id = c.charge_id
left join shared on shared.charge_id = c.charge_id
