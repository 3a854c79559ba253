-- Which rate plan of the carrier each of our offers is, by date. A carrier that has no such terms and
-- calls plans by the ids of our offers means those.
with contracted as (
  select distinct payer_account_id as vendor_id, offer_id
  from service_offer
  where level = 'vendor'
), called as (
  select distinct l.vendor_id
  from vendor_invoice_line as l
  join contracted as c on c.vendor_id = l.vendor_id and c.offer_id = l.plan_id
  left join (select distinct vendor_id from vendor_plan) as p on p.vendor_id = l.vendor_id
  where p.vendor_id is null
), agreed as (
  select vendor_id, offer_id, plan_id, plan_version, valid_from, valid_to from vendor_plan
  union all
  select k.vendor_id, c.offer_id, c.offer_id, cast(null as string), cast('1970-01-01' as date),
    cast(null as date)
  from called as k
  join contracted as c on c.vendor_id = k.vendor_id
)
select a.vendor_id, a.offer_id, p.plan_no, a.valid_from, a.valid_to
from agreed as a
join reconcile_plan as p
  on p.plan_id = a.plan_id and p.plan_version is not distinct from a.plan_version
