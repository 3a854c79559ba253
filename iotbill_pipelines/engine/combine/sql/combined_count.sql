-- Started blocks, or the step that is reached: bounds are inclusive, nothing used reaches none.
-- The greatest measure is what is priced.
with stepped as (
  select q.window_start, q.window_end, q.level, q.account_id, q.service_id, q.charge_id,
    q.measure_no, q.measured, q.quantity,
    case when min(m.each_quantity) > 0
         then ceil_div(greatest(q.quantity, wide(0)), min(m.each_quantity))
         when q.quantity <= 0 then wide(0)
         else wide(1 + sum(case when q.quantity > m.bound_quantity then 1 else 0 end)) end as units
  from combined_measure as q
  join charge_measure as m on m.charge_id = q.charge_id and m.measure_no = q.measure_no
  group by q.window_start, q.window_end, q.level, q.account_id, q.service_id, q.charge_id,
    q.measure_no, q.measured, q.quantity
)
select window_start, window_end, level, account_id, service_id, charge_id,
  cast(max(units) as bigint) as units,
  joined(array_agg(lpad(cast(measure_no as string), 9, '0') || measured || ' '
    || cast(quantity as string) || ' -> ' || cast(units as string)), 9, ', ') as told
from stepped
group by window_start, window_end, level, account_id, service_id, charge_id
