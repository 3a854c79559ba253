-- What every month earned and cost: charges by their usage period, and what moves them between months
-- by the month it is booked in. Commissions are no part of it.
create view earned_amount as
select 'charge' as source, usage_period as period, accounting_period, level, entity_id, account_id,
  service_id, product_id, kind, currency, amount_minor, amount
from booked_charge
where level in ('retail', 'vendor')
union all
select purpose, accounting_period, accounting_period, level, entity_id, account_id, service_id,
  product_id, kind, currency,
  case when purpose = 'deferral' then -amount_minor else amount_minor end,
  case when purpose = 'deferral' then -amount else amount end
from derived_entry
where purpose in ('deferral', 'release', 'allocation', 'true_up', 'cut_off')
  and level in ('retail', 'vendor');

-- The same by accounting month, SIM, customer and vendor. A SIM's cost is the account's that it was
-- billed to most, or its holder's where nobody was billed; its revenue is with the vendor that costs
-- most. '(nobody)' and '(none)' are those whom nothing says.
create view earned_part as
with amount as not materialized (
  select accounting_period, level, account_id, service_id, currency, sum(amount_minor) as minor
  from earned_amount
  group by accounting_period, level, account_id, service_id, currency
), payer as not materialized (
  select distinct on (accounting_period, service_id) accounting_period, service_id, account_id
  from amount where level = 'retail' and service_id <> ''
  order by accounting_period, service_id, minor desc, account_id
), carrier as not materialized (
  select distinct on (accounting_period, service_id, currency) accounting_period, service_id,
    currency, account_id
  from amount where level = 'vendor' and service_id <> ''
  order by accounting_period, service_id, currency, minor desc, account_id
)
select c.accounting_period, c.service_id, c.currency,
  case when c.level = 'retail' then c.account_id
       else coalesce(p.account_id, s.account_id, '(nobody)') end as customer,
  case when c.level = 'vendor' then c.account_id else coalesce(k.account_id, '(none)') end as vendor,
  case when c.level = 'retail' then c.minor else 0 end as revenue_minor,
  case when c.level = 'vendor' then c.minor else 0 end as cost_minor
from amount as c
left join payer as p using (accounting_period, service_id)
left join carrier as k using (accounting_period, service_id, currency)
left join reference_service as s on s.service_id = c.service_id and s.known_to is null;
