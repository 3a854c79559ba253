-- Segments of the windows that the period settles: in advance those whose first billed day it holds,
-- in arrears those whose last day it holds (or the last day that can be owed). With their days and
-- the invoice that carries them: the one before, where the charge was billable on the period's eve.
-- A carrier's invoice from another day than the 1st carries its own month in arrears, and in advance
-- what begins after it, where the charge was billable on the window's eve.
with announced as (
  select distinct p.usage_period, s.level, s.account_id, s.service_id, s.charge_id
  from recurring_span as s
  join charge_period as p on s.from_date <= p.eve and s.to_date > p.eve
  where s.billing = 'advance'
),
placed as (
  select s.*,
    min(s.from_date) over (
      partition by s.window_start, s.level, s.account_id, s.service_id, s.charge_id) as first_date
  from recurring_span as s
),
carried as (
  -- a carrier's month by the day on which it bills: the window's eve, its first billed day, its last
  select distinct s.window_start, s.level, s.account_id, s.service_id, s.charge_id,
    c.billing_period
  from placed as s
  left join placed as e on e.level = s.level and e.account_id = s.account_id
    and e.service_id = s.service_id and e.charge_id = s.charge_id
    -- one equality: a condition on one side of an outer join makes it compare all with all
    and e.to_date = case when s.first_date = s.window_start then s.window_start end
  join carrier_month as c on c.bill_day = s.bill_day and s.level = 'vendor'
    and c.first_date <= case when s.billing = 'arrears' then days_later(s.window_end, -1)
      when e.charge_id is null then s.first_date else days_later(s.window_start, -1) end
    and c.end_date > case when s.billing = 'arrears' then days_later(s.window_end, -1)
      when e.charge_id is null then s.first_date else days_later(s.window_start, -1) end
),
due as (
  select p.usage_period, p.advance_only, s.cycle, s.bill_day, s.window_start, s.window_end, s.days,
    s.months, s.level, s.account_id, s.service_id, s.offer_id, s.charge_id, s.basis, s.billing,
    s.price_id, s.state, s.from_date, s.to_date,
    coalesce(k.billing_period, case when a.usage_period is null then p.usage_period
      else p.previous_period end) as billing_period
  from placed as s
  left join recurring_owed as o on o.window_start = s.window_start and o.level = s.level
    and o.account_id = s.account_id and o.service_id = s.service_id and o.charge_id = s.charge_id
  join charge_period as p
    on case when s.billing = 'advance' then s.first_date else o.last_date end >= p.start_date
    and case when s.billing = 'advance' then s.first_date else o.last_date end < p.end_date
  left join announced as a on a.usage_period = p.usage_period and a.level = s.level
    and a.account_id = s.account_id and a.service_id = s.service_id and a.charge_id = s.charge_id
  left join carried as k on k.window_start = s.window_start and k.level = s.level
    and k.account_id = s.account_id and k.service_id = s.service_id and k.charge_id = s.charge_id
),
chained as (
  select d.*, days_between(d.from_date, d.to_date) as segment_days,
    coalesce(lag(d.to_date) over (
      partition by d.window_start, d.level, d.account_id, d.service_id, d.charge_id
      order by d.from_date asc nulls last) = d.from_date, false) as follows,
    (extract(year from d.from_date) - extract(year from d.window_start)) * 12
      + extract(month from d.from_date) - extract(month from d.window_start) as from_month,
    (extract(year from d.to_date) - extract(year from d.window_start)) * 12
      + extract(month from d.to_date) - extract(month from d.window_start) as to_month
  from due as d
  -- a charge in advance of the coming period is carried by this period's invoice only if it goes on
  -- from this period
  where not d.advance_only or d.billing_period < d.usage_period
)
select k.*,
  -- strict_30_360: a month's last day counts as the 30th; a segment that follows another goes on
  -- counting where that one stopped, so that the 31st is not counted twice
  cast(greatest(0,
    case when k.to_date = k.window_end then 30 * k.months
         else least(30 * k.months, greatest(0, k.to_month * 30
           + least(extract(day from k.to_date) - 1, 30)
           - least(extract(day from k.window_start), 30) + 1)) end
    - case when k.from_date = k.window_start then 0
           else least(30 * k.months, greatest(0, k.from_month * 30
             + case when k.follows then least(extract(day from k.from_date) - 1, 30)
                    else least(extract(day from k.from_date), 30) - 1 end
             - least(extract(day from k.window_start), 30) + 1)) end) as bigint) as strict_days,
  sum(k.segment_days) over (
    partition by k.window_start, k.level, k.account_id, k.service_id, k.charge_id) as charge_days
from chained as k
