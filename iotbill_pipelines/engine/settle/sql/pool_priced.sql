-- Overage rounded once on the pool (RULEBOOK §3), then held between least and greatest amount.
with rounded as (
  select t.*, coalesce(s.exact_e12, wide(0)) as exact_e12,
    cast(rounded_div(
      coalesce(s.exact_e12, wide(0)) * t.minor_per_unit,
      wide(t.unit_size) * 1000000000000, t.rounding_mode) as bigint) as rounded_minor
  from pool_total as t
  left join pool_slice_priced as s on s.slice_no = t.slice_no
),
raised as (
  select *,
    case when exact_e12 = 0 then 0
         else greatest(rounded_minor, coalesce(minimum_minor, rounded_minor)) end as raised_minor
  from rounded
)
select *, least(raised_minor, coalesce(maximum_minor, raised_minor)) as amount_minor
from raised
