-- Which price stands in for a catalog price of a service, by local day of the payer, [from_date,
-- to_date). A service with a line-item contract has rows of its own; without a price the catalog's
-- holds on those days.
with served as (
  select distinct service_id, account_id from service_offer_interval
),
own as (
  select distinct account_id, service_id from contract_rate where service_id <> ''
)
select s.service_id, s.account_id, r.replaced_price_id, r.price_id, r.from_date, r.to_date
from served as s
left join own as o on o.account_id = s.account_id and o.service_id = s.service_id
join contract_rate as r on r.account_id = s.account_id
  and r.service_id = coalesce(o.service_id, '')
