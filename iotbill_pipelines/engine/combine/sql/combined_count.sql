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
  string_agg(measured || ' ' || cast(quantity as varchar) || ' -> ' || cast(units as varchar), ', '
    order by measure_no) as told
from stepped
group by window_start, window_end, level, account_id, service_id, charge_id
