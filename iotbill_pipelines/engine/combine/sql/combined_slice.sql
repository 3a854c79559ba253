-- The count of each combined charge at the price that holds on the last day of its window.
select c.window_start, c.window_end, c.level, c.account_id, c.service_id, c.charge_id, c.units,
  c.told, coalesce(k.price_id, i.price_id) as price_id, h.unit_size, wide(0) as from_quantity, wide(c.units) as to_quantity,
  wide(c.units) as total_quantity,
  row_number() over (
    order by c.level nulls last, c.account_id nulls last, c.service_id nulls last,
      c.charge_id nulls last, c.window_start nulls last) as slice_no
from combined_count as c
join charge as h on h.charge_id = c.charge_id
left join price_interval as i on i.charge_id = c.charge_id and i.condition_key = ''
  and i.from_date < c.window_end and i.to_date >= c.window_end
-- what a contract agreed on: the service's own or its account's, of an account's count the account's
left join (
  select account_id, service_id, replaced_price_id, price_id, from_date, to_date
  from contract_price
  union all
  select account_id, service_id, replaced_price_id, price_id, from_date, to_date
  from contract_rate
  where service_id = ''
) as k on k.account_id = c.account_id and k.service_id = c.service_id
  and k.replaced_price_id = i.price_id and k.from_date < c.window_end and k.to_date >= c.window_end
