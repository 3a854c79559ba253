-- Segments inside the period, with their days and the invoice that carries them.
with announced as (
  select s.*,
    max(case when s.from_date < s.start_date then 1 else 0 end) over (
      partition by s.usage_period, s.level, s.account_id, s.service_id, s.charge_id)
      as billable_on_eve
  from recurring_span as s
),
clipped as (
  select usage_period, start_date, end_date, days, advance_only, level, account_id, service_id,
    offer_id, charge_id, basis, billing, price_id, state,
    case when billing = 'advance' and billable_on_eve = 1 then previous_period
         else usage_period end as billing_period,
    greatest(from_date, start_date) as from_date, to_date
  from announced
  where to_date > start_date
),
chained as (
  select c.*, days_between(c.from_date, c.to_date) as segment_days,
    coalesce(lag(c.to_date) over (
      partition by c.usage_period, c.level, c.account_id, c.service_id, c.charge_id
      order by c.from_date asc nulls last) = c.from_date, false) as follows
  from clipped as c
)
select k.*,
  -- strict_30_360: the month's last day counts as the 30th; a segment that follows another goes
  -- on counting where that one stopped, so that the 31st is not counted twice
  greatest(0, case when k.to_date = k.end_date then 30
       else least(cast(extract(day from k.to_date) as bigint) - 1, 30) end
  - case when k.follows then least(cast(extract(day from k.from_date) as bigint) - 1, 30)
         else least(cast(extract(day from k.from_date) as bigint), 30) - 1 end) as strict_days,
  sum(k.segment_days) over (
    partition by k.usage_period, k.level, k.account_id, k.service_id, k.charge_id) as charge_days
from chained as k
-- a charge in advance of the coming period is carried by this period's invoice only if it goes on
-- from this period
where not k.advance_only or k.billing_period <> k.usage_period
