-- What each slice of a count costs: exact_e12 / (unit_size * 10^12) currency units.
with turned as (
  select s.slice_no, s.price_id, s.unit_size, wide(s.from_quantity) as from_quantity,
    wide(s.to_quantity) as to_quantity, wide(s.total_quantity) as total_quantity, p.model, p.edge,
    p.package_rounding,
    case when p.model in ('flat', 'graduated', 'package', 'threshold_excess')
         then 'cumulative' else 'whole' end as method
  from price_slice_input as s
  join price as p on p.price_id = s.price_id
),
-- Stretches of the count that rise from zero. A count that falls gives back what it cost to rise,
-- and below zero a credit mirrors the charge (RULEBOOK §0.1), so that a reversal cancels exactly.
stretch as (
  select slice_no, price_id, unit_size, model, edge, package_rounding,
    case when from_quantity < to_quantity then 1 else -1 end as direction,
    greatest(least(from_quantity, to_quantity), 0) as low, greatest(from_quantity, to_quantity) as high
  from turned
  where method = 'cumulative' and from_quantity <> to_quantity
    and greatest(from_quantity, to_quantity) > 0
  union all
  select slice_no, price_id, unit_size, model, edge, package_rounding,
    case when from_quantity < to_quantity then 1 else -1 end,
    greatest(-greatest(from_quantity, to_quantity), 0), -least(from_quantity, to_quantity)
  from turned
  where method = 'cumulative' and from_quantity <> to_quantity
    and least(from_quantity, to_quantity) < 0
),
placed as (
  select slice_no, price_id, unit_size, edge, direction,
    -- packages count whole: positions move to the end of a started one, or of the last full one
    case when model <> 'package' then low
         when package_rounding = 'down' then floor_div(low, unit_size) * unit_size
         else ceil_div(low, unit_size) * unit_size end as from_position,
    case when model <> 'package' then high
         when package_rounding = 'down' then floor_div(high, unit_size) * unit_size
         else ceil_div(high, unit_size) * unit_size end as to_position
  from stretch
),
-- the part of every tier that the stretch covers, as positions inside the tier
covered as (
  select s.slice_no, s.unit_size, s.direction, s.from_position, t.lower_quantity, t.block_quantity,
    t.rate_e12, t.flat_e12, s.edge,
    greatest(s.from_position, wide(t.lower_quantity)) - t.lower_quantity as tier_from,
    least(s.to_position, coalesce(wide(t.upper_quantity), s.to_position)) - t.lower_quantity
      as tier_to
  from placed as s
  join price_tier as t on t.price_id = s.price_id
  where s.from_position < s.to_position
    -- with an exclusive edge a count that ends at a bound has entered the tier behind it
    and (t.lower_quantity < s.to_position
         or (s.edge = 'exclusive' and t.lower_quantity = s.to_position))
    and coalesce(wide(t.upper_quantity), s.to_position) >= s.from_position
),
cumulative as (
  select slice_no,
    sum(direction * (
      case when tier_to <= tier_from then wide(0)
           when block_quantity = 0 then (tier_to - tier_from) * wide(rate_e12)
           else (ceil_div(tier_to, block_quantity) - ceil_div(tier_from, block_quantity))
             * wide(rate_e12) * unit_size end
      -- the fee of a tier falls due when the count enters it
      + case when lower_quantity > from_position
               or (lower_quantity = from_position and (edge = 'inclusive' or lower_quantity = 0))
             then wide(flat_e12) * unit_size
             else wide(0) end
    )) as exact_e12
  from covered
  group by slice_no
),
whole as (
  select s.slice_no,
    sum(
      case when s.model = 'stairstep' then wide(0)
           when t.block_quantity = 0 then (s.to_quantity - s.from_quantity) * wide(t.rate_e12)
           else (case when s.to_quantity < 0 then -1 else 1 end
                   * ceil_div(abs(s.to_quantity), t.block_quantity)
                 - case when s.from_quantity < 0 then -1 else 1 end
                   * ceil_div(abs(s.from_quantity), t.block_quantity))
             * wide(t.rate_e12) * s.unit_size end
      + case when s.to_quantity = s.total_quantity
             then case when s.total_quantity < 0 then -1 else 1 end * wide(t.flat_e12) * s.unit_size
             else wide(0) end
    ) as exact_e12
  from turned as s
  join price_tier as t on t.price_id = s.price_id
  where s.method = 'whole' and s.from_quantity <> s.to_quantity and s.total_quantity <> 0
    and case when s.edge = 'exclusive'
             then t.lower_quantity <= abs(s.total_quantity)
               and (t.upper_quantity is null or abs(s.total_quantity) < t.upper_quantity)
             else t.lower_quantity < abs(s.total_quantity)
               and (t.upper_quantity is null or abs(s.total_quantity) <= t.upper_quantity) end
  group by s.slice_no
),
priced as (
  select s.*, p.least_e12, p.most_e12, p.rounding_mode, p.rounding_digits,
    coalesce(c.exact_e12, w.exact_e12,
      case when p.at_zero and s.total_quantity = 0 then wide(f.flat_e12) * s.unit_size end, wide(0))
      + case when p.connect_e12 > 0 then wide(p.connect_e12) * (connections_of_slice) * s.unit_size
             else wide(0) end as due_e12
  from price_slice_input as s
  join price as p on p.price_id = s.price_id
  join price_tier as f on f.price_id = s.price_id and f.tier_no = 1
  left join cumulative as c on c.slice_no = s.slice_no
  left join whole as w on w.slice_no = s.slice_no
),
bounded as (
  select *,
    case when from_quantity = to_quantity then due_e12
         else case when due_e12 < 0 then -1 else 1 end * least(
           greatest(abs(due_e12), coalesce(wide(least_e12) * unit_size, abs(due_e12))),
           coalesce(wide(most_e12) * unit_size,
                    greatest(abs(due_e12), coalesce(wide(least_e12) * unit_size, abs(due_e12)))))
    end as bounded_e12
  from priced
)
select *,
  case when rounding_mode is null then bounded_e12
       else rounded_div(bounded_e12, unit_size * ten_to(12 - rounding_digits), rounding_mode)
         * unit_size * ten_to(12 - rounding_digits) end as exact_e12
from bounded
