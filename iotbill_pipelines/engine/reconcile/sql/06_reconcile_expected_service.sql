-- Our expected cost: what the vendor's terms give for our own usage and inventory, for the
-- charges that belong on the invoice of the period. Vendors that have sent no invoice are left out:
-- their cost is accrued as a whole (VR-08), it is not a thousand unbilled SIMs. A discount of the
-- vendor's contract is part of what it reduces; what the contract itself charges, such as a minimum,
-- is billed by the code of its product.
with invoiced as (
  select distinct l.vendor_id
  from vendor_invoice_line as l
  join reconcile_scope as s on s.period = l.billing_period
), counted as (
  -- carriers print what they charge for: usage after increments
  select usage_period, account_id, service_id, charge_id,
    cast(sum(rated_quantity) as bigint) as rated_quantity
  from usage_aggregate
  where level = 'vendor'
  group by usage_period, account_id, service_id, charge_id
), one_price as (
  select p.price_id, wide(max(t.rate_e12)) as rate_e12
  from price as p
  join price_tier as t on t.price_id = p.price_id
  where p.model = 'flat'
  group by p.price_id
  having count(*) = 1
)
select d.account_id as vendor_id, d.service_id, coalesce(c.charge_code, d.product_id) as charge_code,
  d.usage_period, d.currency,
  case when c.charge_id is null then 'account' when d.kind = 'discount' then c.kind
       else d.kind end as kind,
  coalesce(d.window_start, m.month_start) as window_start,
  coalesce(d.window_end, m.month_end) as window_end,
  coalesce(c.unit_size, 1) as unit_size, coalesce(c.allowance_quantity, 0) as allowance_quantity,
  coalesce(c.basis, 'none') as basis, coalesce(c.billable, 'days') as billable, d.amount_minor, d.price_ids,
  case when c.charge_id is null then cast(null as bigint)
       when v.quantities = 'used' then d.quantity
       else coalesce(q.rated_quantity, d.quantity) end as quantity,
  -- a reduced charge has no rate of its own any more: what it comes to over what was counted
  case when c.charge_id is null then wide(d.amount_minor) * money.unit_e12
       when d.kind = 'discount' then wide(null)
       when c.pooled then wide(0) else coalesce(one.rate_e12, c.rate_e12) end as rate_e12,
  -- the plan on the first and on the last day: a carrier may begin a version within a month
  first_plan.plan_no as first_plan_no, own_plan.plan_no as own_plan_no
from desired_charge as d
join reconcile_scope as s on s.period = d.billing_period
join reconcile_currency as money on money.currency = d.currency
left join reconcile_own_price as c on c.charge_id =
  case when d.kind = 'discount' then swap(d.charge_id, '^[^/]*/[^/]*/', '') else d.charge_id end
join invoiced as i on i.vendor_id = d.account_id
left join reconcile_month as m on m.vendor_id = d.account_id and m.month = d.usage_period
left join counted as q on q.usage_period = d.usage_period and q.account_id = d.account_id
  and q.service_id = d.service_id and q.charge_id = d.charge_id
left join vendor_tolerance as v on v.vendor_id = d.account_id
left join one_price as one on one.price_id = d.price_ids
left join reconcile_plan_offer as first_plan on first_plan.vendor_id = d.account_id
  and first_plan.offer_id = c.offer_id
  and first_plan.valid_from <= coalesce(d.window_start, m.month_start)
  and (first_plan.valid_to is null
    or first_plan.valid_to > coalesce(d.window_start, m.month_start))
left join reconcile_plan_offer as own_plan on own_plan.vendor_id = d.account_id
  and own_plan.offer_id = c.offer_id
  and own_plan.valid_from < coalesce(d.window_end, m.month_end)
  and (own_plan.valid_to is null or own_plan.valid_to >= coalesce(d.window_end, m.month_end))
where d.level = 'vendor'
  and (c.charge_id is not null or d.kind in ('shortfall', 'commit_overage', 'termination_fee'))
