-- What each price of a usage charge comes to, beside what it is for.
with amount as (
  select window_start, level, account_id, service_id, charge_id, price_id, sum(units * repeats) as units,
    sum(exact_e12 * repeats) as exact_e12
  from usage_slice_priced
  group by window_start, level, account_id, service_id, charge_id, price_id
)
select u.usage_period, u.window_start, u.window_end, u.level, u.account_id, u.service_id, u.offer_id, u.charge_id, u.price_id,
  u.records, u.quantity, u.allowance_quantity, a.units, a.exact_e12
from usage_free as u
join amount as a on a.window_start = u.window_start and a.level = u.level and a.account_id = u.account_id
  and a.service_id = u.service_id and a.charge_id = u.charge_id and a.price_id = u.price_id
where not u.pooled
