-- After increments of the service period: the service's whole use of a charge is rounded once,
-- what that adds goes to the price of the last record (RULEBOOK §6, RT-15).
with total as (
  select u.*, c.increment_point, c.increment_initial, c.increment_subsequent,
    c.allowance_quantity + coalesce(m.quantity, 0) as allowance_quantity,
    sum(u.session_quantity) over (
      partition by u.window_start, u.level, u.account_id, u.service_id, u.charge_id) as charge_quantity,
    count(*) over (
      partition by u.window_start, u.level, u.account_id, u.service_id, u.charge_id) as prices_used,
    row_number() over (
      partition by u.window_start, u.level, u.account_id, u.service_id, u.charge_id
      order by u.last_event desc nulls last, u.price_id desc nulls last, u.pooled desc nulls last)
      as from_last
  from usage_by_price as u
  join charge as c on c.charge_id = u.charge_id
  left join own_more as m on m.window_start = u.window_start and m.level = u.level
    and m.account_id = u.account_id and m.service_id = u.service_id
    and m.charge_id = u.charge_id
)
select window_start, window_end, level, account_id, service_id, offer_id, charge_id, price_id, pooled,
  records, quantity, counted_quantity,
  cast(session_quantity
    + case when increment_point = 'service_period' and from_last = 1 and charge_quantity <> 0
      then case when charge_quantity < 0 then -1 else 1 end * (wide(increment_initial)
        + ceil_div(greatest(abs(charge_quantity) - increment_initial, 0), increment_subsequent)
        * increment_subsequent) - charge_quantity
      else wide(0) end as bigint) as rated_quantity,
  first_event, prices_used, allowance_quantity
from total
