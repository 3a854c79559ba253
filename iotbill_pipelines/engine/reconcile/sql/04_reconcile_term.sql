-- What a vendor's charge code means under the offers that we bought from it: used where a billed
-- line has no expected counterpart of its own.
with contracted as (
  select distinct payer_account_id as vendor_id, offer_id
  from service_offer
  where level = 'vendor'
), coded as (
  select v.vendor_id, c.charge_code, c.kind, c.unit_size, c.rate_e12
  from contracted as v
  join reconcile_own_price as c on c.offer_id = v.offer_id
  union all
  select v.vendor_id, c.charge_code, c.kind, c.unit_size, c.rate_e12
  from contracted as v
  join share_participant as s on s.offer_id = v.offer_id
  join share_bucket as b on b.bucket_id = s.bucket_id
  join reconcile_own_price as c on c.charge_id = b.overage_charge_id
)
select vendor_id, charge_code, min(kind) as kind, min(unit_size) as unit_size,
  case when min(rate_e12) = max(rate_e12) and count(rate_e12) = count(*)
        and min(unit_size) = max(unit_size) then min(rate_e12) end as rate_e12
from coded
group by vendor_id, charge_code
