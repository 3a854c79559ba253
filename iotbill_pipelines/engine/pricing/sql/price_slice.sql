-- What each slice of a count costs: exact_e12 / (unit_size * 10^12) currency units.
with placed as (
  select s.slice_no, s.price_id, s.unit_size, s.from_quantity, s.to_quantity, s.total_quantity,
    p.model,
    case when p.model in ('flat', 'graduated', 'package', 'threshold_excess')
         then 'cumulative' else 'whole' end as method,
    -- started packages count whole: positions move up to the end of their package
    case when p.model = 'package' then ceil_div(s.from_quantity, s.unit_size) * s.unit_size
         else wide(s.from_quantity) end as from_position,
    case when p.model = 'package' then ceil_div(s.to_quantity, s.unit_size) * s.unit_size
         else wide(s.to_quantity) end as to_position
  from price_slice_input as s
  join price as p on p.price_id = s.price_id
),
cumulative as (
  select s.slice_no,
    sum(
      (least(s.to_position, coalesce(wide(t.upper_quantity), s.to_position))
        - greatest(s.from_position, wide(t.lower_quantity))) * wide(t.rate_e12)
      -- the fee of a tier falls due when the count enters it
      + case when t.lower_quantity >= s.from_position then wide(t.flat_e12) * s.unit_size
             else wide(0) end
    ) as exact_e12
  from placed as s
  join price_tier as t on t.price_id = s.price_id
  where s.method = 'cumulative' and s.from_position < s.to_position
    and t.lower_quantity < s.to_position
    and coalesce(wide(t.upper_quantity), s.to_position) > s.from_position
  group by s.slice_no
),
whole as (
  select s.slice_no,
    sum(
      case when s.model = 'stairstep' then wide(0)
           else wide(s.to_quantity - s.from_quantity) * wide(t.rate_e12) end
      + case when s.to_quantity = s.total_quantity then wide(t.flat_e12) * s.unit_size
             else wide(0) end
    ) as exact_e12
  from placed as s
  join price_tier as t on t.price_id = s.price_id
  where s.method = 'whole' and s.from_quantity < s.to_quantity
    and t.lower_quantity < s.total_quantity
    and (t.upper_quantity is null or s.total_quantity <= t.upper_quantity)
  group by s.slice_no
)
select s.*, coalesce(c.exact_e12, w.exact_e12, wide(0)) as exact_e12
from price_slice_input as s
left join cumulative as c on c.slice_no = s.slice_no
left join whole as w on w.slice_no = s.slice_no
