-- One amount per window, rounded once, then held between least and greatest amount.
with rounded as (
  select s.*, c.product_id, o.currency, c.minimum_minor, c.maximum_minor, c.minimum_at_zero,
    coalesce(p.exact_e12, wide(0)) as exact_e12,
    cast(rounded_div(
      coalesce(p.exact_e12, wide(0)) * y.minor_per_unit,
      wide(s.unit_size) * 1000000000000, c.rounding_mode) as bigint) as rounded_minor
  from combined_slice as s
  join charge as c on c.charge_id = s.charge_id
  join offer as o on o.offer_id = c.offer_id
  join currency_unit as y on y.currency = o.currency
  left join combined_slice_priced as p on p.slice_no = s.slice_no and s.price_id is not null
),
raised as (
  select *,
    case when exact_e12 = 0 and not minimum_at_zero then rounded_minor
         else greatest(rounded_minor, coalesce(minimum_minor, rounded_minor)) end as raised_minor
  from rounded
)
select p.usage_period, r.*, least(r.raised_minor, coalesce(r.maximum_minor, r.raised_minor))
    as amount_minor,
  case when r.window_start = p.start_date and r.window_end = p.end_date then ''
       else ' from ' || cast(r.window_start as string) || ' to before '
         || cast(r.window_end as string) end as days
from raised as r
cross join settled_period as p
