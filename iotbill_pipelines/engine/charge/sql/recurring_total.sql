-- One recurring amount per service, charge and window, rounded once (ST-15); a part of the account's
-- where as many are owed as there were on one day.
with summed as (
  select w.usage_period, w.window_start, min(w.window_end) as window_end,
    min(w.billing_period) as billing_period, w.level,
    w.account_id, w.service_id, w.charge_id, min(o.currency) as currency,
    sum(w.segment_days) as days, min(w.whole_days) as whole_days,
    min(c.rounding_mode) as rounding_mode, sum(wide(w.period_e12) * w.share_days) as exact_e12
  from recurring_weighed as w
  join offer as o on o.offer_id = w.offer_id
  join charge as c on c.charge_id = w.charge_id
  group by w.usage_period, w.window_start, w.level, w.account_id, w.service_id, w.charge_id
)
select s.*,
  coalesce(k.part_minor,
    cast(rounded_div(s.exact_e12 * y.minor_per_unit, wide(s.whole_days) * 1000000000000,
      s.rounding_mode) as bigint)) as amount_minor
from summed as s
join currency_unit as y on y.currency = s.currency
left join recurring_peak_part as k on k.window_start = s.window_start and k.level = s.level
  and k.account_id = s.account_id and k.service_id = s.service_id and k.charge_id = s.charge_id
