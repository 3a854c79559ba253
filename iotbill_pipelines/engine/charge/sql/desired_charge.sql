-- What the ledger should hold for the period, one row a service and charge. A carrier whose months
-- begin on another day than the 1st bills by its own.
with every_charge as (
  select usage_period, billing_period, level, account_id, service_id, charge_id, kind, linear,
    records, quantity, currency, amount_minor, window_start, window_end,
    days_later(window_end, -1) as billed_on
  from usage_charge
  union all
  select usage_period, min(billing_period), level, account_id, service_id, charge_id, 'recurring',
    true, 0, sum(days), min(currency), sum(amount_minor), min(window_start), max(window_end),
    cast(null as date)
  from recurring_total
  group by usage_period, level, account_id, service_id, charge_id
  union all
  select usage_period, usage_period, level, account_id, service_id, charge_id, 'transition', true,
    0, occurrences, currency, amount_minor, first_date, days_later(last_date, 1), last_date
  from transition_total
  union all
  select p.usage_period, p.usage_period, p.level, p.account_id, p.service_id, p.charge_id,
    'overage', min(v.curves) = 0, 0, sum(p.overage_quantity), min(t.currency), sum(p.amount_minor),
    min(t.window_start), max(t.window_end), days_later(max(t.window_end), -1)
  from pool_part as p
  join pool_priced as t on t.window_start = p.window_start and t.level = p.level and t.pool_id = p.pool_id
  join (
    select charge_id, max(case when model = 'flat' then 0 else 1 end) as curves
    from price
    group by charge_id
  ) as v on v.charge_id = p.charge_id
  where p.amount_minor <> 0 or p.overage_quantity <> 0
  group by p.usage_period, p.level, p.account_id, p.service_id, p.charge_id
)
select e.usage_period, coalesce(m.billing_period, e.billing_period) as billing_period, e.level, a.entity_id, e.account_id, e.service_id,
  e.charge_id, c.product_id, e.kind, e.linear, e.records, e.quantity, e.currency, e.amount_minor,
  coalesce(i.price_ids, '') as price_ids, e.window_start, e.window_end
from every_charge as e
join charge as c on c.charge_id = e.charge_id
join account as a on a.account_id = e.account_id
left join charge_price as i on i.usage_period = e.usage_period and i.level = e.level
  and i.account_id = e.account_id and i.service_id = e.service_id and i.charge_id = e.charge_id
left join carrier_month as m on e.level = 'vendor' and m.bill_day = a.bill_day
  and m.first_date <= e.billed_on and m.end_date > e.billed_on
