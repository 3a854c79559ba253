-- Days into fractions of the price: numerator / denominator, one denominator per charge so that
-- the sum is exact. Bases that depend on all days share the whole out by days: cutting a segment
-- in two at the same price changes nothing. A charge that counts services owes whole prices: for
-- the segment of the day that counts, or shared by days.
with used as (
  select distinct s.window_start, s.level, s.account_id, s.service_id
  from recurring_segment as s
  join charge as c on c.charge_id = s.charge_id and c.billable = 'used'
  join usage_free as u on u.level = s.level and u.account_id = s.account_id
    and u.service_id = s.service_id and u.window_start < s.window_end
    and u.window_end > s.window_start and u.records > 0
), activated as (
  select t.service_id, min(t.from_date) as active_date
  from service_state_interval as t
  join (
    select distinct s.service_id
    from recurring_segment as s
    join charge as c on c.charge_id = s.charge_id and c.billable = 'from_activation'
  ) as n on n.service_id = t.service_id
  where t.core_state = 'active'
  group by t.service_id
)
select s.*, t.rate_e12 + t.flat_e12 as period_e12,
  cast(case c.billable
    when 'first_day' then case when s.from_date = s.window_start then 1 else 0 end
    when 'last_day' then case when s.to_date = s.window_end then 1 else 0 end
    when 'used' then case when u.service_id is null then 0 else s.segment_days end
    when 'peak' then s.segment_days
    when 'from_activation' then floor_div(days_between(a.active_date, s.to_date) - 1, c.billable_days)
      - floor_div(days_between(a.active_date, greatest(a.active_date, s.from_date)) - 1,
          c.billable_days)
    else case s.basis
      when 'actual' then s.segment_days
      when 'actual_30' then s.segment_days * least(s.charge_days, 30 * s.months)
      when 'strict_30_360' then s.strict_days
      when 'by_month_first' then m.month_parts
      else s.segment_days end end as bigint) as share_days,
  cast(case
    when c.billable in ('first_day', 'last_day', 'from_activation') then 1
    when c.billable in ('used', 'peak') then s.charge_days
    else case s.basis
      when 'actual' then s.days
      when 'actual_30' then 30 * s.months * s.charge_days
      when 'strict_30_360' then 30 * s.months
      when 'by_month_first' then 377580 * s.months
      else s.charge_days end end as bigint) as whole_days
from recurring_segment as s
join charge as c on c.charge_id = s.charge_id
join price_tier as t on t.price_id = s.price_id and t.tier_no = 1
left join used as u on u.window_start = s.window_start and u.level = s.level
  and u.account_id = s.account_id and u.service_id = s.service_id
left join activated as a on a.service_id = s.service_id
left join recurring_by_month as m on m.window_start = s.window_start and m.level = s.level
  and m.account_id = s.account_id and m.service_id = s.service_id and m.charge_id = s.charge_id
  and m.from_date = s.from_date and m.price_id = s.price_id
