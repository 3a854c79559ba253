-- Days into fractions of the price: numerator / denominator, one denominator per charge so that
-- the sum is exact. Bases that depend on all days share the whole out by days: cutting a segment
-- in two at the same price changes nothing.
select s.*, t.rate_e12 + t.flat_e12 as period_e12,
  cast(case s.basis
    when 'actual' then s.segment_days
    when 'actual_30' then s.segment_days * least(s.charge_days, 30 * s.months)
    when 'strict_30_360' then s.strict_days
    when 'by_month_first' then m.month_parts
    else s.segment_days end as bigint) as share_days,
  cast(case s.basis
    when 'actual' then s.days
    when 'actual_30' then 30 * s.months * s.charge_days
    when 'strict_30_360' then 30 * s.months
    when 'by_month_first' then 377580 * s.months
    else s.charge_days end as bigint) as whole_days
from recurring_segment as s
join price_tier as t on t.price_id = s.price_id and t.tier_no = 1
left join recurring_by_month as m on m.window_start = s.window_start and m.level = s.level
  and m.account_id = s.account_id and m.service_id = s.service_id and m.charge_id = s.charge_id
  and m.from_date = s.from_date and m.price_id = s.price_id
