-- Usage after cancellation, at the price that the vendor's offer has for its class. Where zone or tier
-- decides, at what the vendor's usage of that price list came to on average in the month; where there
-- was none of it, at the dearest price that the list has.
with listed as (
  select c.charge_id, c.offer_id, c.usage_class, f.currency, c.unit_size,
    count(*) as tiers, max(p.model) as model, max(t.rate_e12) as rate_e12
  from charge as c
  join offer as f on f.offer_id = c.offer_id and f.level = 'vendor'
  join price as p on p.charge_id = c.charge_id
  join price_tier as t on t.price_id = p.price_id
  cross join audit_scope as s
  where c.kind = 'usage' and p.valid_from < s.period_end
    and (p.valid_to is null or p.valid_to > s.period_start)
  group by c.charge_id, c.offer_id, c.usage_class, f.currency, c.unit_size
), come_to as (
  select charge_id, currency, cast(sum(amount_minor) as bigint) as amount_minor,
    cast(sum(quantity) as bigint) as quantity
  from desired_charge
  where level = 'vendor' and kind = 'usage'
  group by charge_id, currency
), class_price as (
  select l.offer_id, l.usage_class, l.currency, min(l.unit_size) as unit_size,
    case when sum(l.tiers) = 1 and max(l.model) = 'flat' then max(l.rate_e12) end as flat_e12,
    max(l.rate_e12) as dearest_e12, cast(sum(coalesce(a.amount_minor, 0)) as bigint) as amount_minor,
    cast(sum(coalesce(a.quantity, 0)) as bigint) as quantity
  from listed as l
  left join come_to as a on a.charge_id = l.charge_id and a.currency = l.currency
  group by l.offer_id, l.usage_class, l.currency
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
  case when f.flat_e12 is not null then 'at the price of ' || k.vendor_id
       when f.quantity > 0 then 'at the average price of ' || k.vendor_id || ' in the month'
       when f.dearest_e12 is not null then 'at the dearest price of ' || k.vendor_id
       else 'no price of its carrier covers it' end as priced,
  case when f.flat_e12 is null and f.quantity > 0
       then cast(half_up_div(wide(u.quantity) * wide(f.amount_minor), wide(f.quantity)) as bigint)
       else cast(half_up_div(
         wide(u.quantity) * wide(coalesce(f.flat_e12, f.dearest_e12)),
         wide(f.unit_size) * c.unit_e12) as bigint)
  end as amount_minor
from used as u
left join sim_contract as k on k.service_id = u.service_id
left join class_price as f on f.offer_id = k.offer_id and f.usage_class = u.usage_class
left join audit_currency as c on c.currency = f.currency
