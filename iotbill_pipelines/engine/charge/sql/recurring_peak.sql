-- Services of a charge that an account owes for as many as could owe it on one day: the greatest sum
-- of a day's prices, rounded once, and each service's weight in it, its prices by days.
with change as (
  select window_start, level, account_id, charge_id, day, sum(price_e12) as price_e12
  from (
    select w.window_start, w.level, w.account_id, w.charge_id, w.from_date as day,
      wide(w.period_e12) as price_e12
    from recurring_weighed as w
    join charge as c on c.charge_id = w.charge_id and c.billable = 'peak'
    union all
    select w.window_start, w.level, w.account_id, w.charge_id, w.to_date, -wide(w.period_e12)
    from recurring_weighed as w
    join charge as c on c.charge_id = w.charge_id and c.billable = 'peak'
  ) as priced
  group by window_start, level, account_id, charge_id, day
), running as (
  select window_start, level, account_id, charge_id,
    wide(sum(price_e12) over (
      partition by window_start, level, account_id, charge_id
      order by day asc nulls last
      rows between unbounded preceding and current row)) as price_e12
  from change
), peak as (
  select window_start, level, account_id, charge_id, max(price_e12) as exact_e12
  from running
  group by window_start, level, account_id, charge_id
), weighed as (
  select w.window_start, w.level, w.account_id, w.charge_id, w.service_id,
    min(w.offer_id) as offer_id, sum(wide(w.period_e12) * w.share_days) as weight
  from recurring_weighed as w
  join charge as c on c.charge_id = w.charge_id and c.billable = 'peak'
  group by w.window_start, w.level, w.account_id, w.charge_id, w.service_id
)
select w.*, cast(rounded_div(p.exact_e12 * y.minor_per_unit, 1000000000000, c.rounding_mode)
  as bigint) as peak_minor
from weighed as w
join peak as p on p.window_start = w.window_start and p.level = w.level
  and p.account_id = w.account_id and p.charge_id = w.charge_id
join charge as c on c.charge_id = w.charge_id
join offer as o on o.offer_id = w.offer_id
join currency_unit as y on y.currency = o.currency
